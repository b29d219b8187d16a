"""Caches with limits."""

from __future__ import annotations

import time

from m2v_core.storage.cache import RecentlyUsed, select_evictions


def test_recently_used_items_stay_and_the_first_of_two_is_kept():
    cache: RecentlyUsed[str, int] = RecentlyUsed(2)
    assert cache.put("a", 1) == 1 and cache.put("a", 2) == 1
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert "b" not in cache and cache.get("b") is None and cache.get("a") == 1
    cache.remove("a")
    assert cache.get("a") is None


def test_select_evictions():
    now = time.time()
    entries = [(now - 5, "new", 10), (now - 500, "old", 10), (now - 50, "middle", 10)]
    assert select_evictions(entries) == select_evictions(entries, max_size=30) == []
    assert select_evictions(entries, max_size=29) == ["old"]
    assert select_evictions(entries, max_size=29, held=11) == ["old", "middle"]
    assert select_evictions(entries, max_size=0, in_use_seconds=10) == ["old", "middle"]
    assert select_evictions(entries, max_age_seconds=20) == ["old", "middle"]
    assert select_evictions(entries, max_size=20, max_age_seconds=20, in_use_seconds=1000) == ["old", "middle"]
