"""A worker that stands ready for the next job."""

from __future__ import annotations

import contextlib
import os

import psutil
import pytest

from m2v_core.studio.jobs import JobSpec, dispatcher
from tests.core.studio.jobs.conftest import wait_until


def spares() -> list[psutil.Process]:
    """Keepers of this process that have no job."""
    found = []
    for child in psutil.Process(os.getpid()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # and a zombie has no command line
            if child.cmdline()[-2:] == ["m2v_core.studio.jobs.keeper", "--spare"]:
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def none_of_earlier_tests() -> None:
    """One that a closed store no longer needs takes a moment to end."""
    wait_until(lambda: not spares())


def test_the_next_job_is_done_by_the_spare_one(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    wait_until(spares)
    (spare,) = spares()
    wait_until(spare.children)
    (worker,) = spare.children()
    job = store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    assert job.state == "done"
    assert f"worker {worker.pid} started" in store.log(job.id, "ada")
    wait_until(lambda: spares() and spares() != [spare])
    store.close()
    wait_until(lambda: not spares() and not psutil.pid_exists(worker.pid))


def test_one_stands_ready_for_a_job_that_is_expected(make_store):
    store = make_store(keeps_spare=True)
    assert not spares()
    store.expect_job()
    wait_until(spares)
    (spare,) = spares()
    wait_until(spare.children)
    (worker,) = spare.children()
    job = store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    assert f"worker {worker.pid} started" in store.log(job.id, "ada")


def test_a_store_without_spares_expects_a_job_in_vain(make_store):
    store = make_store()
    store.expect_job()
    assert store.wait(store.submit(JobSpec("say"), "ada"), "ada").state == "done" and not spares()


def test_what_needs_a_secret_gets_a_new_one(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    wait_until(spares)
    before = spares()
    job = store.wait(store.submit(JobSpec("say"), "ada", secrets={"hf_token": "hf_" + "x" * 34}), "ada")
    assert job.state == "done" and spares() == before


def test_one_that_died_is_not_missed(make_store):
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    wait_until(spares)
    (spare,) = spares()
    spare.kill()
    wait_until(lambda: not spares())
    assert store.wait(store.submit(JobSpec("say"), "ada"), "ada").state == "done"


def test_it_ends_after_a_while(make_store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatcher, "_SECONDS_OF_A_SPARE", 8.0)
    monkeypatch.setattr(dispatcher, "_SECONDS_BETWEEN_LOOKS_WHEN_IDLE", 0.2)
    store = make_store(keeps_spare=True)
    store.wait(store.submit(JobSpec("say"), "ada"), "ada")
    wait_until(spares)
    wait_until(lambda: not spares())
