"""The scores that a unit kept, on each version of their table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pertscale.benchmark.resampling.tables import ScoredUnit
from pertscale.benchmark.units.sums import SUMS_FILE, read_sums
from pertscale.evaluation.expression import OF_PERTURBATION, undefined_counts_as_none
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.pairs import ScoreKey, resampled_scores
from pertscale.evaluation.resampling.versions import Versions, ratios
from pertscale.io.parquet import read_table
from pertscale.results.unit_files import REMEDY
from pertscale.schema import SCORES_FILE

#: Columns of a score beside its table and method.
KEYS = ["operating_point", "level", "group", "metric"]


@dataclass(frozen=True, eq=False)
class ScoredVersions:
    """Scores of a method in a setting, on each version of the table.

    Attributes
    ----------
    setting, method : str
    keys : list of (str, str, str, str)
        Operating point, level, group and metric of each score.
    versions : Versions
    """

    setting: str
    method: str
    keys: list[ScoreKey]
    versions: Versions


def versions_of(unit: ScoredUnit, draws: Draws) -> Iterator[ScoredVersions]:
    """Yield the scores of a unit's methods in each setting."""
    scores = read_table(unit.folder / SCORES_FILE, remedy=REMEDY)
    yield from _of_classes(unit, scores, draws) if unit.method else _of_expression(scores, draws)


def _of_classes(unit: ScoredUnit, scores: pd.DataFrame, draws: Draws) -> Iterator[ScoredVersions]:
    exact = scores[scores["level"] != "perturbation"].set_index(["setting", *KEYS])["value"]
    for setting, (names, sums) in read_sums(unit.folder / SUMS_FILE).items():
        keys, found = resampled_scores(sums, draws, names)
        values = np.array([exact[(setting, *key)] for key in keys])
        yield ScoredVersions(setting, unit.method, keys, found.shifted_to(values))


def _of_expression(scores: pd.DataFrame, draws: Draws) -> Iterator[ScoredVersions]:
    """Yield weighted means over perturbations."""
    single = scores[scores["level"] == "perturbation"]
    metrics = list(OF_PERTURBATION)
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
        yield ScoredVersions(str(setting), str(method), keys, found)
