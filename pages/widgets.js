// Additions to Gradio's widgets.
window.addEventListener(
  "keydown",
  (event) => {
    const field = event.target;
    // On Tab, Gradio would open the list of the field that loses focus, and leave it open. Only the browser handles Tab.
    if (event.key === "Tab" && field.matches?.('input[role="combobox"]')) {
      event.stopImmediatePropagation();
    }
    // The browser treats each radio button as a separate group, so the arrow keys would do nothing.
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

// Gradio gives all pages the same title, which makes browser tabs indistinguishable.
const place = location.pathname.replace(/\/+$/, "").split("/").pop();
if (place) {
  const title = `${place[0].toUpperCase()}${place.slice(1)} · M2V Studio`;
  const setTitle = () => document.title === title || (document.title = title);
  new MutationObserver(setTitle).observe(document.head, { subtree: true, childList: true, characterData: true });
  setTitle();
}

// Mark the facts of a teacher as outdated while another name is typed.
const markFacts = ({ type, target }) => {
  if (!target.matches?.(".m2v-teacher input")) return;
  if (type === "focus") target.m2vName = target.value;
  const isOutdated = type === "input" && target.value !== target.m2vName;
  for (const facts of document.querySelectorAll(".m2v-preflight")) facts.classList.toggle("m2v-outdated", isOutdated);
};
for (const kind of ["focus", "input"]) window.addEventListener(kind, markFacts, true);

// Mark error messages as outdated when the form changes. They are not removed: a Gradio event that clears a message
// could arrive after the response to the next click of the button.
const markMessages = (isOutdated) => {
  for (const message of document.querySelectorAll(".m2v-run .m2v-message")) {
    message.classList.toggle("m2v-outdated", isOutdated);
  }
};
for (const kind of ["input", "change", "click"]) {
  window.addEventListener(
    kind,
    ({ target }) => {
      if (target.closest?.("button.m2v-start")) markMessages(false);
      else if (target.closest?.(kind === "click" ? ".m2v-form button" : ".m2v-form")) markMessages(true);
    },
    true,
  );
}

// A click on an example or a neighbor searches for it.
window.addEventListener("click", ({ target, detail }) => {
  const button = target.closest?.("button[data-query]");
  const field = button?.closest(".m2v-search")?.querySelector(".m2v-query :is(input, textarea)");
  if (!field) return;
  field.value = button.dataset.query;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  if (detail === 0) field.focus(); // clicked with the keyboard: the response removes the button
});
