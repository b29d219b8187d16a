"""Accounts and names: what an access token may do, and a Hub that can't tell is never taken for a "no"."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from m2v_core.errors import HubError, LimitError, NotFoundError, NotSignedInError
from m2v_core.hub.account import Account, Grant, sign_in, standing
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
def test_what_is_allowed_is_known_before_anything_is_made(hub: LoopbackHub, user: User, allowed: set[str]) -> None:
    account = account_of(hub, user)
    names = {"ada/new", "lab/new", "others/new", "others/one"}
    assert {name for name in names if not account.refusal(name)} == allowed
    assert {name for name in names if user.may_write(name.partition("/")[0], name)} == allowed  # the Hub's own word


def test_a_token_that_is_not_valid_is_told_from_a_hub_that_can_not_tell(hub: LoopbackHub) -> None:
    with pytest.raises(NotSignedInError, match="withdrawn"):
        sign_in("hf_withdrawn")
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
def test_a_name_is_free_only_where_the_hub_says_so(hub: LoopbackHub, fault, expected) -> None:
    context = nullcontext() if isinstance(expected, str) else pytest.raises(expected)
    with hub.failing("/api/models/ada/maybe", **fault), context:
        assert standing("ada/maybe", ADA) == expected


def test_what_was_allowed_by_oauth() -> None:
    later = time.time() + 3600
    assert Grant(frozenset({"openid", "contribute-repos"}), later).refusal() == ""
    assert Grant(frozenset(), 0).refusal() == ""  # nothing is known
    assert "without allowing" in Grant(frozenset({"openid", "read-repos"}), later).refusal()
    assert "has expired" in Grant(frozenset({"write-repos"}), time.time() - 1).refusal()
    assert "expires in" in Grant(frozenset({"write-repos"}), time.time() + 20).refusal()
    assert Grant(frozenset({"write-repos"}), time.time() + 20).refusal(seconds_needed=0) == ""


def test_a_model_whose_size_is_not_told_is_not_fetched(hub: LoopbackHub) -> None:
    hub.add("someone/sized", {"model.safetensors": b"x" * 2000, "config.json": b"{}"})
    with hub.failing("/api/models/someone/sized", status=503), pytest.raises(HubError, match="503"):
        check_model_bytes("someone/sized", 1000)
    with pytest.raises(LimitError):
        check_model_bytes("someone/sized", 1000)
    with pytest.raises(NotFoundError):
        check_model_bytes("someone/no-such-model", 1000)


@pytest.mark.parametrize("fault", [{"status": 403}, {"cut_after": 0}], ids=str)
def test_a_file_that_can_not_be_fetched_is_not_taken_for_an_absent_one(hub: LoopbackHub, fault) -> None:
    hub.add("someone/facts", {"config.json": b"{}", "modules.json": b"[]"})
    facts = repo_facts("someone/facts")
    with hub.failing("/resolve/.*/config.json", **fault), pytest.raises(HubError):
        read_files(facts, ["config.json"])
    assert read_files(facts, ["config.json", "tokenizer.json"]) == {"config.json": b"{}"}
