"""Evaluation jobs, against SciPy and sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2v_core.evaluation.fidelity import compare_embeddings
from m2v_core.evaluation.own_data import OwnSet
from m2v_core.evaluation.packed import TaskArchive
from m2v_core.evaluation.run import Evaluation
from m2v_core.model import StaticModel
from m2v_core.studio.jobs import JobLimits, JobSpec
from tests.core.evaluation.sets import SETS
from tests.static_models import static_model

LIMITS = JobLimits(memory_bytes=3 * 2**30, wall_seconds=300.0)
WORDS = ["sea", "river", "fox", "dog", "cat", "tree", "house", "stone"]
TEXTS = [f"the {one} and the {other} by the {third}" for one in WORDS for other in WORDS for third in WORDS]
PAIRS = OwnSet("mine", tuple((str(n % 5), TEXTS[n], TEXTS[n + 9]) for n in range(18)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    static_model("WordPiece").save_pretrained(folder)
    return folder


def test_everything_in_one_run(make_store, model: Path, build_teacher_once):
    from sentence_transformers import SentenceTransformer

    teacher = str(build_teacher_once("wordpiece"))
    parameters = {
        "models": [{"name": "TF-IDF", "path": str(model)}],  # names need not be unique
        "peers": ["tfidf"],
        "teacher": teacher,
        "scores_teacher": True,
        **dict.fromkeys(("with_fidelity", "with_tasks", "with_frontier"), True),
        "shared_rows": 4,
        "device": "cpu",
    }
    store = make_store(limits=LIMITS)
    archive = TaskArchive("tasks.zip", {name: SETS[name] for name in ("sts/tiny.tsv", "clustering/groups.tsv")})
    texts = {"texts": TEXTS, "sets": PAIRS.to_lines(), "archives": [archive.to_line()]}
    job_id = store.submit(JobSpec("evaluate", parameters, texts), "ada")
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(job_id, "ada")
    assert [stage.name for stage in job.stages] == ["load", "fidelity", "tasks", "frontier"]
    assert all(stage.done == stage.total for stage in job.stages[1:])

    found = job.outcome
    assert json.loads((store.result_folder(job_id, "ada") / "evaluation.json").read_text()) == found
    own = StaticModel.from_pretrained(model)
    teachers = SentenceTransformer(teacher, device="cpu").encode(TEXTS, show_progress_bar=False)
    expected = compare_embeddings(teachers, own.encode(TEXTS), resamples=0).correlation.value
    assert list(found["fidelity"]) == ["TF-IDF", "TF-IDF (2)"]
    assert found["fidelity"]["TF-IDF"]["correlation"]["value"] == pytest.approx(expected, abs=1e-3)

    evaluation = Evaluation.from_json(found["evaluation"])
    assert [score.encoder for score in evaluation.scores] == ["TF-IDF", "TF-IDF (2)", teacher] * 3
    assert evaluation.tasks == ("mine", "tiny", "groups") and all(score.low is not None for score in evaluation.scores)
    assert [row["n_rows"] for row in found["frontier"]].count(4) == len(found["frontier"]) / 2
    assert all(row["sentences_per_second"] > 0 for row in found["frontier"])
    assert found["dtype"] == str(own.token_embeddings.dtype)


def test_without_test_data_versions_are_scored_by_fidelity(make_store, model: Path, build_teacher_once):
    parameters = {
        "models": [{"name": "mine", "path": str(model)}],
        "teacher": str(build_teacher_once("wordpiece")),
        "with_fidelity": True,
        "with_frontier": True,
        "device": "cpu",
    }
    store = make_store(limits=LIMITS)
    job_id = store.submit(JobSpec("evaluate", parameters, {"texts": TEXTS}), "ada")
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(job_id, "ada")
    whole = max(job.outcome["frontier"], key=lambda row: row["n_bytes"])
    fidelity = job.outcome["fidelity"]["mine"]["correlation"]["value"]
    assert whole["average"] == pytest.approx(100 * fidelity, abs=0.1)
    assert job.outcome["evaluation"] is None


def test_fidelity_needs_a_teacher(make_store, model: Path):
    store = make_store(limits=LIMITS)
    parameters = {"models": [{"name": "mine", "path": str(model)}], "with_frontier": True}
    job_id = store.submit(JobSpec("evaluate", parameters), "ada")
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "failed" and "requires a teacher" in job.message
