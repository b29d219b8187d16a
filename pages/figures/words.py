"""Data of the map of a vocabulary, in the form that map_view.js draws: JSON with arrays in base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.exploration.topics import CLUSTER_COLORS, Topics

# Mid-tones, visible on white and on near-black backgrounds.
SCALE_COLORS = ("#c2571a", "#cf9a2f", "#34a596", "#2b6c9e")


@dataclass(frozen=True, eq=False)
class PointColors:
    """Meaning of the colors of a map.

    Attributes:
        title: Title of the color scale.
        values: (n_points,) numbers; the cluster of each point if `are_groups`.
        is_share: Whether the values are shares, 0 to 1.
        are_groups: Whether equal values are clusters, each with its own color.
    """

    title: str
    values: NDArray[np.generic]
    is_share: bool = False
    are_groups: bool = False

    def limits(self) -> tuple[float, float]:
        """Values at the ends of the scale."""
        values = self.values.astype(np.float64)
        if not len(values):
            return 0.0, 1.0
        # Nearly all shares are high: a scale from 0 would give them one color.
        low = float(np.quantile(values, 0.01)) if self.is_share else float(values.min())
        high = 1.0 if self.is_share else float(values.max())
        return low, max(high, low + 1e-6)


def points_data(model: str, name: str, method: str, points: NDArray[np.float32]) -> str:
    """The points of a map, (n_points, 2) float32, as JSON.

    Args:
        model: Id of the model.
        name: Name of the model, for exported files.
        method: Layout: "PCA" or "UMAP".
    """
    x, y = (packed(points[:, axis], "<f4") for axis in (0, 1))
    return json.dumps({"model": model, "name": name, "method": method, "x": x, "y": y})


def words_data(
    texts: Sequence[str], ranks: NDArray[np.int64], norms: NDArray[np.float32], order: NDArray[np.int32]
) -> str:
    """The words of a map, and the order in which labels show them, as JSON."""
    arrays = {"ranks": packed(ranks, "<i4"), "norms": packed(norms, "<f4"), "order": packed(order, "<i4")}
    return json.dumps({"texts": list(texts), **arrays})


def topics_data(topics: Topics) -> str:
    """The topics of a map as JSON."""
    arrays = {"labels": packed(topics.labels, "<i4"), "clusters": packed(topics.clusters, "<i4")}
    return json.dumps({"names": topics.names, "cohesion": topics.cohesion.tolist(), **arrays})


def colors_data(colors: PointColors) -> str:
    """The colors of a map as JSON."""
    palette = CLUSTER_COLORS if colors.are_groups else SCALE_COLORS
    made: dict[str, Any] = {"areGroups": colors.are_groups, "palette": palette, "values": packed(colors.values, "<f4")}
    made["low"], made["high"] = colors.limits()
    return json.dumps(made)


def packed(values: NDArray[np.generic], dtype: str) -> str:
    """Numbers as base64 of their little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(values).astype(dtype).tobytes()).decode()
