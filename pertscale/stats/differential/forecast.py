"""What a rank-sum run would do: tiles, bytes, and seconds by measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pertscale.execution.resources import Resources
from pertscale.io.store.layout import CHUNK_GENES, CHUNK_ROWS
from pertscale.schema import PSEUDOBULK_VARIABLES
from pertscale.screen import Screen
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.half_tiles import half_dtype
from pertscale.stats.differential.null_cells import null_tests
from pertscale.stats.differential.null_tiles import DTYPE as NULLS_DTYPE
from pertscale.stats.differential.rank_sum import RankSumRun
from pertscale.stats.differential.screen_fdr import VALUE_BYTES, values_at_once
from pertscale.stats.differential.table_parts import PART_PAIRS, part_bytes, parts_at_once
from pertscale.stats.differential.tile_plan import plan_of, read_plan
from pertscale.stats.differential.tiles import Tile, TilePlan
from pertscale.stats.differential.timing import ZERO_COST, LabelRates

#: Bytes of a pair in the label table's files, as measured (`io.tables.pairs_file`).
LABEL_BYTES = 36
#: Cost of a pair until it is in the label table (adjusted over its perturbation and over the
#: screen, looked up, encoded, written), relative to the cost of sorting and adjusting it.
_PART_COST = 8.0
#: Cost of summing and testing halves of the cells, relative to the test of all.
HALVES_COST = 1.5
#: CPU seconds of a task beside its data, and of a call beside its tasks.
_TASK_SECONDS = 0.01
_CALL_SECONDS = 0.6
#: How much longer tiles and parts take in parallel than alone, as measured.
_CROWDED = 1.2


@dataclass(frozen=True, kw_only=True)
class LabelForecast:
    """What is left to do of one screen's labels.

    Attributes
    ----------
    plan : TilePlan
        All tiles, as the run cuts them or has cut them.
    tiles : tuple of Tile
        Those that were not tested yet.
    finished : bool
        Whether the label table is there.
    n_pairs : int
        (perturbation, gene) pairs with the controls', in all.
    bytes_read : int
        Decoded bytes of the matrix that the missing tiles read. With several threads or workers
        controls may be read again a few times.
    seconds : float
        CPU seconds of one thread.
    peak_bytes : int
        What the tasks of a process hold together at most: tiles, ranges of p-values, or parts.
    replicates : int
        Ways in which cells are halved in the same pass.
    n_null_pairs : int
        Tests of controls against controls, times genes.
    """

    plan: TilePlan
    tiles: tuple[Tile, ...]
    finished: bool
    n_pairs: int
    bytes_read: int
    seconds: float
    peak_bytes: int
    replicates: int = 0
    n_null_pairs: int = 0

    @property
    def n_parts(self) -> int:
        """Tasks that write the label table."""
        return 0 if self.finished else -(-self.n_pairs // PART_PAIRS)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the tiles' statistics, which are gone when the table is there."""
        of_halves = half_dtype(self.replicates).itemsize if self.replicates else 0
        if self.finished:
            return 0
        return self.n_pairs * (STATISTICS_DTYPE.itemsize + of_halves) + self._null_bytes

    @property
    def bytes_written(self) -> int:
        """Bytes of label table, pseudobulk, halves and tests of controls, at most."""
        profiles = sum(
            np.dtype(v.dtype).itemsize for v in PSEUDOBULK_VARIABLES if v.name != "n_cells"
        )
        of_halves = _half_bytes(self.replicates) if self.replicates else 0
        if self.finished:
            return 0
        return self.n_pairs * (LABEL_BYTES + profiles + of_halves) + self._null_bytes

    @property
    def _null_bytes(self) -> int:
        return self.n_null_pairs * NULLS_DTYPE.itemsize


def _half_bytes(replicates: int) -> int:
    """Bytes of a pair in the halves: a mean of each way, a variance, labels and statistics."""
    return 4 * replicates + 4 + 2 * (1 + 4)


def tiles_left(
    label_run: RankSumRun, resources: Resources, densities: Sequence[float]
) -> tuple[TilePlan, list[Tile]]:
    """Return the tiles of a run as it would cut them now, and those that were not tested yet.

    Raises
    ------
    MemoryBudgetError
        If not even the narrowest tile fits.
    """
    kept = read_plan(label_run.staging)
    room = resources.memory // max(1, resources.n_parallel)
    follows = kept is not None and kept.tile_bytes <= room
    plan = (
        kept
        if kept is not None and follows
        else plan_of(
            label_run.screen,
            resources,
            kernel=label_run.options.kernel,
            n_seeds=label_run.replicates,
            min_cells=label_run.options.min_cells,
            densities=densities,
        )
    )
    tasks = label_run.tasks(plan)
    missing = [task.tile for task in tasks if not (follows and task.is_done)]
    return plan, [] if label_run.is_finished(content=False) else missing


def forecast_rank_sum(
    label_run: RankSumRun,
    resources: Resources,
    densities: Sequence[float],
    rates: LabelRates | None,
) -> LabelForecast:
    """Say what a run would do with its screen; without rates no seconds are estimated."""
    plan, missing = tiles_left(label_run, resources, densities)
    screen, finished = label_run.screen, label_run.is_finished(content=False)
    n_pairs = len(screen.groups) * screen.n_genes
    itemsize = np.dtype(screen.info["dtype"]).itemsize
    chunk_bytes = CHUNK_ROWS * CHUNK_GENES * itemsize
    halved = 1 + (HALVES_COST if label_run.replicates else 0.0)
    chunks, seconds, seen = 0, 0.0, set()
    for tile in missing:
        block = tile.context, tile.gene_start, tile.gene_stop
        control, perturbed = _rows(screen, tile)
        here = _chunks(perturbed) if block in seen else _chunks_of_both(control, perturbed)
        chunks += here
        if rates is not None:
            density = densities[tile.gene_start // CHUNK_GENES]
            weight = (density + ZERO_COST) * tile.shape[1]
            n_control = 0 if block in seen else control[1] - control[0]
            seconds += (
                here * chunk_bytes * rates.per_byte
                + n_control * weight * rates.per_control
                + (perturbed[1] - perturbed[0]) * weight * rates.per_value * halved
                + _TASK_SECONDS
            )
        seen.add(block)
    if rates is not None and not finished:
        seconds += n_pairs * rates.per_pair * _PART_COST
        seconds = _CALL_SECONDS + seconds * _CROWDED
    peak = _peak_bytes(plan, screen.n_genes, n_pairs, resources)
    return LabelForecast(
        plan=plan,
        tiles=tuple(missing),
        finished=finished,
        n_pairs=n_pairs,
        bytes_read=chunks * chunk_bytes,
        seconds=seconds,
        peak_bytes=peak,
        replicates=label_run.replicates,
        n_null_pairs=_null_pairs(label_run),
    )


def _null_pairs(label_run: RankSumRun) -> int:
    if not label_run.replicates:
        return 0
    return len(null_tests(label_run.screen, label_run.options.min_cells)) * label_run.screen.n_genes


def _peak_bytes(plan: TilePlan, n_genes: int, n_pairs: int, resources: Resources) -> int:
    """Bytes of the maps over tiles, ranges of p-values and parts, whichever needs most."""
    return max(
        resources.n_parallel * plan.tile_bytes,
        resources.n_parallel * values_at_once(n_pairs, resources) * VALUE_BYTES,
        parts_at_once(n_genes, resources) * part_bytes(n_genes),
    )


def _rows(screen: Screen, tile: Tile) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows of the controls and of the perturbations of a tile."""
    context = screen.contexts[tile.context]
    groups = screen.context_groups(context)
    first, last = groups.iloc[1 + tile.first], groups.iloc[tile.last]
    return screen.control_rows(context), (int(first["start"]), int(last["stop"]))


def _chunks(rows: tuple[int, int]) -> int:
    return -(-rows[1] // CHUNK_ROWS) - rows[0] // CHUNK_ROWS


def _chunks_of_both(control: tuple[int, int], perturbed: tuple[int, int]) -> int:
    """Chunks of the controls, then of the perturbations: one that holds both is decoded once."""
    shared = (control[1] - 1) // CHUNK_ROWS == perturbed[0] // CHUNK_ROWS
    return _chunks(control) + _chunks(perturbed) - shared
