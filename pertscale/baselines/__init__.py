"""Deliberately simple methods, and the names under which the benchmark knows them.

A new method for classes is a module with a :class:`LabelClassifier` and a record in
:data:`METHODS`; one for expression an :class:`ExpressionModel` and a record in
:data:`EXPRESSION_MODELS`. Both tables are in ``registry.py``.
"""

from __future__ import annotations

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
from pertscale.baselines.expression.label_only import LabelOnly
from pertscale.baselines.expression.linear import BilinearModel, RidgeDecoder
from pertscale.baselines.expression.simple import Additive, MeanExpression, NoChange
from pertscale.baselines.registry import EXPRESSION_MODELS, METHODS, ExpressionMethod, Method
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
    "LabelOnly",
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
