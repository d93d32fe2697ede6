"""Methods compared on one set of perturbations at one operating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from pertscale.baselines.registry import REFERENCES
from pertscale.evaluation.comparison import bootstrap_interval

#: Perturbations below which nothing is compared, and no interval is given.
FEW: Final = 5
#: Splits from which on their range tells methods apart.
_SPLITS: Final = 4
_BOOTSTRAP: Final = 2000


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of several methods on the same perturbations.

    Attributes
    ----------
    values : DataFrame (split, method)
    greater_is_better : bool
    n, n_held_out : ndarray (split,)
        Perturbations that are compared, and held out.
    by_perturbation : DataFrame (perturbation, method), optional
        The values behind the means, of metrics that are means.
    """

    values: pd.DataFrame
    greater_is_better: bool
    n: np.ndarray
    n_held_out: np.ndarray
    by_perturbation: pd.DataFrame | None = None

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
        return None

    @property
    def ranked(self) -> list[str]:
        """The methods that compete and have a score in every split, the best first."""
        whole = self.values.drop(columns=[m for m in self.values if m in REFERENCES])
        means = whole.loc[:, whole.notna().all()].mean()
        means = means.sort_values(ascending=not self.greater_is_better, kind="stable")
        return [str(method) for method in means.index]

    def rivals(self) -> list[str]:
        """Return the methods that do not differ from the best, in their order."""
        best, *others = self.ranked
        return [other for other in others if not self._tells_apart(best, other)]

    def _tells_apart(self, best: str, other: str) -> bool:
        sign = 1 if self.greater_is_better else -1
        if len(self.values) >= _SPLITS:
            gap = (sign * self.values[best]).min() - (sign * self.values[other]).max()
            return bool(gap > 0)
        if self.by_perturbation is None:
            return False
        difference = sign * (self.by_perturbation[best] - self.by_perturbation[other])
        values = difference.dropna().to_numpy()
        return bool(bootstrap_interval(values, n_bootstrap=_BOOTSTRAP, seed=0)[0] > 0)

    def value(self, method: str) -> str:
        """Return a method's mean over splits, with its range."""
        return with_range(self.values[method].to_numpy())


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


def with_range(values: np.ndarray) -> str:
    """Return the mean of the values of several splits as text, with the smallest and largest."""
    text = f"{values.mean():.3f}"
    return f"{text} ({values.min():.3f} to {values.max():.3f})" if len(values) > 1 else text


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
