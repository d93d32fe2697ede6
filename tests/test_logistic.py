"""Logistic regression per gene and on pairs, against golden numbers and scikit-learn."""

from __future__ import annotations

import json

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from pertscale.baselines import LogisticPerGene, MajorityVote
from pertscale.baselines._softmax import Design, ridge_path
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import CLASSES
from tests.helpers import GOLDEN
from tests.test_baselines import FROM_GOLDEN, UNTESTED, forbidden, screen


def by_scikit_learn(X, labels, queries, C):
    """Class probabilities of one gene; rows of NaN in X are left out."""
    rows = (labels != UNTESTED) & ~np.isnan(X).any(axis=1)
    present = np.unique(labels[rows])
    proba = np.zeros((len(queries), 3))
    if len(present) == 1:
        proba[:, CLASSES.index(present[0])] = 1
        return proba
    # Newton's method: the default solver stops earlier, whatever its tolerance
    model = LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=10_000)
    model.fit(X[rows], labels[rows])
    proba[:, np.searchsorted(CLASSES, model.classes_)] = model.predict_proba(queries)
    return proba


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


# --- one regression per gene --------------------------------------------------------------------


def test_golden_probabilities():
    golden = json.loads((GOLDEN / "categorical.json").read_text())
    X, n = np.array(golden["embedding"]), golden["n_train"]
    y = FROM_GOLDEN[np.array(golden["labels"])]
    scores = LogisticPerGene(normalize=False).fit(X[:n], y[:n]).predict_proba(X[n:])
    for gene, want in golden["logistic_C1"].items():
        codes = FROM_GOLDEN[want["classes"]]
        proba = np.zeros((len(X) - n, 3))
        proba[:, np.searchsorted(CLASSES, codes)] = want["proba"]
        np.testing.assert_allclose(scores[:, int(gene)], proba, atol=2e-6)
    assert (scores[:, 0] == [0, 1, 0]).all()  # a gene with one class


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    C=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    untested=st.sampled_from([0.0, 0.3, 0.8]),
    d=st.sampled_from([1, 4, 40]),
)
def test_probabilities_equal_scikit_learn(seed, C, untested, d):
    # many genes have one or two of the classes only, or separable ones
    X, y = screen(n=24, n_genes=12, d=d, untested=untested, seed=seed)
    X[3] = np.nan
    method = LogisticPerGene(C=C, normalize=False).fit(X[:18], y[:18])
    labels, scores = method.predict_both(X[18:])
    for gene in range(y.shape[1]):
        if (y[:18, gene][~np.isnan(X[:18, 0])] == UNTESTED).all():
            continue
        want = by_scikit_learn(X[:18], y[:18, gene], X[18:], C)
        np.testing.assert_allclose(scores[:, gene], want, atol=1e-6)
        clear = np.sort(want, axis=1)[:, 2] - np.sort(want, axis=1)[:, 1] > 1e-6
        best = np.array(CLASSES)[want.argmax(axis=1)]
        np.testing.assert_array_equal(labels[clear, gene], best[clear])


def test_vectors_are_scaled_to_length_one():
    X, y = screen(n=50)
    scores = LogisticPerGene().fit(X[:40], y[:40]).predict_proba(7 * X[40:])
    want = LogisticPerGene(normalize=False).fit(unit(X[:40]), y[:40]).predict_proba(unit(X[40:]))
    np.testing.assert_allclose(scores, want, atol=1e-7)


def test_scores_that_outgrow_their_exponentials_are_fitted_nevertheless():
    X, y = screen(n=40, n_genes=10, d=30, untested=0)
    X *= np.geomspace(30, 0.03, 30)
    (weights,) = ridge_path(Design.of(X), y, [1e3])
    _, scores = LogisticPerGene(C=1e3, normalize=False).fit(X, y).predict_both(X)
    assert np.isfinite(weights).all()
    want = [by_scikit_learn(X, y[:, gene], X, 1e3) for gene in range(10)]
    np.testing.assert_allclose(scores, np.stack(want, axis=1), atol=1e-5)


def test_a_path_ends_where_single_fits_do():
    X, y = screen(n=60, n_genes=300)
    design, grid = Design.of(X), [1e-2, 1.0, 50.0]
    for C, weights in zip(grid, ridge_path(design, y, grid), strict=True):
        (alone,) = ridge_path(design, y, [C])
        np.testing.assert_allclose(weights, alone, atol=1e-6 * max(C, 1))


def test_columns_that_say_nothing_new_change_nothing():
    X, y = screen(n=50)
    wide = np.concatenate([X, X[:, :2], np.ones((50, 1))], axis=1) / np.sqrt(2)
    wide[:, 2:5] *= np.sqrt(2)
    want = LogisticPerGene(normalize=False).fit(X[:40], y[:40]).predict_proba(X[40:])
    got = LogisticPerGene(normalize=False).fit(wide[:40], y[:40]).predict_proba(wide[40:])
    np.testing.assert_allclose(got, want, atol=1e-6)
    # without any vector but the same one, the class shares remain
    same = LogisticPerGene().fit(np.ones((40, 2)), y[:40]).predict_proba(X[40:, :2])
    shares = MajorityVote().fit(X[:40], y[:40]).predict_proba(X[40:])
    np.testing.assert_allclose(same, shares, atol=1e-6)


def test_missing_vectors_and_genes_without_labels():
    X, y = screen(n=50, untested=0.1)
    X[[2, 5]] = np.nan
    X[[42, 45]] = np.nan
    y[:, 0] = UNTESTED
    y[:, 1] = UNTESTED
    y[[2, 5], 1] = 1  # labels on perturbations without a vector only
    labels, scores = LogisticPerGene().fit(X[:40], y[:40]).predict_both(X[40:])
    rows = np.delete(np.arange(40), [2, 5])
    kept = LogisticPerGene().fit(X[rows], y[rows]).predict_proba(X[40:])
    known = np.delete(np.arange(10), [2, 5])
    np.testing.assert_allclose(scores[known, 2:], kept[known, 2:], atol=1e-7)
    majority = MajorityVote().fit(X[:40], y[:40]).predict_both(X[40:])
    for got, want in zip((labels, scores), majority, strict=True):
        np.testing.assert_array_equal(got[[2, 5]], want[[2, 5]])
        np.testing.assert_array_equal(got[:, :2], want[:, :2])
    assert (labels[:, :2] == [0, 1]).all()


@pytest.mark.parametrize("chunks", [(45, 600), (7, 100), (45, 37)])
def test_chunks_do_not_matter(chunks):
    X, y = screen(n=60, n_genes=600)
    X[[3, 50]] = np.nan
    grid = (0.1, 1.0, 10.0)
    for C in (1.0, "cv"):
        memory = LogisticPerGene(C=C, grid=grid).fit(X[:45], y[:45])
        want = memory.predict_both(X[45:])
        lazy = LogisticPerGene(C=C, grid=grid).fit(X[:45], da.from_array(y[:45], chunks=chunks))
        labels, scores = lazy.predict_both(X[45:])
        assert lazy.fitted_params() == memory.fitted_params()
        assert labels.chunks[1] == scores.chunks[1] == da.core.normalize_chunks(chunks, y.shape)[1]
        labels, scores = dask.compute(labels, scores)
        np.testing.assert_array_equal(labels, want[0])
        np.testing.assert_allclose(scores, want[1], atol=1e-7, rtol=0)  # float32


def test_regressions_of_lazy_labels_are_part_of_the_prediction():
    X, y = screen(n=60)
    reads = []

    def read(block_info=None):
        location = block_info[None]["array-location"]
        reads.append(tuple(location[1]))
        return y[tuple(slice(*edges) for edges in location)]

    lazy = da.map_blocks(read, chunks=((60,), (10,) * 4), dtype=np.int8, meta=y[:0, :0])
    with dask.config.set(scheduler=forbidden):
        both = LogisticPerGene().fit(X, lazy).predict_both(X)
    labels, _ = dask.compute(*both, scheduler="sync")
    assert sorted(reads) == [(0, 10), (10, 20), (20, 30), (30, 40)]
    np.testing.assert_array_equal(labels, LogisticPerGene().fit(X, y).predict(X))


def test_cross_validation_equals_separate_fits():
    X, y = screen(n=41, n_genes=30, untested=0.1)
    X[4] = np.nan
    grid = (10.0, 0.01, 1.0)
    method = LogisticPerGene(C="cv", grid=grid, n_folds=4, seed=3).fit(X, y)
    order = np.random.RandomState(3).permutation(41)
    want = {}
    for C in sorted(grid):
        truth, predicted = [], []
        for part in np.array_split(order, 4):
            train = np.setdiff1d(np.arange(41), part)
            part = part[part != 4]
            truth.append(y[part])
            predicted.append(LogisticPerGene(C=C).fit(X[train], y[train]).predict(X[part]))
        truth, predicted = np.concatenate(truth), np.concatenate(predicted)
        tested = truth != UNTESTED
        want[C] = f1_score(truth[tested], predicted[tested], labels=CLASSES, average="macro")
    assert method.cv_scores_ == pytest.approx(want, rel=1e-12)
    assert list(method.cv_scores_) == sorted(grid)
    assert method.C_ == max(want, key=want.get) == method.fitted_params()["C"]
    alone = LogisticPerGene(C=method.C_).fit(X, y)
    np.testing.assert_array_equal(method.predict_proba(X), alone.predict_proba(X))


def test_equal_scores_choose_the_smallest_penalty_parameter():
    X, y = screen(untested=0)
    assert LogisticPerGene(C="cv", grid=(1.0, 0.1, 10.0)).fit(X, np.zeros_like(y)).C_ == 0.1


def test_groups_stay_in_one_fold():
    X, y = screen(n=15, untested=0, seed=5)
    twins = np.repeat(np.arange(15), 2)
    method = LogisticPerGene(C="cv", grid=(1e3,), criterion="accuracy", normalize=False)
    leaking = method.fit(X[twins], y[twins]).cv_scores_[1e3]
    assert leaking > method.fit(X[twins], y[twins], groups=twins).cv_scores_[1e3]


@pytest.mark.parametrize(
    "parameters",
    [
        {"C": 0},
        {"C": -1.0},
        {"C": "auto"},
        {"C": np.inf},
        {"C": "cv", "grid": ()},
        {"C": "cv", "grid": (1.0, 0.0)},
        {"C": "cv", "criterion": "mcc"},
    ],
)
def test_unknown_parameters_are_refused(parameters):
    with pytest.raises(ArgumentError, match="use"):
        LogisticPerGene(**parameters).fit(*screen())


def test_unusable_vectors_are_refused():
    X, y = screen()
    with pytest.raises(InputError, match="3 dimensions, the training embedding 5"):
        LogisticPerGene().fit(X, y).predict(X[:, :3])
    with pytest.raises(InputError, match="none of the 30"):
        LogisticPerGene().fit(np.full_like(X, np.nan), y)
    with pytest.raises(InputError, match="row 6 of X is zero"):
        LogisticPerGene().fit(np.where(np.arange(30)[:, None] == 6, 0, X), y)
    X[1:] = np.nan
    with pytest.raises(InputError, match="a fold holds out all"):
        LogisticPerGene(C="cv").fit(X, y)
    assert LogisticPerGene().fit(X, y).predict(X[:1]).shape == (1, 40)


def test_parameters_survive_cloning():
    method = LogisticPerGene(C="cv", grid=(0.5, 2.0), seed=4)
    assert clone(method).get_params() == method.get_params()
    json.dumps(method.fit(*screen()).fitted_params())
