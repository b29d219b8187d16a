"""The signed-in Hub account, where it may write, and whether a repository name is taken."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_session, get_token, login
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from m2v_core.errors import HubError, InputError, NotSignedInError
from m2v_core.hub.download import HTTP_ERROR, hub_errors, is_absent

NameStatus = Literal["free", "empty", "taken"]

_SECONDS_TO_ANSWER = 3.0
_READING_ROLES = ("read", "no_access")
_WRITING = "repo.write"  # fine-grained permission to create and change repositories
_WRITING_SCOPES = frozenset({"contribute-repos", "write-repos", "manage-repos"})
_SECONDS_OF_A_RUN = 300.0  # a sign-in that expires earlier may expire before the upload
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # characters of a bearer token, RFC 6750
_IN_A_NEW_REPO = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Account:
    """The account of an access token.

    Attributes:
        name: Name of the account.
        namespaces: Names that the token may publish under: the account's own first, then its organizations'.
        may_write: False if the token is read-only.
        repo_ids: Single repositories that a fine-grained token may write to, regardless of the owner.
    """

    name: str
    namespaces: tuple[str, ...]
    may_write: bool
    repo_ids: tuple[str, ...] = ()

    def refusal(self, repo_id: str) -> str:
        """Why this account can't publish there, in one or two sentences; empty if it can."""
        if not self.may_write:
            return (
                f"The access token of {self.name} is read-only. Create one with write access on "
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
            f"ask an owner of {namespace} for write access."
        )


@dataclass(frozen=True)
class Grant:
    """The permissions that a user granted when signing in by OAuth.

    Attributes:
        scopes: The scopes granted; empty if unknown.
        expires_at: When the token expires, in seconds since the epoch; 0 if unknown.

    Source: https://huggingface.co/docs/hub/oauth
    """

    scopes: frozenset[str]
    expires_at: float

    def refusal(self, seconds_needed: float = _SECONDS_OF_A_RUN) -> str:
        """Why this grant does not allow publishing, in one or two sentences; empty if it does.

        Args:
            seconds_needed: How long the token must remain valid.
        """
        remaining = self.expires_at - time.time()
        if self.expires_at and remaining <= 0:
            return "Your sign-in has expired. Sign in again."
        if self.expires_at and remaining < seconds_needed:
            return f"Your sign-in expires in {remaining:.0f} s, possibly before the upload. Sign out and in again."
        if self.scopes and not self.scopes & _WRITING_SCOPES:
            return (
                "You signed in without allowing this app to create repositories. Sign out, sign in again, and allow it."
            )
        return ""

    def to_text(self) -> str:
        """The grant as text, for the secrets of a job; see `from_text`."""
        return " ".join([str(self.expires_at), *sorted(self.scopes)])

    @classmethod
    def from_text(cls, text: str) -> Grant:
        """Parse the result of `to_text`."""
        expires_at, *scopes = text.split()
        return cls(frozenset(scopes), float(expires_at))


def saved_token() -> str | None:
    """The access token saved by huggingface_hub (`hf auth login` or HF_TOKEN); None without one."""
    return get_token()


def store_token(token: str) -> Account:
    """Store a token on this machine, as `hf auth login` does, and return its account.

    Raises:
        InputError: This is no access token.
        NotSignedInError: The token is not valid.
        HubError: The token is read-only, the Hub can't be reached, or the token can't be written.
    """
    token = token.strip()
    if not _TOKEN.fullmatch(token) or token.startswith("api_org"):
        raise InputError("This is not an access token of a user. Copy one from huggingface.co/settings/tokens.")
    account = sign_in(token)
    if not account.may_write:
        raise HubError(account.refusal(""))
    try:
        login(token=token, add_to_git_credential=False)  # sends another request, to get the token's name
    except (HfHubHTTPError, OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise HubError("The Hub did not confirm the access token. Try again in a minute.") from error
    except OSError as error:
        raise HubError(
            f"The access token can't be written to {constants.HF_TOKEN_PATH} ({error.strerror}). Check the permissions "
            "of this folder."
        ) from error
    return account


def sign_in(token: str) -> Account:
    """Return the account of a token.

    Raises:
        NotSignedInError: The token is not valid.
        HubError: The Hub can't be reached or returned another error, so that the answer is unknown.
    """
    try:
        known = HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise NotSignedInError(
                "This access token is not valid: it has expired or was revoked. Sign in again."
            ) from error
        raise HubError(f"The Hub returned status {status} when signing in. Try again in a minute.") from error
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR) as error:
        raise HubError(
            "The Hub can't be reached to sign in. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from error
    name = str(known["name"])
    orgs = [str(org["name"]) for org in known.get("orgs") or () if org.get("roleInOrg") not in _READING_ROLES]
    access = (known.get("auth") or {}).get("accessToken") or {}
    fine_grained = access.get("fineGrained")
    if access.get("role") != "fineGrained" or not isinstance(fine_grained, Mapping):
        # An unknown role may have write access; otherwise the upload fails.
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


def name_status(repo_id: str, token: str | None, *, revision: str = "main") -> NameStatus:
    """Check whether a repository name is available, without changing anything.

    Args:
        repo_id: `owner/name`.
        token: Also sees the private repositories of this token's account.
        revision: The branch; a repository without this branch counts as free.

    Returns:
        `"free"` without a repository, `"empty"` for a repository without files, otherwise `"taken"`.

    Raises:
        HubError: The Hub can't be reached, or it rejected the request.
    """
    api = HfApi(token=token)
    with hub_errors(repo_id):
        try:
            info = api.model_info(repo_id)
        except GatedRepoError:
            return "taken"
        except RepositoryNotFoundError as error:
            if not is_absent(error):
                raise NotSignedInError(
                    f"The Hub can't check whether {repo_id} exists: the access token is not valid. Sign in again."
                ) from error
            return "free"
        if revision != "main":
            branches = {branch.name: branch.target_commit for branch in api.list_repo_refs(repo_id).branches}
            return "taken" if revision in branches else "free"
    return "empty" if {file.rfilename for file in info.siblings or ()} <= _IN_A_NEW_REPO else "taken"


def is_reachable() -> bool:
    """Whether the Hub responds within three seconds."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except (OfflineModeIsEnabled, ConnectionError, HTTP_ERROR, OSError):
        return False
    return True
