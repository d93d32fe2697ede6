"""Label tables of other tools: scanpy's, pdex's, SynthPert's, plain long ones."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, PertscaleWarning
from pertscale.io.directions import (
    FOLD,
    FOLD_CHANGES,
    LOG_FOLDS,
    FoldChange,
    check_directions,
    fold_directions,
)
from pertscale.io.guards.damage import naming_file
from pertscale.io.long_tables import (
    CODES,
    Codes,
    as_labels,
    as_numbers,
    one_context,
    pair_columns,
    read_long,
)
from pertscale.schema import CONTEXT, GENE, PERTURBATION, Label
from pertscale.splits import Split
from pertscale.stats.labels.table import LabelTable

#: Columns of adjusted p-values.
_FDR: Final = ("pvals_adj", "fdr", "q_value", "padj", "p_adj", "p_val_adj")
_LABEL: Final = ("label", "class", "outcome")


@checked
def read_label_table(
    path: str | os.PathLike[str],
    *,
    context: str | None = None,
    codes: Codes | None = None,
    fdr: float = 0.01,
    fold_change: FoldChange | None = None,
) -> tuple[LabelTable, Split | None]:
    """Read labels that another tool made, one row per (perturbation, gene).

    A column of classes is taken as it is: words (``up``, ``decrease``, ``non-DE`` ...) or integers.
    Without one, classes follow from adjusted p-values and fold changes, as scanpy
    (``pvals_adj``, ``logfoldchanges``), pdex (``fdr``, ``log2_fold_change`` or ``fold_change``) and
    Seurat (``p_val_adj``, ``avg_log2FC``) write them. A direction that the means or z-scores of the
    same table contradict is refused. PerturbQA's pairs of files are read by
    :func:`pertscale.stats.read_perturbqa`.

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
    fold_change : {'ratio', 'log'}, optional
        What a column ``fold_change`` holds: pdex 0.2 writes logarithms there, other versions
        ratios. Needed where neither a negative value nor means or z-scores tell.

    Returns
    -------
    labels : LabelTable
        In memory; pairs that are not listed, or have no adjusted p-value, count as not tested.
    split : Split or None
        From a column ``split`` with ``train`` and ``test``.

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    InputError
        Columns are missing, a pair is listed twice, integers or fold changes could mean several
        things, or columns contradict each other.

    Examples
    --------
    >>> pairs = pd.DataFrame(
    ...     {"pert": ["GATA1", "GATA1"], "gene": ["HBG1", "ACTB"], "label": ["up", "non-DE"]}
    ... )
    >>> pairs.to_csv("pairs.csv", index=False)
    >>> labels, split = ps.stats.read_label_table("pairs.csv")
    >>> labels.to_pandas()
       context perturbation  gene  label
    0  context        GATA1  ACTB      0
    1  context        GATA1  HBG1      1
    """
    if codes is not None and codes not in CODES:
        raise ArgumentError(f"codes={codes!r} is not one of {', '.join(CODES)}")
    if fold_change is not None and fold_change not in FOLD_CHANGES:
        raise ArgumentError(f"fold_change={fold_change!r} is not 'ratio' or 'log'")
    table = one_context(pair_columns(read_long(path), path), context, path)
    name = str(table[CONTEXT].iloc[0]) if CONTEXT in table else context or "context"
    found = _labels(table, codes, fdr, fold_change, path)
    tested = found != Label.UNTESTED
    pairs = pd.DataFrame(
        {
            PERTURBATION: table[PERTURBATION].to_numpy(object),
            GENE: table[GENE].to_numpy(object),
            "label": found,
        }
    )[tested]
    options = {"from": Path(path).name, "codes": codes or ""}
    if not tested.all():
        options["without p-value"] = f"{np.count_nonzero(~tested):,} pairs"
    with naming_file(path):
        labels = LabelTable.from_pairs(pairs, context=name, options=options)
        return labels, _split(table, path)


def _labels(
    table: pd.DataFrame,
    codes: Codes | None,
    fdr: float,
    fold_change: FoldChange | None,
    path: object,
) -> np.ndarray:
    """Return int8 labels; ``Label.UNTESTED`` where there is no adjusted p-value."""
    lower = {str(c).lower(): str(c) for c in table.columns}
    found = next((lower[c] for c in _LABEL if c in lower), None)
    if found is not None:
        labels = as_labels(table[found], codes, path)
        check_directions(table, labels, path)
        return labels
    adjusted = next((lower[c] for c in _FDR if c in lower), None)
    if adjusted is None or not any(c in lower for c in (*LOG_FOLDS, FOLD)):
        raise InputError(
            f"neither a column of classes ({', '.join(_LABEL)}) nor adjusted p-values "
            f"({', '.join(_FDR)}) with fold changes ({', '.join((*LOG_FOLDS, FOLD))}) among "
            f"{', '.join(map(str, table.columns))} ({path})"
        )
    p_values = _probabilities(table[adjusted], path)
    signs = fold_directions(table, p_values < fdr, path, fold_change=fold_change)
    return np.where(np.isnan(p_values), Label.UNTESTED, signs).astype(np.int8)


def _probabilities(column: pd.Series, path: object) -> np.ndarray:
    """Return adjusted p-values, missing ones as NaN; refuse what is not a probability."""
    values = as_numbers(column, path)
    wrong = np.flatnonzero((values < 0) | (values > 1))
    if len(wrong):
        raise InputError(
            f"column {column.name!r} is {values[wrong[0]]:g} in row {int(wrong[0])}; a p-value is "
            f"from 0 to 1 ({path})"
        )
    missing = np.count_nonzero(np.isnan(values))
    if missing == len(values):
        raise InputError(f"column {column.name!r} has no value in any row ({path})")
    if missing:
        warnings.warn(
            f"{missing:,} of {len(values):,} pairs have no {column.name!r}; they count as not "
            f"tested ({path})",
            PertscaleWarning,
            stacklevel=4,
        )
    return values


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
