"""The columns of the cells in the store: ours, then those of the sources, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, InputError
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.plan import IngestPlan
from pertscale.io.store.column_names import stored_names
from pertscale.schema import CELL, CELL_COLUMNS

_EXPRESSED = "n_genes_expressed"
#: Columns that in many data sets hold totals over more genes than the matrix has.
_TOTAL_COLUMNS = ("ncounts", "UMI_count", "n_counts", "total_counts", "nCount_RNA")
#: Relative difference from which on a hint is given.
_RATIO = 1.05


def cell_table(
    plan: IngestPlan, *, names: np.ndarray, totals: np.ndarray, expressed: np.ndarray
) -> Iterator[tuple[str, Any]]:
    """Yield (name, values) in the order of the store's rows; the index comes first.

    Parameters
    ----------
    plan : IngestPlan
    names : ndarray (input cells,)
        Unique names.
    totals, expressed : ndarray (cells,)
        In the order of the store.
    """
    order = plan.order
    source = np.repeat(np.arange(len(plan.sources)), plan.n_input)
    first_rows = np.cumsum([0, *plan.n_input[:-1]])
    yield CELL, names[order]
    yield "perturbation", _taken(plan.perturbation, order)
    yield "context", _taken(plan.context, order)
    for role, values in _batch_and_guide(plan, source):
        yield role, _taken(values, order)
    yield "total_counts", totals
    yield _EXPRESSED, expressed
    files = pd.Categorical.from_codes(source, categories=plan.sources.file_names)
    yield "source_file", _taken(files, order)
    yield "source_row", order - first_rows[source[order]]
    yield from _as_they_came(plan, order)


def _taken(values: pd.Categorical, order: np.ndarray) -> pd.Series:
    return pd.Series(values[order].remove_unused_categories())


def _batch_and_guide(plan: IngestPlan, source: np.ndarray) -> Iterator[tuple[str, pd.Categorical]]:
    columns = plan.sources.columns
    if plan.roles.batch is not None:
        batch = text_categories(columns.load(plan.roles.batch))
        yield "batch", batch if len(plan.sources) == 1 else _prefixed(batch, plan, source)
    elif len(plan.sources) > 1:
        yield "batch", pd.Categorical.from_codes(source, categories=plan.sources.names)
    if plan.roles.guide is not None:
        yield "guide", text_categories(columns.load(plan.roles.guide))


def _prefixed(batch: pd.Categorical, plan: IngestPlan, source: np.ndarray) -> pd.Categorical:
    """Put the file before the batch: gem group 1 of two files are two batches."""
    n = len(batch.categories)
    names = [f"{stem}:{b}" for stem in plan.sources.names for b in batch.categories]
    codes = np.where(batch.codes < 0, -1, source * n + batch.codes)
    return pd.Categorical.from_codes(codes, categories=names)


def _as_they_came(plan: IngestPlan, order: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Columns of the sources, by the names they have in the store."""
    columns = plan.sources.columns
    for name, stored in source_columns(plan).items():
        yield stored, _storable(columns.load(name).iloc[order])


def check_columns(plan: IngestPlan) -> None:
    """Read every column once, so that damage is found before the matrix is read, not after.

    Raises
    ------
    CorruptFileError
    """
    columns = plan.sources.columns
    for name in columns.names:
        _storable(columns.load(name))


def source_columns(plan: IngestPlan) -> dict[str, str]:
    """Return the columns of the sources, and their names in the store."""
    ours = [*(c.name for c in CELL_COLUMNS), CELL, _EXPRESSED]
    return stored_names(plan.sources.columns.names, ours)


def _storable(values: pd.Series) -> Any:
    """Return numbers and booleans as they are, anything else as a categorical of strings."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return (
            values if dtype.categories.dtype.kind in "biuf" else pd.Series(text_categories(values))
        )
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return values
    if pd.api.types.is_bool_dtype(dtype) and not values.isna().any():
        return values.astype(bool)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        return values.astype(np.float64)
    return pd.Series(text_categories(values))


# --- totals -------------------------------------------------------------------------------------


def check_totals_column(plan: IngestPlan, name: str) -> None:
    """Raise an ArgumentError if the cells have no such column."""
    columns = plan.sources.columns
    if name not in columns.names:
        raise ArgumentError(
            f"totals={name!r} is not a column of the cells ({columns.where}); there are "
            f"{', '.join(columns.names) or 'none'}"
        )


def listed_totals(plan: IngestPlan, name: str) -> np.ndarray:
    """Return a column of the input cells as float64; NaN for what is no number."""
    values = pd.to_numeric(plan.sources.columns.load(name), errors="coerce")
    return values.to_numpy(np.float64)


def without_total(plan: IngestPlan, cells: np.ndarray, name: str | None) -> np.ndarray:
    """Return which of some input cells have no total by a column; all where there is none."""
    if name is None or not len(cells):
        return cells
    return cells[~(listed_totals(plan, name)[cells] > 0)]


def named_totals(plan: IngestPlan, name: str, sums: np.ndarray) -> np.ndarray:
    """Read the totals of the cells from a column, in the order of the store.

    Raises
    ------
    InputError
        If a cell with counts has no positive total.
    """
    listed = listed_totals(plan, name)[plan.order]
    bad = np.flatnonzero(~(np.isfinite(listed) & (listed > 0)) & (sums > 0))
    if len(bad):
        cell = int(plan.order[bad[0]])
        raise InputError(
            f"{plan.sources.where}: column {name!r} has the total {listed[bad[0]]} for input cell "
            f"{cell}, which has {sums[bad[0]]:,.0f} counts; totals have to be positive"
        )
    return np.nan_to_num(listed)


def total_column(names: Sequence[str]) -> str | None:
    """Return the column whose name says that it holds totals of the whole transcriptome, if any."""
    return next((name for name in _TOTAL_COLUMNS if name in names), None)


def totals_hint(
    name: str, listed: np.ndarray, sums: np.ndarray, *, of: str, chosen: bool = False
) -> list[str]:
    """Return a hint where a column's totals are not the sums: genes are missing, or one is wrong.

    Parameters
    ----------
    name : str
    listed, sums : ndarray (cells,)
    of : str
        Which cells these are, in words.
    chosen : bool
        Whether the user named the column, so that counts are divided by it.
    """
    filled = (sums > 0) & np.isfinite(listed)
    ratio = float(np.median(listed[filled] / sums[filled])) if filled.any() else 1.0
    if 1 / _RATIO <= ratio <= _RATIO:
        return []
    found = f"{ratio:.3g} times as large (median of {of})"
    if ratio < 1:
        return [
            f"totals: column {name!r} is {found} as the sum over the genes of the matrix, which no "
            f"total of these counts can be: one of the two was changed. {_used(name, chosen)}"
        ]
    if chosen:
        return [
            f"totals: column {name!r}, as chosen, is {found} as the sum over the matrix's genes: "
            "right where the matrix holds a part of the genes; else leave totals= out"
        ]
    return [
        f"totals: the sum over the matrix's genes is used, but column {name!r} is {found}: the "
        f"matrix seems to hold a part of the genes; totals={name!r} would divide by it"
    ]


def _used(name: str, chosen: bool) -> str:
    if chosen:
        return f"Counts are divided by {name!r} as chosen; leave totals= out to take the sum"
    return "The sum is used"
