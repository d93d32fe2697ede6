"""The metrics of the score tables: their names, ranges, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INF = float("inf")


@dataclass(frozen=True)
class Metric:
    """A metric as it appears in the ``metric`` column of a score table.

    Attributes
    ----------
    name
        Name in the table.
    greater_is_better
        ``None`` for counts, which have no better side.
    range
        Smallest and largest value the metric can take.
    doc
        One line on what it measures.
    """

    name: str
    greater_is_better: bool | None
    range: tuple[float, float]
    doc: str


_CLASSIFICATION: Final = (
    Metric("accuracy", True, (0, 1), "share of pairs with the right class"),
    Metric("balanced_accuracy", True, (0, 1), "mean recall over the classes in the truth, if 2 up"),
    Metric("macro_f1", True, (0, 1), "mean F1 over the classes in the truth, if 2 up"),
    Metric("mcc", True, (-1, 1), "Matthews correlation coefficient; 0 is chance"),
    Metric("share_called", None, (0, 1), "share of pairs called differentially expressed"),
    Metric("share_de", None, (0, 1), "share of pairs that are differentially expressed"),
    Metric("auprc_de", True, (0, 1), "average precision of change; chance is share_de"),
    Metric("auprc_macro", True, (0, 1), "mean of auprc of up and down; chance is their mean share"),
    Metric("precision", True, (0, 1), "share of the pairs predicted as the class that are of it"),
    Metric("recall", True, (0, 1), "share of the pairs of the class that are predicted as it"),
    Metric("f1", True, (0, 1), "harmonic mean of precision and recall"),
    Metric("support", None, (0, INF), "pairs of the class in the truth"),
    Metric("auroc", True, (0, 1), "area under the ROC curve; 0.5 is chance"),
    Metric("auprc", True, (0, 1), "average precision; chance is the share of the class"),
    Metric("n_without_vector", False, (0, INF), "held-out perturbations without a vector"),
    Metric("share_without_vote", None, (0, 1), "share of pairs without a vote: gene's majority"),
    Metric("auroc_de_per_gene", True, (0, 1), "AUROC of change within a gene, mean over genes"),
    Metric("auroc_direction_per_gene", True, (0, 1), "the same of up against down"),
    Metric("n_predicted_down", None, (0, INF), "pairs of the class that were predicted as down"),
    Metric("n_predicted_non_de", None, (0, INF), "pairs of the class predicted as non_de"),
    Metric("n_predicted_up", None, (0, INF), "pairs of the class that were predicted as up"),
    Metric("n_predicted_none", None, (0, INF), "pairs of the class without a prediction"),
)

_EXPRESSION: Final = (
    Metric("l2", False, (0, INF), "Euclidean distance of prediction and truth; grows with genes"),
    Metric("rmse", False, (0, INF), "the same divided by the root of the number of genes"),
    Metric("pearson_delta", True, (-1, 1), "correlation of predicted and true change from control"),
    Metric("pearson_delta_mean", True, (-1, 1), "the same from the mean training perturbation"),
    Metric("direction", True, (0, 1), "share of the genes that are predicted to change as they do"),
    Metric("l2_changed", False, (0, INF), "L2 over the genes that change most"),
    Metric("pearson_changed", True, (-1, 1), "pearson_delta over the genes that change most"),
    Metric("overlap_changed", True, (0, 1), "share of the most changed genes found as such"),
    Metric("rank_l1", True, (0, 1), "1 if no other truth is nearer (L1); 0.5 is chance"),
    Metric("rank_cosine", True, (0, 1), "the same by the cosine of changes; 0.5 is chance"),
    Metric("spread_ratio", None, (0, INF), "spread over perturbations against the truth's"),
    Metric("effective_rank", None, (0, INF), "directions in which predictions vary"),
    Metric("effective_rank_truth", None, (0, INF), "directions in which the truth varies"),
    Metric("n_without_prediction", False, (0, INF), "held-out perturbations not predicted"),
)
_INTERACTIONS: Final = (
    Metric("auprc_interactions", True, (0, 1), "average precision of interactions by |deviation|"),
    Metric("auroc_interactions", True, (0, 1), "area under the ROC curve of interactions"),
)

#: Every metric by its name.
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric for metric in (*_CLASSIFICATION, *_EXPRESSION, *_INTERACTIONS)
}
