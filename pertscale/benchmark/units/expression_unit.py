"""The second paper's tasks: the expression of held-out singles and doubles, and what interacts.

A unit is all models on one split of one context: they are compared on common genes and
perturbations, so they are scored together.

A table is of one set of perturbations. Baselines that predict fewer, such as the linear model,
which needs the targets read out, stand apart on those that they predict, and in a second table what
they do not predict counts as no change. So it does for outsiders (predictions from files, and
models of users) in the first table; a third one compares on what all of these predict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from pertscale.baselines import ExpressionMethod, MeanExpression
from pertscale.baselines.expression.base import BLOCK_BYTES, rows_of
from pertscale.baselines.registry import SCORED_ON_HALVES
from pertscale.benchmark.units.base import Outcome, Unit, UnitScores, with_head
from pertscale.benchmark.units.ceilings import Ceilings
from pertscale.benchmark.units.halves import ContextHalves
from pertscale.benchmark.units.learned import Vectors, opened
from pertscale.benchmark.units.predictors import PREDICTS_NONE
from pertscale.benchmark.units.profiles import Profiles
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import compare_expression, no_effect, no_effect_elsewhere
from pertscale.evaluation.expression import N_GENES, top_genes
from pertscale.evaluation.shared_control import Controls
from pertscale.evaluation.target_genes import Targets
from pertscale.hashing import digest
from pertscale.io.zarr_datasets import Variable, create_dataset, write_names
from pertscale.predictions.predictions import AlignedPredictions
from pertscale.schema import (
    COMMON,
    CONTROL,
    FILLED,
    GENE,
    MODEL,
    PARTIAL,
    PERTURBATION,
    TOP_EXPRESSED,
)
from pertscale.versions import PREDICTIONS_VERSION


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpressionUnit(Unit):
    """All models on one split, which are compared with each other.

    Attributes
    ----------
    profiles : Profiles
    models : dict of str to ExpressionMethod
        What is fitted, by name.
    user_models : frozenset of str
        Which of these are a user's.
    given : dict of str to AlignedPredictions
        Predictions from files, by name.
    embedding : Vectors, optional
        For models of users that need one.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets are left out of its scores.
    controls : {'split', 'shared'}
        Whether predicted and true changes are from halves of the controls, where there are any.
    n_cells : dict of str to int
        Cells of each perturbation and of the control, where they are known.
    halves : ContextHalves, optional
        Halves of the cells: replicates are scored then, and the truth's noise is known.
    """

    profiles: Profiles
    models: Mapping[str, ExpressionMethod]
    user_models: frozenset[str] = frozenset()
    given: Mapping[str, AlignedPredictions] = field(default_factory=dict)
    embedding: Vectors | None = None
    targets: Targets = "exclude"
    controls: Controls = "split"
    n_cells: Mapping[str, int] = field(default_factory=dict)
    halves: ContextHalves | None = None

    stage: ClassVar[str] = "expression"

    @property
    def file_name(self) -> str:
        """Name of the folder, which holds all models."""
        return "expression"

    @property
    def kind(self) -> str:
        """The task."""
        return self.task

    @property
    def held_out(self) -> list[str]:
        """Perturbations that are predicted."""
        return list(self.split.held_out)

    @property
    def key(self) -> str:
        """Hash of all that the predictions depend on."""
        models = [[name, model.version, model.key] for name, model in self.models.items()]
        given = [[name, predictions.key] for name, predictions in self.given.items()]
        needed = any(model.needs_embedding for model in self.models.values())
        vectors = self.embedding.hash if needed and self.embedding is not None else ""
        return digest(
            PREDICTIONS_VERSION,
            self.profiles.key,
            self.context,
            self.task,
            self.source,
            self.split.hash,
            self.split.name,
            self.split.seed,
            models,
            given,
            vectors,
        )

    @property
    def n_pairs(self) -> int:
        """Pairs that are predicted, of all models."""
        n_models = len(self.models) + len(self.given)
        return n_models * len(self.held_out) * self.profiles.shape[1]

    @property
    def cost(self) -> float:
        """Pairs of all models."""
        return float(self.n_pairs)

    @property
    def n_bytes(self) -> int:
        """Predictions of one model and the truth, of all on the genes that are scored, profiles.

        Of replicates some ten arrays on these genes.
        """
        n_genes = self.profiles.shape[1]
        scored = self.n_pairs * min(N_GENES, n_genes) // max(1, n_genes)
        one = len(self.held_out) * n_genes
        if self.halves is not None:
            scored += 5 * len(self.held_out) * min(N_GENES, n_genes)
        return 16 * one + 16 * scored + 2 * BLOCK_BYTES + self.profiles.n_bytes

    @property
    def is_local(self) -> bool:
        """Whether there are predictions of files, which this process has read."""
        return bool(self.given)

    @property
    def scoring(self) -> str:
        """Hash of what scores depend on beside the predictions; of the halves of the cells, too."""
        if self.halves is None:
            return digest(self.targets)
        left_out = sorted(self.halves.left_out)
        n_replicates = self.halves.n_replicates
        return digest(self.targets, self.controls, self.halves.key, n_replicates, left_out)

    def predict(self, store: Any) -> Outcome:
        """Fit all models, and write their predictions and those of files to a path or Zarr store.

        Memory: the held-out profiles twice, whatever the number of models; training profiles pass
        in blocks.
        """
        truth = rows_of(self.profiles.observed(), self.held_out).astype(np.float32).compute()
        train = self.profiles.train()
        made = _create(store, self, truth)
        fitted, seconds = _fit_models(self, train, made.add)
        for name, given in self.given.items():
            made.add(name, truth.copy(data=given.profiles(self.held_out)))
        made.close()
        params = fitted.params | {name: g.params() for name, g in self.given.items()}
        return Outcome(params, fitted.failed, seconds, _Background.of(train) if params else None)

    def score(
        self, store: Any, params: dict[str, dict[str, Any]], *, held: Any = None
    ) -> UnitScores:
        """Return the scores of all predictions, in each of the settings that there are.

        Memory: the genes that are scored, of all models.
        """
        observed = self.profiles.observed()
        control = rows_of(observed, [CONTROL])[0].compute()
        genes = np.sort(top_genes(control.values, N_GENES))
        truth = rows_of(observed, self.held_out)[:, genes].compute()
        background = held or _Background.of(self.profiles.train())
        controls = self._halves_of_control(control, genes)
        split = controls is not None
        compare = partial(
            compare_expression,
            truth,
            control=control[genes],
            background=background.mean[genes],
            targets=self.targets,
            target_genes=self.target_genes,
            no_effect=_no_effect(self, background.names, split=split),
            noise=_noise(self.halves, truth, genes),
            controls=controls,
        )
        tables = list(
            _settings(
                {*self.given, *self.user_models}, _read_predictions(store, truth, genes), compare
            )
        )
        if self.halves is not None:
            ceilings = Ceilings(
                halves=self.halves,
                observed=observed,
                genes=genes,
                background=background.mean.values[genes],
                added_to_control=bool(self.train_contexts),
                targets=self.targets,
                target_genes=self.target_genes,
            )
            tables.append((TOP_EXPRESSED, ceilings.scores(truth, control.values[genes])))
            params = params | {name: {} for name in SCORED_ON_HALVES}
        head = {"task": self.task, "context": self.context, "train_contexts": self.source}
        parts = [with_head(t, params, self.split, **head, setting=s) for s, t in tables if len(t)]
        return UnitScores(pd.concat(parts, ignore_index=True))

    def _halves_of_control(self, control: xr.DataArray, genes: np.ndarray) -> np.ndarray | None:
        """Return the means of halves of the controls, (half, gene), if these are to be used."""
        if self.halves is None or self.controls == "shared":
            return None
        found = self.halves.means(0, [CONTROL], genes, control.values[None, genes])[:, 0]
        return None if np.isnan(found).any() else found


@dataclass(frozen=True)
class _Background:
    """The training perturbations, and their mean profile, (gene,)."""

    names: list[str]
    mean: xr.DataArray

    @classmethod
    def of(cls, train: xr.DataArray) -> _Background:
        names = [name for name in train[PERTURBATION].values.astype(str) if name != CONTROL]
        return cls(names, MeanExpression(over="perturbations").fit(train).predict(["mean"])[0])


@dataclass(frozen=True)
class _Fitted:
    """Parameters of fitted models, and why others have no predictions."""

    params: dict[str, dict[str, Any]]
    failed: dict[str, str]


def _fit_models(
    unit: ExpressionUnit, train: xr.DataArray, keep: Callable[[str, xr.DataArray], None]
) -> tuple[_Fitted, dict[str, float]]:
    """Fit one model after the other; `keep` gets what each predicts."""
    fitted, seconds = _Fitted({}, {}), {}
    embedding = None if unit.embedding is None else opened(unit.embedding)
    components = cache(partial(unit.profiles.components, train))  # of several models
    for name, method in unit.models.items():
        started = time.perf_counter()
        try:
            model = method.fit(
                train,
                seed=unit.split.seed,
                embedding=embedding,
                targets=unit.target_genes,
                components=components,
            )
            predicted = model.predict(unit.held_out).astype(np.float32)  # as it is written
        except (ArgumentError, InputError) as error:  # too few conditions for a model
            fitted.failed[name] = str(error)
            continue
        if predicted.isnull().all():
            fitted.failed[name] = PREDICTS_NONE
            continue
        fitted.params[name] = model.fitted_params()
        seconds[name] = time.perf_counter() - started
        keep(name, predicted)
    return fitted, seconds


def _settings(
    outsiders: set[str], predictions: dict[str, xr.DataArray], compare: partial[pd.DataFrame]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the settings that apply, with their scores."""
    both = compare(predictions, no_change=outsiders)
    yield TOP_EXPRESSED, both[~both["apart"]]
    apart = set(both.loc[both["apart"], "method"])
    if apart:
        yield PARTIAL, both[both["apart"]]
        yield FILLED, compare(predictions, no_change=list(predictions))
    if any(predictions[name].isnull().any() for name in outsiders & set(predictions)):
        rest = {name: found for name, found in predictions.items() if name not in apart}
        try:
            yield COMMON, compare(rest, perturbations="common")
        except InputError:
            return  # no gene that all of them predict


def _no_effect(unit: ExpressionUnit, train: Sequence[str], *, split: bool) -> dict[str, np.ndarray]:
    """Return what scores would be if no perturbation had an effect; nothing if cells are unknown.

    `train` are the perturbations that are trained on; `split` says whether changes are from halves
    of the controls.
    """
    nothing_shared = no_effect_elsewhere(len(unit.held_out))
    if unit.train_contexts:
        return nothing_shared
    if not unit.n_cells:
        return {}
    of = unit.n_cells.__getitem__
    shared = no_effect(
        np.array(list(map(of, unit.held_out))),
        n_control=of(CONTROL),
        n_training=np.array(list(map(of, train))),
    )
    return shared | nothing_shared if split else shared


def _noise(
    halves: ContextHalves | None, truth: xr.DataArray, genes: np.ndarray
) -> xr.DataArray | None:
    """Return the variances of the means of the truth, where those of the cells are known.

    Of a single cell none is known: as if there were no noise.
    """
    if halves is None:
        return None
    names = [str(name) for name in truth[PERTURBATION].values]
    variances = halves.variances(names, genes) / halves.sizes(names)[:, None]
    return truth.copy(data=np.nan_to_num(variances))


@dataclass(frozen=True)
class _Written:
    """A dataset to which the predictions of one model after the other are added."""

    store: Any
    genes: np.ndarray
    array: Any
    names: list[str] = field(default_factory=list)

    def add(self, name: str, prediction: xr.DataArray) -> None:
        """Write what a model predicts."""
        self.array.append(prediction.reindex({GENE: self.genes}).values[None])
        self.names.append(name)

    def close(self) -> None:
        """Write the names of the models."""
        write_names(self.store, MODEL, self.names)


def _create(store: Any, unit: ExpressionUnit, truth: xr.DataArray) -> _Written:
    genes = truth[GENE].values.astype(object)
    rows = min(truth.shape[0], 4_000_000 // max(1, truth.shape[1]))
    dims = (MODEL, PERTURBATION, GENE)
    made = create_dataset(
        store,
        coords={PERTURBATION: unit.held_out, GENE: genes.tolist()},
        attrs={"context": unit.context, "task": unit.task, "split": unit.split.name},
        variables={
            "prediction": Variable(dims, (1, rows, len(genes)), np.float32),
            "truth": Variable(dims[1:], (rows, len(genes)), np.float32),
        },
    )
    made["truth"][:] = truth.values
    return _Written(store, genes, made["prediction"])


def _read_predictions(
    store: Any, truth: xr.DataArray, genes: np.ndarray
) -> dict[str, xr.DataArray]:
    """Return what was written of some genes, by model; what a model does not predict is NaN.

    `truth` is of the same genes.
    """
    root: Any = zarr.open_group(store, mode="r")
    names, values = root[MODEL][:], root["prediction"]
    step = values.chunks[1]
    found = {}
    for i, name in enumerate(names):
        chosen = np.empty(truth.shape, np.float32)
        for start in range(0, len(chosen), step):
            rows = slice(start, start + step)
            chosen[rows] = values[i, rows][:, genes]
        found[str(name)] = truth.copy(data=chosen)
    return found
