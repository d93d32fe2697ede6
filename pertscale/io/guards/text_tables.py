"""What is checked in a text table before its rows are trusted: bytes, fields, the last line.

pandas ends a text at a NUL byte, moves the columns of a row that has a field too many, and fills a
row that has too few. All three are damage, and none of them is seen in what it returns.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.io.guards.damage import file_errors

_BLOCK_BYTES: Final = 4_000_000


@dataclass(frozen=True)
class TextShape:
    """Fields of the lines of a text table.

    Attributes
    ----------
    header : int
        Fields of the first line.
    fields : int
        Fields of every other line; of the first, where there is no other.
    n_lines : int
        Lines that are not blank, the first one included.
    ended : bool
        Whether the last line has a line end. Where it has none, the file may have been cut off
        inside of its last value.
    """

    header: int
    fields: int
    n_lines: int
    ended: bool


def check_text(opened: Callable[[], BinaryIO], delimiter: str, path: Path | str) -> TextShape:
    """Read a text table, and raise where its lines can't be the rows of one table.

    The first line may have one field less than the others, as R's ``write.table`` writes it; see
    :func:`check_bare_header`.

    Parameters
    ----------
    opened
        Opens it, unzipped; called again for a table with quotes in which something is wrong.
    delimiter
        Between the fields; a field in double quotes may hold it.
    path
        For messages.

    Raises
    ------
    CorruptFileError
        A NUL byte, or a line with another number of fields than the others.

    Notes
    -----
    Memory: one block of 4 MB and its copies. Of a long table it takes a quarter of the time that
    reading it takes.
    """
    found = _Lines(str(path))
    quoted = False
    try:
        with file_errors(str(path)), opened() as file:
            for number, block in _blocks(file, str(path)):
                quoted = quoted or b'"' in block
                found.add(number, _fields(block, delimiter.encode()), block.endswith(b"\n"))
    except CorruptFileError:
        if not quoted:
            raise
        found = _check_quoted(opened, delimiter, str(path))  # quotes have more rules than parity
    shape = found.shape()
    if shape.header < shape.fields:
        with file_errors(str(path)), opened() as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
            header = next(row for row in csv.reader(text, delimiter=delimiter) if row)
        check_bare_header(header, shape.fields, path)
    return shape


def check_bare_header(names: Sequence[str], n_fields: int, path: Path | str) -> None:
    """Raise where a first line that is a field short of the others can't be R's.

    R leaves out the header of the row names; all other columns have one. A first line that starts
    with an empty name has lost another one, and every column would get its neighbour's name.

    Parameters
    ----------
    names
        Fields of the first line.
    n_fields
        Those of the other lines.
    path
        For messages.
    """
    if len(names) == n_fields - 1 and not names[0].strip():
        raise CorruptFileError(
            f"{path}: the first line begins with an empty name and names {len(names) - 1} columns, "
            f"but the others have {n_fields - 1} fields after the first; a name is missing in the "
            "first line, or a separator in it is damaged"
        )


def _blocks(file: BinaryIO, path: str) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of whole lines, each with the number of its first line, from 1."""
    number, at, rest = 1, 0, b""
    while part := file.read(_BLOCK_BYTES):
        if (nul := part.find(b"\0")) >= 0:
            raise nul_error(path, at + nul)
        at += len(part)
        rest += part
        end = rest.rfind(b"\n") + 1
        if end:
            block, rest = rest[:end].replace(b"\r\n", b"\n"), rest[end:]
            yield number, block
            number += block.count(b"\n")
    if rest:
        yield number, rest


def nul_error(path: str, at: int) -> CorruptFileError:
    """Return the error for a text that has a NUL byte at a place."""
    return CorruptFileError(
        f"{path}: byte {at:,} is NUL (0), which no text has; the file is damaged, as after a full "
        "or failing disk: copy, download or write it again"
    )


def _fields(block: bytes, mark: bytes) -> np.ndarray:
    """Fields of each line of a block; 0 for a blank line."""
    text = np.frombuffer(block, np.uint8)
    is_end, is_mark = text == ord("\n"), text == mark[0]
    if b'"' in block:
        outside = _outside_quotes(text, mark)
        is_end &= outside
        is_mark &= outside
    ends = np.flatnonzero(is_end)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(text))
    marks = np.flatnonzero(is_mark)
    fields = np.diff(np.searchsorted(marks, ends), prepend=0) + 1
    blank = np.diff(ends, prepend=-1) == 1
    return np.where(blank, 0, fields)


def _outside_quotes(text: np.ndarray, mark: bytes) -> np.ndarray:
    """Whether each byte is outside of quotes: has an even number of them before it.

    Raises where a quote is inside of a field, where it is none, or the last one is not closed.
    """
    quote, end = ord('"'), ord("\n")
    around = np.concatenate([[end], text, [end]]).astype(np.uint8)
    at = np.flatnonzero(text == quote)
    beside = np.concatenate([around[at[::2]], around[at[1::2] + 2]])
    if len(at) % 2 or not np.isin(beside, (mark[0], quote, end)).all():
        raise CorruptFileError("quotes that are no pairs around fields")
    return np.cumsum(text == quote, dtype=np.uint8) % 2 == 0


@dataclass
class _Lines:
    """Lines that have been looked at."""

    path: str
    header: int = 0
    fields: int = 0
    n_lines: int = 0
    ended: bool = True

    def add(self, number: int, fields: np.ndarray, ended: bool) -> None:
        """Compare the fields of more lines, `number` being that of the first."""
        self.ended = ended
        there = np.flatnonzero(fields)
        self.n_lines += len(there)
        if not self.header and len(there):
            self.header, there = int(fields[there[0]]), there[1:]
        if not self.fields and len(there):
            self.fields = int(fields[there[0]])
            self._check_header(number + int(there[0]))
        wrong = there[fields[there] != self.fields]
        if len(wrong):
            raise CorruptFileError(
                f"{self.path}: line {number + int(wrong[0])} has {int(fields[wrong[0]])} fields, "
                f"the lines before it have {self.fields}; the file is cut off or damaged there, or "
                "a name holds the separator and needs quotes"
            )

    def _check_header(self, number: int) -> None:
        if self.fields - self.header not in (0, 1):
            raise CorruptFileError(
                f"{self.path}: line {number} has {self.fields} fields, the first line has "
                f"{self.header}; the file is cut off or damaged there, or a name holds the "
                "separator and needs quotes"
            )

    def shape(self) -> TextShape:
        return TextShape(self.header, self.fields or self.header, self.n_lines, self.ended)


def _check_quoted(opened: Callable[[], BinaryIO], delimiter: str, path: str) -> _Lines:
    """Do the same line by line, as quotes may hold separators and line ends."""
    found = _Lines(path)
    with file_errors(path), opened() as file:
        watched = _Watched(file, path)
        buffered = io.BufferedReader(watched, _BLOCK_BYTES)
        text = io.TextIOWrapper(buffered, encoding="utf-8", errors="replace", newline="")
        rows = csv.reader(text, delimiter=delimiter)
        before = 0
        while batch := list(itertools.islice(rows, 10_000)):
            counts = [0 if not "".join(row).strip() and len(row) < 2 else len(row) for row in batch]
            found.add(before + 1, np.array(counts), True)
            before = rows.line_num
    found.ended = watched.last in (b"\n", b"")
    return found


class _Watched(io.RawIOBase):
    """A binary file whose bytes are checked as they are read."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path, self._at, self.last = file, path, 0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._file.read(len(buffer))
        if (nul := part.find(b"\0")) >= 0:
            raise nul_error(self._path, self._at + nul)
        self._at += len(part)
        self.last = part[-1:] or self.last
        buffer[: len(part)] = part
        return len(part)
