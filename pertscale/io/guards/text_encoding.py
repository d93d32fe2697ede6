"""The encoding of a text file: UTF-8, or Windows-1252, which older programs still write."""

from __future__ import annotations

import codecs
import warnings
from functools import lru_cache
from typing import BinaryIO, Final

from pertscale.errors import CorruptFileError, PertscaleWarning
from pertscale.io.guards.text_tables import nul_error

UTF8: Final = "utf-8-sig"
WINDOWS: Final = "cp1252"
#: Characters besides letters that a table of names and numbers may have.
_MARKS: Final = frozenset("°±²³·×–—‘’“”…\xa0")
_CONTROL: Final = [bytes([byte]) for byte in range(32) if byte not in b"\t\n\r"]
_BLOCK_BYTES: Final = 1 << 20
_SHOWN: Final = 12


def encoding_of(file: BinaryIO, path: object, *, lines: bool = False) -> str:
    """Return the encoding of a text: UTF-8, or Windows-1252 where it is not, with a warning.

    Parameters
    ----------
    file
        Open at its first byte; read to its end.
    path
        For messages.
    lines
        Whether its last line has to end as the others do; where it does not, there is a warning.

    Raises
    ------
    CorruptFileError
        It has NUL bytes, is neither, or both: special characters of UTF-8, and bytes that are none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    special, unusual, control, around = False, False, False, b""
    block, n_bytes, last = b"-", 0, b"\n"
    while block:
        block = file.read(_BLOCK_BYTES)
        if (nul := block.find(b"\0")) >= 0:
            raise nul_error(str(path), n_bytes + nul)
        n_bytes, last = n_bytes + len(block), block[-1:] or last
        text = decoder.decode(block, final=not block)
        control |= any(mark in block for mark in _CONTROL)
        if text.isascii():
            continue
        # bytes that are no UTF-8 are in the text as surrogates
        strange = [at for at, c in enumerate(text) if "\udc80" <= c <= "\udcff"]
        special |= len(strange) < sum(c > "\x7f" for c in text)
        unusual |= any(not _is_written(ord(text[at]) - 0xDC00) for at in strange)
        if strange and not around:
            shown = text[max(0, strange[0] - _SHOWN) : strange[0] + _SHOWN]
            around = shown.encode("utf-8", "surrogateescape")
    if lines and last not in b"\r\n":
        warn_of_the_end(path)
    if not around:
        return UTF8
    if special or unusual or control:
        raise CorruptFileError(
            f"not a complete text file: neither UTF-8 nor Windows-1252, near {around!r}; it is "
            f"damaged or no text: copy or write it again ({path})"
        )
    warnings.warn(
        f"{path} is no UTF-8; it is read as Windows-1252, where its first special character is in "
        f"{around.decode(WINDOWS, 'replace')!r}; if that is not what it should be, write it as "
        "UTF-8",
        PertscaleWarning,
        stacklevel=2,
    )
    return WINDOWS


def warn_of_the_end(path: object) -> None:
    """Warn that the last line of a file has no line end."""
    warnings.warn(
        f"the last line of {path} has no line end: if the file was cut off there, its last value "
        "is not whole and the rows after it are missing",
        PertscaleWarning,
        stacklevel=3,
    )


@lru_cache(maxsize=256)
def _is_written(byte: int) -> bool:
    """Whether a byte is a character that people use in Windows-1252: a letter, or a usual mark."""
    character = bytes([byte]).decode(WINDOWS, "replace")
    return character.isalpha() or character in _MARKS
