"""HTML views of search results and explanations."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from m2v_core.exploration.explanation import Explanation
from m2v_core.exploration.neighbors import Neighbor, found_by_both
from pages.components import neighbors_html, notice
from pages.html import Markup, render

_WORDS_HEAD = Markup('<p class="m2v-neighbors-head"><span>Word</span><span>Cosine similarity, -1 to 1</span></p>')


def words_html(found: Sequence[Neighbor], query: str, both: Collection[int] = ()) -> Markup:
    """List similar words under a heading that explains the numbers; a click searches for a word."""
    return (_WORDS_HEAD if found else Markup()) + neighbors_html(found, query, both, is_searchable=True)


def documents_html(
    found: Sequence[Neighbor], query: str, both: Collection[int] = (), places: Sequence[str] = ()
) -> Markup:
    """List documents with their ranks, and cosines as numbers and bars.

    Args:
        both: Ranks of the documents to mark.
        places: Location of each document, shown below it; empty for none.
    """
    if not found:
        return notice("info", "None of these words are in the model's vocabulary", ["Try other words."])
    return render("neighbors.html", kind="documents", neighbors=found, query=query, both=both, places=places)


def comparison_html(
    listed: Callable[[Sequence[Neighbor], str, Collection[int]], Markup],
    found: Sequence[Neighbor],
    by_teacher: Sequence[Neighbor],
    teacher: str,
    query: str,
) -> Markup:
    """Show the results of the static model and its teacher side by side, marking common results.

    Args:
        listed: `words_html` or `documents_html`.
    """
    both = found_by_both(found, by_teacher)
    n_listed = max(len(found), len(by_teacher))
    share = f"{len(both)} of {n_listed} in both" if n_listed else "No results"
    return _columns(listed(found, query, both), teacher, listed(by_teacher, query, both), share)


def pending_comparison_html(found: Markup, teacher: str, message: Markup) -> Markup:
    """Show the results of the static model, and a message instead of the teacher's."""
    return _columns(found, teacher, message)


def _columns(found: Markup, teacher: str, by_teacher: Markup, share: str = "") -> Markup:
    short = re.split(r"[/\\]", teacher.rstrip("/\\"))[-1]
    return render("beside.html", share=share, found=found, teacher=short, by_teacher=by_teacher)


def explanation_html(explanation: Explanation) -> Markup:
    """Show a similarity and its two texts with the contribution of each token."""
    spans = (*explanation.a, *explanation.b)
    largest = max((abs(span.share) for span in spans), default=0.0) or 1.0
    has_unknown = any(span.kind == "unknown" for span in spans)
    return render("explanation.html", explanation=explanation, largest=largest, has_unknown=has_unknown)
