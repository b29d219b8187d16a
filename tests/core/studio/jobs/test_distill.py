"""Distillation jobs in a real worker."""

from __future__ import annotations

import inspect
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import InputError
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

    # A job loads the checked commit; the other missing parameters are set by the installation.
    of_the_job = {"revision", "progress", "cancel", "cache_folder", "reader"}
    names = set(inspect.signature(distill).parameters) - of_the_job
    assert KINDS["distill"].parameters | KINDS["distill"].texts == names | AFTERWARDS
    assert not AFTERWARDS & names


def test_a_distilled_model_is_the_same_as_without_a_job(make_store, teacher: Path, root: Path):
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
    assert job.progress.left_seconds is not None and 0 < job.progress.share <= 1
    timings = json.loads((root.parent / "teacher_vectors" / "timings.json").read_text())
    assert {"load", "encode", "save"} <= timings[str(teacher)].keys()
    model = StaticModel.from_pretrained(store.result_folder(job_id, "ada"))
    n_bytes = sum(file.stat().st_size for file in store.result_folder(job_id, "ada").rglob("*") if file.is_file())
    assert n_bytes > model.n_bytes  # includes the tokenizer
    assert job.outcome == {"dim": model.dim, "n_tokens": len(model.tokens), "n_bytes": n_bytes}
    assert model.tokens == expected.tokens
    sentences = ["water in new york", "the end"]
    # The precision of the teacher is probed in each run, so the results are not exactly equal.
    cosines = np.sum(model.encode(sentences) * expected.encode(sentences), axis=1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize(
    ("more", "lines", "vocabulary"),
    [
        ({"vocabulary": "auto:en", "vocabulary_size": 20}, None, "auto:en"),
        ({}, ["new york\t2", "water\t7.5"], {"water": 7.5, "new york": 2}),
    ],
    ids=["automatic", "counts"],
)
def test_a_job_accepts_automatic_vocabularies_and_counts(make_store, teacher: Path, more, lines, vocabulary):
    from m2v_core import StaticModel, distill

    store = make_store(limits=LIMITS)
    parameters = {"model_name": str(teacher), "device": "cpu", "recipe": "fast", "use_subword": False, **more}
    job_id = store.submit(JobSpec("distill", parameters, {} if lines is None else {"vocabulary": lines}), "ada")
    expected = distill(**{**parameters, "vocabulary": vocabulary})
    assert store.wait(job_id, "ada", timeout_seconds=240).state == "done", store.log(job_id, "ada")
    model = StaticModel.from_pretrained(store.result_folder(job_id, "ada"))
    assert model.tokens == expected.tokens
    assert model.config["m2v"]["vocabulary_source"] == expected.config["m2v"]["vocabulary_source"]


def test_a_job_with_invalid_words_is_rejected(make_store, teacher: Path):
    store = make_store(limits=LIMITS)
    parameters = {"model_name": str(teacher)}
    with pytest.raises(InputError, match="no language 'tlh'"):
        store.submit(JobSpec("distill", parameters | {"vocabulary": "auto:tlh"}), "ada")
    with pytest.raises(InputError, match="The count of 'water' is '-1'"):
        store.submit(JobSpec("distill", parameters, {"vocabulary": ["new york\t2", "water\t-1"]}), "ada")
    assert store.list_jobs("ada") == []


def test_a_distillation_can_be_cancelled_during_imports(make_store, teacher: Path):
    """The job can't react to requests during imports, which take seconds."""
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
    assert not (root.parent / "teacher_vectors" / "timings.json").exists()
    # In the shared cache it would be accessible to other users.
    assert not list(Path(os.environ["HF_HUB_CACHE"]).rglob("*private-teacher*"))
