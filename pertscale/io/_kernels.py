"""Inner loops of ingest, on plain arrays: checking values, and sorting them into strips.

The store is cut into *buckets*: a strip of genes (one chunk wide) of one shard of rows. An entry
is a position inside its bucket, ``gene of the strip * rows per shard + row of the shard``, and a
value.
"""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np

_jit = numba.njit(nogil=True, cache=True)


class Fault(IntEnum):
    """What is wrong with a stored value."""

    NONE = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    FRACTIONAL = 3
    TOO_LARGE = 4
    DUPLICATE = 5


@_jit
def examine(
    order: np.ndarray,
    buckets: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    strips: np.ndarray,
    integers: bool,
    limit: float,
    counts: np.ndarray,
) -> tuple[int, int]:
    """Check the entries of a CSR block that are kept, and count them per bucket.

    Explicit zeros and genes in any order are fine; a gene that a row has twice is not.

    Parameters
    ----------
    order : ndarray (kept rows,)
        Rows of the block to look at.
    buckets : ndarray (kept rows,)
        First bucket of each of these rows.
    strips : ndarray (genes of the source,)
        Strip of each gene; -1 leaves the gene out.
    integers : bool
        Whether fractions are faults.
    limit : float
        Largest value allowed.
    counts : ndarray (buckets,)
        Gets the number of non-zero entries of each bucket added.

    Returns
    -------
    fault, entry : int
        The first fault, or (0, -1).
    """
    seen_in = np.full(len(strips), -1, np.int64)
    for k in range(len(order)):
        row = order[k]
        last, ascending = -1, True
        for j in range(indptr[row], indptr[row + 1]):
            gene = indices[j]
            strip = strips[gene]
            if strip < 0:
                continue
            value = data[j]
            if not np.isfinite(value):
                return 1, j
            if value < 0:
                return 2, j
            if integers and value != np.floor(value):
                return 3, j
            if value > limit:
                return 4, j
            ascending &= gene > last
            last = gene
            counts[buckets[k] + strip] += value != 0
        if not ascending:
            for j in range(indptr[row], indptr[row + 1]):
                if strips[indices[j]] >= 0:
                    if seen_in[indices[j]] == row:
                        return 5, j
                    seen_in[indices[j]] = row
    return 0, -1


@_jit
def fill_buckets(
    order: np.ndarray,
    buckets: np.ndarray,
    shard_rows: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    strips: np.ndarray,
    offsets: np.ndarray,
    at: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray,
) -> None:
    """Copy the non-zero entries of the kept rows to their buckets.

    Parameters
    ----------
    order, buckets, strips
        As for :func:`examine`.
    shard_rows : ndarray (kept rows,)
        Row inside the shard.
    offsets : ndarray (genes of the source,)
        Position of the first row of each gene inside its bucket.
    at : ndarray (buckets,)
        Where each bucket begins in `positions` and `values`; moved to where it ends.
    positions, values : ndarray (entries,)
        Filled.
    """
    for k in range(len(order)):
        for j in range(indptr[order[k]], indptr[order[k] + 1]):
            gene = indices[j]
            if strips[gene] >= 0 and data[j] != 0:
                bucket = buckets[k] + strips[gene]
                positions[at[bucket]] = offsets[gene] + shard_rows[k]
                values[at[bucket]] = data[j]
                at[bucket] += 1


@_jit
def scatter(positions: np.ndarray, values: np.ndarray, strip: np.ndarray) -> int:
    """Write entries into a flat strip; return the first position taken already, or -1."""
    for i in range(len(positions)):
        if strip[positions[i]] != 0:
            return int(positions[i])
        strip[positions[i]] = values[i]
    return -1


@_jit
def add_rows(strip: np.ndarray, totals: np.ndarray, expressed: np.ndarray) -> None:
    """Add a strip (genes, rows) to the sums and the numbers of non-zero genes of its rows."""
    for gene in range(strip.shape[0]):
        for row in range(strip.shape[1]):
            totals[row] += strip[gene, row]
            expressed[row] += strip[gene, row] != 0
