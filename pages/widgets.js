// What Gradio's widgets lack.
window.addEventListener(
  "keydown",
  (event) => {
    const field = event.target;
    // At Tab a list would open behind whoever leaves it, and stay open over the page: the key is the browser's alone.
    if (event.key === "Tab" && field.matches?.('input[role="combobox"]')) {
      event.stopImmediatePropagation();
    }
    // Every choice is a group of its own to the browser, so the arrows would do nothing.
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step && field.matches?.('fieldset input[type="radio"]')) {
      const choices = [...field.closest("fieldset").querySelectorAll('input[type="radio"]:not(:disabled)')];
      const next = choices[(choices.indexOf(field) + step + choices.length) % choices.length];
      event.preventDefault();
      next.focus();
      next.click();
    }
  },
  true,
);

// Gradio gives all pages one title, and people tell their tabs by it.
const place = location.pathname.replace(/\/+$/, "").split("/").pop();
if (place) {
  const title = `${place[0].toUpperCase()}${place.slice(1)} · M2V Studio`;
  const entitle = () => document.title === title || (document.title = title);
  new MutationObserver(entitle).observe(document.head, { subtree: true, childList: true, characterData: true });
  entitle();
}

// Facts of a teacher are not those of the name that is being typed.
const dateFacts = ({ type, target }) => {
  if (!target.matches?.(".m2v-teacher input")) return;
  if (type === "focus") target.m2vName = target.value;
  const isOutdated = type === "input" && target.value !== target.m2vName;
  for (const facts of document.querySelectorAll(".m2v-preflight")) facts.classList.toggle("m2v-outdated", isOutdated);
};
for (const kind of ["focus", "input"]) window.addEventListener(kind, dateFacts, true);

// Why something could not run is no longer true once the form says something else. Nothing is taken from the page for
// it: an event of Gradio's that empties the message could come after the answer to the next press of the button.
const outdate = (isOutdated) => {
  for (const message of document.querySelectorAll(".m2v-run .m2v-message")) {
    message.classList.toggle("m2v-outdated", isOutdated);
  }
};
for (const kind of ["input", "change", "click"]) {
  window.addEventListener(
    kind,
    ({ target }) => {
      if (target.closest?.("button.m2v-start")) outdate(false);
      else if (target.closest?.(kind === "click" ? ".m2v-form button" : ".m2v-form")) outdate(true);
    },
    true,
  );
}

// Examples and neighbors are searched for when they are clicked.
window.addEventListener("click", ({ target, detail }) => {
  const button = target.closest?.("button[data-query]");
  const field = button?.closest(".m2v-search")?.querySelector(".m2v-query :is(input, textarea)");
  if (!field) return;
  field.value = button.dataset.query;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  if (detail === 0) field.focus(); // pressed by key: the answer removes the button
});
