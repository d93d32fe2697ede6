"""Tables of aliases: other names of genes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pertscale.errors import ArgumentError, InputError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.json_files import read_json_file
from pertscale.io.guards.text_encoding import encoding_of
from pertscale.io.long_tables import as_names
from pertscale.io.parquet import read_parquet
from pertscale.storage.locations import input_path

Aliases = str | os.PathLike[str] | Mapping[str, str]


def read_aliases(aliases: Aliases | None) -> dict[str, str]:
    """Return other name → name, from a mapping, a JSON object, or a table of two columns.

    Without aliases there are none.

    Raises
    ------
    NotFoundError, CorruptFileError
        There is no such file, or it is damaged.
    InputError
        It does not have two columns, or one alias stands for two names.
    """
    if aliases is None:
        return {}
    if isinstance(aliases, Mapping):
        wrong = [pair for pair in aliases.items() if not all(isinstance(w, str) for w in pair)]
        if wrong:
            raise ArgumentError(f"aliases= has {wrong[0]!r}; both have to be names, as text")
        return dict(aliases)
    path = input_path(aliases, "a table of aliases")
    with file_errors(str(path)):
        pairs = _read_pairs(path)
    found: dict[str, str] = {}
    for pair in pairs:
        if len(pair) != 2:
            raise InputError(
                f"a table of aliases has two columns, other name and name; found {list(pair)} "
                f"({path})"
            )
        other, name = pair
        if not all(isinstance(word, str) and word for word in pair):
            raise InputError(
                f"{other!r} stands for {name!r}; both have to be names, as text ({path})"
            )
        if found.setdefault(other, name) != name:
            raise InputError(f"{other!r} stands for {found[other]!r} and for {name!r} ({path})")
    return found


def _read_pairs(path: Path) -> Iterable[Sequence[Any]]:
    if path.suffix == ".json":
        content = read_json_file(path, "a table of aliases")
        if not isinstance(content, dict):
            raise InputError(f"a JSON object is needed, found {type(content).__name__} ({path})")
        return list(content.items())
    if path.suffix == ".parquet":
        table = read_parquet(path)
        names = [as_names(table.iloc[:, at], path) for at in range(table.shape[1])]
        return list(zip(*names, strict=True))
    separator = "\t" if path.suffix in (".tsv", ".txt") else ","
    with path.open("rb") as packed:
        encoding = encoding_of(packed, path, lines=True)
    with path.open(encoding=encoding, newline="") as file:
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
    return rows[1:]  # the first line names the columns
