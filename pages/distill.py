"""Distill: the form with teacher, vocabulary and settings, and the run with its result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from m2v_core.bulk.run import read_texts
from m2v_core.distillation.settings import DEFAULTS as DEFAULT_SETTINGS
from m2v_core.distillation.settings import Dictionary, Effort, Pooling, Precision, Recipe
from m2v_core.errors import HubError, InputError, M2VError, NotFoundError
from m2v_core.hub.push import check_model_name
from m2v_core.studio.jobs import Job, JobSpec
from m2v_core.studio.space.settings import current_limits
from m2v_core.studio.work.distilling import default_name
from pages.components import (
    Values,
    checked_teacher,
    html,
    is_space,
    job_store,
    neighbors_html,
    on,
    page_head,
    query_box,
    shows_errors,
    teacher_picker,
    upload_box,
)
from pages.components.account import Visitor, login_button, may_need_token, visitor_token
from pages.components.column_picker import build_column_picker
from pages.components.distill_settings import (
    DEFAULTS,
    DEVICES,
    DICTIONARIES,
    EFFORT_INFO,
    EFFORTS,
    POOLINGS,
    PRECISIONS,
    RECIPES,
    WEIGHTINGS,
    effort_choices,
    parse_clusters,
    parse_dims,
    parse_pattern,
    parse_size,
    parsed_settings,
    restored_settings,
)
from pages.components.hub_dataset import build_dataset_box
from pages.components.job_panel import build_job_panel, find_job, finished_model
from pages.components.model_name import Suggestion, build_name_box, chosen_name, propose, rule_html
from pages.components.own_words import (
    Source,
    clean_words,
    language_choices,
    lint,
    lint_file,
    read_words,
    vocabulary_lines,
)
from pages.components.preflight_card import WAITING, failed_card, preflight, teacher_facts
from pages.components.share_card import build_share_card
from pages.components.teacher_search import connect_search
from pages.components.word_map import prepare_map
from pages.gradio_patches import current_page, current_session

Mode = Literal["output", "word", "subword"]

# Labels and values; the first line of a label is highlighted.
_MODES: list[tuple[str, Mode]] = [
    ("Teacher's vocabulary\nSupports any text. Recommended to start with.", "output"),
    ("Teacher's vocabulary and my words\nYour words and phrases get their own vectors; supports any text.", "subword"),
    ("My words only\nThe smallest model. Other words are ignored.", "word"),
]
_SOURCES: list[tuple[str, Source]] = [
    ("Paste words", "paste"),
    ("Upload file", "upload"),
    ("Frequent words", "language"),
    ("Words from my sentences", "corpus"),
]
_CORPUS_WORDS = (
    "Frequent words and phrases of the sentences that you upload under Advanced settings. They are counted during the "
    "run, so size and time are unknown."
)
_MAX_RESTORED_WORDS = 50_000  # the text box is slow with more
_MAX_STARTED = 1000
# The browser page that started each job, whose form must not be overwritten.
_started: dict[str, str | None] = {}
_ADVANCED = "Advanced settings"
# Gradio does not update a card whose text is the same for another teacher.
_SHOW_FACTS = '() => document.querySelectorAll(".m2v-preflight").forEach((one) => one.classList.remove("m2v-outdated"))'
# Settings that the preflight card depends on.
_PREFLIGHT = ("dims", "precision", "clusters", "remove_pattern", "recipe", "prompt", "dictionary", "pooling", "effort")


def build() -> None:
    """Build the page in the current Blocks context."""
    page_head(
        "Distill",
        "Turn a teacher into a table with one vector per token of its vocabulary: a small, fast model that no longer "
        "needs the teacher.",
    )
    settings: dict[str, Any] = {}
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            with gr.Column(elem_classes="m2v-card"):
                teacher = teacher_picker()
                card = html(WAITING)
                login_button()
            with gr.Column(elem_classes="m2v-card"):
                mode = gr.Radio(_MODES, value="output", label="Vocabulary", elem_classes="m2v-choices")
                with gr.Column(visible=False, elem_classes="m2v-words") as words_box:
                    source = gr.Radio(
                        _SOURCES,
                        value="paste",
                        label="Words, most frequent first or with counts",
                        elem_classes="m2v-switch",
                    )
                    pasted = gr.Textbox(
                        lines=6,
                        max_lines=12,
                        label="One word or phrase per line",
                        placeholder="heart attack\nmyocardial infarction\naspirin",
                        elem_classes="m2v-paste",
                    )
                    with gr.Column(visible=False) as file_box:
                        upload = upload_box()
                        filled = [upload.upload, upload.clear, build_dataset_box(upload).change]
                        column = build_column_picker("words")
                    with gr.Row(visible=False) as auto_box:
                        language = gr.Dropdown(
                            language_choices(),
                            value="auto",
                            label="Language",
                            info="Adds the most frequent words that the teacher splits.",
                        )
                        size = gr.Textbox(
                            f"{DEFAULT_SETTINGS.vocabulary_size}",
                            label="Maximum words",
                            info="A number of words, or a model size such as 40MB.",
                            max_lines=1,
                        )
                    report = html(css="m2v-report")
                    clean = gr.Button("Clean", visible=False, elem_classes="m2v-clean")
                    pieces = html(css="m2v-reading")
                    is_cleaned = gr.State(False)
            with gr.Column(elem_classes="m2v-card") as effort_box:
                effort = gr.Radio(
                    EFFORTS, value=DEFAULTS["effort"], label="Effort", info=EFFORT_INFO, elem_classes="m2v-choices"
                )
            with gr.Accordion(_ADVANCED, open=False, elem_classes="m2v-card m2v-advanced") as advanced:
                back = gr.Button("Reset to defaults", size="sm", visible=False, elem_classes="m2v-back")
                recipe = gr.Radio(RECIPES, value=DEFAULTS["recipe"], label="Recipe", elem_classes="m2v-choices")
                sentences = "Sentences from your domain to fit the model to (optional, at least 1,000)"
                corpus = upload_box(sentences, [".txt", ".csv", ".tsv", ".jsonl", ".parquet"], height=150)
                build_dataset_box(corpus)

                def typed(name: str, label: str, info: str, **how: Any) -> None:
                    settings[name] = gr.Textbox(DEFAULTS[name], label=label, info=info, **how)

                def picked(name: str, label: str, info: str, choices: list[tuple[str, str]]) -> None:
                    settings[name] = gr.Dropdown(choices, value=DEFAULTS[name], label=label, info=info)

                with gr.Row():
                    # Not a dropdown, which on Enter would select the first entry that contains the text.
                    typed("dims", "Dimensions", "A number, a share of variance such as 0.9, or none for all.")
                    picked("precision", "Precision", "int8 is half the size of float16.", PRECISIONS)
                with gr.Row():
                    picked("weighting", "Weighting", "Gives rare words a higher weight.", WEIGHTINGS)
                    typed("sif_coefficient", "SIF coefficient", "Smaller values reduce the weight of common words.")
                with gr.Row():
                    picked("pooling", "Pooling", "Combines the teacher's hidden states.", POOLINGS)
                    picked("device", "Device", "Device to run the teacher on.", DEVICES)
                with gr.Row():
                    typed("clusters", "Shared rows", "Leave empty for one row per token.", placeholder="none")
                    typed("remove_pattern", "Tokens to drop", "A regular expression; leave empty to keep all.")
                with gr.Row():
                    typed("prompt", "Prompt", "Name of a teacher's prompt; leave empty for its default.", max_lines=1)
                    picked("dictionary", "Dictionary", "Fits the model to WordNet definitions.", DICTIONARIES)
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            name, name_status = build_name_box()
            proposed, suggested = gr.State(Suggestion()), gr.State(Suggestion())
            panel = build_job_panel("Distill")
            with panel.result:
                query = query_box("Find similar words", "Type a word and press Enter")
                neighbors = html(css="m2v-found")
                build_share_card(panel.owner, panel.done_id)

    settings |= {"recipe": recipe, "effort": effort}
    words = {"source": source, "pasted": pasted, "upload": upload, "column": column}
    form = {"teacher": teacher, "mode": mode, **words, "language": language, "size": size}
    on(panel.done_id.change, prepare_map, [panel.owner, panel.done_id])
    panel.connect(
        submit,
        form | {"name": name, "suggested": suggested, "is_cleaned": is_cleaned, "corpus": corpus} | settings,
        with_visitor=True,
    )

    linted: list[Any] = [column, report, clean, is_cleaned]
    on(mode.change, lambda chosen: gr.Column(visible=chosen != "output"), mode, words_box)
    on(
        source.change,
        lambda chosen: (
            gr.Textbox(visible=chosen == "paste"),
            gr.Column(visible=chosen == "upload"),
            gr.Row(visible=chosen in ("language", "corpus")),
            gr.Dropdown(visible=chosen == "language"),
        ),
        source,
        [pasted, file_box, auto_box, language],
    )
    # Not `input`, which does not fire on a paste with the mouse.
    on([pasted.change, source.change], lint, [*words.values()], linted)
    on(filled, lint_file, upload, linted)
    on(column.input, lint, [*words.values()], linted)
    on(clean.click, clean_words, [*words.values()], [pasted, report, clean, is_cleaned])
    card_inputs = [*form.values(), *(settings[name] for name in _PREFLIGHT), corpus]
    changes = [current_page().load, *(component.change for component in card_inputs)]
    shown = {"card": card, "start": panel.start, "pieces": pieces, "proposed": proposed, "effort": effort}
    checked = on(changes, check_for_visitor, card_inputs, shown, latest=True)
    on(checked.then, None, js=_SHOW_FACTS)
    on(recipe.change, show_effort, [recipe, effort], {"box": effort_box, "effort": effort})
    on(checked.then, propose, [name, proposed, suggested], [name, suggested])
    on(name.change, rule_html, name, name_status)
    connect_search(teacher)
    on(query.submit, search, [panel.owner, panel.job_id, query], neighbors, api_name="search_result")
    noted = {**settings, "advanced": advanced, "back": back}
    on(back.click, lambda: {**DEFAULTS, **_advanced_values(DEFAULTS)}, None, noted)
    restored = noted | {"teacher": teacher, "mode": mode, "source": source, "pasted": pasted, "message": panel.message}
    restored |= {"language": language, "size": size}
    on(panel.job_id.change, restore, [panel.owner, panel.job_id, pasted, upload], restored)
    # Clear search results of the previous model.
    on(panel.job_id.change, lambda: ("", ""), None, [query, neighbors])


def submit(
    owner: str,
    who: Visitor,
    teacher: str | None,
    mode: Mode,
    source: Source,
    pasted: str | None,
    upload: str | None,
    column: str | None,
    is_cleaned: bool,
    corpus: str | None,
    name: str = "",
    language: str = "auto",
    size: str = "",
    suggested: Suggestion = Suggestion(),  # noqa: B008 - immutable
    **settings: Any,
) -> str:
    """Submit a distillation of `teacher` with these settings (see `parsed_settings`), and return the job's id.

    Raises:
        M2VError: A setting or the name is invalid, the vocabulary has problems, or the queue is full.
    """
    teacher = checked_teacher(teacher)
    if settings["recipe"] != "calibrated":
        settings["effort"] = None  # the hidden field may still have a value
    parameters = {"model_name": teacher, **parsed_settings(settings)}
    facts = None
    with suppress(M2VError):  # the card shows the error
        facts = teacher_facts(teacher, who.token)
    basis = _basis(teacher, mode, source, upload, settings["dims"])
    dim, width = parameters["pca_dims"], None if facts is None else facts.teacher_dim
    dim = min(dim, width) if isinstance(dim, int) and width is not None else dim
    name = check_model_name(chosen_name(name, suggested, basis) or default_name(teacher, dim, basis[-1]))
    parameters["name"] = name
    texts: dict[str, list[str]] = {}
    if mode != "output":
        parameters["use_subword"] = mode == "subword"
        if source in ("language", "corpus"):
            parameters["vocabulary"] = "auto:corpus" if source == "corpus" else language
            parameters["vocabulary_size"] = parse_size(size)
        else:
            texts["vocabulary"] = vocabulary_lines(source, pasted, upload, column, is_cleaned)
    if corpus is None and parameters.get("vocabulary") == "auto:corpus":
        raise InputError(
            "There are no sentences to extract words from. Upload a file of sentences under Advanced settings, or "
            "choose another source of words."
        )
    if corpus is not None:
        if settings["recipe"] == "model2vec":
            raise InputError("The recipe Model2Vec does not use sentences. Choose another recipe, or remove the file.")
        texts["corpus"] = read_texts(corpus, most_characters=current_limits().corpus_characters)
        if not texts["corpus"]:
            raise InputError("The file of sentences has no text. Put one sentence on each line, or remove the file.")
    if facts is not None and facts.license:
        parameters["license"] = facts.license
    spec = JobSpec("distill", parameters, texts, name)
    job_id = job_store().submit(spec, owner, secrets=_teacher_secrets(teacher, who))
    while len(_started) >= _MAX_STARTED:
        _started.pop(next(iter(_started)), None)
    _started[job_id] = current_session()
    return job_id


def _basis(teacher: str | None, mode: Mode, source: Source, upload: str | None, dims: str) -> tuple[str | None, ...]:
    """The settings that the suggested name depends on: teacher, dimensions and vocabulary file."""
    return (teacher or "").strip(), dims.strip(), upload if mode != "output" and source == "upload" else None


def _teacher_secrets(teacher: str, who: Visitor) -> dict[str, str]:
    """The visitor's token, if the teacher is private or gated."""
    if who.token is None or not may_need_token(who):
        return {}
    # If the Hub can't be reached, the run uses the shared cache, which may contain a public teacher, not an empty
    # private one. For a private teacher the run then fails with a clear message.
    with suppress(HubError):
        if teacher_facts(teacher, who.token).access in ("private", "gated"):
            return {"hf_token": who.token}
    return {}


def _was_started_here(job_id: str) -> bool:
    session = current_session()
    return session is not None and _started.get(job_id) == session


@shows_errors("The settings of the last run can't be shown", lambda message: {"message": message})
def restore(owner: str | None, job_id: str, pasted: str | None, upload: str | None) -> Values:
    """Restore teacher, settings and words of a job after a page reload or from Home.

    Keeps words that are already in the form, and ignores jobs that this page started.
    """
    job = find_job(owner, job_id)
    if job is None or owner is None or _was_started_here(job_id):
        return {}
    settings = restored_settings(job.parameters)
    words = {} if pasted or upload else _restored_words(owner, job)
    return {"teacher": job.parameters["model_name"], **settings, **_advanced_values(settings), **words}


def _advanced_values(settings: Mapping[str, str]) -> Values:
    """Update the heading of the collapsed settings, and show the reset button, if they differ from the defaults."""
    is_changed = any(value != DEFAULTS[name] for name, value in settings.items())
    label = f"{_ADVANCED} (from your last run)" if is_changed else _ADVANCED
    return {"advanced": gr.Accordion(label=label), "back": gr.Button(visible=is_changed)}


def _restored_words(owner: str, job: Job) -> Values:
    """Restore mode, source and words."""
    try:
        words = job_store().texts(job.id, owner).get("vocabulary")
    except NotFoundError:
        return {}
    mode: Mode = "subword" if job.parameters.get("use_subword", True) else "word"
    if automatic := job.parameters.get("vocabulary"):
        source: Source = "corpus" if automatic == "auto:corpus" else "language"
        known = automatic if automatic in [value for _, value in language_choices()] else "auto"
        size = str(job.parameters.get("vocabulary_size", DEFAULT_SETTINGS.vocabulary_size))
        return {"mode": mode, "source": source, "language": known, "size": size}
    if words is None:
        return {"mode": "output"}
    if len(words) > _MAX_RESTORED_WORDS:
        return {"mode": mode}
    return {"mode": mode, "source": "paste", "pasted": "\n".join(words)}


def show_effort(recipe: Recipe, effort: Effort | None) -> Values:
    """Show the choice of effort for the recipe `calibrated`, and hide it for others."""
    chosen = (effort or DEFAULTS["effort"]) if recipe == "calibrated" else None
    return {"box": gr.Column(visible=chosen is not None), "effort": gr.Radio(value=chosen)}


def check_for_visitor(request: gr.Request, oauth: gr.OAuthToken | None, *chosen: Any) -> Values:
    """Call `check` with the visitor's token."""
    return check(*chosen, token=visitor_token(oauth, request))


@shows_errors("", lambda message: {"card": failed_card(message).card, "start": gr.Button(interactive=True)})
def check(
    teacher: str | None,
    mode: Mode,
    source: Source,
    pasted: str | None,
    upload: str | None,
    column: str | None,
    language: str,
    size: str,
    dims: str,
    precision: Precision,
    clusters: str,
    remove_pattern: str,
    recipe: Recipe,
    prompt: str,
    dictionary: Dictionary,
    pooling: Pooling,
    effort: Effort | None,
    corpus: str | None,
    *,
    token: str | None = None,
) -> Values:
    """Update the preflight card, start button, token statistics, suggested name and efforts; never raises.

    Invalid settings, as during typing, are replaced by their defaults; `submit` reports the error.
    """

    def parsed(parse: Callable[[str], Any], text: str, default: Any) -> Any:
        try:
            return parse(text)
        except InputError:
            return default

    pattern = parsed(parse_pattern, remove_pattern, None)
    # A malicious regular expression can block the app for hours, so on a Space only workers run custom ones.
    if is_space() and pattern != DEFAULTS["remove_pattern"]:
        pattern = None
    words: Sequence[str] | str | None = None
    hint = "Add words below to see size and time."
    if mode != "output" and source == "language":
        words = language
    elif mode != "output" and source == "corpus":
        words, hint = [], _CORPUS_WORDS
    elif mode != "output":
        try:
            cleaned = read_words(source, pasted, upload, column)
        except M2VError as error:
            cleaned, hint = None, str(error)
        words = [] if cleaned is None else cleaned.words
    wanted = parsed(parse_dims, dims, 256)
    checked = preflight(
        teacher,
        words,
        mode != "word",
        wanted,
        precision,
        parsed(parse_clusters, clusters, None),
        pattern,
        recipe,
        prompt.strip() or None,
        dictionary,
        pooling,
        effort if recipe == "calibrated" else None,  # the hidden field may still have a value
        _corpus_texts(corpus),
        parse_size(size),
        without_words=hint,
        token=token,
    )
    basis = _basis(teacher, mode, source, upload, dims)
    name = default_name(teacher, checked.dim or wanted, basis[-1]) if teacher and teacher.strip() else ""
    return {
        "card": checked.card,
        "start": gr.Button(interactive=checked.can_start),
        "pieces": checked.pieces,
        "proposed": Suggestion(name, basis),
        "effort": gr.Radio(choices=effort_choices(checked.times)),
    }


def _corpus_texts(corpus: str | None) -> list[str] | None:
    """Read the sentences of an uploaded file; None if it is missing or invalid, which `submit` reports."""
    if corpus is None:
        return None
    try:
        return _read_corpus(corpus, Path(corpus).stat().st_mtime_ns)
    except (M2VError, OSError):
        return None


@functools.lru_cache(maxsize=2)
def _read_corpus(path: str, modified_at: int) -> list[str]:
    return read_texts(path, most_characters=current_limits().corpus_characters)


@shows_errors("The search failed")
def search(owner: str | None, job_id: str, query: str) -> str:
    """Show the words of the finished model that are most similar to `query`."""
    if not query.strip():
        return ""
    return neighbors_html(finished_model(owner, job_id).search(query[:10_000], 12), query)
