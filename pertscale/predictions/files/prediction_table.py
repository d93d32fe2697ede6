"""What every reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final

from pertscale.errors import InputError

EXPRESSION: Final = "expression"
LABELS: Final = "labels"
CLASS_SCORES: Final = "class_scores"


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions of one context and split, names as the file spells them.

    Attributes
    ----------
    kind : {'expression', 'labels', 'class_scores'}
    perturbations, genes : tuple of str
        Labels of the rows, with repeats where the file repeats them; names of the columns.
    values : array
        (perturbation, gene): float32 with NaN for what is missing, or int8 labels with -128; class
        scores have a third axis in the order of ``schema.CLASSES``. NumPy, or a Dask array that is
        read when it is needed.
    context, split : str
        As the file says; empty where it does not.
    split_hash : str
        Who is in which part of that split; empty where this is not known.
    split_drawn : str
        How that split was drawn, in words.
    notes : tuple of str
        What was found or left out.
    """

    kind: str
    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    values: Any
    _: KW_ONLY
    context: str = ""
    split: str = ""
    split_hash: str = ""
    split_drawn: str = ""
    notes: tuple[str, ...] = ()


def checked_gene_names(genes: Sequence[object], where: object) -> tuple[str, ...]:
    """Return genes as text; refuse an empty list."""
    names = tuple(map(str, genes))
    if not names:
        raise InputError(f"no genes are named ({where})")
    return names
