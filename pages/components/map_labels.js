// Labels of the map: chooses the words and topics in view so that no label overlaps another. Runs on each frame.
const CELL = 64; // pixels; side of a cell in the grid of occupied boxes
const LABEL_HEIGHT = { word: 18, topic: 24, mark: 22 };
const FADE_FROM = 3; // zoom at which topics begin to fade out
const FADE_TO = 6;

function occupied() {
  const cells = new Map();
  const cellsOf = (box) => {
    const keys = [];
    for (let row = Math.floor(box.top / CELL); row <= Math.floor(box.bottom / CELL); row++)
      for (let column = Math.floor(box.left / CELL); column <= Math.floor(box.right / CELL); column++)
        keys.push(row * 4096 + column);
    return keys;
  };
  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  return {
    isFree: (box) => !cellsOf(box).some((key) => cells.get(key)?.some((other) => overlap(box, other))),
    add: (box) => cellsOf(box).forEach((key) => (cells.get(key) ?? cells.set(key, []).get(key)).push(box)),
  };
}

const boxAt = (x, y, width, height) =>
  ({ x, y, left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });

// Returns a function that measures the width of a label in pixels, with a cache.
function textMeasurer(family) {
  const pen = document.createElement("canvas").getContext("2d");
  const fonts = { word: `13px ${family}`, topic: `bold 16px ${family}`, mark: `bold 13px ${family}` };
  const widths = new Map();
  return (kind, text) => {
    const key = kind + text;
    if (!widths.has(key)) {
      pen.font = fonts[kind];
      widths.set(key, pen.measureText(text).width + (kind === "mark" ? 14 : 8));
    }
    return widths.get(key);
  };
}

// Opacity of the topics at a zoom.
const topicOpacity = (zoom) => Math.max(0, Math.min(1, (FADE_TO - zoom) / (FADE_TO - FADE_FROM)));

// Labels to show, in pixels: marks first, then topics, then words by rank.
function chooseLabels({ width, height, zoom, toX, toY, measure, blocked, marks, topics, words }) {
  const taken = occupied();
  blocked.forEach(taken.add);
  const labels = [];
  const isInside = (x, y) => x >= 0 && x <= width && y >= 0 && y <= height;
  const fits = (box) => box.left >= 0 && box.right <= width && box.top >= 0 && box.bottom <= height;

  function place(kind, key, text, x, y, distances, isForced = false) {
    const [w, h] = [measure(kind, text), LABEL_HEIGHT[kind]];
    const boxes = distances.map(([dx, dy]) => boxAt(x + dx * (w / 2 + 8), y + dy, w, h));
    const box = boxes.find((one) => fits(one) && taken.isFree(one)) ?? (isForced ? boxes[0] : undefined);
    if (!box) return false;
    taken.add(box);
    labels.push({ kind, key, text, x: box.x, y: box.y });
    return true;
  }

  const around = [[0, -18], [0, 18], [1, 0], [-1, 0]];
  const shownMarks = marks.map((mark) => ({ ...mark, x: toX(mark.x), y: toY(mark.y) }))
    .filter((mark) => isInside(mark.x, mark.y));
  for (const { x, y } of shownMarks) taken.add(boxAt(x, y, 10, 10));
  shownMarks.forEach((mark) => place("mark", `mark ${mark.point}`, mark.text, mark.x, mark.y, around, mark.isFirst));

  if (topicOpacity(zoom) > 0) {
    let left = Math.round((width * height) / 60_000 * zoom);
    for (const topic of topics) {
      const [x, y] = [toX(topic.x), toY(topic.y)];
      if (left > 0 && isInside(x, y) && place("topic", `topic ${topic.topic}`, topic.name, x, y, [[0, 0]])) left--;
    }
  }

  let left = Math.min(140, Math.round((width * height) / 24_000 * Math.min(3, Math.sqrt(zoom))));
  let tries = 40 * left;
  const marked = new Set(marks.map((mark) => mark.point));
  for (const point of words.order) {
    if (left <= 0 || tries <= 0) break;
    const [x, y] = [toX(words.x[point]), toY(words.y[point])];
    if (!isInside(x, y) || marked.has(point) || !words.isShown(point)) continue;
    tries--;
    if (place("word", `word ${point}`, words.texts[point], x, y, [[0, -12]])) left--;
  }
  return { labels, dots: shownMarks };
}

// Draws the chosen labels into `layer`; elements are reused, and text is never parsed as HTML.
function labelPainter(layer) {
  const elements = new Map();
  return ({ labels, dots }, zoom) => {
    const dotLabels = dots.map((dot) => ({ kind: "dot", key: `dot ${dot.point}`, text: "", x: dot.x, y: dot.y }));
    const shown = [...dotLabels, ...labels];
    const keys = new Set(shown.map((label) => label.key));
    for (const [key, one] of elements)
      if (!keys.has(key)) {
        one.remove();
        elements.delete(key);
      }
    for (const { key, kind, text, x, y } of shown) {
      let one = elements.get(key);
      if (!one) {
        one = document.createElement("span");
        one.className = `m2v-label m2v-label-${kind}`;
        one.textContent = text;
        elements.set(key, layer.appendChild(one));
      }
      one.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
      if (kind === "topic") one.style.opacity = topicOpacity(zoom);
    }
  };
}
