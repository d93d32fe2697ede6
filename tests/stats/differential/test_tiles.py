"""Tiles hold every pair once, fit their memory, and keep whole perturbations together."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pertscale.errors import MemoryBudgetError
from pertscale.stats.differential.tiles import (
    MatrixShape,
    plan_tiles,
    windows,
)


def matrix(n_genes: int) -> MatrixShape:
    return MatrixShape(
        n_genes=n_genes,
        gene_chunk=512,
        row_chunk=2048,
        itemsize=2,
        control_bytes=20.0,
        row_bytes=20,
        group_bytes=100,
        statistics_bytes=40,
    )


def held(sizes, plan, tile, n_genes):
    """Bytes that a task has at once, window by window."""
    width = min(tile.gene_stop - tile.gene_start, n_genes)
    control, *groups = sizes[tile.context]
    mine = groups[tile.first : tile.last]
    stops = list(accumulate(mine))
    most = 0
    for first, last in windows([0, *stops[:-1]], stops, plan.window_rows, plan.window_groups):
        rows = sum(mine[first:last])
        window = rows * (2 * width + 20) + (last - first) * width * 40
        most = max(most, window + max(mine) * 100)
    return most + 512 * 2048 * 2 + control * width * 20.0


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(2, 5000), min_size=2, max_size=40), min_size=1, max_size=3),
    n_genes=st.integers(1, 2000),
    memory=st.integers(10_000_000, 2_000_000_000),
    parallel=st.integers(1, 8),
    processes=st.integers(1, 9),
)
def test_every_pair_is_in_one_tile_and_a_tile_fits(sizes, n_genes, memory, parallel, processes):
    try:
        plan = plan_tiles(
            sizes,
            matrix(n_genes),
            memory_bytes=memory,
            n_parallel=parallel,
            n_threads=parallel * processes,
        )
    except MemoryBudgetError as error:
        assert f"{memory // parallel / 1e6:,.0f} MB" in str(error)
        return
    assert plan.tile_bytes <= memory // parallel
    pairs = {}
    for tile in plan.tiles:
        assert 0 <= tile.first < tile.last <= len(sizes[tile.context]) - 1
        assert 0 <= tile.gene_start < tile.gene_stop <= n_genes
        assert tile.gene_start // 512 == (tile.gene_stop - 1) // 512
        assert held(sizes, plan, tile, n_genes) <= plan.tile_bytes
        for perturbation in range(tile.first, tile.last):
            key = (tile.context, perturbation)
            pairs.setdefault(key, []).append((tile.gene_start, tile.gene_stop))
    assert len({t.name for t in plan.tiles}) == len(plan.tiles)
    assert len(pairs) == sum(len(groups) - 1 for groups in sizes)
    for genes in pairs.values():
        genes.sort()
        assert [g[0] for g in genes] == [0, *(g[1] for g in genes[:-1])]
        assert genes[-1][1] == n_genes


def test_whole_blocks_first_then_pieces_that_take_turns():
    plan = plan_tiles(
        [[3000, *[2000] * 900]], matrix(5120), memory_bytes=10**9, n_parallel=2, n_threads=2
    )
    whole, pieces = plan.tiles[:8], plan.tiles[8:]
    assert {(t.first, t.last) for t in whole} == {(0, 900)}
    assert [t.gene_start for t in pieces[:4]] == [8 * 512, 9 * 512] * 2
    assert len(pieces) == 2 * 8
    # one thread has nobody to wait for
    plan = plan_tiles(
        [[3000, *[2000] * 900]], matrix(5120), memory_bytes=10**9, n_parallel=1, n_threads=1
    )
    assert len(plan.tiles) == 10
    # enough for all threads even where there are fewer blocks than threads
    plan = plan_tiles(
        [[3000, *[2000] * 900]], matrix(512), memory_bytes=10**9, n_parallel=1, n_threads=20
    )
    assert len(plan.tiles) >= 2 * 20


def test_a_piece_is_worth_its_controls():
    plan = plan_tiles(
        [[300_000, *[200] * 2000]], matrix(512), memory_bytes=10**11, n_parallel=1, n_threads=64
    )
    assert len(plan.tiles) == 2


def test_the_error_names_what_would_do():
    sizes = [[50_000, 20_000]]
    few = {"n_parallel": 2, "n_threads": 2}
    with pytest.raises(MemoryBudgetError, match=r"memory='(\d+)MB'") as caught:
        plan_tiles(sizes, matrix(3000), memory_bytes=10_000_000, **few)
    enough = int(str(caught.value).split("memory='")[1].split("MB'")[0])
    assert plan_tiles(sizes, matrix(3000), memory_bytes=enough * 10**6, **few)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120), st.integers(1, 9)
)
def test_windows_hold_whole_perturbations(sizes, rows, groups):
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    starts = [0, *stops[:-1]]
    found = windows(starts, stops, rows, groups)
    assert found[0][0] == 0
    assert found[-1][1] == len(sizes)
    for (_, last), (first, _) in pairwise(found):
        assert last == first
    for first, last in found:
        assert last == first + 1 or stops[last - 1] - starts[first] <= rows
        assert last - first <= groups


def test_controls_take_a_fixed_share():
    """The peak does not grow with the controls: blocks of genes get narrower instead."""
    few, many = (
        plan_tiles(
            [[n_control, *[500] * 50]], matrix(1024), memory_bytes=10**9, n_parallel=2, n_threads=2
        )
        for n_control in (5_000, 50_000)
    )
    assert {t.gene_stop - t.gene_start for t in few.tiles} == {512}
    assert {t.gene_stop - t.gene_start for t in many.tiles} == {64}
    assert 0.2 * (10**9 // 2) >= 64 * 50_000 * 20
