"""One method on one split of one context's labels: predicted, scored, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import dask.array as da
import numpy as np
import pandas as pd

from pertscale.baselines.inputs import Predicted
from pertscale.benchmark.units.base import Unit, with_head, write_unit
from pertscale.benchmark.units.class_scores import (
    Points,
    pairs_of_targets,
    read_prediction,
    score_settings,
)
from pertscale.benchmark.units.label_matrix import LabelMatrix, strip_rows
from pertscale.errors import ArgumentError, InputError
from pertscale.hashing import digest
from pertscale.io.parquet import write_table
from pertscale.io.zarr_datasets import Variable, create_dataset
from pertscale.results.unit_files import read_unit
from pertscale.schema import CLASS, CLASS_NAMES, GENE, PERTURBATION, SCORES_FILE
from pertscale.storage.atomic import atomic_path
from pertscale.storage.folder_names import folder_name

#: Raised when the meaning of a unit's files changes, so that old ones are not taken.
_VERSION = 8


class Predictor(Protocol):
    """What makes the predictions of a unit; see :mod:`pertscale.benchmark.units.predictors`.

    Attributes
    ----------
    local : bool
        Whether predictions are made in this process, as what they are made from is here.
    """

    local: ClassVar[bool]

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
    """

    labels: str
    matrix: LabelMatrix
    method: str
    predictor: Predictor
    settings: tuple[str, ...]

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
        """Hash of all that the unit's files depend on."""
        return digest(
            _VERSION,
            self.matrix.key,
            self.split.hash,
            self.split.name,
            self.split.seed,
            self.method,
            list(self.settings),
            self.predictor.key,
            self.task,
            self.source,
        )

    def run(self, out: Path) -> dict[str, float]:
        """Fit, predict, score and keep.

        A method that cannot be fitted, say without training perturbations, leaves a record with the
        reason.
        """
        with atomic_path(out / self.folder) as temporary:
            try:
                predicted = self.predictor.predict(self)
            except (ArgumentError, InputError) as error:
                temporary.mkdir(parents=True)
                write_unit(temporary, {"key": self.key, "failed": str(error)})
                return {}
            scores = self.write_and_score(temporary / "prediction.zarr", predicted)
            write_table(temporary / SCORES_FILE, scores)
            write_unit(temporary, {"key": self.key, "params": predicted.params})
        return {}

    def write_and_score(self, store: Any, predicted: Predicted) -> pd.DataFrame:
        """Write what was predicted to a path or a Zarr store; return its scores."""
        _write_prediction(store, self, predicted)
        return self._score(store, predicted.params)

    def _score(self, store: Any, params: dict[str, Any]) -> pd.DataFrame:
        held_out = self.split.held_out
        truth = self.matrix.rows(held_out).compute()  # a byte per pair, for every strip
        tables = score_settings(
            read_prediction(store, truth.size, params),
            truth,
            held_out,
            settings=self.settings,
            target_pairs=pairs_of_targets(held_out, self.matrix.genes, self.target_genes),
            overlap=lambda: self.predictor.overlap(self.matrix),
            points=self.predictor.points(self),
        )
        head = {"task": self.task, "context": self.context, "train_contexts": self.source}
        of_method = {self.method: params}
        parts = [
            with_head(table.assign(method=self.method), of_method, self.split, **head, setting=s)
            for s, table in tables.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def failed(self, out: Path) -> dict[str, str]:
        """Return why the finished unit has no predictions; empty if it has them."""
        reason = read_unit(out / self.folder).get("failed")
        return {} if reason is None else {self.method: str(reason)}

    def as_dict(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {**super().as_dict(), "labels": self.labels, "method": self.method}


def _write_prediction(path: Any, unit: ClassUnit, predicted: Predicted) -> None:
    """Write labels and class scores, and which pairs fell back; each block computed once."""
    genes, held_out = unit.matrix.genes, unit.split.held_out
    chunks = (strip_rows(len(held_out), len(genes)), predicted.labels.chunks[1][0])
    dims = (PERTURBATION, GENE, CLASS)
    lazy = {"label": predicted.labels, "score": predicted.scores}
    variables = {
        "label": Variable(dims[:2], chunks, np.int8),
        "score": Variable(dims, (*chunks, len(CLASS_NAMES)), np.float32),
    }
    if predicted.fell_back is not None:
        lazy["fell_back"] = predicted.fell_back
        variables["fell_back"] = Variable(dims[:2], chunks, np.bool_)
    made = create_dataset(
        path,
        coords={PERTURBATION: held_out, GENE: genes, CLASS: CLASS_NAMES},
        attrs={"context": unit.context, "method": unit.method, "split": unit.split.name},
        variables=variables,
    )
    arrays: Any = [made[name] for name in lazy]
    where: dict[str, Any] = {"scheduler": "threads"} if unit.predictor.local else {}
    da.store(list(lazy.values()), arrays, lock=False, **where)
