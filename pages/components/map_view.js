// The map: draws `value`, a plotly figure as JSON, and sends "select" with the numbers of the points in a lasso.
let queue = Promise.resolve();

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
  if (element.clientWidth < 480) figure.data[0].marker.showscale = false;
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
  }
  target.dataset.drawn = String(Number(target.dataset.drawn || 0) + 1);
}

// The words looked for, as labels: those lie above the points, where a second trace would lie below.
function mark() {
  const target = plot();
  if (!target?.data || !window.Plotly) return;
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(name).trim();
  const found = props.found || { points: [], text: [] };
  const { x, y } = target._fullData[0];
  const annotations = found.points.map((point, place) => ({
    x: x[point], y: y[point], text: found.text[place], ax: 0, ay: place ? -20 : -34, borderpad: 2,
    arrowhead: 6, arrowsize: 1.2, arrowwidth: 1, arrowcolor: color("--body-text-color"),
    bgcolor: color(place ? "--m2v-card" : "--m2v-strong"), bordercolor: color("--border-color-primary"),
    font: { size: 13, color: color(place ? "--body-text-color" : "--m2v-card") },
  })).reverse();
  window.Plotly.relayout(target, { annotations });
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
      { "xaxis.autorange": true, "yaxis.autorange": true, selections: [] });
    trigger("select", { points: [] });
  }
});
// One drawing at a time, or a slow one would end on top of its successor.
const redraw = () => { queue = queue.then(draw).catch((error) => console.error(error)); };
watch("value", redraw);
watch("found", mark);
use(element.dataset.tool || "pan");
redraw();
