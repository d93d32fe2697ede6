"""Scales of predicted profiles, and how they become log1p of counts per 10,000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pertscale.errors import InputError
from pertscale.schema import COUNTS, LOG1P_1E4, MOST_LOG1P, PSEUDOCOUNT, TARGET_TOTAL

DELTA: Final = "delta"
LFC: Final = "lfc"
#: Scales of predicted expression.
ExpressionScale = Literal["log1p_1e4", "counts", "delta", "lfc"]
EXPRESSION_SCALES: Final[tuple[ExpressionScale, ...]] = get_args(ExpressionScale)
#: Logarithms of counts are not negative; values below zero may weigh this share of those above.
_MOST_BELOW: Final = 0.5


def to_log1p(values: NDArray, scale: str, control: NDArray) -> NDArray:
    """Return mean log1p expression; `control` is the screen's, (n_genes,)."""
    if scale == LOG1P_1E4:
        return values
    if scale == DELTA:
        return control + values
    if scale == LFC:
        level = (np.expm1(control) + PSEUDOCOUNT) * np.exp2(values.astype(np.float64)) - PSEUDOCOUNT
        return np.log1p(np.maximum(level, 0))
    # counts: to the share of 10,000 that the genes of each row have in the control
    level = np.expm1(control.astype(np.float64))
    share = np.where(np.isnan(values), 0.0, level).sum(axis=1, keepdims=True) / level.sum()
    total = np.nansum(values, axis=1, dtype=np.float64, keepdims=True)
    factor = np.divide(TARGET_TOTAL * share, total, out=np.zeros_like(total), where=total > 0)
    return np.log1p(values * factor)


def distance_from_control(profiles: NDArray, control: NDArray) -> float:
    """Median distance of profiles from the control, in lengths of the control."""
    there = ~np.isnan(profiles)
    difference = np.where(there, profiles - control, 0.0)
    length = np.sqrt((np.where(there, control, 0.0) ** 2).sum(axis=1))
    return float(np.median(np.sqrt((difference**2).sum(axis=1)) / np.maximum(length, PSEUDOCOUNT)))


def check_values(values: NDArray, scale: str, names: Sequence[str], where: str) -> None:
    """Refuse what a scale can't have.

    Networks that predict logarithms miss zero by a little on either side: that is taken as it is.
    """
    bad = np.isinf(values)
    if scale == COUNTS:
        bad |= values < 0
    if scale in (LOG1P_1E4, DELTA):
        bad |= values > MOST_LOG1P
    below, above = (np.abs(values[side]).sum() for side in (values < 0, values > 0))
    if scale == LOG1P_1E4 and below > _MOST_BELOW * above:
        bad |= values < 0
    if bad.any():
        row, gene = np.argwhere(bad)[0]
        if np.isinf(values[row, gene]):
            raise InputError(
                f"the prediction of {names[row]!r} has the value {values[row, gene]}; write what "
                f"is not predicted as missing (NaN, or an empty cell) ({where})"
            )
        raise InputError(
            f"the prediction of {names[row]!r} has the value {values[row, gene]:.6g}, which "
            f"scale={scale!r} can't have; declare the right scale= "
            f"({', '.join(EXPRESSION_SCALES)}) ({where})"
        )
