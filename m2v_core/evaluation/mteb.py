"""Runs encoders on tasks of the Massive Text Embedding Benchmark with the mteb package.

Source: the encoder protocol of mteb 2, https://embeddings-benchmark.github.io/mteb/
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import HubError, InputError, M2VError, NeedsExtra, first_line
from m2v_core.evaluation.encoders import Encoder
from m2v_core.evaluation.run import Evaluation, TaskScore, embeddings_in_blocks
from m2v_core.evaluation.tasks import Group
from m2v_core.model import StaticModel
from m2v_core.progress import ProgressCallback, ProgressReporter

GROUPS: dict[str, Group] = {
    "BitextMining": "Bitext",
    "Classification": "Class",
    "MultilabelClassification": "Class",
    "Clustering": "Clust",
    "PairClassification": "PairClass",
    "InstructionReranking": "Rank",
    "InstructionRetrieval": "Ret",
    "Reranking": "Rank",
    "Retrieval": "Ret",
    "STS": "STS",
    "Summarization": "Sum",
}
"""The column of each of mteb's kinds of text tasks."""


def model_meta(model: StaticModel, name: str, **fields: Any) -> Any:
    """Build mteb's metadata of a static model, so that results can be submitted to the leaderboard.

    Args:
        model: The model; its table, limit, prompts and teacher are included.
        name: `owner/name` of the model on the Hub, from which mteb can load it.
        fields: Additional or changed fields of mteb's `ModelMeta`; the leaderboard requires `revision` (a commit),
            `release_date` ("2026-11-30"), `languages` (["eng-Latn"]), `license` and `training_datasets`.

    Returns:
        An `mteb.models.ModelMeta`, for `run_mteb` and `mteb.evaluate`.

    Raises:
        MissingExtraError: mteb is not installed.
        InputError: mteb rejects a field.
    """
    with NeedsExtra("mteb", "mteb"):
        from mteb.models import ModelMeta
        from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    n_parameters = model.token_embeddings.size
    known = {
        "name": name,
        "loader": SentenceTransformerEncoderWrapper,
        "n_parameters": n_parameters,
        "n_embedding_parameters": n_parameters,
        "memory_usage_mb": model.n_bytes / 2**20,
        "max_tokens": np.inf if model.max_length is None else model.max_length,
        "embed_dim": model.dim,
        "open_weights": True,
        "framework": ["NumPy", "Sentence Transformers", "safetensors"],
        "reference": f"https://huggingface.co/{name}",
        "similarity_fn_name": "cosine",
        "use_instructions": bool(model.prompts),
        "adapted_from": model.base_model_name,
    }
    try:
        return ModelMeta.model_validate(ModelMeta.create_empty().model_dump() | known | fields)
    except ValueError as error:
        raise InputError(f"mteb rejects the metadata of {name}: {' '.join(str(error).split())}") from error


class MTEBEncoder:
    """Adapts an encoder to the mteb package.

    Prompts are selected as mteb does for Sentence Transformers: first match among the name of the task with `"-query"`
    or `"-document"`, the task, its kind with one of these, its kind, or one of these alone; otherwise the default.

    Args:
        encoder: The encoder.
        reporter: Checked for cancellation between two blocks of texts; None to run to the end.
        meta: An `mteb.models.ModelMeta`; see `model_meta`. None for one with the encoder's name and width.

    Raises:
        MissingExtraError: mteb is not installed.
    """

    def __init__(self, encoder: Encoder, reporter: ProgressReporter | None = None, meta: Any = None) -> None:
        with NeedsExtra("mteb", "mteb"):
            from mteb.models import ModelMeta
            from mteb.models.model_meta import ScoringFunction
            from mteb.similarity_functions import cos_sim, pairwise_cos_sim
        facts = encoder.facts
        # mteb requires owner/name.
        name = facts.name if facts.name.count("/") == 1 else f"local/{facts.name.replace('/', '_')}"
        self.mteb_model_meta = meta or ModelMeta.create_empty(
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
        """Encode a loader that yields batches with a list of texts under `"text"`: (n_texts, dim) float32.

        Raises:
            InputError: The encoder returns no finite (n_texts, dim) array.
            Cancelled: The reporter was cancelled.
        """
        texts = well_formed(checked_texts(text for batch in inputs for text in batch["text"]))
        who = f"{self._encoder.facts.name} on {task_metadata.name}"
        return embeddings_in_blocks(
            self._encoder,
            texts,
            who,
            lambda before, after: self._reporter.advance(0),
            prompt=self._prompt(task_metadata, prompt_type),
        )

    def _prompt(self, task_metadata: Any, prompt_type: Any) -> str | None:
        prompts: dict[str, str] = getattr(self._encoder, "prompts", {})
        kinds = [] if prompt_type is None else [str(prompt_type.value)]
        names = []
        for about in (task_metadata.name, task_metadata.type):
            names += [*(f"{about}-{kind}" for kind in kinds), about]
        return next((prompts[name] for name in [*names, *kinds] if name in prompts), None)


def run_mteb(
    encoders: Sequence[Encoder],
    tasks: Sequence[Any],
    *,
    metas: Mapping[str, Any] | None = None,
    eval_splits: Sequence[str] | None = None,
    output_folder: str | Path | None = None,
    on_score: Callable[[TaskScore], None] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Evaluation:
    """Compute every encoder's main score on tasks of mteb, times 100; mteb has no intervals.

    Without `output_folder`, no results are read or written, not even in mteb's own cache.

    Args:
        encoders: At least one; their names must differ.
        tasks: Names (`"STSBenchmark"`) or tasks of mteb; text tasks of the kinds in `GROUPS`.
        metas: An `mteb.models.ModelMeta` for some of the encoders, by the encoder's name; see `model_meta`.
        eval_splits: Splits to use for tasks that have one of them; the task's own splits for others.
        output_folder: Where mteb writes its result files, which `mteb submit-results` sends to the leaderboard.
            For models in `metas`, existing results with the same name and revision are reused.
        on_score: Receives each score as soon as it is known.
        progress: Receives the stage `"benchmark"`, in tasks of all encoders.
        cancel: Set it to stop within a thousand texts.

    Raises:
        MissingExtraError: mteb is not installed.
        InputError: No encoder, duplicate names, an encoder that must be fitted to a task, an unknown or unsupported
            task, or an encoder that returns no finite (n_texts, dim) array.
        HubError: The texts of a task can't be downloaded.
        Cancelled: `cancel` was set.
    """
    with NeedsExtra("mteb", "mteb"):
        import mteb
    names = [encoder.facts.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"At least one encoder is needed, and their names must differ, not {names}.")
    for encoder in encoders:
        if hasattr(encoder, "fit"):
            raise InputError(f"{encoder.facts.name} must be fitted to the texts of a task; mteb does not support this.")
    opened = [_open(mteb, task, eval_splits) for task in tasks]
    cache = None if output_folder is None else mteb.ResultCache(output_folder)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("benchmark", len(encoders) * len(opened))
    scores = []
    for task in opened:
        for encoder in encoders:
            started = time.perf_counter()
            meta = (metas or {}).get(encoder.facts.name)
            result = _result(mteb, MTEBEncoder(encoder, reporter, meta), task, cache, meta is not None)
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


def _open(mteb: Any, task: Any, eval_splits: Sequence[str] | None) -> Any:
    if isinstance(task, str):
        try:
            task = mteb.get_task(task)
        except (KeyError, ValueError) as error:
            reason = str(error.args[0]).splitlines()[0] if error.args else str(error)
            raise InputError(f"mteb has no task {task!r} ({reason}). Its names are like STSBenchmark.") from error
    if task.metadata.type not in GROUPS:
        raise InputError(
            f"{task.metadata.name} is a task of the kind {task.metadata.type}; supported: {', '.join(GROUPS)}."
        )
    splits = [split for split in eval_splits or () if split in task.eval_splits]
    return copy.copy(task).filter_eval_splits(splits) if splits else task


def _result(mteb: Any, encoder: MTEBEncoder, task: Any, cache: Any, is_known: bool) -> Any:
    try:
        found = mteb.evaluate(
            encoder,
            task,
            cache=cache,
            co2_tracker=False,
            show_progress_bar=False,
            overwrite_strategy="only-missing" if is_known else "always",
        )
    except (M2VError, KeyboardInterrupt):
        raise
    except OSError as error:
        reason = first_line(error)
        raise HubError(
            f"The texts of {task.metadata.name} can't be downloaded ({reason}). Check whether the Hub is reachable."
        ) from error
    return found.task_results[0]
