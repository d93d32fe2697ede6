"""Predictions and models from outside in the benchmark: scored fairly, and not to be gamed."""

from __future__ import annotations

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression, Ridge

import pertscale as ps
from pertscale.cli import main
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import at_operating_point, own_targets
from pertscale.predictions.cells import label_predicted_cells, plan_predicted_cells
from pertscale.report import write_report
from tests.support.screens import draw_counts, write_h5ad

CONTEXT, SPLIT = "alpha", "holdout-seed0"
#: A few baselines that stand beside what comes from outside.
BASELINES = {
    "tasks": ["within", "single"],
    "methods": ["majority_vote", "knn_10", "no_change", "mean", "linear"],
    "seed": 0,
    "quiet": True,
}

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """One context, sixteen perturbations; counts."""
    folder = tmp_path_factory.mktemp("outsiders")
    counts, perturbation, _ = draw_counts(n_cells=2500, n_genes=200, n_perturbations=16)
    obs = {"perturbation": perturbation, "cell_line": np.full(len(perturbation), CONTEXT)}
    source = write_h5ad(folder / "s.h5ad", counts, obs)
    return ps.open_screen(ps.io.ingest(source, folder / "s.zarr", quiet=True)), source


@pytest.fixture(scope="module")
def finished(screen, without_report, tmp_path_factory):
    out = tmp_path_factory.mktemp("baseline") / "run"
    return ps.run_benchmark(screen[0], out=out, **BASELINES)


@pytest.fixture
def baseline(finished, tmp_path_factory):
    """A copy of the benchmark without anything from outside, which a test may go on in."""
    return ps.read_result(shutil.copytree(finished.path, tmp_path_factory.mktemp("copy") / "run"))


@pytest.fixture(scope="module")
def truth(finished):
    """Observed profiles of all perturbations, the control first."""
    profiles = finished.pseudobulk["mean_log1p"]
    return pd.DataFrame(
        profiles.values, list(profiles["perturbation"].values), list(profiles["gene"].values)
    )


def run(screen, baseline, **how):
    """Run again with more, in the copy of the baseline: its units are taken as they are."""
    result = ps.run_benchmark(screen[0], out=baseline.path, **BASELINES, **how)
    return ps.read_result(result.path)


def written(tmp_path, frame, name="p.parquet"):
    path = tmp_path / name
    frame.rename_axis("condition").reset_index().to_parquet(path)
    return path


def value(result, method, metric, *, setting="top_expressed", task="single"):
    rows = at_operating_point(result.scores).query(
        "method == @method and metric == @metric and setting == @setting and task == @task "
        "and level == 'overall'"
    )
    assert len(rows) == 1, (method, metric, setting)
    return float(rows["value"].iloc[0])


def held_out(baseline):
    return list(baseline.splits[CONTEXT][SPLIT].test)


# --- profiles -------------------------------------------------------------------------------------


def test_a_perfect_prediction_is_perfect_and_changes_no_other_score(
    screen, baseline, truth, tmp_path
):
    before = baseline.scores
    path = written(tmp_path, truth.loc[held_out(baseline)])
    result = run(screen, baseline, predictions={"perfect": path})
    assert value(result, "perfect", "l2") == pytest.approx(0, abs=1e-4)
    # not 1: changes of the truth are from other controls than those of predictions
    assert 0.97 < value(result, "perfect", "pearson_delta") < 1
    assert value(result, "perfect", "auroc_de_per_gene", setting="full", task="within") > 0.8
    rest = result.scores[result.scores["method"] != "perfect"].reset_index(drop=True)
    keys = ["task", "setting", "method", "operating_point", "level", "group", "metric"]
    both = rest.merge(before, on=[*keys, "split"], suffixes=("", "_before"), how="outer")
    assert len(both) == len(before)
    np.testing.assert_array_equal(both["value"], both["value_before"])
    row = result.coverage.query("name == 'perfect'").iloc[0]
    assert row["n_perturbations_predicted"] == row["n_perturbations"] == len(held_out(baseline))
    assert row["n_genes_predicted"] == 200
    params = result.scores.query("method == 'perfect' and task == 'single'")["params"].iloc[0]
    assert '"control": "observed"' in params


def test_leaving_genes_out_gains_nothing(screen, baseline, truth, tmp_path):
    """What is left out counts as no change, for whoever leaves it out."""
    names = held_out(baseline)
    noisy = truth.loc[names] + np.random.default_rng(0).normal(0, 0.3, (len(names), 200))
    error = ((noisy - truth.loc[names]) ** 2).sum()
    easy = list(error.nsmallest(100).index)
    files = {
        "all_genes": written(tmp_path, noisy, "a.parquet"),
        "easy_genes": written(tmp_path, noisy[easy], "e.parquet"),
        "rest_no_change": written(
            tmp_path,
            pd.DataFrame(
                np.where(noisy.columns.isin(easy), noisy, truth.loc["control"]),
                names,
                truth.columns,
            ),
            "n.parquet",
        ),
    }
    how = {name: ps.read_predictions(path, scale="log1p_1e4") for name, path in files.items()}
    result = run(screen, baseline, predictions=how)
    for metric in ("l2", "rmse"):
        left_out, said = (value(result, m, metric) for m in ("easy_genes", "rest_no_change"))
        assert left_out == pytest.approx(said, rel=1e-5)
    for task_metric in ("macro_f1", "auroc_de_per_gene"):
        both = [
            value(result, m, task_metric, setting="full", task="within")
            for m in ("easy_genes", "rest_no_change")
        ]
        assert both[0] == pytest.approx(both[1], abs=1e-9)
    # the table of common genes says so by its name, and compares all on the same ones
    common = {m: value(result, m, "l2", setting="top_expressed_common") for m in (*files, "mean")}
    assert common["easy_genes"] == pytest.approx(common["all_genes"], rel=1e-5)
    row = result.coverage.query("name == 'easy_genes'").iloc[0]
    assert row["n_genes_predicted"] == 100
    assert len(row["genes_missing"].split(",")) == 100


def test_leaving_perturbations_out_gains_nothing(screen, baseline, truth, tmp_path):
    names = held_out(baseline)
    noisy = truth.loc[names] + np.random.default_rng(1).normal(0, 0.3, (len(names), 200))
    kept = noisy.copy()
    hard = names[0]
    kept.loc[hard] = truth.loc["control"]
    how = {
        "partial": ps.read_predictions(
            written(tmp_path, noisy.drop(index=hard), "p.parquet"), scale="log1p_1e4"
        ),
        "no_change_there": ps.read_predictions(
            written(tmp_path, kept, "k.parquet"), scale="log1p_1e4"
        ),
    }
    result = run(screen, baseline, predictions=how)
    for metric in ("l2", "pearson_delta", "rank_l1"):
        assert value(result, "partial", metric) == pytest.approx(
            value(result, "no_change_there", metric), rel=1e-5, nan_ok=True
        )
    for setting in ("full", "curated"):  # classes: the threshold is of all pairs
        for metric in ("accuracy", "macro_f1"):
            partial, whole = (
                value(result, m, metric, setting=setting, task="within")
                for m in ("partial", "no_change_there")
            )
            assert partial == pytest.approx(whole), (setting, metric)
    assert result.coverage.query("name == 'partial'")["perturbations_missing"].iloc[0] == hard


def test_files_and_models_have_thresholds_of_the_same_pairs(screen, baseline, truth, tmp_path):
    """In the curated setting most pairs are not asked for: their changes say nothing."""
    noisy = truth + np.random.default_rng(2).normal(0, 0.3, truth.shape)

    class Same:
        def fit(self, profiles):
            return self

        def predict(self, perturbations):
            return xr.DataArray(
                noisy.loc[list(perturbations)].to_numpy(),
                dims=("perturbation", "gene"),
                coords={"perturbation": list(perturbations), "gene": list(noisy.columns)},
            )

    path = written(tmp_path, noisy.loc[held_out(baseline)])
    result = run(
        screen,
        baseline,
        models={"model": Same()},
        predictions={"file": ps.read_predictions(path, scale="log1p_1e4")},
    )
    for setting in ("full", "curated"):
        model, file = (
            value(result, m, "macro_f1", setting=setting, task="within") for m in ("model", "file")
        )
        assert file == pytest.approx(model, abs=0.01)


def test_files_of_one_split_are_put_together(screen, baseline, truth, tmp_path):
    names = held_out(baseline)
    parts = [truth.loc[names[:2]], truth.loc[names[2:]]]
    found = [
        ps.read_predictions(written(tmp_path, part, f"{i}.parquet"), scale="log1p_1e4")
        for i, part in enumerate(parts)
    ]
    whole = ps.read_predictions(written(tmp_path, truth.loc[names], "w.parquet"), scale="log1p_1e4")
    result = run(screen, baseline, predictions={"parts": found, "whole": whole})
    for setting, task, metric in (
        ("top_expressed", "single", "l2"),
        ("full", "within", "macro_f1"),
    ):
        both = [value(result, m, metric, setting=setting, task=task) for m in ("parts", "whole")]
        assert both[0] == both[1]
    rows = result.coverage.query("name == 'parts'")
    assert (rows["n_perturbations_predicted"] == len(names)).all()
    params = result.scores.query("method == 'parts' and task == 'within'")["params"].iloc[0]
    assert '"file": "0.parquet, 1.parquet"' in params
    with pytest.raises(InputError, match="is predicted twice for the same split"):
        run(screen, baseline, predictions={"m": [found[0], whole]})
    other = ps.read_predictions(tmp_path / "1.parquet", scale="log1p_1e4", control="in_file")
    with pytest.raises(InputError, match=r"read as control='observed', 1\.parquet as con"):
        run(screen, baseline, predictions={"m": [found[0], other]})


def test_the_scale_gains_nothing(screen, baseline, truth, tmp_path):
    """The same prediction on three scales scores the same; blown up, its classes do not change."""
    names = held_out(baseline)
    control = truth.loc["control"]
    noisy = truth.loc[names] + np.random.default_rng(2).normal(0, 0.2, (len(names), 200))
    noisy = noisy.clip(lower=0)
    delta = noisy - control
    lfc = np.log2((np.expm1(noisy) + 1e-9) / (np.expm1(control) + 1e-9))
    how = {
        name: ps.read_predictions(written(tmp_path, frame, f"{name}.parquet"), scale=scale)
        for name, frame, scale in (
            ("log1p", noisy, "log1p_1e4"),
            ("delta", delta, "delta"),
            ("lfc", lfc, "lfc"),
            ("blown_up", delta * 4, "delta"),
        )
    }
    result = run(screen, baseline, predictions=how)
    for metric in ("l2", "pearson_delta", "rank_cosine"):
        wanted = value(result, "log1p", metric)
        assert value(result, "delta", metric) == pytest.approx(wanted, rel=1e-4)
        assert value(result, "lfc", metric) == pytest.approx(wanted, rel=1e-3)
    assert value(result, "blown_up", "l2") > value(result, "delta", "l2")
    for metric in ("macro_f1", "accuracy", "auroc_de_per_gene"):
        plain, large = (
            value(result, m, metric, setting="full", task="within") for m in ("delta", "blown_up")
        )
        assert large == pytest.approx(plain, abs=2e-3)


def test_what_a_file_says_of_training_perturbations_gains_nothing(
    screen, baseline, truth, tmp_path
):
    """Classes of held-out pairs do not depend on it; the best macro F1 can only be had with it."""
    names, train = held_out(baseline), list(baseline.splits[CONTEXT][SPLIT].train)
    noisy = truth.loc[names] + np.random.default_rng(4).normal(0, 0.1, (len(names), 200))
    steered = pd.concat([noisy, truth.loc["control"] + 0 * truth.loc[train]])
    how = {
        name: ps.read_predictions(written(tmp_path, frame, f"{name}.parquet"), scale="log1p_1e4")
        for name, frame in (("alone", noisy), ("steered", steered))
    }
    result = run(screen, baseline, predictions=how)
    for metric in ("macro_f1", "accuracy", "mcc"):
        alone, other = (
            value(result, m, metric, setting="full", task="within") for m in ("alone", "steered")
        )
        assert alone == other
    result = run(screen, baseline, predictions=how, threshold="macro_f1")
    assert "needs predictions of training perturbations" in " ".join(result.skipped["reason"])
    assert value(result, "steered", "macro_f1", setting="full", task="within") > 0


def test_own_controls_gain_nothing(screen, baseline, truth, tmp_path):
    """A file whose controls hide a shift is measured from the real ones, unless that is asked."""
    names = held_out(baseline)
    shifted = truth.loc[[*names, "control"]] + 0.5
    path = written(tmp_path, shifted)
    how = {
        "shifted": ps.read_predictions(path, scale="log1p_1e4"),
        "as_asked": ps.read_predictions(path, scale="log1p_1e4", control="in_file"),
    }
    result = run(screen, baseline, predictions=how)
    rest = 200 - own_targets(names, list(truth.columns)).sum(axis=1)
    shift = 0.5 * np.sqrt(rest).mean()
    assert value(result, "shifted", "l2") == pytest.approx(shift, rel=1e-4)
    assert value(result, "as_asked", "l2") == pytest.approx(0, abs=1e-3)
    params = result.scores.query("method == 'as_asked' and task == 'single'")["params"].iloc[0]
    assert '"control": "in_file"' in params


# --- cells and classes ----------------------------------------------------------------------------


def _cells(screen, path, names, *, log=False, drop_genes=(), scale=1.0, control_shift=0.0):
    """Write the observed cells of some perturbations and the controls as if predicted."""
    data = anndata.read_h5ad(screen[1])
    keep = data.obs["perturbation"].isin([*names, "non-targeting"]).to_numpy()
    mine = data[keep].copy()
    if log or control_shift:
        values = mine.X.toarray()
        values = np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4) * scale
        own = (mine.obs["perturbation"] == "non-targeting").to_numpy()
        values[own] += control_shift * (values[own] > 0)
        mine = anndata.AnnData(values.astype(np.float32), mine.obs, mine.var)
    mine = mine[:, ~mine.var_names.isin(drop_genes)].copy()
    mine.obs = mine.obs.rename(columns={"perturbation": "target_gene"})
    mine.write_h5ad(path)
    return path


def test_observed_cells_as_a_prediction_give_the_observed_labels(screen, baseline, tmp_path):
    names = held_out(baseline)
    path = _cells(screen, tmp_path / "cells.h5ad", names)
    result = run(screen, baseline, predictions={"STATE": path})
    for setting in ("full", "curated"):
        assert value(result, "STATE", "accuracy", setting=setting, task="within") == 1
    assert value(result, "STATE", "l2") == pytest.approx(0, abs=1e-4)
    # on the other scale ties between cells are a matter of rounding, labels hardly change
    log = _cells(screen, tmp_path / "log.h5ad", names, log=True)
    result = run(screen, baseline, predictions={"STATE": log})
    assert value(result, "STATE", "accuracy", setting="full", task="within") > 0.995


def test_cells_are_tested_again_on_another_screen(screen, baseline, tmp_path):
    """In the same folder, after the screen was made anew."""
    path = _cells(screen, tmp_path / "cells.h5ad", held_out(baseline))
    counts = anndata.read_h5ad(screen[1])
    control = (counts.obs["perturbation"] == "non-targeting").to_numpy()
    counts.X[control, :100] *= 3
    counts.write_h5ad(tmp_path / "other.h5ad")
    other = ps.io.ingest(tmp_path / "other.h5ad", tmp_path / "other.zarr", quiet=True)
    how = {
        "tasks": ["within"],
        "methods": ["majority_vote"],
        "predictions": {"STATE": path},
        "seed": 0,
        "quiet": True,
    }
    scores = [
        ps.run_benchmark(store, out=tmp_path / out, **how).scores
        for store, out in ((screen[0], "a"), (other, "a"), (other, "b"))
    ]
    pd.testing.assert_frame_equal(scores[1], scores[2])
    assert not scores[0].equals(scores[1])


def test_cells_bring_controls_that_do_not_count(screen, baseline, tmp_path):
    names = held_out(baseline)
    shifted = _cells(screen, tmp_path / "shifted.h5ad", names, control_shift=2.0)
    how = {
        "observed": ps.read_predictions(shifted),
        "in_file": ps.read_predictions(shifted, control="in_file"),
    }
    result = run(screen, baseline, predictions=how)
    honest, own = (
        value(result, m, "accuracy", setting="full", task="within") for m in ("observed", "in_file")
    )
    assert honest > 0.99
    assert own < 0.9  # nearly everything is down against these controls


def test_cells_with_missing_genes_and_unknown_labels(screen, baseline, tmp_path):
    names = held_out(baseline)
    lost = [f"G{i}" for i in range(50, 120)]
    path = _cells(screen, tmp_path / "few.h5ad", names[1:], drop_genes=lost)
    data = anndata.read_h5ad(path)
    labels = data.obs["target_gene"].astype(str)
    labels.iloc[0] = "NOSUCH"
    data.obs["target_gene"] = labels
    data.write_h5ad(path)
    result = run(screen, baseline, predictions={"cells": path})
    row = result.coverage.query("name == 'cells'").iloc[0]
    assert row["perturbations_missing"] == names[0]
    assert row["n_genes_predicted"] == 130
    assert row["not_in_screen"] == "NOSUCH"
    kept = result.predictions(context=CONTEXT, labels="full", split=SPLIT, method="cells")
    assert (kept["label"].sel(perturbation=names[0]) == 0).all()
    assert (kept["label"].sel(gene=lost) == 0).all()


def test_cells_with_a_part_of_the_genes_are_on_the_scale_of_the_screen(screen, baseline, tmp_path):
    """Counts of a part of the genes have totals of that part."""
    names = held_out(baseline)
    own = [n for n in names if n in screen[0].genes]  # knocked down to a tenth
    lost = [f"G{i}" for i in range(100, 200)]
    assert own
    assert not set(own) & set(lost)
    path = _cells(screen, tmp_path / "half.h5ad", names, drop_genes=lost)
    result = run(screen, baseline, predictions={"cells": path})
    kept = result.expression(context=CONTEXT, task="single", split=SPLIT)
    kept = kept.sel(gene=[g for g in kept["gene"].values if g not in lost])
    mine, truth = kept["prediction"].sel(model="cells"), kept["truth"]
    assert float(mine.min()) >= 0
    off = (mine - truth).values
    assert abs(np.median(off)) < 0.02
    assert np.sqrt((off**2).mean()) < 0.1
    for name in own:
        low = mine.sel(perturbation=name, gene=name), truth.sel(perturbation=name, gene=name)
        assert float(low[0]) == pytest.approx(float(low[1]), abs=0.15)


def test_cells_that_can_not_be_used(screen, baseline, tmp_path):
    store, source = screen
    data = anndata.read_h5ad(source)
    data.obs["perturbation"] = "X" + data.obs["perturbation"].astype(str)
    data.write_h5ad(tmp_path / "x.h5ad")
    controls = {CONTEXT: np.zeros(200)}
    with pytest.raises(InputError, match="no label of the file is a perturbation"):
        found = ps.read_predictions(tmp_path / "x.h5ad")
        label_predicted_cells(found, store, tmp_path / "o", controls=controls, quiet=True)
    data = anndata.read_h5ad(source)[:, :5].copy()
    data.var_names = [f"Y{i}" for i in range(5)]
    data.write_h5ad(tmp_path / "y.h5ad")
    with pytest.raises(InputError, match="none of the 5 genes"):
        found = ps.read_predictions(tmp_path / "y.h5ad")
        label_predicted_cells(found, store, tmp_path / "o", controls=controls, quiet=True)
    data = anndata.read_h5ad(source)
    data = data[data.obs["perturbation"] != "non-targeting"].copy()
    data.write_h5ad(tmp_path / "n.h5ad")
    with pytest.raises(InputError, match="has no control cells for alpha"):
        found = ps.read_predictions(
            tmp_path / "n.h5ad", control="in_file", perturbation="perturbation"
        )
        label_predicted_cells(found, store, tmp_path / "o", controls=controls, quiet=True)
    assert baseline.path.exists()


def test_cells_per_another_total_are_refused(screen, baseline, tmp_path):
    """Where no sum of a cell shows it, the screen's controls do."""
    path = _cells(screen, tmp_path / "log.h5ad", held_out(baseline), log=True)
    data = anndata.read_h5ad(path)
    level = np.expm1(data.X) * np.random.default_rng(0).gamma(4, 0.1, data.shape)  # 0.4 of it
    other = tmp_path / "other.h5ad"
    anndata.AnnData(np.log1p(level).astype(np.float32), data.obs, data.var).write_h5ad(other)
    message = r"as log1p of counts per [345],\d00\. Write numpy.log1p.* declare scale='log1p_1e4'"
    with pytest.raises(InputError, match=message) as refused:
        plan_predicted_cells(ps.read_predictions(other), screen[0])
    factor = float(str(refused.value).split("numpy.expm1(X) / ")[1].split(")")[0])
    assert 0.3 < factor < 0.5  # the effects themselves move the mean
    *_, told = plan_predicted_cells(ps.read_predictions(other, scale="log1p_1e4"), screen[0])
    assert "times as high as in the control" in told
    mended = np.log1p(level / factor).astype(np.float32)  # as the message says
    anndata.AnnData(mended, data.obs, data.var).write_h5ad(other)
    *_, told = plan_predicted_cells(ps.read_predictions(other), screen[0])
    assert told == ""


def test_cells_below_zero_are_refused_or_clipped_on_request(screen, baseline, tmp_path):
    log = _cells(screen, tmp_path / "log.h5ad", held_out(baseline), log=True)
    data = anndata.read_h5ad(log)
    missed = np.where(data.X == 0, -0.01, data.X).astype(np.float32)
    below = tmp_path / "below.h5ad"
    anndata.AnnData(missed, data.obs, data.var).write_h5ad(below)
    for scale in (None, "log1p_1e4"):  # found in the sample, and by the pass over all values
        with pytest.raises(InputError, match=r"the value is -0\.00999(?s:.)*clip=True"):
            run(screen, baseline, predictions={"m": ps.read_predictions(below, scale=scale)})
    plain = run(screen, baseline, predictions={"m": log}).scores
    result = run(screen, baseline, predictions={"m": ps.read_predictions(below, clip=True)})
    for name in plain.columns.drop("params"):
        assert result.scores[name].equals(plain[name]), name
    assert '"clip": true' in result.scores.query("method == 'm'")["params"].iloc[0]
    assert "below zero" in result.coverage.query("name == 'm'")["note"].iloc[0]
    missed[0, 0] = -np.inf
    anndata.AnnData(missed, data.obs, data.var).write_h5ad(below)
    with pytest.raises(InputError, match="the value is -inf"):
        run(screen, baseline, predictions={"m": ps.read_predictions(below, clip=True)})
    written(tmp_path, pd.DataFrame(1.0, ["G0"], ["G1"]))
    with pytest.raises(ArgumentError, match="clip=True is for predicted cells"):
        ps.read_predictions(tmp_path / "p.parquet", clip=True)


def test_labels_and_probabilities_are_scored_as_they_are(screen, baseline, tmp_path):
    names = held_out(baseline)
    observed = baseline.labels.to_pandas(perturbation=names, columns=["label"])
    words = observed["label"].map({-1: "down", 0: "non-DE", 1: "up"})
    path = tmp_path / "l.parquet"
    table = observed.assign(label=words)[["perturbation", "gene", "label"]].astype(str)
    table.to_parquet(path)
    changed = observed["label"] != 0
    sure = pd.DataFrame({"perturbation": table["perturbation"], "gene": table["gene"]})
    sure["p_down"] = np.where(observed["label"] == -1, 0.8, 0.1)
    sure["p_up"] = np.where(observed["label"] == 1, 0.8, 0.1)
    sure["p_non_de"] = 1 - sure["p_down"] - sure["p_up"]
    sure.to_csv(tmp_path / "p.csv", index=False)
    result = run(screen, baseline, predictions={"words": path, "SUMMER": tmp_path / "p.csv"})
    for method in ("words", "SUMMER"):
        assert value(result, method, "accuracy", setting="full", task="within") == 1
        assert value(result, method, "auroc_de_per_gene", setting="full", task="within") == 1
    assert changed.any()
    assert not len(result.scores.query("method == 'words' and task == 'single'"))
    # half of them left out: as if it said that these do not change
    table[changed.to_numpy() & (np.arange(len(table)) % 2 == 0)].to_parquet(path)
    result = run(screen, baseline, predictions={"words": path})
    left = value(result, "words", "accuracy", setting="full", task="within")
    assert 1 - left == pytest.approx(
        (changed.to_numpy() & (np.arange(len(table)) % 2 == 1)).mean(), abs=1e-9
    )


def test_predictions_of_another_split_or_with_a_bad_name(screen, baseline, truth, tmp_path):
    path = written(tmp_path, truth)
    other = ps.read_predictions(path, split="holdout-seed7")
    result = run(screen, baseline, predictions={"other": other})
    assert "other" in " ".join(result.skipped["what"])
    assert "other" not in set(result.scores["method"])
    result = run(screen, baseline, predictions={"per split": {SPLIT: path}})
    assert value(result, "per split", "l2") == pytest.approx(0, abs=1e-4)
    with pytest.raises(ArgumentError, match="'mean' names two methods"):
        run(screen, baseline, predictions={"mean": path})
    with pytest.raises(ArgumentError, match="predictions= has a int"):
        run(screen, baseline, predictions={"three": 3})
    renamed = written(tmp_path, truth.rename(columns={"G7": "OLD7"}), "r.parquet")
    result = run(screen, baseline, predictions={"renamed": renamed}, aliases={"OLD7": "G7"})
    assert result.coverage.query("name == 'renamed'")["n_genes_predicted"].iloc[0] == 200
    long = "n" * 300
    result = run(screen, baseline, predictions={long: path, "../up/<b>": path})
    assert value(result, long, "l2") == value(result, "../up/<b>", "l2")
    write_report(result, screen[0])
    assert "../up/&lt;b&gt;" in result.report.read_text()
    with pytest.raises(ArgumentError, match="pass a dictionary: predictions="):
        run(screen, baseline, predictions=path)
    truth.rename(index=lambda n: f"x{n}").rename_axis("condition").to_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match="none of the 18 conditions"):
        run(screen, baseline, predictions={"bad": tmp_path / "b.csv"})


# --- models of users ------------------------------------------------------------------------------


class TwiceTheMean:
    """The least that a model needs: fit and predict."""

    def fit(self, profiles):
        perturbed = profiles.sel(perturbation=profiles["perturbation"] != "control")
        control = profiles.sel(perturbation="control")
        self.profile = control + 2 * (perturbed.mean("perturbation") - control)
        return self

    def predict(self, perturbations):
        rows = {name: self.profile.to_series() for name in perturbations}
        return pd.DataFrame(rows).T


class NotAModel:
    pass


def test_models_of_users_enter_with_the_same_splits(screen, baseline, truth):
    models = {
        "twice": TwiceTheMean(),
        "ridge": Ridge(alpha=10.0),
        "classifier": LogisticRegression(),
        "vote": ps.baselines.MajorityVote(ties="nonde_first"),
        "pairs": ps.baselines.LogisticPairs(np.empty((0, 0)), C=0.1, n_epochs=1),
        "decoder": ps.baselines.BilinearModel(dim=3, perturbations="zero"),
    }
    result = run(screen, baseline, models=models)
    train = list(baseline.splits[CONTEXT][SPLIT].train)
    names = held_out(baseline)
    profile = truth.loc["control"] + 2 * (truth.loc[train].mean() - truth.loc["control"])
    squares = (profile - truth.loc[names]) ** 2
    expected = np.sqrt(
        squares.where(~own_targets(names, list(truth.columns)), 0).sum(axis=1)
    ).mean()
    assert value(result, "twice", "l2") == pytest.approx(expected, rel=1e-4)
    for method in ("twice", "ridge", "decoder"):
        assert value(result, method, "l2") > 0
        assert value(result, method, "macro_f1", setting="full", task="within") > 0
    for method in ("classifier", "vote", "pairs"):
        assert value(result, method, "macro_f1", setting="full", task="within") > 0
    assert value(result, "vote", "accuracy", setting="full", task="within") == pytest.approx(
        value(result, "majority_vote", "accuracy", setting="full", task="within"), abs=0.02
    )
    with pytest.raises(ArgumentError, match="'x' is a NotAModel"):
        run(screen, baseline, models={"x": NotAModel()})
    with pytest.raises(ArgumentError, match="no installed package has an entry point 'x'"):
        run(screen, baseline, models=["x"])


def test_a_models_arrays_need_the_right_shape():
    class Wrong(TwiceTheMean):
        def predict(self, perturbations):
            return np.zeros((1, 2))

    (method,) = ps.baselines.own_methods({"w": Wrong()}).values()
    import xarray as xr

    profiles = xr.DataArray(
        np.ones((3, 4)),
        dims=("perturbation", "gene"),
        coords={"perturbation": ["control", "A", "B"], "gene": list("wxyz")},
    )
    with pytest.raises(InputError, match=r"returned shape \(1, 2\), needed is \(2, 4\)"):
        method.make(0).fit(profiles).predict(["A", "C"])


class Raises(TwiceTheMean):
    def fit(self, profiles):
        raise MemoryError("boom")


class Turned(TwiceTheMean):
    def predict(self, perturbations):
        found = super().predict(perturbations)
        import xarray as xr

        return xr.DataArray(
            found.to_numpy().T,
            dims=("gene", "perturbation"),
            coords={"gene": list(found.columns), "perturbation": list(found.index)},
        )


class Twice(TwiceTheMean):
    def predict(self, perturbations):
        found = super().predict(perturbations)
        return pd.concat([found, found])


class Infinite(TwiceTheMean):
    def predict(self, perturbations):
        return super().predict(perturbations).astype(float) + np.inf


def test_a_model_that_fails_does_not_stop_the_others(screen, baseline):
    models = {
        "raises": Raises(),
        "turned": Turned(),
        "twice_each": Twice(),
        "infinite": Infinite(),
        "plain": TwiceTheMean(),
    }
    result = run(screen, baseline, models=models)
    assert value(result, "turned", "l2") == value(result, "plain", "l2")
    reasons = " ".join(result.skipped["reason"])
    for told in (
        "Raises.fit raised MemoryError: boom",
        "returned a perturbation twice",
        "returned infinite values",
    ):
        assert told in reasons


def test_a_file_without_the_held_out_perturbations_has_no_score(screen, baseline, truth, tmp_path):
    train = list(baseline.splits[CONTEXT][SPLIT].train)
    path = written(tmp_path, truth.loc[train])
    result = run(screen, baseline, predictions={"late": path})
    assert "late" not in set(result.scores["method"])
    assert "none of the held-out perturbations" in " ".join(result.skipped["reason"])


def test_missing_perturbations_are_counted_and_rounding_is_no_direction(
    screen, baseline, truth, tmp_path
):
    names = held_out(baseline)
    how = {
        "some": ps.read_predictions(written(tmp_path, truth.loc[names[:2]], "s.parquet")),
        "control": ps.read_predictions(
            written(tmp_path, truth.loc[["control"] * len(names)].set_axis(names), "c.parquet")
        ),
    }
    result = run(screen, baseline, predictions=how)
    assert value(result, "some", "n_without_prediction") == len(names) - 2
    for metric in ("direction", "overlap_changed", "rank_cosine", "l2"):
        assert value(result, "control", metric) == pytest.approx(
            value(result, "no_change", metric), rel=1e-6
        )


def test_what_is_left_out_of_doubles_calls_as_no_change_does():
    """Interactions: NaN and the control's expression are the same."""
    import xarray as xr

    random = np.random.default_rng(0)
    doubles, genes = ["A+B", "C+D"], list("vwxyz")
    judged = pd.DataFrame(
        [(d, g) for d in doubles for g in genes], columns=["perturbation", "gene"]
    ).assign(control=1.0, additive=random.normal(1, 0.3, 10), interaction=[True, False] * 5)
    values = random.normal(1, 0.3, (2, 5)).astype(np.float32)
    gaps = np.where(np.abs(values - 1) > 0.2, np.nan, values)
    filled = np.where(np.isnan(gaps), 1.0, gaps)
    assert np.isnan(gaps).any()
    dims = ("model", "perturbation", "gene")
    coords = {"model": ["gaps", "filled"], "perturbation": doubles, "gene": genes}
    predictions = xr.DataArray(np.stack([gaps, filled]), dims=dims, coords=coords)
    found = dict(ps.evaluation.predicted_pairs(judged, predictions))
    pd.testing.assert_frame_equal(found["gaps"], found["filled"])


def test_entry_points_lead_to_models(monkeypatch):
    from pertscale.baselines import user_models

    class Found:
        names = frozenset({"mine"})

        def __getitem__(self, name):
            return self

        def load(self):
            return TwiceTheMean

    monkeypatch.setattr(user_models, "entry_points", lambda group: Found())
    (method,) = user_models.own_methods(["mine"]).values()
    assert method.make(0).fitted_params() == {"model": "TwiceTheMean"}


# --- the command ----------------------------------------------------------------------------------


def test_the_command_score(screen, baseline, truth, tmp_path):
    path = written(tmp_path, truth.loc[held_out(baseline)] - truth.loc["control"])
    how = ["--out", str(baseline.path), "--task", "single", "--scale", "delta", "--seed", "0"]
    how += ["--method", "mean", "--quiet"]
    found = CliRunner().invoke(main, ["score", screen[0].path, f"mine={path}", *how])
    assert found.exit_code == 0, found.output
    assert "mine" in found.output
    scored = ps.read_result(baseline.path)
    assert value(scored, "mine", "l2") == pytest.approx(0, abs=1e-4)
    assert scored.manifest["options"]["exclude_test_perturbations"] is True
    for wrong, message in (
        (["mine"], "is not NAME=FILE"),
        ([f"a={path}", f"a={path}"], "'a' is given twice"),
        ([f"mean={path}"], "'mean' names two methods"),
        (["a=nothing.parquet"], "there is no file"),
        ([f"a={path}", "--clip"], "--clip is for predicted cells"),
    ):
        found = CliRunner().invoke(main, ["score", screen[0].path, *wrong, *how])
        assert found.exit_code != 0
        assert message in found.output
