"""Dense text tables: csv and tsv, cells by genes or genes by cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from pertscale.errors import CorruptFileError, InputError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.text_files import (
    TABLE_ENDINGS,
    delimiter_of,
    ending,
    is_index_name,
    split_line,
)
from pertscale.io.guards.text_tables import nul_error
from pertscale.io.sources._arrays import dense_block, rows_from_entries
from pertscale.io.sources._base import Block, CsrBlock, SourceChoices, SourceFormat, SourceSpec
from pertscale.io.sources._text import GENES_BY_CELLS, genes_by_cells, text_spec
from pertscale.io.sources.cell_tables import (
    CellTable,
    TableSource,
    find_cell_table,
    noted,
    with_table,
)


@dataclass(frozen=True)
class CsvHeader:
    """Header of a table: its delimiter, the names of its columns, where its rows start."""

    delimiter: str
    columns: list[str]
    offset: int


@dataclass(frozen=True)
class Rows:
    """Names of the rows and the byte that each starts at; one more byte for the end."""

    names: np.ndarray
    starts: np.ndarray


def read_header(text: Path, path: str) -> CsvHeader:
    """Read the header. R's ``write.table`` leaves the name of the first column out."""
    with file_errors(path), text.open("rb") as lines:
        header = lines.readline()
        if (nul := header.find(b"\0")) >= 0:
            raise nul_error(path, nul)
        offset = lines.tell()
        first = lines.readline()
        delimiter = delimiter_of(header)
        names = split_line(header, delimiter)
        fields = split_line(first, delimiter)
    if len(fields) < 2:
        raise InputError(
            f"{path} is not a table of counts: its first row is {first[:60]!r}; needed is a name "
            "and one value per column, separated by commas, tabs or semicolons"
        )
    if len(fields) == len(names) + 1:
        _check_bare_header(names, fields, path)
        return CsvHeader(delimiter, names, offset)
    return CsvHeader(delimiter, names[1:], offset)


def _check_bare_header(names: list[str], fields: list[str], path: str) -> None:
    """Raise where a header has one name too few, unless R leaves it out."""
    if not fields[-1].strip():
        raise CorruptFileError(
            f"{path}: the rows end in a separator that the header has not ({len(fields)} and "
            f"{len(names)} fields); take it off, or a value is missing at the end of each row"
        )
    if is_index_name(names[0]):
        raise CorruptFileError(
            f"{path}: the header names {len(names) - 1} columns after {names[0]!r}, the first row "
            f"has {len(fields) - 1} values; a name is missing in the header"
        )


def read_rows(text: Path, header: CsvHeader, path: str) -> Rows:
    """Scan the table once for row names and positions; every row has to be complete.

    Memory: names and 8 bytes per row, and one line.
    """
    mark = header.delimiter.encode()
    names: list[str] = []
    starts = [header.offset]
    with file_errors(path), text.open("rb") as lines:
        lines.seek(header.offset)
        for line in lines:
            if (nul := line.find(b"\0")) >= 0:
                raise nul_error(path, starts[-1] + nul)
            if not line.strip():
                starts[-1] += len(line)
                continue
            end = line.index(b'"', 1) + 1 if line[:1] == b'"' else line.find(mark)
            found = line.count(mark, max(end, 0)) if end >= 0 else 0
            if found != len(header.columns):
                raise CorruptFileError(
                    f"{path}, row {len(names)}: {found} values, the header names "
                    f"{len(header.columns)}; the file is incomplete or damaged"
                )
            names.append(line[:end].decode().strip('"'))
            starts.append(starts[-1] + len(line))
    strings = np.array(names, dtype=np.dtypes.StringDType())
    return Rows(strings, np.array(starts, dtype=np.int64))


class CsvSource(TableSource):
    """A dense table, read by ranges of bytes. Values are float64; empty fields are NaN."""

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec)
        self._text = spec.file
        self.header = read_header(self._text, spec.path)
        self.row_major = not genes_by_cells(spec)

    @cached_property
    def rows(self) -> Rows:
        """Names and places of the rows; found by one pass over the file."""
        return read_rows(self._text, self.header, self.spec.path)

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.array(self.header.columns, dtype=np.dtypes.StringDType())

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cell_names())

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self._columns if self.row_major else self.rows.names)

    def cell_names(self) -> np.ndarray:
        """Return the names of the cells."""
        return self.rows.names if self.row_major else self._columns

    def genes(self) -> pd.DataFrame:
        """Return the genes: names only."""
        names = self._columns if self.row_major else self.rows.names
        return pd.DataFrame(index=pd.Index(names.astype(object)))

    def blocks(self, block_bytes: int) -> list[Block]:
        """Cut at lines. A field is 2 bytes of text or more and 8 bytes when parsed."""
        starts = self.rows.starts
        n_rows, width = len(starts) - 1, len(self.header.columns)
        step = max(1, block_bytes // (8 * max(width, 1)))
        cuts = [*range(0, n_rows, step), n_rows] if n_rows else []
        return [Block(int(starts[a]), int(starts[b]), a, b - a) for a, b in pairwise(cuts)]

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Parse whole lines."""
        rows = f"{self.spec.path}, rows {block.row_start} to {block.row_start + block.n_rows}"
        with file_errors(rows), self._text.open("rb") as text:
            text.seek(block.start)
            raw = text.read(block.stop - block.start)
        values = self._parse(raw, rows)
        if len(values) != block.n_rows:
            raise CorruptFileError(f"{rows}: {block.n_rows} rows expected, found {len(values)}")
        if self.row_major:
            return dense_block(values, block.row_start)
        genes, cells = np.nonzero(values)
        genes_of_file = (genes + block.row_start).astype(np.int32)
        return rows_from_entries(cells.astype(np.int32), genes_of_file, values[genes, cells])

    def _parse(self, raw: bytes, where: str) -> np.ndarray:
        """Return (rows, columns) float64 values of some lines."""
        fields = [str(i) for i in range(len(self.header.columns))]
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(raw),
                read_options=arrow_csv.ReadOptions(
                    column_names=["name", *fields], use_threads=False, block_size=len(raw) + 1
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=self.header.delimiter),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(fields, pa.float64()), include_columns=fields
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(f"{where}: the values are not all numbers ({error})") from error
        values = np.empty((table.num_rows, len(fields)))
        for i, column in enumerate(table.itercolumns()):
            values[:, i] = column.to_numpy()
        return values


# --- which side the cells are ---------------------------------------------------------------------


def _looks_like(path: Path) -> bool:
    return path.is_file() and ending(path) in TABLE_ENDINGS


def _find(path: Path, choices: SourceChoices) -> SourceSpec:
    """Find the orientation by the table of cells: it names the rows or the columns."""
    choices.check_one_matrix(path)
    spec = text_spec(path, FORMAT.name, choices)
    source = CsvSource(spec)
    sides = {False: source.rows.names, True: np.array(source.header.columns)}
    if choices.cells is not None:
        turned = _named_side(sides, path, choices.cells)
        return with_table(CsvSource, _turned(spec, turned), choices.cells)
    for turned, names in sides.items():
        table = find_cell_table(path.parent, names, beside=path)
        if table is not None:
            return with_table(CsvSource, _turned(spec, turned), *table)
    return noted(spec, f"no table of cells beside {path.name}: its rows are taken for cells")


def _turned(spec: SourceSpec, turned: bool) -> SourceSpec:
    return replace(spec, options={**spec.options, GENES_BY_CELLS: turned})


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


FORMAT = SourceFormat(
    name="csv",
    doc="csv, tsv",
    open=CsvSource,
    looks_like=_looks_like,
    find=_find,
)
