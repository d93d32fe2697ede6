"""Inner loops of ingest, on plain arrays: checking values, and scattering them into a shard."""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np


class Fault(IntEnum):
    """What is wrong with a stored value."""

    NONE = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    FRACTIONAL = 3
    TOO_LARGE = 4
    DUPLICATE = 5


@numba.njit(nogil=True, cache=True)
def find_fault(indptr, indices, data, integers, limit, n_genes):
    """Return (fault, row, entry) of the first bad entry of a CSR block, or (0, -1, -1).

    Explicit zeros and genes in any order are fine; a gene that a row has twice is not.
    """
    seen_in = np.full(n_genes, -1, np.int64)
    for row in range(len(indptr) - 1):
        ascending = True
        for j in range(indptr[row], indptr[row + 1]):
            value = data[j]
            if not np.isfinite(value):
                return 1, row, j
            if value < 0:
                return 2, row, j
            if integers and value != np.floor(value):
                return 3, row, j
            if value > limit:
                return 4, row, j
            ascending &= j == indptr[row] or indices[j] > indices[j - 1]
        if not ascending:
            for j in range(indptr[row], indptr[row + 1]):
                if seen_in[indices[j]] == row:
                    return 5, row, j
                seen_in[indices[j]] = row
    return 0, -1, -1


@numba.njit(nogil=True, cache=True)
def gather_rows(order, indptr, indices, data, gene_map, genes, values, lengths):
    """Copy the non-zero entries of rows `order` of a CSR block, in that order.

    `gene_map` gives the store's number of each gene of the source; -1 leaves it out. Returns the
    number of entries copied; `lengths` gets the entries of each row.
    """
    n = 0
    for k in range(len(order)):
        first = n
        for j in range(indptr[order[k]], indptr[order[k] + 1]):
            gene = gene_map[indices[j]]
            if gene >= 0 and data[j] != 0:
                genes[n] = gene
                values[n] = data[j]
                n += 1
        lengths[k] = n - first
    return n


@numba.njit(nogil=True, cache=True)
def scatter(rows, lengths, genes, values, dense):
    """Write entries into ``dense`` (genes, rows); return the first entry that was there already.

    Returns (row, gene) of a duplicate, or (-1, -1).
    """
    j = 0
    for k in range(len(rows)):
        row = rows[k]
        for _ in range(lengths[k]):
            if dense[genes[j], row] != 0:
                return np.int64(row), np.int64(genes[j])
            dense[genes[j], row] = values[j]
            j += 1
    return np.int64(-1), np.int64(-1)


@numba.njit(nogil=True, cache=True)
def row_sums(rows, lengths, values, totals, expressed):
    """Add each row's sum and number of entries to ``totals`` and ``expressed``."""
    j = 0
    for k in range(len(rows)):
        total = 0.0
        for _ in range(lengths[k]):
            total += values[j]
            j += 1
        totals[rows[k]] += total
        expressed[rows[k]] += lengths[k]
