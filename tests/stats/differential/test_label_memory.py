"""What the maps behind the label table hold together in a process: planned from memory= ."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import pertscale as ps
from pertscale.execution.resources import Resources
from pertscale.stats import rank_sum
from pertscale.stats.differential import table_parts
from pertscale.stats.differential.forecast import forecast_rank_sum
from pertscale.stats.differential.rank_sum import RankSumOptions, prepare_run
from pertscale.stats.differential.screen_fdr import (
    FEWEST_VALUES,
    MAX_VALUES,
    VALUE_BYTES,
    values_at_once,
)
from pertscale.stats.differential.tile_statistics import ContextStatistics
from tests.support.helpers import tree_hash
from tests.support.screens import write_h5ad

MB = 1_000_000


@pytest.mark.parametrize("n_genes", [500, 2_000, 60_000])
@pytest.mark.parametrize(
    ("memory", "threads"), [(600 * MB, 16), (200 * MB, 2), (100 * MB, 16), (2_000 * MB, 64)]
)
def test_parts_and_ranges_fit_into_the_memory_of_their_process(memory, threads, n_genes):
    resources = Resources(memory, threads, threads)
    assert table_parts.parts_at_once(n_genes, resources) * table_parts.part_bytes(n_genes) <= memory
    n_pairs = 30_000 * n_genes
    a_range = values_at_once(n_pairs, resources) * VALUE_BYTES
    assert threads * a_range <= max(memory, threads * FEWEST_VALUES * VALUE_BYTES)


def test_enough_memory_takes_no_thread_away():
    resources = Resources(2_000 * MB, 2, 2)
    assert table_parts.parts_at_once(8_000, resources) == 2
    assert values_at_once(10**9, resources) == MAX_VALUES
    assert values_at_once(1_000, resources) == 500  # a range for each thread
    assert table_parts.parts_at_once(8_000, Resources(1, 16, 16)) == 1  # one has to


def test_the_outlook_tells_what_is_planned(example, tmp_path):
    label_run = prepare_run(example.screen, tmp_path, RankSumOptions())
    densities = [0.5] * -(-label_run.screen.n_genes // 512)
    for memory, threads in ((600 * MB, 16), (100 * MB, 8)):
        resources = Resources(memory, threads, threads)
        found = forecast_rank_sum(label_run, resources, densities, None)
        assert found.plan.tile_bytes <= found.peak_bytes <= memory


def test_no_more_parts_take_turns_than_are_planned():
    inside, most, lock = 0, 0, threading.Lock()
    pairs = threading.Barrier(2, timeout=20)

    def make(_: int) -> None:
        nonlocal inside, most
        with table_parts._turn(2):
            with lock:
                inside += 1
                most = max(most, inside)
            pairs.wait()  # two are inside, or this breaks
            with lock:
                inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(6)))
    assert most == 2


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A screen with 3 to 8 cells for each of 23 perturbations, of which some are not tested."""
    folder = tmp_path_factory.mktemp("uneven")
    random = np.random.default_rng(0)
    sizes = random.integers(3, 9, 23)
    names = ["control"] * 40 + [f"P{i:02d}" for i, n in enumerate(sizes) for _ in range(n)]
    lines = np.where(random.random(len(names)) < 0.2, "b", "a")
    lines[:6] = "b"
    counts = random.poisson(2, (len(names), 30)).astype(np.float32)
    obs = {"perturbation": np.array(names), "cell_line": lines}
    source = write_h5ad(folder / "s.h5ad", counts, obs)
    return ps.open_screen(ps.io.ingest(source, folder / "s.zarr", quiet=True))


def test_a_part_is_made_row_group_by_row_group(uneven, tmp_path, monkeypatch):
    """Row groups of whole perturbations, as many in each as are tested; the values are the same."""
    whole = rank_sum(uneven, out=tmp_path / "whole", min_cells=4, quiet=True)
    held: list[int] = []
    real = ContextStatistics.rows

    def recording(tiles, groups, names, buffers, **how):
        if "p_value" in names:
            held.append(groups.stop - groups.start)
        return real(tiles, groups, names, buffers, **how)

    monkeypatch.setattr(ContextStatistics, "rows", recording)
    monkeypatch.setattr(table_parts, "ROW_GROUP_ROWS", 100)  # of 30 genes: three perturbations
    cut = rank_sum(uneven, out=tmp_path / "cut", min_cells=4, quiet=True)
    assert cut.perturbations.equals(whole.perturbations)
    assert (~cut.perturbations["tested"]).any()
    for context in whole.contexts:
        pd.testing.assert_frame_equal(
            cut.to_pandas(context=context), whole.to_pandas(context=context)
        )
    rows = [
        [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        for file in map(pq.ParquetFile, sorted((tmp_path / "cut").rglob("*/part-*.parquet")))
    ]
    assert all(set(mine[:-1]) <= {90} and 0 < mine[-1] <= 90 for mine in rows)
    assert max(map(len, rows)) > 4
    assert max(held) < len(uneven.groups) / 2
    folders = [tmp_path / name / "pseudobulk.zarr" for name in ("whole", "cut")]
    assert tree_hash(folders[0]) == tree_hash(folders[1])
