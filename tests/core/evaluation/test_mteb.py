"""Real runs of the mteb package, on tasks with built-in texts."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from functools import partial

import numpy as np
import pytest

mteb = pytest.importorskip("mteb", reason="pip install 'm2v-studio[mteb]'")
from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from m2v_core.errors import Cancelled, HubError, InputError  # noqa: E402
from m2v_core.evaluation.data import read_tasks  # noqa: E402
from m2v_core.evaluation.encoders import OnnxTeacherEncoder, StaticEncoder, TeacherEncoder, TfidfEncoder  # noqa: E402
from m2v_core.evaluation.mteb import MTEBEncoder, model_meta, run_mteb  # noqa: E402
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


def test_static_models_and_teachers_satisfy_mteb(sts, own_task, build_teacher_once):
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


PROMPTS = {"STS": "the sea ", "Clustering": "boat ", "query": "ask ", "Reranking-document": "a fox ", "sts": "ship "}
MOCKS = {
    "BitextMining": "Bitext",
    "Classification": "Class",
    "MultilabelClassification": "Class",
    "MultilingualClusteringFast": "Clust",
    "PairClassification": "PairClass",
    "InstructionReranking": "Rank",
    "InstructionRetrieval": "Ret",
    "Reranking": "Rank",
    "Retrieval": "Ret",
    "RetrievalDialog": "Ret",
    "STS": "STS",
    "Summarization": "Sum",
}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    """A static model with prompts known to mteb, and the same files in Sentence Transformers."""
    folder = tmp_path_factory.mktemp("prompted")
    static_model(prompts=PROMPTS, default_prompt_name="sts").save_pretrained(folder)
    return StaticEncoder.load(folder), SentenceTransformer(str(folder), device="cpu")


@pytest.mark.filterwarnings("ignore:(Some prompts are not|Task name sts)")
@pytest.mark.parametrize("kind", MOCKS)
def test_every_kind_of_task_uses_the_same_prompts_as_sentence_transformers(prompted, kind, monkeypatch):
    """Uses mteb's own test tasks; mteb's wrapper checks each array and the score."""
    mocks = pytest.importorskip("mteb.mocks.mock_tasks")
    task = next(getattr(mocks, name) for name in (f"Mock{kind}Task", f"Mock{kind}") if hasattr(mocks, name))
    arrays = {}
    for wrapper in (MTEBEncoder, SentenceTransformerEncoderWrapper):
        encode, seen = wrapper.encode, arrays.setdefault(wrapper, [])

        def noted(self, inputs, encode=encode, seen=seen, **about):
            seen.append(encode(self, inputs, **about))
            return seen[-1]

        monkeypatch.setattr(wrapper, "encode", noted)
    static, sentence_transformer = prompted
    (score,) = run_mteb([static], [task()]).scores
    theirs = mteb.evaluate(sentence_transformer, task(), cache=None, co2_tracker=False, show_progress_bar=False)
    assert score.group == MOCKS[kind]
    assert score.score == pytest.approx(100 * theirs.task_results[0].get_score(), abs=1e-4)
    assert len(arrays[MTEBEncoder]) == len(arrays[SentenceTransformerEncoderWrapper]) > 0
    for found, expected in zip(*arrays.values(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_teachers_use_their_prompts_too(build_teacher_once, tmp_path):
    folder = shutil.copytree(build_teacher_once("wordpiece"), tmp_path / "prompted")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"STS": "the sea "}}))
    about = {"hf_split": "test", "hf_subset": "default", "task_metadata": MemorySTS.metadata}
    found = MTEBEncoder(TeacherEncoder(folder)).encode([{"text": ["a boat"]}], **about)
    expected = SentenceTransformer(str(folder), device="cpu").encode(["the sea a boat"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    onnx = OnnxTeacherEncoder(folder)
    np.testing.assert_allclose(MTEBEncoder(onnx).encode([{"text": ["a boat"]}], **about), expected, atol=1e-4)


def test_with_metadata_mteb_loads_the_model_and_results_can_be_submitted(sts, tmp_path, monkeypatch):
    model = static_model(base_model_name="owner/teacher", max_length=None)
    model.save_pretrained(tmp_path / "model")
    # mteb loads a model by its name, which may also be a folder path of two parts.
    monkeypatch.chdir(tmp_path.parent)
    name = f"{tmp_path.name}/model"
    facts = {"revision": "a" * 40, "languages": ["eng-Latn"], "license": "mit", "release_date": "2026-11-30"}
    meta = model_meta(model, name, training_datasets=set(), **facts)
    assert (meta.n_parameters, meta.embed_dim, meta.adapted_from) == (
        model.token_embeddings.size,
        model.dim,
        "owner/teacher",
    )
    assert meta.max_tokens == np.inf and meta.memory_usage_mb == pytest.approx(meta.n_parameters * 4 / 2**20)

    results = tmp_path / "results"
    options = {"metas": {"mine": meta}, "output_folder": results}
    (score,) = run_mteb([StaticEncoder(model, "mine")], [sts], **options).scores
    loaded = mteb.evaluate(meta, sts, cache=None, co2_tracker=False, show_progress_bar=False)
    assert score.score == pytest.approx(100 * loaded.task_results[0].get_score(), abs=1e-4)
    (again,) = run_mteb(
        [BrokenEncoder(lambda array: array * np.nan)], [sts], metas={"broken": meta}, output_folder=results
    ).scores
    assert again.score == pytest.approx(score.score, abs=1e-3), "a model of this name and revision has results there"

    git = partial(subprocess.run, check=True, capture_output=True)
    for command in (
        ["init", "-qb", "main", "remote"],
        *(
            ["-C", "remote", *line.split()]
            for line in ("-c user.name=a -c user.email=a@b commit -qm first --allow-empty", "branch other")
        ),
    ):
        git(["git", *command], cwd=tmp_path)
    variables = {
        f"url.{tmp_path / 'remote'}.insteadOf": "https://github.com/embeddings-benchmark/results",
        "user.name": "a",
        "user.email": "a@b",
        "protocol.file.allow": "always",
    }
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(variables)))
    for place, (key, value) in enumerate(variables.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{place}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{place}", value)
    submitted = mteb.ResultCache(results).submit_results()
    assert submitted["status"] == "ready_for_submission" and submitted["models_submitted"] == [(name, "a" * 40)]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("model", {}, "organization/model_name"),
        ("a/b", {"languages": ["English"]}, "English"),
        ("a/b", {"dim": 3}, "dim"),
    ],
)
def test_metadata_that_mteb_rejects(name, fields, message):
    with pytest.raises(InputError, match=rf"^mteb rejects the metadata of {name}.*{message}"):
        model_meta(static_model(), name, **fields)


def test_similarities_are_cosines():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    expected = (one / np.linalg.norm(one, axis=1)[:, None]) @ (other / np.linalg.norm(other, axis=1)[:, None]).T
    encoder = MTEBEncoder(LetterEncoder())
    np.testing.assert_allclose(encoder.similarity(one, other).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(one, other).numpy(), np.diag(expected), atol=1e-6)


def test_unsupported_tasks_and_encoders(sts):
    with pytest.raises(InputError, match="no task 'NoSuchTask'"):
        run_mteb([LetterEncoder()], ["NoSuchTask"])
    with pytest.raises(InputError, match="fitted to the texts"):
        run_mteb([TfidfEncoder()], [sts])
    with pytest.raises(InputError, match="names must differ"):
        run_mteb([], [sts])
    with pytest.raises(InputError, match="of the kind Regression; supported: BitextMining"):
        run_mteb([LetterEncoder()], [pytest.importorskip("mteb.mocks.mock_tasks").MockRegressionTask()])
    with pytest.raises(InputError, match="broken on MemorySTS returned NaN"):
        run_mteb([BrokenEncoder(lambda array: array * np.nan)], [sts])


def test_a_hub_without_the_texts(session_hub):
    with pytest.raises(HubError, match="texts of STSBenchmark can't be downloaded"):
        run_mteb([LetterEncoder()], ["STSBenchmark"])


def test_cancelling(sts):
    cancel, second = threading.Event(), LetterEncoder("second")
    with pytest.raises(Cancelled):
        run_mteb([LetterEncoder("first"), second], [sts], on_score=lambda _: cancel.set(), cancel=cancel)
    assert second.n_read == 0
