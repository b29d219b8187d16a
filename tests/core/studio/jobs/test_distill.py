"""The real work: distilling a teacher in a worker."""

from __future__ import annotations

import inspect
import os
import time
from pathlib import Path

import numpy as np
import pytest

from m2v_core.studio.jobs import JobLimits, JobSpec
from m2v_core.studio.jobs.kinds import AFTERWARDS, KINDS
from tests.core.studio.jobs.conftest import wait_until
from tests.hub.server import User

LIMITS = JobLimits(memory_bytes=3 * 2**30, wall_seconds=300.0)


@pytest.fixture(scope="module")
def teacher(build_teacher_once) -> Path:
    return build_teacher_once("wordpiece")


def test_the_parameters_are_those_of_distill():
    from m2v_core.distillation.pipeline import distill

    # A job takes the commit that was checked, and what else it leaves out is the machine's own.
    of_the_job = {"revision", "progress", "cancel", "cache_folder", "reader"}
    names = set(inspect.signature(distill).parameters) - of_the_job
    assert KINDS["distill"].parameters | KINDS["distill"].texts == names | AFTERWARDS
    assert not AFTERWARDS & names


def test_a_distilled_model_is_the_same_as_without_a_job(make_store, teacher: Path):
    from m2v_core import StaticModel, distill

    store = make_store(limits=LIMITS)
    words = ["the", "new york", "water"]
    parameters = {"model_name": str(teacher), "pca_dims": 16, "device": "cpu", "recipe": "fast"}
    job_id = store.submit(JobSpec("distill", parameters, {"vocabulary": words}), "ada")
    expected = distill(**parameters, vocabulary=words)
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(job_id, "ada")
    assert [stage.name for stage in job.stages] == ["start", "load", "encode", "reduce", "finish", "save", "check"]
    assert all(stage.is_finished for stage in job.stages)
    model = StaticModel.from_pretrained(store.result_folder(job_id, "ada"))
    n_bytes = sum(file.stat().st_size for file in store.result_folder(job_id, "ada").rglob("*") if file.is_file())
    assert n_bytes > model.n_bytes  # the tokenizer counts too
    assert job.outcome == {"dim": model.dim, "n_tokens": len(model.tokens), "n_bytes": n_bytes}
    assert model.tokens == expected.tokens
    sentences = ["water in new york", "the end"]
    # Which precision the teacher runs in is measured anew each time, so equal they are not.
    cosines = np.sum(model.encode(sentences) * expected.encode(sentences), axis=1)
    assert cosines.min() > 0.99


def test_a_distillation_is_cancelled_while_it_imports(make_store, teacher: Path):
    """Seconds in which the work can't listen."""
    store = make_store(limits=LIMITS)
    job_id = store.submit(JobSpec("distill", {"model_name": str(teacher)}), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    time.sleep(0.5)
    asked_at = time.monotonic()
    store.cancel(job_id, "ada")
    assert store.wait(job_id, "ada", timeout_seconds=60).state == "cancelled"
    assert time.monotonic() - asked_at < 4.0


def test_a_private_teacher_needs_the_token(make_store, session_hub, teacher: Path, root: Path):
    session_hub.add("somebody/private-teacher", teacher, private=True)
    session_hub.users["hf_" + "P" * 34] = User("ada", "admin")
    store = make_store(limits=LIMITS)
    spec = JobSpec("distill", {"model_name": "somebody/private-teacher", "recipe": "fast", "pca_dims": 16})
    with_token = store.submit(spec, "ada", secrets={"hf_token": "hf_" + "P" * 34})
    job = store.wait(with_token, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(with_token, "ada")
    assert "hf_" + "P" * 34 in {request.hf_token for request in session_hub.requests}
    assert not (root / with_token / "cache").exists()
    # In the shared cache it would be a hit for those who may not read it.
    assert not list(Path(os.environ["HF_HUB_CACHE"]).rglob("*private-teacher*"))
