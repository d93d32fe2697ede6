"""Scores of predicted expression, against golden and published numbers (SPEC I)."""

from __future__ import annotations

import json

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
    ratio_to_reference,
)
from pertscale.evaluation.expression import (
    collapse_figures,
    error_by_genes,
    evaluate_expression,
    gene_numbers,
    top_genes,
)
from tests.helpers import GOLDEN, real_data, shared_golden

GOLD = json.loads((GOLDEN / "metrics.json").read_text())
CONTROL, OBSERVED, PREDICTED, HOLED = (
    np.array(GOLD[key], float) for key in ("control", "observed", "predicted", "predicted_missing")
)


def scores_of(predicted, n_genes=14, **options):
    table = evaluate_expression(
        OBSERVED[None], np.asarray(predicted)[None], CONTROL, background=CONTROL,
        perturbations=["A"], n_genes=n_genes, **options,
    )  # fmt: skip
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


def test_fig_1b_to_six_digits():
    table = pd.read_excel(
        real_data("ahlmann_eltze/perturbation_prediction.xlsx"), sheet_name="Panel B"
    )
    assert table["method"].nunique() == 9
    for _, mine in table.groupby("method"):
        mine = mine.sort_values("expr_rank")
        found = evaluate_expression(
            mine[["observed"]].to_numpy().T, mine[["prediction"]].to_numpy().T,
            mine["baseline"].to_numpy(), background=mine["baseline"].to_numpy(),
            perturbations=["CEBPE+CEBPB"],
        )  # fmt: skip
        value = found[found["level"] == "perturbation"].set_index("metric")["value"]
        if mine["prediction"].notna().all():
            assert value["l2"] == pytest.approx(mine["l2"].iloc[0], rel=1e-6)
            expected = mine["r2_delta"].iloc[0]
            assert value["pearson_delta"] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_fig_2c_ratios():
    golden = json.loads(shared_golden("fig2c_ratio.json").read_text())
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
    table = evaluate_expression(truth, truth, control, background=control, perturbations=names)
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
        truth, same, control, background=truth.mean(axis=0), perturbations=list("ABCDEF")
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
        truth, predicted, control, background=background, perturbations=list("ABCDEF"), n_changed=7
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
        as_array(truth, list("ABCDEF"), genes), predictions, control=level, background=level,
        n_genes=30, **options,
    )  # fmt: skip


def test_nobody_gains_by_leaving_out_genes_or_perturbations():
    truth, control = screen()
    genes = [f"g{i}" for i in range(40)]
    whole = as_array(truth + 0.1, list("ABCDEF"), genes)
    hard = top_genes(control, 3)
    off = truth + 0.1
    off[:, hard] += 5
    complete = as_array(off, list("ABCDEF"), genes)
    shy = complete.isel(gene=[i for i in range(40) if i not in hard], perturbation=slice(0, 4))
    table = compared({"whole": whole, "complete": complete, "shy": shy})
    means = table[table["level"] == "overall"].set_index(["method", "metric"])
    assert means.loc[("complete", "l2"), "value"] == pytest.approx(
        means.loc[("shy", "l2"), "value"]
    )
    assert means.loc[("whole", "l2"), "n"] == 4
    assert means.loc[("shy", "n_without_prediction"), "value"] == 2
    rows = table[(table["level"] == "perturbation") & (table["metric"] == "l2")]
    assert set(rows["n"]) == {27, 0} or set(rows["n"]) == {27}
    paper = compared({"whole": whole, "complete": complete, "shy": shy}, genes="per_model")
    paper = paper[paper["level"] == "overall"].set_index(["method", "metric"])["value"]
    assert paper["shy", "l2"] < paper["complete", "l2"] / 5


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
    with pytest.raises(ArgumentError, match="genes="):
        compared({"whole": whole}, genes="all")
    with pytest.raises(InputError, match="predicted has shape"):
        evaluate_expression(
            truth, truth[:, :3], truth[0], background=truth[0], perturbations=list("ABCDEF")
        )
    with pytest.raises(InputError, match="NaN"):
        evaluate_expression(
            truth * np.nan, truth, truth[0], background=truth[0], perturbations=list("ABCDEF")
        )
    with pytest.raises(ArgumentError, match="by="):
        error_by_genes(truth, truth, truth[0], by="name")
