"""What h5ad files and AnnData-Zarr stores share: the AnnData layout in a group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem

from pertscale.buffers import Buffers
from pertscale.errors import CorruptFileError, InputError, UnknownNameError
from pertscale.io.limits import checked_array, checked_node
from pertscale.io.sources._arrays import (
    CompressedColumns,
    CompressedRows,
    DenseRows,
    Matrix,
)
from pertscale.io.sources._base import Block, CsrBlock, Source, SourceSpec, as_names, reading

_OLD = "open it with anndata.read_h5ad and save it again with write_h5ad"


def matrix_key(group: Any, matrix: str, path: str) -> str:
    """Return where in the file the matrix is: ``X``, ``raw/X`` or ``layers/name``.

    Raises
    ------
    UnknownNameError
        It isn't there; the message lists what is.
    """
    layer = matrix.removeprefix("layers/")
    key = {"X": "X", "raw": "raw/X", "raw/X": "raw/X"}.get(matrix, f"layers/{layer}")
    with reading(path):
        if key in group:
            return key
        layers = sorted(group["layers"].keys()) if "layers" in group else []
        there = [name for name, at in (("X", "X"), ("raw", "raw/X")) if at in group] + layers
    raise UnknownNameError(
        f"{path} has no matrix {matrix!r}; it has {', '.join(map(repr, there)) or 'none'}: "
        "pass one of these as layer="
    )


def open_matrix(node: Any, place: str) -> Matrix:
    """Return the matrix in an AnnData element: CSR, CSC or dense."""
    if hasattr(node, "dtype"):
        return DenseRows(checked_array(node, place, whole=False), place=place)
    attributes = dict(node.attrs)
    kind = str(attributes.get("encoding-type") or attributes.get("h5sparse_format") or "")
    shape = attributes.get("shape", attributes.get("h5sparse_shape"))
    if shape is None or not kind.startswith(("csr", "csc")):
        raise InputError(
            f"{place} has the encoding {kind or 'unknown'!r}; needed is a CSR, CSC or dense "
            f"matrix: {_OLD}"
        )
    cells, genes = (int(n) for n in shape)
    form = CompressedRows if kind.startswith("csr") else CompressedColumns
    return form(node, shape=(cells, genes), place=place)


class AnnDataSource(Source):
    """A matrix in the AnnData layout. Subclasses open the group.

    Parameters
    ----------
    spec
        What to read.
    group
        Root of the file, an h5py or zarr group.
    """

    def __init__(self, spec: SourceSpec, group: Any) -> None:
        super().__init__(spec)
        self._group = group
        name = Path(spec.path).name
        key = matrix_key(group, spec.matrix, spec.path)
        with reading(f"{spec.path}, {key!r}"):
            self.matrix = open_matrix(group[key], f"{spec.path}, {key!r}")
        self.row_major = self.matrix.row_major
        self._obs = self._frame("obs")
        self._var = self._frame("raw/var" if key == "raw/X" else "var")
        for frame, n, what in (
            (self._obs, self.n_cells, "cell"),
            (self._var, self.n_genes, "gene"),
        ):
            if frame.n_rows != n:
                raise CorruptFileError(
                    f"{spec.path}: {frame.key!r} has {frame.n_rows} rows, but {key!r} has {n} "
                    f"{what}s; {name} is damaged: write it again"
                )

    def _frame(self, key: str) -> Frame:
        place = f"{self.spec.path}, {key!r}"
        with reading(place):
            return Frame(self._group, key, place)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.matrix.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.matrix.shape[1]

    def cell_names(self) -> np.ndarray:
        """Return the index of ``obs``."""
        return self._obs.names()

    def cell_columns(self) -> list[str]:
        """Return the columns of ``obs``."""
        return self._obs.columns

    def cell_column(self, name: str) -> pd.Series:
        """Return one column of ``obs``."""
        return self._obs.column(name)

    def genes(self) -> pd.DataFrame:
        """Return ``var`` (``raw/var`` for the raw matrix)."""
        columns = {name: self._var.column(name).array for name in self._var.columns}
        return pd.DataFrame(columns, index=pd.Index(self._var.names().astype(object)))

    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the stored entries."""
        return self.matrix.blocks(block_bytes)

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read one block."""
        found = self.matrix.read(block, buffers)
        if not self.spec.clip:
            return found
        below = np.isfinite(found.data) & (found.data < 0)
        return replace(found, data=np.where(below, found.data.dtype.type(0), found.data))


class Frame:
    """``obs`` or ``var``: read one column at a time, in the current and the older layouts.

    Older layouts: a compound dataset with categories in ``uns``, and a group with its
    categories in ``__categories``.
    """

    def __init__(self, root: Any, key: str, place: str) -> None:
        self._root, self.key, self.place = root, key, place
        self._node = root[key]
        self._compound = hasattr(self._node, "dtype")
        if self._compound:
            checked_array(self._node, place)
        attributes = dict(self._node.attrs)
        if self._compound:
            names = list(self._node.dtype.names or ())
            self._index = "index" if "index" in names else names[0]
            self.n_rows = int(self._node.shape[0])
        else:
            self._index = _text(attributes.get("_index", "_index"))
            names = [_text(n) for n in attributes.get("column-order", sorted(self._node.keys()))]
            self.n_rows = _length(checked_node(self._node[self._index], place))
        self.columns = [n for n in names if n not in (self._index, "__categories")]

    def names(self) -> np.ndarray:
        """Return the names of the rows."""
        with reading(f"{self.place}, index"):
            node = self._node[self._index]
            return as_names(node if hasattr(node, "shape") else read_elem(node))

    def column(self, name: str) -> pd.Series:
        """Return one column."""
        if name not in self.columns:
            raise UnknownNameError(
                f"{self.place} has no column {name!r}; it has {', '.join(self.columns)}"
            )
        with reading(f"{self.place}, column {name!r}"):
            values = self._node[name] if self._compound else self._element(name)
            values = self._categorical(name, values)
        found = pd.Series(values, name=name)
        if len(found) != self.n_rows:
            raise CorruptFileError(
                f"{self.place}, column {name!r} has {len(found)} values for {self.n_rows} rows"
            )
        return found

    def _element(self, name: str) -> Any:
        node = checked_node(self._node[name], f"{self.place}, column {name!r}")
        if hasattr(node, "dtype") and "encoding-type" not in dict(node.attrs):
            return node[:]
        return read_elem(node)

    def _categorical(self, name: str, values: Any) -> Any:
        """Put the categories of the older layouts to their codes; decode bytes."""
        old = f"{self.key}/__categories/{name}"
        old = old if not self._compound else f"uns/{name}_categories"
        if old in self._root:
            categories = [_text(c) for c in checked_array(self._root[old], self.place)[:]]
            return pd.Categorical.from_codes(np.asarray(values), categories=categories)
        if isinstance(values, np.ndarray) and values.dtype.kind in "SO":
            return np.array([_text(v) for v in values], dtype=object)
        return values


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _length(node: Any) -> int:
    """Rows of a column without reading it; groups are categorical or nullable columns."""
    if hasattr(node, "shape"):
        return int(node.shape[0])
    return int(node["codes" if "codes" in node else "values"].shape[0])
