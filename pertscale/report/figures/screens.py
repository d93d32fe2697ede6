"""Figures of screens: what was measured, and two screens side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy.sparse.linalg import svds

from pertscale.arguments import checked
from pertscale.baselines.expression.base import blocks
from pertscale.embeddings.signs import fix_signs, start_vector
from pertscale.errors import InputError
from pertscale.report.figures.style import COLORS, STYLE, histogram, new_figure, short
from pertscale.schema import CONTROL, GENE, PERTURBATION

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

#: Profiles up to which all components are computed; of more, only those that are drawn.
_FEW_PROFILES = 200


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
    genes = _shared(one, other, GENE)
    shared = [name for name in _shared(one, other, PERTURBATION) if name != CONTROL]
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
    control = profiles[names.index(CONTROL)].values
    at = pd.Index(profiles[GENE].values.astype(str)).get_indexer(names)
    centred, perturbed = _centred(profiles, at)
    own = [(control[g], perturbed[i]) for i, g in enumerate(at) if g >= 0]
    scores = _principal_components(centred)
    n_genes = np.array([0 if n == CONTROL else n.count("+") + 1 for n in names])
    kinds = {"control": n_genes == 0, "single": n_genes == 1, "combination": n_genes > 1}
    with mpl.rc_context(STYLE):
        figure = new_figure(7.4, 3.2)
        left, right = figure.subplots(1, 2)
        for i, (kind, mine) in enumerate(kinds.items()):
            if mine.any():
                left.scatter(
                    *scores[mine].T,
                    s=40 if kind == "control" else 9,
                    color=COLORS[[5, 0, 1][i]],
                    label=kind,
                    zorder=3 if kind == "control" else 2,  # in front: one point, among hundreds
                    rasterized=True,
                )
        left.set_xlabel("first principal component")
        left.set_ylabel("second")
        left.legend(frameon=False, fontsize=8)
        left.set_title(f"{short(context)}: {len(names) - 1:,} profiles")
        right.set_title(f"expression of {len(own):,} targets")
        if own:
            before, after = np.array(sorted(own)).T
            x = np.arange(len(before))
            pixels: Any = {"rasterized": True}
            changes = np.stack([before, after, np.full(len(own), np.nan)], axis=1).ravel()
            right.plot(np.repeat(x, 3), changes, color="#bbbbbb", linewidth=0.8, **pixels)
            right.plot(x, before, ".", color="#555555", markersize=3, label="in control", **pixels)
            right.plot(
                x, after, ".", color=COLORS[5], markersize=4, label="when perturbed", **pixels
            )
            right.legend(frameon=False, fontsize=8)
        right.set_xlabel("targets that are read out")
        right.set_ylabel("mean log1p expression")
    return figure


def _shared(one: xr.DataArray, other: xr.DataArray, dim: str) -> list[str]:
    """Return the names along a dimension that both have, in the order of the first."""
    there = set(other[dim].values)
    return [name for name in one[dim].values if name in there]


def _centred(profiles: xr.DataArray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return profiles less their mean, float32, and of each its value at one gene, float64.

    They are read a few at a time: all of them as float64 would be the most that a report holds.
    """
    centred = np.empty(profiles.shape, np.float32)
    total, chosen = np.zeros(profiles.shape[1]), np.empty(len(at))
    for rows, block in blocks(profiles, range(len(at))):
        centred[rows], chosen[rows] = block, block[np.arange(len(block)), at[rows]]
        total += block.sum(axis=0)
    centred -= total / len(at)
    return centred, chosen


def _principal_components(centred: np.ndarray) -> np.ndarray:
    """Return the first two principal components of profiles (profile, gene), a row for each.

    From each gene its mean is subtracted already.
    """
    if min(centred.shape) <= _FEW_PROFILES:
        left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    else:
        start = start_vector(min(centred.shape))
        left, lengths, _ = svds(centred, k=2, v0=start, tol=1e-5, return_singular_vectors="u")
    first = np.argsort(-lengths, kind="stable")[:2]
    scores = np.zeros((len(centred), 2))  # of a single gene there is one component
    scores[:, : len(first)] = fix_signs(left[:, first] * lengths[first])
    return scores


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(np.stack([one, other]))[0, 1])
