"""Downloading from the Hub: the real client against a loopback Hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import Cancelled, HubError, NotFoundError
from m2v_core.hub import download
from m2v_core.model import StaticModel
from m2v_core.progress import Progress, ProgressReporter
from tests.hub.server import LoopbackHub, client_environment
from tests.static_models import TEXTS, static_model


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        static_model().save_pretrained(folder)
        yield Path(folder)


@pytest.fixture
def repo_id(session_hub: LoopbackHub, folder: Path, request: pytest.FixtureRequest) -> str:
    """A repository of this test only, so that no other test has cached it."""
    name = "someone/" + re.sub(r"\W+", "-", request.node.name).strip("-")
    session_hub.add(name, folder)
    return name


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_downloaded_by_its_name(repo_id):
    np.testing.assert_array_equal(StaticModel.from_pretrained(repo_id).encode(TEXTS), static_model().encode(TEXTS))


def test_only_the_files_of_a_model_are_downloaded(session_hub, folder):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    session_hub.add("someone/big", {**files, "onnx/model.onnx": b"x" * 99, "pytorch_model.bin": b"x" * 99})
    fetched = download.download_model("someone/big")
    assert {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()} == set(files)


def test_a_subfolder_is_downloaded_alone(session_hub, folder):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    session_hub.add("someone/two", {**files, **{f"small/{name}": content for name, content in files.items()}})
    assert StaticModel.from_pretrained("someone/two", subfolder="small").dim == static_model().dim
    assert not (download.download_model("someone/two", subfolder="small") / "config.json").exists()


def test_a_revision_is_downloaded(session_hub, repo_id, tmp_path):
    static_model("Unigram").save_pretrained(tmp_path)
    commit = session_hub.add(repo_id, tmp_path, revision="v2")
    for revision in ("v2", commit):
        assert StaticModel.from_pretrained(repo_id, revision=revision).tokens == static_model("Unigram").tokens
    assert StaticModel.from_pretrained(repo_id).tokens == static_model().tokens


def test_private_models_need_a_token(session_hub, folder):
    session_hub.add("someone/private", folder, private=True)
    with pytest.raises(NotFoundError, match="if it is private, pass a token"):
        StaticModel.from_pretrained("someone/private")
    assert StaticModel.from_pretrained("someone/private", token="hf_loopback").dim == static_model().dim


def test_errors_about_gated_models_explain_how_to_request_access(session_hub, folder):
    session_hub.add("someone/gated", folder, gated=True)
    with pytest.raises(HubError, match=r"gated\. Request access"):
        StaticModel.from_pretrained("someone/gated")


def test_another_endpoint(folder):
    with LoopbackHub() as other:
        other.add("someone/elsewhere", folder)
        fetched = download.download_model("someone/elsewhere", endpoint=other.url)
        assert (fetched / "model.safetensors").is_file()
        assert StaticModel.from_pretrained("someone/elsewhere", endpoint=other.url).dim == static_model().dim


def test_files_of_other_runtimes_are_skipped(session_hub):
    session_hub.add("someone/teacher", {"config.json": b"{}", "openvino/config.json": b"{}", "1_P/config.json": b"{}"})
    fetched = download.download("someone/teacher", allow_patterns=["*.json"])
    found = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*.json")}
    assert found == {"config.json", "1_P/config.json"}


@pytest.mark.parametrize("name", ["someone/nothing", "nothing"])
def test_an_unknown_repository(session_hub, name):
    with pytest.raises(NotFoundError, match=f"{name} is neither a folder nor a repository on the Hub"):
        StaticModel.from_pretrained(name)


@pytest.mark.parametrize("name", ["./someone/model", "/someone/model", "a/b/c", "some one/model", "-a/b"])
def test_invalid_repository_names_are_not_requested(session_hub, name):
    with pytest.raises(NotFoundError, match="can't be a Hub repository"):
        StaticModel.from_pretrained(name)
    assert session_hub.requests == []


def test_an_unknown_revision(repo_id):
    with pytest.raises(NotFoundError, match="no revision 'v9'"):
        StaticModel.from_pretrained(repo_id, revision="v9")


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "token is invalid"), (429, "Too many requests"), (500, "Try again"), (503, "Try again")],
)
def test_errors_of_the_hub_state_what_to_do(session_hub, repo_id, status, message):
    with (
        session_hub.failing("/api/models/", status=status),
        pytest.raises(HubError, match=f"{status}.*{message}"),
    ):
        StaticModel.from_pretrained(repo_id)


def test_an_invalid_token(repo_id):
    with pytest.raises(HubError, match=r"401.*token is invalid"):
        StaticModel.from_pretrained(repo_id, token="hf_wrong")


def test_a_connection_that_breaks(session_hub, repo_id):
    with session_hub.failing("/api/models/", cut_after=0), pytest.raises(HubError, match="can't be reached"):
        StaticModel.from_pretrained(repo_id)


def test_a_download_that_breaks(session_hub, repo_id):
    with session_hub.failing("config.json", methods=("GET",), cut_after=10), pytest.raises(HubError):
        StaticModel.from_pretrained(repo_id)
    assert StaticModel.from_pretrained(repo_id).dim == static_model().dim


def test_a_hub_that_is_down(folder):
    with LoopbackHub() as down:
        pass
    with pytest.raises(HubError, match="can't be reached"):
        download.download_model("someone/model", endpoint=down.url)


def test_cached_models_need_no_hub(session_hub, repo_id):
    expected = StaticModel.from_pretrained(repo_id).encode(TEXTS)
    with session_hub.failing("", cut_after=0):
        np.testing.assert_array_equal(StaticModel.from_pretrained(repo_id).encode(TEXTS), expected)


def fetched_slowly(hub_here: LoopbackHub, repo_id: str, reporter: ProgressReporter) -> Path:
    hub_here.bytes_per_second = 25_000_000
    try:
        return download.download(repo_id, allow_patterns=["*"], reporter=reporter)
    finally:
        hub_here.bytes_per_second = None


def test_bytes_are_reported_during_the_download(session_hub):
    files = {"config.json": b"{}", "model.safetensors": np.random.default_rng(0).bytes(30_000_000)}
    session_hub.add("someone/slow", files)
    events: list[Progress] = []
    folder = fetched_slowly(session_hub, "someone/slow", ProgressReporter(events.append))
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert {event.stage for event in events} == {"download"}
    counted = [event for event in events if event.total]
    assert {event.total for event in counted} == {30_000_002}
    done = [event.done for event in counted]
    assert done == sorted(done) and done[-1] == 30_000_002
    assert any(0 < n < 30_000_002 for n in done), "progress was not reported"
    # Cached files are not downloaded, so there is no progress to report.
    events.clear()
    download.download("someone/slow", allow_patterns=["*"], reporter=ProgressReporter(events.append))
    assert not any(event.total for event in events)


def test_a_download_can_be_cancelled(session_hub):
    session_hub.add("someone/slower", {"model.safetensors": np.random.default_rng(1).bytes(30_000_000)})
    cancel = threading.Event()

    def stop(event: Progress) -> None:
        cancel.set()

    with pytest.raises(Cancelled):
        fetched_slowly(session_hub, "someone/slower", ProgressReporter(stop, cancel))


def test_a_download_succeeds_if_the_sizes_are_unknown(session_hub):
    session_hub.add("someone/sizeless", {"model.safetensors": np.random.default_rng(2).bytes(30_000_000)})
    events: list[Progress] = []
    with session_hub.failing("/api/models/someone/sizeless$", status=500, times=None):
        folder = fetched_slowly(session_hub, "someone/sizeless", ProgressReporter(events.append))
    assert (folder / "model.safetensors").stat().st_size == 30_000_000
    assert events and not any(event.total for event in events)


def test_offline_mode_has_its_own_error(tmp_path):
    code = "from m2v_core.hub import download\ndownload.download_model('someone/model')"
    environment = {**os.environ, **client_environment("http://127.0.0.1:9", tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "m2v_core.errors.HubError" in result.stderr
    assert "HF_HUB_OFFLINE" in result.stderr


def test_a_folder_is_never_requested(session_hub, folder):
    StaticModel.from_pretrained(folder)
    assert session_hub.requests == []


def test_cached_files_can_be_downloaded_again(session_hub, repo_id):
    model = StaticModel.from_pretrained(repo_id)
    session_hub.requests.clear()
    StaticModel.from_pretrained(repo_id)
    assert not [path for path in session_hub.paths() if path.startswith("/blobs/")]
    again = StaticModel.from_pretrained(repo_id, force_download=True)
    assert [path for path in session_hub.paths() if path.startswith("/blobs/")]
    np.testing.assert_array_equal(again.embedding, model.token_embeddings)
