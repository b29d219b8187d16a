"""Hub sign-in of visitors, and their permission to publish.

On a Space, visitors sign in with OAuth. Elsewhere, the token that huggingface_hub stores on this machine is used, for
local visitors only. Tokens are passed only to the jobs that need them, as secrets.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import gradio as gr

from m2v_core.errors import HubError, InputError, NotSignedInError, RepoExistsError
from m2v_core.hub.account import Account, Grant, NameStatus, name_status, saved_token, sign_in, store_token
from m2v_core.hub.push import check_repo_id
from pages.components import Values, is_space, message_box, notice, on, shows_errors
from pages.gradio_patches import current_page
from pages.html import Markup, render

_CACHE_SECONDS = 60.0
_MAX_CACHED = 1000
_TOKEN_INFO = (
    "Create one with write access on [huggingface.co/settings/tokens](https://huggingface.co/settings/tokens). It is "
    "stored on this machine, like a token from `hf auth login`."
)
_LOOPBACK = ("127.0.0.1", "::1", "localhost", "testclient")
# Keyed by the hash of a token, so that the cache contains no tokens.
_accounts: dict[str, tuple[float, Account]] = {}


@dataclass(frozen=True)
class Visitor:
    """A visitor of a page.

    Attributes:
        token: Access token; None without one.
        account: Account of the token; None without a token, or if the Hub request failed.
        problem: Why there is no account; None without a token.
        grant: Permissions granted with OAuth; None without OAuth.
    """

    token: str | None = None
    account: Account | None = None
    problem: HubError | None = None
    grant: Grant | None = None

    @property
    def state(self) -> Literal["signed in", "signed out", "unknown"]:
        """Whether the visitor is signed in; unknown if the Hub can't be reached."""
        if self.account is not None:
            return "signed in"
        return "signed out" if self.problem is None or isinstance(self.problem, NotSignedInError) else "unknown"


def has_oauth() -> bool:
    """Whether visitors sign in with OAuth, as on a Space."""
    return bool(os.environ.get("OAUTH_CLIENT_ID"))


def login_button() -> None:
    """Show the button that signs in and out, if OAuth is configured."""
    if has_oauth():
        gr.LoginButton("Sign in with Hugging Face", "Sign out ({})", size="md", elem_classes="m2v-login")


def build_sign_in() -> gr.State:
    """Add a form that signs in with an access token, for local visitors who are signed out.

    Returns the number of sign-ins on this page; its change event triggers updates of the page.
    """
    done = gr.State(0)
    with gr.Column(visible=False, elem_classes="m2v-sign-in") as form:
        token = gr.Textbox(
            label="Access token",
            type="password",
            max_lines=1,
            max_length=1000,
            info=_TOKEN_INFO,
            submit_btn="Sign in",
            elem_classes="m2v-query",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
        message = message_box()
    shown = {"token": token, "message": message, "done": done}
    on(token.submit, enter_token, [token, done], shown)
    on([current_page().load, done.change], offer_sign_in, None, form)
    return done


def offer_sign_in(request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Column:
    """Show the form to visitors who can use it and are signed out."""
    # The environment variable takes precedence over a stored token.
    is_offered = _accepts_token(request) and not os.environ.get("HF_TOKEN")
    return gr.Column(visible=is_offered and visitor(oauth, request).state == "signed out")


def _accepts_token(request: gr.Request) -> bool:
    """Whether this visitor may store a token on this machine: only by a local request to a loopback address.

    Otherwise a visitor through a tunnel, or a website using DNS rebinding, could sign in as this machine's user.
    """
    address = urlsplit(f"//{request.headers.get('host', '')}").hostname
    return not (has_oauth() or is_space()) and _is_local(request) and address in _LOOPBACK


@shows_errors("You are not signed in", lambda message: {"token": "", "message": message})
def enter_token(token: str | None, done: int, request: gr.Request) -> Values:
    """Store an access token on this machine.

    Every response clears the field, and its copy in the session state, where Gradio stores input values.

    Raises:
        M2VError: The request is not local, or the token is invalid or read-only.
    """
    if not _accepts_token(request):
        raise HubError("Access tokens can be entered only on the machine that runs this app.")
    store_token(token or "")
    return {"token": "", "message": "", "done": done + 1}


def visitor(oauth: gr.OAuthToken | None, request: gr.Request | None, *, bypass_cache: bool = False) -> Visitor:
    """Return the visitor of a page.

    Args:
        oauth: OAuth token of the request.
        request: The request.
        bypass_cache: Whether to bypass the one-minute cache, as before a job that publishes to the Hub.
    """
    token = visitor_token(oauth, request)
    if token is None:
        return Visitor()
    grant = None
    if oauth is not None and oauth.token == token:
        # Outside a Space Gradio mocks the OAuth login, and returns scopes that were not granted.
        scopes = (oauth.scope or "").split() if is_space() else ()
        grant = Grant(frozenset(scopes), float(oauth.expires_at or 0))
    key, now = hashlib.sha256(token.encode()).hexdigest(), time.monotonic()
    if not bypass_cache and key in _accounts and now - _accounts[key][0] < _CACHE_SECONDS:
        return Visitor(token, _accounts[key][1], grant=grant)
    try:
        account = sign_in(token)
    except HubError as error:
        _accounts.pop(key, None)
        return Visitor(token, None, error, grant)
    while len(_accounts) >= _MAX_CACHED:
        _accounts.pop(next(iter(_accounts)), None)
    _accounts[key] = (now, account)
    return Visitor(token, account, grant=grant)


def visitor_token(oauth: gr.OAuthToken | None, request: gr.Request | None) -> str | None:
    """Return the visitor's access token, without a request to the Hub; None if they are not signed in."""
    if has_oauth() or is_space():
        return oauth.token if oauth is not None else None
    # Remote visitors must not act on behalf of this machine's user.
    return saved_token() if _is_local(request) else None


def _is_local(request: gr.Request | None) -> bool:
    """Whether a request comes from this machine."""
    return request is not None and request.client is not None and request.client.host in _LOOPBACK


def account_html(who: Visitor, otherwise: str) -> Markup:
    """Show whether the visitor is signed in; `otherwise` is shown if not."""
    if who.problem is not None:
        title = "You are not signed in" if who.state == "signed out" else "Your sign-in could not be checked"
        return notice("error", title, list(filter(None, [str(who.problem), otherwise])))
    how = Markup("To publish, sign in above.")
    if not has_oauth():
        how = Markup("To publish, run <code>hf auth login</code> on this machine and reload this page.")
        if is_space():
            how = Markup("Publishing is not set up on this Space.")
    n_others = len(who.account.namespaces) - 1 if who.account is not None else 0
    return render("account.html", account=who.account, n_others=n_others, otherwise=otherwise, how=how)


def full_name(who: Visitor, name: str) -> str:
    """Return `owner/name` of a repository, adding the visitor's account if the owner is missing.

    Raises:
        InputError: The name is invalid.
    """
    name = (name or "").strip()
    if not name:
        raise InputError("The repository has no name. Enter one, such as my-model.")
    check_repo_id(name)
    return name if "/" in name or who.account is None else f"{who.account.name}/{name}"


def permitted(who: Visitor, name: str, revision: str = "main") -> tuple[str, NameStatus | Literal["theirs"]]:
    """Check the permission to publish; return `owner/name` and its status.

    `"theirs"` is a repository of somebody else, to which only a pull request is possible.

    Raises:
        InputError: The name is invalid.
        HubError: The visitor is not signed in or has no write access, or the Hub can't be reached.
    """
    if who.problem is not None:
        raise who.problem
    if who.account is None:
        raise NotSignedInError("You are not signed in. Sign in first, or download the ZIP.")
    if who.grant is not None and (refused := who.grant.refusal()):
        raise HubError(refused)
    repo_id = full_name(who, name)
    refusal = who.account.refusal(repo_id)
    is_theirs = bool(refusal) and who.account.may_write and name_status(repo_id, who.token) == "taken"
    if refusal and not is_theirs:
        raise HubError(refusal)
    return repo_id, "theirs" if is_theirs else name_status(repo_id, who.token, revision=revision)


def free_name(who: Visitor, name: str) -> str:
    """Return `owner/name` of a repository that does not exist and that the visitor may create.

    Raises:
        RepoExistsError: The repository exists.
        InputError: The name is invalid.
        HubError: The visitor is not signed in or has no write access, or the Hub can't be reached.
    """
    repo_id, found = permitted(who, name)
    if found in ("taken", "theirs"):
        raise RepoExistsError(
            f"{repo_id} already exists and is not overwritten. Enter another name, or add a version to it on the "
            "Publish page."
        )
    return repo_id


@shows_errors("This name can't be used")
def name_html(who: Visitor, name: str, published: Mapping[str, str] | None = None, next_step: str = "") -> str:
    """Show the status of a name while the user types; never raises.

    Args:
        who: The visitor.
        name: The name in the field.
        published: URLs of the repositories that this browser has published, by name.
        next_step: Instructions for publishing another version of one of these.
    """
    if who.account is None or not (name or "").strip():
        return ""
    repo_id, found = permitted(who, name)
    if found == "taken" and (url := (published or {}).get(repo_id)):
        link = render('<a href="{{ url }}" target="_blank" rel="noopener">Open it on the Hub</a>', url=url)
        return notice("good", f"{repo_id} is published", [link, next_step])
    if found == "taken":
        return notice("info", f"{repo_id} already exists", ["It is not overwritten without confirmation."])
    if found == "theirs":
        return notice("info", f"{repo_id} belongs to somebody else", ["You can open a pull request."])
    return render('<p class="m2v-name-free" role="status">{{ repo_id }} is available.</p>', repo_id=repo_id)


def may_need_token(who: Visitor) -> bool:
    """Whether a job must be given the visitor's token, because it is not stored on this machine by `hf auth login`.

    A job with a token starts later and uses a private download cache.
    """
    return who.token is not None and (has_oauth() or is_space() or "HF_TOKEN" in os.environ)


def secrets_of(who: Visitor) -> dict[str, Any]:
    """The secrets that a job needs to publish for this visitor."""
    if not who.token:
        return {}
    grant = {} if who.grant is None else {"publish_grant": who.grant.to_text()}
    return {"publish_token": who.token, **grant}
