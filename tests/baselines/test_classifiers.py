"""The classifiers of labels, against golden numbers, scikit-learn and plain loops."""

from __future__ import annotations

import json

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from pertscale.baselines import (
    METHODS,
    AllNonDE,
    ClassFrequencyRandom,
    CopiedLabels,
    LogisticPerGene,
    MajorityVote,
    Oracle,
    WeightedKNN,
    WeightedKNNCV,
)
from pertscale.baselines.classifiers._folds import folds
from pertscale.baselines.classifiers._kernels.shuffling import shuffle
from pertscale.baselines.classifiers._random import gene_streams
from pertscale.baselines.classifiers._search import nearest
from pertscale.embeddings import Embedding
from pertscale.errors import ArgumentError, InputError, NotFittedError
from pertscale.evaluation import evaluate
from pertscale.schema import CLASSES, Label
from tests.support.helpers import GOLDEN, real_data

UNTESTED = int(Label.UNTESTED)
#: Codes of the golden files (0 Non-DE, 1 Up, 2 Down) as labels.
FROM_GOLDEN = np.array([0, 1, -1], dtype=np.int8)


def screen(n=30, n_genes=40, d=5, untested=0.2, seed=0):
    """Return an embedding and labels in which near perturbations have similar labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    signal = X @ rng.standard_normal((d, n_genes)) + rng.standard_normal((n, n_genes))
    y = ((signal > 1.5).astype(np.int8) - (signal < -1.5).astype(np.int8)).astype(np.int8)
    y[rng.random(y.shape) < untested] = UNTESTED
    return X, y


def forbidden(*args, **kwargs):
    raise AssertionError("something was computed that should stay lazy")


def majority_of(labels):
    """Most frequent label of a vector; ties Up, Down, Non-DE; without labels Non-DE."""
    counts = {code: int((labels == code).sum()) for code in (1, -1, 0)}
    return max(counts, key=counts.get) if any(counts.values()) else 0


def knn_by_loops(X, y, queries, k, weights="distance", exponent=1.0):
    """The vote (method E2), one perturbation and gene at a time."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    out = np.empty((len(queries), y.shape[1]), dtype=np.int8)
    for row, query in enumerate(queries / np.linalg.norm(queries, axis=1, keepdims=True)):
        distance = np.sqrt(((unit - query) ** 2).sum(axis=1))
        near = np.argsort(distance, kind="stable")[:k]
        d = distance[near]
        if weights == "uniform":
            w = np.ones(len(d))
        elif (d == 0).any():
            w = (d == 0).astype(float)
        else:
            w = 1 / d ** (exponent if weights == "power" else 1)
        for gene in range(y.shape[1]):
            votes = [w[y[near, gene] == code].sum() for code in (0, 1, -1)]
            best = (0, 1, -1)[int(np.argmax(votes))]
            out[row, gene] = best if max(votes) > 0 else majority_of(y[:, gene])
    return out


# --- majority vote ------------------------------------------------------------------------------


@pytest.mark.needs("perturbqa")
@pytest.mark.parametrize("context", ["k562", "rpe1", "hepg2", "jurkat"])
@pytest.mark.parametrize(
    ("ties", "golden"),
    [("de_first", "ties_up_down_nonde"), ("nonde_first", "ties_nonde_first")],
)
def test_majority_vote_reproduces_the_published_numbers(context, ties, golden):
    folder = real_data("perturbqa")
    de = pd.read_csv(folder / f"{context}-de.csv")
    direction = pd.read_csv(folder / f"{context}-dir.csv")
    pairs = de.merge(direction[["pert", "gene", "label"]], on=["pert", "gene"], how="left")
    pairs["code"] = np.where(pairs["label_x"] == 0, 0, np.where(pairs["label_y"] == 1, 1, -1))
    genes = {gene: i for i, gene in enumerate(sorted(pairs["gene"].unique()))}

    def matrix(part):
        names = {name: i for i, name in enumerate(sorted(part["pert"].unique()))}
        y = np.full((len(names), len(genes)), UNTESTED, dtype=np.int8)
        y[part["pert"].map(names), part["gene"].map(genes)] = part["code"]
        return y, list(names)

    train, _ = matrix(pairs[pairs["split"] == "train"])
    test, names = matrix(pairs[pairs["split"] == "test"])
    method = MajorityVote(ties=ties).fit(np.empty((len(train), 0)), train)
    table = evaluate(test, method.predict(np.empty((len(test), 0))), perturbations=names)
    values = table[table["level"] != "perturbation"].set_index(["group", "metric"])["value"]
    want = json.loads((GOLDEN / "perturbqa_majority_vote.json").read_text())["within"][golden]
    got = {
        name: values["", metric]
        for name, metric in (
            ("acc", "accuracy"),
            ("bacc", "balanced_accuracy"),
            ("mf1", "macro_f1"),
        )
    }
    for letter, metric in (("R", "recall"), ("P", "precision"), ("F", "f1")):
        got[letter] = [values[group, metric] for group in ("non_de", "up", "down")]
    for name, value in got.items():
        np.testing.assert_allclose(value, want[context][name], atol=5.1e-5, err_msg=name)


def test_majority_counts_and_ties():
    golden = json.loads((GOLDEN / "categorical.json").read_text())
    y = FROM_GOLDEN[np.array(golden["labels"][: golden["n_train"]])]
    X = np.empty((len(y), 0))
    method = MajorityVote().fit(X, y)
    want = np.array([gene["counts"] for gene in golden["majority_counts"]])
    np.testing.assert_array_equal(method.counts_.T, want[:, [2, 0, 1]])
    assert method.predict(X)[0, 1] == Label.UP  # 6 Up and 6 Down
    np.testing.assert_allclose(method.predict_proba(X)[5], want[:, [2, 0, 1]] / 12, rtol=1e-6)


@pytest.mark.parametrize(
    ("ties", "want"), [("de_first", [1, 1, -1, 1, 0]), ("nonde_first", [0, 1, 0, 0, 0])]
)
def test_every_tie(ties, want):
    tied = [(-1, 0, 1), (-1, 1, UNTESTED), (-1, 0, UNTESTED), (0, 1, UNTESTED), (UNTESTED,) * 3]
    y = np.array(tied, dtype=np.int8).T
    X = np.empty((3, 0))
    labels, scores = MajorityVote(ties=ties).fit(X, y).predict_both(X[:1])
    assert labels[0].tolist() == want
    assert scores[0, 4].tolist() == [0, 1, 0]  # never seen


def test_random_ties_are_seeded_and_use_tied_classes_only():
    y = np.tile(np.array([[-1], [1]], dtype=np.int8), 600)
    X = np.empty((2, 0))
    first = MajorityVote(ties="random", seed=1).fit(X, y).predict(X)
    again = MajorityVote(ties="random", seed=1).fit(X, da.from_array(y, chunks=(1, 77))).predict(X)
    other = MajorityVote(ties="random", seed=2).fit(X, y).predict(X)
    np.testing.assert_array_equal(first, again.compute())
    assert (first != other).any()
    assert set(np.unique(first)) == {-1, 1}
    assert 200 < (first[0] == 1).sum() < 400


def test_partial_fit_is_fit_on_everything():
    X, y = screen()
    whole = MajorityVote().fit(X, y)
    parts = MajorityVote().partial_fit(X[20:], y[20:]).partial_fit(X[:20], y[:20])
    np.testing.assert_array_equal(whole.counts_, parts.counts_)
    np.testing.assert_array_equal(whole.predict(X), parts.predict(X))
    with pytest.raises(InputError, match="earlier labels had 40"):
        parts.partial_fit(X, y[:, :7])


# --- nearest neighbours -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5, 12])
def test_golden_neighbors(k):
    golden = json.loads((GOLDEN / "categorical.json").read_text())
    n, X = golden["n_train"], np.array(golden["embedding"])
    y = FROM_GOLDEN[np.array(golden["labels"])]
    method = WeightedKNN(k=k, normalize=False).fit(X[:n], y[:n])
    want = FROM_GOLDEN[np.array(golden["knn_distance_weighted"][str(k)])]
    np.testing.assert_array_equal(method.predict(X[n:]), want)


def test_golden_distances_keep_the_exact_zero():
    golden = json.loads((GOLDEN / "categorical.json").read_text())
    n, X = golden["n_train"], np.array(golden["embedding"])
    index, distance = nearest(X[n:], X[:n], k=n)
    np.testing.assert_allclose(
        np.take_along_axis(np.array(golden["distances"]), index, axis=1), distance, atol=1e-11
    )
    assert distance[0, 0] == 0


@pytest.mark.parametrize("weights", ["distance", "uniform"])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_neighbors_equal_scikit_learn(weights, k):
    X, y = screen(n_genes=12, untested=0)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    labels, scores = WeightedKNN(k=k, weights=weights).fit(X[:22], y[:22]).predict_both(X[22:])
    for gene in range(y.shape[1]):
        oracle = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(
            unit[:22], y[:22, gene]
        )
        proba = np.zeros((8, 3))
        proba[:, np.searchsorted(CLASSES, oracle.classes_)] = oracle.predict_proba(unit[22:])
        np.testing.assert_allclose(scores[:, gene], proba, atol=1e-6)
        clear = np.sort(proba, axis=1)[:, -1] - np.sort(proba, axis=1)[:, -2] > 1e-9
        np.testing.assert_array_equal(
            labels[clear, gene], oracle.predict(unit[22:])[clear].astype(np.int8)
        )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 12),
    weights=st.sampled_from(["distance", "uniform", "power"]),
    untested=st.sampled_from([0.0, 0.5, 0.95]),
)
def test_neighbors_equal_the_definition(seed, k, weights, untested):
    X, y = screen(n=16, n_genes=9, d=3, untested=untested, seed=seed)
    X[3] = X[7]  # equally distant neighbours, and below a query that coincides with both
    queries = np.concatenate([X[12:], X[7:8]])
    method = WeightedKNN(k=k, weights=weights, exponent=3.0).fit(X[:12], y[:12])
    want = knn_by_loops(X[:12], y[:12], queries, k, weights, 3.0)
    np.testing.assert_array_equal(method.predict(queries), want)


def test_neighbors_tied_at_rank_k_the_lower_row_wins():
    X = np.array([[1.0, 0], [0, 1], [0, -1], [0, 1]])
    y = np.array([[0], [1], [-1], [0]], dtype=np.int8)
    # from (1, 0): row 0 at distance 0, rows 1, 2 and 3 equally far
    labels = WeightedKNN(k=2, weights="uniform").fit(X[1:], y[1:]).predict([[1.0, 0]])
    assert labels.tolist() == [[1]]  # rows 1 and 2 vote, a tie of Up and Down goes to Up
    index, _ = nearest(X[:1], X, k=3)
    assert index.tolist() == [[0, 1, 2]]


def test_tied_votes_go_to_non_de_then_up():
    X = np.array([[0.0, 1], [0, -1]])
    y = np.array([[0, 0, 1], [1, -1, -1]], dtype=np.int8)
    labels, scores = WeightedKNN(k=2).fit(X, y).predict_both([[1.0, 0]])
    assert labels.tolist() == [[0, 0, 1]]
    assert scores[0, 2].tolist() == [0.5, 0, 0.5]


def test_untested_labels_have_no_vote_and_genes_fall_back_to_their_majority():
    X = np.array([[1.0, 0], [0.9, 0.1], [-1, 0], [-1, 0.1], [-1, 0.2]])
    y = np.array(
        [[UNTESTED, UNTESTED], [UNTESTED, UNTESTED], [1, UNTESTED], [1, UNTESTED], [0, UNTESTED]],
        dtype=np.int8,
    )
    labels, scores = WeightedKNN(k=2).fit(X, y).predict_both([[1.0, 0.05]])
    assert labels.tolist() == [[1, 0]]
    np.testing.assert_allclose(scores[0], [[0, 1 / 3, 2 / 3], [0, 1, 0]], rtol=1e-6)


def test_cosine_weights_are_squared_euclidean_ones():
    X, y = screen()
    cosine = WeightedKNN(k=7, metric="cosine", normalize=False).fit(X[:22], y[:22])
    squared = WeightedKNN(k=7, weights="power", exponent=2.0).fit(X[:22], y[:22])
    euclidean = WeightedKNN(k=7).fit(X[:22], y[:22])
    np.testing.assert_allclose(
        cosine.predict_proba(X[22:]), squared.predict_proba(X[22:]), rtol=1e-5
    )
    assert np.abs(cosine.predict_proba(X[22:]) - euclidean.predict_proba(X[22:])).max() > 0.01


def test_all_neighbors_with_a_sharp_power_is_the_nearest_one():
    X, y = screen(untested=0)
    sharp = WeightedKNN(k="all", weights="power", exponent=400.0).fit(X[:22], y[:22])
    nearest_one = WeightedKNN(k=1).fit(X[:22], y[:22])
    scores = sharp.predict_proba(X[22:])
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(sharp.predict(X[22:]), nearest_one.predict(X[22:]))
    many = WeightedKNN(k=10**6).fit(X[:22], y[:22]).predict_proba(X[22:])
    every = WeightedKNN(k="all").fit(X[:22], y[:22]).predict_proba(X[22:])
    np.testing.assert_array_equal(many, every)


def test_perturbations_without_embedding():
    X, y = screen(untested=0)
    X[[2, 5]] = np.nan  # of the training part: no neighbours, but part of the majority
    X[[25, 28]] = np.nan
    train, test, lost = (X[:22], y[:22]), X[22:], np.array([3, 6])
    results = {
        policy: WeightedKNN(k=3, missing=policy).fit(*train).predict_both(test)
        for policy in ("majority", "nonde", "mean_vector", "drop")
    }
    rows, kept = np.delete(np.arange(22), [2, 5]), np.delete(np.arange(8), lost)
    want = WeightedKNN(k=3).fit(X[rows], y[rows]).predict_both(test[kept])
    for labels, scores in results.values():
        np.testing.assert_array_equal(labels[kept], want[0])
        np.testing.assert_array_equal(scores[kept], want[1])
    majority = MajorityVote().fit(*train).predict_both(test)
    np.testing.assert_array_equal(results["majority"][0][lost], majority[0][lost])
    np.testing.assert_allclose(results["majority"][1][lost], majority[1][lost])
    assert (results["nonde"][0][lost] == 0).all()
    assert (results["drop"][0][lost] == UNTESTED).all()
    assert np.isnan(results["drop"][1][lost]).all()
    unit = X[rows] / np.linalg.norm(X[rows], axis=1, keepdims=True)
    mean = np.repeat(unit.mean(axis=0)[None], 2, axis=0)
    at_mean = WeightedKNN(k=3).fit(*train).predict_both(mean)
    np.testing.assert_array_equal(results["mean_vector"][0][lost], at_mean[0])


# --- choice of k --------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbors", ["nearest", "labelled"])
@pytest.mark.parametrize("weights", ["distance", "uniform", "power"])
@pytest.mark.parametrize("untested", [0.1, 0.7])
def test_cross_validation_equals_separate_fits(neighbors, weights, untested):
    X, y = screen(n=41, n_genes=30, untested=untested)
    X[4] = np.nan
    X[[20, 30]] = X[9]
    grid, how = (1, 2, 5, 9), {"neighbors": neighbors, "weights": weights, "exponent": 2.5}
    method = WeightedKNNCV(grid=grid, n_folds=4, seed=3, **how).fit(X, y)
    order = np.random.RandomState(3).permutation(41)
    want = {}
    for k in grid:
        truth, predicted = [], []
        for part in np.array_split(order, 4):
            train = np.setdiff1d(np.arange(41), part)
            part = part[part != 4]
            truth.append(y[part])
            predicted.append(WeightedKNN(k=k, **how).fit(X[train], y[train]).predict(X[part]))
        truth, predicted = np.concatenate(truth), np.concatenate(predicted)
        tested = truth != UNTESTED
        want[k] = f1_score(truth[tested], predicted[tested], labels=CLASSES, average="macro")
    assert method.cv_scores_ == pytest.approx(want, rel=1e-12)
    assert method.k_ == max(grid, key=want.get)
    assert method.fitted_params()["k"] == method.k_
    alone = WeightedKNN(k=method.k_, **how).fit(X, y)
    np.testing.assert_array_equal(method.predict_proba(X), alone.predict_proba(X))


def test_equal_scores_choose_the_smallest_k():
    X, y = screen(untested=0)
    method = WeightedKNNCV(grid=(9, 3, 5)).fit(X, np.zeros_like(y))
    assert method.k_ == 3
    assert list(method.cv_scores_) == [3, 5, 9]


def test_the_grid_is_cut_at_what_the_folds_leave():
    X, y = screen(n=20)
    method = WeightedKNNCV(n_folds=5).fit(X, y)
    assert list(method.cv_scores_) == [1, 3, 5, 10]
    with pytest.raises(ArgumentError, match="no k from 1 to 16"):
        WeightedKNNCV(grid=(17, 50)).fit(X, y)


def test_groups_never_straddle_folds():
    groups = np.array(["KRAS", "TP53", "KRAS", "MYC", "MYC", "KRAS", "GATA1", "SPI1"])
    part = folds(groups, n_folds=3, seed=0)
    for name in np.unique(groups):
        assert len(np.unique(part[groups == name])) == 1
    assert sorted(np.unique(part)) == [0, 1, 2]
    # guides of a target are copies: with groups, a copy can't be its own neighbour
    X, y = screen(n=15, untested=0, seed=5)
    twins = np.repeat(np.arange(15), 2)
    leaking = WeightedKNNCV(grid=(1,), criterion="accuracy").fit(X[twins], y[twins])
    fair = WeightedKNNCV(grid=(1,), criterion="accuracy").fit(X[twins], y[twins], groups=twins)
    assert leaking.cv_scores_[1] > fair.cv_scores_[1]
    four = groups[[0, 0, 1, 1, 3, 3, 6, 6]]
    with pytest.raises(InputError, match="n_folds=5 with 4"):
        folds(four, n_folds=5, seed=0)
    method = WeightedKNNCV().fit(X[:8], y[:8], groups=four)
    assert max(method.cv_scores_) == 5  # of the 6 rows that the largest fold leaves
    assert method.fitted_params()["note"] == "4 folds, not 5: there are no more groups"


@pytest.mark.parametrize("known", [[3], []])
def test_without_neighbours_to_choose_by_the_smallest_k_is_taken(known):
    X, y = screen(n=20, untested=0)
    X[[i for i in range(20) if i not in known]] = np.nan
    if not known:
        with pytest.raises(InputError, match="none of the 20 training perturbations"):
            WeightedKNNCV().fit(X, y)
        return
    method = WeightedKNNCV().fit(X, y)
    assert (method.k_, method.cv_scores_) == (1, {})
    note = "k was not chosen: 1 training perturbations have an embedding"
    assert method.fitted_params()["note"] == note
    alone = WeightedKNN(k=1).fit(X, y)
    np.testing.assert_array_equal(method.predict_proba(X), alone.predict_proba(X))


# --- reference methods --------------------------------------------------------------------------


def test_all_non_de():
    X, y = screen()
    labels, scores = AllNonDE().fit(X, y).predict_both(X[:4])
    assert labels.shape == (4, 40)
    assert not labels.any()
    assert (scores == [0, 1, 0]).all()


def test_streams_of_genes_are_those_of_generators_of_their_own():
    genes = [0, 7, 3]
    for draw in (lambda g: g.random(9), lambda g: g.integers(3), lambda g: g.random(4)):
        for gene, stream in zip(genes, gene_streams(5, genes), strict=True):
            key = np.array([5, gene], np.uint64)
            own = np.random.Generator(np.random.Philox(key=key))
            np.testing.assert_array_equal(draw(stream), draw(own))


def test_shuffling_gives_all_orders_alike():
    random = np.random.default_rng(0)
    found = np.tile(np.arange(4), (24_000, 1))
    for row in found:
        shuffle(row, random.random(4))
    orders, counts = np.unique(found, axis=0, return_counts=True)
    assert len(orders) == 24
    assert np.abs(counts - 1000).max() < 150  # five standard deviations


def test_random_draws_follow_the_frequencies_whatever_the_chunks():
    X, y = screen(n=100, n_genes=300)
    method = ClassFrequencyRandom(seed=4).fit(X, y)
    tested = y[y != UNTESTED]
    want = [np.mean(tested == code) for code in CLASSES]
    np.testing.assert_allclose(method.frequencies_, want)
    labels, scores = method.predict_both(X)
    np.testing.assert_allclose([np.mean(labels == code) for code in CLASSES], want, atol=0.01)
    np.testing.assert_allclose(scores[7, 9], want, rtol=1e-6)
    lazy = ClassFrequencyRandom(seed=4).fit(X, da.from_array(y, chunks=(30, 41)))
    np.testing.assert_array_equal(lazy.predict(X).compute(), labels)
    np.testing.assert_array_equal(method.predict(X[:10]), labels[:10])
    assert (ClassFrequencyRandom(seed=5).fit(X, y).predict(X) != labels).any()


def test_the_oracle_says_what_it_is_told_and_nothing_else():
    X, y = screen()
    method = Oracle().fit(X[:20], y[:20])
    labels, scores = method.predict_both(X[20:], truth=y[20:])
    np.testing.assert_array_equal(labels, y[20:])
    assert np.isnan(scores[labels == UNTESTED]).all()
    tested = labels != UNTESTED
    np.testing.assert_array_equal(np.array(CLASSES)[scores[tested].argmax(-1)], labels[tested])
    with pytest.raises(ArgumentError, match="truth="):
        method.predict(X[20:])
    with pytest.raises(InputError, match=r"\(10, 40\)"):
        method.predict(X[20:], truth=y)


def test_copied_labels_go_by_the_targets_of_perturbations():
    y = np.array([[1, 0, UNTESTED], [-1, 0, 0], [-1, UNTESTED, 1]], np.int8)
    method = CopiedLabels().fit(np.empty((3, 0)), y, groups=["A", "B+C", "A"])
    labels, scores = method.predict_both(["A", "B+C", "D"])
    # two contexts that disagree are a tie, which goes to Up; D gets the genes' majority labels
    assert labels.tolist() == [[1, 0, 1], [-1, 0, 0], [-1, 0, 1]]
    np.testing.assert_allclose(scores[0, 0], [0.5, 0, 0.5])
    lazy = CopiedLabels().fit(np.empty((3, 0)), da.from_array(y, chunks=(2, 2)), ["A", "B+C", "A"])
    np.testing.assert_array_equal(lazy.predict(["A", "B+C", "D"]).compute(), labels)


def test_copied_labels_need_targets():
    X, y = screen()
    with pytest.raises(ArgumentError, match="groups="):
        CopiedLabels().fit(X, y)
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        CopiedLabels().fit(X, y, groups=["A", "B", "C"])
    with pytest.raises(InputError, match="targets of perturbations"):
        CopiedLabels().fit(X, y, groups=["A"] * len(y)).predict(X)


# --- all methods --------------------------------------------------------------------------------


def made(name, n_genes):
    method = METHODS[name].make(1)
    if METHODS[name].needs_gene_vectors:
        method.set_params(gene_vectors=np.random.default_rng(3).normal(size=(n_genes, 4)))
    return method


def predict(name, X, y, test, truth):
    method = made(name, y.shape[1]).fit(X, y)
    return (
        method.predict_both(test, truth=truth)
        if METHODS[name].needs_truth
        else (method.predict_both(test))
    )


@pytest.mark.parametrize("name", METHODS)
def test_methods_follow_the_contract(name):
    X, y = screen(n=60)
    labels, scores = predict(name, X[:45], y[:45], X[45:], y[45:])
    assert (labels.shape, labels.dtype) == ((15, 40), np.int8)
    assert (scores.shape, scores.dtype) == ((15, 40, 3), np.float32)
    assert set(np.unique(labels)) <= {*CLASSES, UNTESTED}
    defined = labels != UNTESTED
    np.testing.assert_allclose(scores[defined].sum(-1), 1, rtol=1e-6)
    method = made(name, 40)
    assert type(method).__name__ in repr(method)
    json.dumps({**method.get_params(), "gene_vectors": None})
    assert {**clone(method).get_params(), "gene_vectors": None} == {
        **method.get_params(),
        "gene_vectors": None,
    }
    with pytest.raises(NotFittedError, match="not fitted"):
        method.predict(X)
    fitted = method.fit(X[:45], y[:45])
    assert fitted.classes_.tolist() == list(CLASSES)
    assert fitted.n_genes_ == 40
    if not METHODS[name].needs_embedding:
        nothing = np.empty((60, 0))
        again, _ = predict(name, nothing[:45], y[:45], nothing[45:], y[45:])
        np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("chunks", [(45, 600), (7, 100), (45, 1)])
def test_lazy_labels_give_the_same_predictions(name, chunks):
    X, y = screen(n=60, n_genes=600 if chunks[1] > 1 else 12)
    want = predict(name, X[:45], y[:45], X[45:], y[45:])
    lazy = [da.from_array(part, chunks=chunks) for part in (y[:45], y[45:])]
    labels, scores = predict(name, X[:45], lazy[0], X[45:], lazy[1])
    assert labels.chunks[1] == scores.chunks[1] == lazy[0].chunks[1]
    np.testing.assert_array_equal(labels.compute(), want[0])
    np.testing.assert_array_equal(scores.compute(), want[1])


@pytest.mark.parametrize("name", ["knn_1", "knn_10", "all_non_de", "oracle"])
def test_nothing_is_computed_before_it_is_asked_for(name):
    X, y = screen(n=60)
    with dask.config.set(scheduler=forbidden):
        lazy = da.from_array(y, chunks=(20, 10))
        predict(name, X[:45], lazy[:45], X[45:], lazy[45:])


def test_labels_and_scores_share_one_pass():
    X, y = screen()
    reads = []

    def read(block_info=None):
        location = block_info[None]["array-location"]
        reads.append(tuple(location[1]))
        return y[tuple(slice(*edges) for edges in location)]

    lazy = da.map_blocks(read, chunks=((30,), (10,) * 4), dtype=np.int8, meta=y[:0, :0])
    both = WeightedKNN(k=3).fit(X, lazy).predict_both(X)
    labels, scores = dask.compute(*both, scheduler="sync")
    assert sorted(reads) == [(0, 10), (10, 20), (20, 30), (30, 40)]
    want = WeightedKNN(k=3).fit(X, y).predict_both(X)
    np.testing.assert_array_equal(labels, want[0])
    np.testing.assert_array_equal(scores, want[1])


def damaged(X, y, what):
    """Return arguments of fit with one fault."""
    X, y = X.copy(), y.copy()
    if what == "code":
        y[3, 7] = 2
    elif what == "floats":
        y = y.astype(float)
    elif what == "rows":
        X = X[:-1]
    elif what == "partly nan":
        X[4, 1] = np.nan
    elif what == "infinite":
        X[4] = np.inf
    elif what == "zero":
        X[6] = 0
    elif what == "no embedding":
        X[:] = np.nan
    return X, y


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("code", "code 2 at row 3, gene 7"),
        ("floats", "dtype float64"),
        ("rows", "X has 29 rows and y 30"),
        ("partly nan", "row 4 of X"),
        ("infinite", "row 4 of X"),
        ("zero", "row 6 of X is zero"),
        ("no embedding", "none of the 30"),
    ],
)
@pytest.mark.parametrize("name", ["knn_1", "knn_cv"])
def test_damaged_input_is_refused(name, what, message):
    with pytest.raises(InputError, match=message):
        METHODS[name].make(0).fit(*damaged(*screen(), what))


def test_unknown_codes_in_lazy_labels_are_refused_when_computed():
    X, y = damaged(*screen(), "code")
    method = WeightedKNN().fit(X, da.from_array(y, chunks=(30, 5)))
    with pytest.raises(InputError, match="code 2"):
        method.predict(X).compute(scheduler="sync")


@pytest.mark.parametrize(
    "method",
    [
        MajorityVote(ties="up"),
        WeightedKNN(k=0),
        WeightedKNN(k="some"),
        WeightedKNN(metric="manhattan"),
        WeightedKNN(weights="gaussian"),
        WeightedKNN(exponent=-1.0),
        WeightedKNN(missing="zero"),
        WeightedKNNCV(criterion="mcc"),
    ],
)
def test_unknown_parameters_are_refused(method):
    with pytest.raises(ArgumentError, match="use"):
        method.fit(*screen())


def test_another_embedding_is_refused():
    X, y = screen()
    with pytest.raises(InputError, match="3 dimensions, the training embedding 5"):
        WeightedKNN().fit(X, y).predict(X[:, :3])


# --- named arrays ---------------------------------------------------------------------------------


def named_labels(lazy):
    """Labels of four perturbations, one of them a guide, on three genes, with their names."""
    values = np.array([[1, 0, -1], [1, 0, -1], [0, 1, 0], [0, 1, 0]], np.int8)
    names = {"perturbation": ["A", "B_sg1", "C", "D"], "gene": ["A", "B", "x"]}
    data = da.from_array(values, chunks=(4, 2)) if lazy else values
    return xr.DataArray(data, dims=("perturbation", "gene"), coords=names)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("model", [MajorityVote(), WeightedKNN(k=1), LogisticPerGene()])
def test_labels_and_vectors_may_be_data_arrays(model, lazy):
    y = named_labels(lazy)
    X = xr.DataArray(np.array([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1]]), dims=("perturbation", "d"))
    plain = clone(model).fit(X.values, y.values).predict(X.values)
    named = model.fit(X, y).predict(X)
    assert dask.is_dask_collection(named) == lazy
    np.testing.assert_array_equal(np.asarray(named), plain)


def test_vectors_are_looked_up_by_the_names_of_the_labels():
    y = named_labels(False)
    vectors = Embedding(
        "e",
        ("C", "A", "B", "D", "E"),
        np.array([[1.0, 0], [0, 1], [0.1, 1], [1, 0.1], [0.9, 0]]),
        {},
    )
    model = WeightedKNN(k=1).fit(vectors, y)
    np.testing.assert_array_equal(model.predict(["E", "B"]), [[0, 1, 0], [1, 0, -1]])
    np.testing.assert_array_equal(
        model.predict(vectors.normalized().vectors(["E", "B"])), [[0, 1, 0], [1, 0, -1]]
    )


def test_names_that_nobody_can_look_up_are_refused():
    y = named_labels(False)
    vectors = Embedding("e", ("A",), np.ones((1, 2)), {})
    with pytest.raises(InputError, match=r"pass labels.matrix\(\) as y, or X.vectors\(names\)"):
        WeightedKNN(k=1).fit(vectors, y.values)
    model = WeightedKNN(k=1).fit(np.ones((4, 2)), y)
    with pytest.raises(InputError, match="fitted on an Embedding"):
        model.predict(["A"])
    with pytest.raises(InputError, match=r"pass X.vectors\(names\)"):
        model.predict(vectors)
