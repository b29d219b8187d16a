"""Who is signed in to the Hub, where that account may write, and what has a name there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from m2v_core.errors import HubError
from m2v_core.hub.download import HTTP_ERROR, explained

Standing = Literal["free", "empty", "taken"]

_SECONDS_TO_ANSWER = 3.0
_READING_ROLES = ("read",)
_IN_A_NEW_REPO = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Account:
    """Whom a token signs in.

    Attributes:
        name: The account.
        namespaces: Names it may publish under: its own first, then its organisations'.
        may_write: False when the token is for reading alone.
    """

    name: str
    namespaces: tuple[str, ...]
    may_write: bool

    def refusal(self, repo_id: str) -> str:
        """Why this account can't publish there, as a sentence for people; empty when it can.

        What a fine-grained token allows is only found out by trying.
        """
        if not self.may_write:
            return (
                f"The access token of {self.name} may read, not write. Make one that may write on "
                "huggingface.co/settings/tokens, and sign in with it: hf auth login"
            )
        namespace = repo_id.rpartition("/")[0] or self.name
        if namespace not in self.namespaces:
            return (
                f"{self.name} can't write to {namespace}. Publish under {' or '.join(self.namespaces[:5])}, or let an "
                f"owner of {namespace} make you a member."
            )
        return ""


def saved_token() -> str | None:
    """The access token that this machine's user gave huggingface_hub: `hf auth login`, or HF_TOKEN; None without."""
    return get_token()


def sign_in(token: str) -> Account:
    """Whom a token signs in.

    Raises:
        HubError: The token is not valid, or the Hub can't be reached.
    """
    try:
        known = HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(
                "The Hub doesn't know this access token: it has expired or was withdrawn. Sign in anew."
            ) from error
        raise HubError(f"The Hub answered {status} when asked who is signed in. Try again in a minute.") from error
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise HubError(
            "The Hub can't be reached to sign in. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from error
    name = str(known["name"])
    orgs = [str(org["name"]) for org in known.get("orgs") or () if org.get("roleInOrg") not in _READING_ROLES]
    return Account(name, (name, *orgs), _role(known) not in _READING_ROLES)


def standing(repo_id: str, token: str | None, *, revision: str = "main") -> Standing:
    """Whether a model could be published under this name without touching anything.

    Args:
        repo_id: `owner/name`.
        token: Sees private repositories too.
        revision: The branch; a repository without it is free.

    Returns:
        `"free"` where nothing is, `"empty"` for a repository without files, else `"taken"`.

    Raises:
        HubError: The Hub can't be reached, or refused.
    """
    api = HfApi(token=token)
    with explained(repo_id):
        try:
            info = api.model_info(repo_id)
        except RepositoryNotFoundError:
            return "free"
        if revision != "main":
            branches = {branch.name: branch.target_commit for branch in api.list_repo_refs(repo_id).branches}
            return "taken" if revision in branches else "free"
    return "empty" if {file.rfilename for file in info.siblings or ()} <= _IN_A_NEW_REPO else "taken"


def is_reachable() -> bool:
    """Whether the Hub answers at all, within three seconds."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR, OSError):
        return False
    return True


def _role(known: Mapping[str, Any]) -> str:
    """What the token is for: `"read"`, `"write"`, `"fineGrained"`, ...; empty for a sign-in without a token."""
    access = (known.get("auth") or {}).get("accessToken") or {}
    return str(access.get("role", ""))
