"""What resampling needs of each perturbation of a unit of classes, as one file (method N2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pertscale.errors import NotFoundError
from pertscale.evaluation.confusion_matrix import N_PREDICTED
from pertscale.evaluation.resampling.pairs import PairSums
from pertscale.io.guards.damage import file_errors
from pertscale.results.unit_files import REMEDY
from pertscale.schema import CLASS_NAMES, CLASSES, OPERATING_POINTS, PERTURBATION
from pertscale.storage.atomic import atomic_path

#: Name of the file, in the folder of a unit.
PAIR_SUMS_FILE = "sums.parquet"


def write_sums(path: Path, sums: Mapping[str, PairSums], perturbations: Sequence[str]) -> None:
    """Write the sums of each setting, a row group each: one row for each perturbation.

    Counts are small, and equal settings have equal columns: some ten bytes for a bin that is used.
    """
    with atomic_path(path) as temporary:
        writer = None
        for setting, one in sums.items():
            columns: dict[str, Any] = {
                "setting": pa.array([setting] * len(perturbations), pa.string()),
                PERTURBATION: pa.array(list(perturbations), pa.string()),
            }
            counts = {name: one.called.get(name) for name in OPERATING_POINTS}
            counts |= {f"bins_{name}": None for name in CLASS_NAMES}
            counts |= {f"bins_{n}": b for n, b in zip(CLASS_NAMES, one.bins, strict=False)}
            columns |= {name: _lists(value, len(perturbations)) for name, value in counts.items()}
            columns["n_missing"] = _lists(
                np.tile(one.n_missing, (len(perturbations), 1)) if one.bins else None,
                len(perturbations),
            )
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(
                temporary, table.schema, compression="zstd", write_page_checksum=True
            )
            writer.write_table(table)
        assert writer is not None, "a unit has a setting"
        writer.close()


def _lists(values: NDArray[np.integer] | None, n_rows: int) -> pa.Array:
    """Return a column with the values of each row; nothing where there are none."""
    kind = pa.list_(pa.uint32())
    if values is None:
        return pa.nulls(n_rows, kind)
    flat = np.ascontiguousarray(values, np.uint32).reshape(n_rows, -1)
    edges = np.arange(n_rows + 1, dtype=np.int32) * flat.shape[1]
    return pa.ListArray.from_arrays(pa.array(edges), pa.array(flat.ravel()))


def read_sums(path: Path) -> dict[str, tuple[list[str], PairSums]]:
    """Return the perturbations and the sums of each setting.

    Raises
    ------
    NotFoundError, CorruptFileError
    """
    if not path.exists():
        raise NotFoundError(f"there is no file {path}: {REMEDY}")
    found = {}
    with (
        file_errors(str(path), remedy=REMEDY),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        for at in range(file.num_row_groups):
            table = file.read_row_group(at, use_threads=False)
            n_rows = len(table)
            called = {
                name: _values(table[name], (n_rows, len(CLASSES), N_PREDICTED))
                for name in OPERATING_POINTS
                if not table[name].null_count
            }
            columns = [table[f"bins_{name}"] for name in CLASS_NAMES]
            bins = [_values(one, (n_rows, -1, 2)) for one in columns if not one.null_count]
            n_missing = _values(table["n_missing"], (n_rows, -1))[0] if bins else ()
            sums = PairSums(called, tuple(bins), tuple(map(int, n_missing)))
            found[table["setting"][0].as_py()] = table[PERTURBATION].to_pylist(), sums
    return found


def _values(column: pa.ChunkedArray, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.uint32).reshape(shape)
