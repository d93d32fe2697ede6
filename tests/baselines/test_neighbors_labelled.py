"""Votes of the nearest training perturbations that have a label of the gene."""

import json
from dataclasses import replace

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from zarr.storage import MemoryStore

import pertscale as ps
from pertscale.baselines import WeightedKNN
from pertscale.baselines.classifiers.neighbors_cv import WeightedKNNCV
from pertscale.benchmark.forecast import plan
from pertscale.benchmark.forecast.timing import _Drawn
from pertscale.benchmark.forecast.units import ExpectedUnit
from pertscale.benchmark.units import class_scores
from pertscale.evaluation import confusion, scores_from_confusion
from pertscale.perturbation_names import targets
from pertscale.schema import Label
from tests.support.helpers import GOLDEN, real_data

UNTESTED = int(Label.UNTESTED)


@pytest.mark.parametrize(("neighbors", "expected"), [("nearest", -1), ("labelled", 1)])
def test_the_nearest_are_untested(neighbors, expected):
    """The golden case: the two nearest have no label of the gene."""
    X = np.arange(5.0)[:, None]
    y = np.array([[UNTESTED], [UNTESTED], [1], [-1], [-1]], np.int8)
    model = WeightedKNN(k=1, normalize=False, neighbors=neighbors).fit(X, y)
    assert model.predict([[0.1]]).item() == expected


def sparse(seed=0, share=0.2, n=60, genes=40):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    X[7] = X[3]  # at distance 0 of each other
    y = rng.choice([-1, 0, 0, 1], (n, genes)).astype(np.int8)
    y[rng.random(y.shape) > share] = UNTESTED
    return X, y


@pytest.mark.parametrize("weights", ["distance", "power", "uniform"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_each_gene_votes_as_if_only_its_labelled_perturbations_were_there(weights, metric):
    X, y = sparse()
    how = {"k": 3, "weights": weights, "metric": metric, "exponent": 2.5}
    queries = np.concatenate([X[:8], np.random.default_rng(1).normal(size=(9, 4))])
    found = WeightedKNN(**how, neighbors="labelled").fit(X, y).predict_both(queries)
    for gene in range(y.shape[1]):
        there = y[:, gene] != UNTESTED
        alone = WeightedKNN(**how).fit(X[there], y[there][:, [gene]]).predict_both(queries)
        np.testing.assert_array_equal(found[0][:, gene], alone[0][:, 0])
        np.testing.assert_allclose(found[1][:, gene], alone[1][:, 0], rtol=1e-6)


def test_where_all_pairs_are_tested_it_is_the_same():
    X, y = sparse(share=1)
    queries = np.random.default_rng(1).normal(size=(9, 4))
    both = [
        WeightedKNN(k=5, neighbors=how).fit(X, y).predict_both(queries)
        for how in ("nearest", "labelled")
    ]
    np.testing.assert_array_equal(both[0][0], both[1][0])
    np.testing.assert_array_equal(both[0][1], both[1][1])
    chosen = [WeightedKNNCV(neighbors=how).fit(X, y).cv_scores_ for how in ("nearest", "labelled")]
    assert chosen[0] == chosen[1]


def test_cross_validation_of_labelled_neighbours():
    X, y = sparse()
    model = WeightedKNNCV(grid=(1, 3, 10), neighbors="labelled").fit(X, y)
    assert model.model_.neighbors == "labelled"
    assert model.cv_scores_ != WeightedKNNCV(grid=(1, 3, 10)).fit(X, y).cv_scores_


@pytest.mark.once
@pytest.mark.needs("perturbqa")
@pytest.mark.parametrize(("k", "key"), [(1, "knn1"), (10, "knn10")])
def test_labelled_neighbours_on_perturbqa(k, key):
    golden = json.loads((GOLDEN / "trust" / "knn_untested.json").read_text())
    want = golden["share_of_pairs_that_fall_back_on_perturbqa"]["k562"][key]
    labels, split = ps.stats.read_perturbqa(real_data("perturbqa"), line="k562")
    file = real_data("gene_sets") / "enrichr.GO_Biological_Process_2021.gmt"
    embedding = ps.read_embedding(file).normalized()
    matrix = labels.matrix().compute()
    train, truth = (matrix.sel(perturbation=list(p)).values for p in (split.train, split.test))
    X, queries = (
        embedding.vectors(p, targets={n: targets(n) for n in p}) for p in (split.train, split.test)
    )
    known = np.isfinite(queries).all(axis=1)
    # of the nearest it has another majority to fall back on for a few of the genes
    for neighbors, reading, within in (
        ("nearest", "A", 2e-3),
        ("labelled", "B_nearest_labelled", 5e-4),
    ):
        found = WeightedKNN(k=k, neighbors=neighbors).fit(X, train).predict(queries[known])
        scores = scores_from_confusion(confusion(truth[known], found))
        assert scores["macro_f1"] == pytest.approx(want[reading]["f1"], abs=within), reading
        assert scores["balanced_accuracy"] == pytest.approx(want[reading]["bal"], abs=within), (
            reading
        )


@pytest.mark.once
@pytest.mark.needs("perturbqa")
@pytest.mark.parametrize("line", ["k562", "rpe1", "hepg2", "jurkat"])
def test_pairs_of_perturbqa_without_a_vote(line):
    golden = json.loads((GOLDEN / "trust" / "knn_untested.json").read_text())
    want = golden["share_of_pairs_that_fall_back_on_perturbqa"][line]
    labels, split = ps.stats.read_perturbqa(real_data("perturbqa"), line=line)
    file = real_data("gene_sets") / "enrichr.GO_Biological_Process_2021.gmt"
    embedding = ps.read_embedding(file)
    vectors = embedding.normalized().vectors(
        split.test, targets={n: targets(n) for n in split.test}
    )
    known = np.isfinite(vectors).all(axis=1)  # the golden shares are of those with a vector
    split = replace(split, test=tuple(np.array(split.test)[known]))
    with pytest.warns(ps.errors.PertscaleWarning, match="are in no part"):
        scores = ps.score_labels(labels, split, embedding=embedding, methods=["knn_1", "knn_10"])
    found = scores[scores["metric"] == "share_without_vote"].set_index("method")["value"]
    for method, key in (("knn_1", "knn1"), ("knn_10", "knn10")):
        share = want[key]["share_of_pairs_decided_by_majority_fallback"]
        # which of several at the same distance is near moves the share by up to 0.006
        assert found[method] == pytest.approx(share, abs=2e-3)


# --- pairs without a vote -------------------------------------------------------------------------


@pytest.mark.parametrize("neighbors", ["nearest", "labelled"])
def test_which_pairs_fall_back_to_the_majority(neighbors):
    X, y = sparse(share=0.1)
    y[:, :3] = UNTESTED  # genes that nobody has a label of
    queries = np.random.default_rng(1).normal(size=(9, 4))
    queries[4] = np.nan
    model = WeightedKNN(k=3, neighbors=neighbors, normalize=False).fit(X, y)
    labels, scores, fell_back = model.predict_with_fallback(queries)
    distance = np.linalg.norm(X[None] - queries[:, None], axis=2)
    near = np.argsort(distance, axis=1)[:, : 3 if neighbors == "nearest" else len(X)]
    want = (y[near] == UNTESTED).all(axis=1)
    want[4] = True
    np.testing.assert_array_equal(fell_back, want)
    assert 0 < want.mean() < 1
    majority = ps.baselines.MajorityVote().fit(X, y).predict(queries)
    np.testing.assert_array_equal(labels[want], majority[want])
    lazy = WeightedKNN(k=3, neighbors=neighbors, normalize=False).fit(
        X, da.from_array(y, chunks=(60, 7))
    )
    for mine, theirs in zip(
        lazy.predict_with_fallback(queries), (labels, scores, fell_back), strict=True
    ):
        np.testing.assert_array_equal(mine.compute(), theirs)


@pytest.mark.parametrize(
    ("missing", "falls"), [("majority", 1.0), ("nonde", 0.0), ("drop", 0.0), ("mean_vector", 0.0)]
)
def test_a_perturbation_without_a_vector_falls_back_where_the_majority_is_called(missing, falls):
    X, y = sparse(share=1)
    model = WeightedKNN(k=3, missing=missing).fit(X, y)
    _, _, fell_back = model.predict_with_fallback(np.full((1, 4), np.nan))
    assert fell_back.mean() == falls


def test_the_share_without_a_vote_is_of_the_tested_pairs():
    truth = np.array([[0, 1, UNTESTED], [0, 0, 0]], np.int8)
    fell_back = np.array([[True, False, True], [True, True, False]])
    row = class_scores.share_without_vote(truth, fell_back).iloc[0]
    assert (row["metric"], row["value"], row["n"]) == ("share_without_vote", 3 / 5, 5)
    row = class_scores.share_without_vote(truth, fell_back, np.array([[0, 0], [1, 2]])).iloc[0]
    assert (row["value"], row["n"]) == (2 / 3, 3)
    nothing = class_scores.share_without_vote(np.full((2, 3), UNTESTED), fell_back)
    assert np.isnan(nothing["value"][0])


@pytest.mark.once
@pytest.mark.usefixtures("without_report")
def test_the_benchmark_runs_them_on_curated_pairs_and_keeps_who_fell_back(example, tmp_path):
    methods = ["knn_1", "knn_1_labelled"]
    genes = list(example.screen.genes)
    vectors = np.random.default_rng(0).normal(size=(len(genes), 5))
    result = ps.run_benchmark(
        example.screen,
        out=tmp_path / "run",
        methods=methods,
        tasks=["within"],
        seed=0,
        embedding=ps.Embedding("drawn", genes, vectors, {}),
        quiet=True,
    )
    shares = result.overall.query("metric == 'share_without_vote' and task == 'within'")
    assert set(shares.loc[shares["method"] == "knn_1_labelled", "setting"]) == {"curated"}
    settings = {"full", "full_without_target", "confident", "curated"}
    assert set(shares.loc[shares["method"] == "knn_1", "setting"]) == settings
    told = result.skipped[result.skipped["what"] == "knn_1_labelled (full)"]
    assert len(told) == len(result.labels.contexts)
    assert "every tested perturbation has a label" in told["reason"].iloc[0]
    curated = shares[(shares["setting"] == "curated") & (shares["context"] == "alpha")]
    mean = curated.groupby("method")["value"].mean()
    assert mean["knn_1_labelled"] < mean["knn_1"]
    kept = result.predictions(
        context="alpha", labels="curated", split="holdout-seed0", method="knn_1"
    )
    assert kept["fell_back"].dtype == bool


def test_tables_without_gaps_do_not_need_them(tmp_path):
    random = np.random.default_rng(0)
    names = [f"g{i}" for i in range(12)]
    frame = pd.DataFrame(
        [(p, g, int(random.integers(-1, 2))) for p in names for g in names],
        columns=["pert", "gene", "label"],
    )
    embedding = ps.Embedding("drawn", names, random.normal(size=(12, 3)), {})
    split = ps.splits.holdout(names)
    for table, there in ((frame, False), (frame[random.random(144) < 0.5], True)):
        table.to_csv(tmp_path / "labels.csv", index=False)
        labels, _ = ps.stats.read_label_table(
            tmp_path / "labels.csv", context="K562", codes="pertscale"
        )
        scores = ps.score_labels(labels, split, embedding=embedding)
        assert ("knn_1_labelled" in set(scores["method"])) == there
        assert "share_without_vote" in set(scores["metric"])


def test_all_training_perturbations_as_neighbours_are_in_the_estimate_of_memory():
    size = {"n_perturbations": 5_000, "n_test": 2_000, "n_genes": 100, "done": False}
    of_k, of_all = (
        plan._unit_bytes(ExpectedUnit(method=name, **size))
        for name in ("knn_10", "knn_10_labelled")
    )
    assert of_all - of_k == 12 * 2_000 * 3_000


def test_settings_without_a_target_among_the_genes_are_scored_once(monkeypatch):
    drawn = _Drawn.of(24, 80, 5)
    calls = []
    for name in ("scored_both", "evaluate_per_gene", "evaluate_per_gene_both"):
        real = getattr(class_scores, name)
        monkeypatch.setattr(
            class_scores,
            name,
            lambda *a, _name=name, _real=real, **k: (calls.append(_name), _real(*a, **k))[1],
        )
    settings = ("full", "full_without_target")
    nobody = dict.fromkeys(drawn.matrix.perturbations, ("not_read_out",))
    unit = replace(drawn.class_unit("knn_1"), settings=settings, target_genes=nobody)
    store = MemoryStore()
    params = unit.predict(store).params
    scores = unit.score(store, params).table
    assert calls == ["scored_both", "evaluate_per_gene"]
    full, rest = (scores[scores["setting"] == s].drop(columns="setting") for s in settings)
    assert full.reset_index(drop=True).equals(rest.reset_index(drop=True))
    calls.clear()
    own = {name: (name,) for name in drawn.matrix.perturbations}
    replace(unit, target_genes=own).score(store, params)
    assert calls == ["scored_both", "evaluate_per_gene_both"]
