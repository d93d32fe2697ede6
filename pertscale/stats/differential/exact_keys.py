"""Whether a screen's counts and totals are small enough for quotients that tie exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pertscale.errors import InputError
from pertscale.execution.runner import run
from pertscale.io.store.layout import CHUNK_GENES, CHUNK_ROWS
from pertscale.io.store.matrix import MatrixReader
from pertscale.schema import COUNTS
from pertscale.screen import Screen, opened_screen
from pertscale.stats.differential._kernels.kernel import EXACT_BELOW


@dataclass(frozen=True)
class CountsTask:
    """Descriptor of one column of chunks."""

    store: str
    fingerprint: str
    gene_start: int
    gene_stop: int

    def describe(self) -> str:
        """Say which genes these are."""
        return f"genes {self.gene_start} to {self.gene_stop}"


def check_exact(screen: Screen, client: Any, *, quiet: bool) -> None:
    """Refuse counts whose quotients by the totals are not told apart once they are rounded.

    The type of the counts and the totals decide for nearly all screens; only where they do not are
    the counts read.

    Raises
    ------
    InputError
        If the largest count times the largest total is too large.
    """
    if screen.scale != COUNTS:
        return
    total = float(screen.totals.max())
    info = screen.info
    most = float(np.iinfo(info["dtype"]).max)
    if info["totals"] == "matrix":  # sums of counts, which no count exceeds
        most = min(most, total)
    if most * total < EXACT_BELOW:
        return
    tasks = [
        CountsTask(screen.path, screen.fingerprint, start, min(start + CHUNK_GENES, screen.n_genes))
        for start in range(0, screen.n_genes, CHUNK_GENES)
    ]
    largest = max(run(largest_count, tasks, label="largest count", client=client, quiet=quiet))
    if largest * total >= EXACT_BELOW:
        raise InputError(
            f"{screen.path}: the largest count is {largest:,} and the largest total {total:,.0f}; "
            "the rank-sum test compares count / total exactly only as long as the product of the "
            "two is below 2**52 (4.5e15). Counts of molecules are far smaller: ingest the layer "
            "that holds them (matrix=), leave totals= out or name totals of the same cells, or "
            "ingest log1p of counts per 10,000, which is ranked as it is"
        )


def largest_count(task: CountsTask) -> int:
    """Return the largest count of some genes. Memory: two chunks."""
    screen = opened_screen(task.store, task.fingerprint)
    reader = MatrixReader(task.store, gene_start=task.gene_start, gene_stop=task.gene_stop)
    return max(
        int(reader.read(start, min(start + CHUNK_ROWS, screen.n_cells)).max())
        for start in range(0, screen.n_cells, CHUNK_ROWS)
    )
