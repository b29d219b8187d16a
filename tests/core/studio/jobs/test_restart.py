"""Jobs after a restart of the store or the app."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.jobs.folder import DAMAGED
from m2v_core.studio.processes import ProcessId
from tests.core.studio.jobs.conftest import REPOSITORY, wait_until

_APP = """
import json, sys, time
from pathlib import Path
from m2v_core.studio.jobs import JobSpec
from tests.core.studio.jobs.conftest import open_store

store = open_store(Path(sys.argv[1]), max_running=int(sys.argv[2]))
for kind, parameters, secrets in json.loads(sys.argv[3]):
    print(store.submit(JobSpec(kind, parameters), "ada", secrets=secrets), flush=True)
time.sleep(60)
"""


def _start_app(root: Path, jobs: list, max_running: int = 1) -> tuple[subprocess.Popen, list[str]]:
    """Start a process that submits jobs and waits to be killed; return it and the ids of the jobs."""
    app = subprocess.Popen(
        [sys.executable, "-c", _APP, str(root), str(max_running), json.dumps(jobs)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    return app, [app.stdout.readline().strip() for _ in jobs]


def _kill(app: subprocess.Popen) -> None:
    app.kill()
    app.communicate()


def _rewrite(root: Path, job_id: str, **changes) -> None:
    file = root / job_id / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_jobs_outlive_a_killed_app(make_store, root: Path):
    app, (running, waiting, secretive) = _start_app(
        root,
        [
            ["count", {"units": 20, "seconds": 0.05}, None],
            ["count", {"units": 2}, None],
            ["echo", {}, {"hf_token": "hf_" + "s" * 34}],
        ],
    )
    watcher = root / running / "progress.jsonl"
    wait_until(watcher.is_file)
    _kill(app)
    store = make_store()
    assert store.get(running, "ada").state == "running"
    assert store.wait(running, "ada", timeout_seconds=30).state == "done"
    assert (store.result_folder(running, "ada") / "counted.txt").is_file()
    # A queued job continues, unless its token was lost with the app.
    assert store.wait(waiting, "ada", timeout_seconds=30).state == "done"
    job = store.wait(secretive, "ada", timeout_seconds=30)
    assert job.state == "failed"
    assert "access tokens are not stored on disk" in job.message


def test_a_job_whose_worker_died_with_the_app_fails_and_keeps_its_log(make_store, root: Path):
    app, (job_id,) = _start_app(root, [["stubborn", {}, None]])
    wait_until((root / job_id / "progress.jsonl").is_file)
    supervisor = json.loads((root / job_id / "state.json").read_text())["worker"]["pid"]
    _kill(app)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: ProcessId.of(supervisor) is None)
    store = make_store()  # opening the store updates the job
    assert json.loads((root / job_id / "state.json").read_text())["state"] == "failed"
    job = store.get(job_id, "ada")
    assert job.state == "failed"
    assert "The worker was killed" in job.message
    assert "started" in store.log(job_id, "ada")
    assert job.progress.stage == "encode"


def test_a_worker_is_distinguished_from_a_later_process_with_the_same_id(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    store.close()
    _rewrite(root, job_id, state="running", finished_at=None, worker={"pid": os.getpid(), "started": "yesterday"})
    assert make_store().get(job_id, "ada").state == "failed"


def test_a_cancelling_job_whose_worker_died_is_cancelled(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    store.close()
    _rewrite(root, job_id, state="cancelling", finished_at=None)
    assert make_store().wait(job_id, "ada", timeout_seconds=60).state == "cancelled"


def test_two_apps_on_one_root_run_each_job_once_and_share_the_limit(make_store, root: Path, tmp_path: Path):
    file = tmp_path / "signatures"
    jobs = [["sign", {"file": str(file), "name": f"job-{number}", "seconds": 0.1}, None] for number in range(4)]
    app, _ = _start_app(root, jobs, max_running=2)
    other, _ = _start_app(root, [], max_running=2)
    store = make_store(max_running=2)
    most = 0
    while not all(job.is_finished for job in store.list_jobs("ada")):
        most = max(most, sum(job.state == "running" for job in store.list_jobs("ada")))
    _kill(app)
    _kill(other)
    assert sorted(file.read_text().split()) == [f"job-{number}" for number in range(4)]
    assert most <= 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "on fire"}', '{"state": "running"}', "\xff"])
def test_a_damaged_state_is_a_failed_job(make_store, root: Path, content: str):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    time.sleep(0.01)
    (root / job_id / "state.json").write_text(content, encoding="latin-1")
    for reader in (store, make_store()):
        job = reader.get(job_id, "ada")
        assert (job.state, job.message) == ("failed", DAMAGED)
        assert job == reader.get(job_id, "ada")
    assert "worker ended" in store.log(job_id, "ada")
    store.delete(job_id, "ada")
    assert store.list_jobs("ada") == []


def test_foreign_files_in_the_root_are_ignored(make_store, root: Path):
    (root / ("0" * 32)).mkdir(parents=True)
    (root / ("1" * 32)).mkdir()
    (root / ("1" * 32) / "spec.json").write_text("{")
    (root / ".new-unfinished").mkdir()
    (root / "notes.txt").write_text("not a job")
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    assert store.wait(job_id, "ada", timeout_seconds=30).state == "done"
    assert [job.id for job in store.list_jobs("ada")] == [job_id]
    shutil.rmtree(root / job_id)  # deleted manually while the store is open
    assert store.list_jobs("ada") == []


def test_an_incomplete_last_line_of_progress_is_ignored(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    whole = store.wait(job_id, "ada", timeout_seconds=30)
    with (root / job_id / "progress.jsonl").open("a") as file:
        file.write('nonsense\n{"stage": "sa')
    assert make_store().get(job_id, "ada") == whole
