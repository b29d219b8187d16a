"""Components shared by pages, and the server state they use."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import secrets
import threading
import traceback
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, cast

import gradio as gr
import platformdirs

from m2v_core.distillation.timing import Timings
from m2v_core.errors import InputError, M2VError
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.studio.jobs import JobLimits, JobStore
from m2v_core.studio.jobs.folder import SHARED_CACHE
from m2v_core.studio.jobs.redaction import Redactor
from m2v_core.studio.space.settings import current_limits
from pages.gradio_patches import current_session
from pages.html import Markup, render

logger = logging.getLogger(__name__)

BUNDLED_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
# Popular teachers without custom code, covering all tokenizer families.
TEACHER_CHOICES = [
    ("all-MiniLM-L6-v2 · bundled, works offline", BUNDLED_TEACHER),
    ("bge-base-en-v1.5 · English", "BAAI/bge-base-en-v1.5"),
    ("multilingual-e5-small · 100 languages", "intfloat/multilingual-e5-small"),
    ("gte-modernbert-base · English, long texts", "Alibaba-NLP/gte-modernbert-base"),
]
ASK_FOR_HELP = "When asking for help, include the job's id: <code>{{ id }}</code>"
"""A template for `pages.html.render`."""
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OWNER = re.compile(r"[\w-]{22,64}", re.ASCII)

_DAY_SECONDS = 24 * 3600.0

Values = dict[str, Any]
"""New values of a page's components by name; other components are unchanged."""
_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")
_first_owner_lock = threading.Lock()


def is_space() -> bool:
    """Whether the app runs as a public Hugging Face Space."""
    return "SPACE_ID" in os.environ


def data_folder() -> Path:
    """Folder of jobs and models: `M2V_STUDIO_HOME`, or the platform's user data folder."""
    if os.environ.get("M2V_STUDIO_HOME"):
        return Path(os.environ["M2V_STUDIO_HOME"]).expanduser().resolve()
    return platformdirs.user_data_path("m2v-studio", appauthor=False)


def timings() -> Timings:
    """Timings of distillations on this machine."""
    return Timings(data_folder() / SHARED_CACHE)


@functools.cache
def job_store() -> JobStore:
    """The app's job store, with the limits in `spaces.yaml`."""
    limits = current_limits()
    return JobStore(
        data_folder() / "jobs",
        max_running=limits.running_jobs,
        max_waiting=limits.waiting_jobs,
        max_per_owner=limits.jobs_per_person,
        limits=JobLimits(limits.job_memory_bytes, limits.job_seconds, limits.teacher_parameters),
        max_lines={"vocabulary": limits.vocabulary_words},
        keep_seconds=days(limits.jobs_kept_days),
        keep_bytes=limits.jobs_bytes,
        keeps_spare=True,
    )


def days(number: int | None) -> float | None:
    """Convert days to seconds; None stays None."""
    return None if number is None else number * _DAY_SECONDS


def owner_state() -> gr.BrowserState:
    """The random id that identifies a browser, stored in the browser and shared by all pages."""
    return gr.BrowserState(None, storage_key="m2v-studio-owner", secret="m2v-studio")


def known_owner(owner: str | None) -> str:
    """Return the browser's id; on the first visit, a new id that is the same for all requests of the page.

    Users may upload a file before the page has received its first response.
    """
    if owner and _OWNER.fullmatch(owner):
        return owner
    session = current_session()
    if not session:
        return new_owner()
    with _first_owner_lock:
        return _first_owner(session)


@functools.lru_cache(maxsize=10_000)
def _first_owner(session_hash: str) -> str:
    return new_owner()


def new_owner() -> str:
    """Generate an unguessable id."""
    return secrets.token_urlsafe(24)


def checked_owner(owner: object) -> str:
    """Validate the id of an API request.

    Raises:
        InputError: It is not an id in the format of `new_owner`.
    """
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise InputError(
            "owner must be a key of 22 to 64 letters, digits, - or _. Call /new_owner once to create one, and store "
            "it; the Library page shows your browser's key."
        )
    return owner


def teacher_picker() -> gr.Dropdown:
    """A dropdown of teachers that accepts custom values."""
    info = "Choose one, or enter the Hub id of any Sentence Transformer"
    return gr.Dropdown(
        TEACHER_CHOICES,
        value=BUNDLED_TEACHER,
        allow_custom_value=True,
        label="Teacher",
        info=f"{info}." if is_space() else f"{info} or a folder path.",
        elem_classes="m2v-teacher",
    )


def checked_teacher(name: str | None) -> str:
    """Strip and validate a teacher's name.

    Raises:
        InputError: The name is empty, or on a Space is not a Hub id.
    """
    name = (name or "").strip()
    if not name:
        raise InputError("No teacher is selected. Choose one from the list, or enter the id of a model on the Hub.")
    # On a Space, paths would expose files of the server; "pages/components" is both a path and a valid Hub id.
    if is_space() and (not _REPO_ID.fullmatch(name) or Path(name).exists()):
        raise InputError(f"{name!r} is not a Hub id. Enter an owner and a name, such as {BUNDLED_TEACHER}.")
    return name


def format_bytes(n_bytes: int) -> str:
    """Format a size in decimal units: "15.2 MB"."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    value = float(n_bytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95 or unit == "GB":
            break
    return f"{value:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """Format a duration: "0.8 s", "12 s", "3 min 05 s", "1 h 02 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def notice(kind: Literal["info", "good", "error"], title: str, paragraphs: Sequence[str] = ()) -> Markup:
    """A boxed message, as HTML."""
    return render("notice.html", kind=kind, title=title, paragraphs=paragraphs)


def shows_errors(
    title: str, shown: Callable[[Markup], Any] = lambda message: message
) -> Callable[[Callable[_Parameters, _Answer]], Callable[_Parameters, _Answer]]:
    """Return a handler decorator that shows errors on the page, which Gradio does not do.

    Args:
        title: Title above the message of an `M2VError`; other errors get a general title and an id under which they are
            logged. See `error_notice`.
        shown: Converts the message, as HTML, to the value that the handler returns or yields.
    """

    def decorate(handler: Callable[_Parameters, _Answer]) -> Callable[_Parameters, _Answer]:
        @functools.wraps(handler)
        def answer(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            try:
                return handler(*args, **kwargs)
            except Exception as error:
                return shown(error_notice(error, title))

        @functools.wraps(handler)
        def answers(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            try:
                yield from cast("Iterable[Any]", handler(*args, **kwargs))
            except Exception as error:
                yield shown(error_notice(error, title))

        return answers if inspect.isgeneratorfunction(handler) else answer

    return decorate


def by_name(handler: Callable[..., Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `fn` and `outputs` of an event whose handler returns or yields a dictionary of values by name.

    Args:
        handler: Returns the new values; components that it omits are unchanged.
        outputs: The components by name.
    """

    def by_component(values: Mapping[str, Any]) -> dict[Any, Any]:
        # Gradio would interpret an empty dictionary as a value.
        return {outputs[name]: value for name, value in values.items()} or {next(iter(outputs.values())): gr.skip()}

    @functools.wraps(handler)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return by_component(handler(*args, **kwargs))

    @functools.wraps(handler)
    def answers(*args: Any, **kwargs: Any) -> Any:
        # Gradio sends only the difference from the previous values, and the page applies it in place, even before it
        # has shown them. Later values must therefore contain all earlier keys.
        sent: dict[str, Any] = {}
        for values in handler(*args, **kwargs):
            sent |= values
            yield by_component(sent)

    wrapped = answers if inspect.isgeneratorfunction(handler) else answer
    # Gradio names the endpoint after the function, and "cancel" is a public endpoint.
    wrapped.__name__ = getattr(handler, "__name__", "partial")
    return {"fn": wrapped, "outputs": list(outputs.values())}


def on(events: Any, handler: Any, inputs: Any = None, outputs: Any = None, latest: bool = False, **how: Any) -> Any:
    """Connect a private handler to events, without Gradio's progress display.

    Args:
        events: One event of a component, or a list of them.
        handler: The handler; None to run only `js`.
        inputs: The input components.
        outputs: The output components; a mapping if the handler returns a dictionary, see `by_name`.
        latest: Whether the last event during a call triggers another call; by default only for `change` events.
        how: Other arguments of the event.
    """
    how = {"fn": handler, "outputs": outputs, "show_progress": "hidden", "api_visibility": "private"} | how
    if isinstance(outputs, Mapping):
        how |= by_name(handler, outputs)
    if latest:
        how["trigger_mode"] = "always_last"
    return gr.on(events, inputs=inputs, **how) if isinstance(events, list) else events(inputs=inputs, **how)


def html(content: str | None = "", css: str | None = None, **how: Any) -> gr.HTML:
    """An HTML component without Gradio's default style."""
    return gr.HTML(content, apply_default_css=False, elem_classes=css, **how)


def message_box() -> gr.HTML:
    """A component for messages, which takes no space while empty."""
    return html(css="m2v-message")


def page_head(title: str, text: str) -> gr.HTML:
    """The heading and introduction of a page."""
    return html(
        render(
            '<header class="m2v-head"><h1>{{ title }}</h1><p>{{ text | terms }}</p></header>', title=title, text=text
        )
    )


def hint(text: str) -> gr.HTML:
    """A short explanation."""
    return html(render('<p class="m2v-hint">{{ text }}</p>', text=text))


def query_box(label: str, placeholder: str = "Type and press Enter", button: str = "Search") -> gr.Textbox:
    """A search field."""
    look: dict[str, Any] = {"max_lines": 1, "submit_btn": button, "elem_classes": "m2v-query"}
    return gr.Textbox("", label=label, placeholder=placeholder, **look)


def upload_box(
    label: str = "Text with one entry per line, or a CSV or TSV table",
    file_types: Sequence[str] = (".txt", ".csv", ".tsv"),
    height: int = 120,
    **how: Any,
) -> gr.File:
    """An upload field, by default for a text file or a table."""
    return gr.File(file_types=list(file_types), label=label, height=height, elem_classes="m2v-upload", **how)


def figure_box() -> gr.Plot:
    """A component for a figure."""
    return gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")


def raises_client_errors(handler: Callable[_Parameters, _Answer]) -> Callable[_Parameters, _Answer]:
    """Decorate an API endpoint to convert `M2VError` to `gr.Error`, whose message is sent to the client."""

    @functools.wraps(handler)
    def answer(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Answer:
        try:
            return handler(*args, **kwargs)
        except M2VError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return answer


def error_notice(error: Exception, title: str) -> Markup:
    """Show the message of an `M2VError`; other errors are logged under an incident id, which is shown."""
    if isinstance(error, M2VError):
        return notice("error", title, [str(error)])
    incident = uuid.uuid4().hex[:8]
    logger.error("Incident %s\n%s", incident, Redactor().text("".join(traceback.format_exception(error))))
    return notice(
        "error",
        "An unexpected error occurred",
        [f"Try again. If the error persists, report the entry “Incident {incident}” in the server's log."],
    )


def neighbors_html(
    neighbors: Sequence[Neighbor], query: str, both: Collection[int] = (), is_searchable: bool = False
) -> Markup:
    """Return similar words, each with its cosine as a number and a bar.

    Args:
        neighbors: The words.
        query: The text that they are similar to.
        both: Ranks of the words to mark.
        is_searchable: Whether a click on a word searches for it, in the enclosing `m2v-search`.
    """
    if not neighbors:
        return notice("info", "None of these words are in the model's vocabulary.", ["Try another word."])
    values = {"neighbors": neighbors, "query": query, "both": both, "places": (), "is_searchable": is_searchable}
    return render("neighbors.html", kind="neighbors", **values)


def rows_html(rows: Sequence[tuple[str, str]], css: str = "") -> Markup:
    """A list of names and values, with its layout set by the CSS class."""
    return render("facts.html", rows=rows, css=css)
