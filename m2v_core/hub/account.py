"""Who is signed in to the Hub, where that account may write, and what has a name there already."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from m2v_core.errors import HubError, NotSignedInError
from m2v_core.hub.download import HTTP_ERROR, explained, is_absent

Standing = Literal["free", "empty", "taken"]

_SECONDS_TO_ANSWER = 3.0
_READING_ROLES = ("read", "no_access")
_WRITING = "repo.write"  # what a fine-grained token calls the right to create and change repositories
_WRITING_SCOPES = frozenset({"contribute-repos", "write-repos", "manage-repos"})
_SECONDS_OF_A_RUN = 300.0  # a sign-in that ends earlier may end before the upload
_IN_A_NEW_REPO = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Account:
    """The account of an access token.

    Attributes:
        name: The account.
        namespaces: Names that the token may publish under: the account's own first, then its organizations'.
        may_write: False when the token is for reading alone.
        repo_ids: Single repositories that a fine-grained token may write to, whosever they are.
    """

    name: str
    namespaces: tuple[str, ...]
    may_write: bool
    repo_ids: tuple[str, ...] = ()

    def refusal(self, repo_id: str) -> str:
        """Why this account can't publish there, in one or two sentences; empty when it can."""
        if not self.may_write:
            return (
                f"The access token of {self.name} may read, not write. Make one that may write on "
                "huggingface.co/settings/tokens, and sign in with it: hf auth login"
            )
        namespace = repo_id.rpartition("/")[0] or self.name
        if namespace in self.namespaces or repo_id in self.repo_ids:
            return ""
        if namespace == self.name:
            return (
                f"The fine-grained access token of {self.name} may not create repositories under {namespace}. Give it "
                "write access to your repositories on huggingface.co/settings/tokens."
            )
        allowed = [*self.namespaces[:5], *self.repo_ids[:5]]
        return (
            f"{self.name} can't write to {namespace} with this access token. Publish under {' or '.join(allowed)}, or "
            f"let an owner of {namespace} give you write access."
        )


@dataclass(frozen=True)
class Grant:
    """What a person allowed when they signed in by OAuth.

    Attributes:
        scopes: The scopes granted; empty where they are not known.
        expires_at: When the token ends, in seconds since 1970; 0 where that is not known.

    Source: https://huggingface.co/docs/hub/oauth
    """

    scopes: frozenset[str]
    expires_at: float

    def refusal(self, seconds_needed: float = _SECONDS_OF_A_RUN) -> str:
        """Why nothing can be published with it, in one or two sentences; empty when it can.

        Args:
            seconds_needed: How long the token still has to be valid.
        """
        remaining = self.expires_at - time.time()
        if self.expires_at and remaining <= 0:
            return "Your sign-in has expired. Sign in again."
        if self.expires_at and remaining < seconds_needed:
            return f"Your sign-in expires in {remaining:.0f} s, maybe before the upload. Sign out, and sign in again."
        if self.scopes and not self.scopes & _WRITING_SCOPES:
            return (
                "You signed in without allowing this app to create repositories. Sign out, sign in again, and allow it."
            )
        return ""

    def to_text(self) -> str:
        """The grant as text, for the secrets of a job; `from_text` reads it."""
        return " ".join([str(self.expires_at), *sorted(self.scopes)])

    @classmethod
    def from_text(cls, text: str) -> Grant:
        """The grant that `to_text` wrote."""
        expires_at, *scopes = text.split()
        return cls(frozenset(scopes), float(expires_at))


def saved_token() -> str | None:
    """The access token that this machine's user gave huggingface_hub: `hf auth login`, or HF_TOKEN; None without."""
    return get_token()


def sign_in(token: str) -> Account:
    """Return the account of a token.

    Raises:
        NotSignedInError: The Hub says that the token is not valid.
        HubError: The Hub can't be reached, or it answered something else: nobody can tell.
    """
    try:
        known = HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise NotSignedInError(
                "The Hub doesn't know this access token: it has expired or was withdrawn. Sign in again."
            ) from error
        raise HubError(f"The Hub answered {status} when asked who is signed in. Try again in a minute.") from error
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise HubError(
            "The Hub can't be reached to sign in. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from error
    name = str(known["name"])
    orgs = [str(org["name"]) for org in known.get("orgs") or () if org.get("roleInOrg") not in _READING_ROLES]
    access = (known.get("auth") or {}).get("accessToken") or {}
    fine_grained = access.get("fineGrained")
    if access.get("role") != "fineGrained" or not isinstance(fine_grained, Mapping):
        # A role that is not known may be able to write; the upload itself then finds out.
        return Account(name, (name, *orgs), access.get("role") not in _READING_ROLES)
    allowed = list(_writable(fine_grained))
    namespaces = tuple(owner for owner in (name, *orgs) if owner in allowed)
    repo_ids = tuple(entity for entity in allowed if "/" in entity)
    return Account(name, namespaces, bool(namespaces or repo_ids), repo_ids)


def _writable(fine_grained: Mapping[str, Any]) -> Iterator[str]:
    """The accounts, organizations and repositories that a fine-grained token may write to."""
    for scope in fine_grained.get("scoped") or ():
        if _WRITING in (scope.get("permissions") or ()):
            yield str((scope.get("entity") or {}).get("name", ""))


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
        except GatedRepoError:
            return "taken"
        except RepositoryNotFoundError as error:
            if not is_absent(error):
                raise NotSignedInError(
                    f"The Hub doesn't say whether {repo_id} exists: the access token is not valid. Sign in again."
                ) from error
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
