"""Searching a model's words while the user types."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from m2v_core.encoder.texts import well_formed
from m2v_core.errors import M2VError
from pages.components import Values, html, known_owner, neighbors_html, notice, on, shows_errors
from pages.components.model_picker import model_library, picked_words
from pages.gradio_patches import current_page
from pages.html import Markup, render

_MAX_QUERY_CHARACTERS = 10_000
_N_WORDS = 10
_TICK_SECONDS = 2.0
_EXAMPLES = render("examples.html", examples=("king", "reset my password", "München"))

# A superseded keystroke's promise is never resolved, so Gradio sends only the last one.
DEBOUNCED = """(...values) => new Promise((send) => {
  clearTimeout(window.m2vTyping);
  window.m2vTyping = setTimeout(send, 120, values);
})"""


def short_query(text: str) -> str:
    """Return the part of a query that is searched, without the surrogates that a browser may send."""
    return well_formed([text[:_MAX_QUERY_CHARACTERS]])[0]


def build_word_search(owner: gr.BrowserState, made: gr.State) -> gr.State:
    """Add a search box for the owner's model, or the demo model, to the current Blocks context.

    Args:
        owner: Owner of the models.
        made: Changes when the owner has made a model.

    Returns:
        The id of the model that it searches; None without one.
    """
    status = html(css="m2v-status")
    with gr.Column(visible=False, elem_classes="m2v-search") as box:
        query = gr.Textbox("", label="Try it: type a word or a sentence", max_lines=1, elem_classes="m2v-query")
        html(_EXAMPLES)
        found = html(css="m2v-found")
    model_id, timer = gr.State(None), gr.Timer(_TICK_SECONDS, active=False)
    shown = {"status": status, "box": box, "model_id": model_id, "timer": timer}
    on([current_page().load, timer.tick, made.change], show_box, owner, shown)
    asked: list[Any] = [owner, model_id, query]
    on(model_id.change, search_words, asked, found)
    # Gradio's `input` event fires only for keys that type a character, not for Backspace or a paste.
    on(query.change, search_words, asked, found, latest=True, js=DEBOUNCED, queue=False)
    return model_id


def show_box(owner: str | None) -> Values:
    """Show the box and the model that it searches; hide it if there is no model or it can't be loaded."""
    owner = known_owner(owner)
    contents = model_library().contents(owner)
    model_id = contents.picked.id if contents.picked else None
    is_waiting = model_id is None and contents.is_demo_pending
    try:
        if model_id is not None:
            picked_words(owner, model_id).search("a", 1)  # load the model and build its index now
    except M2VError:
        model_id = None
    return {
        "status": _WAITING if is_waiting else "",
        "box": gr.Column(visible=model_id is not None),
        "model_id": model_id,
        "timer": gr.Timer(active=is_waiting),
    }


@shows_errors("The search failed")
def search_words(owner: str | None, model_id: str | None, query: str) -> Markup:
    """Return the ten words nearest to the query, with the time of the search, as HTML."""
    query = short_query(query or "").strip()
    if not (query and model_id):
        return Markup()
    owner = known_owner(owner)
    words = picked_words(owner, model_id)
    started = time.perf_counter()
    found = words.search(query, _N_WORDS)
    seconds = time.perf_counter() - started
    return neighbors_html(found, query, is_searchable=True) + render(
        '<p class="m2v-hint">Nearest of {{ n | count }} words in {{ model }}, found in {{ ms | fixed(1) }} ms.</p>',
        n=len(words),
        model=_model_name(owner, model_id),
        ms=1000 * seconds,
    )


def _model_name(owner: str, model_id: str) -> str:
    demo = model_library().demo
    is_demo = demo is not None and demo.id == model_id
    return "the demo model" if is_demo else model_library().get(model_id, owner).name


_WAITING = notice("info", "The demo model is being made", ["You can try it here when it is ready."])
