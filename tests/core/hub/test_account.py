"""Accounts and repository names: what a token allows, and failed requests to the Hub, which never count as a "no"."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from m2v_core.errors import HubError, LimitError, NotFoundError, NotSignedInError
from m2v_core.hub.account import Account, Grant, name_status, sign_in
from m2v_core.hub.download import check_model_bytes
from m2v_core.hub.info import read_files, repo_facts
from tests.hub.server import LoopbackHub, User

ADA = "hf_ada"
WRITE = ("repo.content.read", "repo.write")


@pytest.fixture
def hub(session_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(session_hub, "users", {**session_hub.users, ADA: User("ada", orgs=("lab",))})
    yield session_hub


def account_of(hub: LoopbackHub, user: User) -> Account:
    hub.users[ADA] = user
    return sign_in(ADA)


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        (User("ada", orgs=("lab",)), {"ada/new", "lab/new"}),
        (User("ada", role="read", orgs=("lab",)), set()),
        (User("ada", orgs=("lab", "club"), org_roles={"lab": "read"}), {"ada/new"}),
        (User("ada", "fineGrained", ("lab",), grants={"ada": WRITE, "lab": WRITE[:1]}), {"ada/new"}),
        (User("ada", "fineGrained", ("lab",), grants={"lab": WRITE}), {"lab/new"}),
        (User("ada", "fineGrained", ("lab",), grants={"others/one": WRITE}), {"others/one"}),
        (User("ada", "fineGrained", ("lab",)), set()),
    ],
    ids=lambda value: value.role if isinstance(value, User) else "",
)
def test_permissions_are_known_before_anything_is_created(hub: LoopbackHub, user: User, allowed: set[str]) -> None:
    account = account_of(hub, user)
    names = {"ada/new", "lab/new", "others/new", "others/one"}
    assert {name for name in names if not account.refusal(name)} == allowed
    assert {name for name in names if user.may_write(name.partition("/")[0], name)} == allowed  # the real permissions


def test_an_invalid_token_and_a_failing_hub_raise_different_errors(hub: LoopbackHub) -> None:
    with pytest.raises(NotSignedInError, match="revoked"):
        sign_in("hf_revoked")
    for fault in ({"status": 503}, {"status": 403}, {"cut_after": 0}):
        with hub.failing("whoami", **fault), pytest.raises(HubError) as caught:
            sign_in(ADA)
        assert not isinstance(caught.value, NotSignedInError)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 404, "error_code": "RepoNotFound"}, "free"),
        ({"status": 403, "error_code": "GatedRepo"}, "taken"),
        ({"status": 401, "error_code": "RepoNotFound"}, NotSignedInError),
        ({"status": 503}, HubError),
        ({"cut_after": 0}, HubError),
    ],
    ids=str,
)
def test_a_name_is_free_only_if_the_hub_confirms_it(hub: LoopbackHub, fault, expected) -> None:
    context = nullcontext() if isinstance(expected, str) else pytest.raises(expected)
    with hub.failing("/api/models/ada/maybe", **fault), context:
        assert name_status("ada/maybe", ADA) == expected


def test_grants_of_oauth() -> None:
    later = time.time() + 3600
    assert Grant(frozenset({"openid", "contribute-repos"}), later).refusal() == ""
    assert Grant(frozenset(), 0).refusal() == ""  # unknown scopes and expiry
    assert "without allowing" in Grant(frozenset({"openid", "read-repos"}), later).refusal()
    assert "has expired" in Grant(frozenset({"write-repos"}), time.time() - 1).refusal()
    assert "expires in" in Grant(frozenset({"write-repos"}), time.time() + 20).refusal()
    assert Grant(frozenset({"write-repos"}), time.time() + 20).refusal(seconds_needed=0) == ""


def test_a_model_of_unknown_size_is_not_downloaded(hub: LoopbackHub) -> None:
    hub.add("someone/sized", {"model.safetensors": b"x" * 2000, "config.json": b"{}"})
    with hub.failing("/api/models/someone/sized", status=503), pytest.raises(HubError, match="503"):
        check_model_bytes("someone/sized", 1000)
    with pytest.raises(LimitError):
        check_model_bytes("someone/sized", 1000)
    with pytest.raises(NotFoundError):
        check_model_bytes("someone/no-such-model", 1000)


@pytest.mark.parametrize("fault", [{"status": 403}, {"cut_after": 0}], ids=str)
def test_a_failed_download_does_not_count_as_a_missing_file(hub: LoopbackHub, fault) -> None:
    hub.add("someone/facts", {"config.json": b"{}", "modules.json": b"[]"})
    facts = repo_facts("someone/facts")
    with hub.failing("/resolve/.*/config.json", **fault), pytest.raises(HubError):
        read_files(facts, ["config.json"])
    assert read_files(facts, ["config.json", "tokenizer.json"]) == {"config.json": b"{}"}
