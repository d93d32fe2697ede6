"""Vectors of single cells in h5ad files, in blocks, with the perturbation of every cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.errors import AmbiguousInputError, InputError
from pertscale.io.labels import text_categories
from pertscale.io.long_tables import SPELLINGS
from pertscale.io.places import input_path
from pertscale.io.sources import SourceSpec, open_source
from pertscale.io.sources.h5ad import open_hdf5
from pertscale.schema import PERTURBATION

Vectors = np.ndarray[Any, np.dtype[np.float64]]
#: Vectors that are in memory at a time.
_VECTOR_BYTES: Final = 64_000_000


def read_cell_vectors(
    path: str | os.PathLike[str], *, key: str | None, perturbation: str | None
) -> tuple[pd.Categorical, Iterator[Vectors], str]:
    """Return the labels of cells, an iterator over their vectors in blocks, and where these are.

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    AmbiguousInputError
        There are several entries, and `key` is not given.
    InputError
        There is no such entry, or no column of perturbations.
    """
    path = input_path(path, "a file of cells")
    with open_source(SourceSpec(str(path.absolute()), "h5ad")) as source:
        lower = {name.lower(): name for name in source.cell_columns()}
        column = perturbation or next(
            (lower[s] for s in SPELLINGS[PERTURBATION] if s in lower), None
        )
        if column is None:
            raise InputError(
                f"no column of perturbations among {', '.join(lower.values()) or 'none'}; pass "
                f"perturbation= ({path})"
            )
        labels = text_categories(source.cell_column(column))
    with open_hdf5(str(path)) as file:
        there = sorted(file["obsm"]) if "obsm" in file else []
        if key is None and len(there) > 1:
            raise AmbiguousInputError(
                f"several entries in obsm: {', '.join(there)}; name one with key= ({path})"
            )
        entry = key or (there[0] if there else "X")
        place = "X" if entry == "X" else f"obsm/{entry.removeprefix('obsm/')}"
        if place not in file or not hasattr(file[place], "dtype") or file[place].ndim != 2:
            raise InputError(
                f"{place} is no array of vectors; obsm has {', '.join(there) or 'nothing'} ({path})"
            )
    return labels, _vector_blocks(path, place), place


def _vector_blocks(path: Path, place: str) -> Iterator[Vectors]:
    with open_hdf5(str(path)) as file:
        array = file[place]
        step = max(1, _VECTOR_BYTES // (8 * array.shape[1]))
        for start in range(0, array.shape[0], step):
            yield np.asarray(array[start : start + step], np.float64)
