"""Metadata of a repository on the Hub, without downloading weights."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

from m2v_core.errors import NotFoundError
from m2v_core.hub.download import hub_errors, is_repo_id

Access = Literal["public", "gated", "private"]

_TEACHER_TAG = "sentence-transformers"
_MAX_METADATA_BYTES = 64 << 20  # the largest tokenizer.json in use has half of that


@dataclass(frozen=True)
class RepoFacts:
    """Metadata of a model's repository.

    Attributes:
        repo_id: `owner/name`, as the Hub spells it.
        commit: The hash of its revision.
        access: Who may read it.
        sizes: Size of each file in bytes, by path; 0 if unknown.
        n_parameters: Parameters in its safetensors files; None if unknown.
        license: The license in its card; None if it states none.
        languages: Language codes in its card.
    """

    repo_id: str
    commit: str
    access: Access
    sizes: Mapping[str, int]
    n_parameters: int | None
    license: str | None
    languages: tuple[str, ...]


@dataclass(frozen=True)
class FoundTeacher:
    """One result of a search.

    Attributes:
        repo_id: `owner/name`.
        downloads: Downloads in the last 30 days.
        likes: Number of likes.
    """

    repo_id: str
    downloads: int
    likes: int


def repo_facts(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> RepoFacts:
    """Request the metadata of a model; one request, no files.

    Args:
        repo_id: `owner/name`.
        token: For private repositories.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        NotFoundError: No such repository, or `repo_id` can't be one.
        HubError: The Hub can't be reached, or it rejected the request.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(
            f"{repo_id!r} is neither a folder here nor a Hub repository such as 'owner/name'. Check the spelling."
        )
    with hub_errors(repo_id):
        info = HfApi(endpoint=endpoint, token=token).model_info(repo_id, files_metadata=True)
    card = vars(info.card_data) if info.card_data else {}
    languages = card.get("language") or ()
    stated = [languages] if isinstance(languages, str) else languages
    license_name = card.get("license")
    if license_name == "other":
        license_name = card.get("license_name") or "other"
    return RepoFacts(
        repo_id=info.id,
        commit=str(info.sha),
        access="private" if info.private else "gated" if info.gated else "public",
        sizes={file.rfilename: file.size or 0 for file in info.siblings or ()},
        n_parameters=info.safetensors.total if info.safetensors else None,
        license=license_name if isinstance(license_name, str) else None,
        languages=tuple(language for language in stated if isinstance(language, str)),
    )


def read_files(
    facts: RepoFacts, paths: Sequence[str], *, token: str | None = None, endpoint: str | None = None
) -> dict[str, bytes] | None:
    """Return the contents of those `paths` that exist in the repository; None if access to it is restricted.

    Files of restricted repositories are not left in the cache, where other users could read them.

    Raises:
        NotFoundError: The commit no longer exists.
        HubError: The Hub can't be reached, or it rejected the request.
    """
    wanted = [path for path in paths if path in facts.sizes and facts.sizes[path] <= _MAX_METADATA_BYTES]
    contents = {}
    with tempfile.TemporaryDirectory(prefix="m2v-metadata-") as folder, hub_errors(facts.repo_id, facts.commit):
        for path in wanted:
            try:
                file = hf_hub_download(
                    facts.repo_id,
                    path,
                    revision=facts.commit,
                    token=token,
                    endpoint=endpoint,
                    cache_dir=None if facts.access == "public" else folder,
                )
            except GatedRepoError:
                return None
            except LocalEntryNotFoundError:  # the download failed, but the file may exist
                raise
            except EntryNotFoundError:
                continue
            contents[path] = Path(file).read_bytes()
    return contents


def search_teachers(query: str, limit: int = 10, *, endpoint: str | None = None) -> list[FoundTeacher]:
    """Search the Hub for Sentence Transformers whose name contains `query`, the most downloaded first.

    Args:
        query: Part of a name; empty for all.
        limit: Maximum number of results.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        HubError: The Hub can't be reached, or it rejected the request.
    """
    with hub_errors("the list of models"):
        found = HfApi(endpoint=endpoint).list_models(
            filter=_TEACHER_TAG, search=query.strip() or None, sort="downloads", limit=limit
        )
        return [FoundTeacher(model.id, model.downloads or 0, model.likes or 0) for model in found]
