"""Refuses arguments of the simulator that cannot be met."""

from __future__ import annotations

from collections.abc import Sequence

from pertscale.errors import ArgumentError
from pertscale.simulate.cells import MIN_CELLS, cells_per_context, n_control_cells

MIN_GENES = 10


def check_contexts(contexts: Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple."""
    if not contexts or len(set(contexts)) < len(contexts) or not all(contexts):
        raise ArgumentError(f"contexts is {contexts!r}; distinct, non-empty names are needed")
    return tuple(contexts)


def check_genes(n_genes: int, *, umi_per_cell: float, expressed_fraction: float) -> None:
    """Check what the gene model takes."""
    _check_whole("n_genes", n_genes, minimum=MIN_GENES)
    if not 0 < umi_per_cell < float("inf"):
        raise ArgumentError(f"umi_per_cell is {umi_per_cell}; a positive number is needed")
    if not 0 < expressed_fraction <= 1:
        raise ArgumentError(
            f"expressed_fraction is {expressed_fraction}; more than 0 and at most 1 is needed"
        )


def check_perturbations(n_perturbations: int, *, n_doubles: int, n_genes: int) -> None:
    """Check that there are genes to perturb and pairs to combine."""
    _check_whole("n_perturbations", n_perturbations, minimum=1)
    _check_whole("n_doubles", n_doubles, minimum=0)
    if n_perturbations > n_genes:
        raise ArgumentError(
            f"n_perturbations is {n_perturbations:,}, n_genes only {n_genes:,}; each perturbation "
            "targets a gene of its own: raise n_genes or lower n_perturbations"
        )
    n_pairs = n_perturbations * (n_perturbations - 1) // 2
    if n_doubles > n_pairs:
        raise ArgumentError(
            f"n_doubles is {n_doubles:,}, but {n_perturbations:,} perturbations have only "
            f"{n_pairs:,} pairs: raise n_perturbations or lower n_doubles"
        )


def check_cells(
    n_cells: int, *, n_contexts: int, n_perturbations: int, control_fraction: float
) -> None:
    """Check that there are cells for every perturbation in every context."""
    _check_whole("n_cells", n_cells, minimum=1)
    if not 0 < control_fraction < 1:
        raise ArgumentError(
            f"control_fraction is {control_fraction}; more than 0 and less than 1 is needed"
        )
    smallest = int(cells_per_context(n_cells, n_contexts).min())
    n_control = n_control_cells(smallest, control_fraction)
    if smallest < n_control + MIN_CELLS * n_perturbations:
        raise ArgumentError(
            f"n_cells={n_cells:,} leaves {max(0, smallest - n_control):,} cells of a context for "
            f"{n_perturbations:,} perturbations (with doubles), which need {MIN_CELLS} each: "
            "raise n_cells, or lower the number of perturbations or contexts"
        )


def check_output(*, seed: int, compression: str | None, n_threads: int | None) -> None:
    """Check the seed and how the file is written."""
    _check_whole("seed", seed, minimum=0)
    if compression not in (None, "gzip"):
        raise ArgumentError(f"compression is {compression!r}; None and 'gzip' are known")
    if n_threads is not None:
        _check_whole("n_threads", n_threads, minimum=1)


def _check_whole(name: str, value: int, *, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ArgumentError(f"{name} is {value!r}; an integer of at least {minimum} is needed")
