"""What a search or an explanation found, as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from html import escape

from m2v_core.exploration.agreement import found_by_both
from m2v_core.exploration.explanation import Explanation, Span
from m2v_core.exploration.neighbors import Neighbor
from pages.components import both_mark, neighbors_html, notice


def words_html(found: Sequence[Neighbor], query: str, both: Collection[int] = ()) -> str:
    """As `neighbors_html`, under a heading that says what the numbers are."""
    head = '<p class="m2v-neighbors-head"><span>Word</span><span>Cosine similarity, -1 to 1</span></p>'
    return f"{head if found else ''}{neighbors_html(found, query, both)}"


def documents_html(
    found: Sequence[Neighbor], query: str, both: Collection[int] = (), places: Sequence[str] = ()
) -> str:
    """Documents, each with its place, its cosine as a number and a bar; those in `both` are marked.

    Args:
        found: The documents.
        query: What was asked.
        both: Ranks of those to mark.
        places: Where each of them lies, to be shown below it; empty for nothing.
    """
    if not found:
        return notice("info", "The model knows no part of this.", ["Try other words."])
    below = [f'<small class="m2v-source">{escape(place)}</small>' for place in places] or [""] * len(found)
    rows = "".join(
        f'<li{both_mark(neighbor, both)[0]}><span class="m2v-place m2v-number">{neighbor.rank + 1:,}</span>'
        f'<div><span class="m2v-document">{escape(neighbor.text)}{both_mark(neighbor, both)[1]}</span>{source}</div>'
        '<span class="m2v-meter" aria-hidden="true">'
        f'<span style="width:{100 * max(0.0, neighbor.similarity):.1f}%"></span></span>'
        f'<span class="m2v-number">{neighbor.similarity:.2f}</span></li>'
        for neighbor, source in zip(found, below, strict=True)
    )
    return f'<ol class="m2v-documents" aria-label="Similar to {escape(query)}">{rows}</ol>'


def beside_html(
    listed: Callable[[Sequence[Neighbor], str, Collection[int]], str],
    found: Sequence[Neighbor],
    by_teacher: Sequence[Neighbor],
    teacher: str,
    query: str,
) -> str:
    """What the static model and its teacher found, side by side, what both found marked.

    Args:
        listed: `words_html` or `documents_html`.
        found: By the static model.
        by_teacher: By its teacher.
        teacher: What it is called.
        query: What was asked.
    """
    both = found_by_both(found, by_teacher)
    n_listed = max(len(found), len(by_teacher))
    share = f"{len(both)} of {n_listed} in both" if n_listed else "Neither found anything"
    return _columns(
        f'<p class="m2v-overlap" role="status"><strong>{share}</strong>'
        '<span class="m2v-both-key">marked like this</span></p>',
        listed(found, query, both),
        teacher,
        listed(by_teacher, query, both),
    )


def beside_waiting_html(found: str, teacher: str, message: str) -> str:
    """What the static model found, beside why there is nothing of the teacher's."""
    return _columns('<p class="m2v-overlap"></p>', found, teacher, message)


def _columns(head: str, found: str, teacher: str, by_teacher: str) -> str:
    short = escape(re.split(r"[/\\]", teacher.rstrip("/\\"))[-1])
    return (
        f'{head}<div class="m2v-beside"><section aria-label="Static model"><h3>Static model</h3>{found}</section>'
        f'<section aria-label="Teacher"><h3>Teacher <small>{short}</small></h3>{by_teacher}</section></div>'
    )


def explanation_html(explanation: Explanation) -> str:
    """A similarity and its two texts, each piece with its share."""
    largest = max((abs(span.share) for span in (*explanation.a, *explanation.b)), default=0.0) or 1.0
    texts = "".join(
        f'<figure class="m2v-shares"><figcaption>{title}</figcaption>'
        f"<p>{''.join(_span_html(span, largest) for span in spans)}</p></figure>"
        for title, spans in (("One text", explanation.a), ("Another", explanation.b))
    )
    has_unknown = any(span.kind == "unknown" for span in (*explanation.a, *explanation.b))
    unknown = " Dashed pieces are unknown to the model and count for nothing." if has_unknown else ""
    return (
        f'<div class="m2v-score"><span class="m2v-number">{explanation.similarity:.2f}</span>'
        "<p>Cosine of the two texts, at most 1. Under each piece stands its share: those of either text sum to "
        f"the score. Green raises it, red lowers it.{unknown}</p></div>{texts}"
    )


def _span_html(span: Span, largest: float) -> str:
    text = escape(span.text)
    if span.kind == "between":
        return f'<span class="m2v-gap">{text}</span>'
    if span.kind == "unread":
        shown = escape(span.text[:200]) + ("…" if len(span.text) > 200 else "")
        return f'<span class="m2v-unread" title="Beyond what the model reads of a text">{shown}</span>'
    if span.kind == "unknown":
        return f'<span class="m2v-piece m2v-unknown"><span>{text}</span><small>unknown</small></span>'
    strength = abs(span.share) / largest
    sign = "down" if span.share < 0 else "up"
    return (
        f'<span class="m2v-piece m2v-{sign}" style="--strength:{strength:.3f}"><span>{text}</span>'
        f'<small class="m2v-number">{span.share:.2f}</small></span>'
    )
