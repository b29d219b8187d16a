"""Every error that this library raises deliberately, as one tree.

Each class derives from `M2VError` and from a builtin exception, so that `except ValueError` works for callers.
A message contains the offending value, what is allowed, and what to do next.

    M2VError
    ├── InputError (ValueError)                an invalid argument or text
    │   └── VocabularyError                    a vocabulary that can't be read or is empty
    ├── TeacherError (ValueError)              a teacher that can't be distilled
    │   ├── RemoteCodeError                    it requires code from its own repository
    │   └── TeacherOutputError                 it returned NaN or infinity
    ├── ModelFormatError (ValueError)          a folder without a static model, or with a damaged one
    ├── NotFoundError (FileNotFoundError)      no such folder, file or repository
    ├── HubError (ConnectionError)             the Hub can't be reached, or rejected the request
    │   ├── NotSignedInError                   the access token is missing or not valid
    │   └── RepoExistsError                    a model of this name exists, and overwriting was not requested
    ├── SaveError (OSError)                    a model or a file could not be written
    ├── LimitError (RuntimeError)              a limit of this installation was exceeded; the message names it
    ├── DeviceError (RuntimeError)             the requested device isn't available
    ├── MissingExtraError (ImportError)        an optional dependency isn't installed
    └── Cancelled (RuntimeError)               the caller asked to stop
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class M2VError(Exception):
    """Base class of every deliberate error."""


class InputError(M2VError, ValueError):
    """An invalid argument or text."""


class VocabularyError(InputError):
    """A vocabulary that can't be read, or that contains no usable word."""


class TeacherError(M2VError, ValueError):
    """A teacher that can't be distilled."""


class RemoteCodeError(TeacherError):
    """A teacher that requires code from its own repository, without `trust_remote_code`."""


class TeacherOutputError(TeacherError):
    """A teacher whose output contains NaN or infinity."""


class ModelFormatError(M2VError, ValueError):
    """A folder without a static model, or with a damaged one."""


class NotFoundError(M2VError, FileNotFoundError):
    """No such folder, file or repository."""


class HubError(M2VError, ConnectionError):
    """The Hub can't be reached, or it rejected the request."""


class NotSignedInError(HubError):
    """The access token is missing or not valid."""


class RepoExistsError(HubError):
    """A model of this name exists on the Hub, and overwriting was not requested."""


class SaveError(M2VError, OSError):
    """A model or a file could not be written; existing files are unchanged."""


class LimitError(M2VError, RuntimeError):
    """A limit of this installation was exceeded; the message names the limit."""


class DeviceError(M2VError, RuntimeError):
    """The requested device isn't available."""


class Cancelled(M2VError, RuntimeError):
    """The caller asked to stop, and nothing was written."""


class MissingExtraError(M2VError, ImportError):
    """An optional dependency isn't installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'm2v-studio[{extra}]'")
        self.package = package
        self.extra = extra


class NeedsExtra:
    """A context manager for imports of optional packages.

    Args:
        package: The package to install; None for the missing module.
        extra: The extra of this package that installs it.

    Raises:
        MissingExtraError: A package is not installed.
    """

    def __init__(self, package: str | None, extra: str) -> None:
        self._package = package
        self._extra = extra

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise an error that names the missing package."""
        if isinstance(error, ImportError):
            raise MissingExtraError(self._package or error.name or self._extra, self._extra) from error
