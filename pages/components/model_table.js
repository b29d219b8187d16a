// The table of models: sorts by a clicked heading, and triggers "click" when a row is clicked and "select" when one is
// ticked or unticked. The models are in `props.value`: Gradio would repeat a deferred event with the data of an earlier
// one. A new table keeps the sort order and the ticks.
const MAX_TICKED = 2;
const ticked = new Set();
let drawn = ""; // the HTML of the table
let sorted = { column: "Date", isDescending: true };
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

const rows = () => [...element.querySelectorAll("tbody tr")];
const frame = () => element.querySelector(".m2v-table");
const idOf = (target) => target.closest?.("[data-model]")?.dataset.model;

function sort() {
  const heading = element.querySelector(`thead [data-column="${sorted.column}"]`);
  if (!heading) return;
  for (const other of element.querySelectorAll("thead [aria-sort]")) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", sorted.isDescending ? "descending" : "ascending");
  const value = (row) => row.querySelector(`[data-column="${sorted.column}"]`).dataset.value;
  const isNumber = heading.classList.contains("m2v-is-number");
  const compare = isNumber ? (a, b) => a - b : collator.compare;
  const order = rows().sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (!a || !b) return !a - !b; // missing values last, in both directions
    return sorted.isDescending ? compare(b, a) : compare(a, b);
  });
  element.querySelector("tbody").append(...order);
}

function mark() {
  for (const row of rows()) {
    const box = row.querySelector("input");
    row.setAttribute("aria-selected", row.dataset.model === props.picked);
    box.checked = ticked.has(row.dataset.model);
    box.disabled = !box.checked && ticked.size === MAX_TICKED;
  }
}

function send(event) {
  props.value = { picked: props.picked, ticked: [...ticked] };
  trigger(event);
}

function focusOn(id, name) {
  const within = id ? `[data-model="${CSS.escape(id)}"] ` : "thead ";
  element.querySelector(`${within}[data-focus="${name}"]`)?.focus();
}

function draw() {
  if (props.rows === drawn) return;
  drawn = props.rows;
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const [id, name] = [focused && idOf(focused), focused?.dataset.focus];
  const top = frame()?.scrollTop;
  element.querySelector("div").innerHTML = props.rows || ""; // escaped by the server
  const ids = new Set(rows().map(idOf));
  const hasTicks = ticked.size > 0;
  for (const other of [...ticked]) if (!ids.has(other)) ticked.delete(other);
  sort();
  mark();
  const picked = element.querySelector('[aria-selected="true"]');
  const bottom = picked ? picked.offsetTop + picked.offsetHeight : 0;
  if (frame()) frame().scrollTop = top ?? bottom - frame().clientHeight;
  if (name) focusOn(id, name);
  if (hasTicks) send("select"); // one was deleted or renamed
}

element.addEventListener("click", ({ target }) => {
  const column = target.closest("thead button")?.dataset.focus;
  if (column) {
    const isNumber = target.closest("th").classList.contains("m2v-is-number");
    // Text is sorted from A to Z first, numbers from largest to smallest.
    sorted = { column, isDescending: sorted.column === column ? !sorted.isDescending : isNumber };
    sort();
    return;
  }
  const id = idOf(target);
  if (!id || target.closest("label")) return;
  props.picked = id;
  mark();
  send("click");
});

element.addEventListener("change", ({ target }) => {
  const id = idOf(target);
  if (target.checked) ticked.add(id);
  else ticked.delete(id);
  mark();
  send("select");
});

element.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("[data-model]");
  if (!step || !row) return;
  const next = rows()[rows().indexOf(row) + step];
  event.preventDefault();
  if (next) focusOn(next.dataset.model, event.target.dataset.focus);
});

watch("rows", draw);
watch("picked", mark);
if (props.rows) draw();
