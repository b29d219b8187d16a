"""Real runs of the mteb package, on tasks that hold their texts themselves."""

from __future__ import annotations

import threading

import numpy as np
import pytest

mteb = pytest.importorskip("mteb", reason="pip install 'm2v-studio[mteb]'")
from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402

from m2v_core.errors import Cancelled, HubError, InputError  # noqa: E402
from m2v_core.evaluation.data import read_tasks  # noqa: E402
from m2v_core.evaluation.encoders import StaticEncoder, TeacherEncoder, TfidfEncoder  # noqa: E402
from m2v_core.evaluation.mteb import MTEBEncoder, run_mteb  # noqa: E402
from m2v_core.evaluation.report import leaderboard  # noqa: E402
from m2v_core.evaluation.run import evaluate  # noqa: E402
from tests.core.evaluation.sets import WORDS, BrokenEncoder, LetterEncoder, write_sets  # noqa: E402
from tests.static_models import static_model  # noqa: E402


def metadata(name, kind, main_score):
    return TaskMetadata(
        name=name,
        description="Held in memory.",
        reference=None,
        dataset={"path": "none", "revision": "none"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )


class MemorySTS(AbsTaskSTS):
    metadata = metadata("MemorySTS", "STS", "cosine_spearman")
    min_score = 0
    max_score = 5
    rows = ()

    def load_data(self, **_):
        columns = dict(zip(("score", "sentence1", "sentence2"), map(list, zip(*self.rows, strict=True)), strict=True))
        self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
        self.data_loaded = True


class MemoryClassification(AbsTaskClassification):
    metadata = metadata("MemoryClassification", "Classification", "accuracy")
    n_experiments = 2
    samples_per_label = 4

    def load_data(self, **_):
        def rows(prefix):
            return Dataset.from_dict(
                {"text": [f"{prefix} {word}" for word in WORDS], "label": [n // 8 for n in range(16)]}
            )

        self.dataset = DatasetDict({"train": rows("a"), "test": rows("the")})
        self.data_loaded = True


@pytest.fixture(scope="module")
def own_task(tmp_path_factory):
    return read_tasks(write_sets(tmp_path_factory.mktemp("sets")), ["tiny"])[0]


@pytest.fixture(scope="module")
def sts(own_task):
    task = MemorySTS()
    task.rows = [
        (float(score), own_task.texts[left], own_task.texts[right])
        for score, left, right in zip(own_task.scores, own_task.left, own_task.right, strict=True)
    ]
    return task


def test_static_model_and_teacher_are_what_mteb_wants(sts, own_task, build_teacher_once):
    encoders = [StaticEncoder(static_model(), "my model"), TeacherEncoder(build_teacher_once("wordpiece"), "tiny")]
    assert all(isinstance(MTEBEncoder(encoder), EncoderProtocol) for encoder in encoders)
    seen, events = [], []
    found = run_mteb(encoders, [sts, MemoryClassification()], on_score=seen.append, progress=events.append)
    ours = evaluate(encoders, [own_task], resamples=0)
    assert tuple(seen) == found.scores and (events[-1].done, events[-1].total) == (4, 4)
    for theirs, own in zip(found.scores[:2], ours.scores, strict=True):
        assert theirs.score == pytest.approx(own.score, abs=0.01)
        assert (theirs.encoder, theirs.task, theirs.group, theirs.low) == (own.encoder, "MemorySTS", "STS", None)
    rows = leaderboard(found)
    assert all(set(row.groups) == {"STS", "Class"} and row.n_tasks == 2 for row in rows)
    assert all(0 <= score.score <= 100 for score in found.scores[2:])


def test_similarities_are_cosines():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    expected = (one / np.linalg.norm(one, axis=1)[:, None]) @ (other / np.linalg.norm(other, axis=1)[:, None]).T
    encoder = MTEBEncoder(LetterEncoder())
    np.testing.assert_allclose(encoder.similarity(one, other).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(one, other).numpy(), np.diag(expected), atol=1e-6)


def test_what_mteb_does_not_run(sts):
    with pytest.raises(InputError, match="no task 'NoSuchTask'"):
        run_mteb([LetterEncoder()], ["NoSuchTask"])
    with pytest.raises(InputError, match="fitted to the texts"):
        run_mteb([TfidfEncoder()], [sts])
    with pytest.raises(InputError, match="different names"):
        run_mteb([], [sts])
    with pytest.raises(InputError, match="of the kind BitextMining; offered are: Classification"):
        run_mteb([LetterEncoder()], ["Tatoeba"])
    with pytest.raises(InputError, match="broken on MemorySTS returned NaN"):
        run_mteb([BrokenEncoder(lambda array: array * np.nan)], [sts])


def test_a_hub_that_lacks_the_texts(session_hub):
    with pytest.raises(HubError, match="texts of STSBenchmark can't be fetched"):
        run_mteb([LetterEncoder()], ["STSBenchmark"])


def test_it_stops_when_asked(sts):
    cancel, second = threading.Event(), LetterEncoder("second")
    with pytest.raises(Cancelled):
        run_mteb([LetterEncoder("first"), second], [sts], on_score=lambda _: cancel.set(), cancel=cancel)
    assert second.n_read == 0
