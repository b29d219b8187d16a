"""The pre-flight card: what a run would need and give, before it is started."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from m2v_core.distillation.entry_pieces import EntryPieces, entry_pieces
from m2v_core.distillation.preflight import SAMPLED_WORDS, Plan, TeacherFacts, look_up, plan
from m2v_core.distillation.reduction import dims_note
from m2v_core.distillation.settings import DEFAULTS, Dictionary, PCADims, Precision, Recipe
from m2v_core.errors import HubError, M2VError, NotFoundError
from m2v_core.studio.space.settings import current_limits
from pages.components import checked_teacher, format_bytes, notice, rows_html, shows_errors
from pages.components.account import has_oauth
from pages.html import Markup, render

# A Space has two cores and 16 GB for everyone.
_KEPT_SECONDS = 600.0
_MAX_KEPT = 32
_ACCESS = {
    "public": "public on the Hub",
    "gated": "gated on the Hub",
    "private": "private on the Hub",
    "folder": "a folder on this machine",
    "bundled": "bundled, works offline",
}
# By name and, of what only some may read, the hash of a token, so that no token stays in memory for this.
_kept: dict[tuple[str, str], tuple[float, TeacherFacts]] = {}

_UNREAD = "How the teacher reads your entries is not known yet"
_WHY_UNREAD = "It needs a teacher whose tokenizer can be had; the card above says what is in the way."

WAITING = (
    '<section class="m2v-preflight" aria-label="Before you start" aria-busy="true"><h2>Before you start</h2>'
    "<p>Looking the teacher up</p></section>"
)


def teacher_facts(name: str, token: str | None = None) -> TeacherFacts:
    """What is known of a teacher; for ten minutes it is not asked for again.

    Args:
        name: As `checked_teacher` returned it.
        token: Of who asks: then what only they may read is found too, and is kept for them alone.

    Raises:
        M2VError: As `look_up`.
    """
    own = "" if token is None else hashlib.sha256(token.encode()).hexdigest()
    if token is not None and (known := _known(name, own)):
        return known
    try:
        facts = _known(name, "") or _asked(name, None, "")
    except NotFoundError:
        if token is None:
            raise
    else:
        if token is None or facts.access != "gated":
            return facts
    return _asked(name, token, own)


def _known(name: str, own: str) -> TeacherFacts | None:
    asked_at, facts = _kept.get((name, own), (float("-inf"), None))
    return facts if time.monotonic() - asked_at < _KEPT_SECONDS else None


def _asked(name: str, token: str | None, own: str) -> TeacherFacts:
    facts = look_up(name, token=token, max_parameters=current_limits().teacher_parameters)
    # A folder may change, and is read at once; a gate may open.
    if not Path(name).is_dir() and not facts.problems:
        while len(_kept) >= _MAX_KEPT:
            _kept.pop(next(iter(_kept)), None)
        _kept[name, own] = (time.monotonic(), facts)
    return facts


def failed_card(message: Markup) -> tuple[str, Any, str, int | None]:
    """What `preflight` returns where something went wrong; pressing the button may work all the same."""
    return _card(message), gr.Button(interactive=True), "", None


@shows_errors("", failed_card)
def preflight(
    teacher: str | None,
    words: Sequence[str] | None,
    use_subword: bool,
    pca_dims: PCADims,
    quantize_to: Precision,
    vocabulary_quantization: int | None,
    token_remove_pattern: str | None,
    recipe: Recipe,
    prompt_name: str | None = None,
    dictionary: Dictionary = DEFAULTS.dictionary,
    without_words: str = "",
    token: str | None = None,
) -> tuple[str, Any, str, int | None]:
    """The card as HTML, whether the start button can be pressed, how the teacher reads the words, as HTML, and the dim.

    The last is None where it is not known beforehand.

    Args:
        teacher: As it stands in the box.
        words: The words to distil; None for the teacher's own pieces; empty while there are none yet.
        use_subword: As in `distill`, like those up to `dictionary`.
        without_words: What the card says where `words` are empty.
        token: Of who asks, for private and gated teachers.
    """
    can_start, cannot_start = gr.Button(interactive=True), gr.Button(interactive=False)
    unread = Markup() if not words else notice("info", _UNREAD, [_WHY_UNREAD])
    try:
        name = checked_teacher(teacher)
        facts = teacher_facts(name, token)
    except HubError as error:
        # It may be in the cache, or the Hub may be back by the time of the run.
        return _card(notice("info", "Nothing is known of this teacher yet", [str(error)])), can_start, unread, None
    except M2VError as error:
        may_be_private = isinstance(error, NotFoundError) and token is None and has_oauth()
        said = [str(error), *(["Is it private? Sign in below."] if may_be_private else [])]
        return _card(notice("error", "This teacher can't be used", said)), cannot_start, unread, None
    if facts.problems:
        why = notice("error", "This teacher can't be distilled here", facts.problems)
        return _card(why + rows_html(_teacher_rows(facts))), cannot_start, unread, None
    try:
        if words is not None and not words:
            planned, hint = None, without_words
        else:
            planned = plan(
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
                most_words=SAMPLED_WORDS,
            )
            hint = (
                "Time is an estimate for the first run on two CPU cores, without the download. What the teacher says "
                "is kept: other settings then take seconds."
            )
            if planned.is_estimate:
                hint += f" Rows and size are told by {SAMPLED_WORDS:,} of your words."
        pieces = entry_pieces(facts, words) if words else None
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
    return _card(unreduced + rows_html(rows) + render("<p>{{ hint }}</p>", hint=hint)), can_start, read, dim


def _pieces_html(pieces: EntryPieces, use_subword: bool, shared: str | None) -> Markup:
    said = [*([] if shared is None else [shared]), *pieces.summary(use_subword)]
    told = notice("info", "How the teacher reads your entries", said)
    return told + render("pieces.html", examples=pieces.examples) if pieces.examples else told


def _teacher_rows(facts: TeacherFacts) -> list[tuple[str, str]]:
    tokenizer = "unknown" if facts.family is None else facts.family
    if facts.family is not None and facts.n_pieces is not None:
        tokenizer += f", {facts.n_pieces:,} pieces"
    parameters = "unknown" if facts.n_parameters is None else short_count(facts.n_parameters)
    if facts.teacher_dim is not None:
        parameters += f", {facts.teacher_dim:,} wide"
    where = _ACCESS[facts.access] + (f", {facts.commit[:7]}" if facts.commit else "")
    return [
        ("Teacher", where),
        ("Download", format_bytes(facts.download_bytes) if facts.download_bytes else "none"),
        ("Parameters", parameters),
        ("Reads up to", "unknown" if facts.max_length is None else f"{facts.max_length:,} tokens"),
        ("Tokenizer", tokenizer),
        ("Licence", facts.license or "not stated"),
        *([("Prompts", _prompts(facts))] if facts.prompts else []),
        *([("Not applied", ", ".join(facts.modules.not_applied))] if facts.modules.not_applied else []),
    ]


def _prompts(facts: TeacherFacts) -> str:
    """The names of the teacher's prompts, each with its text, and which is the default."""
    shown = [f"{name} ({prompt!r})" for name, prompt in facts.prompts.items()]
    return f"{', '.join(shown)}; default: {facts.default_prompt_name or 'none'}"


def _plan_rows(planned: Plan | None) -> list[tuple[str, str]]:
    if planned is None:
        return [("Model size", "not known yet"), ("Time", "not known yet"), ("Table", "not known yet")]
    bound = "at most " if planned.is_upper_bound else ""
    estimate = "about " if planned.is_estimate else ""
    size = "unknown" if planned.n_bytes is None else (bound or estimate) + format_bytes(planned.n_bytes)
    rows = "unknown" if planned.n_rows is None else f"{estimate}{planned.n_rows:,}"
    dim = "unknown" if planned.dim is None else f"{bound}{planned.dim:,}"
    seconds = "unknown" if planned.seconds is None else about(planned.seconds)
    dictionary = f"WordNet, {planned.n_dictionary_lines:,} lines" if planned.n_dictionary_lines else "none"
    return [("Model size", size), ("Time", seconds), ("Table", f"{rows} rows of {dim}"), ("Dictionary", dictionary)]


def about(seconds: float) -> str:
    """A time that is no more than an estimate: "about 20 s", "about 3 min", "about 2 h"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 3300:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {max(1, round(seconds / 3600))} h"


def short_count(count: int) -> str:
    """A large number as people say it: "22.7 million"."""
    if count < 1_000_000:
        return f"{count:,}"
    if count < 1_000_000_000:
        return f"{count / 1e6:.1f} million"
    return f"{count / 1e9:.1f} billion"


def _card(body: Markup) -> Markup:
    card = '<section class="m2v-preflight" aria-label="Before you start"><h2>Before you start</h2>{{ body }}</section>'
    return render(card, body=body)
