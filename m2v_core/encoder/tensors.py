"""Embeddings as torch tensors, for callers that ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2v_core.errors import NeedsExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def as_tensor(embeddings: NDArray[np.float32], device: object = None) -> Any:
    """Return the embeddings as a float32 torch tensor of the same shape, which shares their memory on the CPU.

    Args:
        embeddings: Of any shape.
        device: Where to put the tensor, in any form that torch accepts; None for the CPU.

    Raises:
        MissingExtraError: torch is not installed.
    """
    with NeedsExtra(None, "distill"):
        import torch
    tensor = torch.from_numpy(embeddings)
    return tensor if device is None else tensor.to(device)  # type: ignore[call-overload]
