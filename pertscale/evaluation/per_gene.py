"""AUROC within each read-out gene, averaged over genes: PerturbQA's score (method C3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import dask
import numpy as np
import pandas as pd

from pertscale._computing import compute
from pertscale.arguments import checked
from pertscale.evaluation.line_areas import (
    Positions,
    areas_of_change,
    areas_of_direction,
    packed_pairs,
)

#: Pairs of matrices in memory that are looked at together.
_BLOCK_PAIRS: Final = 2**20
#: Metrics that are means over genes: of change, and of its direction.
OF_GENES: Final = ("auroc_de_per_gene", "auroc_direction_per_gene")


@checked
def auroc_by_gene(
    truth: Any, scores: Any, *, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return each gene's areas over the perturbations: of its change, and of its direction.

    Parameters
    ----------
    truth
        Labels (perturbation, gene), NumPy, Zarr or Dask.
    scores
        Class scores (perturbation, gene, 3) in the order of ``schema.CLASSES``. Changed genes are
        ranked by ``1 - non_de``, directions by ``up / (up + down)``. NaN ranks below all others.
    exclude
        (row, gene) positions to leave out, shape (n, 2).

    Returns
    -------
    tuple of ndarray (gene,)
        Of differential expression against none, and of up against down among the changed pairs.
        NaN for genes with one class only.

    Notes
    -----
    Memory: all perturbations of a chunk of genes.

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> truth = np.array([[0, 1], [1, 0], [-1, 0]], np.int8)
    >>> scores = np.array(
    ...     [
    ...         [[0.1, 0.8, 0.1], [0.1, 0.6, 0.3]],
    ...         [[0.1, 0.2, 0.7], [0.0, 0.9, 0.1]],
    ...         [[0.6, 0.3, 0.1], [0.3, 0.5, 0.2]],
    ...     ]
    ... )
    >>> changed, upwards = ps.evaluation.auroc_by_gene(truth, scores)
    >>> changed, upwards
    (array([1. , 0.5]), array([ 1., nan]))
    """
    changed, upwards = _areas_by_gene(truth, scores, exclude)
    return changed[:, 1], upwards[:, 1]


@checked
def evaluate_per_gene(
    truth: Any, scores: Any, *, exclude: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the means of :func:`auroc_by_gene` over genes, as rows of a score table.

    A pass of its own over `truth` and `scores`: each area needs all perturbations of a gene.

    Returns
    -------
    DataFrame
        Columns as of :func:`pertscale.evaluation.evaluate`:
        ``auroc_de_per_gene`` and ``auroc_direction_per_gene`` at level ``overall``; `n` is the
        number of genes with both sides.

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> truth = np.array([[0], [1], [-1]], np.int8)
    >>> scores = np.array([[[0.1, 0.8, 0.1]], [[0.1, 0.2, 0.7]], [[0.6, 0.3, 0.1]]])
    >>> ps.evaluation.evaluate_per_gene(truth, scores)[["metric", "value", "n"]]
                         metric  value  n
    0         auroc_de_per_gene    1.0  1
    1  auroc_direction_per_gene    1.0  1
    """
    return evaluate_per_gene_both(truth, scores, exclude=exclude)[1]


def evaluate_per_gene_both(
    truth: Any, scores: Any, *, exclude: np.ndarray | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of :func:`evaluate_per_gene`: of all pairs, and without `exclude`."""
    areas = _areas_by_gene(truth, scores, exclude)
    every, rest = (_means([of_metric[:, i] for of_metric in areas]) for i in range(2))
    return every, rest


def _means(areas: Sequence[np.ndarray]) -> pd.DataFrame:
    rows = []
    for metric, of_genes in zip(OF_GENES, areas, strict=True):
        there = of_genes[~np.isnan(of_genes)]
        value = float(there.mean()) if len(there) else np.nan
        rows.append(("", "overall", "", metric, value, len(there)))
    columns = ["operating_point", "level", "group", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def _areas_by_gene(
    truth: Any, scores: Any, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas (gene, 2) of change and of direction, of all pairs and of the rest."""
    lazy = any(map(dask.is_dask_collection, (truth, scores)))
    areas = dask.delayed(_areas, pure=False) if lazy else _areas
    left_out = np.empty((0, 2), np.intp) if exclude is None else exclude
    chunks = [
        areas(truth[:, genes], scores[:, genes], _within(left_out, genes))
        for genes in _gene_slices(truth, scores)
    ]
    found = compute(*chunks) if lazy else chunks
    changed, upwards = zip(*found, strict=True)
    return np.concatenate(changed), np.concatenate(upwards)


def _gene_slices(truth: Any, scores: Any) -> Iterator[slice]:
    n_rows, n_genes = truth.shape
    step = max(1, _BLOCK_PAIRS // max(1, n_rows))
    if hasattr(scores, "chunks") and not dask.is_dask_collection(scores):
        step = max(scores.chunks[1], step // scores.chunks[1] * scores.chunks[1])
    widths = [min(step, n_genes - g) for g in range(0, n_genes, step)]
    if dask.is_dask_collection(scores):
        widths = list(scores.chunks[1])
    return (slice(a, b) for a, b in pairwise(np.cumsum([0, *widths]).tolist()))


def _within(left_out: np.ndarray, genes: slice) -> Positions:
    here = (left_out[:, 1] >= genes.start) & (left_out[:, 1] < genes.stop)
    row, gene = left_out[here].T
    return row, gene - genes.start


def _areas(truth: Any, scores: Any, left_out: Positions) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(truth), np.asarray(scores, np.float32)
    by_gene = np.ascontiguousarray(packed_pairs(truth, scores, left_out).T)
    return areas_of_change(by_gene), areas_of_direction(truth, scores, left_out)
