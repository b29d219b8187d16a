"""Publishes a model's folder on the Hub in one commit, or not at all.

Deletes nothing on the Hub except files of an older model that this one replaces, in the same commit, and a repository
that this push created and left empty when it failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_session,
    hf_hub_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # lacks __all__

from m2v_core.errors import HubError, InputError, NotFoundError, RepoExistsError
from m2v_core.hub.attempts import Attempts
from m2v_core.hub.download import HTTP_ERROR, is_absent
from m2v_core.hub.watched import WatchedFile
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.card import with_thumbnail
from m2v_core.storage.formats import CARD, all_paths, is_model_folder

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
THUMBNAIL = "thumbnail.png"
_IN_A_NEW_REPO = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Pushed:
    """A model on the Hub.

    Attributes:
        repo_id: `owner/name`.
        url: URL of its page.
        commit: The commit with the model.
        revision: The branch, or the reference of the pull request, with this commit.
        pr_url: URL of the pull request; None without one.
        verified: Whether every file was downloaded again and equals the one sent; False only if the Hub could not be
            reached, because a difference is an error.
        private: Whether only its owner and those with granted access can see the repository.
    """

    repo_id: str
    url: str
    commit: str
    revision: str
    pr_url: str | None
    verified: bool
    private: bool


def check_repo_id(repo_id: str) -> str:
    """Return `repo_id` if it is a valid name for a repository.

    Raises:
        InputError: The name is not valid.
    """
    owner, slash, name = repo_id.rpartition("/")
    if (slash and not _NAME.fullmatch(owner)) or not _is_name(name):
        raise InputError(
            f"{repo_id!r} can't be the name of a repository. Use letters, digits, '-', '_' and '.', such as "
            "'your-name/my-model'; no spaces, no '--' or '..', and at most 96 characters."
        )
    return repo_id


def check_model_name(name: str) -> str:
    """Return `name` if it is valid as a file name, in a card, and as the name of a repository without its owner.

    Raises:
        InputError: The name is not valid.
    """
    if not _is_name(name):
        raise InputError(
            f"{name!r} can't be the name of a model. Use letters, digits, '-', '_' and '.', such as 'my-model'; no "
            "spaces, no '--' or '..', no '-' or '.' at either end, and at most 96 characters."
        )
    return name


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(".git")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    revision: str | None = None,
    create_pr: bool = False,
    overwrite: bool = False,
    commit_message: str | None = None,
    card: str | None = None,
    thumbnail: bytes | None = None,
    subfolder: str | None = None,
    endpoint: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Pushed:
    """Publish a model's folder with all files in one commit; the folder itself is not changed.

    Temporary failures (no connection, 429, 5xx) are retried a few times. After an error, calling this again resumes the
    upload.

    Args:
        folder: The model; hidden files are not uploaded.
        repo_id: `owner/name`, or `name` for the token's own account; created if it doesn't exist.
        token: Hub token with write access; None for the saved token of huggingface_hub.
        private: Whether a new repository is private; existing ones keep their visibility.
        revision: Branch to commit to, created from `main` if it doesn't exist; None for `main`.
        create_pr: Open a pull request instead of committing to a branch.
        overwrite: Whether to replace an existing model on this branch.
        commit_message: Title of the commit.
        card: README.md to publish instead of the folder's own.
        thumbnail: PNG that links to the repository show; published as `THUMBNAIL`, with its address in the card, if
            `repo_id` contains the owner.
        subfolder: Folder of the repository to publish to; None for its root.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
        progress: Receives the stages `"connect"`, `"upload"` (bytes) and `"verify"` (bytes).
        cancel: Set it to stop; a commit in progress is completed.

    Raises:
        InputError: `repo_id` is not a valid name, the card's front matter is rejected, or `revision` with `create_pr`.
        NotFoundError: The folder does not exist or contains no model.
        RepoExistsError: The repository contains a model, and `overwrite` is False.
        HubError: The Hub can't be reached, or rejected a request; the message states what is on the Hub now.
        Cancelled: `cancel` was set.
    """
    check_repo_id(repo_id)
    if create_pr and revision not in (None, "main"):
        raise InputError(f"Pull requests always target main, not {revision!r}. Omit revision or create_pr.")
    if not is_model_folder(folder):
        raise NotFoundError(f"{folder} contains no model. Save one there first: model.save_pretrained({str(folder)!r})")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    files: dict[str, Path | bytes] = {
        prefix + path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if card is not None:
        files[prefix + CARD] = card.encode()
    elif isinstance(own := files.get(prefix + CARD), Path):
        card = own.read_text(encoding="utf-8")
    if thumbnail is not None and card is not None and "/" in repo_id:
        address = f"{endpoint or constants.ENDPOINT}/{repo_id}/resolve/{revision or 'main'}/{prefix}{THUMBNAIL}"
        files |= {prefix + THUMBNAIL: thumbnail, prefix + CARD: with_thumbnail(card, address).encode()}
    reporter = ProgressReporter(progress, cancel)
    is_watched = progress is not None or cancel is not None
    push = _Push(HfApi(endpoint=endpoint, token=token), repo_id, prefix, revision or "main", reporter, cancel)
    reporter.start("connect")
    try:
        push.open(files.get(prefix + CARD, b""), private=private, create_pr=create_pr, overwrite=overwrite)
        done = push.commit(files, create_pr, commit_message or "Upload a static embedding model", is_watched)
    except BaseException:
        push.delete_if_empty()
        raise
    verified = push.verify(files, done.oid, token)
    target = f"refs/pr/{done.pr_num}" if done.pr_num is not None else push.revision
    url = f"{push.api.endpoint}/{push.repo_id}"
    return Pushed(push.repo_id, url, done.oid, target, done.pr_url, verified, push.is_private)


class _Push:
    """The repository and the progress of one push."""

    def __init__(
        self,
        api: HfApi,
        repo_id: str,
        prefix: str,
        revision: str,
        reporter: ProgressReporter,
        cancel: threading.Event | None,
    ) -> None:
        self.api = api
        self.repo_id = repo_id
        self._prefix = prefix
        self.revision = revision
        self._reporter = reporter
        self._attempts = Attempts(repo_id, cancel, self.delete_if_empty)
        self._parent: str | None = None
        self._is_new = False
        self.is_private = True

    def _check_card(self, card: Path | bytes) -> None:
        """Validate the front matter of a card on the Hub, before creating anything there.

        Raises:
            InputError: The Hub rejects it.
            HubError: The Hub can't be reached.
        """
        text = (card if isinstance(card, bytes) else card.read_bytes()).decode("utf-8", "replace")

        def ask() -> list[str]:
            # Not ModelCard.validate, which always uses huggingface.co, whatever the endpoint.
            response = get_session().post(
                f"{self.api.endpoint}/api/validate-yaml",
                json={"repoType": "model", "content": text},
                headers=build_hf_headers(token=self.api.token),
            )
            if response.status_code != 400:
                hf_raise_for_status(response)
            return [str(error["message"]) for error in response.json().get("errors", ())]

        if errors := self._attempts.run(ask, "check the model card"):
            raise InputError(
                f"{self.repo_id} could not be published: the Hub rejects its model card. {'; '.join(errors)} "
                f"{self._attempts.state} Your local copy is unchanged."
            )

    def delete_if_empty(self) -> None:
        """Delete the repository if this push created it and it is empty."""
        if not self._is_new:
            return
        self._is_new = False
        # No retries: an empty repository does no harm, and `state` already mentions it.
        with contextlib.suppress(HTTP_ERROR, ConnectionError, json.JSONDecodeError):
            found = self.api.model_info(self.repo_id)
            if {file.rfilename for file in found.siblings or ()} <= _IN_A_NEW_REPO:
                self.api.delete_repo(self.repo_id)
                self._attempts.state = "Nothing was sent, and nothing on the Hub was changed."
            else:  # the response to the commit was lost
                self._attempts.state = f"{self.repo_id} is on the Hub and has files; check them before you push again."

    def open(self, card: Path | bytes, *, private: bool, create_pr: bool, overwrite: bool) -> None:
        """Create the repository and the branch if needed, and check that the model may be written there."""
        if "/" not in self.repo_id:
            account = self._attempts.run(lambda: self.api.whoami(), "sign in")
            self.repo_id = f"{account['name']}/{self.repo_id}"
            self._attempts.set_repo_id(self.repo_id)
        known = self._info(None)
        self._check_card(card)
        if known is None:
            if create_pr:
                raise NotFoundError(
                    f"There is no {self.repo_id} to open a pull request on, or it is not visible to this token. Omit "
                    "create_pr to create it."
                )
            self._is_new = self._attempts.run(self._create(private), "create it")
            self._attempts.state = f"{self.repo_id} remains on the Hub, empty; the next push uses it."
            known = self._info(None)
        self.is_private = private if known is None else bool(known.private)
        if self.revision != "main" and self._info(self.revision) is None:
            self._attempts.run(
                lambda: self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True), "create the branch"
            )
            return  # the new branch only has the files of main, which are not lost
        present = self._info(self.revision)
        self._parent = present.sha if present else None
        paths = {file.rfilename for file in (present.siblings if present else None) or ()}
        if paths <= _IN_A_NEW_REPO:
            return
        self._attempts.state = f"The existing files of {self.repo_id} are unchanged."
        if not overwrite and not create_pr:
            raise RepoExistsError(
                f"{self.repo_id} already exists and has files on {self.revision!r}. Choose another name, or one of: "
                "a pull request (create_pr), another branch (revision), or a new version that replaces the old one "
                "(overwrite)."
            )

    def _create(self, private: bool) -> Callable[[], bool]:
        """Return an action that creates the repository and returns whether this push certainly created it."""

        def create() -> bool:
            try:
                self.api.create_repo(self.repo_id, private=private)
            except HfHubHTTPError as error:
                # It exists: created by an attempt whose response was lost, or by someone else. Its files decide.
                if error.response.status_code != 409 or self._ask(None) is None:
                    raise
                return False
            return True

        return create

    def _info(self, revision: str | None) -> ModelInfo | None:
        """The repository's metadata; None if the repository or its revision doesn't exist."""
        return self._attempts.run(lambda: self._ask(revision), "look it up")

    def _ask(self, revision: str | None) -> ModelInfo | None:
        try:
            return self.api.model_info(self.repo_id, revision=revision)
        except (RevisionNotFoundError, RepositoryNotFoundError) as error:
            if not is_absent(error):
                raise
            return None

    def _stale_files(self, files: Mapping[str, Path | bytes]) -> list[str]:
        """Files of another model that would be loaded together with, or instead of, this one's."""
        present = self._ask(self.revision)
        paths = [file.rfilename for file in (present.siblings if present else None) or ()]
        layouts = [self._prefix + path for path in all_paths()]
        # Models in subfolders of this one, as with `subfolder`, are separate and are kept.
        others = {path.removesuffix("tokenizer.json") for path in paths if path.endswith("/tokenizer.json")}
        return [
            path
            for path in paths
            if path.startswith(self._prefix)
            and path not in files
            and (
                path in layouts
                or (
                    path.endswith((".safetensors", ".onnx", ".skops"))
                    and not path.startswith(tuple(others - {self._prefix}))
                )
            )
        ]

    def commit(self, files: Mapping[str, Path | bytes], create_pr: bool, message: str, is_watched: bool) -> CommitInfo:
        """Upload the files that are not on the Hub yet, and commit."""
        sizes = {path: _size(content) for path, content in files.items()}

        def attempt() -> CommitInfo:
            self._reporter.start("upload", sum(sizes.values()))
            with contextlib.ExitStack() as opened:
                additions = []
                for path, content in files.items():
                    source: Any = content
                    # An open file reports how far it is read. Without a progress callback, the path is better:
                    # then the client can use Xet.
                    if is_watched:
                        source = opened.enter_context(WatchedFile(content, self._reporter))
                    additions.append(CommitOperationAdd(path, source))
                    if isinstance(source, WatchedFile):
                        source.is_counting = True
                deletions = [CommitOperationDelete(path) for path in self._stale_files(files)]
                return self.api.create_commit(
                    self.repo_id,
                    [*additions, *deletions],
                    commit_message=message,
                    revision=None if create_pr else self.revision,
                    create_pr=create_pr,
                    # The Hub rejects the commit if another was pushed in the meantime.
                    parent_commit=None if create_pr else self._parent,
                )

        # Not retried, because if the response to the first request was lost, a second one would open another.
        what = "open the pull request (check whether it exists before you push again)" if create_pr else "upload"
        return self._attempts.run(attempt, what, may_repeat=not create_pr)

    def verify(self, files: Mapping[str, Path | bytes], commit: str, token: str | None) -> bool:
        """Download the files of the commit and return whether they equal those that were sent."""
        self._attempts.state = f"The model is on the Hub, in commit {commit[:7]} of {self.repo_id}."
        self._reporter.start("verify", sum(_size(content) for content in files.values()))
        with tempfile.TemporaryDirectory(prefix="m2v-verify-") as folder:
            for path, content in files.items():
                fetch = _Fetch(self.api, self.repo_id, path, commit, token, folder)
                try:
                    fetched = self._attempts.run(fetch, "download it again")
                except HubError as error:
                    logger.warning("%s was pushed but could not be verified: %s", self.repo_id, error)
                    return False
                if _sha256(fetched) != _sha256(content):
                    raise HubError(
                        f"{path} on {self.repo_id} differs from the file that was sent. Push again with overwrite, and "
                        "don't use that copy until then."
                    )
                fetched.unlink()
                self._reporter.advance(_size(content))
        return True


@dataclass(frozen=True)
class _Fetch:
    """Downloads one file, bypassing every cache."""

    api: HfApi
    repo_id: str
    path: str
    commit: str
    token: str | None
    folder: str

    def __call__(self) -> Path:
        fetched = hf_hub_download(
            self.repo_id,
            self.path,
            revision=self.commit,
            token=self.token,
            endpoint=self.api.endpoint,
            local_dir=self.folder,
            force_download=True,
        )
        return Path(fetched)


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha256(content: Path | bytes) -> str:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
