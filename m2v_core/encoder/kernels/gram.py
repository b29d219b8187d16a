"""The product that calibrating spends its time on."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder.kernels.memory import float32s_at, int32s_at


def multiply_by_gram(
    starts: Any, columns: Any, values: Any, n_rows: Any, n_columns: Any, table: Any, dim: Any, products: Any, row: Any
) -> Any:
    """Write A^T (A table) for a sparse matrix A, one row of A after the other: A table is never held as a whole.

    Args:
        starts: (n_rows + 1,) int32, where each row of A begins among its values.
        columns: int32, the column of each value.
        values: float32.
        n_rows: Of A.
        n_columns: Of A.
        table: (n_columns, dim) float32.
        dim: Width of the table.
        products: (n_columns, dim) float32, written to.
        row: (dim,) float32, to work in.

    Returns:
        `n_rows`.
    """
    start_of, column_of, value_of, total = int32s_at(starts), int32s_at(columns), float32s_at(values), float32s_at(row)
    product = float32s_at(products)
    for d in range(n_columns * dim):
        product[d] = 0
    for i in range(n_rows):
        for d in range(dim):
            total[d] = 0
        for at in range(start_of[i], start_of[i + 1]):
            value, summand = value_of[at], float32s_at(table + 4 * dim * np.int64(column_of[at]))
            for d in range(dim):
                total[d] += value * summand[d]
        for at in range(start_of[i], start_of[i + 1]):
            value, product = value_of[at], float32s_at(products + 4 * dim * np.int64(column_of[at]))
            for d in range(dim):
                product[d] += value * total[d]
    return n_rows
