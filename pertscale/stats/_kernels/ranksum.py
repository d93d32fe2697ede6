"""The rank-sum test of many perturbations against one set of controls.

Arrays only; nothing here knows of stores, names or Dask.

The value that is ranked is the *key* of a cell: count / total for counts, the value itself for
log-normalised input. For counts one division of two integers is rounded once, and two different
quotients differ by more than that rounding as long as count x total < 2**52. So two cells tie if
and only if count1 * total2 == count2 * total1, and the order is that of log1p(1e4 * count / total)
in exact arithmetic.

The controls of a gene are sorted once, into a :class:`ControlTable`: distinct non-zero keys, how
many controls lie below each, and buckets on the leading bits of the key with about one distinct
value each. A perturbed cell then costs one look-up, however many controls there are. Zeros are
one group of ties, handled by formula. Ties among the perturbed cells of a group are counted in a
small hash table. Sums of ties are exact: a further copy of a value that n cells already have adds
3 n (n + 1) to the sum of t**3 - t.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pertscale.stats._kernels._jit import inline, jit

#: Codes of the variants of SPEC B1, as the kernels take them.
MANN_WHITNEY, SCANPY, SCANPY_TIE = 0, 1, 2

#: What is kept per (perturbation, gene) until the label table is written.
STATISTICS_DTYPE = np.dtype(
    [
        ("u_statistic", "f8"),
        ("p_value", "f8"),
        ("sum_log1p", "f8"),
        ("sum_normalized", "f8"),
        ("z", "f4"),
        ("n_expressed", "i4"),
    ]
)

#: Up to this many cells the sum of t**3 - t fits an int64; beyond, float64 is used.
EXACT_TIES_UP_TO = 2_000_000
_HASH = np.uint64(0x9E3779B97F4A7C15)
_SMALL = 16  # a stretch of values that is sorted, and searched, one by one
_FLUSH_AT = 1e290  # a product of (1 + 1e4 key) is turned into a logarithm before it overflows


class ControlTable(NamedTuple):
    """Sorted controls of a block of genes; ragged arrays with one stretch per gene.

    Memory: at most about 20 bytes per non-zero control value.
    """

    n_control: int
    value: np.ndarray  # f8: distinct non-zero keys, ascending, then +inf
    below: np.ndarray  # i4: controls with a smaller non-zero key; one entry more than values
    value_start: np.ndarray  # i8 (genes + 1): where the stretch of a gene begins in both
    bucket: np.ndarray  # i4: first distinct value of each bucket in the stretch; then the end
    bucket_start: np.ndarray  # i8 (genes + 1)
    base: np.ndarray  # i8 (genes): leading bits of the smallest key
    shift: np.ndarray  # i8 (genes): how many low bits of a key its bucket ignores
    tie_exact: np.ndarray  # i8 (genes): sum of t**3 - t over non-zero ties
    tie_float: np.ndarray  # f8 (genes): the same, where an int64 might overflow
    statistics: np.ndarray  # STATISTICS_DTYPE (genes): sums over the controls


# --- keys ---------------------------------------------------------------------------------


@inline
def _compress(row, totals, lo, hi, is_counts, index, keys, n):
    """Append the keys of the non-zero cells lo..hi of a gene to keys[n:]; return the new n."""
    first = n
    for i in range(lo, hi):  # no branch on the value: half of them are zero, at random
        index[n] = i
        n += row[i] != 0
    if is_counts:
        for j in range(first, n):
            keys[j] = row[index[j]] / totals[index[j]]
    else:
        for j in range(first, n):
            keys[j] = row[index[j]]
    return n


@inline
def _sums(keys, lo, hi, is_counts):
    """Sum of normalised values (per total of 1) and of log1p values, in the order of the cells.

    The logarithms of counts are summed as the logarithm of a product: one multiplication a cell.
    """
    total = 0.0
    logs = 0.0
    if is_counts:
        product = 1.0
        for j in range(lo, hi):
            total += keys[j]
            product *= 1.0 + 1e4 * keys[j]
            if product > _FLUSH_AT:
                logs += math.log(product)
                product = 1.0
        logs += math.log(product)
        total *= 1e4
    else:
        for j in range(lo, hi):
            total += math.expm1(keys[j])
            logs += keys[j]
    return total, logs


# --- the controls -------------------------------------------------------------------------


@inline
def _bucket_of(bits, base, shift, last):
    """Bucket of a key from its bits: positive floats are ordered as their bits are."""
    b = (bits >> shift) - base
    if b < 0:
        b = np.int64(0)
    return min(b, last)


@jit
def _bucket_shift(keys, bits, n):
    """Choose buckets for n keys: leading bits of the smallest, bits to ignore, their number."""
    low = bits[0]
    high = bits[0]
    for i in range(1, n):
        low = min(low, bits[i])
        high = max(high, bits[i])
    shift = np.int64(52)
    while shift > 0 and ((high >> shift) - (low >> shift)) < n:
        shift -= 1
    return low >> shift, shift, (high >> shift) - (low >> shift) + 1


@jit
def _sort_into_buckets(keys, bits, n, base, shift, n_buckets, ordered, bucket):
    """Sort keys[:n] into ordered[:n]: by bucket, then inside of each."""
    last = n_buckets - 1
    bucket[: n_buckets + 1] = 0
    for i in range(n):
        bucket[_bucket_of(bits[i], base, shift, last) + 1] += 1
    for b in range(n_buckets):
        bucket[b + 1] += bucket[b]
    for i in range(n):
        b = _bucket_of(bits[i], base, shift, last)
        ordered[bucket[b]] = keys[i]
        bucket[b] += 1
    start = 0
    for b in range(n_buckets):
        stop = bucket[b]  # the scatter has moved it to the end of the bucket
        if stop - start > _SMALL:
            ordered[start:stop].sort()
        else:
            for i in range(start + 1, stop):
                key = ordered[i]
                j = i - 1
                while j >= start and ordered[j] > key:
                    ordered[j + 1] = ordered[j]
                    j -= 1
                ordered[j + 1] = key
        start = stop


@jit
def _distinct(ordered, n, base, shift, n_buckets, value, below, bucket):
    """Fill one gene's stretch of the table from its n sorted keys.

    Returns the number of distinct keys and the sum of t**3 - t, exact and as float.
    """
    bits = ordered.view(np.int64)
    last = n_buckets - 1
    d = 0
    next_bucket = 0
    tie_exact = np.int64(0)
    tie_float = 0.0
    i = 0
    while i < n:
        j = i + 1
        while j < n and ordered[j] == ordered[i]:
            j += 1
        b = _bucket_of(bits[i], base, shift, last)
        while next_bucket <= b:
            bucket[next_bucket] = d
            next_bucket += 1
        value[d] = ordered[i]
        below[d] = i
        t = np.int64(j - i)
        if t <= EXACT_TIES_UP_TO:
            tie_exact += t * t * t - t
        tie_float += float(t) * float(t) * float(t) - float(t)
        d += 1
        i = j
    while next_bucket <= n_buckets:
        bucket[next_bucket] = d
        next_bucket += 1
    value[d] = np.inf
    below[d] = n
    below[d + 1] = n
    return d, tie_exact, tie_float


@jit
def _control_tables(block, totals, is_counts):
    n_genes, n_cells = block.shape
    value_start = np.zeros(n_genes + 1, np.int64)
    for g in range(n_genes):
        nonzero = 0
        for i in range(n_cells):
            nonzero += block[g, i] != 0
        value_start[g + 1] = value_start[g] + nonzero + 2
    value = np.empty(value_start[n_genes], np.float64)
    below = np.empty(value_start[n_genes], np.int32)
    # between 1 and 2 buckets a key, as chosen by _bucket_shift
    bucket = np.empty(2 * value_start[n_genes] + 8 * n_genes, np.int32)
    bucket_start = np.zeros(n_genes + 1, np.int64)
    base = np.zeros(n_genes, np.int64)
    shift = np.zeros(n_genes, np.int64)
    tie_exact = np.zeros(n_genes, np.int64)
    tie_float = np.zeros(n_genes, np.float64)
    sums = np.zeros((n_genes, 3), np.float64)
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    ordered = np.empty(n_cells + 1, np.float64)
    for g in range(n_genes):
        n = _compress(block[g], totals, 0, n_cells, is_counts, index, keys, 0)
        sums[g, 0], sums[g, 1] = _sums(keys, 0, n, is_counts)
        sums[g, 2] = n
        v, b = value_start[g], bucket_start[g]
        n_buckets = np.int64(1)
        if n > 0:
            bits = keys.view(np.int64)
            base[g], shift[g], n_buckets = _bucket_shift(keys, bits, n)
            _sort_into_buckets(keys, bits, n, base[g], shift[g], n_buckets, ordered, bucket[b:])
        _, tie_exact[g], tie_float[g] = _distinct(
            ordered, n, base[g], shift[g], n_buckets, value[v:], below[v:], bucket[b:]
        )
        bucket_start[g + 1] = b + n_buckets + 1
    return (
        value, below, value_start, bucket[: bucket_start[n_genes]].copy(), bucket_start,
        base, shift, tie_exact, tie_float, sums,
    )  # fmt: skip


def control_tables(block: np.ndarray, totals: np.ndarray, *, is_counts: bool) -> ControlTable:
    """Sort the controls of a block of genes.

    Parameters
    ----------
    block : ndarray (genes, control cells)
        Counts, or log-normalised values; C-contiguous.
    totals : ndarray (control cells,), float64
        Total count of each cell; not used for log-normalised values.
    is_counts : bool
        Whether `block` holds counts.

    Returns
    -------
    ControlTable
    """
    arrays: Any = _control_tables(block, totals, is_counts)
    sums = arrays[-1]
    statistics = np.zeros(len(block), STATISTICS_DTYPE)
    statistics["p_value"] = 1.0
    statistics["sum_normalized"] = sums[:, 0]
    statistics["sum_log1p"] = sums[:, 1]
    statistics["n_expressed"] = sums[:, 2]
    return ControlTable._make((block.shape[1], *arrays[:-1], statistics))


# --- the test -----------------------------------------------------------------------------


@inline
def _finish(twice_u, ties, n_group, n_control, variant):
    """Return U, z, p (SPEC B1), in scipy's and scanpy's own order of operations."""
    n1 = float(n_group)
    n2 = float(n_control)
    n = n1 + n2
    u = twice_u * 0.5
    difference = u - n1 * n2 * 0.5
    if variant == MANN_WHITNEY:
        variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))
        gap = abs(difference) - 0.5
    else:
        factor = 1.0 - ties / (n * n * n - n) if variant == SCANPY_TIE else 1.0
        variance = factor * n1 * n2 * (n + 1.0) / 12.0
        gap = abs(difference)
    if not variance > 0.0:
        return u, 0.0, 1.0
    distance = gap / math.sqrt(variance)
    p = min(math.erfc(distance / math.sqrt(2.0)), 1.0)
    z = 0.0
    if difference > 0.0:
        z = distance
    elif difference < 0.0:
        z = -distance
    return u, z, p


@inline
def _log2_slots(n):
    """Hash table for n keys: at least twice as many slots, as a power of two."""
    power = 4
    while (1 << power) < 2 * n:
        power += 1
    return power


@inline
def _rank_group(
    keys, bits, lo, hi, value, below, bucket, base, shift, last, exact, slot_key, slot, stamp
):
    """Twice the non-zero part of U, and what the group adds to the sum of t**3 - t."""
    twice_u = np.int64(0)
    tie_exact = np.int64(0)
    tie_float = 0.0
    power = _log2_slots(hi - lo)
    mask = (np.int64(1) << power) - 1
    down = np.uint64(64 - power)
    mark = stamp << 32
    for j in range(lo, hi):
        key = keys[j]
        b = _bucket_of(bits[j], base, shift, last)
        v = bucket[b]
        stop = bucket[b + 1]
        while stop - v > _SMALL:  # clustered keys: halve before walking
            middle = (v + stop) >> 1
            if value[middle] < key:
                v = middle
            else:
                stop = middle
        while value[v] < key:
            v += 1
        equal = np.int64(0)
        if value[v] == key:
            equal = np.int64(below[v + 1] - below[v])
        twice_u += 2 * np.int64(below[v]) + equal
        h = np.int64((np.uint64(bits[j]) * _HASH) >> down)
        while slot[h] >= mark and slot_key[h] != key:
            h = (h + 1) & mask
        n = equal
        if slot[h] >= mark:
            n += slot[h] - mark
            slot[h] += 1
        else:
            slot_key[h] = key
            slot[h] = mark + 1
        if n > 0:
            if exact:
                tie_exact += 3 * n * (n + 1)
            else:
                tie_float += 3.0 * float(n) * (float(n) + 1.0)
    return twice_u, tie_exact, tie_float


@jit
def _rank_sum(
    block, totals, is_counts, bounds, n_control, value, below, value_start, bucket, bucket_start,
    base, shift, tie_exact, tie_float, control, variant, out,
):  # fmt: skip
    n_genes, n_cells = block.shape
    n_groups = len(bounds) - 1
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    bits = keys.view(np.int64)
    ends = np.empty(n_groups + 1, np.int64)
    largest = 0
    for q in range(n_groups):
        largest = max(largest, bounds[q + 1] - bounds[q])
    slot_key = np.empty(1 << _log2_slots(largest), np.float64)
    slot = np.full(len(slot_key), np.int64(-1))
    stamp = np.int64(0)
    for g in range(n_genes):
        ends[0] = 0
        for q in range(n_groups):
            ends[q + 1] = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, ends[q]
            )
        values = value[value_start[g] : value_start[g + 1]]
        counts_below = below[value_start[g] : value_start[g + 1]]
        buckets = bucket[bucket_start[g] : bucket_start[g + 1]]
        last = np.int64(len(buckets) - 2)
        control_zeros = n_control - np.int64(control[g].n_expressed)
        for q in range(n_groups):
            lo, hi = ends[q], ends[q + 1]
            n_group = bounds[q + 1] - bounds[q]
            nonzero = hi - lo
            zeros = n_group - nonzero
            exact = n_group + n_control <= EXACT_TIES_UP_TO
            stamp += 1
            twice_u, ties_exact, ties_float = _rank_group(
                keys, bits, lo, hi, values, counts_below, buckets, base[g], shift[g], last,
                exact, slot_key, slot, stamp,
            )  # fmt: skip
            twice_u += (zeros + 2 * nonzero) * control_zeros
            tied = zeros + control_zeros
            if exact:
                ties = float(ties_exact + tie_exact[g] + tied * tied * tied - tied)
            else:
                ties = ties_float + tie_float[g] + float(tied) ** 3 - float(tied)
            u, z, p = _finish(float(twice_u), ties, n_group, n_control, variant)
            total, logs = _sums(keys, lo, hi, is_counts)
            cell = out[q, g]
            cell.u_statistic = u
            cell.p_value = p
            cell.z = z
            cell.sum_log1p = logs
            cell.sum_normalized = total
            cell.n_expressed = nonzero


def rank_sum(
    block: np.ndarray,
    totals: np.ndarray,
    bounds: np.ndarray,
    control: ControlTable,
    *,
    is_counts: bool,
    variant: int,
    out: np.ndarray,
) -> None:
    """Test groups of cells against the controls, gene by gene.

    Parameters
    ----------
    block : ndarray (genes, cells)
        Counts or log-normalised values of the perturbed cells; C-contiguous.
    totals : ndarray (cells,), float64
        Total count of each cell; not used for log-normalised values.
    bounds : ndarray (groups + 1,), int64
        The cells of group q are the columns ``bounds[q]:bounds[q + 1]``.
    control : ControlTable
        Of the same genes.
    is_counts : bool
        Whether `block` holds counts.
    variant : int
        ``MANN_WHITNEY``, ``SCANPY`` or ``SCANPY_TIE``.
    out : ndarray (groups, genes), STATISTICS_DTYPE
        Filled.

    Notes
    -----
    Time does not depend on the number of controls. Scratch: 12 bytes per cell of the block and
    32 bytes per cell of the largest group.
    """
    _rank_sum(block, totals, is_counts, bounds, *control, variant, out)
