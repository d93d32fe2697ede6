"""Sentences of the report: of one set of perturbations, one operating point, and no noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pertscale.baselines.registry import REFERENCES
from pertscale.evaluation.metrics import METRICS
from pertscale.io.parquet import declared_frame
from pertscale.report.findings import (
    of_classes,
    of_expression,
    predicting_fewer,
    without_vectors,
    without_votes,
)
from pertscale.results.averages import SCORE, TABLE, averaged_scores
from pertscale.results.comparisons import in_fewer_splits, without_repeats
from pertscale.schema import COMPARISON_COLUMNS, ESTIMATE_COLUMNS, RANK_COLUMNS

COLUMNS = [
    "task",
    "setting",
    "context",
    "train_contexts",
    "split",
    "method",
    "operating_point",
    "level",
    "group",
    "metric",
    "value",
    "n",
    "no_effect",
]


def table(rows):
    rows = [(*row[:3], row[2], *row[3:]) for row in rows]
    return pd.DataFrame(rows, columns=COLUMNS).assign(params="{}")


def averaged(scores, *, half=0.1):
    """Averages with intervals of a half-width; methods differ that lie further apart than that."""
    means = scores[scores["level"] != "perturbation"]
    estimates = means.groupby(SCORE, sort=False)["value"].mean().reset_index()
    estimates = estimates.assign(
        low=estimates["value"] - half, high=estimates["value"] + half, n_clusters=9
    )
    ranks = []
    competing = estimates[~estimates["method"].isin(REFERENCES)]
    for _, rows in competing.groupby([*TABLE, "operating_point", "metric"], sort=False):
        sign = 1 if METRICS[rows["metric"].iloc[0]].greater_is_better else -1
        gap = (sign * rows["value"]).max() - sign * rows["value"]
        ranks.append(rows.assign(rank=gap.rank(), in_best_set=gap <= half))
    no_estimates, no_ranks = (declared_frame([], c) for c in (ESTIMATE_COLUMNS, RANK_COLUMNS))
    if not half:
        return averaged_scores(means, no_estimates, no_ranks)
    ranked = pd.concat(ranks).drop(columns=["level", "group"]) if ranks else no_ranks
    return averaged_scores(means, estimates, ranked)


NO_DIFFERENCES = declared_frame([], COMPARISON_COLUMNS)


def lines_of_expression(scores, differences=NO_DIFFERENCES, **how):
    return of_expression(scores, averaged(scores, **how), differences)


def lines_of_classes(scores, held_out=None, **how):
    return of_classes(scores, averaged(scores, **how), NO_DIFFERENCES, held_out)


def errors(methods, *, n=7, n_held_out=None, splits=5, setting="top_expressed", no_effect=0.0):
    """Errors of held-out singles: method → values (split, perturbation)."""
    rows = []
    for method, values in methods.items():
        values = np.broadcast_to(values, (splits, n))
        for i, of_split in enumerate(values):
            head = ("single", setting, "k562", f"s{i}", method, "")
            rows += [
                (*head, "perturbation", f"P{j}", "l2", value, 100, np.nan)
                for j, value in enumerate(of_split)
            ]
            rows += [
                (*head, "overall", "", "l2", of_split.mean(), n, np.nan),
                (*head, "overall", "", "pearson_delta", 0.5, n, no_effect),
                (*head, "overall", "", "direction", 0.5, n, 0.5 + no_effect / 2),
                (*head, "overall", "", "n_without_prediction", 0, n_held_out or n, np.nan),
            ]
    return table(rows)


def classes(methods, *, n=7, setting="full_without_target", metric="auprc_de", point=""):
    """Scores of classes: method → one value per split."""
    rows = []
    for method, values in methods.items():
        for i, value in enumerate(values):
            head = ("within", setting, "k562", f"s{i}", method)
            rows.append((*head, point, "overall", "", metric, value, 100, np.nan))
            rows.append((*head, "", "overall", "", "share_de", 0.1, 100, np.nan))
            rows.append((*head, "", "overall", "", "n_perturbations", n, n, np.nan))
    return table(rows)


SPLITS = np.linspace(-0.1, 0.1, 5)


def test_a_best_is_named_where_all_others_are_worse():
    methods = {"mean": 2 + SPLITS[:, None], "additive": 1 + SPLITS[:, None], "no_change": 4.0}
    assert lines_of_expression(errors(methods)) == [
        "k562, held-out singles (7 of 7 held out, 5 splits): error (L2) is smallest for additive, "
        "1.000 [0.900, 1.100]; next is mean, 2.000 [1.900, 2.100]; no change has "
        "4.000 [3.900, 4.100]."
    ]
    close = {**methods, "mean": 1.05 + SPLITS[:, None]}
    (line,) = lines_of_expression(errors(close))
    assert "no method stands out by error (L2): additive 1.000 [0.900, 1.100], mean 1.050" in line
    assert "can't be told apart; no change has 4.000" in line


def test_the_difference_to_the_next_is_told():
    methods = {"mean": 2 + SPLITS[:, None], "additive": 1 + SPLITS[:, None]}
    difference = {
        "task": "single",
        "setting": "top_expressed",
        "context": "k562",
        "train_contexts": "k562",
        "operating_point": "",
        "metric": "l2",
        "method": "mean",
        "reference": "additive",
        "difference": -1.0,
        "low": -1.1,
        "high": -0.8,
    }
    told = "next is mean, 2.000 [1.900, 2.100], a difference of 1.000 [0.800, 1.100]."
    (line,) = lines_of_expression(errors(methods), pd.DataFrame([difference]))
    assert line.endswith(told)
    turned = {"method": "additive", "reference": "mean", "difference": 1.0, "low": 0.8, "high": 1.1}
    (line,) = lines_of_expression(errors(methods), pd.DataFrame([{**difference, **turned}]))
    assert line.endswith(told)


def test_without_intervals_no_method_is_named():
    (line,) = lines_of_expression(errors({"mean": 2.0, "additive": 1.0}), half=0)
    assert line.endswith("scores have no intervals, so no method is named.")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n": 4}, "4 of 4 held out, 5 splits): fewer than 5 perturbations are too few"),
        ({"n": 7, "n_held_out": 15}, "7 of 15 held out, 5 splits): fewer than half of the held"),
        ({"n": 2, "n_held_out": 7, "splits": 1}, "2 of 7 held out): fewer than 5"),
    ],
)
def test_of_few_no_best_is_named(how, message):
    lines = lines_of_expression(errors({"mean": 2.0, "additive": 1.0, "no_change": 4.0}, **how))
    assert len(lines) == 1
    assert message in lines[0]
    assert not any(word in lines[0] for word in ("mean", "additive", "smallest"))


def test_a_method_that_predicts_fewer_is_in_no_sentence():
    both = pd.concat(
        [
            errors({"mean": 2.0, "no_change": 4.0}),
            errors({"linear": 0.1}, n=2, n_held_out=7, setting="top_expressed_partial"),
            errors({"linear": 0.1, "mean": 2.0}, setting="top_expressed_filled"),
        ]
    )
    assert lines_of_expression(both) == lines_of_expression(errors({"mean": 2.0, "no_change": 4.0}))


def test_a_method_that_some_splits_lack_is_not_compared():
    whole = errors({"mean": 2 + SPLITS[:, None], "no_change": 4.0})
    some = errors({"linear": 0.1}, splits=2)
    assert lines_of_expression(pd.concat([whole, some])) == lines_of_expression(whole)
    assert in_fewer_splits(pd.concat([whole, some])) == {"linear": "2 of 5 splits"}


def test_the_noise_of_shared_controls_is_told():
    assert len(lines_of_expression(errors({"mean": 1.0}, no_effect=0.09))) == 1
    lines = lines_of_expression(errors({"mean": 1.0}, no_effect=0.42))
    assert "Pearson delta of 0.42 and a direction of 0.71" in lines[1]


def test_classes_are_compared_by_average_precision_without_their_targets():
    methods = {"knn_1": 0.6 + SPLITS, "majority_vote": 0.3 + SPLITS, "oracle": 1 + 0 * SPLITS}
    lines = lines_of_classes(classes(methods), {("k562", f"s{i}"): 9 for i in range(5)})
    assert lines == [
        "k562, full_without_target (7 of 9 held out, 5 splits): average precision of change is "
        "highest for knn_1, 0.600 [0.500, 0.700]; next is majority_vote, 0.300 [0.200, 0.400]; "
        "chance is 0.1."
    ]
    assert lines_of_classes(classes(methods, setting="full")) == []
    (line,) = lines_of_classes(classes(methods), half=0.4)
    assert "no method stands out by average precision of change: knn_1 0.600" in line
    only = {"oracle": [1.0], "random": [0.1]}
    assert "no method has average precision" in lines_of_classes(classes(only))[0]


def test_settings_that_are_the_same_are_shown_once():
    scored = [
        classes({"a": [0.4] * 5}, metric="macro_f1", point="as_called", setting=setting)
        for setting in ("full", "full_without_target")
    ]
    same = pd.concat(scored)
    assert set(without_repeats(same)["setting"]) == {"full_without_target"}
    line = "k562: no target of a held-out perturbation is read out, so full is full_without_target"
    assert [text.startswith(line) for text in lines_of_classes(same)] == [True]
    apart = pd.concat([scored[0], scored[1].assign(n=99)])
    assert without_repeats(apart).equals(apart)
    assert lines_of_classes(apart) == []


def test_methods_that_hardly_vote_are_named():
    share = {"knn_1": [0.96, 0.98], "knn_10": [0.77, 0.75], "knn_10_labelled": [0.02, 0.02]}
    scores = classes(share, setting="curated", metric="share_without_vote")
    assert without_votes(scores) == [
        "k562, curated: no neighbour has a label of the gene, whose majority is then called, for "
        "most of the pairs: 97% of knn_1, 76% of knn_10."
    ]
    assert without_votes(classes(share, metric="share_without_vote")) == []
    assert without_votes(scores[scores["method"] == "knn_10_labelled"]) == []


def test_classes_of_a_method_that_predicts_fewer_are_not_compared():
    complete = {"knn_1": 0.6 + SPLITS, "majority_vote": 0.3 + SPLITS}
    fewer = classes({"linear": 0.9 + SPLITS}).assign(params='{"n_without_prediction": 5}')
    both = pd.concat([classes(complete), fewer])
    assert lines_of_classes(both) == lines_of_classes(classes(complete))
    assert predicting_fewer(both) == {"linear": "5"}


def test_calls_are_compared_at_one_operating_point():
    called = classes({"a": [0.9] * 5, "b": [0.1] * 5}, metric="macro_f1", point="as_called")
    assert lines_of_classes(called) == []
    rate = {"a": [0.4] * 5, "b": [0.3] * 5, "all_non_de": [0.2] * 5}
    at_rate = classes(rate, metric="macro_f1", point="at_training_rate")
    (line,) = lines_of_classes(pd.concat([called, at_rate]))
    assert "macro F1 at the training rate is highest for a, 0.400" in line
    assert "calling no change scores 0.200" in line
    assert "0.900" not in line


def test_what_curation_makes_is_told_of_the_same_perturbations():
    def balanced(setting, values):
        rows = [
            (
                "within",
                setting,
                "k562",
                f"s{i}",
                "majority_vote",
                "as_called",
                "perturbation",
                f"P{j}",
                "balanced_accuracy",
                value,
                9,
                np.nan,
            )
            for i in range(5)
            for j, value in enumerate(values)
        ]
        return table(rows)

    curated = balanced("curated", [0.7] * 6)  # P6 has no curated pair
    everything = balanced("full_without_target", [0.4] * 6 + [1.0])
    held_out = {("k562", f"s{i}"): 7 for i in range(5)}
    (line,) = lines_of_classes(pd.concat([curated, everything]), held_out)
    assert "0.700 [0.700, 0.700] on the curated pairs" in line
    assert "0.400 [0.400, 0.400] on all of its pairs (6 of 7 held out, 5 splits" in line
    few = balanced("curated", [0.7] * 4)
    assert lines_of_classes(pd.concat([few, everything]), held_out) == []


def test_held_out_perturbations_without_a_vector_are_told():
    def row(split, n_lacking, embedding=None):
        return {
            "context": "k562",
            "split": split,
            "n": 7,
            "n_lacking": n_lacking,
            "embedding": embedding,
        }

    assert without_vectors([row("s0", 5)]) == [
        "k562: no embedding given: 5 of 7 held-out perturbations have no vector; pass --embedding"
    ]
    assert "4 to 6 of 7 held-out" in without_vectors([row("s0", 4), row("s1", 6)])[0]
    assert without_vectors([row("s0", 0)]) == []
    assert without_vectors([row("s0", 2, "genept")]) == [
        "k562: embedding 'genept' has no vector for 2 of 7 held-out perturbations"
    ]
    assert without_vectors([row("s0", 5)], "rpe1") == []
