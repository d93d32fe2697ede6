"""The metrics of the score tables: names, ranges, which way is better, and where they are shown."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Final, Literal

INF = float("inf")

#: What a metric is of: all pairs of a perturbation and a gene, those of a class, profiles of
#: expression, or called interactions.
Of = Literal["pairs", "class", "expression", "interactions"]


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
    of
        What it is a score of.
    needs_calls
        Whether it scores called classes, at an operating point; areas and counts of the truth
        do not.
    is_headline
        Whether summaries and cards show it.
    heading
        Column in the tables of the report; empty where only the table of scores has it.
    no_skill
        What guessing gets on every screen; NaN where it depends on the screen.
    """

    name: str
    greater_is_better: bool | None
    range: tuple[float, float]
    doc: str
    _: KW_ONLY
    of: Of = "pairs"
    needs_calls: bool = False
    is_headline: bool = False
    heading: str = ""
    no_skill: float = float("nan")


_of_calls = partial(Metric, needs_calls=True)
_of_class = partial(Metric, of="class")
_of_class_calls = partial(Metric, of="class", needs_calls=True)
_of_expression = partial(Metric, of="expression")
_of_interactions = partial(Metric, of="interactions")

_CLASSIFICATION: Final = (
    _of_calls(
        "accuracy",
        True,
        (0, 1),
        "share of pairs with the right class",
        is_headline=True,
        heading="Accuracy",
    ),
    _of_calls(
        "balanced_accuracy",
        True,
        (0, 1),
        "mean recall over the classes in the truth, if 2 up",
        is_headline=True,
        heading="Bal. acc.",
    ),
    _of_calls(
        "macro_f1",
        True,
        (0, 1),
        "mean F1 over the classes in the truth, if 2 up",
        is_headline=True,
        heading="Macro F1",
    ),
    _of_calls(
        "mcc",
        True,
        (-1, 1),
        "Matthews correlation coefficient; 0 is chance",
        is_headline=True,
        heading="MCC",
        no_skill=0.0,
    ),
    _of_calls("share_called", None, (0, 1), "share of pairs called differentially expressed"),
    Metric("share_de", None, (0, 1), "share of pairs that are differentially expressed"),
    Metric(
        "auprc_de",
        True,
        (0, 1),
        "average precision of change; chance is share_de",
        is_headline=True,
        heading="Change",
    ),
    Metric(
        "auprc_macro",
        True,
        (0, 1),
        "mean of auprc of up and down; chance is their mean share",
        is_headline=True,
        heading="Up, down",
    ),
    _of_class_calls(
        "precision",
        True,
        (0, 1),
        "share of the pairs predicted as the class that are of it",
        heading="Prec.",
    ),
    _of_class_calls(
        "recall",
        True,
        (0, 1),
        "share of the pairs of the class that are predicted as it",
        heading="Recall",
    ),
    _of_class_calls("f1", True, (0, 1), "harmonic mean of precision and recall", heading="F1"),
    _of_class("support", None, (0, INF), "pairs of the class in the truth"),
    _of_class(
        "auroc",
        True,
        (0, 1),
        "area under the ROC curve; 0.5 is chance",
        heading="AUROC",
        no_skill=0.5,
    ),
    _of_class(
        "auprc",
        True,
        (0, 1),
        "average precision; chance is the share of the class",
        heading="AUPRC",
    ),
    Metric("n_perturbations", None, (0, INF), "held-out perturbations that the pairs are of"),
    Metric("n_without_vector", False, (0, INF), "held-out perturbations without a vector"),
    Metric("share_without_vote", None, (0, 1), "share of pairs without a vote: gene's majority"),
    Metric(
        "auroc_de_per_gene",
        True,
        (0, 1),
        "AUROC of change within a gene, mean over genes",
        no_skill=0.5,
    ),
    Metric("auroc_direction_per_gene", True, (0, 1), "the same of up against down", no_skill=0.5),
    _of_class_calls(
        "n_predicted_down", None, (0, INF), "pairs of the class that were predicted as down"
    ),
    _of_class_calls("n_predicted_non_de", None, (0, INF), "pairs of the class predicted as non_de"),
    _of_class_calls(
        "n_predicted_up", None, (0, INF), "pairs of the class that were predicted as up"
    ),
    _of_class_calls("n_predicted_none", None, (0, INF), "pairs of the class without a prediction"),
)

_EXPRESSION: Final = (
    _of_expression(
        "l2",
        False,
        (0, INF),
        "Euclidean distance of prediction and truth; grows with genes",
        is_headline=True,
        heading="L2",
    ),
    _of_expression(
        "l2_denoised",
        False,
        (0, INF),
        "L2 without what the noise of the truth adds to it",
        heading="L2 - noise",
    ),
    _of_expression("rmse", False, (0, INF), "the same divided by the root of the number of genes"),
    _of_expression(
        "pearson_delta",
        True,
        (-1, 1),
        "correlation of predicted and true change from control",
        is_headline=True,
        heading="Pearson delta",
        no_skill=0.0,
    ),
    _of_expression(
        "pearson_delta_mean",
        True,
        (-1, 1),
        "the same from the mean training perturbation",
        heading="from the mean",
        no_skill=0.0,
    ),
    _of_expression(
        "direction",
        True,
        (0, 1),
        "share of the genes that are predicted to change as they do",
        heading="direction",
        no_skill=0.5,
    ),
    _of_expression("l2_changed", False, (0, INF), "L2 over the genes that change most"),
    _of_expression(
        "pearson_changed",
        True,
        (-1, 1),
        "pearson_delta over the genes that change most",
        no_skill=0.0,
    ),
    _of_expression(
        "overlap_changed",
        True,
        (0, 1),
        "share of the most changed genes found as such",
        heading="most changed",
    ),
    _of_expression(
        "rank_l1",
        True,
        (0, 1),
        "1 if no other truth is nearer (L1); 0.5 is chance",
        is_headline=True,
        heading="rank (L1)",
        no_skill=0.5,
    ),
    _of_expression(
        "rank_cosine",
        True,
        (0, 1),
        "the same by the cosine of changes; 0.5 is chance",
        heading="rank (cosine)",
        no_skill=0.5,
    ),
    _of_expression(
        "spread_ratio",
        None,
        (0, INF),
        "spread over perturbations against the truth's",
        heading="spread",
    ),
    _of_expression(
        "effective_rank",
        None,
        (0, INF),
        "directions in which predictions vary",
        heading="eff. rank",
    ),
    _of_expression("effective_rank_truth", None, (0, INF), "directions in which the truth varies"),
    _of_expression("n_without_prediction", False, (0, INF), "held-out perturbations not predicted"),
)
_INTERACTIONS: Final = (
    _of_interactions(
        "auprc_interactions", True, (0, 1), "average precision of interactions by |deviation|"
    ),
    _of_interactions(
        "auroc_interactions", True, (0, 1), "area under the ROC curve of interactions", no_skill=0.5
    ),
)

#: Every metric by its name.
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric for metric in (*_CLASSIFICATION, *_EXPRESSION, *_INTERACTIONS)
}


def headings(of: Of, *, needs_calls: bool | None = None) -> dict[str, str]:
    """Return the metrics that are columns of the report, with the titles of these.

    With `needs_calls`, only those that do, or that do not.
    """
    return {
        name: metric.heading
        for name, metric in METRICS.items()
        if metric.heading and metric.of == of and needs_calls in (None, metric.needs_calls)
    }


def headline_metrics(of: Of) -> tuple[str, ...]:
    """Return the metrics that summaries and cards show."""
    return tuple(n for n, metric in METRICS.items() if metric.is_headline and metric.of == of)
