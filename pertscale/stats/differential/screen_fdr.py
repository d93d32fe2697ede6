"""The screen-wide adjustment of p-values: ranges of p-values, sorted by tasks of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.execution.resources import Resources
from pertscale.execution.runner import run
from pertscale.screen import Screen, opened_screen
from pertscale.stats.differential.multiple_testing import (
    PValueRange,
    count_p_values,
    join_steps,
    sorted_steps,
)
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.tile_statistics import open_statistics, read_index
from pertscale.storage.atomic import atomic_path, remove

#: P-values that one task sorts, at most and at least: each task goes over all of them.
MAX_VALUES, FEWEST_VALUES = 4_000_000, 2**18
#: Bytes of a p-value in a task: itself, and a step with its adjusted value.
VALUE_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class RangeTask:
    """Descriptor of one range of the p-values of a context, `n_values` in all."""

    store: str
    fingerprint: str
    staging: str
    context: int
    min_cells: int
    within: PValueRange
    n_values: int
    out: str


def steps_file(staging: Path, context: int) -> Path:
    """File of the step function of one context."""
    return staging / f"screen-wide-{context}.npy"


def values_at_once(n_pairs: int, resources: Resources) -> int:
    """Return how many p-values a task sorts, so that those of a process fit into its memory."""
    fit = max(FEWEST_VALUES, resources.memory // resources.n_parallel // VALUE_BYTES)
    return max(1, min(MAX_VALUES, fit, -(-n_pairs // resources.n_threads)))


def write_steps(
    screen: Screen,
    staging: Path,
    options: RankSumOptions,
    resources: Resources,
    client: Any,
    *,
    quiet: bool,
) -> None:
    """Write the adjusted p-value over all tested pairs of a context as a step function (method B2).

    The statistics of the tiles and their index have to be there. Memory: :func:`values_at_once`.
    """
    for context in range(len(screen.contexts)):
        out = steps_file(staging, context)
        if out.exists():
            continue
        n_pairs = len(screen.context_groups(screen.contexts[context])) * screen.n_genes
        m, ranges = count_p_values(
            _p_values(screen, staging, context, options.min_cells),
            max_values=values_at_once(n_pairs, resources),
        )
        tasks = [
            RangeTask(
                store=screen.path,
                fingerprint=screen.fingerprint,
                staging=str(staging),
                context=context,
                min_cells=options.min_cells,
                within=within,
                n_values=m,
                out=f"{out.with_suffix('')}-{i:04d}.npy",
            )
            for i, within in enumerate(ranges)
        ]
        run(sort_range, tasks, label="screen-wide fdr", client=client, quiet=quiet)
        _save(out, join_steps([np.load(task.out) for task in tasks]))
        for task in tasks:
            remove(Path(task.out))


def sort_range(task: RangeTask) -> None:
    """Write the steps of one range, as if there were no larger p-values."""
    screen = opened_screen(task.store, task.fingerprint)
    p_values = _p_values(screen, Path(task.staging), task.context, task.min_cells)
    _save(Path(task.out), sorted_steps(p_values, task.within, task.n_values))


def _p_values(screen: Screen, staging: Path, context: int, min_cells: int) -> Iterator[np.ndarray]:
    """Yield the p-values of the tested perturbations of a context, tile by tile."""
    groups = screen.context_groups(screen.contexts[context]).iloc[1:]
    tested = screen.group_sizes[groups.index].to_numpy() >= min_cells
    for tile, path in read_index(str(staging)):
        if tile.context == context:
            p_values = open_statistics(path, tile)["p_value"][1:]
            keep = tested[tile.first : tile.last]
            yield p_values if keep.all() else p_values[keep]


def _save(path: Path, steps: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, steps)
