"""The second paper's directories: ``all_predictions.json`` and ``gene_names.json`` (method K1).

The JSON is read as a stream, an array at a time: 100 MB of indented text are never in memory, nor
are its numbers as Python objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.guards.json_files import read_json_file
from pertscale.predictions.files.prediction_table import (
    EXPRESSION,
    PredictionTable,
    checked_gene_names,
)

_PREDICTIONS: Final = "all_predictions.json"
_GENES: Final = "gene_names.json"
_CHUNK: Final = 1 << 20
#: How R and Python spell missing and infinite values as text; ``null`` is missing as well.
_WORDS: Final = {
    "NA": np.nan,
    "NaN": np.nan,
    "nan": np.nan,
    "": np.nan,
    "Inf": np.inf,
    "-Inf": -np.inf,
    "inf": np.inf,
    "-inf": -np.inf,
    "Infinity": np.inf,
    "-Infinity": -np.inf,
}


def is_prediction_folder(path: Path) -> bool:
    """Whether a folder holds the two files."""
    return (path / _PREDICTIONS).exists() and (path / _GENES).exists()


def read_folder(path: Path) -> list[PredictionTable]:
    """Read a directory of predictions; keys that repeat are kept as they come.

    Memory: float32 (conditions, genes), and the text of one array.
    """
    genes = checked_gene_names(_read_genes(path / _GENES), path / _GENES)
    names, rows, lost = [], [], []
    for key, values in stream_arrays(path / _PREDICTIONS):
        if len(values) != len(genes):
            raise InputError(
                f"{key!r} has {len(values)} values, {_GENES} names {len(genes)} genes ({path})"
            )
        if np.isnan(values).all():
            lost.append(key)
            continue
        names.append(key)
        rows.append(values)
    if not rows:
        raise InputError(f"{_PREDICTIONS} has no condition with a value ({path})")
    notes = (f"no value at all for {', '.join(map(repr, lost))}",) if lost else ()
    return [PredictionTable(EXPRESSION, tuple(names), genes, np.stack(rows), notes=notes)]


def _read_genes(path: Path) -> list[object]:
    found = read_json_file(path, "a list of gene names")
    found = [found] if isinstance(found, str) else found  # R writes one name without brackets
    if not isinstance(found, list):
        raise InputError(f"expected a list of gene names, found {type(found).__name__} ({path})")
    return found


def stream_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield key and float32 values of a JSON object of arrays, one at a time.

    Raises
    ------
    CorruptFileError
        The text ends early or is not such an object.
    """
    with path.open(encoding="utf-8") as file:
        text = _Text(file, path)
        text.expect("{")
        if text.skip("}"):
            return
        while True:
            key = text.value()
            if not isinstance(key, str):
                raise text.error("a key has to be text")
            text.expect(":")
            yield key, _as_row(text.value(), key, path)
            if text.skip("}"):
                return
            text.expect(",")


class _Text:
    """A JSON text that is read only as far as needed."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = json.JSONDecoder(parse_constant=_WORDS.__getitem__)
        self._held = ""
        self._ended = False

    def error(self, what: str) -> CorruptFileError:
        return CorruptFileError(f"not a complete JSON object of arrays: {what} ({self._path})")

    def _more(self) -> bool:
        try:
            chunk = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise self.error(str(error)) from error
        self._held += chunk
        self._ended = not chunk
        return bool(chunk)

    def _next(self) -> str:
        """Return the next character that is no white space; empty at the end."""
        while True:
            self._held = self._held.lstrip()
            if self._held:
                return self._held[0]
            if not self._more():
                return ""

    def skip(self, mark: str) -> bool:
        """Pass over a character if it comes next."""
        there = self._next() == mark
        if there:
            self._held = self._held[1:]
        return there

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            raise self.error(f"expected {mark!r}, found {self._held[:20]!r}")

    def value(self) -> object:
        """Return the next value: text, number, or a list of these."""
        opening = self._next()
        closing = {"[": "]", '"': '"'}.get(opening, "")
        start = 1
        while closing and (end := self._held.find(closing, start)) < 0:
            start = len(self._held)
            if not self._more():
                raise self.error("the text ends inside a value")
        if not closing:  # a bare number: its end is what follows it
            while not self._ended and not any(mark in self._held for mark in ",}"):
                self._more()
        try:
            found, stop = self._decoder.raw_decode(self._held)
        except (ValueError, RecursionError) as error:
            if closing and "\\" in self._held[: end + 1] and self._more():
                return self.value()  # an escaped quote in a key
            raise self.error(f"{error} near {self._held[:20]!r}") from error
        self._held = self._held[stop:]
        return found


def _as_row(value: object, key: str, path: Path) -> np.ndarray:
    listed = value if isinstance(value, list) else [value]  # R writes one number without brackets
    try:
        return np.array(listed, np.float32)  # also turns None into NaN
    except (ValueError, TypeError):
        return np.array([_number(v, key, path) for v in listed], np.float32)


def _number(value: object, key: str, path: Path) -> float:
    if value is None:
        return np.nan
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise InputError(f"{key!r} holds {value!r}, a number is needed ({path})")
