"""Retries requests to the Hub that may succeed later, and explains final failures."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from m2v_core.errors import Cancelled, HubError, InputError, M2VError
from m2v_core.hub.download import HTTP_ERROR

logger = logging.getLogger(__name__)

_PAUSES = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth attempt
_MAX_PAUSE = 60.0  # longer waits requested by the Hub are errors
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_T = TypeVar("_T")


def reject_long_waits() -> None:
    """In this process, raise an error immediately if the Hub requests a wait of more than a minute.

    huggingface_hub waits as long as requested, up to six times, and can't be cancelled while it waits.
    """
    client = get_session()
    hooks: dict[str, list[Callable[..., Any]]] = client.event_hooks
    if _reject_long_wait not in hooks.get("response", ()):
        client.event_hooks = {**hooks, "response": [*hooks.get("response", ()), _reject_long_wait]}


def _reject_long_wait(response: Any) -> None:
    asked = response.headers.get("Retry-After", "")
    if response.status_code in _PASSING and asked.isdecimal() and float(asked) > _MAX_PAUSE:
        response.read()
        raise HfHubHTTPError(f"The Hub requests a wait of {asked} seconds.", response=response)


class Attempts:
    """The requests of one push, each retried a few times if needed.

    Args:
        repo_id: Repository named in errors; see `set_repo_id`.
        cancel: Set it to stop waiting, and to cancel the work before the next attempt.
        undo: Called before an error is raised; it may change `state`.

    Attributes:
        state: What is on the Hub now, as a sentence for error messages.
    """

    def __init__(self, repo_id: str, cancel: threading.Event | None, undo: Callable[[], None] = lambda: None) -> None:
        self.state = "Nothing was sent, and nothing on the Hub was changed."
        self._repo_id = repo_id
        self._cancel = cancel or threading.Event()
        self._undo = undo

    def set_repo_id(self, repo_id: str) -> None:
        """Set the full name of the repository once it is known."""
        self._repo_id = repo_id

    def run(self, action: Callable[[], _T], what: str, may_repeat: bool = True) -> _T:
        """Return the result of `action`, retrying it if the failure may be temporary.

        Raises:
            M2VError: The last attempt failed; the message states what is on the Hub now.
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
                known = next(filter(_is_hub_error, causes), None)
                if known is None or isinstance(error, M2VError):
                    raise
                wait = _pause(known, pause) if may_repeat and not _was_repeated(causes) else None
                if wait is None:
                    raise self._translate(known, what) from error
                logger.warning("The Hub: %s. Retrying in %.0f s.", _first_line(known), wait)
                self._cancel.wait(wait)
        raise AssertionError("the last attempt returns or raises")

    def _cancelled(self) -> Cancelled:
        self._undo()
        return Cancelled(f"Cancelled. {self.state}")

    def _translate(self, error: BaseException, what: str) -> M2VError:
        self._undo()
        intro, ending = f"{self._repo_id} could not be published: ", f"{self.state} Your local copy is unchanged."
        if isinstance(error, LocalTokenNotFoundError):
            return HubError(f"{intro}you are not signed in. Run `hf auth login` or pass a token. {ending}")
        if _is_card_error(error):
            return InputError(f"{intro}the Hub rejects its model card. {_first_line(error)} {ending}")
        if not isinstance(error, HfHubHTTPError):
            return HubError(
                f"{intro}the Hub can't be reached to {what}. Check network and HF_ENDPOINT, and push again. {ending}"
            )
        status = error.response.status_code
        remedies = {
            401: "The token is missing or invalid. Sign in, or pass a token with write access.",
            403: "This account or token has no write access there. Choose a name under your own account, or use "
            "another token.",
            404: "It no longer exists, or is private to another account. Check the name and the token.",
            409: "Another change is in progress. Wait a moment and push again.",
            412: "It was changed in the meantime. Push again.",
            413: "It exceeds the Hub's size limit.",
            429: "Too many requests. Wait a few minutes and push again.",
        }
        remedy = remedies.get(status, "This is a problem of the Hub. Push again in a few minutes.")
        return HubError(f"{intro}the Hub returned status {status} for the request to {what}. {remedy} {ending}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, the root cause last: upload errors are wrapped."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _is_hub_error(error: BaseException) -> bool:
    """Whether the error comes from the connection to the Hub rather than from this library."""
    # Invalid JSON comes from a proxy in front of a Hub that is down.
    kinds = (HTTP_ERROR, ConnectionError, json.JSONDecodeError, LocalTokenNotFoundError)
    return isinstance(error, kinds) or _is_card_error(error)


def _is_card_error(error: BaseException) -> bool:
    return type(error) is ValueError and "README.md" in str(error)


def _pause(error: BaseException, pause: float | None) -> float | None:
    """Seconds until the next attempt; None if there should be none."""
    if pause is None or _is_card_error(error) or isinstance(error, LocalTokenNotFoundError):
        return None
    if not isinstance(error, HfHubHTTPError):
        return pause
    if error.response.status_code not in _PASSING:
        return None
    asked = error.response.headers.get("Retry-After", "")
    wait = float(asked) if asked.isdecimal() else pause
    return wait if wait <= _MAX_PAUSE else None


def _was_repeated(causes: list[BaseException]) -> bool:
    """Whether the client has already tried this six times, as it does for all upload requests."""
    if any(isinstance(cause, RuntimeError) and "while uploading" in str(cause) for cause in causes):
        return True
    responses = [cause.response for cause in causes if isinstance(cause, HfHubHTTPError)]
    return any("/preupload/" in str(found.url) or "/info/lfs/" in str(found.url) for found in responses)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
