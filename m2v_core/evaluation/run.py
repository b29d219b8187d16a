"""Evaluates any number of encoders on any number of tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.evaluation import statistics
from m2v_core.evaluation.encoders import Encoder, EncoderFacts
from m2v_core.evaluation.tasks import Group, Task
from m2v_core.progress import ProgressCallback, ProgressReporter


@dataclass(frozen=True)
class TaskScore:
    """One encoder's score on one task.

    Attributes:
        encoder: The encoder's name.
        task: The task's name.
        group: The column of the published tables that it counts towards.
        metric: Name of the metric.
        score: 0 to 100, or -100 to 100 for a correlation.
        low: Lower bound of the 95% bootstrap interval; None if there is none.
        high: Upper bound.
        n_items: Number of pairs, test texts or queries; None if unknown.
        seconds: Time for encoding and scoring.
        notes: Sentences about what limits the meaning of the score.
    """

    encoder: str
    task: str
    group: Group
    metric: str
    score: float
    low: float | None
    high: float | None
    n_items: int | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        encoders: The encoders, in the order given.
        scores: By task, and within a task in the order of the encoders.
    """

    encoders: tuple[EncoderFacts, ...]
    scores: tuple[TaskScore, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(dict.fromkeys(score.task for score in self.scores))

    def of(self, encoder: str) -> tuple[TaskScore, ...]:
        """One encoder's scores."""
        return tuple(score for score in self.scores if score.encoder == encoder)

    def joined(self, other: Evaluation) -> Evaluation:
        """Add the scores of the same encoders on other tasks."""
        return Evaluation(self.encoders or other.encoders, self.scores + other.scores)

    def to_json(self) -> dict[str, Any]:
        """All values as plain JSON values."""
        return {
            "encoders": [encoder.to_json() for encoder in self.encoders],
            "scores": [asdict(score) | {"notes": list(score.notes)} for score in self.scores],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Evaluation:
        """Parse the result of `to_json`."""
        return cls(
            tuple(EncoderFacts(**facts) for facts in record["encoders"]),
            tuple(TaskScore(**score | {"notes": tuple(score["notes"])}) for score in record["scores"]),
        )


def evaluate(
    encoders: Sequence[Encoder],
    tasks: Sequence[Task],
    *,
    resamples: int = statistics.RESAMPLES,
    seed: int = statistics.SEED,
    on_score: Callable[[TaskScore], None] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Evaluation:
    """Compute every encoder's score on every task.

    The method `fit` of an encoder, if it exists, is called with all texts of a task, without labels, before encoding.

    Args:
        encoders: At least one; their names must differ.
        tasks: At least one; see `m2v_core.evaluation.data.read_tasks`.
        resamples: Bootstrap samples for the intervals; 0 for none.
        seed: Random seed of the intervals.
        on_score: Receives each score as soon as it is known.
        progress: Receives the stage `"encode"`, in texts of all encoders and tasks; encoding a text counts as half,
            and scoring as the other half.
        cancel: Set it to stop within a thousand texts.

    Raises:
        InputError: No encoder or task, duplicate names, or an encoder that returns no finite
            (n_texts, dim) array.
        MissingExtraError: A task needs scikit-learn, and it is not installed.
        Cancelled: `cancel` was set.
    """
    names = [encoder.facts.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"At least one encoder is needed, and their names must differ, not {names}.")
    if not tasks:
        raise InputError("There are no tasks. Pass at least one.")
    n_texts = sum(len(task.texts) for task in tasks)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("encode", len(encoders) * n_texts)
    # A rate per encoder, because the slowest takes a hundred times as long per text as the fastest.
    n_done, seconds = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    since = 0.0

    def advance(name: str, n_before: int, n_after: int) -> None:
        n_more = n_after // 2 - n_before // 2  # scoring may take as long as encoding, and is the other half
        nonlocal since
        now = time.perf_counter()
        seconds[name] += now - since
        since = now
        n_done[name] += n_more
        left = [(n_texts - n_done[one]) * seconds[one] / n_done[one] for one in names if n_done[one]]
        reporter.advance(n_more, eta_seconds=sum(left) if len(left) == len(names) else None)

    scores = []
    for task in tasks:
        for encoder in encoders:
            started = since = time.perf_counter()
            who, on_block = f"{encoder.facts.name} on {task.name}", partial(advance, encoder.facts.name)
            estimate, notes = task.judge(embeddings_in_blocks(encoder, task.texts, who, on_block), resamples, seed)
            advance(encoder.facts.name, len(task.texts), 2 * len(task.texts))
            if warning := text_warning(encoder, task.texts):
                notes = (*notes, warning)
            has_interval = not np.isnan(estimate.low)
            score = TaskScore(
                encoder=encoder.facts.name,
                task=task.name,
                group=task.group,
                metric=task.metric,
                score=estimate.value,
                low=estimate.low if has_interval else None,
                high=estimate.high if has_interval else None,
                n_items=task.n_items,
                seconds=time.perf_counter() - started,
                notes=notes,
            )
            scores.append(score)
            if on_score is not None:
                on_score(score)
    return Evaluation(tuple(encoder.facts for encoder in encoders), tuple(scores))


def text_warning(encoder: Encoder, texts: Sequence[str]) -> str | None:
    """Why an encoder's embeddings of these texts may be of low quality; None if no reason is known."""
    warning = getattr(encoder, "warning", None)
    return None if warning is None else warning(texts)


def embeddings_in_blocks(
    encoder: Encoder,
    texts: Sequence[str],
    who: str,
    on_block: Callable[[int, int], None],
    n_at_once: int = 1024,
    *,
    prompt: str | None = None,
) -> NDArray[np.float32]:
    """Encode texts in blocks, (n_texts, dim) float32, finite; calls the encoder's `fit` first if it exists.

    Args:
        encoder: The encoder.
        texts: Texts to encode.
        who: Name of the encoder in messages.
        on_block: Called after each block with the number of encoded texts before and after it.
        n_at_once: Texts per block.
        prompt: Prompt before each text, for an encoder with `prompts`; None for its default, if any.

    Raises:
        InputError: The encoder returned another kind of array.
    """
    texts = well_formed(checked_texts(texts))
    fit = getattr(encoder, "fit", None)
    if fit is not None:
        fit(texts)
    encode: Any = encoder.encode if prompt is None else partial(encoder.encode, **{"prompt": prompt})
    blocks: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), n_at_once):
        block = texts[start : start + n_at_once]
        blocks.append(checked_embeddings(encode(block), block, who))
        if blocks[-1].shape[1] != blocks[0].shape[1]:
            raise InputError(
                f"{who} returned rows of {blocks[0].shape[1]} numbers, then of {blocks[-1].shape[1]}; all must have "
                "one width."
            )
        on_block(start, start + len(block))
    return np.concatenate(blocks) if blocks else np.zeros((0, encoder.facts.dim), np.float32)


def checked_embeddings(embeddings: object, texts: Sequence[str], who: str) -> NDArray[np.float32]:
    """Validate the result of an encoder for some texts, (n_texts, dim) finite numbers, and convert it to float32.

    Raises:
        InputError: The result is not valid; the message calls the encoder `who`.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2 or len(array) != len(texts) or not array.shape[1] or array.dtype.kind not in "fiu":
        raise InputError(
            f"{who} returned {array.dtype} of shape {array.shape} for {len(texts):,} texts; expected numbers of shape "
            f"({len(texts)}, dim), one row per text."
        )
    is_bad = ~np.isfinite(array).all(axis=1)
    if is_bad.any():
        text = texts[int(np.flatnonzero(is_bad)[0])]
        raise InputError(
            f"{who} returned NaN or infinity for {int(is_bad.sum()):,} of {len(texts):,} texts, first for "
            f"{text[:60]!r}. Encoders must return finite numbers, and zeros for texts without known tokens."
        )
    return array.astype(np.float32, copy=False)
