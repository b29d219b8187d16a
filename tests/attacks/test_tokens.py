"""Rules 1 and 2: no token is shown, kept or used for others, and nothing that one opened serves another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from m2v_core.errors import M2VError
from m2v_core.studio.jobs import Job, JobLimits, JobSpec, JobStore
from pages import PAGES
from tests.attacks.space import OWNER_TOKEN, Stranger, Victim, marked_model
from tests.hub.server import LoopbackHub, User
from tests.live_app import Server

pytest.importorskip("torch")

ADAS, BOBS = "hf_" + "AdasToken" * 4, "hf_" + "BobsToken" * 4


@pytest.fixture
def users(session_hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """A Hub that knows the owner of the Space, Ada and Bob."""
    before = dict(session_hub.users)
    session_hub.users |= {OWNER_TOKEN: User("someone"), ADAS: User("ada"), BOBS: User("bob")}
    yield session_hub
    session_hub.users = before


def test_the_owner_s_token_opens_nothing_for_strangers(
    stranger: Stranger, users: LoopbackHub, tmp_path: Path, build_teacher_once: Callable[[str], Path]
) -> None:
    marked_model().save_pretrained(tmp_path / "model")
    users.add("someone/private-model", tmp_path / "model", private=True)
    users.add("someone/private-teacher", build_teacher_once("wordpiece"), private=True)
    users.add("someone/public-model", tmp_path / "model")
    opening = stranger.handler("add_named")
    for name, is_open in (("someone/public-model", True), ("someone/private-model", False)):
        said = stranger.ask(opening, stranger.untouched(opening, radio="hub", textbox=name))
        assert ("is in your library" in said) == is_open, said
    check = stranger.handler("check_for_visitor")
    said = stranger.ask(check, ["someone/private-teacher", *stranger.untouched(check)[1:]])
    assert "neither a folder nor a repository" in said
    assert OWNER_TOKEN not in {request.hf_token for request in users.requests}


def test_the_owner_s_token_is_nowhere_to_be_seen(stranger: Stranger, victim: Victim) -> None:
    addresses = ("gradio_api/info", "monitoring", "monitoring/summary", "gradio_api/startup-events", "config")
    handlers = [one for one in stranger.handlers if not one["api_name"].startswith(("delete", "cancel", "start"))]
    said = [
        *(stranger.http.get(f"/{path}").text for path in (*addresses, *(page.path for page in PAGES))),
        *(stranger.ask(handler, stranger.untouched(handler, file=None)) for handler in handlers),
    ]
    assert len(said) > 60 and not [text for text in said if OWNER_TOKEN in text or "HF_TOKEN" in text]
    files = [path for path in victim.home.rglob("*") if path.is_file()]
    assert files and not [path for path in files if OWNER_TOKEN.encode() in path.read_bytes()]


def test_strangers_store_no_token_on_the_space(stranger: Stranger, users: LoopbackHub) -> None:
    handlers = [handler for handler in stranger.handlers if handler["api_name"].startswith("enter_token")]
    assert handlers and not [one for one in handlers if one["api_visibility"] != "private"]
    for handler in handlers:
        said = stranger.ask(handler, [ADAS, 0])
        assert "only on the machine that runs this app" in said and ADAS not in said
    assert ADAS not in {request.hf_token for request in users.requests}
    assert "enter_token" not in stranger.http.get("/gradio_api/info").text


def test_nobody_looks_on_at_what_others_do(stranger: Stranger) -> None:
    for address in ("/monitoring", "/monitoring/summary", "/monitoring/x"):
        assert stranger.http.get(address).status_code == 403
    assert stranger.http.get("/gradio_api/runs").status_code == 404


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "jobs", limits=JobLimits(4 * 10**9, 300, 10**9)) as store:
        yield store


def distilled(jobs: JobStore, teacher: str, owner: str, hf_token: str | None) -> Job:
    """The finished job of somebody who distils a teacher."""
    secrets = {"hf_token": hf_token} if hf_token else None
    spec = JobSpec("distill", {"model_name": teacher, "recipe": "fast", "pca_dims": 8})
    job_id = jobs.submit(spec, owner, secrets=secrets)
    return jobs.wait(job_id, owner, 300)


def test_what_one_may_read_is_nobody_else_s_cache_hit(
    jobs: JobStore, users: LoopbackHub, build_teacher_once: Callable[[str], Path], tmp_path: Path
) -> None:
    users.add("ada/secret-teacher", build_teacher_once("wordpiece"), private=True)
    done = distilled(jobs, "ada/secret-teacher", "ada", ADAS)
    assert done.state == "done", done.message
    for owner, hf_token in (("bob", BOBS), ("cyd", None)):
        failed = distilled(jobs, "ada/secret-teacher", owner, hf_token)
        assert failed.state == "failed" and "neither a folder nor a repository" in failed.message
    # Neither files nor vectors of it are left where other jobs look; nor is a token, anywhere.
    assert not list(Path(os.environ["HF_HOME"]).rglob("*secret-teacher*"))
    assert not list((tmp_path / "teacher_vectors").rglob("*.*"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for hf_token in (ADAS, BOBS):
        assert files and not [path for path in files if hf_token.encode() in path.read_bytes()]


def test_a_refusal_tells_no_token(users: LoopbackHub, tmp_path: Path) -> None:
    from m2v_core.model import StaticModel

    marked_model().save_pretrained(tmp_path / "model")
    users.add("ada/secret-model", tmp_path / "model", private=True)
    with pytest.raises(M2VError, match="neither a folder nor a repository") as raised:
        StaticModel.from_pretrained("ada/secret-model", token=BOBS)
    assert BOBS not in repr(raised.value) and BOBS not in str(raised.value.__cause__)
    assert StaticModel.from_pretrained("ada/secret-model", token=ADAS).dim
    with pytest.raises(M2VError, match="wrong|invalid") as raised:
        StaticModel.from_pretrained("ada/other-model", token=ADAS + "x")
    assert ADAS not in repr(raised.value) and ADAS not in str(raised.value.__cause__)


def test_a_token_that_is_typed_where_none_belongs_is_not_kept(
    stranger: Stranger, victim: Victim, space: Server
) -> None:
    said = stranger.call("distill", stranger.key, f"someone/{ADAS}", [f"word {ADAS}"], None)
    assert "access token, which must not be stored" in said
    for path in victim.home.rglob("*"):
        assert not path.is_file() or ADAS.encode() not in path.read_bytes(), path
