"""The demo model: made once, offered to everybody, changed by nobody."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import InputError
from m2v_core.model import StaticModel
from m2v_core.studio.library import DemoModel, Library
from m2v_core.studio.library import demo as module
from tests.demo_model import place_demo
from tests.static_models import TEXTS, static_model

ADA, BOB = "ada", "bob"
TEACHER = "someone/all-Teacher_v2"
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def demo(tmp_path: Path) -> DemoModel:
    return place_demo(tmp_path, TEACHER)


@pytest.fixture
def library(demo: DemoModel, tmp_path: Path) -> Library:
    return Library(tmp_path / "library", demo=demo, max_models_per_owner=1)


@pytest.fixture
def add(library: Library, tmp_path: Path) -> Callable[[str], str]:
    def add(owner: str) -> str:
        static_model().save_pretrained(tmp_path / "own")
        return library.add_from_folder(tmp_path / "own", owner).id

    return add


def files_and_times(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_it_is_selected_until_its_visitor_has_a_model(
    library: Library, demo: DemoModel, add: Callable[[str], str]
) -> None:
    contents = library.contents(ADA)
    assert contents.models == library.list_models(ADA) == []
    assert contents.picked == contents.demo == demo.record() and contents.offered == [demo.record()]
    assert library.pick(demo.id, ADA) == demo.record()
    own = add(ADA)
    contents = library.contents(ADA)
    assert contents.picked is not None and contents.picked.id == own
    assert [record.id for record in contents.offered] == [own, demo.id]
    library.pick(demo.id, ADA)
    assert library.picked(ADA) == demo.record()
    assert library.picked(BOB) == demo.record()


def test_a_new_model_takes_over_the_selection(library: Library, demo: DemoModel, add: Callable[[str], str]) -> None:
    own = add(ADA)
    library.pick(demo.id, ADA)
    library.delete(own, ADA)
    assert library.picked(ADA) == demo.record()
    new = add(ADA)
    picked = library.picked(ADA)
    assert picked is not None and picked.id == new


def test_every_owner_loads_it_and_none_changes_it(library: Library, demo: DemoModel, tmp_path: Path) -> None:
    expected = static_model("WordPiece").encode(list(TEXTS))
    before = files_and_times(demo.folder())
    for owner in (ADA, BOB):
        assert np.allclose(library.load(demo.id, owner).encode(list(TEXTS)), expected, atol=1e-6)
        assert library.get(demo.id, owner) == demo.record()
        assert library.folder(demo.id, owner) == demo.folder() / "model"
        with pytest.raises(InputError, match="is shared by all users"):
            library.rename(demo.id, "mine", owner)
        with pytest.raises(InputError, match="is shared by all users"):
            library.delete(demo.id, owner)
        with pytest.raises(InputError, match="is shared by all users"):
            library.get_own(demo.id, owner)
    assert files_and_times(demo.folder()) == before
    assert not list((tmp_path / "library").rglob("record.json"))


def test_it_counts_against_no_limit_and_never_expires(tmp_path: Path) -> None:
    demo = place_demo(tmp_path, TEACHER)
    record = demo.record()
    assert record is not None
    os.utime(demo.folder() / "record.json", (0, 0))
    static_model().save_pretrained(tmp_path / "own")
    library = Library(
        tmp_path / "library", demo=demo, max_models_per_owner=1, max_bytes=record.n_bytes + 100, keep_seconds=60.0
    )
    library.add_from_folder(tmp_path / "own", ADA)
    assert library.clean() == [] and library.load(demo.id, BOB).dim == record.dim


def test_another_release_or_teacher_has_another_one(
    demo: DemoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DemoModel(tmp_path / "demo", TEACHER).record() == demo.record()
    assert DemoModel(tmp_path / "demo", "someone/other").record() is None
    monkeypatch.setattr(module, "__version__", "999")
    assert DemoModel(tmp_path / "demo", TEACHER).record() is None
    new = place_demo(tmp_path, TEACHER)
    assert new.id != demo.id and new.record() is not None
    assert not demo.folder().exists()  # it takes up space


def test_a_damaged_one_is_replaced(demo: DemoModel, tmp_path: Path) -> None:
    for file in ("record.json", "model/config.json"):
        (demo.folder() / file).write_text("{")
    assert DemoModel(tmp_path / "demo", TEACHER).record() is None
    assert place_demo(tmp_path, TEACHER).record() is not None


def test_two_apps_make_it_once_when_no_job_runs(
    build_teacher_once: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = build_teacher_once("wordpiece")
    runs: list[Path] = []
    run_worker = module._run_worker

    def counted(making: module.JobFolder) -> None:
        runs.append(making.path)
        run_worker(making)

    monkeypatch.setattr(module, "_run_worker", counted)
    monkeypatch.setattr(module, "_IDLE_POLL_SECONDS", 0.05)
    looks = iter([False, False])
    apps = [DemoModel(tmp_path / "demo", str(teacher)) for _ in range(2)]
    threads = [app.make_in_background(lambda: next(looks, True), 0.0) for app in apps]
    assert all(app.is_pending for app in apps)
    for thread in threads:
        assert thread is not None
        thread.join(240)
    assert len(runs) == 1 and next(looks, None) is None
    assert not any(app.is_pending for app in apps)
    record = apps[0].record()
    assert record is not None and record == apps[1].record() and record.name == "Demo"
    assert record.teacher == str(teacher) and record.recipe["recipe"] == "fast"
    assert StaticModel.from_pretrained(str(apps[0].folder() / "model")).dim == record.dim
    assert {path.name for path in (tmp_path / "demo").iterdir()} <= {".lock", apps[0].folder().parent.name}
    assert apps[0].make_in_background(lambda: True) is None


def test_a_failure_leaves_no_demo_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report = {"state": "failed", "message": "The disk is full."}
    monkeypatch.setattr(module, "_run_worker", lambda making: making.write_report(report))
    demo = DemoModel(tmp_path / "demo", "someone/teacher")
    with caplog.at_level(logging.WARNING):
        thread = demo.make_in_background(lambda: True, 0.0)
        assert thread is not None
        thread.join(60)
    assert not demo.is_pending and demo.record() is None
    assert "The disk is full." in caplog.text
    assert [path.name for path in (tmp_path / "demo").iterdir()] in ([".lock"], [])


APP = """
import signal, sys, time
from pathlib import Path
from m2v_core.studio.library import DemoModel, demo
demo._TARGET = "tests.core.studio.jobs.job_kinds:count"
demo._SETTINGS = {**demo._SETTINGS, "units": 3000, "seconds": 0.1}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
DemoModel(Path(sys.argv[1]), "someone/teacher").make_in_background(lambda: True, 0.0)
time.sleep(600)
"""


@pytest.mark.skipif(not shutil.which("pgrep"), reason="needs pgrep")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_worker_ends_with_the_app(tmp_path: Path, end: signal.Signals) -> None:
    app = subprocess.Popen([sys.executable, "-c", APP, str(tmp_path / "demo")], cwd=ROOT, stderr=subprocess.DEVNULL)
    progress = tmp_path / "demo" / ".making" / "progress.jsonl"
    wait_until(lambda: progress.exists() and progress.read_text())
    worker = int(subprocess.run(["pgrep", "-P", str(app.pid)], capture_output=True, text=True, check=True).stdout)
    app.send_signal(end)
    app.wait(60)
    wait_until(lambda: not is_running(worker))


def is_running(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(status) and not status.startswith("Z")


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.05)
