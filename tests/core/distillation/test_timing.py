"""Estimates of the duration of runs, replayed against recorded runs without a real clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from m2v_core.distillation.preflight import look_up, plan, run_seconds
from m2v_core.distillation.timing import Amounts, RunClock, Timings, default_seconds, fixed_seconds
from m2v_core.progress import Progress
from tests.teachers import DATA

RUNS: list[dict[str, Any]] = json.loads((DATA / "runs.json").read_text(encoding="utf-8"))
"""Real runs in the order in which they were made, each with its teacher, the seconds of each stage by default, its end
in seconds, and its events: seconds, stage, units done, all units, and the seconds left of the stage."""
SHARES = (0.25, 0.5, 0.75)


def replay(run: Mapping[str, Any], timings: Timings) -> list[tuple[float, Progress]]:
    """Each event that the clock forwards, with its time."""
    now, passed = 0.0, []
    clock = RunClock(
        lambda event: passed.append((now, event)), timings, run["teacher"], lambda: run["defaults"], lambda: now
    )
    for now, stage, done, total, eta_seconds in run["events"]:  # noqa: B007
        clock(Progress(stage, done, total, 0.0, eta_seconds))
    now = run["end"]
    clock.finish()
    return passed


def left_at(passed: list[tuple[float, Progress]], seconds: float) -> float | None:
    """The remaining time that a page shows a number of seconds after the start."""
    at, event = [(at, event) for at, event in passed if at <= seconds][-1]
    return None if event.left_seconds is None else max(0.0, event.left_seconds - (seconds - at))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[float, Progress]]]:
    """All runs in sequence on one machine."""
    timings = Timings(tmp_path_factory.mktemp("timings"))
    return [replay(run, timings) for run in RUNS]


def test_the_remaining_time_is_within_30_percent(replayed):
    assert len(RUNS) >= 20
    for run, passed in zip(RUNS, replayed, strict=True):
        for share in SHARES:
            now, left = share * run["end"], left_at(passed, share * run["end"])
            assert left is not None and left == pytest.approx(run["end"] - now, rel=0.3), (run["settings"], share)


def test_the_estimate_from_a_similar_run_is_within_30_percent(tmp_path):
    """Checks all runs that follow a run of the same teacher with the same recipe."""
    timings, before = Timings(tmp_path), set()
    for run in RUNS:
        kind = (run["teacher"], run["settings"]["recipe"])
        if kind in before:
            predicted = sum(timings.predict(run["teacher"], run["defaults"]).values())
            assert predicted == pytest.approx(run["end"], rel=0.3), run["settings"]
        before.add(kind)
        replay(run, timings)


def test_the_share_of_the_run_never_falls(replayed):
    for passed in replayed:
        shares = [event.share for _, event in passed]
        assert shares == sorted(shares) and 0.9 < shares[-1] <= 1


def test_an_unknown_run_has_no_estimate(tmp_path):
    run = RUNS[0] | {"defaults": {}}
    assert {event.left_seconds for _, event in replay(run, Timings(tmp_path))} == {None}
    assert not list(tmp_path.iterdir())


def test_a_run_with_cached_outputs_has_no_estimate(tmp_path):
    asked: list[str] = []
    clock = RunClock(lambda event: None, Timings(tmp_path), "a/b", lambda: asked.append("defaults") or {"encode": 1.0})
    for stage in ("start", "load", "reduce", "finish", "save"):
        clock(Progress(stage, 0, 0, 0.0, None))
    clock.finish()
    assert not asked and not list(tmp_path.iterdir())
    clock(Progress("load", 0, 1, 0.0, None))  # the teacher is needed
    assert asked


def test_an_interrupted_stage_is_not_stored(tmp_path):
    run = RUNS[0]
    cut = [event for event in run["events"] if event[1] != "encode" or not event[2]]
    timings = Timings(tmp_path)
    replay(run | {"events": cut}, timings)
    factors = json.loads((tmp_path / "timings.json").read_text())[run["teacher"]]
    assert "load" in factors and "encode" not in factors


def test_timings_are_those_of_the_teacher_or_of_any_teacher(tmp_path):
    defaults = {"encode": 200.0, "reduce": 1.0, "bags": 100.0}

    def predicted(teacher: str, stages: Mapping[str, float] = defaults) -> dict[str, float]:
        return pytest.approx(Timings(tmp_path).predict(teacher, stages), rel=0.01)

    assert predicted("a/b") == Timings(None).predict("a/b", defaults) == defaults
    Timings(tmp_path).learn("a/b", defaults, {"encode": 600.0, "unknown": 5.0})
    # Stages that it has not run yet are scaled by the same factor.
    assert predicted("a/b") == {"encode": 600.0, "reduce": 1.0, "bags": 300.0}
    assert predicted("c/d") == {"encode": 600.0, "reduce": 1.0, "bags": 100.0}
    Timings(tmp_path).learn("c/d", defaults, {"encode": 200.0})
    assert predicted("a/b", {"encode": 200.0}) == {"encode": 600.0}
    # A slower run counts half.
    Timings(tmp_path).learn("a/b", defaults, {"encode": 2400.0})
    assert predicted("a/b", {"encode": 200.0}) == {"encode": 1200.0}


def test_the_pooling_stage_is_predicted_after_a_run_with_it(tmp_path):
    defaults = {"load": 4.0, "encode": 2.0}
    Timings(tmp_path).learn("a/b", defaults, {"pooling": 1.0})
    assert list(Timings(tmp_path).predict("a/b", defaults)) == ["load", "pooling", "encode"]
    assert list(Timings(tmp_path).predict("c/d", defaults)) == ["load", "encode"]


@pytest.mark.parametrize("content", ["{", "[]", '{"a/b": 3}', '{"a/b": {"encode": "fast"}}', "\ufffd"])
def test_a_damaged_file_is_rewritten(tmp_path, content, caplog):
    (tmp_path / "timings.json").write_text(content)
    assert Timings(tmp_path).predict("a/b", {"encode": 2.0}) == {"encode": 2.0}
    assert "is damaged" in caplog.text
    Timings(tmp_path).learn("a/b", {"encode": 200.0}, {"encode": 400.0})
    assert Timings(tmp_path).predict("a/b", {"encode": 200.0})["encode"] == pytest.approx(400.0, rel=0.01)


def test_a_folder_that_is_not_writable_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    Timings(tmp_path / "file").learn("a/b", {"encode": 2.0}, {"encode": 4.0})
    assert "could not be written" in caplog.text


def test_more_work_takes_longer():
    few = Amounts(10_000_000, {"encode": 90_000, "bags": 90_000, "dictionary": 140_000}, 30_000, 384, 20_000, True)
    many = Amounts(10_000_000, {"encode": 90_000, "bags": 720_000, "dictionary": 1_000_000}, 30_000, 384, 155_000, True)
    first, second = default_seconds(few), default_seconds(many)
    assert list(first) == list(second)
    for stage in ("bags", "dictionary", "prepare", "calibrate", "descend"):
        assert second[stage] > first[stage]
    assert first["encode"] == second["encode"]
    without_text = default_seconds(Amounts(10_000_000, {"encode": 90_000, "bags": 0}, 30_000, 384, 0, False))
    assert list(without_text) == ["start", "load", "encode", "reduce", "finish"]


def test_the_plan_takes_earlier_runs_into_account(build_teacher_once, tmp_path):
    teacher = str(build_teacher_once("wordpiece"))
    facts = look_up(teacher)
    first = plan(facts, timings=Timings(tmp_path))
    assert first.seconds == plan(facts).seconds == pytest.approx(sum(first.stage_seconds.values()))
    Timings(tmp_path).learn(teacher, first.stage_seconds, {"bags": 10 * first.stage_seconds["bags"]})
    second = plan(facts, timings=Timings(tmp_path))
    assert second.seconds > 2 * first.seconds and second.stage_seconds == first.stage_seconds
    settings = {"model_name": teacher, "effort": "quick", "pooling": "mean", "corpus": ["a sentence"] * 3}
    expected = plan(facts, effort="quick", corpus=["a sentence"] * 3).stage_seconds | fixed_seconds("save")
    assert run_seconds(teacher, settings, stages=["save"]) == expected
    assert run_seconds("/no/such/teacher", settings) == {}
