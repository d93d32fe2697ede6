"""Classes at two operating points: as a method calls them, and at the training rate."""

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pertscale as ps
from pertscale.errors import ArgumentError
from pertscale.evaluation import (
    RankCounts,
    at_operating_point,
    confusion,
    evaluate,
    evaluate_both,
    scores_from_confusion,
    share_changed,
)
from pertscale.evaluation.operating_point import labels_at_threshold, threshold_at_rate
from pertscale.schema import CLASSES, Label
from tests.support.helpers import GOLDEN, real_data

UNTESTED = int(Label.UNTESTED)


def at_rate(scores, rate):
    """Return labels at a rate, by going through every threshold there is."""
    non_de = np.asarray(scores, np.float32)[..., 1]
    wanted = round(rate * non_de.size)
    cuts = [-np.inf, *np.unique(non_de[non_de < 1])]
    calls = [np.sum(non_de <= cut) for cut in cuts]
    best = min(range(len(cuts)), key=lambda i: (abs(calls[i] - wanted), calls[i]))
    direction = np.where(scores[..., 2] >= scores[..., 0], 1, -1)
    return np.where(non_de <= cuts[best], direction, 0)


def pairs(n=40, genes=30, *, n_distinct=9, seed=0):
    """Truth with untested pairs, labels, and class scores of which some are tied or missing."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 0, 0, 0, 1, UNTESTED], (n, genes)).astype(np.int8)
    weights = rng.integers(0, n_distinct, (n, genes, 3)) + np.array([0.0, 1.0, 0.0])
    scores = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    scores[0, :4] = np.nan
    predicted = np.array(CLASSES, np.int8)[np.nan_to_num(scores).argmax(axis=2)]
    return truth, predicted, scores


# --- the threshold --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    non_de=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0, np.nan]), min_size=1),
    rate=st.floats(0, 1),
)
def test_the_threshold_is_that_of_brute_force(non_de, rate):
    scores = np.zeros((len(non_de), 3), np.float32)
    scores[:, 1] = non_de
    ranking = RankCounts()
    ranking.add(scores[:, 1], positive=np.arange(len(non_de)) % 2 == 0)
    threshold = threshold_at_rate(*ranking.distinct(), rate)
    np.testing.assert_array_equal(labels_at_threshold(scores, threshold), at_rate(scores, rate))


def test_tied_pairs_are_called_together_or_not_at_all():
    scores, counts = np.array([0.2, 0.6, 1.0], np.float32), np.array([4, 6, 90])
    assert threshold_at_rate(scores, counts, 0.04) == np.float32(0.2)
    assert threshold_at_rate(scores, counts, 0.069) == np.float32(0.2)  # 4 is nearer than 10
    assert threshold_at_rate(scores, counts, 0.07) == np.float32(0.2)  # as near: the fewer
    assert threshold_at_rate(scores, counts, 0.08) == np.float32(0.6)
    assert threshold_at_rate(scores, counts, 0.9) == np.float32(0.6)  # nothing speaks for the rest
    assert threshold_at_rate(scores, counts, 0.01) == -np.inf


def test_of_equal_directions_up_is_taken():
    scores = np.array([[0.3, 0.4, 0.3], [0.31, 0.4, 0.29]], np.float32)
    assert labels_at_threshold(scores, 0.5).tolist() == [1, -1]


def test_rounded_scores_keep_their_order_and_missing_ones_stay_last():
    rng = np.random.default_rng(0)
    scores = rng.random(5000, dtype=np.float32)
    scores[:50] = np.nan
    ranking = RankCounts(max_distinct=300)
    ranking.add(scores, positive=rng.random(5000) < 0.3)
    distinct, counts = ranking.distinct()
    assert ranking.rounded_bits > 0
    assert counts.sum() == 5000
    assert np.isnan(distinct[0])
    assert counts[0] == 50
    assert (np.diff(distinct[1:]) > 0).all()
    threshold = threshold_at_rate(distinct, counts, 0.1)
    assert np.sum(scores <= threshold) == pytest.approx(500, abs=40)


def test_share_of_changed_pairs():
    truth, _, _ = pairs()
    expected = np.mean(truth[truth != UNTESTED] != 0)
    assert share_changed(truth) == share_changed(da.from_array(truth, chunks=7)) == expected
    assert share_changed(np.full((2, 2), UNTESTED)) is None


# --- the table ------------------------------------------------------------------------------------


def test_both_points_in_one_table():
    truth, predicted, scores = pairs()
    names = [f"P{i}" for i in range(len(truth))]
    table = evaluate(truth, predicted, scores=scores, perturbations=names, training_rate=0.2)
    called = evaluate(truth, predicted, scores=scores, perturbations=names)
    assert table[: len(called)].equals(called)
    rest = table[len(called) :]
    assert set(rest["operating_point"]) == {"at_training_rate"}
    tested = truth != UNTESTED
    labels = np.where(tested, 0, UNTESTED).astype(np.int8)
    labels[tested] = at_rate(scores[tested], 0.2)
    expected = scores_from_confusion(confusion(truth, labels))
    value = rest.set_index(["level", "group", "metric"])["value"]
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        assert value["overall", "", metric] == expected[metric]
    for i, name in enumerate(("down", "non_de", "up")):
        assert value["class", name, "f1"] == expected["f1"][i]
    assert value["overall", "", "share_called"] == np.mean(labels[tested] != 0)
    assert value["perturbation", "P7", "accuracy"] == np.mean((truth == labels)[7][tested[7]])
    at_point = at_operating_point(table, "at_training_rate")
    assert {"auprc_de", "support"} < set(at_point["metric"])  # these need no calls
    assert not at_point.duplicated(["level", "group", "metric"]).any()
    with pytest.raises(ArgumentError, match="as_called, at_training_rate"):
        at_operating_point(table, "best")


@pytest.mark.parametrize("chunks", [(40, 30), (40, 7), (7, 30), (11, 13)])
def test_lazy_matrices_and_excluded_pairs(chunks):
    truth, predicted, scores = pairs()
    names = [f"P{i}" for i in range(len(truth))]
    exclude = [(0, 0), (3, 17), (29, 29)]
    edited = truth.copy()
    edited[tuple(np.transpose(exclude))] = UNTESTED
    how = {"perturbations": names, "training_rate": 0.15}
    whole, rest = evaluate_both(
        da.from_array(truth, chunks=(9, 20)),
        da.from_array(predicted, chunks=chunks),
        scores=da.from_array(scores, chunks=(*chunks, 3)),
        exclude=exclude,
        **how,
    )
    assert whole.equals(evaluate(truth, predicted, scores=scores, **how))
    assert rest.equals(evaluate(edited, predicted, scores=scores, **how))


# --- real screens ---------------------------------------------------------------------------------

#: What the golden file does not round away: ties, which it breaks in a way that it does not say.
#: On Papalexi a vote has few distinct scores, and each is that of many pairs.
TOLERANCE = {("papalexi", "majority_vote"): 0.013}


def _macro_f1_of_all_classes(scores: pd.DataFrame) -> pd.DataFrame:
    """Return macro F1 as in the golden file, over three classes, for each point and method.

    A class that no held-out perturbation shows counts as an F1 of zero there, and not at all here.
    """
    f1 = scores[scores["metric"] == "f1"].fillna({"value": 0.0})
    return f1.groupby(["operating_point", "method"])["value"].mean().unstack()


@pytest.mark.once
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(
    ("name", "file", "methods"),
    [
        ("papalexi", "papalexi.h5ad", ["majority_vote", "knn_10"]),
        ("schraivogel", "counts.csv.gz", ["majority_vote", "knn_1", "logistic"]),
    ],
)
def test_the_order_of_methods_on_real_screens(name, file, methods, tmp_path):
    """At one operating point for all, the order of votes and models of expression turns around."""
    golden = json.loads((GOLDEN / "trust" / "operating_point.json").read_text())["real"][name]
    methods = [*methods, "mean_perturbation"]
    result = ps.run_benchmark(
        real_data(name) / file,
        out=tmp_path,
        tasks=["within"],
        settings=["full"],
        seed=range(20),
        methods=methods,
        replicates=0,
        quiet=True,
    )
    f1 = _macro_f1_of_all_classes(result.scores)
    called, rate = f1.loc["as_called"], f1.loc["at_training_rate"]
    overall = result.overall[result.overall["metric"] == "auprc_de"]
    precision = overall.groupby("method")["value"].mean()
    for method in methods:
        want = golden[method]
        assert called[method] == pytest.approx(want["macro_f1_reported"], abs=6e-4)
        assert precision[method] == pytest.approx(want["AP_of_DE"], abs=6e-4)
        assert rate[method] == pytest.approx(
            want["macro_f1_at_training_rate"], abs=TOLERANCE.get((name, method), 4e-3)
        )
    for point, named in ((called, "macro_f1_reported"), (rate, "macro_f1_at_training_rate")):
        assert point.idxmax() == max(methods, key=lambda method: golden[method][named])
