"""What a rank-sum run is asked to do; part of every result's record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pertscale.errors import ArgumentError
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, SCANPY, SCANPY_TIE

TESTS = {"mannwhitney": MANN_WHITNEY, "scanpy": SCANPY, "scanpy_tie": SCANPY_TIE}
Test = Literal["mannwhitney", "scanpy", "scanpy_tie"]
FoldChange = Literal["geometric", "arithmetic"]


@dataclass(frozen=True)
class RankSumOptions:
    """Options of :func:`pertscale.stats.rank_sum` that change its result.

    Attributes
    ----------
    test : {'mannwhitney', 'scanpy', 'scanpy_tie'}
        Variant of the statistic (method B1).
    fdr : float
        A gene is differentially expressed where its adjusted p-value is below this (method B2).
    fold_change : {'geometric', 'arithmetic'}
        Log2 ratio of expm1 of the mean log1p, or of the means of normalised counts (method B3); its
        sign is the direction of the label.
    min_cells : int
        Perturbations with fewer cells are not tested (method B5).
    kernel : str
        What tests the cells, a name of ``KERNELS``.
    """

    test: Test = "mannwhitney"
    fdr: float = 0.01
    fold_change: FoldChange = "geometric"
    min_cells: int = 2
    kernel: str = "cpu"

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise ArgumentError(f"test={self.test!r} is not one of {', '.join(TESTS)}")
        if self.fold_change not in get_args(FoldChange):
            allowed = ", ".join(get_args(FoldChange))
            raise ArgumentError(f"fold_change={self.fold_change!r} is not one of {allowed}")
        if self.kernel not in KERNELS:
            raise ArgumentError(f"kernel={self.kernel!r} is not one of {', '.join(KERNELS)}")
        if not 0 < self.fdr <= 1:
            raise ArgumentError(f"fdr={self.fdr} has to lie above 0 and at most at 1")
        if self.min_cells < 2:
            raise ArgumentError(
                f"min_cells={self.min_cells}: the rank-sum test needs at least 2 cells a group"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain values, for manifests and hashes.

        A kernel is named only where its results are not the same bytes as those of the others.
        """
        options = asdict(self)
        if KERNELS[self.kernel].bit_equal:
            del options["kernel"]
        return options
