"""Figures of classes, cells and p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pertscale.arguments import checked
from pertscale.report.figures.style import CLASS_TITLES, COLORS, POINT_TITLES, STYLE, panels, short
from pertscale.schema import CLASS_NAMES


@checked
def class_bars(
    scores: pd.DataFrame, *, methods: Sequence[str], settings: Mapping[str, str]
) -> Figure:
    """Per-class recall, precision and F1 of every method (the first paper's Fig 1).

    Parameters
    ----------
    scores : DataFrame
        Rows of one context at level ``class``, of which those as called are shown; several splits
        are averaged.
    methods : sequence of str
        Bars, in this order.
    settings : mapping
        Setting -> title of its columns of panels, one for each operating point.
    """
    metrics = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
    keys = ["setting", "operating_point", "metric", "method", "group"]
    mean = scores.groupby(keys)["value"].mean()
    columns = {
        (setting, point): f"{short(title, 48)}\n{words}"
        for setting, title in settings.items()
        for point, words in POINT_TITLES.items()
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(columns) + 1.6, 6.4), layout="constrained")
        axes = figure.subplots(len(metrics), len(columns), sharex=True, sharey=True, squeeze=False)
        width = 0.84 / max(1, len(methods))
        for (metric, label), row in zip(metrics.items(), axes, strict=True):
            row[0].set_ylabel(label)
            for (column, title), axis in zip(columns.items(), row, strict=True):
                for i, method in enumerate(methods):
                    values = [mean.get((*column, metric, method, c), np.nan) for c in CLASS_NAMES]
                    at = np.arange(len(CLASS_NAMES)) + (i - (len(methods) - 1) / 2) * width
                    color = COLORS[i % len(COLORS)]
                    axis.bar(at, values, width * 0.92, color=color, label=short(method))
                axis.set_ylim(0, 1.02)
                axis.grid(axis="y", color="#dddddd", linewidth=0.6)
                axis.set_axisbelow(True)
                axis.set_xticks(range(len(CLASS_NAMES)), [CLASS_TITLES[c] for c in CLASS_NAMES])
                if metric == "recall":
                    axis.set_title(title)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def cells_per_perturbation(perturbations: pd.DataFrame, *, contexts: Sequence[str]) -> Figure:
    """Histogram of the cells of each perturbation, one panel per context."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(contexts))
        for context, axis in zip(contexts, axes, strict=True):
            n = perturbations.loc[perturbations["context"] == context, "n_cells"].to_numpy()
            edges = np.geomspace(n.min(), n.max() + 1, 31) if len(n) else np.array([1, 2])
            axis.hist(n, bins=edges, color=COLORS[0])
            axis.set_xscale("log")
            axis.set_title(short(context))
            axis.set_xlabel("cells per perturbation")
            axis.set_ylabel("perturbations")
    return figure


def p_value_histogram(counts: Mapping[str, np.ndarray]) -> Figure:
    """Histogram of p-values, one panel per context, from the counts of equal bins over 0..1."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(counts))
        for (context, n), axis in zip(counts.items(), axes, strict=True):
            edges = np.linspace(0, 1, len(n) + 1)
            axis.stairs(n / max(1, n.sum()), edges, fill=True, color=COLORS[0])
            axis.set_title(short(context))
            axis.set_xlabel("p-value")
            axis.set_ylabel("share of pairs")
    return figure
