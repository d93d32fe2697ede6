"""Logistic regression per gene and on pairs, against golden numbers and scikit-learn."""

from __future__ import annotations

import json
import threading
import weakref

import dask
import dask.array as da
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from pertscale.baselines import LogisticPairs, LogisticPerGene, MajorityVote
from pertscale.baselines.classifiers import _pairs, _softmax
from pertscale.baselines.classifiers._descent import AveragedDescent
from pertscale.baselines.classifiers._kernels.exponential import exp
from pertscale.baselines.classifiers._kernels.softmax import bend, three_classes, two_classes
from pertscale.baselines.classifiers._softmax import DesignMatrix, ridge_path
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import confusion, scores_from_confusion
from pertscale.execution.blas import one_blas_thread
from pertscale.schema import CLASSES
from tests.baselines.test_classifiers import FROM_GOLDEN, UNTESTED, forbidden, screen
from tests.support.helpers import GOLDEN


def by_scikit_learn(X, labels, queries, C):
    """Class probabilities of one gene; rows of NaN in X are left out."""
    rows = (labels != UNTESTED) & ~np.isnan(X).any(axis=1)
    present = np.unique(labels[rows])
    proba = np.zeros((len(queries), 3))
    if len(present) == 1:
        proba[:, CLASSES.index(present[0])] = 1
        return proba
    # Newton's method: the other solvers stop earlier, whatever their tolerance
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-14, max_iter=10_000)
    model.fit(X[rows], labels[rows])
    proba[:, np.searchsorted(CLASSES, model.classes_)] = model.predict_proba(queries)
    return proba


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_exponentials_are_right_to_the_last_digits():
    @numba.njit
    def each(values):
        return [exp(value) for value in values]

    x = np.concatenate([np.linspace(-700, 700, 20_001), np.linspace(-1, 1, 20_001)])
    np.testing.assert_allclose(each(x), np.exp(x), rtol=4e-16)
    assert each(np.array([0.0])) == [1.0]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_rows", [50, 200, 70_000])
def test_losses_and_their_derivatives_are_those_of_the_definition(n_classes, n_rows):
    rng = np.random.default_rng(1)
    k = n_classes - 1
    contrasts = rng.standard_normal((2, n_classes, k))
    codes = rng.integers(-1, n_classes, (2, n_rows)).astype(np.int8)
    scores = rng.standard_normal((2, k, n_rows)) * np.array([1.0, 300.0])[:, None, None]
    slope, variance, loss = np.empty_like(scores), np.empty((2, k)), np.empty(2)
    curvature = np.empty((2, k * (k + 1) // 2, n_rows))
    kernel = three_classes if n_classes == 3 else two_classes
    kernel(contrasts, codes, scores, slope, curvature, variance, loss)
    logits = contrasts @ scores
    p = softmax(logits, axis=1) * (codes >= 0)[:, None]
    hot = (codes[:, None] == np.arange(n_classes)[:, None]) * 1.0
    mean = contrasts.swapaxes(1, 2) @ p
    np.testing.assert_allclose(slope, mean - contrasts.swapaxes(1, 2) @ hot, atol=1e-13)
    partition = logsumexp(logits, axis=1) * (codes >= 0)
    np.testing.assert_allclose(loss, (partition - (logits * hot).sum(axis=1)).sum(axis=1))
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    want = [
        np.einsum("gc,gcr->gr", contrasts[..., i] * contrasts[..., j], p) - mean[:, i] * mean[:, j]
        for i, j in pairs
    ]
    np.testing.assert_allclose(curvature, np.stack(want, axis=1), atol=1e-12)
    equal = [pairs.index((i, i)) for i in range(k)]
    np.testing.assert_allclose(variance, curvature[:, equal].sum(axis=2), rtol=1e-11)
    bent = np.empty_like(scores)
    bend(curvature, scores, bent)
    full = {pair: curvature[:, i] for i, pair in enumerate(pairs)}
    for i in range(k):
        sums = sum(full[min(i, j), max(i, j)] * scores[:, j] for j in range(k))
        np.testing.assert_allclose(bent[:, i], sums, atol=1e-12)


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
        np.testing.assert_allclose(scores[:, int(gene)], proba, atol=1e-7)
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
    (weights,) = ridge_path(DesignMatrix.of(X), y, [1e3])
    _, scores = LogisticPerGene(C=1e3, normalize=False).fit(X, y).predict_both(X)
    assert np.isfinite(weights).all()
    want = [by_scikit_learn(X, y[:, gene], X, 1e3) for gene in range(10)]
    np.testing.assert_allclose(scores, np.stack(want, axis=1), atol=1e-5)


def test_a_path_ends_where_single_fits_do():
    X, y = screen(n=60, n_genes=300)
    design, grid = DesignMatrix.of(X), [1e-2, 1.0, 50.0]
    for C, weights in zip(grid, ridge_path(design, y, grid), strict=True):
        (alone,) = ridge_path(design, y, [C])
        np.testing.assert_allclose(weights, alone, atol=1e-6 * max(C, 1))


def test_equations_that_are_written_out_have_the_solution_of_conjugate_gradients(monkeypatch):
    X, y = screen(n=60, n_genes=100)
    written_out = DesignMatrix.of(X)
    monkeypatch.setattr(_softmax, "_NARROW", 0)
    by_gradients = DesignMatrix.of(X)
    assert by_gradients.products is None
    paths = [ridge_path(design, y, [0.1, 1e3]) for design in (written_out, by_gradients)]
    for got, want in zip(*paths, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


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


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_while_anyone_needs_it_so():
    with threadpool_limits(2, user_api="blas"):  # this thread is the one threadpoolctl listens to
        before, inside = blas_threads(), []

        def work():
            with one_blas_thread():
                inside.append(blas_threads())

        for _ in range(2):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert blas_threads() == before
        with one_blas_thread():
            work()
            inside.append(blas_threads())
        assert blas_threads() == before
    assert inside == [{1}] * 4


# --- one regression on pairs --------------------------------------------------------------------


def planted(n=60, n_genes=150, d=(4, 3), untested=0.1, seed=0):
    """Return embeddings of both sides and labels that follow from their sum."""
    rng = np.random.default_rng(seed)
    X, genes = rng.standard_normal((n, d[0])), 3 + 5 * rng.standard_normal((n_genes, d[1]))
    signal = 2 * (X @ rng.standard_normal(d[0]))[:, None] + 0.3 * genes @ rng.standard_normal(d[1])
    signal += rng.logistic(size=signal.shape)
    y = ((signal > 3).astype(np.int8) - (signal < -3)).astype(np.int8)
    y[rng.random(y.shape) < untested] = UNTESTED
    return X, genes, y


def macro_f1(truth, labels):
    return float(scores_from_confusion(confusion(truth, labels))["macro_f1"])


def test_pairs_are_learned_as_scikit_learn_does_on_all_at_once():
    X, genes, y = planted()
    method = LogisticPairs(genes, C=0.1, n_epochs=60).fit(X, y)
    row, gene = np.nonzero(y != UNTESTED)
    sides = [(v - v.mean(axis=0)) / v.std(axis=0) / np.sqrt(7) for v in (X, genes)]
    features = np.concatenate([sides[0][row], sides[1][gene]], axis=1)
    oracle = OneVsRestClassifier(LogisticRegression(C=0.1)).fit(features, y[row, gene])
    want = np.concatenate([model.coef_ for model in oracle.estimators_])
    assert np.linalg.norm(method.model_.coef_ - want) < 0.02 * np.linalg.norm(want)
    scores = method.predict_proba(X)[row, gene]
    np.testing.assert_allclose(scores, oracle.predict_proba(features), atol=0.02)
    # the sum of both sides is what the model says of a pair
    np.testing.assert_allclose(scores, method.model_.predict_proba(features), atol=1e-6)
    assert method.model_.alpha == pytest.approx(1 / (0.1 * len(row)))


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 0.9, 3.0])  # the last set weights to zero at first
@pytest.mark.parametrize("average", [1, 700, 10_000])
def test_steps_are_those_of_scikit_learn(alpha, average):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((2000, 7)) / np.sqrt(7)
    y = np.clip(np.rint(2 * X @ rng.standard_normal(7)), -1, 1).astype(np.int8)
    want = SGDClassifier(
        loss="log_loss", learning_rate="invscaling", eta0=0.7, power_t=0.25, shuffle=False
    ).set_params(alpha=alpha, average=average)
    want.partial_fit(X, y, classes=CLASSES)
    model = AveragedDescent(alpha=alpha, eta0=0.7, average=average)
    for part in np.split(np.arange(2000), [1, 650, 1900]):
        model.partial_fit(X[part], y[part])
    # a strong penalty takes digits: weights are differences of numbers up to 1e9 times as large
    np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-9, atol=2e-9)
    np.testing.assert_allclose(model.intercept_, want.intercept_, rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X), want.predict_proba(X), rtol=2e-9)
    np.testing.assert_array_equal(model.predict(X), want.predict(X))
    again = clone(model).partial_fit(X[9:], y[9:]).fit(X, y)
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_pairs_beat_the_majority_vote_where_the_vectors_carry_the_label():
    X, genes, y = planted(n=80)
    labels = LogisticPairs(genes, n_epochs=10).fit(X[:60], y[:60]).predict(X[60:])
    majority = MajorityVote().fit(X[:60], y[:60]).predict(X[60:])
    assert macro_f1(y[60:], labels) > macro_f1(y[60:], majority) + 0.2


@pytest.mark.once
def test_pairs_give_equal_bits_whatever_the_chunks(monkeypatch):
    monkeypatch.setattr(_pairs, "WINDOW", 60 * 32)
    monkeypatch.setattr(_pairs, "BLOCK", 7 * 500)
    X, genes, y = planted()
    chunks = (7, 11)
    X[3], genes[[2, 149]] = np.nan, np.nan
    parameters = {"C": "cv", "grid": (1e-3, 1.0), "n_folds": 2, "n_epochs": 4}
    want = LogisticPairs(genes, **parameters).fit(X, y)
    method = LogisticPairs(genes, **parameters).fit(X, da.from_array(y, chunks=chunks))
    assert method.cv_scores_ == want.cv_scores_
    labels, scores = method.predict_both(X)
    assert labels.chunks[1] == da.core.normalize_chunks(chunks, y.shape)[1]
    np.testing.assert_array_equal(labels.compute(), want.predict(X))
    np.testing.assert_array_equal(scores.compute(), want.predict_proba(X))
    other = LogisticPairs(genes, **parameters, seed=1).fit(X, y)
    assert (other.model_.coef_ != want.model_.coef_).any()


def test_pairs_exist_a_block_at_a_time_and_once_per_pass(monkeypatch):
    monkeypatch.setattr(_pairs, "WINDOW", 60 * 50)
    monkeypatch.setattr(_pairs, "BLOCK", 7 * 400)
    alive, sizes, most = set(), [], []
    make = _pairs.block_of_features

    def counted(*args):
        block = make(*args)
        alive.add(id(block))
        weakref.finalize(block, alive.discard, id(block))
        sizes.append(len(block))
        most.append(len(alive))
        return block

    monkeypatch.setattr(_pairs, "block_of_features", counted)
    X, genes, y = planted()
    LogisticPairs(genes, n_epochs=3).fit(X, da.from_array(y, chunks=(60, 13)))
    assert sum(sizes) == 3 * (y != UNTESTED).sum()
    assert max(sizes) <= 400
    assert max(most) <= 2


def test_pairs_without_vectors_get_the_majority_vote():
    X, genes, y = planted(n=80)
    X[[2, 70]], genes[[5, 9]] = np.nan, np.nan
    y[:60, 5] = UNTESTED
    labels, scores = LogisticPairs(genes).fit(X[:60], y[:60]).predict_both(X[60:])
    majority = MajorityVote().fit(X[:60], y[:60]).predict_both(X[60:])
    for got, want in zip((labels, scores), majority, strict=True):
        np.testing.assert_array_equal(got[10], want[10])
        np.testing.assert_array_equal(got[:, [5, 9]], want[:, [5, 9]])
    rows, kept = np.delete(np.arange(60), 2), np.delete(np.arange(150), [5, 9])
    alone = LogisticPairs(genes[kept]).fit(X[rows], y[np.ix_(rows, kept)]).predict_proba(X[60:])
    known = np.delete(np.arange(20), 10)
    np.testing.assert_allclose(scores[np.ix_(known, kept)], alone[known], atol=1e-6)


def test_choice_of_the_penalty_on_pairs_equals_separate_fits():
    X, genes, y = planted(n=30, n_genes=60)
    genes[7] = np.nan
    grid = (1e-3, 0.1)
    method = LogisticPairs(genes, C="cv", grid=grid, n_folds=3, seed=2).fit(X, y)
    parts = np.array_split(np.random.RandomState(2).permutation(30), 3)
    for C in grid:
        total = 0
        for part in parts:
            train = np.setdiff1d(np.arange(30), part)
            fold = LogisticPairs(genes, C=C, seed=2).fit(X[train], y[train])
            total = total + confusion(y[part], fold.predict(X[part]))
        want = scores_from_confusion(total)["macro_f1"]
        assert method.cv_scores_[C] == pytest.approx(float(want), rel=1e-12)
    assert max(grid, key=method.cv_scores_.get) == method.C_


def test_classes_that_never_occur_are_not_predicted():
    X, genes, y = planted()
    y[y == 1] = 0
    labels, scores = LogisticPairs(genes, n_epochs=10).fit(X, y).predict_both(X)
    assert not (labels == 1).any()
    assert scores[..., 2].max() < 0.01
    assert not LogisticPairs(genes).fit(X, np.zeros_like(y)).predict(X).any()


def test_constant_columns_of_vectors_are_ignored():
    X, genes, y = planted()
    wide = np.concatenate([np.full((60, 1), 0.3), X], axis=1)
    method = LogisticPairs(genes).fit(wide, y)
    assert not method.model_.coef_[:, 0].any()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"C": -1.0}, "use"), ({"n_epochs": 0}, "use"), ({"C": "cv", "criterion": "mcc"}, "use")],
)
def test_unknown_parameters_of_pairs_are_refused(parameters, message):
    X, genes, y = planted()
    with pytest.raises(ArgumentError, match=message):
        LogisticPairs(genes, **parameters).fit(X, y)


def test_unusable_gene_vectors_are_refused():
    X, genes, y = planted()
    with pytest.raises(ArgumentError, match="pass gene_vectors="):
        LogisticPairs(seed=1).fit(X, y)
    with pytest.raises(InputError, match="149 rows and y 150 genes"):
        LogisticPairs(genes[1:]).fit(X, y)
    with pytest.raises(InputError, match="row 4 of gene_vectors"):
        LogisticPairs(np.where(np.indices(genes.shape).sum(axis=0) == 6, np.inf, genes)).fit(X, y)
    with pytest.raises(InputError, match="0 of 150 genes"):
        LogisticPairs(np.full_like(genes, np.nan)).fit(X, y)
    with pytest.raises(InputError, match="none of the tested pairs"):
        LogisticPairs(genes).fit(X, np.full_like(y, UNTESTED))
    with pytest.raises(InputError, match="3 dimensions, the training embedding 4"):
        LogisticPairs(genes).fit(X, y).predict(X[:, :3])


def test_parameters_of_pairs_survive_cloning():
    X, genes, y = planted()
    method = LogisticPairs(genes, C="cv", grid=(1.0,), n_folds=2)
    assert method.get_params()["gene_vectors"] is genes
    np.testing.assert_array_equal(clone(method).gene_vectors, genes)
    params = method.fit(X, y).fitted_params()
    assert params["C"] == 1.0
    assert "gene_vectors" not in json.loads(json.dumps(params))
