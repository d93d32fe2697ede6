"""Text matrices: gzipped ones are unzipped, and truncated ones warned of, before they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.text_encoding import warn_of_the_end
from pertscale.io.guards.text_files import plain_copy
from pertscale.io.sources._base import TEXT_COPY, SourceChoices, SourceSpec

#: Option: whether the rows of the text are genes.
GENES_BY_CELLS: Final = "genes_by_cells"


def text_spec(path: Path, format_: str, choices: SourceChoices) -> SourceSpec:
    """Return the spec of a text matrix, unzipped if need be; warn where its end is missing."""
    text = plain_copy(path, choices.scratch)
    _check_end(text, path)
    options: dict[str, str | bool] = {} if text == path else {TEXT_COPY: str(text)}
    return SourceSpec(str(path), format_, cells=choices.cells, options=options)


def _check_end(text: Path, path: Path) -> None:
    """Warn where the last line of a matrix is incomplete: a count may have lost digits."""
    with file_errors(str(path)), text.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, n_bytes - 1))
        last = file.read()
    if last not in b"\r\n":
        warn_of_the_end(path)


def genes_by_cells(spec: SourceSpec) -> bool:
    """Whether the rows of a text matrix are genes."""
    return bool(spec.options.get(GENES_BY_CELLS))
