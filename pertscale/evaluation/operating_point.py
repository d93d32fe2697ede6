"""How many pairs are called differentially expressed, the same for every method (method O8).

A classifier calls the class with the largest score, which on rare classes is next to nothing; a
model of expression calls as many pairs as changed in training. Their scores then say more about how
many they call than about which. So classes are scored at two operating points: as a method calls
them, and with the share of pairs called that is differentially expressed in training.
"""

from __future__ import annotations

from typing import Final, Literal

import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.arguments import checked
from pertscale.errors import ArgumentError
from pertscale.schema import CLASSES, OPERATING_POINTS, Label

OperatingPoint = Literal["as_called", "at_training_rate"]

_DOWN, _NON_DE, _UP = (CLASSES.index(label) for label in (Label.DOWN, Label.NON_DE, Label.UP))
#: Score of non_de from which on a pair is never called: nothing speaks for a change.
_CERTAIN: Final = 1.0


@checked
def at_operating_point(scores: pd.DataFrame, point: OperatingPoint = "as_called") -> pd.DataFrame:
    """Return the rows of a score table at one operating point, and those that need none.

    Parameters
    ----------
    scores : DataFrame
        With a column ``operating_point``.
    point : {'as_called', 'at_training_rate'}

    Raises
    ------
    ArgumentError
        For another point.

    Examples
    --------
    >>> truth = np.array([[1, 0, -1, 0]], np.int8)
    >>> scores = np.array([[[0, .4, .6], [.1, .9, 0], [.4, .6, 0], [0, 1, 0]]], np.float32)
    >>> called = np.array([[1, 0, 0, 0]], np.int8)  # the class of the largest score
    >>> table = ps.evaluation.evaluate(
    ...     truth, called, scores=scores, training_rate=0.5, perturbations=["GATA1"]
    ... )
    >>> table = ps.evaluation.at_operating_point(table, "at_training_rate")
    >>> float(table.query("level == 'overall' and metric == 'accuracy'")["value"].iloc[0])
    1.0
    """
    if point not in OPERATING_POINTS:
        raise ArgumentError(
            f"operating point {point!r} is not one of {', '.join(OPERATING_POINTS)}"
        )
    return scores[scores["operating_point"].isin([point, ""])]


@checked
def share_changed(labels: np.ndarray | da.Array) -> float | None:
    """Return the share of differentially expressed pairs among the tested; None if none is.

    Parameters
    ----------
    labels
        NumPy or Dask, any shape.

    Examples
    --------
    >>> ps.evaluation.share_changed(np.array([[1, 0, 0, -1, -128]], np.int8))  # -128 is not tested
    0.5
    """
    tested = labels != Label.UNTESTED
    n, changed = compute(tested.sum(), (tested & (labels != Label.NON_DE)).sum())
    return int(changed) / int(n) if n else None


def threshold_at_rate(scores: NDArray[np.float32], counts: NDArray[np.int64], rate: float) -> float:
    """Return the score of non_de up to which pairs are called, so that a share of them is.

    Pairs with the same score are called together or not at all, as nothing tells them apart: the
    number of calls is the one nearest to the share, the smaller of two that are as near. It depends
    on no order of the pairs. Never called are pairs without a score, and those for which non_de has
    it all.

    Parameters
    ----------
    scores : ndarray (n,)
        Distinct scores of non_de, ascending; NaN, for pairs without one, may come first.
    counts : ndarray (n,)
        Pairs with each of them.
    rate : float

    Returns
    -------
    float
        ``-inf`` where no pair is called.
    """
    wanted = round(rate * int(counts.sum()))
    can = scores < _CERTAIN  # NaN can't
    called = np.cumsum(counts[can])
    over = int(np.searchsorted(called, wanted))  # the first that call as many, or more
    below = int(called[over - 1]) if over else 0
    nearer = over < len(called) and called[over] - wanted < wanted - below  # of equals the fewer
    n_distinct = over + int(nearer)
    return float(scores[can][n_distinct - 1]) if n_distinct else -np.inf


def labels_at_threshold(scores: NDArray, threshold: float) -> NDArray[np.int8]:
    """Return labels: the likelier direction where non_de has no more than a score, else non_de.

    Parameters
    ----------
    scores : ndarray (..., 3)
        Class scores in the order of ``schema.CLASSES``, as float32. Of equally likely directions
        up is taken.
    threshold : float
        As of :func:`threshold_at_rate`.
    """
    direction = np.where(scores[..., _UP] >= scores[..., _DOWN], Label.UP, Label.DOWN)
    return np.where(scores[..., _NON_DE] <= threshold, direction, Label.NON_DE).astype(np.int8)
