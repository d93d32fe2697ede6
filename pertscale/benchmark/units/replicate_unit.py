"""The ceiling of classes: the labels of half of the cells against those of the other half (O2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask
import dask.array as da
import numpy as np

from pertscale._computing import compute
from pertscale.baselines.inputs import Predicted
from pertscale.baselines.thresholds import scores_of_changes
from pertscale.benchmark.units.base import Outcome, UnitScores
from pertscale.benchmark.units.class_scores import Points, read_prediction
from pertscale.benchmark.units.class_unit import HELD_PER_PAIR, ClassUnit
from pertscale.benchmark.units.halves import ContextHalves
from pertscale.benchmark.units.label_matrix import PAIR_BYTES, LabelMatrix, is_held
from pertscale.evaluation.classification import ScoredPairs
from pertscale.evaluation.operating_point import share_changed
from pertscale.evaluation.resampling.pairs import PairSums
from pertscale.hashing import digest
from pertscale.schema import CLASSES, Label

_SCORE_COLUMNS = ["operating_point", "level", "group", "metric"]


@dataclass(frozen=True, eq=False)
class ReplicatePredictor:
    """Predicts the labels of half of the cells.

    Attributes
    ----------
    halves : ContextHalves
    """

    halves: ContextHalves

    local = False
    cost = 1.0

    @property
    def key(self) -> str:
        """Hash of the labels of all cells, of which the halves are."""
        return digest(self.halves.key)

    def predict(self, unit: ClassUnit) -> Predicted:
        """Return the labels of the first half."""
        labels, z = self.halves.labels(0, unit.split.held_out, unit.matrix.genes)
        there = self.halves.n_cells(unit.split.held_out)[0, 0] > 0
        params = {"n_without_prediction": int((~there).sum())}
        return Predicted(labels, scores_of_z(z), params)

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """All genes."""
        return np.ones(len(matrix.genes), bool)

    def points(self, unit: ClassUnit) -> Points:
        """At the rate of the training part."""
        return Points(share_changed(unit.matrix.rows(unit.split.train)))


@dataclass(frozen=True, eq=False, kw_only=True)
class HalvesUnit(ClassUnit):
    """A prediction scored on both halves of the cells of the held-out perturbations.

    A :class:`ReplicatePredictor` predicts each half by the other one. Pairs of both are scored
    together. Perturbations without halves have no pairs.

    Attributes
    ----------
    halves : ContextHalves
    """

    halves: ContextHalves

    @property
    def scoring(self) -> str:
        """Hash of what a method's scores depend on, and of the halves."""
        return digest(super().scoring, self.halves.key)

    @property
    def n_bytes(self) -> int:
        """As of a method, for the pairs of both directions."""
        both = HELD_PER_PAIR * self.n_pairs if is_held(PAIR_BYTES * self.n_pairs) else 0
        return super().n_bytes + both

    def predict(self, store: Any) -> Outcome:
        """Predict as a method; a replicate, which both halves are scored of, is not held."""
        outcome = super().predict(store)
        if isinstance(self.predictor, ReplicatePredictor):
            return replace(outcome, held=None)
        return outcome

    def score(
        self, store: Any, params: dict[str, dict[str, Any]], *, held: Predicted | None = None
    ) -> UnitScores:
        """Return the scores in all settings."""
        held_out = self.split.held_out
        labels, z = zip(
            *(self.halves.labels(half, held_out, self.matrix.genes) for half in range(2)),
            strict=True,
        )
        (known, truth) = compute(self.matrix.rows(held_out), _joined(labels[::-1]))
        truth[np.tile(known, (2, 1)) == Label.UNTESTED] = Label.UNTESTED
        if isinstance(self.predictor, ReplicatePredictor):
            both = _joined(z)
            scores = scores_of_z(both) if dask.is_dask_collection(both) else _ScoresOfZ(both)
            predicted = Predicted(_joined(labels), scores, params[self.method])
            del labels, z  # of many bytes, and not needed any more
        else:
            once = held or read_prediction(store, known.size, params[self.method])
            label, score = (
                _joined([of, of]) for of in map(_lazy_or_held, (once.labels, once.scores))
            )
            predicted = Predicted(label, score, params[self.method])
        scored = self.scored(predicted, truth, [*held_out, *held_out])
        return self.unit_scores({s: _of_both(one) for s, one in scored.items()}, params)


@dataclass(frozen=True, eq=False)
class _ScoresOfZ:
    """Class scores that are calculated where they are looked at: as numbers, three times z."""

    z: np.ndarray

    dtype = np.dtype(np.float32)
    ndim = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.z.shape, len(CLASSES))

    def __getitem__(self, where: Any) -> Any:
        return scores_of_z(self.z[where])


def scores_of_z(z: Any) -> Any:
    """Return class scores (perturbation, gene, 3) that rank pairs by the statistic of their test.

    Those of the three classes add up to 1; p-values would be 0, and the same, for large statistics.
    """
    if dask.is_dask_collection(z):
        chunks = (*z.chunks, (len(CLASSES),))
        return z.map_blocks(scores_of_z, dtype=np.float32, chunks=chunks, new_axis=2)
    return scores_of_changes(z)


def _lazy_or_held(values: Any) -> Any:
    """Return an array in memory, or of Dask."""
    if isinstance(values, np.ndarray) or dask.is_dask_collection(values):
        return values
    return da.from_zarr(values)


def _joined(parts: Sequence[Any]) -> Any:
    return da.concatenate(parts) if dask.is_dask_collection(parts[0]) else np.concatenate(parts)


def _of_both(scored: ScoredPairs) -> ScoredPairs:
    """Put the rows of each perturbation, one for each direction, together."""
    mean = scored.table.groupby(_SCORE_COLUMNS, sort=False, as_index=False)
    table = mean.agg(value=("value", "mean"), n=("n", "mean"))
    table["n"] = table["n"].astype(int)
    single = (table["level"] == "perturbation") & (table["n"] > 0)
    counted = table["metric"] == "n_perturbations"
    table.loc[counted, ["value", "n"]] = table.loc[single, "group"].nunique()
    return replace(scored, table=table[scored.table.columns], sums=_folded(scored.sums))


def _folded(sums: PairSums | None) -> PairSums | None:
    if sums is None:
        return None

    def both(counts: np.ndarray) -> np.ndarray:
        first, second = np.split(counts, 2)
        return first + second

    called = {point: both(counts) for point, counts in sums.called.items()}
    return PairSums(called, tuple(map(both, sums.bins)), sums.n_missing)
