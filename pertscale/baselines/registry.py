"""The methods by name, each with all that others need to know of it.

A record says what makes the method and what it is, in words; what it has to be given; its role in
comparisons; and its cost in a forecast. No other module lists names of methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pertscale.baselines.classifiers.base import LabelClassifier, VotingClassifier
from pertscale.baselines.classifiers.copied import CopiedLabels
from pertscale.baselines.classifiers.logistic import LogisticPerGene
from pertscale.baselines.classifiers.logistic_pairs import MOST_EPOCHS, STEPS, LogisticPairs
from pertscale.baselines.classifiers.majority import MajorityVote
from pertscale.baselines.classifiers.neighbors import WeightedKNN
from pertscale.baselines.classifiers.neighbors_cv import WeightedKNNCV
from pertscale.baselines.classifiers.reference import AllNonDE, ClassFrequencyRandom, Oracle
from pertscale.baselines.expression.base import ExpressionModel
from pertscale.baselines.expression.copied import CopiedEffect
from pertscale.baselines.expression.label_only import LabelOnly
from pertscale.baselines.expression.linear import BilinearModel
from pertscale.baselines.expression.simple import Additive, MeanExpression, NoChange
from pertscale.baselines.inputs import Predicted, UnitInputs
from pertscale.embeddings.embedding import Embedding


@dataclass(frozen=True, kw_only=True)
class Method:
    """A classifier of the benchmark.

    Attributes
    ----------
    make
        Takes the seed, returns the unfitted classifier.
    doc
        What it is, in one line of the report.
    needs_embedding
        Whether it can only run with an embedding of the perturbations.
    needs_truth
        Whether ``predict`` has to be given the truth (the oracle).
    needs_gene_vectors
        Whether its parameter ``gene_vectors`` has to be set.
    needs_test_groups
        Whether ``predict`` takes the target groups of perturbations in place of their vectors.
    needs_gaps
        Whether it equals another method where every training pair has a label.
    cost
        Time it takes for a large screen, in multiples of the majority vote; tasks that take longer
        are begun first.
    ranks
        Whether its scores tell pairs apart, so that another share of them can be called.
    is_reference
        Whether it marks the scale, and is never named as the best.
    always_told
        Words with which sentences on classes give its score, whichever methods are best.
    costs_like
        Method whose time per pair a forecast takes for it; by default its own is measured.
    most_pairs
        Training pairs up to which it goes over them repeatedly, and beyond which only once.
    version
        Raised when its predictions change.
    key
        Hash of a model that is not ours; decides whether an earlier result may be reused.
    """

    make: Callable[[int], LabelClassifier]
    doc: str = ""
    needs_embedding: bool = False
    needs_truth: bool = False
    needs_gene_vectors: bool = False
    needs_test_groups: bool = False
    needs_gaps: bool = False
    cost: float = 1.0
    ranks: bool = True
    is_reference: bool = False
    always_told: str = ""
    costs_like: str = ""
    most_pairs: int | None = None
    version: int = 1
    key: str = ""

    def fit_predict(self, given: UnitInputs) -> Predicted:
        """Fit on the training perturbations and predict the others, taking what is needed."""
        model = self.make(given.seed)
        if self.needs_gene_vectors:
            model.set_params(gene_vectors=given.gene_vectors())
        n_train, n_test = len(given.groups), len(given.test_groups)
        vectors = given.vectors() if self.needs_embedding else np.empty((n_train + n_test, 0))
        model.fit(vectors[:n_train], given.labels, groups=np.array(given.groups))
        asked = np.array(given.test_groups) if self.needs_test_groups else vectors[n_train:]
        fell_back = None
        if isinstance(model, VotingClassifier):
            labels, scores, fell_back = model.predict_with_fallback(asked)
        else:
            truth = {"truth": given.truth()} if self.needs_truth else {}
            labels, scores = model.predict_both(asked, **truth)
        params = model.fitted_params() | self._without_input(asked, given)
        return Predicted(labels, scores, params, fell_back)

    def _without_input(self, asked: NDArray[Any], given: UnitInputs) -> dict[str, int]:
        """Count the test perturbations without a vector, or whose group training does not have."""
        if self.needs_embedding:
            return {"n_test_without_embedding": int(np.isnan(asked).any(axis=1).sum())}
        if self.needs_test_groups:
            lacking = ~np.isin(asked, np.array(given.groups))
            return {"n_test_without_embedding": int(lacking.sum())}
        return {}


@dataclass(frozen=True, kw_only=True)
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
    takes_components
        Whether its parameter ``components`` may be set: principal components of genes.
    always_told
        Words with which sentences on expression give its error, whichever models are best.
    on_request
        Whether it runs only where it is named.
    doc, costs_like, version, key
        As of :class:`Method`.
    """

    make: Callable[[int], ExpressionModel]
    doc: str = ""
    needs_embedding: bool = False
    needs_targets: bool = False
    takes_components: bool = False
    always_told: str = ""
    on_request: bool = False
    costs_like: str = ""
    version: int = 1
    key: str = ""

    def fit(
        self,
        profiles: xr.DataArray,
        *,
        seed: int,
        embedding: Embedding | None = None,
        targets: Mapping[str, Sequence[str]] | None = None,
        components: Callable[[], NDArray] | None = None,
    ) -> ExpressionModel:
        """Make the model and fit it to training profiles, with what it needs of the rest."""
        model = self.make(seed)
        if self.needs_embedding:
            model.set_params(embedding=embedding)
        if self.needs_targets:
            model.set_params(targets=targets)
        if self.takes_components and components is not None:
            model.set_params(components=components())
        return model.fit(profiles)


#: Every classifier by the name it has in score tables.
METHODS: Final[dict[str, Method]] = {
    "majority_vote": Method(
        make=lambda seed: MajorityVote(seed=seed),
        doc="the most frequent class of the gene over training perturbations",
    ),
    "knn_cv": Method(
        make=lambda seed: WeightedKNNCV(seed=seed),
        doc="distance-weighted nearest perturbations, k chosen by 5-fold cross-validation",
        needs_embedding=True,
        cost=3.0,
    ),
    "knn_1": Method(
        make=lambda seed: WeightedKNN(k=1),
        doc="the nearest perturbation's label",
        needs_embedding=True,
        costs_like="knn_10",
    ),
    "knn_10": Method(
        make=lambda seed: WeightedKNN(k=10),
        doc="distance-weighted vote of the 10 nearest perturbations",
        needs_embedding=True,
    ),
    "knn_1_labelled": Method(
        make=lambda seed: WeightedKNN(k=1, neighbors="labelled"),
        doc="the label of the nearest perturbation that has one of the gene",
        needs_embedding=True,
        needs_gaps=True,
        costs_like="knn_10_labelled",
    ),
    "knn_10_labelled": Method(
        make=lambda seed: WeightedKNN(k=10, neighbors="labelled"),
        doc="distance-weighted vote of the 10 nearest that have a label of the gene",
        needs_embedding=True,
        needs_gaps=True,
    ),
    "logistic": Method(
        make=lambda seed: LogisticPerGene(seed=seed),
        doc="ridge logistic regression per gene on the perturbation's vector",
        needs_embedding=True,
        version=2,
        cost=7.0,
    ),
    "logistic_pairs": Method(
        make=lambda seed: LogisticPairs(seed=seed),
        doc="one logistic regression on the vectors of perturbation and gene",
        needs_embedding=True,
        cost=6.0,
        needs_gene_vectors=True,
        most_pairs=STEPS // MOST_EPOCHS,
        version=3,
    ),
    "all_non_de": Method(
        make=lambda seed: AllNonDE(),
        doc="nothing is differentially expressed",
        ranks=False,
        is_reference=True,
        always_told="calling no change scores",
    ),
    "random": Method(
        make=lambda seed: ClassFrequencyRandom(seed=seed),
        doc="classes drawn with their training frequencies",
        ranks=False,
        is_reference=True,
    ),
    "oracle": Method(
        make=lambda seed: Oracle(),
        doc="the truth: what a perfect prediction scores",
        needs_truth=True,
        ranks=False,
        is_reference=True,
        costs_like="all_non_de",
    ),
}

#: Models of expression by the name they have in score tables.
EXPRESSION_MODELS: Final[dict[str, ExpressionMethod]] = {
    "no_change": ExpressionMethod(
        make=lambda seed: NoChange(),
        doc="the control's expression",
        always_told="no change has",
        costs_like="mean",
    ),
    "mean": ExpressionMethod(
        make=lambda seed: MeanExpression(),
        doc="the mean over training conditions, the control among them",
    ),
    "mean_perturbation": ExpressionMethod(
        make=lambda seed: MeanExpression(over="perturbations"),
        doc="the mean over training perturbations",
        costs_like="mean",
    ),
    "label_only": ExpressionMethod(
        make=lambda seed: LabelOnly(),
        doc="the control, but for the target, which changes as targets did in training",
        needs_targets=True,
        costs_like="mean",
        on_request=True,
    ),
    "label_only_mean": ExpressionMethod(
        make=lambda seed: LabelOnly(on="mean"),
        doc="the mean over training perturbations, with the target as of label_only",
        needs_targets=True,
        costs_like="mean",
        on_request=True,
    ),
    "additive": ExpressionMethod(
        make=lambda seed: Additive(),
        doc="the control plus the changes of the single perturbations",
        needs_targets=True,
        costs_like="mean",
    ),
    "linear": ExpressionMethod(
        make=lambda seed: BilinearModel(seed=seed),
        doc="genes and perturbations by their principal components, a bilinear map between",
        takes_components=True,
    ),
    "linear_random": ExpressionMethod(
        make=lambda seed: BilinearModel(genes="random", seed=seed),
        doc="the same with random vectors for the genes",
        takes_components=True,
        costs_like="linear",
    ),
}

#: What runs where no methods are named.
DEFAULT_METHODS: Final = (
    *METHODS,
    *(name for name, model in EXPRESSION_MODELS.items() if not model.on_request),
)

#: The effect or the labels of the same perturbation in another context, and the bilinear model with
#: vectors of perturbations from another screen (method H6): transfer adds them where held-out
#: perturbations may be known from elsewhere.
COPY: Final = "same_perturbation"
OTHER_SCREEN: Final = "linear_other_screen"
TRANSFER_METHODS: Final[dict[str, Method]] = {
    COPY: Method(
        make=lambda seed: CopiedLabels(),
        doc="what the same perturbation does in the training contexts",
        needs_test_groups=True,
    ),
}
#: The vectors of ``linear_other_screen`` and the profiles it is fitted on are the unit's.
TRANSFER_MODELS: Final[dict[str, ExpressionMethod]] = {
    COPY: ExpressionMethod(
        make=lambda seed: CopiedEffect(),
        doc="what the same perturbation does in the training contexts",
    ),
    OTHER_SCREEN: ExpressionMethod(
        make=lambda seed: BilinearModel(seed=seed),
        doc="the bilinear model with vectors of perturbations from the other screen",
    ),
}

#: What is no prediction, but says how well one can score: measurements on other cells.
REPLICATE: Final = "replicate"
INTERPOLATED: Final = "interpolated_duplicate"
CEILINGS: Final[dict[str, str]] = {
    REPLICATE: "half of the perturbation's own cells, compared with the other half",
    INTERPOLATED: "the same, with the mean of the others where a gene is not known to differ",
}
#: Added to the names of floors that are scored on the halves that replicates are scored on.
ON_HALVES: Final = "_halves"

#: What each of these is, in one line: of the methods that always run, then of those of transfer.
DOCS: Final[dict[str, str]] = {
    name: record.doc
    for records in (METHODS, EXPRESSION_MODELS, TRANSFER_METHODS, TRANSFER_MODELS)
    for name, record in records.items()
} | CEILINGS
#: Methods that know nothing of the perturbation that they predict: of classes, of expression.
CLASS_FLOORS: Final = ("majority_vote", "all_non_de")
EXPRESSION_FLOORS: Final = ("no_change", "mean_perturbation")
FLOORS: Final = (*CLASS_FLOORS, "random", *EXPRESSION_FLOORS)
#: What is scored on halves of the cells: ceilings, and floors on the same truths.
SCORED_ON_HALVES: Final[dict[str, str]] = CEILINGS | {
    f"{name}{ON_HALVES}": f"{DOCS[name]}; scored on halves of the cells, as the replicate is"
    for name in (*CLASS_FLOORS, *EXPRESSION_FLOORS)
}
#: Those that only say how well ceilings do: tables of methods leave them out.
FLOORS_ON_HALVES: Final = frozenset(SCORED_ON_HALVES) - frozenset(CEILINGS)
DOCS.update(SCORED_ON_HALVES)
#: Methods that mark the scale, and never compete.
REFERENCES: Final = frozenset(
    [*(name for name, method in METHODS.items() if method.is_reference), *SCORED_ON_HALVES]
)


def is_baseline(name: str) -> bool:
    """Whether a method is one of ours that competes, and not a mark on the scale."""
    ours = {**METHODS, **EXPRESSION_MODELS, **TRANSFER_METHODS, **TRANSFER_MODELS}
    return name in ours and name not in REFERENCES


#: Methods that are given the truth.
TOLD_THE_TRUTH: Final = frozenset(name for name, method in METHODS.items() if method.needs_truth)
