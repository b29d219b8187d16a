"""Loading a data set from the Hub instead of uploading a file."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from m2v_core.errors import InputError
from m2v_core.hub.dataset_rows import MAX_ROWS, read_dataset
from pages.components import Values, html, notice, on, shows_errors
from pages.components.account import visitor_token
from pages.components.served_files import serve
from pages.components.waiting import following

_MAX_NAME_CHARACTERS = 200


def build_dataset_box(upload: gr.File) -> gr.State:
    """Add a field that loads rows of a data set into an upload field to the current Blocks context.

    Returns a count whose change event fires when the upload field may have been filled.
    """
    with gr.Accordion("Load from the Hub", open=False, elem_classes="m2v-more"):
        name = gr.Textbox(
            label="Data set",
            info=f"Loads the first {MAX_ROWS:,} rows as a table.",
            placeholder="stanfordnlp/imdb",
            max_lines=1,
            max_length=_MAX_NAME_CHARACTERS,
        )
        subset = gr.Textbox(
            label="Subset", info="Only for data sets that have several.", max_lines=1, max_length=_MAX_NAME_CHARACTERS
        )
        button = gr.Button("Load rows")
        message = html(css="m2v-status")
    done = gr.State(0)
    shown = {"message": message, "upload": upload}
    loaded = on([button.click, name.submit, subset.submit], load_dataset_rows, [name, subset], shown)
    # A state set by a generator does not fire its change event.
    on(loaded.then, lambda count: count + 1, done, done)
    return done


@shows_errors("This data set can't be loaded", lambda message: {"message": message})
def load_dataset_rows(name: str, subset: str, request: gr.Request, oauth: gr.OAuthToken | None) -> Iterator[Values]:
    """Yield the progress, then the upload field with a table of the first rows."""
    name, subset = name.strip(), subset.strip()
    if not name:
        raise InputError("The field is empty. Enter the name of a data set, such as 'stanfordnlp/imdb'.")
    token = visitor_token(oauth, request)
    rows = yield from following(
        lambda: read_dataset(name, subset, token=token), "Loading rows", "data set", lambda sign: {"message": sign}
    )
    path = serve(f"{name.rpartition('/')[2]}.csv", rows.write_csv)
    which = "All" if rows.is_complete else "The first"
    yield {
        "message": notice("good", f"{which} {len(rows.rows):,} rows of {name}, split {rows.split}, are loaded"),
        "upload": str(path),
    }
