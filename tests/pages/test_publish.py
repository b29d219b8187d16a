"""Home and Publish: what is refused before any work, and what a job is asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from m2v_core.errors import HubError, InputError, M2VError, NotFoundError, TeacherError
from m2v_core.hub.account import Account, Grant
from m2v_core.studio.jobs import Stage
from m2v_core.studio.library import Library, ModelRecord
from pages import home, publish
from pages.components import BUNDLED_TEACHER, account, job_panel, model_picker, preflight_card, served_files
from pages.components.account import Visitor, account_html, name_html, permitted, visitor
from pages.components.job_panel import panel_values, retry_upload
from pages.components.job_view import ONE_CLICK, job_html
from pages.components.result_card import result_html
from tests.hub.server import LoopbackHub, User
from tests.pages.conftest import FakeStore, done_job, make_job
from tests.static_models import static_model

EVIL = "<img src=x onerror=alert(1)>"
OWNER = "owner-owner-owner-owner-1"
TOKEN, READER = "hf_ada", "hf_reader"
ADA = Visitor(TOKEN, Account("ada", ("ada", "lab"), True))
LOCAL = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"))
PUBLISHED = {
    "repo_id": "ada/model",
    "url": "https://huggingface.co/ada/model",
    "commit": "0123456789",
    "revision": "main",
    "pr_url": None,
    "verified": True,
    "private": True,
    "n_bytes": 1_500_000,
    "readers": ["m2v-studio", "model2vec 1.0"],
}


@pytest.fixture
def hub(session_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(
        session_hub,
        "users",
        {**session_hub.users, TOKEN: User("ada", orgs=("lab",)), READER: User("ada", role="read")},
    )
    monkeypatch.setattr(account, "_accounts", {})
    monkeypatch.setattr(preflight_card, "_kept", {})
    session_hub.add("lab/full", {"config.json": b"{}"})
    session_hub.add("others/full", {"config.json": b"{}"})
    session_hub.add("lab/empty", {".gitattributes": b""})
    yield session_hub


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models")
    for module in (publish, model_picker, job_panel, served_files):
        monkeypatch.setattr(module, "model_library", lambda: made)
        monkeypatch.setattr(module, "job_store", lambda: store)
    return made


@pytest.fixture
def model(library: Library, tmp_path: Path) -> ModelRecord:
    static_model(base_model_name="someone/teacher").save_pretrained(tmp_path / "small", license="mit")
    return library.add_from_folder(tmp_path / "small", OWNER, "small")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def oauth(token: str) -> gr.OAuthToken:
    return gr.OAuthToken(token, "", 0)


def form(model: ModelRecord, **changes: Any) -> dict[str, Any]:
    chosen = {
        "owner": OWNER,
        "who": ADA,
        "model_id": model.id,
        "name": "ada/new",
        "way": None,
        "branch": "v2",
        "access": "private",
        "license": "mit",
        "card": "",
    }
    return chosen | changes


def test_on_this_machine_the_saved_token_signs_in(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    who = visitor(None, LOCAL)
    assert who.account == Account("ada", ("ada", "lab"), True)
    visitor(None, LOCAL)
    assert hub.paths().count("/api/whoami-v2") == 1
    assert TOKEN not in repr(account._accounts)


def test_who_comes_from_elsewhere_does_not_act_for_this_machine(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for request in (None, SimpleNamespace(client=None), SimpleNamespace(client=SimpleNamespace(host="10.0.0.7"))):
        assert visitor(None, request) == Visitor()


@pytest.mark.parametrize("variable", ["SPACE_ID", "OAUTH_CLIENT_ID"])
def test_on_a_space_only_oauth_signs_in(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    monkeypatch.setenv(variable, "someone/space")
    assert visitor(None, LOCAL) == Visitor()
    assert visitor(oauth(TOKEN), LOCAL).token == TOKEN
    assert visitor(oauth(TOKEN), LOCAL).account.name == "ada"


def test_a_withdrawn_token_is_told_and_no_more(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_withdrawn")
    who = visitor(None, LOCAL)
    assert who.account is None
    said = account_html(who, "")
    assert "You are not signed in" in said and "withdrawn. Sign in again" in said and "hf_withdrawn" not in said


def test_a_token_withdrawn_since_the_page_was_opened_is_told_before_any_work(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    shown = home.prepare(BUNDLED_TEACHER, False, LOCAL, None)
    assert (shown["publishes"], shown["start"].value) == (True, "Make and publish")
    del hub.users[TOKEN]
    assert visitor(None, LOCAL).state == "signed in"  # as it was a moment ago, while one types
    who = visitor(None, LOCAL, ask_again=True)  # as pressing the button does
    assert who.state == "signed out"
    with pytest.raises(HubError, match="withdrawn. Sign in again"):
        home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, True)
    assert store.submitted == []
    shown = home.prepare(BUNDLED_TEACHER, True, LOCAL, None)
    assert (shown["publishes"], shown["start"].value) == (False, "Make my model")
    home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, False)
    assert "publish" not in store.submitted[0][0].parameters


def test_the_form_is_kept_while_nobody_can_tell_who_is_signed_in(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub.failing("whoami", status=503):
        who = visitor(None, LOCAL, ask_again=True)
        assert who.state == "unknown"
        first, later = (home.prepare(BUNDLED_TEACHER, publishes, LOCAL, None) for publishes in (False, True))
        with pytest.raises(HubError, match="503"):
            home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, True)
    assert "is not known" in text_of(first["account"]) and "ends in a ZIP" in text_of(first["account"])
    assert (first["publishes"], first["start"].value) == (False, "Make my model")
    assert later.keys() == {"account"} and "503" in later["account"]
    assert store.submitted == []


def test_the_button_publishes_only_where_it_said_so(hub: LoopbackHub, store: FakeStore) -> None:
    """Whoever signed in after the page was opened pressed "Make my model"."""
    home.submit(OWNER, ADA, BUNDLED_TEACHER, "new", None, False)
    assert "publish" not in store.submitted[0][0].parameters
    assert store.secrets == [{}]


@pytest.mark.parametrize(
    ("scope", "seconds", "said"),
    [("openid profile", 3600, "without allowing"), ("contribute-repos", 30, "expires in"), ("", -1, "has expired")],
)
def test_what_was_allowed_by_oauth_is_checked_at_the_press(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch, scope: str, seconds: float, said: str
) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client")
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    who = visitor(gr.OAuthToken(TOKEN, scope, int(time.time() + seconds)), LOCAL)
    with pytest.raises(HubError, match=said):
        home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, True)
    assert store.submitted == []


def test_what_was_allowed_by_oauth_goes_to_the_job(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client")
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    expires_at = int(time.time()) + 3600
    who = visitor(gr.OAuthToken(TOKEN, "openid contribute-repos", expires_at), LOCAL)
    home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, True)
    grant = Grant.from_text(store.secrets[0]["publish_grant"])
    assert grant == Grant(frozenset({"openid", "contribute-repos"}), expires_at)


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut_after": 0}], ids=str)
def test_a_licence_that_can_not_be_looked_up_is_not_taken_for_none(
    hub: LoopbackHub,
    store: FakeStore,
    build_teacher_once: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, int],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add("lab/teacher", build_teacher_once("wordpiece"))
    with hub.failing("/api/models/lab/teacher", **fault):
        shown = home.prepare("lab/teacher", False, LOCAL, None)
        with pytest.raises(InputError, match="licence of lab/teacher is not known"):
            home.submit(OWNER, ADA, "lab/teacher", "new", None, True)
        home.submit(OWNER, ADA, "lab/teacher", "new", "mit", True)
    assert shown["license"].visible and "can't be looked up" in shown["license"].info
    assert home.prepare("lab/teacher", False, LOCAL, None)["license"].info.startswith("The teacher states none")


def test_the_way_that_was_chosen_stays_while_the_hub_can_not_tell(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert publish.check("lab/full", LOCAL, None)[1].visible
    assert not publish.check("ada/free", LOCAL, None)[1].visible
    with hub.failing("/api/models/lab/full", status=503):
        said, way = publish.check("lab/full", LOCAL, None)
    assert "503" in said and way == gr.skip()


def test_without_an_account_it_says_how() -> None:
    assert "hf auth login" in account_html(Visitor(), "The button ends in a ZIP.")
    assert EVIL not in account_html(Visitor("t", Account(EVIL, (EVIL,), True)), "")


@pytest.mark.parametrize(
    ("who", "name", "said"),
    [
        (Visitor(), "ada/new", "No one is signed in"),
        (ADA, "", "no name yet"),
        (ADA, "my model", "can't be the name"),
        (ADA, "others/new", "ada can't write to others"),
        (Visitor(READER, Account("ada", ("ada",), False)), "ada/new", "may read, not write"),
        (ADA, "lab/full", "exists already"),
        (ADA, "others/full", "exists already"),
    ],
)
def test_home_refuses_a_name_before_any_work(
    hub: LoopbackHub, store: FakeStore, who: Visitor, name: str, said: str
) -> None:
    if who.account is None:
        with pytest.raises(HubError, match=said):
            permitted(who, name)
        return
    with pytest.raises(M2VError, match=said):
        home.submit(OWNER, who, BUNDLED_TEACHER, name, None, True)
    assert store.submitted == []


def test_a_name_is_checked_as_it_is_typed(hub: LoopbackHub) -> None:
    assert "ada/new is free" in name_html(ADA, "new")
    assert "lab/empty is free" in name_html(ADA, "lab/empty")
    assert "exists already" in name_html(ADA, "lab/full")
    assert "belongs to others" in name_html(ADA, "others/full")
    assert name_html(Visitor(), "new") == name_html(ADA, "  ") == ""
    assert EVIL not in name_html(ADA, EVIL)
    with hub.failing("/api/models/ada/new", status=503):
        assert "503" in name_html(ADA, "ada/new")


def test_home_publishes_for_who_is_signed_in(hub: LoopbackHub, store: FakeStore) -> None:
    home.submit(OWNER, ADA, BUNDLED_TEACHER, "new", None, True)
    spec, owner = store.submitted[0]
    assert (spec.kind, owner, spec.title) == ("distill", OWNER, "new")
    assert spec.parameters == {
        "model_name": BUNDLED_TEACHER,
        "recipe": "fast",
        "measure": True,
        "license": "apache-2.0",
        "name": "ada/new",
        "publish": {"repo_id": "ada/new", "private": True},
    }
    assert store.secrets == [{"publish_token": TOKEN}]
    assert TOKEN not in repr(spec)


def test_home_makes_a_zip_for_others(hub: LoopbackHub, store: FakeStore) -> None:
    home.submit(OWNER, Visitor(), BUNDLED_TEACHER, "", None, False)
    spec, _ = store.submitted[0]
    expected = {"model_name": BUNDLED_TEACHER, "recipe": "fast", "measure": True, "license": "apache-2.0"}
    assert spec.parameters == expected | {"name": "minilm-l6-256"} and spec.title == "minilm-l6-256"
    assert store.secrets == [{}]
    home.submit(OWNER, Visitor(), BUNDLED_TEACHER, " mine ", None, False)
    assert store.submitted[1][0].title == store.submitted[1][0].parameters["name"] == "mine"
    with pytest.raises(InputError, match="can't be the name of a model"):
        home.submit(OWNER, Visitor(), BUNDLED_TEACHER, "ada/mine", None, False)


def test_home_proposes_a_name(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    box, suggested = home.propose_name(BUNDLED_TEACHER, "", "", False, LOCAL, None)
    assert box.value == suggested == "minilm-l6-256"
    assert home.propose_name(" ", "", "", False, LOCAL, None)[1] == ""
    assert "can&#39;t be the name of a model" in home.check_name("my model", False, LOCAL, None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert home.propose_name(BUNDLED_TEACHER, "", "", True, LOCAL, None)[1] == "ada/minilm-l6-256"
    assert "is free" in home.check_name("new", True, LOCAL, None)


def test_home_asks_for_a_licence_that_nothing_states(
    hub: LoopbackHub, store: FakeStore, build_teacher_once: Callable[[str], Path]
) -> None:
    teacher = str(build_teacher_once("wordpiece"))
    with pytest.raises(InputError, match="states no licence"):
        home.submit(OWNER, ADA, teacher, "new", None, True)
    home.submit(OWNER, ADA, teacher, "new", "cc-by-4.0", True)
    assert store.submitted[0][0].parameters["license"] == "cc-by-4.0"


def test_home_looks_at_the_teacher_first(
    hub: LoopbackHub, store: FakeStore, broken_teacher: Callable[[str], Path]
) -> None:
    with pytest.raises(NotFoundError):
        home.submit(OWNER, ADA, "nobody/nothing", "new", "mit", True)
    with pytest.raises(TeacherError):
        home.submit(OWNER, ADA, str(broken_teacher("custom-code")), "new", "mit", True)
    assert store.submitted == []


def test_a_private_teacher_s_reader_gives_its_token_to_the_job(
    hub: LoopbackHub, store: FakeStore, build_teacher_once: Callable[[str], Path]
) -> None:
    hub.add("lab/private-teacher", build_teacher_once("wordpiece"), private=True)
    home.submit(OWNER, ADA, "lab/private-teacher", "new", "mit", True)
    assert store.secrets == [{"publish_token": TOKEN, "hf_token": TOKEN}]
    with pytest.raises(NotFoundError):  # what one may see is not kept for another
        home.submit(OWNER, Visitor(), "lab/private-teacher", "", None, False)


def test_the_publish_page_fills_its_form(hub: LoopbackHub, model: ModelRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    shown = publish.prepare(OWNER, model.id, LOCAL, None)
    assert "Signed in as ada" in text_of(shown["account"])
    assert shown["form"].visible
    expected = {"name": "ada/small", "way": None, "branch": "v2", "access": "private"}
    assert expected.items() <= shown.items()
    assert shown["license"].value == "mit"
    assert "model_name: ada/small" in shown["card"] and "# ada/small" in shown["card"]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", ""), ("int8", "sentence-transformers &gt;= 6.2"), ("float16", ".float()")]
)
def test_the_publish_page_says_what_readers_need(
    hub: LoopbackHub, library: Library, tmp_path: Path, dtype: str, expected: str
) -> None:
    static_model(dtype=dtype).save_pretrained(tmp_path / "small")
    record = library.add_from_folder(tmp_path / "small", OWNER, "small")
    shown = text_of(publish.prepare(OWNER, record.id, LOCAL, None)["readers"])
    assert expected in shown
    assert bool(shown) == bool(expected)


def test_a_teacher_s_licence_is_inherited_and_an_unknown_one_asked_for(
    hub: LoopbackHub, library: Library, tmp_path: Path
) -> None:
    static_model(base_model_name=BUNDLED_TEACHER).save_pretrained(tmp_path / "known")
    known = library.add_from_folder(tmp_path / "known", OWNER)
    assert publish._inherited(OWNER, ADA, known) == ("apache-2.0", "That of its teacher.")
    static_model(base_model_name="nobody/nothing").save_pretrained(tmp_path / "unknown")
    unknown = library.add_from_folder(tmp_path / "unknown", OWNER)
    assert publish._inherited(OWNER, ADA, unknown)[0] is None
    with pytest.raises(InputError, match="licence is not chosen"):
        publish.submit(**form(unknown, license=None))


def test_what_is_published_is_what_was_chosen(hub: LoopbackHub, store: FakeStore, model: ModelRecord) -> None:
    publish.submit(**form(model, access="public", license="weird-1.0", card="# Mine\n"))
    spec, _ = store.submitted[0]
    assert (spec.parameters["repo_id"], spec.parameters["private"]) == ("ada/new", False)
    card = spec.texts["card"][0]
    assert "license: other\nlicense_name: weird-1.0" in card and card.endswith("# Mine\n")
    assert store.secrets == [{"publish_token": TOKEN}]


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"way": "branch", "branch": "v3"}, {"revision": "v3"}),
        ({"way": "pull request"}, {"create_pr": True}),
        ({"way": "replace"}, {"overwrite": True}),
        ({"way": "pull request", "name": "others/full"}, {"create_pr": True}),
        ({"way": "replace", "name": "ada/free"}, {}),
    ],
)
def test_ways_into_a_repository(
    hub: LoopbackHub, store: FakeStore, model: ModelRecord, changes: dict[str, Any], parameters: dict[str, Any]
) -> None:
    publish.submit(**form(model, **{"name": "lab/full", **changes}))
    asked = store.submitted[0][0].parameters
    assert {key: asked.get(key) for key in ("revision", "create_pr", "overwrite") if key in asked} == parameters


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"way": None}, "nothing there is overwritten unasked"),
        ({"way": "branch", "branch": "main"}, "has a branch main already"),
        ({"way": "branch", "branch": "../x"}, "can't be the name of a branch"),
        ({"way": "replace", "name": "others/full"}, "belongs to others"),
        ({"way": "branch", "name": "others/full"}, "belongs to others"),
    ],
)
def test_nothing_is_overwritten_unasked(
    hub: LoopbackHub, store: FakeStore, model: ModelRecord, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(M2VError, match=said):
        publish.submit(**form(model, **{"name": "lab/full", **changes}))
    assert store.submitted == []


def test_without_a_model_it_says_what_to_do(hub: LoopbackHub, store: FakeStore, model: ModelRecord) -> None:
    with pytest.raises(NotFoundError, match="distill or open one first"):
        publish.submit(**form(model, model_id=None))


def test_another_s_model_is_none(hub: LoopbackHub, store: FakeStore, model: ModelRecord) -> None:
    with pytest.raises(NotFoundError):
        publish.submit(**form(model, owner="other-other-other-other-2"))
    assert not publish.prepare("other-other-other-other-2", model.id, LOCAL, None)["form"].visible


def test_a_failed_upload_keeps_the_model_and_can_be_tried_again(
    hub: LoopbackHub, store: FakeStore, library: Library, model: ModelRecord
) -> None:
    made = done_job(
        id=model.id,
        message="ada/new could not be published: the Hub answered 500.",
        parameters={"publish": {"repo_id": "ada/new", "private": True}},
    )
    store.add(OWNER, made)
    shown = panel_values(OWNER, made, ONE_CLICK)
    text = text_of(shown["view"])
    for said in ("Made, but not published", "the Hub answered 500", "Retry upload", model.id):
        assert said in text
    assert shown["retry"].visible and shown["download"].visible  # the button, and the ZIP
    assert not panel_values(OWNER, made, "distill")["retry"].visible
    with pytest.raises(HubError, match="No one is signed in"):
        retry_upload(OWNER, Visitor(), model.id)
    retry_upload(OWNER, ADA, model.id)
    spec, _ = store.submitted[0]
    assert spec.kind == "publish"
    assert spec.parameters["repo_id"] == "ada/new"
    assert spec.parameters["model_id"] == model.id
    with pytest.raises(NotFoundError):
        retry_upload("other-other-other-other-2", ADA, model.id)


def test_what_was_published_is_shown_escaped() -> None:
    evil = {**PUBLISHED, "repo_id": f"ada/{EVIL}", "readers": [EVIL], "url": "javascript:alert(1)"}
    html = result_html(make_job("done", kind="publish", outcome={"published": evil}))
    assert EVIL not in html and "javascript:" not in html
    html = result_html(done_job(outcome={**done_job().outcome, "published": PUBLISHED}))
    assert 'href="https://huggingface.co/ada/model"' in html
    assert "model2vec 1.0" in html and "fetched again and compared" in text_of(html)


def test_bytes_are_counted_while_they_are_sent() -> None:

    stages = (Stage("check", 3, 3, 1.0, True), Stage("upload", 750_000, 1_500_000, 2.0, False))
    assert "750.0 kB of 1.5 MB" in text_of(job_html(make_job("running", kind="publish", stages=stages), "publish"))
