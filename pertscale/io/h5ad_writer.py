"""Streams row blocks to an h5ad file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.errors import InputError

_CHUNK = 1 << 18  # elements: 1 MiB, what HDF5 caches of a dataset


@dataclass(frozen=True)
class WrittenBlock:
    """Rows of a CSR matrix: sorted column indices, values, and non-zeros per row."""

    values: NDArray[np.float32]
    indices: NDArray[np.int32]
    row_lengths: NDArray[np.int64]


def write_h5ad(
    path: Path,
    blocks: Iterable[WrittenBlock],
    *,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    compression: str | None,
) -> None:
    """Write ``obs``, ``var`` and, block by block, ``X`` as CSR of float32.

    Equal input gives equal bytes: HDF5 would note the time for each dataset if it were asked to.
    Memory: one block, besides the tables.
    """
    from anndata.io import write_elem  # half of the imports of a simulation, if it were on top

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", _with_plain_text(obs))
        write_elem(file, "var", _with_plain_text(var))
        _write_csr(file.create_group("X"), blocks, (len(obs), len(var)), compression)


def _with_plain_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn pandas' own strings into objects: old versions of AnnData can't read the former."""
    strings = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    plain = frame.astype(dict.fromkeys(strings, object))
    plain.index = pd.Index(frame.index.to_numpy(object), dtype=object, name=frame.index.name)
    for values in (plain.index, *(plain[name] for name in plain)):
        _check_text(values)
    return plain


def _check_text(values: Any) -> None:
    """Raise for names that HDF5 cuts off, or can't encode."""
    texts = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    is_text = texts.dtype == object or isinstance(texts.dtype, pd.StringDtype)
    for text in texts if is_text else ():
        if isinstance(text, str) and ("\0" in text or (not text.isprintable() and _is_half(text))):
            raise InputError(
                f"the name {text!r} has a NUL or half of a character in it, which no h5ad can "
                "hold; rename it where the screen comes from"
            )


def _is_half(text: str) -> bool:
    return any("\ud800" <= mark <= "\udfff" for mark in text)


def _write_csr(
    group: h5py.Group,
    blocks: Iterable[WrittenBlock],
    shape: tuple[int, int],
    compression: str | None,
) -> None:
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array(shape, np.int64)
    options: dict[str, Any] = {"chunks": (_CHUNK,), "track_times": False}
    options |= {"maxshape": (None,), "shape": (0,), "compression": compression}
    data = group.create_dataset("data", dtype=np.float32, **options)
    indices = group.create_dataset("indices", dtype=np.int32, **options)
    indptr = np.zeros(shape[0] + 1, np.int64)
    row = end = 0
    for block in blocks:
        bounds = end + np.cumsum(block.row_lengths)
        start, end = end, end + len(block.values)
        for dataset, values in ((data, block.values), (indices, block.indices)):
            dataset.resize((end,))
            dataset[start:end] = values
        indptr[row + 1 : row + 1 + len(bounds)] = bounds
        row += len(bounds)
    # SciPy's routines want both index arrays of one type, where the numbers allow it
    kind = np.int32 if end <= np.iinfo(np.int32).max else np.int64
    group.create_dataset("indptr", data=indptr.astype(kind), track_times=False)
