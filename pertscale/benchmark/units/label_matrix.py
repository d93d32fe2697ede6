"""The labels of a context as one matrix on disk, which its units share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np
import pandas as pd
import zarr

from pertscale._computing import store
from pertscale.benchmark.units.held import held_arrays
from pertscale.benchmark.units.kept import is_kept, keeping
from pertscale.benchmark.units.portable import Portable, once
from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.io.store.layout import ALL_CHUNKS
from pertscale.schema import GENE, PERTURBATION, Label
from pertscale.stats.label_confidence import CONFIDENT, confident_labels, null_of
from pertscale.stats.labels.table import LabelTable
from pertscale.storage.folder_names import slug
from pertscale.versions import CONFIDENCE_VERSION

if TYPE_CHECKING:
    import xarray as xr

#: Genes of a block of the label matrix: what kNN and the scores hold at a time.
GENE_CHUNK = 512
#: Of the label matrix, what is in memory while it is written: a byte per pair.
BAND_BYTES = 256_000_000
#: Bytes up to which a matrix or a prediction is held as a whole: a graph of blocks would take
#: longer than the work.
HELD_BYTES = 2**27
#: Bytes of a predicted pair: its label and class scores.
PAIR_BYTES = 13
#: Pairs of a strip of rows of a prediction: what is ranked within perturbations at a time.
STRIP_PAIRS = 5_000_000
#: Attribute of a label matrix: how many of its pairs have a label.
_N_LABELS: Final = "n_labels"
#: Pairs of a chunk on disk of a prediction that is held.
CHUNK_PAIRS = 2**21


@dataclass(frozen=True)
class LabelMatrix(Portable):
    """Labels of one context as an int8 Zarr array, chunked along genes.

    Methods and scores go through a large one gene block by gene block; a small one is held.
    """

    path: Any
    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    key: str

    def rows(self, names: Sequence[str]) -> Any:
        """Labels of some perturbations; of a large matrix lazily, one chunk of rows."""
        lazy = self._lazy
        if is_held(lazy.size):
            lazy = held_arrays.get(("labels", str(self.path)), lazy.size, lambda: lazy[:])
        return lazy[self._index.get_indexer(list(names))]

    @once
    def _lazy(self) -> Any:
        array: Any = zarr.open_array(self.path, mode="r")
        return array if is_held(array.size) else da.from_zarr(array)

    @once
    def _index(self) -> pd.Index:
        return pd.Index(self.perturbations)


def label_matrix(
    labels: LabelTable, context: str, folder: Path, *, write: bool = True
) -> LabelMatrix:
    """Write the labels of a context, unless that is done; see :class:`LabelMatrix`."""
    path = folder / f"{slug(context)}-{labels.key[:12]}.zarr"
    return _written(labels.matrix(context), path, digest(labels.key, context), write=write)


def confident_matrix(
    labels: LabelTable, context: str, folder: Path, *, write: bool = True
) -> LabelMatrix:
    """Write those labels of a context that are likely right (method P4); others are not tested.

    Raises
    ------
    InputError
        If there are none.
    """
    assert labels.path is not None
    null = null_of(labels.path, context)
    key = digest(CONFIDENCE_VERSION, labels.key, context, null)
    path = folder / f"{slug(context)}-{key[:12]}.zarr"
    if not write or is_kept(path):
        matrix = labels.matrix(context)  # its names
    else:
        matrix = confident_labels(labels, context, null)
    found = _written(matrix, path, key, write=write)
    if write and not zarr.open_array(path, mode="r").attrs[_N_LABELS]:
        raise InputError(
            f"no label is likely right, with a confidence of {CONFIDENT:g} and more: there are too "
            "few cells to see effects, or too few pairs"
        )
    return found


def _written(matrix: xr.DataArray, path: Path, key: str, *, write: bool) -> LabelMatrix:
    """Write labels, unless that is done."""
    if write and not is_kept(path):
        with keeping(path) as temporary:
            array = zarr.create_array(
                temporary,
                shape=matrix.shape,
                chunks=(max(1, matrix.shape[0]), min(GENE_CHUNK, matrix.shape[1])),
                dtype=np.int8,
                config=ALL_CHUNKS,
            )
            n_labels = 0
            width = max(1, BAND_BYTES // max(1, matrix.shape[0] * GENE_CHUNK)) * GENE_CHUNK
            for start in range(0, matrix.shape[1], width):
                lazy = matrix.data[:, start : start + width]
                band = np.empty(lazy.shape, np.int8)
                # chunks span all rows, so this process collects them
                store([lazy], [band])
                array[:, start : start + width] = band
                n_labels += int((band != Label.UNTESTED).sum())
            array.update_attributes({_N_LABELS: n_labels})
    return LabelMatrix(
        path,
        tuple(matrix[PERTURBATION].values),
        tuple(matrix[GENE].values),
        key,
    )


def is_held(n_bytes: int) -> bool:
    """Whether so much is held in memory, and not gone through block by block."""
    return n_bytes <= HELD_BYTES


def strip_rows(n_rows: int, n_genes: int) -> int:
    """Perturbations of a strip, and so of a chunk on disk of a prediction that is lazy."""
    return _even(n_rows, n_genes, STRIP_PAIRS)


def chunk_rows(n_rows: int, n_genes: int) -> int:
    """Perturbations of a chunk on disk of a prediction that is held.

    A chunk has all genes: it lies in memory as it is written, and there are few files.
    """
    return _even(n_rows, n_genes, CHUNK_PAIRS)


def _even(n_rows: int, n_genes: int, most_pairs: int) -> int:
    """Rows of parts of about equal size, of up to so many pairs each."""
    n_rows = max(1, n_rows)
    return -(-n_rows // -(-n_rows * n_genes // most_pairs))
