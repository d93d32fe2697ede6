"""AUROC within each read-out gene, averaged over genes: PerturbQA's score (method C3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import dask
import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.evaluation._kernels import areas_of_order
from pertscale.schema import Label

#: Pairs of matrices in memory that are looked at together.
_BLOCK_PAIRS: Final = 2**22
#: Below every score: a pair without a prediction.
_NONE: Final = -1.0
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
        Labels (perturbation, gene), NumPy or Dask.
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
    lazy = any(map(dask.is_dask_collection, (truth, scores)))
    areas = dask.delayed(_areas, pure=False) if lazy else _areas
    left_out = np.empty((0, 2), np.intp) if exclude is None else exclude
    chunks = [
        areas(truth[:, genes], scores[:, genes], _within(left_out, genes))
        for genes in _gene_slices(truth, scores)
    ]
    found = dask.compute(*chunks) if lazy else chunks
    changed, upwards = zip(*found, strict=True)
    return np.concatenate(changed), np.concatenate(upwards)


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
    rows = []
    for metric, areas in zip(OF_GENES, auroc_by_gene(truth, scores, exclude=exclude), strict=True):
        there = areas[~np.isnan(areas)]
        value = float(there.mean()) if len(there) else np.nan
        rows.append(("", "overall", "", metric, value, len(there)))
    columns = ["operating_point", "level", "group", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=columns)


def _gene_slices(truth: Any, scores: Any) -> Iterator[slice]:
    if dask.is_dask_collection(scores):
        widths = list(scores.chunks[1])
    else:
        step = max(1, _BLOCK_PAIRS // max(1, truth.shape[0]))
        widths = [min(step, truth.shape[1] - g) for g in range(0, truth.shape[1], step)]
    return (slice(a, b) for a, b in pairwise(np.cumsum([0, *widths]).tolist()))


def _within(left_out: np.ndarray, genes: slice) -> np.ndarray:
    here = (left_out[:, 1] >= genes.start) & (left_out[:, 1] < genes.stop)
    return left_out[here] - [0, genes.start]


def _areas(
    truth: np.ndarray, scores: np.ndarray, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if len(left_out):
        truth = np.array(truth)
        truth[tuple(left_out.T)] = Label.UNTESTED
    down, non_de, up = np.moveaxis(np.asarray(scores, np.float64), 2, 0)
    tested = truth != Label.UNTESTED
    changed = tested & (truth != Label.NON_DE)
    direction = np.divide(up, up + down, out=np.full(up.shape, 0.5), where=up + down > 0)
    return (
        _column_areas(np.nan_to_num(1 - non_de, nan=_NONE), changed, tested),
        _column_areas(np.where(np.isnan(up), _NONE, direction), truth == Label.UP, changed),
    )


def _column_areas(values: np.ndarray, positive: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve within each column; NaN where one side is empty."""
    values, positive, used = (np.ascontiguousarray(array.T) for array in (values, positive, used))
    areas = np.empty(len(values))
    areas_of_order(np.argsort(values, axis=1), values, positive, used, areas)
    return areas
