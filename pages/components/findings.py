"""What a search or an explanation found, as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from m2v_core.exploration.explanation import Explanation
from m2v_core.exploration.neighbors import Neighbor, found_by_both
from pages.components import neighbors_html, notice
from pages.html import Markup, render

_WORDS_HEAD = Markup('<p class="m2v-neighbors-head"><span>Word</span><span>Cosine similarity, -1 to 1</span></p>')


def words_html(found: Sequence[Neighbor], query: str, both: Collection[int] = ()) -> Markup:
    """As `neighbors_html`, under a heading that says what the numbers are."""
    return (_WORDS_HEAD if found else Markup()) + neighbors_html(found, query, both)


def documents_html(
    found: Sequence[Neighbor], query: str, both: Collection[int] = (), places: Sequence[str] = ()
) -> Markup:
    """Documents, each with its place, its cosine as a number and a bar; those in `both` are marked.

    Args:
        both: Ranks of those to mark.
        places: Where each of them lies, to be shown below it; empty for nothing.
    """
    if not found:
        return notice("info", "The model knows no part of this.", ["Try other words."])
    return render("neighbors.html", kind="documents", neighbors=found, query=query, both=both, places=places)


def beside_html(
    listed: Callable[[Sequence[Neighbor], str, Collection[int]], Markup],
    found: Sequence[Neighbor],
    by_teacher: Sequence[Neighbor],
    teacher: str,
    query: str,
) -> Markup:
    """What the static model and its teacher found, side by side, what both found marked.

    Args:
        listed: `words_html` or `documents_html`.
    """
    both = found_by_both(found, by_teacher)
    n_listed = max(len(found), len(by_teacher))
    share = f"{len(both)} of {n_listed} in both" if n_listed else "Neither found anything"
    return _columns(listed(found, query, both), teacher, listed(by_teacher, query, both), share)


def beside_waiting_html(found: Markup, teacher: str, message: Markup) -> Markup:
    """What the static model found, beside why there is nothing of the teacher's."""
    return _columns(found, teacher, message)


def _columns(found: Markup, teacher: str, by_teacher: Markup, share: str = "") -> Markup:
    short = re.split(r"[/\\]", teacher.rstrip("/\\"))[-1]
    return render("beside.html", share=share, found=found, teacher=short, by_teacher=by_teacher)


def explanation_html(explanation: Explanation) -> Markup:
    """A similarity and its two texts, each piece with its share."""
    spans = (*explanation.a, *explanation.b)
    largest = max((abs(span.share) for span in spans), default=0.0) or 1.0
    has_unknown = any(span.kind == "unknown" for span in spans)
    return render("explanation.html", explanation=explanation, largest=largest, has_unknown=has_unknown)
