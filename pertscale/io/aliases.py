"""Tables of aliases: other names of genes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.json_files import read_json_file
from pertscale.io.limits import check_parquet
from pertscale.io.places import input_path

Aliases = str | os.PathLike[str] | Mapping[str, str]


def read_aliases(aliases: Aliases) -> dict[str, str]:
    """Return other name → name, from a mapping, a JSON object, or a table of two columns.

    Raises
    ------
    NotFoundError, CorruptFileError
        There is no such file, or it is damaged.
    InputError
        It does not have two columns, or one alias stands for two names.
    """
    if isinstance(aliases, Mapping):
        return {str(k): str(v) for k, v in aliases.items()}
    path = input_path(aliases, "a table of aliases")
    try:
        pairs = _read_pairs(path)
    except InputError:
        raise
    except (ValueError, OSError, csv.Error) as error:
        raise CorruptFileError(f"not a table of aliases: {error} ({path})") from error
    found: dict[str, str] = {}
    for pair in pairs:
        if len(pair) != 2:
            raise InputError(
                f"a table of aliases has two columns, other name and name; found {list(pair)} "
                f"({path})"
            )
        other, name = map(str, pair)
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
        check_parquet(path)
        return list(pd.read_parquet(path).itertuples(index=False, name=None))
    separator = "\t" if path.suffix in (".tsv", ".txt") else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter=separator) if row]
    return rows[1:]  # the first line names the columns
