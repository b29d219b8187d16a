"""Keeping the Hub's cache within bounds, on a machine that strangers share."""

from __future__ import annotations

import time

from huggingface_hub import CachedRepoInfo, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

_SECONDS_IN_USE = 3600.0


def trim_hub_cache(max_bytes: int, seconds_in_use: float = _SECONDS_IN_USE) -> list[str]:
    """The repositories removed from the cache: those not used for longest, until the rest fits.

    What this process or another has used a moment ago stays, even if the rest then doesn't fit. It is for a Space: on
    one's own machine the cache belongs to other programs too.

    Args:
        max_bytes: Of all repositories in the cache of this process's environment.
        seconds_in_use: How long a use counts; see `hub.download`, which notes it.
    """
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    n_bytes = cache.size_on_disk
    removed: list[str] = []
    doomed: list[str] = []
    for repo in sorted(cache.repos, key=_used_at):
        if n_bytes <= max_bytes or time.time() - _used_at(repo) < seconds_in_use:
            break
        n_bytes -= repo.size_on_disk
        removed.append(repo.repo_id)
        doomed += [revision.commit_hash for revision in repo.revisions]
    if doomed:
        cache.delete_revisions(*doomed).execute()
    return removed


def _used_at(repo: CachedRepoInfo) -> float:
    return repo.repo_path.stat().st_mtime
