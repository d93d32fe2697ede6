"""Several files as one screen: their paths, their columns end to end, their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, NotFoundError
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import CellColumns
from pertscale.io.sources import SourceSpec, find_source, open_source
from pertscale.storage.files import state_of
from pertscale.storage.locations import check_path, local_path

PathLike = str | os.PathLike[str]


def find_sources(
    source: PathLike | Sequence[PathLike],
    *,
    layer: str | None,
    cells: PathLike | None,
    scratch: Path | None,
) -> tuple[SourceSpec, ...]:
    """Resolve a path, a glob, or a list of these to sources, in the order given (globs sorted)."""
    paths: list[str] = []
    for item in _listed(source):
        paths += _expand(str(local_path(item, "a source of ingest")))
    if not paths:
        raise ArgumentError("no source was given; pass a path, a glob or a list of paths")
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ArgumentError(f"{twice[0]} was given twice; its cells would count twice")
    if len(paths) > 1 and cells is not None:
        raise ArgumentError("cells= names one table of cells, but there are several sources")
    return tuple(
        find_source(
            path,
            matrix=layer,
            cells=os.fspath(cells) if cells is not None else None,
            scratch=None if scratch is None else scratch / f"text-{i}",
        )
        for i, path in enumerate(paths)
    )


def _listed(source: Any) -> list[PathLike]:
    """Return one path or several as a list; nothing else that can be iterated over is files."""
    if isinstance(source, list | tuple):
        return list(source)
    check_path(source, "the path of a file, or a list of these")
    return [source]


def _expand(path: str) -> list[str]:
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    found = sorted(glob.glob(path))  # noqa: PTH207  (the pattern may be absolute)
    if not found:
        raise NotFoundError(f"no file matches {path!r}")
    return found


def source_states(source: PathLike | Sequence[PathLike]) -> list[list[Any]]:
    """Name, size and time of all files of sources: tell whether they have changed."""
    states = []
    for path in (Path(found) for item in _listed(source) for found in _expand(os.fspath(item))):
        states += [[str(file), size, time] for file, size, time in state_of(path)]
    return states


def joined_columns(specs: Sequence[SourceSpec]) -> CellColumns:
    """Return the columns that all sources have, end to end."""
    names: list[str] = []
    for i, spec in enumerate(specs):
        with open_source(spec) as source:
            mine = source.cell_columns()
        names = mine if i == 0 else [n for n in names if n in mine]

    def load(name: str) -> pd.Series:
        parts = [_column(spec, name) for spec in specs]
        if len(parts) == 1:
            return parts[0]
        if all(pd.api.types.is_numeric_dtype(part.dtype) for part in parts):
            return pd.concat(parts, ignore_index=True)
        texts = [pd.Series(text_categories(part).astype(object)) for part in parts]
        return pd.concat(texts, ignore_index=True).astype("category")

    return CellColumns(tuple(names), load, ", ".join(spec.path for spec in specs))


def _column(spec: SourceSpec, name: str) -> pd.Series:
    with open_source(spec) as source:
        return source.cell_column(name)


# --- names ----------------------------------------------------------------------------------------


def source_names(specs: Sequence[SourceSpec]) -> list[str]:
    """Short unique names of the sources: the stems of their files, with the folder if need be."""
    places = [_place(spec) for spec in specs]
    stems = [path.name.split(".")[0] for path in places]
    if len(set(stems)) < len(stems):
        stems = [f"{p.parent.name}_{stem}" for p, stem in zip(places, stems, strict=True)]
    if len(set(stems)) < len(stems):
        stems = [f"{stem}_{i}" for i, stem in enumerate(stems)]
    return stems


def file_names(specs: Sequence[SourceSpec]) -> list[str]:
    """Names of the files as users know them; :func:`source_names` where two are the same."""
    names = [_place(spec).name for spec in specs]
    return names if len(set(names)) == len(names) else source_names(specs)


def _place(spec: SourceSpec) -> Path:
    """Return the file, or the folder of a matrix.mtx: all of those are called the same."""
    path = Path(spec.path)
    return path.parent if path.name in ("matrix.mtx", "matrix.mtx.gz") else path


def cell_names(specs: Sequence[SourceSpec]) -> tuple[np.ndarray, list[str]]:
    """Return unique names of all input cells, and sentences on what was done to make them so.

    Where two files share a name, all are prefixed by their file's name; a name that stands twice
    in one file becomes NAME-1.
    """
    parts = []
    for spec in specs:
        with open_source(spec) as source:
            parts.append(source.cell_names())
    joined = np.concatenate(parts)
    notes = []
    if len(parts) > 1 and len(np.unique(joined)) < len(joined):
        stems = source_names(specs)
        joined = np.concatenate(
            [np.strings.add(f"{stem}:", part) for stem, part in zip(stems, parts, strict=True)]
        )
        notes.append(
            "cells: the files share names of cells, so all are prefixed by the file's name"
        )
    n_twice = len(joined) - len(np.unique(joined))
    if n_twice:
        notes.append(f"cells: {n_twice:,} names stand twice; the later ones are kept as NAME-1")
        joined = unique_names(joined).astype(np.dtypes.StringDType())
    return joined, notes


def unique_names(names: Iterable[Any]) -> np.ndarray:
    """Make names unique: the first keeps its name, the next becomes NAME-1 (method A5)."""
    listed = [str(name) for name in names]
    taken = set(listed)
    seen: dict[str, int] = {}
    unique = []
    for name in listed:
        candidate = name
        if name in seen:
            number = seen[name] + 1
            while (candidate := f"{name}-{number}") in taken:
                number += 1
            taken.add(candidate)
            seen[name] = number
        else:
            seen[name] = 0
        unique.append(candidate)
    return np.array(unique, dtype=object)
