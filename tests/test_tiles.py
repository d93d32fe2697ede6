from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pertscale.errors import MemoryBudgetError
from pertscale.tiles import CELL_SCRATCH_BYTES, CONTROL_BYTES, plan_tiles, windows

SHAPE = {"gene_chunk": 512, "row_chunk": 2048, "itemsize": 2, "statistics_bytes": 40}


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(2, 5000), min_size=2, max_size=40), min_size=1, max_size=3),
    n_genes=st.integers(1, 2000),
    memory=st.integers(10_000_000, 2_000_000_000),
    parallel=st.integers(1, 8),
)
def test_every_pair_is_in_one_tile_and_a_tile_fits(sizes, n_genes, memory, parallel):
    try:
        plan = plan_tiles(sizes, n_genes=n_genes, memory_bytes=memory, n_parallel=parallel, **SHAPE)
    except MemoryBudgetError as error:
        assert f"{memory // parallel / 1e6:,.0f} MB" in str(error)
        return
    area = 0
    for tile in plan.tiles:
        assert 0 <= tile.first < tile.last <= len(sizes[tile.context]) - 1
        assert 0 <= tile.gene_start < tile.gene_stop <= n_genes
        area += (tile.last - tile.first) * (tile.gene_stop - tile.gene_start)
        width = tile.gene_stop - tile.gene_start
        held = width * sizes[tile.context][0] * (CONTROL_BYTES + 2)
        held += plan.window_rows * (width * 4 + CELL_SCRATCH_BYTES)
        held += width * 40 * (tile.last - tile.first)
        assert held <= plan.tile_bytes
    assert len({t.name for t in plan.tiles}) == len(plan.tiles)
    assert area == sum(len(groups) - 1 for groups in sizes) * n_genes


def test_tiles_that_share_controls_follow_each_other():
    plan = plan_tiles(
        [[3000, *[2000] * 900]], n_genes=1024, memory_bytes=100_000_000, n_parallel=1, **SHAPE
    )
    blocks = [tile.gene_start for tile in plan.tiles]
    assert blocks == sorted(blocks)
    assert len(set(blocks)) < len(blocks)


def test_the_error_names_what_would_do():
    sizes = [[50_000, 20_000]]
    with pytest.raises(MemoryBudgetError, match=r"memory='(\d+)MB'") as caught:
        plan_tiles(sizes, n_genes=3000, memory_bytes=10_000_000, n_parallel=2, **SHAPE)
    enough = int(str(caught.value).split("memory='")[1].split("MB'")[0])
    assert plan_tiles(sizes, n_genes=3000, memory_bytes=enough * 10**6, n_parallel=2, **SHAPE)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120))
def test_windows_hold_whole_perturbations(sizes, rows):
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    starts = [0, *stops[:-1]]
    found = windows(starts, stops, rows)
    assert found[0][0] == 0
    assert found[-1][1] == len(sizes)
    for (_, last), (first, _) in pairwise(found):
        assert last == first
    for first, last in found:
        assert last == first + 1 or stops[last - 1] - starts[first] <= rows
