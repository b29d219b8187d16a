"""Rendering of Jinja templates with autoescaping."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.ext import Extension
from markupsafe import Markup, escape

from pages.glossary import GLOSSARY

__all__ = ["Markup", "escape", "render"]

_TERMS = re.compile(rf"\b({'|'.join(sorted(map(re.escape, GLOSSARY), key=len, reverse=True))})\b", flags=re.IGNORECASE)
_EXPLANATIONS = {term.lower(): explanation for term, explanation in GLOSSARY.items()}


class _JoinedLines(Extension):
    """Joins a template's lines, so that its layout adds no whitespace between tags.

    Line breaks next to a tag or statement are removed, others become a space.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        def joined(line_break: re.Match[str]) -> str:
            before, after = source[: line_break.start()], source[line_break.end() :]
            is_next_to_tag = before.endswith((">", "%}")) or after.startswith(("<", "{%"))
            return "" if is_next_to_tag or (before.endswith("}}") and after.startswith("{{")) else " "

        source = source.strip()
        return re.sub(r"\s*\n\s*", joined, source)


def _with_terms(text: str) -> Markup:
    """Convert plain text to HTML, with explanations from the glossary as tooltips on first occurrences."""
    parts, explained = [], set[str]()
    for place, part in enumerate(_TERMS.split(text)):
        is_new_term = place % 2 == 1 and part.lower() not in explained
        if is_new_term:
            explained.add(part.lower())
        parts.append(
            Markup('<abbr title="{}">{}</abbr>').format(_EXPLANATIONS[part.lower()], part)
            if is_new_term
            else escape(part)
        )
    return Markup("").join(parts)


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=[_JoinedLines],
)
_environment.filters["terms"] = _with_terms
_environment.filters["count"] = "{:,}".format
_environment.filters["fixed"] = "{:.{}f}".format


def render(template: str, **values: Any) -> Markup:
    """Render a template as HTML.

    Args:
        template: The template, or the name of a file in `pages/templates`, ending in ".html".
        values: Values by name. Text is escaped; `Markup`, such as the result of this function, is not.
    """
    return Markup(_template(template).render(**values))


@functools.cache
def _template(template: str) -> Template:
    if template.endswith(".html"):
        return _environment.get_template(template)
    return _environment.from_string(template)
