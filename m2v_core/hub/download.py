"""Downloads models and teachers from the Hub; error messages state what to do next."""

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

# Base class of the HTTP library's errors; releases of huggingface_hub use different HTTP libraries.
HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
_REPO_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")

_SECONDS_BETWEEN_LOOKS = 0.2
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.msgpack", "*.ot"]


def is_repo_id(name: str) -> bool:
    """Whether `name` could be a repository id, `owner/name` or `name`, rather than a path."""
    return _REPO_ID.fullmatch(name) is not None


def is_absent(error: RepositoryNotFoundError | RevisionNotFoundError) -> bool:
    """Whether the Hub reported that the repository or revision does not exist or is not visible to this token.

    huggingface_hub raises the same error for a gated repository, which exists, and for a 401 without a valid token,
    which does not tell whether the repository exists.
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
    """Download the files of a static model unless they are cached, and return their folder.

    Args:
        repo_id: `owner/name`.
        token: For private and gated repositories.
        revision: Branch, tag or commit.
        subfolder: Only download this folder; the returned folder is still the root of the repository.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
        force_download: Whether to download cached files again.

    Raises:
        NotFoundError: No such repository or revision, or `repo_id` can't be one.
        HubError: The Hub can't be reached and nothing is cached, or it rejected the request.
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
    """Reject a repository whose model is too large, before downloading anything.

    Raises:
        LimitError: The files that `download_model` would download exceed `max_bytes`.
        NotFoundError: No such repository, or `repo_id` can't be one.
        HubError: The Hub rejected the request for their size.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(f"{repo_id!r} is not a Hub repository such as 'owner/name'. Check the spelling.")
    try:
        with hub_errors(repo_id):
            files = HfApi().model_info(repo_id, files_metadata=True).siblings or ()
    except HubError as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise
        return  # offline only the cache can be used, and copying from it checks the size again
    wanted = set(all_paths())
    n_bytes = sum(file.size or 0 for file in files if file.rfilename in wanted)
    if n_bytes > max_bytes:
        raise LimitError(f"{repo_id} has {n_bytes:,} bytes, but at most {max_bytes:,} are allowed here for a model.")


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
    """Download the matching files of a repository unless they are cached, and return their folder.

    Files for other runtimes than PyTorch (ONNX, OpenVINO, TensorFlow, ...) are skipped.

    Args:
        repo_id: `owner/name`.
        allow_patterns: Shell-style patterns; `*` also matches slashes.
        token: For private and gated repositories.
        revision: Branch, tag or commit.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
        reporter: Receives the stage `"download"`, in bytes, if there is anything to download. When it is cancelled,
            this call ends; downloads in progress continue in the background while the process lives.
        force_download: Whether to download cached files again.

    Raises:
        NotFoundError: No such repository or revision, or `repo_id` can't be one.
        HubError: The Hub can't be reached and nothing is cached, or it rejected the request.
        Cancelled: The reporter was cancelled.
    """
    if not is_repo_id(repo_id):
        raise NotFoundError(
            f"Folder not found: {repo_id}. It can't be a Hub repository such as 'owner/name' either. Check the path."
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
    with hub_errors(repo_id, revision):
        try:
            if reporter is None:
                folder = Path(fetch())
            else:
                known = partial(_blob_sizes, HfApi(endpoint, token), repo_id, revision, allow_patterns)
                folder = Path(_report_bytes(fetch, known, _cached(repo_id) / "blobs", reporter))
        except HfHubHTTPError:
            raise
        except HTTP_ERROR:
            # huggingface_hub uses its cache only if it can't connect, not if a connection breaks.
            folder = Path(fetch(local_files_only=True))
    with contextlib.suppress(OSError):  # a read-only cache is never evicted
        os.utime(_cached(repo_id))
    return folder


def matching(paths: Iterable[str], allow_patterns: Sequence[str]) -> list[str]:
    """The files of a repository that `download` would download."""
    return [
        path
        for path in paths
        if any(fnmatchcase(path, pattern) for pattern in allow_patterns)
        and not any(fnmatchcase(path, pattern) for pattern in _OTHER_RUNTIMES)
    ]


def _report_bytes(
    fetch: Callable[[], _T], sizes: Callable[[], Mapping[str, int]], blobs: Path, reporter: ProgressReporter
) -> _T:
    """Return the result of `fetch`, and meanwhile report the bytes of its files in the cache.

    The client's own progress bars can't be used: what they count differs between its releases.

    Args:
        fetch: Downloads the files.
        sizes: Returns the size of each file by the name of its blob; runs concurrently, and errors are ignored.
        blobs: The folder of the blobs; incomplete ones have a longer name.
        reporter: As for `download`.
    """
    fetched, known = _in_thread(fetch), _in_thread(sizes)
    if not wait([fetched], _SECONDS_BETWEEN_LOOKS).done:
        reporter.start("download")
    n_before: int | None = None
    while not wait([fetched], _SECONDS_BETWEEN_LOOKS).done:
        if not known.done() or known.exception() is not None:
            reporter.advance(0)  # reports nothing, but allows cancelling
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
    """Run `work` in a daemon thread, which does not keep the process alive, and return its future."""
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised again by `result()`
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def _blob_sizes(api: HfApi, repo_id: str, revision: str | None, allow_patterns: Sequence[str]) -> dict[str, int]:
    """Sizes of the matching files in bytes, by the names of their blobs in the cache."""
    files = api.model_info(repo_id, revision=revision, files_metadata=True).siblings or ()
    wanted = set(matching([file.rfilename for file in files], allow_patterns))
    return {
        (file.lfs.sha256 if file.lfs else file.blob_id or ""): file.size or 0
        for file in files
        if file.rfilename in wanted
    }


def _cached(repo_id: str) -> Path:
    """The repository's folder in the cache; its modification time tells `trim_hub_cache` when it was last used."""
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"))


def _largest(blobs: Path, name: str) -> int:
    """Size of the blob in bytes, or of the largest incomplete one."""
    sizes = [0]
    for path in blobs.glob(f"{name}*"):
        with contextlib.suppress(OSError):  # it may just have been renamed
            sizes.append(path.stat().st_size)
    return max(sizes)


@contextlib.contextmanager
def hub_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Convert the errors of huggingface_hub about `repo_id` to this library's errors.

    Raises:
        NotFoundError: No such repository or revision.
        HubError: The Hub can't be reached, or it rejected the request.
    """
    try:
        yield
    except M2VError:  # a HubError is also a ConnectionError
        raise
    except HFValidationError as error:
        raise NotFoundError(f"{repo_id!r} can't be a Hub repository: {error}") from error
    except GatedRepoError as error:
        raise HubError(
            f"{repo_id} is gated. Request access on its page, then pass a token of the account with access."
        ) from error
    except RevisionNotFoundError as error:
        raise NotFoundError(f"{repo_id} has no revision {revision!r}; check its branches and tags.") from error
    except RepositoryNotFoundError as error:
        # The Hub returns 401 both for missing and for private repositories.
        raise NotFoundError(
            f"{repo_id} is neither a folder nor a repository on the Hub. Check the spelling; if it is private, pass a "
            "token with read access."
        ) from error
    except HfHubHTTPError as error:
        raise _rejected(repo_id, error) from error
    except LocalEntryNotFoundError as error:
        # huggingface_hub falls back to its cache whenever a request fails, and puts the reason into the cause.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _rejected(repo_id, error.__cause__) from error
        raise _unreachable(repo_id) from error
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise _unreachable(repo_id) from error


def _rejected(repo_id: str, error: HfHubHTTPError) -> HubError:
    status = error.response.status_code
    if status in (401, 403):
        remedy = "The token is invalid or lacks permission; pass one with access."
    elif status == 429:
        remedy = "Too many requests; wait a few minutes, or pass a token for a higher limit."
    else:
        remedy = "Try again in a few minutes."
    return HubError(f"The Hub returned status {status} for {repo_id}. {remedy}")


def _unreachable(repo_id: str) -> HubError:
    return HubError(
        f"{repo_id} is neither a folder nor in the Hub's cache, and the Hub can't be reached. Check "
        "the network, HF_ENDPOINT and HF_HUB_OFFLINE, or pass a local folder."
    )
