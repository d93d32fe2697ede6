"""The real screens, from file to report, with no argument that can be inferred."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pertscale as ps
from pertscale.evaluation import at_operating_point
from tests.support.helpers import GOLDEN, real_data

pytestmark = pytest.mark.once

#: A method of each kind; one of the screens runs all that there are.
FEW = (
    *("majority_vote", "knn_10", "all_non_de", "random", "oracle"),
    *("no_change", "mean", "additive", "linear"),
)
#: Data set -> what is read, its genes' scale, and its contexts.
SCREENS = {
    "papalexi": ("papalexi/papalexi.h5ad", "counts", ("papalexi",)),
    "schraivogel": ("schraivogel/counts.csv.gz", "counts", ("counts",)),
    "norman_mcfaline": (
        "norman_mcfaline/devel.h5ad",
        "log1p_1e4",
        ("A172", "T98G", "U87MG", "k562"),
    ),
    "datlinger": ("datlinger", "counts", ("Jurkat cells",)),
}


@pytest.fixture(scope="module", params=list(SCREENS))
def finished(request, tmp_path_factory):
    """Name, screen and result of one data set."""
    file, scale, contexts = SCREENS[request.param]
    source = real_data(file)
    folder = tmp_path_factory.mktemp(request.param)
    screen = ps.open_screen(ps.io.ingest(source, folder / "screen.zarr", quiet=True))
    assert screen.scale == scale
    assert screen.contexts == contexts
    result = ps.run_benchmark(
        screen,
        tasks=["within", "single", "double", "interactions"],  # test_transfer.py has the other
        methods=None if request.param == "datlinger" else FEW,
        quiet=True,
        seed=0,
    )
    return request.param, screen, result


def test_every_pair_equals_scipys(finished):
    name, screen, result = finished
    matrix = np.asarray(screen.to_anndata().X.compute(), np.float64)
    keys = matrix
    if screen.scale == "counts":
        totals = matrix.sum(axis=1, keepdims=True)
        keys = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    worst = 0.0
    for context in screen.contexts:
        groups = screen.context_groups(context)
        control = keys[groups["start"].iloc[0] : groups["stop"].iloc[0]]
        for row in groups.iloc[1:].itertuples():
            cells = keys[row.start : row.stop]
            expected = stats.mannwhitneyu(cells, control, method="asymptotic", axis=0)
            p = np.nan_to_num(expected.pvalue, nan=1.0)
            frame = result.labels.to_pandas(context=context, perturbation=row.perturbation)
            np.testing.assert_array_equal(frame["u_statistic"], expected.statistic)
            found = frame["p_value"].to_numpy()
            large = p > 1e-300
            worst = max(worst, np.abs(found[large] / p[large] - 1).max())
            fdr = stats.false_discovery_control(p)
            value = (
                np.log1p(1e4 * keys[row.start : row.stop]) if screen.scale == "counts" else cells
            )
            base = np.log1p(1e4 * control) if screen.scale == "counts" else control
            sign = np.sign(value.mean(0) - base.mean(0))
            np.testing.assert_array_equal(frame["label"], np.where(fdr < 0.01, sign, 0))
    assert worst < 1e-12, name


def test_report_and_scores(finished):
    _, screen, result = finished
    assert result.report.stat().st_size > 10_000
    assert set(result.scores["context"]) == set(screen.contexts)
    assert set(result.scores["method"]) >= {"majority_vote", "all_non_de", "random", "oracle"}


def test_the_truth_scores_one_wherever_a_score_is_defined(finished):
    """Also where a class does not occur, or a perturbation changes nothing.

    As it calls: told to call the share of the training part, it has to err where that is another.
    """
    name, _, result = finished
    mine = result.scores.query("method == 'oracle' and task == 'within' and level != 'class'")
    points = mine["operating_point"].isin(["as_called", ""])
    metrics = ["accuracy", "balanced_accuracy", "macro_f1", "mcc", "auprc_de", "auprc_macro"]
    mine = mine[points & mine["metric"].isin(metrics)]
    np.testing.assert_allclose(mine["value"].dropna(), 1, rtol=1e-12)
    defined = mine[mine["level"] == "overall"].groupby("metric")["value"].count()
    assert set(defined.index) == set(metrics)
    assert defined.min() > 0, name


def test_kept_and_dropped_are_all_cells(finished):
    name, screen, result = finished
    dropped = result.drops.query("kind == 'cell'")
    assert screen.n_cells + len(dropped) == screen.info["n_input"]
    expected = {"papalexi": 4537, "schraivogel": 2879, "norman_mcfaline": 0, "datlinger": 0}
    assert len(dropped) == expected[name]
    assert set(dropped["reason"]) <= {"unassigned"}


def test_known_effects(finished):
    name, screen, result = finished
    table = result.labels.perturbations.set_index(["context", "perturbation"])
    n_de = table["n_up"] + table["n_down"]
    if name == "papalexi":
        for target, n in {"IFNGR2": 86, "IFNGR1": 85, "JAK2": 81, "STAT1": 80}.items():
            assert n_de["papalexi", target] == n
        assert result.labels.summary()["non_de_percent"].iloc[0] == pytest.approx(94.3, abs=0.05)
    if name == "schraivogel":
        own = result.labels.to_pandas(columns=["label", "is_target"]).query("is_target")
        assert len(own) == 10
        assert (own["label"] == -1).sum() == 9
    if name == "norman_mcfaline":
        (row,) = (r for r in result.manifest["genes_seen"] if r["context"] == "k562")
        (split,) = (s for s in result.splits["k562"].values() if s.name == row["split"])
        seen = {gene for n in split.train for gene in n.split("+")}
        assert row["n"] == len(split.test)
        assert row["n_seen"] == sum(bool(seen & set(n.split("+"))) for n in split.test) > 0
        line = f"k562: {row['n_seen']} of {row['n']} held-out perturbations ("
        assert any(text.startswith(line) for text in result.findings)
        assert all(n_de[context].sum() == 0 for context in ("A172", "T98G", "U87MG"))
        assert "KLF1+MAP2K6" in screen.perturbations
    if name == "datlinger":
        assert screen.targets["ZAP70_1"] == screen.targets["ZAP70_2"] == ("ZAP70",)
        (split,) = result.splits["Jurkat cells"].values()
        stems = [{p.rsplit("_", 1)[0] for p in part} for part in (split.train, split.test)]
        assert not stems[0] & stems[1]  # no target on both sides


def test_totals_from_a_column(tmp_path):
    source = real_data("datlinger")
    store = ps.io.ingest(source, tmp_path / "d.zarr", totals="ncounts", quiet=True)
    screen = ps.open_screen(store)
    meta = pd.read_csv(source / "seurat_metadata.csv", index_col=0)["ncounts"]
    np.testing.assert_array_equal(screen.totals, meta.loc[screen.obs.index].to_numpy())
    matrix = np.asarray(screen.to_anndata().X.compute(), float)
    groups = screen.groups.set_index("perturbation")
    cells, control = (
        (matrix / screen.totals[:, None])[groups.loc[p, "start"] : groups.loc[p, "stop"]]
        for p in ("ZAP70_2", "control")
    )
    frame = ps.stats.rank_sum(screen, quiet=True).to_pandas(perturbation="ZAP70_2")
    expected = stats.mannwhitneyu(cells, control, method="asymptotic", axis=0).pvalue
    np.testing.assert_allclose(frame["p_value"], np.nan_to_num(expected, nan=1.0), rtol=1e-12)


# --- PerturbQA ------------------------------------------------------------------------------


@pytest.mark.needs("perturbqa")
@pytest.mark.parametrize("line", ["k562", "rpe1", "hepg2", "jurkat"])
def test_majority_vote_on_perturbqa(line):
    """The first paper's within-line scores (method E1), to the digits of the golden file."""
    labels, split = ps.stats.read_perturbqa(real_data("perturbqa"), line=line)
    scores = ps.score_labels(labels, split, methods=["majority_vote"])
    scores = at_operating_point(scores)
    overall = scores.query("level == 'overall'").set_index("metric")["value"]
    golden = json.loads((GOLDEN / "perturbqa_majority_vote.json").read_text())
    want = golden["within"]["ties_up_down_nonde"][line]
    assert overall["accuracy"] == pytest.approx(want["acc"], abs=5e-5)
    assert overall["balanced_accuracy"] == pytest.approx(want["bacc"], abs=5e-5)
    assert overall["macro_f1"] == pytest.approx(want["mf1"], abs=5e-5)
    by_class = scores.query("level == 'class'").set_index(["metric", "group"])["value"]
    for metric, key in (("recall", "R"), ("precision", "P"), ("f1", "F")):
        found = [by_class[metric, c] for c in ("non_de", "up", "down")]
        assert found == pytest.approx(want[key], abs=5e-5)


@pytest.mark.needs("perturbqa", "genept")
@pytest.mark.parametrize(
    "file", ["gene_sets/enrichr.GO_Biological_Process_2021.gmt", "genept/GeneSummary.json"]
)
def test_neighbours_beat_the_vote_on_perturbqa(file):
    labels, split = ps.stats.read_perturbqa(real_data("perturbqa"), line="rpe1")
    embedding = ps.read_embedding(real_data(file))
    scores = ps.score_labels(
        labels, split, embedding=embedding, methods=["majority_vote", "knn_10"]
    )
    macro = at_operating_point(scores).query("metric == 'macro_f1' and level == 'overall'")
    row = macro.set_index("method")
    assert row.loc["knn_10", "value"] > row.loc["majority_vote", "value"]
    assert (row["low"] < row["value"]).all()
    assert (row["value"] < row["high"]).all()
    assert (row["high"] - row["low"] < 0.05).all()
    assert (row["n_clusters"] == len(split.held_out)).all()
