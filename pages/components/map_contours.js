// Contour lines of the density of the points, shown while the whole map is in view.
const GRID = 96; // cells per side
const SHARES = [0.95, 0.8, 0.6, 0.4, 0.2]; // of the points inside each line
const BLUR_CELLS = 2; // radius of each of three box blurs, which come close to a Gaussian

// Opacity of the lines at a zoom.
const contourOpacity = (zoom) => 0.45 * Math.max(0, Math.min(1, (FADE_FROM - zoom) / (FADE_FROM - 1.5)));

// The mean of each value of a grid and its neighbors: in its row where `step` is 1, in its column where it is GRID.
function blur(grid, step) {
  const [line, size] = [step === 1 ? GRID : 1, 2 * BLUR_CELLS + 1];
  const result = new Float32Array(grid.length);
  for (let start = 0; start < GRID; start++)
    for (let place = 0; place < GRID; place++) {
      let sum = 0;
      for (let near = Math.max(0, place - BLUR_CELLS); near <= Math.min(GRID - 1, place + BLUR_CELLS); near++)
        sum += grid[start * line + near * step];
      result[start * line + place * step] = sum / size;
    }
  return result;
}

// The density in each cell of a square grid around the points, and the density at which each of SHARES is enclosed.
function densityOf(x, y, bounds) {
  const side = (1.2 * Math.max(bounds.width, bounds.height)) / GRID;
  const [left, low] = [bounds.x - (side * GRID) / 2, bounds.y - (side * GRID) / 2];
  let grid = new Float32Array(GRID * GRID);
  for (let point = 0; point < x.length; point++) {
    const [column, row] = [Math.floor((x[point] - left) / side), Math.floor((y[point] - low) / side)];
    if (column >= 0 && column < GRID && row >= 0 && row < GRID) grid[row * GRID + column]++;
  }
  for (let pass = 0; pass < 3; pass++) grid = blur(blur(grid, 1), GRID);
  const sorted = Float32Array.from(grid).sort().reverse();
  const total = sorted.reduce((sum, value) => sum + value, 0);
  let [enclosed, place] = [0, 0];
  const levels = SHARES.toReversed().map((share) => {
    while (place < sorted.length - 1 && enclosed < share * total) enclosed += sorted[place++];
    return sorted[place];
  });
  return { grid, side, left, low, levels };
}

// Segments of the contour lines, by marching squares: [x, y, x, y, …], two points for each segment.
function contourSegments(x, y, bounds) {
  const { grid, side, left, low, levels } = densityOf(x, y, bounds);
  const segments = [];
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
  for (let row = 0; row < GRID - 1; row++)
    for (let column = 0; column < GRID - 1; column++) {
      const values = corners.map(([right, up]) => grid[(row + up) * GRID + column + right]);
      for (const level of levels) {
        const crossings = [];
        for (let edge = 0; edge < 4; edge++) {
          const [from, to] = [values[edge], values[(edge + 1) % 4]];
          if (from < level === to < level) continue;
          const [share, [ax, ay], [bx, by]] = [(level - from) / (to - from), corners[edge], corners[(edge + 1) % 4]];
          crossings.push(left + side * (column + 0.5 + ax + share * (bx - ax)), low + side * (row + 0.5 + ay + share * (by - ay)));
        }
        segments.push(...crossings); // two crossings, or four for two segments
      }
    }
  return segments;
}

// The pen of an empty canvas, in CSS pixels.
function clearedPen(canvas) {
  const pen = canvas.getContext("2d");
  const density = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return pen;
}

// Draws the lines on a canvas: `draw(view)` is one frame, `trace(zoom, color)` the same lines for a Plotly figure.
function contourPainter(canvas) {
  let segments = [];
  let lines = new Path2D();
  return {
    set(next) {
      segments = next;
      lines = new Path2D();
      for (let place = 0; place < segments.length; place += 4) {
        lines.moveTo(segments[place], segments[place + 1]);
        lines.lineTo(segments[place + 2], segments[place + 3]);
      }
    },
    draw({ zoom, scale, left, middle, color }) {
      const pen = clearedPen(canvas);
      pen.globalAlpha = contourOpacity(zoom);
      if (!pen.globalAlpha) return;
      pen.transform(scale, 0, 0, -scale, left, middle);
      pen.lineWidth = 1 / scale;
      pen.strokeStyle = color;
      pen.stroke(lines);
    },
    trace(zoom, color) {
      const ends = (axis) => segments.flatMap((_, place) =>
        place % 4 ? [] : [segments[place + axis], segments[place + 2 + axis], null]);
      return { type: "scattergl", mode: "lines", x: ends(0), y: ends(1), line: { width: 1, color }, opacity: contourOpacity(zoom) };
    },
  };
}
