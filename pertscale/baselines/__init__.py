"""Deliberately simple methods, and the names under which the benchmark knows them.

A new method for classes is a module with a :class:`LabelClassifier` and a line in :data:`METHODS`;
one for expression an :class:`ExpressionModel` and a line in :data:`EXPRESSION_MODELS`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pertscale._lazy import public_dir
from pertscale.baselines.classifiers.base import LabelClassifier
from pertscale.baselines.classifiers.copied import CopiedLabels
from pertscale.baselines.classifiers.logistic import LogisticPerGene
from pertscale.baselines.classifiers.logistic_pairs import LogisticPairs
from pertscale.baselines.classifiers.majority import MajorityVote
from pertscale.baselines.classifiers.neighbors import WeightedKNN
from pertscale.baselines.classifiers.neighbors_cv import WeightedKNNCV
from pertscale.baselines.classifiers.reference import AllNonDE, ClassFrequencyRandom, Oracle
from pertscale.baselines.expression.base import ExpressionModel
from pertscale.baselines.expression.copied import CopiedEffect
from pertscale.baselines.expression.linear import BilinearModel, RidgeDecoder
from pertscale.baselines.expression.simple import Additive, MeanExpression, NoChange
from pertscale.baselines.registry import ExpressionMethod, Method
from pertscale.baselines.thresholds import labels_of_changes, scores_of_changes, tune_threshold
from pertscale.baselines.user_models import own_methods

__all__ = [
    "EXPRESSION_MODELS",
    "METHODS",
    "Additive",
    "AllNonDE",
    "BilinearModel",
    "ClassFrequencyRandom",
    "CopiedEffect",
    "CopiedLabels",
    "ExpressionMethod",
    "ExpressionModel",
    "LabelClassifier",
    "LogisticPairs",
    "LogisticPerGene",
    "MajorityVote",
    "MeanExpression",
    "Method",
    "NoChange",
    "Oracle",
    "RidgeDecoder",
    "WeightedKNN",
    "WeightedKNNCV",
    "labels_of_changes",
    "own_methods",
    "scores_of_changes",
    "tune_threshold",
]

__dir__ = public_dir(__all__)


#: Every method by the name it has in score tables.
METHODS: Final[dict[str, Method]] = {
    "majority_vote": Method(lambda seed: MajorityVote(seed=seed)),
    "knn_cv": Method(lambda seed: WeightedKNNCV(seed=seed), needs_embedding=True),
    "knn_1": Method(lambda seed: WeightedKNN(k=1), needs_embedding=True),
    "knn_10": Method(lambda seed: WeightedKNN(k=10), needs_embedding=True),
    "knn_1_labelled": Method(
        lambda seed: WeightedKNN(k=1, neighbors="labelled"), needs_embedding=True, needs_gaps=True
    ),
    "knn_10_labelled": Method(
        lambda seed: WeightedKNN(k=10, neighbors="labelled"), needs_embedding=True, needs_gaps=True
    ),
    "logistic": Method(lambda seed: LogisticPerGene(seed=seed), needs_embedding=True),
    "logistic_pairs": Method(
        lambda seed: LogisticPairs(np.empty((0, 0)), seed=seed),
        needs_embedding=True,
        needs_gene_vectors=True,
    ),
    "all_non_de": Method(lambda seed: AllNonDE(), ranks=False),
    "random": Method(lambda seed: ClassFrequencyRandom(seed=seed), ranks=False),
    "oracle": Method(lambda seed: Oracle(), needs_truth=True, ranks=False),
}

#: Models of expression by the name they have in score tables.
EXPRESSION_MODELS: Final[dict[str, ExpressionMethod]] = {
    "no_change": ExpressionMethod(lambda seed: NoChange()),
    "mean": ExpressionMethod(lambda seed: MeanExpression()),
    "mean_perturbation": ExpressionMethod(lambda seed: MeanExpression(over="perturbations")),
    "additive": ExpressionMethod(lambda seed: Additive(), needs_targets=True),
    "linear": ExpressionMethod(lambda seed: BilinearModel(seed=seed)),
    "linear_random": ExpressionMethod(lambda seed: BilinearModel(genes="random", seed=seed)),
}
