"""Keeping the Hub's cache within bounds, on a machine that strangers share."""

from __future__ import annotations

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from m2v_core.storage.cache import surplus

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
    repos = [(repo.repo_path.stat().st_mtime, repo, repo.size_on_disk) for repo in cache.repos]
    removed = surplus(repos, max_size=max_bytes, in_use_seconds=seconds_in_use)
    if removed:
        cache.delete_revisions(*(revision.commit_hash for repo in removed for revision in repo.revisions)).execute()
    return [repo.repo_id for repo in removed]
