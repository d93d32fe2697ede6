"""Statistics of a tile come back from its file, and one that was cut short is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import Buffers
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.tile_statistics import (
    StatisticsFile,
    open_statistics,
    write_rows,
)
from pertscale.stats.differential.tiles import Tile


def test_rows_are_what_was_written(tmp_path):
    tile = Tile(context=0, first=3, last=9, gene_start=5, gene_stop=12)
    written = np.empty(tile.shape, STATISTICS_DTYPE)
    for i, field in enumerate(STATISTICS_DTYPE.names):
        written[field] = np.arange(written.size).reshape(tile.shape) + 1000 * i
    path, buffers = tmp_path / "tile.bin", Buffers()
    with path.open("wb") as file:
        write_rows(file, tile, 0, written[:3], buffers)
        write_rows(file, tile, 3, written[3:], buffers)
    mapped = open_statistics(path, tile)
    with StatisticsFile(path, tile, buffers) as opened:
        for field in STATISTICS_DTYPE.names:
            np.testing.assert_array_equal(opened.rows(field, 2, 6), written[field][2:6])
            np.testing.assert_array_equal(mapped[field], written[field])
    path.write_bytes(path.read_bytes()[:-1])
    last = STATISTICS_DTYPE.names[-1]
    with StatisticsFile(path, tile, buffers) as opened, pytest.raises(CorruptFileError):
        opened.rows(last, 0, 7)
