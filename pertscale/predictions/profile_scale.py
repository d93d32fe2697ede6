"""The total per cell that predicted profiles were normalised to, judged by the screen's control.

The log1p of counts per 10,000 and that per 50,000 look alike: all genes are higher by one factor. A
perturbation changes some genes, and a model may miss all of them, but the most expressed genes
together hardly move. So their common factor tells the total; it is not a proof, and a scale that
the user declares is accepted all the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pertscale.schema import TARGET_TOTAL

#: The factor is read from this share of the genes, the most expressed in the control, at least
#: so many; with fewer there is no factor.
_TOP_SHARE: Final = 0.1
_TOP_GENES: Final = 20
_FEWEST_GENES: Final = 5
#: Factors between 1/LIMIT and LIMIT may be a model's; from NOTED on they are noted.
LIMIT: Final = 1.4
NOTED: Final = 1.1


def common_factor(profiles: np.ndarray, control: np.ndarray) -> float:
    """Return how many times as high as in the control the most expressed genes are.

    Parameters
    ----------
    profiles : ndarray (n, genes)
        log1p of normalised counts; NaN where nothing is predicted.
    control : ndarray (genes,)
        The screen's, log1p of counts per 10,000.

    Returns
    -------
    float
        Median over genes, then over profiles; NaN where it can't be told.
    """
    there = np.flatnonzero(np.isfinite(profiles).any(axis=0) & (control > 0))
    n = min(len(there), max(_TOP_GENES, round(_TOP_SHARE * len(there))))
    top = there[np.argsort(-control[there], kind="stable")[:n]]
    if n < _FEWEST_GENES:
        return float("nan")
    with np.errstate(over="ignore"):
        ratio = np.expm1(profiles[:, top].astype(np.float64)) / np.expm1(control[top])
    told = np.isfinite(ratio).any(axis=1)
    return float(np.median(np.nanmedian(ratio[told], axis=1))) if told.any() else float("nan")


def is_another_total(factor: float) -> bool:
    """Whether a factor is too far from 1 for profiles per 10,000."""
    return bool(np.isfinite(factor) and not 1 / LIMIT <= factor <= LIMIT)


def total_named(factor: float) -> str:
    """Return the scale that a factor means, in words, to two digits."""
    return f"log1p of counts per {float(f'{factor * TARGET_TOTAL:.2g}'):,.0f}"


def factor_note(factor: float) -> str:
    """Return a sentence for the account where a factor is worth one."""
    if not np.isfinite(factor) or 1 / NOTED <= factor <= NOTED:
        return ""
    return (
        f"the most expressed genes are {factor:.2g} times as high as in the control, as if these "
        f"were {total_named(factor)}"
    )
