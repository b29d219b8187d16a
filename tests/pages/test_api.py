from __future__ import annotations

import asyncio
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app import build_app
from m2v_core.model import StaticModel
from m2v_core.studio.library import Library, ModelRecord
from pages import api as page
from pages.components import model_picker, served_files
from tests.live_app import Server
from tests.pages.conftest import JOB_ID, FakeStore, done_job, encoding_job, make_job
from tests.static_models import static_model

OWNER = "owner-owner-owner-owner-1"
OTHER = "other-other-other-other-2"
PUBLIC = {
    *("new_owner", "distill", "job", "cancel", "list_models", "encode", "download", "delete"),
    *("similar_words", "similar_documents", "similarity_shares"),
}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models")
    for module in (page, model_picker, served_files):
        monkeypatch.setattr(module, "model_library", lambda: made)
    monkeypatch.setattr(page, "job_store", lambda: store)
    return made


@pytest.fixture
def record(library: Library, tmp_path: Path) -> ModelRecord:
    static_model().save_pretrained(tmp_path / "small")
    return library.add_from_folder(tmp_path / "small", OWNER)


@pytest.fixture(scope="module")
def app() -> gr.Blocks:
    return build_app()


def test_only_what_is_meant_for_programs_is_public_and_each_says_what_it_does(app: gr.Blocks) -> None:
    info = app.get_api_info()
    assert set(info["named_endpoints"]) == {f"/{name}" for name in PUBLIC}
    assert not info["unnamed_endpoints"]
    for name, endpoint in info["named_endpoints"].items():
        assert endpoint["description"], name
        assert all(parameter["type"] for parameter in endpoint["parameters"]), name


def test_every_key_is_new_and_can_be_used(store: FakeStore, library: Library) -> None:
    first, second = page.new_owner(), page.new_owner()
    assert first != second
    assert page.list_models(first) == []


def test_a_distillation_is_submitted_as_told(store: FakeStore, library: Library) -> None:
    job_id = page.distill(OWNER, " some/teacher ", ["a", "b"], {"pca_dims": 8, "use_subword": False})
    [(spec, owner)] = store.submitted
    assert owner == OWNER
    assert spec.parameters == {"model_name": "some/teacher", "pca_dims": 8, "use_subword": False, "name": "teacher-8"}
    assert spec.title == "teacher-8"
    assert spec.texts == {"vocabulary": ["a", "b"]}
    assert page.job(OWNER, job_id)["state"] == "queued"
    page.distill(OWNER, "some/teacher")
    assert store.submitted[1][0].texts == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((OWNER, ""), "No teacher is selected"),
        ((OWNER, 7), "teacher is a int"),
        ((OWNER, "t", "words"), "vocabulary must be a list of strings"),
        ((OWNER, "t", [1]), "vocabulary must be a list of strings"),
        ((OWNER, "t", None, ["pca_dims"]), "settings is a list"),
        ((OWNER, "t", None, {"dims": 3}), "Unknown setting 'dims'; use .*pca_dims"),
        ((OWNER, "t", None, {"trust_remote_code": True}), "Unknown setting 'trust_remote_code'"),
        ((OWNER, "t", None, {"model_name": "u"}), "Unknown setting 'model_name'"),
        (("ada", "t"), "owner must be a key"),
        ((None, "t"), "owner must be a key"),
    ],
)
def test_a_distillation_that_can_not_be_is_refused(
    store: FakeStore, library: Library, arguments: tuple[Any, ...], says: str
) -> None:
    with pytest.raises(gr.Error, match=says):
        page.distill(*arguments)
    assert not store.submitted


def test_on_a_space_no_folder_is_a_teacher(monkeypatch: pytest.MonkeyPatch, store: FakeStore, library: Library) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/space")
    with pytest.raises(gr.Error, match="not a Hub id"):
        page.distill(OWNER, "/etc")


def test_a_job_tells_its_owner_how_it_stands(store: FakeStore, library: Library) -> None:
    store.add(OWNER, encoding_job(250))
    told = page.job(OWNER, JOB_ID)
    assert (told["state"], told["stage"], told["done"], told["total"]) == ("running", "encode", 250, 1000)
    assert told["model_id"] is None and told["seconds_left"] > 0
    assert page.cancel(OWNER, JOB_ID)["state"] == "cancelling"
    store.add(OWNER, done_job())
    assert page.job(OWNER, JOB_ID)["model_id"] == JOB_ID
    store.add(OWNER, make_job("done", kind="speed"))
    assert page.job(OWNER, JOB_ID)["model_id"] is None


def test_a_model_is_used_and_deleted_by_its_owner(record: ModelRecord) -> None:
    [listed] = page.list_models(OWNER)
    assert (listed["id"], listed["dim"], listed["n_tokens"]) == (record.id, record.dim, record.n_tokens)
    embeddings = page.encode(OWNER, record.id, ["the fox", "the sea"])
    np.testing.assert_allclose(embeddings, static_model().encode(["the fox", "the sea"]), atol=1e-6)
    assert page.encode(OWNER, record.id, []) == []
    zip_path = Path(page.download(OWNER, record.id)["path"])
    assert zip_path.name == "small.zip" and zipfile.is_zipfile(zip_path)
    assert page.delete(OWNER, record.id) == "small"
    assert page.list_models(OWNER) == []
    assert not zip_path.exists()


def test_nothing_is_anybody_elses(store: FakeStore, record: ModelRecord) -> None:
    store.add(OWNER, encoding_job(250))
    assert page.list_models(OTHER) == []
    for call in (
        lambda: page.job(OTHER, JOB_ID),
        lambda: page.cancel(OTHER, JOB_ID),
        lambda: page.encode(OTHER, record.id, ["x"]),
        lambda: page.download(OTHER, record.id),
        lambda: page.delete(OTHER, record.id),
    ):
        with pytest.raises(gr.Error, match="no such job|Model not found"):
            call()
    assert store.get(JOB_ID, OWNER).state == "running"
    assert page.list_models(OWNER)


def test_what_is_sent_is_looked_at(record: ModelRecord) -> None:
    wrong: list[Any] = [None, 1, [], {}, ["x"]]
    for value in wrong:
        for call in (page.job, page.cancel, page.download, page.delete):
            with pytest.raises(gr.Error):
                call(OWNER, value)
            with pytest.raises(gr.Error, match="owner must be a key"):
                call(value, record.id)
        with pytest.raises(gr.Error):
            page.encode(OWNER, value, ["x"])
    for texts in ("x", [1], ["x"] * 1001, ["x" * 20_001]):
        with pytest.raises(gr.Error):
            page.encode(OWNER, record.id, texts)  # type: ignore[arg-type]


def finished(client: Client, owner: str, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.predict(owner=owner, job_id=job_id, api_name="/job")
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.2)
    raise AssertionError(f"still going on: {job}")


def test_the_whole_way_by_a_client(server: Server, build_teacher_once: Callable[[str], Path], tmp_path: Path) -> None:
    client = Client(server.address, verbose=False, download_files=tmp_path)
    owner = client.predict(api_name="/new_owner")
    teacher = str(build_teacher_once("wordpiece"))
    start = {"owner": owner, "teacher": teacher, "api_name": "/distill"}
    job_id = client.predict(**start, vocabulary=["river", "sea", "lake"], settings={"pca_dims": 16})
    dropped = client.predict(**start)
    client.predict(owner=owner, job_id=dropped, api_name="/cancel")
    assert finished(client, owner, dropped)["state"] == "cancelled"
    model_id = finished(client, owner, job_id)["model_id"]
    [model] = client.predict(owner=owner, api_name="/list_models")
    assert (model["id"], model["dim"]) == (model_id, 16)

    found = client.predict(owner=owner, model_id=model_id, query="river", k=3, api_name="/similar_words")
    assert len(found) == 3
    zip_path = client.predict(owner=owner, model_id=model_id, api_name="/download")
    with zipfile.ZipFile(zip_path) as zipped:
        zipped.extractall(tmp_path / "unpacked")
    [folder] = (tmp_path / "unpacked").iterdir()
    texts = ["a river", "the sea"]
    embeddings = client.predict(owner=owner, model_id=model_id, texts=texts, api_name="/encode")
    np.testing.assert_allclose(embeddings, StaticModel.from_pretrained(str(folder)).encode(texts), atol=1e-6)

    failing = client.predict(owner=owner, teacher=str(tmp_path / "absent"), api_name="/distill")
    failed = finished(client, owner, failing)
    assert failed["state"] == "failed" and "absent" in failed["message"]
    with pytest.raises(AppError, match="Job not found"):
        client.predict(owner=OTHER, job_id=job_id, api_name="/job")
    assert client.predict(owner=owner, model_id=model_id, api_name="/delete") == model["name"]
    assert client.predict(owner=owner, api_name="/list_models") == []


def test_agents_get_tools_that_read(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    static_model().save_pretrained(tmp_path / "mine")
    record = Library(server.home / "models").add_from_folder(tmp_path / "mine", OWNER)
    mine = {"owner": OWNER, "model_id": record.id}

    async def talk() -> None:
        async with (
            streamable_http_client(f"{server.address}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert set(tools) == page.READ_ONLY
            assert all(tool.description for tool in tools.values())
            assert tools["encode"].inputSchema["required"] == ["owner", "model_id", "texts"]
            for name, arguments, answer in (
                ("list_models", {"owner": OWNER}, record.id),
                ("encode", {**mine, "texts": ["the fox"]}, "[["),
                ("similar_words", {**mine, "query": "sea"}, "similarity"),
                ("similar_documents", {**mine, "documents": ["the fox", "a river"], "query": "sea"}, "river"),
                ("similarity_shares", {**mine, "a": "the fox", "b": "the sea"}, "share"),
            ):
                result = await session.call_tool(name, arguments)
                assert not result.isError and answer in result.content[0].text, name
            refused = await session.call_tool("encode", {**mine, "owner": OTHER, "texts": ["the fox"]})
            assert refused.isError and "Model not found" in refused.content[0].text
            for name in PUBLIC - page.READ_ONLY:
                refused = await session.call_tool(name, mine)
                assert refused.isError and "Unknown tool" in refused.content[0].text

    # Playwright's synchronous interface keeps a loop of its own in the main thread.
    with ThreadPoolExecutor(1) as another_thread:
        another_thread.submit(asyncio.run, talk()).result()
    assert (server.home / "models").is_dir() and Library(server.home / "models").get(record.id, OWNER)
