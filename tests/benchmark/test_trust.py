"""What a run says of its labels: confident pairs, strata, reproducibility; in scores and report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.benchmark.resampling.strata import quartiles
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, NotFoundError
from pertscale.evaluation import evaluate, own_targets, share_changed
from pertscale.evaluation.operating_point import labels_at_threshold, threshold_at_rate
from pertscale.report.trust import reproducibility_table, strata_tables
from pertscale.schema import REPRODUCIBILITY_COLUMNS, STRATA_COLUMNS, Label
from pertscale.stats.label_confidence import CONFIDENT
from tests.benchmark.test_replicates import drawn_screen

pytestmark = pytest.mark.usefixtures("without_report")
METHODS = ["majority_vote", "knn_1", "mean_perturbation"]
VECTORS = np.random.default_rng(0).normal(size=(21, 4))
QUICK = {
    "methods": METHODS,
    "embedding": Embedding("drawn", tuple(f"P{i}" for i in range(1, 22)), VECTORS),
    "test_fraction": 0.5,
    "tasks": ["within"],
    "quiet": True,
}
UNTESTED = np.int8(Label.UNTESTED)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """Perturbations of 9 cells have no halves; those of 40 cells have few confident pairs."""
    sizes = [800, *[9] * 3, *[40] * 9, *[300] * 9]
    return drawn_screen(tmp_path_factory.mktemp("screen"), sizes, effect=1.3)


@pytest.fixture(scope="module")
def finished(screen, without_report, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return ps.run_benchmark(screen, out=out, replicates=1, seed=[0, 1], **QUICK)


def scores_of(result, **where):
    rows = result.scores
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def confident_truth(result, screen, names):
    """Labels of perturbations, without targets and what is not confident."""
    matrix = ps.read_labels(result.path).matrix("s").sel(perturbation=names).compute()
    sure = ps.stats.confidence_matrix(result.path).sel(perturbation=names).values >= CONFIDENT
    target = own_targets(names, list(screen.genes), target_genes=screen.targets)
    return np.where(sure & ~target, matrix.values, UNTESTED)


@pytest.mark.parametrize("method", METHODS)
def test_confident_pairs_are_a_part_of_all(finished, screen, method):
    """Scored as they are called among all of them, at both points."""
    split = finished.splits["s"]["holdout-seed0"]
    names = list(split.held_out)
    kept = confident_truth(finished, screen, names)
    assert 0 < (kept != UNTESTED).sum() < 0.9 * kept.size
    made = finished.predictions(context="s", labels="full", split=split.name, method=method)
    made = made.sel(perturbation=names).compute()
    label, score = made["label"].values, made["score"].values
    wanted = evaluate(kept, label, perturbations=names, scores=score)
    matrix = ps.read_labels(finished.path).matrix("s").sel(perturbation=list(split.train))
    rate = share_changed(matrix.values)
    threshold = threshold_at_rate(*np.unique(score[..., 1], return_counts=True), rate)
    at_rate = evaluate(kept, labels_at_threshold(score, threshold), perturbations=names)
    keys = ["level", "group", "metric"]
    rows = scores_of(finished, setting="confident", method=method, split=split.name)
    for point, table in (("as_called", wanted), ("", wanted), ("at_training_rate", at_rate)):
        found = rows[rows["operating_point"] == point].set_index(keys)["value"]
        of_point = "as_called" if point == "at_training_rate" else point
        table = table[table["operating_point"] == of_point].set_index(keys)["value"]
        assert len(table)
        np.testing.assert_allclose(found[table.index], table, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_weighted_by_confidence(finished, method):
    """With weights in place of the filter: accuracy by hand, at the points that the run has."""
    split = finished.splits["s"]["holdout-seed0"]
    names = list(split.held_out)
    table = finished.weighted_scores(context="s", split=split.name)
    found = table[table["method"] == method].set_index(["operating_point", "group", "metric"])
    weights = ps.stats.confidence_matrix(finished.path).sel(perturbation=names).values
    truth = finished.labels.matrix("s").sel(perturbation=names).values
    made = finished.predictions(context="s", labels="full", split=split.name, method=method)
    right = made["label"].values == truth
    wanted = np.average(right, weights=np.nan_to_num(weights))
    assert found.loc[("as_called", "", "accuracy"), "value"] == pytest.approx(wanted)
    points = set(scores_of(finished, method=method)["operating_point"])
    assert set(found.index.get_level_values(0)) == points
    assert "replicate" not in set(table["method"])
    with pytest.raises(ArgumentError, match="weights='other' is not 'confidence'"):
        finished.weighted_scores(context="s", split=split.name, weights="other")
    with pytest.raises(NotFoundError, match="no classes of context 'x'"):
        finished.weighted_scores(context="x", split=split.name)


def test_it_has_intervals_and_a_ceiling(finished):
    rows = finished.estimates.query("setting == 'confident' and metric == 'auprc_de'")
    assert {*METHODS, "replicate"} <= set(rows["method"])
    known = rows.set_index("method").loc["majority_vote"]
    assert known["low"] < known["value"] < known["high"]
    one = scores_of(finished, setting="confident", metric="auprc_de", method="knn_1")
    assert np.isfinite(one[["low", "high", "se"]]).to_numpy().all()
    assert "confident" in set(finished.comparisons["setting"]) & set(
        finished.calibration["setting"]
    )
    n = scores_of(finished, metric="n_perturbations", method="knn_1", level="overall")
    n = n.set_index(["split", "setting"])["value"]
    assert (n[:, "confident"] <= n[:, "full"]).all()


def test_strata_add_up_to_the_whole(finished):
    """Every pair is in one quartile of cells and one of DE genes; scores are those of its pairs."""
    strata = finished.strata
    assert list(strata.columns) == [c.name for c in STRATA_COLUMNS]
    assert set(strata["stratum"]) == {"n_cells", "n_de"}
    keys = ["setting", "method"]
    whole = finished.overall.query("metric == 'accuracy' and operating_point == 'as_called'")
    whole = whole.groupby(keys)["n"].sum()
    mine = strata.query("metric == 'accuracy' and operating_point == 'as_called'")
    for _, rows in mine.groupby("stratum"):
        n = rows.groupby(keys)["n_pairs"].sum()
        pd.testing.assert_series_equal(n, whole[n.index], check_names=False)
        assert len(n) == len(whole)


def test_scores_of_a_stratum_by_hand(finished):
    table = finished.labels.perturbations.set_index("perturbation")
    held_out = {n for split in finished.splits["s"].values() for n in split.held_out}
    of_name = quartiles(table["n_cells"], sorted(held_out))
    rows = finished.strata.query(
        "setting == 'full' and method == 'knn_1' and stratum == 'n_cells' "
        "and metric == 'accuracy' and operating_point == 'as_called'"
    ).set_index("quartile")
    single = scores_of(
        finished,
        setting="full",
        method="knn_1",
        level="perturbation",
        metric="accuracy",
        operating_point="as_called",
    )
    for quartile, row in rows.iterrows():
        mine = single[single["group"].map(of_name) == quartile]
        hits = (mine["value"] * mine["n"]).groupby(mine["split"]).sum()
        wanted = (hits / mine.groupby("split")["n"].sum()).mean()
        assert row["value"] == pytest.approx(wanted)
        assert row["n_perturbations"] == mine["group"].nunique()
        sizes = table.loc[mine["group"], "n_cells"]
        assert (row["low"], row["high"]) == (sizes.min(), sizes.max())


def test_equal_sizes_are_in_one_quartile():
    sizes = {"A": 3, "B": 3, "C": 3}
    assert set(quartiles(sizes, list(sizes)).values()) == {1}
    assert quartiles({"A": 1, "B": 2, "C": 3, "D": 4}, list("ABCD")) == dict(
        zip("ABCD", (1, 2, 3, 4), strict=True)
    )


def test_reproducibility_tells_who_has_no_halves(finished):
    found = finished.reproducibility
    assert list(found.columns) == [c.name for c in REPRODUCIBILITY_COLUMNS]
    made = ps.stats.reproducibility(finished.path)
    pd.testing.assert_frame_equal(found, made, check_dtype=False)  # strings, as files have them
    assert set(found["n_without_halves"]) == {3}
    told = reproducibility_table(found)
    assert told.rows[0][:3] == ("s", "18", "3")
    assert len(told.columns) == len(told.rows[0]) == sum(n for _, n in told.groups)


def test_tables_of_the_report(finished):
    tables = strata_tables(finished.strata, task="within", context="s", setting="full")
    assert len(tables) == 2
    for table in tables:
        assert {row[0] for row in table.rows} == {*METHODS, "replicate"}
        assert all("(n " in head for head in table.columns[1:])
    assert strata_tables(finished.strata, task="within", context="s", setting="other") == ()


def test_without_replicates_no_pair_is_confident(screen, tmp_path):
    result = ps.run_benchmark(screen, out=tmp_path / "run", replicates=0, seed=0, **QUICK)
    assert "confident" not in set(result.scores["setting"])
    assert "confident" not in result.manifest["options"]["settings"]
    assert not len(result.reproducibility)
    assert reproducibility_table(result.reproducibility) is None
    assert len(result.strata)
    with pytest.raises(ArgumentError, match="'confident' is of a run with replicates"):
        ps.run_benchmark(screen, out=tmp_path / "no", replicates=0, settings=["confident"], **QUICK)


def test_confident_alone_and_without_sums(screen, finished, tmp_path):
    """Calls are those among all pairs, which are not scored then; without intervals no strata."""
    how = {"settings": ["confident"], "intervals": False, "replicates": 1, "seed": [0, 1]}
    result = ps.run_benchmark(screen, out=tmp_path / "run", **how, **QUICK)
    keys = ["method", "split", "operating_point", "level", "group", "metric"]
    assert set(result.scores["setting"]) == {"confident"}
    assert not len(result.strata)
    found = result.scores.set_index(keys)["value"]
    wanted = scores_of(finished, setting="confident").set_index(keys)["value"]
    pd.testing.assert_series_equal(found, wanted[found.index])


def test_too_few_cells_for_any_confident_pair(tmp_path):
    """The setting is skipped, with the reason; the others are scored."""
    screen = drawn_screen(tmp_path, [30, *[10] * 8], effect=1.0)
    options = QUICK | {"tasks": ["within"]}
    result = ps.run_benchmark(screen, out=tmp_path / "run", replicates=1, seed=0, **options)
    assert "confident" not in set(result.scores["setting"])
    if not result.manifest["without_changes"]:
        assert "confident" in set(result.skipped["what"])


def test_transferred_classes_have_them_too(tmp_path_factory):
    """Two contexts: on confident pairs of the one that is predicted, with strata of its own."""
    folder = tmp_path_factory.mktemp("two")
    ps.simulate_screen(
        folder / "s.h5ad",
        n_cells=6_000,
        n_genes=80,
        n_perturbations=16,
        contexts=("one", "two"),
        umi_per_cell=3_000,
        seed=3,
        quiet=True,
    )
    store = ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True)
    how = {"tasks": ["within", "transfer"], "methods": ["majority_vote", "all_non_de"]}
    result = ps.run_benchmark(
        store, out=folder / "run", seed=0, test_fraction=0.5, replicates=1, quiet=True, **how
    )
    rows = result.overall.query("setting == 'confident' and metric == 'accuracy'")
    n = rows.query("method == 'all_non_de'").groupby(["context", "task"])["n"].agg(["min", "max"])
    assert set(n.index.get_level_values("task")) == {"within", "transfer"}
    assert len(n) == 4 and (n["min"] > 0).all()
    within, transfer = (n.xs(task, level="task") for task in ("within", "transfer"))
    assert (within["max"] <= transfer["max"]).all()
    strata = result.strata[result.strata["task"] == "transfer"]
    assert set(strata["context"]) == set(result.labels.contexts)
    assert {"full", "full_overlap", "confident"} <= set(strata["setting"])
