"""Fine-tuning with torch: trains the rows of the tokens in the texts together with the head.

It starts from the frozen classifier, so the result on held-out texts can't get worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.classification.head import Head, Layer
from m2v_core.classification.labels import Labels
from m2v_core.classification.regression import in_dtype_of, log_loss
from m2v_core.errors import NeedsExtra
from m2v_core.model import StaticModel
from m2v_core.progress import ProgressReporter

# Learning rates: of the table, as a share of the root mean square of its entries; and of the head's weights.
TABLE_STEP = 0.004
HEAD_STEP = 3e-3
TOKEN_DROPOUT = 0.5
BATCH_SIZE = 64
PATIENCE = 3  # epochs without improvement


@dataclass(frozen=True)
class Tuned:
    """Result of fine-tuning.

    Attributes:
        model: A new model; the original is unchanged.
        head: The head for this model.
        n_epochs: Number of epochs of the best result; 0 if the frozen classifier was the best.
        loss: Mean log loss on held-out texts.
    """

    model: StaticModel
    head: Head
    n_epochs: int
    loss: float


@dataclass(frozen=True)
class Bags:
    """The tokens of several texts, concatenated.

    Attributes:
        ids: (n_tokens,) int64.
        starts: (n_texts,) int64 index of each text's first token.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, texts: list[NDArray[np.int64]]) -> Bags:
        """Concatenate texts, given as arrays of ids."""
        lengths = np.array([0, *map(len, texts)], dtype=np.int64)
        return cls(np.concatenate([*texts, np.empty(0, np.int64)]), lengths.cumsum()[:-1])


def fine_tuned(
    model: StaticModel,
    head: Head,
    texts: list[str],
    labels: Labels,
    outside: list[str],
    outside_members: NDArray[np.bool_],
    *,
    balanced: bool,
    max_epochs: int,
    seed: int,
    reporter: ProgressReporter,
) -> Tuned:
    """Return the model and head with the best result on held-out texts.

    Tokens are dropped at random during training, so that no text depends on a single token. Rows of tokens that do not
    occur in the texts are unchanged. The tuned model has one row per token and no weights, in the model's precision
    (float16 instead of int8).

    Args:
        model: Initial table.
        head: Initial head: one layer, as returned by `fitted_head`.
        texts: Training texts.
        labels: Their labels.
        outside: Held-out texts, one or more, for early stopping.
        outside_members: (n, n_labels) bool: which of those has which label.
        balanced: Whether every label has the same weight.
        max_epochs: Maximum number of epochs.
        seed: Random seed of the order of texts and of dropped tokens.
        reporter: Receives the stage "tune", in batches.

    Raises:
        MissingExtraError: torch isn't installed.
        Cancelled: The reporter was cancelled.
    """
    torch = _torch()
    ids = [np.array(of_text, dtype=np.int64) for of_text in model.tokenize([*texts, *outside], model.max_length)]
    seen, places = np.unique(np.concatenate(ids), return_inverse=True)  # not those of `outside`: no gradient
    bags = np.split(places, np.cumsum([len(of_text) for of_text in ids])[:-1])
    outside_bags = Bags.of(bags[len(texts) :])
    table = full_table(model)
    best = Tuned(model, head, 0, log_loss(head, model.encode(outside), outside_members, balanced))
    if not table[seen].any():  # the texts have no known tokens
        return best
    step = TABLE_STEP * float(np.sqrt(np.mean(np.square(table[seen]))))
    rows = torch.nn.Parameter(torch.from_numpy(table[seen]))  # (n_seen, dim)
    weight, bias = (
        torch.nn.Parameter(torch.from_numpy(part.copy())) for part in (head.layers[0].weight, head.layers[0].bias)
    )
    optimizers = [torch.optim.SparseAdam([rows], lr=step), torch.optim.Adam([weight, bias], lr=HEAD_STEP)]
    loss_of = _loss_function(labels, balanced)
    order, dropping = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    best_rows = table[seen]
    n_batches = -(-len(texts) // BATCH_SIZE)
    reporter.start("tune", max_epochs * n_batches)
    for epoch in range(1, max_epochs + 1):
        shuffled = order.permutation(len(texts))
        for start in range(0, len(shuffled), BATCH_SIZE):
            batch = shuffled[start : start + BATCH_SIZE]
            embeddings = _embeddings(rows, Bags.of([bags[number] for number in batch]), model.normalize, dropping)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_of(embeddings @ weight.T + bias, batch).backward()
            for optimizer in optimizers:
                optimizer.step()
            reporter.advance(1)
        with torch.no_grad():
            embeddings = _embeddings(rows, outside_bags, model.normalize, None)
        layer = Layer(weight.detach().numpy().copy(), bias.detach().numpy().copy())
        tuned_head = Head((layer,), head.classes, head.is_multi_label)
        loss = log_loss(tuned_head, embeddings.numpy(), outside_members, balanced)
        if loss < best.loss:
            best = Tuned(model, tuned_head, epoch, loss)
            best_rows = rows.detach().numpy().copy()
        elif epoch - best.n_epochs >= PATIENCE:
            break
    if best.n_epochs:
        table[seen] = best_rows
        best = replace(best, model=model.with_table(in_dtype_of(model, table)))
    return best


def full_table(model: StaticModel) -> NDArray[np.float32]:
    """The vector of each token in a mean, (n_vocabulary, dim) float32, with weights and shared rows resolved."""
    table = model.token_embeddings.astype(np.float32)
    table = table if model.token_mapping is None else table[model.token_mapping]
    return table if model.weights is None else table * model.weights[:, None]


def _embeddings(rows: Any, bags: Bags, normalize: bool, dropping: Any) -> Any:
    """Embeddings (n_texts, dim) as `encode` returns them; with a generator, tokens are dropped at random."""
    torch = _torch()
    ids, starts = torch.from_numpy(bags.ids), torch.from_numpy(bags.starts)
    lengths = torch.diff(starts, append=torch.tensor([len(ids)]))
    if dropping is not None:
        owner = torch.repeat_interleave(lengths)
        is_kept = torch.rand(len(ids), generator=dropping) >= TOKEN_DROPOUT
        ids, lengths = ids[is_kept], torch.bincount(owner[is_kept], minlength=len(lengths))
        starts = lengths.cumsum(0) - lengths
    sums = torch.nn.functional.embedding_bag(ids, rows, starts, mode="sum", sparse=True)
    return torch.nn.functional.normalize(sums) if normalize else sums / lengths.clamp(min=1)[:, None]


def _loss_function(labels: Labels, balanced: bool) -> Any:
    """Log loss of the logits of a batch, given the indices of its texts; weighted like scikit-learn's "balanced"."""
    torch = _torch()
    members = labels.members.astype(np.float32)
    counts = members.sum(axis=0)
    if labels.is_multi_label:
        # The texts with a label and those without it have the same total weight.
        positive = torch.from_numpy(((len(members) - counts) / counts).astype(np.float32)) if balanced else None
        wanted = torch.from_numpy(members)
        function = torch.nn.functional.binary_cross_entropy_with_logits
        return lambda logits, batch: function(logits, wanted[batch], pos_weight=positive)
    share = torch.from_numpy((len(members) / (len(counts) * counts)).astype(np.float32)) if balanced else None
    truth = torch.from_numpy(labels.members.argmax(axis=1))
    return lambda logits, batch: torch.nn.functional.cross_entropy(logits, truth[batch], weight=share)


def _torch() -> Any:
    with NeedsExtra("torch", "distill"):
        import torch
    return torch
