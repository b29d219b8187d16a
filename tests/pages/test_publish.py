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
from huggingface_hub import constants

from m2v_core.errors import HubError, InputError, M2VError, NotFoundError, TeacherError
from m2v_core.hub.account import Account, Grant
from m2v_core.studio.jobs import Stage
from m2v_core.studio.library import Library, ModelRecord
from pages import home, publish
from pages.components import BUNDLED_TEACHER, account, job_panel, model_picker, preflight_card, served_files
from pages.components.account import Visitor, account_html, name_html, permitted, visitor
from pages.components.job_panel import panel_values, retry_upload
from pages.components.job_view import ONE_CLICK, job_html
from pages.components.model_name import Suggestion
from pages.components.result_card import result_html
from tests.attacks.space import Stranger
from tests.hub.server import LoopbackHub, User
from tests.pages.conftest import FakeStore, done_job, make_job
from tests.static_models import static_model

EVIL = "<img src=x onerror=alert(1)>"
OWNER = "owner-owner-owner-owner-1"
TOKEN, READER = "hf_ada", "hf_reader"
ADA = Visitor(TOKEN, Account("ada", ("ada", "lab"), True))
LOCAL = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"), headers={"host": "localhost:7860"})
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
    monkeypatch.setattr(preflight_card, "_cache", {})
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


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where huggingface_hub stores the active token; nobody is signed in."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf" / "stored_tokens"))
    return tmp_path / "hf" / "token"


def test_a_token_is_stored_as_by_the_login_of_huggingface_hub(
    hub: LoopbackHub, token_file: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    assert account.offer_sign_in(LOCAL, None).visible
    shown = account.enter_token(f" {TOKEN}\n", 0, LOCAL)
    assert shown == {"token": "", "message": "", "done": 1}
    assert token_file.read_text() == TOKEN and visitor(None, LOCAL).account == Account("ada", ("ada", "lab"), True)
    assert not account.offer_sign_in(LOCAL, None).visible
    assert TOKEN not in "".join([*capfd.readouterr(), caplog.text])
    name = publish.show_account("new", LOCAL, None)["name"]
    assert name == "ada/new" and "account" in publish.show_account("a name?", LOCAL, None)


@pytest.mark.parametrize("token", [TOKEN, READER])
def test_no_token_stays_in_the_memory_of_the_app(hub: LoopbackHub, token_file: Path, token: str) -> None:
    with gr.Blocks() as app:
        account.build_sign_in()
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, run_history=False)
    try:
        stranger = Stranger(address.rstrip("/"))
        said = stranger.call("enter_token", token, 0)
        assert token_file.exists() is (token == TOKEN) and token not in said
        values = app.app.state_holder[stranger.session].config_values
        assert "Access token" in repr(values) and token not in repr(values)
        assert token not in repr(vars(app.app.state_holder[stranger.session]))
    finally:
        app.close()


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (READER, "read-only. Create one with write access"),
        ("hf_unknown", "not valid: it has expired or was revoked"),
        ("", "not an access token"),
        ("hf_a\r\nHost: elsewhere", "not an access token"),
        (EVIL, "not an access token"),
        ("api_org_abc", "not an access token of a user"),
    ],
)
def test_a_token_that_can_not_publish_is_not_stored(hub: LoopbackHub, token_file: Path, token: str, says: str) -> None:
    shown = account.enter_token(token, 0, LOCAL)
    assert shown.keys() == {"token", "message"} and shown["token"] == "" and says in shown["message"]
    assert not token or token not in shown["message"]
    assert not token_file.exists()


def test_a_token_is_not_stored_while_the_hub_is_away(hub: LoopbackHub, token_file: Path) -> None:
    with hub.failing("whoami", status=503):
        assert "503" in account.enter_token(TOKEN, 0, LOCAL)["message"]
    assert not token_file.exists()
    token_file.parent.touch()  # a file where the folder should be
    assert "can&#39;t be written" in account.enter_token(TOKEN, 0, LOCAL)["message"]


@pytest.mark.parametrize("host", ["10.0.0.7", "127.0.0.1"])
@pytest.mark.parametrize("address", ["10.0.0.8:7860", "localhost.evil.example", "studio.gradio.live", ""])
def test_a_token_is_accepted_only_at_this_machine(hub: LoopbackHub, token_file: Path, host: str, address: str) -> None:
    request = SimpleNamespace(client=SimpleNamespace(host=host), headers={"host": address})
    hub.requests.clear()
    assert not account.offer_sign_in(request, None).visible
    assert "only on the machine that runs this app" in account.enter_token(TOKEN, 0, request)["message"]
    assert not token_file.exists() and "/api/whoami-v2" not in hub.paths()


@pytest.mark.parametrize("variable", ["SPACE_ID", "OAUTH_CLIENT_ID"])
def test_on_a_space_no_token_is_accepted(
    hub: LoopbackHub, token_file: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "someone/space")
    assert not account.offer_sign_in(LOCAL, None).visible
    assert "only on the machine" in account.enter_token(TOKEN, 0, LOCAL)["message"]
    assert not token_file.exists()


def test_a_token_of_the_environment_would_hide_a_stored_one(
    hub: LoopbackHub, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_withdrawn")
    assert visitor(None, LOCAL).state == "signed out" and not account.offer_sign_in(LOCAL, None).visible


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
    assert "You are not signed in" in said and "revoked. Sign in again" in said and "hf_withdrawn" not in said


def test_a_token_withdrawn_since_the_page_was_opened_is_told_before_any_work(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    shown = home.prepare(BUNDLED_TEACHER, False, LOCAL, None)
    assert (shown["publishes"], shown["start"].value) == (True, "Make and publish")
    del hub.users[TOKEN]
    assert visitor(None, LOCAL).state == "signed in"  # as it was a moment ago, while one types
    who = visitor(None, LOCAL, bypass_cache=True)  # as pressing the button does
    assert who.state == "signed out"
    with pytest.raises(HubError, match="revoked. Sign in again"):
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
        who = visitor(None, LOCAL, bypass_cache=True)
        assert who.state == "unknown"
        first, later = (home.prepare(BUNDLED_TEACHER, publishes, LOCAL, None) for publishes in (False, True))
        with pytest.raises(HubError, match="503"):
            home.submit(OWNER, who, BUNDLED_TEACHER, "new", None, True)
    account = text_of(first["account"])
    assert "could not be checked" in account and "download the model as a ZIP" in account
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
def test_a_license_that_can_not_be_looked_up_is_not_taken_for_none(
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
        with pytest.raises(InputError, match="license of lab/teacher is unknown"):
            home.submit(OWNER, ADA, "lab/teacher", "new", None, True)
        home.submit(OWNER, ADA, "lab/teacher", "new", "mit", True)
    assert shown["license"].visible and "can't be reached" in shown["license"].info
    assert home.prepare("lab/teacher", False, LOCAL, None)["license"].info.startswith("The teacher does not state")


def test_the_way_that_was_chosen_stays_while_the_hub_can_not_tell(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert publish.check(None, "lab/full", LOCAL, None)[1].visible
    assert not publish.check(None, "ada/free", LOCAL, None)[1].visible
    with hub.failing("/api/models/lab/full", status=503):
        said, way = publish.check(None, "lab/full", LOCAL, None)
    assert "503" in said and way == gr.skip()


def test_without_an_account_it_says_how() -> None:
    assert "hf auth login" in account_html(Visitor(), "You can download the model as a ZIP.")
    assert EVIL not in account_html(Visitor("t", Account(EVIL, (EVIL,), True)), "")


@pytest.mark.parametrize(
    ("who", "name", "said"),
    [
        (Visitor(), "ada/new", "You are not signed in"),
        (ADA, "", "has no name"),
        (ADA, "my model", "can't be the name"),
        (ADA, "others/new", "ada can't write to others"),
        (Visitor(READER, Account("ada", ("ada",), False)), "ada/new", "is read-only"),
        (ADA, "lab/full", "already exists"),
        (ADA, "others/full", "already exists"),
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
    assert "ada/new is available" in name_html(ADA, "new")
    assert "lab/empty is available" in name_html(ADA, "lab/empty")
    assert "already exists" in name_html(ADA, "lab/full")
    assert "belongs to somebody else" in name_html(ADA, "others/full")
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
        "recipe": "calibrated",
        "effort": "balanced",
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
    expected = {"model_name": BUNDLED_TEACHER, "recipe": "calibrated", "measure": True, "license": "apache-2.0"}
    assert (
        spec.parameters == expected | {"effort": "balanced", "name": "minilm-l6-256"} and spec.title == "minilm-l6-256"
    )
    assert store.secrets == [{}]
    home.submit(OWNER, Visitor(), BUNDLED_TEACHER, " mine ", None, False)
    assert store.submitted[1][0].title == store.submitted[1][0].parameters["name"] == "mine"
    with pytest.raises(InputError, match="can't be the name of a model"):
        home.submit(OWNER, Visitor(), BUNDLED_TEACHER, "ada/mine", None, False)


def test_home_proposes_a_name(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    none = Suggestion()
    box, suggested = home.propose_name(BUNDLED_TEACHER, "", none, False, LOCAL, None)
    assert box.value == suggested.name == "minilm-l6-256"
    assert home.propose_name(" ", "", none, False, LOCAL, None)[1].name == ""
    assert "can&#39;t be the name of a model" in home.check_name(OWNER, "my model", False, LOCAL, None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert home.propose_name(BUNDLED_TEACHER, "", none, True, LOCAL, None)[1].name == "ada/minilm-l6-256"
    assert "is available" in home.check_name(None, "new", True, LOCAL, None)


def test_a_name_that_was_suggested_for_another_teacher_is_not_used(
    hub: LoopbackHub, store: FakeStore, build_teacher_once: Callable[[str], Path]
) -> None:
    teacher = str(build_teacher_once("wordpiece"))
    _, suggested = home.propose_name(BUNDLED_TEACHER, "", Suggestion(), False, LOCAL, None)
    home.submit(OWNER, Visitor(), teacher, suggested.name, None, False, suggested=suggested)
    home.submit(OWNER, Visitor(), BUNDLED_TEACHER, suggested.name, None, False, suggested=suggested)
    home.submit(OWNER, Visitor(), teacher, "minilm-l6-256", None, False)  # typed
    names = [spec.parameters["name"] for spec, _ in store.submitted]
    assert names == [home.propose_name(teacher, "", Suggestion(), False, LOCAL, None)[1].name] + ["minilm-l6-256"] * 2
    assert names[0] != "minilm-l6-256"
    _, suggested = home.propose_name(BUNDLED_TEACHER, "", Suggestion(), False, LOCAL, None)
    home.submit(
        OWNER, ADA, teacher, "ada/minilm-l6-256", "mit", True, suggested=suggested._replace(name="ada/minilm-l6-256")
    )
    assert store.submitted[-1][0].parameters["publish"]["repo_id"] == f"ada/{names[0]}"


def test_a_name_that_was_published_here_is_no_surprise(
    hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "lab/full already exists" in home.check_name(OWNER, "lab/full", True, LOCAL, None)
    published = {"repo_id": "lab/full", "url": "https://hf.example/lab/full", "pr_url": None}
    store.add(OWNER, make_job("done", outcome={"published": published}))
    said = home.check_name(OWNER, "lab/full", True, LOCAL, None)
    assert "lab/full is published" in said and "already exists" not in said
    assert 'href="https://hf.example/lab/full"' in said and 'href="publish"' in said
    said, way = publish.check(OWNER, "lab/full", LOCAL, None)
    assert "lab/full is published" in said and "choose an option below" in said and way.visible
    for other in ({"pr_url": "https://hf.example/lab/full/discussions/1"}, {"url": "javascript:alert(1)"}):
        store.add(OWNER, make_job("done", outcome={"published": published | other}))
        assert "lab/full already exists" in home.check_name(OWNER, "lab/full", True, LOCAL, None)
    assert "lab/full already exists" in home.check_name("another-owner-another-owner", "lab/full", True, LOCAL, None)


def test_home_asks_for_a_license_that_nothing_states(
    hub: LoopbackHub, store: FakeStore, build_teacher_once: Callable[[str], Path]
) -> None:
    teacher = str(build_teacher_once("wordpiece"))
    with pytest.raises(InputError, match="does not state a license"):
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
    shown = publish.fill_form(OWNER, model.id, LOCAL, None)
    assert "Signed in as ada" in text_of(publish.show_account("", LOCAL, None)["account"])
    assert shown["form"].visible and not shown["message"]
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
    shown = text_of(publish.fill_form(OWNER, record.id, LOCAL, None)["readers"])
    assert expected in shown
    assert bool(shown) == bool(expected)


def test_a_teacher_s_license_is_inherited_and_an_unknown_one_asked_for(
    hub: LoopbackHub, library: Library, tmp_path: Path
) -> None:
    static_model(base_model_name=BUNDLED_TEACHER).save_pretrained(tmp_path / "known")
    known = library.add_from_folder(tmp_path / "known", OWNER)
    assert publish._inherited(OWNER, ADA, known) == ("apache-2.0", "Inherited from the teacher.")
    static_model(base_model_name="nobody/nothing").save_pretrained(tmp_path / "unknown")
    unknown = library.add_from_folder(tmp_path / "unknown", OWNER)
    assert publish._inherited(OWNER, ADA, unknown)[0] is None
    with pytest.raises(InputError, match="No license is selected"):
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
        ({"way": None}, "Choose how to add this model"),
        ({"way": "branch", "branch": "main"}, "already has a branch main"),
        ({"way": "branch", "branch": "../x"}, "not a valid branch name"),
        ({"way": "replace", "name": "others/full"}, "belongs to somebody else"),
        ({"way": "branch", "name": "others/full"}, "belongs to somebody else"),
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
    assert not publish.fill_form("other-other-other-other-2", model.id, LOCAL, None)["form"].visible


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
    for said in ("Distilled, but not published", "the Hub answered 500", "Retry upload", model.id):
        assert said in text
    assert shown["retry"].visible and shown["download"].visible  # the button, and the ZIP
    assert not panel_values(OWNER, made, "distill")["retry"].visible
    with pytest.raises(HubError, match="You are not signed in"):
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
    assert "model2vec 1.0" in html and "the upload was verified" in text_of(html)


def test_bytes_are_counted_while_they_are_sent() -> None:

    stages = (Stage("check", 3, 3, 1.0, True), Stage("upload", 750_000, 1_500_000, 2.0, False))
    assert "750.0 kB of 1.5 MB" in text_of(job_html(make_job("running", kind="publish", stages=stages), "publish"))
