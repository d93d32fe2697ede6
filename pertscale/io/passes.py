"""The two passes of ingest: an external bucket sort of the source's entries into shards.

Pass one reads the source block by block, checks every value, and writes each block's entries to
one scratch file, grouped by the shard they belong to. Pass two builds each shard from its stretch
of every scratch file and writes it; a shard is written by one task only.

Both are functions of a small descriptor, run by :mod:`pertscale.runner`. A finished block or shard
leaves a receipt, and is not done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pertscale.errors import InputError
from pertscale.schema import COUNTS, MATRIX
from pertscale.io._kernels import Fault, find_fault, gather_rows, row_sums, scatter
from pertscale.io.atomic import atomic_path, read_json, write_json
from pertscale.io.scratch import Segment, gene_dtype, read_segment, write_block
from pertscale.io.sources import Block, CsrBlock, Source, SourceSpec, open_source

#: Log-normalised values lie below this (SPEC A2).
LOG_LIMIT = 15.0


@dataclass(frozen=True)
class PassOne:
    """Descriptor of one block of a source."""

    work: str
    index: int
    source: SourceSpec
    source_index: int
    first_cell: int
    block: Block
    scale: str
    dtype: str
    rows_per_shard: int
    n_genes: int


@dataclass(frozen=True)
class PassTwo:
    """Descriptor of one shard of the store."""

    work: str
    shard: int
    n_blocks: int
    dtype: str
    rows_per_shard: int
    n_cells: int
    n_genes: int


def block_file(work: str, index: int) -> Path:
    """Scratch file of a block."""
    return Path(work) / "blocks" / f"{index:06d}.bin"


def shard_file(work: str, shard: int) -> Path:
    """Receipt of a shard: totals and expressed genes of its cells."""
    return Path(work) / "shards" / f"{shard:06d}.npy"


# --- pass one ---------------------------------------------------------------------------------


def sort_block(task: PassOne) -> dict[str, Any]:
    """Read one block of the source, check it, and write its entries sorted by shard."""
    receipt = block_file(task.work, task.index).with_suffix(".json")
    if receipt.exists():
        return dict(read_json(receipt))
    destination = np.load(Path(task.work) / "destination.npy", mmap_mode="r")
    gene_map = np.load(Path(task.work) / f"genes-{task.source_index}.npy")
    with open_source(task.source) as source:
        block = source.read(task.block)
        check_values(source, block, scale=task.scale, dtype=np.dtype(task.dtype))
    first = task.first_cell + block.row_start
    target = np.asarray(destination[first : first + len(block.indptr) - 1])
    order = np.argsort(target, kind="stable")
    order = order[target[order] >= 0]
    order = order[np.diff(block.indptr)[order] > 0]
    segment = _gather(block, order, target[order] % task.rows_per_shard, gene_map, task)
    n_shards = -(-int(np.load(Path(task.work) / "n_cells.npy")) // task.rows_per_shard)
    bounds = np.searchsorted(target[order], np.arange(n_shards + 1) * task.rows_per_shard)
    write_block(block_file(task.work, task.index), row_bounds=bounds, block=segment)
    done = {
        "entries": len(segment.values),
        "largest": float(segment.values.max(initial=0)),
        "source_bytes": int(block.data.nbytes + block.indices.nbytes),
    }
    write_json(receipt, done)
    return done


def _gather(
    block: CsrBlock, order: np.ndarray, rows: np.ndarray, gene_map: np.ndarray, task: PassOne
) -> Segment:
    """Copy the entries of the kept rows, in their order, in the types of the store."""
    n = int(np.diff(block.indptr)[order].sum())
    genes = np.empty(n, gene_dtype(task.n_genes))
    values = np.empty(n, np.dtype(task.dtype))
    lengths = np.empty(len(order), np.uint32)
    kept = gather_rows(
        order, block.indptr, block.indices, block.data, gene_map, genes, values, lengths
    )
    return Segment(rows.astype(np.uint32), lengths, genes[:kept], values[:kept])


def check_values(source: Source, block: CsrBlock, *, scale: str, dtype: np.dtype) -> None:
    """Raise an error that names the place of the first value that can't be used."""
    counts = scale == COUNTS
    limit = float(np.iinfo(dtype).max) if counts else np.nextafter(LOG_LIMIT, 0)
    fault, row, entry = find_fault(
        block.indptr, block.indices, block.data, counts, limit, source.n_genes
    )
    if fault == Fault.NONE:
        return
    cell = block.row_start + row
    gene = source.genes().index[block.indices[entry]]
    where = (
        f"{source.spec.path}: cell {source.cell_names()[cell]!r} (row {cell}), gene {gene!r} "
        f"({source.spec.matrix})"
    )
    value = block.data[entry]
    raise InputError(f"{where}: {_explain(Fault(fault), value, counts, limit)}")


def _explain(fault: Fault, value: Any, counts: bool, limit: float) -> str:
    needed = "raw counts are needed" if counts else "log1p of counts per 10,000 is needed"
    if fault == Fault.NOT_FINITE:
        return f"the value is {value}; every value has to be a finite number"
    if fault == Fault.NEGATIVE:
        return (
            f"the value is {value}, but {needed} and neither can be negative; if the matrix was "
            "scaled or regressed, name the one that was not with layer='counts' or layer='raw'"
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
            f"the value {value} is above {LOG_LIMIT:g}, too large for log1p of counts per 10,000; "
            "if these are raw counts pass scale='counts'"
        )
    return "the gene is stored twice for this cell; call X.sum_duplicates() and write again"


# --- pass two -------------------------------------------------------------------------------------


def write_shard(task: PassTwo) -> None:
    """Build one shard of the store from the scratch files and write it."""
    receipt = shard_file(task.work, task.shard)
    if receipt.exists():
        return
    start = task.shard * task.rows_per_shard
    stop = min(start + task.rows_per_shard, task.n_cells)
    dense = np.zeros((task.n_genes, stop - start), np.dtype(task.dtype))
    totals = np.zeros(stop - start, np.float64)
    expressed = np.zeros(stop - start, np.int64)
    for index in range(task.n_blocks):
        segment = read_segment(
            block_file(task.work, index),
            task.shard,
            genes=gene_dtype(task.n_genes),
            values=dense.dtype,
        )
        row, gene = scatter(segment.rows, segment.lengths, segment.genes, segment.values, dense)
        if row >= 0:
            raise InputError(_stored_twice(task, start + row, gene))
        row_sums(segment.rows, segment.lengths, segment.values, totals, expressed)
    matrix = zarr.open_array(Path(task.work) / "store" / MATRIX, mode="r+")
    matrix[start:stop] = dense.T
    with atomic_path(receipt) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack([totals, expressed]))


def _stored_twice(task: PassTwo, row: int, gene: int) -> str:
    destination = np.load(Path(task.work) / "destination.npy", mmap_mode="r")
    name = read_json(Path(task.work) / "genes.json")[gene]
    cell = int(np.flatnonzero(destination == row)[0])
    return (
        f"gene {name!r} is stored twice for input cell {cell}, in different places of the file; "
        "sum the duplicates in the source and ingest again"
    )
