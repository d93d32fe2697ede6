"""Read what a model gives back, and check it before it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pertscale.arguments import checked
from pertscale.errors import did_you_mean
from pertscale.io.guards.limits import check_parquet
from pertscale.models.task import REQUEST_FILE
from pertscale.schema import MOST_LOG1P, TARGET_TOTAL
from pertscale.storage.atomic import read_json

PREDICTIONS_FILE: Final = "predictions.parquet"
META_FILE: Final = "meta.json"
CONDITION: Final = "condition"
#: Networks give small values below zero where a gene is hardly expressed, and are scored with them,
#: as in the second paper; changes instead of expression are below zero about as much as above.
_MAX_BELOW_ZERO = 0.5
#: Normalised counts of a cell add up to 10,000, and the exponential of a mean log is less.
_MAX_TOTAL = 2 * TARGET_TOTAL


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes
    ----------
    status : {'complete', 'partial', 'wrong'}
    reason : str
        What is missing or wrong; empty where all is there.
    predictions : DataFrame, optional
        Conditions x genes in the order of the request, NaN where missing; None where wrong.
    """

    status: str
    reason: str
    predictions: pd.DataFrame | None


class _Wrong(Exception):
    """The predictions can't be used; the message says why."""


@checked
def check_predictions(task: str | os.PathLike[str], out: str | os.PathLike[str]) -> Checked:
    """Check the predictions in a folder against the request of a task.

    Conditions and genes are matched by name. What is missing makes a result partial; what was not
    asked for, occurs twice, is not finite or not on the scale makes it wrong. A row without any
    value counts as missing (method K1).

    Parameters
    ----------
    task : path
        Folder that :func:`write_task` wrote.
    out : path
        Folder with ``predictions.parquet``: a row per condition, named by the index or a column
        ``condition``; a column per gene; mean log1p of counts per 10,000.

    Returns
    -------
    Checked
    """
    request = read_json(Path(task) / REQUEST_FILE)
    try:
        found = _read(Path(out) / PREDICTIONS_FILE)
        _check_names(list(found.index), request["conditions"], "condition")
        _check_names(list(found.columns), request["genes"], "gene")
        found = found.dropna(how="all")
        _check_values(found)
    except _Wrong as wrong:
        return Checked("wrong", str(wrong), None)
    missing = [
        _listed(pd.Index(request[what]).difference(names, sort=False), what)
        for what, names in (("conditions", found.index), ("genes", found.columns))
    ]
    reason = "; ".join(filter(None, missing))
    whole = found.reindex(index=request["conditions"], columns=request["genes"])
    return Checked("partial" if reason else "complete", reason, whole)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise _Wrong(f"the model ended well but wrote no {path.name}; it has to, below {{out}}")
    try:
        check_parquet(path)
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise _Wrong(f"{path.name} is not a Parquet file: {_one_line(error)}") from error
    _check_unique(table.column_names, "column")
    frame = table.to_pandas()
    if CONDITION in frame.columns:
        frame = frame.set_index(CONDITION)
    if not all(isinstance(name, str) for name in frame.index):
        raise _Wrong(
            f"rows have no names, the first is {next(iter(frame.index), None)!r}; name the "
            f"conditions by the index or by a column {CONDITION!r}"
        )
    return frame


def _check_names(names: Sequence[str], asked: Sequence[str], what: str) -> None:
    _check_unique(names, what)
    unknown = list(pd.Index(names).difference(asked, sort=False))
    if unknown:
        raise _Wrong(
            f"{len(unknown)} of {len(names)} {what}s were not asked for, for example "
            f"{unknown[0]!r}; name them as {REQUEST_FILE} does{did_you_mean(unknown[0], asked)}"
        )


def _check_unique(names: Sequence[str], what: str) -> None:
    seen = pd.Index(names)
    if not seen.is_unique:
        raise _Wrong(f"{what} {seen[seen.duplicated()][0]!r} is there twice; give each once")


def _check_values(found: pd.DataFrame) -> None:
    if found.empty:
        raise _Wrong("there is no value at all; predict at least one condition and one gene")
    text = [c for c, kind in found.dtypes.items() if kind.kind not in "iuf"]
    if text:
        raise _Wrong(f"column {text[0]!r} holds no numbers")
    values = found.to_numpy(np.float64)
    for bad, what in (
        (~np.isfinite(values), "is not finite; leave the whole condition out instead"),
        (values >= MOST_LOG1P, f"is not below {MOST_LOG1P:g}; give mean log1p of counts per 1e4"),
    ):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise _Wrong(
                f"{bad.sum():,} of {bad.size:,} values can't be: {values[row, column]:g} of gene "
                f"{found.columns[column]!r} in {found.index[row]!r} {what}"
            )
    below, above = -values.clip(max=0).sum(axis=1), values.clip(min=0).sum(axis=1)
    changes = below >= _MAX_BELOW_ZERO * above
    if changes.any():
        raise _Wrong(
            f"{changes.sum()} of {len(found)} conditions are no expression: in "
            f"{found.index[changes.argmax()]!r} values below 0 add up to {below[changes][0]:.3g}, "
            f"those above to {above[changes][0]:.3g}; give mean log1p itself, not its change"
        )
    totals = np.expm1(values).sum(axis=1)
    if totals.max() > _MAX_TOTAL:
        raise _Wrong(
            f"expm1 adds up to {totals.max():,.0f} over the genes of "
            f"{found.index[totals.argmax()]!r}, more than the {TARGET_TOTAL:,.0f} of a cell; give "
            f"natural log1p of counts per 1e4"
        )


def _listed(names: pd.Index, what: str) -> str:
    if names.empty:
        return ""
    more = f", and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} {what} missing: {', '.join(names[:5])}{more}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
