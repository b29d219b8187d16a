"""HTML from Jinja templates, which escape every value that isn't HTML already."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.ext import Extension
from markupsafe import Markup, escape

__all__ = ["Markup", "escape", "render"]


class _JoinedLines(Extension):
    """Joins a template's lines, so that its layout adds no white space between tags.

    A line break beside a tag or a statement counts for nothing, any other as a space.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        def joined(line_break: re.Match[str]) -> str:
            before, after = source[: line_break.start()], source[line_break.end() :]
            is_beside_tag = before.endswith((">", "%}")) or after.startswith(("<", "{%"))
            return "" if is_beside_tag or (before.endswith("}}") and after.startswith("{{")) else " "

        source = source.strip()
        return re.sub(r"\s*\n\s*", joined, source)


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=[_JoinedLines],
)
_environment.filters["count"] = "{:,}".format
_environment.filters["fixed"] = "{:.{}f}".format


def render(template: str, **values: Any) -> Markup:
    """Return a template with its values filled in, as HTML.

    Args:
        template: The template itself, or the name of a file in `pages/templates`, which ends with ".html".
        values: By name. Text is escaped; `Markup`, such as this function returns, is not.
    """
    return Markup(_template(template).render(**values))


@functools.cache
def _template(template: str) -> Template:
    if template.endswith(".html"):
        return _environment.get_template(template)
    return _environment.from_string(template)
