"""The functions of MinishLab's evaluation package that Model2Vec's README uses, on the current mteb.

    from m2v_core.evaluation import CustomMTEB, get_tasks, make_leaderboard, parse_mteb_results, summarize_results

    results = CustomMTEB(tasks=get_tasks()).run(model, eval_splits=["test"], output_folder="results")
    print(make_leaderboard(summarize_results(parse_mteb_results(mteb_results=results, model_name="my-model"))))

Source: https://github.com/MinishLab/evaluation
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2v_core.errors import InputError, NeedsExtra
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import Encoder, StaticEncoder
from m2v_core.evaluation.mteb import GROUPS, run_mteb
from m2v_core.evaluation.report import Sheet, fixed
from m2v_core.evaluation.run import Evaluation, evaluate
from m2v_core.evaluation.tasks import Group, Task
from m2v_core.model import StaticModel

BENCHMARK = "MTEB(eng, v1)"
"""The 56 tasks of the published tables."""
_MTEB_GROUPS: tuple[Group, ...] = ("Class", "Clust", "PairClass", "Rank", "Ret", "STS", "Sum")
_OWN_GROUPS: tuple[Group, ...] = ("PEARL", "WordSim")
_COLUMNS: dict[str, tuple[Group, ...]] = {
    "Avg (All)": (*_MTEB_GROUPS, *_OWN_GROUPS),
    "Avg (MTEB)": _MTEB_GROUPS,
    **{group: (group,) for group in _MTEB_GROUPS},
    "Pearl": ("PEARL",),
    "WordSim": ("WordSim",),
}


def get_tasks(task_types: Sequence[str] | None = None, data: str | Path | None = None) -> list[Any]:
    """Return the tasks of the published tables.

    Args:
        task_types: Which tasks: mteb's kinds, such as `"STS"`, `"PEARL"` and `"WordSim"`; None for all.
        data: A folder with tasks in `pearl/` and `wordsim/`; see `m2v_core.evaluation.data`. Without it there are no
            tasks of these two kinds, because mteb has none.

    Raises:
        MissingExtraError: mteb is not installed.
        InputError: The kind does not exist, has no tasks, or `data` has a malformed file.
        NotFoundError: The folder `data` does not exist.
    """
    with NeedsExtra("mteb", "mteb"):
        import mteb
    kinds = [*(kind for kind, group in GROUPS.items() if group in _MTEB_GROUPS), *_OWN_GROUPS]
    if unknown := [kind for kind in task_types or () if kind not in kinds]:
        raise InputError(f"Unknown kind of tasks: {unknown[0]!r}. Available: {', '.join(kinds)}.")
    chosen = kinds if task_types is None else list(task_types)
    tasks: list[Any] = [task for task in mteb.get_benchmark(BENCHMARK).tasks if task.metadata.type in chosen]
    if data is not None:
        tasks += [task for task in read_tasks(data) if task.group in _OWN_GROUPS and task.group in chosen]
    if not tasks:
        raise InputError(
            f"There are no tasks of the kinds {', '.join(chosen)}. Pass data, a folder with PEARL and WordSim tasks."
        )
    return tasks


class CustomMTEB:
    """Runs a model on tasks of mteb and of this library.

    Args:
        tasks: See `get_tasks`; any tasks of `run_mteb` or `evaluate`.
    """

    def __init__(self, tasks: Sequence[Any]) -> None:
        self.tasks = list(tasks)

    def run(
        self,
        model: StaticModel | Encoder,
        *,
        eval_splits: Sequence[str] | None = None,
        output_folder: str | Path | None = None,
        **options: Any,
    ) -> Evaluation:
        """Evaluate one model.

        Args:
            model: A static model, whose attribute `mteb_model_meta` is used if it exists (see `model_meta`); or any
                encoder of `m2v_core.evaluation.encoders`.
            eval_splits: As for `run_mteb`.
            output_folder: As for `run_mteb`; tasks of this library write no files.
            options: `on_score`, `progress` and `cancel`, as for `run_mteb`.

        Raises:
            InputError: `model` is neither a static model nor an encoder.
            M2VError: See `run_mteb` and `evaluate`.
        """
        meta = getattr(model, "mteb_model_meta", None)
        encoder = (
            StaticEncoder(model, "model" if meta is None else meta.name) if isinstance(model, StaticModel) else model
        )
        if not hasattr(encoder, "facts"):
            raise InputError(
                f"A {type(model).__name__} is neither a StaticModel nor an encoder. Load it with "
                'm2v_core.evaluation.encoders, such as TeacherEncoder("folder").'
            )
        own = [task for task in self.tasks if isinstance(task, Task)]
        others = [task for task in self.tasks if not isinstance(task, Task)]
        found = Evaluation((), ())
        if others:
            found = run_mteb(
                [encoder],
                others,
                metas={} if meta is None else {encoder.facts.name: meta},
                eval_splits=eval_splits,
                output_folder=output_folder,
                **options,
            )
        return found.joined(evaluate([encoder], own, resamples=0, **options)) if own else found


def parse_mteb_results(mteb_results: Evaluation, model_name: str) -> dict[str, Evaluation]:
    """Map a model's name to its results; merge the dictionaries of several models to compare them.

    Args:
        mteb_results: Result of `CustomMTEB.run`.
        model_name: Name of the model in the leaderboard.
    """
    return {model_name: mteb_results}


def summarize_results(results: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Compute each model's score in each column of the published tables, 0 to 100; NaN if it was not measured.

    A column is the mean over its evaluated tasks, and an average is the mean over the tasks of its columns, or NaN if
    one of the columns is NaN.

    Args:
        results: Results by model name; see `parse_mteb_results`.
    """
    return {
        name: {column: _mean(result, groups) for column, groups in _COLUMNS.items()} for name, result in results.items()
    }


def _mean(result: Evaluation, groups: Sequence[Group]) -> float:
    scores = [score for score in result.scores if score.group in groups]
    is_complete = {score.group for score in scores} == set(groups)
    return float(np.mean([score.score for score in scores])) if is_complete else math.nan


def make_leaderboard(model_scores: Mapping[str, Mapping[str, float]]) -> Sheet:
    """Build a table with one row per model, best average first; print it, or see `Sheet` for Markdown and CSV.

    Args:
        model_scores: See `summarize_results`.
    """
    ranked = sorted(
        model_scores.items(), key=lambda item: np.nan_to_num(item[1]["Avg (All)"], nan=-np.inf), reverse=True
    )
    rows = (
        (name, *("" if math.isnan(score) else fixed(score, 2) for score in (scores[column] for column in _COLUMNS)))
        for name, scores in ranked
    )
    return Sheet(("Model", *_COLUMNS), tuple(rows))
