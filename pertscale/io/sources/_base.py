"""What every source of cells offers: sizes, names, single columns, and blocks of entries.

A *source* is one file or folder that holds a matrix of cells and genes. It is opened by a
:class:`SourceSpec`, which is small and picklable: specs and blocks travel to workers, matrices
and file handles never do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError
from pertscale.execution.buffers import Buffers

#: Option of a text matrix that was gzipped: its uncompressed copy.
TEXT_COPY: Final = "text"


@dataclass(frozen=True)
class SourceSpec:
    """Where a matrix of cells is, and how to read it. Picklable, below 1 kB.

    Parameters
    ----------
    path
        File or folder.
    format
        Name of a :class:`SourceFormat`.
    matrix
        ``"X"``, ``"raw"`` or the name of a layer; of controls the scale to read them on.
    cells
        Table of cells, for the formats that have no columns of their own.
    options
        Options of this format alone, by names that its module defines.
    notes
        Plain sentences on what was found or assumed, for the account of the ingest.
    """

    path: str
    format: str
    _: KW_ONLY
    matrix: str = "X"
    cells: str | None = None
    options: Mapping[str, str | bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """What is read: the path, or the uncompressed copy of a text."""
        return Path(str(self.options.get(TEXT_COPY, self.path)))


@dataclass(frozen=True, kw_only=True)
class SourceChoices:
    """What the user chose for a source.

    Attributes
    ----------
    matrix
        ``"X"``, ``"raw"`` or a layer.
    cells
        Path of the table of cells.
    scratch
        Folder for unzipped copies of gzipped text matrices.
    clip
        Whether finite values below zero are read as zero, in AnnData.
    """

    matrix: str | None = None
    cells: str | None = None
    scratch: Path | None = None
    clip: bool = False

    def check_one_matrix(self, path: Path) -> None:
        """Refuse the name of a matrix, for a format that holds one only."""
        if self.matrix not in (None, "X"):
            raise ArgumentError(
                f"layer={self.matrix!r} was passed, but {path} holds one matrix only"
            )


@dataclass(frozen=True, kw_only=True)
class SourceFormat:
    """All that the package knows of a file format; its module defines it as ``FORMAT``.

    Attributes
    ----------
    name
        What :attr:`SourceSpec.format` is.
    doc
        The format in a list of those that are read.
    open
        Opens a source; nothing heavy is read.
    looks_like
        Whether a path holds this format, by its content. Raises for a file that does, and is
        damaged. None where no path is ever passed for it.
    find
        Returns the spec of such a path, once all that can be wrong was checked.
    """

    name: str
    doc: str
    open: Callable[[SourceSpec], Source]
    looks_like: Callable[[Path], bool] | None = None
    find: Callable[[Path, SourceChoices], SourceSpec] | None = None


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


#: Names that are Python objects at a time: each takes 70 bytes then, later 16.
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
        It is not a list, or one of the names is missing.
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
