"""What h5ad files and AnnData-Zarr stores share: the AnnData layout in a group."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pandas as pd

from pertscale.errors import ArgumentError, CorruptFileError, InputError, UnknownNameError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import check_names, checked_array, checked_node
from pertscale.io.sources._arrays import CompressedColumns, CompressedRows, DenseRows, RowMatrix
from pertscale.io.sources._base import (
    Block,
    CsrBlock,
    Source,
    SourceChoices,
    SourceSpec,
    as_names,
    as_text,
)

#: Option: finite values below zero are read as zero.
_CLIP: Final = "clip"
#: Columns that are named in a sentence.
_MOST_NAMES = 5
_OLD = "open it with anndata.read_h5ad and save it again with write_h5ad"


def matrix_path(matrix: str) -> str:
    """Return where in a file the matrix of a name has to be: ``X``, ``raw/X``, ``layers/name``."""
    layer = matrix.removeprefix("layers/")
    return {"X": "X", "raw": "raw/X", "raw/X": "raw/X"}.get(matrix, f"layers/{layer}")


def matrix_key(group: Any, matrix: str, path: str) -> str:
    """Return where in the file the matrix is: ``X``, ``raw/X`` or ``layers/name``.

    Raises
    ------
    UnknownNameError
        It isn't there; the message lists what is.
    """
    key = matrix_path(matrix)
    with file_errors(path):
        if key in group:
            return key
        layers = sorted(group["layers"].keys()) if "layers" in group else []
        there = [name for name, at in (("X", "X"), ("raw", "raw/X")) if at in group] + layers
    raise UnknownNameError(
        f"{path} has no matrix {matrix!r}; it has {', '.join(map(repr, there)) or 'none'}: "
        "pass one of these as layer="
    )


def open_matrix(node: Any, where: str) -> RowMatrix:
    """Return the matrix in an AnnData element: CSR, CSC or dense."""
    if hasattr(node, "dtype"):
        return DenseRows(checked_array(node, where, whole=False), where=where)
    attributes = dict(node.attrs)
    kind = str(attributes.get("encoding-type") or attributes.get("h5sparse_format") or "")
    shape = attributes.get("shape", attributes.get("h5sparse_shape"))
    if shape is None or not kind.startswith(("csr", "csc")):
        raise InputError(
            f"{where} has the encoding {kind or 'unknown'!r}; needed is a CSR, CSC or dense "
            f"matrix: {_OLD}"
        )
    cells, genes = (int(n) for n in shape)
    form = CompressedRows if kind.startswith("csr") else CompressedColumns
    return form(node, shape=(cells, genes), where=where)


def anndata_spec(path: Path, format_: str, choices: SourceChoices) -> SourceSpec:
    """Return the spec of a matrix in the AnnData layout, which has its own table of cells."""
    if choices.cells is not None:
        raise ArgumentError(
            f"cells= was passed, but {path} has its own table of cells (obs); leave it out"
        )
    options: dict[str, str | bool] = {_CLIP: True} if choices.clip else {}
    return SourceSpec(str(path), format_, matrix=choices.matrix or "X", options=options)


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
        with file_errors(f"{spec.path}, {key!r}"):
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
        where = f"{self.spec.path}, {key!r}"
        with file_errors(where):
            return Frame(self._group, key, where)

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

    def left_out(self) -> list[str]:
        """Say which columns of the cells and genes can't be read, and why."""
        return [line for frame in (self._obs, self._var) for line in frame.told_left_out()]

    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the stored entries."""
        return self.matrix.blocks(block_bytes)

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read one block."""
        found = self.matrix.read(block, buffers)
        if not self.spec.options.get(_CLIP):
            return found
        below = np.isfinite(found.data) & (found.data < 0)
        return replace(found, data=np.where(below, found.data.dtype.type(0), found.data))


class Frame:
    """``obs`` or ``var``: read one column at a time, in the current and the older layouts.

    Older layouts: a compound dataset with categories in ``uns``, and a group with its
    categories in ``__categories``.
    """

    def __init__(self, root: Any, key: str, where: str) -> None:
        self._root, self.key, self.where = root, key, where
        self._node = root[key]
        self._compound = hasattr(self._node, "dtype")
        if self._compound:
            checked_array(self._node, where)
        attributes = dict(self._node.attrs)
        if self._compound:
            names = list(self._node.dtype.names or ())
            self._index = "index" if "index" in names else names[0]
            self.n_rows = int(self._node.shape[0])
        else:
            self._index = as_text(attributes.get("_index", "_index"))
            names = [as_text(n) for n in attributes.get("column-order", sorted(self._node.keys()))]
            self.n_rows = _length(checked_node(self._node[self._index], where))
        self._listed = [n for n in names if n not in (self._index, "__categories")]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that can be read."""
        return [name for name in self._listed if name not in self.left_out]

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Why columns can't be read, from their metadata alone."""
        looked = {name: self._looked_at(name) for name in self._listed}
        return {name: reason for name, reason in looked.items() if reason}

    def _looked_at(self, name: str) -> str | None:
        """Return why a listed column can't be read, or None.

        Raises
        ------
        CorruptFileError
            It is listed but not there, or does not have a value for every row.
        """
        if self._compound:
            return None
        where = f"{self.where}, column {name!r}"
        with file_errors(where):
            if name not in self._node:
                raise KeyError("it is listed, but not stored")
            node = self._node[name]
            reason = _unreadable(node)
            length = self.n_rows if reason else _length(node)
        if length != self.n_rows:
            raise CorruptFileError(f"{where} has {length} values for {self.n_rows} rows")
        return reason

    def told_left_out(self) -> list[str]:
        """Return a sentence on the columns that are left out, or none."""
        told = [f"{name!r} {reason}" for name, reason in self.left_out.items()]
        more = f"; and {len(told) - _MOST_NAMES} more" if len(told) > _MOST_NAMES else ""
        return [f"{self.key}: left out: {'; '.join(told[:_MOST_NAMES])}{more}"] if told else []

    def names(self) -> np.ndarray:
        """Return the names of the rows."""
        with file_errors(f"{self.where}, index"):
            node = self._node[self._index]
            if self._compound:
                return as_names(node)
            reason = _unreadable(node)
            if reason is not None:
                raise ValueError(f"a column of names is needed, but it {reason}")
            check_names(_rows_of(node), self.where)
            return as_names(node if hasattr(node, "shape") else np.asarray(_values(node), object))

    def column(self, name: str) -> pd.Series:
        """Return one column."""
        reason = self._looked_at(name) if name in self._listed else ""
        if reason is not None:
            why = reason and f" that can be read (it {reason})"
            raise UnknownNameError(
                f"{self.where} has no column {name!r}{why}; it has "
                f"{', '.join(self.columns) or 'none'}"
            )
        with file_errors(f"{self.where}, column {name!r}"):
            values = self._node[name] if self._compound else self._element(name)
            values = self._categorical(name, values)
        found = pd.Series(values, name=name)
        if len(found) != self.n_rows:
            raise CorruptFileError(
                f"{self.where}, column {name!r} has {len(found)} values for {self.n_rows} rows"
            )
        return found

    def _element(self, name: str) -> Any:
        return _values(checked_node(self._node[name], f"{self.where}, column {name!r}"))

    def _categorical(self, name: str, values: Any) -> Any:
        """Put the categories of the older layouts to their codes; decode bytes."""
        old = f"{self.key}/__categories/{name}"
        old = old if not self._compound else f"uns/{name}_categories"
        if old in self._root:
            categories = _values(checked_array(self._root[old], self.where))
            return pd.Categorical.from_codes(np.asarray(values), categories=categories)
        return _plain(values) if isinstance(values, np.ndarray) else values


# --- values of a column ---------------------------------------------------------------------------

#: Kinds of numbers, booleans, times and text.
_KINDS = "biufmMOSTU"


def _unreadable(node: Any) -> str | None:
    """Return why a node is not a readable column; None if it is one."""
    if hasattr(node, "dtype"):
        if len(node.shape) != 1:
            return f"has {len(node.shape)} dimensions"
        is_text = node.dtype.kind != "O" or _is_text(node)
        return None if is_text and node.dtype.kind in _KINDS else f"holds {_type_name(node.dtype)}"
    if "codes" in node and "categories" in node:
        return _unreadable(node["codes"]) or _unreadable(node["categories"])
    if "values" in node and "mask" in node:
        return _unreadable(node["values"]) or _unreadable(node["mask"])
    kind = as_text(dict(node.attrs).get("encoding-type", "none"))
    return f"has the encoding {kind!r}, which is not read"


def _is_text(array: Any) -> bool:
    """Whether an array of Python objects holds text: in HDF5 it could be references, or lists."""
    return not isinstance(array, h5py.Dataset) or h5py.check_string_dtype(array.dtype) is not None


def _type_name(dtype: np.dtype) -> str:
    return "references or lists" if dtype.kind == "O" else str(dtype)


def _values(node: Any) -> Any:
    """Read a column: numbers in the order of this machine, text as str, categories, missing."""
    if hasattr(node, "dtype"):
        return _plain(node[:])
    if "codes" in node:
        ordered = bool(dict(node.attrs).get("ordered", False))
        categories = _values(node["categories"])
        codes = _plain(node["codes"][:])
        return pd.Categorical.from_codes(codes, categories=categories, ordered=ordered)
    values, mask = _values(node["values"]), node["mask"][:].astype(bool)
    match values.dtype.kind:
        case "b":
            return pd.arrays.BooleanArray(values, mask)
        case "i" | "u":
            return pd.arrays.IntegerArray(values, mask)
        case "f":
            return pd.arrays.FloatingArray(values, mask)
    return np.where(mask, None, values.astype(object))


def _plain(values: Any) -> Any:
    """Return an array in the byte order of this machine; bytes as text."""
    if values.dtype.kind in "SO":
        return np.array([as_text(v) for v in values], dtype=object)
    if values.dtype.kind == "T":
        return values.astype(object)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _rows_of(node: Any) -> Any:
    """Return the array with a value for each row; groups are categorical or nullable columns."""
    if hasattr(node, "shape"):
        return node
    return node["codes" if "codes" in node else "values"]


def _length(node: Any) -> int:
    return int(_rows_of(node).shape[0])
