"""The genes that a perturbation targets, left out where expression is scored (method R1).

That the target of a knock-down falls is known without a model. A prediction that says no more than
that has to score like no change (see ``targets=`` of :func:`evaluate_expression`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.guide_names import target_group

Targets = Literal["exclude", "include"]
TARGETS: Final[tuple[str, ...]] = get_args(Targets)


def check_targets(targets: str) -> None:
    """Raise an ArgumentError for another value of ``targets=``."""
    if targets not in TARGETS:
        raise ArgumentError(
            f"targets={targets!r} is not one of {', '.join(TARGETS)}: whether the genes that a "
            "perturbation targets count in its scores"
        )


@checked
def own_targets(
    perturbations: Sequence[str],
    genes: Sequence[str],
    *,
    target_genes: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """Mark the genes that each perturbation targets.

    Parameters
    ----------
    perturbations, genes : sequence of str
    target_genes : mapping, optional
        Perturbation → genes that it targets, such as ``Screen.targets``. Those that it does not
        have, and all without it, are told by their names: the genes of ``A+B``, the gene of a guide
        ``A_1``.

    Returns
    -------
    ndarray (perturbation, gene), bool
        Targets that are not among the genes are nowhere.

    Raises
    ------
    InputError
        If a gene is named twice.

    Examples
    --------
    >>> ps.evaluation.own_targets(["GATA1", "GATA1+KLF1"], ["ACTB", "GATA1", "KLF1"])
    array([[False,  True, False],
           [False,  True,  True]])
    """
    index = pd.Index([str(gene) for gene in genes])
    if not index.is_unique:
        raise InputError(f"gene {index[index.duplicated()][0]!r} is named twice; name each once")
    known = target_genes or {}
    by_name = target_group([n for n in perturbations if n not in known], index)
    found = [
        known[name] if name in known else perturbation_names.targets(by_name[name])
        for name in perturbations
    ]
    rows = np.repeat(np.arange(len(found)), [len(mine) for mine in found])
    columns = index.get_indexer([gene for mine in found for gene in mine])
    marked = np.zeros((len(found), len(index)), bool)
    marked[rows[columns >= 0], columns[columns >= 0]] = True
    return marked
