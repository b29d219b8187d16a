"""Publishing a model's folder on the Hub: one commit, or none.

Nothing on the Hub is ever deleted but files of an older model that this one replaces, in that same commit. When a
push fails, a repository that it made stays, empty: the next push goes into it, and what was uploaded already is not
sent again.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from m2v_core.errors import Cancelled, HubError, InputError, M2VError, NotFoundError, RepoExistsError
from m2v_core.persistence.formats import CARD, all_paths, is_model_folder
from m2v_core.persistence.hub import HTTP_ERROR
from m2v_core.progress import ProgressCallback, ProgressReporter

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_IN_A_NEW_REPO = frozenset({".gitattributes"})
_PAUSES = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth attempt
_LONGEST_PAUSE = 60.0  # a Hub that asks for more is better tried again later
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_T = TypeVar("_T")


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
    """

    repo_id: str
    url: str
    commit: str
    revision: str
    pr_url: str | None
    verified: bool


def check_repo_id(repo_id: str) -> str:
    """`repo_id`, if a repository can be called so.

    Raises:
        InputError: It can't.
    """
    owner, slash, name = repo_id.rpartition("/")
    if (slash and not _NAME.fullmatch(owner)) or not _NAME.fullmatch(name) or name.endswith(".git"):
        raise InputError(
            f"{repo_id!r} can't be the name of a repository. Use letters, digits, '-', '_' and '.', such as "
            "'your-name/my-model'; no spaces, no '--' or '..', and at most 96 characters."
        )
    return repo_id


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
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if card is not None:
        files[CARD] = card.encode()
    reporter = ProgressReporter(progress, cancel)
    is_watched = progress is not None or cancel is not None
    push = _Push(HfApi(endpoint=endpoint, token=token), repo_id, revision or "main", reporter, cancel)
    reporter.start("connect")
    push.open(private=private, create_pr=create_pr, overwrite=overwrite)
    done = push.commit(files, create_pr, commit_message or "Upload a static embedding model", is_watched)
    verified = push.verify(files, done.oid, token)
    target = f"refs/pr/{done.pr_num}" if done.pr_num is not None else push.revision
    url = f"{push.api.endpoint}/{push.repo_id}"
    return Pushed(push.repo_id, url, done.oid, target, done.pr_url, verified)


class _Push:
    """One push: the repository, and how far it has come."""

    def __init__(
        self, api: HfApi, repo_id: str, revision: str, reporter: ProgressReporter, cancel: threading.Event | None
    ) -> None:
        self.api = api
        self.repo_id = repo_id
        self.revision = revision
        self._reporter = reporter
        self._cancel = cancel or threading.Event()
        self._state = "Nothing was sent, and the Hub is as it was."
        self._stale: list[str] = []

    def open(self, *, private: bool, create_pr: bool, overwrite: bool) -> None:
        """Make sure that there is a repository, and a branch with room for the model."""
        if "/" not in self.repo_id:
            account = self._tried(lambda: self.api.whoami(), "sign in")
            self.repo_id = f"{account['name']}/{self.repo_id}"
        if self._info(None) is None:
            if create_pr:
                raise NotFoundError(
                    f"There is no {self.repo_id} to open a pull request on, or this token may not see it. Leave out "
                    "create_pr to make it."
                )
            self._tried(self._create(private), "make it")
            self._state = f"{self.repo_id} stays on the Hub, empty; the next push goes into it."
        if self.revision != "main" and self._info(self.revision) is None:
            branch = self.revision
            self._tried(lambda: self.api.create_branch(self.repo_id, branch=branch, exist_ok=True), "make the branch")
            self._stale = self._remnants(self._info(branch))  # a new branch takes nothing from main
            return
        present = self._info(self.revision)
        paths = {file.rfilename for file in (present.siblings if present else None) or ()}
        if paths <= _IN_A_NEW_REPO:
            return
        self._state = f"What {self.repo_id} held before is as it was."
        if not overwrite and not create_pr:
            raise RepoExistsError(
                f"{self.repo_id} exists already and has files on {self.revision!r}. Choose another name, or say what "
                "you want: a pull request (create_pr), a branch of its own (revision), or a new version in place of "
                "the old one (overwrite)."
            )
        self._stale = self._remnants(present)

    def _create(self, private: bool) -> Callable[[], None]:
        def create() -> None:
            try:
                self.api.create_repo(self.repo_id, private=private)
            except HfHubHTTPError as error:
                # It is there: made by an attempt whose answer was lost, or by someone else. What it holds decides.
                if error.response.status_code != 409 or self._info(None) is None:
                    raise

        return create

    def _info(self, revision: str | None) -> ModelInfo | None:
        """What the Hub knows of the repository; None where it, or its revision, doesn't exist."""

        def ask() -> ModelInfo | None:
            try:
                return self.api.model_info(self.repo_id, revision=revision)
            except (RevisionNotFoundError, RepositoryNotFoundError):
                return None

        return self._tried(ask, "look it up")

    @staticmethod
    def _remnants(info: ModelInfo | None) -> list[str]:
        """Files of a model that would be read beside, or instead of, those of its successor."""
        paths = [file.rfilename for file in (info.siblings if info else None) or ()]
        return [path for path in paths if path in all_paths() or path.endswith((".safetensors", ".onnx"))]

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
                        source = opened.enter_context(_Watched(content, self._reporter))
                    additions.append(CommitOperationAdd(path, source))
                    if isinstance(source, _Watched):
                        source.is_counting = True
                deletions = [CommitOperationDelete(path) for path in self._stale if path not in files]
                return self.api.create_commit(
                    self.repo_id,
                    [*additions, *deletions],
                    commit_message=message,
                    revision=None if create_pr else self.revision,
                    create_pr=create_pr,
                )

        # A second pull request would be one too many, should the answer to the first have been lost.
        what = "open the pull request (look there whether it did, before you push again)" if create_pr else "upload"
        return self._tried(attempt, what, may_repeat=not create_pr)

    def verify(self, files: Mapping[str, Path | bytes], commit: str, token: str | None) -> bool:
        """Whether the commit holds these files, which are fetched for it."""
        self._state = f"The model is on the Hub, in commit {commit[:7]} of {self.repo_id}."
        self._reporter.start("verify", sum(_size(content) for content in files.values()))
        with tempfile.TemporaryDirectory(prefix="m2v-verify-") as folder:
            for path, content in files.items():
                fetch = _Fetch(self.api, self.repo_id, path, commit, token, folder)
                try:
                    fetched = self._tried(fetch, "fetch it again")
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

    def _tried(self, action: Callable[[], _T], what: str, may_repeat: bool = True) -> _T:
        """What `action` returns, after a few attempts where its failure may pass.

        Raises:
            M2VError: It failed for good; the message says what the Hub holds now.
        """
        for pause in (*_PAUSES, None):
            if self._cancel.is_set():
                raise self._cancelled()
            try:
                return action()
            except Exception as error:
                causes = list(_causes(error))
                if any(isinstance(cause, Cancelled) for cause in causes):
                    raise self._cancelled() from error
                known = next(filter(_is_of_the_hub, causes), None)
                if known is None or isinstance(error, M2VError):
                    raise
                wait = _pause(known, pause) if may_repeat and not _was_repeated(causes) else None
                if wait is None:
                    raise self._explained(known, what) from error
                logger.warning("The Hub: %s. Trying again in %.0f s.", _first_line(known), wait)
                self._cancel.wait(wait)
        raise AssertionError("the last attempt returns or raises")

    def _cancelled(self) -> Cancelled:
        return Cancelled(f"Cancelled. {self._state}")

    def _explained(self, error: BaseException, what: str) -> M2VError:
        intro, ending = f"{self.repo_id} could not be published: ", f"{self._state} Your copy is untouched."
        if isinstance(error, LocalTokenNotFoundError):
            return HubError(f"{intro}no one is signed in. Run `hf auth login` or pass a token. {ending}")
        if _is_about_the_card(error):
            return InputError(f"{intro}the Hub refuses its model card. {_first_line(error)} {ending}")
        if not isinstance(error, HfHubHTTPError):
            return HubError(
                f"{intro}the Hub can't be reached to {what}. Check network and HF_ENDPOINT, and push again. {ending}"
            )
        status = error.response.status_code
        remedies = {
            401: "The token is missing or invalid. Sign in, or pass a token that may write.",
            403: "This account or token may not write there. Choose a name under your own account, or use a token "
            "with write access.",
            404: "It is not there any more, or is private to another account. Check the name and the token.",
            409: "Something else is changing it just now. Wait a moment and push again.",
            412: "Someone has changed it meanwhile. Push again.",
            413: "It is larger than the Hub allows.",
            429: "Too many requests. Wait some minutes and push again.",
        }
        remedy = remedies.get(status, "This is the Hub's fault and should pass. Push again in some minutes.")
        return HubError(f"{intro}the Hub answered {status} when asked to {what}. {remedy} {ending}")


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


class _Watched(io.BufferedReader):
    """A file or bytes that report how far they were read, each byte once however often it is sent."""

    def __init__(self, content: Path | bytes, reporter: ProgressReporter) -> None:
        super().__init__(io.FileIO(content) if isinstance(content, Path) else _BytesIO(content))
        self._reporter = reporter
        self._reported = 0
        self.is_counting = False

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; stops the upload when it is cancelled."""
        content = super().read(size)
        if self.is_counting:
            n_new = max(0, self.tell() - self._reported)
            self._reported += n_new
            self._reporter.advance(n_new)
        return content


class _BytesIO(io.RawIOBase):
    """Bytes as an unbuffered file."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._content.readinto(buffer)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, the first cause last: uploads wrap theirs."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _is_of_the_hub(error: BaseException) -> bool:
    """Whether this is what went wrong between the Hub and us, rather than in here."""
    # What should be JSON and is not comes from a proxy in front of a Hub that is down.
    kinds = (HTTP_ERROR, ConnectionError, json.JSONDecodeError, LocalTokenNotFoundError)
    return isinstance(error, kinds) or _is_about_the_card(error)


def _is_about_the_card(error: BaseException) -> bool:
    return type(error) is ValueError and "README.md" in str(error)


def _pause(error: BaseException, pause: float | None) -> float | None:
    """Seconds until the next attempt; None where there is none to be made."""
    if pause is None or _is_about_the_card(error) or isinstance(error, LocalTokenNotFoundError):
        return None
    if not isinstance(error, HfHubHTTPError):
        return pause
    if error.response.status_code not in _PASSING:
        return None
    asked = error.response.headers.get("Retry-After", "")
    wait = float(asked) if asked.isdecimal() else pause
    return wait if wait <= _LONGEST_PAUSE else None


def _was_repeated(causes: list[BaseException]) -> bool:
    """Whether the client itself has tried this six times by now: it does so for all that has to do with uploads."""
    if any(isinstance(cause, RuntimeError) and "while uploading" in str(cause) for cause in causes):
        return True
    responses = [cause.response for cause in causes if isinstance(cause, HfHubHTTPError)]
    return any("/preupload/" in str(found.url) or "/info/lfs/" in str(found.url) for found in responses)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
