"""Unsuccessful ends of jobs: errors, crashes, limits and cancellation."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from m2v_core.studio.jobs import JobLimits, JobSpec
from m2v_core.studio.jobs.records import FINISHED
from tests.core.studio.jobs.conftest import wait_until


def _worker_pid(store, job_id: str) -> int:
    """The process id of the worker, from the log."""
    return int(store.log(job_id, "ada").split("worker ")[1].split()[0])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_expected_error_is_the_message(run):
    store, job = run("refuse")
    assert (job.state, job.message) == ("failed", "This teacher has no tokenizer. Choose another.")
    assert "Traceback" in store.log(job.id, "ada")


def test_an_unexpected_error_has_a_plain_message_and_a_traceback_in_the_log(run):
    store, job = run("stumble")
    assert job.state == "failed"
    assert job.message == f"An unexpected error occurred. The details are in the log of job {job.id}."
    assert "ZeroDivisionError: hidden from people" in store.log(job.id, "ada")
    assert store.log(job.id, "ada", max_chars=10) == store.log(job.id, "ada")[-10:]


def test_messages_contain_no_path_of_the_server(run):
    _, job = run("save_badly")
    assert job.message == "Could not write the job's folder/staging."


def test_a_full_disk_has_a_message(run):
    _, job = run("find_no_room")
    assert job.message.startswith("The server's disk is full.")


def test_an_outcome_that_is_not_json_fails_the_job(run):
    _, job = run("unspeakable")
    assert job.state == "failed"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"The worker was killed \(out of memory\?\)\."),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
    ],
)
def test_a_worker_that_dies_is_a_failed_job_with_its_log(run, number: int, message: str):
    store, job = run("kill_itself", signal=int(number))
    assert job.state == "failed"
    assert re.search(message, job.message)
    assert "last words" in store.log(job.id, "ada")


def test_a_worker_killed_with_its_supervisor_is_a_failed_job(make_store):
    store = make_store()
    job_id = store.submit(JobSpec("stubborn"), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    worker = _worker_pid(store, job_id)
    supervisor = store._index.find(job_id).state.worker
    os.kill(supervisor.pid, signal.SIGKILL)
    job = store.wait(job_id, "ada", timeout_seconds=10)
    assert job.state == "failed"
    assert "The worker was killed (out of memory?), or the machine restarted." in job.message
    wait_until(lambda: not _is_alive(worker))  # it exits with its supervisor
    # The app continues.
    assert store.wait(store.submit(JobSpec("count"), "ada"), "ada", timeout_seconds=30).state == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds the cap")
@pytest.mark.parametrize("kind", ["hoard", "lack", "starve"])
def test_a_worker_is_limited_in_memory(run, root, kind: str):
    _, job = run(kind, n_bytes=2**30)
    assert job.state == "failed"
    assert job.message.startswith("The job needed more memory than the limit of 1 GiB for a job.")
    assert not (root / job.id / "staging").exists()


def test_a_job_is_stopped_at_the_time_limit(make_store):
    store = make_store(limits=JobLimits(wall_seconds=1.0))
    job = store.wait(store.submit(JobSpec("stubborn"), "ada"), "ada", timeout_seconds=15)
    assert (job.state, job.message) == ("failed", "Stopped after 1 seconds, the time limit for jobs.")


@pytest.mark.parametrize("kind", ["count", "stubborn", "deaf"])
def test_cancel_ends_work_of_any_kind(make_store, root, kind: str):
    """Also if the job ignores SIGTERM or holds the GIL in native code."""
    store = make_store()
    job_id = store.submit(JobSpec(kind, {"units": 1000, "seconds": 0.05}), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    worker = _worker_pid(store, job_id)
    assert store.cancel(job_id, "ada").state in {"cancelling", "cancelled"}
    wait_until(lambda: store.get(job_id, "ada").is_finished)
    assert not _is_alive(worker)
    job = store.cancel(job_id, "ada")
    assert (job.state, job.message) == ("cancelled", "Cancelled.")
    assert not {"staging", "result", "cancel"} & {path.name for path in (root / job_id).iterdir()}
    changes = [change["state"] for change in store._index.find(job_id).state.history]
    assert changes == ["queued", "running", "cancelling", "cancelled"]


def test_a_finished_job_cannot_be_cancelled(run):
    store, job = run("count")
    assert store.cancel(job.id, "ada") == store.get(job.id, "ada")
    assert store.get(job.id, "ada").state == "done"
    assert job.state in FINISHED


def test_the_log_is_limited_in_size(run):
    store, job = run("shout", n_bytes=12 * 2**20)
    assert job.state == "done"
    log = store._index.find(job.id).folder.log_file
    assert log.stat().st_size < 6 * 2**20
    assert "the log is full" in store.log(job.id, "ada")


def test_a_terminated_supervisor_records_the_reason(make_store):
    """The signal that a shutdown sends."""
    store = make_store()
    job_id = store.submit(JobSpec("stubborn"), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    os.kill(store._index.find(job_id).state.worker.pid, signal.SIGTERM)
    job = store.wait(job_id, "ada", timeout_seconds=10)
    assert (job.state, job.message) == ("failed", "Stopped because the machine was shut down. Start it again.")
