"""One method on one split of one context's labels: predicted, scored, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import dask
import numpy as np
import pandas as pd

from pertscale._computing import compute, store
from pertscale.baselines.inputs import Predicted
from pertscale.benchmark.units.base import Outcome, Unit, UnitScores, with_head
from pertscale.benchmark.units.class_scores import (
    Points,
    pairs_of_targets,
    read_prediction,
    score_settings,
)
from pertscale.benchmark.units.label_matrix import (
    HELD_BYTES,
    PAIR_BYTES,
    LabelMatrix,
    chunk_rows,
    is_held,
    strip_rows,
)
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.classification import ScoredPairs
from pertscale.hashing import digest
from pertscale.io.zarr_datasets import Variable, create_dataset
from pertscale.schema import CLASS, CLASS_NAMES, CONFIDENT, GENE, PERTURBATION, Label
from pertscale.storage.folder_names import folder_name
from pertscale.versions import PREDICTIONS_VERSION

#: Bytes per pair: what is predicted, its chunks on their way to the disk, and the keys of rankings.
HELD_PER_PAIR = 60


class Predictor(Protocol):
    """What makes the predictions of a unit; see :mod:`pertscale.benchmark.units.predictors`."""

    @property
    def local(self) -> bool:
        """Whether predictions are made in this process, where their inputs are."""

    @property
    def cost(self) -> float:
        """What it takes, in multiples of the majority vote."""

    @property
    def key(self) -> str:
        """Hash of all that the predictions depend on, beside the unit's own labels and split."""

    def predict(self, unit: ClassUnit) -> Predicted:
        """Return what is predicted of the test perturbations, lazily."""

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """Which genes the settings ``..._overlap`` are of, (n_genes,) bool."""

    def points(self, unit: ClassUnit) -> Points:
        """Return the operating points to score beside that of the predictor's own calls."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassUnit(Unit):
    """One method that predicts the classes of held-out perturbations.

    Attributes
    ----------
    labels : {'full', 'curated'}
        The labels that are predicted.
    matrix : LabelMatrix
        These labels.
    method : str
        Name in score tables.
    predictor : Predictor
    settings : tuple of str
        Settings to score; see :func:`pertscale.benchmark.units.class_scores.score_settings`.
    intervals : bool
        Whether the sums are kept that intervals of the scores are made of.
    confident : LabelMatrix, optional
        Those of them that are likely right, for the setting that has only these.
    """

    labels: str
    matrix: LabelMatrix
    method: str
    predictor: Predictor
    settings: tuple[str, ...]
    intervals: bool = True
    confident: LabelMatrix | None = None

    stage: ClassVar[str] = "method"

    @property
    def kind(self) -> str:
        """The labels that are predicted."""
        return self.labels

    @property
    def file_name(self) -> str:
        """Name of the method as a folder: users choose names too."""
        return folder_name(self.method)

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        return f"{super().title} / {self.method}"

    @property
    def key(self) -> str:
        """Hash of all that the predictions depend on."""
        return digest(
            PREDICTIONS_VERSION,
            self.matrix.key,
            self.split.hash,
            self.split.name,
            self.split.seed,
            self.method,
            self.predictor.key,
            self.task,
            self.source,
        )

    @property
    def n_pairs(self) -> int:
        """Pairs that are predicted."""
        return len(self.split.held_out) * len(self.matrix.genes)

    @property
    def cost(self) -> float:
        """Pairs, times what the method takes for one."""
        return self.n_pairs * self.predictor.cost

    @property
    def n_bytes(self) -> int:
        """Training labels and predictions in several forms, or of many a part of them."""
        labels = len(self.split.train) * len(self.matrix.genes)
        held_labels = 2 * labels if is_held(labels) else 0
        if self.confident and CONFIDENT in self.settings:
            sure = len(self.confident.perturbations) * len(self.confident.genes)
            held_labels += sure if is_held(sure) else 0
        if is_held(PAIR_BYTES * self.n_pairs):
            return held_labels + HELD_PER_PAIR * self.n_pairs
        return held_labels + 2 * HELD_BYTES

    @property
    def is_local(self) -> bool:
        """Whether predictions are read of a file, which this process has done."""
        return self.predictor.local

    @property
    def scoring(self) -> str:
        """Hash of the settings, and of whether sums are kept."""
        sure = [self.confident.key] if self.confident and CONFIDENT in self.settings else []
        return digest(list(self.settings), self.intervals, *sure)

    def predict(self, store: Any) -> Outcome:
        """Fit, and write labels and class scores to a path or a Zarr store."""
        try:
            predicted = self.predictor.predict(self)
        except (ArgumentError, InputError) as error:
            return Outcome({}, {self.method: str(error)})
        _write_prediction(store, self, predicted)
        held = predicted if predicted.is_held_as_written else None
        return Outcome({self.method: predicted.params}, {}, held=held)

    def score(
        self, store: Any, params: dict[str, dict[str, Any]], *, held: Predicted | None = None
    ) -> UnitScores:
        """Return the scores in all settings."""
        held_out = self.split.held_out
        (truth,) = compute(self.matrix.rows(held_out))  # a byte per pair, for every strip
        predicted = held or read_prediction(store, truth.size, params[self.method])
        return self.unit_scores(self.scored(predicted, truth, held_out), params)

    def scored(
        self, predicted: Predicted, truth: np.ndarray, perturbations: Sequence[str]
    ) -> dict[str, ScoredPairs]:
        """Score a prediction of some perturbations in each setting."""
        return score_settings(
            predicted,
            truth,
            perturbations,
            settings=self.settings,
            target_pairs=pairs_of_targets(perturbations, self.matrix.genes, self.target_genes),
            overlap=lambda: self.predictor.overlap(self.matrix),
            points=self.predictor.points(self),
            keep_sums=self.intervals,
            confident=lambda: self._is_confident(perturbations),
        )

    def _is_confident(self, perturbations: Sequence[str]) -> np.ndarray:
        """Return which labels of perturbations are likely right, (perturbation, gene)."""
        assert self.confident is not None, f"the setting {CONFIDENT} needs them"
        (labels,) = compute(self.confident.rows(perturbations))
        return np.asarray(labels != Label.UNTESTED)

    def unit_scores(
        self, scored: Mapping[str, ScoredPairs], params: dict[str, dict[str, Any]]
    ) -> UnitScores:
        """Put the scores of all settings into one table."""
        head = {"task": self.task, "context": self.context, "train_contexts": self.source}
        parts = [one.table.assign(setting=s, method=self.method) for s, one in scored.items()]
        table = with_head(pd.concat(parts, ignore_index=True), params, self.split, **head)
        return UnitScores(table, {s: one.sums for s, one in scored.items() if one.sums})

    def as_dict(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {**super().as_dict(), "labels": self.labels, "method": self.method}


def _write_prediction(path: Any, unit: ClassUnit, predicted: Predicted) -> None:
    """Write labels and class scores, and which pairs fell back; each block computed once."""
    genes, held_out = unit.matrix.genes, unit.split.held_out
    lazy = dask.is_dask_collection(predicted.labels)
    if lazy:
        chunks = (strip_rows(len(held_out), len(genes)), predicted.labels.chunks[1][0])
    else:
        chunks = (chunk_rows(len(held_out), len(genes)), len(genes))
    dims = (PERTURBATION, GENE, CLASS)
    values = {"label": predicted.labels, "score": predicted.scores}
    variables = {
        "label": Variable(dims[:2], chunks, np.int8),
        "score": Variable(dims, (*chunks, len(CLASS_NAMES)), np.float32),
    }
    if predicted.fell_back is not None:
        values["fell_back"] = predicted.fell_back
        variables["fell_back"] = Variable(dims[:2], chunks, np.bool_)
    made = create_dataset(
        path,
        coords={PERTURBATION: held_out, GENE: genes, CLASS: CLASS_NAMES},
        attrs={"context": unit.context, "method": unit.method, "split": unit.split.name},
        variables=variables,
    )
    if not lazy:
        for name, value in values.items():
            made[name][:] = value
        return
    arrays: Any = [made[name] for name in values]
    store(list(values.values()), arrays)
