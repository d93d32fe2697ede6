"""The rank-sum map over a store: against SciPy, on every scheduler, for any tiles, resumed."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
from pathlib import Path

import anndata
import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from scipy import stats

import pertscale as ps
from pertscale.errors import ArgumentError, ExistsError, InputError, MemoryBudgetError
from pertscale.io import ingest
from pertscale.io.ingestion.column_roles import ColumnChoices
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.plan import plan_screen
from pertscale.io.ingestion.write import write_screen
from pertscale.io.store.layout import CHUNK_GENES, CHUNK_ROWS
from pertscale.io.store.matrix import MatrixReader
from pertscale.schema import LABEL_COLUMNS
from pertscale.stats import rank_sum, read_labels, read_pseudobulk
from pertscale.stats.differential import rank_sum as ranksum_module
from tests.support.helpers import GOLDEN, tree_hash
from tests.support.processes import run_script
from tests.support.screens import write_h5ad


@pytest.fixture(scope="module")
def labels(example, tmp_path_factory):
    return rank_sum(example.screen, out=tmp_path_factory.mktemp("labels"), quiet=True)


def keys_of(example):
    """What is ranked, recomputed from the arrays the screen was made from."""
    return example.counts / example.counts.sum(axis=1, keepdims=True)


# --- against SciPy ------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["alpha", "beta"])
def test_every_pair_agrees_with_scipy(example, labels, context):
    keys = keys_of(example)
    mine = example.context == context
    control = mine & (example.perturbation == "non-targeting")
    tested = labels.perturbations.query("tested and context == @context")["perturbation"]
    assert len(tested) == 12
    all_p = []
    for name in tested:
        cells = mine & (example.perturbation == name)
        frame = labels.to_pandas(context=context, perturbation=name)
        expected = stats.mannwhitneyu(keys[cells], keys[control], method="asymptotic", axis=0)
        p = np.nan_to_num(expected.pvalue, nan=1.0)  # genes that are the same in every cell
        np.testing.assert_allclose(frame["p_value"], p, rtol=1e-12)
        np.testing.assert_array_equal(frame["u_statistic"], expected.statistic)
        fdr = stats.false_discovery_control(p)
        np.testing.assert_allclose(frame["fdr"], fdr, rtol=1e-11)
        logs = np.log1p(1e4 * keys)
        mean, mean_control = logs[cells].mean(0), logs[control].mean(0)
        np.testing.assert_allclose(frame["mean"], mean, rtol=1e-6)
        np.testing.assert_allclose(frame["mean_control"], mean_control, rtol=1e-6)
        expected_label = np.where(fdr < 0.01, np.sign(mean - mean_control), 0)
        np.testing.assert_array_equal(frame["label"], expected_label)
        fold = np.log2((np.expm1(mean) + 1e-9) / (np.expm1(mean_control) + 1e-9))
        np.testing.assert_allclose(frame["log2_fold_change"], fold, rtol=1e-5, atol=1e-5)
        assert (frame["n_cells"] == cells.sum()).all()
        assert (frame["n_control"] == control.sum()).all()
        assert list(frame.loc[frame["is_target"], "gene"]) == [name]
        all_p.append(p)
    screen_wide = stats.false_discovery_control(np.concatenate(all_p))
    found = labels.to_pandas(context=context, columns=["fdr_screen"])["fdr_screen"]
    np.testing.assert_allclose(found, screen_wide, rtol=1e-11)


@pytest.mark.parametrize("test", ["mannwhitney", "scanpy", "scanpy_tie"])
def test_log_normalised_input(log_example, tmp_path, test):
    table = rank_sum(log_example.screen, out=tmp_path, test=test, quiet=True)
    values = log_example.counts.astype(np.float64)  # SciPy would compute in float32 as well
    control = (log_example.context == "beta") & (log_example.perturbation == "non-targeting")
    cells = (log_example.context == "beta") & (log_example.perturbation == "G2")
    frame = table.to_pandas(context="beta", perturbation="G2")
    expected = stats.mannwhitneyu(
        values[cells],
        values[control],
        method="asymptotic",
        axis=0,
        use_continuity=test == "mannwhitney",
    )
    np.testing.assert_array_equal(frame["u_statistic"], expected.statistic)
    if test != "scanpy":  # scanpy's default leaves ties out of the variance
        np.testing.assert_allclose(
            frame["p_value"], np.nan_to_num(expected.pvalue, nan=1.0), rtol=1e-12
        )
    mean = values[cells].mean(0)
    np.testing.assert_allclose(frame["mean"], mean, rtol=1e-6)


@pytest.mark.parametrize(
    ("test", "key"),
    [
        ("scanpy", "scanpy_tie_correct_False"),
        ("scanpy_tie", "scanpy_tie_correct_True"),
        ("mannwhitney", "mannwhitney_tie_corrected_continuity"),
    ],
)
def test_golden(tmp_path, test, key):
    """The golden de_wilcoxon.json, from the float32 values that scanpy ranked."""
    golden = json.loads((GOLDEN / "de_wilcoxon.json").read_text())
    counts = np.array(golden["counts"], dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    scaled = np.divide(counts * 1e4, totals, out=np.zeros_like(counts), where=totals > 0)
    source = write_h5ad(
        tmp_path / "golden.h5ad",
        np.log1p(scaled).astype(np.float32),
        {"perturbation": np.array(golden["labels"])},
    )
    sources = SourceSet.find(source)
    plan = plan_screen(sources, ColumnChoices(), name="golden", genes="same")
    store = write_screen(  # with the one cell without counts, which scanpy tested
        plan,
        tmp_path / "golden.zarr",
        scale="log1p_1e4",
        dtype=np.dtype(np.float32),
        how="",
        totals=None,
        memory="100MB",
        client=None,
        quiet=True,
        keep_empty=True,
    )
    table = rank_sum(store, test=test, quiet=True)
    pseudobulk = read_pseudobulk(tmp_path / "golden.labels")["mean_log1p"]
    for name, values in golden["pseudobulk"].items():
        row = pseudobulk.sel(perturbation="control" if name == "ctrl" else name)
        np.testing.assert_allclose(row, values, atol=2e-6)
    for name in "ABC":
        frame = table.to_pandas(perturbation=name)
        expected = golden[key][name]
        if test == "mannwhitney":
            np.testing.assert_array_equal(frame["u_statistic"], expected["U"])
            np.testing.assert_allclose(frame["p_value"], expected["pvals"], atol=1e-12)
            np.testing.assert_allclose(frame["fdr"], expected["fdr"], atol=1e-12)
        else:
            np.testing.assert_allclose(frame["z"], expected["scores"], atol=1e-5)
            np.testing.assert_allclose(frame["p_value"], expected["pvals"], rtol=1e-6)
            np.testing.assert_allclose(frame["fdr"], expected["pvals_adj"], rtol=1e-6)
            np.testing.assert_allclose(
                frame["log2_fold_change"], expected["logfoldchanges"], atol=5e-5
            )


def test_arithmetic_fold_change(example, tmp_path):
    table = rank_sum(example.screen, out=tmp_path, fold_change="arithmetic", quiet=True)
    keys = 1e4 * keys_of(example)
    mine = example.context == "alpha"
    cells, control = (mine & (example.perturbation == n) for n in ("G1", "non-targeting"))
    frame = table.to_pandas(context="alpha", perturbation="G1")
    expected = np.log2((keys[cells].mean(0) + 1e-9) / (keys[control].mean(0) + 1e-9))
    np.testing.assert_allclose(frame["log2_fold_change"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fold_change", ["geometric", "arithmetic"])
def test_a_label_has_the_direction_of_the_fold_change_beside_it(tmp_path, fold_change):
    """A gene that goes out in most cells, and up in a few by more."""
    golden = json.loads((GOLDEN / "trust" / "fold_change_direction.json").read_text())
    counts = np.repeat([3.0, 0.0, 200.0], [200, 35, 5])
    matrix = np.stack([counts, 1000 - counts], axis=1)
    names = np.repeat(["control", "A"], [200, 40])
    source = write_h5ad(tmp_path / "few.h5ad", matrix, {"perturbation": names})
    store = ingest(source, tmp_path / "few.zarr", quiet=True)
    table = rank_sum(store, fold_change=fold_change, quiet=True)
    gene = table.to_pandas().iloc[0]
    assert gene["label"] == golden["expected_label"][fold_change]
    fold = golden["expected_log2_fold_change"][fold_change]
    assert gene["log2_fold_change"] == pytest.approx(fold, rel=1e-6)
    assert gene["fdr"] == pytest.approx(golden["observed_in_pertscale"][fold_change]["fdr"])
    counted = table.perturbations.iloc[0]
    assert counted["n_sign_disagreements"] >= (fold_change == "arithmetic")


def test_pseudobulk(example, labels):
    keys = keys_of(example)
    bulk = read_pseudobulk(labels.path.parent, context="alpha")
    mine = example.context == "alpha"
    for name, label in (("control", "non-targeting"), ("G4", "G4"), ("G_alone", "G_alone")):
        cells = keys[mine & (example.perturbation == label)]
        row = bulk.sel(perturbation=name)
        np.testing.assert_allclose(row["mean_log1p"], np.log1p(1e4 * cells).mean(0), rtol=1e-12)
        np.testing.assert_allclose(row["mean"], 1e4 * cells.mean(0), rtol=1e-12)
        np.testing.assert_allclose(row["fraction_expressed"], (cells > 0).mean(0), rtol=1e-6)
        assert int(row["n_cells"]) == len(cells)


def test_perturbation_with_too_few_cells_is_listed_as_not_tested(labels):
    row = labels.perturbations.set_index("perturbation").loc["G_alone"]
    assert not row["tested"]
    assert row["reason"] == "1 cells, min_cells=2"
    assert len(labels.to_pandas(perturbation="G_alone")) == 0


# --- the same bytes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "memory"),
    [("synchronous", "1GB"), ("threads", "200MB"), ("threads", "12MB"), ("processes", "40MB")],
)
def test_same_bytes_on_local_schedulers(example, labels, tmp_path, scheduler, memory):
    with dask.config.set(scheduler=scheduler, num_workers=2):
        rank_sum(example.screen, out=tmp_path, memory=memory, quiet=True)
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)


@pytest.mark.once
@pytest.mark.parametrize("processes", [True, False])
def test_same_bytes_on_distributed(example, labels, tmp_path, processes):
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        rank_sum(example.screen, out=tmp_path, memory="30MB", quiet=True)
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)


def test_client_argument(example, labels, tmp_path):
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        rank_sum(example.screen, out=tmp_path, client=cluster, quiet=True)
        assert cluster.status.name == "running"
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)
    with pytest.raises(ArgumentError, match="scheduler file"):
        rank_sum(example.screen, out=tmp_path / "x", client="no/such/file", quiet=True)


# --- work that is not done twice ----------------------------------------------------------


def test_finished_table_is_returned_as_it_is(example, tmp_path, monkeypatch):
    first = rank_sum(example.screen, out=tmp_path, quiet=True)
    monkeypatch.setattr(ranksum_module, "run", lambda *_, **__: pytest.fail("computed again"))
    again = rank_sum(example.screen, out=tmp_path, quiet=True)
    assert again.key == first.key


def test_again_in_the_same_folder_with_other_tiles(example, labels, tmp_path):
    """Nothing that a process remembers of a folder outlives the folder."""
    for memory in ("1GB", "12MB", "1GB"):
        rank_sum(example.screen, out=tmp_path / "again", memory=memory, quiet=True)
        assert tree_hash(tmp_path / "again") == tree_hash(labels.path.parent)
        shutil.rmtree(tmp_path / "again")


def test_other_options_make_another_table(example, tmp_path):
    first = rank_sum(example.screen, out=tmp_path, quiet=True)
    second = rank_sum(example.screen, out=tmp_path, fdr=0.2, quiet=True)
    assert second.key != first.key
    assert second.options["fdr"] == 0.2
    n_de = [t.perturbations[["n_up", "n_down"]].to_numpy().sum() for t in (first, second)]
    assert n_de[1] > n_de[0]


def test_resumes_where_it_was(example, labels, tmp_path, monkeypatch):
    """Fail at each of a few tiles and parts: the next call does only what is missing."""
    done: list[str] = []
    real = ranksum_module.process_tile

    def failing_tile(task):
        if len(done) == 3:
            raise RuntimeError("the power went")
        done.append(task.tile.name)
        return real(task)

    with dask.config.set(scheduler="synchronous"):
        monkeypatch.setattr(ranksum_module, "process_tile", failing_tile)
        with pytest.raises(RuntimeError, match="power"):
            rank_sum(example.screen, out=tmp_path, memory="12MB", quiet=True)
        assert not (tmp_path / "labels").exists()
        kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.bin")}
        assert len(kept) == 3

        def counting_tile(task):
            seen = Path(task.statistics_file)
            if seen.exists():
                assert seen.stat().st_mtime_ns == kept[seen.name]
            receipt = real(task)
            assert (receipt["bytes_read"] == 0) == (seen.name in kept)
            return receipt

        monkeypatch.setattr(ranksum_module, "process_tile", counting_tile)
        rank_sum(example.screen, out=tmp_path, memory="12MB", quiet=True)
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)


KILLED = """
import os, signal, sys
import dask
import pertscale.stats.differential.rank_sum as ranksum

function, left = sys.argv[3], [int(sys.argv[4])]
real = getattr(ranksum, function)

def dying(task):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(task)

setattr(ranksum, function, dying)
dask.config.set(scheduler="threads", num_workers=2)
ranksum.rank_sum(sys.argv[1], out=sys.argv[2], memory="12MB", quiet=True)
"""


@pytest.mark.once
@pytest.mark.parametrize(
    ("function", "after"), [("process_tile", 0), ("process_tile", 2), ("write_part", 0)]
)
def test_killed_in_the_middle(example, labels, tmp_path, function, after):
    """SIGKILL: nothing that looks finished is left, and the same call ends with the same bytes."""
    dead = run_script(KILLED, example.screen.path, tmp_path, function, after)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    rank_sum(example.screen, out=tmp_path, memory="12MB", quiet=True)
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)


KILLED_PUBLISHING = """
import os, signal, sys
import pertscale.stats.differential.rank_sum as ranksum

real, left = ranksum.replace, [int(sys.argv[3])]

def dying(source, final):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(source, final)

ranksum.replace = dying
ranksum.rank_sum(sys.argv[1], out=sys.argv[2], fdr=float(sys.argv[4]), quiet=True)
"""


@pytest.mark.once
@pytest.mark.parametrize("before", ["nothing", "other options"])
@pytest.mark.parametrize("after", [0, 1])
def test_killed_while_publishing(example, labels, tmp_path, before, after):
    """Between the renames of the pseudobulk and of the labels, say."""
    if before == "other options":
        rank_sum(example.screen, out=tmp_path, fdr=0.2, quiet=True)
    dead = run_script(KILLED_PUBLISHING, example.screen.path, tmp_path, after, 0.01)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    rank_sum(example.screen, out=tmp_path, quiet=True)
    assert tree_hash(tmp_path) == tree_hash(labels.path.parent)


def test_every_chunk_is_decoded_once(example, tmp_path, monkeypatch):
    """The whole matrix is read once: each chunk of rows by the tile that owns it."""
    decoded: list[int] = []
    real = MatrixReader._decode_file

    def counting(self, row):
        decoded.append(self._column)
        return real(self, row)

    monkeypatch.setattr(MatrixReader, "_decode_file", counting)
    with dask.config.set(scheduler="synchronous"):
        rank_sum(example.screen, out=tmp_path, memory="1GB", quiet=True)
    n_cells, n_genes = example.screen.shape
    # a chunk is shared by the end of a context's controls and its first perturbations, and by two
    # contexts: at most one more for each of these borders; and one is sampled for each context
    most = -(-n_cells // CHUNK_ROWS) + 4 + 2
    times = [decoded.count(column) for column in range(-(-n_genes // CHUNK_GENES))]
    assert sum(times) == len(decoded)
    assert 2 <= min(times) <= max(times) <= most


def test_descriptors_are_small(example, tmp_path, monkeypatch):
    sizes = []
    real = ranksum_module.run

    def measuring(function, descriptors, **how):
        sizes.extend(len(pickle.dumps(d)) for d in descriptors)
        return real(function, descriptors, **how)

    monkeypatch.setattr(ranksum_module, "run", measuring)
    rank_sum(example.screen, out=tmp_path, quiet=True)
    assert sizes
    assert max(sizes) < 1000


# --- bad input ----------------------------------------------------------------------------


def test_too_little_memory_says_what_would_do(example, tmp_path):
    with pytest.raises(MemoryBudgetError, match=r"pass memory='\d+MB'"):
        rank_sum(example.screen, out=tmp_path, memory="100kB", quiet=True)


@pytest.mark.parametrize(
    "wrong",
    [{"test": "wilcoxon"}, {"fdr": 0}, {"min_cells": 1}, {"fold_change": "log"}, {"memory": "two"}],
)
def test_wrong_arguments(example, tmp_path, wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        rank_sum(example.screen, out=tmp_path, quiet=True, **wrong)


def test_context_with_one_control_cell(tmp_path):
    source = write_h5ad(
        tmp_path / "few.h5ad",
        np.ones((5, 3)) + np.arange(3),
        {"perturbation": np.array(["control", "A", "A", "B", "B"])},
    )
    store = ingest(source, tmp_path / "few.zarr", quiet=True)
    with pytest.raises(InputError, match="has 1 control cells"):
        rank_sum(store, quiet=True)


def large_screen(folder, counts, **how):
    """Two genes, 20 controls and 20 perturbed cells that have all the same counts."""
    perturbation = np.repeat(["control", "A"], 20)
    obs = pd.DataFrame(
        {"perturbation": perturbation, "depth": 2.0**40}, index=[f"cell{i}" for i in range(40)]
    )
    matrix = np.repeat(np.array(counts, np.float64), 20, axis=0)
    anndata.AnnData(matrix, obs=obs).write_h5ad(folder / "large.h5ad")
    return ingest(folder / "large.h5ad", folder / "large.zarr", dtype="uint32", quiet=True, **how)


def test_quotients_of_large_counts_are_told_apart(tmp_path):
    m = 2**25 - 2  # the largest total is 2**26 - 1, the most that needs no look at the counts
    store = large_screen(tmp_path, [[m, m + 1], [m + 1, m + 2]])
    frame = rank_sum(store, quiet=True).to_pandas()
    assert frame["u_statistic"].tolist() == [400.0, 0.0]
    np.testing.assert_allclose(frame["p_value"], 4.7e-10, rtol=0.01)


@pytest.mark.parametrize(
    ("counts", "how", "message"),
    [
        (
            [[2**27, 2**27 + 1], [2**27 + 1, 2**27 + 2]],
            {},
            r"largest count is 134,217,730 and the largest total 268,435,459;.*matrix=",
        ),
        (
            [[5000, 5001], [4095, 5002]],
            {"totals": "depth"},
            r"largest count is 5,002 and the largest total 1,099,511,627,776;.*totals=",
        ),
    ],
)
@pytest.mark.parametrize("share", [False, True])
def test_counts_too_large_to_compare_exactly_are_refused_before_any_test(
    tmp_path, monkeypatch, counts, how, message, share
):
    store = large_screen(tmp_path, counts, **how)
    monkeypatch.setattr(ranksum_module, "process_tile", None)
    with pytest.raises(InputError, match=message):
        if share:
            ps.stats.rank_sum_share(store, share="1/2", quiet=True)
        else:
            rank_sum(store, quiet=True)


def test_large_totals_of_small_counts_are_exact(tmp_path):
    store = large_screen(tmp_path, [[4094, 4095], [4095, 4094]], totals="depth")
    frame = rank_sum(store, quiet=True).to_pandas()
    assert frame["u_statistic"].tolist() == [400.0, 0.0]


def test_damaged_chunk_is_named(example, tmp_path):
    store = tmp_path / "damaged.zarr"
    shutil.copytree(example.screen.path, store)
    chunk = next(p for p in (store / "X" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(b"\0" * 100)
    with pytest.raises(OSError, match=r"damaged\.zarr"):
        rank_sum(store, quiet=True)


def test_columns_are_the_declared_ones(labels):
    frame = labels.frame
    assert [c.name for c in LABEL_COLUMNS] == [c for c in frame.columns if c != "context"]
    for column in LABEL_COLUMNS:
        assert frame[column.name].dtype == column.dtype
    assert read_labels(labels.path).key == labels.key


def test_outputs_and_stores_one_inside_the_other(example, tmp_path):
    store = tmp_path / "out" / "labels"
    shutil.copytree(example.screen.path, store)
    before = tree_hash(store)
    for out in (store, store / "deep", tmp_path / "out"):
        for call in (rank_sum, ps.run_benchmark):
            with pytest.raises(ArgumentError, match="one inside the other"):
                call(store, out=out, quiet=True)
    assert tree_hash(store) == before


def test_a_folder_of_somebody_else_is_not_replaced(example, tmp_path):
    mine = tmp_path / "labels" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ExistsError, match=r"'mine\.txt', which is not part of a label table"):
        rank_sum(example.screen, out=tmp_path, quiet=True)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [mine]


def test_what_is_wrong_is_said_before_any_work(example, tmp_path):
    for wrong in ({"memory": "3 lots"}, {"test_fraction": 3.0}):
        with pytest.raises(ArgumentError, match=r"is not a size|has to be between"):
            ps.run_benchmark(example.screen, out=tmp_path, quiet=True, **wrong)
    assert list(tmp_path.iterdir()) == []
