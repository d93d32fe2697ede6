"""Several files as one screen: their paths, their columns end to end, their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, NotFoundError
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import CellColumns
from pertscale.io.sources import SourceSpec, find_source, open_source
from pertscale.storage.locations import check_path, local_path

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class SourceSet:
    """Files that are read as one screen, their cells end to end, in the order given.

    Attributes
    ----------
    specs : tuple of SourceSpec
        What tasks get, one at a time.
    """

    specs: tuple[SourceSpec, ...]

    @classmethod
    def find(
        cls,
        source: PathLike | Sequence[PathLike],
        *,
        layer: str | None = None,
        cells: PathLike | None = None,
        scratch: Path | None = None,
    ) -> SourceSet:
        """Resolve a path, a glob, or a list of these, in the order given (globs sorted)."""
        paths = source_paths(source)
        if not paths:
            raise ArgumentError("no source was given; pass a path, a glob or a list of paths")
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ArgumentError(f"{twice[0]} was given twice; its cells would count twice")
        if len(paths) > 1 and cells is not None:
            raise ArgumentError("cells= names one table of cells, but there are several sources")
        table = None if cells is None else os.fspath(cells)
        folders = [None if scratch is None else scratch / f"text-{i}" for i in range(len(paths))]
        return cls(
            tuple(
                find_source(path, matrix=layer, cells=table, scratch=folder)
                for path, folder in zip(paths, folders, strict=True)
            )
        )

    def __iter__(self) -> Iterator[SourceSpec]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def where(self) -> str:
        """All paths, for messages."""
        return ", ".join(spec.path for spec in self.specs)

    @cached_property
    def columns(self) -> CellColumns:
        """The columns that all files have; names are read once, values whenever one is loaded."""
        names: list[str] = []
        for i, spec in enumerate(self.specs):
            with open_source(spec) as source:
                of_file = source.cell_columns()
            names = of_file if i == 0 else [name for name in names if name in of_file]
        return CellColumns(tuple(names), self._load, self.where)

    def _load(self, name: str) -> pd.Series:
        parts = []
        for spec in self.specs:
            with open_source(spec) as source:
                parts.append(source.cell_column(name))
        if len(parts) == 1:
            return parts[0]
        if all(pd.api.types.is_numeric_dtype(part.dtype) for part in parts):
            return pd.concat(parts, ignore_index=True)
        texts = [pd.Series(text_categories(part).astype(object)) for part in parts]
        return pd.concat(texts, ignore_index=True).astype("category")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Short unique names: the stems of the files, with the folder if need be."""
        paths = [_named_path(spec) for spec in self.specs]
        stems = [path.name.split(".")[0] for path in paths]
        if len(set(stems)) < len(stems):
            stems = [f"{p.parent.name}_{stem}" for p, stem in zip(paths, stems, strict=True)]
        if len(set(stems)) < len(stems):
            stems = [f"{stem}_{i}" for i, stem in enumerate(stems)]
        return tuple(stems)

    @cached_property
    def file_names(self) -> tuple[str, ...]:
        """Names of the files as users know them; `names` where two are the same."""
        files = tuple(_named_path(spec).name for spec in self.specs)
        return files if len(set(files)) == len(files) else self.names

    def cell_names(self) -> tuple[np.ndarray, list[str]]:
        """Return unique names of all input cells, and sentences on what was done to make them so.

        Where two files share a name, all are prefixed by their file's name; a name that stands
        twice in one file becomes NAME-1.
        """
        parts = []
        for spec in self.specs:
            with open_source(spec) as source:
                parts.append(source.cell_names())
        joined = np.concatenate(parts)
        notes = []
        if len(parts) > 1 and len(np.unique(joined)) < len(joined):
            joined = np.concatenate(
                [
                    np.strings.add(f"{name}:", part)
                    for name, part in zip(self.names, parts, strict=True)
                ]
            )
            notes.append(
                "cells: the files share names of cells, so all are prefixed by the file's name"
            )
        n_twice = len(joined) - len(np.unique(joined))
        if n_twice:
            notes.append(f"cells: {n_twice:,} names stand twice; the later ones are kept as NAME-1")
            joined = unique_names(joined).astype(np.dtypes.StringDType())
        return joined, notes


def source_paths(source: PathLike | Sequence[PathLike]) -> list[str]:
    """Return the paths that a path, a glob, or a list of these stands for."""
    listed = _listed(source)
    return [
        path for item in listed for path in _expand(str(local_path(item, "a source of ingest")))
    ]


def _listed(source: Any) -> list[PathLike]:
    """Return one path or several as a list; nothing else that can be iterated over is files."""
    if isinstance(source, list | tuple):
        return list(source)
    check_path(source, "the path of a file, or a list of these")
    return [source]


def _expand(path: str) -> list[str]:
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    paths = sorted(glob.glob(path))  # noqa: PTH207  (the pattern may be absolute)
    if not paths:
        raise NotFoundError(f"no file matches {path!r}")
    return paths


def _named_path(spec: SourceSpec) -> Path:
    """Return the file, or the folder of a matrix.mtx: all of those are called the same."""
    path = Path(spec.path)
    return path.parent if path.name in ("matrix.mtx", "matrix.mtx.gz") else path


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
