"""Scores of a finished run in which pairs count as much as their labels are sure (method P4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from pertscale.baselines.registry import SCORED_ON_HALVES
from pertscale.errors import NotFoundError
from pertscale.evaluation.operating_point import share_changed
from pertscale.evaluation.target_genes import own_targets
from pertscale.evaluation.weighted_classes import evaluate_weighted
from pertscale.perturbation_names import targets
from pertscale.schema import CONTEXT, GENE, PERTURBATION, WITHIN
from pertscale.splits import Split
from pertscale.stats.label_confidence import confidence_matrix
from pertscale.stats.labels.table import LabelTable
from pertscale.storage.locations import Location

if TYPE_CHECKING:
    import xarray as xr


class WeightedResult(Protocol):
    """What is needed of a BenchmarkResult."""

    @property
    def path(self) -> Location:
        """Its folder."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What was run."""

    @property
    def labels(self) -> LabelTable:
        """The label table."""

    @property
    def splits(self) -> dict[str, dict[str, Split]]:
        """Splits by context and name."""

    @property
    def means(self) -> pd.DataFrame:
        """Scores of no single perturbation."""

    def predictions(self, *, context: str, labels: str, split: str, method: str) -> xr.Dataset:
        """Open the predictions of a method."""


def confidence_weighted(result: WeightedResult, context: str, split: str) -> pd.DataFrame:
    """Return the scores of all methods that were fitted on full labels of a context."""
    wanted = {"task": WITHIN, "context": context, "labels": "full", "split": split}
    methods = [
        unit["method"]
        for unit in result.manifest["units"]
        if all(unit[key] == value for key, value in wanted.items())
        and unit["method"] not in SCORED_ON_HALVES
    ]
    if not methods:
        raise NotFoundError(
            f"no classes of context {context!r} and split {split!r} in {result.path}; see "
            ".manifest['units']"
        )
    tables = list(_scored(result, context, split, methods))
    return pd.concat(tables, ignore_index=True)


def _scored(
    result: WeightedResult, context: str, split: str, methods: list[str]
) -> Iterator[pd.DataFrame]:
    parts = result.splits[context][split]
    labels, names = result.labels.matrix(context), list(parts.held_out)
    genes = list(labels[GENE].values)
    rate = share_changed(labels.sel({PERTURBATION: list(parts.train)}).values)
    table = result.labels.perturbations
    of_name = table[table[CONTEXT] == context].set_index(PERTURBATION)["targets"]
    known = {name: targets(of_name[name]) for name in names}
    weights = confidence_matrix(result.path, context=context).sel({PERTURBATION: names}).values
    weights = np.where(own_targets(names, genes, target_genes=known), np.float32(np.nan), weights)
    truth = labels.sel({PERTURBATION: names}).values
    points = result.means.groupby("method")["operating_point"].unique()
    for method in methods:
        made = result.predictions(context=context, labels="full", split=split, method=method)
        found = evaluate_weighted(
            truth,
            made["label"].values,
            weights=weights,
            scores=made["score"].values,
            training_rate=rate,
        )
        found = found[found["operating_point"].isin([*points[method], ""])]
        found.insert(0, "method", method)
        yield found
