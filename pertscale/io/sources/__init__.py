"""Readers of the files that screens come in: h5ad, AnnData-Zarr, 10x h5, MatrixMarket, csv.

:func:`find_source` looks at a path once and returns a small picklable :class:`SourceSpec`;
:func:`open_source` opens it, in this process or in a worker. Each format is a module, whose
``FORMAT`` says how a path of it is recognised, looked at and opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pertscale.errors import InputError
from pertscale.io.sources import anndata_zarr, csv, h5ad, mtx, screen_controls, tenx
from pertscale.io.sources._base import (
    Block,
    CsrBlock,
    Source,
    SourceChoices,
    SourceFormat,
    SourceSpec,
)
from pertscale.io.sources._hdf5 import is_hdf5, top_names
from pertscale.storage.locations import input_path

__all__ = ["Block", "CsrBlock", "Source", "SourceSpec", "find_source", "open_source"]

#: In the order in which a path is tried.
FORMATS: Final[tuple[SourceFormat, ...]] = (
    h5ad.FORMAT,
    anndata_zarr.FORMAT,
    tenx.FORMAT,
    mtx.FORMAT,
    csv.FORMAT,
    screen_controls.FORMAT,
)
#: Entries of a folder that a message names.
_MOST_LISTED = 8


def open_source(spec: SourceSpec) -> Source:
    """Open a source; nothing heavy is read until it is asked for. A context manager.

    Raises
    ------
    CorruptFileError
        The file is truncated or its parts don't fit each other.
    UnknownNameError
        The file has no such matrix.
    """
    return next(form for form in FORMATS if form.name == spec.format).open(spec)


def find_source(
    path: str | Path,
    *,
    matrix: str | None = None,
    cells: str | Path | None = None,
    scratch: str | Path | None = None,
    clip: bool = False,
) -> SourceSpec:
    """Find out what a path holds, from its content.

    Parameters
    ----------
    path
        File or folder, of one of :data:`FORMATS`.
    matrix
        ``"X"`` (default), ``"raw"`` or a layer; for h5ad and Zarr only.
    cells
        Table of cells (csv, tsv, parquet) for the formats without columns of their own. Without
        it the folder of the matrix is searched for the one table that names the cells.
    scratch
        Folder for unzipped copies of gzipped text matrices. By default a temporary folder of
        this process, which workers on other machines can't read.
    clip
        Whether finite values below zero are read as zero, in h5ad and Zarr.

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
    choices = SourceChoices(
        matrix=matrix,
        cells=None if cells is None else str(input_path(cells, "a table of cells").absolute()),
        scratch=None if scratch is None else Path(scratch),
        clip=clip,
    )
    for form in FORMATS:
        if form.looks_like and form.find and form.looks_like(location):
            return form.find(location, choices)
    raise _unknown(location)


def _unknown(path: Path) -> InputError:
    """Say what a path is instead of a source, and what is read."""
    known = ", ".join(form.doc for form in FORMATS if form.find is not None)
    if not path.is_dir() and not is_hdf5(path):
        return InputError(f"{path} has a format that pertscale doesn't read; it reads {known}")
    kind = "a folder" if path.is_dir() else "an HDF5 file"
    names = sorted(p.name for p in path.iterdir()) if path.is_dir() else top_names(path)
    listed = ", ".join(names[:_MOST_LISTED]) + (", …" if len(names) > _MOST_LISTED else "")
    return InputError(
        f"{path} is {kind} of no format that pertscale reads; it holds {listed or 'nothing'}. "
        f"pertscale reads {known}"
    )
