// What Gradio's widgets lack for those who use the keyboard.
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
