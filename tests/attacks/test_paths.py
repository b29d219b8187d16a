"""Rules 5 and 6: no text of a stranger's becomes a path, and no file is served that was not made to be."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.space import MARK, Stranger, Victim, marked_model
from tests.hub.server import LoopbackHub
from tests.live_app import ROOT, Server

PATHS = [
    "/etc",
    "../x",
    "..",
    "~",
    "~/x",
    "file:///etc",
    "./pages",
    "pages/components",
    "a/../../etc",
    "C:\\Windows",
    "a/b/c",
]
INSIDE = ("root:x:", "[project]", MARK, "Running on", "hf_")


def file_data(path: str | Path) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "words.txt"}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_no_teacher(stranger: Stranger, path: str) -> None:
    assert "is not a Hub id" in stranger.call("distill", stranger.key, path, None, None)
    asked = [
        handler
        for handler in stranger.handlers
        if handler["api_name"].startswith(("start", "check")) and "dropdown" in stranger.types_of(handler)
    ]
    refused = set()
    for handler in asked:
        data = stranger.untouched(handler)
        place = stranger.types_of(handler).index("dropdown")
        data[place] = path
        said = stranger.ask(handler, data)
        # A measurement is refused before it looks at the teacher, as no model is ticked.
        assert "is not a Hub id" in said or "model" in said.lower(), handler["api_name"]
        refused |= {handler["api_name"]} if "is not a Hub id" in said else set()
    assert len(refused) >= 3
    assert '"data": [[]]' in stranger.call("list_models", stranger.key)


@pytest.mark.parametrize("path", [*PATHS, str(ROOT)])
@pytest.mark.parametrize("way", ["folder", "hub"])
def test_a_path_is_no_model(stranger: Stranger, way: str, path: str) -> None:
    if way == "hub" and path == "pages/components":
        path = "models/x"
    said = stranger.call("add_named", stranger.key, way, path)
    assert "is in your library" not in said
    assert "can't be added" in said.replace("&#39;", "'") or "not in the list of choices" in said


def foreign_files(victim: Victim) -> list[Path]:
    made = [victim.home / "jobs" / victim.done, *(victim.home / "models").rglob("record.json")]
    spec, *_ = made[0].rglob("spec.json")
    weights, *_ = (victim.home / "models").rglob("*.safetensors")
    return [Path("/etc/passwd"), ROOT / "pyproject.toml", victim.home / "server.log", spec, weights, *made[1:]]


def test_a_path_is_no_upload(stranger: Stranger, victim: Victim, session_hub: LoopbackHub) -> None:
    with_files = [handler for handler in stranger.handlers if "file" in stranger.types_of(handler)]
    assert len(with_files) >= 8
    paths = [*foreign_files(victim), "../../../etc/passwd", "file:///etc/passwd", f"{session_hub.url}/secret"]
    for handler in with_files:
        for path in paths:
            for sent in (file_data(path), [file_data(path)], str(path)):
                said = stranger.ask(handler, stranger.untouched(handler, file=sent, radio="upload"))
                assert not any(inside in said for inside in INSIDE), (handler["api_name"], path)
    assert not session_hub.requests  # nor is anything fetched for a stranger from within
    assert all(path.exists() for path in foreign_files(victim))


def test_no_file_of_the_server_is_served(stranger: Stranger, victim: Victim, space: Server) -> None:
    served = Path(json.loads(stranger.upload("mine.txt", b"mine").text)[0])
    assert stranger.fetch(served).text == "mine"
    for path in (
        *foreign_files(victim),
        ROOT / "app.py",
        ROOT / "spaces.yaml",
        served.parent,
        served.parents[1],
        victim.home,
    ):
        for spelled in (str(path), str(path).replace("/", "%2f"), f"{served.parent}/../../{Path(path).name}"):
            answer = stranger.fetch(spelled)
            assert answer.status_code in (403, 404), (spelled, answer.status_code)
            assert not any(inside in answer.text for inside in INSIDE)


@pytest.mark.parametrize("name", ["../../evil.txt", "/etc/evil.txt", "..\\evil.txt", "a/../../b.txt", ".."])
def test_an_upload_stays_where_uploads_go(stranger: Stranger, space: Server, name: str) -> None:
    answer = stranger.upload(name, token := name.encode())
    if answer.status_code == 200:
        [path] = map(Path, answer.json())
        assert path.resolve().is_relative_to(space.home / "served")
        # A long hash: who doesn't know the content can't know the address.
        assert len(path.parent.name) >= 32
        assert path.read_bytes() == token
    assert not list(space.home.glob("*evil*")) and not Path("/etc/evil.txt").exists()


def packed(kind: str, folder: Path) -> Path:
    """A model's archive with something wrong about it."""
    marked_model().save_pretrained(folder / "model")
    path = folder / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "model").iterdir()):
            left_out = {"pickle": ".safetensors", "bomb": ".md"}.get(kind)
            if file.is_file() and file.suffix != left_out:
                archive.write(file, f"model/{file.name}")
        if kind == "path":
            archive.writestr("../../../evil.txt", "evil")
        elif kind == "link":
            link = zipfile.ZipInfo("model/link.json")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        elif kind == "bomb":
            archive.writestr("model/README.md", b"\0" * 50_000_000)
        elif kind == "pickle":
            archive.writestr("model/pytorch_model.bin", b"cos\nsystem\n(S'touch /tmp/evil'\ntR.")
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [("path", "points outside"), ("link", "contains a link"), ("bomb", "bytes"), ("pickle", "can run code")],
)
def test_a_malicious_archive_is_refused(
    stranger: Stranger, space: Server, tmp_path: Path, kind: str, said: str
) -> None:
    upload = stranger.upload("mine.zip", packed(kind, tmp_path).read_bytes()).json()[0]
    before = {path.name for path in space.home.iterdir()}
    answer = stranger.call("add_upload", stranger.key, [file_data(upload)])
    assert said in answer and "The model can" in answer
    assert '"data": [[]]' in stranger.call("list_models", stranger.key)
    assert {path.name for path in space.home.iterdir()} == before
    assert not Path(upload).exists()
