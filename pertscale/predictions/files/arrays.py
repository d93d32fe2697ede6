"""Predictions as arrays: pseudobulk h5ad, AnnData-Zarr, xarray's Zarr, npz, dictionaries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np
import pandas as pd
import zarr

from pertscale.errors import AmbiguousInputError, CorruptFileError, InputError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.json_files import read_json_file
from pertscale.io.guards.limits import check_dense, check_npz, checked_array
from pertscale.io.guards.safe_pickle import load as load_pickle
from pertscale.io.guards.text_encoding import encoding_of
from pertscale.io.guards.vectors import as_numbers_array, check_characters, stacked_rows
from pertscale.io.long_tables import SPELLINGS, all_names, as_names, column_of
from pertscale.io.sources import find_source, open_source
from pertscale.io.sources._base import Source
from pertscale.io.sources.anndata_zarr import check_lengths, n_missing
from pertscale.predictions.files.prediction_table import (
    EXPRESSION,
    PredictionTable,
    checked_gene_names,
)
from pertscale.schema import CONTEXT, GENE, PERTURBATION
from pertscale.storage.files import states
from pertscale.storage.locations import input_path

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_BYTES: Final = 64_000_000
#: Variable of a dataset that is taken where there are several.
_VARIABLE: Final = "prediction"
#: Columns that name perturbations in AnnData files, as for screens; then the index.
_PERTURBATION: Final = (*SPELLINGS[PERTURBATION][:-2], "gene", "target")


# --- AnnData --------------------------------------------------------------------------------------


def read_anndata(
    path: Path, *, layer: str | None, perturbation: str | None, genes: Any = None
) -> list[PredictionTable] | None:
    """Read an AnnData file that has one row per condition; None if it has single cells."""
    with open_source(find_source(path, matrix=layer)) as source:
        names = _row_names(source, perturbation, path)
        keys = {
            role: values
            for role in (CONTEXT, "split")
            if (column := column_of(role, source.cell_columns())) is not None
            and (values := as_names(source.cell_column(column), path)).notna().any()
        }
        table = pd.DataFrame({PERTURBATION: names, **keys})
        if table.duplicated().any():
            return None
        for role in table:  # cells may lack a name, and are left out then; a prediction may not
            table[role] = all_names(table[role], path)
        values = _dense(source, path)
        columns = genes_in_order(source, genes, path)
    if not keys:
        return [PredictionTable(EXPRESSION, tuple(table[PERTURBATION]), columns, values)]
    parts = []
    for found, rows in table.groupby(list(keys), sort=True):
        head = dict(zip(keys, map(str, found), strict=True))
        parts.append(
            PredictionTable(
                EXPRESSION,
                tuple(rows[PERTURBATION]),
                columns,
                values[rows.index],
                context=head.get(CONTEXT, ""),
                split=head.get("split", ""),
            )
        )
    return parts


def genes_in_order(source: Source, genes: Any, path: object) -> tuple[str, ...]:
    """Return the genes of an AnnData file, or those that the user names in their place.

    Raises InputError where a file only numbers its genes and their names are not given.
    """
    own = [str(g) for g in source.genes().index]
    if genes is not None:
        given = gene_list(genes)
        if len(given) != len(own):
            raise InputError(f"genes= names {len(given)} genes, the file has {len(own)} ({path})")
        return checked_gene_names(given, path)
    if own == [str(i) for i in range(len(own))]:
        raise InputError(
            f"the file numbers its genes from 0, as STATE does; pass their names in that order as "
            f"genes= (a list, or a file) ({path})"
        )
    return checked_gene_names(own, path)


def _row_names(source: Source, perturbation: str | None, path: Path) -> list[str | None]:
    column = perturbation or column_of(PERTURBATION, source.cell_columns(), spellings=_PERTURBATION)
    if column is None:
        return [str(n) for n in source.cell_names()]
    return as_names(source.cell_column(column), path).tolist()


def _dense(source: Source, path: Path) -> np.ndarray:
    check_dense((source.n_cells, source.n_genes), np.float32, str(path))
    values = np.zeros((source.n_cells, source.n_genes), np.float32)
    for block in source.blocks(_BLOCK_BYTES):
        found = source.read(block)
        rows = found.row_start + np.repeat(np.arange(found.n_rows), np.diff(found.indptr))
        values[rows, found.indices] += found.data
    return values


# --- Zarr -----------------------------------------------------------------------------------------


def read_zarr(
    path: Path, *, layer: str | None, perturbation: str | None
) -> list[PredictionTable] | None:
    """Read a Zarr store: AnnData's, or a dataset over (perturbation, gene), lazily."""
    import xarray as xr

    with file_errors(str(path)):
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        if attributes.get("encoding-type") == "anndata":
            return read_anndata(path, layer=layer, perturbation=perturbation)
        for name, array in zarr.open_group(path, mode="r").arrays():
            checked_array(array, f"{path}, {name!r}", whole=array.ndim < 2)
            check_lengths(array, f"{path}, {name!r}")
            if array.ndim < 2 and n_missing(array):
                raise CorruptFileError(
                    f"{path}, {name!r}: not all chunks are stored, and the rest would be read as "
                    "empty names; the store is incomplete: copy or write it again"
                )
        dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    fitting = [str(n) for n, v in dataset.data_vars.items() if {PERTURBATION, GENE} == set(v.dims)]
    chosen = layer or (_VARIABLE if _VARIABLE in fitting else None)
    if chosen is None and len(fitting) > 1:
        raise AmbiguousInputError(
            f"several variables over ({PERTURBATION}, {GENE}): {', '.join(sorted(fitting))}; name "
            f"one with layer= ({path})"
        )
    if not fitting or (chosen is not None and chosen not in fitting):
        raise InputError(
            f"no variable {chosen or ''!r} over ({PERTURBATION}, {GENE}); the store has "
            f"{ {str(n): v.dims for n, v in dataset.data_vars.items()} } ({path})"
        )
    array = dataset[chosen or fitting[0]].transpose(PERTURBATION, GENE)
    without = [name for name in (PERTURBATION, GENE) if name not in array.coords]
    if without:
        raise InputError(
            f"the store does not name its {without[0]}s; write it with coordinates for "
            f"{PERTURBATION} and {GENE} ({path})"
        )
    genes, names = (_texts(array[k].values, k, path) for k in (GENE, PERTURBATION))
    context, split = (str(dataset.attrs.get(key, "")) for key in (CONTEXT, "split"))
    chunks = array.encoding["preferred_chunks"]
    values = da.from_array(
        _Guarded(array, str(path)), chunks=tuple(chunks[d] for d in array.dims), asarray=False
    )
    return [
        PredictionTable(
            EXPRESSION,
            names,
            checked_gene_names(genes, path),
            values,
            context=context,
            split=split,
        )
    ]


@dataclass(frozen=True)
class _Guarded:
    """An array on disk as float32; damage that shows on reading is a CorruptFileError."""

    array: xr.DataArray
    where: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def __getitem__(self, key: Any) -> np.ndarray:
        with file_errors(self.where):
            return self.array[key].to_numpy().astype(np.float32)

    def __dask_tokenize__(self) -> tuple[str, Any, list[Any]]:
        return (self.where, self.array.name, states([Path(self.where)]))


# --- dictionaries ---------------------------------------------------------------------------------


def read_npz(path: Path, *, genes: Any) -> list[PredictionTable]:
    """Read ``perturbations, genes, values``, or an array per condition with `genes` given."""
    with file_errors(str(path)):
        check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    if not content:
        raise InputError(f"there is no array in the file ({path})")
    if "values" not in content:
        return [_from_dict(content, genes, path)]
    if PERTURBATION + "s" not in content or "genes" not in content:
        raise InputError(f"needed are perturbations, genes, values; found {list(content)} ({path})")
    values = as_numbers_array(content["values"], "'values'", path, np.float32)
    names, columns = (_texts(content[k], k, path) for k in (PERTURBATION + "s", "genes"))
    if values.shape != (len(names), len(columns)):
        raise InputError(
            f"values has shape {values.shape} for {len(names)} perturbations and {len(columns)} "
            f"genes ({path})"
        )
    return [PredictionTable(EXPRESSION, names, checked_gene_names(columns, path), values)]


def _texts(array: np.ndarray, key: str, path: Path) -> tuple[str, ...]:
    if array.ndim != 1:
        raise InputError(f"{key!r} has shape {array.shape}, needed is a list of names ({path})")
    check_characters(array, repr(key), path)
    return tuple(all_names(pd.Series(array.tolist(), dtype=object, name=key), path))


def read_pickle(path: Path, *, genes: Any, allow_pickle: bool) -> list[PredictionTable]:
    """Read a dictionary condition → vector, such as GEARS' predictions."""
    if not allow_pickle:
        raise InputError(
            f"a pickle is a program; pass allow_pickle=True to read plain numbers from it with a "
            f"reader that runs nothing, or save it as .npz ({path})"
        )
    content = load_pickle(path)
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"expected a dictionary condition → vector, found {type(content).__name__} ({path})"
        )
    return [_from_dict(content, genes, path)]


def _from_dict(content: Mapping[Any, Any], genes: Any, path: Path) -> PredictionTable:
    if genes is None:
        raise InputError(
            f"a dictionary of vectors does not say which genes they are of; pass genes= (a list, "
            f"or a file with one name per line, or a JSON list) ({path})"
        )
    names = gene_list(genes)
    values = stacked_rows(content, path, np.float32, length=len(names), each=", one for each gene")
    keys = [_joined(k, path) if isinstance(k, tuple) else k for k in content]
    conditions = all_names(pd.Series(keys, dtype=object, name="the keys"), path)
    return PredictionTable(EXPRESSION, tuple(conditions), checked_gene_names(names, path), values)


def _joined(genes: tuple[Any, ...], path: Path) -> str:
    """Return a key of several genes as GEARS spells it."""
    return "_".join(all_names(pd.Series(list(genes), dtype=object, name="a key"), path))


def gene_list(genes: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """Return names of genes from a list, a JSON list, or a text with one name per line."""
    if not isinstance(genes, str | os.PathLike):
        return all_names(pd.Series(list(genes), dtype=object, name="genes"), "genes=")
    path = input_path(genes, "a list of genes")
    if path.suffix == ".json":
        found = read_json_file(path, "a list of genes")
        if not isinstance(found, list):
            raise InputError(f"a JSON list of genes is needed, not {type(found).__name__} ({path})")
        return all_names(pd.Series(found, dtype=object, name="genes"), path)
    with file_errors(str(path)):
        with path.open("rb") as file:
            encoding = encoding_of(file, path)
        lines = path.read_text(encoding=encoding).split("\n")  # a name may have spaces
    return [name for name in map(str.strip, lines) if name]
