"""Time to the first paint of the map and time per frame while zooming, relative to a default Plotly scatter.

Synthetic points in clusters, in headless Chromium, without the app's server. First paint lasts from the data as JSON
text in the page to the frame after the points were drawn, with plotly.js loaded. A frame lasts from a wheel event to
the end of the next frame. The default is `plotly.graph_objects.Scattergl` with hover text, and SVG `Scatter` for the
smaller map. All take turns in each round. The figures are medians; load on the machine affects all, so compare ratios.
"""

import shutil
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pages.components.word_map import MAP_SCRIPT, MAP_STYLE  # noqa: E402
from pages.figures import points_data, words_data  # noqa: E402
from pages.html import render  # noqa: E402

SIZES = {30_000: ("scattergl", "scatter"), 200_000: ("scattergl",)}
ROUNDS, FRAMES = 3, 20
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGE = "<!doctype html><body style='margin:0'><style>%s</style><div id='here' style='width:1280px;height:675px'></div>"
AFTER_PAINT = "const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
DRAW_MAP = f"""async ([template, script, points, words]) => {{
  {AFTER_PAINT}
  const element = document.querySelector("#here");
  element.innerHTML = template;
  window.m2vPlotly = Promise.resolve(window.Plotly);
  const watched = {{}};
  const props = {{}};
  const watch = (name, act) => (watched[name] = act);
  Function("element", "trigger", "props", "watch", script)(element, () => {{}}, props, watch);
  await painted();
  const started = performance.now();
  props.points = points;
  watched.points();
  while (!element.querySelector("[data-drawn]")) await new Promise((done) => setTimeout(done));
  await painted();
  const seconds = (performance.now() - started) / 1000;
  props.words = words;
  watched.words();
  return seconds;
}}"""
DRAW_DEFAULT = f"""async ([figure]) => {{
  {AFTER_PAINT}
  await painted();
  const started = performance.now();
  const {{ data, layout }} = JSON.parse(figure);
  await window.Plotly.newPlot("here", data, layout, {{ scrollZoom: true }});
  await painted();
  return (performance.now() - started) / 1000;
}}"""
ZOOM = f"""async ([selector, n]) => {{
  {AFTER_PAINT}
  const target = document.querySelector(selector);
  const box = target.getBoundingClientRect();
  const place = {{ clientX: box.left + 0.55 * box.width, clientY: box.top + 0.45 * box.height }};
  const seconds = [];
  for (let step = 0; step < n; step++) {{
    const started = performance.now();
    const deltaY = step % 2 ? 60 : -90;
    target.dispatchEvent(new WheelEvent("wheel", {{ deltaY, bubbles: true, cancelable: true, ...place }}));
    await painted();
    seconds.push((performance.now() - started) / 1000);
  }}
  return seconds;
}}"""


def measure(browser: Any, plotly: Path, draw: str, arguments: list[str], selector: str) -> tuple[float, float]:
    """Seconds to the first paint, and the median seconds per frame while zooming, in a new page."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_content(PAGE % MAP_STYLE)
    page.add_script_tag(path=plotly)
    first = page.evaluate(draw, arguments)
    page.wait_for_timeout(500)
    frames = page.evaluate(ZOOM, [selector, FRAMES])
    page.close()
    return first, statistics.median(frames)


def main() -> None:
    from playwright.sync_api import sync_playwright
    from plotly import graph_objects

    package = find_spec("plotly")
    assert package is not None and package.origin is not None
    plotly = Path(package.origin).parent / "package_data" / "plotly.min.js"
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    rng = np.random.default_rng(0)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        for n_points, kinds in SIZES.items():
            centers = rng.normal(size=(60, 2)) * 8
            points = (centers[rng.integers(60, size=n_points)] + rng.normal(size=(n_points, 2))).astype(np.float32)
            texts = [f"word {number}" for number in range(n_points)]
            ranks, norms = np.arange(n_points), np.ones(n_points, dtype=np.float32)
            data = [points_data("a", "map", "UMAP", points), words_data(texts, ranks, norms, ranks.astype(np.int32))]
            runs = {"map": (DRAW_MAP, [render("map.html", script="", caption=""), MAP_SCRIPT, *data], ".m2v-plot")}
            for kind in kinds:
                trace = {"scattergl": graph_objects.Scattergl, "scatter": graph_objects.Scatter}[kind]
                figure = graph_objects.Figure(trace(x=points[:, 0], y=points[:, 1], text=texts, mode="markers"))
                runs[kind] = (DRAW_DEFAULT, [figure.to_json()], ".nsewdrag")
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for _ in range(ROUNDS):
                for name, (draw, arguments, selector) in runs.items():
                    times[name].append(measure(browser, plotly, draw, arguments, selector))
            medians = {
                name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()
            }
            print(f"{n_points:,} points, {len(data[0]) / 1e6:.2f} MB for the points:")
            for name, (first, frame) in medians.items():
                ratios = [ours / theirs for ours, theirs in zip(medians["map"], (first, frame), strict=True)]
                print(f"  {name:10} first paint {first:.2f} s, frame {1000 * frame:.0f} ms", end="")
                print("" if name == "map" else f"; the map takes {ratios[0]:.2f} and {ratios[1]:.2f} times as long")
        browser.close()


if __name__ == "__main__":
    main()
