// Input on the map: dragging, wheel, pinch, keys, lasso, tooltip, legend, links and export.
let tool = "pan";
let polygon = null;
let pressed = null; // where the pointer went down; null once it has moved
const pointers = new Map(); // position of each pressed pointer, by id

const pixel = (event) => {
  const box = surface.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const pointAt = ([px, py], within) => {
  const { toX, toY } = projection();
  return nearestPoint(points.x, points.y, toX, toY, isShown, px, py, within);
};
const pan = (dx, dy) => setView({ x: view.x - dx / scale(), y: view.y + dy / scale() });

surface.addEventListener("wheel", (event) => {
  if (!points) return;
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoomAt(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0025)), ...pixel(event));
}, { passive: false });

surface.addEventListener("pointerdown", (event) => {
  if (!points || event.button > 0) return;
  surface.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, pixel(event));
  pressed = pointers.size === 1 ? pixel(event) : null;
  if (tool === "lasso" && pressed) polygon = [pressed];
});

surface.addEventListener("pointermove", (event) => {
  if (!points) return;
  const now = pixel(event);
  const before = pointers.get(event.pointerId);
  if (!before) return event.pointerType === "mouse" && showTip(now);
  hideTip();
  if (pressed && Math.hypot(now[0] - pressed[0], now[1] - pressed[1]) > 4) pressed = null;
  if (polygon) {
    polygon.push(now);
    find(".m2v-lasso polygon").setAttribute("points", polygon.map((corner) => corner.join(",")).join(" "));
  } else if (pointers.size === 2) {
    const [other] = [...pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const distance = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
    zoomAt(distance(now) / Math.max(1, distance(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  } else pan(now[0] - before[0], now[1] - before[1]);
  pointers.set(event.pointerId, now);
});

function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  const [clicked, drawn] = [pressed, polygon];
  [pressed, polygon] = [null, null];
  find(".m2v-lasso polygon").setAttribute("points", "");
  if (event.type === "pointercancel") return;
  if (clicked) {
    const point = pointAt(clicked, event.pointerType === "mouse" ? 10 : 20);
    if (point >= 0) select(point, false);
    else closePanel();
  } else if (drawn) {
    const { toX, toY } = projection();
    lasso(pointsIn(drawn, points.x, points.y, toX, toY).filter(isShown));
  }
}
surface.addEventListener("pointerup", release);
surface.addEventListener("pointercancel", release);
surface.addEventListener("pointerleave", () => hideTip());

function lasso(inside) {
  lassoed = inside.length ? inside : null;
  announce("lasso", lassoed);
  trigger("select", { points: inside });
  applySubset();
}

function showTip(at) {
  const tip = find(".m2v-tip");
  const [index, { toX, toY }] = [documentAt(at), projection()];
  const point = index < 0 ? pointAt(at, 10) : -1;
  surface.style.cursor = point >= 0 ? "pointer" : "";
  tip.hidden = index < 0 && (point < 0 || !words.texts.length);
  if (tip.hidden) return;
  const name = document.createElement("strong");
  name.textContent = index < 0 ? words.texts[point] : documents.texts[index];
  const facts = index < 0
    ? [`rank ${words.ranks[point].toLocaleString("en")}`, `norm ${words.norms[point].toFixed(2)}`]
    : [documents.names[documents.groups[index]]].filter(Boolean);
  if (index < 0 && topics) facts.push(topics.names[topics.labels[point]]);
  tip.replaceChildren(name, facts.join(" · "));
  const [px, y] = index < 0 ? [toX(points.x[point]), toY(points.y[point])] : documentPixel(index, { toX, toY });
  const x = Math.max(tip.offsetWidth / 2, Math.min(width() - tip.offsetWidth / 2, px));
  const isAbove = y > tip.offsetHeight + 20;
  tip.style.transform = `translate(${x - tip.offsetWidth / 2}px, ${isAbove ? y - tip.offsetHeight - 12 : y + 12}px)`;
}
function hideTip() {
  find(".m2v-tip").hidden = true;
}

surface.addEventListener("keydown", (event) => {
  const step = 60;
  const actions = {
    ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step),
    ArrowDown: () => pan(0, -step), "+": () => zoomAt(1.3), "=": () => zoomAt(1.3), "-": () => zoomAt(1 / 1.3),
    0: reset, Escape: closePanel,
  };
  if (!points || !actions[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  actions[event.key]();
});

function reset() {
  filter.clear();
  if (lassoed) lasso([]);
  applySubset();
  flyTo({ x: bounds.x, y: bounds.y, zoom: 1 });
}

function use(next) {
  tool = next;
  frame.dataset.tool = next;
  for (const button of element.querySelectorAll("[data-tool]:not(.m2v-map-frame)"))
    button.setAttribute("aria-pressed", String(button.dataset.tool === next));
}

// View in the URL: ?model=…&view=map&layout=…&q=…&x=…&y=…&zoom=…; applied once, to the layout of the link.
const linked = new URLSearchParams(location.search);
function linkedView() {
  if (linked.get("view") !== "map" || (linked.get("layout") ?? points.method) !== points.method) return;
  const [x, y, zoom] = ["x", "y", "zoom"].map((name) => Number.parseFloat(linked.get(name)));
  if (![x, y, zoom].every(Number.isFinite)) return;
  linked.delete("view");
  return { x, y, zoom: Math.max(0.5, Math.min(MAX_ZOOM, zoom)) };
}

async function copyLink(button) {
  const address = new URL(location.pathname, location.origin);
  const number = (value) => String(Number(value.toPrecision(5)));
  const values = { model: points.model, view: "map", layout: points.method, q: props.found?.query ?? "",
    x: number(view.x), y: number(view.y), zoom: number(view.zoom) };
  for (const [name, value] of Object.entries(values)) if (value) address.searchParams.set(name, value);
  frame.dataset.link = address.href;
  try {
    await navigator.clipboard.writeText(address.href);
    button.textContent = "Link copied";
  } catch {
    prompt("Copy this link", address.href); // browsers without access to the clipboard
  }
  setTimeout(() => (button.textContent = "Copy link"), 2000);
}

async function download(format) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(name).trim();
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const annotations = labelsInView().labels.map(({ kind, text, x, y }) => ({
    text: kind === "word" ? escaped(text) : `<b>${escaped(text)}</b>`, x: x / width(), y: 1 - y / height(), xref: "paper",
    yref: "paper", showarrow: false, xanchor: "center", yanchor: "middle", opacity: kind === "topic" ? topicOpacity(view.zoom) : 1,
    font: { family: style.fontFamily, size: kind === "topic" ? 16 : 13, color: color("--body-text-color") },
  }));
  const Plotly = await plotly();
  const filename = `${points.name.replaceAll(/[^\w.-]+/g, "-")}-map`;
  const lines = contours.trace(view.zoom, color("--body-text-color-subdued"));
  await Plotly.downloadImage(layer.figure(range(), lines, annotations, color("--m2v-card")),
    { format, filename, width: width(), height: height(), scale: format === "png" ? 2 : 1 });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !points) return;
  const { tool: next, zoom, cluster, point, export: format } = button.dataset;
  if (next) use(next);
  if (zoom) flyTo({ zoom: Math.max(0.5, Math.min(MAX_ZOOM, view.zoom * Number(zoom))) });
  if (button.dataset.reset !== undefined) reset();
  if (button.dataset.link !== undefined) copyLink(button);
  if (button.dataset.close !== undefined) closePanel();
  if (point) select(Number(point), true);
  if (format) download(format).catch((error) => console.error(error));
  if (cluster) {
    filter.has(Number(cluster)) ? filter.delete(Number(cluster)) : filter.add(Number(cluster));
    if (lassoed) lasso([]);
    hoveredCluster = null;
    applySubset();
  }
});
function hover(event) {
  const cluster = event.target.closest?.("[data-cluster]")?.dataset.cluster;
  const next = cluster === undefined || event.type === "pointerout" ? null : Number(cluster);
  if (next === hoveredCluster) return;
  hoveredCluster = next;
  applySubset();
}
for (const type of ["pointerover", "pointerout"]) find(".m2v-map-legend").addEventListener(type, hover);
use("pan");
