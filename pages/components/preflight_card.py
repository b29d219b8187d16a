"""The preflight card: requirements and predicted result of a run."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from m2v_core.distillation.cache import VectorCache
from m2v_core.distillation.entry_pieces import EntryPieces, entry_pieces
from m2v_core.distillation.preflight import SAMPLED_WORDS, Plan, TeacherFacts, look_up, plan
from m2v_core.distillation.reduction import dims_note
from m2v_core.distillation.settings import DEFAULTS, LIMITS, Dictionary, Effort, PCADims, Pooling, Precision, Recipe
from m2v_core.errors import HubError, M2VError, NotFoundError
from m2v_core.studio.jobs.folder import SHARED_CACHE
from m2v_core.studio.space.settings import current_limits
from pages.components import (
    checked_teacher,
    data_folder,
    format_bytes,
    is_space,
    notice,
    rows_html,
    shows_errors,
    timings,
)
from pages.components.account import has_oauth
from pages.html import Markup, render

_CACHE_SECONDS = 600.0
_MAX_CACHED = 32
_ACCESS = {
    "public": "public on the Hub",
    "gated": "gated on the Hub",
    "private": "private on the Hub",
    "folder": "a folder on this machine",
    "bundled": "bundled, works offline",
}
# Keyed by name and, for restricted teachers, the hash of a token, so that the cache contains no tokens.
_cache: dict[tuple[str, str], tuple[float, TeacherFacts]] = {}

_NOT_TOKENIZED = "Your entries could not be tokenized yet"
_WHY_NOT_TOKENIZED = "The teacher's tokenizer is not available; the card above shows why."

WAITING = (
    '<section class="m2v-preflight" aria-label="Before you start" aria-busy="true"><h2>Before you start</h2>'
    "<p>Checking the teacher</p></section>"
)


def teacher_facts(name: str, token: str | None = None) -> TeacherFacts:
    """Return the metadata of a teacher, with a cache of ten minutes.

    Args:
        name: Result of `checked_teacher`.
        token: The visitor's access token; metadata of restricted teachers is cached only for them.

    Raises:
        M2VError: As in `look_up`.
    """
    own = "" if token is None else hashlib.sha256(token.encode()).hexdigest()
    if token is not None and (cached := _get_cached(name, own)):
        return cached
    try:
        facts = _get_cached(name, "") or _fetch(name, None, "")
    except NotFoundError:
        if token is None:
            raise
    else:
        if token is None or facts.access != "gated":
            return facts
    return _fetch(name, token, own)


def _get_cached(name: str, own: str) -> TeacherFacts | None:
    fetched_at, facts = _cache.get((name, own), (float("-inf"), None))
    return facts if time.monotonic() - fetched_at < _CACHE_SECONDS else None


def _fetch(name: str, token: str | None, own: str) -> TeacherFacts:
    facts = look_up(name, token=token, max_parameters=current_limits().teacher_parameters)
    # Folders are fast to read and may change, and problems may be resolved, so neither is cached.
    if not Path(name).is_dir() and not facts.problems:
        while len(_cache) >= _MAX_CACHED:
            _cache.pop(next(iter(_cache)), None)
        _cache[name, own] = (time.monotonic(), facts)
    return facts


@dataclass(frozen=True)
class Checked:
    """The result of a preflight check.

    Attributes:
        card: The card as HTML.
        can_start: Whether the start button is enabled.
        pieces: How the teacher splits the words, as HTML.
        dim: The dimensions of the model; None if unknown.
        times: "about 2 min" by effort; empty if unknown, or if the recipe has no effort.
    """

    card: str
    can_start: bool = True
    pieces: str = ""
    dim: int | None = None
    times: Mapping[str, str] = field(default_factory=dict)


def failed_card(message: Markup) -> Checked:
    """The result of a failed check; the run may still be started."""
    return Checked(_card(message))


@shows_errors("", failed_card)
def preflight(
    teacher: str | None,
    words: Sequence[str] | str | None,
    use_subword: bool,
    pca_dims: PCADims,
    quantize_to: Precision,
    vocabulary_quantization: int | None,
    token_remove_pattern: str | None,
    recipe: Recipe,
    prompt_name: str | None = None,
    dictionary: Dictionary = DEFAULTS.dictionary,
    pooling: Pooling = DEFAULTS.pooling,
    effort: Effort | None = None,
    corpus: Sequence[str] | None = None,
    vocabulary_size: int | str = DEFAULTS.vocabulary_size,
    without_words: str = "",
    token: str | None = None,
) -> Checked:
    """Check the requirements of a run and predict its result.

    Args:
        teacher: The name in the field.
        words: The vocabulary, possibly automatic; None for the teacher's own tokens; empty if there are no words yet.
        use_subword: As in `distill`, as are the arguments up to `vocabulary_size`.
        without_words: Text of the card if `words` is empty.
        token: The visitor's access token, for private and gated teachers.
    """
    own = () if isinstance(words, str) else words
    unread = Markup() if not own else notice("info", _NOT_TOKENIZED, [_WHY_NOT_TOKENIZED])
    try:
        name = checked_teacher(teacher)
        facts = teacher_facts(name, token)
    except HubError as error:
        # The run may still succeed: the teacher may be cached, or the Hub available again.
        return Checked(_card(notice("info", "This teacher could not be checked", [str(error)])), pieces=unread)
    except M2VError as error:
        may_be_private = isinstance(error, NotFoundError) and token is None and has_oauth()
        sentences = [str(error), *(["If it is private, sign in below."] if may_be_private else [])]
        return Checked(_card(notice("error", "This teacher can't be used", sentences)), can_start=False, pieces=unread)
    if facts.problems:
        why = notice("error", "This teacher can't be distilled here", facts.problems)
        return Checked(_card(why + rows_html(_teacher_rows(facts))), can_start=False, pieces=unread)
    times: dict[str, str] = {}
    try:
        if words is not None and not words:
            planned, hint = None, without_words
        else:
            plan_of = functools.partial(
                plan,
                facts,
                vocabulary=words,
                use_subword=use_subword,
                token_remove_pattern=token_remove_pattern,
                pca_dims=pca_dims,
                quantize_to=quantize_to,
                vocabulary_quantization=vocabulary_quantization,
                recipe=recipe,
                prompt_name=prompt_name,
                dictionary=dictionary,
                pooling=pooling,
                corpus=corpus,
                vocabulary_size=vocabulary_size if isinstance(words, str) else DEFAULTS.vocabulary_size,
                most_words=SAMPLED_WORDS,
                timings=timings(),
                cache=_vector_cache(facts, own),
            )
            planned = plan_of(effort=effort)
            if recipe == "calibrated":
                times = effort_times({effort: plan_of(effort=effort).seconds for effort in LIMITS})
            hint = "The time is an estimate without the download, based on earlier runs on this machine, if any."
            if planned.n_cached:
                hint += f" The vectors of about {planned.n_cached:,} rows are cached and don't need the teacher."
            else:
                hint += " Teacher outputs are cached, so changing settings afterwards takes seconds."
            if planned.is_estimate:
                hint += f" Rows and size are estimated from {SAMPLED_WORDS:,} of the words."
        pieces = entry_pieces(facts, own) if own else None
    except M2VError as error:
        planned, hint, pieces = None, str(error), None
    rows = [*_plan_rows(planned), *_teacher_rows(facts)]
    shared = planned.entries.summary() if planned is not None and planned.entries is not None else None
    read = unread if pieces is None else _pieces_html(pieces, use_subword, shared)
    dim = None if planned is None or planned.is_upper_bound else planned.dim
    note, unreduced = dims_note(pca_dims, dim), ""
    if note is not None:
        title, _, reason = note.partition(": ")
        unreduced = notice("info", title, [reason[0].upper() + reason[1:]])
    cut = "" if planned is None or planned.corpus_note is None else notice("info", "Corpus", [planned.corpus_note])
    card = _card(unreduced + cut + rows_html(rows) + render("<p>{{ hint }}</p>", hint=hint))
    return Checked(card, pieces=read, dim=dim, times=times)


def effort_times(seconds: Mapping[Effort, float | None]) -> dict[str, str]:
    """Format the known times of the efforts."""
    return {effort: about(of_effort) for effort, of_effort in seconds.items() if of_effort is not None}


def _vector_cache(facts: TeacherFacts, words: Sequence[str] | None) -> VectorCache | None:
    """The cache that a run uses; None for restricted teachers, or if it could reveal other users' words."""
    if facts.access not in ("public", "folder", "bundled") or (is_space() and words is not None):
        return None
    return VectorCache(data_folder() / SHARED_CACHE)


def _pieces_html(pieces: EntryPieces, use_subword: bool, shared: str | None) -> Markup:
    sentences = [*([] if shared is None else [shared]), *pieces.summary(use_subword)]
    summary = notice("info", "How the teacher splits your entries", sentences)
    return summary + render("pieces.html", examples=pieces.examples) if pieces.examples else summary


def _teacher_rows(facts: TeacherFacts) -> list[tuple[str, str]]:
    tokenizer = "unknown" if facts.family is None else facts.family
    if facts.family is not None and facts.n_pieces is not None:
        tokenizer += f", {facts.n_pieces:,} tokens"
    parameters = "unknown" if facts.n_parameters is None else short_count(facts.n_parameters)
    if facts.teacher_dim is not None:
        parameters += f", {facts.teacher_dim:,} dimensions"
    where = _ACCESS[facts.access] + (f", {facts.commit[:7]}" if facts.commit else "")
    return [
        ("Teacher", where),
        ("Download", format_bytes(facts.download_bytes) if facts.download_bytes else "none"),
        ("Parameters", parameters),
        ("Max length", "unknown" if facts.max_length is None else f"{facts.max_length:,} tokens"),
        ("Tokenizer", tokenizer),
        ("License", facts.license or "not stated"),
        *([("Prompts", _prompts(facts))] if facts.prompts else []),
        *([("Not applied", ", ".join(facts.modules.not_applied))] if facts.modules.not_applied else []),
    ]


def _prompts(facts: TeacherFacts) -> str:
    """Format the teacher's prompts and the name of the default prompt."""
    shown = [f"{name} ({prompt!r})" for name, prompt in facts.prompts.items()]
    return f"{', '.join(shown)}; default: {facts.default_prompt_name or 'none'}"


def _plan_rows(planned: Plan | None) -> list[tuple[str, str]]:
    if planned is None:
        return [("Model size", "unknown"), ("Time", "unknown"), ("Table", "unknown")]
    bound = "at most " if planned.is_upper_bound else ""
    estimate = "about " if planned.is_estimate else ""
    size = "unknown" if planned.n_bytes is None else (bound or estimate) + format_bytes(planned.n_bytes)
    rows = "unknown" if planned.n_rows is None else f"{estimate}{planned.n_rows:,}"
    dim = "unknown" if planned.dim is None else f"{bound}{planned.dim:,}"
    seconds = "unknown" if planned.seconds is None else about(planned.seconds)
    dictionary = f"WordNet, {planned.n_dictionary_lines:,} lines" if planned.n_dictionary_lines else "none"
    corpus = [("Corpus", f"{planned.n_corpus_texts:,} texts")] if planned.n_corpus_texts else []
    words = [("Vocabulary", planned.vocabulary_summary)] if planned.vocabulary_summary else []
    return [
        ("Model size", size),
        ("Time", seconds),
        ("Table", f"{rows} rows of {dim}"),
        *words,
        ("Dictionary", dictionary),
        *corpus,
    ]


def about(seconds: float) -> str:
    """Format an estimated time: "about 20 s", "about 90 s", "about 3 min", "about 2 h"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 95:
        return f"about {10 * round(seconds / 10)} s"
    if seconds < 3300:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {max(1, round(seconds / 3600))} h"


def short_count(count: int) -> str:
    """Format a large number: "22.7 million"."""
    if count < 1_000_000:
        return f"{count:,}"
    if count < 1_000_000_000:
        return f"{count / 1e6:.1f} million"
    return f"{count / 1e9:.1f} billion"


def _card(body: Markup) -> Markup:
    card = '<section class="m2v-preflight" aria-label="Before you start"><h2>Before you start</h2>{{ body }}</section>'
    return render(card, body=body)
