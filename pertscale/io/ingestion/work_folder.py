"""The work folder of an ingest: what an interrupted call leaves, and the next one goes on from.

It stands beside the store as ``.NAME.ingest`` and holds the scratch files of the first pass, the
receipts of the second, and the store as far as it is. ``plan.json`` says what they belong to:
another plan starts afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import MemoryBudgetError
from pertscale.hashing import digest
from pertscale.io.ingestion._kernels import PACKED
from pertscale.io.ingestion.passes import SortTask, StoreTarget, WriteTask
from pertscale.io.ingestion.plan import IngestPlan
from pertscale.io.sources import open_source
from pertscale.io.store.layout import CHUNK_GENES, ROOT_FILE, create_matrix, rows_per_shard
from pertscale.storage.atomic import read_json, remove, write_json
from pertscale.storage.files import states
from pertscale.versions import BLOCK_FILES_VERSION

_MARKER = "plan.json"
_EMPTY = "empty.json"
#: Bytes that a task of the first pass holds per byte of its block: text and column-major sources
#: are held four times over while they are sorted (``Source.read``), then come the scratch entries.
_BLOCK_COPIES = 6
_MIN_BLOCK_BYTES = 1_000_000
_MAX_BLOCK_BYTES = 32_000_000
#: How often the second pass may open a scratch file, all tasks together.
_MAX_OPENED = 100_000


def work_folder(store: Path) -> Path:
    """Return the folder that an ingest to `store` works in."""
    return store.parent / f".{store.name}.ingest"


def is_resumable(work: Path) -> bool:
    """Whether an interrupted call left something there."""
    return (work / _MARKER).exists()


@dataclass(frozen=True)
class IngestTasks:
    """The two lists of tasks of an ingest, in a folder that is ready for them.

    Attributes
    ----------
    folder : Path
    to_sort, to_write : tuple
        The tasks of both passes.
    key : str
        Hash of all that the scratch files and the matrix depend on.
    """

    folder: Path
    to_sort: tuple[SortTask, ...]
    to_write: tuple[WriteTask, ...]
    key: str

    def is_written(self) -> bool:
        """Whether all shards of the matrix are."""
        return all(file.exists() for file in self._receipts())

    def drop_scratch(self) -> None:
        """Delete what only the second pass needs, and leftovers of dead writers in the store."""
        remove(self.folder / "blocks")
        for leftover in (self.folder / "store").rglob("*.partial"):
            remove(leftover)

    def cell_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each cell's sum (float64) and number of expressed genes (int64)."""
        sums, expressed = np.concatenate([np.load(file) for file in self._receipts()], axis=1)
        return sums, expressed.astype(np.int64)

    def note_empty(self, cells: np.ndarray) -> None:
        """Keep, for a call that goes on, which input cells turned out to have no count."""
        write_json(self.folder / _EMPTY, {"key": self.key, "cells": cells.tolist()})

    def noted_empty(self) -> np.ndarray:
        """Return what an earlier call noted of the same plan; none by default."""
        record = self.folder / _EMPTY
        noted = read_json(record) if record.exists() else {}
        return np.array(noted["cells"] if noted.get("key") == self.key else [], np.int64)

    def _receipts(self) -> list[Path]:
        target = self.to_write[0].target
        return [target.shard_file(shard) for shard in range(target.n_shards)]


def prepare(
    folder: Path, plan: IngestPlan, *, scale: str, dtype: np.dtype, memory: int, parallel: int
) -> IngestTasks:
    """Set up the work folder, or keep that of an interrupted call with the same plan.

    Parameters
    ----------
    folder : Path
        Absolute.
    plan : IngestPlan
    scale : str
    dtype : dtype
        Of the store's matrix.
    memory : int
        What the tasks of one process may hold together, in bytes.
    parallel : int
        How many tasks that are.

    Raises
    ------
    MemoryBudgetError
        If the smallest task does not fit.
    """
    tasks, go_on, marker = _cut(folder, plan, scale, dtype, memory, parallel)
    if not go_on:
        _start(folder, plan, tasks.to_write[0].target)
        write_json(folder / _MARKER, marker)
    return tasks


def planned_tasks(
    folder: Path, plan: IngestPlan, *, scale: str, dtype: np.dtype, memory: int, parallel: int
) -> IngestTasks:
    """Return what :func:`prepare` does, with the same errors; nothing is written."""
    return _cut(folder, plan, scale, dtype, memory, parallel)[0]


def _cut(
    folder: Path, plan: IngestPlan, scale: str, dtype: np.dtype, memory: int, parallel: int
) -> tuple[IngestTasks, bool, dict[str, Any]]:
    """Cut an ingest into tasks; return also whether some are done in the folder, and its marker."""
    target = StoreTarget(
        work=str(folder),
        n_cells=plan.n_cells,
        n_genes=len(plan.var),
        dtype=dtype.str,
        scale=scale,
        rows_per_shard=rows_per_shard(plan.n_cells, len(plan.var)),
    )
    block_bytes = memory // (parallel * _BLOCK_COPIES)
    block_bytes = min(max(block_bytes, _MIN_BLOCK_BYTES), _MAX_BLOCK_BYTES)
    key = _key(plan, target)
    earlier = read_json(folder / _MARKER) if is_resumable(folder) else {}
    go_on = earlier.get("key") == key and earlier["block_bytes"] <= block_bytes
    go_on = go_on and (folder / "store" / ROOT_FILE).exists()  # else it was finished and moved
    if go_on:
        block_bytes = earlier["block_bytes"]  # the blocks that are there were cut so
    first = _first_tasks(plan, target, block_bytes)
    shard_bytes = _shard_bytes(target, first)
    _check_fits(target, shard_bytes, memory, parallel)
    step = _shards_per_task(target, len(first), memory // parallel // shard_bytes)
    second = [
        WriteTask(target, shard, min(shard + step, target.n_shards), len(first))
        for shard in range(0, target.n_shards, step)
    ]
    marker = {"key": key, "block_bytes": block_bytes}
    return IngestTasks(folder, tuple(first), tuple(second), key), go_on, marker


def _shard_bytes(target: StoreTarget, first: Sequence[SortTask]) -> int:
    """Bytes of words that a task of the second pass holds for a shard.

    Twice the mean where the source tells how many entries there are; else as if it were dense.
    """
    word_bytes = 2 if target.form == PACKED else 6
    dense = target.rows_per_shard * target.n_genes * word_bytes
    entries = [task.block.n_entries for task in first]
    if min(entries, default=-1) < 0:
        return dense
    mean = sum(entries) * word_bytes * target.rows_per_shard // max(target.n_cells, 1)
    return max(1, min(dense, 2 * mean))


def _shards_per_task(target: StoreTarget, n_blocks: int, most: int) -> int:
    """Shards that a task writes, so that files are not opened too often: each task opens all."""
    wanted = -(-n_blocks * target.n_shards // _MAX_OPENED)
    return max(1, min(wanted, most))


def _check_fits(target: StoreTarget, shard_bytes: int, memory: int, parallel: int) -> None:
    """Refuse where not even one shard can be written at a time."""
    rows, itemsize = target.rows_per_shard, np.dtype(target.dtype).itemsize
    needed = shard_bytes + 3 * rows * CHUNK_GENES * itemsize
    if needed * parallel > memory:
        raise MemoryBudgetError(
            f"{rows:,} cells x {target.n_genes:,} genes are written together, which needs up to "
            f"{needed / 1e6:,.0f} MB for each of {parallel} parallel tasks, but memory= allows "
            f"{memory / 1e6:,.0f} MB in all; pass memory='{needed * parallel // 1_000_000 + 1}MB'"
        )


def _key(plan: IngestPlan, target: StoreTarget) -> str:
    """Hash of everything that the scratch files and the matrix depend on."""
    sources = [[asdict(spec), states([spec.file])] for spec in plan.sources]
    options = [target.scale, target.dtype, target.rows_per_shard]
    names = list(map(str, plan.var.index))
    return digest(BLOCK_FILES_VERSION, sources, options, names, plan.destination, *plan.gene_maps)


def _start(folder: Path, plan: IngestPlan, target: StoreTarget) -> None:
    for name in (_MARKER, "blocks", "shards", "store"):
        remove(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "destination.npy", plan.destination)
    for i, gene_map in enumerate(plan.gene_maps):
        np.save(folder / f"genes-{i}.npy", gene_map)
    write_json(folder / "genes.json", list(map(str, plan.var.index)))
    listed = [
        {"spec": asdict(spec), "n_cells": n}
        for spec, n in zip(plan.sources, plan.n_input, strict=True)
    ]
    write_json(folder / "sources.json", listed)
    create_matrix(
        folder / "store",
        n_cells=target.n_cells,
        n_genes=target.n_genes,
        dtype=np.dtype(target.dtype),
    )


def _first_tasks(plan: IngestPlan, target: StoreTarget, block_bytes: int) -> list[SortTask]:
    tasks: list[SortTask] = []
    first_cell = 0
    for i, (spec, n) in enumerate(zip(plan.sources, plan.n_input, strict=True)):
        with open_source(spec) as source:
            for block in source.blocks(block_bytes):
                tasks.append(
                    SortTask(
                        target=target,
                        index=len(tasks),
                        source=spec,
                        source_index=i,
                        first_cell=first_cell,
                        block=block,
                    )
                )
        first_cell += n
    return tasks
