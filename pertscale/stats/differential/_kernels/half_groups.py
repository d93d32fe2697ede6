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
    _HASH,
    _bucket_of,
    _compress,
    _find,
    _finish,
    _of_gene,
    _power_of_two,
    _scratch,
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
def _sum_halves(keys, logs, codes, in_first, lo, hi, is_counts, out):
    """Fill the sums of one group, (N_SUMS,), from the keys, logs and codes ``lo:hi``."""
    total = squares = normalized = normalized_first = 0.0
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(_U(lo), _U(hi)):
        value = logs[j]
        key = keys[j]
        code = _U(codes[j])
        total += value
        squares += value * value
        normalized += key
        normalized_first += key * in_first[code, _U(0)]
        s0 += value * in_first[code, _U(0)]
        s1 += value * in_first[code, _U(1)]
        s2 += value * in_first[code, _U(2)]
        s3 += value * in_first[code, _U(3)]
        s4 += value * in_first[code, _U(4)]
        s5 += value * in_first[code, _U(5)]
        s6 += value * in_first[code, _U(6)]
        s7 += value * in_first[code, _U(7)]
    if is_counts:
        normalized *= 1e4
        normalized_first *= 1e4
    else:
        normalized = normalized_first = 0.0
        for j in range(_U(lo), _U(hi)):
            value = np.expm1(keys[j])
            normalized += value
            normalized_first += value * in_first[_U(codes[j]), _U(0)]
    out[0], out[1], out[2], out[3] = total, squares, normalized, normalized_first
    out[4], out[5], out[6], out[7] = s0, s1, s2, s3
    out[8], out[9], out[10], out[11] = s4, s5, s6, s7


@jit
def sum_halves(block, totals, codes, is_counts, bounds, in_first, sums):
    """Fill sums (groups, genes, N_SUMS) over the cells of a block; see :func:`rank_halves`."""
    n_genes, n_cells = block.shape
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    logs = np.empty(n_cells + 1, np.float64)
    code = np.empty(n_cells + 1, np.uint8)
    for g in range(n_genes):
        for q in range(len(bounds) - 1):
            n = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, np.int64(0)
            )
            for j in range(_U(n)):
                code[j] = codes[_U(index[j])]
            _logs(keys, n, is_counts, logs)
            _sum_halves(keys, logs, code, in_first, np.int64(0), n, is_counts, sums[q, g])


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
def _look_up_halves(keys, bits, code, lo, hi, controls, below_first, one, seen, suspects):
    """Look every key of a group up among all controls, and among those of its own half.

    Returns what ``_look_up`` does, of all cells, and the first two for each half. `suspects` are
    positions, and numbers of equal controls and of those in the same half.
    """
    value, below, bucket, base, shift, clustered = controls
    suspect, suspected, suspected_half = suspects
    words = _power_of_two((hi - lo + 3) // 4)  # 16 bits a key
    seen[:words] = 0
    mask = _U(64 * words - 1)
    down = _U(shift)
    last = np.int64(len(bucket) - 2)
    twice_u = twice_both = twice_second = np.int64(0)
    ties = ties_both = ties_second = 0 * one
    n = np.int64(0)
    for j in range(_U(lo), _U(hi)):
        key = keys[j]
        b = max(min(np.int64(bits[j] >> down) - base, last), np.int64(0))
        at = _find(key, value, bucket[_U(b)], bucket[_U(b + 1)], clustered)
        same = np.int64(value[at] == key)
        under = np.int64(below[at])
        equal = (np.int64(below[at + _U(1)]) - under) * same
        twice_u += 2 * under + equal
        tied = one * equal
        ties += tied * (tied + one)
        # of the own half: what the first has, or what it leaves
        second = np.int64(code[j] & 1)
        under_half = np.int64(below_first[at])
        equal_half = (np.int64(below_first[at + _U(1)]) - under_half) * same
        under_half += second * (under - 2 * under_half)
        equal_half += second * (equal - 2 * equal_half)
        twice_half = 2 * under_half + equal_half
        twice_both += twice_half
        twice_second += second * twice_half
        tied = one * equal_half
        tied *= tied + one
        ties_both += tied
        ties_second += one * second * tied
        h = ((bits[j] * _HASH) >> _U(40)) & mask
        word = seen[h >> _U(6)]
        suspect[_U(n)] = j
        suspected[_U(n)] = equal
        suspected_half[_U(n)] = equal_half
        n += np.int64((word >> (h & _U(63))) & _U(1))
        seen[h >> _U(6)] = word | (_U(1) << (h & _U(63)))
    first = twice_both - twice_second, 3 * (ties_both - ties_second)
    return (twice_u, 3 * ties), first, (twice_second, 3 * ties_second), n


@inline
def _ties_of_few_halves(keys, code, lo, suspects, n, one):
    """Return what ``_ties_of_few`` does, of all cells and of each half."""
    suspect, suspected, suspected_half = suspects
    more = more_both = more_second = 0 * one
    for s in range(_U(n)):
        mine = _U(suspect[s])
        key, half = keys[mine], code[mine] & 1
        copies = copies_half = np.int64(0)
        for j in range(_U(lo), mine):
            same = np.int64(keys[j] == key)
            copies += same
            copies_half += same * np.int64(code[j] & 1 == half)
        tied = one * suspected[s]
        both = tied + one * copies
        more += both * (both + one) - tied * (tied + one)
        tied = one * suspected_half[s]
        both = tied + one * copies_half
        of_half = both * (both + one) - tied * (tied + one)
        more_both += of_half
        more_second += one * np.int64(half) * of_half
    return 3 * more, 3 * (more_both - more_second), 3 * more_second


@inline
def _ties_of_many_in(half, keys, code, lo, hi, suspects, n, one, slots, spare):
    """Return what ``_ties_of_many`` does, of the cells of a half."""
    suspect, _, suspected_half = suspects
    mine, at, equal = spare
    n_mine = n_suspects = np.int64(0)
    s = np.int64(0)
    for j in range(_U(lo), _U(hi)):
        is_suspect = s < n and np.int64(suspect[_U(s)]) == np.int64(j)
        if np.int64(code[j] & 1) == half:
            mine[_U(n_mine)] = keys[j]
            if is_suspect:
                at[_U(n_suspects)] = n_mine
                equal[_U(n_suspects)] = suspected_half[_U(s)]
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
    in_first : ndarray (256, 8), float64
        :data:`IN_FIRST`.
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
    ends = np.zeros(n_groups + 1, np.int64)
    n_second = np.zeros(n_groups, np.int64)
    for q in range(n_groups):
        for i in range(_U(bounds[q]), _U(bounds[q + 1])):
            n_second[q] += np.int64(codes[i] & 1)
    seen, suspect, suspected, slots = _scratch(bounds)
    suspects = suspect, suspected, np.empty_like(suspected)
    spare = np.empty(len(suspect)), np.empty_like(suspect), np.empty_like(suspected)
    touched = np.int64(0)
    for g in range(n_genes):
        for q in range(n_groups):
            ends[q + 1] = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, ends[q]
            )
        n = ends[n_groups]
        for j in range(_U(n)):
            code[j] = codes[_U(index[j])]
        _logs(keys, n, is_counts, logs)
        controls, zeros = _of_gene(table, g)
        below_first = half.below_first[table.value_start[g] : table.value_start[g + 1]]
        touched += _touch(controls[0], controls[1], controls[2])
        for q in range(n_groups):
            lo, hi = ends[q], ends[q + 1]
            whole, first, second, n = _look_up_halves(
                keys, bits, code, lo, hi, controls, below_first, one, seen, suspects
            )
            if n <= _FEW:
                more, more_first, more_second = _ties_of_few_halves(
                    keys, code, lo, suspects, n, one
                )
            else:
                more = _ties_of_many(keys, bits, lo, hi, suspect, suspected, n, one, slots)
                more_first = _ties_of_many_in(
                    np.int64(0), keys, code, lo, hi, suspects, n, one, slots, spare
                )
                more_second = _ties_of_many_in(
                    np.int64(1), keys, code, lo, hi, suspects, n, one, slots, spare
                )
            cell = out[q, g]
            n_group = bounds[q + 1] - bounds[q]
            twice_u, tied = _with_zeros(
                whole[0], whole[1] + more, hi - lo, n_group, zeros, ties[0][g], one
            )
            cell.u_statistic, cell.z, cell.p_value = _finish(
                float(twice_u), float(tied), n_group, table.n_control, variant
            )
            total, log_sum = _sums(keys, lo, hi, is_counts)
            cell.sum_log1p, cell.sum_normalized, cell.n_expressed = log_sum, total, hi - lo
            _sum_halves(keys, logs, code, in_first, lo, hi, is_counts, sums[q, g])
            in_second = np.int64(0)
            for j in range(_U(lo), _U(hi)):
                in_second += np.int64(code[j] & 1)
            for h in range(2):
                found, more_half = (second, more_second) if h else (first, more_first)
                n_half = n_second[q] if h else n_group - n_second[q]
                nonzero = in_second if h else hi - lo - in_second
                twice_u, tied = _with_zeros(
                    found[0],
                    found[1] + more_half,
                    nonzero,
                    n_half,
                    half.zeros[h, g],
                    ties[1][h, g],
                    one,
                )
                _, z[h, q, g], _ = _finish(
                    float(twice_u), float(tied), n_half, half.n_cells[h], variant
                )
    return touched  # so that it is not optimised away
