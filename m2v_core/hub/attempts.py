"""Asking the Hub again where it may help, and saying what went wrong where it didn't."""

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
_LONGEST_PAUSE = 60.0  # a Hub that asks for more is better tried again later
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_T = TypeVar("_T")


def refuse_long_waits() -> None:
    """From now on, in this process, a Hub that asks for a wait of more than a minute is an error at once.

    huggingface_hub waits as long as it is told to, up to six times, deaf to whoever wants to stop it.
    """
    client = get_session()
    hooks: dict[str, list[Callable[..., Any]]] = client.event_hooks
    if _refuse_a_long_wait not in hooks.get("response", ()):
        client.event_hooks = {**hooks, "response": [*hooks.get("response", ()), _refuse_a_long_wait]}


def _refuse_a_long_wait(response: Any) -> None:
    asked = response.headers.get("Retry-After", "")
    if response.status_code in _PASSING and asked.isdecimal() and float(asked) > _LONGEST_PAUSE:
        response.read()
        raise HfHubHTTPError(f"The Hub asks for a wait of {asked} seconds.", response=response)


class Attempts:
    """What one push asks of the Hub, each a few times if need be.

    Args:
        repo_id: What errors speak of; `renamed` changes it.
        cancel: Ends the waiting, and the work before the next attempt.
        undo: Called before an error is raised; it may change `state`.

    Attributes:
        state: What the Hub holds now, as a sentence for whoever meets an error.
    """

    def __init__(self, repo_id: str, cancel: threading.Event | None, undo: Callable[[], None] = lambda: None) -> None:
        self.state = "Nothing was sent, and the Hub is as it was."
        self._repo_id = repo_id
        self._cancel = cancel or threading.Event()
        self._undo = undo

    def renamed(self, repo_id: str) -> None:
        """The repository's full name became known."""
        self._repo_id = repo_id

    def run(self, action: Callable[[], _T], what: str, may_repeat: bool = True) -> _T:
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
        self._undo()
        return Cancelled(f"Cancelled. {self.state}")

    def _explained(self, error: BaseException, what: str) -> M2VError:
        self._undo()
        intro, ending = f"{self._repo_id} could not be published: ", f"{self.state} Your copy is untouched."
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
