"""How well the labels of one half of the cells tell those of the other half (method P3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.evaluation.confusion_matrix import (
    N_PREDICTED,
    confusion_per_row,
    scores_from_confusion,
)
from pertscale.io.guards.damage import file_errors
from pertscale.io.parquet import declared_frame
from pertscale.schema import (
    CLASS_NAMES,
    CLASSES,
    CONTEXT,
    HALF,
    PERTURBATION,
    REPRODUCIBILITY_COLUMNS,
    Label,
)
from pertscale.stats.halves import read_first_halves
from pertscale.stats.labels.table import REMEDY, read_labels
from pertscale.storage.locations import LocationLike

#: Pairs of a half that are in memory.
_PAIRS: Final = 2**23
_OF_CLASS: Final = ("precision", "recall", "f1")


@checked
def reproducibility(path: LocationLike) -> pd.DataFrame:
    """Return how well the labels of half of the cells tell those of the other half (method P3).

    Each half of the cells of a perturbation was tested against its own half of the controls, and
    predicts the labels of the other one: what no method is expected to exceed on as few cells.

    Parameters
    ----------
    path : path or URL
        Output folder of :func:`pertscale.run_benchmark`, or of :func:`pertscale.stats.rank_sum`
        with ``replicates=``.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.REPRODUCIBILITY_COLUMNS`, a row per context and score: precision,
        recall and F1 of each class and their macro F1, each the mean over both directions, of all
        pairs together; and ``jaccard_de``, the share of the genes that are differentially expressed
        in either half that are so in both, mean over the perturbations that have any. Memory:
        labels of some perturbations.

    Raises
    ------
    NotFoundError
        If there are no halves.
    CorruptFileError
        If they are not whole.

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", out="halved", replicates=2, quiet=True)
    >>> found = ps.stats.reproducibility("halved")
    >>> found[["group", "metric", "n_perturbations", "n_without_halves"]].tail(2)
       group      metric  n_perturbations  n_without_halves
    9           macro_f1               16                 0
    10        jaccard_de               14                 0
    """
    labels = read_labels(path)
    rows: list[dict[str, Any]] = []
    for context in labels.contexts:
        table = labels.perturbations
        tested = table.loc[(table[CONTEXT] == context) & table["tested"], PERTURBATION]
        halves = read_first_halves(path, context=context)
        named = pd.Index(halves[PERTURBATION].values.astype(str)).get_indexer(list(tested))
        found = _Agreement()
        for first, second in _blocks(halves["label"], named, str(path)):
            found.add(first, second)
        without = len(tested) - found.n_perturbations
        rows += [{"context": context, "n_without_halves": without, **row} for row in found.rows()]
    return declared_frame(rows, REPRODUCIBILITY_COLUMNS)


def _blocks(labels: Any, rows: np.ndarray, where: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield labels of both halves (perturbation, gene), of some perturbations at a time."""
    step = max(1, _PAIRS // max(1, labels.shape[-1]))
    for start in range(0, len(rows), step):
        some = labels.isel({PERTURBATION: rows[start : start + step]})
        with file_errors(where, remedy=REMEDY):
            yield some.isel({HALF: 0}).values, some.isel({HALF: 1}).values


@dataclass
class _Agreement:
    """Sums of a context."""

    n_perturbations: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros((3, N_PREDICTED), np.int64))
    shares: list[np.ndarray] = field(default_factory=list)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add labels of both halves; perturbations without halves have none."""
        there = (first != Label.UNTESTED).any(axis=1)
        first, second = first[there], second[there]
        self.n_perturbations += len(first)
        self.counts += confusion_per_row(second, first).sum(axis=0)
        changed = [half != Label.NON_DE for half in (first, second)]
        either = np.logical_or(*changed).sum(axis=1)
        both = np.logical_and(*changed).sum(axis=1)
        self.shares.append(both[either > 0] / either[either > 0])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the scores."""
        back = np.zeros_like(self.counts)
        back[:, : len(CLASSES)] = self.counts[:, : len(CLASSES)].T
        ways = [scores_from_confusion(counts) for counts in (self.counts, back)]
        n = {"n_perturbations": self.n_perturbations}
        for at, group in enumerate(CLASS_NAMES):
            for metric in _OF_CLASS:
                value = _mean([way[metric][at] for way in ways])
                yield {"level": "class", "group": group, "metric": metric, "value": value, **n}
        overall = {"level": "overall", "group": ""}
        value = _mean([way["macro_f1"] for way in ways])
        yield {**overall, "metric": "macro_f1", "value": value, **n}
        shares = np.concatenate([np.empty(0), *self.shares])
        row = {"metric": "jaccard_de", "value": _mean(shares), "n_perturbations": len(shares)}
        yield {**overall, **row}


def _mean(values: Any) -> float:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else np.nan
