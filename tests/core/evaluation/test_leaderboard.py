"""The functions of MinishLab's evaluation package, compared with the table published by its authors."""

from __future__ import annotations

from collections import Counter

import pytest

mteb = pytest.importorskip("mteb", reason="pip install 'm2v-studio[mteb]'")
mocks = pytest.importorskip("mteb.mocks.mock_tasks")

from m2v_core.errors import InputError  # noqa: E402
from m2v_core.evaluation import (  # noqa: E402
    CustomMTEB,
    get_tasks,
    make_leaderboard,
    parse_mteb_results,
    summarize_results,
)
from m2v_core.evaluation.data import read_tasks  # noqa: E402
from m2v_core.evaluation.encoders import StaticEncoder  # noqa: E402
from m2v_core.evaluation.mteb import GROUPS, model_meta  # noqa: E402
from m2v_core.evaluation.report import published_rows  # noqa: E402
from m2v_core.evaluation.run import Evaluation, TaskScore, evaluate  # noqa: E402
from tests.core.evaluation.sets import LetterEncoder, write_sets  # noqa: E402
from tests.static_models import static_model  # noqa: E402

COLUMNS = ["Class", "Clust", "PairClass", "Rank", "Ret", "STS", "Sum", "Pearl", "WordSim"]
N_PEARL, N_WORDSIM = 9, 7  # tasks, according to https://github.com/MinishLab/evaluation


def result(groups: dict[str, list[float]]) -> Evaluation:
    scores = [
        TaskScore("model", f"{group} {place}", group, "score", score, None, None, None, 0.0)
        for group, scores in groups.items()
        for place, score in enumerate(scores)
    ]
    return Evaluation((), tuple(scores))


@pytest.mark.parametrize(
    ("name", "of_all", "of_mteb"),
    [
        ("all-MiniLM-L6-v2", 56.08, 56.09),
        ("M2V_base_glove", 48.58, 47.60),
        ("M2V_base_output", 46.79, 45.34),
        ("GloVe_300d", 42.84, 42.36),
        ("WL256", 48.88, 49.36),
    ],
)
def test_averages_equal_the_published_ones(name, of_all, of_mteb):
    """Source: the table in Model2Vec's first README."""
    counts = Counter(GROUPS[task.metadata.type] for task in get_tasks())
    assert sum(counts.values()) == 56
    counts |= {"PEARL": N_PEARL, "WordSim": N_WORDSIM}
    (row,) = (row for row in published_rows() if row.name == name)
    groups = {group: [score] * counts[group] for group, score in row.groups.items()}
    found = summarize_results(parse_mteb_results(mteb_results=result(groups), model_name=name))[name]
    assert list(found) == ["Avg (All)", "Avg (MTEB)", *COLUMNS]
    assert (found["Avg (All)"], found["Avg (MTEB)"]) == (
        pytest.approx(of_all, abs=0.01),
        pytest.approx(of_mteb, abs=0.01),
    )


def test_missing_scores_are_blank():
    partial = result({"STS": [10.0, 30.0], "WordSim": [50.0], "Bitext": [99.0]})
    whole = result({group: [40.0] for group in ["PEARL", *COLUMNS] if group != "Pearl"})
    parsed = parse_mteb_results(partial, "partial") | parse_mteb_results(whole, "whole")
    sheet = make_leaderboard(summarize_results(parsed))
    assert sheet.headings == ("Model", "Avg (All)", "Avg (MTEB)", *COLUMNS)
    assert sheet.rows == (("whole", *["40.00"] * 11), ("partial", *[""] * 7, "20.00", "", "", "50.00"))
    assert str(sheet).splitlines()[0].split("  ")[0] == "Model" and "| partial |" in sheet.to_markdown()


def test_tasks_are_selected_by_kind(tmp_path):
    write_sets(tmp_path)
    assert {task.metadata.type for task in get_tasks(["STS", "Summarization"])} == {"STS", "Summarization"}
    own = get_tasks(["PEARL", "WordSim"], data=tmp_path)
    assert {task.name for task in own} == {task.name for task in read_tasks(tmp_path, ["pearl", "wordsim"])}
    assert len(get_tasks(data=tmp_path)) == 56 + len(own)
    with pytest.raises(InputError, match="Unknown kind of tasks: 'BitextMining'. Available: Class"):
        get_tasks(["BitextMining"])
    with pytest.raises(InputError, match="kinds PEARL, WordSim. Pass data"):
        get_tasks(["PEARL", "WordSim"])


class TwoSplits(mocks.MockSTSTask):
    """A task with the split `test` and its copy `dev`."""

    metadata = mocks.MockSTSTask.metadata.model_copy(update={"name": "TwoSplits", "eval_splits": ["test", "dev"]})

    def load_data(self, **options):
        super().load_data(**options)
        self.dataset["dev"] = self.dataset["test"]


def test_a_model_runs_on_tasks_of_both_packages(tmp_path):
    write_sets(tmp_path / "sets")
    own = get_tasks(["PEARL", "WordSim"], data=tmp_path / "sets")
    model, task = static_model(), TwoSplits()
    tasks, options = [task, *own], {"eval_splits": ["test"], "output_folder": tmp_path / "results"}
    seen = []
    found = CustomMTEB(tasks).run(model, on_score=seen.append, **options)
    assert tuple(seen) == found.scores and [score.task for score in found.scores] == [
        "TwoSplits",
        *(t.name for t in own),
    ]
    expected = evaluate([StaticEncoder(model, "model")], own, resamples=0)
    assert [score.score for score in found.scores[1:]] == [score.score for score in expected.scores]
    assert task.eval_splits == ["test", "dev"], "the caller's task is left alone"

    # Without metadata of a model, earlier results are not reused.
    for encoder in (LetterEncoder("model"), LetterEncoder("model")):
        CustomMTEB([task]).run(encoder, **options)
        assert encoder.n_read
    with pytest.raises(InputError, match="A str is neither a StaticModel nor an encoder"):
        CustomMTEB([task]).run("m2v_model")
    # With metadata, results are stored under the model's name and revision.
    model.mteb_model_meta = model_meta(model, "owner/name", revision="b" * 40)
    CustomMTEB([task]).run(model, **options)
    (file,) = (tmp_path / "results").rglob(f"owner__name/{'b' * 40}/TwoSplits.json")
    assert list(mteb.TaskResult.from_disk(file).scores) == ["test"]
