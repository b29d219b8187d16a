"""What the Hub says of a repository, before any of its weights are fetched."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

from m2v_core.errors import NotFoundError
from m2v_core.hub.download import explained, is_repo_id

Access = Literal["public", "gated", "private"]

_TEACHER_TAG = "sentence-transformers"
_MAX_METADATA_BYTES = 64 << 20  # the largest tokenizer.json in use is half of that


@dataclass(frozen=True)
class RepoFacts:
    """What the Hub knows of a model's repository.

    Attributes:
        repo_id: `owner/name`, as the Hub spells it.
        commit: The hash that its revision stands for.
        access: Who may read it.
        sizes: Bytes of each file, by path; 0 where the Hub doesn't say.
        n_parameters: Of its safetensors files; None where the Hub hasn't counted them.
        license: As its card states it; None where it doesn't.
        languages: Codes that its card states.
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
    """One hit of a search.

    Attributes:
        repo_id: `owner/name`.
        downloads: In the last 30 days.
        likes: Ever.
    """

    repo_id: str
    downloads: int
    likes: int


def repo_facts(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> RepoFacts:
    """What the Hub knows of a model; one request, and no file.

    Args:
        repo_id: `owner/name`.
        token: For private repositories.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        NotFoundError: No such repository, or `repo_id` can't be one.
        HubError: The Hub can't be reached, or it refused.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(
            f"{repo_id!r} is no folder here, and no Hub repository, which is called 'owner/name'. Check the spelling."
        )
    with explained(repo_id):
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
    """The contents of those `paths` that the repository has; None when its gate is closed to this token.

    What is not for everyone is not left in the cache, where it would be another person's hit.

    Raises:
        NotFoundError: The commit is gone.
        HubError: The Hub can't be reached, or it refused.
    """
    wanted = [path for path in paths if path in facts.sizes and facts.sizes[path] <= _MAX_METADATA_BYTES]
    contents = {}
    with tempfile.TemporaryDirectory(prefix="m2v-metadata-") as folder, explained(facts.repo_id, facts.commit):
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
            except LocalEntryNotFoundError:  # the file couldn't be fetched, which says nothing of whether it exists
                raise
            except EntryNotFoundError:
                continue
            contents[path] = Path(file).read_bytes()
    return contents


def search_teachers(query: str, limit: int = 10, *, endpoint: str | None = None) -> list[FoundTeacher]:
    """The Sentence Transformers on the Hub whose name holds `query`, the most downloaded first.

    Args:
        query: Part of a name; empty for any.
        limit: At most so many.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        HubError: The Hub can't be reached, or it refused.
    """
    with explained("the list of models"):
        found = HfApi(endpoint=endpoint).list_models(
            filter=_TEACHER_TAG, search=query.strip() or None, sort="downloads", limit=limit
        )
        return [FoundTeacher(model.id, model.downloads or 0, model.likes or 0) for model in found]
