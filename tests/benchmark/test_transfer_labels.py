"""Transfer on published labels: the first paper's Table 3, and what changes it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.errors import ArgumentError, InputError, PertscaleWarning
from pertscale.evaluation import at_operating_point
from tests.support.helpers import GOLDEN, published_golden, real_data

LINES = ("k562", "rpe1", "hepg2", "jurkat")
#: Order of the golden file's numbers: three metrics, each over all genes and over shared ones.
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
SETTINGS = ("full", "full_overlap")


@pytest.fixture(scope="module")
def published():
    folder = real_data("perturbqa")
    return {line: ps.stats.read_perturbqa(folder, line=line) for line in LINES}


@pytest.fixture(scope="module")
def scores(published):
    return ps.score_transfer(
        {line: labels for line, (labels, _) in published.items()},
        {line: split for line, (_, split) in published.items()},
        methods=["majority_vote"],
        exclude_test_perturbations=False,
    )


def _row(scores, target, source):
    rows = at_operating_point(scores).query(
        "level == 'overall' and context == @target and train_contexts == @source"
    )
    value = rows.set_index(["metric", "setting"])["value"]
    return [value[metric, setting] for metric in METRICS for setting in SETTINGS]


@pytest.mark.once
@pytest.mark.needs("perturbqa")
def test_pairs_and_averages_equal_the_golden_file(scores):
    golden = json.loads((GOLDEN / "perturbqa_majority_vote.json").read_text())
    for pair, expected in golden["pairs"].items():
        source, target = pair.split("->")
        np.testing.assert_allclose(_row(scores, target, source), expected, atol=6e-5)
    for target, expected in golden["average"].items():
        source = "|".join(sorted(line for line in LINES if line != target))
        np.testing.assert_allclose(_row(scores, target, source), expected, atol=6e-5)


@pytest.mark.once
@pytest.mark.needs("perturbqa", "published")
def test_the_first_papers_table_3(scores):
    published = published_golden("perturbqa_majority_vote.json").read_text()
    for target, expected in json.loads(published)["paper_table3"].items():
        source = "|".join(sorted(line for line in LINES if line != target))
        np.testing.assert_allclose(_row(scores, target, source), expected, atol=3e-3)


@pytest.mark.once
@pytest.mark.needs("perturbqa")
@pytest.mark.parametrize("rows", ["pooled", "pooled_both_splits"])
def test_pooled_equals_the_golden_file(published, scores, rows):
    golden = json.loads((GOLDEN / "perturbqa_majority_vote.json").read_text())[rows]
    targets = LINES
    if rows == "pooled_both_splits":
        labels, splits = ({line: pair[i] for line, pair in published.items()} for i in (0, 1))
        scores = ps.score_transfer(
            labels,
            splits,
            methods=["majority_vote"],
            exclude_test_perturbations=False,
            source_rows="all",
            target_rows="all",
            target="hepg2",
        )
        targets = ("hepg2",)
    for target in targets:
        source = ",".join(line for line in LINES if line != target)  # noqa: F841  (in the query)
        mine = at_operating_point(scores).query(
            "context == @target and train_contexts == @source and setting == 'full'"
        )
        overall = mine[mine["level"] == "overall"].set_index("metric")["value"]
        expected = golden[target]
        found = [overall[m] for m in METRICS]
        np.testing.assert_allclose(found, [expected[k] for k in ("acc", "bacc", "mf1")], atol=6e-5)
        classes = mine[mine["level"] == "class"].set_index(["metric", "group"])["value"]
        for metric, key in (("recall", "R"), ("precision", "P"), ("f1", "F")):
            values = [classes[metric, name] for name in ("non_de", "up", "down")]
            np.testing.assert_allclose(values, expected[key], atol=6e-5)


# --- small tables ---------------------------------------------------------------------------------


def _table(rows, context):
    pairs = pd.DataFrame(rows, columns=["perturbation", "gene", "label"])
    return ps.LabelTable.from_pairs(pairs, context=context)


def _two():
    one = [("A", "x", 1), ("A", "y", 0), ("B", "x", 1), ("B", "y", -1), ("C", "x", -1)]
    two = [("C", "x", -1), ("C", "z", 1), ("D", "x", 0), ("D", "z", 0)]
    labels = {"one": _table(one, "one"), "two": _table(two, "two")}
    splits = {
        "one": ps.Split("s", ("B", "C"), ("A",)),
        "two": ps.Split("s", ("D",), ("C",)),
    }
    return labels, splits


def _accuracy(scores, **where):
    scores = at_operating_point(scores)
    rows = scores[(scores["level"] == "overall") & (scores["metric"] == "accuracy")]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    assert len(rows) == 1
    return rows["value"].iloc[0], int(rows["n"].iloc[0])


def test_held_out_perturbations_are_unseen_everywhere_unless_asked_for():
    labels, splits = _two()
    how = {"methods": ["majority_vote"]}
    # C is held out in two: only B of one is left, which has x up; z is unknown, so unchanged
    found = ps.score_transfer(labels, splits, **how)
    assert _accuracy(found, context="two", setting="full") == (0.0, 2)
    assert _accuracy(found, context="two", setting="full_overlap") == (0.0, 1)
    # with C, x is up and down once each: a tie, which up wins (method E1)
    found = ps.score_transfer(labels, splits, exclude_test_perturbations=False, **how)
    assert _accuracy(found, context="two", setting="full_overlap") == (0.0, 1)
    # D of two says that x is unchanged in A, and knows nothing of y
    assert _accuracy(found, context="one", setting="full") == (0.5, 2)


def test_genes_are_matched_by_aliases():
    labels, splits = _two()
    found = ps.score_transfer(labels, splits, methods=["majority_vote"], aliases={"z": "y"})
    assert _accuracy(found, context="one", setting="full_overlap")[1] == 2


def test_what_is_needed():
    labels, splits = _two()
    with pytest.raises(ArgumentError, match="at least two contexts"):
        ps.score_transfer({"one": labels["one"]}, {"one": splits["one"]})
    with pytest.raises(ArgumentError, match="source_rows='test' is not 'train' or 'all'"):
        ps.score_transfer(labels, splits, source_rows="test")
    with pytest.raises(ArgumentError, match="target='three' is none of one, two"):
        ps.score_transfer(labels, splits, target="three")


def test_names_that_the_labels_lack_are_told():
    labels, splits = _two()
    lacking = ps.Split("s", ("B", "LOST1"), ("A", "LOST2"))
    told = (
        r"^split 's': 2 of its 4 names are no perturbation of the labels of one, and are left out: "
        r"LOST1, LOST2; one: 1 of 3 perturbations are in no part of split 's'; nothing is trained "
        r"or scored on them: C$"
    )
    how = {"methods": ["majority_vote"]}
    with pytest.warns(PertscaleWarning, match=told) as warned:
        found = ps.score_labels(labels["one"], lacking, **how)
    assert [one.filename for one in warned] == [__file__]
    assert _accuracy(found)[1] == 2  # A alone
    with pytest.warns(PertscaleWarning, match=told) as warned:
        ps.score_transfer(labels, {**splits, "one": lacking}, **how)
    assert [one.filename for one in warned] == [__file__]


def test_a_split_for_other_labels_is_refused():
    labels, splits = _two()
    other = ps.Split("s", ("B", "X", "Y"), ("A", "Z"))
    message = r"3 of its 5 names are no perturbation of the labels of one, such as X, Y, Z; there"
    with pytest.raises(InputError, match=message) as error:
        ps.score_labels(labels["one"], other)
    assert "aliases=" not in str(error.value)  # which score_labels does not have
    with pytest.raises(InputError, match=message + r".* are A, B, C\. .* or pass aliases="):
        ps.score_transfer(labels, {**splits, "one": other})
    found = ps.score_transfer(
        labels,
        {**splits, "one": ps.Split("s", ("B", "X"), ("A",))},
        aliases={"X": "C"},
        methods=["majority_vote"],
    )
    assert set(found["context"]) == {"one", "two"}


def test_combinations_are_found_in_another_order():
    labels = _table([("A+B", "x", 1), ("C", "x", 0), ("C", "y", 0)], "one")
    found = ps.score_labels(labels, ps.Split("s", ("C",), ("B_A",)), methods=["all_non_de"])
    assert _accuracy(found) == (0.0, 1)
