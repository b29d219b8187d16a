"""Teacher embeddings of words, documents and queries for the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import LimitError, NotFoundError, TeacherError
from m2v_core.exploration.neighbors import WordNeighbors, neighbor_overlap
from m2v_core.model import StaticModel
from m2v_core.native.cosines import unit_rows
from m2v_core.studio.jobs import JobLimits, JobSpec
from m2v_core.studio.serving import teacher_queries
from m2v_core.studio.serving.teacher_queries import TeacherQueries
from m2v_core.studio.work.teacher_side import check_document_count, check_word_count, load_overlap, load_vectors
from tests.core.studio.jobs.conftest import wait_until
from tests.static_models import static_model

LIMITS = JobLimits(memory_bytes=3 * 2**30, wall_seconds=300.0)
DOCUMENTS = ["the quick fox", "rivers run to the sea", "sea shells by the sea shore"]


@pytest.fixture(scope="module")
def teacher(build_teacher_once) -> Path:
    return build_teacher_once("wordpiece")


@pytest.fixture(scope="module")
def own_vectors(teacher: Path):
    """The teacher's embeddings from sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(teacher), device="cpu")
    return lambda texts: unit_rows(model.encode(list(texts), show_progress_bar=False))


@pytest.fixture
def queries() -> Iterator[TeacherQueries]:
    opened = TeacherQueries(max_teachers=1)
    yield opened
    opened.close()


def test_words(make_store, teacher: Path, own_vectors, tmp_path: Path):
    static_model("WordPiece").save_pretrained(tmp_path / "model")
    words = WordNeighbors(StaticModel.from_pretrained(tmp_path / "model"))
    store = make_store(limits=LIMITS)
    parameters = {"model": str(tmp_path / "model"), "model_id": "m", "teacher": str(teacher), "device": "cpu"}
    job_id = store.submit(JobSpec("teacher_words", parameters), "ada")
    job = store.wait(job_id, "ada", timeout_seconds=120)
    assert job.state == "done", store.log(job_id, "ada")
    assert [stage.name for stage in job.stages] == ["load", "encode", "compare"]
    vectors = load_vectors(store.result_folder(job_id, "ada"))
    np.testing.assert_allclose(vectors, own_vectors(words.texts), atol=1e-5)
    overlap = load_overlap(store.result_folder(job_id, "ada"))
    np.testing.assert_allclose(overlap, neighbor_overlap(words.rows, vectors), atol=1e-6)
    assert job.outcome == {
        "n_texts": len(words),
        "dim": vectors.shape[1],
        "mean_overlap": pytest.approx(float(overlap.mean())),
    }


def test_documents(make_store, teacher: Path, own_vectors):
    store = make_store(limits=LIMITS)
    spec = JobSpec("teacher_documents", {"teacher": str(teacher), "key": "k"}, {"documents": DOCUMENTS})
    job_id = store.submit(spec, "ada")
    assert store.wait(job_id, "ada", timeout_seconds=120).state == "done", store.log(job_id, "ada")
    folder = store.result_folder(job_id, "ada")
    np.testing.assert_allclose(load_vectors(folder), own_vectors(DOCUMENTS), atol=1e-5)
    with pytest.raises(NotFoundError, match="were deleted"):
        load_overlap(folder)


def test_the_error_names_a_missing_teacher(make_store):
    store = make_store(limits=LIMITS)
    spec = JobSpec("teacher_documents", {"teacher": "nobody/no-such", "key": "k"}, {"documents": DOCUMENTS})
    job = store.wait(store.submit(spec, "ada"), "ada", timeout_seconds=120)
    assert job.state == "failed" and "nobody/no-such" in job.message


def test_limits_are_named():
    with pytest.raises(LimitError, match=r"5,001 texts.*is 5,000"):
        check_document_count(5_001, 5_000)
    with pytest.raises(LimitError, match=r"200,001 words.*is 200,000"):
        check_word_count(200_001, 200_000)
    for check in (check_document_count, check_word_count):
        check(1, 1)
        with pytest.raises(NotFoundError):
            check(0)


def test_damaged_vectors_are_an_error(tmp_path: Path):
    with pytest.raises(NotFoundError):
        load_vectors(tmp_path)
    np.save(tmp_path / "vectors.npy", np.ones((3, 2), dtype=np.float32))
    whole = (tmp_path / "vectors.npy").read_bytes()
    for damaged in (b"", whole[:40], whole[:-1]):
        (tmp_path / "vectors.npy").write_bytes(damaged)
        with pytest.raises(NotFoundError):
            load_vectors(tmp_path)


def test_queries_match_the_teacher_and_reuse_its_process(queries: TeacherQueries, teacher: Path, own_vectors):
    text = "the café 中国 \ud800 on\ntwo lines"
    assert not queries.is_ready(str(teacher), text)
    first = queries.embed(str(teacher), text.replace("\ud800", ""))
    np.testing.assert_allclose(first, own_vectors([text.replace("\ud800", "")])[0] * np.linalg.norm(first), atol=1e-4)
    process = queries._loaded[str(teacher)]
    assert queries.is_ready(str(teacher), "another")
    queries.embed(str(teacher), "another")
    assert queries._loaded[str(teacher)] is process and process.is_alive
    process._process.kill()
    process._process.wait()
    np.testing.assert_allclose(queries.embed(str(teacher), text.replace("\ud800", "")), first)  # cached
    assert len(queries.embed(str(teacher), "a third")) == len(first)  # another teacher replaced it
    queries._idle_seconds = 0.0
    queries._unload_idle()
    assert not queries._loaded


def test_queries_report_why_a_teacher_can_not_be_loaded(queries: TeacherQueries):
    with pytest.raises(TeacherError, match="nobody/no-such"):
        queries.embed("nobody/no-such", "text")


def test_an_evicted_teacher_ends(queries: TeacherQueries, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(teacher_queries, "_ANSWER_SECONDS", 0.2)
    queries.prepare("nobody/one")
    process = queries._loaded["nobody/one"]
    with pytest.raises(TeacherError, match="ended before it answered"):
        queries.embed("nobody/one", "text")
    queries.prepare("nobody/two")
    wait_until(lambda: not process.is_alive)
    assert list(queries._loaded) == ["nobody/two"]
