"""The two passes of ingest: an external bucket sort of the source's entries into shards.

Pass one reads the source block by block, checks every value, and writes each block's entries to
one scratch file, sorted by shard of rows and strip of genes. Pass two builds each shard from its
stretch of every scratch file, strip by strip, and writes it; a shard is written by one task only.

Both are functions of a small descriptor, run by :mod:`pertscale.runner`. A finished block or shard
leaves a receipt, and is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pertscale.errors import InputError
from pertscale.io._kernels import Fault, add_rows, examine, fill_buckets, scatter
from pertscale.io.atomic import atomic_path, read_json
from pertscale.io.scratch import POSITION, read_bounds, read_entries, write_block
from pertscale.io.sources import Block, CsrBlock, Source, SourceSpec, open_source
from pertscale.io.store import CHUNK_GENES
from pertscale.schema import COUNTS, MATRIX

#: Log-normalised values lie below this (SPEC A2).
LOG_LIMIT = 15.0


@dataclass(frozen=True)
class Target:
    """The store that both passes work for.

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
    def entry_bytes(self) -> int:
        """Bytes of an entry in a scratch file."""
        return POSITION.itemsize + np.dtype(self.dtype).itemsize

    def block_file(self, index: int) -> Path:
        """Scratch file of a block of the sources; its being there is the receipt."""
        return Path(self.work) / "blocks" / f"{index:06d}.bin"

    def shard_file(self, shard: int) -> Path:
        """Receipt of a shard: totals and expressed genes of its cells."""
        return Path(self.work) / "shards" / f"{shard:06d}.npy"


@dataclass(frozen=True)
class PassOne:
    """Descriptor of one block of a source."""

    target: Target
    index: int
    source: SourceSpec
    source_index: int
    first_cell: int
    block: Block


@dataclass(frozen=True)
class PassTwo:
    """Descriptor of one shard of the store; `memory` is what its entries may take, in bytes."""

    target: Target
    shard: int
    n_blocks: int
    memory: int


# --- pass one -----------------------------------------------------------------------------------


def sort_block(task: PassOne) -> None:
    """Read one block of the source, check it, and write its entries sorted by bucket."""
    target = task.target
    path = target.block_file(task.index)
    if path.exists():
        return
    destination = np.load(Path(target.work) / "destination.npy", mmap_mode="r")
    gene_map = np.load(Path(target.work) / f"genes-{task.source_index}.npy")
    strips = np.where(gene_map >= 0, gene_map // CHUNK_GENES, -1).astype(np.int32)
    with open_source(task.source) as source:
        block = _native(source.read(task.block))
        first = task.first_cell + block.row_start
        rows = np.asarray(destination[first : first + block.n_rows])
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        shard, shard_rows = np.divmod(rows[order], target.rows_per_shard)
        buckets = shard * target.n_strips
        counts = _examine(source, block, order, buckets, strips, target)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    positions = np.empty(bounds[-1], POSITION)
    values = np.empty(bounds[-1], np.dtype(target.dtype))
    offsets = (gene_map % CHUNK_GENES * target.rows_per_shard).astype(POSITION)
    fill_buckets(
        order, buckets, shard_rows.astype(POSITION), block.indptr, block.indices, block.data,
        strips, offsets, bounds[:-1].copy(), positions, values,
    )  # fmt: skip
    write_block(path, bounds=bounds, positions=positions, values=values)


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
    buckets: np.ndarray,
    strips: np.ndarray,
    target: Target,
) -> np.ndarray:
    """Count the entries per bucket; raise for the first that can't be used, naming its place."""
    integers = target.scale == COUNTS
    limit = float(np.iinfo(target.dtype).max) if integers else float(np.nextafter(LOG_LIMIT, 0))
    counts = np.zeros(target.n_shards * target.n_strips, np.int64)
    fault, entry = examine(
        order, buckets, block.indptr, block.indices, block.data, strips, integers, limit, counts
    )
    if fault != Fault.NONE:
        reason = _explain(Fault(fault), block.data[entry], integers, limit)
        raise InputError(f"{place_of(source, block, entry)}: {reason}")
    return counts


def place_of(source: Source, block: CsrBlock, entry: int) -> str:
    """Name the file, cell and gene of an entry of a block."""
    row = block.row_start + int(np.searchsorted(block.indptr, entry, side="right")) - 1
    cell = str(source.cell_names()[row])
    gene = str(source.genes().index[block.indices[entry]])
    return f"{source.spec.path} ({source.spec.matrix}): cell {cell!r} (row {row}), gene {gene!r}"


def _explain(fault: Fault, value: Any, counts: bool, limit: float) -> str:
    if fault == Fault.NOT_FINITE:
        return f"the value is {value}; every value has to be a finite number"
    if fault == Fault.NEGATIVE:
        needed = "raw counts" if counts else "log1p of counts per 10,000"
        return (
            f"the value is {value}, but {needed} can't be negative; if the matrix was scaled or "
            "regressed, name the one that was not with layer='counts' or layer='raw'"
        )
    if fault == Fault.FRACTIONAL:
        return (
            f"the value {value} is not an integer, but the screen is read as raw counts; if it is "
            "log-normalised pass scale='log1p_1e4', or name the counts with layer='counts'"
        )
    if fault == Fault.TOO_LARGE and counts:
        return (
            f"the count {value} is above {limit:,.0f}; one cell does not hold so many molecules "
            "of a gene. If it is right all the same, pass dtype='uint32'"
        )
    if fault == Fault.TOO_LARGE:
        return (
            f"the value {value} is not below {LOG_LIMIT:g}, too large for log1p of counts per "
            "10,000; if these are raw counts pass scale='counts'"
        )
    return "the gene is stored twice for this cell; call X.sum_duplicates() and write again"


# --- pass two -----------------------------------------------------------------------------------


def write_shard(task: PassTwo) -> None:
    """Build one shard of the store from the scratch files, strip by strip, and write it."""
    target = task.target
    receipt = target.shard_file(task.shard)
    if receipt.exists():
        return
    start = task.shard * target.rows_per_shard
    stop = min(start + target.rows_per_shard, target.n_cells)
    totals = np.zeros(target.rows_per_shard, np.float64)
    expressed = np.zeros(target.rows_per_shard, np.int64)
    # zarr's own search for empty chunks takes four times as long as compressing them
    matrix = zarr.open_array(Path(target.work) / "store" / MATRIX, mode="r+")
    matrix = matrix.with_config({"write_empty_chunks": True})
    strip = np.empty((CHUNK_GENES, target.rows_per_shard), np.dtype(target.dtype))
    for number, segments in _strips(task):
        if not segments:
            continue
        strip[:] = 0
        first = number * CHUNK_GENES
        last = min(first + CHUNK_GENES, target.n_genes)
        for positions, values in segments:
            taken = scatter(positions, values, strip.reshape(-1))
            if taken >= 0:
                gene, row = divmod(taken, target.rows_per_shard)
                raise InputError(_stored_twice(target, start + row, first + gene))
        add_rows(strip, totals, expressed)
        matrix[start:stop, first:last] = strip[: last - first, : stop - start].T
    with atomic_path(receipt) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack([totals, expressed])[:, : stop - start])


def _strips(task: PassTwo) -> Iterator[tuple[int, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yield each strip's number and its (positions, values) in every block, in their order.

    As many strips are read together as fit the memory, since reading a block's stretch costs the
    same for one strip as for all.
    """
    target = task.target
    n = target.n_strips
    files = [target.block_file(index) for index in range(task.n_blocks)]
    bounds = np.stack([read_bounds(file, task.shard * n, n) for file in files])
    ends = (bounds - bounds[:, :1]).sum(axis=0) * target.entry_bytes
    dtype = np.dtype(target.dtype)
    first = 0
    while first < n:
        last = int(np.searchsorted(ends, ends[first] + task.memory, side="right")) - 1
        last = max(last, first + 1)
        read = [
            (b - b[first], *read_entries(file, int(b[first]), int(b[last]), dtype))
            for file, b in zip(files, bounds, strict=True)
            if b[last] > b[first]
        ]
        for number in range(first, last):
            cuts = [(slice(b[number], b[number + 1]), p, v) for b, p, v in read]
            yield number, [(p[cut], v[cut]) for cut, p, v in cuts if cut.stop > cut.start]
        first = last


def _stored_twice(target: Target, row: int, gene: int) -> str:
    """Tell the place of an entry that two blocks hold, which only column-major files can have."""
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
