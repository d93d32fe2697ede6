"""How fast this machine labels a screen: a small real tile is decoded and tested."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from pertscale.diagnostics.stopwatch import Stopwatch
from pertscale.io.store.layout import CHUNK_GENES, CHUNK_ROWS
from pertscale.io.store.matrix import MatrixReader
from pertscale.schema import COUNTS
from pertscale.screen import open_screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, STATISTICS_DTYPE
from pertscale.stats.differential.multiple_testing import benjamini_hochberg
from pertscale.stats.differential.tiles import windows

#: What the probe reads at most: rows of controls and of perturbations, genes of a block.
_CONTROL_ROWS = 20 * CHUNK_ROWS
_ROWS = 8 * CHUNK_ROWS
_GENES = 64
#: Cost of a zero, which is only looked at, relative to the cost of another value.
ZERO_COST = 0.1
#: Pairs whose p-values are sorted and adjusted.
_PAIRS = 200_000


@dataclass(frozen=True)
class LabelRates:
    """CPU seconds of one thread.

    Attributes
    ----------
    per_byte : float
        To read and decode a byte of the matrix.
    per_control : float
        To sort a non-zero value of a control cell; a zero costs :data:`ZERO_COST` of that.
    per_value : float
        To test a non-zero value of a perturbed cell; a zero as above.
    per_pair : float
        To sort and adjust the p-value of a (perturbation, gene).
    slowdown : float
        Wall seconds per CPU second.
    """

    per_byte: float
    per_control: float
    per_value: float
    per_pair: float
    slowdown: float


@dataclass(frozen=True)
class ProbeCells:
    """Cells to test: controls, then some perturbations.

    Attributes
    ----------
    values : ndarray (genes, cells)
        Counts or log-normalised values; each gene contiguous.
    totals : ndarray (cells,)
        Total count of each cell.
    bounds : ndarray of int64
        Where each perturbation begins, the first one where the controls end; then the end.
    is_counts : bool
    """

    values: np.ndarray
    totals: np.ndarray
    bounds: np.ndarray
    is_counts: bool


def probe_labels(store: str, column: int, kernel: str) -> LabelRates:
    """Time a kernel's test of some perturbations on some genes of a column of chunks."""
    watch = Stopwatch()
    cells, n_bytes, seconds = _read(store, column, watch)
    return rates_of(cells, open_screen(store).n_genes, kernel, seconds / n_bytes, watch)


def rates_of(
    cells: ProbeCells, n_genes: int, kernel: str, per_byte: float, watch: Stopwatch
) -> LabelRates:
    """Time the test of cells that are in memory; `n_genes` are those of the screen."""
    n_control, is_counts = int(cells.bounds[0]), cells.is_counts
    controls = np.ascontiguousarray(cells.values[:, :n_control])
    perturbed = np.ascontiguousarray(cells.values[:, n_control:])
    totals = np.asarray(cells.totals[:n_control], np.float64)
    sort = partial(KERNELS[kernel].prepare_controls, controls, totals, is_counts=is_counts)
    per_control = watch.time(sort, repeat=2) / _weight(controls)
    out = np.empty((len(cells.bounds) - 1, len(perturbed)), STATISTICS_DTYPE)
    test = partial(
        KERNELS[kernel].test,
        perturbed,
        np.asarray(cells.totals[n_control:], np.float64),
        cells.bounds - n_control,
        sort(),
        is_counts=is_counts,
        variant=MANN_WHITNEY,
        most_cells=n_control + int(np.diff(cells.bounds).max()),
        out=out,
    )
    per_value = watch.time(test, repeat=2) / _weight(perturbed)
    p_values = np.resize(out["p_value"], (max(1, _PAIRS // n_genes), n_genes))
    per_pair = watch.time(partial(benjamini_hochberg, p_values), repeat=2) / p_values.size
    return LabelRates(per_byte, per_control, per_value, per_pair, watch.slowdown)


def _weight(values: np.ndarray) -> float:
    return int(np.count_nonzero(values)) + ZERO_COST * values.size


def _read(store: str, column: int, watch: Stopwatch) -> tuple[ProbeCells, int, float]:
    """Read the controls and some perturbations of the largest context; time the decoding."""
    screen = open_screen(store)
    context = str(screen.group_sizes.groupby(screen.groups["context"]).sum().idxmax())
    start, first = screen.control_rows(context)
    groups = screen.context_groups(context).iloc[1:]
    starts, stops = groups["start"].to_numpy(), groups["stop"].to_numpy()
    _, last = windows(starts, stops, _ROWS, len(starts))[0]
    bounds, end = np.append(starts[:last], stops[last - 1]), int(stops[last - 1])
    start = max(start, first - _CONTROL_ROWS)
    genes = column * CHUNK_GENES
    stop = min(genes + _GENES, screen.n_genes)
    MatrixReader(store, gene_start=genes, gene_stop=stop).read(start, start + 1)  # opened once
    reader = MatrixReader(store, gene_start=genes, gene_stop=stop)
    blocks: list[np.ndarray] = []
    seconds = watch.time(lambda: blocks.append(reader.read(start, end)), warm=False)
    totals = screen.totals[start:end]
    cells = ProbeCells(blocks[0], totals, bounds.astype(np.int64) - start, screen.scale == COUNTS)
    return cells, reader.bytes_read, seconds
