"""Controls against controls: against SciPy, nominal rates, and the same whatever the order."""

from __future__ import annotations

from dataclasses import asdict, astuple, replace
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import pytest
from scipy import stats
from scipy.special import erfc

import pertscale as ps
from pertscale.errors import NotFoundError
from pertscale.execution.resources import Resources
from pertscale.stats import (
    fitted_null,
    null_calibration,
    rank_sum,
    rank_sum_share,
    read_null_tests,
)
from pertscale.stats.differential import null_cells
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, SCANPY, SCANPY_TIE
from pertscale.stats.differential.null_cells import DRAWS, NullCells, choose_controls
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.rank_sum import prepare_run
from pertscale.stats.differential.tile_task import process_tile, release_memory
from pertscale.stats.null_tests import qq_points
from pertscale.storage.atomic import read_json, write_json
from tests.support.helpers import tree_hash
from tests.support.screens import write_h5ad

SHARES = ["share_p_0_05", "share_p_0_01", "share_p_1e_4", "share_called"]


def plain_z(chosen: np.ndarray, rest: np.ndarray, variant: int) -> np.ndarray:
    """The statistic of method B1, gene by gene, from ranks of (cells, genes)."""
    n1, n2 = len(chosen), len(rest)
    n = n1 + n2
    both = np.concatenate([chosen, rest])
    gap = stats.rankdata(both, axis=0)[:n1].sum(axis=0) - n1 * (n1 + 1) / 2 - n1 * n2 / 2
    ties = np.array([(t.astype(float) ** 3 - t).sum() for t in map(tie_sizes, both.T)])
    variance = n1 * n2 / 12 * ((n + 1) - ties / (n * (n - 1)))
    if variant != MANN_WHITNEY:
        factor = 1 - ties / (n**3 - n) if variant == SCANPY_TIE else 1
        variance = factor * n1 * n2 * (n + 1) / 12
    size = np.abs(gap) - (0.5 if variant == MANN_WHITNEY else 0)
    return np.sign(gap) * size / np.sqrt(np.where(variance > 0, variance, np.inf))


def tie_sizes(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_counts=True)[1]


@pytest.mark.parametrize("is_counts", [True, False])
@pytest.mark.parametrize("variant", [MANN_WHITNEY, SCANPY, SCANPY_TIE])
def test_kernel_agrees_with_ranks_of_chosen_and_others(variant, is_counts):
    rng = np.random.default_rng(0)
    n, n_genes = 300, 40
    counts = rng.poisson(np.geomspace(0.01, 30, n_genes)[:, None], (n_genes, n)).astype(np.uint16)
    counts[0], counts[1], counts[2, :] = 0, 3, 0
    counts[2, 7] = 1
    totals = rng.choice([100.0, 200.0, 400.0], n)  # heavy ties, across totals, too
    block = counts if is_counts else np.log1p(counts.astype(np.float32))
    kernel = KERNELS["cpu"]
    controls = kernel.prepare_controls(block, totals, is_counts=is_counts)
    groups = [rng.choice(n, size, replace=False) for size in (1, 2, 17, 150, 299)]
    bounds = np.cumsum([0, *map(len, groups)])
    z = np.empty((len(groups), n_genes), np.float32)
    kernel.test_chosen(
        block,
        totals,
        bounds,
        np.concatenate(groups).astype(np.int32),
        controls,
        is_counts=is_counts,
        variant=variant,
        most_cells=n,
        z=z,
    )
    keys = (block / totals if is_counts else block.astype(float)).T
    assert np.isnan(z[:, 0]).all() and not np.isnan(z[:, 1:]).any()
    for of_group, mine in zip(z, groups, strict=True):
        others = np.setdiff1d(np.arange(n), mine)
        expected = plain_z(keys[mine], keys[others], variant)
        assert is_counts or of_group[1] == 0  # all values are the same
        np.testing.assert_allclose(of_group[1:], expected[1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", ["alpha", "beta"])
def test_every_test_agrees_with_scipy(example, tmp_path, context):
    screen = ps.open_screen(example.screen)
    rank_sum(screen, out=tmp_path, replicates=1, quiet=True)
    code, (first, last) = screen.contexts.index(context), screen.control_rows(context)
    choose_controls(screen, nulls := nulls_of(screen, tmp_path))
    counts = screen.to_xarray()["counts"].values[first:last].astype(float)
    keys = counts / screen.totals[first:last, None]
    found = read_null_tests(tmp_path, context=context)
    bounds, chosen = nulls.cells(code)
    z, expressed = found["z"].values, counts.any(axis=0)
    assert len(z) == len(bounds) - 1 >= DRAWS and len(z) % DRAWS == 0
    np.testing.assert_array_equal(np.isnan(z), np.broadcast_to(~expressed, z.shape))
    for row, start, stop in list(zip(z, bounds[:-1], bounds[1:], strict=True))[::7]:
        mine = chosen[start:stop]
        others = np.setdiff1d(np.arange(last - first), mine)
        expected = stats.mannwhitneyu(keys[mine], keys[others], method="asymptotic", axis=0)
        p = np.nan_to_num(expected.pvalue, nan=1.0)[expressed]
        got = erfc(np.abs(row[expressed].astype(float)) / np.sqrt(2))
        np.testing.assert_allclose(got[p < 0.9], p[p < 0.9], rtol=1e-4)
        below = expected.statistic[expressed] - len(mine) * len(others) / 2
        far = np.abs(below) > 0.5
        np.testing.assert_array_equal(np.sign(row[expressed][far]), np.sign(below[far]))


def nulls_of(screen: ps.Screen, folder, min_cells: int = 2) -> NullCells:
    return NullCells(
        store=screen.path,
        fingerprint=screen.fingerprint,
        staging=str(folder),
        min_cells=min_cells,
    )


def labelled(folder, counts, labels, guides, order, *, guide: str = "guide"):
    """A screen whose rows are in some order; returns its tests by name, with the cells' names."""
    folder.mkdir()
    columns = {"perturbation": labels[order], guide: guides[order]}
    names = np.array([f"cell{i}" for i in range(len(labels))])
    write_h5ad(folder / "screen.h5ad", counts[order], columns, cells=names[order])
    screen = ps.open_screen(
        ps.io.ingest(folder / "screen.h5ad", folder / "screen.zarr", quiet=True)
    )
    rank_sum(screen, out=folder / "out", replicates=1, quiet=True)
    choose_controls(screen, nulls := nulls_of(screen, folder))
    cells = screen.obs.index.to_numpy()
    bounds, chosen = nulls.cells(0)
    tests = [chosen[a:b] for a, b in pairwise(bounds)]
    members = {
        test.name: frozenset(cells[mine]) for test, mine in zip(nulls.tests, tests, strict=True)
    }
    return members, read_null_tests(folder / "out").compute()


@pytest.fixture(scope="module")
def both_orders(tmp_path_factory):
    rng = np.random.default_rng(1)
    n, folder = 500, tmp_path_factory.mktemp("orders")
    counts = rng.poisson(1.0, (n, 30)) + (np.arange(30) == 0)
    labels = rng.choice(["non-targeting", "A", "B", "C"], n, p=[0.4, 0.1, 0.2, 0.3])
    numbers = rng.choice([1, 2, 3, 4], n, p=[0.6, 0.2, 0.19, 0.01])
    guides = np.array([f"{label}_g{number}" for label, number in zip(labels, numbers, strict=True)])
    orders = np.arange(n), rng.permutation(n)
    made = [
        labelled(folder / str(i), counts, labels, guides, order) for i, order in enumerate(orders)
    ]
    return made, (labels, guides), folder / "0" / "screen.zarr"


def test_order_of_rows_makes_no_difference(both_orders):
    (one, first), (other, second) = both_orders[0]
    assert one == other
    assert first.identical(second.assign_attrs(first.attrs))


def test_sizes_are_those_of_perturbations_and_guides_leave_as_many(both_orders):
    (members, found), (labels, guides) = both_orders[0][0], both_orders[1]
    n_control = int((labels == "non-targeting").sum())
    sizes = sorted({min(int((labels == name).sum()), n_control // 2) for name in "ABC"})
    drawn = found.isel(test=found["kind"].values == "cells")
    assert sorted(set(drawn["n_cells"].values)) == sizes
    assert drawn.sizes["test"] == DRAWS * len(sizes)
    assert len({members[name] for name in drawn["name"].values}) == drawn.sizes["test"]
    of_guides = found.isel(test=found["kind"].values == "guide")
    n_cells = {g: int((guides == g).sum()) for g in sorted(set(guides[labels == "non-targeting"]))}
    kept = {g: n for g, n in n_cells.items() if 2 <= n <= n_control // 2}
    assert "non-targeting_g1" not in kept and len(kept) >= 2
    assert dict(zip(of_guides["name"].values, of_guides["n_cells"].values, strict=True)) == kept
    assert all(len(members[name]) == n for name, n in kept.items())


def test_labels_of_the_source_are_guides_where_no_column_has_them(tmp_path):
    rng = np.random.default_rng(2)
    n = 300
    labels = rng.choice(["non-targeting_1", "non-targeting_2", "non-targeting_3", "A_1", "A_2"], n)
    counts = rng.poisson(1.0, (n, 20)) + (np.arange(20) == 0)
    _, found = labelled(tmp_path / "s", counts, labels, labels, np.arange(n), guide="other")
    names = found["name"].values[found["kind"].values == "guide"]
    assert set(names) == {f"non-targeting_{i}" for i in (1, 2, 3)}


def test_most_guides_are_drawn_by_their_names(monkeypatch, both_orders):
    monkeypatch.setattr(null_cells, "MOST_GUIDES", 1)
    found = both_orders[0][0][1]
    of_guides = set(found["name"].values[found["kind"].values == "guide"])
    store = ps.open_screen(both_orders[2])
    some = [t.name for t in null_cells.null_tests(store, 2) if t.kind == "guide"]
    assert len(some) == 1 and set(some) < of_guides


@pytest.fixture(scope="module")
def without_effects(tmp_path_factory):
    """A screen without any effect: all cells, controls or not, are of one kind."""
    rng = np.random.default_rng(3)
    n, n_genes = 6_000, 400
    mean = np.exp(rng.normal(0.5, 1.2, n_genes))
    depth = np.exp(rng.normal(0, 0.4, n))
    counts = rng.poisson(rng.gamma(2.0, mean / 2.0, (n, n_genes)) * depth[:, None])
    labels = rng.choice(["non-targeting", "A", "B", "C", "D"], n, p=[0.4, 0.05, 0.1, 0.2, 0.25])
    guides = np.array([f"{label}_{i % 7}" for i, label in enumerate(labels)])
    folder = tmp_path_factory.mktemp("without")
    labelled(folder / "s", counts, labels, guides, np.arange(n))
    return folder / "s" / "out"


def test_rates_are_nominal_without_any_effect(without_effects):
    table = null_calibration(without_effects)
    assert table["kind"].tolist() == ["cells", "cells", "cells", "guide"]
    assert (table["n_tests"] == [DRAWS, DRAWS, DRAWS, 7]).all() and (table["reason"] == "").all()
    for row in table.itertuples():
        # depth is shared by all genes of a cell, so tests of one group are not independent
        slack = 6 / np.sqrt(row.n_pairs)
        assert abs(row.share_p_0_05 - 0.05) < 0.05 * 0.2 + slack * 0.22
        assert abs(row.share_p_0_01 - 0.01) < 0.01 * 0.3 + slack * 0.1
        assert row.share_p_1e_4 < 1e-3
        assert row.share_called < 1e-3
        assert 0.85 < row.inflation < 1.15
        assert abs(row.centre) < 0.1 and 0.93 < row.scale < 1.07


def test_shares_are_those_of_the_table_of_tests(without_effects):
    table, tests = null_calibration(without_effects), read_null_tests(without_effects).compute()
    row = table.iloc[0]
    z = tests["z"].values[:DRAWS].astype(float)
    z = z[:, ~np.isnan(z[0])]
    p = 2 * stats.norm.sf(np.abs(z))
    assert row["n_pairs"] == z.size
    assert row["share_p_0_05"] == pytest.approx((p < 0.05).mean())
    assert row["share_p_1e_4"] == pytest.approx((p < 1e-4).mean())
    padded = np.ones((len(p), tests.sizes["gene"]))
    padded[:, : p.shape[1]] = p
    called = np.array([stats.false_discovery_control(of_test) < 0.01 for of_test in padded])
    assert row["share_called"] == pytest.approx(called.sum() / z.size)
    assert row["inflation"] == pytest.approx(np.median(z**2) / stats.chi2.median(1), rel=1e-5)
    assert (row["centre"], row["scale"]) == pytest.approx(fitted_null(tests["z"].values[:DRAWS]))


def test_a_guide_that_does_something_is_seen(tmp_path):
    rng = np.random.default_rng(4)
    n, n_genes = 1_200, 100
    labels = rng.choice(["non-targeting", "A", "B"], n, p=[0.6, 0.2, 0.2])
    numbers = rng.integers(0, 4, n)
    guides = np.array([f"{label}_{i}" for label, i in zip(labels, numbers, strict=True)])
    moved = (guides == "non-targeting_2")[:, None] & (np.arange(n_genes) < 30)
    counts = rng.poisson(np.where(moved, 6.0, 3.0)) + (np.arange(n_genes) == 0)
    labelled(tmp_path / "s", counts, labels, guides, np.arange(n))
    table = null_calibration(tmp_path / "s" / "out").set_index("kind")
    assert table.loc["guide", "share_called"] > 0.05
    assert (table.loc[["cells"], "share_called"] < 0.01).all()


def test_few_controls_give_no_tests_and_the_table_says_so(tmp_path):
    rng = np.random.default_rng(5)
    labels = np.repeat(["non-targeting", "A", "B"], [3, 40, 50])
    counts = rng.poisson(2.0, (93, 20)) + 1
    _, found = labelled(tmp_path / "s", counts, labels, labels, np.arange(93))
    assert found.sizes == {"test": 0, "gene": 20}
    table = null_calibration(tmp_path / "s" / "out")
    assert table["kind"].tolist() == ["cells", "guide"] and (table["n_tests"] == 0).all()
    assert table["reason"].str.contains("controls").all() and table[SHARES].isna().all(axis=None)


def test_contexts_without_a_tested_perturbation_have_none(tmp_path):
    rng = np.random.default_rng(6)
    labels = np.array(["non-targeting"] * 50 + ["A"] * 3)
    counts = rng.poisson(2.0, (53, 20)) + 1
    write_h5ad(tmp_path / "s.h5ad", counts, {"perturbation": labels})
    store = ps.io.ingest(tmp_path / "s.h5ad", tmp_path / "s.zarr", quiet=True)
    rank_sum(store, out=tmp_path / "out", min_cells=5, replicates=1, quiet=True)
    table = null_calibration(tmp_path / "out")
    assert table["reason"].tolist() == ["no perturbation was tested"] * 2


def test_tables_of_before_are_made_anew_and_others_are_kept(example, tmp_path):
    out = tmp_path / "out"
    rank_sum(example.screen, out=out, quiet=True)
    with pytest.raises(NotFoundError, match="replicates="):
        read_null_tests(out)
    rank_sum(example.screen, out=out, replicates=1, quiet=True)
    expected, manifest = tree_hash(out), out / "labels" / "manifest.json"
    made = read_json(manifest)
    assert set(made["null_tests_files"]) >= {"zarr.json", "z/zarr.json", "z/c/0/0"}
    next((out / "null_tests.zarr" / "z").rglob("c/0/0")).unlink()
    rank_sum(example.screen, out=out, replicates=1, quiet=True)
    assert tree_hash(out) == expected
    before = manifest.stat().st_mtime_ns
    rank_sum(example.screen, out=out, replicates=1, quiet=True)
    assert manifest.stat().st_mtime_ns == before
    rank_sum(example.screen, out=out, fdr=0.05, quiet=True)
    assert not (out / "null_tests.zarr").exists()  # they were of other labels


def test_chunks_of_tests_are_shared_among_parts(example, tmp_path, monkeypatch):
    from pertscale.stats.differential import table_parts

    rank_sum(example.screen, out=tmp_path / "one", replicates=1, quiet=True)
    monkeypatch.setattr(table_parts, "PART_PAIRS", 5 * ps.open_screen(example.screen).n_genes)
    with dask.config.set(scheduler="synchronous"):
        rank_sum(example.screen, out=tmp_path / "many", replicates=1, quiet=True)
    one, many = (read_null_tests(tmp_path / name).compute() for name in ("one", "many"))
    assert one.identical(many)
    assert len(list((tmp_path / "many" / "null_tests.zarr" / "z").rglob("c/*/0"))) > 10


def test_an_interrupted_run_goes_on_and_shares_make_the_same(example, tmp_path):
    rank_sum(example.screen, out=tmp_path / "whole", replicates=1, quiet=True)
    job = prepare_run(example.screen, tmp_path / "parts", RankSumOptions(), replicates=1)
    job.choose_cells()
    plan = job.plan(Resources(2 * 10**8, 1, 1), alone=True)
    pieces = [
        replace(tile, first=first, last=last)
        for tile in plan.tiles
        for first, last in ((0, 5), (5, tile.last))
    ]
    cut = {**asdict(plan), "tiles": [list(astuple(tile)) for tile in reversed(pieces)]}
    write_json(job.staging / "plan.json", cut)
    tasks = job.tasks(job.plan(Resources(2 * 10**8, 1, 1), alone=True))
    first = [task for task in tasks if task.tile.first == 0]
    assert 0 < len(first) < len(tasks) and not any(task.is_done for task in tasks)
    for task in tasks:
        process_tile(task)
    assert all(task.is_done for task in tasks)
    assert [Path(task.nulls_file).exists() for task in tasks] == [t in first for t in tasks]
    Path(first[0].nulls_file).write_bytes(b"cut")
    Path(first[1].nulls_file).unlink()
    assert [task for task in tasks if not task.is_done] == first[:2]
    for share in ("1/2", "2/2"):
        rank_sum_share(
            example.screen, share=share, out=tmp_path / "parts", replicates=1, quiet=True
        )
    assert all(task.is_done for task in tasks)
    rank_sum(example.screen, out=tmp_path / "parts", replicates=1, quiet=True)
    assert tree_hash(tmp_path / "parts") == tree_hash(tmp_path / "whole")


def test_controls_of_a_block_are_read_once_with_and_without_tests(example, tmp_path):
    """The tests take the controls that are decoded for all others."""
    found = []
    for replicates in (0, 1):
        job = prepare_run(
            example.screen, tmp_path / f"{replicates}", RankSumOptions(), replicates=replicates
        )
        job.choose_cells()
        tasks = job.tasks(job.plan(Resources(2 * 10**8, 1, 1), alone=True))
        release_memory()
        found.append([process_tile(task)["bytes_read"] for task in tasks])
    assert found[0] == found[1]


def test_null_is_robust_and_of_nothing_there_is_none():
    z = np.random.default_rng(7).normal(0.2, 1.5, 200_001)
    z[:500] = 50
    z[-1] = np.nan
    assert fitted_null(z.astype(np.float32)) == pytest.approx((0.2, 1.5), abs=0.05)
    assert np.isnan(fitted_null(np.array([np.nan]))).all()


def test_points_of_observed_against_expected():
    z = np.random.default_rng(8).normal(size=100_000).astype(np.float32)
    expected, observed = qq_points(z)
    assert len(expected) <= 60 and (np.diff(expected) < 0).all() and (np.diff(observed) <= 0).all()
    close = expected < 3
    np.testing.assert_allclose(observed[close], expected[close], rtol=0.15, atol=0.01)
    assert np.isfinite(qq_points(np.full(10, 60.0))[1]).all()
    assert [len(values) for values in qq_points(np.full(3, np.nan))] == [0, 0]
