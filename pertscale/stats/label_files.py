"""Label tables of other tools: scanpy's, pdex's, SynthPert's, plain long ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, InputError
from pertscale.io.long_tables import (
    CODES,
    as_labels,
    as_numbers,
    one_context,
    pair_columns,
    read_long,
)
from pertscale.schema import CONTEXT, GENE, PERTURBATION, Label
from pertscale.splits import Split
from pertscale.stats.labels import LabelTable

#: Columns of adjusted p-values and of fold changes (log ones, then plain ratios).
_FDR: Final = ("pvals_adj", "fdr", "q_value", "padj", "p_adj")
_LOG_FOLD: Final = ("logfoldchanges", "log2_fold_change", "lfc", "logfc", "log_fold_change")
_FOLD: Final = ("fold_change",)
_LABEL: Final = ("label", "class", "outcome")


def read_label_table(
    path: str | os.PathLike[str],
    *,
    context: str | None = None,
    codes: str | None = None,
    fdr: float = 0.01,
) -> tuple[LabelTable, Split | None]:
    """Read labels that another tool made, one row per (perturbation, gene).

    A column of classes is taken as it is: words (``up``, ``decrease``, ``non-DE`` ...) or integers.
    Without one, classes follow from adjusted p-values and fold changes, as scanpy
    (``pvals_adj``, ``logfoldchanges``) and pdex (``fdr``, ``log2_fold_change`` or ``fold_change``)
    write them. PerturbQA's pairs of files are read by :func:`pertscale.stats.read_perturbqa`.

    Parameters
    ----------
    path
        csv, tsv (also gzipped) or parquet.
    context
        The context to read, where a column names several; else the name to give it.
    codes : {'pertscale', 'synthpert', 'up_first'}, optional
        What integer classes mean: -1 down, 0 non-DE, 1 up; SynthPert's 0 none, 1 down, 2 up; or
        0 non-DE, 1 up, 2 down. Needed where they could mean several things.
    fdr
        Differentially expressed where the adjusted p-value is below this.

    Returns
    -------
    labels : LabelTable
        In memory; pairs that are not listed count as not tested.
    split : Split or None
        From a column ``split`` with ``train`` and ``test``.

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    InputError
        Columns are missing, a pair is listed twice, or integers could mean several things.
    """
    if codes is not None and codes not in CODES:
        raise ArgumentError(f"codes={codes!r} is not one of {', '.join(CODES)}")
    table = one_context(pair_columns(read_long(path), path), context, path)
    name = str(table[CONTEXT].iloc[0]) if CONTEXT in table else context or "context"
    pairs = pd.DataFrame(
        {
            PERTURBATION: table[PERTURBATION].to_numpy(object),
            GENE: table[GENE].to_numpy(object),
            "label": _labels(table, codes, fdr, path),
        }
    )
    options = {"from": Path(path).name, "codes": codes or ""}
    labels = LabelTable.from_pairs(pairs, context=name, options=options)
    return labels, _split(table, path)


def _labels(table: pd.DataFrame, codes: str | None, fdr: float, path: object) -> np.ndarray:
    lower = {str(c).lower(): str(c) for c in table.columns}
    found = next((lower[c] for c in _LABEL if c in lower), None)
    if found is not None:
        return as_labels(table[found], codes, path)
    adjusted = next((lower[c] for c in _FDR if c in lower), None)
    change = next((lower[c] for c in (*_LOG_FOLD, *_FOLD) if c in lower), None)
    if adjusted is None or change is None:
        raise InputError(
            f"neither a column of classes ({', '.join(_LABEL)}) nor adjusted p-values "
            f"({', '.join(_FDR)}) with fold changes ({', '.join((*_LOG_FOLD, *_FOLD))}) among "
            f"{', '.join(table.columns)} ({path})"
        )
    change_values = as_numbers(table[change], path)
    if change.lower() in _FOLD:
        change_values = change_values - 1
    significant = as_numbers(table[adjusted], path) < fdr
    return np.where(significant, np.sign(np.nan_to_num(change_values)), Label.NON_DE).astype(
        np.int8
    )


def _split(table: pd.DataFrame, path: object) -> Split | None:
    if "split" not in table:
        return None
    names = table[[PERTURBATION, "split"]].drop_duplicates()
    known = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
    part = names["split"].astype(str).str.lower().map(known)
    if part.isna().any():
        raise InputError(
            f"column 'split' has {names['split'][part.isna()].iloc[0]!r}; train, test and val are "
            f"known ({path})"
        )
    train, test, val = (
        tuple(sorted(names.loc[part == p, PERTURBATION])) for p in ("train", "test", "val")
    )
    if not train or not test:
        return None
    return Split(Path(str(path)).name.split(".")[0], train, test, val, kind="file")
