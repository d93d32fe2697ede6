"""Which cell has which context, perturbation, batch and guide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: What the file calls its controls: the spelling of most published screens.
CONTROL_LABEL = "non-targeting"
#: Each condition gets at least this many cells in each context.
MIN_CELLS = 5
GUIDES_PER_CONDITION = 2

_SIZE_SD = 0.55  # of the log number of cells per perturbation
_CELLS_PER_BATCH = 10_000


@dataclass(frozen=True)
class Cells:
    """Codes of every cell, in the order of the file, each (cell,) int32; 0 is control."""

    context: NDArray[np.int32]
    condition: NDArray[np.int32]
    batch: NDArray[np.int32]
    guide: NDArray[np.int32]

    def part(self, at: slice) -> Cells:
        """Return some of the cells."""
        return Cells(self.context[at], self.condition[at], self.batch[at], self.guide[at])


def cells_per_context(n_cells: int, n_contexts: int) -> NDArray[np.int64]:
    """Share the cells out evenly; the first contexts get the remainder."""
    return n_cells // n_contexts + (np.arange(n_contexts) < n_cells % n_contexts)


def n_control_cells(n_cells: int, control_fraction: float) -> int:
    """Control cells among the ``n_cells`` of a context."""
    return max(MIN_CELLS, round(control_fraction * n_cells))


def draw_cells(
    n_cells: int,
    *,
    n_contexts: int,
    n_conditions: int,
    control_fraction: float,
    rng: np.random.Generator,
) -> Cells:
    """Draw the sizes of the groups and shuffle the cells. Memory: about 40 bytes per cell.

    ``n_conditions`` counts the control.
    """
    sizes = np.stack(
        [
            _group_sizes(int(n), n_conditions - 1, control_fraction, rng)
            for n in cells_per_context(n_cells, n_contexts)
        ]
    )
    group = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes.ravel())
    rng.shuffle(group)
    context, condition = np.divmod(group, np.int32(n_conditions))
    batch = rng.integers(0, batches_per_context(n_cells, n_contexts), n_cells, dtype=np.int32)
    guide = rng.integers(0, GUIDES_PER_CONDITION, n_cells, dtype=np.int32)
    return Cells(context, condition, batch, guide)


def batches_per_context(n_cells: int, n_contexts: int) -> int:
    """At least two, and about 10,000 cells each, as one lane of an instrument holds."""
    return max(2, round(n_cells / n_contexts / _CELLS_PER_BATCH))


def _group_sizes(
    n_cells: int, n_perturbed: int, control_fraction: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Cells of the control and of each perturbation; log-normal, adding up to ``n_cells``."""
    n_control = n_control_cells(n_cells, control_fraction)
    weight = np.exp(_SIZE_SD * rng.standard_normal(n_perturbed))
    spare = n_cells - n_control - MIN_CELLS * n_perturbed
    share = spare * weight / weight.sum()
    sizes = np.floor(share).astype(np.int64)
    largest_remainder = np.argsort(sizes - share, kind="stable")
    sizes[largest_remainder[: spare - sizes.sum()]] += 1
    return np.concatenate([[n_control], sizes + MIN_CELLS])


def obs_table(
    cells: Cells,
    *,
    contexts: tuple[str, ...],
    perturbations: tuple[str, ...],
) -> pd.DataFrame:
    """``obs`` of the file: four categorical columns, indexed by the name of the cell."""
    conditions = [CONTROL_LABEL, *perturbations]
    n_cells, n_contexts = len(cells.condition), len(contexts)
    n_batches = batches_per_context(n_cells, n_contexts)
    batches = [f"{context}_{lane + 1}" for context in contexts for lane in range(n_batches)]
    guides = [
        "|".join(f"{gene}_g{guide + 1}" for gene in condition.split("+"))
        for condition in conditions
        for guide in range(GUIDES_PER_CONDITION)
    ]
    width = len(str(n_cells))
    # object, not the string dtype of pandas 3: older anndata reads what this is written as
    names = pd.Index([f"cell{i + 1:0{width}d}" for i in range(n_cells)], dtype=object)
    return pd.DataFrame(
        {
            "perturbation": _categorical(cells.condition, conditions),
            "cell_line": _categorical(cells.context, contexts),
            "gem_group": _categorical(cells.context * n_batches + cells.batch, batches),
            "guide_id": _categorical(cells.condition * GUIDES_PER_CONDITION + cells.guide, guides),
        },
        index=names,
    )


def _categorical(codes: NDArray[np.int32], names: list[str] | tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))
