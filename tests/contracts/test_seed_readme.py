"""The code of Model2Vec's first README, with the name of this package."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.core.evaluation.sets import write_sets
from tests.static_models import static_model

SENTENCES = ["It's dangerous to go alone!", "It's a secret to everyone."]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run lines of Python in a temporary folder, and return the names that they define."""
    monkeypatch.chdir(tmp_path)

    def run(*lines: str) -> dict[str, object]:
        (tmp_path / "script.py").write_text("\n".join(lines), encoding="utf-8")
        return runpy.run_path(str(tmp_path / "script.py"))

    return run


@pytest.mark.parametrize("name", ["minishlab/M2V_base_output", "m2v_model"])
def test_encoding(session_hub, script, tmp_path, name):
    model = static_model()
    model.save_pretrained(tmp_path / "m2v_model")
    session_hub.add("minishlab/M2V_base_output", tmp_path / "m2v_model")
    found = script(
        "from m2v_core import StaticModel",
        f"model_name = {name!r}",
        "model = StaticModel.from_pretrained(model_name)",
        f"embeddings = model.encode({SENTENCES!r})",
    )
    np.testing.assert_allclose(found["embeddings"], model.encode(SENTENCES), atol=1e-6)


@pytest.fixture
def teacher(build_teacher_once, session_hub) -> Path:
    folder = build_teacher_once("wordpiece")
    session_hub.add("BAAI/bge-base-en-v1.5", folder)
    return folder


@pytest.mark.parametrize("vocabulary", [None, ["word1", "word2", "word3"]])
def test_distilling(teacher, script, tmp_path, vocabulary):
    found = script(
        "from m2v_core.distill import distill",
        'model_name = "BAAI/bge-base-en-v1.5"',
        f"vocabulary = {vocabulary!r}",
        "m2v_model = distill(model_name=model_name, vocabulary=vocabulary, pca_dims=256)",
        'm2v_model.save_pretrained("m2v_model")',
        "from m2v_core import StaticModel",
        f"embeddings = StaticModel.from_pretrained('m2v_model').encode({SENTENCES!r})",
    )
    assert found["embeddings"].shape == (2, found["m2v_model"].dim)
    assert set(vocabulary or ()) <= set(found["m2v_model"].tokens)


@pytest.mark.slow
def test_distilling_from_the_command_line(teacher, tmp_path):
    (tmp_path / "vocab.txt").write_text("word1\nword2\nword3\n")
    command = "-m m2v_core.distill --model-name BAAI/bge-base-en-v1.5 --vocabulary-path vocab.txt --device cpu"
    subprocess.run(
        [sys.executable, *command.split(), "--save-path", "model2vec_model"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    from m2v_core import StaticModel

    assert {"word1", "word2", "word3"} <= set(StaticModel.from_pretrained(tmp_path / "model2vec_model").tokens)


def test_the_module_is_callable():
    """Regardless of which is imported first, in separate processes."""
    lines = ["import m2v_core.distill", "from m2v_core.distill import distill, distill_from_model", "import m2v_core"]
    check = (
        "; import inspect, pickle, m2v_core; from m2v_core import distill as d;"
        "from m2v_core.distill import distill as f;"
        "assert m2v_core.distill is d is pickle.loads(pickle.dumps(d)); assert callable(d);"
        "assert inspect.signature(d) == inspect.signature(f); assert d.distill is f;\n"
        "try: m2v_core.distill('x', apply_zipf='no')\n"
        "except m2v_core.M2VError as error: print(error)"
    )
    for line in lines:
        done = subprocess.run([sys.executable, "-c", line + check], capture_output=True, text=True)
        assert "apply_zipf" in done.stdout and done.returncode == 0, done.stderr


def test_evaluating(script, tmp_path, capsys):
    """The tasks are mteb's own test tasks, because those of the benchmark are on the Hub.

    In mteb 2, `ModelMeta` is in another module, and requires all of its fields.
    """
    pytest.importorskip("mteb.mocks.mock_tasks", reason="pip install 'm2v-studio[mteb]'")
    static_model().save_pretrained(tmp_path / "m2v_model")
    write_sets(tmp_path / "sets")
    kinds = ["Classification", "MultilingualClusteringFast", "PairClassification", "Reranking", "Retrieval"]
    kinds += ["STS", "Summarization"]
    found = script(
        "from m2v_core import StaticModel",
        "from m2v_core.evaluation import CustomMTEB, get_tasks, parse_mteb_results",
        "from m2v_core.evaluation import make_leaderboard, summarize_results",
        "from mteb.models import ModelMeta",
        "from mteb.mocks import mock_tasks",
        'tasks = get_tasks(["PEARL", "WordSim"], data="sets")',
        *(f"tasks.append(mock_tasks.Mock{kind}Task())" for kind in kinds),
        "evaluation = CustomMTEB(tasks=tasks)",
        'model_name = "m2v_model"',
        "model = StaticModel.from_pretrained(model_name)",
        "model.mteb_model_meta = ModelMeta.create_empty(",
        '    dict(name=f"local/{model_name}", revision="no_revision_available", release_date=None, languages=None)',
        ")",
        'results = evaluation.run(model, eval_splits=["test"], output_folder=f"results/{model_name}")',
        "parsed_results = parse_mteb_results(mteb_results=results, model_name=model_name)",
        "task_scores = summarize_results(parsed_results)",
        "print(make_leaderboard(task_scores))",
    )
    heading, row = capsys.readouterr().out.strip().splitlines()
    columns = "Model, Avg (All), Avg (MTEB), Class, Clust, PairClass, Rank, Ret, STS, Sum, Pearl, WordSim"
    assert re.split(r"  +", heading) == columns.split(", ")
    cells = row.split()
    assert cells[0] == "m2v_model" and len(cells) == 12
    assert float(cells[1]) == pytest.approx(np.mean([score.score for score in found["results"].scores]), abs=0.006)
    assert len(list((tmp_path / "results").rglob("Mock*.json"))) == len(kinds)
