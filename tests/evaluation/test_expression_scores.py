"""Scores of predicted expression, against golden and published numbers (method I)."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import pearsonr

from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import METRICS
from pertscale.evaluation.comparison import (
    common_perturbations,
    compare_expression,
    compared_set,
    ratio_to_reference,
)
from pertscale.evaluation.expression import (
    collapse_figures,
    error_by_genes,
    evaluate_expression,
    gene_numbers,
    top_genes,
)
from pertscale.evaluation.retrieval import Truths
from pertscale.evaluation.target_genes import own_targets
from tests.support.helpers import GOLDEN, published_golden, real_data

GOLD = json.loads((GOLDEN / "metrics.json").read_text())
CONTROL, OBSERVED, PREDICTED, HOLED = (
    np.array(GOLD[key], float) for key in ("control", "observed", "predicted", "predicted_missing")
)


def scores_of(predicted, n_genes=14, **options):
    table = evaluate_expression(
        OBSERVED[None],
        np.asarray(predicted)[None],
        CONTROL,
        background=CONTROL,
        perturbations=["A"],
        n_genes=n_genes,
        targets="include",
        **options,
    )
    mine = table[table["level"] == "perturbation"].set_index("metric")
    return mine["value"], int(mine["n"].iloc[0])


@pytest.mark.parametrize(
    ("case", "predicted", "options"),
    [
        ("top7", PREDICTED, {"n_genes": 7}),
        ("all", PREDICTED, {}),
        ("no_change", CONTROL, {"n_genes": 7}),
        ("missing_genes_per_model", HOLED, {"n_genes": 7, "skip_missing_genes": True}),
    ],
)
def test_scores_are_the_golden_ones(case, predicted, options):
    found, n = scores_of(predicted, **options)
    want = GOLD[case]
    assert n == want["n"]
    assert found["l2"] == pytest.approx(want["l2"], rel=1e-10)
    assert found["rmse"] == pytest.approx(want["l2"] / np.sqrt(want["n"]), rel=1e-10)
    delta = np.nan if want["pearson_delta"] is None else want["pearson_delta"]
    assert found["pearson_delta"] == pytest.approx(delta, rel=1e-10, nan_ok=True)


def test_orders_and_cumulative_errors_are_the_golden_ones():
    rank = np.empty(14, int)
    rank[top_genes(CONTROL, 14)] = np.arange(1, 15)
    assert list(rank) == GOLD["expr_rank"]
    for by, key in (("expression", "cumulative_l2_expr"), ("change", "cumulative_l2_de")):
        found = error_by_genes(OBSERVED[None], PREDICTED[None], CONTROL, by=by)[0]
        np.testing.assert_allclose(found, GOLD[key], rtol=1e-9)
    numbers = gene_numbers(19_264)
    assert list(numbers[98:103]) == [99, 100, 101, 111, 121]
    assert numbers[-1] == 19_201
    assert list(gene_numbers(3)) == [1, 2, 3]


@pytest.mark.needs("published")
def test_fig_1b_to_six_digits():
    table = pd.read_excel(
        real_data("ahlmann_eltze/perturbation_prediction.xlsx"), sheet_name="Panel B"
    )
    assert table["method"].nunique() == 9
    for _, mine in table.groupby("method"):
        mine = mine.sort_values("expr_rank")
        found = evaluate_expression(
            mine[["observed"]].to_numpy().T,
            mine[["prediction"]].to_numpy().T,
            mine["baseline"].to_numpy(),
            background=mine["baseline"].to_numpy(),
            perturbations=["CEBPE+CEBPB"],
            targets="include",
        )
        value = found[found["level"] == "perturbation"].set_index("metric")["value"]
        if mine["prediction"].notna().all():
            assert value["l2"] == pytest.approx(mine["l2"].iloc[0], rel=1e-6)
            expected = mine["r2_delta"].iloc[0]
            assert value["pearson_delta"] == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.needs("published")
def test_fig_2c_ratios():
    golden = json.loads(published_golden("fig2c_ratio.json").read_text())
    rows = pd.DataFrame(golden["adamson_rows"])
    scores = pd.DataFrame(
        {
            "method": rows["method"],
            "split": rows["seed"],
            "group": rows["perturbation"],
            "metric": "l2",
            "value": rows["l2"],
        }
    )
    mean = rows.drop_duplicates(["seed", "perturbation"])
    reference = scores.loc[mean.index].assign(method="mean", value=mean["l2_mean"])
    scores = pd.concat([scores[scores["method"] != "mean"], reference])
    found = ratio_to_reference(scores).set_index("method")
    wanted = [row for row in golden["expected"] if row["dataset"] == "adamson"]
    assert len(wanted) > 10
    for want in wanted:
        row = found.loc[want["method"]]
        assert row["n"] == want["n"]
        assert row["ratio"] == pytest.approx(want["mean_ratio"], abs=1e-5)
        width = max(want["ci_hi"] - want["ci_lo"], 0.05)
        assert row["low"] == pytest.approx(want["ci_lo"], abs=0.05 * width + 0.003)
        assert row["high"] == pytest.approx(want["ci_hi"], abs=0.05 * width + 0.003)
    assert found.loc["mean", ["ratio", "low", "high"]].tolist() == [1, 1, 1]
    assert found.loc["mean", "contains_one"]
    with pytest.raises(InputError, match="of 'median'"):
        ratio_to_reference(scores, reference="median")


# --- several perturbations -----------------------------------------------------------------------


def screen(n=6, n_genes=40, seed=0):
    random = np.random.default_rng(seed)
    control = random.gamma(2, 1, n_genes)
    truth = control + random.normal(0, 0.5, (n, n_genes))
    return truth, control


def overall(table):
    return table[table["level"] == "overall"].set_index("metric")["value"]


def test_the_truth_scores_best_and_the_registry_knows_all():
    truth, control = screen()
    names = list("ABCDEF")
    table = evaluate_expression(
        truth, truth, control, background=control, perturbations=names, targets="include"
    )
    best = overall(table)
    assert best["l2"] == best["l2_changed"] == 0
    for metric in ("pearson_delta", "direction", "overlap_changed", "rank_l1", "rank_cosine"):
        assert best[metric] == pytest.approx(1)
    assert best["spread_ratio"] == pytest.approx(1)
    assert best["effective_rank"] == pytest.approx(best["effective_rank_truth"])
    assert 1 < best["effective_rank"] <= 5
    for metric, value in table[["metric", "value"]].itertuples(index=False):
        low, high = METRICS[metric].range
        assert low - 1e-9 <= value <= high + 1e-9


def test_a_collapsed_prediction_is_seen():
    truth, control = screen()
    same = np.tile(truth.mean(axis=0), (6, 1))
    table = evaluate_expression(
        truth,
        same,
        control,
        background=truth.mean(axis=0),
        perturbations=list("ABCDEF"),
        targets="include",
    )
    found = overall(table)
    assert found["spread_ratio"] == pytest.approx(0, abs=1e-12)
    assert found["effective_rank"] == 0
    assert 0 <= found["rank_l1"] <= 1
    assert np.mean(table.loc[table["metric"] == "rank_l1", "value"]) == pytest.approx(0.5)
    assert np.isnan(found["pearson_delta_mean"])
    one = np.outer(np.arange(6), np.ones(40))
    assert collapse_figures(truth, one)["effective_rank"] == pytest.approx(1)
    assert np.isnan(collapse_figures(truth[:1], truth[:1])["spread_ratio"])


def test_pearson_and_direction_are_plain():
    truth, control = screen()
    predicted = truth + np.random.default_rng(5).normal(0, 0.5, truth.shape)
    background = truth.mean(axis=0)
    table = evaluate_expression(
        truth,
        predicted,
        control,
        background=background,
        perturbations=list("ABCDEF"),
        n_changed=7,
        targets="include",
    )
    rows = table[table["level"] == "perturbation"].pivot(
        index="group", columns="metric", values="value"
    )
    for i, name in enumerate("ABCDEF"):
        change, delta = truth[i] - control, predicted[i] - control
        changed = np.argsort(-np.abs(change))[:7]
        claimed = np.argsort(-np.abs(delta))[:7]
        row = rows.loc[name]
        assert row["pearson_delta"] == pytest.approx(pearsonr(delta, change)[0])
        mean = pearsonr(predicted[i] - background, truth[i] - background)[0]
        assert row["pearson_delta_mean"] == pytest.approx(mean)
        assert row["pearson_changed"] == pytest.approx(pearsonr(delta[changed], change[changed])[0])
        assert row["direction"] == pytest.approx((np.sign(delta) == np.sign(change)).mean())
        assert row["overlap_changed"] == pytest.approx(len({*changed} & {*claimed}) / 7)
        nearer = (np.abs(truth - predicted[i]).sum(axis=1)) < np.abs(truth[i] - predicted[i]).sum()
        assert row["rank_l1"] == pytest.approx(1 - nearer.sum() / 5)


# --- several methods ------------------------------------------------------------------------------


def as_array(values, names, genes):
    return xr.DataArray(
        values, dims=("perturbation", "gene"), coords={"perturbation": names, "gene": genes}
    )


def compared(predictions, **options):
    truth, control = screen()
    genes = [f"g{i}" for i in range(40)]
    level = xr.DataArray(control, dims="gene", coords={"gene": genes})
    return compare_expression(
        as_array(truth, list("ABCDEF"), genes),
        predictions,
        control=level,
        background=level,
        n_genes=30,
        **options,
    )


def test_nobody_gains_by_leaving_out_genes_or_perturbations():
    methods = a_shy_method()
    table = compared(methods)
    means = table[table["level"] == "overall"].set_index(["method", "metric"])
    for method, n in (("whole", 6), ("complete", 6), ("shy", 4)):
        assert means.loc[(method, "l2"), "n"] == n
        assert means.loc[(method, "n_without_prediction"), ["value", "n"]].tolist() == [6 - n, 6]
    apart = table.drop_duplicates("method").set_index("method")["apart"]
    assert apart.to_dict() == {"whole": False, "complete": False, "shy": True}
    rows = table[(table["level"] == "perturbation") & (table["metric"] == "l2")]
    assert set(rows["n"]) == {27}
    assert set(rows.loc[rows["method"] == "shy", "group"]) == set("ABCD")
    mine = rows.pivot(index="group", columns="method", values="value").dropna()
    np.testing.assert_allclose(mine["shy"], mine["complete"])
    paper = compared(methods, genes="per_model", perturbations="most_methods")
    paper = paper[paper["level"] == "overall"].set_index(["method", "metric"])["value"]
    assert paper["shy", "l2"] < paper["complete", "l2"] / 5


def a_shy_method():
    """Three methods, of which one leaves out two perturbations and the genes that are hard."""
    truth, control = screen()
    genes = [f"g{i}" for i in range(40)]
    whole = as_array(truth + 0.1, list("ABCDEF"), genes)
    hard = top_genes(control, 3)
    off = truth + 0.1
    off[:, hard] += 5
    complete = as_array(off, list("ABCDEF"), genes)
    shy = complete.isel(gene=[i for i in range(40) if i not in hard], perturbation=slice(0, 4))
    return {"whole": whole, "complete": complete, "shy": shy}


def test_a_method_that_predicts_little_changes_nothing_for_the_others():
    """As the linear model, which predicts only where the target is read out."""
    truth, control = screen()
    genes = [f"g{i}" for i in range(40)]
    noisy = truth + np.random.default_rng(1).normal(0, 1, truth.shape)
    methods = {
        "same for all": as_array(np.tile(control + 0.1, (6, 1)), list("ABCDEF"), genes),
        "noisy": as_array(noisy, list("ABCDEF"), genes),
        "linear": as_array(noisy[:2], list("AB"), genes),
    }
    table = compared(methods)
    without = compared({name: methods[name] for name in ("same for all", "noisy")})
    mine = table[~table["apart"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, without)
    means = table[table["level"] == "overall"].set_index(["method", "metric"])["value"]
    for rank in ("rank_l1", "rank_cosine"):
        assert means["same for all", rank] == pytest.approx(0.5)
    # ranks are taken among those that are averaged: of two truths
    rows = table[(table["method"] == "linear") & table["metric"].isin(["rank_l1"])]
    assert set(rows.loc[rows["level"] == "perturbation", "value"]) <= {0.0, 0.5, 1.0}
    filled = compared(methods, no_change=["linear"])
    assert not filled["apart"].any()
    found = filled[(filled["method"] == "linear") & (filled["metric"] == "l2")]
    nothing = np.linalg.norm((truth - control)[2:, top_genes(control, 30)], axis=1)
    np.testing.assert_allclose(found["value"].iloc[2:6], nothing)
    lacking = filled[filled["metric"] == "n_without_prediction"].set_index("method")["value"]
    assert lacking.to_dict() == {"same for all": 0, "noisy": 0, "linear": 4}
    on_common = compared(methods, perturbations="common")
    assert set(on_common.loc[on_common["level"] == "perturbation", "group"]) == {"A", "B"}


def test_the_compared_set_is_that_of_the_methods_that_predict_the_most():
    rows = {
        "all": np.array([True, True, True, False]),
        "as many": np.array([True, True, False, True]),
        "few": np.array([True, False, False, False]),
        "enough": np.array([True, True, False, False]),
    }
    found = compared_set(rows)
    assert found.perturbations.tolist() == [True, True, False, False]
    assert found.methods == ("all", "as many", "enough")
    assert found.apart == ("few",)
    halves = {"one": np.array([True, False]), "other": np.array([False, True])}
    assert compared_set(halves).apart == ("one", "other")
    assert compared_set({}).methods == ()


def test_common_perturbations_by_either_rule():
    full = np.ones((3, 4))
    part = full.copy()
    part[0, 1] = np.nan
    part[2] = np.nan
    both = {"full": full, "part": part}
    assert list(common_perturbations(both)) == [False, True, False]
    assert list(common_perturbations(both, rule="first_gene")) == [True, True, False]


def test_what_comparison_refuses():
    truth, _ = screen()
    genes = [f"g{i}" for i in range(40)]
    whole = as_array(truth, list("ABCDEF"), genes)
    with pytest.raises(InputError, match="no gene is predicted by all of whole, other"):
        compared({"whole": whole, "other": whole.assign_coords(gene=[f"x{i}" for i in range(40)])})
    for wrong in ({"genes": "all"}, {"perturbations": "all"}, {"targets": "none"}):
        with pytest.raises(ArgumentError, match=f"{next(iter(wrong))}="):
            compared({"whole": whole}, **wrong)
    with pytest.raises(ArgumentError, match="pass genes=, or targets='include'"):
        evaluate_expression(
            truth, truth, truth[0], background=truth[0], perturbations=list("ABCDEF")
        )
    with pytest.raises(InputError, match="'A' is named twice"):
        own_targets(["A"], ["A", "A"])
    with pytest.raises(InputError, match="predicted has shape"):
        evaluate_expression(
            truth,
            truth[:, :3],
            truth[0],
            background=truth[0],
            perturbations=list("ABCDEF"),
            targets="include",
        )
    with pytest.raises(InputError, match="NaN"):
        evaluate_expression(
            truth * np.nan,
            truth,
            truth[0],
            background=truth[0],
            perturbations=list("ABCDEF"),
            targets="include",
        )
    with pytest.raises(ArgumentError, match="by="):
        error_by_genes(truth, truth, truth[0], by="name")


# --- targets --------------------------------------------------------------------------------------

TARGET = json.loads((GOLDEN / "retrieval_target.json").read_text())
#: Names of the golden case: the first four genes are the targets.
NAMES, GENES = list("ABCD"), list("ABCDxy")


def of_target(which, **options):
    """Scores of the golden prediction, or of no change, by (level, group, metric)."""
    control = np.array(TARGET["control"])
    predicted = {
        "label only": np.array(TARGET["predicted"]),
        "no change": np.tile(control, (4, 1)),
    }[which]
    table = evaluate_expression(
        np.array(TARGET["truth"]),
        predicted,
        control,
        background=control + 0.1,
        perturbations=NAMES,
        genes=GENES,
        n_changed=2,
        **options,
    )
    return table.set_index(["level", "group", "metric"])["value"]


def test_to_know_the_label_gains_nothing_in_any_metric():
    """The golden file's attack: the own target falls, and nothing else changes."""
    with_target = of_target("label only", targets="include")
    assert with_target["overall", "", "rank_cosine"] == TARGET["rank_cosine_with_target"]
    assert with_target["overall", "", "rank_l1"] == TARGET["rank_l1_with_target"]
    assert with_target["overall", "", "pearson_delta"] > 0.9
    attack, floor = of_target("label only"), of_target("no change")
    pd.testing.assert_series_equal(attack, floor, rtol=1e-12)
    assert attack["overall", "", "rank_cosine"] == TARGET["rank_cosine_without_target"]
    assert attack["overall", "", "rank_l1"] == pytest.approx(0.5)
    metrics = set(attack.index.get_level_values("metric"))
    assert metrics == set(with_target.index.get_level_values("metric"))
    assert {"spread_ratio", "effective_rank", "overlap_changed"} < metrics


def test_to_raise_the_targets_of_others_gains_nothing_in_retrieval():
    control = np.array(TARGET["control"])
    raised = np.tile(control, (4, 1)) + 0.5 * (1 - np.eye(4, 6)) * (np.arange(6) < 4)
    table = evaluate_expression(
        np.array(TARGET["truth"]),
        raised,
        control,
        background=control,
        perturbations=NAMES,
        genes=GENES,
    )
    found = overall(table)
    assert found["rank_cosine"] == found["rank_l1"] == pytest.approx(0.5)
    assert found["effective_rank"] == 0


def test_what_is_scored_without_targets_is_the_rest():
    """Combinations, guides, and targets that are not read out; the same as without these genes."""
    truth, control = screen()
    names = ["g0+g1", "g2_1", "g2_2", "elsewhere", "g3", "drug"]
    genes = [f"g{i}" for i in range(40)]
    marked = own_targets(names, genes, target_genes={"drug": ("g4", "g5")})
    want = {"g0+g1": [0, 1], "g2_1": [2], "g2_2": [2], "elsewhere": [], "g3": [3], "drug": [4, 5]}
    for row, name in zip(marked, names, strict=True):
        assert np.flatnonzero(row).tolist() == want[name]
    predicted = truth + np.random.default_rng(2).normal(0, 0.5, truth.shape)
    background = truth.mean(axis=0)
    options = {"background": background, "n_genes": 40, "n_changed": 5}
    table = evaluate_expression(
        truth,
        predicted,
        control,
        perturbations=names,
        genes=genes,
        target_genes={"drug": ("g4", "g5")},
        **options,
    )
    rows = table[table["level"] == "perturbation"].pivot(
        index="group", columns="metric", values=["value", "n"]
    )
    for i, name in enumerate(names):
        rest = np.flatnonzero(~marked[i])
        alone = evaluate_expression(
            truth[i : i + 1, rest],
            predicted[i : i + 1, rest],
            control[rest],
            perturbations=["it"],
            targets="include",
            **{**options, "background": background[rest], "n_genes": len(rest)},
        )
        alone = alone[alone["level"] == "perturbation"].set_index("metric")
        for metric in set(alone.index) - {"rank_l1", "rank_cosine"}:
            found = rows.loc[name]
            assert found["value", metric] == pytest.approx(alone.loc[metric, "value"]), metric
            assert found["n", metric] == len(rest)
    shared = np.flatnonzero(~marked.any(axis=0))
    assert set(rows["n", "rank_l1"]) == {len(shared)} == {34}
    figures = collapse_figures(truth[:, shared], predicted[:, shared])
    for metric, value in figures.items():
        assert overall(table)[metric] == pytest.approx(value)


def test_curves_leave_out_what_they_are_told_to():
    truth, control = screen()
    own = own_targets(list("ABCDEF"), ["B", *(f"g{i}" for i in range(39))])
    off = truth + 0.1
    off[own] += 9
    for by in ("expression", "change"):
        curves = error_by_genes(truth, off, control, by=by, left_out=own)
        np.testing.assert_allclose(curves[:, -1], 0.1 * np.sqrt(40 - own.sum(axis=1)))
        assert error_by_genes(truth, off, control, by=by)[1, -1] > 9


# --- many perturbations ---------------------------------------------------------------------------


def plain_ranks(truth, predicted, control):
    """Ranks, one by one."""
    found = []
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)  # noqa: E731
    for i, row in enumerate(predicted):
        l1 = np.abs(truth - row).sum(axis=1)
        cosine = -np.round(unit(truth - control) @ unit(row - control), 12)
        ranks = []
        for distance in (l1, cosine):
            others = np.delete(distance, i)
            nearer = (others < distance[i]).sum() + (others == distance[i]).sum() / 2
            ranks.append(1 - nearer / len(others))
        found.append(ranks)
    return np.array(found)


@pytest.mark.parametrize("n", [2, 17, 300])
def test_ranks_in_blocks_are_those_one_by_one(n):
    random = np.random.default_rng(n)
    control = random.gamma(2, 1, 30)
    truth = control + random.normal(0, 0.5, (n, 30))
    truth[-1] = truth[0]  # ties
    predicted = truth + random.normal(0, 0.7, truth.shape)
    predicted[: n // 3] = control + 0.2  # the same for some
    predicted[n // 2] = control  # no change
    truths, delta, rows = Truths(truth, control, np.arange(30)), predicted - control, np.arange(n)
    want = plain_ranks(truth, predicted, control)
    np.testing.assert_allclose(truths.rank_l1(delta, rows), want[:, 0], atol=1e-12)
    np.testing.assert_allclose(truths.rank_cosine(delta, rows), want[:, 1], atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 40), (40, 40), (90, 40)])
def test_effective_rank_by_either_side_is_that_of_the_singular_values(shape):
    values = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 2, shape[1])
    shares = np.linalg.svd(values - values.mean(axis=0), compute_uv=False) ** 2
    shares = shares[shares > 1e-12] / shares.sum()
    want = np.exp(-np.sum(shares * np.log(shares)))
    found = collapse_figures(values, values)
    assert found["effective_rank"] == pytest.approx(want, rel=1e-9)
    assert found["spread_ratio"] == pytest.approx(1)


def test_thousands_of_perturbations_take_seconds_and_little_memory():
    """A cube of their number would take minutes: 3,000 of them, effective rank and retrieval."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(3000, 100))
    predicted = truth + random.normal(size=truth.shape)
    tracemalloc.start()
    started = time.process_time()
    table = evaluate_expression(
        truth,
        predicted,
        np.zeros(100),
        background=np.zeros(100),
        targets="include",
        perturbations=[str(i) for i in range(3000)],
    )
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert overall(table)["rank_l1"] > 0.9
    assert peak < 25 * truth.nbytes  # and not 3000 x 3000 of anything (72 MB)
    assert seconds < 20
