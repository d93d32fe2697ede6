"""What the figures of one task of expression are made of, read once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.errors import InputError
from pertscale.evaluation import own_targets
from pertscale.report.figures.style import short
from pertscale.report.findings import compared_numbers
from pertscale.results.averages import of_methods
from pertscale.results.comparisons import told
from pertscale.schema import CONTROL, GENE, MODEL, PERTURBATION, TOP_EXPRESSED

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult


@dataclass(frozen=True, eq=False)
class ComparedSplit:
    """What one split compares: methods on one set of perturbations.

    Memory: the truth, once it is asked for, and the predictions of one method at a time.

    Attributes
    ----------
    predictions : Dataset
        ``prediction`` and ``truth``, lazily. What files and own models leave out is NaN.
    control : ndarray (gene,)
        Mean log1p expression of the controls.
    """

    predictions: xr.Dataset
    control: np.ndarray

    @property
    def perturbations(self) -> list[str]:
        """Those that are compared."""
        return [str(name) for name in self.predictions[PERTURBATION].values]

    @cached_property
    def truth(self) -> np.ndarray:
        """Observed profiles, (perturbation, gene)."""
        return np.asarray(self.predictions["truth"].values)

    def by_method(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each method and what it predicts, (perturbation, gene).

        What it leaves out counts as no change, as in the scores.
        """
        level = self.control.astype(np.float32)
        lazy = self.predictions["prediction"]
        for at, name in enumerate(self.predictions[MODEL].values):
            values = lazy[at].values
            lacking = np.isnan(values)
            yield str(name), np.where(lacking, level, values) if lacking.any() else values


@dataclass(frozen=True)
class ComparedTask:
    """A task of one context, and what of its predictions is compared."""

    result: BenchmarkResult
    context: str
    task: str

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Means of the scores that figures show: what files leave out counts as no change."""
        rows = of_methods(self.result.means)
        keys = ["context", "task", "setting"]
        return rows[(rows[keys] == [self.context, self.task, TOP_EXPRESSED]).all(axis=1)]

    @cached_property
    def averages(self) -> pd.DataFrame:
        """The same averaged over splits, with intervals."""
        rows = of_methods(self.result.averages)
        keys = ["context", "task", "setting"]
        return rows[(rows[keys] == [self.context, self.task, TOP_EXPRESSED]).all(axis=1)]

    @cached_property
    def told(self) -> str:
        """How many of the held-out perturbations are compared, in words."""
        return told(*compared_numbers(self.rows))

    @property
    def title(self) -> str:
        """Title of a figure."""
        return f"{short(self.context)}: {self.task}s, {self.told}"

    def scores(self, metric: str) -> pd.DataFrame:
        """Return the scores of each perturbation; InputError if there are none."""
        rows = self._single[self._single["metric"] == metric]
        if not len(rows):
            raise InputError(
                f"there are no scores of task {self.task!r} and {metric!r} in {self.context!r}"
            )
        return rows

    @cached_property
    def _single(self) -> pd.DataFrame:
        rows = self.result.perturbation_scores(
            context=self.context, task=self.task, setting=TOP_EXPRESSED
        )
        return of_methods(rows)

    @cached_property
    def control(self) -> np.ndarray:
        """Mean log1p expression of the controls, (gene,)."""
        profiles = self.result.pseudobulk["mean_log1p"]
        mine = profiles["context"].values == self.context
        mine &= profiles[PERTURBATION].values == CONTROL
        return np.asarray(profiles.isel({PERTURBATION: mine}).values[0], np.float64)

    def splits(self) -> Iterator[ComparedSplit]:
        """Yield what each split compares."""
        for split in self.scores("l2")["split"].unique():
            yield self.first if split == self.first_split else self._compared(str(split))

    @cached_property
    def first(self) -> ComparedSplit:
        """That of the first split."""
        return self._compared(self.first_split)

    @property
    def first_split(self) -> str:
        """Name of the first split."""
        return str(self.scores("l2")["split"].iloc[0])

    def _compared(self, split: str) -> ComparedSplit:
        mine = self._single[self._single["split"] == split]
        dataset = self.result.expression(context=self.context, task=self.task, split=split)
        methods = dataset[MODEL].isin(list(mine["method"].unique())).values
        names = dataset[PERTURBATION].isin(list(mine["group"].unique())).values
        return ComparedSplit(dataset.isel({MODEL: methods, PERTURBATION: names}), self.control)

    def strongest(self) -> str:
        """Return the compared perturbation of the first split that changes most."""
        sizes = np.linalg.norm(self.first.truth - self.control, axis=1)
        return self.first.perturbations[int(np.argmax(sizes))]

    def own_targets(self, split: ComparedSplit) -> np.ndarray | None:
        """Mark the genes that each perturbation targets, where scores leave these out."""
        if self.result.manifest["options"]["targets"] != "exclude":
            return None
        genes = [str(n) for n in split.predictions[GENE].values]
        return own_targets(split.perturbations, genes, target_genes=self.target_genes)

    @cached_property
    def target_genes(self) -> dict[str, tuple[str, ...]]:
        """Genes that each perturbation targets."""
        table = self.result.labels.perturbations
        mine = table[table["context"] == self.context]
        return {
            str(name): tuple(str(genes).split("+"))
            for name, genes in zip(mine[PERTURBATION], mine["targets"], strict=True)
        }
