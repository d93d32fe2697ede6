"""What becomes of every cell and gene of the sources: names, groups, order, and what is left out."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.io.columns import (
    CellColumns,
    RoleChoices,
    Roles,
    gene_ids,
    gene_names,
    infer_roles,
    interpret,
    label_column,
)
from pertscale.io.sources import SourceSpec, find_source, open_source
from pertscale.schema import CONTROL, DROP_COLUMNS, GROUP_COLUMNS

#: 10x feature types that are not genes are left out with this word in the reason.
_EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class ScreenPlan:
    """Where every cell and gene of the sources goes.

    Attributes
    ----------
    specs : tuple of SourceSpec
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
    """

    specs: tuple[SourceSpec, ...]
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


def find_sources(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    layer: str | None,
    cells: str | os.PathLike[str] | None,
    scratch: Path | None,
) -> tuple[SourceSpec, ...]:
    """Resolve a path, a glob, or a list of these to sources, in the order given (globs sorted)."""
    listed = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths: list[str] = []
    for item in map(os.fspath, listed):
        if glob.has_magic(item) and not Path(item).exists():
            found = sorted(glob.glob(item))  # noqa: PTH207  (the pattern may be absolute)
            if not found:
                raise NotFoundError(f"no file matches {item!r}")
            paths += found
        else:
            paths.append(item)
    if not paths:
        raise ArgumentError("no source was given; pass a path, a glob or a list of paths")
    if len(paths) > 1 and cells is not None:
        raise ArgumentError("cells= names one table of cells, but there are several sources")
    return tuple(
        find_source(
            path,
            matrix=layer,
            cells=os.fspath(cells) if cells is not None else None,
            scratch=None if scratch is None else scratch / f"text-{i}",
        )
        for i, path in enumerate(paths)
    )


def plan_screen(
    specs: Sequence[SourceSpec], choices: RoleChoices, *, name: str, genes: str
) -> ScreenPlan:
    """Read names and labels of all cells, never the matrix, and decide where everything goes.

    Parameters
    ----------
    specs : sequence of SourceSpec
    choices : RoleChoices
        What the user said.
    name : str
        Name of the context where no column holds one and there are several sources.
    genes : {'same', 'shared'}
        Whether sources have to have the same genes, or only the shared ones are kept.
    """
    tables = [_genes_of(spec) for spec in specs]
    columns = joined_columns(specs)
    roles = infer_roles(columns, tables[0], choices)
    var, gene_maps, gene_drops = _join_genes(specs, tables, roles, genes)
    n_input = tuple(_n_cells(spec) for spec in specs)
    labels = label_column(columns, roles.perturbation)
    found = interpret(labels, roles, tables[0])
    perturbation = pd.Categorical.from_codes(found.codes, categories=list(found.names))
    context, context_note = _contexts(specs, n_input, columns, roles, name)
    destination, groups = _sort_cells(perturbation, context)
    _check_controls(groups, specs)
    reasons = {left.label: left.reason for left in found.left_out}
    drops = pd.concat(
        [gene_drops, _cell_drops(specs, n_input, labels, reasons, context, destination)],
        ignore_index=True,
    )
    account = [note for spec in specs for note in spec.notes]
    account += [f"{line.role}: {line.text}" for line in roles.account] + context_note
    account += [
        f"left out: {left.n_cells:,} cells labelled {left.label!r} ({left.reason})"
        for left in found.left_out
    ]
    account += _gene_account(var, gene_drops)
    return ScreenPlan(
        tuple(specs), n_input, roles, var, gene_maps, destination, groups,
        perturbation, context, drops, tuple(account),
    )  # fmt: skip


# --- cells ------------------------------------------------------------------------------------


def joined_columns(specs: Sequence[SourceSpec]) -> CellColumns:
    """Return the columns that all sources have, end to end."""
    names: list[str] = []
    for i, spec in enumerate(specs):
        with open_source(spec) as source:
            mine = source.cell_columns()
        names = mine if i == 0 else [n for n in names if n in mine]

    def load(name: str) -> pd.Series:
        parts = []
        for spec in specs:
            with open_source(spec) as source:
                parts.append(source.cell_column(name))
        if len(parts) == 1:
            return parts[0]
        if any(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
            parts = [part.astype(object) for part in parts]
            return pd.concat(parts, ignore_index=True).astype("category")
        return pd.concat(parts, ignore_index=True)

    return CellColumns(tuple(names), load, ", ".join(spec.path for spec in specs))


def _n_cells(spec: SourceSpec) -> int:
    with open_source(spec) as source:
        return source.n_cells


def source_names(specs: Sequence[SourceSpec]) -> list[str]:
    """Short unique names of the sources: their files' stems."""
    stems = [Path(spec.path).name.split(".")[0] for spec in specs]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{stem}-{i}" for i, stem in enumerate(stems)]


def _contexts(
    specs: Sequence[SourceSpec],
    n_input: Sequence[int],
    columns: CellColumns,
    roles: Roles,
    name: str,
) -> tuple[pd.Categorical, list[str]]:
    """Context of every cell; the file's name, or the store's for several files, without a column."""
    if roles.context is not None:
        values = columns.load(roles.context)
        texts = values.astype("category").cat.rename_categories(lambda v: str(v).strip())
        categories = sorted(set(texts.cat.categories))
        return pd.Categorical(texts, categories=categories), []
    only = source_names(specs)[0] if len(specs) == 1 else name
    note = f"context: no column names one, so all cells belong to {only!r}"
    codes = np.zeros(sum(n_input), np.int8)
    return pd.Categorical.from_codes(codes, categories=[only]), [note]


def _sort_cells(
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


def _check_controls(groups: pd.DataFrame, specs: Sequence[SourceSpec]) -> None:
    place = ", ".join(spec.path for spec in specs)
    if not len(groups):
        raise InputError(f"{place}: no cell is left; all labels are missing or unassigned")
    without = sorted(set(groups["context"]) - set(groups.loc[groups["is_control"], "context"]))
    if without:
        raise InputError(
            f"{place}: no control cells in context {', '.join(map(repr, without))}; every context "
            "needs its own controls: name the control label with control=, or another column with "
            "context="
        )
    if groups["is_control"].all():
        raise InputError(f"{place}: all cells are control; name the perturbations' column with "
                         "perturbation=")  # fmt: skip


def _cell_drops(
    specs: Sequence[SourceSpec],
    n_input: Sequence[int],
    labels: pd.Series,
    reasons: dict[str, str],
    context: pd.Categorical,
    destination: np.ndarray,
) -> pd.DataFrame:
    """One row per cell that is left out."""
    parts = []
    first = 0
    for spec, n in zip(specs, n_input, strict=True):
        rows = np.flatnonzero(destination[first : first + n] < 0)
        if len(rows):
            with open_source(spec) as source:
                barcodes = source.cell_names()[rows].astype(object)
            mine = labels.iloc[first + rows].astype(object).fillna("")
            parts.append(
                pd.DataFrame(
                    {
                        "kind": "cell",
                        "name": barcodes,
                        "context": pd.Series(context[first + rows]).astype(object).fillna(""),
                        "source": Path(spec.path).name,
                        "row": rows,
                        "label": mine.to_numpy(),
                        "reason": [reasons.get(label, "context is missing") for label in mine],
                    }
                )
            )
        first += n
    columns = [c.name for c in DROP_COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


# --- genes --------------------------------------------------------------------------------------


def _genes_of(spec: SourceSpec) -> pd.DataFrame:
    with open_source(spec) as source:
        table = source.genes()
    if not len(table):
        raise InputError(f"{spec.path}: the matrix has no genes")
    return table


def _join_genes(
    specs: Sequence[SourceSpec], tables: Sequence[pd.DataFrame], roles: Roles, how: str
) -> tuple[pd.DataFrame, tuple[np.ndarray, ...], pd.DataFrame]:
    """Genes of the store in the order of the first source, and each source's way to them."""
    if how not in ("same", "shared"):
        raise ArgumentError(f"genes={how!r} is not 'same' or 'shared'")
    keys = [_unique(gene_names(table, roles)) for table in tables]
    is_gene = [_is_expression(table) for table in tables]
    kept = keys[0][is_gene[0]]
    dropped = [
        (keys[0][i], specs[0], f"feature type is {tables[0]['feature_types'].iloc[i]!r}")
        for i in np.flatnonzero(~is_gene[0])
    ]
    for spec, mine, genes in zip(specs[1:], keys[1:], is_gene[1:], strict=True):
        lacking = np.setdiff1d(kept, mine[genes])
        beyond = np.setdiff1d(mine[genes], kept)
        if (len(lacking) or len(beyond)) and how == "same":
            raise InputError(
                f"{spec.path} has other genes than {specs[0].path}: {len(lacking)} missing, "
                f"{len(beyond)} more (such as {[*lacking, *beyond][0]!r}); pass genes='shared' to "
                "keep those that all files have"
            )
        dropped += [(gene, spec, "not in this file") for gene in lacking]
        dropped += [(gene, spec, "not in all files") for gene in beyond]
        kept = kept[np.isin(kept, lacking, invert=True)]
    if not len(kept):
        raise InputError("the files share no gene; check which column names genes (gene_name=)")
    index = pd.Index(kept, name="gene")
    maps = [
        np.where(genes, index.get_indexer(mine), -1).astype(np.int32)
        for mine, genes in zip(keys, is_gene, strict=True)
    ]
    var = tables[0].iloc[pd.Index(keys[0]).get_indexer(index)].copy()
    var.insert(0, "gene_name", gene_names(var, roles), allow_duplicates=False) if (
        "gene_name" not in var
    ) else None
    ids = gene_ids(var, roles)
    if ids is not None:
        var["gene_id"] = ids
    var.index = index
    drops = pd.DataFrame(
        [
            {
                "kind": "gene",
                "name": str(gene),
                "context": "",
                "source": Path(spec.path).name,
                "row": -1,
                "label": str(gene),
                "reason": reason,
            }
            for gene, spec, reason in dropped
        ],
        columns=[c.name for c in DROP_COLUMNS],
    )
    return var, tuple(maps), drops


def _is_expression(table: pd.DataFrame) -> np.ndarray:
    if "feature_types" not in table:
        return np.ones(len(table), bool)
    return (table["feature_types"].astype(str) == _EXPRESSION).to_numpy()


def _unique(names: Iterable[Any]) -> np.ndarray:
    """Make names unique: the first keeps its name, the next becomes NAME-1 (SPEC A5)."""
    names = [str(name) for name in names]
    taken = set(names)
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        if name not in seen:
            seen[name] = 0
            unique.append(name)
            continue
        while True:
            seen[name] += 1
            candidate = f"{name}-{seen[name]}"
            if candidate not in taken:
                break
        taken.add(candidate)
        unique.append(candidate)
    return np.array(unique, dtype=object)


def _gene_account(var: pd.DataFrame, drops: pd.DataFrame) -> list[str]:
    lines = []
    twice = var["gene_name"].astype(str).duplicated()
    if twice.any():
        lines.append(
            f"genes: {int(twice.sum())} names stand twice (such as "
            f"{var.loc[twice, 'gene_name'].iloc[0]!r}); all are kept, the later ones as NAME-1"
        )
    if len(drops):
        lines.append(f"left out: {len(drops):,} features that are not genes of all files")
    return lines


def cell_name_stream(
    specs: Sequence[SourceSpec], n_input: Sequence[int]
) -> Iterator[tuple[SourceSpec, np.ndarray]]:
    """Names of the cells of each source."""
    for spec, n in zip(specs, n_input, strict=True):
        with open_source(spec) as source:
            names = source.cell_names()
        if len(names) != n:
            raise InputError(f"{spec.path} changed while it was read")
        yield spec, names


def cell_names(specs: Sequence[SourceSpec], n_input: Sequence[int]) -> np.ndarray:
    """Unique names of all input cells: prefixed by the file's name where files share a name."""
    parts = [names for _, names in cell_name_stream(specs, n_input)]
    joined = np.concatenate(parts)
    if len(np.unique(joined)) == len(joined):
        return joined
    if len(parts) > 1:
        joined = np.concatenate(
            [
                np.strings.add(f"{stem}:", names)
                for stem, names in zip(source_names(specs), parts, strict=True)
            ]
        )
    if len(np.unique(joined)) < len(joined):
        return _unique(joined)
    return joined
