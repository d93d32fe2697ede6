"""Groups of controls against the other controls, gene by gene.

Arrays only. A control's mid-rank among all controls is looked up once. The U of some of them
against all controls is the sum of theirs; against the others it is less by half of their squared
number, which is what they are worth among themselves. The ties are those of all controls.
"""

from __future__ import annotations

import numpy as np

from pertscale._jit import inline, jit
from pertscale.stats.differential._kernels.ranksum import _bucket_of, _find, _of_gene, _signed

_U = np.uint64


@inline
def _ranks(row, totals, is_counts, controls, zeros, ranks):
    """Fill twice the number of controls below each control, ties half."""
    value, below, bucket, base, shift, clustered = controls
    last = np.int64(len(bucket) - 2)
    for i in range(_U(len(row))):
        if row[i] == 0:
            ranks[i] = zeros
        else:
            key = np.float64(row[i])
            if is_counts:
                key = row[i] / totals[i]
            b = _bucket_of(np.float64(key).view(np.int64), base, shift, last)
            at = _find(key, value, bucket[_U(b)], bucket[_U(b + 1)], clustered)
            under = np.int64(below[at])
            ranks[i] = 2 * zeros + under + np.int64(below[at + _U(1)])


@jit
def rank_chosen(block, totals, is_counts, bounds, chosen, table, control_ties, one, variant, z):
    """Test groups of controls against the others.

    Parameters
    ----------
    block, totals, is_counts
        The controls, (genes, cells), as the table was made from.
    bounds, chosen : ndarray, int64 (groups + 1) and int32
        The cells of group q are the columns ``chosen[bounds[q]:bounds[q + 1]]``.
    table, control_ties, one, variant
        As for ``rank_groups``.
    z : ndarray (groups, genes), float32
        Filled: the signed statistic; NaN for genes that no control expresses.
    """
    n_genes, n_cells = block.shape
    ranks = np.empty(n_cells, np.int64)
    for g in range(n_genes):
        controls, zeros = _of_gene(table, g)
        if zeros == n_cells:
            z[:, g] = np.nan
            continue
        _ranks(block[g], totals, is_counts, controls, zeros, ranks)
        tied = one * zeros
        ties = control_ties[g] + (tied * tied * tied - tied)
        for q in range(len(bounds) - 1):
            twice_u = np.int64(0)
            for j in range(_U(bounds[q]), _U(bounds[q + 1])):
                twice_u += ranks[_U(chosen[j])]
            n = bounds[q + 1] - bounds[q]
            _, z[q, g], _, _ = _signed(
                float(twice_u - n * n), float(ties), n, table.n_control - n, variant
            )
