"""Deploying a rendered Space on the Hub."""

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
        url: Its page.
        commit: The commit that holds it.
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
    """Deploy a rendered Space: afterwards it holds the files of `folder` and no others, in one commit.

    Args:
        folder: As `m2v space build` writes it.
        repo_id: `owner/name`; made when it doesn't exist.
        sdk: What runs a new Space.
        token: Hub token that may write there; None for the one that huggingface_hub has.
        private: Whether a new Space is private; an existing one keeps what it is.
        overwrite: Whether to replace a Space that has files already.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.

    Raises:
        InputError: `repo_id` can't be a name, or the front matter is refused.
        NotFoundError: `folder` holds no Space.
        RepoExistsError: There is a Space with files, and nobody said to overwrite it.
        HubError: The Hub can't be reached, or refused; the message says what it holds now.
    """
    if "/" not in check_repo_id(repo_id):
        raise InputError(f"{repo_id!r} names no owner. Give both, such as 'your-name/{repo_id}'.")
    if not (folder / "README.md").is_file() or not (folder / "requirements.txt").is_file():
        raise NotFoundError(f"{folder} holds no Space. Render one there first: m2v space build {folder}")
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
            # It is there: made by an attempt whose answer was lost, or by someone else. What it holds decides.
            if error.response.status_code != 409 or ask() is None:
                raise

    if attempts.run(ask, "look it up") is None:
        attempts.run(create, "make it")
        attempts.state = f"The Space {repo_id} is on the Hub, empty; the next push goes into it."
    present = attempts.run(ask, "look it up")
    if present is None:
        raise HubError(f"The Space {repo_id} was made, but the Hub doesn't find it yet. Push again in a minute.")
    there = {file.rfilename for file in present.siblings or ()}
    if not there <= _IN_A_NEW_SPACE:
        attempts.state = f"The Space {repo_id} is as it was."
        if not overwrite:
            raise RepoExistsError(
                f"The Space {repo_id} exists already and has files. Choose another name, or add --overwrite to "
                "replace all that is in it."
            )
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    remnants = sorted(there - files.keys() - {".gitattributes"})
    commit = attempts.run(
        lambda: api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, path) for name, path in files.items()),
                *(CommitOperationDelete(name) for name in remnants),
            ],
            commit_message="Deploy M2V Studio",
            repo_type="space",
            # Whoever changes it meanwhile is not overwritten: the Hub refuses.
            parent_commit=present.sha,
        ),
        "upload",
    )
    return PushedSpace(repo_id, f"{api.endpoint}/spaces/{repo_id}", commit.oid)
