"""Shapes of the simulated screens."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """Arguments of ``pertscale simulate``; `name` is also the name of the files.

    The cells are those of all contexts together.
    """

    name: str
    cells: int
    genes: int
    perturbations: int
    umi_per_cell: float | None = None
    contexts: tuple[str, ...] = ()
    share_of_doubles: float = 0.0

    def arguments(self) -> list[str]:
        """Command-line arguments; where genes run out, pairs of genes are perturbed."""
        singles = min(round(self.perturbations * (1 - self.share_of_doubles)), self.genes)
        counts = {
            "--cells": self.cells,
            "--genes": self.genes,
            "--perturbations": singles,
            "--doubles": self.perturbations - singles,
        }
        if self.umi_per_cell is not None:
            counts["--umi-per-cell"] = self.umi_per_cell
        named = [*counts.items(), *(("--context", context) for context in self.contexts)]
        return [word for name, value in named for word in (name, str(value))]

    def file_bytes(self) -> float:
        """Estimated size of the h5ad: 8 bytes per non-zero, about 40 % of the entries."""
        return 8 * 0.4 * self.cells * self.genes

    def __str__(self) -> str:
        return f"{self.cells:,} cells x {self.genes:,} genes x {self.perturbations:,} perturbations"


SIZES = {
    shape.name: shape
    for shape in (
        Shape("toy", 600, 200, 8),
        Shape("S", 20_000, 2_000, 120),
        Shape("M", 60_000, 4_000, 400),
        Shape("L", 150_000, 8_000, 1_000),
        Shape("K", 310_000, 8_500, 2_057),
        Shape("T", 120_000, 20_000, 10_000, umi_per_cell=2_000),
    )
}
GENOME_WIDE = Shape("genome-wide", 2_000_000, 8_248, 10_000)
#: A screen so small that all peers test all of it on values that are equal to the last bit.
AGREEMENT = Shape("agreement", 6_000, 500, 30)
#: Large enough that a cluster gets the units, small enough for a single core.
CORES = Shape("cores", 60_000, 8_000, 900)
#: Four lines of one panel of singles and doubles, a few cells of each perturbation in each.
STUDY = Shape(
    "study",
    80_000,
    8_500,
    2_000,
    contexts=("line1", "line2", "line3", "line4"),
    share_of_doubles=0.2,
)


def resized(shape: Shape, **sizes: int | None) -> Shape:
    """Return a shape with other numbers of cells, genes or perturbations, named by them."""
    asked = {name: value for name, value in sizes.items() if value is not None}
    if not asked:
        return shape
    smaller = replace(shape, **asked)
    sizes_in_words = f"{smaller.cells}-{smaller.genes}-{smaller.perturbations}"
    return replace(smaller, name=f"{shape.name}-{sizes_in_words}")


def sweeps(max_cells: int) -> dict[str, list[Shape]]:
    """Return, for each thing that is varied, the shapes in rising order."""
    base = Shape("base", min(100_000, max_cells), 2_000, 500)
    steps = (50_000, 100_000, 200_000, 400_000, 700_000, 1_000_000)
    cells = [n for n in steps if n <= max_cells] or [max_cells // 4, max_cells // 2, max_cells]
    small = base.cells < 100_000  # a test of the harness
    sizes = {
        "cells": cells,
        "perturbations": (4, 8) if small else (125, 250, 500, 1_000, 2_000),
        "genes": (100, 200) if small else (1_000, 2_000, 4_000, 8_000),
        "umi_per_cell": (50.0, 200.0) if small else (200.0, 700.0, 2_000.0, 6_000.0),
    }
    if small:
        base = replace(base, genes=100, perturbations=8)
    return {
        what: [replace(base, name=f"{what}-{value:g}", **{what: value}) for value in values]
        for what, values in sizes.items()
    }


def parallel_shape(max_cells: int) -> Shape:
    """Return the screen that threads, workers and Dask's share are measured on."""
    if max_cells < SIZES["L"].cells:
        return Shape(f"parallel-{max_cells}", max_cells, 100, 8)
    return replace(SIZES["L"], name="parallel")
