"""What the test leaves of halves of the cells: of one tile, in the same pass as all of them.

Beside the file of a tile's statistics there is one of its halves, in the same layout: all fields
are float32, and row 0 belongs to the controls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pertscale.execution.buffers import Buffers
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.half_groups import (
    FIRST_HALVES,
    N_SUMS,
    NORMALIZED,
    NORMALIZED_FIRST,
    SQUARES,
    TOTAL,
)
from pertscale.stats.differential._kernels.kernel import PreparedControls
from pertscale.stats.differential.half_cells import Halves, half_sizes

#: Suffix of the file beside that of a tile.
SUFFIX = ".halves"
#: Way whose halves are tested; profiles are kept of all.
TESTED = 0
N_HALVES = 2
#: Scratch per cell of a window, beside the test of all cells.
HALVES_ROW_BYTES = 9
#: The same per cell of the largest group.
HALVES_GROUP_BYTES = 16
#: Bytes of prepared halves per control that is not zero.
HALVES_CONTROL_BYTES = 4


def half_dtype(n_seeds: int) -> np.dtype:
    """Return what is kept per (perturbation, gene).

    ``variance``: of log1p expression over all cells; ``mean_<k>``: mean of it over the first half
    of way k; of each half of the first way ``z_<half>``, and ``change_<half>``, whose sign is the
    direction of a label. NaN where a perturbation has no halves.
    """
    names = [
        "variance",
        *(f"mean_{k}" for k in range(n_seeds)),
        *(f"{name}_{half}" for half in range(N_HALVES) for name in ("z", "change")),
    ]
    return np.dtype([(name, "f4") for name in names])


class Window(NamedTuple):
    """Perturbations that are tested at once: some of a tile, rows ``start:stop`` of the screen."""

    first: int  # position in the tile
    start: int
    stop: int
    groups: np.ndarray  # rows of Screen.groups
    bounds: np.ndarray  # int64 (groups + 1): their cells, from 0 on
    most_cells: int  # as kernels take it


class HalfControls(NamedTuple):
    """Halves of the controls of a block of genes."""

    prepared: Any  # as kernels take it
    means: np.ndarray  # (half, 1, genes): what directions are from
    row: np.ndarray  # half_dtype (1, genes): what is kept of the controls


class HalfTests:
    """Sums and tests halves of the cells of a block of genes.

    Parameters
    ----------
    halves : Halves
    kernel : str
        Name in ``KERNELS``.
    totals : ndarray (cells,), float64
        Of the screen's cells.
    is_counts : bool
    variant : int
        Code of the statistic, as kernels take it.
    arithmetic : bool
        Whether the direction of a label is that of the mean of normalised counts.
    """

    def __init__(
        self,
        halves: Halves,
        *,
        kernel: str,
        totals: np.ndarray,
        is_counts: bool,
        variant: int,
        arithmetic: bool,
    ) -> None:
        self._halves, self._kernel, self._totals = halves, KERNELS[kernel], totals
        self._is_counts, self._variant, self._arithmetic = is_counts, variant, arithmetic
        self.n_seeds = halves.n_seeds
        #: What prepared controls depend on, beside the screen.
        self.key = halves.n_seeds, halves.min_cells, arithmetic
        self.dtype = half_dtype(halves.n_seeds)

    def prepare(
        self,
        block: np.ndarray,
        start: int,
        group: int,
        controls: PreparedControls,
        buffers: Buffers,
        scratch: Buffers,
    ) -> HalfControls:
        """Halve the controls, a group, rows `start` on; `buffers` keep what is prepared."""
        stop = start + block.shape[1]
        totals, codes = self._totals[start:stop], self._codes(start, stop)
        row = buffers.take("row", (1, len(block)), self.dtype)
        sums = scratch.take("sums", (1, len(block), N_SUMS), np.float64)
        bounds = np.array([0, block.shape[1]])
        self._kernel.sum_halves(
            block,
            totals,
            codes,
            bounds,
            n_seeds=self.n_seeds,
            is_counts=self._is_counts,
            sums=sums,
        )
        sizes = half_sizes(codes, bounds, self.n_seeds)
        _moments(sums, sizes, self._halves.halved[[group]], row)
        prepared = self._kernel.prepare_halves(
            block, totals, codes, controls, is_counts=self._is_counts, take=buffers.take
        )
        for half in range(N_HALVES):
            row[f"z_{half}"] = row[f"change_{half}"] = 0
        return HalfControls(prepared, self._means(sums, sizes).copy(), row)

    def test(
        self,
        controls: PreparedControls,
        halves: HalfControls,
        buffers: Buffers,
        block: np.ndarray,
        window: Window,
        statistics: np.ndarray,
    ) -> np.ndarray:
        """Test the perturbations of a window, (genes, cells), sum and test their halves.

        `statistics`, (perturbations, genes), are filled with those of all cells.

        Returns
        -------
        ndarray (perturbations, genes)
            Of :func:`half_dtype`; the next call overwrites it.
        """
        shape = len(window.groups), len(block)
        codes, halved = self._codes(window.start, window.stop), self._halves.halved[window.groups]
        out = buffers.take("halves", shape, self.dtype)
        sums = buffers.take("sums", (*shape, N_SUMS), np.float64)
        z = buffers.take("z", (N_HALVES, *shape), np.float32)
        self._kernel.test_halves(
            block,
            self._totals[window.start : window.stop],
            codes,
            window.bounds,
            controls,
            halves.prepared,
            n_seeds=self.n_seeds,
            is_counts=self._is_counts,
            variant=self._variant,
            most_cells=window.most_cells,
            out=statistics,
            sums=sums,
            z=z,
        )
        sizes = half_sizes(codes, window.bounds, self.n_seeds)
        _moments(sums, sizes, halved, out)
        changes = self._means(sums, sizes) - halves.means
        for half in range(N_HALVES):
            out[f"z_{half}"] = np.where(halved[:, None], z[half], np.nan)
            out[f"change_{half}"] = np.where(halved[:, None], changes[half], np.nan)
        return out

    def _codes(self, start: int, stop: int) -> np.ndarray:
        return np.array(self._halves.codes[start:stop])

    def _means(self, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the means that directions are of, (half, groups, genes)."""
        whole, first = (
            (NORMALIZED, NORMALIZED_FIRST) if self._arithmetic else (TOTAL, FIRST_HALVES + TESTED)
        )
        of_halves = np.stack([sums[..., first], sums[..., whole] - sums[..., first]])
        return of_halves / np.maximum(sizes[TESTED], 1)[..., None]


def _moments(sums: np.ndarray, sizes: np.ndarray, halved: np.ndarray, out: np.ndarray) -> None:
    """Fill the variances and the means of the first halves, from sums (groups, genes, N_SUMS)."""
    n = sizes[0].sum(axis=0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # of one cell there is no variance
        spread = np.maximum(sums[..., SQUARES] - sums[..., TOTAL] ** 2 / n, 0)
        out["variance"] = np.where(n > 1, spread / (n - 1), np.nan)
        for seed in range(len(sizes)):
            mean = sums[..., FIRST_HALVES + seed] / sizes[seed, 0][:, None]
            out[f"mean_{seed}"] = np.where(halved[:, None], mean, np.nan)


def pair_bytes(n_seeds: int) -> int:
    """Return the bytes per (perturbation, gene) of a window, beside the test of all cells."""
    sums, z = N_SUMS * np.dtype(np.float64).itemsize, N_HALVES * np.dtype(np.float32).itemsize
    return half_dtype(n_seeds).itemsize + sums + z + 4 * np.dtype(np.float64).itemsize
