"""Hooks of the documentation site: pages from files outside `docs`, and formulas as MathML.

Source: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
INCLUDED = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "experiments.md": "benchmarks/quality.md",
}
# pymdownx.arithmatex writes formulas like this.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', flags=re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the included pages, with links that lead to pages."""
    for page, source in INCLUDED.items():
        text = re.sub(r"\]\((?:\.\./)?docs/", "](", (ROOT / source).read_text(encoding="utf-8"))
        for target, included in INCLUDED.items():
            text = text.replace(f"]({included})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to the included files lead to their pages."""
    depth = page.file.src_uri.count("/")
    for target, source in INCLUDED.items():
        markdown = markdown.replace("](" + "../" * (depth + 1) + source, "](" + "../" * depth + target)
    return markdown


def on_page_content(content: str, **_: object) -> str:
    """Replace each formula in LaTeX by MathML, which browsers display without a script."""

    def mathml(found: re.Match[str]) -> str:
        return convert(html.unescape(found[3]).strip(), display="inline" if found[2] == "(" else "block")

    return _FORMULA.sub(mathml, content)
