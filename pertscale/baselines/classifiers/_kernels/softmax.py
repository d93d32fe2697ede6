"""Log losses of multinomial regressions, and what their Newton steps need of them.

Rows are gone through in loops without branches, whose sums are kept apart in lanes, so that
compilers do several rows at a time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pertscale._jit import inline, jit
from pertscale.baselines.classifiers._kernels.exponential import exp

_U, _F = np.uint64, np.float64
_LANES: Final = 64
#: Blocks of lanes whose partitions, up to 3 each, are multiplied before a logarithm is taken.
_BLOCKS: Final = 512


@inline
def _relative(score: float, top: float) -> Any:
    """Return e^(score - top), of a score up to `top`."""
    x = score - top
    return exp(x if x > -700.0 else -700.0)


@jit
def three_classes(
    contrasts: np.ndarray,
    codes: np.ndarray,
    scores: np.ndarray,
    slope: np.ndarray,
    curvature: np.ndarray,
    variance: np.ndarray,
    loss: np.ndarray,
) -> None:
    """Fill in the log loss of every gene and its derivatives by the scores.

    Parameters
    ----------
    contrasts : ndarray (genes, 3, 2)
        ``contrasts @ scores`` are log probabilities up to a constant.
    codes : ndarray (genes, rows), int8
        Class of every row, from 0; -1 without one.
    scores, slope : ndarray (genes, 2, rows)
    curvature : ndarray (genes, 3, rows)
        Second derivatives: by the first score, by both, by the second.
    variance : ndarray (genes, 2)
        Sums of the first and the last of these.
    loss : ndarray (genes,)
    """
    n = _U(codes.shape[1])
    partition, linear = np.empty(_LANES), np.empty(_LANES)
    first, second = np.empty(_LANES), np.empty(_LANES)
    for gene in range(_U(len(codes))):
        (a0, a1), (b0, b1), (c0, c1) = contrasts[gene]
        own = codes[gene]
        s0, s1 = scores[gene, 0], scores[gene, 1]
        g0, g1 = slope[gene, 0], slope[gene, 1]
        h00, h01, h11 = curvature[gene, 0], curvature[gene, 1], curvature[gene, 2]
        partition[:], linear[:], first[:], second[:] = 1.0, 0.0, 0.0, 0.0
        loss[gene] = 0.0
        blocks = 0
        for start in range(_U(0), n, _U(_LANES)):
            for lane in range(min(_U(_LANES), n - start)):
                i = start + lane
                code = own[i]
                in_a, in_b, in_c = _F(code == 0), _F(code == 1), _F(code == 2)
                tested = in_a + in_b + in_c
                u, v = s0[i], s1[i]
                a, b, c = a0 * u + a1 * v, b0 * u + b1 * v, c0 * u + c1 * v
                top = a if a > b else b
                top = c if c > top else top
                p, q, r = _relative(a, top), _relative(b, top), _relative(c, top)
                total = p + q + r
                share = np.divide(tested, total)
                p, q, r = p * share, q * share, r * share
                mean0, mean1 = a0 * p + b0 * q + c0 * r, a1 * p + b1 * q + c1 * r
                g0[i] = mean0 - (a0 * in_a + b0 * in_b + c0 * in_c)
                g1[i] = mean1 - (a1 * in_a + b1 * in_b + c1 * in_c)
                by_first = a0 * a0 * p + b0 * b0 * q + c0 * c0 * r - mean0 * mean0
                by_second = a1 * a1 * p + b1 * b1 * q + c1 * c1 * r - mean1 * mean1
                h00[i] = by_first
                h01[i] = a0 * a1 * p + b0 * b1 * q + c0 * c1 * r - mean0 * mean1
                h11[i] = by_second
                first[lane] += by_first
                second[lane] += by_second
                linear[lane] += tested * top - (a * in_a + b * in_b + c * in_c)
                partition[lane] *= 1.0 + tested * (total - 1.0)
            blocks += 1
            if blocks == _BLOCKS:
                loss[gene] += np.log(partition).sum()
                partition[:] = 1.0
                blocks = 0
        loss[gene] += np.log(partition).sum() + linear.sum()
        variance[gene, 0], variance[gene, 1] = first.sum(), second.sum()


@jit
def two_classes(
    contrasts: np.ndarray,
    codes: np.ndarray,
    scores: np.ndarray,
    slope: np.ndarray,
    curvature: np.ndarray,
    variance: np.ndarray,
    loss: np.ndarray,
) -> None:
    """Fill in the same of genes with two classes, whose scores are one; see `three_classes`.

    Parameters
    ----------
    contrasts : ndarray (genes, 2, 1)
    codes : ndarray (genes, rows), int8
    scores, slope, curvature : ndarray (genes, 1, rows)
    variance : ndarray (genes, 1)
    loss : ndarray (genes,)
    """
    n = _U(codes.shape[1])
    partition, linear, first = np.empty(_LANES), np.empty(_LANES), np.empty(_LANES)
    for gene in range(_U(len(codes))):
        a0, b0 = contrasts[gene, 0, 0], contrasts[gene, 1, 0]
        own, s0 = codes[gene], scores[gene, 0]
        g0, h00 = slope[gene, 0], curvature[gene, 0]
        partition[:], linear[:], first[:] = 1.0, 0.0, 0.0
        loss[gene] = 0.0
        blocks = 0
        for start in range(_U(0), n, _U(_LANES)):
            for lane in range(min(_U(_LANES), n - start)):
                i = start + lane
                code = own[i]
                in_a, in_b = _F(code == 0), _F(code == 1)
                tested = in_a + in_b
                a, b = a0 * s0[i], b0 * s0[i]
                top = a if a > b else b
                p, q = _relative(a, top), _relative(b, top)
                total = p + q
                share = np.divide(tested, total)
                p, q = p * share, q * share
                mean = a0 * p + b0 * q
                g0[i] = mean - (a0 * in_a + b0 * in_b)
                bent = a0 * a0 * p + b0 * b0 * q - mean * mean
                h00[i] = bent
                first[lane] += bent
                linear[lane] += tested * top - (a * in_a + b * in_b)
                partition[lane] *= 1.0 + tested * (total - 1.0)
            blocks += 1
            if blocks == _BLOCKS:
                loss[gene] += np.log(partition).sum()
                partition[:] = 1.0
                blocks = 0
        loss[gene] += np.log(partition).sum() + linear.sum()
        variance[gene, 0] = first.sum()


@jit
def bend(curvature: np.ndarray, moved: np.ndarray, bent: np.ndarray) -> None:
    """Multiply changes of the scores with the second derivatives.

    Parameters
    ----------
    curvature : ndarray (genes, 1 or 3, rows)
    moved, bent : ndarray (genes, 1 or 2, rows)
    """
    for gene in range(_U(len(moved))):
        h00, m0, to0 = curvature[gene, 0], moved[gene, 0], bent[gene, 0]
        if moved.shape[1] == 1:
            for i in range(_U(len(m0))):
                to0[i] = h00[i] * m0[i]
            continue
        h01, h11, m1, to1 = curvature[gene, 1], curvature[gene, 2], moved[gene, 1], bent[gene, 1]
        for i in range(_U(len(m0))):
            to0[i] = h00[i] * m0[i] + h01[i] * m1[i]
            to1[i] = h01[i] * m0[i] + h11[i] * m1[i]
