"""The scores that a unit kept, on each version of their table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pertscale.benchmark.resampling.tables import JudgedPairs, ScoredTable, ScoredUnit
from pertscale.benchmark.units.sums import PAIR_SUMS_FILE, read_sums
from pertscale.evaluation import RankCounts, own_targets
from pertscale.evaluation.expression import OF_PERTURBATION, undefined_counts_as_none
from pertscale.evaluation.interaction_calls import deviating_models
from pertscale.evaluation.ranking import tally_class
from pertscale.evaluation.resampling.bins import areas_of_bins
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.pairs import ScoreKey, resampled_scores
from pertscale.evaluation.resampling.versions import Versions, mean_of, ratios, totals, versions
from pertscale.io.parquet import read_table
from pertscale.results.unit_files import REMEDY, open_predictions
from pertscale.schema import CLASSES, GENE, PERTURBATION, SCORES_FILE, TOP_EXPRESSED, Label

_UP = CLASSES.index(Label.UP)
#: Columns of a score beside its table and method.
KEYS = ["operating_point", "level", "group", "metric"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a method in a setting, on each version of the table.

    Attributes
    ----------
    keys : list of (str, str, str, str)
        Operating point, level, group and metric of each score.
    versions : Versions
    is_complete : bool
        Whether all perturbations are predicted: else some count as no change, and the method is
        not ranked among the others (method O9).
    """

    keys: list[ScoreKey]
    versions: Versions
    is_complete: bool = True

    @classmethod
    def mean(cls, parts: Sequence[Scores]) -> Scores:
        """Return the mean of each score over the parts that have it."""
        keys = list(dict.fromkeys(key for part in parts for key in part.keys))
        mean = mean_of([part.with_keys(keys) for part in parts])
        return cls(keys, mean, all(part.is_complete for part in parts))

    def with_keys(self, keys: list[ScoreKey]) -> Versions:
        """Return the scores of some keys; NaN for those that are not there."""
        if keys == self.keys:
            return self.versions
        at = {key: i for i, key in enumerate(self.keys)}
        values = np.full((len(keys), self.versions.values.shape[1]), np.nan)
        for i, key in enumerate(keys):
            if key in at:
                values[i] = self.versions.values[at[key]]
        return replace(self.versions, values=values)

    def of(self, key: ScoreKey) -> Versions | None:
        """Return one of the scores, if it is there."""
        if key not in self.keys:
            return None
        at = self.keys.index(key)
        return replace(self.versions, values=self.versions.values[at : at + 1])


#: Setting, method, and its scores there.
Found = tuple[str, str, Scores]


def versions_of(unit: ScoredUnit, table: ScoredTable, draws: Draws) -> Iterator[Found]:
    """Yield the scores of a unit's methods in each setting of its table."""
    if table.interactions is not None:
        yield from _of_interactions(unit, table.interactions, table.targets, draws)
        return
    scores = read_table(unit.folder / SCORES_FILE, remedy=REMEDY)
    yield from _of_classes(unit, scores, draws) if unit.method else _of_expression(scores, draws)


def _of_classes(unit: ScoredUnit, scores: pd.DataFrame, draws: Draws) -> Iterator[Found]:
    exact = scores[scores["level"] != "perturbation"].set_index(["setting", *KEYS])["value"]
    is_complete = not json.loads(scores["params"].iloc[0]).get("n_without_prediction", 0)
    for setting, (names, sums) in read_sums(unit.folder / PAIR_SUMS_FILE).items():
        keys, found = resampled_scores(sums, draws, names)
        values = np.array([exact[(setting, *key)] for key in keys])
        yield setting, unit.method, Scores(keys, found.shifted_to(values), is_complete)


def _of_expression(scores: pd.DataFrame, draws: Draws) -> Iterator[Found]:
    """Yield weighted means over perturbations."""
    single = scores[scores["level"] == "perturbation"]
    there = set(single["metric"])
    metrics = [metric for metric in OF_PERTURBATION if metric in there]
    for (setting, method), rows in single.groupby(["setting", "method"], sort=False):
        values, n = (rows.pivot(index="group", columns="metric", values=x) for x in ("value", "n"))
        values, n = values[metrics], n[metrics]
        defined = np.isfinite(values.to_numpy())
        for at, metric in enumerate(metrics):
            if undefined_counts_as_none(metric) and defined[:, at].any():
                defined[:, at] |= n.to_numpy()[:, at] > 0
        found = ratios(
            draws,
            list(values.index),
            np.where(defined, np.nan_to_num(values.to_numpy()), 0.0),
            defined.astype(np.float64),
        )
        keys = [("", "overall", "", metric) for metric in metrics]
        yield str(setting), str(method), Scores(keys, found)


def _of_interactions(
    unit: ScoredUnit, judged: JudgedPairs, targets: Mapping[str, Sequence[str]], draws: Draws
) -> Iterator[Found]:
    """Yield how well deviations from additivity find the interactions of held-out doubles."""
    table = judged.called.table()
    predictions = open_predictions(unit.folder)["prediction"]
    for found in deviating_models(table, predictions):
        rows = table.iloc[found.at]
        names, genes = (pd.unique(rows[column]).tolist() for column in (PERTURBATION, GENE))
        shape = len(names), len(genes)
        truth = rows["interaction"].to_numpy(np.int8).reshape(shape).copy()
        if judged.without_targets:
            truth[own_targets(names, genes, target_genes=targets)] = Label.UNTESTED
        scores = np.zeros((*shape, len(CLASSES)), np.float32)
        scores[..., _UP] = np.abs(found.deviation).reshape(shape)
        ranking = RankCounts()
        ranking.add_tally(tally_class(truth, scores, column=_UP))
        bins = ranking.bins()
        counts = np.zeros((len(names), bins.n, 2), np.uint32)
        bins.count(truth, scores, _UP, counts)
        areas = areas_of_bins(totals(draws, names, counts), bins.n_missing)
        exact = np.array([ranking.average_precision(), ranking.auroc()])
        keys = [
            ("", "overall", "", metric) for metric in ("auprc_interactions", "auroc_interactions")
        ]
        resampled = versions(draws, names, areas[:, [1, 0]]).shifted_to(exact)
        yield TOP_EXPRESSED, found.model, Scores(keys, resampled)
