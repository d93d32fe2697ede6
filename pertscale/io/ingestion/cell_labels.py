"""From the labels of a file to perturbations: one code per cell, a reason for each label left out.

Work is done per distinct label; memory is O(distinct labels) and one int32 per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import InputError
from pertscale.perturbation_names import Grammar, left_out_reason, name_of
from pertscale.schema import CONTROL

#: Reason for labels such as ``ctrl`` where ``control=`` names another label.
NOT_CHOSEN = "reads as control, but is not among the control labels"


@dataclass(frozen=True)
class CellColumns:
    """The columns that describe the cells of a screen, loaded one at a time.

    Parameters
    ----------
    names
        Names of the columns.
    load
        Returns one column, (n_cells,). Several files as one screen: a function that
        concatenates.
    where
        File or files, for messages.
    """

    names: tuple[str, ...]
    load: Callable[[str], pd.Series]
    where: str


@dataclass(frozen=True)
class DroppedLabel:
    """A label whose cells are left out; ``""`` stands for missing values."""

    label: str
    reason: str
    n_cells: int


@dataclass(frozen=True)
class Interpretation:
    """Perturbation of every cell.

    Attributes
    ----------
    names
        Canonical names: ``control`` first, the others sorted.
    codes
        (n_cells,) int32 positions in `names`; -1 where the cell is left out.
    left_out
        Labels left out, each with the reason and the number of its cells.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    left_out: tuple[DroppedLabel, ...]

    def reason(self, label: object) -> str | None:
        """Return why the cells of a label are left out; None if they are not."""
        text = _as_text(label)
        return next((found.reason for found in self.left_out if found.label == text), None)


def label_column(columns: CellColumns, perturbation: str | Sequence[str]) -> pd.Series:
    """Return the labels of the cells as a categorical of strings.

    Two columns (``perturbation_1``, ``perturbation_2``) become ``A+B``; a missing one of the two
    counts as no second perturbation.
    """
    if isinstance(perturbation, str):
        return pd.Series(text_categories(columns.load(perturbation)))
    first, second = (text_categories(columns.load(name)) for name in perturbation)
    n_second = len(second.categories) + 1
    pairs = (first.codes.astype(np.int64) + 1) * n_second + second.codes + 1
    distinct, codes = np.unique(pairs, return_inverse=True)
    left = ["", *first.categories]
    right = ["", *second.categories]
    joined = ["+".join(filter(None, (left[p // n_second], right[p % n_second]))) for p in distinct]
    return pd.Series(_categorical(joined, codes.astype(np.int32)))


def text_categories(values: pd.Series) -> pd.Categorical:
    """Return values as a categorical of stripped strings, empty ones missing; unused levels go."""
    found = values if isinstance(values.dtype, pd.CategoricalDtype) else values.astype("category")
    return _categorical(list(found.cat.categories), np.asarray(found.cat.codes))


def _categorical(levels: Sequence[Any], codes: np.ndarray) -> pd.Categorical:
    """Categorical of strings from levels that may be repeated, unused, or no strings."""
    used = np.bincount(codes[codes >= 0], minlength=len(levels)) > 0
    texts = [_as_text(level) if seen else "" for level, seen in zip(levels, used, strict=True)]
    distinct = sorted(set(texts) - {""})
    code_of = {text: code for code, text in enumerate(distinct)}
    table = np.array([code_of.get(text, -1) for text in texts] + [-1], dtype=np.int32)
    return pd.Categorical.from_codes(table[codes], categories=pd.Index(distinct, dtype=object))


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode().strip()
    return "" if value is None or value is pd.NA or value != value else str(value).strip()


def interpret_labels(
    labels: pd.Series, *, controls: Sequence[str], genes: Sequence[str], where: str = ""
) -> Interpretation:
    """Read the labels of all cells.

    Parameters
    ----------
    labels
        (n_cells,) as :func:`label_column` returns them; plain strings do as well.
    controls
        Labels that are control, as spelled in the file.
    genes
        Names of the genes, of every kind, to tell where ``A_B`` is a combination.
    where
        File, for messages.

    Raises
    ------
    InputError
        None of the cells has a control label.
    """
    cells = text_categories(labels)
    codes = np.asarray(cells.codes)
    counts = np.bincount(codes[codes >= 0], minlength=len(cells.categories))
    grammar = Grammar.of(list(cells.categories), genes, controls)
    canonical: list[str] = []
    left_out = []
    for label, n in zip(cells.categories, counts.tolist(), strict=True):
        targets = grammar.parse(label)
        if targets is None:
            left_out.append(DroppedLabel(label, left_out_reason(label) or "unassigned", n))
        elif not targets and label not in grammar.controls:
            left_out.append(DroppedLabel(label, NOT_CHOSEN, n))
        dropped = targets is None or (not targets and label not in grammar.controls)
        canonical.append("" if dropped else name_of(targets or ()))
    n_missing = int((codes < 0).sum())
    if n_missing:
        left_out.append(DroppedLabel("", "missing", n_missing))
    if CONTROL not in canonical:
        raise InputError(
            f"no cell is control: none of the {len(canonical)} labels is one of "
            f"{', '.join(map(repr, controls)) or 'no label'}; pass control= ({where or 'labels'})"
        )
    names = (CONTROL, *sorted(set(canonical) - {"", CONTROL}))
    position = {name: code for code, name in enumerate(names)}
    table = np.array([position.get(name, -1) for name in canonical] + [-1], dtype=np.int32)
    return Interpretation(names, table[codes], tuple(left_out))
