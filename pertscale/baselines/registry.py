"""How the benchmark knows a method: what makes it, and what it has to be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pertscale.baselines.classifiers.base import LabelClassifier
from pertscale.baselines.expression.base import ExpressionModel


@dataclass(frozen=True)
class Method:
    """A classifier of the benchmark.

    Attributes
    ----------
    make
        Takes the seed, returns the unfitted classifier.
    needs_embedding
        Whether it can only run with an embedding of the perturbations.
    needs_truth
        Whether ``predict`` has to be told the truth (the oracle).
    needs_gene_vectors
        Whether its parameter ``gene_vectors`` has to be set.
    needs_gaps
        Whether it is another method's like where every training pair has a label.
    ranks
        Whether its scores tell pairs apart, so that another share of them can be called.
    key
        Hash of a model that is not ours; decides whether an earlier result may be taken.
    """

    make: Callable[[int], LabelClassifier]
    needs_embedding: bool = False
    needs_truth: bool = False
    needs_gene_vectors: bool = False
    needs_gaps: bool = False
    ranks: bool = True
    key: str = ""


@dataclass(frozen=True)
class ExpressionMethod:
    """A model of expression of the benchmark.

    Attributes
    ----------
    make
        Takes the seed of the split, returns the unfitted model.
    needs_embedding
        Whether its parameter ``embedding`` has to be set.
    needs_targets
        Whether its parameter ``targets`` has to be set: the genes behind each perturbation.
    key
        As of :class:`Method`.
    """

    make: Callable[[int], ExpressionModel]
    needs_embedding: bool = False
    needs_targets: bool = False
    key: str = ""
