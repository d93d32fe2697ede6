"""Tables of predictions: wide (perturbation x gene), long values, classes, class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.directions import check_directions
from pertscale.io.guards.limits import check_dense
from pertscale.io.long_tables import (
    SPELLINGS,
    Codes,
    all_names,
    as_labels,
    as_numbers,
    column_of,
    pair_columns,
    read_long,
)
from pertscale.predictions.files.prediction_table import (
    CLASS_SCORES,
    EXPRESSION,
    LABELS,
    PredictionTable,
    checked_gene_names,
)
from pertscale.schema import CONTEXT, GENE, PERTURBATION, Label

#: Columns of a long table that hold the prediction, in the order of preference.
_VALUE: Final = (
    "value",
    "prediction",
    "predicted",
    "expression",
    "mean",
    "delta",
    "lfc",
    "effect",
)
_LABEL: Final = ("label", "class", "predicted_label", "predicted_class", "outcome")
#: Spellings of the class probabilities, in the order of ``schema.CLASSES``.
_PROBABILITIES: Final = (
    ("p_down", "p_non_de", "p_up"),
    ("prob_down", "prob_non_de", "prob_up"),
    ("down", "non_de", "up"),
)


def read_table_file(path: Path, *, codes: Codes | None) -> list[PredictionTable]:
    """Read a table; one part per context and split that its rows name.

    Memory: the table, and its values as a matrix.
    """
    table = read_long(path)
    if column_of(PERTURBATION, list(table.columns)) and column_of(GENE, list(table.columns)):
        return _long(pair_columns(table, path), codes, path)
    return [_wide(table, path)]


def _wide(table: pd.DataFrame, path: Path) -> PredictionTable:
    if not isinstance(table.index, pd.RangeIndex):
        _check_row_names(table, path)
        table = table.reset_index()
    first = str(table.columns[0])
    names: Sequence[str] = all_names(table.iloc[:, 0], path)
    body = table.iloc[:, 1:]
    if not body.shape[1]:
        raise InputError(
            f"one column only, {first[:60]!r}: no genes with values; csv files are separated by "
            f"commas, tsv files by tabs ({path})"
        )
    values = np.stack([as_numbers(body[c], path) for c in body.columns], axis=1)
    columns = tuple(map(str, body.columns))
    if first.lower() in SPELLINGS[GENE] and first.lower() not in SPELLINGS[PERTURBATION]:
        names, columns, values = columns, tuple(names), values.T
    return PredictionTable(
        EXPRESSION, tuple(names), checked_gene_names(columns, path), values.astype(np.float32)
    )


def _check_row_names(table: pd.DataFrame, path: Path) -> None:
    """Raise where the header of the first gene's values is that of the row names."""
    first = str(table.columns[0])
    if first.lower() in (*SPELLINGS[PERTURBATION], *SPELLINGS[GENE]):
        raise CorruptFileError(
            f"{path}: the first line names {first!r} and {table.shape[1] - 1} genes, but each row "
            f"has a name and {table.shape[1]} values; a name is missing in the first line, or a "
            "separator in it is damaged"
        )


def _long(table: pd.DataFrame, codes: Codes | None, path: Path) -> list[PredictionTable]:
    keys = [c for c in (CONTEXT, "split") if c in table]
    if not keys:
        return [_pivoted(table, codes, path, {})]
    return [
        _pivoted(rows, codes, path, dict(zip(keys, map(str, found), strict=True)))
        for found, rows in table.groupby(keys, sort=True)
    ]


def _pivoted(
    table: pd.DataFrame, codes: Codes | None, path: Path, head: dict[str, str]
) -> PredictionTable:
    rows, row_names = pd.factorize(table[PERTURBATION])
    columns, genes = pd.factorize(table[GENE])
    twice = pd.Series(rows.astype(np.int64) * len(genes) + columns).duplicated()
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise InputError(
            f"pair ({row_names[rows[at]]}, {genes[columns[at]]}) is predicted twice; give it once, "
            f"or name contexts and splits in columns of their own ({path})"
        )
    kind, values, missing = _values(table, codes, path)
    check_dense((len(row_names), len(genes), *values.shape[1:]), values.dtype, str(path))
    matrix = np.full((len(row_names), len(genes), *values.shape[1:]), missing, values.dtype)
    matrix[rows, columns] = values
    return PredictionTable(
        kind,
        tuple(row_names),
        checked_gene_names(genes, path),
        matrix,
        context=head.get(CONTEXT, ""),
        split=head.get("split", ""),
    )


def _values(table: pd.DataFrame, codes: Codes | None, path: Path) -> tuple[str, np.ndarray, float]:
    lower = {str(c).lower(): str(c) for c in table.columns}
    for names in _PROBABILITIES:
        if all(name in lower for name in names):
            scores = np.stack([as_numbers(table[lower[n]], path) for n in names], axis=1)
            return CLASS_SCORES, _checked_scores(scores, path), np.nan
    for name in _LABEL:
        if name in lower:
            labels = as_labels(table[lower[name]], codes, path)
            check_directions(table, labels, path)
            return LABELS, labels, int(Label.UNTESTED)
    for name in _VALUE:
        if name in lower:
            return EXPRESSION, as_numbers(table[lower[name]], path).astype(np.float32), np.nan
    raise InputError(
        f"no column of predictions among {', '.join(map(str, table.columns))}; name it one of "
        f"{', '.join((*_VALUE[:3], *_LABEL[:2]))}, or {', '.join(_PROBABILITIES[0])} ({path})"
    )


def _checked_scores(scores: np.ndarray, path: Path) -> np.ndarray:
    """Return probabilities that sum to one; refuse values that are not probabilities."""
    total = scores.sum(axis=1)
    there = ~np.isnan(total)
    wrong = (scores < 0).any(axis=1) | (there & (np.abs(total - 1) > 0.01))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"the class probabilities of row {row} are {scores[row].round(4).tolist()}; they have "
            f"to be non-negative and sum to 1 ({path})"
        )
    return scores.astype(np.float32)
