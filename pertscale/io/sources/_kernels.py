"""Rows of a matrix whose entries come in another order."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit

_U = np.uint64


@jit
def sort_by_row(
    rows: np.ndarray,
    first_row: int,
    genes: np.ndarray,
    data: np.ndarray,
    at: np.ndarray,
    genes_out: np.ndarray,
    data_out: np.ndarray,
) -> None:
    """Put entries in the order of their rows, stable; `at` is where each row begins."""
    for i in range(_U(len(rows))):
        row = _U(rows[i] - first_row)
        to = _U(at[row])
        genes_out[to] = genes[i]
        data_out[to] = data[i]
        at[row] += 1


@jit
def compress_rows(
    values: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray
) -> None:
    """Copy what is not zero of dense rows to CSR arrays, which may be as long as all of it."""
    n = np.int64(0)
    indptr[0] = 0
    for row in range(values.shape[0]):
        for gene in range(values.shape[1]):
            indices[_U(n)] = gene
            data[_U(n)] = values[row, gene]
            n += np.int64(values[row, gene] != 0)
        indptr[row + 1] = n
