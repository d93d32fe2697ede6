"""Inner loops of ingest, on plain arrays: checking values, and sorting them into shards.

The store is cut into shards of rows and strips of genes, one chunk wide. Between the two passes an
entry is a *word* of 16 bits: nine for the gene inside of its strip, seven for the count. A count
that does not fit, and every value of a store of 32-bit values, follows in words of its own. What
is known of a run of words is its *segment*: row, strip, and how many words there are.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from pertscale._jit import jit

_U = np.uint64
#: How values are written: counts of 16 bits inside of words where they fit; values of 32 bits.
PACKED, UINT32, FLOAT32 = 0, 1, 2
#: Bits of a word that hold the count, 0 where the value follows.
COUNT_BITS = 7
_INLINE = (1 << COUNT_BITS) - 1
#: Rows of a shard that are filled together, so that a gene of a chunk gets a cache line at a time.
_BAND = 32
#: Values between two rows of a band: a power of two would put a gene of all rows into few lines of
#: the processor's cache.
_GAP = 16


class Fault(IntEnum):
    """What is wrong with a stored value."""

    NONE = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    FRACTIONAL = 3
    TOO_LARGE = 4
    DUPLICATE = 5


@jit
def examine(
    order: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    strips: np.ndarray,
    integers: bool,
    limit: float,
    form: int,
    counts: np.ndarray,
) -> tuple[Any, Any]:
    """Check the entries of a CSR block that are kept, and count the words of each segment.

    Explicit zeros and genes in any order are fine; a gene that a row has twice is not.

    Parameters
    ----------
    order : ndarray (kept rows,)
        Rows of the block to look at.
    strips : ndarray (genes of the source,)
        Strip of each gene, from the first one of the block on; -1 leaves the gene out.
    integers : bool
        Whether fractions are faults.
    limit : float
        Largest value allowed.
    form : int
        How values are written.
    counts : ndarray (kept rows, strips of the block), uint16
        Number of words of each segment, added to.

    Returns
    -------
    fault, entry : int
        The first fault, or (0, -1).
    """
    seen_in = np.full(len(strips), -1, np.int64)
    for k in range(_U(len(order))):
        row = order[k]
        last = np.int64(-1)
        ascending = True
        for j in range(_U(indptr[row]), _U(indptr[row + 1])):
            gene = np.int64(indices[j])
            strip = strips[_U(gene)]
            if strip < 0:
                continue
            value = data[j]
            if not np.isfinite(value):
                return 1, np.int64(j)
            if value < 0:
                return 2, np.int64(j)
            if integers and value != np.floor(value):
                return 3, np.int64(j)
            if value > limit:
                return 4, np.int64(j)
            ascending &= bool(gene > last)
            last = gene
            words = 3 if form != PACKED else 1 + (value > _INLINE)
            counts[k, _U(strip)] += words * (value != 0)
        if not ascending:
            for j in range(_U(indptr[row]), _U(indptr[row + 1])):
                if strips[_U(indices[j])] >= 0:
                    if seen_in[_U(indices[j])] == row:
                        return 5, np.int64(j)
                    seen_in[_U(indices[j])] = row
    return 0, -1


@jit
def write_words(
    order: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    strips: np.ndarray,
    genes: np.ndarray,
    bounds: np.ndarray,
    counts: np.ndarray,
    form: int,
    words: np.ndarray,
) -> None:
    """Write the words of a block: shard by shard, in a shard strip by strip, in a strip by row.

    Parameters
    ----------
    order, indptr, indices, data, strips, form, counts
        As for :func:`examine`, which filled `counts`.
    genes : ndarray (genes of the source,)
        Position of each gene inside of its strip.
    bounds : ndarray (shards + 1,)
        The kept rows of a shard are ``order[bounds[s]:bounds[s + 1]]``.
    words : ndarray, uint16
        Filled.
    """
    n_strips = counts.shape[1]
    at = np.empty(n_strips, np.int64)
    starts = np.empty(counts.shape, np.int64)
    end = np.int64(0)
    for s in range(len(bounds) - 1):
        for strip in range(n_strips):
            for k in range(bounds[s], bounds[s + 1]):
                starts[k, strip] = end
                end += counts[k, strip]
    bits = np.empty(1, np.float32)
    as_integer = bits.view(np.uint32)
    for k in range(_U(len(order))):
        for s in range(_U(n_strips)):  # compiles in a third of the time of at[:] = starts[k]
            at[s] = starts[k, s]
        row = order[k]
        for j in range(_U(indptr[row]), _U(indptr[row + 1])):
            gene = _U(indices[j])
            strip = strips[gene]
            value = data[j]
            if strip < 0 or value == 0:
                continue
            to = _U(at[_U(strip)])
            head = np.int64(genes[gene]) << COUNT_BITS
            if form != PACKED:
                words[to] = head
                if form == FLOAT32:
                    bits[0] = value
                else:
                    as_integer[0] = np.uint32(value)
                words[to + _U(1)] = as_integer[0] & np.uint32(0xFFFF)
                words[to + _U(2)] = as_integer[0] >> np.uint32(16)
                at[_U(strip)] += 3
            elif value > _INLINE:
                words[to] = head
                words[to + _U(1)] = np.uint16(value)
                at[_U(strip)] += 2
            else:
                words[to] = head | np.int64(value)
                at[_U(strip)] += 1


@jit
def list_segments(
    blocks: np.ndarray,
    row_bounds: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    n_strips: int,
    rows_per_shard: int,
    keys: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
) -> Any:
    """Find the segments that are not empty in what was read of all blocks for some shards.

    Parameters
    ----------
    blocks : ndarray (blocks, 4), int64
        Where the rows, counts and words of each block begin in the arrays below, its first strip,
        and its number of strips is ``row_bounds[b, -1]``.
    row_bounds : ndarray (blocks, shards + 2), int64
        Rows of the block that belong to each shard, from 0 on; then the number of its strips.
    rows : ndarray
        Row inside of its shard.
    counts : ndarray
        Words of each segment, (rows, strips of the block) one block after the other.
    keys, starts, lengths : ndarray
        Filled: ``(shard * n_strips + strip) * rows_per_shard + row``, first word, words.

    Returns
    -------
    int
        Number of segments.
    """
    n = np.int64(0)
    for b in range(len(blocks)):
        first_row, at_count = blocks[b, 0], blocks[b, 1]
        at_word, first_strip = blocks[b, 2], blocks[b, 3]
        width = row_bounds[b, -1]
        for s in range(row_bounds.shape[1] - 2):
            for strip in range(width):
                base = (s * n_strips + first_strip + strip) * rows_per_shard
                for k in range(row_bounds[b, s], row_bounds[b, s + 1]):
                    length = counts[_U(at_count + k * width + strip)]
                    keys[_U(n)] = base + rows[_U(first_row + k)]
                    starts[_U(n)] = at_word
                    lengths[_U(n)] = length
                    at_word += length
                    n += np.int64(length > 0)
    return n


@jit
def order_by_key(keys: np.ndarray, n: int, bounds: np.ndarray, order: np.ndarray) -> None:
    """Sort n keys, stable: those of key k are ``order[bounds[k]:bounds[k + 1]]``."""
    bounds[:] = 0
    for i in range(_U(n)):
        bounds[_U(keys[i]) + _U(1)] += 1
    for k in range(_U(len(bounds) - 1)):
        bounds[k + _U(1)] += bounds[k]
    for i in range(_U(n)):
        order[_U(bounds[_U(keys[i])])] = i
        bounds[_U(keys[i])] += 1
    for k in range(len(bounds) - 1, 0, -1):
        bounds[k] = bounds[k - 1]
    bounds[0] = 0


@jit
def fill_chunk(
    bounds: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    words: np.ndarray,
    form: int,
    chunk: np.ndarray,
    totals: np.ndarray,
    expressed: np.ndarray,
) -> Any:
    """Fill a chunk (genes of a strip, rows of a shard) from its segments.

    Parameters
    ----------
    bounds : ndarray (rows + 1,)
        The segments of a row are ``order[bounds[row]:bounds[row + 1]]``.
    totals, expressed : ndarray (rows,)
        Sum and number of the values of each row, added to.

    Returns
    -------
    int
        ``gene * rows + row`` of an entry that is there twice, or -1.
    """
    n_genes, n_rows = chunk.shape
    band = np.empty((_BAND, n_genes + _GAP), chunk.dtype)
    value = np.empty(1, chunk.dtype)
    halves = value.view(np.uint16)
    for first in range(0, n_rows, _BAND):
        last = min(first + _BAND, n_rows)
        band[:] = 0
        for row in range(first, last):
            line = band[row - first]
            total = 0.0
            n = np.int64(0)
            for i in range(bounds[row], bounds[row + 1]):
                at = _U(starts[_U(order[_U(i)])])
                end = at + _U(lengths[_U(order[_U(i)])])
                while at < end:
                    word = words[at]
                    gene = _U(word >> COUNT_BITS)
                    if form == PACKED:
                        count = word & _INLINE
                        if count == 0:
                            at += _U(1)
                            count = words[at]
                        value[0] = count
                    else:
                        halves[0] = words[at + _U(1)]
                        halves[1] = words[at + _U(2)]
                        at += _U(2)
                    at += _U(1)
                    if line[gene] != 0:
                        return np.int64(gene) * n_rows + row
                    line[gene] = value[0]
                    total += value[0]
                    n += 1
            totals[row] += total
            expressed[row] += n
        for g in range(_U(n_genes)):
            for i in range(_U(last - first)):
                chunk[g, _U(first) + i] = band[i, g]
    return -1
