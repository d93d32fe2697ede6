"""Replicates of a run: scores by hand, what metrics can tell, on every scheduler, switched off."""

from __future__ import annotations

import json
from functools import partial

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from scipy.stats import t as student

import pertscale as ps
from pertscale.baselines.registry import (
    CEILINGS,
    FLOORS,
    INTERPOLATED,
    ON_HALVES,
    REPLICATE,
    SCORED_ON_HALVES,
)
from pertscale.benchmark.units.replicate_unit import scores_of_z
from pertscale.errors import ArgumentError
from pertscale.evaluation import METRICS, evaluate, evaluate_expression, interpolated_duplicate
from pertscale.evaluation.expression import top_genes
from pertscale.report.findings import of_expression
from pertscale.results.averages import may_be_best
from pertscale.schema import CALIBRATION_COLUMNS, CALIBRATION_FILE, CONTROL
from pertscale.stats.differential.multiple_testing import benjamini_hochberg
from tests.support.screens import write_h5ad

pytestmark = pytest.mark.usefixtures("without_report")
METHODS = ["majority_vote", "knn_10", "random", "no_change", "mean", "mean_perturbation"]
QUICK = {"methods": METHODS, "seed": [0, 1], "test_fraction": 0.5, "quiet": True}
TASKS = ["within", "single"]


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    ps.simulate_screen(
        folder / "s.h5ad",
        n_cells=4_000,
        n_genes=150,
        n_perturbations=24,
        umi_per_cell=4_000,
        seed=3,
        quiet=True,
    )
    return ps.open_screen(ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True))


@pytest.fixture(scope="module")
def finished(screen, without_report, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return ps.run_benchmark(screen, out=out, replicates=2, tasks=TASKS, **QUICK)


@pytest.fixture(scope="module")
def split(finished):
    return finished.splits["sim"]["holdout-seed0"]


def scores_of(result, method, task, **where):
    rows = result.scores[(result.scores["method"] == method) & (result.scores["task"] == task)]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


# --- scores by hand -------------------------------------------------------------------------------


def test_classes_are_those_of_the_halves(finished, split):
    halves = ps.stats.read_halves(finished.path).sel(perturbation=list(split.held_out)).compute()
    label, z = halves["label"].values, halves["z"].values
    scores = [scores_of_z(of_half) for of_half in z]
    by_hand = evaluate(
        np.concatenate([label[1], label[0]]),
        np.concatenate([label[0], label[1]]),
        perturbations=[*split.held_out, *split.held_out],
        scores=np.concatenate(scores),
    )
    found = scores_of(
        finished, REPLICATE, "within", split=split.name, setting="full", level="overall"
    ).set_index(["operating_point", "metric"])["value"]
    overall = by_hand[by_hand["level"] == "overall"].set_index(["operating_point", "metric"])
    for key in [("as_called", "macro_f1"), ("as_called", "mcc"), ("", "auprc_de")]:
        assert found[key] == pytest.approx(overall.loc[key, "value"], rel=1e-12)
        assert 0 < found[key] < 1
    assert found["", "n_perturbations"] == len(split.held_out)


def test_each_perturbation_has_one_row_a_metric(finished):
    for task in TASKS:
        rows = scores_of(finished, REPLICATE, task, level="perturbation")
        keys = ["setting", "split", "operating_point", "group", "metric"]
        assert len(rows)
        assert not rows.duplicated(keys).any()


#: What depends on the profile that changes are measured from.
OF_CHANGES = {"pearson_delta", "direction", "pearson_changed", "overlap_changed", "rank_cosine"}


def test_expression_is_that_of_the_halves(finished, screen, split):
    """Both directions of both ways to halve the cells, each with its own controls."""
    halves = ps.stats.read_halves(finished.path).compute()
    profiles = ps.stats.read_pseudobulk(finished.path)["mean_log1p"].compute()
    names, genes = list(split.held_out), list(screen.genes)
    background = profiles.sel(perturbation=list(split.train)).values.mean(axis=0)
    variances = halves["variance_log1p"].sel(perturbation=names).values
    alphas, tables = others_and_alphas(screen, halves, names), []
    for replicate in range(2):
        mean = halves["mean_log1p"][replicate]
        n = halves["n_cells"][replicate].sel(perturbation=names).values
        for half, other in ((0, 1), (1, 0)):
            profile, own = (
                mean[half].sel(perturbation=names).values,
                mean[half].sel(perturbation=CONTROL).values,
            )
            truth = mean[other].sel(perturbation=names).values
            base = mean[other].sel(perturbation=CONTROL).values
            rest, q = alphas(profile, n[half])
            predicted = {
                REPLICATE: profile,
                INTERPOLATED: interpolated_duplicate(profile, rest, q),
            }
            compare = partial(
                evaluate_expression,
                truth,
                control=base,
                background=background,
                perturbations=names,
                genes=genes,
                target_genes=screen.targets,
                noise=variances / n[other][:, None],
            )
            for method, values in predicted.items():
                table, changes = compare(values), compare(base + values - own)
                of_changes = table["metric"].isin(OF_CHANGES)
                table.loc[of_changes, "value"] = changes.loc[of_changes, "value"]
                tables.append(table.assign(method=method))
    mean = pd.concat(tables).groupby(["method", "level", "group", "metric"])["value"].mean()
    for method in CEILINGS:
        rows = scores_of(finished, method, "single", split=split.name, setting="top_expressed")
        rows = rows[rows["metric"] != "n_without_prediction"]
        found = rows.set_index(["method", "level", "group", "metric"])["value"]
        np.testing.assert_allclose(found, mean.reindex(found.index), rtol=1e-5, atol=1e-6)
        assert {"l2_denoised", "pearson_delta", "rank_cosine"} <= set(rows["metric"])


def others_and_alphas(screen, halves, names):
    """Return what gives the mean of all other perturbed cells and adjusted p-values, from cells."""
    logs = screen.to_xarray()["expression"].values.astype(float)
    groups = screen.groups.set_index("perturbation")
    perturbed = np.arange(len(logs)) >= groups.loc[CONTROL, "stop"]
    variances = halves["variance_log1p"].sel(perturbation=names).values

    def of(profile, n):
        rest, adjusted = [], []
        for i, name in enumerate(names):
            cells = perturbed.copy()
            cells[groups.loc[name, "start"] : groups.loc[name, "stop"]] = False
            mean, variance, m = logs[cells].mean(0), logs[cells].var(0, ddof=1), cells.sum()
            one, two = variances[i] / n[i], variance / m
            t = (profile[i] - mean) / np.sqrt(one + two)
            df = (one + two) ** 2 / (one**2 / (n[i] - 1) + two**2 / (m - 1))
            rest.append(mean)
            adjusted.append(benjamini_hochberg(2 * student.sf(np.abs(t), df)[None])[0])
        return np.array(rest), np.array(adjusted)

    return of


def test_noise_of_the_truth_is_taken_off(finished, screen, split):
    halves = ps.stats.read_halves(finished.path).compute()
    profiles = ps.stats.read_pseudobulk(finished.path).compute()
    control = profiles["mean_log1p"].sel(perturbation=CONTROL).values
    chosen = top_genes(control, 1000)
    rows = scores_of(
        finished, "no_change", "single", split=split.name, setting="top_expressed"
    ).pivot(index="group", columns="metric", values="value")
    for name in split.held_out[:5]:
        squares = (profiles["mean_log1p"].sel(perturbation=name).values - control) ** 2
        noise = halves["variance_log1p"].sel(perturbation=name).values / int(
            profiles["n_cells"].sel(perturbation=name)
        )
        kept = [g for g in chosen if screen.genes[g] not in screen.targets[name]]
        expected = np.sqrt(max(0.0, (squares - noise)[kept].sum()))
        assert rows.loc[name, "l2_denoised"] == pytest.approx(expected, rel=1e-5)
        assert rows.loc[name, "l2_denoised"] < rows.loc[name, "l2"]


def test_scores_of_z_order_pairs_by_size():
    z = np.array([[0.0, -3.0, 12.0, 40.0, np.nan]], np.float32)
    scores = scores_of_z(z)
    assert (np.diff(1 - scores[0, :4, 1]) > 0).all()  # p-values of the last two are equal: 0
    assert scores[0, 1].argmax() == 0 and scores[0, 2].argmax() == 2
    lazy = scores_of_z(dask.array.from_array(z, chunks=(1, 2)))
    np.testing.assert_array_equal(lazy.compute(), scores)


def drawn_screen(folder, sizes, *, effect=1.0):
    """Return a screen of groups of cells, the first controls; a factor for 30 genes of the others.

    Without it they differ by chance only.
    """
    rng = np.random.default_rng(0)
    names = ["non-targeting", *(f"P{i}" for i in range(1, len(sizes)))]
    means = np.tile(rng.gamma(1.0, 2.0, 120), (len(sizes), 1))
    for row in means[1:]:
        row[rng.choice(120, 30, replace=False)] *= effect
    counts = rng.poisson(np.repeat(means, sizes, axis=0))
    labels = {"perturbation": np.repeat(names, sizes)}
    source = write_h5ad(folder / "s.h5ad", counts, labels)
    return ps.open_screen(ps.io.ingest(source, folder / "s.zarr", quiet=True))


# --- calibration ----------------------------------------------------------------------------------


def test_calibration_has_its_columns_and_one_scale_a_metric(finished):
    table = finished.calibration
    assert list(table.columns) == [column.name for column in CALIBRATION_COLUMNS]
    keys = ["task", "setting", "context", "operating_point", "level", "group", "metric"]
    assert not table[table["is_scale"]].duplicated(keys).any()
    told = table.set_index(keys)
    key = ("within", "full", "sim", "", "overall", "", "auprc_de")
    rows = told.loc[[key]]
    scale = rows[rows["is_scale"]].iloc[0]
    assert scale["positive"] == REPLICATE
    assert scale["negative_value"] == rows["negative_value"].max()  # the best of the floors
    assert scale["difference"] == pytest.approx(scale["positive_value"] - scale["negative_value"])
    assert scale["can_tell"] == "yes" and scale["low"] > 0


def test_scaled_scores_lie_between_floor_and_ceiling(finished):
    keys = ["task", "setting", "context", "operating_point", "level", "group", "metric"]
    estimates, table = finished.estimates, finished.calibration
    told = table[table["is_scale"] & (table["can_tell"] == "yes")].set_index(keys)
    n = 0
    for key, rows in estimates.groupby(keys, sort=False):
        if key not in told.index:
            assert rows["scaled"].isna().all()
            continue
        values = rows.set_index("method")["value"]
        better = METRICS[key[-1]].greater_is_better
        floors = [*values[values.index.isin(FLOORS)].dropna(), METRICS[key[-1]].no_skill]
        floor, ceiling = (np.nanmax if better else np.nanmin)(floors), values[REPLICATE]
        if (ceiling > floor) != better:  # with half of the cells the ceiling is lower
            assert rows["scaled"].isna().all()
            continue
        expected = (values - floor) / (ceiling - floor)
        np.testing.assert_allclose(rows["scaled"], expected, rtol=1e-9, atol=1e-12)
        n += 1
    assert n > 10
    assert {"yes", "no"} <= set(table.loc[table["is_scale"], "can_tell"])


def test_floors_are_scored_on_the_same_truths(finished):
    """... of the same perturbations, so that differences are paired."""
    rows = finished.scores[finished.scores["level"] == "perturbation"]
    for task, floor in (("within", "majority_vote"), ("single", "no_change")):
        of_task = rows[(rows["task"] == task) & rows["setting"].isin(["full", "top_expressed"])]
        mine, theirs = (
            of_task[(of_task["method"] == method) & (of_task["n"] > 0)]
            for method in (REPLICATE, f"{floor}{ON_HALVES}")
        )
        keys = ["split", "operating_point", "group", "metric"]
        shared = mine.merge(theirs, on=keys)
        assert len(shared) and set(mine["group"]) == set(theirs["group"])
        assert (shared["n_x"] == shared["n_y"]).all()


def test_ceilings_never_compete(finished):
    assert not set(SCORED_ON_HALVES) & set(finished.ranks["method"])
    assert not set(SCORED_ON_HALVES) & set(finished.comparisons["method"])


def test_nobody_leads_by_a_metric_that_cannot_tell(finished):
    averages = finished.averages
    silent = averages["can_tell"].eq(other=False)
    assert silent.any()
    assert not may_be_best(averages)[silent].any()


def test_a_sentence_says_that_the_error_cannot_tell(finished):
    """... and takes the next metric, or says that none can."""
    averages = finished.averages.copy()
    errors = averages["metric"].eq("l2") & averages["task"].eq("single")
    averages.loc[errors, "can_tell"] = False
    ranks = averages["metric"].isin(["pearson_delta", "rank_l1", "rank_cosine"])
    averages.loc[ranks, "can_tell"] = True
    lines = of_expression(finished.scores, averages, finished.comparisons)
    assert "error (L2) can't tell on this screen: a replicate" in lines[0]
    assert "Pearson delta" in lines[1] and "can't tell" not in lines[1]
    averages.loc[ranks, "can_tell"] = False
    lines = of_expression(finished.scores, averages, finished.comparisons)
    assert "nor can Pearson delta, rank of the own truth (L1)" in lines[1]


def test_without_any_effect_nothing_can_be_told(without_report, tmp_path):
    store = drawn_screen(tmp_path, [400, *[80] * 30])
    result = ps.run_benchmark(store, tasks=["single"], **(QUICK | {"methods": METHODS[3:]}))
    table = result.calibration
    shown = table["is_scale"] & table["metric"].isin(["l2", "pearson_delta", "rank_cosine"])
    assert shown.sum() == 3
    assert set(table.loc[shown, "can_tell"]) == {"no"}
    replicate = table[shown & (table["metric"] == "pearson_delta")].iloc[0]
    assert abs(replicate["positive_value"]) < 0.1  # halves share no noise


# --- runs -----------------------------------------------------------------------------------------


def test_same_bytes_on_every_scheduler(finished, screen, tmp_path):
    names = (CALIBRATION_FILE, "scores.parquet", "estimates.parquet")
    expected = [(finished.path / name).read_bytes() for name in names]
    how = {"replicates": 2, "tasks": TASKS, **QUICK}
    with dask.config.set(scheduler="synchronous"):
        one = ps.run_benchmark(screen, out=tmp_path / "one", **how)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        two = ps.run_benchmark(
            screen, out=tmp_path / "two", client=cluster.scheduler_address, **how
        )
    for result in (one, two):
        assert [(result.path / name).read_bytes() for name in names] == expected


def test_without_replicates(finished, screen, tmp_path):
    """Nothing of them is there, the other scores are the same, and they can be added later.

    No label is confident then: full labels are scored again in that setting.
    """
    out = tmp_path / "run"
    result = ps.run_benchmark(screen, out=out, replicates=0, tasks=TASKS, **QUICK)
    assert not (out / "halves.zarr").exists()
    assert not set(SCORED_ON_HALVES) & set(result.scores["method"])
    assert not len(result.calibration) and result.estimates["scaled"].isna().all()
    shared = ps.run_benchmark(
        screen, out=out, replicates=2, controls="shared", tasks=TASKS, **QUICK
    ).scores
    ours = shared[
        ~shared["method"].isin(SCORED_ON_HALVES)
        & (shared["metric"] != "l2_denoised")
        & (shared["setting"] != "confident")
    ].reset_index(drop=True)
    pd.testing.assert_frame_equal(result.scores, ours)
    again = ps.run_benchmark(screen, out=out, replicates=2, tasks=TASKS, **QUICK)
    pd.testing.assert_frame_equal(again.scores, finished.scores)
    reused = again.timings.query("stage == 'method'").set_index("unit")["reused"]
    assert reused[~reused.index.str.contains("replicate|_halves|/ full /")].all()


def test_perturbations_with_few_cells_have_no_replicate(without_report, tmp_path):
    screen = drawn_screen(tmp_path, [90, *[9] * 10, *[40] * 20], effect=4.0)
    few = set(screen.groups.loc[screen.group_sizes < 10, "perturbation"])
    assert len(few) == 10
    result = ps.run_benchmark(screen, out=tmp_path / "run", tasks=TASKS, **(QUICK | {"seed": 0}))
    held_out = result.splits["s"]["holdout-seed0"].held_out
    lacking = len(few & set(held_out))
    rows = scores_of(result, REPLICATE, "single", metric="n_without_prediction")
    assert (rows["value"] == lacking).all() and (rows["n"] == len(held_out)).all()
    classes = scores_of(result, REPLICATE, "within", setting="full")
    assert json.loads(classes["params"].iloc[0])["n_without_prediction"] == lacking
    assert not few & set(classes.loc[classes["n"] > 0, "group"])
    n = classes.loc[classes["metric"] == "n_perturbations", "value"]
    assert (n == len(held_out) - lacking).all()


def test_wrong_number(screen, tmp_path):
    with pytest.raises(ArgumentError, match="replicates=9"):
        ps.run_benchmark(screen, out=tmp_path / "run", replicates=9)


def test_intervals_stay_where_scores_can_be(finished):
    for table in (finished.scores, finished.estimates):
        ranges = table["metric"].map(lambda name: METRICS[name].range)
        assert not (table["low"] < ranges.str[0]).any()
        assert not (table["high"] > ranges.str[1]).any()


def test_a_screen_without_any_halves(without_report, tmp_path):
    """Too few controls: nothing of replicates, and the rest is there."""
    screen = drawn_screen(tmp_path, [8, *[30] * 24], effect=4.0)
    how = QUICK | {"seed": 0}
    result = ps.run_benchmark(screen, out=tmp_path / "run", replicates=2, tasks=TASKS, **how)
    assert (ps.stats.read_halves(result.path)["n_cells"] == 0).all()
    assert not len(result.calibration)
    assert len(result.findings)


def test_few_perturbations_with_halves_take_nothing_from_the_others(without_report, tmp_path):
    screen = drawn_screen(tmp_path, [90, *[8] * 12, *[40] * 12], effect=4.0)
    how = QUICK | {"seed": 0}
    result, without = (
        ps.run_benchmark(screen, out=tmp_path / f"run{n}", replicates=n, tasks=TASKS, **how)
        for n in (1, 0)
    )
    for lines in (result.findings, without.findings):
        assert any("held-out singles (12 of 12 held out)" in line for line in lines)


def test_names_of_what_is_scored_on_halves_are_taken(screen, tmp_path):
    table = pd.DataFrame({"perturbation": ["GENE0001"], "gene": ["GENE0002"], "label": ["up"]})
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ArgumentError, match="'replicate' names two methods"):
        ps.run_benchmark(
            screen, out=tmp_path / "run", predictions={"replicate": tmp_path / "p.csv"}
        )


def test_too_few_clusters_say_nothing_of_a_metric(without_report, tmp_path):
    screen = drawn_screen(tmp_path, [90, *[40] * 6], effect=4.0)
    result = ps.run_benchmark(screen, out=tmp_path / "run", tasks=TASKS, **(QUICK | {"seed": 0}))
    assert set(result.calibration["can_tell"]) == {""}
    assert result.averages["can_tell"].isna().all()
