"""The screen store: one Zarr v3 group that AnnData, xarray and pertscale all open.

Everything follows AnnData's on-disk encoding, every array carries its dimension names, and what is
ours lives under ``uns/pertscale``::

    X                     (cell, gene) counts, or log-normalised float32
    obs/                  one row per cell, index 'cell'
    var/                  one row per gene, index 'gene'
    uns/pertscale/info    JSON: schema version, scale, account, fingerprint
    uns/pertscale/groups  one row per (context, perturbation): its rows start:stop
    uns/pertscale/drops   one row per cell or gene that was left out, with the reason

``X`` is chunked (cells, genes) and gene-major inside a chunk, so that the test gets contiguous
genes and one perturbation is a few chunks. Cells are sorted by (context, control first,
perturbation), so a perturbation is one run of rows.

Every chunk of every array is written, also where all values are zero, and ends with its checksum
(Zarr's crc32c). So a chunk that is missing was lost, and one with a flipped bit is refused, by
whoever reads it. Stores of earlier versions have neither, but for all chunks of ``X``: they are
read as they are.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, WrapperStore

from pertscale.errors import CorruptFileError, InputError, NotFoundError, StorageError
from pertscale.hashing import digest
from pertscale.io.guards.damage import DAMAGE, file_errors
from pertscale.io.guards.limits import checked_array, codec_names
from pertscale.schema import CELL, GENE, MATRIX, METADATA
from pertscale.storage.locations import Location, Remote, for_zarr, locate
from pertscale.storage.object_storage import storage_errors
from pertscale.storage.own_files import zarr_tree_pattern
from pertscale.versions import SCHEMA_VERSION

#: Rows and genes of a chunk: 2 MB of uint16.
CHUNK_ROWS = 2048
CHUNK_GENES = 512
#: Above this many chunks they are packed into shards, for the sake of the file system.
MAX_FILES = 20_000
_VECTOR_CHUNK = 65_536
#: How chunks of the matrix are compressed, by Blosc.
COMPRESSION: Any = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}
#: The file that makes a folder a Zarr group. On object storage it is put last.
ROOT_FILE = "zarr.json"
#: AnnData's folders, and the pattern of the files below a store.
STORE_FOLDERS = ("X", "obs", "var", "uns", "layers", "obsm", "varm", "obsp", "varp")
STORE_FILES = zarr_tree_pattern(STORE_FOLDERS)
#: What to do about damage.
REMEDY = "copy the store again, or ingest the source again with overwrite=True"
#: The name of the checksum in the description of an array, and in the store's own.
CHECKSUM = "crc32c"
CHECKSUM_BYTES = 4
#: Key of a chunk, below its array or the root.
CHUNK_KEY = re.compile(r"(^|/)c(/\d+)*$")
#: Configuration of arrays of which all chunks are written.
ALL_CHUNKS: Any = {"write_empty_chunks": True}


# --- writing ------------------------------------------------------------------------------


def rows_per_shard(n_cells: int, n_genes: int) -> int:
    """Return the rows that are written together: a chunk's, or a shard's in large screens."""
    chunks = -(-n_cells // CHUNK_ROWS) * -(-n_genes // CHUNK_GENES)
    return CHUNK_ROWS * max(1, -(-chunks // MAX_FILES))


def create_matrix(path: Path, *, n_cells: int, n_genes: int, dtype: np.dtype) -> None:
    """Create the store with an empty matrix, ready to be written shard by shard."""
    root = zarr.create_group(
        path, zarr_format=3, overwrite=True, attributes=_encoding("anndata", "0.1.0")
    )
    shard_rows = rows_per_shard(n_cells, n_genes)
    root.create_array(
        MATRIX,
        shape=(n_cells, n_genes),
        chunks=(CHUNK_ROWS, CHUNK_GENES),
        shards=None if shard_rows == CHUNK_ROWS else (shard_rows, CHUNK_GENES),
        dtype=dtype,
        fill_value=0,
        filters=[TransposeCodec(order=(1, 0))],
        compressors=[
            BloscCodec(**COMPRESSION, typesize=dtype.itemsize),
            Crc32cCodec(),
        ],
        dimension_names=(CELL, GENE),
        attributes=_encoding("array", "0.2.0"),
        config=ALL_CHUNKS,
    )


def write_metadata(
    path: Path,
    *,
    obs: Iterator[tuple[str, Any]],
    var: pd.DataFrame,
    groups: pd.DataFrame,
    drops: pd.DataFrame,
    info: Mapping[str, Any],
) -> None:
    """Write everything but the matrix.

    Parameters
    ----------
    path : Path
        Store made by :func:`create_matrix`.
    obs : iterator of (name, values)
        Columns of the cells, one at a time, so that they need not be in memory together. The
        first is the index.
    var, groups, drops : DataFrame
        The index of `var` are the gene names. Columns have names that can be folders
        (:mod:`pertscale.io.store.column_names`).
    info : mapping
        What is stored as JSON under ``uns/pertscale/info``.
    """
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    _write_columns(root.create_group("obs", overwrite=True), obs, dim=CELL)
    _write_columns(root.create_group("var", overwrite=True), _frame_columns(var, GENE), dim=GENE)
    as_dict = _encoding("dict", "0.1.0")
    root.create_group("uns", overwrite=True, attributes=as_dict)
    ours = root.create_group(METADATA, attributes=as_dict)
    for name, frame in (("groups", groups), ("drops", drops)):
        dim = f"{name}_row"
        _write_columns(ours.create_group(name), _frame_columns(frame, dim), dim=dim)
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        root.create_group(name, overwrite=True, attributes=as_dict)
    # last, since it makes a screen of the store
    text = ours.create_array(
        "info",
        shape=(),
        chunks=(),
        dtype="str",
        dimension_names=(),
        compressors=packed(),
        attributes=_encoding("string", "0.2.0"),
        config=ALL_CHUNKS,
    )
    told = {"schema_version": SCHEMA_VERSION, "checksum": CHECKSUM, **info}
    text[()] = json.dumps(told, sort_keys=True)
    with warnings.catch_warnings():  # "not part of the v3 specification": AnnData and xarray use it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(root.store)


def _encoding(kind: str, version: str, **more: Any) -> dict[str, Any]:
    """Return the attributes by which AnnData knows a node, given where the node is made.

    Set afterwards, each would be a write of its own.
    """
    return {"encoding-type": kind, "encoding-version": version, **more}


def _frame_columns(frame: pd.DataFrame, index: str) -> Iterator[tuple[str, Any]]:
    yield index, np.asarray(frame.index.astype(str), dtype=object)
    for name in frame.columns:
        yield str(name), frame[name]


def _write_columns(group: Any, columns: Iterator[tuple[str, Any]], *, dim: str) -> None:
    names = []
    for name, values in columns:
        _write_column(group, name, values, dim)
        names.append(name)
    order = {"_index": names[0], "column-order": names[1:]}
    group.update_attributes(_encoding("dataframe", "0.2.0", **order))


def _write_column(group: Any, name: str, values: Any, dim: str) -> None:
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        kind = _encoding("categorical", "0.2.0", ordered=bool(values.cat.ordered))
        inner = group.create_group(name, attributes=kind)
        write_array(inner, "codes", np.asarray(values.cat.codes), dim)
        categories = np.asarray(values.cat.categories)
        if categories.dtype.kind not in "biuf":
            categories = categories.astype(str).astype(object)
        write_array(inner, "categories", categories, f"{name}_category")
    else:
        write_array(group, name, np.asarray(values), dim)


def write_array(group: Any, name: str, values: np.ndarray, dim: str) -> None:
    """Write a vector of numbers or text along a dimension, as AnnData and xarray read it."""
    text = values.dtype.kind not in "biuf"
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, min(len(values), _VECTOR_CHUNK)),),
        dtype="str" if text else values.dtype,
        dimension_names=(dim,),
        compressors=packed(),
        attributes=_encoding("string-array" if text else "array", "0.2.0"),
        config=ALL_CHUNKS,
    )
    if len(values):
        for i in range(0, len(values), _VECTOR_CHUNK):
            part = values[i : i + _VECTOR_CHUNK]
            array[i : i + _VECTOR_CHUNK] = part.astype(np.dtypes.StringDType()) if text else part


def packed() -> list[Any]:
    """Return how vectors are stored: compressed, each chunk with its checksum."""
    return [ZstdCodec(level=0), Crc32cCodec()]


# --- reading ----------------------------------------------------------------------------------


class WholeStore(WrapperStore[Store]):
    """A Zarr store in which chunks that are missing are an error, not the fill value.

    Parameters
    ----------
    store : Store
    where, remedy : str
        For messages.
    below : str, optional
        Arrays whose chunks are all written: those whose keys begin so; of none by default.
    verify : bool
        Whether chunks that have changed are told as well, by their checksums. Zarr compares them,
        too, but its error says neither which chunk it is nor what helps.
    """

    def __init__(
        self,
        store: Store,
        where: str,
        *,
        remedy: str,
        below: str | None = None,
        verify: bool = False,
    ) -> None:
        super().__init__(store)
        self.where, self.remedy, self.below, self.verify = where, remedy, below, verify

    def _with_store(self, store: Store) -> WholeStore:
        return WholeStore(
            store, self.where, remedy=self.remedy, below=self.below, verify=self.verify
        )

    def __str__(self) -> str:
        return self.where

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return what is stored under a key; raise where it is a chunk that is lost or changed."""
        found = await self._store.get(key, prototype, byte_range)
        if self.below is None or not key.startswith(self.below) or not CHUNK_KEY.search(key):
            return found
        if found is None:
            away = not await self._store.exists(ROOT_FILE)
            raise missing_chunk_error(self.where, key, away=away, remedy=self.remedy)
        if self.verify and byte_range is None:
            try:
                spec: Any = SimpleNamespace(prototype=prototype)  # all that a checksum needs of it
                await Crc32cCodec().decode([(found, spec)])
            except ValueError as error:
                raise CorruptFileError(
                    f"{self.where}/{key}: this chunk has other content than was written: "
                    f"{self.remedy}"
                ) from error
        return found


def missing_chunk_error(
    where: str, key: str, *, away: bool, remedy: str = REMEDY
) -> CorruptFileError | InputError:
    """Return the error for a chunk that is not there; `away`: nor is the store."""
    if away:  # it may come back
        return InputError(
            f"{where} was removed or is being replaced while it is read; make the same call again "
            "when it is complete"
        )
    what = "this chunk of the matrix" if key.startswith(f"{MATRIX}/") else "this chunk"
    return CorruptFileError(f"{where}/{key}: {what} is missing; the store is not whole: {remedy}")


def has_checksums(array: Any) -> bool:
    """Whether each chunk of an array ends with its checksum."""
    return CHECKSUM in codec_names(array.metadata)


def content_hash(
    genes: pd.Index,
    groups: pd.DataFrame,
    scale: str,
    totals: np.ndarray,
    expressed: np.ndarray,
    guides: Mapping[str, str],
) -> str:
    """Hash what a screen reads beside the matrix: made by ingest, compared when it is opened."""
    return fingerprint(genes, groups, scale, np.empty(0), totals, expressed, guides)


def fingerprint(
    genes: pd.Index,
    groups: pd.DataFrame,
    scale: str,
    sums: np.ndarray,
    totals: np.ndarray,
    expressed: np.ndarray,
    guides: Mapping[str, str],
) -> str:
    """Hash a screen's content; `sums` are those of each cell's values.

    Guides enter where there are any: earlier versions knew none.
    """
    table = groups.astype({"is_control": int}).to_dict("list")
    parts = [list(map(str, genes)), table, scale, sums, np.nan_to_num(totals), expressed]
    return digest(*parts, *([dict(guides)] if guides else []))


def whole_store(where: Location, *, remedy: str, **how: Any) -> WholeStore:
    """Return the Zarr store at a location, as :class:`WholeStore` describes it."""
    found = for_zarr(where)
    store = LocalStore(found, read_only=True) if isinstance(found, str) else found
    return WholeStore(store, str(where), remedy=remedy, **how)


def _zarr_store(where: Location) -> WholeStore:
    return whole_store(where, remedy=REMEDY, below=f"{MATRIX}/")


def open_root(path: str | os.PathLike[str]) -> Any:
    """Open a store that pertscale wrote; a clear error for anything else."""
    where = locate(path)
    finished = where / ROOT_FILE if isinstance(where, Remote) else where
    if not finished.exists():
        if isinstance(where, Path) or not where.exists():
            raise NotFoundError(f"no screen store at {where}")
        if not where.objects():
            raise InputError(
                f"{where} is an object, not a screen store; copy it to a disk, and make a store of "
                f"it: pertscale.io.ingest({where.name!r}, '{where.with_suffix('.zarr')}')"
            )
        raise NotFoundError(
            f"no finished screen store at {where}: there are objects, but no {ROOT_FILE}, which is "
            "put last; it is being written, or that was interrupted: make the same call of ingest "
            "again"
        )
    try:
        with storage_errors(str(where)):
            opened = _zarr_store(where)
            root = zarr.open_group(opened, mode="r", zarr_format=3)
    except StorageError:
        raise
    except DAMAGE as error:  # not a Zarr group, or one whose description makes no sense
        raise InputError(
            f"{where} is not a screen store; make one with pertscale.io.ingest({str(where)!r}, "
            "'screen.zarr')"
        ) from error
    with file_errors(str(where), remedy=REMEDY):
        ours = METADATA + "/info" in root
        if ours and has_checksums(root[MATRIX]):
            opened.below = ""  # all chunks are written, of all arrays
    if not ours:
        raise InputError(
            f"{where} is a Zarr group, but not a screen store of pertscale; make one with "
            f"pertscale.io.ingest({str(where)!r}, 'screen.zarr')"
        )
    return root


def open_matrix(path: str | os.PathLike[str]) -> Any:
    """Open the matrix of a store, for reading."""
    where = locate(path)
    with file_errors(f"{where}/{MATRIX}", remedy=REMEDY):
        array: Any = zarr.open_array(_zarr_store(where), path=MATRIX, mode="r", zarr_format=3)
    if array.ndim != len((CELL, GENE)):
        raise CorruptFileError(f"{where}/{MATRIX} has {array.ndim} dimensions, not 2: {REMEDY}")
    return array


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a finished screen store."""
    where = locate(path)
    inside = (where / METADATA / "info" / ROOT_FILE).exists()
    return inside and (isinstance(where, Path) or (where / ROOT_FILE).exists())


def read_info(root: Any) -> dict[str, Any]:
    """Read ``uns/pertscale/info``."""
    with file_errors(f"{root.store_path}, {METADATA}/info", remedy=REMEDY):
        info = dict(json.loads(str(root[METADATA + "/info"][()])))
        version = int(info["schema_version"])
    if version > SCHEMA_VERSION:
        raise InputError(
            f"the store was written with schema {version}, this pertscale knows up "
            f"to {SCHEMA_VERSION}; update pertscale"
        )
    return info


def read_frame(group: Any, *, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table, or some of its columns, with its index."""
    with file_errors(str(group.store_path), remedy=REMEDY):
        index = group.attrs["_index"]
        names = group.attrs["column-order"] if columns is None else columns
        data = {name: read_column(group, name) for name in names}
        return pd.DataFrame(data, index=pd.Index(read_column(group, index), name=index))


def read_column(group: Any, name: str) -> Any:
    """Read one column: a NumPy array, an object array of str, or a Categorical."""
    with file_errors(f"{group.store_path}/{name}", remedy=REMEDY):
        node = group[name]
        if isinstance(node, zarr.Array):
            return _values(node)
        categories = pd.Index(_values(node["categories"]))
        return pd.Categorical.from_codes(
            _values(node["codes"]), categories, bool(node.attrs["ordered"])
        )


def _values(array: Any) -> np.ndarray:
    """Read a vector; text as Python strings, which every version of pandas takes."""
    where = str(array.store_path)
    with file_errors(where, remedy=REMEDY):
        values = np.asarray(checked_array(array, where)[:])
    return values if values.dtype.kind in "biuf" else values.astype(object)
