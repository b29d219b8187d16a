"""Publishing a model's folder on the Hub: one commit, or none.

Nothing on the Hub is deleted but files of an older model that this one replaces, in that same commit, and a repository
that this very push made and left empty when it failed.
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
    get_session,
    hf_hub_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # no __all__ there

from m2v_core.errors import HubError, InputError, NotFoundError, RepoExistsError
from m2v_core.hub.attempts import Attempts
from m2v_core.hub.download import HTTP_ERROR, is_absent
from m2v_core.hub.watched import WatchedFile
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.formats import CARD, all_paths, is_model_folder

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_IN_A_NEW_REPO = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Pushed:
    """A model on the Hub.

    Attributes:
        repo_id: `owner/name`.
        url: Its page.
        commit: The commit that holds it.
        revision: The branch, or the pull request's reference, that has this commit.
        pr_url: The pull request's page; None without one.
        verified: Whether every file was fetched again and is what was sent; False only where the Hub could not
            be asked, for a difference is an error.
        private: Whether only its owner and those they let in may see the repository.
    """

    repo_id: str
    url: str
    commit: str
    revision: str
    pr_url: str | None
    verified: bool
    private: bool


def check_repo_id(repo_id: str) -> str:
    """`repo_id`, if a repository can be called so.

    Raises:
        InputError: It can't.
    """
    owner, slash, name = repo_id.rpartition("/")
    if (slash and not _NAME.fullmatch(owner)) or not _is_name(name):
        raise InputError(
            f"{repo_id!r} can't be the name of a repository. Use letters, digits, '-', '_' and '.', such as "
            "'your-name/my-model'; no spaces, no '--' or '..', and at most 96 characters."
        )
    return repo_id


def check_model_name(name: str) -> str:
    """`name`, if a model can be called so everywhere: as a file, in its card, and as a repository without its owner.

    Raises:
        InputError: It can't.
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
    subfolder: str | None = None,
    endpoint: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Pushed:
    """Publish a model's folder, all files in one commit; the folder itself stays as it is.

    A passing failure (no connection, 429, 5xx) is met with a few more attempts. Whoever calls this again after an
    error continues where it ended.

    Args:
        folder: The model; hidden files stay behind.
        repo_id: `owner/name`, or `name` for the token's own account; made when it doesn't exist.
        token: Hub token that may write there; None for the one that huggingface_hub has.
        private: Whether a new repository is private; an existing one keeps what it is.
        revision: Branch to commit to, made from `main` when it doesn't exist; None for `main`.
        create_pr: Propose the model as a pull request, and change no branch.
        overwrite: Whether to replace a model that is on this branch already.
        commit_message: What the commit is called.
        card: README.md to publish instead of the folder's own.
        subfolder: Folder of the repository to publish to; None for its root.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.
        progress: Receives the stages `"connect"`, `"upload"` (bytes) and `"verify"` (bytes).
        cancel: Set it to stop; once the commit is under way it is waited for.

    Raises:
        InputError: `repo_id` can't be a name, the card's front matter is refused, or `revision` with `create_pr`.
        NotFoundError: No such folder, or no model in it.
        RepoExistsError: There is a model already, and nobody said to overwrite it.
        HubError: The Hub can't be reached, or refused; the message says what it holds now.
        Cancelled: `cancel` was set.
    """
    check_repo_id(repo_id)
    if create_pr and revision not in (None, "main"):
        raise InputError(f"A pull request goes to main, not to {revision!r}. Leave out revision or create_pr.")
    if not is_model_folder(folder):
        raise NotFoundError(f"{folder} holds no model. Save one there first: model.save_pretrained({str(folder)!r})")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    files: dict[str, Path | bytes] = {
        prefix + path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if card is not None:
        files[prefix + CARD] = card.encode()
    reporter = ProgressReporter(progress, cancel)
    is_watched = progress is not None or cancel is not None
    push = _Push(HfApi(endpoint=endpoint, token=token), repo_id, prefix, revision or "main", reporter, cancel)
    reporter.start("connect")
    try:
        push.open(files.get(prefix + CARD, b""), private=private, create_pr=create_pr, overwrite=overwrite)
        done = push.commit(files, create_pr, commit_message or "Upload a static embedding model", is_watched)
    except BaseException:
        push.withdraw()
        raise
    verified = push.verify(files, done.oid, token)
    target = f"refs/pr/{done.pr_num}" if done.pr_num is not None else push.revision
    url = f"{push.api.endpoint}/{push.repo_id}"
    return Pushed(push.repo_id, url, done.oid, target, done.pr_url, verified, push.is_private)


class _Push:
    """One push: the repository, and how far it has come."""

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
        self._attempts = Attempts(repo_id, cancel, self.withdraw)
        self._parent: str | None = None
        self._is_new = False
        self.is_private = True

    def _check_card(self, card: Path | bytes) -> None:
        """Have the Hub check the front matter of a card, before anything is made there.

        Raises:
            InputError: The Hub refuses it.
            HubError: The Hub can't be asked.
        """
        text = (card if isinstance(card, bytes) else card.read_bytes()).decode("utf-8", "replace")

        def ask() -> list[str]:
            # Not ModelCard.validate, which asks huggingface.co whatever the endpoint is.
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
                f"{self.repo_id} could not be published: the Hub refuses its model card. {'; '.join(errors)} "
                f"{self._attempts.state} Your copy is untouched."
            )

    def withdraw(self) -> None:
        """Delete the repository if this push made it and nothing is in it."""
        if not self._is_new:
            return
        self._is_new = False
        # Once is enough: an empty repository does no harm, and the state already says that it stays.
        with contextlib.suppress(HTTP_ERROR, ConnectionError, json.JSONDecodeError):
            found = self.api.model_info(self.repo_id)
            if {file.rfilename for file in found.siblings or ()} <= _IN_A_NEW_REPO:
                self.api.delete_repo(self.repo_id)
                self._attempts.state = "Nothing was sent, and the Hub is as it was."
            else:  # the answer to the commit was lost
                self._attempts.state = (
                    f"{self.repo_id} is on the Hub and has files; look at them before you push again."
                )

    def open(self, card: Path | bytes, *, private: bool, create_pr: bool, overwrite: bool) -> None:
        """Make sure that there is a repository, and a branch with room for the model."""
        if "/" not in self.repo_id:
            account = self._attempts.run(lambda: self.api.whoami(), "sign in")
            self.repo_id = f"{account['name']}/{self.repo_id}"
            self._attempts.renamed(self.repo_id)
        known = self._info(None)
        self._check_card(card)
        if known is None:
            if create_pr:
                raise NotFoundError(
                    f"There is no {self.repo_id} to open a pull request on, or this token may not see it. Leave out "
                    "create_pr to make it."
                )
            self._is_new = self._attempts.run(self._create(private), "make it")
            self._attempts.state = f"{self.repo_id} stays on the Hub, empty; the next push goes into it."
            known = self._info(None)
        self.is_private = private if known is None else bool(known.private)
        if self.revision != "main" and self._info(self.revision) is None:
            self._attempts.run(
                lambda: self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True), "make the branch"
            )
            return  # it has what main has, which is lost to nobody
        present = self._info(self.revision)
        self._parent = present.sha if present else None
        paths = {file.rfilename for file in (present.siblings if present else None) or ()}
        if paths <= _IN_A_NEW_REPO:
            return
        self._attempts.state = f"What {self.repo_id} held before is as it was."
        if not overwrite and not create_pr:
            raise RepoExistsError(
                f"{self.repo_id} exists already and has files on {self.revision!r}. Choose another name, or say what "
                "you want: a pull request (create_pr), a branch of its own (revision), or a new version in place of "
                "the old one (overwrite)."
            )

    def _create(self, private: bool) -> Callable[[], bool]:
        """An action that makes the repository, and returns whether it is known that this push made it."""

        def create() -> bool:
            try:
                self.api.create_repo(self.repo_id, private=private)
            except HfHubHTTPError as error:
                # It is there: made by an attempt whose answer was lost, or by someone else. What it holds decides.
                if error.response.status_code != 409 or self._ask(None) is None:
                    raise
                return False
            return True

        return create

    def _info(self, revision: str | None) -> ModelInfo | None:
        """What the Hub knows of the repository; None where it, or its revision, doesn't exist."""
        return self._attempts.run(lambda: self._ask(revision), "look it up")

    def _ask(self, revision: str | None) -> ModelInfo | None:
        try:
            return self.api.model_info(self.repo_id, revision=revision)
        except (RevisionNotFoundError, RepositoryNotFoundError) as error:
            if not is_absent(error):
                raise
            return None

    def _remnants(self, files: Mapping[str, Path | bytes]) -> list[str]:
        """Files of another model that would be read beside, or instead of, this one's."""
        present = self._ask(self.revision)
        paths = [file.rfilename for file in (present.siblings if present else None) or ()]
        layouts = [self._prefix + path for path in all_paths()]
        # Models in folders below this one, as with `subfolder`, are others and stay.
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
        """Upload what the Hub doesn't have, and commit."""
        sizes = {path: _size(content) for path, content in files.items()}

        def attempt() -> CommitInfo:
            self._reporter.start("upload", sum(sizes.values()))
            with contextlib.ExitStack() as opened:
                additions = []
                for path, content in files.items():
                    source: Any = content
                    # A file that we hand over opened tells how far it is read. Without anyone to tell, the path
                    # is better: then the client may choose Xet.
                    if is_watched:
                        source = opened.enter_context(WatchedFile(content, self._reporter))
                    additions.append(CommitOperationAdd(path, source))
                    if isinstance(source, WatchedFile):
                        source.is_counting = True
                deletions = [CommitOperationDelete(path) for path in self._remnants(files)]
                return self.api.create_commit(
                    self.repo_id,
                    [*additions, *deletions],
                    commit_message=message,
                    revision=None if create_pr else self.revision,
                    create_pr=create_pr,
                    # Whoever pushes meanwhile is not overwritten: the Hub refuses.
                    parent_commit=None if create_pr else self._parent,
                )

        # A second pull request would be one too many, should the answer to the first have been lost.
        what = "open the pull request (look there whether it did, before you push again)" if create_pr else "upload"
        return self._attempts.run(attempt, what, may_repeat=not create_pr)

    def verify(self, files: Mapping[str, Path | bytes], commit: str, token: str | None) -> bool:
        """Whether the commit holds these files, which are fetched for it."""
        self._attempts.state = f"The model is on the Hub, in commit {commit[:7]} of {self.repo_id}."
        self._reporter.start("verify", sum(_size(content) for content in files.values()))
        with tempfile.TemporaryDirectory(prefix="m2v-verify-") as folder:
            for path, content in files.items():
                fetch = _Fetch(self.api, self.repo_id, path, commit, token, folder)
                try:
                    fetched = self._attempts.run(fetch, "fetch it again")
                except HubError as error:
                    logger.warning("%s was pushed but could not be verified: %s", self.repo_id, error)
                    return False
                if _sha256(fetched) != _sha256(content):
                    raise HubError(
                        f"{path} came back from {self.repo_id} other than it was sent. Push again with overwrite, and "
                        "don't use that copy until then."
                    )
                fetched.unlink()
                self._reporter.advance(_size(content))
        return True


@dataclass(frozen=True)
class _Fetch:
    """Fetches one file past every cache."""

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
