"""The words between the two passes of ingest: what is written is what is read, for any blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import BufferPool, Buffers
from pertscale.io.ingestion._kernels import (
    FLOAT32,
    PACKED,
    UINT32,
    examine,
    fill_chunk,
    list_segments,
    order_by_key,
    write_words,
)
from pertscale.io.ingestion.block_files import read_slices, write_block

DTYPES = {PACKED: np.uint16, UINT32: np.uint32, FLOAT32: np.float32}
STRIP = 16  # genes of a strip here


def write(path: Path, matrix: np.ndarray, rows: np.ndarray, shard_rows: int, form: int) -> int:
    """Write the rows of a dense matrix as one block; return the number of words."""
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum((matrix != 0).sum(axis=1))])
    indices = np.nonzero(matrix)[1].astype(np.int32)
    data = matrix[matrix != 0]
    strips = (np.arange(matrix.shape[1]) // STRIP).astype(np.int32)
    n_shards = int(rows.max()) // shard_rows + 2
    counts = np.zeros((len(order), strips[-1] + 1), np.uint16)
    limit = 15.0 if form == FLOAT32 else float(np.iinfo(DTYPES[form]).max)
    fault, _ = examine(order, indptr, indices, data, strips, form != FLOAT32, limit, form, counts)
    assert fault == 0
    shard, shard_row = np.divmod(rows[order], shard_rows)
    row_bounds = np.searchsorted(shard, np.arange(n_shards + 1))
    words = np.empty(counts.sum(dtype=np.int64), np.uint16)
    genes = (np.arange(matrix.shape[1]) % STRIP).astype(np.uint16)
    write_words(order, indptr, indices, data, strips, genes, row_bounds, counts, form, words)
    write_block(
        path, row_bounds=row_bounds, rows=shard_row, first_strip=0, counts=counts, words=words
    )
    return len(words)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**16),
    n_rows=st.integers(1, 90),
    n_genes=st.integers(1, 50),
    n_blocks=st.integers(1, 4),
    form=st.sampled_from([PACKED, UINT32, FLOAT32]),
)
def test_round_trip(tmp_path, seed, n_rows, n_genes, n_blocks, form):
    random = np.random.default_rng(seed)
    matrix = random.poisson(0.7, (n_rows, n_genes)).astype(DTYPES[form])
    if form == FLOAT32:
        matrix = np.log1p(matrix)
    else:
        big = [127, 128, 129, 65_534, 65_535, *([65_536, 2**32 - 1] if form == UINT32 else [])]
        matrix[random.random(matrix.shape) < 0.1] = random.choice(big)
    shard_rows, destination = 40, random.permutation(n_rows)
    paths = []
    for i, rows in enumerate(np.array_split(np.arange(n_rows), min(n_blocks, n_rows))):
        paths.append(tmp_path / f"{seed}-{i}.bin")
        shards = np.append(destination[rows], n_rows - 1)  # all blocks have as many shards
        block = np.vstack([matrix[rows], np.zeros((1, n_genes), matrix.dtype)])
        write(paths[-1], block, shards, shard_rows, form)
    found = np.zeros((-(-n_rows // shard_rows) * shard_rows, n_genes), matrix.dtype)
    n_strips = -(-n_genes // STRIP)
    n_shards = len(found) // shard_rows
    slices = read_slices(paths, 0, n_shards, Buffers())
    n = len(slices.counts) + 1
    keys, starts, lengths = np.empty(n, np.uint32), np.empty(n, np.int64), np.empty(n, np.uint16)
    listed = list_segments(
        slices.blocks,
        slices.row_bounds,
        slices.rows,
        slices.counts,
        n_strips,
        shard_rows,
        keys,
        starts,
        lengths,
    )
    bounds = np.empty(n_shards * n_strips * shard_rows + 1, np.int64)
    order = np.empty(listed, np.uint32)
    order_by_key(keys, listed, bounds, order)
    for shard in range(n_shards):
        totals, expressed = np.zeros(shard_rows), np.zeros(shard_rows, np.int64)
        for strip in range(n_strips):
            key = (shard * n_strips + strip) * shard_rows
            chunk = np.full((STRIP, shard_rows), 9, matrix.dtype)
            taken = fill_chunk(
                bounds[key : key + shard_rows + 1],
                order,
                starts,
                lengths,
                slices.words,
                form,
                chunk,
                totals,
                expressed,
            )
            assert taken == -1
            genes = found[shard * shard_rows :, strip * STRIP :][:shard_rows, :STRIP]
            genes[:] = chunk.T[:, : genes.shape[1]]
        mine = found[shard * shard_rows : (shard + 1) * shard_rows]
        np.testing.assert_array_equal(expressed, (mine != 0).sum(axis=1))
        np.testing.assert_allclose(totals, mine.sum(axis=1, dtype=np.float64), rtol=1e-12)
    np.testing.assert_array_equal(found[destination], matrix)


def test_a_count_takes_two_bytes(tmp_path):
    counts = np.random.default_rng(0).integers(1, 128, (30, 48)).astype(np.uint16)
    assert write(tmp_path / "a", counts, np.arange(30), 64, PACKED) == counts.size
    counts[0, 0] = 128
    assert write(tmp_path / "a", counts, np.arange(30), 64, PACKED) == counts.size + 1
    wide = counts.astype(np.float32) / 10
    assert write(tmp_path / "b", wide, np.arange(30), 64, FLOAT32) == 3 * counts.size


def test_truncated_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "block.bin"
    write(path, np.ones((5, 20), np.uint16), np.arange(5), 4, PACKED)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptFileError, match=r"block\.bin is truncated"):
        read_slices([path], 0, 2, Buffers())
    path.write_bytes(b"something else altogether")
    with pytest.raises(CorruptFileError, match=r"block\.bin is not a scratch file"):
        read_slices([path], 0, 2, Buffers())


def test_buffers_are_used_again_and_given_back():
    pool = BufferPool()
    with pool.borrow() as one, pool.borrow() as two:
        first = one.take("a", (4, 5), np.float64)
        assert first.shape == (4, 5)
        assert first.flags.c_contiguous
        assert np.shares_memory(first, one.take("a", (10,), np.int32))
        assert not np.shares_memory(first, two.take("a", (4, 5), np.float64))
        assert not np.shares_memory(first, one.take("b", (4, 5), np.float64))
        assert one.take("a", (1000,), np.float64).shape == (1000,)
    with pool.borrow() as again:
        assert again in (one, two)
    pool.clear()
    with pool.borrow() as fresh:
        assert fresh not in (one, two)
