"""Distill: teacher, vocabulary and settings on one side, the run and what came out on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

import gradio as gr

from m2v_core.bulk.run import read_texts
from m2v_core.distillation.settings import Dictionary, Precision, Recipe
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
    POOLINGS,
    PRECISIONS,
    RECIPES,
    WEIGHTINGS,
    parse_clusters,
    parse_dims,
    parse_pattern,
    parsed_settings,
    restored_settings,
)
from pages.components.job_panel import build_job_panel, find_job, finished_model
from pages.components.model_name import build_name_box, propose, rule_html
from pages.components.own_words import Source, clean_words, lint, lint_file, read_words, usable_words
from pages.components.preflight_card import WAITING, failed_card, preflight, teacher_facts
from pages.components.teacher_search import connect_search
from pages.gradio_patches import current_page, current_session

Mode = Literal["output", "word", "subword"]

# The first line of each is its name; the style sheet sets it apart.
_MODES: list[tuple[str, Mode]] = [
    ("Subwords of the teacher\nReads any text and needs nothing from you. The place to begin.", "output"),
    (
        "Subwords and my words\nYour words and phrases get vectors of their own; other text still works.",
        "subword",
    ),
    ("My words only\nThe smallest model. Text outside your list counts for nothing.", "word"),
]
_MAX_RESTORED_WORDS = 50_000  # more would choke the text box
_MAX_STARTED = 1000
# The open page that started a job: its form says already what the job does, or more.
_started: dict[str, str | None] = {}
_ADVANCED = "Advanced settings"
# What the pre-flight card depends on.
_SHAPING = ("dims", "precision", "clusters", "remove_pattern", "recipe", "prompt", "dictionary")


def build() -> None:
    """The page, in the current Blocks context."""
    page_head(
        "Distill",
        "A teacher reads its vocabulary once. What is left is a table of vectors: small, fast, and without the "
        "teacher.",
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
                        [("Paste words", "paste"), ("Upload a file", "upload")],
                        value="paste",
                        label="Your words, the most frequent first",
                        elem_classes="m2v-switch",
                    )
                    pasted = gr.Textbox(
                        lines=6,
                        max_lines=12,
                        label="One word or phrase on each line",
                        placeholder="heart attack\nmyocardial infarction\naspirin",
                        elem_classes="m2v-paste",
                    )
                    with gr.Column(visible=False) as file_box:
                        upload = upload_box()
                        column = build_column_picker("words")
                    report = html(css="m2v-report")
                    clean = gr.Button("Clean", visible=False, elem_classes="m2v-clean")
                    pieces = html(css="m2v-reading")
                    is_cleaned = gr.State(False)
            with gr.Accordion(_ADVANCED, open=False, elem_classes="m2v-card m2v-advanced") as advanced:
                back = gr.Button("Back to the defaults", size="sm", visible=False, elem_classes="m2v-back")
                recipe = gr.Radio(RECIPES, value=DEFAULTS["recipe"], label="Recipe", elem_classes="m2v-choices")
                sentences = "Sentences to fit the model to: a thousand or more, if you have them"
                corpus = upload_box(sentences, [".txt", ".csv", ".tsv", ".jsonl", ".parquet"], height=150)

                def typed(name: str, label: str, info: str, **how: Any) -> None:
                    settings[name] = gr.Textbox(DEFAULTS[name], label=label, info=info, **how)

                def picked(name: str, label: str, info: str, choices: list[tuple[str, str]]) -> None:
                    settings[name] = gr.Dropdown(choices, value=DEFAULTS[name], label=label, info=info)

                with gr.Row():
                    # No list to pick from: on Enter it would take the first entry that holds what was typed.
                    typed("dims", "Dimensions", "Or a share of variance, 0.9; none for all.")
                    picked("precision", "Precision", "int8 halves the size once more.", PRECISIONS)
                with gr.Row():
                    picked("weighting", "Weighting", "How much more rare words count.", WEIGHTINGS)
                    typed("sif_coefficient", "SIF coefficient", "Smaller: common words count less.")
                with gr.Row():
                    picked("pooling", "Pooling", "What each vector is taken from.", POOLINGS)
                    picked("device", "Device", "Where the teacher runs.", DEVICES)
                with gr.Row():
                    typed("clusters", "Shared rows", "Empty: each token has its own row.", placeholder="none")
                    typed("remove_pattern", "Tokens to leave out", "A regular expression, or empty.")
                with gr.Row():
                    typed("prompt", "Prompt", "One of the teacher's; empty for its default.", max_lines=1)
                    picked("dictionary", "Dictionary", "Definitions that the model is fitted to.", DICTIONARIES)
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            name, name_status = build_name_box()
            proposed, suggested = gr.State(""), gr.State("")
            panel = build_job_panel("Distill")
            with panel.result:
                query = query_box("Find similar words", "Type a word and press Enter")
                neighbors = html(css="m2v-found")

    settings["recipe"] = recipe
    words = {"source": source, "pasted": pasted, "upload": upload, "column": column}
    form = {"teacher": teacher, "mode": mode, **words}
    panel.connect(
        submit, form | {"name": name, "is_cleaned": is_cleaned, "corpus": corpus} | settings, with_visitor=True
    )

    linted: list[Any] = [column, report, clean, is_cleaned]
    on(mode.change, lambda chosen: gr.Column(visible=chosen != "output"), mode, words_box)
    on(
        source.change,
        lambda chosen: (gr.Textbox(visible=chosen == "paste"), gr.Column(visible=chosen == "upload")),
        source,
        [pasted, file_box],
    )
    # Not `input`, which a paste with the mouse does not fire.
    on([pasted.change, source.change], lint, [*words.values()], linted)
    on([upload.upload, upload.clear], lint_file, upload, linted)
    on(column.input, lint, [*words.values()], linted)
    on(clean.click, clean_words, [*words.values()], [pasted, report, clean, is_cleaned])
    shaping = [*form.values(), *(settings[name] for name in _SHAPING)]
    changes = [current_page().load, *(component.change for component in shaping)]
    checked = on(changes, check_for_visitor, shaping, [card, panel.start, pieces, proposed], latest=True)
    on(checked.then, propose, [name, proposed, suggested], [name, suggested])
    on(name.change, rule_html, name, name_status)
    connect_search(teacher)
    on(query.submit, search, [panel.owner, panel.job_id, query], neighbors, api_name="search_result")
    noted = {**settings, "advanced": advanced, "back": back}
    on(back.click, lambda: {**DEFAULTS, **_note_on(DEFAULTS)}, None, noted)
    restored = noted | {"teacher": teacher, "mode": mode, "source": source, "pasted": pasted, "message": panel.message}
    on(panel.job_id.change, restore, [panel.owner, panel.job_id, pasted, upload], restored)
    # Words found in one model say nothing of the next.
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
    **settings: str,
) -> str:
    """The id of a new job that distils `teacher` with these settings, as `parsed_settings` takes them.

    Raises:
        M2VError: A setting or the name can't be used, the vocabulary has problems, or the queue is full.
    """
    teacher = checked_teacher(teacher)
    parameters = {"model_name": teacher, **parsed_settings(settings)}
    words_file = upload if mode != "output" and source == "upload" else None
    name = check_model_name(name.strip() or default_name(teacher, parameters["pca_dims"], words_file))
    parameters["name"] = name
    texts: dict[str, list[str]] = {}
    if mode != "output":
        parameters["use_subword"] = mode == "subword"
        texts["vocabulary"] = usable_words(source, pasted, upload, column, is_cleaned)
    if corpus is not None:
        if settings["recipe"] == "model2vec":
            raise InputError("The recipe Model2Vec reads no sentences. Choose another recipe, or take the file away.")
        texts["corpus"] = read_texts(corpus, most_characters=current_limits().corpus_characters)
        if not texts["corpus"]:
            raise InputError("The file of sentences holds none that can be read. Give one a line, or take it away.")
    with suppress(M2VError):  # a teacher that can't be looked up now states nothing, and nor does the card then
        if license := teacher_facts(teacher, who.token).license:
            parameters["license"] = license
    spec = JobSpec("distill", parameters, texts, name)
    job_id = job_store().submit(spec, owner, secrets=_secrets_to_read(teacher, who))
    while len(_started) >= _MAX_STARTED:
        _started.pop(next(iter(_started)), None)
    _started[job_id] = current_session()
    return job_id


def _secrets_to_read(teacher: str, who: Visitor) -> dict[str, str]:
    """The token, where only who has it may read the teacher."""
    if who.token is None or not may_need_token(who):
        return {}
    # Without an answer the run uses the shared cache, where a public teacher may be; with the token it would have an
    # empty one. A private teacher then ends the run with a message that says so.
    with suppress(HubError):
        if teacher_facts(teacher, who.token).access in ("private", "gated"):
            return {"hf_token": who.token}
    return {}


def _is_begun_here(job_id: str) -> bool:
    session = current_session()
    return session is not None and _started.get(job_id) == session


@shows_errors("The settings of the last run could not be shown", lambda message: {"message": message})
def restore(owner: str | None, job_id: str, pasted: str | None, upload: str | None) -> Values:
    """Teacher, settings and words of a job; so one goes on after a refresh or from Home.

    Words that are in the boxes already stay, and of a job that this page started all does.
    """
    job = find_job(owner, job_id)
    if job is None or owner is None or _is_begun_here(job_id):
        return {}
    settings = restored_settings(job.parameters)
    words = {} if pasted or upload else _restored_words(owner, job)
    return {"teacher": job.parameters["model_name"], **settings, **_note_on(settings), **words}


def _note_on(settings: Mapping[str, str]) -> Values:
    """The heading of the settings, which are folded away: it tells where they are another run's; and the way back."""
    is_other = any(value != DEFAULTS[name] for name, value in settings.items())
    label = f"{_ADVANCED}: those of your last run" if is_other else _ADVANCED
    return {"advanced": gr.Accordion(label=label), "back": gr.Button(visible=is_other)}


def _restored_words(owner: str, job: Job) -> Values:
    """Mode, source and words."""
    try:
        words = job_store().texts(job.id, owner).get("vocabulary")
    except NotFoundError:
        return {}
    if words is None:
        return {"mode": "output"}
    mode: Mode = "subword" if job.parameters.get("use_subword", True) else "word"
    if len(words) > _MAX_RESTORED_WORDS:
        return {"mode": mode}
    return {"mode": mode, "source": "paste", "pasted": "\n".join(words)}


def check_for_visitor(request: gr.Request, oauth: gr.OAuthToken | None, *chosen: Any) -> tuple[str, Any, str, str]:
    """As `check`, for who is at the page."""
    return check(*chosen, token=visitor_token(oauth, request))


@shows_errors("", lambda message: (*failed_card(message)[:3], ""))
def check(
    teacher: str | None,
    mode: Mode,
    source: Source,
    pasted: str | None,
    upload: str | None,
    column: str | None,
    dims: str,
    precision: Precision,
    clusters: str,
    remove_pattern: str,
    recipe: Recipe,
    prompt: str,
    dictionary: Dictionary,
    *,
    token: str | None = None,
) -> tuple[str, Any, str, str]:
    """The pre-flight card, whether to enable the button, how the teacher reads the words, and a name; never raises.

    Settings that can't be used yet, as while one types, count as their defaults: pressing the button says why.
    """

    def parsed(parse: Callable[[str], Any], text: str, default: Any) -> Any:
        try:
            return parse(text)
        except InputError:
            return default

    pattern = parsed(parse_pattern, remove_pattern, None)
    # A stranger's regular expression can take hours, and the whole app with it; a job's worker alone may run it.
    if is_space() and pattern != DEFAULTS["remove_pattern"]:
        pattern = None
    words: list[str] | None = None
    hint = "Add words below to see size and time."
    if mode != "output":
        try:
            cleaned = read_words(source, pasted, upload, column)
        except M2VError as error:
            cleaned, hint = None, str(error)
        words = [] if cleaned is None else cleaned.words
    wanted = parsed(parse_dims, dims, 256)
    card, start, read, dim = preflight(
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
        without_words=hint,
        token=token,
    )
    words_file = upload if mode != "output" and source == "upload" else None
    name = default_name(teacher, dim or wanted, words_file) if teacher and teacher.strip() else ""
    return card, start, read, name


@shows_errors("This search did not work")
def search(owner: str | None, job_id: str, query: str) -> str:
    """The words of the finished model that are most like `query`, as HTML."""
    if not query.strip():
        return ""
    return neighbors_html(finished_model(owner, job_id).search(query[:10_000], 12), query)
