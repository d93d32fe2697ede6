"""The matrix of a store has the bytes that zarr-python would write."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pertscale.io.store import layout
from pertscale.io.store.layout import ALL_CHUNKS, CHUNK_GENES, CHUNK_ROWS, create_matrix
from pertscale.io.store.matrix import MatrixWriter
from pertscale.schema import MATRIX


def chunks_of(array):
    """Bytes of the files of an array's chunks, by their names."""
    files = (file for file in (array / "c").rglob("*") if file.is_file())
    return {file.relative_to(array): file.read_bytes() for file in files}


@pytest.mark.parametrize("most_files", [layout.MAX_FILES, 2], ids=["files", "shards"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float32"])
def test_chunks_are_zarrs(dtype, most_files, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MAX_FILES", most_files)
    shape = n_cells, n_genes = CHUNK_ROWS + 100, CHUNK_GENES + 30
    values = np.random.default_rng(0).poisson(0.3, shape).astype(dtype)
    values[:, :CHUNK_GENES][:CHUNK_ROWS] = 0  # a chunk without values is written, too
    for name in ("zarr", "ours"):
        create_matrix(tmp_path / name, n_cells=n_cells, n_genes=n_genes, dtype=np.dtype(dtype))
    array = zarr.open_array(tmp_path / "zarr" / MATRIX, mode="r+").with_config(ALL_CHUNKS)
    array[:] = values
    writer = MatrixWriter(tmp_path / "ours")
    step = layout.rows_per_shard(n_cells, n_genes)
    for row in range(0, n_cells, step):
        for gene in (0, CHUNK_GENES):
            strip = np.zeros((CHUNK_GENES, step), dtype)
            of_strip = values[row : row + step, gene : gene + CHUNK_GENES].T
            strip[: of_strip.shape[0], : of_strip.shape[1]] = of_strip
            writer.write(strip, row, gene)
    written = [chunks_of(tmp_path / name / MATRIX) for name in ("zarr", "ours")]
    assert written[0] == written[1]
    assert len(written[0]) == (4 if step == CHUNK_ROWS else 2)
