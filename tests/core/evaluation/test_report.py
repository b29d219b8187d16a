"""Tables of measured and published figures, and the frontier."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest

from m2v_core.errors import InputError
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import EncoderFacts, StaticEncoder
from m2v_core.evaluation.evidence import MIN_TEST_ITEMS
from m2v_core.evaluation.frontier import frontier
from m2v_core.evaluation.report import (
    GROUPS,
    Sheet,
    fixed,
    frontier_sheet,
    leaderboard,
    leaderboard_sheet,
    long_sheet,
    published_rows,
    score_sheet,
    small_tasks,
)
from m2v_core.evaluation.run import Evaluation, TaskScore, evaluate
from m2v_core.evaluation.statistics import Estimate
from tests.core.evaluation.sets import LetterEncoder, write_sets
from tests.static_models import static_model


def score(encoder, task, group, value, low=None, high=None):
    return TaskScore(encoder, task, group, "accuracy", value, low, high, 10, 0.5)


@pytest.fixture
def evaluation():
    facts = [EncoderFacts(name, "static", 4, "cpu", 1, size) for name, size in (("a|b", 1_500_000), ("best", None))]
    return Evaluation(
        tuple(facts),
        (
            score("a|b", "STS1", "STS", 10.0, 8.0, 12.25),
            score("best", "STS1", "STS", 50.0),
            score("a|b", "STS2", "STS", 20.0),
            score("best", "STS2", "STS", 70.0),
            score("a|b", "Labels", "Class", 60.0),
            score("best", "Labels", "Class", 90.0),
        ),
    )


def test_groups_are_means_and_the_average_is_that_of_tasks(evaluation):
    best, other = leaderboard(evaluation)
    assert (best.name, best.origin, best.groups, best.n_tasks) == ("best", "measured", {"STS": 60.0, "Class": 90.0}, 3)
    assert (best.average, other.average) == (pytest.approx(70.0), pytest.approx(30.0))
    assert json.loads(json.dumps(best.to_json()))["groups"] == {"STS": 60.0, "Class": 90.0}


def test_published_rows_are_marked_and_have_an_address(evaluation):
    rows = leaderboard(evaluation, with_published=True)
    assert [row.origin for row in rows[:3]] == ["measured", "measured", "published"]  # not ranked together
    published = [row for row in rows if row.origin == "published"]
    *averages, last = [row.average for row in published]
    assert averages == sorted(averages, reverse=True) and last is None
    assert set(map(str, published)) == set(map(str, published_rows())) and len(rows) == len(published) + 2
    for row in published:
        assert urlsplit(row.source).scheme == "https"
        if row.name == "komninos":  # some of its columns are not published
            assert row.average is None and set(row.groups) == set(GROUPS) - {"Ret", "PEARL", "WordSim", "Bitext"}
            continue
        assert set(row.groups) == set(GROUPS) - {"Bitext"}
        # The published average is over tasks, and some columns have many, others one; so it is between the columns.
        assert min(row.groups.values()) < row.average < max(row.groups.values())
    named = {row.name: row for row in published}
    assert named["all-MiniLM-L6-v2"].groups["WordSim"] == 49.91 and named["WL256"].groups["WordSim"] == 45.16
    assert {"potion-base-8M", "M2V_base_output", "GloVe_300d", "BPEmb_50k_300d"} <= set(named)


def test_small_tasks_are_listed(evaluation):
    small = {"STS1": "10 pairs", "STS2": "10 pairs", "Labels": "10 test texts"}
    assert small_tasks(evaluation) == small
    for n_items in (MIN_TEST_ITEMS, None):
        scores = tuple(replace(one, n_items=n_items) for one in evaluation.scores)
        assert small_tasks(replace(evaluation, scores=scores)) == {}


def test_no_figure_is_minus_zero(evaluation):
    scores = tuple(replace(one, score=-0.001, low=-0.01, high=0.01) for one in evaluation.scores)
    shown = score_sheet(replace(evaluation, scores=scores), with_intervals=True).to_text()
    assert "0.00 (0.0 to 0.0)" in shown and "-0.0" not in shown
    assert fixed(-0.5, 2) == "-0.50"


def test_markdown(evaluation):
    lines = leaderboard_sheet(leaderboard(evaluation)).to_markdown().splitlines()
    assert lines == [
        "| encoder | origin | Avg | Class | STS |",
        "| --- | --- | ---: | ---: | ---: |",
        "| best | measured | 70.00 | 90.00 | 60.00 |",
        "| a&#124;b | measured | 30.00 | 60.00 | 15.00 |",
    ]


def test_text_is_aligned_and_not_truncated(evaluation):
    lines = score_sheet(evaluation, with_intervals=True).to_text().splitlines()
    assert lines[0].split() == ["encoder", "MB", "STS1", "STS2", "Labels", "Avg"]
    assert lines[2].split("  ")[0] == "a|b" and "10.00 (8.0 to 12.2)" in lines[2] and " 1.5 " in lines[2]
    assert len({len(line) for line in lines}) == 1


def test_wide_characters_and_accents_are_aligned():
    rows = (("中文", "1"), ("abcd", "10"), ("e\u0301", "100"))
    lines = Sheet(("label", "texts"), rows).to_text().splitlines()
    assert lines == ["label  texts", "中文       1", "abcd      10", "e\u0301        100"]


def test_csv_contains_every_score(evaluation):
    rows = list(csv.DictReader(io.StringIO(long_sheet(evaluation).to_csv())))
    assert len(rows) == len(evaluation.scores)
    assert rows[0] == {
        "encoder": "a|b",
        "task": "STS1",
        "group": "STS",
        "metric": "accuracy",
        "score": "10.0",
        "low": "8.0",
        "high": "12.25",
        "n_items": "10",
        "seconds": "0.5",
    }
    assert rows[1]["low"] == ""


def test_one_task_needs_no_average(tmp_path):
    found = evaluate([LetterEncoder()], read_tasks(write_sets(tmp_path), ["tiny"]))
    assert score_sheet(found).headings == ("encoder", "MB", "tiny")


def test_frontier_of_every_combination(tmp_path):
    tasks = read_tasks(write_sets(tmp_path), ["tiny", "words"])
    model, events = static_model(), []
    rows = frontier(model, tasks, dims=(4, 8, 4096, None), vocabulary_quantizations=(None, 10), progress=events.append)
    dims = {4, min(8, model.dim), model.dim}
    combinations = {(row.dim, row.precision, row.n_rows) for row in rows}
    assert combinations == {
        (dim, precision, n_rows)
        for dim in dims
        for precision in ("float32", "float16", "int8")
        for n_rows in (len(model.token_embeddings), 10)
    }
    assert len(rows) == len(combinations) == events[-1].done == events[-1].total
    assert [row.n_bytes for row in rows] == sorted(row.n_bytes for row in rows)
    whole = max(rows, key=lambda row: row.n_bytes)
    assert whole.n_bytes == model.n_bytes
    full = evaluate([StaticEncoder(model, "whole")], tasks, resamples=0)
    assert whole.average == pytest.approx(np.mean([found.score for found in full.scores]))
    assert all(row.low <= row.average <= row.high for row in rows)


class DimTask:
    """Scores a model by its number of dimensions, with an interval of plus or minus `margin`."""

    def __init__(self, margin):
        self.name, self.group, self.metric, self.texts, self.n_items = f"dims {margin}", "STS", "dims", ("sea",), 100
        self.margin = margin

    def judge(self, embeddings, resamples, seed):
        dim = float(embeddings.shape[1])
        return Estimate(dim, dim - self.margin, dim + self.margin), ()


@pytest.mark.parametrize(("margin", "best"), [(0.4, {(4, "int8"): False, (5, "int8"): True}), (1.5, {})])
def test_only_versions_beyond_chance_are_best(margin, best):
    model = static_model()
    rows = frontier(model, [DimTask(margin)], dims=(4, 5), precisions=("int8", "float32"))
    marked = {(row.dim, row.precision): row.is_best for row in rows}
    assert (
        marked == dict.fromkeys(marked, False) | best
    )  # float32 is not better than int8, and the smallest has nothing to compare with
    two = frontier(model, [DimTask(3.0), DimTask(4.0)], dims=(8,), precisions=("int8",))
    assert [(row.average, row.low, row.high) for row in two] == [(8.0, 5.5, 10.5)]  # squared errors add up


def test_frontier_measures_the_speed_of_each(tmp_path):
    tasks, asked = read_tasks(write_sets(tmp_path), ["tiny"]), []

    def measure(encoder):
        asked.append((encoder.facts.dim, str(encoder.model.token_embeddings.dtype)))
        return 100.0 * len(asked)

    rows = frontier(static_model(), tasks, dims=(4, 8), measure_speed=measure)
    by_version = {(row.dim, row.precision): row.sentences_per_second for row in rows}
    assert by_version == {version: 100.0 * n for n, version in enumerate(asked, start=1)} and len(rows) == 6
    sheet = frontier_sheet(rows)
    assert sheet.headings == ("dim", "precision", "rows", "MB", "score", "low", "high", "sentences/s", "best")
    assert {row[7] for row in sheet.rows} == {f"{100 * n}" for n in range(1, 7)}
    assert [row[8] == "best" for row in sheet.rows] == [row.is_best for row in rows]
    assert frontier(static_model(), tasks, dims=(4,))[0].sentences_per_second is None


def test_frontier_rejects_invalid_arguments(tmp_path):
    tasks = read_tasks(write_sets(tmp_path), ["tiny"])
    with pytest.raises(InputError, match="int4"):
        frontier(static_model(), tasks, precisions=("int4",))
