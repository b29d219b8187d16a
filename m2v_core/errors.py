"""Every error this library raises on purpose, in one tree.

Each is an `M2VError` and a builtin, so that `except ValueError` keeps working for any caller.
A message says what was met, what would be allowed, and what to do next.

    M2VError
    ├── InputError (ValueError)                an argument or a text that can't be used
    │   └── VocabularyError                    a vocabulary that can't be read or holds nothing
    ├── TeacherError (ValueError)              a teacher that can't be distilled
    │   ├── RemoteCodeError                    it asks to run its own code
    │   └── TeacherOutputError                 it returned NaN or infinity
    ├── ModelFormatError (ValueError)          a folder that holds no static model, or a damaged one
    ├── NotFoundError (FileNotFoundError)      no such folder, file or repository
    ├── HubError (ConnectionError)             the Hub can't be reached, or refused
    │   ├── NotSignedInError                   there is no access token, or the Hub says that it is not valid
    │   └── RepoExistsError                    it has a model of this name, and nobody said to overwrite it
    ├── SaveError (OSError)                    a model or a file could not be written
    ├── LimitError (RuntimeError)              a limit of this installation refuses; the message names it
    ├── DeviceError (RuntimeError)             the requested device isn't there
    ├── MissingExtraError (ImportError)        an optional dependency isn't installed
    └── Cancelled (RuntimeError)               the caller asked to stop
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What an error says first, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class M2VError(Exception):
    """Base of every deliberate error."""


class InputError(M2VError, ValueError):
    """An argument or a text that can't be used."""


class VocabularyError(InputError):
    """A vocabulary that can't be read, or that holds no usable word."""


class TeacherError(M2VError, ValueError):
    """A teacher that can't be distilled."""


class RemoteCodeError(TeacherError):
    """A teacher that asks to run its own code, without `trust_remote_code`."""


class TeacherOutputError(TeacherError):
    """A teacher whose output holds NaN or infinity."""


class ModelFormatError(M2VError, ValueError):
    """A folder that holds no static model, or a damaged one."""


class NotFoundError(M2VError, FileNotFoundError):
    """No such folder, file or repository."""


class HubError(M2VError, ConnectionError):
    """The Hub can't be reached, or it refused."""


class NotSignedInError(HubError):
    """There is no access token, or the Hub says that it is not valid."""


class RepoExistsError(HubError):
    """The Hub has a model of this name, and nobody said to overwrite it."""


class SaveError(M2VError, OSError):
    """A model or a file could not be written; what stood there before still stands."""


class LimitError(M2VError, RuntimeError):
    """A limit of this installation refuses; the message names the limit."""


class DeviceError(M2VError, RuntimeError):
    """The requested device isn't there."""


class Cancelled(M2VError, RuntimeError):
    """The caller asked to stop, and nothing was written."""


class MissingExtraError(M2VError, ImportError):
    """An optional dependency isn't installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'm2v-studio[{extra}]'")
        self.package = package
        self.extra = extra


class NeedsExtra:
    """A `with` block of imports that a base install lacks.

    Args:
        package: What to install; None for the module that is missing.
        extra: The extra of this package that brings it.

    Raises:
        MissingExtraError: One of them is not installed.
    """

    def __init__(self, package: str | None, extra: str) -> None:
        self._package = package
        self._extra = extra

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Name the missing package."""
        if isinstance(error, ImportError):
            raise MissingExtraError(self._package or error.name or self._extra, self._extra) from error
