"""Fetching models and teachers from the Hub, with errors that say what to do next."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from m2v_core.errors import HubError, LimitError, M2VError, NotFoundError
from m2v_core.progress import ProgressReporter
from m2v_core.storage.formats import all_paths

_T = TypeVar("_T")

# The root of the HTTP library's errors; which library that is differs between releases of huggingface_hub.
HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
_REPO_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")

_SECONDS_BETWEEN_LOOKS = 0.2
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.msgpack", "*.ot"]


def is_repo_id(name: str) -> bool:
    """Whether `name` could be a repository: `owner/name` or `name`, and no path."""
    return _REPO_ID.fullmatch(name) is not None


def is_absent(error: RepositoryNotFoundError | RevisionNotFoundError) -> bool:
    """Whether the Hub said that there is no such repository or revision, as far as this token can see.

    huggingface_hub raises the same error for a gated repository, which exists, and for a 401 without a valid token,
    where the Hub says nothing of the repository.
    """
    return error.response.status_code == 404 and not isinstance(error, GatedRepoError)


def download_model(
    repo_id: str,
    *,
    token: str | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    endpoint: str | None = None,
    force_download: bool = False,
) -> Path:
    """The folder with a static model's files, fetched where they aren't cached.

    Args:
        repo_id: `owner/name`.
        token: For private and gated repositories.
        revision: Branch, tag or commit.
        subfolder: Fetch what is in it alone; the returned folder is still the repository's root.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.
        force_download: Download what is cached again.

    Raises:
        NotFoundError: No such repository or revision, or `repo_id` can't be one.
        HubError: The Hub can't be reached and nothing is cached, or it refused.
    """
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = [prefix + path for path in all_paths()]
    return download(
        repo_id,
        allow_patterns=patterns,
        token=token,
        revision=revision,
        endpoint=endpoint,
        force_download=force_download,
    )


def check_model_bytes(repo_id: str, max_bytes: int) -> None:
    """Refuse a repository whose model is too large, before anything of it is fetched.

    Raises:
        LimitError: The files that `download_model` would fetch have more than `max_bytes`.
        NotFoundError: No such repository, or `repo_id` can't be one.
        HubError: The Hub refused to say how large they are.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(f"{repo_id!r} is no Hub repository, which is called 'owner/name'. Check the spelling.")
    try:
        with explained(repo_id):
            files = HfApi().model_info(repo_id, files_metadata=True).siblings or ()
    except HubError as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise
        return  # without a connection only the cache can be used, and whoever takes a copy of it counts the bytes again
    wanted = set(all_paths())
    n_bytes = sum(file.size or 0 for file in files if file.rfilename in wanted)
    if n_bytes > max_bytes:
        raise LimitError(f"{repo_id} has {n_bytes:,} bytes, and {max_bytes:,} are allowed here for a model.")


def download(
    repo_id: str,
    *,
    allow_patterns: Sequence[str],
    token: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    reporter: ProgressReporter | None = None,
    force_download: bool = False,
) -> Path:
    """The folder with the files of a repository that match, fetched where they aren't cached.

    Files for other runtimes than PyTorch (ONNX, OpenVINO, TensorFlow, ...) are left out.

    Args:
        repo_id: `owner/name`.
        allow_patterns: Shell-style patterns; `*` also matches slashes.
        token: For private and gated repositories.
        revision: Branch, tag or commit.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.
        reporter: Gets the stage `"download"`, in bytes, where any have to be fetched. When it is cancelled this call
            ends; the files under way still arrive in the cache, as long as the process lives.
        force_download: Download what is cached again.

    Raises:
        NotFoundError: No such repository or revision, or `repo_id` can't be one.
        HubError: The Hub can't be reached and nothing is cached, or it refused.
        Cancelled: By the reporter.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(
            f"There is no folder {repo_id}, and it can't be a Hub repository, which is called 'owner/name'. "
            "Check the path."
        )
    fetch = partial(
        snapshot_download,
        repo_id,
        token=token,
        revision=revision,
        endpoint=endpoint,
        allow_patterns=list(allow_patterns),
        ignore_patterns=_OTHER_RUNTIMES,
        force_download=force_download,
    )
    with explained(repo_id, revision):
        try:
            if reporter is None:
                folder = Path(fetch())
            else:
                known = partial(_blob_sizes, HfApi(endpoint, token), repo_id, revision, allow_patterns)
                folder = Path(_counted(fetch, known, _cached(repo_id) / "blobs", reporter))
        except HfHubHTTPError:
            raise
        except HTTP_ERROR:
            # huggingface_hub looks into its cache only when it can't connect, not when a connection breaks.
            folder = Path(fetch(local_files_only=True))
    with contextlib.suppress(OSError):  # a cache that may only be read needs no trimming
        os.utime(_cached(repo_id))
    return folder


def matching(paths: Iterable[str], allow_patterns: Sequence[str]) -> list[str]:
    """Those of a repository's files that `download` would fetch."""
    return [
        path
        for path in paths
        if any(fnmatchcase(path, pattern) for pattern in allow_patterns)
        and not any(fnmatchcase(path, pattern) for pattern in _OTHER_RUNTIMES)
    ]


def _counted(
    fetch: Callable[[], _T], sizes: Callable[[], Mapping[str, int]], blobs: Path, reporter: ProgressReporter
) -> _T:
    """What `fetch` returns, while its bytes are counted as they come to lie in the cache.

    The client's own bars are no help: which of them count bytes, and which bytes, differs between its releases.

    Args:
        fetch: Fetches the files.
        sizes: The size of each by the name of its blob; asked for meanwhile, and not missed if it can't be had.
        blobs: The folder they come to lie in, those under way with a longer name.
        reporter: As for `download`.
    """
    fetched, known = _in_thread(fetch), _in_thread(sizes)
    if not wait([fetched], _SECONDS_BETWEEN_LOOKS).done:
        reporter.start("download")
    n_before: int | None = None
    while not wait([fetched], _SECONDS_BETWEEN_LOOKS).done:
        if not known.done() or known.exception() is not None:
            reporter.advance(0)  # at least it may be told to stop
            continue
        wanted = known.result()
        present = {name: min(size, _largest(blobs, name)) for name, size in wanted.items()}
        n_present = sum(present.values())
        if n_before is None:
            reporter.start("download", sum(wanted.values()), n_present)
        else:
            reporter.advance(max(0, n_present - n_before))
        n_before = n_present if n_before is None else max(n_before, n_present)
    if n_before is not None:
        reporter.advance(sum(known.result().values()) - n_before)
    return fetched.result()


def _in_thread(work: Callable[[], _T]) -> Future[_T]:
    """What `work` gives, done in a thread that keeps no process alive."""
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised again where the result is asked for
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def _blob_sizes(api: HfApi, repo_id: str, revision: str | None, allow_patterns: Sequence[str]) -> dict[str, int]:
    """Bytes of the files that match, by the names that the cache gives to their content."""
    files = api.model_info(repo_id, revision=revision, files_metadata=True).siblings or ()
    wanted = set(matching([file.rfilename for file in files], allow_patterns))
    return {
        (file.lfs.sha256 if file.lfs else file.blob_id or ""): file.size or 0
        for file in files
        if file.rfilename in wanted
    }


def _cached(repo_id: str) -> Path:
    """Where the cache has a repository; the date of the folder tells `trim_hub_cache` when it was used."""
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"))


def _largest(blobs: Path, name: str) -> int:
    """Bytes of the blob, or of the longest of its beginnings."""
    sizes = [0]
    for path in blobs.glob(f"{name}*"):
        with contextlib.suppress(OSError):  # it may just have got its final name
            sizes.append(path.stat().st_size)
    return max(sizes)


@contextlib.contextmanager
def explained(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises about `repo_id` into this library's errors.

    Raises:
        NotFoundError: No such repository or revision.
        HubError: The Hub can't be reached, or refused.
    """
    try:
        yield
    except M2VError:  # a HubError is a ConnectionError too
        raise
    except HFValidationError as error:
        raise NotFoundError(f"{repo_id!r} can't be a Hub repository: {error}") from error
    except GatedRepoError as error:
        raise HubError(
            f"{repo_id} is gated. Ask for access on its page, then pass a token of the account that was granted it."
        ) from error
    except RevisionNotFoundError as error:
        raise NotFoundError(f"{repo_id} has no revision {revision!r}; check its branches and tags.") from error
    except RepositoryNotFoundError as error:
        # The Hub answers 401 for a repository that isn't there as well as for one that is private.
        raise NotFoundError(
            f"There is no folder {repo_id}, and no such repository on the Hub. Check the spelling; if it is "
            "private, pass a token that may read it."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(repo_id, error) from error
    except LocalEntryNotFoundError as error:
        # huggingface_hub tries its cache whenever asking the Hub fails, and then hides why in the cause.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refused(repo_id, error.__cause__) from error
        raise _unreachable(repo_id) from error
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise _unreachable(repo_id) from error


def _refused(repo_id: str, error: HfHubHTTPError) -> HubError:
    status = error.response.status_code
    if status in (401, 403):
        remedy = "The token is invalid or may not do this; pass one that has the right to."
    elif status == 429:
        remedy = "Too many requests; wait a few minutes, or pass a token to be allowed more."
    else:
        remedy = "Try again in a few minutes."
    return HubError(f"The Hub answered {status} for {repo_id}. {remedy}")


def _unreachable(repo_id: str) -> HubError:
    return HubError(
        f"There is no folder {repo_id}, it is not in the Hub's cache, and the Hub can't be reached. Check "
        "the network, HF_ENDPOINT and HF_HUB_OFFLINE, or pass a local folder."
    )
