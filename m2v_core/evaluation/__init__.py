"""Measures the quality of static models, and defines the interface of encoders to compare.

The names in Model2Vec's README are also available here, resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2v_core.evaluation.leaderboard import (
        CustomMTEB,
        get_tasks,
        make_leaderboard,
        parse_mteb_results,
        summarize_results,
    )

__all__ = ["CustomMTEB", "get_tasks", "make_leaderboard", "parse_mteb_results", "summarize_results"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'm2v_core.evaluation' has no attribute {name!r}")
    return getattr(import_module("m2v_core.evaluation.leaderboard"), name)
