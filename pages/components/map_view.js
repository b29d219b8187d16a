// The map: draws the data in `props`, and sends "select" with the points in a lasso and "click" with one point.
const find = (selector) => element.querySelector(selector);
const frame = find(".m2v-map-frame");
const surface = find(".m2v-plot");
const MORPH_MS = 600; // between two layouts
const FLY_MS = 450;
const MAX_ZOOM = 400;
const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;

let layer; // see pointLayer
let points; // { model, name, method, x, y }
let words = { texts: [], order: [] };
let topics;
let placedTopics = [];
let colors;
let clusterOf; // of each point, where the colors are clusters
let bounds;
let view = { x: 0, y: 0, zoom: 1 };
let marks = [];
let selected = -1;
let lassoed = null;
let shownFound = "null";
let hoveredCluster = null;
let isShown = () => true;
let isMorphing = false;
let scheduled = 0;
let queue = Promise.resolve();
let measure = textMeasurer(getComputedStyle(element).fontFamily);
const filter = new Set();
const paint = labelPainter(find(".m2v-labels"));
const contours = contourPainter(find(".m2v-contours"));

function plotly() {
  window.m2vPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = frame.dataset.script;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      window.m2vPlotly = undefined;
      find(".m2v-skeleton span").textContent = "The map could not be loaded. Reload the page.";
      reject(new Error("plotly.js did not load"));
    };
    document.head.append(script);
  });
  return window.m2vPlotly;
}

// View

const width = () => surface.clientWidth;
const height = () => surface.clientHeight;
// Pixels per unit; both axes have the same scale.
const scale = () => view.zoom * 0.94 * Math.min(width() / bounds.width, height() / bounds.height);
const range = () => {
  const [w, h] = [width() / scale() / 2, height() / scale() / 2];
  return [view.x - w, view.y - h, view.x + w, view.y + h];
};
function projection() {
  const k = scale();
  const [left, middle] = [width() / 2 - view.x * k, height() / 2 + view.y * k];
  return { toX: (x) => left + x * k, toY: (y) => middle - y * k };
}

function drawFrame() {
  scheduled = 0;
  if (!points || !layer) return;
  const [from, to] = [Math.max(2.2, 5.2 - 0.75 * Math.log10(points.x.length)), 11];
  layer.setSize(Math.min(to, from * 1.3 * Math.pow(view.zoom, 0.4)));
  layer.draw(range());
  for (const overlay of element.querySelectorAll(".m2v-labels, .m2v-map-frame > canvas")) overlay.hidden = isMorphing;
  if (isMorphing) return;
  paint(labelsInView(), view.zoom);
  const k = scale();
  const style = getComputedStyle(element);
  const color = style.getPropertyValue("--body-text-color-subdued");
  contours.draw({ zoom: view.zoom, scale: k, left: width() / 2 - view.x * k, middle: height() / 2 + view.y * k, color });
  drawDocuments(find(".m2v-documents"), style.getPropertyValue("--m2v-card"));
}
const redraw = () => (scheduled ||= requestAnimationFrame(drawFrame));

// Boxes of the tools, the legend and the panel, which cover parts of the map.
function coveredBoxes() {
  return [".m2v-map-legend", ".m2v-map-word", ...[1, 2, 3].map((n) => `.m2v-map-tools > :nth-child(${n})`)]
    .map(find).filter((one) => one.offsetWidth)
    .map((one) => {
      const [left, top] = one.offsetParent === frame ? [one.offsetLeft, one.offsetTop]
        : [one.offsetLeft + one.offsetParent.offsetLeft, one.offsetTop + one.offsetParent.offsetTop];
      return { left, top, right: left + one.offsetWidth, bottom: top + one.offsetHeight };
    });
}

function labelsInView() {
  const isInFilter = ({ cluster }) => !filter.size || filter.has(cluster);
  return chooseLabels({
    width: width(), height: height(), zoom: view.zoom, ...projection(), measure,
    marks: words.texts.length ? marks.map((point, place) => ({
      point, text: words.texts[point], isFirst: place === 0, x: points.x[point], y: points.y[point] })) : [],
    blocked: coveredBoxes(), topics: placedTopics.filter(isInFilter), words: { ...words, x: points.x, y: points.y, isShown },
  });
}

function setView(next) {
  view = { ...view, ...next };
  view.zoom = Math.max(0.5, Math.min(MAX_ZOOM, view.zoom));
  redraw();
}

// Calls `step` with a share from 0 to 1 on each frame.
function animate(milliseconds, step) {
  const begun = performance.now();
  return new Promise((resolve) => {
    const next = () => {
      const share = isStill ? 1 : Math.min(1, (performance.now() - begun) / milliseconds);
      step(share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2);
      share < 1 ? requestAnimationFrame(next) : resolve();
    };
    next();
  });
}

function flyTo(target) {
  const from = { ...view };
  const to = { ...view, ...target };
  animate(FLY_MS, (share) => setView({
    x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y),
    zoom: from.zoom * Math.pow(to.zoom / from.zoom, share),
  }));
}

// Zooms by a factor around a pixel, which stays in place.
function zoomAt(factor, px = width() / 2, py = height() / 2) {
  const before = scale();
  const zoom = Math.max(0.5, Math.min(MAX_ZOOM, view.zoom * factor));
  const change = 1 / before - 1 / (before * (zoom / view.zoom));
  setView({ zoom, x: view.x + (px - width() / 2) * change, y: view.y - (py - height() / 2) * change });
}

// Data

async function drawPoints() {
  const next = JSON.parse(props.points);
  [next.x, next.y] = [decode(next.x, Float32Array), decode(next.y, Float32Array)];
  const Plotly = await plotly();
  const old = points;
  if (old?.model === next.model && layer) return morph(old, next);
  [topics, placedTopics, words] = old ? [undefined, [], { texts: [], order: [] }] : [topics, placedTopics, words];
  points = next;
  bounds = boundsOf(points.x, points.y);
  view = linkedView() ?? { x: bounds.x, y: bounds.y, zoom: 1 };
  contours.set(contourSegments(points.x, points.y, bounds));
  layer = pointLayer(surface, Plotly);
  await layer.create(points.x, points.y, range());
  filter.clear();
  [lassoed, marks, selected, shownFound] = [null, [], -1, "null"];
  drawFrame();
  frame.dataset.drawn = Number(frame.dataset.drawn || 0) + 1;
  frame.dataset.method = points.method;
  showFound();
}

// Moves the points from one layout to another.
async function morph(old, next) {
  const positions = new Float32Array(2 * next.x.length);
  const [from, to] = [{ ...bounds, view }, boundsOf(next.x, next.y)];
  isMorphing = true;
  // The old layout is scaled to the units of the new one.
  const fit = Math.min(to.width / from.width, to.height / from.height);
  bounds = to;
  points = next;
  view = { x: to.x + (view.x - from.x) * fit, y: to.y + (view.y - from.y) * fit, zoom: view.zoom };
  const begun = { ...view };
  await animate(MORPH_MS, (share) => {
    for (let point = 0; point < next.x.length; point++) {
      const [x, y] = [to.x + (old.x[point] - from.x) * fit, to.y + (old.y[point] - from.y) * fit];
      positions[2 * point] = x + share * (next.x[point] - x);
      positions[2 * point + 1] = y + share * (next.y[point] - y);
    }
    view = { x: begun.x + share * (to.x - begun.x), y: begun.y + share * (to.y - begun.y),
      zoom: begun.zoom * Math.pow(1 / begun.zoom, share) };
    layer.move(positions, next.x, next.y, share === 1);
    drawFrame();
  });
  isMorphing = false;
  contours.set(contourSegments(points.x, points.y, bounds));
  view = linkedView() ?? view;
  if (topics) placedTopics = placeTopics(topics, points.x, points.y);
  frame.dataset.method = points.method;
  redraw();
}

function readWords() {
  if (!props.words) return;
  const { texts, order, ranks, norms } = JSON.parse(props.words);
  words = { texts, order: decode(order, Int32Array), ranks: decode(ranks, Int32Array), norms: decode(norms, Float32Array) };
  frame.dataset.words = texts.length;
  redraw();
}

function readTopics() {
  topics = props.topics ? JSON.parse(props.topics) : undefined;
  placedTopics = [];
  if (topics) {
    [topics.labels, topics.clusters] = [decode(topics.labels, Int32Array), decode(topics.clusters, Int32Array)];
    if (points?.x.length === topics.labels.length) placedTopics = placeTopics(topics, points.x, points.y);
  }
  redraw();
}

function readColors() {
  colors = props.colors ? JSON.parse(props.colors) : undefined;
  clusterOf = colors?.areGroups ? decode(colors.values, Float32Array) : undefined;
  filter.clear();
  hoveredCluster = null;
  if (layer && (!colors || decode(colors.values, Float32Array).length === points.x.length)) {
    layer.setColors(colors ? pointColors(colors) : null);
    frame.dataset.colored = colors ? "true" : "";
  }
  applySubset();
}

// Sets the points at full opacity: those of a hovered cluster, else those in the lasso, else those of chosen clusters.
function applySubset() {
  const isIn = (point) => hoveredCluster !== null ? clusterOf[point] === hoveredCluster : filter.has(clusterOf[point]);
  let subset = null;
  if (points && clusterOf && (hoveredCluster !== null || (filter.size && !lassoed)))
    subset = [...points.x.keys()].filter(isIn);
  else if (lassoed) subset = lassoed;
  const shown = subset && new Set(subset);
  isShown = shown ? (point) => shown.has(point) : () => true;
  layer?.setSubset(subset);
  frame.dataset.subset = subset ? subset.length : "";
  for (const button of element.querySelectorAll("[data-cluster]"))
    button.setAttribute("aria-pressed", String(filter.has(Number(button.dataset.cluster))));
  redraw();
}

// Maps of the same words mark the same points and have the same lasso.
const linkedMaps = (window.m2vMaps ??= new EventTarget());
const announce = (type, inside) =>
  linkedMaps.dispatchEvent(new CustomEvent(type, { detail: { from: element, model: points?.model, inside } }));
function follow(type, act) {
  linkedMaps.addEventListener(type, ({ detail: { from, model, inside } }) => {
    if (from !== element && layer && model === points.model) act(inside);
  });
}
follow("lasso", (inside) => {
  lassoed = inside;
  applySubset();
});
follow("marks", (inside) => {
  [marks, selected] = [inside, -1];
  find(".m2v-map-word").hidden = true;
  if (marks.length && view.zoom > 1.5) flyTo({ x: points.x[marks[0]], y: points.y[marks[0]] });
  redraw();
});

function mark(inside) {
  marks = inside;
  announce("marks", inside);
  redraw();
}

function select(point, isFlight) {
  const isSame = point === selected;
  selected = point;
  mark([point]);
  if (isFlight) flyTo({ x: points.x[point], y: points.y[point], zoom: Math.max(view.zoom, 4) });
  if (isSame) showPanel();
  else trigger("click", { point });
}

function showPanel() {
  const panel = find(".m2v-map-word");
  panel.innerHTML = props.panel || ""; // escaped by the server
  panel.hidden = !props.panel;
  if (!props.panel) return;
  const near = [...panel.querySelectorAll("[data-point]")].map((one) => Number(one.dataset.point));
  mark([...new Set([selected, ...near])].filter((point) => point >= 0));
}

function closePanel() {
  find(".m2v-map-word").hidden = true;
  if (selected >= 0) mark([]);
}

function showFound() {
  const sent = JSON.stringify(props.found ?? null);
  if (!points || sent === shownFound) return; // while the map is built, updates can arrive early or twice
  shownFound = sent;
  mark(props.found?.points ?? []);
  selected = -1;
  find(".m2v-map-word").hidden = true;
  // A link that contains a view already shows the found words.
  const isLinked = linked.has("zoom") && linked.get("q") === props.found?.query;
  linked.delete("q");
  if (marks.length && points && !isLinked) {
    const [x, y] = [marks.map((point) => points.x[point]), marks.map((point) => points.y[point])];
    const spread = Math.max(Math.max(...x) - Math.min(...x), Math.max(...y) - Math.min(...y), bounds.width / 40);
    const zoom = Math.max(1, Math.min(8, (0.5 * Math.min(bounds.width, bounds.height)) / spread));
    flyTo({ x: median(Float32Array.from(x)), y: median(Float32Array.from(y)), zoom });
  }
  redraw();
}

// Updates run one at a time, in the order in which the data arrive.
const enqueue = (work) => (queue = queue.then(work).catch((error) => console.error(error)));
watch("points", () => enqueue(drawPoints));
watch("words", () => enqueue(readWords));
watch("documents", () => enqueue(readDocuments));
watch("topics", () => enqueue(readTopics));
watch("colors", () => enqueue(readColors));
watch("legend", () => enqueue(() => {
  find(".m2v-map-legend").innerHTML = props.legend || ""; // escaped by the server
  redraw(); // labels leave room for it
}));
watch("found", () => enqueue(showFound));
watch("panel", () => enqueue(showPanel));
document.fonts.addEventListener("loadingdone", () => {
  measure = textMeasurer(getComputedStyle(element).fontFamily);
  redraw();
});
plotly().catch((error) => console.error(error)); // loads while the server computes the points
if (props.points) for (const work of [drawPoints, readWords, readTopics, readColors, readDocuments, showFound]) enqueue(work);
new ResizeObserver(() => enqueue(async () => {
  if (!layer || !width() || (surface._fullLayout.width === width() && surface._fullLayout.height === height())) return;
  await layer.resize(range());
  drawFrame();
})).observe(surface);
