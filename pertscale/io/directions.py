"""The direction in which a pair changes, by all columns of a table that tell it.

The name of a column does not tell what is in it: pdex 0.2 writes logarithms into ``fold_change``,
where earlier versions wrote ratios. The values do: no ratio is negative, and the means and the
statistics beside it have signs of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from pertscale.errors import InputError, PertscaleWarning
from pertscale.io.long_tables import as_numbers

FoldChange = Literal["ratio", "log"]
FOLD_CHANGES: Final = ("ratio", "log")
Signs = np.ndarray[Any, np.dtype[np.float64]]

#: Columns of logarithms of fold changes, in any base: the sign is what counts. The last two are
#: Seurat's.
LOG_FOLDS: Final = (
    "logfoldchanges",
    "log2_fold_change",
    "lfc",
    "logfc",
    "log_fold_change",
    "log2fc",
    "log2foldchange",
    "avg_log2fc",
    "avg_logfc",
)
#: A column of ratios or of logarithms, depending on who wrote it.
FOLD: Final = "fold_change"
_MEANS: Final = (
    ("target_mean", "ref_mean"),
    ("target_mean", "reference_mean"),
    ("mean", "mean_control"),
)
_Z: Final = ("z", "z_score", "zscore")
#: Signed in some tools' tables; in others they are U statistics, or scores of something else.
_STATISTICS: Final = ("scores", "score", "statistic", "stat", "percent_change")
#: Share of the pairs on which two columns may disagree: means of counts and of their logarithms do
#: so now and then, means and ranks more often.
_MOST_BY_MEANS: Final = 0.05
_MOST_BY_RANKS: Final = 0.25
_SHOWN: Final = 3


@dataclass(frozen=True, eq=False)
class _Told:
    """Signs of every row by some columns, NaN or 0 where they say nothing."""

    columns: tuple[str, ...]
    signs: Signs
    most: float

    def against(self, signs: Signs) -> tuple[np.ndarray, int]:
        """Return the rows where other signs are the opposite, and how many can be compared."""
        product = np.nan_to_num(self.signs) * np.nan_to_num(signs)
        return np.flatnonzero(product < 0), int(np.count_nonzero(product))


def fold_directions(
    table: pd.DataFrame,
    significant: np.ndarray,
    path: object,
    *,
    fold_change: FoldChange | None = None,
) -> np.ndarray:
    """Return -1, 0 or 1 for the significant rows, by their fold changes; 0 for the others.

    Where the fold change of a row is missing or none, its means decide, then its statistic.

    Parameters
    ----------
    table
        With a column of :data:`LOG_FOLDS`, or :data:`FOLD`.
    significant
        Which rows count.
    path
        For messages.
    fold_change : {'ratio', 'log'}, optional
        What a column ``fold_change`` holds; without it the values have to tell.

    Raises
    ------
    InputError
        The values leave it open what they are, two columns contradict each other, or a
        significant row has no direction.
    """
    lower = {str(c).lower(): str(c) for c in table.columns}
    column = next(lower[c] for c in (*LOG_FOLDS, FOLD) if c in lower)
    values = np.where(significant, as_numbers(table[column], path), np.nan)
    told = _told(table, significant, (*_Z, *_STATISTICS))
    if column.lower() == FOLD:
        every = as_numbers(table[column], path)
        fold_change = _meaning(every, values, told, fold_change, path)
        signs = np.sign(values - 1 if fold_change == "ratio" else values)
    else:
        signs = np.sign(values)
    what = f"{column!r}" + (f" (read as {fold_change}s)" if column.lower() == FOLD else "")
    _check(table, told, signs, what, (column,), path)
    for other in told:
        undecided = (
            significant & (np.isnan(signs) | (signs == 0)) & (np.nan_to_num(other.signs) != 0)
        )
        signs[undecided] = other.signs[undecided]
    unknown = np.flatnonzero(significant & np.isnan(signs))
    if len(unknown):
        raise InputError(
            f"row {int(unknown[0])} (and {len(unknown) - 1} more) has an adjusted p-value that is "
            f"significant, but {column!r} is empty and no other column says in which direction it "
            f"changes; fill it in, or leave the row out ({path})"
        )
    return np.nan_to_num(signs).astype(np.int8)


def check_directions(table: pd.DataFrame, labels: np.ndarray, path: object) -> None:
    """Refuse classes whose direction means, z-scores or log fold changes beside them contradict.

    Raises
    ------
    InputError
        The message shows the first rows.
    """
    changed = np.isin(labels, (-1, 1))
    if changed.any():
        told = _told(table, changed, (*LOG_FOLDS, *_Z))
        signs = np.where(changed, labels, 0).astype(np.float64)
        columns = [c for c in table.columns if str(c).lower() in ("label", "class", "outcome")]
        _check(table, told, signs, "the classes", columns, path)


def _meaning(
    every: Signs, values: Signs, told: list[_Told], declared: FoldChange | None, path: object
) -> FoldChange:
    """Return whether a column ``fold_change`` holds ratios or logarithms."""
    negative = every < 0
    if negative.any():
        if declared == "ratio":
            raise InputError(
                f"{FOLD!r} is {every[negative][0]:g} in row {int(np.flatnonzero(negative)[0])}, "
                f"and no ratio is negative: these are logarithms; pass fold_change='log' ({path})"
            )
        return "log"
    if declared is not None:
        return declared
    if not (values <= 1).any():
        return "ratio"  # every pair goes up, either way
    ratio, log = np.sign(values - 1), np.sign(values)
    for other in told:
        says = np.nan_to_num(other.signs) != 0
        as_ratio, as_log = (np.count_nonzero(says & (s != other.signs)) for s in (ratio, log))
        if as_ratio != as_log:
            return "ratio" if as_ratio < as_log else "log"
    raise InputError(
        f"{FOLD!r} may hold ratios or logarithms: no value is negative, and no other column (means "
        "of the perturbed cells and the controls, a z-score) says which; some versions of pdex "
        f"write ratios there, others log2: pass fold_change='ratio' or fold_change='log' ({path})"
    )


def _told(table: pd.DataFrame, rows: np.ndarray, names: Sequence[str]) -> list[_Told]:
    """Return what means and some columns of signed numbers say about some rows."""
    lower = {str(c).lower(): str(c) for c in table.columns}
    found = []
    for pair in _MEANS:
        if all(name in lower for name in pair):
            there, reference = (_numbers(table[lower[name]]) for name in pair)
            signs = np.sign(there - reference)
            found.append(_Told(tuple(lower[n] for n in pair), _only(signs, rows), _MOST_BY_MEANS))
            break
    for name in names:
        if name not in lower:
            continue
        signs = _only(np.sign(_numbers(table[lower[name]])), rows)
        if name in _STATISTICS and not ((signs < 0).any() and (signs > 0).any()):
            continue
        most = _MOST_BY_MEANS if name in LOG_FOLDS else _MOST_BY_RANKS
        found.append(_Told((lower[name],), signs, most))
    return found


def _numbers(column: pd.Series) -> Signs:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _only(signs: Signs, rows: np.ndarray) -> Signs:
    return np.where(rows, signs, np.nan)


def _check(
    table: pd.DataFrame,
    told: list[_Told],
    signs: Signs,
    what: str,
    columns: Sequence[str],
    path: object,
) -> None:
    """Compare signs with what other columns say: raise for many contradictions, warn of a few."""
    for other in told:
        rows, n = other.against(signs)
        if not len(rows):
            continue
        shown = [c for c in table.columns if c in ("perturbation", "gene")]
        first = table.iloc[rows[:_SHOWN]][[*shown, *columns, *other.columns]]
        seen = "; ".join(
            f"row {row}: "
            + ", ".join(f"{c} {v}" for c, v in zip(first.columns, cells, strict=True))
            for row, cells in zip(rows, first.itertuples(index=False, name=None), strict=False)
        )
        message = (
            f"{what} and {' and '.join(map(repr, other.columns))} say the opposite for "
            f"{len(rows):,} of {n:,} significant pairs ({seen})"
        )
        if len(rows) > other.most * n:
            raise InputError(
                f"{message}; one of them is wrong or means something else than its name says: "
                f"correct it, or leave it out of the table ({path})"
            )
        if other.most == _MOST_BY_MEANS:
            warnings.warn(
                f"{message}; the former is followed ({path})", PertscaleWarning, stacklevel=2
            )
