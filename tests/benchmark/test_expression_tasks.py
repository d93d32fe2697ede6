"""The second paper's tasks in run_benchmark: predictions, scores, interactions, figures."""

from __future__ import annotations

import json
import shutil

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.baselines.registry import CEILINGS, EXPRESSION_FLOORS, ON_HALVES
from pertscale.benchmark.units import expression_unit as expression_module
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.evaluation import compare_expression, no_effect, no_effect_elsewhere, own_targets
from pertscale.report.figures.expression_data import ComparedTask
from pertscale.schema import INTERACTION_COLUMNS
from pertscale.splits import Split
from pertscale.stats.interactions import find_interactions
from tests.support.helpers import real_data
from tests.support.screens import write_h5ad

#: What is scored on halves of the cells.
HALVED = {*CEILINGS, *(f"{name}{ON_HALVES}" for name in EXPRESSION_FLOORS)}

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubles")
    ps.simulate_screen(
        folder / "s.h5ad",
        n_cells=9000,
        n_genes=160,
        n_perturbations=14,
        n_doubles=24,
        umi_per_cell=4000,
        seed=3,
        quiet=True,
    )
    return ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True)


@pytest.fixture(scope="module")
def finished(screen, tmp_path_factory):
    out = tmp_path_factory.mktemp("expression") / "run"
    return ps.run_benchmark(
        screen, out=out, tasks=("single", "double", "interactions"), seed=(1, 2), quiet=True
    )


@pytest.fixture
def no_report(monkeypatch):
    """Leave out the report, where nothing is asserted of it."""
    monkeypatch.setattr("pertscale.report.write_report", lambda *_: None)


def overall(result, task, setting="top_expressed"):
    scores = result.scores
    mine = scores[(scores["task"] == task) & (scores["level"] == "overall")]
    mine = mine[mine["setting"] == setting]
    return mine.set_index(["split", "method", "metric"])["value"]


def test_every_task_is_scored(finished):
    scores = finished.scores
    assert set(scores["task"]) == {"single", "double", "interactions"}
    assert set(scores["setting"]) == {"top_expressed"}
    assert set(scores["metric"]) <= set(ps.evaluation.METRICS)
    assert set(scores.loc[scores["task"] == "double", "split"]) == {
        "doubles-seed1",
        "doubles-seed2",
    }
    assert set(scores.loc[scores["task"] == "single", "split"]) == {
        "holdout-seed1",
        "holdout-seed2",
    }
    assert set(finished.splits["sim"]) == set(scores["split"])
    skipped = finished.skipped.set_index("what")["reason"]
    assert "none of the held-out" in skipped["additive (single, holdout-seed1)"]
    assert finished.manifest["options"]["tasks"] == ["single", "double", "interactions"]
    assert finished.summary().empty
    assert set(finished.timings["stage"]) >= {"expression", "model", "interactions"}


@pytest.mark.parametrize("task", ["single", "double"])
def test_scores_are_those_of_the_kept_predictions(finished, task):
    for split in {u["split"] for u in finished.manifest["expression"] if u["task"] == task}:
        kept = finished.expression(context="sim", task=task, split=split)
        assert kept["prediction"].chunks is not None
        drawn = finished.splits["sim"][split]
        singles = [n for n in (*drawn.test, *drawn.val) if "+" not in n]
        doubles = [n for n in (*drawn.test, *drawn.val) if "+" in n]
        assert list(kept["perturbation"].values) == (singles if task == "single" else doubles)
        profiles = finished.pseudobulk["mean_log1p"]
        truth = profiles.sel(perturbation=list(kept["perturbation"].values)).values
        np.testing.assert_allclose(kept["truth"].values, truth, rtol=1e-6)
        own = own_targets(singles if task == "single" else doubles, list(kept["gene"].values))
        assert own.any()
        for method in kept["model"].values:
            predicted = kept["prediction"].sel(model=method).values
            l2 = np.linalg.norm(np.where(own, 0, predicted - truth), axis=1).mean()
            assert overall(finished, task)[split, method, "l2"] == pytest.approx(l2, rel=1e-5)


def test_additive_is_best_on_doubles_that_hardly_interact(finished):
    kept = finished.expression(context="sim", task="double", split="doubles-seed1")
    control = finished.pseudobulk["mean_log1p"].sel(perturbation="control").drop_vars("context")
    table = compare_expression(
        kept["truth"],
        {str(m): kept["prediction"].sel(model=m) for m in kept["model"].values},
        control=control,
        background=control,
        targets="include",
    )
    means = table[(table["level"] == "overall") & (table["metric"] == "l2")]
    assert means.set_index("method")["value"].idxmin() == "additive"
    # without the targets, which every model of doubles could know, little is left here
    ranks = overall(finished, "double").xs("rank_l1", level="metric").groupby("method").mean()
    assert ranks.drop(["additive", *HALVED]).max() == pytest.approx(0.5)
    assert ranks["additive"] > 0.6


@pytest.mark.usefixtures("no_report")
def test_targets_count_where_they_are_asked_for(screen, finished, tmp_path):
    """And nothing else changes: the predictions are the same."""
    tasks = ("single", "double", "interactions")
    with_targets = ps.run_benchmark(
        screen,
        out=tmp_path / "run",
        tasks=tasks,
        seed=1,
        methods=("mean", "no_change"),
        targets="include",
        quiet=True,
    )
    assert with_targets.manifest["options"]["targets"] == "include"
    assert finished.manifest["options"]["targets"] == "exclude"
    for task, split in (("single", "holdout-seed1"), ("double", "doubles-seed1")):
        mine, theirs = (overall(r, task).loc[split, "mean"] for r in (with_targets, finished))
        assert mine["l2"] > 1.2 * theirs["l2"]
        both = (
            r.expression(context="sim", task=task, split=split) for r in (with_targets, finished)
        )
        one, other = (kept["prediction"].sel(model="mean").values for kept in both)
        np.testing.assert_array_equal(one, other)
    n_doubles = len(finished.splits["sim"]["doubles-seed1"].held_out)
    pairs = [
        r.scores.query("task == 'interactions' and split == 'doubles-seed1' and method == 'mean'")[
            "n"
        ].iloc[0]
        for r in (with_targets, finished)
    ]
    assert pairs[0] - pairs[1] == 2 * n_doubles


def test_scores_stand_beside_those_of_a_screen_without_effect(screen, finished):
    groups = ps.open_screen(screen).context_groups("sim").set_index("perturbation")
    cells = groups["stop"] - groups["start"]
    for task, split in (("single", "holdout-seed1"), ("double", "doubles-seed1")):
        part = finished.splits["sim"][split]
        wanted = [n for n in part.held_out if ("+" in n) == (task == "double")]
        # singles are predicted from singles, doubles from all that is not held out
        train = [n for n in part.train if task == "double" or "+" not in n]
        want = no_effect(
            cells[wanted].to_numpy(),
            n_control=cells["control"],
            n_training=cells[train].to_numpy(),
        ) | no_effect_elsewhere(len(wanted))  # changes are from halves of the controls
        rows = finished.scores.query("task == @task and split == @split and method == 'mean'")
        for metric, values in want.items():
            mine = rows[rows["metric"] == metric].set_index("group")["no_effect"]
            np.testing.assert_allclose(mine[wanted], values)
            assert mine[""] == pytest.approx(values.mean())
        assert rows.loc[~rows["metric"].isin(want), "no_effect"].isna().all()


def test_interactions_are_those_of_the_profiles(finished):
    found = find_interactions(finished.pseudobulk["mean_log1p"])
    table = finished.interactions
    assert list(table.columns) == [c.name for c in INTERACTION_COLUMNS]
    pd.testing.assert_frame_equal(
        table.drop(columns="context"), found.table, check_dtype=False, check_exact=False
    )
    record = finished.manifest["interactions"]["sim"]
    assert record["null"]["sigma"] == found.fit.null.sigma
    scores = finished.scores[finished.scores["task"] == "interactions"]
    assert scores.loc[scores["method"] == "additive", "value"].isna().all()
    assert scores.loc[scores["method"] == "mean", "value"].notna().all()
    assert set(scores["metric"]) == {"auprc_interactions", "auroc_interactions"}


@pytest.mark.usefixtures("no_report")
def test_again_computes_nothing(screen, finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished.path, tmp_path / "run")
    monkeypatch.setattr(
        expression_module, "compare_expression", lambda *_, **__: pytest.fail("computed again")
    )
    again = ps.run_benchmark(
        screen, out=out, tasks=("single", "double", "interactions"), seed=(1, 2), quiet=True
    )
    pd.testing.assert_frame_equal(again.scores, finished.scores)
    assert again.timings.query("stage == 'expression'")["reused"].all()


def test_a_split_of_ones_own_holds_out_its_doubles(screen, tmp_path):
    names = [str(n) for n in ps.open_screen(screen).perturbations]
    doubles = [n for n in names if "+" in n][:5]
    split = Split("mine", tuple(n for n in names if n not in doubles), tuple(doubles))
    result = ps.run_benchmark(
        screen,
        out=tmp_path / "run",
        split=split,
        tasks=("single", "double"),
        methods=("additive", "mean"),
        quiet=True,
    )
    assert set(result.scores["task"]) == {"double"}
    assert set(result.scores["method"]) == {"additive", "mean", *HALVED}
    skipped = result.skipped.set_index("what")["reason"]
    assert "test perturbations" in skipped["single, mine"]
    assert len(result.interactions) == 0
    html = result.report.read_text()
    assert "held-out doubles" in html
    assert "genetic interactions" not in html
    with pytest.raises(NotFoundError, match="task 'single'"):
        result.expression(context="sim", task="single", split="mine")


def test_a_task_that_no_model_can_do(screen, tmp_path):
    result = ps.run_benchmark(
        screen, out=tmp_path / "run", tasks=("single",), methods=("additive",), quiet=True, seed=0
    )
    assert len(result.scores) == 0
    assert list(result.skipped["what"]) == ["additive (single, holdout-seed0)"]
    assert "held-out singles" not in result.report.read_text()
    assert result.expression_summary().empty


def test_unknown_tasks_are_refused(screen, tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'double'"):
        ps.run_benchmark(screen, out=tmp_path / "run", tasks=("doubles",), quiet=True)


def test_the_paper_s_ordering_on_norman(tmp_path):
    store = ps.io.ingest(real_data("norman_mcfaline/devel.h5ad"), tmp_path / "n.zarr", quiet=True)
    screen = ps.open_screen(store)
    names = set(screen.context_groups("k562")["perturbation"]) - {"control"}
    five = sorted(n for n in names if "+" in n and set(n.split("+")) <= names)
    split = Split("five", tuple(sorted(names - set(five))), tuple(five))
    result = ps.run_benchmark(
        screen, out=tmp_path / "run", split=split, tasks=("double",), replicates=0, quiet=True
    )
    l2 = overall(result, "double").xs("l2", level="metric").droplevel("split")
    assert l2.round(3).to_dict() == {
        "no_change": 1.374,
        "mean": 1.385,
        "mean_perturbation": 1.388,
        "additive": 0.446,
    }
    page = result.report.read_text()
    at = [
        page.index(f"<td>{m}</td>") for m in ("additive", "no_change", "mean", "mean_perturbation")
    ]
    assert at == sorted(at)


# --- figures --------------------------------------------------------------------------------------


def figures_of(result):
    report = ps.report
    where = {"context": "sim", "task": "double"}
    kept = result.expression(**where, split="doubles-seed1")
    gene = str(result.interactions["gene"].iloc[0])
    profiles = result.pseudobulk["mean_log1p"]
    return {
        "prediction_error": report.prediction_error(result, **where),
        "predicted_change": report.predicted_change(
            result, **where, split="doubles-seed1", perturbation=str(kept["perturbation"].values[0])
        ),
        "ratio_forest": report.ratio_forest(result, context="sim", task="single"),
        "error_against_genes": report.error_against_genes(result, **where, by="change"),
        "variation": report.variation(result, **where),
        "transfer_scatter": report.transfer_scatter(profiles, profiles, names=("a", "b$")),
        "screen_overview": report.screen_overview(result, context="sim"),
        "resources": report.resources(result),
        "call_curves": report.call_curves(result, context="sim"),
        "precision_recall_and_roc": report.precision_recall_and_roc(result, context="sim"),
        "class_shares": report.class_shares(result),
        "deviations": report.deviations(result, context="sim"),
        "null_of_deviations": report.null_of_deviations(result, context="sim"),
        "recurrence": report.recurrence(result, context="sim", of="perturbation"),
        "chosen_genes": report.chosen_genes(result, context="sim", genes=[gene]),
    }


@pytest.mark.parametrize("task", ["single", "double"])
def test_tables_and_figures_compare_the_same(finished, task):
    split = finished.perturbation_scores(task=task)["split"].iloc[0]
    where = {"context": "sim", "task": task, "split": split}
    found = finished.compared(**where)
    rows = finished.scores.query(f"task == '{task}' and split == '{split}'")
    compared = rows.query("setting == 'top_expressed' and level == 'overall' and metric == 'l2'")
    assert found.methods == tuple(compared["method"])
    assert set(compared["n"]) == {len(found.perturbations)}
    lacking = rows.query("metric == 'n_without_prediction'")
    apart = lacking.query("setting == 'top_expressed_partial'").set_index("method")
    assert found.apart == (apart["n"] - apart["value"]).astype(int).to_dict()
    assert not set(found.apart) & set(found.methods)
    assert found.n_held_out == finished.expression(**where).sizes["perturbation"]
    first = next(ComparedTask(finished, "sim", task).splits())
    assert {name for name, _ in first.by_method()} == set(found.methods) - set(HALVED)
    assert tuple(sorted(first.perturbations)) == tuple(sorted(found.perturbations))
    with pytest.raises(NotFoundError, match="no scores of expression"):
        finished.compared(**{**where, "split": "another"})


def test_all_figures_can_be_drawn(finished, tmp_path):
    figures = figures_of(finished)
    assert set(figures) <= set(ps.report.__all__)
    for name, figure in figures.items():
        assert isinstance(figure, matplotlib.figure.Figure), name
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        for axis in figure.axes:
            assert not axis.get_visible() or axis.lines or axis.patches or axis.collections, name


def test_figures_show_the_numbers(finished):
    figure = ps.report.prediction_error(finished, context="sim", task="double")
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    means = overall(finished, "double").xs("l2", level="metric").groupby("method").mean()
    means = means.drop([f"{name}{ON_HALVES}" for name in EXPRESSION_FLOORS])
    assert labels == list(means.sort_values().index)
    lines = [line.get_ydata()[0] for line in figure.axes[0].lines[: len(labels)]]
    np.testing.assert_allclose(lines, means.sort_values(), rtol=1e-9)
    shares = ps.report.class_shares(finished)
    widths = sum(patch.get_width() for patch in shares.axes[0].patches)
    assert widths == pytest.approx(100)


def test_figures_say_what_is_missing(finished):
    with pytest.raises(InputError, match="no scores of task 'double'"):
        ps.report.prediction_error(finished, context="elsewhere")
    with pytest.raises(InputError, match="not among those that were judged"):
        ps.report.chosen_genes(finished, context="sim", genes=["GENE9999"])
    profiles = finished.pseudobulk["mean_log1p"]
    with pytest.raises(InputError, match="share 0 genes"):
        renamed = profiles.assign_coords(gene=[f"x{i}" for i in range(profiles.sizes["gene"])])
        ps.report.transfer_scatter(profiles, renamed, names=("a", "b"))


def test_the_report_has_the_sections(finished):
    page = finished.report.read_text()
    for text in ("Expression", "held-out singles", "held-out doubles", "genetic interactions"):
        assert text in page
    assert page.count("<svg") > 15
    assert json.dumps(finished.manifest["interactions"])


def test_the_curve_of_errors_ends_at_the_score(finished):
    """Over all genes it is the L2 of the scores, which leave the own targets out."""
    figure = ps.report.error_against_genes(finished, context="sim", task="double")
    means = overall(finished, "double").xs("l2", level="metric").groupby("method").mean()
    curves = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert "own targets left out" in figure.axes[0].get_ylabel()
    for method, mean in means.drop(
        list(HALVED)
    ).items():  # it ends 9 genes before the last; targets add half
        assert curves[method][-1] == pytest.approx(mean, rel=0.1)


def test_without_any_effect_no_model_has_a_correlation(tmp_path):
    """Few controls, whose noise all changes would share: with halves of them nothing is gained."""
    store = tmp_path / "s.zarr"
    rng = np.random.default_rng(0)
    sizes = [100] + [60] * 40
    counts = rng.poisson(rng.gamma(1.0, 2.0, 300), (sum(sizes), 300))
    names = ["non-targeting", *(f"P{i}" for i in range(1, len(sizes)))]
    labels = {"perturbation": np.repeat(names, sizes)}
    ps.io.ingest(write_h5ad(tmp_path / "s.h5ad", counts, labels), store, quiet=True)
    models = ["no_change", "mean", "mean_perturbation"]
    how = {"tasks": ["single"], "methods": models, "seed": 0, "test_fraction": 0.5, "quiet": True}
    means = {}
    for controls in ("split", "shared"):
        result = ps.run_benchmark(store, out=tmp_path / "run", controls=controls, **how)
        table = result.averages[result.averages["metric"] == "pearson_delta"]
        means[controls] = table[table["level"] == "overall"].set_index("method")
    # beside the means all share the noise of the control that is in every true change: 20
    # perturbations are no 20 independent ones, and intervals over them can't see that
    for method in ("mean", "mean_perturbation"):
        assert means["shared"].loc[method, "value"] > 0.3
        assert abs(means["split"].loc[method, "value"]) < 0.1
    told = result.calibration.query("metric == 'pearson_delta' and level == 'overall'")
    assert (told["can_tell"] == "no").all()
    assert (told["negative_value"] >= 0).all()  # no floor is below guessing


def test_the_name_alone_scores_what_no_change_and_the_mean_score(tmp_path):
    """Where targets are left out; where they count it gains, in ranks the most."""
    ps.simulate_screen(
        tmp_path / "s.h5ad", n_cells=2_500, n_genes=120, n_perturbations=24, seed=3, quiet=True
    )
    store = ps.io.ingest(tmp_path / "s.h5ad", tmp_path / "s.zarr", quiet=True)
    pairs = {"label_only": "no_change", "label_only_mean": "mean_perturbation"}
    how = {"tasks": ["single"], "methods": [*pairs, *pairs.values()], "seed": 0, "quiet": True}
    ranks = {}
    for targets in ("exclude", "include"):
        result = ps.run_benchmark(store, out=tmp_path / "run", targets=targets, **how)
        scores = result.scores[result.scores["setting"] == "top_expressed"]
        by_method = scores.set_index(["level", "group", "metric"])[["method", "value"]]
        of = {name: rows["value"] for name, rows in by_method.groupby("method")}
        for one, other in pairs.items():
            if targets == "exclude":
                pd.testing.assert_series_equal(of[one], of[other])
        ranks[targets] = of["label_only"]["overall", "", "rank_cosine"]
    assert ranks["exclude"] == 0.5
    assert ranks["include"] > 0.7
    assert (
        "label_only"
        not in ps.run_benchmark(store, out=tmp_path / "all", tasks=["single"], seed=0, quiet=True)
        .scores["method"]
        .to_numpy()
    )
