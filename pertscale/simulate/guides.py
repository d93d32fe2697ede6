"""What the guides of a perturbation do differently: how far they knock down, and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pertscale.simulate.effects import Effects

#: Standard deviation of the log2 difference of each of two guides from their middle: on the target,
#: and on the few genes that a guide hits besides.
TARGET_SD = 0.4
OFF_TARGET_SD = 0.5
#: Share of the genes that the guides of a perturbation hit differently.
_OFF_TARGET_SHARE = 0.002


@dataclass(frozen=True)
class Guides:
    """Genes in which the two guides of a condition differ, as rows of a sparse matrix.

    Attributes
    ----------
    start
        Where the genes of each condition begin and end, (condition + 1,); control has none.
    gene
        Columns, (entry,), int32.
    factor
        What the first and the second guide multiply a gene's mean by, (entry, 2), float32. The mean
        of both is 1, so that the true effect of the perturbation is that of its guides together.
    """

    start: NDArray[np.int64]
    gene: NDArray[np.int32]
    factor: NDArray[np.float32]


def draw_guides(effects: Effects, *, rng: np.random.Generator) -> Guides:
    """Draw the differences of the guides of the singles; those of doubles are the sums of two."""
    n_genes = effects.log2_effect.shape[2]
    singles = [_of_single(target, n_genes, rng) for target in effects.targets]
    doubles = [_sum(singles[first], singles[second]) for first, second in effects.pairs]
    rows = [(np.empty(0, np.int64), np.empty(0)), *singles, *doubles]
    log2 = np.concatenate([values for _, values in rows])
    both = 2.0 ** np.stack([log2, -log2], axis=1)
    return Guides(
        np.cumsum([0, *(len(genes) for genes, _ in rows)]),
        np.concatenate([genes for genes, _ in rows]).astype(np.int32),
        (both / both.mean(axis=1, keepdims=True)).astype(np.float32),
    )


Difference = tuple[NDArray[np.int64], NDArray[np.float64]]


def _of_single(target: int, n_genes: int, rng: np.random.Generator) -> Difference:
    """Genes, the target first, and the log2 difference of the first guide from the middle."""
    others = rng.choice(n_genes, max(1, round(_OFF_TARGET_SHARE * n_genes)), replace=False)
    genes = np.concatenate([[target], others[others != target]])
    sd = np.where(genes == target, TARGET_SD, OFF_TARGET_SD)
    return genes, sd * rng.standard_normal(len(genes))


def _sum(first: Difference, second: Difference) -> Difference:
    genes, at = np.unique(np.concatenate([first[0], second[0]]), return_inverse=True)
    total = np.zeros(len(genes))
    np.add.at(total, at, np.concatenate([first[1], second[1]]))
    return genes, total
