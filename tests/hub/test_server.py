"""The loopback Hub, driven by the real huggingface_hub client."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.server import LoopbackHub, client_environment

FILES = {
    "config.json": b'{"model_type": "model2vec"}',
    "model.safetensors": bytes(range(256)) * 4_096,
    "1_Pooling/config.json": b"{}",
    "sub folder/ünïcode.txt": b"text",
}


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def read(folder: Path | str) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_snapshot_is_what_was_added(hub: LoopbackHub, tmp_path: Path):
    commit = hub.add("someone/model", FILES)
    folder = snapshot_download("someone/model", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert Path(folder).name == commit
    assert read(folder) == FILES
    assert all(request.hf_token is None for request in hub.requests)


def test_a_folder_can_be_added(hub: LoopbackHub, tmp_path: Path):
    for path, content in FILES.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(content)
    hub.add("model", tmp_path / "source")
    folder = snapshot_download("model", endpoint=hub.url, token=False, cache_dir=tmp_path / "cache")
    assert read(folder) == FILES


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_every_kind_of_repository(kind: str, hub: LoopbackHub, api: HfApi, tmp_path: Path):
    commit = hub.add("someone/thing", FILES, kind=kind)
    assert api.repo_info("someone/thing", repo_type=kind).sha == commit
    folder = snapshot_download("someone/thing", repo_type=kind, endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert read(folder) == FILES
    other = "dataset" if kind == "model" else "model"
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("someone/thing", repo_type=other)


def test_files_are_listed_with_their_sizes_and_hashes(hub: LoopbackHub, api: HfApi):
    hub.add("someone/model", FILES)
    digest = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    tree = {entry.path: entry for entry in api.list_repo_tree("someone/model", recursive=True)}
    assert set(tree) == {*FILES, "1_Pooling", "sub folder"}
    assert tree["model.safetensors"].lfs.sha256 == digest
    assert tree["config.json"].lfs is None
    assert tree["config.json"].size == len(FILES["config.json"])
    assert {entry.path for entry in api.list_repo_tree("someone/model")} == {
        "1_Pooling",
        "config.json",
        "model.safetensors",
        "sub folder",
    }
    below = [entry.path for entry in api.list_repo_tree("someone/model", "1_Pooling")]
    assert below == ["1_Pooling/config.json"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("someone/model", "absent"))
    info = api.model_info("someone/model", files_metadata=True)
    assert {sibling.rfilename: sibling.size for sibling in info.siblings} == {
        path: len(content) for path, content in FILES.items()
    }
    (found,) = api.get_paths_info("someone/model", ["model.safetensors", "absent"])
    assert found.lfs.sha256 == digest
    assert [branch.name for branch in api.list_repo_refs("someone/model").branches] == ["main"]


def test_revisions(hub: LoopbackHub, api: HfApi, tmp_path: Path):
    first = hub.add("someone/model", {"file.txt": b"one"})
    second = hub.add("someone/model", {"file.txt": b"two"})
    branch = hub.add("someone/model", {"file.txt": b"three"}, revision="refs/pr/1")
    assert len({first, second, branch}) == 3

    def content(revision: str | None) -> bytes:
        return Path(
            hf_hub_download(
                "someone/model",
                "file.txt",
                revision=revision,
                endpoint=hub.url,
                token=False,
                cache_dir=tmp_path,
            )
        ).read_bytes()

    assert content(None) == b"two"
    assert content(first) == b"one"
    assert content("refs/pr/1") == b"three"
    assert api.model_info("someone/model", revision=first).sha == first
    with pytest.raises(RevisionNotFoundError):
        content("absent")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("someone/model", revision="absent")


def test_a_second_download_asks_but_does_not_fetch(hub: LoopbackHub, tmp_path: Path):
    hub.add("someone/model", FILES)
    for _ in range(2):
        hf_hub_download("someone/model", "model.safetensors", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert len([path for path in hub.paths("HEAD") if path.endswith("model.safetensors")]) == 2
    assert len([path for path in hub.paths("GET") if path.startswith("/blobs/")]) == 1


def test_what_is_not_there(hub: LoopbackHub, api: HfApi, tmp_path: Path):
    hub.add("someone/model", FILES)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("someone/absent")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("someone/absent", "config.json", endpoint=hub.url, token=False, cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("someone/model", "absent", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert not api.repo_exists("someone/absent")
    assert api.repo_exists("someone/model")
    assert not api.file_exists("someone/model", "absent")
    assert api.file_exists("someone/model", "config.json")


def test_private_and_gated_repositories_open_with_a_token(hub: LoopbackHub, api: HfApi, tmp_path: Path):
    hub.add("someone/private", FILES, private=True)
    hub.add("someone/gated", FILES, gated=True)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("someone/private")
    assert api.model_info("someone/gated").gated == "manual"
    with pytest.raises(GatedRepoError):
        hf_hub_download("someone/gated", "config.json", endpoint=hub.url, token=False, cache_dir=tmp_path / "a")
    for repo_id in ("someone/private", "someone/gated"):
        folder = snapshot_download(repo_id, endpoint=hub.url, token="hf_loopback", cache_dir=tmp_path / "b")
        assert read(folder) == FILES
    assert {request.hf_token for request in hub.requests if request.path.startswith("/blobs/")} == {None}
    with pytest.raises(HfHubHTTPError) as caught:
        api.model_info("someone/gated", token="hf_expired")
    assert caught.value.response.status_code == 401


def test_whoami(hub: LoopbackHub, api: HfApi):
    assert api.whoami(token="hf_loopback")["name"] == "tester"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_expired")


def test_models_are_listed_searched_and_paged(hub: LoopbackHub, api: HfApi):
    names = [f"someone/model-{number:02}" for number in range(45)]
    for name in names:
        hub.add(name, {"config.json": b"{}"})
    hub.add("other/static-model", FILES)
    hub.add("other/private", FILES, private=True)
    hub.add("other/space", FILES, kind="space")
    assert [model.id for model in api.list_models()] == ["other/static-model", *names]
    assert [model.id for model in api.list_models(search="MODEL-4")] == names[40:]
    assert [model.id for model in api.list_models(search="model-", limit=30)] == names[:30]
    assert [model.id for model in api.list_models(author="other")] == ["other/static-model"]
    assert [model.id for model in api.list_models(filter="model2vec")] == ["other/static-model"]
    assert "other/private" in [model.id for model in api.list_models(token="hf_loopback")]


@pytest.mark.parametrize(
    ("status", "error_code", "error"),
    [
        (401, None, HfHubHTTPError),
        (403, "GatedRepo", GatedRepoError),
        (403, None, HfHubHTTPError),
        (404, "RepoNotFound", RepositoryNotFoundError),
        (404, "RevisionNotFound", RevisionNotFoundError),
        (404, "EntryNotFound", RemoteEntryNotFoundError),
        (429, None, HfHubHTTPError),
        (500, None, HfHubHTTPError),
    ],
)
def test_errors_on_demand(status: int, error_code: str | None, error: type[Exception], hub: LoopbackHub, api: HfApi):
    hub.add("someone/model", FILES)
    with hub.failing(r"^/api/models/someone/", status=status, error_code=error_code):
        with pytest.raises(error) as caught:
            api.model_info("someone/model")
        assert caught.value.response.status_code == status
        assert api.list_models()  # another address
    assert api.model_info("someone/model").id == "someone/model"


def test_a_failure_can_pass(hub: LoopbackHub, tmp_path: Path):
    hub.add("someone/model", FILES)
    with hub.failing(r"^/blobs/", status=429, headers={"Retry-After": "0"}, times=1):
        path = hf_hub_download("someone/model", "model.safetensors", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["model.safetensors"]
    assert len([path for path in hub.paths() if path.startswith("/blobs/")]) == 2


def test_a_connection_cut_before_the_answer(hub: LoopbackHub, api: HfApi):
    hub.add("someone/model", FILES)
    with hub.failing("", cut_after=0), pytest.raises(httpx2.TransportError):
        api.model_info("someone/model")


def test_a_download_cut_half_way_resumes(hub: LoopbackHub, tmp_path: Path):
    hub.add("someone/model", FILES)
    with hub.failing(r"^/blobs/", cut_after=300_000, times=1):
        path = hf_hub_download("someone/model", "model.safetensors", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["model.safetensors"]


def test_a_stopped_hub_refuses(hub: LoopbackHub, tmp_path: Path):
    hub.add("someone/model", FILES)
    hub.stop()
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("someone/model", endpoint=hub.url, token=False, cache_dir=tmp_path)


def test_the_environment_points_a_process_here(hub: LoopbackHub, tmp_path: Path):
    hub.add("someone/model", FILES)
    code = (
        "import json; from huggingface_hub import constants, get_token, model_info;"
        "print(json.dumps([constants.ENDPOINT, constants.HF_HUB_CACHE, get_token(),"
        " model_info('someone/model').id]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=hub.environment(tmp_path),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [hub.url, str(tmp_path / "hub"), None, "someone/model"]


def test_a_closed_port_in_the_environment(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, "-c", "from huggingface_hub import model_info; model_info('someone/model')"],
        env=client_environment(endpoint, tmp_path),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"ConnectError" in done.stderr


def test_the_test_session_itself_knows_only_the_loopback_hub(session_hub: LoopbackHub, tmp_path: Path):
    session_hub.add("tests/of-the-session", FILES)
    folder = snapshot_download("tests/of-the-session", cache_dir=tmp_path)
    assert read(folder) == FILES
    assert session_hub.paths()
