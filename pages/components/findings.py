"""What a search or an explanation found, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from m2v_core.exploration.explanation import Explanation, Span
from m2v_core.exploration.neighbors import Neighbor
from pages.components import notice


def documents_html(found: Sequence[Neighbor], query: str) -> str:
    """Documents, each with its place, its cosine as a number and a bar."""
    if not found:
        return notice("info", "The model knows no part of this.", ["Try other words."])
    rows = "".join(
        f'<li><span class="m2v-place m2v-number">{neighbor.rank + 1:,}</span>'
        f'<span class="m2v-document">{escape(neighbor.text)}</span>'
        '<span class="m2v-meter" aria-hidden="true">'
        f'<span style="width:{100 * max(0.0, neighbor.similarity):.1f}%"></span></span>'
        f'<span class="m2v-number">{neighbor.similarity:.2f}</span></li>'
        for neighbor in found
    )
    return f'<ol class="m2v-documents" aria-label="Similar to {escape(query)}">{rows}</ol>'


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
