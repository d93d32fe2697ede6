"""Figures of predicted expression (the second paper's Figs 1a, 1b, 2a, 2c, Ext 1, 2, 7-10).

Each takes a :class:`pertscale.BenchmarkResult`, or tables and arrays of one, and returns a
matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.evaluation import error_by_genes
from pertscale.evaluation.expression import By, gene_numbers, top_genes
from pertscale.evaluation.resampling.versions import interval_of_mean
from pertscale.report.figures.expression_data import ComparedSplit, ComparedTask
from pertscale.report.figures.layout import label_all, legend_beside, log_scale
from pertscale.report.figures.style import (
    COLORS,
    STYLE,
    histogram,
    name_ticks,
    new_figure,
    panels,
    short,
)
from pertscale.schema import MODEL, PERTURBATION

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

#: Perturbations of a swarm that are drawn; more would only be a blot.
_MAX_POINTS = 2000
#: Pairs whose errors are worked out at a time.
_PAIRS_AT_A_TIME = 2_000_000


@checked
def prediction_error(
    result: BenchmarkResult, *, context: str, task: str = "double", metric: str = "l2"
) -> Figure:
    """Error of every held-out perturbation, by method, with the means (Fig 1a, 2a).

    Methods are ordered by their mean, which has its 95 % interval; a dashed line marks the
    smallest. All are of one set of perturbations.
    """
    return draw_errors(ComparedTask(result, context, task), metric=metric)


def draw_errors(of: ComparedTask, *, metric: str = "l2") -> Figure:
    """Draw :func:`prediction_error`."""
    rows = of.scores(metric)
    found = of.averages[of.averages["metric"] == metric].set_index("method").sort_values("value")
    means = found["value"]
    with mpl.rc_context(STYLE):
        figure = new_figure(0.9 * len(means) + 1.6, 3.6)
        axis = figure.subplots()
        for i, method in enumerate(means.index):
            values = rows.loc[rows["method"] == method, "value"].dropna().to_numpy()
            values = values[
                np.linspace(0, len(values) - 1, min(len(values), _MAX_POINTS)).astype(int)
            ]
            axis.scatter(
                i + _swarm(values),
                values,
                s=7,
                color=COLORS[0],
                alpha=0.5,
                linewidths=0,
                rasterized=True,
            )
            axis.plot([i - 0.3, i + 0.3], [means[method]] * 2, color="#c00000", linewidth=2)
        bounds = found.reindex(means.index)
        axis.vlines(
            range(len(means)), bounds["low"], bounds["high"], color="#c00000", linewidth=1.2
        )
        axis.axhline(means.min(), color="#c00000", linewidth=0.8, linestyle="--", zorder=0)
        name_ticks(axis, [short(m) for m in means.index])
        axis.set_ylabel("prediction error (L2)" if metric == "l2" else metric)
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]) if metric == "l2" else None)
        axis.set_title(of.title)
    return figure


def _swarm(values: np.ndarray) -> np.ndarray:
    """Spread points sideways by a low-discrepancy sequence, wider where they are dense."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    offset = (0.5 + order * 0.6180339887498949) % 1 - 0.5
    counts, edges = np.histogram(values, bins=min(20, max(1, len(values))))
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(counts) - 1)
    return 0.7 * offset * np.sqrt(counts[bins] / counts.max())


@checked
def predicted_change(
    result: BenchmarkResult, *, context: str, task: str, split: str, perturbation: str
) -> Figure:
    """Predicted against observed change of one perturbation, one panel per method (Fig 1b)."""
    dataset = result.expression(context=context, task=task, split=split)
    of = ComparedTask(result, context, task)
    return draw_change(of, dataset, split=split, perturbation=perturbation)


def draw_change(of: ComparedTask, dataset: xr.Dataset, *, split: str, perturbation: str) -> Figure:
    """Draw :func:`predicted_change`, from the predictions of the split."""
    control = of.control
    genes = top_genes(control, 1000)
    scores = of.scores("pearson_delta")
    dataset = dataset.isel({MODEL: dataset[MODEL].isin(list(scores["method"].unique())).values})
    dataset = dataset.sel({PERTURBATION: perturbation}).load()
    truth = dataset["truth"].values[genes] - control[genes]
    chosen = scores[(scores["split"] == split) & (scores["group"] == perturbation)]
    with mpl.rc_context(STYLE):
        figure, axes = panels(dataset.sizes[MODEL], columns=4, size=(2.3, 2.3), share="xy")
        predicted = zip(dataset[MODEL].values, dataset["prediction"].values, axes, strict=True)
        for method, values, axis in predicted:
            axis.axline((0, 0), slope=1, color="#999999", linewidth=0.7)
            axis.scatter(
                np.clip(values[genes] - control[genes], -1, 1),
                np.clip(truth, -1, 1),
                s=5,
                color=COLORS[0],
                alpha=0.5,
                linewidths=0,
                rasterized=True,
            )
            r = chosen.loc[chosen["method"] == method, "value"]
            text = f"r = {r.iloc[0]:.2f}" if len(r) and np.isfinite(r.iloc[0]) else "r undefined"
            axis.text(0.04, 0.93, text, transform=axis.transAxes, fontsize=8)
            axis.set_title(short(str(method)))
        axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        label_all(figure, x="predicted change from control", y="observed change")
    return figure


@checked
def ratio_forest(
    result: BenchmarkResult, *, context: str, task: str = "single", reference: str = "mean"
) -> Figure:
    """Error relative to the mean baseline's, with bootstrap intervals (Fig 2c).

    A perturbation that several splits hold out counts once, with its mean ratio. Faded where the
    interval contains 1; below 5 perturbations there is none.
    """
    return draw_ratios(ComparedTask(result, context, task), reference=reference)


def draw_ratios(of: ComparedTask, *, reference: str = "mean") -> Figure:
    """Draw :func:`ratio_forest`."""
    table = _ratios(of.scores("l2"), reference, of.target_genes)
    with mpl.rc_context(STYLE):
        figure = new_figure(5.2, 0.34 * len(table) + 1.1)
        axis = figure.subplots()
        axis.axvline(1, color="#333333", linewidth=0.8)
        for i, row in enumerate(table.itertuples()):
            alpha = 1.0 if row.high < 1 or row.low > 1 else 0.4
            axis.plot([row.low, row.high], [i, i], color=COLORS[0], alpha=alpha, linewidth=1.6)
            axis.plot(row.ratio, i, "o", color=COLORS[0], alpha=alpha, markersize=5)
            if not np.isfinite(row.low):
                axis.annotate(
                    f"n = {row.n}, no interval",
                    (row.ratio, i),
                    (6, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
        axis.set_yticks(range(len(table)), [short(m) for m in table["method"]])
        axis.set_ylim(-0.6, len(table) - 0.4)
        axis.set_xscale("log", base=2)
        low, high = axis.get_xlim()
        ticks = [t for t in mpl.ticker.MaxNLocator(6).tick_values(low, high) if low <= t <= high]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axis.set_xlabel(f"error relative to {reference} (95 % interval)")
        axis.set_title(of.title)
    return figure


def _ratios(
    errors: pd.DataFrame, reference: str, target_genes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return ``method, n, ratio, low, high`` over perturbations; of few without the bounds."""
    wide = errors.pivot_table(index=["split", "group"], columns="method", values="value")
    if reference not in wide:
        raise InputError(f"there are no errors of {reference!r} to divide by")
    ratios = wide.div(wide[reference], axis=0).groupby("group").mean()
    found = []
    for method in ratios.columns.drop(reference):
        values = ratios[method].dropna()
        low, high = interval_of_mean("ratios", values.rename(str).to_dict(), target_genes)
        found.append((str(method), len(values), values.mean(), low, high))
    table = pd.DataFrame(found, columns=["method", "n", "ratio", "low", "high"])
    return table.sort_values("ratio", ascending=False, kind="stable")


@checked
def error_against_genes(
    result: BenchmarkResult, *, context: str, task: str, by: By = "expression"
) -> Figure:
    """Mean L2 over the n most expressed, or most changed, genes against n (Ext 2b, 8b).

    A perturbation's own targets are left out where its scores leave them out, and the axis says so.
    """
    curves = _Curves(ComparedTask(result, context, task), by)
    _look_at_splits(curves)
    return curves.drawn()


class _FromPredictions(Protocol):
    """A figure of the predictions of all splits, which are shown to it one by one."""

    of: ComparedTask

    def begin(self, split: ComparedSplit) -> None:
        """Take in what a split compares."""

    def add(self, method: str, values: np.ndarray) -> None:
        """Take in what a method predicts of it, (perturbation, gene)."""


def _look_at_splits(*drawings: _FromPredictions) -> None:
    """Show all predictions to some drawings of one task, reading each once."""
    for split in drawings[0].of.splits():
        for drawing in drawings:
            drawing.begin(split)
        for method, values in split.by_method():
            for drawing in drawings:
                drawing.add(method, values)


class _Curves:
    """Errors over more and more genes, of one split after the other."""

    def __init__(self, of: ComparedTask, by: By = "expression") -> None:
        self.of, self._by = of, by
        self._truth = np.empty((0, 0))
        self._left_out: np.ndarray | None = None
        self._found: dict[str, list[np.ndarray]] = {}

    def begin(self, split: ComparedSplit) -> None:
        """Take in what a split compares."""
        self._truth, self._left_out = split.truth, self.of.own_targets(split)

    def add(self, method: str, values: np.ndarray) -> None:
        """Take in the mean error over perturbations, a few of which are looked at at a time."""
        truth, left_out = self._truth, self._left_out
        total, step = np.zeros(truth.shape[1]), max(1, _PAIRS_AT_A_TIME // truth.shape[1])
        for start in range(0, len(truth), step):
            rows = slice(start, start + step)
            left = None if left_out is None else left_out[rows]
            errors = error_by_genes(
                truth[rows], values[rows], self.of.control, by=self._by, left_out=left
            )
            total += errors.sum(axis=0)
        self._found.setdefault(method, []).append(total / len(truth))

    def drawn(self) -> Figure:
        """Return the figure, a line per method."""
        n = gene_numbers(len(self.of.control))
        with mpl.rc_context(STYLE):
            figure = new_figure(5.4, 3.4)
            axis = figure.subplots()
            for i, (method, found) in enumerate(self._found.items()):
                mean = np.mean(found, axis=0)[n - 1]
                axis.plot(n, mean, color=COLORS[i % len(COLORS)], label=short(method))
            log_scale(axis, "x")
            order = "most expressed first" if self._by == "expression" else "most changed first"
            axis.set_xlabel(f"genes, {order}")
            note = ",\nown targets left out" if self._left_out is not None else ""
            axis.set_ylabel(f"mean prediction error (L2){note}")
            axis.set_title(self.of.title)
            legend_beside(figure)
        return figure


@checked
def variation(result: BenchmarkResult, *, context: str, task: str) -> Figure:
    """Draw the standard deviation of each gene over perturbations, predicted and true (Ext 7).

    A method that predicts the same for every perturbation has none; the line is the mean of the
    truth's. Splits that compare one perturbation have nothing to show; InputError if all are such.
    """
    spreads = _Spreads(ComparedTask(result, context, task))
    _look_at_splits(spreads)
    if not spreads.any:
        raise InputError(f"no split of {context}, {task}, compares two perturbations")
    return spreads.drawn()


class _Spreads:
    """Standard deviations of genes over perturbations, of one split after the other."""

    def __init__(self, of: ComparedTask) -> None:
        self.of, self._genes = of, top_genes(of.control, 1000)
        self._found: dict[str, list[np.ndarray]] = {}

    @property
    def any(self) -> bool:
        """Whether a split compares two perturbations."""
        return bool(self._found)

    def begin(self, split: ComparedSplit) -> None:
        """Take in the truth of a split."""
        self.add("truth", split.truth)

    def add(self, method: str, values: np.ndarray) -> None:
        """Take in the spread of each gene, where there are two perturbations at least."""
        if len(values) > 1:
            spread = values[:, self._genes].std(axis=0, ddof=1)
            self._found.setdefault(method, []).append(spread)

    def drawn(self) -> Figure:
        """Return the figure, a panel per method."""
        signed = {m: np.arcsinh(np.concatenate(v) / 0.02) for m, v in self._found.items()}
        top = max(float(v.max()) for v in signed.values())
        edges = np.linspace(0, max(top, 1e-9), 31)
        ticks = np.array([0, 0.03, 0.1, 0.3, 1])
        ticks = ticks[np.arcsinh(ticks / 0.02) <= edges[-1]]
        mean = np.arcsinh(np.concatenate(self._found["truth"]).mean() / 0.02)
        with mpl.rc_context(STYLE):
            figure, axes = panels(len(signed), columns=3, size=(2.5, 1.8), share="x")
            for (method, values), axis in zip(signed.items(), axes, strict=True):
                histogram(axis, values, edges, color=COLORS[1 if method == "truth" else 0])
                axis.axvline(mean, color="#c00000", linewidth=1)
                axis.set_title(short(method))
            axis.set_xticks(np.arcsinh(ticks / 0.02), [f"{t:g}" for t in ticks])
            label_all(
                figure, x="standard deviation over perturbations", y="genes", title=self.of.title
            )
        return figure


def errors_and_variation(of: ComparedTask) -> tuple[Figure, Figure | None]:
    """Return :func:`error_against_genes` and :func:`variation`, reading the predictions once.

    Without the second where no split compares two perturbations.
    """
    curves, spreads = _Curves(of), _Spreads(of)
    _look_at_splits(curves, spreads)
    return curves.drawn(), spreads.drawn() if spreads.any else None


@checked
def resources(result: BenchmarkResult) -> Figure:
    """Seconds that fitting and predicting took, per method (Ext 10)."""
    timings = result.timings
    rows = timings[(timings["stage"] == "model") & ~timings["reused"]]
    rows = rows.assign(method=rows["unit"].str.split(" / ").str[-1])
    if not len(rows):
        raise InputError("no model of expression was fitted in the last run, so there are no times")
    medians = rows.groupby("method")["seconds"].median().sort_values()
    with mpl.rc_context(STYLE):
        figure = new_figure(5.0, 0.34 * len(medians) + 1.0)
        axis = figure.subplots()
        for i, method in enumerate(medians.index):
            mine = rows.loc[rows["method"] == method, "seconds"]
            axis.plot(mine, [i] * len(mine), "o", color=COLORS[0], alpha=0.6, markersize=4)
        axis.set_yticks(range(len(medians)), [short(m) for m in medians.index])
        log_scale(axis, "x")
        axis.set_xlabel("seconds to fit and predict")
    return figure
