"""The parts of the page on expression and interactions: tables and figures with their captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from pertscale.evaluation.operating_point import at_operating_point
from pertscale.report import expression_figures as figures
from pertscale.report import interaction_figures as of_interactions
from pertscale.report.figures import CLASS_TITLES, to_svg
from pertscale.report.tables import Table, plain_table
from pertscale.schema import CLASS_NAMES, GENE, PERTURBATION

if TYPE_CHECKING:
    from pertscale.benchmark.result import BenchmarkResult

#: Columns of the table of means, and what they are called there.
_MEANS = {
    "l2": "L2",
    "pearson_delta": "Pearson delta",
    "pearson_delta_mean": "from the mean",
    "direction": "direction",
    "overlap_changed": "most changed",
    "rank_l1": "rank (L1)",
    "rank_cosine": "rank (cosine)",
    "spread_ratio": "spread",
    "effective_rank": "eff. rank",
    "n_without_prediction": "not predicted",
}


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """One task in one context: tables, then figures."""

    title: str
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]


def expression_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context and task of expression that a model was scored on."""
    rows = result.expression_scores
    rows = rows[rows["metric"] == "l2"]
    pairs = dict.fromkeys(zip(rows["context"], rows["task"], strict=True))
    return [_expression(result, context, task) for context, task in pairs]


def _expression(result: BenchmarkResult, context: str, task: str) -> Section:
    split, strongest = _strongest(result, context, task)
    mine = result.expression_scores
    mine = mine[(mine["context"] == context) & (mine["task"] == task)]
    held_out = mine[mine["level"] == "perturbation"].groupby("split")["group"].nunique()
    drawn = {
        "error": figures.prediction_error(result, context=context, task=task),
        "genes": figures.error_against_genes(result, context=context, task=task),
    }
    if held_out.max() > 1:
        drawn["variation"] = figures.variation(result, context=context, task=task)
    drawn["change"] = figures.predicted_change(
        result, context=context, task=task, split=split, perturbation=strongest
    )
    if "mean" in set(mine["method"]) and mine["method"].nunique() > 1:
        drawn["ratio"] = figures.ratio_forest(result, context=context, task=task)
    captions = {**_EXPRESSION_CAPTIONS, "change": _CHANGE.format(strongest)}
    pictures = tuple(
        _picture(f"{context}-{task}-{kind}", figure, captions[kind])
        for kind, figure in drawn.items()
    )
    return Section(f"{context}: held-out {task}s", (_means(result, context, task),), pictures)


_EXPRESSION_CAPTIONS = {
    "error": "Error of every held-out perturbation over the most expressed genes; red: the mean, "
    "dashed: the best mean.",
    "genes": "Mean error over more and more genes, the most expressed first.",
    "variation": "How much each gene varies over the held-out perturbations, in truth and in the "
    "predictions; red: the truth's mean. Without spread a method predicts the same for all.",
    "ratio": "Mean over perturbations of the error divided by the mean baseline's, with the 95 % "
    "bootstrap interval; faded where it contains 1.",
}
_CHANGE = "Predicted and observed change of {}, which changes most; cut at 1."


def _strongest(result: BenchmarkResult, context: str, task: str) -> tuple[str, str]:
    """Return the first split of a task and the held-out perturbation that changes most in it."""
    units = result.manifest["expression"]
    split = next(u["split"] for u in units if (u["context"], u["task"]) == (context, task))
    truth = result.expression(context=context, task=task, split=split)["truth"]
    control = figures.control_profile(result, context)
    at = int(np.argmax(np.linalg.norm(truth.values - control, axis=1)))
    return split, str(truth[PERTURBATION].values[at])


def _means(result: BenchmarkResult, context: str, task: str) -> Table:
    """Return the mean scores of every method, over splits, the best L2 first."""
    rows = result.expression_scores
    rows = rows[
        (rows["context"] == context) & (rows["task"] == task) & (rows["level"] == "overall")
    ]
    wide = rows.pivot_table(index="method", columns="metric", values="value", dropna=False)
    wide = wide.reindex(columns=list(_MEANS)).sort_values("l2", kind="stable")
    n = rows.loc[rows["metric"] == "l2", "n"]
    frame = wide.rename(columns=_MEANS).reset_index().rename_axis(columns=None)
    caption = f"{int(n.min()):,} to {int(n.max()):,}" if n.min() < n.max() else f"{int(n.max()):,}"
    return plain_table(frame, caption=f"Means over {caption} held-out perturbations", digits=3)


def transfer_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context that methods of other contexts were scored on (Table 4)."""
    summary = at_operating_point(result.transfer_summary())
    return [
        Section(f"{context}, from other contexts", _transfer_tables(result, summary, context), ())
        for context in dict.fromkeys(summary["context"])
    ]


def _transfer_tables(
    result: BenchmarkResult, summary: pd.DataFrame, context: str
) -> tuple[Table, ...]:
    mine = summary[summary["context"] == context]
    tables = []
    for setting, rows in mine.groupby("setting", sort=False):
        if rows["macro_f1"].notna().any():
            means = rows[_shown(rows["train_contexts"])]
            means = means.drop(columns=_NOT_IN_TABLE_4)
            means = means.groupby(["train_contexts", "method"], sort=False).mean().reset_index()
            table = plain_table(means, caption=f"{setting} (Table 4)", digits=3)
            tables.append(replace(table, columns=_TRANSFER_COLUMNS, groups=_TRANSFER_GROUPS))
    scores = result.scores
    errors = scores[
        (scores["task"] == "transfer")
        & (scores["context"] == context)
        & (scores["setting"] == "top_expressed")
        & (scores["level"] == "overall")
    ]
    if len(errors):
        wide = errors.pivot_table(
            index=["train_contexts", "method"], columns="metric", values="value", sort=False
        )
        wide = wide.reindex(columns=["l2", "pearson_delta", "rank_l1", "spread_ratio"])
        wide = wide[_shown(wide.index.get_level_values("train_contexts").to_series()).to_numpy()]
        caption = f"Expression of {context}, effects of other contexts on its own control"
        tables.append(plain_table(wide.reset_index(), caption=caption, digits=3))
    return tuple(tables)


_NOT_IN_TABLE_4 = [
    "context", "setting", "split", "operating_point", "mcc", "auprc_de", "auprc_macro",
]  # fmt: skip
_TRANSFER_COLUMNS = (
    "Trained on", "Method", "Accuracy", "Balanced acc.", "Macro F1",
    *(("Prec.", "Recall", "F1") * len(CLASS_NAMES)),
)  # fmt: skip
_TRANSFER_GROUPS = (("", 5), *((CLASS_TITLES[name], 3) for name in CLASS_NAMES))


def _shown(trained: pd.Series) -> pd.Series:
    """Mark the averages over single sources, the pooled ones and files; all if there is one."""
    several = trained.str.contains("[|,]", regex=True)
    return several | (trained == "file") if several.any() else several | True


def interaction_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context in which interactions were called."""
    return [_interactions(result, context) for context in result.manifest["interactions"]]


def _interactions(result: BenchmarkResult, context: str) -> Section:
    table = result.interactions
    table = table[table["context"] == context]
    drawn = {"null": of_interactions.null_of_deviations(result, context=context)}
    if _has_calls(result, context):
        drawn |= {
            "curves": of_interactions.call_curves(result, context=context),
            "areas": of_interactions.precision_recall_and_roc(result, context=context),
            "deviations": of_interactions.deviations(result, context=context),
            "genes": of_interactions.recurrence(result, context=context, of="gene"),
            "doubles": of_interactions.recurrence(result, context=context, of="perturbation"),
        }
        genes = list(table.loc[table["interaction"], GENE].value_counts().index[:2])
        drawn["chosen"] = of_interactions.chosen_genes(result, context=context, genes=genes)
    notes = "".join(f" Note: {n}." for n in result.manifest["interactions"][context]["notes"])
    captions = {**_INTERACTION_CAPTIONS, "null": _INTERACTION_CAPTIONS["null"] + notes}
    pictures = tuple(
        _picture(f"{context}-{kind}", figure, captions[kind]) for kind, figure in drawn.items()
    )
    counts = table["interaction_class"].value_counts()
    frame = pd.DataFrame(
        {"class": counts.index, "pairs": counts.to_numpy(), "percent": 100 * counts / len(table)}
    )
    caption = f"{table[PERTURBATION].nunique():,} doubles, {len(table):,} pairs"
    shown = plain_table(frame, caption=caption)
    return Section(f"{context}: genetic interactions", (shown,), pictures)


_INTERACTION_CAPTIONS = {
    "null": "Deviations from additivity: against normal quantiles, and their histogram with the "
    "null that was fitted and the thresholds.",
    "curves": "Interactions that a method finds by the size of its deviation, against the share "
    "of false ones among its calls. The additive model makes no calls.",
    "areas": "Precision and recall, and ROC, a line per split.",
    "deviations": "Predicted against observed deviation, the strongest 500 in colour; below, what "
    "these were observed to be, by what the method claims.",
    "genes": "How often the same genes are among the strongest 100 calls.",
    "doubles": "How often the same doubles are among the strongest 100 calls.",
    "chosen": "The genes with most interactions: observed (coloured by class) and predicted "
    "(black); grey: where a value is no interaction; line: control.",
}


def _has_calls(result: BenchmarkResult, context: str) -> bool:
    """Whether a model was scored on held-out interactions."""
    scores = result.scores
    mine = scores[(scores["context"] == context) & (scores["task"] == "interactions")]
    return bool(mine["value"].notna().any())


def overview_pictures(result: BenchmarkResult) -> list[Picture]:
    """Return the data set's overview, a picture per context, and how two contexts agree."""
    contexts = result.labels.contexts
    pictures = [
        _picture(f"overview-{c}", figures.screen_overview(result, context=c), _OVERVIEW)
        for c in contexts
    ]
    profiles = result.pseudobulk["mean_log1p"]
    for other in contexts[1:2]:
        one, two = (
            profiles.isel({PERTURBATION: profiles["context"].values == c})
            for c in (contexts[0], other)
        )
        if len(set(one[PERTURBATION].values) & set(two[PERTURBATION].values)) > 1:
            figure = figures.transfer_scatter(one, two, names=(contexts[0], other))
            pictures.append(_picture("transfer", figure, _TRANSFER))
    return pictures


_OVERVIEW = "Principal components of the profiles; expression of each target, before and after."
_TRANSFER = "Two contexts: expression in their controls, and how shared perturbations agree."


def resource_picture(result: BenchmarkResult) -> Picture | None:
    """Return the times of the models of expression, where this run fitted any."""
    if not (result.timings["stage"] == "model").any():
        return None
    caption = "Seconds of each model of expression, on each split."
    return _picture("resources", figures.resources(result), caption)


def _picture(name: str, figure: Figure, caption: str) -> Picture:
    return Picture(Markup(to_svg(figure, name=name)), caption)  # matplotlib escapes the text
