"""Any encoder on real tasks of the Massive Text Embedding Benchmark, run by the mteb package.

Source: the encoder protocol of mteb 2, https://embeddings-benchmark.github.io/mteb/
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import HubError, InputError, M2VError, NeedsExtra, first_line
from m2v_core.evaluation.encoders import Encoder
from m2v_core.evaluation.run import Evaluation, TaskScore, embeddings_in_blocks
from m2v_core.evaluation.tasks import Group
from m2v_core.progress import ProgressCallback, ProgressReporter

GROUPS: dict[str, Group] = {
    "Classification": "Class",
    "MultilabelClassification": "Class",
    "Clustering": "Clust",
    "PairClassification": "PairClass",
    "Reranking": "Rank",
    "Retrieval": "Ret",
    "STS": "STS",
    "Summarization": "Sum",
}
"""The column for each of mteb's kinds of text tasks."""


class MTEBEncoder:
    """An encoder as the mteb package wants one.

    Args:
        encoder: The encoder.
        reporter: Looked at between two blocks of texts for whether to stop; None to run to the end.

    Raises:
        MissingExtraError: mteb is not installed.
    """

    def __init__(self, encoder: Encoder, reporter: ProgressReporter | None = None) -> None:
        with NeedsExtra("mteb", "mteb"):
            from mteb.models import ModelMeta
            from mteb.models.model_meta import ScoringFunction
            from mteb.similarity_functions import cos_sim, pairwise_cos_sim
        facts = encoder.facts
        # mteb insists on owner/name.
        name = facts.name if facts.name.count("/") == 1 else f"local/{facts.name.replace('/', '_')}"
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": name, "embed_dim": facts.dim, "similarity_fn_name": ScoringFunction.COSINE}
        )
        self.similarity, self.similarity_pairwise = cos_sim, pairwise_cos_sim
        self._encoder = encoder
        self._reporter = reporter or ProgressReporter()

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """(n_texts, dim) float32, for a loader that yields batches with a list of texts under `"text"`.

        Raises:
            InputError: The encoder returns no finite (n_texts, dim) array.
            Cancelled: It is time to stop.
        """
        texts = well_formed(checked_texts(text for batch in inputs for text in batch["text"]))
        who = f"{self._encoder.facts.name} on {task_metadata.name}"
        return embeddings_in_blocks(self._encoder, texts, who, lambda before, after: self._reporter.advance(0))


def run_mteb(
    encoders: Sequence[Encoder],
    tasks: Sequence[Any],
    *,
    on_score: Callable[[TaskScore], None] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Evaluation:
    """Every encoder's main score on tasks of mteb, times 100; mteb gives no intervals.

    Nothing is read from or written to mteb's cache of results.

    Args:
        encoders: At least one; their names must differ.
        tasks: Names (`"STSBenchmark"`) or tasks of mteb; text tasks of the kinds in `GROUPS`.
        on_score: Receives each score as soon as it is known.
        progress: Receives the stage `"benchmark"`, in tasks of all encoders.
        cancel: Set it to stop within a thousand texts.

    Raises:
        MissingExtraError: mteb is not installed.
        InputError: No encoder, two of one name, one that must be fitted to a task, an unknown task, one of another
            kind, or an encoder that returns no finite (n_texts, dim) array.
        HubError: A task's texts can't be fetched.
        Cancelled: `cancel` was set.
    """
    with NeedsExtra("mteb", "mteb"):
        import mteb
    names = [encoder.facts.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"Encoders of different names are compared, at least one; got {names}.")
    for encoder in encoders:
        if hasattr(encoder, "fit"):
            raise InputError(f"{encoder.facts.name} is fitted to the texts of a task, which mteb doesn't show it.")
    opened = [_open(mteb, task) for task in tasks]
    reporter = ProgressReporter(progress, cancel)
    reporter.start("benchmark", len(encoders) * len(opened))
    scores = []
    for task in opened:
        for encoder in encoders:
            started = time.perf_counter()
            result = _result(mteb, MTEBEncoder(encoder, reporter), task)
            score = TaskScore(
                encoder=encoder.facts.name,
                task=task.metadata.name,
                group=GROUPS[task.metadata.type],
                metric=f"{task.metadata.main_score} x 100",
                score=100.0 * float(result.get_score()),
                low=None,
                high=None,
                n_items=None,
                seconds=time.perf_counter() - started,
            )
            scores.append(score)
            if on_score is not None:
                on_score(score)
            reporter.advance(1)
    return Evaluation(tuple(encoder.facts for encoder in encoders), tuple(scores))


def _open(mteb: Any, task: Any) -> Any:
    if isinstance(task, str):
        try:
            task = mteb.get_task(task)
        except (KeyError, ValueError) as error:
            reason = str(error.args[0]).splitlines()[0] if error.args else str(error)
            raise InputError(f"mteb has no task {task!r} ({reason}). Its names are like STSBenchmark.") from error
    if task.metadata.type not in GROUPS:
        raise InputError(
            f"{task.metadata.name} is a task of the kind {task.metadata.type}; offered are: {', '.join(GROUPS)}."
        )
    return task


def _result(mteb: Any, encoder: MTEBEncoder, task: Any) -> Any:
    try:
        found = mteb.evaluate(
            encoder, task, cache=None, co2_tracker=False, show_progress_bar=False, overwrite_strategy="always"
        )
    except (M2VError, KeyboardInterrupt):
        raise
    except OSError as error:
        reason = first_line(error)
        raise HubError(
            f"The texts of {task.metadata.name} can't be fetched ({reason}). Is the Hub reachable?"
        ) from error
    return found.task_results[0]
