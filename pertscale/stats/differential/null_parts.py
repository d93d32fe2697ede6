"""From the tiles' tests of controls to the table of all, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pertscale.io.store.layout import ALL_CHUNKS
from pertscale.schema import NULLS_DIR
from pertscale.stats.differential.null_cells import NullCells
from pertscale.stats.differential.null_tiles import SUFFIX, has_nulls, read_null_rows
from pertscale.stats.differential.tiles import Tile
from pertscale.storage.atomic import put_on_disk


def write_null_chunks(
    index: Sequence[tuple[Tile, str]], staging: Path, nulls: NullCells, chunks: Iterable[int]
) -> list[str]:
    """Fill chunks of tests, as many genes as there are, and sync them; return their files.

    Memory: two chunks.
    """
    root: Any = zarr.open_group(staging / NULLS_DIR, mode="r+")
    array = root["z"].with_config(ALL_CHUNKS)
    rows = array.chunks[0]
    names = []
    for chunk in chunks:
        first, last = chunk * rows, min((chunk + 1) * rows, array.shape[0])
        array[first:last] = _rows(index, nulls, first, last, array.shape[1])
        names.append(f"z/c/{chunk}/0")
        put_on_disk(staging / NULLS_DIR / names[-1])
    return names


def _rows(
    index: Sequence[tuple[Tile, str]], nulls: NullCells, first: int, last: int, n_genes: int
) -> np.ndarray:
    """Return the tests ``first:last`` of all contexts, (tests, genes)."""
    z = np.empty((last - first, n_genes), np.float32)
    for tile, path in index:
        if not has_nulls(tile):
            continue
        start, stop = nulls.span(tile.context)
        lo, hi = max(first, start), min(last, stop)
        if lo < hi:
            rows = read_null_rows(path + SUFFIX, tile, lo - start, hi - start)
            z[lo - first : hi - first, tile.gene_start : tile.gene_stop] = rows
    return z
