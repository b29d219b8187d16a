"""Who is signed in to the Hub, and whether they may publish under a name.

On a Space people sign in by OAuth. Elsewhere the token counts that huggingface_hub has on this machine, and only for
who sits at it. A token goes into the job that needs it, as its secret, and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from m2v_core.errors import HubError, InputError, NotSignedInError, RepoExistsError
from m2v_core.hub.account import Account, Grant, Standing, saved_token, sign_in, standing
from m2v_core.hub.push import check_repo_id
from pages.components import is_space, notice, shows_errors
from pages.html import Markup, render

_KEPT_SECONDS = 60.0
_MAX_KEPT = 1000
_LOOPBACK = ("127.0.0.1", "::1", "localhost", "testclient")
# By the hash of a token, so that no token stays in memory for this.
_accounts: dict[str, tuple[float, Account]] = {}


@dataclass(frozen=True)
class Visitor:
    """Who is at the page.

    Attributes:
        token: Their access token; None without one.
        account: The account of the token; None where there is none, or where the Hub didn't say.
        problem: Why there is no account; None without a token.
        grant: What they allowed by OAuth; None where people don't sign in by OAuth.
    """

    token: str | None = None
    account: Account | None = None
    problem: HubError | None = None
    grant: Grant | None = None

    @property
    def state(self) -> Literal["signed in", "signed out", "unknown"]:
        """Whether they are signed in; unknown where the Hub can't be reached, or gives no answer."""
        if self.account is not None:
            return "signed in"
        return "signed out" if self.problem is None or isinstance(self.problem, NotSignedInError) else "unknown"


def has_oauth() -> bool:
    """Whether people sign in by OAuth here, as on a Space."""
    return bool(os.environ.get("OAUTH_CLIENT_ID"))


def login_button() -> None:
    """The button that signs in and out, where there is such a thing."""
    if has_oauth():
        gr.LoginButton("Sign in with Hugging Face", "Sign out ({})", size="md", elem_classes="m2v-login")


def visitor(oauth: gr.OAuthToken | None, request: gr.Request | None, *, ask_again: bool = False) -> Visitor:
    """Who is at the page.

    Args:
        oauth: Of this request.
        request: As Gradio passes it.
        ask_again: Ask the Hub now, as before work that ends on the Hub; else it is asked at most once a minute.
    """
    token = visitor_token(oauth, request)
    if token is None:
        return Visitor()
    grant = None
    if oauth is not None and oauth.token == token:
        # Outside a Space Gradio stands in for the Hub, and states scopes that nobody granted.
        scopes = (oauth.scope or "").split() if is_space() else ()
        grant = Grant(frozenset(scopes), float(oauth.expires_at or 0))
    key, now = hashlib.sha256(token.encode()).hexdigest(), time.monotonic()
    if not ask_again and key in _accounts and now - _accounts[key][0] < _KEPT_SECONDS:
        return Visitor(token, _accounts[key][1], grant=grant)
    try:
        account = sign_in(token)
    except HubError as error:
        _accounts.pop(key, None)
        return Visitor(token, None, error, grant)
    while len(_accounts) >= _MAX_KEPT:
        _accounts.pop(next(iter(_accounts)), None)
    _accounts[key] = (now, account)
    return Visitor(token, account, grant=grant)


def visitor_token(oauth: gr.OAuthToken | None, request: gr.Request | None) -> str | None:
    """Their access token, without asking the Hub whom it signs in; None for who is not signed in."""
    if has_oauth() or is_space():
        return oauth.token if oauth is not None else None
    # Whoever opens the app from elsewhere must not act in the name of this machine's user.
    if request is None or request.client is None or request.client.host not in _LOOPBACK:
        return None
    return saved_token()


def account_html(who: Visitor, otherwise: str) -> Markup:
    """Whether this visitor is signed in, or that nobody can tell; `otherwise` says what happens without an account."""
    if who.problem is not None:
        title = "You are not signed in" if who.state == "signed out" else "Whether you are signed in is not known"
        return notice("error", title, list(filter(None, [str(who.problem), otherwise])))
    how = Markup("To publish, sign in above.")
    if not has_oauth():
        how = Markup("To publish, run <code>hf auth login</code> on this machine and load this page again.")
        if is_space():
            how = Markup("Publishing is not set up on this Space.")
    n_others = len(who.account.namespaces) - 1 if who.account is not None else 0
    return render("account.html", account=who.account, n_others=n_others, otherwise=otherwise, how=how)


def full_name(who: Visitor, name: str) -> str:
    """`owner/name` of a repository called by either.

    Raises:
        InputError: It can't be a name.
    """
    name = (name or "").strip()
    if not name:
        raise InputError("The repository has no name yet. Type one, such as my-model.")
    check_repo_id(name)
    return name if "/" in name or who.account is None else f"{who.account.name}/{name}"


def permitted(who: Visitor, name: str, revision: str = "main") -> tuple[str, Standing | Literal["theirs"]]:
    """`owner/name`, and what stands there; the checks that come before any work.

    `"theirs"` is another's repository, to which a pull request can be made and nothing else.

    Raises:
        InputError: It can't be a name.
        HubError: No one is signed in, they may not write there, or the Hub can't be asked.
    """
    if who.problem is not None:
        raise who.problem
    if who.account is None:
        raise NotSignedInError("No one is signed in. Sign in first; the ZIP can be had without.")
    if who.grant is not None and (refused := who.grant.refusal()):
        raise HubError(refused)
    repo_id = full_name(who, name)
    refusal = who.account.refusal(repo_id)
    is_theirs = bool(refusal) and who.account.may_write and standing(repo_id, who.token) == "taken"
    if refusal and not is_theirs:
        raise HubError(refusal)
    return repo_id, "theirs" if is_theirs else standing(repo_id, who.token, revision=revision)


def free_name(who: Visitor, name: str) -> str:
    """`owner/name` of a repository that nothing stands in the way of.

    Raises:
        RepoExistsError: A model is there already.
        InputError: It can't be a name.
        HubError: No one is signed in, they may not write there, or the Hub can't be asked.
    """
    repo_id, found = permitted(who, name)
    if found in ("taken", "theirs"):
        raise RepoExistsError(
            f"{repo_id} exists already, and nothing there is overwritten. Type another name; on the Publish page you "
            "can add a version to it."
        )
    return repo_id


@shows_errors("This name can't be used")
def name_html(who: Visitor, name: str) -> str:
    """What is to be said of a name while it is typed; never raises."""
    if who.account is None or not (name or "").strip():
        return ""
    repo_id, found = permitted(who, name)
    if found == "taken":
        return notice("info", f"{repo_id} exists already", ["Nothing there is overwritten unasked."])
    if found == "theirs":
        return notice("info", f"{repo_id} belongs to others", ["You can propose your model to them."])
    return render('<p class="m2v-name-free" role="status">{{ repo_id }} is free.</p>', repo_id=repo_id)


def may_need_token(who: Visitor) -> bool:
    """Whether a job can't find this visitor's token itself, as it does what `hf auth login` keeps on one's own machine.

    A job that is given a token starts later and downloads into a cache of its own.
    """
    return who.token is not None and (has_oauth() or is_space() or "HF_TOKEN" in os.environ)


def secrets_of(who: Visitor) -> dict[str, Any]:
    """What a job needs to publish in this visitor's name."""
    if not who.token:
        return {}
    grant = {} if who.grant is None else {"publish_grant": who.grant.to_text()}
    return {"publish_token": who.token, **grant}
