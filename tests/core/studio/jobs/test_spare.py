"""Spare workers."""

from __future__ import annotations

import contextlib
import os

import psutil
import pytest

from m2v_core.studio.jobs import JobSpec, dispatcher
from tests.core.studio.jobs.conftest import wait_until


def spares() -> list[psutil.Process]:
    """Spare supervisors of this process."""
    found = []
    for child in psutil.Process(os.getpid()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command line
            if child.cmdline()[-2:] == ["m2v_core.studio.jobs.supervisor", "--spare"]:
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def none_of_earlier_tests() -> None:
    """Waits until spare workers of closed stores have ended."""
    wait_until(lambda: not spares())


def test_the_next_job_uses_the_spare_worker(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    wait_until(spares)
    (spare,) = spares()
    wait_until(spare.children)
    (worker,) = spare.children()
    job = store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    assert job.state == "done"
    assert f"worker {worker.pid} started" in store.log(job.id, "ada")
    wait_until(lambda: spares() and spares() != [spare])
    store.close()
    wait_until(lambda: not spares() and not psutil.pid_exists(worker.pid))


def test_a_spare_worker_is_started_for_an_expected_job(make_store):
    store = make_store(keeps_spare=True)
    assert not spares()
    store.expect_job()
    wait_until(spares)
    (spare,) = spares()
    wait_until(spare.children)
    (worker,) = spare.children()
    job = store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    assert f"worker {worker.pid} started" in store.log(job.id, "ada")


def test_a_store_without_spares_starts_none(make_store):
    store = make_store()
    store.expect_job()
    assert store.wait(store.submit(JobSpec("echo"), "ada"), "ada").state == "done" and not spares()


def test_jobs_with_secrets_get_a_new_worker(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    wait_until(spares)
    before = spares()
    job = store.wait(store.submit(JobSpec("echo"), "ada", secrets={"hf_token": "hf_" + "x" * 34}), "ada")
    assert job.state == "done" and spares() == before


def test_a_dead_spare_worker_is_replaced(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    wait_until(spares)
    (spare,) = spares()
    spare.kill()
    wait_until(lambda: not spares())
    assert store.wait(store.submit(JobSpec("echo"), "ada"), "ada").state == "done"


def test_a_spare_worker_ends_after_a_while(make_store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatcher, "_SPARE_SECONDS", 8.0)
    monkeypatch.setattr(dispatcher, "_IDLE_POLL_SECONDS", 0.2)
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("echo"), "ada"), "ada")
    wait_until(spares)
    wait_until(lambda: not spares())
