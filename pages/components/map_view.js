// The map: draws `value`, a plotly figure as JSON, and sends "select" with the numbers of the points in a lasso.
let queue = Promise.resolve();
// On a phone the scale lies below the map, where it takes no width.
const FLAT_SCALE = { orientation: "h", x: 0.5, xanchor: "center", len: 1, yref: "container", y: 0, yanchor: "bottom",
  tickangle: 0, nticks: 5 };

function plotly() {
  window.m2vPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = plot().dataset.script;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      window.m2vPlotly = undefined;
      plot().textContent = "The map could not be loaded. Reload the page.";
      reject(new Error("plotly.js did not load"));
    };
    document.head.append(script);
  });
  return window.m2vPlotly;
}

const plot = () => element.querySelector(".m2v-plot");
const isNarrow = () => element.clientWidth < 480;

function themed(layout) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--border-color-primary"), linecolor: color("--border-color-primary") };
  return {
    ...layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: style.fontFamily, size: 13, color: color("--body-text-color") },
    hoverlabel: { bgcolor: color("--m2v-card"), bordercolor: color("--border-color-primary"),
      font: { family: style.fontFamily, color: color("--body-text-color") } },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

async function draw() {
  const target = plot();
  if (!target || !props.value) return;
  const Plotly = await plotly();
  const figure = JSON.parse(props.value);
  const layout = themed(figure.layout);
  const marker = figure.data[0].marker;
  // Plotly leaves the old scale behind where the new one lies otherwise.
  if (target.data && target.m2vIsNarrow !== isNarrow()) {
    Plotly.purge(target);
    target.m2vListens = false;
  }
  target.m2vIsNarrow = isNarrow();
  if (isNarrow() && marker.colorbar) {
    marker.colorbar = { ...marker.colorbar, ...FLAT_SCALE };
    layout.margin = { ...layout.margin, b: 96 };
  }
  layout.dragmode = element.dataset.tool || "pan";
  await Plotly.react(target, figure.data, layout, { displayModeBar: false, scrollZoom: true, responsive: true });
  mark();
  if (!target.m2vListens) {
    target.m2vListens = true;
    target.on("plotly_selected", (event) => {
      if (!event) return;
      trigger("select", { points: event.points.map((point) => point.pointNumber) });
    });
    target.on("plotly_deselect", () => trigger("select", { points: [] }));
    // Another zoom or width has room for other labels.
    target.on("plotly_relayout", (change) => {
      if (target.m2vIsNarrow !== isNarrow()) redraw();
      else if (Object.keys(change).some((key) => /axis|autosize/.test(key))) mark();
    });
  }
  target.dataset.drawn = String(Number(target.dataset.drawn || 0) + 1);
}

const overlap = (a, b) =>
  Math.abs(a.x - b.x) < (a.width + b.width) / 2 && Math.abs(a.y - b.y) < (a.height + b.height) / 2;

const within = (value, low, high) => Math.max(low, Math.min(high, value));

// Where labels go so that none hides another or a mark, the best first, around its point: boxes in pixels.
// The first has its label in any case; of the others, those that find no room have none.
function placed(words, width, height) {
  const taken = words.map(({ x, y }) => ({ x, y, width: 8, height: 8 }));
  return words.map((word) => {
    const half = word.width / 2;
    const boxes = [[0, -word.distance], [0, word.distance], [half + 12, 0], [-half - 12, 0]]
      .map(([dx, dy]) => [within(word.x + dx, half, width - half), word.y + dy])
      .map(([x, y]) => ({ x, y, width: word.width, height: 24 }))
      .filter((box) => box.y > 12 && box.y < height - 12);
    const free = boxes.find((one) => !taken.some((other) => overlap(one, other)));
    const box = free ?? (word.isFirst ? boxes[0] : undefined);
    if (box) taken.push(box);
    return box;
  });
}

// The words looked for, as dots and labels: those lie above the points, where a second trace would lie below.
function mark() {
  const target = plot();
  if (!target?.data || !window.Plotly) return;
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(name).trim();
  const found = props.found || { points: [], text: [] };
  const { x, y } = target._fullData[0];
  const { xaxis, yaxis } = target._fullLayout;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `13px ${style.fontFamily}`;
  const words = found.points.map((point, place) => ({
    point, text: found.text[place], isFirst: place === 0, x: xaxis.d2p(x[point]), y: yaxis.d2p(y[point]),
    width: pen.measureText(found.text[place]).width + 10, distance: place ? 20 : 30,
  })).filter((word) => word.x >= 0 && word.x <= xaxis._length && word.y >= 0 && word.y <= yaxis._length);
  const boxes = placed(words, xaxis._length, yaxis._length);
  const annotations = words.flatMap((word, place) => boxes[place] ? [{
    x: x[word.point], y: y[word.point], text: word.text, ax: boxes[place].x - word.x, ay: boxes[place].y - word.y,
    borderpad: 2, arrowhead: 0, arrowwidth: 1, arrowcolor: color("--body-text-color"),
    bgcolor: color(word.isFirst ? "--m2v-strong" : "--m2v-card"), bordercolor: color("--border-color-primary"),
    font: { size: 13, color: color(word.isFirst ? "--m2v-card" : "--body-text-color") },
  }] : []).reverse();
  const shapes = found.points.map((point, place) => {
    const size = place ? 4 : 5;
    return { type: "circle", xref: "x", yref: "y", xsizemode: "pixel", ysizemode: "pixel", xanchor: x[point],
      yanchor: y[point], x0: -size, x1: size, y0: -size, y1: size, fillcolor: color("--body-text-color"),
      line: { width: 1.5, color: color("--m2v-card") } };
  }).reverse();
  window.Plotly.relayout(target, { annotations, shapes });
}

function use(tool) {
  element.dataset.tool = tool;
  for (const button of element.querySelectorAll("[data-tool-of]"))
    button.setAttribute("aria-pressed", String(button.dataset.toolOf === tool));
  if (plot()?.data) window.Plotly.relayout(plot(), { dragmode: tool });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.toolOf) use(button.dataset.toolOf);
  if (button.dataset.reset !== undefined && plot()?.data) {
    window.Plotly.update(plot(), { selectedpoints: [null] },
      { "xaxis.autorange": true, "yaxis.autorange": true, selections: [] }).then(mark);
    trigger("select", { points: [] });
  }
});
// One drawing at a time, or a slow one would end on top of its successor.
const redraw = () => { queue = queue.then(draw).catch((error) => console.error(error)); };
watch("value", redraw);
watch("found", mark);
use(element.dataset.tool || "pan");
redraw();
