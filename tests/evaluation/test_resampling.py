"""Resamples, intervals, comparisons and ranks against SciPy and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import Draws, bca_interval, compare_methods, rank_methods, ratios
from pertscale.evaluation.confusion_matrix import confusion_per_row, scores_from_confusion
from pertscale.evaluation.ranking import RankCounts, tally_class
from pertscale.evaluation.resampling.bins import MOST_BINS, Bins, areas_of_bins
from pertscale.evaluation.resampling.comparing import holm
from pertscale.evaluation.resampling.intervals import bca_p_values, expanded_level
from pertscale.evaluation.resampling.versions import mean_of, totals, versions
from pertscale.hashing import seed_from
from pertscale.schema import CLASSES


def singles(n: int) -> dict[str, tuple[str, ...]]:
    return {f"P{i:04}": (f"P{i:04}",) for i in range(n)}


def means_of(draws: Draws, names: list[str], values: np.ndarray):
    return ratios(draws, names, values[:, None], np.ones((len(values), 1)))


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_are_those_of_scipy_on_the_same_resamples(n, skewed):
    random = np.random.default_rng(n)
    values = random.lognormal(size=n) if skewed else random.normal(size=n)
    names = list(singles(n))
    draws = Draws.of("a table", singles(n))
    found = means_of(draws, names, values)
    interval = bca_interval(found.estimate, found.resamples, found.left_out)
    seeded = np.random.default_rng(seed_from("a table", *names))
    level = expanded_level(n)
    expected = bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=seeded, confidence_level=level
    )
    assert interval.low[0] == pytest.approx(expected.confidence_interval.low, rel=1e-10)
    assert interval.high[0] == pytest.approx(expected.confidence_interval.high, rel=1e-10)
    assert interval.se[0] == pytest.approx(expected.standard_error, rel=1e-10)


def test_intervals_of_a_ratio_are_those_of_scipy():
    random = np.random.default_rng(3)
    above, below = random.gamma(2.0, size=(2, 40))
    names = list(singles(40))
    draws = Draws.of("ratio", singles(40))
    found = ratios(draws, names, above[:, None], below[:, None])
    interval = bca_interval(found.estimate, found.resamples, found.left_out)

    def ratio(x, y, axis=-1):
        return x.sum(axis=axis) / y.sum(axis=axis)

    seeded = np.random.default_rng(seed_from("ratio", *names))
    expected = bootstrap(
        (above, below),
        ratio,
        paired=True,
        n_resamples=2000,
        method="BCa",
        rng=seeded,
        confidence_level=expanded_level(40),
    ).confidence_interval
    assert (interval.low[0], interval.high[0]) == pytest.approx(tuple(expected), rel=1e-10)


def test_few_clusters_have_wider_intervals():
    """As wide as those of Student's t where the statistic is a mean of normal values."""
    assert expanded_level(20) == pytest.approx(0.9682, abs=1e-4)
    assert expanded_level(10_000) == pytest.approx(0.95, abs=1e-4)
    values = np.random.default_rng(0).normal(size=8)
    found = means_of(Draws.of("t", singles(8), n_resamples=50_000), list(singles(8)), values)
    interval = bca_interval(found.estimate, found.resamples, found.left_out)
    expected = student.interval(0.95, 7, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(8))
    width = interval.high[0] - interval.low[0]
    assert width == pytest.approx(expected[1] - expected[0], rel=0.08)


def test_no_interval_below_five_clusters_and_none_without_width():
    one = means_of(Draws.of("t", singles(4)), list(singles(4)), np.arange(4.0))
    few = bca_interval(one.estimate, one.resamples, one.left_out)
    assert np.isnan([few.low[0], few.high[0], few.se[0]]).all()
    same = means_of(Draws.of("t", singles(9)), list(singles(9)), np.ones(9))
    constant = bca_interval(same.estimate, same.resamples, same.left_out)
    assert (constant.low[0], constant.high[0], constant.se[0]) == (1, 1, 0)
    with pytest.raises(InputError, match="needed are"):
        bca_interval([1.0], np.ones((2, 10)), np.ones((1, 10)))


def test_undefined_resamples_are_left_out_and_most_of_them_leave_no_interval():
    random = np.random.default_rng(0)
    many = random.normal(size=(2, 1000))
    many[0, :300], many[1, :600] = np.nan, np.nan
    found = bca_interval([0.0, 0.0], many, random.normal(size=(2, 20)))
    assert np.isfinite([found.low[0], found.high[0]]).all()
    assert np.isnan([found.low[1], found.high[1]]).all()


def test_guides_of_a_gene_are_drawn_together_and_splits_share_weights():
    targets = {"A_1": ("A",), "A_2": ("A",), "B": ("B",), "A+B": ("B", "A"), "drug": ()}
    draws = Draws.of("t", targets)
    assert draws.clusters == ("A", "A+B", "B", "drug")
    weights = draws.weights(list(targets))
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert (weights[:, [0, 2, 3, 4]].sum(axis=1) == draws.n_clusters).all()
    assert np.array_equal(draws.weights(["B", "A_2"]), weights[:, [2, 1]])
    assert np.array_equal(Draws.of("t", targets).weights(["B"]), weights[:, [2]])
    assert not np.array_equal(Draws.of("another", targets).weights(["B"]), weights[:, [2]])


def test_genes_are_drawn_where_that_is_asked_for():
    targets = {"A": ("A",), "B": ("B",), "A+B": ("A", "B")}
    draws = Draws.of("t", targets, cluster="gene")
    weights = draws.weights(list(targets))
    assert draws.clusters == ("A", "B")
    assert np.array_equal(weights[:, 2], weights[:, 0] * weights[:, 1])
    sums = np.array([1.0, 10.0, 100.0])
    assert totals(draws, list(targets), sums[:, None])[-4:, 0].tolist() == [10, 1, 101, 110]
    assert draws.of_each(sums, list(targets)).tolist() == [101, 110]
    with pytest.raises(ArgumentError, match="cluster='guide'"):
        Draws.of("t", targets, cluster="guide")
    with pytest.raises(ArgumentError, match="n_resamples"):
        Draws.of("t", targets, n_resamples=0)


@pytest.fixture(scope="module")
def predicted():
    """Truth, calls and class scores of 30 perturbations of 12 genes, 120 read-out genes."""
    random = np.random.default_rng(5)
    truth = random.choice([-1, 0, 1, -128], p=[0.1, 0.7, 0.1, 0.1], size=(30, 120)).astype(np.int8)
    scores = random.dirichlet([1, 2, 1], size=truth.shape).astype(np.float32)
    scores[np.arange(30)[:, None], np.arange(120), np.clip(truth, -1, 1) + 1] += 0.2
    names = [f"G{i % 12}_{i}" for i in range(30)]
    targets = {name: (name.partition("_")[0],) for name in names}
    return names, targets, truth, scores


def rows_of_resample(draws, names, at):
    """Rows of a resample, each as often as it is drawn."""
    return np.repeat(np.arange(len(names)), draws.weights(names)[at].astype(int))


def test_scores_of_resampled_calls_are_those_of_the_rows_that_were_drawn(predicted):
    names, targets, truth, scores = predicted
    calls = np.array(CLASSES, np.int8)[scores.argmax(axis=2)]
    draws = Draws.of("t", targets, n_resamples=20)
    found = totals(draws, names, confusion_per_row(truth, calls))
    macro = scores_from_confusion(found)["macro_f1"]
    for at in range(20):
        rows = rows_of_resample(draws, names, at)
        tested = truth[rows] != -128
        expected = f1_score(truth[rows][tested], calls[rows][tested], average="macro")
        assert macro[1 + at] == pytest.approx(expected, rel=1e-12)
    own = np.array([targets[name][0] for name in names])
    for at, cluster in enumerate(draws.clusters):
        rows = own != cluster
        tested = truth[rows] != -128
        expected = f1_score(truth[rows][tested], calls[rows][tested], average="macro")
        assert macro[1 + 20 + at] == pytest.approx(expected, rel=1e-12)


def binned(truth, scores, column):
    tally = tally_class(truth, scores, column=column)
    ranking = RankCounts()
    ranking.add_tally(tally)
    n_missing = bool(np.isnan(scores[..., column]).any())
    bins = Bins.of(tally.keys, tally.counts, missing=n_missing)
    counts = np.zeros((len(truth), bins.n, 2), np.uint32)
    bins.count(truth, scores, column, counts)
    return ranking, bins, counts


@pytest.mark.parametrize("decimals", [1, 7])
def test_binned_areas_of_resamples_are_those_of_the_rows_that_were_drawn(predicted, decimals):
    names, targets, truth, scores = predicted
    scores = scores.round(decimals)
    draws = Draws.of("t", targets, n_resamples=20)
    ranking, bins, counts = binned(truth, scores, 2)
    assert counts.sum() == (truth != -128).sum()
    assert bins.n <= MOST_BINS
    areas = areas_of_bins(totals(draws, names, counts, dtype=np.float32), bins.n_missing)
    exact = np.array(
        [ranking.auroc(), ranking.average_precision(), ranking.average_precision_reversed()]
    )
    few = decimals == 1
    assert areas[0] == pytest.approx(exact, rel=1e-12 if few else 0.03)
    for at in range(20):
        rows = rows_of_resample(draws, names, at)
        tested = truth[rows] != -128
        positive, score = truth[rows][tested] == 1, scores[rows][tested][:, 2]
        expected = (
            roc_auc_score(positive, score),
            average_precision_score(positive, score),
            average_precision_score(~positive, -score),
        )
        shifted = areas[1 + at] - areas[0] + exact
        assert shifted == pytest.approx(expected, abs=1e-12 if few else 0.004)


def test_missing_scores_have_a_bin_that_is_last_both_ways(predicted):
    _, _, truth, scores = predicted
    scores = scores.copy()
    scores[::3, ::2] = np.nan
    ranking, bins, counts = binned(truth, scores, 1)
    assert bins.n_missing == 1
    n_missing = (np.isnan(scores[..., 1]) & (truth != -128)).sum()
    assert counts[:, 0].sum() == n_missing
    areas = areas_of_bins(counts.sum(axis=0, dtype=np.float64)[None], 1)[0]
    assert areas[0] == pytest.approx(ranking.auroc(), abs=2e-3)
    assert areas[2] == pytest.approx(ranking.average_precision_reversed(), abs=3e-3)


def test_areas_of_one_side_are_not_defined():
    counts = np.zeros((2, 3, 2))
    counts[0, :, 0], counts[1, 1, 1] = 2, 3
    assert np.isnan(areas_of_bins(counts, 0)).all()


def test_mean_over_splits_shares_the_weights_of_a_perturbation():
    draws = Draws.of("t", singles(12), n_resamples=50)
    names, random = list(singles(12)), np.random.default_rng(1)
    parts, expected = [], []
    for held_out in (names[:8], names[4:]):
        values = random.normal(size=8)
        parts.append(means_of(draws, held_out, values))
        weights = draws.weights(held_out)
        expected.append((weights @ values) / weights.sum(axis=1))
    found = mean_of(parts)
    assert found.resamples[0] == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert found.n_clusters == 12
    # the first cluster is in the first split only: alone it is that split's, and left out it
    # changes that split alone
    assert found.alone[0, 0] == parts[0].alone[0, 0]
    changed = (parts[0].left_out[0, 0] + parts[1].estimate[0]) / 2
    assert found.left_out[0, 0] == pytest.approx(changed, rel=1e-12)


def test_comparison_is_paired_signed_and_adjusted():
    random = np.random.default_rng(0)
    n, names = 60, list(singles(60))
    draws = Draws.of("t", singles(n))
    hard = random.gamma(4.0, size=n)
    scored = {
        "mean": means_of(draws, names, hard),
        "better": means_of(draws, names, hard - 0.1 + 0.05 * random.normal(size=n)),
        "same": means_of(draws, names, hard + 0.3 * random.normal(size=n)),
        "copy": means_of(draws, names, hard),
    }
    table = compare_methods(scored, reference="mean", greater_is_better=False)
    table = table.set_index("method")
    assert table.loc["better", "low"] > 0  # though the errors of both vary by 2
    assert table.loc["better", "p_holm"] < 0.01
    assert table.loc["same", "low"] < 0 < table.loc["same", "high"]
    assert table.loc["copy", ["difference", "p_value", "share_better"]].tolist() == [0, 1, 0.5]
    assert (table["n_clusters"] == n).all()
    worse = compare_methods(scored, reference="better", greater_is_better=False)
    assert worse.set_index("method").loc["mean", "difference"] == -table.loc["better", "difference"]
    with pytest.raises(ArgumentError, match="reference='none'"):
        compare_methods(scored, reference="none", greater_is_better=True)


def test_p_values_are_where_an_interval_leaves_out_nothing():
    random = np.random.default_rng(4)
    for n, shift in ((8, 1.2), (40, 1.7)):
        names = list(singles(n))
        draws = Draws.of(f"p {n}", singles(n))
        found = means_of(draws, names, random.gamma(2.0, size=n) - shift)
        given = found.estimate, found.resamples, found.left_out
        p_value = bca_p_values(*given)[0]
        assert 0.001 < p_value < 0.9
        for level, leaves_out in ((1 - p_value - 0.01, True), (1 - p_value + 0.01, False)):
            interval = bca_interval(*given, level=level)
            assert (interval.low[0] > 0 or interval.high[0] < 0) == leaves_out


def test_equal_methods_are_told_apart_as_often_as_is_said():
    """In 300 tables of 12 clusters; resamples by themselves would tell twice as many apart."""
    random, names, n_apart = np.random.default_rng(6), list(singles(12)), 0
    for number in range(300):
        draws = Draws.of(f"null {number}", singles(12), n_resamples=500)
        found = means_of(draws, names, random.normal(size=12))
        n_apart += bca_p_values(found.estimate, found.resamples, found.left_out)[0] <= 0.05
    assert 4 <= n_apart <= 27  # 15 are expected


def test_holm_and_p_values_without_any_difference():
    found = holm(np.array([0.04, np.nan, 0.01, 0.03]))
    assert found == pytest.approx([0.06, np.nan, 0.03, 0.06], nan_ok=True)
    assert bca_p_values([0.0], np.zeros((1, 100)), np.zeros((1, 9))).tolist() == [1.0]
    assert np.isnan(bca_p_values([0.0], np.ones((1, 100)), np.zeros((1, 4)))).all()


def test_clusters_that_make_no_difference_do_not_count():
    """Recall of a class that 4 of 20 clusters have any pair of."""
    names, random = list(singles(20)), np.random.default_rng(1)
    below = np.zeros((20, 2))
    below[:4, 0], below[:, 1] = 10, 10
    above = below * random.random((20, 2))
    found = ratios(Draws.of("t", singles(20)), names, above, below)
    interval = bca_interval(found.estimate, found.resamples, found.left_out)
    assert interval.n_clusters.tolist() == [4, 20]
    assert np.isnan(interval.low).tolist() == [True, False]


def test_rounding_is_no_difference():
    names, values = list(singles(30)), np.random.default_rng(0).gamma(2.0, size=30)
    draws = Draws.of("t", singles(30))
    scored = {
        "a": means_of(draws, names, values),
        "b": means_of(draws, names, values * (1 + 1e-12)),
    }
    table = rank_methods(scored, greater_is_better=True)
    assert table["in_best_set"].all()


def test_ranks_say_who_may_be_best():
    random = np.random.default_rng(2)
    n, names = 50, list(singles(50))
    draws = Draws.of("t", singles(n))
    common = random.normal(size=n)
    scored = {
        "bad": means_of(draws, names, common - 1 + 0.1 * random.normal(size=n)),
        "good": means_of(draws, names, common + 0.5 * random.normal(size=n)),
        "nearly": means_of(draws, names, common - 0.05 + 0.5 * random.normal(size=n)),
        "oracle": means_of(draws, names, common + 5),
        "none": means_of(draws, names, np.full(n, np.nan)),
    }
    table = rank_methods(scored, greater_is_better=True, references=["oracle"])
    assert set(table["method"]) == {"bad", "good", "nearly"}
    assert table["method"].iloc[2] == "bad"
    assert table["in_best_set"].tolist() == [True, True, False]
    assert table["p_best"].sum() == pytest.approx(1)
    assert table.loc[2, ["rank", "low", "high"]].tolist() == [3, 3, 3]
    four = Draws.of("t", singles(4))
    few = {m: means_of(four, names[:4], x.estimate * np.arange(4)) for m, x in scored.items()}
    table = rank_methods(few, greater_is_better=True)
    assert table["low"].isna().all()
    assert list(table["in_best_set"]) == [None] * 4
    assert rank_methods({"none": scored["none"]}, greater_is_better=True).empty


def test_versions_are_shifted_to_exact_values():
    draws = Draws.of("t", singles(6), n_resamples=3)
    found = versions(draws, list(singles(6)), np.arange(16.0)[:, None]).shifted_to(np.array([2.0]))
    assert found.estimate.tolist() == [2]
    assert found.resamples[0].tolist() == [3, 4, 5]
