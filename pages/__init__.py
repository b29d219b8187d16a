"""The pages of the app, in the order of the navigation bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pages import api, compare, distill, evaluate, explore, home, library, publish


@dataclass(frozen=True)
class Page:
    """A page of the app.

    Attributes:
        title: Name in the navigation bar.
        path: URL path; `/` for the first page.
        build: Adds the page to the current Blocks context.
    """

    title: str
    path: str
    build: Callable[[], None]


PAGES = (
    Page("Home", "/", home.build),
    Page("Distill", "/distill", distill.build),
    Page("Explore", "/explore", explore.build),
    Page("Compare", "/compare", compare.build),
    Page("Evaluate", "/evaluate", evaluate.build),
    Page("Publish", "/publish", publish.build),
    Page("Library", "/library", library.build),
)

__all__ = ["PAGES", "Page", "api"]
