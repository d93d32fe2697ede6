"""Predictors of classes in a unit: a fitted classifier, a model of expression, a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import dask
import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.baselines import Method
from pertscale.baselines.inputs import Predicted, UnitInputs
from pertscale.baselines.thresholds import (
    Rule,
    labels_of_changes,
    matching_rate,
    scores_of_changes,
    tune_threshold,
)
from pertscale.benchmark.units.changes import Changes, FileChanges, FittedChanges
from pertscale.benchmark.units.class_scores import Points
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.label_matrix import (
    GENE_CHUNK,
    PAIR_BYTES,
    LabelMatrix,
    is_held,
    strip_rows,
)
from pertscale.benchmark.units.learned import Vectors, opened
from pertscale.benchmark.units.portable import Portable, once
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import InputError
from pertscale.evaluation import share_changed
from pertscale.hashing import digest
from pertscale.predictions.predictions import LABELS, AlignedPredictions
from pertscale.schema import Label

#: Scores of a pair that a file does not predict: it counts as unchanged.
_NON_DE_SCORES = np.array([0, 1, 0], np.float32)

#: Where the predicted genes are in another order of genes: all of them, if it is the same.
Columns = NDArray[np.intp] | slice

#: Why a model is left out.
PREDICTS_NONE = "it can predict none of the held-out perturbations"


# --- training labels ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingLabels:
    """Training perturbations of one context, on the genes of the labels that are predicted.

    Attributes
    ----------
    matrix : LabelMatrix
    names : tuple of str
        Training perturbations, as the matrix spells them.
    position : ndarray of intp, optional
        Position of each predicted gene in the matrix, -1 where it has none; None if the genes are
        the same.
    """

    matrix: LabelMatrix
    names: tuple[str, ...]
    position: np.ndarray | None = None

    def labels(self) -> Any:
        """Return training labels, of many lazily; pairs of genes without labels are untested."""
        rows = self.matrix.rows(self.names)
        n_genes = len(self.matrix.genes)
        if self.position is None or np.array_equal(self.position, np.arange(n_genes)):
            return rows
        there = self.position >= 0
        if isinstance(rows, np.ndarray):
            taken = rows[:, self.position]
            taken[:, ~there] = Label.UNTESTED
            return taken
        there = da.from_array(there, chunks=GENE_CHUNK)
        taken = da.take(rows, np.maximum(self.position, 0), axis=1).rechunk((-1, GENE_CHUNK))
        return da.where(there[None], taken, np.int8(Label.UNTESTED))

    @property
    def key(self) -> str:
        """Hash of the labels and of how they are put on genes."""
        genes = "" if self.position is None else self.position
        return digest(self.matrix.key, list(self.names), genes)


@dataclass(frozen=True, eq=False)
class TrainingSet(Portable):
    """Training labels of one or more contexts, which several methods are fitted on.

    Attributes
    ----------
    parts : tuple of TrainingLabels
    groups : tuple of str
        Target group of each training perturbation, as the predicted context has them.
    """

    parts: tuple[TrainingLabels, ...]
    groups: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The training perturbations, context by context."""
        return [name for part in self.parts for name in part.names]

    @property
    def key(self) -> list[str]:
        """Hashes of the labels, context by context."""
        return [part.key for part in self.parts]

    def labels(self) -> Any:
        """Return the labels of all training perturbations, of many lazily."""
        parts = [part.labels() for part in self.parts]
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)
        return da.concatenate(parts).rechunk({0: -1})

    @once
    def rate(self) -> float | None:
        """Share of the tested pairs that are changed; None if no pair was tested."""
        return share_changed(self.labels())

    @once
    def is_tested(self) -> np.ndarray:
        """Which genes were tested in some training perturbation, (n_genes,) bool."""
        (tested,) = compute((self.labels() != Label.UNTESTED).any(axis=0))
        return np.asarray(tested)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierPredictor:
    """A classifier that is fitted on the labels of one or more contexts.

    Attributes
    ----------
    method : Method
    training : TrainingSet
    test_groups : dict of str to str
        Those of the test perturbations, by name.
    embedding : Vectors, optional
        For methods that need one.
    targets : dict of str to sequence of str, optional
        Genes that each perturbation targets, where vectors are looked up by its name; else they are
        looked up by its target group.
    """

    method: Method
    training: TrainingSet
    test_groups: Mapping[str, str]
    embedding: Vectors | None
    targets: Mapping[str, Sequence[str]] | None = None

    local: ClassVar[bool] = False

    @property
    def cost(self) -> float:
        """That of the method."""
        return self.method.cost

    @property
    def key(self) -> str:
        """Hash of training labels, vectors, groups, and of the method."""
        training, method = self.training, self.method
        vectors = "" if self.embedding is None else self.embedding.hash
        return digest(training.key, vectors, list(training.groups), method.version, method.key)

    def predict(self, unit: ClassUnit) -> Predicted:
        """Fit, and predict, many pairs lazily; what is fitted is in `params`."""
        held_out = unit.split.held_out
        given = UnitInputs(
            labels=self.training.labels(),
            groups=self.training.groups,
            test_groups=[self.test_groups[name] for name in held_out],
            seed=unit.split.seed,
            vectors=lambda: self._vectors(held_out),
            gene_vectors=lambda: self._embedding.normalized().vectors(list(unit.matrix.genes)),
            truth=lambda: unit.matrix.rows(held_out),
        )
        return self.method.fit_predict(given)

    @property
    def _embedding(self) -> Embedding:
        assert self.embedding is not None, "methods that need none do not ask for vectors"
        return opened(self.embedding)

    def _vectors(self, test: Sequence[str]) -> np.ndarray:
        """Return vectors of training, then of test perturbations, (n, d), of length 1."""
        vectors = self._embedding.normalized().vectors
        if self.targets is None:
            return vectors([*self.training.groups, *(self.test_groups[name] for name in test)])
        return vectors([*self.training.names, *test], targets=self.targets)

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """Which genes were tested in some training perturbation."""
        return self.training.is_tested

    def points(self, unit: ClassUnit) -> Points:
        """At the rate of what it is fitted on, where its scores rank pairs."""
        if not self.method.ranks:
            return Points(same=True)
        return Points(self.training.rate)


# --- changes of expression ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class ThresholdPredictor:
    """Classes from changes of expression, by a threshold from the training part (method G2).

    A model that is fitted here is tuned on its predictions of training perturbations. The author of
    a file may have seen the held-out ones, so for files the threshold calls as large a share of the
    test pairs as is differentially expressed in training. Pairs that a file leaves out count as
    unchanged there too.

    Attributes
    ----------
    changes : Changes
        Of the genes of `genes`.
    genes : tuple of str
    covered : frozenset of str
        Perturbations that `changes` has.
    rule : {'match_rate', 'macro_f1'}
    is_file : bool
    source_key : str
    shared : frozenset of str
        Genes that other contexts have, too.
    """

    changes: Changes
    genes: tuple[str, ...]
    covered: frozenset[str]
    rule: Rule
    is_file: bool
    source_key: str
    shared: frozenset[str] = frozenset()

    cost: ClassVar[float] = 2.0  # training perturbations are predicted, too

    @property
    def local(self) -> bool:
        """Whether a file is read, or a model is fitted."""
        return self.is_file

    @property
    def key(self) -> str:
        """Hash of the model or file, of the rule and the shared genes."""
        return digest(
            "thresholded, lacking counted", self.source_key, self.rule, sorted(self.shared)
        )

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """Which genes other contexts have."""
        return pd.Index(matrix.genes).isin(list(self.shared))

    def predict(self, unit: ClassUnit) -> Predicted:
        """Tune the threshold, and predict block by block of perturbations.

        Raises
        ------
        InputError
            If a model has no prediction for any of them, as the additive one for singles.
        """
        rows = strip_rows(len(unit.split.held_out), len(unit.matrix.genes))
        batches = list(_batches(unit.split.held_out, rows))
        held = is_held(PAIR_BYTES * unit.n_pairs)
        changes = self.changes.fitted()
        change = changes(unit.split.held_out) if held else None
        parts = map(changes, batches) if change is None else [change]
        n_lacking = sum(int(np.isnan(part).all(axis=1).sum()) for part in parts)
        if not self.is_file and n_lacking == len(unit.split.held_out):
            raise InputError(PREDICTS_NONE)
        genes = unit.matrix.genes
        columns = slice(None) if genes == self.genes else pd.Index(self.genes).get_indexer(genes)
        step = strip_rows(len(unit.split.train), len(genes))
        known = [name for name in unit.split.train if name in self.covered]
        if known and not (self.is_file and self.rule == "match_rate"):
            blocks = (
                (changes(batch)[:, columns], compute(unit.matrix.rows(batch))[0])
                for batch in _batches(known, step)
            )
            threshold, origin = tune_threshold(blocks, rule=self.rule), "training"
        else:
            threshold, origin = self._matched(unit, changes, columns), "rate of training"
        params = {
            **changes.params(),
            "threshold": threshold,
            "threshold_from": origin,
            "n_without_prediction": n_lacking,
        }
        if change is not None:
            return Predicted(*_called(change[:, columns], threshold), params)
        predict = dask.delayed(partial(_block, changes), pure=False)
        labels, scores = [], []
        for names in batches:
            both = predict(names, columns, threshold)
            shape = (len(names), len(genes))
            labels.append(da.from_delayed(both[0], shape, np.int8))
            scores.append(da.from_delayed(both[1], (*shape, 3), np.float32))
        return Predicted(
            da.concatenate(labels).rechunk((rows, GENE_CHUNK)),
            da.concatenate(scores).rechunk((rows, GENE_CHUNK, 3)),
            params,
        )

    def points(self, unit: ClassUnit) -> Points:
        """At the rate of the training part, of those labels that are predicted."""
        return Points(share_changed(unit.matrix.rows(unit.split.train)))

    def _matched(self, unit: ClassUnit, changes: FittedChanges, columns: Columns) -> float:
        if self.rule != "match_rate":
            raise InputError(
                f"threshold={self.rule!r} needs predictions of training perturbations, and there "
                "are none; add them, or pass threshold='match_rate'"
            )
        rate = share_changed(unit.matrix.rows(unit.split.train))
        if rate is None:
            raise InputError("no training pair was tested, so there is no rate to match")
        (asked,) = compute(unit.matrix.rows(unit.split.held_out) != Label.UNTESTED)
        return matching_rate(changes(unit.split.held_out)[:, columns][asked], rate)


def _block(
    changes: FittedChanges, names: Sequence[str], columns: Columns, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    return _called(changes(names)[:, columns], threshold)


def _called(change: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    return labels_of_changes(change, threshold), scores_of_changes(change)


def _batches(names: Sequence[str], size: int) -> Iterator[list[str]]:
    return (list(names[i : i + size]) for i in range(0, len(names), size))


# --- files of classes -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FilePredictor:
    """Classes from a file, or from predicted cells.

    A pair that is not predicted counts as unchanged: leaving it out is no better than saying so.

    Attributes
    ----------
    found : AlignedPredictions
    shared : frozenset of str
        Genes that other contexts have, too.
    """

    found: AlignedPredictions
    shared: frozenset[str] = frozenset()

    local: ClassVar[bool] = True
    cost: ClassVar[float] = 1.0

    @property
    def key(self) -> str:
        """Hash of the file and of the shared genes."""
        return digest("given", self.found.key, sorted(self.shared))

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """Which genes other contexts have."""
        return pd.Index(matrix.genes).isin(list(self.shared))

    def predict(self, unit: ClassUnit) -> Predicted:
        """Put the classes on the genes of the labels."""
        columns = pd.Index(self.found.genes).get_indexer(list(unit.matrix.genes))
        rows = strip_rows(len(unit.split.held_out), len(unit.matrix.genes))
        labels, scores = self.found.classes(unit.split.held_out)
        labels, scores = labels[:, columns], scores[:, columns]
        missing = labels == Label.UNTESTED
        labels[missing] = Label.NON_DE
        scores[missing] = _NON_DE_SCORES
        params = {"n_pairs_not_predicted": int(missing.sum()), **self.found.params()}
        if is_held(PAIR_BYTES * labels.size):
            return Predicted(labels, scores, params)
        chunks = (rows, GENE_CHUNK)
        return Predicted(
            da.from_array(labels, chunks=chunks), da.from_array(scores, (*chunks, 3)), params
        )

    def points(self, unit: ClassUnit) -> Points:
        """At the rate of the training part; files that only name classes have no other point."""
        if self.found.predictions.kind == LABELS:
            return Points()
        return Points(share_changed(unit.matrix.rows(unit.split.train)))


def thresholded_file(
    found: AlignedPredictions, control: np.ndarray, rule: Rule, shared: frozenset[str] = frozenset()
) -> ThresholdPredictor:
    """Return predicted expression from a file as a predictor of classes."""
    return ThresholdPredictor(
        changes=FileChanges(found, control),
        genes=found.genes,
        covered=frozenset(found.rows),
        rule=rule,
        is_file=True,
        source_key=found.key,
        shared=shared,
    )
