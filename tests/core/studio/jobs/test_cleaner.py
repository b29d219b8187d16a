"""Removal of expired and oldest jobs; running and queued jobs are kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from m2v_core.errors import NotFoundError
from m2v_core.studio.jobs import JobSpec
from tests.core.studio.jobs.conftest import wait_until


@pytest.fixture
def finished(make_store, root: Path):
    """A store, and three finished jobs, one, two and three hours old, of 100 kB each."""
    store = make_store(max_running=3)
    ids = [store.submit(JobSpec("count"), "ada") for _ in range(3)]
    for age, job_id in enumerate(ids, start=1):
        store.wait(job_id, "ada", timeout_seconds=30)
        state = json.loads((root / job_id / "state.json").read_text())
        state["finished_at"] = time.time() - age * 3600
        (root / job_id / "state.json").write_text(json.dumps(state))
        (root / job_id / "result" / "model.bin").write_bytes(b"x" * 100_000)
    return store, ids


def test_jobs_too_old_are_removed(finished, root: Path):
    store, (newest, middle, oldest) = finished
    assert store.clean(keep_seconds=1.5 * 3600) == [oldest, middle]
    assert [job.id for job in store.list_jobs("ada")] == [newest]
    assert sorted(path.name for path in root.iterdir()) == [".lock", newest]
    with pytest.raises(NotFoundError):
        store.result_folder(oldest, "ada")


def test_the_oldest_are_removed_until_the_others_fit(finished):
    store, (newest, middle, oldest) = finished
    assert store.clean(keep_bytes=250_000) == [oldest]
    assert store.clean(keep_bytes=250_000) == []
    assert store.clean(keep_bytes=0) == [middle, newest]


def test_nothing_is_removed_by_default(finished):
    store, ids = finished
    assert store.clean() == []
    assert len(store.list_jobs("ada")) == len(ids)


def test_running_and_queued_jobs_are_never_removed(make_store):
    store = make_store(max_running=1)
    running, waiting = (store.submit(JobSpec("stubborn"), "ada") for _ in range(2))
    wait_until(lambda: store.get(running, "ada").state == "running")
    assert store.clean(keep_seconds=0, keep_bytes=0) == []
    assert [job.state for job in store.list_jobs("ada")] == ["queued", "running"]
    store.cancel(waiting, "ada")


def test_a_store_cleans_automatically(make_store, finished):
    _, (newest, *_) = finished
    again = make_store(keep_seconds=1.5 * 3600)
    wait_until(lambda: [job.id for job in again.list_jobs("ada")] == [newest])


def test_remains_of_a_crash_are_removed_when_old(make_store, root: Path):
    store = make_store()
    for name in ("0" * 32, ".new-" + "1" * 32, ".trash-" + "2" * 32, ".new-fresh"):
        (root / name).mkdir()
        if "fresh" not in name:
            os.utime(root / name, (0, 0))
    assert store.clean(keep_seconds=24 * 3600) == ["0" * 32]
    assert sorted(path.name for path in root.iterdir()) == [".lock", ".new-fresh"]
