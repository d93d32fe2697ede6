"""The second paper's tasks: the expression of held-out singles and doubles, and what interacts.

A unit is all models on one split of one context: they are compared on common genes and
perturbations, so they are scored together. Like a unit of the classifiers it is a folder that is
renamed into place when it is complete, with the hash of all that it depends on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from pertscale.baselines import EXPRESSION_MODELS, MeanExpression
from pertscale.benchmark.units import slug
from pertscale.conditions import targets
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import call_curve, compare_expression, predicted_pairs
from pertscale.hashing import digest
from pertscale.io.atomic import atomic_path, read_json, write_json
from pertscale.io.tables import declared_frame, read_table, write_table
from pertscale.schema import (
    CONTROL,
    GENE,
    MODEL,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCORE_COLUMNS,
)
from pertscale.splits import Split
from pertscale.stats.interactions import Interactions

SINGLE: Final = "single"
DOUBLE: Final = "double"
#: The setting of their scores: the genes that the control expresses most.
TOP_EXPRESSED: Final = "top_expressed"
#: Raised when the meaning of a unit's files changes, so that old ones are not taken.
_VERSION: Final = 1


@dataclass(frozen=True)
class ExpressionUnit:
    """What to fit and score.

    Attributes
    ----------
    context : str
    task : {'single', 'double'}
    split : Split
        Its test and validation parts are held out together (SPEC D5).
    models : tuple of str
        Of :data:`pertscale.baselines.EXPRESSION_MODELS`.
    """

    context: str
    task: str
    split: Split
    models: tuple[str, ...]

    @property
    def held_out(self) -> list[str]:
        """Perturbations that are predicted."""
        return [*self.split.test, *self.split.val]

    @property
    def folder(self) -> str:
        """Folder below the output folder."""
        return f"{PREDICTIONS_DIR}/{slug(self.context)}/{self.task}/{self.split.name}/expression"

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        return f"{self.context} / {self.task} / {self.split.name}"

    def key(self, labels_key: str) -> str:
        """Hash of all that the unit's files depend on; labels and profiles have one key."""
        return digest(
            _VERSION, labels_key, self.context, self.task, self.split.hash, self.split.name,
            self.split.seed, list(self.models),
        )  # fmt: skip


def single_unit(context: str, split: Split, models: Sequence[str]) -> ExpressionUnit:
    """Restrict a split to single perturbations; raises InputError where nothing is left."""
    everyone = [*split.train, *split.test, *split.val]
    singles = [n for n in everyone if len(targets(n)) == 1]
    return ExpressionUnit(context, SINGLE, split.restrict(singles), tuple(models))


def double_unit(context: str, split: Split, models: Sequence[str]) -> ExpressionUnit:
    """Hold out the doubles of a split; its held-out singles are neither predicted nor used."""
    parts = {p: [n for n in getattr(split, p) if len(targets(n)) > 1] for p in ("test", "val")}
    kept = [*split.train, *parts["test"], *parts["val"]]
    return ExpressionUnit(context, DOUBLE, split.restrict(kept), tuple(models))


def is_done(out: Path, unit: ExpressionUnit, labels_key: str) -> bool:
    """Whether the unit's folder is there and belongs to the same inputs."""
    marker = out / unit.folder / "unit.json"
    return marker.exists() and read_json(marker)["key"] == unit.key(labels_key)


def run_unit(
    out: Path, unit: ExpressionUnit, profiles: xr.DataArray, labels_key: str
) -> dict[str, float]:
    """Fit and score all models of a unit, and keep their predictions; return their seconds.

    Memory: the profiles that are held out, once per model; training profiles pass in blocks.
    """
    train = _rows(profiles, [CONTROL, *unit.split.train])
    truth = _rows(profiles, unit.held_out).compute()
    predictions: dict[str, xr.DataArray] = {}
    models, failed, seconds = {}, {}, {}
    for name in unit.models:
        started = time.perf_counter()
        model = EXPRESSION_MODELS[name](unit.split.seed)
        try:
            predicted = model.fit(train).predict(unit.held_out)
        except (ArgumentError, InputError) as error:  # too few conditions for a model
            failed[name] = str(error)
            continue
        if predicted.isnull().all():
            failed[name] = "it can predict none of the held-out perturbations"
            continue
        predictions[name] = predicted
        models[name] = model.fitted_params()
        seconds[name] = time.perf_counter() - started
    scores = declared_frame([], SCORE_COLUMNS)
    if predictions:
        control = _rows(profiles, [CONTROL])[0].compute()
        background = MeanExpression(over="perturbations").fit(train).predict(["mean"])[0]
        table = compare_expression(truth, predictions, control=control, background=background)
        scores = _with_head(table, unit, models)
    with atomic_path(out / unit.folder) as temporary:
        _write_predictions(temporary / "prediction.zarr", unit, truth, predictions)
        write_table(temporary / "scores.parquet", scores)
        record = {"key": unit.key(labels_key), "models": models, "failed": failed}
        write_json(temporary / "unit.json", record)
    return seconds


def unit_record(out: Path, unit: ExpressionUnit) -> dict[str, Any]:
    """Return the models of a finished unit with their parameters, and why others failed."""
    return dict(read_json(out / unit.folder / "unit.json"))


def open_predictions(out: Path, folder: str) -> xr.Dataset:
    """Open ``prediction`` (model, perturbation, gene) and ``truth`` of a unit, lazily."""
    dataset = xr.open_zarr(out / folder / "prediction.zarr", consolidated=False)
    names = {n: dataset[n].compute().astype(object) for n in (MODEL, PERTURBATION, GENE)}
    return dataset.assign_coords(names)


def _rows(profiles: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    at = pd.Index(profiles[PERTURBATION].values.astype(str)).get_indexer(list(names))
    return profiles.isel({PERTURBATION: at})


def _write_predictions(
    path: Path, unit: ExpressionUnit, truth: xr.DataArray, predictions: dict[str, xr.DataArray]
) -> None:
    genes = truth[GENE].values.astype(object)
    coords = {
        MODEL: np.array(list(predictions), dtype=object),
        PERTURBATION: np.array(unit.held_out, dtype=object),
        GENE: genes,
    }
    attrs = {"context": unit.context, "task": unit.task, "split": unit.split.name}
    xr.Dataset(coords=coords, attrs=attrs).to_zarr(path, zarr_format=3, consolidated=False)
    root: Any = zarr.open_group(path, mode="r+")
    shape = (len(predictions), *truth.shape)
    rows = max(1, min(truth.shape[0], 4_000_000 // max(1, truth.shape[1])))
    made = {
        name: root.create_array(
            name, shape=shape[-len(dims) :], chunks=(1, rows, shape[2])[-len(dims) :],
            dtype=np.float32, dimension_names=dims, fill_value=np.nan,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
        )
        for name, dims in (
            ("prediction", (MODEL, PERTURBATION, GENE)), ("truth", (PERTURBATION, GENE)),
        )
    }  # fmt: skip
    made["truth"][:] = truth.values
    for i, prediction in enumerate(predictions.values()):
        made["prediction"][i] = prediction.reindex({GENE: genes}).values


def _with_head(
    table: pd.DataFrame, unit: ExpressionUnit, models: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    head = {
        "task": unit.task,
        "setting": TOP_EXPRESSED,
        "context": unit.context,
        "train_contexts": unit.context,
        "split": unit.split.name,
        "seed": unit.split.seed,
        "params": table["method"].map(
            {name: json.dumps(params, sort_keys=True) for name, params in models.items()}
        ),
    }
    return table.assign(**head)[[c.name for c in SCORE_COLUMNS]]


# --- interactions ---------------------------------------------------------------------------------


def score_interactions(out: Path, unit: ExpressionUnit, found: Interactions) -> pd.DataFrame:
    """Score how well each model's deviations from additivity find the interactions (SPEC J5-J7).

    A model that is additive has no deviation and is left out, as are held-out doubles that were
    not judged, and doubles or genes that a model does not predict are called last.
    """
    rows = []
    predictions = open_predictions(out, unit.folder)["prediction"]
    for method, pairs in predicted_pairs(found.table, predictions):
        interaction = pairs["interaction"].to_numpy()
        if interaction.all() or not interaction.any():
            continue
        curve = call_curve(pairs["predicted_deviation"].to_numpy(), interaction)
        for metric, value in (
            ("auprc_interactions", curve.auprc()),
            ("auroc_interactions", curve.auroc()),
        ):
            rows.append((method, "overall", "", metric, value, len(pairs)))
    table = pd.DataFrame(rows, columns=["method", "level", "group", "metric", "value", "n"])
    models = unit_record(out, unit)["models"]
    return _with_head(table, unit, models).assign(task="interactions")


def read_unit_scores(out: Path, units: Sequence[ExpressionUnit]) -> list[pd.DataFrame]:
    """Read the scores of all units, in their order."""
    return [read_table(out / unit.folder / "scores.parquet") for unit in units]
