"""What becomes of every cell of the sources: perturbation, context, row, or why it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pertscale.errors import InputError
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import (
    ColumnChoices,
    Roles,
    infer_roles,
    interpret,
    label_column,
)
from pertscale.io.ingestion.genes import GeneRule, plan_genes
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.targets import plan_targets
from pertscale.io.sources import SourceSpec, open_source
from pertscale.schema import CONTROL, DROP_COLUMNS, GROUP_COLUMNS

_NO_CONTEXT = "context is missing"
_NO_COUNT = "no count in any gene"
#: Perturbations that a sentence on lost ones names.
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """Where every cell and gene of the sources goes.

    Attributes
    ----------
    sources : SourceSet
    n_input : tuple of int
        Cells of each source.
    roles : Roles
    var : DataFrame
        Genes of the store; the index holds unique names.
    gene_maps : tuple of ndarray (genes of the source,) int32
        Number of each source gene in the store; -1 for one left out.
    destination : ndarray (input cells,) int64
        Row of each cell in the store; -1 for one left out.
    groups : DataFrame
        :data:`pertscale.schema.GROUP_COLUMNS`.
    perturbation, context : Categorical (input cells,)
    drops : DataFrame
        :data:`pertscale.schema.DROP_COLUMNS`.
    account : tuple of str
        What was found and chosen, in plain sentences.
    guides : mapping of str to str
        Perturbation → canonical name of its target, where that is another name.
    """

    sources: SourceSet
    n_input: tuple[int, ...]
    roles: Roles
    var: pd.DataFrame
    gene_maps: tuple[np.ndarray, ...]
    destination: np.ndarray
    groups: pd.DataFrame
    perturbation: pd.Categorical
    context: pd.Categorical
    drops: pd.DataFrame
    account: tuple[str, ...]
    guides: Mapping[str, str]

    @property
    def n_cells(self) -> int:
        """Cells that are kept."""
        return int((self.destination >= 0).sum())

    @property
    def order(self) -> np.ndarray:
        """Input cell of each row of the store."""
        kept = np.flatnonzero(self.destination >= 0)
        order = np.empty(len(kept), np.int64)
        order[self.destination[kept]] = kept
        return order


def plan_screen(
    sources: SourceSet, choices: ColumnChoices, *, name: str, genes: GeneRule
) -> IngestPlan:
    """Read names and labels of all cells, never the matrix, and decide where everything goes.

    Parameters
    ----------
    sources : SourceSet
    choices : ColumnChoices
        What the user chose.
    name : str
        Name of the context where no column holds one and there are several sources.
    genes : {'same', 'shared'}
        Whether sources have to have the same genes, or only the shared ones are kept.
    """
    sizes, tables = zip(*map(_shape_and_genes, sources), strict=True)
    columns = sources.columns
    roles = infer_roles(columns, tables[0], choices)
    gene_plan = plan_genes(sources, tables, roles, how=genes)
    labels = label_column(columns, roles.perturbation)
    read = interpret(labels, roles, tables[0])
    perturbation = pd.Categorical.from_codes(read.codes, categories=list(read.names))
    context, context_note = _contexts(sources, sizes, roles, name)
    perturbation, lacking, without_control = _with_controls(perturbation, context, columns.where)
    destination, groups = sort_cells(perturbation, context)
    reasons = {left.label: left.reason for left in read.left_out}
    dropped = cell_drops(sources, sizes, labels, reasons, context, destination, of_context=lacking)
    account = [note for spec in sources for note in spec.notes]
    account += [f"{line.role}: {line.text}" for line in roles.account]
    guides, targets_told = plan_targets(columns, roles, perturbation, gene_plan.var)
    account += targets_told
    by_label = dropped[~dropped["reason"].isin(list(lacking.values()))]
    account += [*context_note, *_drop_account(by_label), *without_control, *gene_plan.account]
    return IngestPlan(
        sources=sources,
        n_input=sizes,
        roles=roles,
        var=gene_plan.var,
        gene_maps=gene_plan.maps,
        destination=destination,
        groups=groups,
        perturbation=perturbation,
        context=context,
        drops=_stacked([gene_plan.drops, dropped]),
        account=tuple(account),
        guides=guides,
    )


def without_cells(plan: IngestPlan, empty: np.ndarray) -> IngestPlan:
    """Return the plan without cells that turned out to have no count in any gene.

    Parameters
    ----------
    plan : IngestPlan
        Of sources, as :func:`plan_screen` returns it.
    empty : ndarray of int
        Input cells that it keeps.
    """
    columns = plan.sources.columns
    labels = label_column(columns, plan.roles.perturbation)
    filled = _without(plan.perturbation, empty)
    perturbation, lacking, without_control = _with_controls(filled, plan.context, columns.where)
    destination, groups = sort_cells(perturbation, plan.context)
    left = np.where((plan.destination >= 0) & (destination < 0), -1, 0)
    others = left.copy()
    others[empty] = 0
    left[others < 0] = 0
    every = dict.fromkeys(map(str, plan.context.categories), _NO_COUNT)
    drops = [
        cell_drops(
            plan.sources, plan.n_input, labels, {}, plan.context, destinations, of_context=why
        )
        for destinations, why in ((left, every), (others, lacking))
    ]
    line = (
        f"left out: {len(empty):,} of {plan.n_cells:,} cells "
        f"({100 * len(empty) / plan.n_cells:.2g} %), which have no count in any gene"
        f"{_lost(plan.groups, groups)}"
    )
    return replace(
        plan,
        destination=destination,
        groups=groups,
        perturbation=perturbation,
        drops=_stacked([plan.drops, *drops]),
        account=(*plan.account, line, *without_control),
    )


def _lost(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Name the perturbations that have no cell any more."""
    left = set(after["perturbation"])
    lost = [str(name) for name in dict.fromkeys(before["perturbation"]) if name not in left]
    if not lost:
        return ""
    more = ", …" if len(lost) > _MOST_NAMED else ""
    named = ", ".join(map(repr, lost[:_MOST_NAMED]))
    return f"; nothing is left of {len(lost)} perturbations ({named}{more})"


def _shape_and_genes(spec: SourceSpec) -> tuple[int, pd.DataFrame]:
    with open_source(spec) as source:
        n_cells, table = source.n_cells, source.genes()
    if not n_cells or not len(table):
        raise InputError(
            f"{spec.path} ({spec.matrix}) is empty: it has {n_cells} cells and {len(table)} genes"
        )
    return n_cells, table


def _contexts(
    sources: SourceSet,
    n_input: Sequence[int],
    roles: Roles,
    name: str,
) -> tuple[pd.Categorical, list[str]]:
    """Context of every cell; without a column, the one file's name, or else the store's."""
    if roles.context is not None:
        return text_categories(sources.columns.load(roles.context)), []
    only = sources.names[0] if len(sources) == 1 else name
    note = f"context: no column names one, so all cells belong to {only!r}"
    codes = np.zeros(sum(n_input), np.int8)
    return pd.Categorical.from_codes(codes, categories=[only]), [note]


def sort_cells(
    perturbation: pd.Categorical, context: pd.Categorical
) -> tuple[np.ndarray, pd.DataFrame]:
    """Order the kept cells by (context, control first, perturbation), stable; list the groups."""
    n_names = len(perturbation.categories)
    code = context.codes.astype(np.int64) * n_names + perturbation.codes
    kept = np.flatnonzero((perturbation.codes >= 0) & (context.codes >= 0))
    order = kept[np.argsort(code[kept], kind="stable")]
    destination = np.full(len(code), -1, np.int64)
    destination[order] = np.arange(len(order))
    present, starts = np.unique(code[order], return_index=True)
    stops = np.append(starts[1:], len(order))
    names = np.asarray(perturbation.categories, object)[present % n_names]
    groups = pd.DataFrame(
        {
            "context": np.asarray(context.categories, object)[present // n_names],
            "perturbation": names,
            "is_control": names == CONTROL,
            "start": starts.astype(np.int64),
            "stop": stops.astype(np.int64),
        },
        columns=[c.name for c in GROUP_COLUMNS],
    )
    return destination, groups


def _with_controls(
    perturbation: pd.Categorical, context: pd.Categorical, where: str
) -> tuple[pd.Categorical, dict[str, str], list[str]]:
    """Leave out the cells of contexts without controls, which can't be tested.

    Returns
    -------
    tuple of (Categorical, dict, list of str)
        The perturbation of each cell that stays; context → why it is left out; sentences on them.

    Raises
    ------
    InputError
        If no context has controls, or none has anything else.
    """
    _, groups = sort_cells(perturbation, context)
    if not len(groups):
        raise InputError(f"{where}: no cell is left; all labels are missing or unassigned")
    if groups["is_control"].all():
        raise InputError(
            f"{where}: all cells are control; name the perturbations' column with perturbation="
        )
    with_controls = set(groups.loc[groups["is_control"], "context"])
    without = groups[~groups["context"].isin(with_controls)]
    names = list(dict.fromkeys(without["context"]))
    if not with_controls:
        raise InputError(
            f"{where}: no control cells in context {', '.join(map(repr, names))}; every context "
            "needs its own controls: name the control label with control=, or another column with "
            "context="
        )
    lines = [
        f"left out: context {name!r}, {int((rows['stop'] - rows['start']).sum()):,} cells of "
        f"{len(rows):,} perturbations, which has no control cells; every context needs its own: "
        "name its control label beside the others with control=, or another column with context="
        for name, rows in without.groupby("context", sort=False)
    ]
    out = np.isin(context.codes, context.categories.get_indexer(pd.Index(names)))
    reasons = {name: f"context {name!r} has no control cells" for name in names}
    return _without(perturbation, np.flatnonzero(out)), reasons, lines


def _without(perturbation: pd.Categorical, cells: np.ndarray) -> pd.Categorical:
    """Return the perturbations with those of some cells missing."""
    codes = np.array(perturbation.codes)
    codes[cells] = -1
    return pd.Categorical.from_codes(codes, dtype=perturbation.dtype)


# --- cells that are left out --------------------------------------------------------------------


def cell_drops(
    sources: SourceSet,
    n_input: Sequence[int],
    labels: pd.Series,
    reasons: Mapping[str, str],
    context: pd.Categorical,
    destination: np.ndarray,
    *,
    of_context: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row per cell that is left out: with the reason of its label, or else of its context."""
    parts = []
    whole = {} if of_context is None else of_context
    first = 0
    for spec, n, file in zip(sources, n_input, sources.file_names, strict=True):
        rows = np.flatnonzero(destination[first : first + n] < 0)
        if len(rows):
            with open_source(spec) as source:
                barcodes = source.cell_names()[rows].astype(object)
                unlabelled = source.unlabelled()
            texts = _texts(labels.array[first + rows])
            lines = _texts(context[first + rows])
            pairs = zip(texts, lines, strict=True)
            why = np.array(
                [reasons.get(label, whole.get(line, _NO_CONTEXT)) for label, line in pairs], object
            )
            if unlabelled is not None:
                of_table = _texts(unlabelled[rows])
                why = np.where(of_table != "", of_table, why)
            columns = {
                "kind": "cell",
                "name": barcodes,
                "context": lines,
                "source": file,
                "row": rows,
                "label": texts,
                "reason": why,
            }
            parts.append(pd.DataFrame(columns))
        first += n
    return _stacked(parts)


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame(columns=[c.name for c in DROP_COLUMNS])
    return pd.concat(filled, ignore_index=True)


def _texts(values: pd.Categorical) -> np.ndarray:
    """Return a categorical's strings; ``""`` where it is missing."""
    levels = np.array([*map(str, values.categories), ""], dtype=object)
    return levels[values.codes]


def _drop_account(drops: pd.DataFrame) -> list[str]:
    """One sentence per label and reason."""
    counts = drops.value_counts(["label", "reason"], sort=False)
    return [
        f"left out: {n:,} cells labelled {label!r} ({reason})"
        if label
        else f"left out: {n:,} cells without a label ({reason})"
        for (label, reason), n in counts.items()
    ]
