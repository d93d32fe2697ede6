"""Methods compared on one set of perturbations at one operating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from pertscale.baselines.registry import FLOORS, ON_HALVES, REFERENCES, SCORED_ON_HALVES
from pertscale.results.averages import texts, with_interval

#: Perturbations below which nothing is compared, and no interval is given.
FEW: Final = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of several methods on the same perturbations, by one metric.

    Attributes
    ----------
    averages : DataFrame
        Rows of :func:`pertscale.results.averages.averaged_scores`: a row per method.
    greater_is_better : bool
    n, n_held_out : ndarray (split,)
        Perturbations that are compared, and held out.
    differences : DataFrame
        :data:`pertscale.schema.COMPARISON_COLUMNS`, of the same metric and table.
    """

    averages: pd.DataFrame
    greater_is_better: bool
    n: np.ndarray
    n_held_out: np.ndarray
    differences: pd.DataFrame

    @property
    def told(self) -> str:
        """How many perturbations and splits it is of, in words."""
        return told(self.n, self.n_held_out)

    @property
    def too_few(self) -> str | None:
        """Why no method may be named as the best, whatever the scores; None if one may."""
        if self.n.min() < FEW:
            return f"fewer than {FEW} perturbations are too few to compare methods"
        if (2 * self.n < self.n_held_out).any():
            return "fewer than half of the held-out perturbations are compared"
        if not np.isfinite(self.averages["low"]).any():
            return "scores have no intervals, so no method is named"
        return None

    @property
    def ranked(self) -> list[str]:
        """The methods that compete and have a score in every split, the best first."""
        rows = self.averages[~self.averages["method"].isin(REFERENCES)]
        measured = self.averages["method"].isin(SCORED_ON_HALVES)
        rows = rows[rows["n_splits"] == self.averages.loc[~measured, "n_splits"].max()]
        rows = rows.sort_values("value", ascending=not self.greater_is_better, kind="stable")
        return [str(method) for method in rows["method"]]

    def rivals(self) -> list[str]:
        """Return the methods that are not worse than the best, in their order."""
        worse = set(self.averages.loc[self.averages["in_best_set"].eq(other=False), "method"])
        return [method for method in self.ranked[1:] if method not in worse]

    @property
    def all_same(self) -> bool:
        """Whether all methods that compete have the same score."""
        rows = self.averages[self.averages["method"].isin(self.ranked)]
        return bool(rows["value"].nunique() == 1)

    def difference(self, better: str, worse: str) -> str:
        """Return by how much a method is better than another, with the interval; "" if unknown."""
        rows = self.differences[self.differences["low"].notna()]
        for one, two, sign in ((better, worse, 1), (worse, better, -1)):
            found = rows[(rows["method"] == one) & (rows["reference"] == two)]
            if len(found):
                row = found.iloc[0]
                low, high = sorted((sign * row["low"], sign * row["high"]))
                return with_interval(sign * row["difference"], low, high)
        return ""

    @property
    def can_tell(self) -> bool:
        """Whether nothing is known against the metric: a replicate no better than no knowledge."""
        return not self.averages["can_tell"].eq(other=False).any()

    @property
    def floor(self) -> str:
        """The best of the methods that know nothing, as scored on halves of the cells."""
        names = [f"{name}{ON_HALVES}" for name in FLOORS]
        rows = self.averages[self.averages["method"].isin(names)]
        rows = rows.sort_values("value", ascending=not self.greater_is_better, kind="stable")
        return str(rows["method"].iloc[0])

    def value(self, method: str) -> str:
        """Return a method's mean over splits, with its interval."""
        return texts(self.averages[self.averages["method"] == method])[0]


def told(n: np.ndarray, n_held_out: np.ndarray) -> str:
    """Return "n of N held out" over some splits, in words."""
    text = f"{span(n)} of {span(n_held_out)} held out"
    if (n == n_held_out).all() and n.min() < n.max():
        text = f"all {span(n)} held out"
    return text if len(n) == 1 else f"{text}, {len(n)} splits"


def span(numbers: np.ndarray) -> str:
    """Say the smallest and the largest of some numbers, once where they are the same."""
    low, high = int(np.min(numbers)), int(np.max(numbers))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def no_target_read_out(rows: pd.DataFrame) -> bool:
    """Whether leaving targets out of the pairs of a context leaves all of them."""
    overall = rows[(rows["level"] == "overall") & (rows["metric"] == "macro_f1")]
    n = overall.groupby("setting")["n"].sum()
    return bool({"full", "full_without_target"} <= set(n.index)) and bool(
        n["full"] == n["full_without_target"]
    )


def without_repeats(scores: pd.DataFrame) -> pd.DataFrame:
    """Leave out the setting ``full`` of tasks and contexts where no target is read out."""
    whole = scores["setting"] == "full"
    for (task, context), rows in scores.groupby(["task", "context"], sort=False, observed=True):
        if no_target_read_out(rows):
            of_both = (scores["task"] == task) & (scores["context"] == context)
            scores, whole = scores[~(of_both & whole)], whole[~(of_both & whole)]
    return scores


def in_fewer_splits(rows: pd.DataFrame) -> dict[str, str]:
    """Return the methods that some splits lack, whose means are of other perturbations."""
    n = rows.groupby("method", sort=False)["split"].nunique()
    whole = rows["split"].nunique()
    return {str(method): f"{k} of {whole} splits" for method, k in n.items() if k < whole}
