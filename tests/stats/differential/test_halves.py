"""Halves of the cells: against NumPy and SciPy, whatever the order of rows, on every scheduler."""

from __future__ import annotations

import dask
import numpy as np
import pytest
from distributed import LocalCluster
from numba import njit
from scipy import stats

import pertscale as ps
from pertscale.diagnostics.events import recording
from pertscale.errors import ArgumentError, NotFoundError
from pertscale.stats import rank_sum, read_halves, read_labels
from pertscale.stats.differential._kernels import cpu
from pertscale.stats.differential._kernels.half_groups import N_SUMS, _log
from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, STATISTICS_DTYPE
from pertscale.stats.differential.half_cells import cell_codes, second_half
from tests.support.helpers import tree_hash
from tests.support.screens import write_h5ad

N_SEEDS = 3


@pytest.fixture(scope="module")
def folder(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("halved")
    rank_sum(example.screen, out=folder, replicates=N_SEEDS, quiet=True)
    return folder


@njit
def logs_of(x):
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = _log(x[i])
    return out


def test_logarithm():
    rng = np.random.default_rng(0)
    x = np.concatenate([1 + np.exp(rng.uniform(-35, 9.3, 100_000)), [1.0, 2.0**0.5, 2.0, 1e300]])
    np.testing.assert_allclose(logs_of(x), np.log(x), rtol=4e-16, atol=2e-16)


def halves_of(example, context):
    """Yield (name, cells of the whole group, which are in the second half by seed)."""
    screen = ps.open_screen(example.screen)
    codes = cell_codes(screen, N_SEEDS)
    for group in screen.context_groups(context).itertuples():
        rows = slice(group.start, group.stop)
        yield group.perturbation, rows, codes[rows, None] >> np.arange(N_SEEDS) & 1 == 1


@pytest.mark.parametrize("context", ["alpha", "beta"])
def test_every_pair_agrees_with_numpy_and_scipy(example, folder, context):
    screen = ps.open_screen(example.screen)
    values = screen.to_xarray()
    counts = values["counts"].values.astype(float)
    keys = counts / screen.totals[:, None]
    logs = np.log1p(1e4 * keys)
    found = read_halves(folder, context=context).compute()
    groups = list(halves_of(example, context))
    control, in_second = groups[0][1], groups[0][2]
    n_halved = 0
    for at, (name, rows, second) in enumerate(groups):
        of_group = found.isel(perturbation=at)
        assert str(of_group["perturbation"].values) == name
        if rows.stop - rows.start > 1:
            variance = logs[rows].var(axis=0, ddof=1)
            np.testing.assert_allclose(of_group["variance_log1p"], variance, rtol=1e-5, atol=1e-6)
        if rows.stop - rows.start < 10:
            assert np.isnan(of_group["mean_log1p"]).all() and np.isnan(of_group["z"]).all()
            assert (of_group["label"] == -128).all() and (of_group["n_cells"] == 0).all()
            continue
        n_halved += 1
        for seed in range(N_SEEDS):
            for half in range(2):
                mine = second[:, seed] == half
                one = of_group.isel(replicate=seed, half=half)
                assert int(one["n_cells"]) == mine.sum()
                mean = logs[rows][mine].mean(axis=0)
                np.testing.assert_allclose(one["mean_log1p"], mean, rtol=1e-5, atol=1e-6)
        if name == "control":
            continue
        for half in range(2):
            one = of_group.isel(half=half)
            mine, theirs = second[:, 0] == half, in_second[:, 0] == half
            expected = stats.mannwhitneyu(
                keys[rows][mine], keys[control][theirs], method="asymptotic", axis=0
            )
            p = np.nan_to_num(expected.pvalue, nan=1.0)
            got = np.minimum(2 * stats.norm.sf(np.abs(one["z"].values.astype(float))), 1)
            np.testing.assert_allclose(got[p < 0.9], p[p < 0.9], rtol=1e-4)
            change = logs[rows][mine].mean(axis=0) - logs[control][theirs].mean(axis=0)
            called = stats.false_discovery_control(p) < 0.01
            np.testing.assert_array_equal(one["label"], np.where(called, np.sign(change), 0))
    assert n_halved >= 10


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("n_values", [3, 2_000])
def test_kernel_on_many_ties_and_few(monkeypatch, exact, n_values):
    """All cells and both halves, as SciPy tests them; all cells bit for bit as without halves."""
    monkeypatch.setattr(cpu, "EXACT_TIES_UP_TO", 10**6 if exact else 0)
    rng, kernel = np.random.default_rng(n_values), cpu.CpuKernel()
    sizes, n_control, n_genes = [12, 300, 40, 90], 500, 6
    n = n_control + sum(sizes)
    values = rng.integers(0, n_values, (n_genes, n)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = 0
    values[0] = 0
    codes, totals = rng.integers(0, 8, n).astype(np.uint8), np.ones(n)
    block, rest = values[:, :n_control].copy(), values[:, n_control:].copy()
    bounds = np.cumsum([0, *sizes])
    controls = kernel.prepare_controls(block, totals[:n_control], is_counts=False)
    halves = kernel.prepare_halves(
        block, totals[:n_control], codes[:n_control], controls, is_counts=False
    )
    how = {"is_counts": False, "variant": MANN_WHITNEY, "most_cells": n}
    alone, out = (np.empty((len(sizes), n_genes), STATISTICS_DTYPE) for _ in range(2))
    kernel.test(rest, totals[n_control:], bounds, controls, out=alone, **how)
    sums = np.empty((len(sizes), n_genes, N_SUMS))
    z = np.empty((2, len(sizes), n_genes), np.float32)
    kernel.test_halves(
        rest,
        totals[n_control:],
        codes[n_control:],
        bounds,
        controls,
        halves,
        n_seeds=3,
        out=out,
        sums=sums,
        z=z,
        **how,
    )
    np.testing.assert_array_equal(out, alone)
    second = codes & 1 == 1
    for q, (lo, hi) in enumerate(zip(bounds[:-1] + n_control, bounds[1:] + n_control, strict=True)):
        for half in range(2):
            mine, theirs = (
                values[:, rows][:, second[rows] == half]
                for rows in (slice(lo, hi), slice(0, n_control))
            )
            want = stats.mannwhitneyu(mine, theirs, method="asymptotic", axis=1).pvalue
            got = 2 * stats.norm.sf(np.abs(z[half, q].astype(float)))
            known = np.nan_to_num(want, nan=1.0) < 0.9
            np.testing.assert_allclose(got[known], want[known], rtol=1e-4)


def test_groups_of_a_cell_and_few_controls_have_no_halves(tmp_path):
    """A half of one cell is empty, and so may be one of two controls."""
    rng = np.random.default_rng(0)
    for n_control in (2, 3):
        labels = ["non-targeting"] * n_control + ["KLF1"] + ["GATA1"] * 20
        counts = rng.poisson(1.0, (len(labels), 30)) + 1
        source = write_h5ad(tmp_path / f"{n_control}.h5ad", counts, {"perturbation": labels})
        store = ps.io.ingest(source, tmp_path / f"{n_control}.zarr", quiet=True)
        rank_sum(store, out=tmp_path / f"{n_control}", replicates=2, quiet=True)
        found = read_halves(tmp_path / f"{n_control}")["z"].values[:, 1:]  # of perturbations
        assert np.isnan(found).all()
        assert len(read_labels(tmp_path / f"{n_control}").perturbations) == 2


def test_cells_of_a_batch_and_of_a_perturbation_are_halved():
    rng = np.random.default_rng(0)
    group = np.sort(rng.integers(0, 20, 3_000))
    batches = rng.integers(0, 4, 3_000).astype(np.uint64)
    second = second_half(rng.integers(0, 2**63, 3_000).astype(np.uint64), batches, group)
    for g in range(20):
        assert abs(2 * second[group == g].sum() - (group == g).sum()) <= 1
        for batch in range(4):
            mine = (group == g) & (batches == batch)
            assert abs(2 * second[mine].sum() - mine.sum()) <= 1
    assert 0.4 < second.mean() < 0.6


def test_halves_do_not_follow_the_order_of_rows(tmp_path):
    rng = np.random.default_rng(1)
    n = 400
    counts = rng.poisson(1.0, (n, 30)) + (np.arange(30) == 0)
    names = np.array([f"cell{i}" for i in range(n)])
    labels = rng.choice(["non-targeting", "A", "B", "C"], n)
    batch = rng.choice(["b2", "b1"], n)
    halves = []
    for order in (np.arange(n), rng.permutation(n)):
        folder = tmp_path / str(len(halves))
        folder.mkdir()
        file = folder / "screen.h5ad"  # its name is that of the context
        columns = {"perturbation": labels[order], "batch": batch[order]}
        write_h5ad(file, counts[order], columns, cells=names[order])
        screen = ps.open_screen(ps.io.ingest(file, folder / "screen.zarr", quiet=True))
        halves.append(dict(zip(screen.obs.index, cell_codes(screen, 5), strict=True)))
    assert halves[0] == halves[1]
    codes = np.array(list(halves[0].values()))
    agree = [(codes >> 0 & 1 == codes >> k & 1).mean() for k in range(1, 5)]
    assert all(0.35 < share < 0.65 for share in agree)  # ways to halve are independent


def test_labels_and_profiles_stay_and_every_chunk_is_read_once(example, folder, tmp_path):
    def bytes_read(**how):
        events = []
        with recording(events.append):
            rank_sum(example.screen, memory="200MB", quiet=True, **how)
        return sum(event.bytes_read or 0 for event in events if hasattr(event, "bytes_read"))

    with dask.config.set(scheduler="synchronous"):
        alone = bytes_read(out=tmp_path / "alone")
        assert bytes_read(out=tmp_path / "both", replicates=8) == alone > 0
    for part in ("labels/data", "pseudobulk.zarr"):
        assert tree_hash(tmp_path / "both" / part) == tree_hash(tmp_path / "alone" / part)
        assert tree_hash(folder / part) == tree_hash(tmp_path / "alone" / part)
    few, many = read_halves(folder), read_halves(tmp_path / "both")
    np.testing.assert_array_equal(few["mean_log1p"], many["mean_log1p"][:N_SEEDS])


def test_same_bytes_on_every_scheduler_and_for_any_memory(example, folder, tmp_path):
    expected = tree_hash(folder)
    with dask.config.set(scheduler="synchronous"):
        out = tmp_path / "one"
        rank_sum(example.screen, out=out, replicates=N_SEEDS, memory="8MB", quiet=True)
        assert tree_hash(out) == expected
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        out, client = tmp_path / "cluster", cluster.scheduler_address
        rank_sum(example.screen, out=out, replicates=N_SEEDS, client=client, quiet=True)
        assert tree_hash(out) == expected


def test_finished_labels_get_halves_and_fewer_are_taken_as_they_are(example, tmp_path):
    out = tmp_path / "out"
    rank_sum(example.screen, out=out, quiet=True)
    with pytest.raises(NotFoundError, match="replicates="):
        read_halves(out)
    key = read_labels(out).key
    rank_sum(example.screen, out=out, replicates=2, quiet=True)
    assert read_labels(out).key == key
    before = (out / "labels" / "manifest.json").stat().st_mtime_ns
    for replicates in (0, 1, 2):
        rank_sum(example.screen, out=out, replicates=replicates, quiet=True)
    assert (out / "labels" / "manifest.json").stat().st_mtime_ns == before
    assert read_halves(out).sizes["replicate"] == 2
    rank_sum(example.screen, out=out, fdr=0.05, quiet=True)
    assert not (out / "halves.zarr").exists()  # they were of other labels


def test_a_damaged_chunk_is_made_anew(example, tmp_path):
    out = tmp_path / "out"
    rank_sum(example.screen, out=out, replicates=1, quiet=True)
    expected = tree_hash(out)
    next((out / "halves.zarr" / "z").rglob("c/0/*/0")).unlink()
    rank_sum(example.screen, out=out, replicates=1, quiet=True)
    assert tree_hash(out) == expected


def test_what_a_run_left_that_was_ended_at_its_very_end_is_removed(example, tmp_path):
    out = tmp_path / "out"
    labels = rank_sum(example.screen, out=out, quiet=True)
    left = out / f".rank-sum-{labels.key}" / "tiles"
    left.mkdir(parents=True)
    (left / "c0.bin").write_bytes(b"0")
    rank_sum(example.screen, out=out, quiet=True)
    assert sorted(path.name for path in out.iterdir()) == ["labels", "pseudobulk.zarr"]


@pytest.mark.parametrize("replicates", [-1, 9])
def test_wrong_number_of_replicates(example, tmp_path, replicates):
    with pytest.raises(ArgumentError, match="0 \\(not at all\\) to 8"):
        rank_sum(example.screen, out=tmp_path, replicates=replicates)
