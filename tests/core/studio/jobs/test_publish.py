"""Publishing jobs: failures keep the model, are reported, and can be retried."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from m2v_core import StaticModel
from m2v_core.errors import HubError, ModelFormatError
from m2v_core.exploration.share_card import SIZE
from m2v_core.hub.account import Grant
from m2v_core.progress import ProgressReporter
from m2v_core.studio.jobs import JobLimits, JobSpec
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.library import Library
from m2v_core.studio.work import publishing
from m2v_core.studio.work.publishing import check_readers, publish
from tests.core.studio.jobs.conftest import wait_until
from tests.hub.server import LoopbackHub, User
from tests.static_models import static_model

LIMITS = JobLimits(memory_bytes=4 * 2**30, wall_seconds=300.0)
ADA = "hf_" + "A" * 34
FAULTS = {
    "refused": {"read_bytes": 0},
    "500": {"status": 500},
    "cut": {"read_bytes": 40},
    "429": {"status": 429, "headers": {"Retry-After": "7"}},
}
REQUESTS = {
    "look up": ("GET", r"^/api/models/ada/model$"),
    "create": ("POST", "/api/repos/create"),
    "validate": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/upload/"),
    "commit": ("POST", "/commit/"),
}


@pytest.fixture
def hub(session_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(session_hub, "users", {**session_hub.users, ADA: User("ada")})
    monkeypatch.setattr(session_hub, "blobs", {})
    yield session_hub
    for name in ("ada/model", "ada/made"):
        if session_hub.has("model", name):
            session_hub.remove(session_hub.repo(name))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    static_model().save_pretrained(tmp_path / "model", license="mit")
    return tmp_path / "model"


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the delay between attempts."""
    sleep, wait = time.sleep, threading.Event.wait
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(0))
    pauses = (1.0, 2.0, 4.0, 7.0)
    monkeypatch.setattr(
        threading.Event, "wait", lambda event, timeout=None: wait(event, 0.0 if timeout in pauses else timeout)
    )


def order_for(folder: Path, staging: Path, **parameters) -> WorkOrder:
    return WorkOrder(
        parameters={"model": str(folder), "repo_id": "ada/model", "private": True, **parameters},
        texts={"card": ["---\nlicense: mit\n---\n# Mine\n"]},
        secrets={"publish_token": ADA},
        staging=staging,
        private_cache=staging,
        shared_cache=staging,
        progress=lambda event: None,
        cancel=threading.Event(),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("request_kind", "fault"), list(product(REQUESTS, FAULTS)))
def test_each_kind_of_request_fails_in_turn(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path, no_waits: None, request_kind: str, fault: str
) -> None:
    method, pattern = REQUESTS[request_kind]
    before = files(model_folder)
    with hub.failing(pattern, methods=(method,), **FAULTS[fault]), pytest.raises(HubError) as caught:
        publish(order_for(model_folder, tmp_path))
    said = str(caught.value)
    assert said.startswith("ada/model could not be published")
    assert (fault if fault.isdecimal() else "can't be reached") in said
    assert "Your local copy is unchanged" in said and ADA not in said
    assert files(model_folder) == before
    published = publish(order_for(model_folder, tmp_path))["published"]
    assert published["verified"] and published["private"]
    card = hub.files("ada/model")["README.md"].decode()
    assert card == f"---\nthumbnail: {hub.url}/ada/model/resolve/main/thumbnail.png\nlicense: mit\n---\n# Mine\n"
    assert Image.open(io.BytesIO(hub.files("ada/model")["thumbnail.png"])).size == SIZE
    assert hub.files("ada/model")["model.safetensors"] == before["model.safetensors"]
    json.dumps(published)


def test_a_thumbnail_chosen_by_the_user_stays(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    order = order_for(model_folder, tmp_path)
    own = "---\nthumbnail: https://example.org/mine.png\nlicense: mit\n---\n# Mine\n"
    publish(replace(order, texts={"card": [own]}))
    assert hub.files("ada/model")["README.md"].decode() == own


def test_a_retry_does_not_check_the_model_again(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path, no_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    monkeypatch.setattr(
        publishing, "check_readers", lambda folder, reporter: checked.append(folder) or check_readers(folder, reporter)
    )
    order = order_for(model_folder, tmp_path / "job")
    with hub.failing("/commit/", methods=("POST",), status=500), pytest.raises(HubError):
        publish(order)
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    (copy / "README.md").write_text("# Another card\n")
    again = publish(replace(order, parameters={**order.parameters, "model": str(copy)}))
    assert checked == [model_folder] and again["published"]["readers"] == check_readers(copy, ProgressReporter())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"changed": True}))
    publish(replace(order, parameters={**order.parameters, "model": str(copy), "overwrite": True}))
    assert checked == [model_folder, copy]


@pytest.mark.parametrize(
    ("user", "grant", "said"),
    [
        (None, None, "revoked. Sign in again"),
        (User("ada", role="read"), None, "is read-only"),
        (User("ada", "fineGrained", grants={"ada": ("repo.content.read",)}), None, "is read-only"),
        (User("ada"), Grant(frozenset({"write-repos"}), 1.0), "has expired"),
        (User("ada"), Grant(frozenset({"openid"}), 0.0), "without allowing"),
    ],
    ids=["withdrawn", "reader", "fine-grained", "expired", "scopes"],
)
def test_permissions_are_checked_again_before_the_upload(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path, user: User | None, grant: Grant | None, said: str
) -> None:
    hub.users.pop(ADA)
    if user is not None:
        hub.users[ADA] = user
    order = order_for(model_folder, tmp_path)
    if grant is not None:
        order = replace(order, secrets={**order.secrets, "publish_grant": grant.to_text()})
    with pytest.raises(HubError, match=rf"^ada/model could not be published: .*{said}.*Your local copy is unchanged"):
        publish(order)
    assert not hub.has("model", "ada/model") and "/api/repos/create" not in hub.paths("POST")


def test_the_upload_is_tried_if_the_sign_in_check_fails(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    with hub.failing("whoami", status=503):
        assert publish(order_for(model_folder, tmp_path))["published"]["verified"]


@pytest.mark.parametrize("prompts", [None, {"query": "the sea "}])
def test_every_library_opens_the_published_model(tmp_path: Path, prompts: dict[str, str] | None) -> None:
    pytest.importorskip("model2vec")
    model_folder = tmp_path / "prompted"
    static_model(prompts=prompts, default_prompt_name="query").save_pretrained(model_folder)
    readers = check_readers(model_folder, ProgressReporter())
    assert [reader.partition(" ")[0] for reader in readers] == ["m2v-studio", "model2vec", "sentence-transformers"]


@pytest.mark.parametrize("damage", ["modules.json", "config.json"])
def test_models_that_other_libraries_can_not_open_are_not_published(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path, damage: str
) -> None:
    pytest.importorskip("model2vec")
    text = json.loads((model_folder / damage).read_text())
    broken = [{**module, "type": "os.path.Nothing"} for module in text] if damage == "modules.json" else {"a": 1}
    (model_folder / damage).write_text(json.dumps(broken))
    if damage == "config.json":
        (model_folder / damage).write_text("{")
    hub.requests.clear()
    with pytest.raises(ModelFormatError):
        publish(order_for(model_folder, tmp_path))
    assert hub.requests == []


def test_a_job_publishes_without_storing_its_token(
    make_store, hub: LoopbackHub, model_folder: Path, root: Path
) -> None:
    store = make_store(limits=LIMITS)
    parameters = {"model": str(model_folder), "model_id": "m", "repo_id": "ada/model", "private": True}
    texts = {"card": ["---\nlicense: mit\n---\n# Mine\n"]}
    job_id = store.submit(JobSpec("publish", parameters, texts), "ada", secrets={"publish_token": ADA})
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(job_id, "ada")
    assert [stage.name for stage in job.stages] == ["check", "connect", "upload", "verify"]
    upload = job.stages[2]
    assert upload.done == upload.total > 0
    assert job.outcome["published"]["url"] == f"{hub.url}/ada/model"
    assert job.outcome["published"]["commit"] == hub.repo("ada/model").refs["main"]
    assert hub.repo("ada/model").private
    assert not [file for file in root.rglob("*") if file.is_file() and ADA.encode() in file.read_bytes()]


def test_a_failed_upload_keeps_the_distilled_model(
    make_store, hub: LoopbackHub, build_teacher_once, tmp_path: Path, root: Path
) -> None:
    teacher = shutil.copytree(build_teacher_once("wordpiece"), tmp_path / "teacher")
    store = make_store(limits=LIMITS)
    library = Library(tmp_path / "models", jobs=store)
    parameters = {
        "model_name": str(teacher),
        "device": "cpu",
        "recipe": "fast",
        "name": "ada/made",
        "license": "mit",
        "measure": True,
        "publish": {"repo_id": "ada/made", "private": True},
    }
    with hub.failing("/preupload/", status=429, headers={"Retry-After": "900"}):
        made = store.submit(JobSpec("distill", parameters, title="made"), "ada", secrets={"publish_token": ADA})
        job = store.wait(made, "ada", timeout_seconds=200)
    assert job.state == "done", store.log(made, "ada")
    assert "429" in job.message and "Nothing was sent, and nothing on the Hub was changed" in job.message
    assert not hub.has("model", "ada/made")
    assert "published" not in job.outcome
    measured = job.outcome["measured"]
    assert measured["sentences_per_second"] > 0 and -1 <= measured["fidelity"] <= 1
    assert "pairs of" in measured["fidelity_on"] and "cores" in measured["hardware"]
    record = library.get(made, "ada")
    assert "publish" not in record.recipe
    model = StaticModel.from_pretrained(str(library.folder(made, "ada")))
    card = (library.folder(made, "ada") / "README.md").read_text()
    assert f"Fidelity: {measured['fidelity']:.3f}" in card and "license: mit" in card

    shutil.rmtree(teacher)  # nothing is distilled again
    hub.requests.clear()
    again = {"model": str(library.folder(made, "ada")), "model_id": made, "repo_id": "ada/made", "private": True}
    retried = store.submit(JobSpec("publish", again), "ada", secrets={"publish_token": ADA})
    job = store.wait(retried, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(retried, "ada")
    assert hub.files("ada/made")["model.safetensors"]
    published = hub.files("ada/made")["README.md"].decode()
    assert re.sub("thumbnail: .*\n", "", published) == card
    assert model.dim == StaticModel.from_pretrained("ada/made", token=ADA).dim
    assert not [file for file in root.rglob("*") if file.is_file() and ADA.encode() in file.read_bytes()]


def test_cancelling_the_upload_keeps_the_model(make_store, hub: LoopbackHub, build_teacher_once) -> None:
    store = make_store(limits=LIMITS)
    parameters = {
        "model_name": str(build_teacher_once("wordpiece")),
        "device": "cpu",
        "recipe": "fast",
        "publish": {"repo_id": "ada/made", "private": True},
    }
    with hub.failing("/api/repos/create", status=429, headers={"Retry-After": "50"}):
        job_id = store.submit(JobSpec("distill", parameters), "ada", secrets={"publish_token": ADA})
        wait_until(lambda: "/api/repos/create" in hub.paths("POST"), 120)
        store.cancel(job_id, "ada")
        job = store.wait(job_id, "ada", timeout_seconds=20)
    assert job.state == "done"
    assert job.message == "Cancelled. Nothing was sent, and nothing on the Hub was changed."
    assert StaticModel.from_pretrained(store.result_folder(job_id, "ada")).dim == 48


def test_a_worker_killed_during_the_upload_keeps_the_model(make_store, run) -> None:
    """Killed with SIGKILL, so that only the report written in advance counts."""
    store, job = run("keep_and_die")
    assert (job.state, job.outcome) == ("done", {"kept": True})
    assert job.message == "Stopped before it was complete."
    assert (store.result_folder(job.id, "ada") / "kept.txt").read_text() == "kept"
