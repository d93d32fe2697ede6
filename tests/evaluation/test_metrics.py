"""Every metric has one record, and is computed by the name that the record has."""

from __future__ import annotations

import pytest

from pertscale.evaluation.class_metrics import OF_AREAS, OF_COUNTS
from pertscale.evaluation.expression import OF_ALL, OF_PERTURBATION
from pertscale.evaluation.metrics import METRICS, headings, headline_metrics
from pertscale.evaluation.per_gene import OF_GENES

#: Rows that are counted where units are scored, and areas of called interactions.
ELSEWHERE = {
    "n_without_prediction",
    "n_perturbations",
    "n_without_vector",
    "share_without_vote",
    "auprc_interactions",
    "auroc_interactions",
}


def test_each_metric_has_a_record_and_a_function():
    computed = {*OF_PERTURBATION, *OF_ALL, *OF_GENES, *ELSEWHERE}
    for of_level in (*OF_COUNTS.values(), *OF_AREAS.values()):
        computed |= set(of_level)
    assert computed == set(METRICS)


@pytest.mark.parametrize(("level", "of"), [("overall", "pairs"), ("class", "class")])
def test_records_say_what_metrics_of_classes_are_of(level, of):
    names = [*OF_COUNTS[level], *OF_AREAS[level]]
    assert {name: METRICS[name].of for name in names} == dict.fromkeys(names, of)
    assert not any(METRICS[name].needs_calls for name in OF_AREAS[level])


def test_tables_and_summaries_follow_the_records():
    assert headline_metrics("expression") == ("l2", "pearson_delta", "rank_l1")
    assert headings("class", needs_calls=True) == {
        "precision": "Prec.",
        "recall": "Recall",
        "f1": "F1",
    }
    assert list(headings("class")) == ["precision", "recall", "f1", "auroc", "auprc"]
    assert all(METRICS[name].heading for name in headline_metrics("pairs"))
