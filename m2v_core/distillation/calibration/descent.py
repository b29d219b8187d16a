"""Gradient descent on cosine losses, the second step of calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from m2v_core.progress import ProgressReporter

_BATCH = 1024
_EPOCHS = 5
_STEP = 1e-2  # maximum of a one-cycle schedule
_PAIR_WEIGHT = 20.0


def n_descent_steps(n_sentences: int) -> int:
    """Return the number of batches for `descend`."""
    return max(1, _EPOCHS * n_sentences // _BATCH)


def descend(
    token_embeddings: npt.NDArray[np.float32],
    counts: Any,
    wanted: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    n_steps: int,
    reporter: ProgressReporter,
) -> npt.NDArray[np.float32]:
    """Minimize the two losses described in `fit` with Adam.

    Args:
        token_embeddings: Initial table, `(n_rows, dim) float32`.
        counts: `(n_sentences, n_rows)` sparse float32.
        wanted: `(n_sentences, dim) float32`, unit rows: the targets in the space of the table.
        targets: `(n_sentences, embedding_dim) float32`, unit rows, for the similarities of pairs.
        n_steps: Number of batches of 1,024 sentences.
        reporter: Reports the stage `"descend"`, in steps; cancellable between steps.

    Returns:
        `(n_rows, dim) float32`.
    """
    import torch  # not needed for cached tables and calibration without text

    reporter.start("descend", n_steps)
    random = np.random.default_rng(0)
    table = torch.nn.Parameter(torch.from_numpy(token_embeddings.copy()))
    optimizer = torch.optim.Adam([table], lr=_STEP, fused=True)  # one pass over the table instead of eight
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_STEP, total_steps=n_steps)
    order = np.empty(0, np.int64)
    for _ in range(n_steps):
        if len(order) < min(_BATCH, len(targets)):
            order = random.permutation(len(targets))
        batch, order = order[:_BATCH], order[_BATCH:]
        rows = counts[batch]
        embeddings = torch.nn.functional.embedding_bag(
            torch.from_numpy(rows.indices.astype(np.int64)),
            table,
            torch.from_numpy(rows.indptr[:-1].astype(np.int64)),
            mode="sum",
            per_sample_weights=torch.from_numpy(rows.data),
        )
        embeddings = torch.nn.functional.normalize(embeddings, dim=1)  # (batch, dim)
        own = (embeddings * torch.from_numpy(wanted[batch])).sum(dim=1)
        expected = torch.from_numpy(targets[batch])
        pairs = embeddings @ embeddings.T - expected @ expected.T
        loss = (1 - own).mean() + _PAIR_WEIGHT * pairs.square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        reporter.advance(1)
    return table.detach().numpy()
