"""MatrixMarket: ``matrix.mtx`` with its lists of genes and cells, 10x or plain naming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from pertscale.errors import AmbiguousInputError, CorruptFileError, InputError, NotFoundError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.text_files import (
    TABLE_ENDINGS,
    delimiter_of,
    ending,
    is_header_word,
    is_index_name,
    open_text,
    split_line,
)
from pertscale.io.guards.text_tables import check_text, nul_error
from pertscale.io.sources._arrays import check_codes, rows_from_entries
from pertscale.io.sources._base import (
    Block,
    CsrBlock,
    SourceChoices,
    SourceFormat,
    SourceSpec,
    as_names,
)
from pertscale.io.sources._text import GENES_BY_CELLS, genes_by_cells, text_spec
from pertscale.io.sources.cell_tables import TableSource, with_cells

_GENE_FILES = ("features", "genes", "gene_names", "var_names", "rownames")
_CELL_FILES = ("barcodes", "cells", "cell_names", "cell_metadata", "obs_names", "colnames")


@dataclass(frozen=True)
class Header:
    """What the head of a MatrixMarket file says."""

    field: str
    n_rows: int
    n_columns: int
    n_entries: int
    offset: int


def read_header(text: Path, path: str) -> Header:
    """Read the banner and the line of sizes.

    Raises
    ------
    InputError
        The kind of matrix is not one of counts.
    CorruptFileError
        There is no such head.
    """
    with file_errors(path), text.open("rb") as lines:
        banner = lines.readline()
        words = banner.decode("ascii", "replace").lower().split()
        if len(words) != 5 or words[0] != "%%matrixmarket":
            raise CorruptFileError(
                f"{path}: line 1 is {banner[:60]!r}, a MatrixMarket file starts with "
                "'%%MatrixMarket matrix coordinate integer general'"
            )
        _, _, layout, field, symmetry = words
        if layout != "coordinate" or field not in ("integer", "real") or symmetry != "general":
            raise InputError(
                f"{path} is a MatrixMarket '{layout} {field} {symmetry}' matrix; needed is "
                "'coordinate integer general' or 'coordinate real general': write the counts so"
            )
        line = lines.readline()
        while line.startswith(b"%") or (line and not line.strip()):
            line = lines.readline()
        sizes = line.split()
        if len(sizes) != 3 or not all(word.isdigit() for word in sizes):
            raise CorruptFileError(
                f"{path}: the line of sizes is {line[:60]!r}, needed are three numbers "
                "(rows, columns, entries); the file is incomplete"
            )
        n_rows, n_columns, n_entries = (int(word) for word in sizes)
        return Header(field, n_rows, n_columns, n_entries, lines.tell())


def find_matrix(path: Path) -> Path:
    """Return the one matrix file of a folder, or `path` if it is a file."""
    if path.is_file():
        return path
    found = sorted(p for p in path.iterdir() if ending(p) == ".mtx" and p.name[0] != ".")
    stems = {p.name.removesuffix(".gz"): p for p in reversed(found)}
    if len(stems) != 1:
        names = ", ".join(sorted(stems))
        raise AmbiguousInputError(f"{path} holds several matrices ({names}); pass one of the files")
    return next(iter(stems.values()))


def beside(matrix: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the list of genes or cells that belongs to a matrix file.

    ``GSM1_matrix.mtx.gz`` has ``GSM1_barcodes.tsv.gz``; a plain name has no prefix.
    """
    prefix = matrix.name.removesuffix(".gz").removesuffix(".mtx").removesuffix("matrix")
    for name in names:
        for suffix in (".tsv", ".csv", ".txt"):
            for zipped in ("", ".gz"):
                for start in dict.fromkeys((prefix, "")):
                    candidate = matrix.parent / f"{start}{name}{suffix}{zipped}"
                    if candidate.is_file():
                        return candidate
    raise NotFoundError(
        f"{matrix} needs a list of its {what} in the same folder: one of "
        f"{', '.join(names)} with the ending {', '.join(TABLE_ENDINGS)} (or .gz)"
    )


#: Words for a missing value: above numbers they are no header.
_MISSING = frozenset({"na", "null", "none"})


@dataclass(frozen=True)
class NameList:
    """A list of genes or cells; its content tells whether its first line is a header.

    Attributes
    ----------
    path
        The file.
    lines
        Its lines as strings; the columns are positions.
    headed
        True where the first line is a header, None where it may be, False where it is a name.
    """

    path: Path
    lines: pd.DataFrame
    headed: bool | None

    @property
    def n_names(self) -> int:
        """Lines that are names; one that may be a header is counted."""
        return len(self.lines) - bool(self.headed)

    def fitted(self, n: int) -> pd.DataFrame | None:
        """Return the table of `n` names, or None where the list has another number of them.

        A first line that may be a header is one where that makes the list fit. Names of columns
        are those of the header, or positions. R's column of running numbers is taken off.
        """
        headed = self.headed is True or (self.headed is None and len(self.lines) == n + 1)
        table = self.lines
        if headed:
            table = table.iloc[1:].reset_index(drop=True).set_axis(list(table.iloc[0]), axis=1)
        if len(table) != n:
            return None
        numbers = [str(i) for i in range(1, n + 1)]
        if table.shape[1] > 1 and list(table.iloc[:, 0]) == numbers:
            table = table.iloc[:, 1:]
        return table

    def misfit(self, n: int, what: str) -> str:
        """Say how the list does not fit `n` cells or genes, and what to do."""
        text = f"{self.path} has {self.n_names:,} names"
        if self.headed:
            text += f" below the header {self.lines.iloc[0, 0]!r}"
        twice = np.flatnonzero(self.lines.duplicated())
        if self.n_names > n and len(twice):
            text += f", of which line {twice[0] + 1} repeats an earlier one"
        elif self.n_names == n + 1:
            text += (
                f"; line 1 ({self.lines.iloc[0, 0]!r}) is not a known header: call it "
                f"{what[:-1]!r} if it is one"
            )
        return text


def read_names(path: Path) -> NameList:
    """Read a list of names.

    Raises
    ------
    CorruptFileError
        A line with another number of fields than the others, or bytes that are no text.
    """
    with file_errors(str(path)), open_text(path) as text:
        raw = text.read()
    delimiter = delimiter_of(raw.split(b"\n", 1)[0])
    shape = check_text(lambda: BytesIO(raw), delimiter, path)
    short = shape.header < shape.fields  # R's write.table: the column of row names has no name
    with file_errors(str(path)):
        lines = pd.read_csv(
            BytesIO(raw),
            sep=delimiter,
            header=None,
            dtype=str,
            keep_default_na=False,
            names=range(shape.fields),
            skiprows=int(short),
        )
        if short:
            header = ["", *split_line(raw.split(b"\n", 1)[0], delimiter)]
            lines = pd.concat([pd.DataFrame([header]), lines], ignore_index=True)
    return NameList(path, lines, True if short else _is_header(lines))


def _is_header(lines: pd.DataFrame) -> bool | None:
    """Whether the first line is a header; None where it may be one."""
    if not len(lines):
        return False
    first = lines.iloc[0]
    if any(map(is_header_word, first)):
        return True
    for name, field in first.items():
        below = lines[name].iloc[1:]
        told = field.lower() not in _MISSING and not _is_number(field)
        if told and len(below) and all(map(_is_number, below)):
            return True
    return None if is_index_name(first.iloc[0]) else False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class MtxSource(TableSource):
    """A MatrixMarket file, read by ranges of bytes; entries of a cell may be spread."""

    row_major = False

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec)
        self._text = spec.file
        self._turned = genes_by_cells(spec)
        self.header = read_header(self._text, spec.path)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        header = self.header
        return header.n_columns if self._turned else header.n_rows

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        header = self.header
        return header.n_rows if self._turned else header.n_columns

    @cached_property
    def _cells(self) -> pd.DataFrame:
        return self._names(_CELL_FILES, "cells", self.n_cells)

    def _names(self, files: tuple[str, ...], what: str, n: int) -> pd.DataFrame:
        found = read_names(beside(Path(self.spec.path), files, what))
        names = found.fitted(n)
        if names is None:
            raise CorruptFileError(
                f"{found.misfit(n, what)}; the matrix {self.spec.path} has {n:,} {what}: one of "
                "the two files is incomplete, or has lines of another one"
            )
        return names

    def cell_names(self) -> np.ndarray:
        """Return the barcodes."""
        return as_names(self._cells.iloc[:, 0].array)

    def genes(self) -> pd.DataFrame:
        """Return the genes: index = names; without a header the columns are those of 10x."""
        table = self._names(_GENE_FILES, "genes", self.n_genes)
        if isinstance(table.columns[0], str):
            return table.set_index(table.columns[0], drop=True).rename_axis(None)
        if table.shape[1] == 1:
            return pd.DataFrame(index=pd.Index(table.iloc[:, 0].astype(object)))
        parts = zip(("gene_ids", None, "feature_types"), table.items(), strict=False)
        columns = {name: list(values) for name, (_, values) in parts if name}
        return pd.DataFrame(columns, index=pd.Index(table.iloc[:, 1].astype(object)))

    def blocks(self, block_bytes: int) -> list[Block]:
        """Cut the text at line ends and count its lines, which the header has to match.

        One streamed pass over the file.
        """
        # a line of 6 bytes or more becomes 24 bytes of row, gene and value
        step = max(1, block_bytes // 4)
        found: list[Block] = []
        start = self.header.offset
        with file_errors(self.spec.path), self._text.open("rb") as text:
            text.seek(start)
            while part := text.read(step):
                part += b"" if part.endswith(b"\n") else text.readline()
                if (nul := part.find(b"\0")) >= 0:
                    raise nul_error(self.spec.path, start + nul)
                n = _count_lines(part)
                if n:
                    found.append(Block(start, start + len(part), 0, self.n_cells, n))
                start += len(part)
        total = sum(block.n_entries for block in found)
        if total != self.header.n_entries:
            raise CorruptFileError(
                f"{self.spec.path}: the header promises {self.header.n_entries} entries, found "
                f"{total}; the file is incomplete: copy or download it again"
            )
        return found

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Parse one range of bytes and sort its entries by cell."""
        where = f"{self.spec.path}, bytes {block.start} to {block.stop}"
        with file_errors(where), self._text.open("rb") as text:
            text.seek(block.start)
            raw = text.read(block.stop - block.start)
        first, second, data = self._parse(raw, where)
        if len(data) != block.n_entries:
            raise CorruptFileError(
                f"{where}: {block.n_entries} entries expected, found {len(data)}"
            )
        rows, genes = (second, first) if self._turned else (first, second)
        check_codes(rows, self.n_cells, where, "cell")
        check_codes(genes, self.n_genes, where, "gene")
        return rows_from_entries(rows, genes, data)

    def _parse(self, raw: bytes, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two 0-based indices and the values of the lines."""
        if b"\t" in raw or b"  " in raw or b" \n" in raw or b"\n " in raw:
            raw = b"\n".join(b" ".join(line.split()) for line in raw.splitlines())
        types = [
            pa.int64(),
            pa.int64(),
            pa.int64() if self.header.field == "integer" else pa.float64(),
        ]
        names = ["first", "second", "value"]
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(raw),
                read_options=arrow_csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=max(len(raw), 1)
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=" ", quote_char=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict(zip(names, types, strict=True)),
                    null_values=["NA", "NaN", "nan"],
                ),
            )
        except pa.ArrowInvalid as error:
            raise CorruptFileError(
                f"{where}: not lines of 'row column value', {self.header.field} values ({error})"
            ) from error
        if table["first"].null_count or table["second"].null_count:
            raise CorruptFileError(f"{where}: a row or column has no number, but a missing value")
        first, second, data = (table[name].to_numpy() for name in names)
        return first - 1, second - 1, data


def _count_lines(part: bytes) -> int:
    """Lines that are not blank."""
    if b"\n\n" in part or b" \n" in part or b"\r" in part or part.startswith(b"\n"):
        return sum(1 for line in part.splitlines() if line.strip())
    return part.count(b"\n") + (not part.endswith(b"\n"))


def orientation(matrix: Path, header: Header) -> bool:
    """Return whether the rows of the file are genes, from the lengths of the two lists.

    A square matrix is read as genes by cells, as 10x writes it.

    Raises
    ------
    CorruptFileError
        The lists fit neither way.
    """
    sizes = (header.n_rows, header.n_columns)
    genes = read_names(beside(matrix, _GENE_FILES, "genes"))
    cells = read_names(beside(matrix, _CELL_FILES, "cells"))
    fits = {
        turned: (genes.fitted(n_genes) is not None) + (cells.fitted(n_cells) is not None)
        for turned, (n_genes, n_cells) in ((True, sizes), (False, sizes[::-1]))
    }
    likelier = max(fits, key=lambda turned: fits[turned])
    if fits[likelier] == 2:
        return likelier
    n_genes, n_cells = sizes if likelier else sizes[::-1]
    raise CorruptFileError(
        f"{matrix} is {sizes[0]:,} x {sizes[1]:,}, but "
        f"{_listed(genes, n_genes, 'genes')}, and {_listed(cells, n_cells, 'cells')}; the folder "
        "mixes two matrices, or a file is incomplete or has lines of another one"
    )


def _listed(names: NameList, n: int, what: str) -> str:
    if names.fitted(n) is not None:
        return f"{names.path} has {n:,} names"
    return f"{names.misfit(n, what)} where {n:,} {what} are needed"


def _looks_like(path: Path) -> bool:
    files = path.iterdir() if path.is_dir() else [path]
    return any(ending(file) == ".mtx" for file in files)


def _find(path: Path, choices: SourceChoices) -> SourceSpec:
    choices.check_one_matrix(path)
    matrix = find_matrix(path)
    spec = text_spec(matrix, FORMAT.name, choices)
    turned = orientation(matrix, read_header(spec.file, str(matrix)))
    return with_cells(MtxSource, replace(spec, options={**spec.options, GENES_BY_CELLS: turned}))


FORMAT = SourceFormat(
    name="mtx",
    doc="MatrixMarket (a folder with matrix.mtx)",
    open=MtxSource,
    looks_like=_looks_like,
    find=_find,
)
