"""How jobs end when they don't end well: errors, crashes, limits, and being asked to stop."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest

from m2v_core.studio.jobs import JobLimits, JobSpec
from m2v_core.studio.jobs.records import FINISHED
from tests.core.studio.jobs.conftest import wait_until


def _worker_pid(store, job_id: str) -> int:
    """The process that does the work, from the log."""
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


def test_an_unexpected_error_is_a_plain_sentence_and_the_rest_is_in_the_log(run):
    store, job = run("stumble")
    assert job.state == "failed"
    assert job.message == f"Something went wrong that was not foreseen. The details are in the log of job {job.id}."
    assert "ZeroDivisionError: hidden from people" in store.log(job.id, "ada")
    assert store.log(job.id, "ada", max_chars=10) == store.log(job.id, "ada")[-10:]


def test_a_message_tells_no_path_of_the_server(run):
    _, job = run("save_badly")
    assert job.message == "Could not write the job's folder/staging."


def test_a_full_disk_is_a_sentence(run):
    _, job = run("find_no_room")
    assert job.message.startswith("The disk is full.")


def test_a_result_that_cannot_be_written_down_fails_the_job(run):
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


def test_a_worker_killed_with_its_keeper_is_a_failed_job(make_store):
    store = make_store()
    job_id = store.submit(JobSpec("stubborn"), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    worker = _worker_pid(store, job_id)
    keeper = store._index.find(job_id).state.worker
    os.kill(keeper.pid, signal.SIGKILL)
    job = store.wait(job_id, "ada", timeout_seconds=10)
    assert job.state == "failed"
    assert "The worker was killed (out of memory?), or the machine restarted." in job.message
    wait_until(lambda: not _is_alive(worker))  # it doesn't outlive the one who could stop it
    # The app goes on.
    assert store.wait(store.submit(JobSpec("count"), "ada"), "ada", timeout_seconds=30).state == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds the cap")
@pytest.mark.parametrize("kind", ["hoard", "lack", "starve"])
def test_a_worker_stays_below_its_memory(run, root, kind: str):
    _, job = run(kind, n_bytes=2**30)
    assert job.state == "failed"
    assert job.message.startswith("The job needed more memory than the 1 GiB that a job may use here.")
    assert not (root / job.id / "staging").exists()


def test_the_clock_stops_a_job(make_store):
    store = make_store(limits=JobLimits(wall_seconds=1.0))
    job = store.wait(store.submit(JobSpec("stubborn"), "ada"), "ada", timeout_seconds=15)
    assert (job.state, job.message) == ("failed", "Stopped after 1 seconds, the limit for one job here.")


@pytest.mark.parametrize("kind", ["count", "stubborn", "deaf"])
def test_cancel_takes_less_than_two_seconds(make_store, root, kind: str):
    """Whether the work listens, ignores SIGTERM, or holds the interpreter in native code."""
    store = make_store()
    job_id = store.submit(JobSpec(kind, {"units": 1000, "seconds": 0.05}), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    worker = _worker_pid(store, job_id)
    asked_at = time.monotonic()
    assert store.cancel(job_id, "ada").state in {"cancelling", "cancelled"}
    assert time.monotonic() - asked_at < 1.0  # the page isn't held up
    wait_until(lambda: store.get(job_id, "ada").is_finished)
    # Two seconds are promised, and taken on a machine of one's own; this one is shared.
    assert time.monotonic() - asked_at < 4.0
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


def test_a_flood_of_words_does_not_fill_the_disk(run):
    store, job = run("shout", n_bytes=12 * 2**20)
    assert job.state == "done"
    log = store._index.find(job.id).folder.log_file
    assert log.stat().st_size < 6 * 2**20
    assert "the log is full" in store.log(job.id, "ada")


def test_a_terminated_keeper_says_why(make_store):
    """As when the machine shuts down."""
    store = make_store()
    job_id = store.submit(JobSpec("stubborn"), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    os.kill(store._index.find(job_id).state.worker.pid, signal.SIGTERM)
    job = store.wait(job_id, "ada", timeout_seconds=10)
    assert (job.state, job.message) == ("failed", "Stopped with the machine it ran on. Start it again.")
