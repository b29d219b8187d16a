"""Widgets that two or more pages use, and the few things of the server they stand on."""

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

from m2v_core.errors import InputError, M2VError
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.studio.jobs import JobLimits, JobStore
from m2v_core.studio.jobs.redaction import Redactor
from m2v_core.studio.space.settings import current_limits
from pages.gradio_patches import current_session
from pages.html import Markup, render

logger = logging.getLogger(__name__)

BUNDLED_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
# Well known, without code of their own, of every tokenizer family; all but the first come from the Hub.
TEACHER_CHOICES = [
    ("all-MiniLM-L6-v2 · bundled, works offline", BUNDLED_TEACHER),
    ("bge-base-en-v1.5 · English", "BAAI/bge-base-en-v1.5"),
    ("multilingual-e5-small · 100 languages", "intfloat/multilingual-e5-small"),
    ("gte-modernbert-base · English, long texts", "Alibaba-NLP/gte-modernbert-base"),
]
ASK_FOR_HELP = "If you ask for help, give the job's id: <code>{{ id }}</code>"
"""The template of a sentence, for `pages.html.render`."""
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OWNER = re.compile(r"[\w-]{22,64}", re.ASCII)

_DAY_SECONDS = 24 * 3600.0

Values = dict[str, Any]
"""What a page shows, by the name of its component; the others stay as they are."""
_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")
_first_owner_lock = threading.Lock()


def is_space() -> bool:
    """Whether strangers use this app: it runs as a Hugging Face Space."""
    return "SPACE_ID" in os.environ


def data_folder() -> Path:
    """Where jobs and models are kept: `M2V_STUDIO_HOME`, or the platform's place for this user's data."""
    if os.environ.get("M2V_STUDIO_HOME"):
        return Path(os.environ["M2V_STUDIO_HOME"]).expanduser().resolve()
    return platformdirs.user_data_path("m2v-studio", appauthor=False)


@functools.cache
def job_store() -> JobStore:
    """The app's one job store, with the limits of `spaces.yaml`."""
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
    """Days in seconds; None stays None."""
    return None if number is None else number * _DAY_SECONDS


def owner_state() -> gr.BrowserState:
    """The random id by which the server knows a browser: kept there, and the same on every page."""
    return gr.BrowserState(None, storage_key="m2v-studio-owner", secret="m2v-studio")


def known_owner(owner: str | None) -> str:
    """The browser's id; on its first visit a new one, the same for all that the page asks until it has it.

    Whoever is quick uploads a file before the page has had its first answer, and must find it again.
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
    """An id that nobody can guess."""
    return secrets.token_urlsafe(24)


def checked_owner(owner: object) -> str:
    """The id that came with a request of a program, which must not be one that others could guess.

    Raises:
        InputError: It is no id of the kind that `new_owner` makes.
    """
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise InputError(
            "owner must be a key of 22 to 64 letters, digits, - or _. Call /new_owner for one, once, and keep it; "
            "the Library page shows your browser's."
        )
    return owner


def teacher_picker() -> gr.Dropdown:
    """A box that offers teachers and takes any other."""
    info = "Pick one, or type the Hub id of any Sentence Transformer"
    return gr.Dropdown(
        TEACHER_CHOICES,
        value=BUNDLED_TEACHER,
        allow_custom_value=True,
        label="Teacher",
        info=f"{info}." if is_space() else f"{info} or the path of a folder.",
        elem_classes="m2v-teacher",
    )


def checked_teacher(name: str | None) -> str:
    """The teacher's name without surrounding space.

    Raises:
        InputError: None is given; or, on a Space, something else than a Hub id.
    """
    name = (name or "").strip()
    if not name:
        raise InputError("No teacher is chosen. Pick one from the list, or type the id of a model on the Hub.")
    # On a Space, a path would let strangers look around on the server; "pages/components" is one as well as a Hub id.
    if is_space() and (not _REPO_ID.fullmatch(name) or Path(name).exists()):
        raise InputError(f"{name!r} is no Hub id. Type an owner and a name, such as {BUNDLED_TEACHER}.")
    return name


def format_bytes(n_bytes: int) -> str:
    """A size in decimal units, as file managers show it: "15.2 MB"."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    value = float(n_bytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95 or unit == "GB":
            break
    return f"{value:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration at the precision one cares for: "0.8 s", "12 s", "3 min 05 s", "1 h 02 min"."""
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
    """Return a decorator of handlers: an error becomes a message on the page, since Gradio would show none.

    Args:
        title: What failed, above the message of an `M2VError`; any other error gets a title of its own and an id, under
            which the server's log has it. See `error_notice`.
        shown: Makes of the message, as HTML, what the handler returns instead, or yields where it is a generator.
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
    """Return the `fn` and `outputs` of an event whose handler returns, or yields, a dictionary of values by name.

    Args:
        handler: The components that it leaves out stay as they are.
        outputs: The component of each name.
    """

    def by_component(values: Mapping[str, Any]) -> dict[Any, Any]:
        # Gradio takes an empty dictionary for a value.
        return {outputs[name]: value for name, value in values.items()} or {next(iter(outputs.values())): gr.skip()}

    @functools.wraps(handler)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return by_component(handler(*args, **kwargs))

    @functools.wraps(handler)
    def answers(*args: Any, **kwargs: Any) -> Any:
        yield from map(by_component, handler(*args, **kwargs))

    made = answers if inspect.isgeneratorfunction(handler) else answer
    # Gradio names the endpoint after it, and "cancel" is one for programs.
    made.__name__ = getattr(handler, "__name__", "partial")
    return {"fn": made, "outputs": list(outputs.values())}


def on(events: Any, handler: Any, inputs: Any = None, outputs: Any = None, latest: bool = False, **how: Any) -> Any:
    """Call a handler of a page when an event fires; programs can't call it, and Gradio shows no progress of its own.

    Args:
        events: One event of a component, or a list of them.
        handler: None where only `js` is run.
        inputs: The components whose values it takes.
        outputs: Its components; by name where the handler returns, or yields, a dictionary of values. See `by_name`.
        latest: Whether an event that fires meanwhile is answered after it; by default only that of a `change` is.
        how: What else Gradio takes.
    """
    how = {"fn": handler, "outputs": outputs, "show_progress": "hidden", "api_visibility": "private"} | how
    if isinstance(outputs, Mapping):
        how |= by_name(handler, outputs)
    if latest:
        how["trigger_mode"] = "always_last"
    return gr.on(events, inputs=inputs, **how) if isinstance(events, list) else events(inputs=inputs, **how)


def html(content: str | None = "", css: str | None = None, **how: Any) -> gr.HTML:
    """HTML of the page's own look."""
    return gr.HTML(content, apply_default_css=False, elem_classes=css, **how)


def message_box() -> gr.HTML:
    """Where a page says what there is to say; it takes no room while empty."""
    return html(css="m2v-message")


def page_head(title: str, text: str) -> gr.HTML:
    """The heading of a page, and what it is for."""
    return html(
        render('<header class="m2v-head"><h1>{{ title }}</h1><p>{{ text }}</p></header>', title=title, text=text)
    )


def hint(text: str) -> gr.HTML:
    """An explanation."""
    return html(render('<p class="m2v-hint">{{ text }}</p>', text=text))


def query_box(label: str, placeholder: str = "Type and press Enter", button: str = "Search") -> gr.Textbox:
    """A field for a search."""
    look: dict[str, Any] = {"max_lines": 1, "submit_btn": button, "elem_classes": "m2v-query"}
    return gr.Textbox("", label=label, placeholder=placeholder, **look)


def upload_box(
    label: str = "Text with one entry a line, or a CSV or TSV table",
    file_types: Sequence[str] = (".txt", ".csv", ".tsv"),
    height: int = 120,
    **how: Any,
) -> gr.File:
    """A field for files, by default a text or a table."""
    return gr.File(file_types=list(file_types), label=label, height=height, elem_classes="m2v-upload", **how)


def figure_box() -> gr.Plot:
    """Where a figure is drawn."""
    return gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")


def raises_for_programs(handler: Callable[_Parameters, _Answer]) -> Callable[_Parameters, _Answer]:
    """Decorate an endpoint for programs: an `M2VError` becomes Gradio's error, whose text reaches the caller."""

    @functools.wraps(handler)
    def answer(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Answer:
        try:
            return handler(*args, **kwargs)
        except M2VError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return answer


def error_notice(error: Exception, title: str) -> Markup:
    """What people read of an error: its message if it is one of ours, else where to look."""
    if isinstance(error, M2VError):
        return notice("error", title, [str(error)])
    incident = uuid.uuid4().hex[:8]
    logger.error("Incident %s\n%s", incident, Redactor().text("".join(traceback.format_exception(error))))
    return notice(
        "error",
        "Something went wrong that should not have.",
        [f"Try again. If it happens again, report what the server's log says of “Incident {incident}”."],
    )


def neighbors_html(neighbors: Sequence[Neighbor], query: str, both: Collection[int] = ()) -> Markup:
    """Similar words, each with its cosine as a number and a bar; those whose rank is in `both` are marked."""
    if not neighbors:
        return notice("info", "The model knows no part of this.", ["Try another word."])
    return render("neighbors.html", kind="neighbors", neighbors=neighbors, query=query, both=both, places=())


def rows_html(rows: Sequence[tuple[str, str]], css: str = "") -> Markup:
    """Names and values, below or beside each other as the class says."""
    return render("facts.html", rows=rows, css=css)
