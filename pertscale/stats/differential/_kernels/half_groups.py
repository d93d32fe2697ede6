"""Halves of groups of cells, gene by gene: sums over several ways to halve, a test of the first.

Arrays only. Bit k of a cell's code says whether it is in the second half of way k, of
:data:`MOST_SEEDS` at most. Non-zero cells are found, and divided by their totals, once for all of
it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pertscale._jit import inline, jit
from pertscale.stats.differential._kernels.ranksum import (
    _compress,
    _finish,
    _of_gene,
    _rank_sum,
    _scratch,
    _touch,
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
def _sum_halves(keys, logs, index, codes, in_first, lo, hi, is_counts, out):
    """Fill the sums of one group, (N_SUMS,)."""
    total = squares = normalized = normalized_first = 0.0
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(_U(lo), _U(hi)):
        value = logs[j]
        key = keys[j]
        code = _U(codes[_U(index[j])])
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
            normalized_first += value * in_first[_U(codes[_U(index[j])]), _U(0)]
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
    for g in range(n_genes):
        for q in range(len(bounds) - 1):
            n = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, np.int64(0)
            )
            _logs(keys, n, is_counts, logs)
            _sum_halves(keys, logs, index, codes, in_first, np.int64(0), n, is_counts, sums[q, g])


@jit
def rank_halves(
    block, totals, codes, is_counts, bounds, in_first, tables, control_ties, one, variant, sums, z
):
    """Sum and test the halves of groups of cells.

    Parameters
    ----------
    block, totals, is_counts, bounds, one, variant
        As for ``rank_groups``.
    codes : ndarray (cells,), uint8
        Bit k: whether the cell is in the second half of way k.
    in_first : ndarray (256, 8), float64
        :data:`IN_FIRST`.
    tables : pair of ControlTable
        Of each half of the controls.
    control_ties : pair of ndarray (genes,)
        Those of the tables, as integers or as floats.
    sums : ndarray (groups, genes, N_SUMS), float64
        Filled.
    z : ndarray (2, groups, genes), float32
        Filled: the signed statistic of each half of the first way.
    """
    n_genes, n_cells = block.shape
    n_groups = len(bounds) - 1
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    logs = np.empty(n_cells + 1, np.float64)
    halves = np.empty((2, n_cells + 1), np.float64)
    ends = np.zeros((2, n_groups + 1), np.int64)
    sizes = np.zeros((2, n_groups), np.int64)
    for q in range(n_groups):
        for i in range(bounds[q], bounds[q + 1]):
            sizes[np.int64(codes[i]) & 1, q] += 1
    scratch = _scratch(bounds)
    touched = np.int64(0)
    for g in range(n_genes):
        n0 = n1 = np.int64(0)
        for q in range(n_groups):
            n = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, np.int64(0)
            )
            _logs(keys, n, is_counts, logs)
            _sum_halves(keys, logs, index, codes, in_first, np.int64(0), n, is_counts, sums[q, g])
            for j in range(_U(n)):
                second = np.int64(codes[_U(index[j])]) & np.int64(1)
                halves[0, _U(n0)] = halves[1, _U(n1)] = keys[j]
                n0 += np.int64(1) - second
                n1 += second
            ends[0, q + 1], ends[1, q + 1] = n0, n1
        for half in range(2):
            table = tables[half]
            controls, control_zeros = _of_gene(table, g)
            touched += _touch(controls[0], controls[1], controls[2])
            of_half = halves[half]
            bits = of_half.view(np.uint64)
            for q in range(n_groups):
                lo, hi, size = ends[half, q], ends[half, q + 1], sizes[half, q]
                twice_u, ties = _rank_sum(
                    of_half,
                    bits,
                    lo,
                    hi,
                    size,
                    controls,
                    control_zeros,
                    control_ties[half][g],
                    one,
                    scratch,
                )
                _, z[half, q, g], _ = _finish(
                    float(twice_u), float(ties), size, table.n_control, variant
                )
    return touched  # so that it is not optimised away
