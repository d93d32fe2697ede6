"""The second paper's tasks: the expression of held-out singles and doubles, and what interacts.

A unit is all models on one split of one context: they are compared on common genes and
perturbations, so they are scored together. Like a unit of the classifiers it is a folder that is
renamed into place when it is complete, with the hash of all that it depends on.

A table is of one set of perturbations. Baselines that predict fewer, such as the linear model,
which needs the targets read out, stand apart on those that they predict, and a second table has all
with no change where they predict nothing. Outsiders, that is, predictions from files and models of
users, are scored so in the first table, and a third one compares on what all of these predict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.baselines import ExpressionMethod, MeanExpression
from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.units.class_unit import is_whole, with_head, write_unit
from pertscale.benchmark.units.predictors import PREDICTS_NONE
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import compare_expression, no_effect, no_effect_elsewhere
from pertscale.evaluation.target_genes import Targets
from pertscale.hashing import digest
from pertscale.io.parquet import declared_frame, read_table, write_table
from pertscale.io.zarr_datasets import Variable, create_dataset
from pertscale.predictions.predictions import AlignedPredictions
from pertscale.results.unit_files import REMEDY, read_unit
from pertscale.schema import (
    COMMON,
    CONTROL,
    FILLED,
    GENE,
    MODEL,
    PARTIAL,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCORE_COLUMNS,
    SCORES_FILE,
    TOP_EXPRESSED,
)
from pertscale.splits import Split
from pertscale.storage.atomic import atomic_path
from pertscale.storage.folder_names import folder_name, slug

#: Raised when the meaning of a unit's files changes, so that old ones are not taken.
_VERSION: Final = 5


@dataclass(frozen=True, eq=False)
class ExpressionUnit:
    """What to fit and score.

    Attributes
    ----------
    context : str
    task : {'single', 'double', 'transfer'}
    split : Split
        Whose held-out perturbations are predicted (method D5).
    models : dict of str to ExpressionMethod
        What is fitted, by name.
    own : frozenset of str
        Which of these are a user's.
    given : dict of str to AlignedPredictions
        Predictions from files, by name.
    embedding : Embedding, optional
        For models of users that need one.
    train_contexts : tuple of str
        Contexts that the models are fitted on.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets are left out of its scores.
    target_genes : dict of str to sequence of str
        Genes that each perturbation targets; where it has none, as their names say.
    n_cells : dict of str to int
        Cells of each perturbation and of the control, where they are known.
    """

    context: str
    task: str
    split: Split
    models: Mapping[str, ExpressionMethod]
    own: frozenset[str] = frozenset()
    given: Mapping[str, AlignedPredictions] = field(default_factory=dict)
    embedding: Embedding | None = None
    train_contexts: tuple[str, ...] = ()
    targets: Targets = "exclude"
    target_genes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    n_cells: Mapping[str, int] = field(default_factory=dict)

    @property
    def held_out(self) -> list[str]:
        """Perturbations that are predicted."""
        return list(self.split.held_out)

    @property
    def source(self) -> str:
        """Contexts that the models are fitted on, as in score tables."""
        return ",".join(self.train_contexts or (self.context,))

    @property
    def folder(self) -> str:
        """Folder below the output folder."""
        kind = f"{self.task}-from-{slug(self.source)}" if self.train_contexts else self.task
        split = folder_name(self.split.name)
        return f"{PREDICTIONS_DIR}/{slug(self.context)}/{kind}/{split}/expression"

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        source = f" from {self.source}" if self.train_contexts else ""
        return f"{self.context}{source} / {self.task} / {self.split.name}"

    def key(self, inputs: str) -> str:
        """Hash of all that the unit's files depend on; `inputs` is that of the profiles."""
        models = [[name, model.key] for name, model in self.models.items()]
        given = [[name, found.key] for name, found in self.given.items()]
        needed = any(model.needs_embedding for model in self.models.values())
        vectors = self.embedding.hash if needed and self.embedding is not None else ""
        return digest(
            _VERSION,
            inputs,
            self.context,
            self.task,
            self.source,
            self.split.hash,
            self.split.name,
            self.split.seed,
            models,
            given,
            vectors,
            self.targets,
        )


def is_done(
    out: Path, unit: ExpressionUnit, inputs: str, *, content: bool = True, quiet: bool = True
) -> bool:
    """Whether the unit's folder belongs to the same inputs, and is whole; see :func:`is_whole`."""
    return is_whole(out / unit.folder, unit.key(inputs), content=content, quiet=quiet)


def run_unit(
    out: Path, unit: ExpressionUnit, train: xr.DataArray, observed: xr.DataArray, inputs: str
) -> dict[str, float]:
    """Fit and score all models of a unit, and keep their predictions; return their seconds.

    Parameters
    ----------
    out : Path
    unit : ExpressionUnit
    train : DataArray (perturbation, gene)
        Profiles to fit on, the control among them.
    observed : DataArray (perturbation, gene)
        Profiles of the context itself, its control among them; the truth.
    inputs : str
        Hash of both.

    Notes
    -----
    Memory: the profiles that are held out, once per model; training profiles pass in blocks.
    """
    with atomic_path(out / unit.folder) as temporary:
        scores, record, seconds = fit_and_score(
            temporary / "prediction.zarr", unit, train, observed
        )
        write_table(temporary / SCORES_FILE, scores)
        write_unit(temporary, {"key": unit.key(inputs), **record})
    return seconds


def fit_and_score(
    place: Any, unit: ExpressionUnit, train: xr.DataArray, observed: xr.DataArray
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, float]]:
    """Fit all models, write their predictions to `place`, a path or a Zarr store, and score them.

    Returns
    -------
    scores : DataFrame
    record : dict
        Parameters of the models, and why others failed.
    seconds : dict
        Of each model.
    """
    truth = rows_of(observed, unit.held_out).compute()
    control = rows_of(observed, [CONTROL])[0].compute()
    fitted, seconds = _fit_models(unit, train)
    predictions = {**fitted.predictions, **_given_profiles(unit, truth)}
    params = fitted.params | {name: found.params() for name, found in unit.given.items()}
    scores = declared_frame([], SCORE_COLUMNS)
    if predictions:
        background = MeanExpression(over="perturbations").fit(train).predict(["mean"])[0]
        trained = [name for name in train[PERTURBATION].values.astype(str) if name != CONTROL]
        expected = _no_effect(unit, trained)
        scores = _scores(unit, truth, predictions, params, control, background, expected)
    _write_predictions(place, unit, truth, predictions)
    return scores, {"models": params, "failed": fitted.failed}, seconds


@dataclass(frozen=True)
class _Fitted:
    """Predictions of fitted models, their parameters, and why others have none."""

    predictions: dict[str, xr.DataArray]
    params: dict[str, dict[str, Any]]
    failed: dict[str, str]


def _fit_models(unit: ExpressionUnit, train: xr.DataArray) -> tuple[_Fitted, dict[str, float]]:
    found, seconds = _Fitted({}, {}, {}), {}
    for name, method in unit.models.items():
        started = time.perf_counter()
        try:
            model = method.fit(
                train, seed=unit.split.seed, embedding=unit.embedding, targets=unit.target_genes
            )
            predicted = model.predict(unit.held_out)
        except (ArgumentError, InputError) as error:  # too few conditions for a model
            found.failed[name] = str(error)
            continue
        if predicted.isnull().all():
            found.failed[name] = PREDICTS_NONE
            continue
        found.predictions[name] = predicted
        found.params[name] = model.fitted_params()
        seconds[name] = time.perf_counter() - started
    return found, seconds


def _given_profiles(unit: ExpressionUnit, truth: xr.DataArray) -> dict[str, xr.DataArray]:
    return {
        name: truth.copy(data=found.profiles(unit.held_out)) for name, found in unit.given.items()
    }


def _scores(
    unit: ExpressionUnit,
    truth: xr.DataArray,
    predictions: dict[str, xr.DataArray],
    params: dict[str, dict[str, Any]],
    control: xr.DataArray,
    background: xr.DataArray,
    expected: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Score all predictions in each of the settings."""
    compare = partial(
        compare_expression,
        truth,
        control=control,
        background=background,
        targets=unit.targets,
        target_genes=unit.target_genes,
        no_effect=expected,
    )
    tables = _settings({*unit.given, *unit.own}, predictions, compare)
    head = {"task": unit.task, "context": unit.context, "train_contexts": unit.source}
    return pd.concat(
        [with_head(t, unit.split, None, params, **head, setting=s) for s, t in tables],
        ignore_index=True,
    )


def _settings(
    outsiders: set[str], predictions: dict[str, xr.DataArray], compare: partial[pd.DataFrame]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the settings that there are, with their scores."""
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


def _no_effect(unit: ExpressionUnit, train: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what scores would be if no perturbation had an effect; nothing if cells are unknown.

    `train` are the perturbations that are trained on.
    """
    if unit.train_contexts:
        return no_effect_elsewhere(len(unit.held_out))
    if not unit.n_cells:
        return {}
    of = unit.n_cells.__getitem__
    return no_effect(
        np.array(list(map(of, unit.held_out))),
        n_control=of(CONTROL),
        n_training=np.array(list(map(of, train))),
    )


def unit_record(out: Path, unit: ExpressionUnit) -> dict[str, Any]:
    """Return the models of a finished unit with their parameters, and why others failed."""
    return read_unit(out / unit.folder)


def _write_predictions(
    path: Any, unit: ExpressionUnit, truth: xr.DataArray, predictions: dict[str, xr.DataArray]
) -> None:
    genes = truth[GENE].values.astype(object)
    rows = min(truth.shape[0], 4_000_000 // max(1, truth.shape[1]))
    dims = (MODEL, PERTURBATION, GENE)
    made = create_dataset(
        path,
        coords={MODEL: list(predictions), PERTURBATION: unit.held_out, GENE: genes.tolist()},
        attrs={"context": unit.context, "task": unit.task, "split": unit.split.name},
        variables={
            "prediction": Variable(dims, (1, rows, len(genes)), np.float32),
            "truth": Variable(dims[1:], (rows, len(genes)), np.float32),
        },
    )
    made["truth"][:] = truth.values
    for i, prediction in enumerate(predictions.values()):
        made["prediction"][i] = prediction.reindex({GENE: genes}).values


# --- interactions ---------------------------------------------------------------------------------


def read_unit_scores(out: Path, units: Sequence[ExpressionUnit]) -> list[pd.DataFrame]:
    """Read the scores of all units, in their order."""
    return [read_table(out / unit.folder / SCORES_FILE, remedy=REMEDY) for unit in units]
