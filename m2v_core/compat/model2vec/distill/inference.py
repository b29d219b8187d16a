"""How the hidden states of a teacher are pooled."""

from __future__ import annotations

from enum import Enum


class PoolingMode(str, Enum):  # noqa: UP042  # model2vec's own, whose str() is that of an Enum
    """The mean over all positions, the last or first one, or the teacher's own pooler."""

    MEAN = "mean"
    LAST = "last"
    FIRST = "first"
    POOLER = "pooler"
