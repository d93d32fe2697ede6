"""Readers of the files that screens come in: h5ad, AnnData-Zarr, 10x h5, MatrixMarket, csv.

:func:`find_source` looks at a path once and returns a small picklable :class:`SourceSpec`;
:func:`open_source` opens it, in this process or in a worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pertscale.errors import ArgumentError, CorruptFileError, InputError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.first_look import look_first
from pertscale.io.guards.hdf5 import check_own, open_hdf5
from pertscale.io.guards.text_encoding import warn_of_the_end
from pertscale.io.guards.text_files import TABLE_ENDINGS, ending, plain_copy
from pertscale.io.sources._anndata import AnnDataSource
from pertscale.io.sources._base import Block, CsrBlock, Source, SourceSpec
from pertscale.io.sources.anndata_zarr import AnnDataZarrSource, check_stored, open_zarr
from pertscale.io.sources.cell_tables import (
    NO_ROW,
    CellTable,
    TableSource,
    find_cell_table,
    spec_with_cells,
)
from pertscale.io.sources.csv import CsvSource
from pertscale.io.sources.h5ad import H5adSource, check_h5ad
from pertscale.io.sources.mtx import MtxSource, find_matrix, orientation, read_header
from pertscale.io.sources.screen_controls import ControlSource
from pertscale.io.sources.tenx import TenxSource, tenx_groups
from pertscale.storage.locations import check_folder, input_path

__all__ = ["Block", "CsrBlock", "Source", "SourceSpec", "find_source", "open_source"]

_OPENERS: dict[str, Callable[[SourceSpec], Source]] = {
    "h5ad": H5adSource,
    "zarr": AnnDataZarrSource,
    "10x_h5": TenxSource,
    "mtx": MtxSource,
    "csv": CsvSource,
    "controls": ControlSource,
}
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_ENDINGS = (".h5ad", ".h5", ".hdf5")
_KNOWN = "h5ad, AnnData-Zarr, 10x h5, MatrixMarket (a folder with matrix.mtx), csv, tsv"


def open_source(spec: SourceSpec) -> Source:
    """Open a source; nothing heavy is read until it is asked for. A context manager.

    Raises
    ------
    CorruptFileError
        The file is truncated or its parts don't fit each other.
    UnknownNameError
        The file has no such matrix.
    """
    return _OPENERS[spec.format](spec)


def find_source(
    path: str | Path,
    *,
    matrix: str | None = None,
    cells: str | Path | None = None,
    scratch: str | Path | None = None,
) -> SourceSpec:
    """Tell what a path holds, from its content.

    Parameters
    ----------
    path
        File or folder: h5ad, AnnData-Zarr, 10x h5, MatrixMarket, csv or tsv.
    matrix
        ``"X"`` (default), ``"raw"`` or a layer; for h5ad and Zarr only.
    cells
        Table of cells (csv, tsv, parquet) for the formats without columns of their own. Without
        it the folder of the matrix is searched for the one table that names the cells.
    scratch
        Folder for unzipped copies of gzipped text matrices. By default a temporary folder of
        this process, which workers on other machines can't read.

    Returns
    -------
    SourceSpec
        Small and picklable.

    Raises
    ------
    NotFoundError
        There is nothing at `path` or at `cells`.
    InputError
        The format is not one of these.
    CorruptFileError
        The content is not what the name promises, or is incomplete.
    AmbiguousInputError
        Several matrices, genomes or tables of cells to choose from.
    """
    location = input_path(path, "a source").absolute()
    table = None if cells is None else str(input_path(cells, "a table of cells").absolute())
    format_ = _format_of(location)
    if format_ in ("h5ad", "zarr"):
        if cells is not None:
            raise ArgumentError(
                f"cells= was passed, but {location} has its own table of cells (obs); leave it out"
            )
        return _find_anndata(SourceSpec(str(location), format_, matrix=matrix or "X"))
    if matrix not in (None, "X"):
        raise ArgumentError(f"layer={matrix!r} was passed, but {location} holds one matrix only")
    return _FINDERS[format_](location, table, Path(scratch) if scratch is not None else None)


def _format_of(path: Path) -> str:
    if path.is_dir():
        return _format_of_folder(path)
    with file_errors(str(path)), path.open("rb") as file:
        signature = file.read(8)
    if signature == _HDF5_SIGNATURE:
        return _format_of_hdf5(path)
    if path.suffix.lower() in _HDF5_ENDINGS:
        raise CorruptFileError(
            f"{path} is not an HDF5 file, though its name says so (it starts with "
            f"{signature!r}); copy or download it again"
        )
    if ending(path) == ".mtx":
        return "mtx"
    if ending(path) in TABLE_ENDINGS:
        return "csv"
    raise InputError(f"{path} has a format that pertscale doesn't read; it reads {_KNOWN}")


def _format_of_folder(path: Path) -> str:
    if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        check_folder(path)
        return "zarr"
    names = sorted(p.name for p in path.iterdir())
    if any(ending(Path(name)) == ".mtx" for name in names):
        return "mtx"
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    raise InputError(
        f"{path} is neither an AnnData-Zarr store nor a folder with a matrix.mtx; it holds "
        f"{listed or 'nothing'}. pertscale reads {_KNOWN}"
    )


def _format_of_hdf5(path: Path) -> str:
    look_first(path)
    with open_hdf5(str(path)) as file, file_errors(str(path)):
        if {"obs", "var"} <= set(file):
            return "h5ad"
        if groups := tenx_groups(file):
            check_own(file, groups, str(path))
            return "10x_h5"
        held = ", ".join(file) or "nothing"
    raise InputError(
        f"{path} is an HDF5 file, but neither h5ad (obs, var, X) nor 10x (matrix/barcodes); "
        f"it holds {held}"
    )


def _find_anndata(spec: SourceSpec) -> SourceSpec:
    """Look at all that will be read, once; it is read in workers, and in parts."""
    notes = []
    if spec.format == "h5ad":
        with open_hdf5(spec.path) as file:
            check_h5ad(file, spec.matrix, spec.path)
    else:
        notes = check_stored(open_zarr(spec.path), spec.matrix, spec.path)
    with open_source(spec) as source:
        assert isinstance(source, AnnDataSource)
        return replace(spec, notes=(*notes, *source.left_out()))


def _find_tenx(path: Path, cells: str | None, scratch: Path | None) -> SourceSpec:
    return _with_cells(SourceSpec(str(path), "10x_h5", cells=cells), path.parent)


def _find_mtx(path: Path, cells: str | None, scratch: Path | None) -> SourceSpec:
    matrix = find_matrix(path)
    text = plain_copy(matrix, scratch)
    _check_end(text, matrix)
    turned = orientation(matrix, read_header(text, str(matrix)))
    spec = SourceSpec(
        str(matrix), "mtx", cells=cells, genes_by_cells=turned, text=_other(text, matrix)
    )
    return _with_cells(spec, matrix.parent)


def _find_csv(path: Path, cells: str | None, scratch: Path | None) -> SourceSpec:
    """Find the orientation by the table of cells: it names the rows or the columns."""
    text = plain_copy(path, scratch)
    _check_end(text, path)
    spec = SourceSpec(str(path), "csv", cells=cells, text=_other(text, path))
    source = CsvSource(spec)
    sides = {False: source.rows.names, True: np.array(source.header.columns)}
    if cells is not None:
        turned = _named_side(sides, path, cells)
        return _with_cells(replace(spec, genes_by_cells=turned), path.parent)
    for turned, names in sides.items():
        table = find_cell_table(path.parent, names, beside=path)
        if table is not None:
            return _checked(spec_with_cells(replace(spec, genes_by_cells=turned), *table))
    note = f"no table of cells beside {path.name}: its rows are taken for cells"
    return spec_with_cells(spec, None, note)


def _check_end(text: Path, path: Path) -> None:
    """Warn where the last line of a matrix has no end: a count may have lost its last digits."""
    with file_errors(str(path)), text.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, n_bytes - 1))
        last = file.read()
    if last not in b"\r\n":
        warn_of_the_end(path)


def _named_side(sides: dict[bool, np.ndarray], path: Path, cells: str) -> bool:
    """Return whether the columns are the cells: the side of which a table names more."""
    for every in (False, True):
        named = {}
        for turned, names in sides.items():
            key = CellTable(Path(cells)).key_for(names, every=every)
            named[turned] = round(key[1] * len(set(names))) if key is not None else 0
        if any(named.values()):
            break
    if named[True] == named[False]:
        found = f"{named[True]:,} of each" if named[True] else "none"
        rows, columns = (repr(str(names[0])) if len(names) else "none" for names in sides.values())
        raise InputError(
            f"{cells} has to name the rows of {path} (first: {rows}) or its columns (first: "
            f"{columns}), but names {found}; pass the table of these cells"
        )
    return named[True] > named[False]


def _with_cells(spec: SourceSpec, folder: Path) -> SourceSpec:
    """Search the table of cells where none was passed, and look that it fits."""
    if spec.cells is not None:
        return _checked(spec)
    with open_source(spec) as source:
        table = find_cell_table(folder, source.cell_names(), beside=Path(spec.path))
    return spec if table is None else _checked(spec_with_cells(spec, *table))


def _checked(spec: SourceSpec) -> SourceSpec:
    """Return the spec with a note on cells that its table does not name; refuse a damaged table."""
    assert spec.cells is not None
    ended = CellTable(Path(spec.cells)).check()
    with open_source(spec) as source:
        unlabelled = source.unlabelled()
        assert isinstance(source, TableSource)
        assert unlabelled is not None
        source.cell_columns()
    lacking = int((unlabelled.codes >= 0).sum())
    name = Path(spec.cells).name
    without = int((unlabelled == NO_ROW).sum())
    if not (without or ended):
        warn_of_the_end(spec.cells)
    if without and not ended:
        raise CorruptFileError(
            f"{spec.cells}: the last line has no line end, and {without:,} of "
            f"{len(unlabelled):,} cells of {spec.path} have no row: the table was cut "
            "off; copy or write it again. If it is whole, end its last line"
        )
    if lacking:
        note = f"table of cells {name}: {lacking:,} of {len(unlabelled):,} cells are left out"
    return spec_with_cells(spec, spec.cells, note if lacking else None)


def _other(text: Path, path: Path) -> str | None:
    return None if text == path else str(text)


_FINDERS = {"10x_h5": _find_tenx, "mtx": _find_mtx, "csv": _find_csv}
