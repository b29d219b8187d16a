"""Deploys a rendered Space on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import SpaceInfo

from m2v_core.errors import HubError, InputError, NotFoundError, RepoExistsError
from m2v_core.hub.attempts import Attempts
from m2v_core.hub.download import is_absent
from m2v_core.hub.push import check_repo_id

_IN_A_NEW_SPACE = frozenset({".gitattributes", "README.md"})


@dataclass(frozen=True)
class PushedSpace:
    """A Space on the Hub.

    Attributes:
        repo_id: `owner/name`.
        url: URL of its page.
        commit: The commit with its files.
    """

    repo_id: str
    url: str
    commit: str


def push_space(
    folder: Path,
    repo_id: str,
    *,
    sdk: str = "gradio",
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    endpoint: str | None = None,
) -> PushedSpace:
    """Deploy a rendered Space in one commit; afterwards it contains exactly the files of `folder`.

    Args:
        folder: As written by `m2v space build`.
        repo_id: `owner/name`; created if it doesn't exist.
        sdk: SDK of a new Space.
        token: Hub token with write access; None for the saved token of huggingface_hub.
        private: Whether a new Space is private; existing ones keep their visibility.
        overwrite: Whether to replace a Space that has files.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        InputError: `repo_id` is not a valid name, or the front matter is rejected.
        NotFoundError: `folder` contains no Space.
        RepoExistsError: The Space has files, and `overwrite` is False.
        HubError: The Hub can't be reached, or rejected a request; the message states what is on the Hub now.
    """
    if "/" not in check_repo_id(repo_id):
        raise InputError(f"{repo_id!r} has no owner. Pass both, such as 'your-name/{repo_id}'.")
    if not (folder / "README.md").is_file() or not (folder / "requirements.txt").is_file():
        raise NotFoundError(f"{folder} contains no Space. Render one there first: m2v space build {folder}")
    api = HfApi(endpoint=endpoint, token=token)
    attempts = Attempts(repo_id, None)

    def ask() -> SpaceInfo | None:
        try:
            return api.space_info(repo_id)
        except RepositoryNotFoundError as error:
            if not is_absent(error):
                raise
            return None

    def create() -> None:
        try:
            api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private)
        except HfHubHTTPError as error:
            # It exists: created by an attempt whose response was lost, or by someone else. Its files decide.
            if error.response.status_code != 409 or ask() is None:
                raise

    if attempts.run(ask, "look it up") is None:
        attempts.run(create, "create it")
        attempts.state = f"The Space {repo_id} is on the Hub, empty; the next push uses it."
    present = attempts.run(ask, "look it up")
    if present is None:
        raise HubError(f"The Space {repo_id} was created, but the Hub doesn't list it yet. Push again in a minute.")
    there = {file.rfilename for file in present.siblings or ()}
    if not there <= _IN_A_NEW_SPACE:
        attempts.state = f"The Space {repo_id} is unchanged."
        if not overwrite:
            raise RepoExistsError(
                f"The Space {repo_id} already exists and has files. Choose another name, or add --overwrite to "
                "replace all of its files."
            )
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    stale = sorted(there - files.keys() - {".gitattributes"})
    commit = attempts.run(
        lambda: api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, path) for name, path in files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message="Deploy M2V Studio",
            repo_type="space",
            # The Hub rejects the commit if the Space was changed in the meantime.
            parent_commit=present.sha,
        ),
        "upload",
    )
    return PushedSpace(repo_id, f"{api.endpoint}/spaces/{repo_id}", commit.oid)
