"""The two passes of ingest: an external bucket sort of the source's entries into shards.

Pass one reads the source block by block, checks every value, and writes each block's entries to
one scratch file, sorted by shard of rows and strip of genes. Pass two builds some shards from their
slice of every scratch file, chunk by chunk, and writes them; a shard is written by one task only.

Both are functions of a small descriptor, run by :mod:`pertscale.execution.runner`. A finished block
or shard leaves a receipt, and is not done again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import InputError, NegativeValueError
from pertscale.execution.buffers import BufferPool, Buffers
from pertscale.io.ingestion._kernels import (
    FLOAT32,
    PACKED,
    UINT32,
    Fault,
    examine,
    fill_chunk,
    list_segments,
    order_by_key,
    write_words,
)
from pertscale.io.ingestion.block_files import BlockSlices, read_slices, write_block
from pertscale.io.sources import Block, CsrBlock, Source, SourceSpec, open_source
from pertscale.io.store.layout import CHUNK_GENES
from pertscale.io.store.matrix import MatrixWriter
from pertscale.schema import COUNTS, MATRIX, MOST_LOG1P
from pertscale.storage.atomic import atomic_path, put_on_disk, read_json

#: What to do with corrected values, which are neither counts nor their logarithms.
REWRITE = (
    "Name the raw counts with layer=, or write the counts, rounded with numpy.rint, or their log1p "
    "per 10,000"
)
#: What to do where a value is missing or infinite.
NOT_FINITE = (
    "every value has to be a finite number: name another matrix with layer=, or write it again "
    "without such values (numpy.nan_to_num makes zeros of missing ones)"
)


@dataclass(frozen=True, kw_only=True)
class StoreTarget:
    """The store that both passes write.

    Parameters
    ----------
    work : str
        Work folder, absolute: workers may have another current folder.
    n_cells, n_genes : int
    dtype : str
    scale : str
    rows_per_shard : int
        Rows that one task of the second pass writes.
    """

    work: str
    n_cells: int
    n_genes: int
    dtype: str
    scale: str
    rows_per_shard: int

    @property
    def n_shards(self) -> int:
        """Shards of rows."""
        return -(-self.n_cells // self.rows_per_shard)

    @property
    def n_strips(self) -> int:
        """Strips of genes."""
        return -(-self.n_genes // CHUNK_GENES)

    @property
    def form(self) -> int:
        """How values are written to scratch files."""
        return {"<u2": PACKED, "<u4": UINT32, "<f4": FLOAT32}[np.dtype(self.dtype).str]

    def block_file(self, index: int) -> Path:
        """Scratch file of a block of the sources; its presence is the receipt."""
        return Path(self.work) / "blocks" / f"{index:06d}.bin"

    def shard_file(self, shard: int) -> Path:
        """Receipt of a shard: totals and expressed genes of its cells."""
        return Path(self.work) / "shards" / f"{shard:06d}.npy"


@dataclass(frozen=True, kw_only=True)
class SortTask:
    """Descriptor of one block of a source."""

    target: StoreTarget
    index: int
    source: SourceSpec
    source_index: int
    first_cell: int
    block: Block

    def describe(self) -> str:
        """Say which part of which file this is."""
        first = self.block.row_start
        return f"cells {first} to {first + self.block.n_rows} of {self.source.path}"


@dataclass(frozen=True)
class WriteTask:
    """Descriptor of some consecutive shards of the store, ``first:last``."""

    target: StoreTarget
    first: int
    last: int
    n_blocks: int

    def describe(self) -> str:
        """Say which part of the store this is."""
        rows = self.target.rows_per_shard
        return f"cells {self.first * rows} to {self.last * rows} of the store"


#: Of this process: memory for tasks of either pass.
_buffers = BufferPool()


def release_memory() -> None:
    """Free what the tasks of this process kept for the next one."""
    _buffers.clear()


# --- pass one -----------------------------------------------------------------------------------


def sort_block(task: SortTask) -> None:
    """Read one block of the source, check it, and write its entries sorted by shard and strip."""
    target = task.target
    path = target.block_file(task.index)
    if path.exists():
        return
    destination = np.load(Path(target.work) / "destination.npy", mmap_mode="r")
    gene_map = np.load(Path(target.work) / f"genes-{task.source_index}.npy")
    with open_source(task.source) as source, _buffers.borrow() as buffers:
        block = _native(source.read(task.block, buffers))
        first = task.first_cell + block.row_start
        rows = np.asarray(destination[first : first + block.n_rows])
        order = np.argsort(rows, kind="stable")
        order = order[(rows[order] >= 0) & (np.diff(block.indptr)[order] > 0)]
        shard, shard_rows = np.divmod(rows[order], target.rows_per_shard)
        row_bounds = np.searchsorted(shard, np.arange(target.n_shards + 1))
        first_strip, strips = _strips(source, block, gene_map)
        counts = buffers.take("counts", (len(order), int(strips.max(initial=-1)) + 1), np.uint16)
        counts[:] = 0
        _examine(source, block, order, strips, target, counts)
        words = buffers.take("words", (int(counts.sum(dtype=np.int64)),), np.uint16)
        genes = (gene_map % CHUNK_GENES).astype(np.uint16)
        write_words(
            order,
            block.indptr,
            block.indices,
            block.data,
            strips,
            genes,
            row_bounds,
            counts,
            target.form,
            words,
        )
        write_block(
            path,
            row_bounds=row_bounds,
            rows=shard_rows,
            first_strip=first_strip,
            counts=counts,
            words=words,
        )


def _strips(source: Source, block: CsrBlock, gene_map: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the first strip that a block has entries of, and each gene's, counted from it.

    A block of a row-major source may have entries of all strips, one of another has few.
    """
    strips = np.where(gene_map >= 0, gene_map // CHUNK_GENES, -1).astype(np.int32)
    if source.row_major:
        return 0, strips
    there = np.zeros(len(strips), bool)
    there[block.indices] = True
    strips[~there] = -1
    first = int(strips[strips >= 0].min(initial=np.iinfo(np.int32).max))
    return first, np.where(strips >= 0, strips - first, -1).astype(np.int32)


def _native(block: CsrBlock) -> CsrBlock:
    """Return the block in types that the kernels take: this machine's bytes, no bool or float16."""
    data, indices = block.data, block.indices
    wider: dict[str, np.dtype] = {"?": np.dtype(np.uint8), "e": np.dtype(np.float32)}
    dtype = wider.get(data.dtype.char, data.dtype.newbyteorder("="))
    return replace(
        block,
        indices=indices.astype(indices.dtype.newbyteorder("="), copy=False),
        data=data.astype(dtype, copy=False),
    )


def _examine(
    source: Source,
    block: CsrBlock,
    order: np.ndarray,
    strips: np.ndarray,
    target: StoreTarget,
    counts: np.ndarray,
) -> None:
    """Count the words per segment; raise for the first entry that can't be used, with its place."""
    integers = target.scale == COUNTS
    limit = float(np.iinfo(target.dtype).max) if integers else float(np.nextafter(MOST_LOG1P, 0))
    fault, entry = examine(
        order, block.indptr, block.indices, block.data, strips, integers, limit, target.form, counts
    )
    if fault != Fault.NONE:
        reason = _explain(Fault(fault), block.data[entry], integers, limit)
        kind = NegativeValueError if fault == Fault.NEGATIVE else InputError
        raise kind(f"{place_of(source, block, entry)}: {reason}")


def place_of(source: Source, block: CsrBlock, entry: int) -> str:
    """Name the file, cell and gene of an entry of a block."""
    row = block.row_start + int(np.searchsorted(block.indptr, entry, side="right")) - 1
    cell = str(source.cell_names()[row])
    gene = str(source.genes().index[block.indices[entry]])
    return f"{source.spec.path} ({source.spec.matrix}): cell {cell!r} (row {row}), gene {gene!r}"


def _explain(fault: Fault, value: Any, counts: bool, limit: float) -> str:
    if fault == Fault.NOT_FINITE:
        return f"the value is {value}; {NOT_FINITE}"
    if fault == Fault.NEGATIVE:
        needed = "raw counts" if counts else "log1p of counts per 10,000"
        return (
            f"the value is {value}, but {needed} can't be negative; if the matrix was scaled or "
            "regressed, name the one that was not with layer='counts' or layer='raw'"
        )
    if fault == Fault.FRACTIONAL:
        normalised = "if all are log1p of counts per 10,000 pass scale='log1p_1e4'. Else: "
        return (
            f"the value {value} is not an integer, but the screen is read as raw counts; "
            f"{normalised if value < MOST_LOG1P else ''}the values were corrected or normalised. "
            f"{REWRITE}"
        )
    if fault == Fault.TOO_LARGE and counts:
        return (
            f"the count {value} is above {limit:,.0f}; one cell does not hold so many molecules "
            "of a gene. If it is right all the same, pass dtype='uint32'"
        )
    if fault == Fault.TOO_LARGE:
        found = f"the value {value} is not below {MOST_LOG1P:g}, too large for log1p of counts per "
        if value == np.floor(value):
            return f"{found}10,000; if all are raw counts pass scale='counts'. Else: {REWRITE}"
        return f"{found}10,000; the values were corrected or normalised. {REWRITE}"
    return "the gene is stored twice for this cell; call X.sum_duplicates() and write again"


# --- pass two -----------------------------------------------------------------------------------


def write_shards(task: WriteTask) -> None:
    """Build some shards of the store from the scratch files, and write them."""
    target = task.target
    if all(target.shard_file(shard).exists() for shard in range(task.first, task.last)):
        return
    files = [target.block_file(index) for index in range(task.n_blocks)]
    with _buffers.borrow() as buffers:
        slices = read_slices(files, task.first, task.last, buffers)
        segments = _segments(target, slices, task.last - task.first, buffers)
        for shard in range(task.first, task.last):
            _write_shard(target, shard, shard - task.first, segments, slices.words, buffers)


@dataclass(frozen=True)
class _Segments:
    """The segments of some shards: by shard, strip and row ``order[bounds[k]:bounds[k + 1]]``."""

    bounds: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def _segments(
    target: StoreTarget, slices: BlockSlices, n_shards: int, buffers: Buffers
) -> _Segments:
    n = len(slices.counts) + 1
    keys = buffers.take("keys", (n,), np.uint32)
    starts = buffers.take("starts", (n,), np.int64)
    lengths = buffers.take("lengths", (n,), np.uint16)
    found = list_segments(
        slices.blocks,
        slices.row_bounds,
        slices.rows,
        slices.counts,
        target.n_strips,
        target.rows_per_shard,
        keys,
        starts,
        lengths,
    )
    bounds = np.empty(n_shards * target.n_strips * target.rows_per_shard + 1, np.int64)
    order = buffers.take("order", (found,), np.uint32)
    order_by_key(keys, found, bounds, order)
    return _Segments(bounds, order, starts, lengths)


def _write_shard(
    target: StoreTarget,
    shard: int,
    at: int,
    segments: _Segments,
    words: np.ndarray,
    buffers: Buffers,
) -> None:
    """Write one shard, the `at`-th of those that the segments are of."""
    receipt = target.shard_file(shard)
    if receipt.exists():
        return
    n_rows = target.rows_per_shard
    start = shard * n_rows
    stop = min(start + n_rows, target.n_cells)
    totals, expressed = np.zeros(n_rows, np.float64), np.zeros(n_rows, np.int64)
    matrix = MatrixWriter(Path(target.work) / "store")
    chunk = buffers.take("chunk", (CHUNK_GENES, n_rows), np.dtype(target.dtype))
    for strip in range(target.n_strips):
        key = (at * target.n_strips + strip) * n_rows
        bounds = segments.bounds[key : key + n_rows + 1]
        first = strip * CHUNK_GENES
        taken = fill_chunk(
            bounds,
            segments.order,
            segments.starts,
            segments.lengths,
            words,
            target.form,
            chunk,
            totals,
            expressed,
        )
        if taken >= 0:
            gene, row = divmod(taken, n_rows)
            raise InputError(_stored_twice(target, start + row, first + gene))
        matrix.write(chunk, start, first)
    put_on_disk(Path(target.work) / "store" / MATRIX / "c" / str(shard))
    with atomic_path(receipt) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack([totals, expressed])[:, : stop - start])


def _stored_twice(target: StoreTarget, row: int, gene: int) -> str:
    """Name the place of an entry that two blocks hold, which only column-major files can have."""
    destination = np.load(Path(target.work) / "destination.npy", mmap_mode="r")
    cell = int(np.flatnonzero(destination == row)[0])
    for listed in read_json(Path(target.work) / "sources.json"):
        if cell < listed["n_cells"]:
            break
        cell -= listed["n_cells"]
    spec = SourceSpec(**listed["spec"])
    with open_source(spec) as source:
        name = str(source.cell_names()[cell])
    symbol = read_json(Path(target.work) / "genes.json")[gene]
    return (
        f"{spec.path} ({spec.matrix}): cell {name!r} (row {cell}), gene {symbol!r} is stored "
        "twice; sum the duplicates in the source and ingest again"
    )
