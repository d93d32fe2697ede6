"""How long methods take here: each fitted, scored and written on a block of drawn labels.

Few pairs are changed, as in a screen, but which ones is drawn at random, so the time has no share
for labels that are hard to fit. Everything stays in memory. The real functions of a unit are
called, on few pairs and on many: the difference gives the time per pair, the rest that of a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import dask
import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from pertscale.baselines import EXPRESSION_MODELS, METHODS, ExpressionMethod
from pertscale.baselines.classifiers.logistic_pairs import MOST_EPOCHS
from pertscale.baselines.expression.linear import own_components
from pertscale.benchmark.units.base import Unit
from pertscale.benchmark.units.changes import ModelChanges
from pertscale.benchmark.units.class_unit import ClassUnit, Predictor
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.label_matrix import LabelMatrix
from pertscale.benchmark.units.predictors import (
    ClassifierPredictor,
    ThresholdPredictor,
    TrainingLabels,
    TrainingSet,
)
from pertscale.diagnostics.stopwatch import Stopwatch
from pertscale.embeddings.embedding import Embedding
from pertscale.evaluation.retrieval import Truths
from pertscale.schema import CONTROL, GENE, PERTURBATION, SINGLE, WITHIN
from pertscale.splits import Split

#: Perturbations and genes that are timed; perturbations are of genes.
_SHAPES = ((24, 80), (80, 320))
#: Share of pairs that are drawn as changed.
_CHANGED = 0.05
_SETTINGS = ("full", "full_without_target")


@dataclass(frozen=True)
class Rate:
    """CPU seconds of a unit, and per pair; training and test pairs count alike.

    A method that goes over its pairs again and again does so once beyond `most_pairs`.
    """

    per_unit: float
    per_pair: float
    most_pairs: int | None = None

    def seconds(self, n_perturbations: int, n_genes: int) -> float:
        """Return the seconds of a unit of some size."""
        pairs = n_perturbations * n_genes
        if self.most_pairs is not None and pairs > self.most_pairs:
            pairs = self.most_pairs + (pairs - self.most_pairs) // MOST_EPOCHS
        return self.per_unit + pairs * self.per_pair


@dataclass(frozen=True)
class UnitRates:
    """Rates of units of classes by method, and of a unit of expression with all models.

    Attributes
    ----------
    methods : dict of str to Rate
    expression : Rate, optional
    slowdown : float
        Wall seconds per CPU second.
    per_compared : float
        CPU seconds per value that a prediction and a truth are compared by.
    """

    methods: Mapping[str, Rate]
    expression: Rate | None
    slowdown: float
    per_compared: float = 0.0


def probe_units(names: Sequence[str], dim: int) -> UnitRates:
    """Time the named methods and models, with vectors of length `dim`."""
    watch = Stopwatch()
    few, many = (_Drawn.of(*shape, dim) for shape in _SHAPES)
    models = {name: m for name, m in EXPRESSION_MODELS.items() if name in names}
    with dask.config.set(scheduler="synchronous"):
        records = {name: (METHODS | EXPRESSION_MODELS)[name] for name in names}
        timed = {name: record.costs_like or name for name, record in records.items()}
        units = {name: partial(_Drawn.classes, name=name) for name in sorted(set(timed.values()))}
        measured = {name: _rate(watch, few, many, unit) for name, unit in units.items()}
        rates = {name: measured[like] for name, like in timed.items()}
        for name in METHODS.keys() & rates.keys():
            rates[name] = replace(rates[name], most_pairs=METHODS[name].most_pairs)
        expression, per_compared = None, 0.0
        if models:
            expression = _rate(watch, few, many, partial(_Drawn.expression, models=models))
            per_compared = _time_retrieval(watch)
    return UnitRates(rates, expression, watch.slowdown, per_compared)


def _time_retrieval(watch: Stopwatch, n: int = 512, n_genes: int = 64) -> float:
    """Time how long predictions take to be compared with all truths, per value."""
    random = np.random.default_rng(0)
    truths = Truths(random.normal(size=(n, n_genes)), np.zeros(n_genes), np.arange(n_genes))
    predicted = random.normal(size=(n, n_genes))
    rows = np.arange(n)

    def rank() -> None:
        truths.rank_l1(predicted, rows)
        truths.rank_cosine(predicted, rows)

    return watch.time(rank, repeat=2) / (n * n * n_genes)


def _rate(watch: Stopwatch, few: _Drawn, many: _Drawn, unit: Callable[[_Drawn], None]) -> Rate:
    """Time a unit on few pairs and on many."""
    short = watch.time(partial(unit, few))
    long = watch.time(partial(unit, many), repeat=2, warm=False)
    per_pair = max(0.0, long - short) / (many.n_pairs - few.n_pairs)
    return Rate(max(0.0, short - few.n_pairs * per_pair), per_pair)


@dataclass(frozen=True)
class _Drawn:
    """A small world in memory: labels, profiles, vectors and a split."""

    matrix: LabelMatrix
    profiles: xr.DataArray
    embedding: Embedding
    split: Split

    @property
    def n_pairs(self) -> int:
        return len(self.matrix.perturbations) * len(self.matrix.genes)

    @classmethod
    def of(cls, n: int, n_genes: int, dim: int) -> _Drawn:
        random = np.random.default_rng(0)
        names = tuple(f"g{i:05d}" for i in range(n))
        genes = tuple(f"g{i:05d}" for i in range(n_genes))
        shares = (_CHANGED / 2, 1 - _CHANGED, _CHANGED / 2)
        labels = random.choice(np.array([-1, 0, 1], np.int8), (n, n_genes), p=shares)
        store = MemoryStore()
        array = zarr.create_array(store, shape=labels.shape, chunks=labels.shape, dtype=np.int8)
        array[:] = labels
        values = random.gamma(1.0, 0.5, n_genes) + random.normal(0, 0.1, (1 + n, n_genes))
        profiles = xr.DataArray(
            np.abs(values).astype(np.float32),
            dims=(PERTURBATION, GENE),
            coords={
                PERTURBATION: np.array([CONTROL, *names], object),
                GENE: np.array(genes, object),
            },
        )
        n_test = max(2, n // 4)
        split = Split("probe", train=names[n_test:], test=names[:n_test], seed=0)
        named = max(genes, names, key=len)  # each other's beginning
        return cls(
            LabelMatrix(store, names, genes, "probe"),
            profiles,
            Embedding("probe", named, random.normal(size=(len(named), dim))),
            split,
        )

    def classes(self, name: str) -> None:
        """Do a unit of classes, as the benchmark does."""
        _predict_and_score(self.class_unit(name))

    def class_unit(self, name: str) -> ClassUnit:
        """Return the unit of a method."""
        model = EXPRESSION_MODELS.get(name)
        return ClassUnit(
            task=WITHIN,
            context="probe",
            split=self.split,
            target_genes=dict.fromkeys(self.matrix.perturbations, ()),
            labels="full",
            matrix=self.matrix,
            method=name,
            predictor=self._fitted(name) if model is None else self._thresholded(model),
            settings=_SETTINGS,
        )

    def _fitted(self, name: str) -> Predictor:
        return ClassifierPredictor(
            method=METHODS[name],
            training=TrainingSet(
                (TrainingLabels(self.matrix, self.split.train),), self.split.train
            ),
            test_groups={name: name for name in self.split.test},
            embedding=self.embedding,
        )

    def _thresholded(self, method: ExpressionMethod) -> Predictor:
        return ThresholdPredictor(
            changes=ModelChanges(
                method=method, profiles=_DrawnProfiles(self), embedding=None, targets={}, seed=0
            ),
            genes=self.matrix.genes,
            covered=frozenset(self.matrix.perturbations),
            rule="match_rate",
            is_file=False,
            source_key="probe",
        )

    def expression(self, models: Mapping[str, ExpressionMethod]) -> None:
        """Do a unit of expression."""
        _predict_and_score(self.expression_unit(models))

    def expression_unit(self, models: Mapping[str, ExpressionMethod]) -> ExpressionUnit:
        """Return the unit of some models."""
        return ExpressionUnit(
            task=SINGLE,
            context="probe",
            split=self.split,
            target_genes={},
            profiles=_DrawnProfiles(self),
            models=models,
        )


def _predict_and_score(unit: Unit) -> None:
    """Do a unit; one that is impossible with so few perturbations will take no time either."""
    store = MemoryStore()
    outcome = unit.predict(store)
    if outcome.params:
        unit.score(store, outcome.params, held=outcome.held)


@dataclass(frozen=True)
class _DrawnProfiles:
    """Profiles of a small world."""

    drawn: _Drawn
    key: str = "probe"
    n_bytes: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.drawn.split.train), len(self.drawn.matrix.genes)

    def train(self) -> xr.DataArray:
        return self.drawn.profiles.sel({PERTURBATION: [CONTROL, *self.drawn.split.train]})

    def observed(self) -> xr.DataArray:
        return self.drawn.profiles.chunk()

    def components(self, train: xr.DataArray) -> np.ndarray:
        return own_components(train)
