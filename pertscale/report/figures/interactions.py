"""Figures of genetic interactions (the second paper's Figs 1c-1f, Ext 3-6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.evaluation.interaction_calls import (
    FDP_GRID,
    CallCurve,
    DeviatingModel,
    call_curve,
    deviating_models,
    largest,
    strongest,
)
from pertscale.evaluation.interaction_calls import recurrence as count_recurrence
from pertscale.report.figures.layout import label_all, legend_below, legend_beside, log_scale
from pertscale.report.figures.style import (
    COLORS,
    STYLE,
    histogram,
    name_ticks,
    new_figure,
    panels,
    short,
)
from pertscale.schema import DOUBLE, GENE, PERTURBATION
from pertscale.stats.interactions import INTERACTION_CLASSES, class_of_prediction, same_direction

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

_CLASS_COLORS = dict(
    zip(INTERACTION_CLASSES, ("#bbbbbb", *(COLORS[i] for i in (0, 2, 5, 3))), strict=True)
)
#: Strongest calls per method that the paper looks at.
_STRONGEST = 500
_RECURRENT = 100


@checked
def call_curves(result: BenchmarkResult, *, context: str) -> Figure:
    """Draw true positive rate against false discovery proportion, mean over splits (Fig 1c)."""
    return draw_call_curves(JudgedPairs(result, context))


def draw_call_curves(pairs: JudgedPairs) -> Figure:
    """Draw :func:`call_curves`."""
    with mpl.rc_context(STYLE):
        figure = new_figure(5.4, 3.6)
        axis = figure.subplots()
        for i, (method, curves) in enumerate(pairs.curves.items()):
            mean = np.mean([c.tpr_at() for c in curves], axis=0)
            axis.plot(FDP_GRID, mean, color=COLORS[i % len(COLORS)], label=short(method))
        log_scale(axis, "y")
        axis.set_xlim(0, 1)
        axis.set_xlabel("false discovery proportion")
        axis.set_ylabel("true positive rate")
        axis.set_title(f"{short(pairs.context)}: interactions of held-out doubles")
        legend_beside(figure)
    return figure


@checked
def precision_recall_and_roc(result: BenchmarkResult, *, context: str) -> Figure:
    """Precision-recall and ROC curves of each split, with the mean areas (Ext 4)."""
    return draw_areas(JudgedPairs(result, context))


def draw_areas(pairs: JudgedPairs) -> Figure:
    """Draw :func:`precision_recall_and_roc`."""
    with mpl.rc_context(STYLE):
        figure = new_figure(8.4, 3.4)
        left, right = figure.subplots(1, 2)
        for i, (method, curves) in enumerate(pairs.curves.items()):
            color = COLORS[i % len(COLORS)]
            areas = [np.mean([c.auprc() for c in curves]), np.mean([c.auroc() for c in curves])]
            for j, curve in enumerate(curves):
                style = {"color": color, "linewidth": 1, "alpha": 0.8}
                label = f"{short(method)}: {areas[0]:.3f}, {areas[1]:.3f}" if j == 0 else None
                at = _drawn_points(len(curve.recall))
                left.plot(curve.recall[at], 1 - curve.fdp[at], label=label, **style)
                false = curve.false_calls[at] / curve.n_negative
                right.plot(false, curve.recall[at], **style)
        right.axline((0, 0), slope=1, color="#999999", linewidth=0.7)
        for axis, x, y in ((left, "recall", "precision"), (right, "false positive rate", "recall")):
            axis.set_xlim(0, 1)
            axis.set_ylim(0, 1.02)
            axis.set_xlabel(x)
            axis.set_ylabel(y)
        legend_beside(figure, title="areas: precision-recall, ROC")
    return figure


def _drawn_points(n: int) -> np.ndarray:
    """Choose calls of a curve to draw, more of the first ones: precision changes fast there."""
    every = [np.geomspace(1, n, 2000), np.linspace(1, n, 2000)]
    return np.unique(np.concatenate(every).astype(int)) - 1


@checked
def class_shares(result: BenchmarkResult) -> Figure:
    """Share of each class of interactions, a bar per context (Fig 1e)."""
    table = result.interactions
    if not len(table):
        raise InputError("no interactions were called in this benchmark")
    shares = pd.crosstab(table["context"], table["interaction_class"], normalize="index")
    shares = shares.reindex(columns=list(INTERACTION_CLASSES), fill_value=0.0)
    with mpl.rc_context(STYLE):
        figure = new_figure(6.4, 0.45 * len(shares) + 1.3)
        axis = figure.subplots()
        left = np.zeros(len(shares))
        for name in INTERACTION_CLASSES:
            width = 100 * shares[name].to_numpy()
            label = f"{name} ({width.mean():.2f} %)"
            axis.barh(range(len(shares)), width, left=left, color=_CLASS_COLORS[name], label=label)
            left += width
        axis.set_yticks(range(len(shares)), [short(c) for c in shares.index])
        axis.set_xlim(0, 100)
        axis.set_xlabel("pairs of doubles and genes, %")
        legend_below(figure, ncols=3, fontsize=8)
    return figure


@checked
def deviations(result: BenchmarkResult, *, context: str) -> Figure:
    """Observed against predicted deviation, and the classes of the strongest calls (Fig 1f).

    Below: the observed classes of the pairs that a method deviates most on, by the class that the
    method claims.
    """
    return draw_deviations(JudgedPairs(result, context))


def draw_deviations(pairs: JudgedPairs) -> Figure:
    """Draw :func:`deviations`."""
    found = pairs.predicted
    with mpl.rc_context(STYLE):
        n = len(found)
        figure = new_figure(2.5 * n + 0.8, 4.6)
        axes = figure.subplots(2, n, squeeze=False, height_ratios=(3, 2))
        for (method, mine), (top, bottom) in zip(found.items(), axes.T, strict=True):
            ordered = mine.rows(pairs.table, largest(mine.deviation, 20 * _STRONGEST))
            strong, rest = ordered.iloc[:_STRONGEST], ordered.iloc[_STRONGEST:]
            top.scatter(
                rest["predicted_deviation"],
                rest["deviation"],
                s=2,
                color="#dddddd",
                rasterized=True,
            )
            for name in INTERACTION_CLASSES:
                mine = strong[strong["interaction_class"] == name]
                top.scatter(
                    mine["predicted_deviation"],
                    mine["deviation"],
                    s=7,
                    color=_CLASS_COLORS[name],
                    rasterized=True,
                )
            top.axhline(0, color="#999999", linewidth=0.6)
            top.axvline(0, color="#999999", linewidth=0.6)
            top.set_title(short(method))
            _composition(bottom, strong)
        axes[0, 0].set_ylabel("observed deviation")
        axes[1, 0].set_ylabel("calls")
        label_all(figure, x="above: predicted deviation; below: predicted class")
        handles = [mpl.patches.Patch(color=c, label=k) for k, c in _CLASS_COLORS.items()]
        legend_beside(figure, handles=handles, title="observed")
    return figure


def _composition(axis: mpl.axes.Axes, strong: pd.DataFrame) -> None:
    claimed = class_of_prediction(
        *(strong[c].to_numpy() for c in ("control", "additive", "predicted"))
    )
    kinds = [name for name in INTERACTION_CLASSES[1:] if name != "other" or (claimed == name).any()]
    counts = pd.crosstab(claimed, strong["interaction_class"].to_numpy())
    counts = counts.reindex(index=kinds, columns=list(INTERACTION_CLASSES), fill_value=0)
    bottom = np.zeros(len(kinds))
    for name in INTERACTION_CLASSES:
        axis.bar(range(len(kinds)), counts[name], bottom=bottom, color=_CLASS_COLORS[name])
        bottom += counts[name].to_numpy()
    name_ticks(axis, kinds, fontsize=8)


@checked
def null_of_deviations(result: BenchmarkResult, *, context: str) -> Figure:
    """QQ plot and histogram of the deviations, with the null and the thresholds (Ext 3)."""
    return draw_null(JudgedPairs(result, context))


def draw_null(pairs: JudgedPairs) -> Figure:
    """Draw :func:`null_of_deviations`."""
    values = np.sort(pairs.table["deviation"].to_numpy())
    record = pairs.record
    null = record["null"]
    limits = tuple(
        far if record[side] is None else record[side]
        for side, far in (("lower", -np.inf), ("upper", np.inf))
    )
    with mpl.rc_context(STYLE):
        figure = new_figure(7.6, 3.3)
        left, right = figure.subplots(1, 2)
        shown = np.unique(np.linspace(0, len(values) - 1, 4000).astype(int))
        quantiles = norm.ppf((shown + 0.5) / len(values))
        if null["sigma"] is not None:
            left.axline((0, 0), slope=null["sigma"], color="#c00000", linewidth=1)
        left.plot(quantiles, values[shown], ".", color=COLORS[0], markersize=2, rasterized=True)
        left.set_xlabel("normal quantile")
        left.set_ylabel("deviation from additivity")
        spread = np.abs(np.quantile(values, [0.0005, 0.9995])).max()
        far = max([spread, *(1.2 * abs(t) for t in limits if np.isfinite(t))])
        edges = np.linspace(-far, far, 121)
        histogram(right, np.clip(values, -far, far), edges, color="#bbbbbb")
        title = "no null could be fitted"
        if null["sigma"] is not None:
            x = np.linspace(-far, far, 400)
            scale = null["p0"] * len(values) * (edges[1] - edges[0])
            right.plot(x, scale * norm.pdf(x, null["delta"], null["sigma"]), color="#c00000")
            title = f"null N({null['delta']:.3f}, {null['sigma']:.3f}), p0 {null['p0']:.3f}"
        for limit, beyond in zip(
            limits, ((values < limits[0]).sum(), (values > limits[1]).sum()), strict=True
        ):
            if np.isfinite(limit):
                right.axvline(limit, color="#333333", linewidth=0.8, linestyle="--")
                right.text(
                    limit,
                    0.97,
                    f" {limit:.3f}\n {beyond:,} beyond ",
                    fontsize=8,
                    va="top",
                    ha="left" if limit > 0 else "right",
                    transform=right.get_xaxis_transform(),
                )
        right.set_xlabel("deviation from additivity")
        right.set_ylabel("pairs")
        left.set_title(f"{short(pairs.context)}: {len(values):,} pairs")
        right.set_title(title)
    return figure


@checked
def recurrence(result: BenchmarkResult, *, context: str, of: str = "gene") -> Figure:
    """How often the same genes, or doubles, are among the strongest calls (Ext 5).

    Among pairs whose singles and double change in one direction; the four most frequent are named.
    """
    return draw_recurrence(JudgedPairs(result, context), of=of)


def draw_recurrence(pairs: JudgedPairs, *, of: str = "gene") -> Figure:
    """Draw :func:`recurrence`."""
    top = pairs.recurrent
    counts = count_recurrence(top, of=GENE if of == "gene" else PERTURBATION)
    named = counts.index[:4]
    with mpl.rc_context(STYLE):
        figure = new_figure(0.9 * len(top) + 2.6, 3.4)
        axis = figure.subplots()
        bottom = np.zeros(len(top))
        rows = [*((n, counts.loc[n]) for n in named), ("other", counts.drop(named).sum())]
        for i, (label, values) in enumerate(rows):
            color = "#dddddd" if label == "other" else COLORS[i]
            axis.bar(range(len(top)), values, bottom=bottom, color=color, label=short(str(label)))
            bottom += values.to_numpy()
        name_ticks(axis, [short(m) for m in top])
        axis.set_ylabel(f"strongest {_RECURRENT} calls")
        legend_beside(figure, title=of)
    return figure


@checked
def chosen_genes(result: BenchmarkResult, *, context: str, genes: list[str]) -> Figure:
    """Draw expected, observed and predicted expression of some genes over the doubles (Ext 6).

    Doubles are ordered by their additive expectation; the band is where a value is no interaction.
    """
    return draw_genes(JudgedPairs(result, context), genes=genes)


def draw_genes(pairs: JudgedPairs, *, genes: list[str]) -> Figure:
    """Draw :func:`chosen_genes`."""
    found, lower = pairs.predicted, pairs.record["lower"]
    width = 0.0 if lower is None else abs(lower)
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(genes) * len(found), columns=len(found), size=(2.8, 2.2))
        cells = [(g, m, pairs.rows_of_gene(mine, g)) for g in genes for m, mine in found.items()]
        for (gene, method, table), axis in zip(cells, axes, strict=True):
            if not len(table):
                raise InputError(f"gene {gene!r} is not among those that were judged")
            table = table.sort_values("additive", kind="stable")
            x = np.arange(len(table))
            additive = table["additive"].to_numpy()
            axis.fill_between(x, additive - width, additive + width, color="#e5e5e5", step="mid")
            colors = [_CLASS_COLORS[c] for c in table["interaction_class"]]
            axis.scatter(x, table["double"], s=9, c=colors)
            axis.plot(x, table["predicted"], ".", color="black", markersize=3)
            axis.axhline(table["control"].iloc[0], color="#999999", linewidth=0.8)
            axis.set_title(f"{short(gene)}, {short(method)}")
        label_all(figure, x="doubles, by additive expectation", y="mean log1p expression")
    return figure


# --- what the figures are made of ----------------------------------------------------------------


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs of doubles and genes of a context, and what models predict of them, read once."""

    result: BenchmarkResult
    context: str

    @property
    def record(self) -> dict[str, Any]:
        """The null and the thresholds of the calls."""
        return dict(self.result.manifest["interactions"][self.context])

    @cached_property
    def table(self) -> pd.DataFrame:
        """All pairs that were judged."""
        table = self.result.interactions
        mine = table[table["context"] == self.context]
        if not len(mine):
            raise InputError(f"no interactions were called in {self.context}")
        return mine

    @cached_property
    def predicted(self) -> dict[str, DeviatingModel]:
        """Predicted pairs of all splits, by method."""
        found = {method: _joined(of_splits) for method, of_splits in self._held_out.items()}
        if not found:
            raise InputError(f"{self.context!r} has no predictions of doubles that were judged")
        return found

    def rows_of_gene(self, predicted: DeviatingModel, gene: str) -> pd.DataFrame:
        """Return the pairs of a gene with what is predicted of them."""
        mine = (self.table[GENE] == gene).to_numpy()
        return predicted.rows(self.table, np.flatnonzero(mine[predicted.at]))

    @cached_property
    def recurrent(self) -> dict[str, pd.DataFrame]:
        """The strongest calls among pairs that change in one direction, observed and by method."""
        alike = same_direction(self.table)
        found = {"observed": strongest(self.table[alike], by="deviation", n=_RECURRENT)}
        for method, mine in self.predicted.items():
            at = np.flatnonzero(alike[mine.at])
            chosen = at[largest(mine.deviation[at], _RECURRENT)]
            found[method] = mine.rows(self.table, chosen)
        return found

    @cached_property
    def curves(self) -> dict[str, list[CallCurve]]:
        """Calls of each split, from the strongest on, by method."""
        interaction = self.table["interaction"].to_numpy()
        found: dict[str, list[CallCurve]] = {}
        for method, of_splits in self._held_out.items():
            for mine in of_splits:
                truth = interaction[mine.at]
                if truth.any() and not truth.all():
                    found.setdefault(method, []).append(call_curve(mine.deviation, truth))
        if not found:
            raise InputError(
                f"{self.context!r} has no held-out interactions that a method could find"
            )
        return found

    @cached_property
    def _held_out(self) -> dict[str, list[DeviatingModel]]:
        """What is predicted of the pairs of held-out doubles, by method and split."""
        found: dict[str, list[DeviatingModel]] = {}
        for unit in self.result.manifest["expression"]:
            if (unit["context"], unit["task"]) != (self.context, DOUBLE):
                continue
            where = {"context": self.context, "task": DOUBLE, "split": unit["split"]}
            predictions = self.result.expression(**where)["prediction"]
            for mine in deviating_models(self.table, predictions):
                found.setdefault(mine.model, []).append(mine)
        return found


def _joined(parts: Sequence[DeviatingModel]) -> DeviatingModel:
    """Return what a method predicts in several splits, one after the other."""
    return DeviatingModel(
        parts[0].model,
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.deviation for part in parts]),
    )
