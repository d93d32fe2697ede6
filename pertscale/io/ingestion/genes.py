"""What becomes of every gene of the sources: unique names, the shared ones, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, InputError
from pertscale.io.ingestion.column_roles import Roles, gene_ids, gene_names
from pertscale.io.ingestion.inputs import SourceSet, unique_names
from pertscale.io.sources import SourceSpec
from pertscale.schema import DROP_COLUMNS

#: What is kept of several files: their genes have to be the same, or the shared ones are taken.
GeneRule = Literal["same", "shared"]

#: The 10x feature type that is a gene; the others are left out.
_EXPRESSION = "Gene Expression"
#: Name of a gene that has neither a name nor an id; the next one is unnamed-1.
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class GenePlan:
    """Genes of the store, and where each source's genes go.

    Attributes
    ----------
    var : DataFrame
        In the order of the first source; the index holds unique names.
    maps : tuple of ndarray (genes of the source,) int32
        Number of each source gene in the store; -1 for one left out.
    drops : DataFrame
        :data:`pertscale.schema.DROP_COLUMNS`.
    account : tuple of str
    """

    var: pd.DataFrame
    maps: tuple[np.ndarray, ...]
    drops: pd.DataFrame
    account: tuple[str, ...]


def plan_genes(
    sources: SourceSet, tables: Sequence[pd.DataFrame], roles: Roles, *, how: GeneRule
) -> GenePlan:
    """Match the genes of the sources by name.

    Parameters
    ----------
    sources : SourceSet
    tables : sequence of DataFrame
        Table of the genes of each source.
    roles : Roles
    how : {'same', 'shared'}
        Whether all sources have to have the same genes, or the shared ones are kept.
    """
    if how not in get_args(GeneRule):
        raise ArgumentError(f"genes={how!r} is not 'same' or 'shared'")
    names = [unique_names(_called(table, roles)) for table in tables]
    is_gene = [_is_expression(table) for table in tables]
    kept = names[0][is_gene[0]]
    for spec, of_source, are_genes in zip(sources.specs[1:], names[1:], is_gene[1:], strict=True):
        if how == "same":
            _check_same(kept, of_source[are_genes], sources.specs[0], spec)
        kept = kept[np.isin(kept, of_source[are_genes])]
    if not len(kept):
        raise InputError(
            f"{sources.where}: no gene is left (of the type "
            f"{_EXPRESSION!r}, in all files); check which column names genes (gene_name=)"
        )
    index = pd.Index(kept, name="gene")
    maps = tuple(
        np.where(are_genes, index.get_indexer(of_source), -1).astype(np.int32)
        for of_source, are_genes in zip(names, is_gene, strict=True)
    )
    drops = _drops(sources, tables, names, is_gene, maps)
    var = _var(tables[0], pd.Index(names[0]).get_indexer(index), index, roles)
    return GenePlan(var, maps, drops, tuple(_account(var, drops)))


def _called(table: pd.DataFrame, roles: Roles) -> np.ndarray:
    """Return the names of the genes; one without a name is called by its id, or unnamed."""
    names, ids = gene_names(table, roles), gene_ids(table, roles)
    nameless = np.array([not name.strip() for name in names], bool)
    instead = np.full(len(names), "") if ids is None else ids
    return np.where(nameless, np.where(instead == "", _UNNAMED, instead), names)


def _is_expression(table: pd.DataFrame) -> np.ndarray:
    if "feature_types" not in table:
        return np.ones(len(table), bool)
    return (table["feature_types"].astype(str) == _EXPRESSION).to_numpy()


def _check_same(first: np.ndarray, other: np.ndarray, spec0: SourceSpec, spec: SourceSpec) -> None:
    lacking, beyond = np.setdiff1d(first, other), np.setdiff1d(other, first)
    if len(lacking) or len(beyond):
        raise InputError(
            f"{spec.path} has other genes than {spec0.path}: {len(lacking)} missing, "
            f"{len(beyond)} more (such as {str([*lacking, *beyond][0])!r}); pass genes='shared' "
            "to keep those that all files have"
        )


def _var(table: pd.DataFrame, rows: np.ndarray, index: pd.Index, roles: Roles) -> pd.DataFrame:
    """Columns of the first source, with the names and ids that were chosen in front."""
    var = table.iloc[rows]
    ids = gene_ids(var, roles)
    ours = {"gene_name": gene_names(var, roles)} | ({} if ids is None else {"gene_id": ids})
    rest = {str(name): var[name].to_numpy() for name in var.columns if name not in ours}
    return pd.DataFrame({**ours, **rest}, index=index)


def _drops(
    sources: SourceSet,
    tables: Sequence[pd.DataFrame],
    names: Sequence[np.ndarray],
    is_gene: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
) -> pd.DataFrame:
    """One row per feature of a source that is not in the store."""
    rows = [
        {
            "kind": "gene",
            "name": str(of_source[i]),
            "context": "",
            "source": file,
            "row": -1,
            "label": str(of_source[i]),
            "reason": "not in all files" if are_genes[i] else _other_type(table, i),
        }
        for file, table, of_source, are_genes, gene_map in zip(
            sources.file_names, tables, names, is_gene, maps, strict=True
        )
        for i in np.flatnonzero(gene_map < 0).tolist()
    ]
    return pd.DataFrame(rows, columns=[c.name for c in DROP_COLUMNS])


def _other_type(table: pd.DataFrame, i: int) -> str:
    return f"feature type is {str(table['feature_types'].iloc[i])!r}"


def _account(var: pd.DataFrame, drops: pd.DataFrame) -> list[str]:
    lines = []
    nameless = var["gene_name"].astype(str).str.strip() == ""
    if nameless.any():
        lines.append(
            f"genes: {int(nameless.sum())} have no name; they are kept, called by their id or "
            f"{_UNNAMED!r} (such as {str(var.index[nameless][0])!r})"
        )
    twice = var["gene_name"].astype(str).duplicated() & ~nameless
    if twice.any():
        lines.append(
            f"genes: {int(twice.sum())} names stand twice (such as "
            f"{str(var.loc[twice, 'gene_name'].iloc[0])!r}); all are kept, the later ones as NAME-1"
        )
    for reason, n in drops["reason"].value_counts(sort=False).items():
        lines.append(f"left out: {n:,} features ({reason})")
    return lines
