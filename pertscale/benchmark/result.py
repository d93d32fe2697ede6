"""BenchmarkResult: what a benchmark wrote, read when it is asked for."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pertscale.benchmark.expression import open_predictions
from pertscale.errors import NotFoundError
from pertscale.io.atomic import read_json
from pertscale.io.tables import read_table
from pertscale.schema import (
    DROPS_FILE,
    INTERACTIONS_FILE,
    MANIFEST_FILE,
    REPORT_FILE,
    SCORES_FILE,
    SKIPPED_FILE,
    SPLITS_DIR,
    TIMINGS_FILE,
)
from pertscale.splits import Split
from pertscale.stats.labels import LabelTable, read_labels
from pertscale.stats.pseudobulk import read_pseudobulk

if TYPE_CHECKING:
    import xarray as xr

#: Metrics of the overview that a result shows of itself.
HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
EXPRESSION_HEADLINE = ("l2", "pearson_delta", "rank_l1", "spread_ratio")


@dataclass(frozen=True)
class BenchmarkResult:
    """The output folder of a benchmark.

    Attributes
    ----------
    path : Path
        The folder; every table is read from it when it is first asked for.
    """

    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, options, hashes and seeds of the run."""
        return dict(read_json(self.path / MANIFEST_FILE))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores, one row per metric (:data:`pertscale.schema.SCORE_COLUMNS`)."""
        return read_table(self.path / SCORES_FILE)

    @cached_property
    def labels(self) -> LabelTable:
        """The label table."""
        return read_labels(self.path)

    @cached_property
    def pseudobulk(self) -> xr.Dataset:
        """Mean expression per perturbation, lazily."""
        return read_pseudobulk(self.path)

    @cached_property
    def splits(self) -> dict[str, dict[str, Split]]:
        """Splits by context and name."""
        return {
            context: {
                name: Split.read(self.path / SPLITS_DIR / file) for name, file in files.items()
            }
            for context, files in self.manifest["splits"].items()
        }

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """What did not run, and why."""
        return read_table(self.path / SKIPPED_FILE)

    @cached_property
    def timings(self) -> pd.DataFrame:
        """Wall time of each stage."""
        return read_table(self.path / TIMINGS_FILE)

    @cached_property
    def drops(self) -> pd.DataFrame:
        """Cells, genes and perturbations that were left out, each with the reason."""
        return read_table(self.path / DROPS_FILE)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """Pairs of doubles and genes (:data:`pertscale.schema.INTERACTION_COLUMNS`)."""
        return read_table(self.path / INTERACTIONS_FILE)

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / REPORT_FILE

    def predictions(self, *, context: str, labels: str, split: str, method: str) -> xr.Dataset:
        """Open the predictions of one method, lazily.

        Parameters
        ----------
        context, split, method : str
            As in :attr:`scores`.
        labels : {'full', 'curated'}
            The labels the method was fitted on.

        Returns
        -------
        Dataset
            ``label`` (perturbation, gene) int8 and ``score`` (perturbation, gene, class) float32.

        Raises
        ------
        NotFoundError
            If the benchmark has no such predictions.
        """
        import xarray as xr

        for unit in self.manifest["units"]:
            if (unit["context"], unit["labels"], unit["split"], unit["method"]) == (
                context, labels, split, method,
            ):  # fmt: skip
                return xr.open_zarr(
                    self.path / unit["folder"] / "prediction.zarr", consolidated=False
                )
        raise NotFoundError(
            f"no predictions of {method!r} for context {context!r}, labels {labels!r}, split "
            f"{split!r} in {self.path}; see .manifest['units']"
        )

    def expression(self, *, context: str, task: str, split: str) -> xr.Dataset:
        """Open the predictions of all models of expression on one split, lazily.

        Parameters
        ----------
        context, task, split : str
            As in :attr:`scores`; `task` is ``'single'`` or ``'double'``.

        Returns
        -------
        Dataset
            ``prediction`` (model, perturbation, gene), float32 mean log1p expression, NaN where a
            model has none; ``truth`` (perturbation, gene).

        Raises
        ------
        NotFoundError
            If the benchmark has no such predictions.
        """
        for unit in self.manifest["expression"]:
            if (unit["context"], unit["task"], unit["split"]) == (context, task, split):
                return open_predictions(self.path, unit["folder"])
        raise NotFoundError(
            f"no predictions of expression for context {context!r}, task {task!r}, split {split!r} "
            f"in {self.path}; see .manifest['expression']"
        )

    def summary(self) -> pd.DataFrame:
        """Return the headline scores of classes: one row per context, setting, split and method."""
        return self._headline(HEADLINE, ["context", "setting", "split", "method"])

    def expression_summary(self) -> pd.DataFrame:
        """Return those of expression: one row per context, task, split and method."""
        return self._headline(EXPRESSION_HEADLINE, ["context", "task", "split", "method"])

    def _headline(self, metrics: tuple[str, ...], keys: list[str]) -> pd.DataFrame:
        overall = self.scores[
            (self.scores["level"] == "overall") & self.scores["metric"].isin(metrics)
        ]
        wide = overall.pivot_table(
            index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True
        )
        wide = wide.reindex(columns=list(metrics)).dropna(how="all")
        return wide.reset_index().rename_axis(columns=None)

    def _summaries(self) -> list[pd.DataFrame]:
        return [t.round(3) for t in (self.summary(), self.expression_summary()) if len(t)]

    def __repr__(self) -> str:
        tables = [table.to_string(index=False) for table in self._summaries()]
        return "\n".join([f"<BenchmarkResult {self.path}>", *tables])

    def _repr_html_(self) -> str:
        tables = [table.to_html(index=False, escape=True) for table in self._summaries()]
        where = html.escape(str(self.path))
        return f"<div><b>BenchmarkResult</b> {where}{''.join(tables)}</div>"


def read_result(path: str | os.PathLike[str]) -> BenchmarkResult:
    """Open the output folder of a finished benchmark.

    Raises
    ------
    NotFoundError
        If the folder holds no finished benchmark.
    """
    folder = Path(path)
    if not (folder / MANIFEST_FILE).exists():
        raise NotFoundError(
            f"no finished benchmark in {folder}; pertscale.run_benchmark(store, out=...) makes one"
        )
    return BenchmarkResult(folder)
