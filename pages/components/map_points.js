// Points of the map, drawn by a scattergl trace of Plotly. Frames update the trace's regl scene directly: a relayout or
// restyle takes several times as long. The internals used are `_fullLayout._plots.xy._scene` and `_glcanvas`.
const PLAIN_COLOR = "#7d8a86";
const OPACITY = 0.8;
const DIMMED_OPACITY = 0.07;

function decode(text, type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = binary.charCodeAt(place);
  return new type(bytes.buffer);
}

const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16) / 255);

// 256 colors of a scale, or the colors of the clusters, as [red, green, blue, 1].
function paletteOf({ areGroups, palette }) {
  const stops = palette.map(rgb);
  if (areGroups) return stops.map((stop) => [...stop, 1]);
  return [...Array(256).keys()].map((step) => {
    const place = (step / 255) * (stops.length - 1);
    const [low, part] = [Math.min(Math.floor(place), stops.length - 2), place - Math.min(Math.floor(place), stops.length - 2)];
    return [...stops[low].map((value, channel) => value + part * (stops[low + 1][channel] - value)), 1];
  });
}

// The color of each point, as references to a few arrays.
function pointColors(colors) {
  const palette = paletteOf(colors);
  const values = decode(colors.values, Float32Array);
  const { areGroups, low, high } = colors;
  return Array.from(values, (value) => areGroups
    ? palette[value % palette.length]
    : palette[Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))))]);
}

const cssColor = ([red, green, blue]) => `rgb(${[red, green, blue].map((part) => Math.round(255 * part))})`;

// Points that Plotly draws in `target`; `draw(range)` draws one frame.
function pointLayer(target, Plotly) {
  let size = 4;
  let colors = null;
  let subset = null;
  const axis = (range) => ({ range, visible: false, fixedrange: true, autorange: false });
  const layout = (range) => ({
    xaxis: axis([range[0], range[2]]), yaxis: axis([range[1], range[3]]), margin: { l: 0, r: 0, t: 0, b: 0 },
    width: target.clientWidth, height: target.clientHeight, dragmode: false, hovermode: false, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  });
  const scene = () => target._fullLayout?._plots?.xy?._scene;

  function update(options) {
    const current = scene();
    Object.assign(current.markerOptions[0], options);
    current.scatter2d.update([options]);
  }
  const restyle = () => update({ size, ...(colors ? { color: colors, colors } : {}) });

  return {
    async create(x, y, range) {
      const marker = { size, color: PLAIN_COLOR, opacity: OPACITY, line: { width: 0 } };
      const trace = { type: "scattergl", mode: "markers", x, y, marker, hoverinfo: "skip" };
      await Plotly.newPlot(target, [trace], layout(range), { displayModeBar: false, scrollZoom: false, doubleClick: false });
      restyle();
    },
    setColors(next) {
      colors = next;
      restyle();
    },
    // Points to draw at full opacity; null for all.
    setSubset(points) {
      subset = points;
    },
    setSize(next) {
      if (Math.abs(next - size) / size < 0.02) return;
      size = next;
      update({ size });
    },
    // `positions` alternates x and y; `isFinal` is true for the last frame of an animation.
    move(positions, x, y, isFinal) {
      update({ positions, snap: isFinal && x.length });
      if (isFinal) Object.assign(target.data[0], { x, y });
    },
    draw(range) {
      const current = scene();
      if (!current) return;
      current.update({ range });
      target._fullLayout._glcanvas.each(({ regl }) => regl?.clear({ color: true, depth: true }));
      if (!subset) return void current.draw();
      current.scatter2d.update([{ opacity: DIMMED_OPACITY }]);
      current.draw();
      current.scatter2d.update([{ opacity: OPACITY }]);
      if (subset.length) current.scatter2d.draw([subset]);
    },
    async resize(range) {
      await Plotly.relayout(target, layout(range));
      restyle();
    },
    // The same points as a figure for export, below another trace and with labels as annotations.
    figure(range, above, annotations, background) {
      const { x, y } = target.data[0];
      const inSubset = subset && new Set(subset);
      const marker = { size, color: colors ? colors.map(cssColor) : PLAIN_COLOR,
        opacity: inSubset ? Array.from(x, (_, point) => (inSubset.has(point) ? OPACITY : DIMMED_OPACITY)) : OPACITY };
      const data = [{ type: "scattergl", mode: "markers", x, y, marker }, above];
      return { data, layout: { ...layout(range), annotations, paper_bgcolor: background, plot_bgcolor: background } };
    },
  };
}

// The median; sorts `numbers` in place.
const median = (numbers) => numbers.sort()[numbers.length >> 1];

// Median position of each topic, the most cohesive large ones first.
function placeTopics(topics, x, y) {
  const members = topics.names.map(() => []);
  topics.labels.forEach((label, point) => members[label].push(point));
  return members.map((points, topic) => ({
    topic, name: topics.names[topic], cluster: topics.clusters[points[0]],
    x: median(Float32Array.from(points, (point) => x[point])), y: median(Float32Array.from(points, (point) => y[point])),
    weight: topics.cohesion[topic] * Math.log(1 + points.length),
  })).sort((a, b) => b.weight - a.weight);
}

// Center and size of the map, without the outermost points.
function boundsOf(x, y) {
  const ends = (values) => {
    const sorted = Float32Array.from(values).sort();
    const cut = Math.floor(sorted.length * 0.001);
    return [sorted[cut], sorted[sorted.length - 1 - cut]];
  };
  const [[left, right], [low, high]] = [ends(x), ends(y)];
  return { x: (left + right) / 2, y: (low + high) / 2, width: right - left || 1, height: high - low || 1 };
}

// The shown point nearest to a pixel, at most `within` pixels away; -1 for none.
function nearestPoint(x, y, toX, toY, isShown, px, py, within) {
  let [best, least] = [-1, within * within];
  for (let point = 0; point < x.length; point++) {
    const [dx, dy] = [toX(x[point]) - px, toY(y[point]) - py];
    const distance = dx * dx + dy * dy;
    if (distance < least && isShown(point)) [best, least] = [point, distance];
  }
  return best;
}

// The points in a polygon of pixels, by the even-odd rule.
function pointsIn(polygon, x, y, toX, toY) {
  const inside = [];
  for (let point = 0; point < x.length; point++) {
    const [px, py] = [toX(x[point]), toY(y[point])];
    let isInside = false;
    polygon.forEach(([ax, ay], place) => {
      const [bx, by] = polygon[(place + 1) % polygon.length];
      if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) isInside = !isInside;
    });
    if (isInside) inside.push(point);
  }
  return inside;
}
