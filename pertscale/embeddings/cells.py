"""Vectors of single cells in h5ad files, in blocks, with the perturbation of every cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import AmbiguousInputError, InputError
from pertscale.io.guards.damage import file_errors, naming_file
from pertscale.io.guards.hdf5 import check_own, open_hdf5
from pertscale.io.guards.limits import check_dense, checked_array
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.long_tables import column_of
from pertscale.io.sources import find_source, open_source
from pertscale.schema import PERTURBATION
from pertscale.storage.locations import input_path

if TYPE_CHECKING:
    pass

#: Vectors that are in memory at a time.
_VECTOR_BYTES: Final = 64_000_000


def read_cell_vectors(
    path: str | os.PathLike[str], *, key: str | None, perturbation: str | None
) -> tuple[pd.Categorical, Iterator[NDArray[np.float64]], str]:
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
    with open_source(find_source(path)) as source:
        columns = source.cell_columns()
        column = perturbation or column_of(PERTURBATION, columns)
        if column is None:
            raise InputError(
                f"no column of perturbations among {', '.join(columns) or 'none'}; pass "
                f"perturbation= ({path})"
            )
        labels = text_categories(source.cell_column(column))
    with file_errors(str(path)), open_hdf5(str(path)) as file:
        there = sorted(file["obsm"]) if "obsm" in set(file) else []
        if key is None and len(there) > 1:
            raise AmbiguousInputError(
                f"several entries in obsm: {', '.join(there)}; name one with key= ({path})"
            )
        entry = key or (there[0] if there else "X")
        dataset = "X" if entry == "X" else f"obsm/{entry.removeprefix('obsm/')}"
        check_own(file, [dataset], str(path))
        array = file.get(dataset)
        if getattr(array, "ndim", 0) != 2 or array.dtype.kind not in "biuf" or not array.shape[1]:
            found = "" if array is None else f" (found {_described(array)})"
            raise InputError(
                f"{dataset} is not an array of vectors{found}; obsm has "
                f"{', '.join(there) or 'nothing'} ({path})"
            )
        checked_array(array, f"{path}, {dataset}", whole=False)
        if array.shape[0] != len(labels):
            raise InputError(
                f"{dataset} has {array.shape[0]:,} vectors for {len(labels):,} cells ({path})"
            )
        check_dense((1, array.shape[1]), np.float64, f"{path}, {dataset}")
    return labels, _vector_blocks(path, dataset), dataset


def _described(node: Any) -> str:
    shape = getattr(node, "shape", None)
    return "a group" if shape is None else f"{node.dtype} {' x '.join(map(str, shape))}"


def _vector_blocks(path: Path, dataset: str) -> Iterator[NDArray[np.float64]]:
    with open_hdf5(str(path)) as file:
        array = file[dataset]
        step = max(1, _VECTOR_BYTES // (8 * array.shape[1]))
        for start in range(0, array.shape[0], step):
            with file_errors(f"{path}, {dataset}, rows from {start:,}"):
                block = np.asarray(array[start : start + step], np.float64)
            if not np.isfinite(block).all():
                row = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                raise InputError(f"the vector of row {row:,} is not finite in {dataset} ({path})")
            yield block


@checked
def from_cells(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    perturbation: str | None = None,
    name: str | None = None,
) -> Embedding:
    """Embed perturbations by the mean vector of their cells: Geneformer, UCE, scBERT (method K2).

    Parameters
    ----------
    path
        ``.h5ad`` with a vector per cell (or per condition) in ``obsm`` or ``X``; read in blocks.
    key
        Entry of ``obsm``, or ``"X"``; by default the only entry, or ``X`` where there is none.
    perturbation
        Column of perturbations, where it can't be told by its name.
    name
        Name of the embedding, by default the file's.

    Returns
    -------
    Embedding
        A vector per perturbation, names in their canonical spelling; the control is ``control``.

    Raises
    ------
    AmbiguousInputError
        There are several entries, and `key` is not given.
    InputError
        There are no vectors, or no labels.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> import anndata
    >>> obs = pd.DataFrame({"perturbation": ["GATA1", "GATA1", "ctrl"]}, index=["c1", "c2", "c3"])
    >>> cells = anndata.AnnData(np.zeros((3, 1)), obs)
    >>> cells.obsm["X_uce"] = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    >>> cells.write_h5ad("uce.h5ad")
    >>> ps.embeddings.from_cells("uce.h5ad").vectors(["GATA1"])
    array([[2., 0.]])
    """
    labels, blocks, how = read_cell_vectors(path, key=key, perturbation=perturbation)
    texts = [str(c) for c in labels.categories]
    with naming_file(path):
        grammar = perturbation_names.Grammar.of(
            texts, (), filter(perturbation_names.is_control_word, texts)
        )
        parsed = [grammar.parse(text) for text in texts]
    names = sorted({perturbation_names.name_of(p) for p in parsed if p is not None})
    row = {found: i for i, found in enumerate(names)}
    way = np.array([-1 if p is None else row[perturbation_names.name_of(p)] for p in parsed] + [-1])
    total, count = None, np.zeros(len(names))
    start = 0
    for block in blocks:
        at = way[labels.codes[start : start + len(block)]]
        start += len(block)
        total = np.zeros((len(names), block.shape[1])) if total is None else total
        np.add.at(total, at[at >= 0], block[at >= 0])
        count += np.bincount(at[at >= 0], minlength=len(names))
    if total is None or not names:
        raise InputError(f"no labelled vectors found ({path})")
    provenance = {"file": Path(path).name, "read as": f"mean over cells of {how}"}
    with naming_file(path):
        return Embedding(
            name or Path(path).name.split(".")[0], tuple(names), total / count[:, None], provenance
        )
