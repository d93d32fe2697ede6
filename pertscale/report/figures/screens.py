"""Figures of screens: what was measured, and two screens side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.report.figures.style import COLORS, STYLE, histogram, new_figure, short
from pertscale.schema import CONTROL, GENE, PERTURBATION

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult


@checked
def transfer_scatter(one: xr.DataArray, other: xr.DataArray, *, names: tuple[str, str]) -> Figure:
    """Control expression of two screens, and how the changes of shared perturbations agree (Ext 9).

    Parameters
    ----------
    one, other : DataArray (perturbation, gene)
        Mean log1p expression with the control, of two screens.
    names : tuple of str
        Their names.
    """
    genes = [g for g in one[GENE].values if g in set(other[GENE].values)]
    shared = [
        p for p in one[PERTURBATION].values if p in set(other[PERTURBATION].values) and p != CONTROL
    ]
    if len(genes) < 2 or not shared:
        raise InputError(
            f"{names[0]} and {names[1]} share {len(genes)} genes and {len(shared)} perturbations; "
            "needed are 2 and 1"
        )
    first, second = (x.sel({GENE: genes}) for x in (one, other))
    levels = [x.sel({PERTURBATION: CONTROL}).values for x in (first, second)]
    changes = [
        x.sel({PERTURBATION: shared}).values - level
        for x, level in zip((first, second), levels, strict=True)
    ]
    agreement = [_correlation(a, b) for a, b in zip(*changes, strict=True)]
    with mpl.rc_context(STYLE):
        figure = new_figure(7.0, 3.2)
        left, right = figure.subplots(1, 2)
        left.scatter(*levels, s=5, color=COLORS[0], alpha=0.5, linewidths=0, rasterized=True)
        left.axline((0, 0), slope=1, color="#999999", linewidth=0.7)
        r = _correlation(*levels)
        left.set_title(f"control of {len(genes):,} genes, r = {r:.2f}")
        left.set_xlabel(short(names[0]))
        left.set_ylabel(short(names[1]))
        histogram(right, agreement, np.linspace(-1, 1, 41), color=COLORS[0])
        right.set_xlabel("correlation of changes from control")
        right.set_ylabel("shared perturbations")
        right.set_title(f"{len(shared):,} perturbations, mean {np.nanmean(agreement):.2f}")
    return figure


@checked
def screen_overview(result: BenchmarkResult, *, context: str) -> Figure:
    """Principal components of the profiles, and what happens to the target genes (Ext 1)."""
    profiles = result.pseudobulk["mean_log1p"]
    profiles = profiles.isel({PERTURBATION: profiles["context"].values == context})
    names = [str(n) for n in profiles[PERTURBATION].values]
    values = np.asarray(profiles.values, np.float64)
    control = values[names.index(CONTROL)].copy()
    at = pd.Index(profiles[GENE].values.astype(str)).get_indexer(names)
    own = [(control[g], values[i, g]) for i, g in enumerate(at) if g >= 0]
    values -= values.mean(axis=0)
    variances, vectors = np.linalg.eigh(values @ values.T)
    scores = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(variances[::-1][:2], 0))
    n_genes = np.array([0 if n == CONTROL else n.count("+") + 1 for n in names])
    kinds = {"control": n_genes == 0, "single": n_genes == 1, "combination": n_genes > 1}
    with mpl.rc_context(STYLE):
        figure = new_figure(7.4, 3.2)
        left, right = figure.subplots(1, 2)
        for i, (kind, mine) in enumerate(kinds.items()):
            if mine.any():
                size = 40 if kind == "control" else 9
                front = 3 if kind == "control" else 2  # one point, among hundreds
                left.scatter(
                    *scores[mine].T, s=size, color=COLORS[[5, 0, 1][i]], label=kind, zorder=front
                )
        left.set_xlabel("first principal component")
        left.set_ylabel("second")
        left.legend(frameon=False, fontsize=8)
        left.set_title(f"{short(context)}: {len(names) - 1:,} profiles")
        right.set_title(f"expression of {len(own):,} targets")
        if own:
            before, after = np.array(sorted(own)).T
            x = np.arange(len(before))
            right.vlines(x, before, after, color="#bbbbbb", linewidth=0.8)
            right.plot(x, before, ".", color="#555555", markersize=3, label="in control")
            right.plot(x, after, ".", color=COLORS[5], markersize=4, label="when perturbed")
            right.legend(frameon=False, fontsize=8)
        right.set_xlabel("targets that are read out")
        right.set_ylabel("mean log1p expression")
    return figure


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(np.stack([one, other]))[0, 1])
