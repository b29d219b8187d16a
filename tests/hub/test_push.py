"""The writing side of the loopback Hub, driven by the real huggingface_hub client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub.server import LoopbackHub, User, client_environment

ADA, BOB, READER = "hf_ada", "hf_bob", "hf_reader"
LARGE = bytes(range(256)) * 1_000


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.users = {ADA: User("ada", orgs=("lab",)), BOB: User("bob"), READER: User("ada", "read")}
        yield hub


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=ADA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (root / "model.safetensors").write_bytes(LARGE)
    (root / "sub" / "config.json").write_text("{}")
    return root


def status(action: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as caught:
        action()
    return caught.value.response.status_code


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_every_kind_is_made_filled_and_deleted(hub: LoopbackHub, api: HfApi, folder: Path, kind: str) -> None:
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    url = api.create_repo("ada/thing", repo_type=kind, private=True, **sdk)
    assert str(url) == f"{hub.url}/{'' if kind == 'model' else kind + 's/'}ada/thing"
    api.upload_folder(repo_id="ada/thing", repo_type=kind, folder_path=folder)
    assert set(api.list_repo_files("ada/thing", repo_type=kind)) == {
        ".gitattributes",
        "README.md",
        "model.safetensors",
        "sub/config.json",
    }
    assert hub.files("ada/thing", kind=kind)["model.safetensors"] == LARGE
    assert api.repo_info("ada/thing", repo_type=kind).private
    api.delete_repo("ada/thing", repo_type=kind)
    assert not api.repo_exists("ada/thing", repo_type=kind)


def test_a_name_is_taken_once(api: HfApi) -> None:
    api.create_repo("ada/model")
    assert status(lambda: api.create_repo("ada/model")) == 409
    api.create_repo("ada/model", exist_ok=True)
    api.create_repo("ada/model", repo_type="dataset")


def test_whoami_tells_name_role_and_organisations(api: HfApi) -> None:
    known = api.whoami()
    assert (known["name"], [org["name"] for org in known["orgs"]]) == ("ada", ["lab"])
    assert api.whoami(token=READER)["auth"]["accessToken"]["role"] == "read"


def test_who_may_do_what(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    api.create_repo("lab/model", private=True)
    api.create_repo("ada/open")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("lab/model", token=BOB)
    assert [model.id for model in api.list_models(token=BOB)] == ["ada/open"]
    assert [model.id for model in api.list_models()] == ["ada/open", "lab/model"]
    for token in (BOB, READER):
        assert status(lambda token=token: api.create_repo("ada/other", token=token)) == 403
        upload = {"repo_id": "ada/open", "folder_path": folder, "token": token}
        assert status(lambda upload=upload: api.upload_folder(**upload)) == 403
        assert status(lambda token=token: api.delete_repo("ada/open", token=token)) == 403
    assert status(lambda: api.create_repo("ada/other", token="hf_expired")) == 401
    assert set(hub.files("ada/open")) == {".gitattributes"}


def test_a_file_is_sent_in_parts_and_once(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    hub.part_bytes = 100_000
    api.create_repo("ada/model")
    api.upload_folder(repo_id="ada/model", folder_path=folder)
    assert len(hub.paths("PUT")) == 3
    assert hub.files("ada/model")["model.safetensors"] == LARGE
    api.create_repo("ada/again")
    api.upload_folder(repo_id="ada/again", folder_path=folder)
    assert len(hub.paths("PUT")) == 3
    assert hub.files("ada/again")["model.safetensors"] == LARGE
    assert {request.hf_token for request in hub.requests if request.method == "PUT"} == {None}


def test_a_commit_adds_changes_and_deletes(hub: LoopbackHub, api: HfApi) -> None:
    hub.add("ada/model", {"a.txt": b"a", "b.txt": b"b", "old/c.txt": b"c", "old/d.txt": b"d"})
    operations = [
        CommitOperationAdd("a.txt", b"other"),
        CommitOperationDelete("b.txt"),
        CommitOperationDelete("old/", is_folder=True),
    ]
    done = api.create_commit("ada/model", operations, commit_message="Tidy up")
    assert hub.files("ada/model") == {"a.txt": b"other"}
    assert done.oid == hub.repo("ada/model").refs["main"]
    stale = {"parent_commit": "0" * 40, "commit_message": "Late"}
    assert status(lambda: api.create_commit("ada/model", [CommitOperationAdd("a.txt", b"late")], **stale)) == 412


def test_a_commit_without_its_upload_is_refused(hub: LoopbackHub, api: HfApi, folder: Path) -> None:
    api.create_repo("ada/model")
    addition = CommitOperationAdd("model.safetensors", LARGE)
    api.preupload_lfs_files("ada/model", [addition])
    hub.blobs.clear()
    assert status(lambda: api.create_commit("ada/model", [addition], commit_message="Hollow")) == 400


def test_front_matter_is_checked(api: HfApi) -> None:
    api.create_repo("ada/model")
    for text, said in (("license: nonsense", "must be one of"), ("a: [", "flow")):
        addition = CommitOperationAdd("README.md", f"---\n{text}\n---\n".encode())
        with pytest.raises(ValueError, match=said):
            api.create_commit("ada/model", [addition], commit_message="Card")


def test_branches(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo("ada/model")
    api.create_branch("ada/model", branch="v2")
    assert status(lambda: api.create_branch("ada/model", branch="v2")) == 409
    api.create_branch("ada/model", branch="v2", exist_ok=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/model", revision="v2")
    assert "x.txt" in hub.files("ada/model", "v2")
    assert "x.txt" not in hub.files("ada/model")
    assert {branch.name for branch in api.list_repo_refs("ada/model").branches} == {"main", "v2"}


def test_anyone_may_open_a_pull_request(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo("ada/model")
    done = api.upload_file(
        path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/model", create_pr=True, token=BOB, commit_message="Hi"
    )
    assert (done.pr_num, done.pr_url) == (1, f"{hub.url}/ada/model/discussions/1")
    assert hub.files("ada/model", "refs/pr/1")["x.txt"] == b"x"
    assert "x.txt" not in hub.files("ada/model")
    [found] = api.get_repo_discussions("ada/model")
    assert (found.num, found.title, found.author, found.is_pull_request) == (1, "Hi", "bob", True)
    assert [branch.name for branch in api.list_repo_refs("ada/model").branches] == ["main"]
    assert [ref.ref for ref in api.list_repo_refs("ada/model", include_pull_requests=True).pull_requests] == [
        "refs/pr/1"
    ]


@pytest.mark.parametrize("fault", [{"read_bytes": 0}, {"read_bytes": 1_000}])
def test_an_upload_that_is_cut_off_leaves_nothing(
    hub: LoopbackHub, api: HfApi, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, int]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    api.create_repo("ada/model")
    with hub.failing("/upload/", **fault), pytest.raises(RuntimeError, match="while uploading"):
        api.upload_folder(repo_id="ada/model", folder_path=folder)
    assert hub.blobs == {}
    assert set(hub.files("ada/model")) == {".gitattributes"}


def test_xet_is_the_client_s_other_way(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    hub.xet_folder = tmp_path / "cas"
    hub.xet_folder.mkdir()
    code = (
        "import sys; from huggingface_hub import HfApi; api = HfApi(token=sys.argv[1]);"
        "api.create_repo('ada/model'); api.upload_folder(repo_id='ada/model', folder_path=sys.argv[2])"
    )
    environment = {**os.environ, **client_environment(hub.url, tmp_path / "home"), "HF_HUB_DISABLE_XET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, ADA, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "/api/models/ada/model/xet-write-token/main" in hub.paths()
    assert hub.paths("PUT") == []
    assert sum(path.stat().st_size for path in hub.xet_folder.rglob("*") if path.is_file()) > 0
    assert "model.safetensors" in hub.files("ada/model")
