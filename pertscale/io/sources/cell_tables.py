"""Tables of cells beside a matrix: found by content, read one column at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pertscale.errors import AmbiguousInputError, CorruptFileError, InputError, UnknownNameError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import check_parquet
from pertscale.io.guards.text_encoding import warn_of_the_end
from pertscale.io.guards.text_files import (
    TABLE_ENDINGS,
    delimiter_of,
    ending,
    first_lines,
    open_text,
    split_line,
)
from pertscale.io.guards.text_tables import check_text
from pertscale.io.sources._base import Source, SourceSpec

#: A file is a table of the cells of a matrix if it names at least this share of them.
SHARE_NEEDED = 0.95
#: Wider tables are matrices.
_MOST_COLUMNS = 1000
#: Why a cell has no row in the table of cells.
NO_ROW = "no row in the table of cells"
SEVERAL_ROWS = "several rows in the table of cells"
SEVERAL_CELLS = "one row in the table of cells, but several cells have this name"
#: Columns tried as barcodes besides the first one.
_KEY_NAMES = ("barcode", "barcodes", "cell", "cells", "cell_id", "cell_barcode", "index")


@dataclass(frozen=True)
class CellTable:
    """One table of cells: csv, tsv or txt (also gzipped), or parquet."""

    path: Path

    @cached_property
    def _fields(self) -> list[str]:
        """Names of the columns; a nameless first column (R, pandas) is called ``""``."""
        if ending(self.path) == ".parquet":
            with file_errors(str(self.path)):
                return list(pq.read_schema(self.path).names)
        lines = first_lines(self.path, 2)
        if not lines:
            return []
        delimiter = delimiter_of(lines[0])
        with file_errors(str(self.path)):
            header = split_line(lines[0], delimiter)
            first = split_line(lines[1], delimiter) if len(lines) > 1 else header
        # write.table of R leaves the name of the index column out
        return ["", *header] if len(first) == len(header) + 1 else header

    @cached_property
    def _delimiter(self) -> str:
        return delimiter_of(first_lines(self.path, 1)[0])

    def columns(self) -> list[str]:
        """Return the names of all columns, that of the index included."""
        return list(self._fields)

    def column(self, name: str, *, as_text: bool = False) -> pd.Series:
        """Read one column; empty fields and NA spellings are missing."""
        position = self._fields.index(name)
        with file_errors(f"{self.path}, column {name!r}"):
            if ending(self.path) == ".parquet":
                check_parquet(self.path)
                return pd.read_parquet(self.path, columns=[name])[name].reset_index(drop=True)
            with open_text(self.path) as text:
                found = pd.read_csv(
                    text,
                    sep=self._delimiter,
                    header=None,
                    skiprows=1,
                    usecols=[position],
                    dtype=str if as_text else None,
                    low_memory=False,
                    index_col=False,
                    names=[str(i) for i in range(len(self._fields))],
                )
        return found.iloc[:, 0]

    def check(self) -> bool:
        """Raise where the rows of a text table are damaged; return whether its last line ends."""
        if ending(self.path) == ".parquet":
            return True
        return check_text(partial(open_text, self.path), self._delimiter, self.path).ended

    def key_for(self, names: Iterable[str], *, every: bool = False) -> tuple[str, float] | None:
        """Return the column that names most of the cells, and the share it names.

        Tried are the first column and those called after barcodes, or `every` column.
        """
        wanted = pd.Index(pd.unique(np.asarray(names, dtype=object)))
        fields = self.columns()
        if not fields or not len(wanted):
            return None
        tried = [f for i, f in enumerate(fields) if every or i == 0 or f.lower() in _KEY_NAMES]
        shares = [(f, float(wanted.isin(self.column(f, as_text=True)).mean())) for f in tried]
        return max(shares, key=lambda pair: pair[1])


def is_table(path: Path) -> bool:
    """Return whether the name of a file says that it is a table."""
    return path.is_file() and ending(path) in (*TABLE_ENDINGS, ".parquet")


def find_cell_table(folder: Path, names: np.ndarray, *, beside: Path) -> tuple[str, str] | None:
    """Search the folder of a matrix for the one table of its cells.

    Parameters
    ----------
    folder
        Folder to look in, not below.
    names
        (n_cells,) names of the cells.
    beside
        The matrix, which is left out of the search.

    Returns
    -------
    tuple or None
        Path of the table and a sentence for the account.

    Raises
    ------
    AmbiguousInputError
        Several tables name the cells.
    """
    found: list[tuple[Path, float]] = []
    for path in sorted(folder.iterdir()):
        if path == beside or not is_table(path) or path.name.startswith("."):
            continue
        table = CellTable(path)
        if not 1 <= len(describing_columns(table)) < _MOST_COLUMNS:
            continue
        key = table.key_for(names)
        if key is not None and key[1] >= SHARE_NEEDED:
            found.append((path, key[1]))
    if len(found) > 1:
        raise AmbiguousInputError(
            f"{len(found)} tables name the cells of {beside}: "
            f"{', '.join(path.name for path, _ in found)}; pass one of them as cells="
        )
    if not found:
        return None
    path, share = found[0]
    return str(path), f"table of cells {path.name} found beside the matrix ({share:.1%} of cells)"


def describing_columns(table: CellTable) -> list[str]:
    """Return the columns besides the first; none in a list of names as R writes it."""
    fields = table.columns()
    if len(fields) == 2 and fields[0] == "" and fields[1].lower() in ("x", *_KEY_NAMES):
        return []
    return fields[1:]


class TableSource(Source):
    """A source without columns of its own: they come from its table of cells."""

    @abstractmethod
    def cell_names(self) -> np.ndarray:
        """Return the names of the cells."""

    @cached_property
    def _table(self) -> CellTable | None:
        return None if self.spec.cells is None else CellTable(Path(self.spec.cells))

    @cached_property
    def _key(self) -> str:
        """Column of the table that names the cells."""
        assert self._table is not None
        names = self.cell_names()
        key = self._table.key_for(names)
        if key is not None and key[1] == 0:
            key = self._table.key_for(names, every=True)
        if key is None or key[1] == 0:
            raise InputError(
                f"no cell of {self.spec.path} (first: {names[0] if len(names) else 'none'}) is "
                f"named in any column of {self.spec.cells}; pass the table of these cells as cells="
            )
        return key[0]

    @cached_property
    def _keys(self) -> pd.Index:
        """Names of cells in the table, one per row."""
        assert self._table is not None
        return pd.Index(self._table.column(self._key, as_text=True))

    @cached_property
    def _rows(self) -> np.ndarray:
        """(n_cells,) row of the table per cell; -1 unless one row fits and fits no other cell."""
        once = ~self._keys.duplicated(keep=False)
        rows = np.flatnonzero(once)
        names = pd.Index(self.cell_names().astype(object))
        at = self._keys[once].get_indexer(names)
        at[names.duplicated(keep=False)] = -1
        return np.where(at < 0, -1, rows[at] if len(rows) else -1)

    def unlabelled(self) -> pd.Categorical | None:
        """Return why a cell has no row in the table of cells; missing where it has one."""
        if self._table is None:
            return None
        names = pd.Index(self.cell_names().astype(object))
        codes = np.zeros(len(names), np.int8)
        codes[names.duplicated(keep=False) & names.isin(self._keys)] = 2
        codes[names.isin(self._keys[self._keys.duplicated()])] = 1
        codes[self._rows >= 0] = -1
        return pd.Categorical.from_codes(codes, categories=[NO_ROW, SEVERAL_ROWS, SEVERAL_CELLS])

    def cell_columns(self) -> list[str]:
        """Return the columns of the table of cells; empty without a table."""
        if self._table is None:
            return []
        return [name for name in self._table.columns() if name not in ("", self._key)]

    def cell_column(self, name: str) -> pd.Series:
        """Return one column; it is missing for cells that the table names twice or not at all."""
        if self._table is None or name not in self.cell_columns():
            raise UnknownNameError(
                f"{self.spec.cells or self.spec.path} has no column {name!r} of cells; it has "
                f"{', '.join(self.cell_columns()) or 'none'}"
            )
        values = self._table.column(name)
        if isinstance(values.dtype, pd.CategoricalDtype):
            taken = values.array.take(self._rows, allow_fill=True)
            return pd.Series(taken, name=name)
        if pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values):
            # few distinct labels over many cells: codes cost a fraction of the strings
            values = values.astype("category")
            return pd.Series(values.array.take(self._rows, allow_fill=True), name=name)
        return values.reindex(self._rows).reset_index(drop=True).rename(name)


# --- the table of a source ------------------------------------------------------------------------


def with_cells(open_: Callable[[SourceSpec], TableSource], spec: SourceSpec) -> SourceSpec:
    """Search the folder for the table of cells if none was passed, and check that it fits."""
    if spec.cells is not None:
        return with_table(open_, spec, spec.cells)
    path = Path(spec.path)
    with open_(spec) as source:
        table = find_cell_table(path.parent, source.cell_names(), beside=path)
    return spec if table is None else with_table(open_, spec, *table)


def with_table(
    open_: Callable[[SourceSpec], TableSource], spec: SourceSpec, cells: str, note: str = ""
) -> SourceSpec:
    """Return the spec with its table of cells; refuse a damaged table.

    Parameters
    ----------
    open_
        Opens the source.
    spec
        Of the matrix.
    cells
        Path of the table.
    note
        How it was found. Another note says how many cells it does not name.
    """
    spec = noted(replace(spec, cells=cells), note)
    ended = CellTable(Path(cells)).check()
    with open_(spec) as source:
        unlabelled = source.unlabelled()
        assert unlabelled is not None
        source.cell_columns()
    lacking = int((unlabelled.codes >= 0).sum())
    without = int((unlabelled == NO_ROW).sum())
    if not (without or ended):
        warn_of_the_end(cells)
    if without and not ended:
        raise CorruptFileError(
            f"{cells}: the last line has no line end, and {without:,} of "
            f"{len(unlabelled):,} cells of {spec.path} have no row: the table was cut "
            "off; copy or write it again. If it is whole, end its last line"
        )
    if not lacking:
        return spec
    name = Path(cells).name
    return noted(
        spec, f"table of cells {name}: {lacking:,} of {len(unlabelled):,} cells are left out"
    )


def noted(spec: SourceSpec, note: str) -> SourceSpec:
    """Return the spec with one more note, unless it is empty."""
    return replace(spec, notes=(*spec.notes, note)) if note else spec
