"""Whether a metric tells knowledge from none on a screen, and scores on that scale.

A metric has a range on a screen: from what a prediction without knowledge gets to what a
measurement of the same perturbations on other cells gets. Where the second is not better than the
first, nobody's score means anything.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked

#: Added to the range of a metric, as scPertEval does.
_EPSILON: Final = 1e-6


@checked
def dynamic_range_fraction(
    positive: ArrayLike, negative: ArrayLike, *, perfect: float, greater_is_better: bool
) -> NDArray[np.float64]:
    """Return which part of the range from a negative control to perfection a positive one reaches.

    Parameters
    ----------
    positive, negative : array_like
        Values of a metric, such as of a replicate and of the mean; they broadcast.
    perfect : float
        Its value for the truth itself.
    greater_is_better : bool

    Returns
    -------
    ndarray
        From -1 to 1, clipped; NaN where a value is NaN, and where the negative control is beyond
        perfection.

    References
    ----------
    Miller et al. (2025), https://doi.org/10.1101/2025.10.20.683304

    Examples
    --------
    >>> ps.evaluation.dynamic_range_fraction(
    ...     [0.9, 0.2], [0.2, 0.9], perfect=1.0, greater_is_better=True
    ... ).round(3)
    array([ 0.875, -1.   ])
    """
    sign = 1.0 if greater_is_better else -1.0
    pos, neg = (sign * np.asarray(x, np.float64) for x in (positive, negative))
    span = sign * perfect - neg
    with np.errstate(invalid="ignore"):
        fraction = np.clip((pos - neg) / (span + _EPSILON), -1.0, 1.0)
        return np.where(span < 0, np.nan, fraction)


@checked
def bound_discrimination_score(
    positive: ArrayLike, negative: ArrayLike, *, greater_is_better: bool
) -> tuple[float, int]:
    """Return the share of perturbations on which a positive control beats a negative one.

    Parameters
    ----------
    positive, negative : array_like (perturbation,)
        Values of a metric.
    greater_is_better : bool

    Returns
    -------
    share : float
        Of the perturbations where both have a value; NaN without any. Ties are no win.
    n_undefined : int
        The others, which are left out.

    Examples
    --------
    >>> ps.evaluation.bound_discrimination_score(
    ...     [0.9, 0.2, np.nan], [0.2, 0.9, 0.1], greater_is_better=True
    ... )
    (0.5, 1)
    """
    pos, neg = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (positive, negative)))
    defined = np.isfinite(pos) & np.isfinite(neg)
    wins = (pos > neg) if greater_is_better else (pos < neg)
    share = float(wins[defined].mean()) if defined.any() else np.nan
    return share, int((~defined).sum())


def scaled_score(value: float, *, floor: float, ceiling: float) -> float:
    """Return a score on the scale from a floor (0) to a ceiling (1), not clipped (method O5)."""
    return (value - floor) / (ceiling - floor)


def at_full_depth(correlation: float) -> float:
    """Return what a correlation of halves would be of whole groups of cells: Spearman and Brown.

    NaN for one that is not above 0, of which nothing follows.
    """
    return 2 * correlation / (1 + correlation) if correlation > 0 else float("nan")
