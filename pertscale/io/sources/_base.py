"""What every source of cells offers: sizes, names, single columns, and blocks of entries.

A *source* is one file or folder that holds a matrix of cells and genes. It is opened by a
:class:`SourceSpec`, which is small and picklable: specs and blocks travel to workers, matrices
and file handles never do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from pertscale.execution.buffers import Buffers

__all__ = ["Block", "CsrBlock", "Source", "SourceSpec", "as_names", "as_text"]


@dataclass(frozen=True)
class SourceSpec:
    """Where a matrix of cells is, and how to read it. Picklable, below 1 kB.

    Parameters
    ----------
    path
        File or folder.
    format
        ``"h5ad"``, ``"zarr"``, ``"10x_h5"``, ``"mtx"`` or ``"csv"``; ``"controls"`` for the control
        cells of a screen store.
    matrix
        ``"X"``, ``"raw"`` or the name of a layer; of controls the scale to read them on.
    cells
        Table of cells, for the formats that have no columns of their own.
    text
        Uncompressed copy of a gzipped text matrix; None where `path` itself can be read.
    genes_by_cells
        Whether the rows of a text matrix are genes.
    clip
        Whether an AnnData file's finite values below zero are read as zero.
    notes
        Plain sentences on what was found or assumed, for the account of the ingest.
    """

    path: str
    format: str
    matrix: str = "X"
    cells: str | None = None
    text: str | None = None
    genes_by_cells: bool = False
    clip: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A part of the stored entries of a source; the blocks of a source are disjoint.

    `start` and `stop` count what the source is cut by: rows, stored entries or bytes. Rows
    ``row_start`` to ``row_start + n_rows`` may have entries in the block. ``n_entries`` is the
    number of entries that have to be there, or -1 where only reading tells.
    """

    start: int
    stop: int
    row_start: int
    n_rows: int
    n_entries: int = -1


@dataclass(frozen=True)
class CsrBlock:
    """Entries of consecutive rows, as stored: values and their order are not checked.

    Attributes
    ----------
    row_start
        Row of the source that row 0 of the block is.
    indptr
        (n_rows + 1,) int64.
    indices
        Gene codes, positions in ``Source.genes()``; inside the range, maybe unsorted or twice.
    data
        Values, in the dtype of the file.
    """

    row_start: int
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    @property
    def n_rows(self) -> int:
        """Rows of the block, the empty ones included."""
        return len(self.indptr) - 1


class Source(ABC):
    """One matrix of cells by genes on disk. A context manager; opened by ``open_source``."""

    #: Whether all entries of a cell are in one block, and blocks come in the order of the rows.
    row_major: bool = True

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  (most sources hold no handle)
        """Give back file handles."""

    @property
    @abstractmethod
    def n_cells(self) -> int:
        """Number of cells (rows)."""

    @property
    @abstractmethod
    def n_genes(self) -> int:
        """Number of genes (columns), before any feature type is left out."""

    @abstractmethod
    def cell_names(self) -> np.ndarray:
        """Return the names of the cells, (n_cells,) of NumPy's variable-width string dtype."""

    @abstractmethod
    def cell_columns(self) -> list[str]:
        """Return the names of the columns that describe cells."""

    @abstractmethod
    def cell_column(self, name: str) -> pd.Series:
        """Return one column, (n_cells,), with a plain integer index; categories stay so."""

    def unlabelled(self) -> pd.Categorical | None:
        """Return why a cell has no labels at all, (n_cells,), missing where it has some.

        None for files whose cells are described in the file itself.
        """
        return None

    @abstractmethod
    def genes(self) -> pd.DataFrame:
        """Return the genes: index = the file's names (str), columns = what it says of them."""

    @abstractmethod
    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the stored entries into blocks of about `block_bytes` each.

        A block holds at least one row (or entry), however small `block_bytes` is.
        """

    @abstractmethod
    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read one block; with `buffers`, into memory that the next block is read into as well.

        Memory: row-major sparse about 1 x, everything else up to 4 x the ``block_bytes`` that
        the block was planned with (column-major and text entries are sorted by row; dense
        values are held next to their non-zero copy).
        """


#: Names that are Python objects at a time: each takes 70 bytes then, 16 in the end.
_NAMES_AT_ONCE = 65_536


def as_text(value: Any) -> Any:
    """Return bytes as text: UTF-8, or else Latin-1, which older programs wrote."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def as_names(values: Any) -> np.ndarray:
    """Return names as a compact NumPy string array; bytes are decoded by :func:`as_text`.

    `values` may be a dataset of a file: it is read in slices.

    Raises
    ------
    ValueError
        It is no list, or one of the names is missing.
    """
    if values.ndim != 1:
        size = " x ".join(map(str, values.shape))
        raise ValueError(f"names are one list, found are {size} of them")
    names = np.empty(values.shape[0], np.dtypes.StringDType())
    for i in range(0, len(names), _NAMES_AT_ONCE):
        part = values[i : i + _NAMES_AT_ONCE]
        missing = pd.isna(part)
        if missing.any():
            raise ValueError(f"row {i + int(np.argmax(missing))} has no name")
        names[i : i + len(part)] = [str(as_text(v)) for v in part]
    return names
