"""Which genes the perturbations of a file target: by a column of targets, or by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import pandas as pd

from pertscale.errors import InputError
from pertscale.guide_names import target_group
from pertscale.io.ingestion.account_lines import guide_line, target_line
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import CellColumns, Roles, matching
from pertscale.perturbation_names import Grammar, name_of, targets
from pertscale.schema import CONTROL

#: Columns that name the target of each cell's guide, preferred ones first.
_TARGET_COLUMNS: Final = (
    "target_gene",
    "gene_target",
    "target_gene_name",
    "target_gene_symbol",
    "perturbed_target_symbol",
    "guide_target",
    "target",
    "gene",
)
#: Share of a column's values that have to be targets.
_SHARE: Final = 0.5
#: Share of guides whose target has to be known, where no other column has control labels.
_GUIDES_RESOLVED: Final = 0.9


def plan_targets(
    columns: CellColumns, roles: Roles, perturbation: pd.Categorical, var: pd.DataFrame
) -> tuple[dict[str, str], list[str]]:
    """Find out which perturbations are guides, and of which targets.

    Parameters
    ----------
    columns : CellColumns
    roles : Roles
    perturbation : Categorical (cells,)
        Canonical names; missing for cells that are left out.
    var : DataFrame
        Genes of the store; the index holds their names, ``gene_id`` their ids, where known.

    Returns
    -------
    tuple of (dict, list of str)
        Guide → canonical name of its target; sentences for the account.

    Raises
    ------
    InputError
        The perturbations are guides that the user has not chosen, and neither a column nor their
        names give the targets of most.
    """
    names = [str(name) for name in perturbation.categories if name != CONTROL]
    genes = [str(gene) for gene in var.index]
    ids = {}
    if "gene_id" in var:
        ids = {str(i): gene for i, gene in zip(var["gene_id"], genes, strict=True) if str(i)}
    groups = target_group(names, genes, ids=ids)
    told, lines = _by_column(columns, roles, perturbation, {*genes, *ids})
    read = target_group(told.values(), genes, ids=ids)
    groups |= {name: read[target] for name, target in told.items()}
    if roles.guides_only:
        _check_resolved(groups, told, {*genes, *ids}, roles, columns.where)
    lines += [*guide_line(groups), target_line(groups, frozenset(genes))]
    guides = {name: group for name, group in groups.items() if name != group}
    return guides, [f"perturbation: {line}" for line in lines]


def _check_resolved(
    groups: Mapping[str, str],
    told: Collection[str],
    genes: Collection[str],
    roles: Roles,
    where: str,
) -> None:
    """Accept a column of guides only if a column or their names give their targets."""
    opaque = [
        name
        for name, group in groups.items()
        if name == group and name not in told and not all(t in genes for t in targets(name))
    ]
    if len(opaque) > (1 - _GUIDES_RESOLVED) * len(groups):
        raise InputError(
            f"{where}: the only column with control labels is {roles.perturbation!r}, which names "
            f"guides; {len(opaque)} of {len(groups)} don't tell their target, such as "
            f"{opaque[0]!r}, and no column does. Add one, {_TARGET_COLUMNS[0]!r}, with the target "
            f"gene of each cell, or pass perturbation={roles.perturbation!r} to treat every guide "
            "as a perturbation"
        )


def _by_column(
    columns: CellColumns, roles: Roles, perturbation: pd.Categorical, genes: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Return what a column says is the target of each perturbation, and a sentence on it.

    The first that gives every perturbation one target, and some of them the same.
    """
    used = roles.perturbation
    taken = (used,) if isinstance(used, str) else used
    lines = []
    for column in matching(columns.names, _TARGET_COLUMNS):
        if column in taken:
            continue
        found = _targets_in(text_categories(columns.load(column)), perturbation, roles, genes)
        several = [name for name, mine in found.items() if len(mine) > 1]
        if several:
            shown = f"{several[0]!r}: {', '.join(sorted(found[several[0]])[:3])}"
            lines.append(
                f"column {column!r} names several targets of {len(several)} perturbations "
                f"({shown}); it is not used"
            )
            continue
        told = {name: next(iter(mine)) for name, mine in found.items() if mine}
        if all(name == target for name, target in told.items()):
            continue
        others = [name for name, target in told.items() if name in genes and name != target]
        if others:
            lines.append(
                f"column {column!r} names another target of {len(others)} perturbations that are "
                f"genes themselves ({others[0]!r}: {told[others[0]]}); it is not used"
            )
        elif _are_targets(told, genes):
            return told, [*lines, f"targets are those of column {column!r}"]
    return {}, lines


def _are_targets(told: Mapping[str, str], genes: Collection[str]) -> bool:
    """Whether values are targets and not pathways: genes, or parts of the guides' names."""
    named = [t in name for name, target in told.items() for t in targets(target)]
    read = [t in genes for target in told.values() for t in targets(target)]
    return sum(map(max, zip(named, read, strict=True))) >= _SHARE * len(named)


def _targets_in(
    values: pd.Categorical, perturbation: pd.Categorical, roles: Roles, genes: Collection[str]
) -> Mapping[str, set[str]]:
    """Return perturbation → targets that its cells have in a column; controls count as none."""
    words = [str(word) for word in values.categories]
    grammar = Grammar.of(words, genes, roles.controls)
    called = [name_of(grammar.parse(word) or ()) for word in words]
    width = len(words) + 1
    pairs = np.unique(perturbation.codes.astype(np.int64) * width + values.codes + 1)
    found: dict[str, set[str]] = {str(n): set() for n in perturbation.categories if n != CONTROL}
    for code, at in zip(pairs // width, pairs % width, strict=True):
        name = str(perturbation.categories[code]) if code >= 0 else CONTROL
        if name in found and at and called[at - 1] != CONTROL:
            found[name].add(called[at - 1])
    return found
