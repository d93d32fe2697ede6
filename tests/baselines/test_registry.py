"""The records of methods say what others need of them, and hand over what a method needs."""

from __future__ import annotations

import numpy as np
import pytest

from pertscale.baselines.classifiers.base import LabelClassifier
from pertscale.baselines.inputs import UnitInputs
from pertscale.baselines.registry import (
    COPY,
    DOCS,
    EXPRESSION_MODELS,
    METHODS,
    REFERENCES,
    SCORED_ON_HALVES,
    TOLD_THE_TRUTH,
    TRANSFER_METHODS,
    TRANSFER_MODELS,
    ExpressionMethod,
    Method,
)
from pertscale.schema import CLASSES

CLASSIFIERS = METHODS | TRANSFER_METHODS
MODELS = EXPRESSION_MODELS | TRANSFER_MODELS
N_TRAIN, N_TEST, N_GENES = 12, 3, 10


def test_every_record_has_words_and_costs_that_are_measured():
    records: list[tuple[str, Method | ExpressionMethod]] = [*CLASSIFIERS.items(), *MODELS.items()]
    for name, record in records:
        assert record.doc
        assert DOCS[name] == record.doc
        if record.costs_like:
            same = CLASSIFIERS if isinstance(record, Method) else MODELS
            assert not same[record.costs_like].costs_like, f"{name}: {record.costs_like} has none"


def test_what_marks_the_scale_says_so():
    assert {"oracle", "random", "all_non_de", *SCORED_ON_HALVES} == REFERENCES
    assert {"oracle"} == TOLD_THE_TRUTH


def test_groups_pass_through_one_fit():
    """No classifier repeats the checks around its own fit."""
    assert [m for m in CLASSIFIERS.values() if type(m.make(0)).fit is not LabelClassifier.fit] == []


def unit(**given) -> UnitInputs:
    """A unit of drawn labels; what is not given may not be asked for."""

    def refused():
        raise AssertionError("the method asks for what its record does not say that it needs")

    random = np.random.default_rng(0)
    drawn = random.choice(np.array(CLASSES, np.int8), (N_TRAIN + N_TEST, N_GENES))
    targets = [f"G{i}" for i in range(N_TRAIN)]
    needs = {"vectors": refused, "gene_vectors": refused, "truth": refused}
    known = {
        "vectors": lambda: random.normal(size=(N_TRAIN + N_TEST, 4)),
        "gene_vectors": lambda: random.normal(size=(N_GENES, 4)),
        "truth": lambda: drawn[N_TRAIN:],
    }
    return UnitInputs(
        labels=drawn[:N_TRAIN],
        groups=targets,
        test_groups=["G3", "G4", "X"],
        seed=0,
        **needs | {name: known[name] for name, needed in given.items() if needed},
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_method_gets_what_its_record_says_that_it_needs(name):
    method = CLASSIFIERS[name]
    found = method.fit_predict(
        unit(
            vectors=method.needs_embedding,
            gene_vectors=method.needs_gene_vectors,
            truth=method.needs_truth,
        )
    )
    assert found.labels.shape == (N_TEST, N_GENES)
    assert found.scores.shape == (N_TEST, N_GENES, 3)
    asks = method.needs_embedding or method.needs_test_groups
    assert ("n_test_without_embedding" in found.params) == asks


def test_labels_are_copied_from_the_same_targets():
    given = unit()
    found = TRANSFER_METHODS[COPY].fit_predict(given)
    np.testing.assert_array_equal(found.labels[:2], given.labels[3:5])
    assert found.params["n_test_without_embedding"] == 1
