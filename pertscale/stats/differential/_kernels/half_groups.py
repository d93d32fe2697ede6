"""Halves of groups of cells, gene by gene: sums over several ways to halve, a test of the first.

Arrays only. Bit k of a cell's code says whether it is in the second half of way k, of
:data:`MOST_SEEDS` at most. All is done together with the test of all cells: a key is found once in
the sorted controls, and a second count beside each of their values says how many of those below it
are in the first half.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pertscale._jit import inline, jit
from pertscale.stats.differential._kernels.ranksum import (
    _FEW,
    _bucket_of,
    _compress,
    _find,
    _finish,
    _of_gene,
    _rank_sum,
    _scratch,
    _signed,
    _sums,
    _ties_of_many,
    _touch,
    _with_zeros,
)

#: Ways to halve cells that a code has bits for.
MOST_SEEDS: Final = 8
#: What is summed of a group: log1p expression, its square, normalised values, these of the first
#: half of the first way, and log1p expression over the first half of each way.
TOTAL, SQUARES, NORMALIZED, NORMALIZED_FIRST, FIRST_HALVES = range(5)
N_SUMS: Final = FIRST_HALVES + MOST_SEEDS
#: (code, way): 1 where the cell is in the first half.
IN_FIRST: Final = 1.0 - ((np.arange(256)[:, None] >> np.arange(MOST_SEEDS)) & 1)

_LN2_HIGH: Final = 0.6931471803691238
_LN2_LOW: Final = 1.9082149292705877e-10
#: Leading bits of the square root of 1/2: mantissas are taken from there to its double.
_ROOT: Final = np.uint64(0x3FE6A09E00000000)
#: 2^52, whose last bits are those of a whole number that is added to it.
_WHOLE: Final = 2.0**52
_WHOLE_BITS: Final = np.uint64(0x4330000000000000)
_EXPONENT: Final = np.uint64(52)
_U = np.uint64


@inline
def _log(x: float) -> Any:
    """Return the natural logarithm of x >= 1, to within some units of the last digit.

    x = 2^k m with m around 1, and log m = 2 atanh(s) with s = (m - 1) / (m + 1): plain arithmetic,
    so that compilers do several at a time.
    """
    bits = np.float64(x).view(np.uint64)
    exponent = (bits - _ROOT) >> _EXPONENT
    m = np.uint64(bits - (exponent << _EXPONENT)).view(np.float64)
    k = np.uint64(exponent | _WHOLE_BITS).view(np.float64) - _WHOLE
    s = np.divide(m - 1.0, m + 1.0)  # as / would, but for a test for zero
    z = s * s
    z2 = z * z
    odd = z * (1 / 3 + z2 * (1 / 7 + z2 * (1 / 11 + z2 * (1 / 15 + z2 * (1 / 19)))))
    even = z2 * (1 / 5 + z2 * (1 / 9 + z2 * (1 / 13 + z2 * (1 / 17))))
    series = 2.0 * s + 2.0 * s * (odd + even)
    return k * _LN2_HIGH + (series + k * _LN2_LOW)


@inline
def _logs(keys, n, is_counts, logs):
    """Fill logs[:n] with the log1p expression of keys."""
    if is_counts:
        for j in range(_U(n)):
            logs[j] = _log(1.0 + 1e4 * keys[j])
    else:
        for j in range(_U(n)):
            logs[j] = keys[j]


@inline
def _sum_halves(keys, logs, codes, in_first, bins, lo, hi, is_counts, out):
    """Fill the sums of one group, (N_SUMS,), from the keys, logs and codes ``lo:hi``.

    Cells of one code are summed first: they are in the same halves.
    """
    n_codes = len(in_first)
    for c in range(_U(n_codes)):
        bins[c] = 0.0
    squares = normalized = normalized_first = 0.0
    for j in range(_U(lo), _U(hi)):
        value, key, code = logs[j], keys[j], codes[j]
        bins[_U(code)] += value
        squares += value * value
        first = 1.0 - np.float64(code & 1)
        if not is_counts:
            key = np.expm1(key)
        normalized += key
        normalized_first += key * first
    total = 0.0
    for k in range(_U(MOST_SEEDS)):
        out[_U(FIRST_HALVES) + k] = 0.0
    for c in range(_U(n_codes)):
        total += bins[c]
        for k in range(_U(MOST_SEEDS)):
            out[_U(FIRST_HALVES) + k] += bins[c] * in_first[c, k]
    scale = 1e4 if is_counts else 1.0
    out[_U(TOTAL)], out[_U(SQUARES)] = total, squares
    out[_U(NORMALIZED)], out[_U(NORMALIZED_FIRST)] = scale * normalized, scale * normalized_first


@jit
def sum_halves(block, totals, codes, is_counts, bounds, in_first, sums):
    """Fill sums (groups, genes, N_SUMS) over the cells of a block; see :func:`rank_halves`."""
    n_genes, n_cells = block.shape
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    logs = np.empty(n_cells + 1, np.float64)
    code = np.empty(n_cells + 1, np.uint8)
    bins = np.empty(len(in_first), np.float64)
    for g in range(n_genes):
        for q in range(len(bounds) - 1):
            n = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, np.int64(0)
            )
            for j in range(_U(n)):
                code[j] = codes[_U(index[j])]
            _logs(keys, n, is_counts, logs)
            _sum_halves(keys, logs, code, in_first, bins, np.int64(0), n, is_counts, sums[q, g])


# --- the test -----------------------------------------------------------------------------


@jit
def split_controls(block, totals, codes, is_counts, table, half):
    """Fill a HalfTable, whose arrays are there, from the controls (genes, cells) of a block.

    `table` is that of all of them.
    """
    n_genes, n_cells = block.shape
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    bits = keys.view(np.int64)
    for g in range(n_genes):
        first, last = table.value_start[g], table.value_start[g + 1]
        below, below_first = table.below[first:last], half.below_first[first:last]
        value = table.value[first:last]
        bucket = table.bucket[table.bucket_start[g] : table.bucket_start[g + 1]]
        n = _compress(block[g], totals, 0, n_cells, is_counts, index, keys, np.int64(0))
        below_first[:] = 0
        for j in range(_U(n)):
            b = _U(_bucket_of(bits[j], table.base[g], table.shift[g], np.int64(len(bucket) - 2)))
            at = _find(keys[j], value, bucket[b], bucket[b + _U(1)], table.clustered[g])
            below_first[at + _U(1)] += 1 - np.int32(codes[_U(index[j])] & 1)
        for h in range(2):
            half.tie_exact[h, g], half.tie_float[h, g] = 0, 0.0
        for d in range(_U(last - first - 1)):
            t0 = np.int64(below_first[d + _U(1)])
            t1 = np.int64(below[d + _U(1)]) - np.int64(below[d]) - t0
            half.tie_exact[0, g] += t0 * t0 * t0 - t0
            half.tie_exact[1, g] += t1 * t1 * t1 - t1
            half.tie_float[0, g] += float(t0) * float(t0) * float(t0) - float(t0)
            half.tie_float[1, g] += float(t1) * float(t1) * float(t1) - float(t1)
            below_first[d + _U(1)] += below_first[d]
        n_first = np.int64(below_first[last - first - 1])
        half.zeros[0, g] = half.n_cells[0] - n_first
        half.zeros[1, g] = half.n_cells[1] - (n - n_first)


@inline
def _in_half(second, place, equal, below_first):
    """Return how many controls of a key's own half are equal to it."""
    first = np.int64(below_first[_U(place + 1)]) - np.int64(below_first[_U(place)])
    first *= np.int64(equal > 0)
    return first + second * (np.int64(equal) - 2 * first)


@inline
def _rank_halves(code, lo, hi, places, equals, below, below_first, one):
    """Return twice the non-zero part of U, and of sums of t**3 - t, of both halves of a group.

    From where the keys are among all controls; the second half has what the first leaves. And how
    many keys are in the second half.
    """
    twice_both = twice_second = n_second = np.int64(0)
    ties_both = ties_second = 0 * one
    for j in range(_U(lo), _U(hi)):
        place = _U(places[j - _U(lo)])
        second = np.int64(code[j] & 1)
        under = np.int64(below_first[place])
        under += second * (np.int64(below[place]) - 2 * under)
        equal = _in_half(second, place, equals[j - _U(lo)], below_first)
        twice = 2 * under + equal
        twice_both += twice
        twice_second += second * twice
        tied = one * equal
        tied *= tied + one
        ties_both += tied
        ties_second += one * second * tied
        n_second += second
    first = twice_both - twice_second, 3 * (ties_both - ties_second)
    return first, (twice_second, 3 * ties_second), n_second


@inline
def _ties_of_few_in_halves(keys, code, lo, suspect, places, equals, below_first, n, one):
    """Return what ``_ties_of_few`` does, of each half."""
    more_both = more_second = 0 * one
    for s in range(_U(n)):
        mine = _U(suspect[s])
        key, second = keys[mine], np.int64(code[mine] & 1)
        copies = np.int64(0)
        for j in range(_U(lo), mine):
            copies += np.int64(keys[j] == key) * np.int64(np.int64(code[j] & 1) == second)
        own = mine - _U(lo)
        tied = one * _in_half(second, places[own], equals[own], below_first)
        both = tied + one * copies
        more = both * (both + one) - tied * (tied + one)
        more_both += more
        more_second += one * second * more
    return 3 * (more_both - more_second), 3 * more_second


@jit
def _ties_of_many_in(
    half, keys, code, lo, hi, suspect, places, equals, below_first, n, one, slots, spare
):
    """Return what ``_ties_of_many`` does, of the cells of a half."""
    mine, at, equal = spare
    n_mine = n_suspects = s = np.int64(0)
    for j in range(lo, hi):
        is_suspect = s < n and np.int64(suspect[_U(s)]) == j
        if np.int64(code[_U(j)] & 1) == half:
            own = _U(j - lo)
            mine[_U(n_mine)] = keys[_U(j)]
            equal[_U(n_mine)] = _in_half(half, places[own], equals[own], below_first)
            if is_suspect:
                at[_U(n_suspects)] = n_mine
                n_suspects += 1
            n_mine += 1
        s += np.int64(is_suspect)
    bits = mine.view(np.uint64)
    return _ties_of_many(mine, bits, np.int64(0), n_mine, at, equal, n_suspects, one, slots)


@jit
def rank_halves(
    block, totals, codes, is_counts, bounds, in_first, table, half, ties, one, variant, out, sums, z
):
    """Test groups of cells as ``rank_groups`` does, sum their halves, and test these.

    Parameters
    ----------
    block, totals, is_counts, bounds, table, one, variant, out
        As for ``rank_groups``.
    codes : ndarray (cells,), uint8
        Bit k: whether the cell is in the second half of way k.
    in_first : ndarray (codes, 8), float64
        Of :data:`IN_FIRST` as many as there are codes.
    half : HalfTable
        Halves of the controls.
    ties : pair of ndarray (genes,), (half, genes)
        Those of all controls, and of each half, as integers or as floats.
    sums : ndarray (groups, genes, N_SUMS), float64
        Filled.
    z : ndarray (2, groups, genes), float32
        Filled: the signed statistic of each half of the first way.
    """
    n_genes, n_cells = block.shape
    n_groups = len(bounds) - 1
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    bits = keys.view(np.uint64)
    logs = np.empty(n_cells + 1, np.float64)
    code = np.empty(n_cells + 1, np.uint8)
    bins = np.empty(len(in_first), np.float64)
    ends = np.zeros(n_groups + 1, np.int64)
    n_second = np.zeros(n_groups, np.int64)
    for q in range(n_groups):
        for i in range(_U(bounds[q]), _U(bounds[q + 1])):
            n_second[q] += np.int64(codes[i] & 1)
    scratch = _scratch(bounds)
    _, suspect, places, equals, slots = scratch
    spare = np.empty(len(suspect)), np.empty_like(suspect), np.empty_like(equals)
    touched = np.int64(0)
    for g in range(n_genes):
        for q in range(n_groups):
            ends[q + 1] = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, ends[q]
            )
        for j in range(_U(ends[n_groups])):
            code[j] = codes[_U(index[j])]
        _logs(keys, ends[n_groups], is_counts, logs)
        controls, zeros = _of_gene(table, g)
        below = controls[1]
        below_first = half.below_first[table.value_start[g] : table.value_start[g + 1]]
        touched += _touch(controls[0], below, controls[2])
        for q in range(n_groups):
            lo, hi = ends[q], ends[q + 1]
            n_group = bounds[q + 1] - bounds[q]
            twice_u, tied, n = _rank_sum(
                keys, bits, lo, hi, n_group, controls, zeros, ties[0][g], one, scratch
            )
            cell = out[q, g]
            cell.u_statistic, cell.z, cell.p_value = _finish(
                float(twice_u), float(tied), n_group, table.n_control, variant
            )
            total, log_sum = _sums(keys, lo, hi, is_counts)
            cell.sum_log1p, cell.sum_normalized, cell.n_expressed = log_sum, total, hi - lo
            _sum_halves(keys, logs, code, in_first, bins, lo, hi, is_counts, sums[q, g])
            first, second, in_second = _rank_halves(
                code, lo, hi, places, equals, below, below_first, one
            )
            if n <= _FEW:
                more_first, more_second = _ties_of_few_in_halves(
                    keys, code, lo, suspect, places, equals, below_first, n, one
                )
            else:
                more_first = _ties_of_many_in(
                    np.int64(0),
                    keys,
                    code,
                    lo,
                    hi,
                    suspect,
                    places,
                    equals,
                    below_first,
                    n,
                    one,
                    slots,
                    spare,
                )
                more_second = _ties_of_many_in(
                    np.int64(1),
                    keys,
                    code,
                    lo,
                    hi,
                    suspect,
                    places,
                    equals,
                    below_first,
                    n,
                    one,
                    slots,
                    spare,
                )
            for h in range(2):
                found, more = (second, more_second) if h else (first, more_first)
                n_half = n_second[q] if h else n_group - n_second[q]
                nonzero = in_second if h else hi - lo - in_second
                twice_u, tied = _with_zeros(
                    found[0], found[1] + more, nonzero, n_half, half.zeros[h, g], ties[1][h, g], one
                )
                _, z[h, q, g], _, _ = _signed(
                    float(twice_u), float(tied), n_half, half.n_cells[h], variant
                )
    return touched  # so that it is not optimised away
