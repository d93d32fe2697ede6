"""Deliberately simple methods, and the names under which the benchmark knows them.

A new method for classes is a module with a :class:`LabelClassifier` and a line in :data:`METHODS`;
one for expression an :class:`ExpressionModel` and a line in :data:`EXPRESSION_MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pertscale.baselines._base import LabelClassifier
from pertscale.baselines.expression import Additive, ExpressionModel, MeanExpression, NoChange
from pertscale.baselines.linear import BilinearModel, RidgeDecoder
from pertscale.baselines.majority import MajorityVote
from pertscale.baselines.neighbors import WeightedKNN
from pertscale.baselines.neighbors_cv import WeightedKNNCV
from pertscale.baselines.reference import AllNonDE, ClassFrequencyRandom, Oracle

__all__ = [
    "EXPRESSION_MODELS",
    "METHODS",
    "Additive",
    "AllNonDE",
    "BilinearModel",
    "ClassFrequencyRandom",
    "ExpressionModel",
    "LabelClassifier",
    "MajorityVote",
    "MeanExpression",
    "Method",
    "NoChange",
    "Oracle",
    "RidgeDecoder",
    "WeightedKNN",
    "WeightedKNNCV",
]


@dataclass(frozen=True)
class Method:
    """A method of the benchmark.

    Attributes
    ----------
    make
        Takes the seed, returns the unfitted classifier.
    needs_embedding
        Whether it can only run with an embedding of the perturbations.
    needs_truth
        Whether ``predict`` has to be told the truth (the oracle).
    """

    make: Callable[[int], LabelClassifier]
    needs_embedding: bool = False
    needs_truth: bool = False


#: Every method by the name it has in score tables.
METHODS: Final[dict[str, Method]] = {
    "majority_vote": Method(lambda seed: MajorityVote(seed=seed)),
    "knn_cv": Method(lambda seed: WeightedKNNCV(seed=seed), needs_embedding=True),
    "knn_1": Method(lambda seed: WeightedKNN(k=1), needs_embedding=True),
    "knn_10": Method(lambda seed: WeightedKNN(k=10), needs_embedding=True),
    "all_non_de": Method(lambda seed: AllNonDE()),
    "random": Method(lambda seed: ClassFrequencyRandom(seed=seed)),
    "oracle": Method(lambda seed: Oracle(), needs_truth=True),
}

#: Models of expression by the name they have in score tables; they take the seed of the split.
EXPRESSION_MODELS: Final[dict[str, Callable[[int], ExpressionModel]]] = {
    "no_change": lambda seed: NoChange(),
    "mean": lambda seed: MeanExpression(),
    "mean_perturbation": lambda seed: MeanExpression(over="perturbations"),
    "additive": lambda seed: Additive(),
    "linear": lambda seed: BilinearModel(seed=seed),
    "linear_random": lambda seed: BilinearModel(genes="random", seed=seed),
}
