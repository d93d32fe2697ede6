"""What a measurement of the same perturbations on other cells scores: the ceilings of expression.

Each half of the cells predicts the other one, in every way that the cells were halved. Changes of
both are from their own half of the controls, so that they share no noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.baselines.expression.base import blocks
from pertscale.baselines.registry import (
    EXPRESSION_FLOORS,
    INTERPOLATED,
    ON_HALVES,
    REPLICATE,
)
from pertscale.benchmark.units.halves import ContextHalves
from pertscale.benchmark.units.held import held_arrays
from pertscale.evaluation.duplicates import interpolated_duplicate, welch_p_values
from pertscale.evaluation.expression import N_CHANGED, Observed, Way, count_row, score
from pertscale.evaluation.target_genes import Targets, own_targets
from pertscale.hashing import digest
from pertscale.schema import CONTROL, GENE, PERTURBATION
from pertscale.stats.differential.multiple_testing import benjamini_hochberg

_KEYS = ["method", "level", "group", "metric"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ceilings:
    """Scores replicates of held-out perturbations, on the genes that models are scored on.

    Attributes
    ----------
    halves : ContextHalves
    observed : DataArray (perturbation, gene)
        All profiles of the context, its control among them.
    genes : ndarray of int
        Positions of the genes that are scored.
    background : ndarray (gene,)
        Mean of the training perturbations, on these.
    added_to_control : bool
        Whether these are effects in other contexts that were added to the control.
    targets, target_genes
        As of :func:`pertscale.evaluation.evaluate_expression`.
    """

    halves: ContextHalves
    observed: xr.DataArray
    genes: np.ndarray
    background: np.ndarray
    added_to_control: bool
    targets: Targets
    target_genes: Mapping[str, Sequence[str]]

    def scores(self, truth: xr.DataArray, control: np.ndarray) -> pd.DataFrame:
        """Return the mean scores over both directions of all ways to halve the cells.

        Parameters
        ----------
        truth : DataArray (perturbation, gene)
            Profiles over all cells.
        control : ndarray (gene,)

        Returns
        -------
        DataFrame
            As of :func:`pertscale.evaluation.compare_expression`, of the methods ``replicate`` and
            ``interpolated_duplicate`` and of floors on the same truths; without rows where no
            perturbation has halves.
        """
        names = [str(name) for name in truth[PERTURBATION].values]
        there = self.halves.n_cells(names)[0, 0] > 0
        chosen = [name for name, is_there in zip(names, there, strict=True) if is_there]
        if not chosen:
            return pd.DataFrame()
        whole = truth.values[there]
        tables = list(self._directions(chosen, whole, control))
        numbers = ["value", "n"]
        mean = pd.concat(tables).groupby(_KEYS, sort=False, as_index=False)[numbers].mean()
        mean["n"] = mean["n"].round().astype(int)
        counts = count_row(int((~there).sum()), len(names))
        rows = [mean, *(counts.assign(method=method) for method in mean["method"].unique())]
        return pd.concat(rows, ignore_index=True).assign(apart=False, no_effect=np.nan)

    def _directions(
        self, names: Sequence[str], whole: np.ndarray, control: np.ndarray
    ) -> Iterator[pd.DataFrame]:
        """Yield the scores of one half as a prediction of the other."""
        variances = self.halves.variances(names, self.genes)
        sizes = self.halves.n_cells(names)
        others = self._others(names, whole, variances, sizes[0].sum(axis=0))
        own = np.zeros(whole.shape, bool)
        if self.targets == "exclude":
            scored = self.observed[GENE].values[self.genes].astype(str)
            own = own_targets(names, list(scored), target_genes=self.target_genes)
        for replicate in range(self.halves.n_replicates):
            of_halves = self.halves.means(replicate, names, self.genes, whole)
            controls = self.halves.means(replicate, [CONTROL], self.genes, control[None])
            for half in range(2):
                other, n = 1 - half, sizes[replicate, :, :, None]
                own_control, other_control = controls[[half, other], 0]
                p = welch_p_values(of_halves[half], variances, n[half], others=others)
                q = benjamini_hochberg(p)
                duplicate = interpolated_duplicate(of_halves[half], others[0], q)
                observed = Observed(  # once: its truths are prepared for all methods
                    names=np.array(names, object),
                    truth=of_halves[other],
                    control=own_control,
                    background=self.background,
                    own=own,
                    noise=variances / n[other],
                    ways=(Way(own_control, other_control),),
                )
                mean = self.background
                if self.added_to_control:
                    mean = mean - control + own_control
                known = {"no_change": own_control, "mean_perturbation": mean}
                predicted = {REPLICATE: of_halves[half], INTERPOLATED: duplicate}
                for name in EXPRESSION_FLOORS:
                    predicted[f"{name}{ON_HALVES}"] = np.broadcast_to(known[name], whole.shape)
                for method, profiles in predicted.items():
                    table, _ = score(
                        observed, profiles, n_changed=N_CHANGED, skip_missing_genes=False
                    )
                    yield table.assign(method=method)

    def _others(
        self, names: Sequence[str], whole: np.ndarray, variances: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, variance and number of all perturbed cells of other perturbations."""
        n, total, squares = self._all_cells()
        own = sizes[:, None].astype(float)
        rest = n - own
        mean = (total - own * whole) / rest
        of_own = (own - 1) * variances + own * whole**2
        variance = np.maximum(squares - of_own - rest * mean**2, 0) / np.maximum(rest - 1, 1)
        return mean, variance, rest

    def _all_cells(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the number of perturbed cells, their sums and sums of squares, (gene,).

        All profiles of the context pass, once in a process for all of its units.
        """
        left_out = sorted(self.halves.left_out)
        key = "cells", self.halves.key, self.halves.context, digest(self.genes, left_out)
        found: tuple[float, np.ndarray, np.ndarray] = held_arrays.get(
            key, 16 * len(self.genes), self._sums_of_all_cells
        )
        return found

    def _sums_of_all_cells(self) -> tuple[float, np.ndarray, np.ndarray]:
        everyone = self.observed[PERTURBATION].values.astype(str)
        at = np.flatnonzero(~np.isin(everyone, [CONTROL, *self.halves.left_out]))
        names = everyone[at].tolist()
        sizes = self.halves.sizes(names).astype(float)
        total, squares = np.zeros(len(self.genes)), np.zeros(len(self.genes))
        for rows, block in blocks(self.observed, at.tolist()):
            mean, n = block[:, self.genes], sizes[rows, None]
            variance = np.nan_to_num(self.halves.variances(names[rows], self.genes))
            total += (n * mean).sum(axis=0)
            squares += ((n - 1) * variance + n * mean**2).sum(axis=0)
        return float(sizes.sum()), total, squares
