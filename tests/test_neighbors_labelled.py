"""Votes of the nearest training perturbations that have a label of the gene."""

import json

import numpy as np
import pytest

import pertscale as ps
from pertscale.baselines import WeightedKNN
from pertscale.baselines.neighbors_cv import WeightedKNNCV
from pertscale.conditions import targets
from pertscale.evaluation import confusion, scores_from_confusion
from pertscale.schema import Label
from tests.helpers import GOLDEN, real_data

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
