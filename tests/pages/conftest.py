from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from m2v_core.errors import NotFoundError
from m2v_core.progress import Progress
from m2v_core.studio.jobs import Job, JobSpec, Stage
from pages import components, distill, home
from pages.components import job_panel, served_files

JOB_ID = "0123456789abcdef" * 2


def make_job(state: str = "running", **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": JOB_ID,
        "kind": "distill",
        "title": "m2v-teacher",
        "parameters": {},
        "state": state,
        "message": "",
        "queue_position": None,
        "progress": None,
        "stages": (),
        "created_at": 0.0,
        "started_at": 0.0,
        "finished_at": None,
        "elapsed_seconds": 0.0,
        "outcome": {},
    }
    return Job(**(fields | changes))


def encoding_job(done: int, total: int = 1000, **changes: Any) -> Job:
    stages = (Stage("load", 1, 1, 2.0, True), Stage("encode", done, total, 4.0, False))
    eta = (total - done) / (done / 4) if done else None
    progress = Progress("encode", done, total, done / 4, eta, None if eta is None else eta + 4, done / total)
    return make_job(**({"stages": stages, "progress": progress, "elapsed_seconds": 7.0} | changes))


def done_job(**changes: Any) -> Job:
    names = ("load", "encode", "reduce", "finish", "save")
    stages = tuple(Stage(name, 1, 1, 1.0, True) for name in names)
    outcome = {"dim": 256, "n_tokens": 29525, "n_bytes": 15_116_800}
    return make_job("done", **({"stages": stages, "outcome": outcome, "elapsed_seconds": 9.4} | changes))


class FakeStore:
    """A store of jobs made by hand, each with its owner."""

    def __init__(self, result: Path) -> None:
        self.jobs: dict[str, tuple[str, Job]] = {}
        self.submitted: list[tuple[JobSpec, str]] = []
        self.secrets: list[dict[str, str]] = []
        self.result = result

    def add(self, owner: str, job: Job) -> Job:
        self.jobs[job.id] = (owner, job)
        return job

    def submit(self, spec: JobSpec, owner: str, *, secrets: dict[str, str] | None = None) -> str:
        self.submitted.append((spec, owner))
        self.secrets.append(dict(secrets or {}))
        return self.add(owner, make_job("queued", title=spec.title, queue_position=1)).id

    def get(self, job_id: str, owner: str) -> Job:
        if self.jobs.get(job_id, ("", None))[0] != owner:
            raise NotFoundError("no such job")
        return self.jobs[job_id][1]

    def wait(self, job_id: str, owner: str, timeout_seconds: float) -> Job:
        return self.get(job_id, owner)

    def expect_job(self) -> None:
        """A job made by hand needs no worker."""

    def texts(self, job_id: str, owner: str) -> dict[str, list[str]]:
        self.get(job_id, owner)
        return {name: list(lines) for name, lines in self.submitted[-1][0].texts.items()} if self.submitted else {}

    def list_jobs(self, owner: str) -> list[Job]:
        jobs = [job for job_owner, job in self.jobs.values() if job_owner == owner]
        return sorted(jobs, key=lambda job: -job.created_at)

    def cancel(self, job_id: str, owner: str) -> Job:
        self.get(job_id, owner)
        return self.add(owner, make_job("cancelling"))

    def delete(self, job_id: str, owner: str) -> None:
        self.get(job_id, owner)
        del self.jobs[job_id]

    def result_folder(self, job_id: str, owner: str) -> Path:
        if self.get(job_id, owner).state != "done":
            raise NotFoundError("not done")
        return self.result


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeStore]:
    result = tmp_path / "result"
    result.mkdir()
    (result / "config.json").write_text("{}")
    fake = FakeStore(result)
    for module in (components, job_panel, served_files, distill, home):
        monkeypatch.setattr(module, "job_store", lambda: fake)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    monkeypatch.delenv("SPACE_ID", raising=False)
    yield fake


@pytest.fixture
def vocabulary_file(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
