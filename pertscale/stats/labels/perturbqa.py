"""The published labels of PerturbQA as a label table, with their split (method C1)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.io.guards.damage import naming_file
from pertscale.io.long_tables import all_names, as_numbers, read_long
from pertscale.schema import Label
from pertscale.splits import Split
from pertscale.stats.labels.table import LabelTable
from pertscale.storage.locations import input_path

_COLUMNS = ["pert", "gene", "label", "split"]


@checked
def read_perturbqa(folder: str | os.PathLike[str], *, line: str) -> tuple[LabelTable, Split]:
    """Read ``<line>-de.csv`` and ``<line>-dir.csv``.

    The first says which pairs are differentially expressed, the second in which direction those
    are. The two are fused to -1, 0, +1.

    Parameters
    ----------
    folder : path
        Where the two files are.
    line : str
        ``'k562'``, ``'rpe1'``, ``'hepg2'`` or ``'jurkat'``.

    Returns
    -------
    labels : LabelTable
        Pairs that are not listed count as not tested.
    split : Split
        The published one, over perturbations.

    Raises
    ------
    NotFoundError
        If a file is missing.
    InputError
        If the two files don't list the same differentially expressed pairs, a perturbation is in
        both parts of the split, or a label is not 0 or 1.

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> rows = {"pert": ["GATA1", "KLF1"], "gene": ["HBG1", "ACTB"], "label": [1, 0]}
    >>> de = pd.DataFrame({**rows, "split": ["train", "test"]})
    >>> de.to_csv("k562-de.csv", index=False)
    >>> de[:1].to_csv("k562-dir.csv", index=False)
    >>> labels, split = ps.stats.read_perturbqa(".", line="k562")
    >>> labels.to_pandas()
      context perturbation  gene  label
    0    k562        GATA1  HBG1      1
    1    k562         KLF1  ACTB      0
    >>> split.test
    ('KLF1',)
    """
    de, direction = (_read(Path(folder) / f"{line}-{kind}.csv") for kind in ("de", "dir"))
    keys = ["pert", "gene"]
    fused = de.merge(direction[[*keys, "label"]], on=keys, how="outer", suffixes=("", "_dir"))
    contradiction = (fused["label"] == 1) != fused["label_dir"].notna()
    if contradiction.any():
        pair = fused[contradiction].iloc[0]
        raise InputError(
            f"{folder}: the pair ({pair['pert']}, {pair['gene']}) is differentially expressed in "
            f"only one of {line}-de.csv and {line}-dir.csv"
        )
    up_or_down = np.where(fused["label_dir"] == 1, Label.UP, Label.DOWN)
    fused["label"] = np.where(fused["label"] == 1, up_or_down, Label.NON_DE).astype(np.int8)
    pairs = fused.rename(columns={"pert": "perturbation"})[["perturbation", "gene", "label"]]
    with naming_file(Path(folder) / f"{line}-de.csv"):
        labels = LabelTable.from_pairs(pairs, context=line, options={"from": "PerturbQA"})
        split = _split(de)
    return labels, split


def _split(de: pd.DataFrame) -> Split:
    parts = {part: tuple(sorted(set(mine["pert"]))) for part, mine in de.groupby("split")}
    return Split("perturbqa", parts.get("train", ()), parts.get("test", ()), kind="file")


def _read(path: Path) -> pd.DataFrame:
    path = input_path(path, "one of PerturbQA's tables")
    table = read_long(path)
    if list(table.columns) != _COLUMNS:
        raise InputError(
            f"{path} has columns {', '.join(table.columns)}; needed are {', '.join(_COLUMNS)}"
        )
    for column in ("pert", "gene", "split"):
        table[column] = all_names(table[column], path)
    label = as_numbers(table["label"], path)
    wrong = np.flatnonzero(~np.isin(label, (0, 1)))
    if len(wrong):
        raise InputError(
            f"the label is {table['label'].iloc[wrong[0]]!r} in row {int(wrong[0])}; PerturbQA's "
            f"are 0 and 1 ({path})"
        )
    part = np.flatnonzero(~table["split"].isin(("train", "test")))
    if len(part):
        raise InputError(
            f"column 'split' has {table['split'].iloc[part[0]]!r} in row {int(part[0])}; train and "
            f"test are known ({path})"
        )
    return table.assign(label=label.astype(np.int8))
