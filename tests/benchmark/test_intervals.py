"""Intervals, comparisons and ranks of a run: of its scores, on every scheduler, kept and taken."""

from __future__ import annotations

import anndata
import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import pertscale as ps
from pertscale.baselines.registry import REFERENCES
from pertscale.benchmark.resampling import resample
from pertscale.benchmark.resampling.versions_of import Scores
from pertscale.errors import ArgumentError
from pertscale.evaluation import Draws
from pertscale.report import write_report
from pertscale.results.averages import SCORE
from pertscale.schema import (
    COMPARISON_COLUMNS,
    COMPARISONS_FILE,
    ESTIMATE_COLUMNS,
    ESTIMATES_FILE,
    RANK_COLUMNS,
    RANKS_FILE,
    SCORES_FILE,
)

pytestmark = pytest.mark.usefixtures("without_report")
FILES = (SCORES_FILE, ESTIMATES_FILE, COMPARISONS_FILE, RANKS_FILE)
METHODS = [
    "majority_vote",
    "knn_10",
    "random",
    "no_change",
    "mean",
    "mean_perturbation",
    "additive",
]
QUICK = {
    "methods": METHODS,
    "seed": [0, 1, 2],
    "test_fraction": 0.5,
    "replicates": 0,
    "quiet": True,
}


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    ps.simulate_screen(
        folder / "s.h5ad",
        n_cells=6000,
        n_genes=150,
        n_perturbations=16,
        n_doubles=24,
        umi_per_cell=4000,
        seed=3,
        quiet=True,
    )
    return ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True)


@pytest.fixture(scope="module")
def finished(screen, without_report, tmp_path_factory):
    return ps.run_benchmark(screen, out=tmp_path_factory.mktemp("runs") / "run", **QUICK)


def content(result) -> dict[str, bytes]:
    return {name: (result.path / name).read_bytes() for name in FILES}


def test_tables_have_their_columns_and_belong_together(finished):
    for table, columns in (
        (finished.estimates, ESTIMATE_COLUMNS),
        (finished.comparisons, COMPARISON_COLUMNS),
        (finished.ranks, RANK_COLUMNS),
    ):
        assert list(table.columns) == [column.name for column in columns]
        assert len(table)
    estimates = finished.estimates.set_index(SCORE)
    assert estimates.index.is_unique
    means = finished.means[finished.means["value"].notna()].groupby(SCORE)["value"].mean()
    known = estimates["value"].dropna()
    assert known.to_numpy() == pytest.approx(means.reindex(known.index).to_numpy(), rel=1e-12)
    inside = estimates.dropna(subset=["low"])
    assert len(inside) > 100
    assert (inside["low"] <= inside["value"] + 1e-12).mean() > 0.99
    assert (inside["high"] >= inside["value"] - 1e-12).mean() > 0.99
    assert set(estimates.reset_index()["task"]) == {"within", "single", "double", "interactions"}


def test_every_score_with_a_better_side_has_an_interval_where_there_are_enough(finished):
    scores = finished.means[finished.means["value"].notna()]
    has_none = {"spread_ratio", "auroc_de_per_gene", "auroc_direction_per_gene"}
    sided = [n for n, m in ps.evaluation.METRICS.items() if m.greater_is_better is not None]
    rows = scores[scores["metric"].isin(set(sided) - has_none)]
    rows = rows[~rows["metric"].str.startswith("n_")]
    enough = rows[rows["n_clusters"] >= 5]
    assert len(enough) > 500
    assert enough["low"].notna().mean() > 0.97  # those of classes that few resamples have
    few = rows[rows["n_clusters"] < 5]
    assert few["low"].isna().all()
    assert scores.loc[scores["metric"].isin(has_none), "low"].isna().all()


def test_intervals_of_errors_are_those_of_their_means(finished):
    rows = finished.perturbation_scores(task="double", setting="top_expressed", metric="l2")
    split = rows["split"].iloc[0]
    rows = rows[(rows["split"] == split) & (rows["method"] == "additive")]
    targets = {name: name.split("+") for name in finished.splits["sim"][split].held_out}
    every = finished.perturbation_scores(task="double", setting="top_expressed", metric="l2")
    targets = {name: name.split("+") for name in every["group"].unique()}
    draws = Draws.of("double / sim / sim", targets)
    weights = draws.weights(list(rows["group"]))
    resamples = (weights @ rows["value"].to_numpy()) / weights.sum(axis=1)
    mine = finished.means.query(
        "task == 'double' and metric == 'l2' and method == 'additive' and split == @split"
    )
    assert mine["se"].iloc[0] == pytest.approx(np.nanstd(resamples, ddof=1), rel=1e-6)


def test_ranks_and_comparisons_agree(finished):
    ranks, comparisons = finished.ranks, finished.comparisons
    assert not set(ranks["method"]) & REFERENCES
    keys = ["task", "setting", "context", "train_contexts", "operating_point", "metric"]
    for key, rows in ranks.groupby(keys):
        best = rows.loc[rows["rank"].idxmin()]
        assert best["in_best_set"], key
        if rows["low"].notna().all():
            assert rows["p_best"].sum() == pytest.approx(1)
            assert (rows["low"] <= rows["high"]).all()
        else:  # a split has too few
            assert rows["in_best_set"].all()
    assert ranks["low"].notna().mean() > 0.5
    declared = comparisons[comparisons["kind"] == "declared"]
    assert declared.groupby("task")["reference"].unique().map(list).to_dict() == {
        "within": ["majority_vote"],
        "single": ["mean_perturbation"],
        "double": ["additive"],
        "interactions": ["mean"],
    }
    known = comparisons.dropna(subset=["p_holm"])
    assert (known["p_holm"] >= known["p_value"]).all()
    outside = known[(known["low"] > 0) | (known["high"] < 0)]
    assert (outside["p_value"] < 0.2).all()


def test_scores_that_some_splits_lack_are_averaged_over_the_others():
    draws = Draws.of("t", {f"P{i}": (f"P{i}",) for i in range(6)}, n_resamples=4)
    names = list(draws.members)
    one, two = (
        ps.evaluation.ratios(draws, names, np.full((6, n), float(n)), np.ones((6, n)))
        for n in (2, 1)
    )
    a, b = (("", "overall", "", metric) for metric in ("accuracy", "auprc_de"))
    both = Scores.mean([Scores([a, b], one, True), Scores([a], two, True)])
    assert both.keys == [a, b]
    assert both.versions.estimate.tolist() == [1.5, 2.0]
    assert both.of(("", "overall", "", "mcc")) is None


def test_the_summary_shows_intervals_and_stars(finished):
    shown = finished.expression_summary().query("task == 'double'").set_index("method")
    assert shown["l2"].str.fullmatch(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]\*?").all()
    starred = shown.map(lambda text: text.endswith("*"))
    assert starred.loc[["mean", "no_change", "additive"], "l2"].tolist() == [True, False, False]
    assert starred.loc["additive", "pearson_delta"]
    assert " [" in repr(finished)


def test_a_second_call_takes_them_and_lost_ones_are_made_anew(screen, finished):
    before = content(finished)
    again = ps.run_benchmark(screen, out=finished.path, **QUICK)
    stages = again.timings[again.timings["level"] == "stage"]
    assert stages.loc[stages["stage"] == "intervals", "reused"].all()
    assert content(again) == before
    kept = sorted((finished.path / ".work" / "resamples").iterdir())
    (kept[0] / "ranks.parquet").unlink()
    again = ps.run_benchmark(screen, out=finished.path, **QUICK)
    stages = again.timings[again.timings["level"] == "stage"]
    assert not stages.loc[stages["stage"] == "intervals", "reused"].any()
    assert stages.loc[stages["stage"] == "method", "reused"].all()
    assert content(again) == before


def test_the_same_bytes_on_every_scheduler(screen, finished, tmp_path, monkeypatch):
    with dask.config.set(scheduler="synchronous"):
        alone = ps.run_benchmark(screen, out=tmp_path / "alone", **QUICK)
    assert content(alone) == content(finished)
    monkeypatch.setattr(resample, "LOCAL_DRAWN", 0)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        spread = ps.run_benchmark(screen, out=tmp_path / "spread", client=client, **QUICK)
        done = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.task_prefixes)
    assert "intervals" in done
    assert content(spread) == content(finished)


def test_without_intervals_scores_stay_and_nothing_is_claimed(screen, finished, tmp_path):
    result = ps.run_benchmark(screen, out=tmp_path / "run", intervals=False, **QUICK)
    columns = ["low", "high", "se", "n_clusters"]
    assert result.scores.drop(columns=columns).equals(finished.scores.drop(columns=columns))
    assert result.scores[columns[:3]].isna().all(axis=None)
    assert result.estimates.empty
    assert result.comparisons.empty
    assert result.ranks.empty
    assert not list(result.path.rglob("sums.parquet"))
    assert not any("is smallest" in line or "is highest" in line for line in result.findings)
    assert "*" not in "".join(result.summary()["macro_f1"])
    with_them = ps.run_benchmark(screen, out=tmp_path / "run", **QUICK)
    assert content(with_them) == content(finished)


def test_genes_are_drawn_and_another_reference_is_taken(screen, finished, tmp_path):
    how = {"tasks": ["double"], "cluster": "gene", "reference": "no_change", **QUICK}
    result = ps.run_benchmark(screen, out=tmp_path / "run", **how)
    declared = result.comparisons.query("kind == 'declared' and metric == 'l2'")
    assert set(declared["reference"]) == {"no_change"}
    row = "task == 'double' and metric == 'l2' and method == 'additive'"
    mine, theirs = (r.estimates.query(row).iloc[0] for r in (result, finished))
    assert mine["value"] == pytest.approx(theirs["value"], rel=1e-12)
    assert mine["n_clusters"] != theirs["n_clusters"]  # genes, not pairs of genes
    assert mine["se"] != theirs["se"]


def test_options_that_do_not_exist_are_refused(screen, tmp_path):
    with pytest.raises(ArgumentError, match=r"reference has .majorty_vote.+majority_vote"):
        ps.run_benchmark(screen, out=tmp_path / "run", reference="majorty_vote", quiet=True)
    with pytest.raises(ArgumentError, match="cluster='guide'"):
        ps.run_benchmark(screen, out=tmp_path / "run", cluster="guide", quiet=True)
    assert not (tmp_path / "run").exists()


def test_earlier_results_without_these_tables_are_read(finished, tmp_path):
    manifest = {k: v for k, v in finished.manifest.items() if k != "files"}
    earlier = ps.results.result.BenchmarkResult(finished.path)
    earlier.__dict__["manifest"] = {**manifest, "files": {}}
    assert earlier.estimates.empty
    assert isinstance(earlier.summary(), pd.DataFrame)


@pytest.fixture(scope="module")
def two_contexts(tmp_path_factory):
    """A screen of two contexts, of some of whose targets nothing is read out."""
    random = np.random.default_rng(0)
    labels = ["ctrl"] * 40 + [f"G{i}" for i in range(18) for _ in range(12)]
    parts = []
    for context in ("a", "b"):
        counts = random.poisson(3, (len(labels), 40)).astype(np.float32)
        for i in range(18):
            counts[40 + 12 * i : 52 + 12 * i, (i * 2) % 40 :: 7] *= 3
        obs = pd.DataFrame({"gene": labels, "cell_line": context})
        obs.index = [f"{context}{i}" for i in range(len(labels))]
        var = pd.DataFrame(index=[f"G{i + 6}" for i in range(40)])
        parts.append(anndata.AnnData(counts, obs=obs, var=var))
    folder = tmp_path_factory.mktemp("contexts")
    anndata.concat(parts).write_h5ad(folder / "s.h5ad")
    return ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True)


@pytest.mark.once
def test_methods_of_targets_that_are_not_read_out_are_in_transfer_too(two_contexts, tmp_path):
    """Expression has settings of its own there, and the page shows all of them."""
    methods = ["majority_vote", "mean", "linear"]
    how = {"tasks": ["single", "transfer"], "methods": methods, "seed": [0, 1], "quiet": True}
    result = ps.run_benchmark(two_contexts, out=tmp_path / "run", **how)
    transferred = result.means[result.means["task"] == "transfer"]
    assert "top_expressed_partial" in set(transferred["setting"])
    write_report(result, None)
    page = result.report.read_text()
    assert "a, from other contexts" in page
    ranks = result.ranks[result.ranks["setting"] == "top_expressed"]
    assert "linear" not in set(ranks["method"])


@pytest.mark.once
def test_a_method_that_predicts_fewer_is_not_ranked_among_classes(screen, finished, tmp_path):
    """Nor are the others then worse than it."""
    split = finished.splits["sim"]["holdout-seed0"]
    profiles = finished.pseudobulk["mean_log1p"].compute().to_pandas()
    known = profiles.loc[list(split.held_out)[1:]]
    known.to_csv(tmp_path / "told.csv", index_label="perturbation")
    how = {**QUICK, "seed": [0], "tasks": ["within"]}
    result = ps.run_benchmark(
        screen, out=tmp_path / "run", predictions={"told": tmp_path / "told.csv"}, **how
    )
    scores = result.means.query("metric == 'auprc_de' and setting == 'full'").set_index("method")
    assert scores["value"].drop("random").idxmax() == "told"
    ranked = result.ranks.query("metric == 'auprc_de' and setting == 'full'").set_index("method")
    assert "told" not in ranked.index
    assert ranked["in_best_set"].any()
    assert "told" not in set(result.comparisons.query("setting == 'full'")["method"])


@pytest.mark.once
def test_another_reference_leaves_those_of_tasks_without_it(screen, tmp_path):
    how = {**QUICK, "tasks": ["within", "double"], "reference": "majority_vote"}
    result = ps.run_benchmark(screen, out=tmp_path / "run", **how)
    declared = result.comparisons.query("kind == 'declared'")
    assert set(declared.loc[declared["task"] == "within", "reference"]) == {"majority_vote"}
    assert set(declared.loc[declared["task"] == "double", "reference"]) == {"additive"}
