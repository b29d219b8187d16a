"""Limits the size of the Hub's cache on a shared machine."""

from __future__ import annotations

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from m2v_core.storage.cache import select_evictions

_SECONDS_IN_USE = 3600.0


def trim_hub_cache(max_bytes: int, seconds_in_use: float = _SECONDS_IN_USE) -> list[str]:
    """Evict the least recently used repositories from the cache until the rest fits, and return their names.

    Repositories that this or another process has just used are kept, even if the rest then doesn't fit. Intended for
    Spaces: on a personal machine, other programs share the cache.

    Args:
        max_bytes: Maximum total size of the repositories in this process's cache.
        seconds_in_use: How long a use counts; `hub.download` records uses.
    """
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    repos = [(repo.repo_path.stat().st_mtime, repo, repo.size_on_disk) for repo in cache.repos]
    removed = select_evictions(repos, max_size=max_bytes, in_use_seconds=seconds_in_use)
    if removed:
        cache.delete_revisions(*(revision.commit_hash for repo in removed for revision in repo.revisions)).execute()
    return [repo.repo_id for repo in removed]
