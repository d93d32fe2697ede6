"""Parquet: the label table's files, and the small tables of a benchmark."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pertscale.errors import InputError, NotFoundError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import COPIES, check_declared, check_parquet
from pertscale.schema import Column
from pertscale.storage.atomic import atomic_path
from pertscale.storage.locations import LocationLike, for_arrow, locate

#: Rows that are read at a time where a row may have any size.
_ROWS = 512
#: Rows of a row group: whole perturbations, about this many pairs.
ROW_GROUP_ROWS = 131_072


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Arrow schema of declared columns, their documentation as field metadata."""
    kinds = {"str": pa.string(), "bool": pa.bool_(), "float32": pa.float32()}
    return pa.schema(
        [
            pa.field(
                c.name,
                kinds[c.dtype] if c.dtype in kinds else pa.from_numpy_dtype(np.dtype(c.dtype)),
                nullable=False,
                metadata={"doc": c.doc, "unit": c.unit},
            )
            for c in columns
        ]
    )


@contextmanager
def pairs_file(
    path: Path, *, declared: Sequence[Column]
) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    """Write one part of the label table, a row group each time that the block calls what it gets.

    Codes are delta-encoded and floats are split by bytes, which LZ4 then packs almost as small as
    slower codecs do: about 36 bytes a pair.
    """
    schema = arrow_schema(declared)
    encodings = {
        f.name: "DELTA_BINARY_PACKED" if pa.types.is_int32(f.type) else "BYTE_STREAM_SPLIT"
        for f in schema
        if pa.types.is_int32(f.type) or pa.types.is_floating(f.type)
    }
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="lz4",
            use_dictionary=False,
            column_encoding=encodings,
            write_statistics=["perturbation", "gene", "p_value", "fdr", "label"],
            write_page_checksum=True,
        ) as writer,
    ):

        def write(columns: Mapping[str, np.ndarray]) -> None:
            arrays = {name: pa.array(columns[name]) for name in schema.names}
            table = pa.table(arrays, schema=schema)
            writer.write_table(table, row_group_size=max(1, len(table)))

        yield write


def arrow_table(frame: pd.DataFrame, declared: Sequence[Column]) -> pa.Table:
    """Return a frame as a table of the declared columns."""
    return pa.Table.from_pandas(frame, schema=plain_schema(declared), preserve_index=False)


def plain_schema(declared: Sequence[Column]) -> pa.Schema:
    """Return names and types of declared columns."""
    return pa.schema([pa.field(field.name, field.type) for field in arrow_schema(declared)])


@contextmanager
def table_file(
    path: Path, *, declared: Sequence[Column]
) -> Iterator[Callable[[pd.DataFrame | pa.Table], None]]:
    """Write a table atomically, a row group each time that the block calls what it gets."""
    schema = plain_schema(declared)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):

        def write(rows: pd.DataFrame | pa.Table) -> None:
            if len(rows):
                table = rows if isinstance(rows, pa.Table) else arrow_table(rows, declared)
                writer.write_table(table, row_group_size=len(table))

        yield write


def write_table(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Write a small table atomically; equal content gives equal bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_table(path: LocationLike, *, remedy: str = "", **columns: Any) -> pd.DataFrame:
    """Read a small table of ours; `remedy` says what helps where it is damaged.

    Raises
    ------
    NotFoundError, CorruptFileError
    """
    with _our_table(path, remedy) as source:
        texts = [f.name for f in pq.read_schema(source) if pa.types.is_string(f.type)]
        columns["read_dictionary"] = texts
        return _repeated_texts(pq.read_table(source, **_AS_IT_IS, **columns))


def read_arrow(path: LocationLike, declared: Sequence[Column], *, remedy: str = "") -> pa.Table:
    """Read a table of ours, as :func:`read_table` does, to write it again; without its index."""
    with (
        _our_table(path, remedy) as source,
        pq.ParquetFile(source, page_checksum_verification=True) as file,
    ):
        return file.read(use_threads=False).cast(plain_schema(declared))


#: A file by itself, and not one of several by a value in the names of folders.
_AS_IT_IS: Any = {"partitioning": None, "page_checksum_verification": True}


@contextmanager
def _our_table(path: LocationLike, remedy: str) -> Iterator[Any]:
    """Yield what Arrow reads a table from; say what helps where it is missing, or damaged."""
    where = locate(path)
    if not where.exists():
        raise NotFoundError(f"there is no file {where}{remedy and f': {remedy}'}")
    with file_errors(str(where), **({"remedy": remedy} if remedy else {})):
        yield for_arrow(where)


def _repeated_texts(table: pa.Table) -> pd.DataFrame:
    """Return a table with columns of texts, each of which is one object however often it is there.

    Columns of a few texts, such as names of methods, and the parameters of each, would take most of
    the memory of a large table.
    """
    frame = table.to_pandas()
    for at, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            found = frame.iloc[:, at].cat
            texts = np.array([*found.categories, None], object)  # code -1 is nothing
            frame[table.column_names[at]] = texts[found.codes]
    return frame


def read_parquet(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of another tool, with names of columns as text.

    Texts that repeat are one object in memory, as they are in the file: there they may take
    100,000 times what is stored.

    Raises
    ------
    InputError
        Two columns have the same name.
    CorruptFileError
        It is damaged, or declares more than it can hold.
    """
    path = Path(path)
    where = str(path)
    with file_errors(where):
        check_parquet(path)
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        repeated = [name for name, n in Counter(schema.names).items() if n > 1]
        if repeated:
            raise InputError(f"several columns are called {repeated[0]!r}; keep one ({path})")
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            plain = all(f.name in texts or pa.types.is_primitive(f.type) for f in schema)
            table = file.read() if plain else _read_counting(file, path)
        frame = table.to_pandas()
    if isinstance(frame.index, pd.CategoricalIndex):
        frame.index = frame.index.astype(object)
    categorical = frame.select_dtypes("category").columns
    return frame.astype(dict.fromkeys(categorical, object)).rename(columns=str)


def _read_counting(file: pq.ParquetFile, path: Path) -> pa.Table:
    """Read a file whose columns may be larger than it says, a few rows at a time."""
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=_ROWS):
        batches.append(batch)
        size += batch.nbytes
        where = f"{path} unpacks to more than it can hold: it"
        check_declared(size, path.stat().st_size, where, copies=COPIES)
    return pa.Table.from_batches(batches, schema=file.schema_arrow if not batches else None)


def declared_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> pd.DataFrame:
    """Build a table with exactly the declared columns and dtypes, also when there are no rows."""
    frame = pd.DataFrame(list(rows), columns=[c.name for c in columns])
    return frame.astype({c.name: c.dtype for c in columns if c.dtype != "str"}).astype(
        {c.name: object for c in columns if c.dtype == "str"}
    )


def stacked(tables: Sequence[pd.DataFrame], columns: Sequence[Column]) -> pd.DataFrame:
    """Return tables end to end; an empty one with the declared columns where there are none."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else declared_frame([], columns)
