"""Text files: delimiters, headers, lines, and copies of gzipped ones that can be cut."""

from __future__ import annotations

import atexit
import csv
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import open_gzip

#: Endings of text tables; each also with ``.gz``.
TABLE_ENDINGS = (".csv", ".tsv", ".txt")
_COPY_BYTES = 1 << 20
#: Headers of a column of names, which are not names: ``barcode``, ``cell_id``, ``Gene Symbol``.
_HEADER_WORD = re.compile(
    r"(cell|gene|feature|barcode|sample|spot|ensembl|obs|var|row|col)s?"
    r"(id|name|symbol|barcode|index|shortname)?s?|symbols?"
)
#: Possible headers: R's name of a vector, pandas' of a series and of an index.
_INDEX_WORDS = frozenset({"", "x", "v1", "0", "id", "name", "names", "index", "unnamed0"})


def ending(path: Path) -> str:
    """Return the ending that tells the format: ``.csv`` for ``a.csv.gz``."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def open_text(path: Path) -> BinaryIO:
    """Open a text file, gzipped or not (told by content), for reading bytes."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return open_gzip(path) if zipped else path.open("rb")


def first_lines(path: Path, n: int) -> list[bytes]:
    """Return up to `n` lines without their ends."""
    with file_errors(str(path)), open_text(path) as text:
        return [line.rstrip(b"\r\n") for line, _ in zip(text, range(n), strict=False)]


def delimiter_of(line: bytes) -> str:
    """Return the delimiter that occurs most in a line: tab, comma or semicolon."""
    return max("\t,;", key=lambda mark: line.count(mark.encode()))


def split_line(line: bytes, delimiter: str) -> list[str]:
    """Split one line of a table; quotes around fields and a byte order mark are removed."""
    return next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], delimiter=delimiter), [])


def is_header_word(text: str) -> bool:
    """Whether a field can only be the header of a column of names, not a name of a cell or gene."""
    return _HEADER_WORD.fullmatch(_letters(text)) is not None


def is_index_name(text: str) -> bool:
    """Whether a field may head the column of the names of cells or genes."""
    return is_header_word(text) or _letters(text) in _INDEX_WORDS


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def plain_copy(path: Path, scratch: Path | None) -> Path:
    """Return a file that can be read from any byte: `path` itself, or an unzipped copy.

    The copy is streamed into `scratch` and used again while the original keeps its size and
    time. Without `scratch` it goes to a temporary folder that is removed when Python ends;
    workers on other machines don't see that one.
    """
    with path.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            return path
    if scratch is None:
        scratch = Path(tempfile.mkdtemp(prefix="pertscale-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    state = path.stat()
    mark = hashlib.sha256(f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}".encode())
    copy = scratch / f"{mark.hexdigest()[:16]}-{path.name.removesuffix('.gz')}"
    if not copy.exists():
        part = copy.with_name(f".{copy.name}.{os.getpid()}")
        try:
            with file_errors(f"{path} (gzip)"), open_gzip(path) as source, part.open("wb") as to:
                shutil.copyfileobj(source, to, _COPY_BYTES)
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)
    return copy
