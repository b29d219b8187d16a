from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from m2v_core.studio.jobs import Job, JobLimits, JobSpec, JobStore
from m2v_core.studio.jobs.dispatcher import is_abandoned
from m2v_core.studio.jobs.folder import root_lock
from m2v_core.studio.jobs.index import Entry, JobIndex
from m2v_core.studio.jobs.kinds import Kind
from tests.core.studio.jobs import job_kinds

REPOSITORY = Path(__file__).parents[4]
KINDS = {
    name: Kind(f"{job_kinds.__name__}:{name}", texts=frozenset({"vocabulary"}))
    for name, work in vars(job_kinds).items()
    if getattr(work, "__module__", "") == job_kinds.__name__ and not name.startswith("_")
}


def open_store(root: Path, **settings) -> JobStore:
    limits = settings.pop("limits", JobLimits(memory_bytes=2**30, wall_seconds=60.0))
    return JobStore(root, kinds=KINDS, limits=limits, **{"max_per_owner": 50, **settings})


def wait_until(holds: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def make_store(root: Path) -> Iterator[Callable[..., JobStore]]:
    """Opens stores on the same root; stops their processes afterwards."""
    stores: list[JobStore] = []

    def make(**settings) -> JobStore:
        stores.append(open_store(root, **settings))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
    if not root.is_dir():
        return
    index = JobIndex(root)
    with root_lock(root):
        for entry in index.entries():
            if entry.state.state == "queued":
                entry.folder.write_state(entry.state.changed("cancelled", "The test is over.", time.time()))
            elif not entry.state.is_finished:
                entry.folder.cancel_flag.touch()
    wait_until(lambda: not any(_is_running(entry) for entry in index.entries()))


def _is_running(entry: Entry) -> bool:
    return not entry.state.is_finished and not is_abandoned(entry.state)


@pytest.fixture
def run(make_store: Callable[..., JobStore]) -> Callable[..., tuple[JobStore, Job]]:
    """Runs one job to its end in a separate store."""

    def run_to_end(kind: str, secrets: dict[str, str] | None = None, **parameters) -> tuple[JobStore, Job]:
        store = make_store()
        job_id = store.submit(JobSpec(kind, parameters), "ada", secrets=secrets)
        return store, store.wait(job_id, "ada", timeout_seconds=30)

    return run_to_end
