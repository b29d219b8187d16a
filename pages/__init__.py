"""The pages of the app, in the order of the navigation bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pages import api, compare, distill, evaluate, explore, home, library, publish


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        title: Its name in the navigation bar.
        path: Its address, `/` for the first.
        build: Lays it out in the current Blocks context.
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
