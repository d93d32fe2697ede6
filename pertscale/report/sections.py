"""The parts of the page on expression and interactions: tables and figures with their captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from pertscale.evaluation.metrics import METRICS, headings
from pertscale.report.calibration import calibration_table
from pertscale.report.figures import expression as figures
from pertscale.report.figures import interactions as of_interactions
from pertscale.report.figures import screens
from pertscale.report.figures.expression_data import ComparedTask
from pertscale.report.figures.style import CLASS_TITLES, to_svg
from pertscale.report.findings import compared_numbers, counted
from pertscale.report.tables import (
    CALLS,
    NOT_TOLD,
    POINTS,
    Table,
    cannot_tell,
    cells_of,
    marked,
    number,
    plain_table,
    ranked,
)
from pertscale.results.comparisons import in_fewer_splits, told, without_repeats
from pertscale.results.summaries import EXPRESSION_HEADLINE
from pertscale.schema import (
    CLASS_NAMES,
    COMMON,
    DOUBLE,
    FILLED,
    GENE,
    INTERACTIONS,
    PARTIAL,
    PERTURBATION,
    SINGLE,
    TOP_EXPRESSED,
    TRANSFER,
)

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

#: Columns of the table of means, and what they are called there.
_MEANS = headings("expression")
#: Metrics that it is in the order of: the first that can tell.
_ORDERED_BY = ("l2", "pearson_delta", "rank_l1", "rank_cosine")
#: Row that says what a screen without effects would score.
_NO_EFFECT = "without any effect"


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """One task in one context.

    Attributes
    ----------
    title, text : str
    side, tables : tuple of Table
        Beside each other, and below.
    pictures : tuple of Picture
    folded, folded_title : tuple of Table, str
        What is shown when the title is clicked.
    """

    title: str
    _: KW_ONLY
    text: str = ""
    side: tuple[Table, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: tuple[Table, ...] = ()
    folded_title: str = ""


def expression_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context and task of expression that a model was scored on."""
    rows = result.means
    rows = rows[rows["task"].isin([SINGLE, DOUBLE]) & (rows["setting"] == TOP_EXPRESSED)]
    pairs = dict.fromkeys(zip(rows["context"], rows["task"], strict=True))
    return [_expression(result, context, task) for context, task in pairs]


def _expression(result: BenchmarkResult, context: str, task: str) -> Section:
    of = ComparedTask(result, context, task)
    strongest = of.strongest()
    drawn = {"error": figures.draw_errors(of)}
    drawn["genes"], variation = figures.errors_and_variation(of)
    if variation is not None:
        drawn["variation"] = variation
    drawn["change"] = figures.draw_change(
        of, of.first.predictions, split=of.first_split, perturbation=strongest
    )
    if "mean" in set(of.rows["method"]) and of.rows["method"].nunique() > 1:
        drawn["ratio"] = figures.draw_ratios(of)
    captions = {**_EXPRESSION_CAPTIONS, "change": _CHANGE.format(strongest)}
    pictures = tuple(
        _picture(f"{context}-{task}-{kind}", figure, f"{captions[kind]} ({of.told})")
        for kind, figure in drawn.items()
    )
    tables = _means(result, context, task)
    tables += calibration_table(
        result.calibration, task=task, context=context, setting=TOP_EXPRESSED
    )
    return Section(f"{context}: {task}s, {of.told}", tables=tables, pictures=pictures)


_EXPRESSION_CAPTIONS = {
    "error": "Error of every perturbation that is compared, over the most expressed genes; red: "
    "the mean, dashed: the smallest mean.",
    "genes": "Mean error over more and more genes, the most expressed first.",
    "variation": "How much each gene varies over the perturbations, in truth and in the "
    "predictions; red: the truth's mean. Without spread a method predicts the same for all.",
    "ratio": "Mean over perturbations of the error divided by the mean baseline's, with its 95 % "
    "interval, which few perturbations do not have; faded where it contains 1.",
}
_CHANGE = "Predicted and observed change of {}, which changes most; cut at 1."


def _means(result: BenchmarkResult, context: str, task: str) -> tuple[Table, ...]:
    """Return the means over splits: of compared perturbations, and of methods that stand apart."""
    rows = result.means
    rows = rows[(rows["context"] == context) & (rows["task"] == task)]
    overall = rows[rows["level"] == "overall"]
    means = result.averages
    means = means[(means["context"] == context) & (means["task"] == task)]
    tables = []
    for setting, title in _EXPRESSION_TABLES.items():
        mine, averages = (t[t["setting"] == setting] for t in (overall, means))
        if not len(mine):
            continue
        if setting == PARTIAL:
            tables += [
                _table_of_means(mine[mine["method"] == method], averages, title.format(method))
                for method in dict.fromkeys(mine["method"])
            ]
        else:
            tables.append(
                _table_of_means(mine, averages, title, no_effect=setting == TOP_EXPRESSED)
            )
    return tuple(tables)


_EXPRESSION_TABLES = {
    TOP_EXPRESSED: "Means over the same perturbations",
    PARTIAL: "{} predicts fewer, and stands apart",
    FILLED: "All methods, with no change where one predicts none",
    COMMON: "All methods on what files and models of yours predict, too",
}


def _table_of_means(
    overall: pd.DataFrame, averages: pd.DataFrame, title: str, *, no_effect: bool = False
) -> Table:
    """Return mean scores with their intervals, the best first by the first metric that can tell."""
    rows: list[tuple[str, ...]] = []
    cells, silent = cells_of(averages), cannot_tell(averages)
    apart = in_fewer_splits(overall)
    first = next((m for m in _ORDERED_BY if m not in silent), _ORDERED_BY[0])
    order = ranked(overall, first, ascending=not METRICS[first].greater_is_better)
    for method in sorted(order, key=lambda name: name in apart):
        name = f"{method}, {apart[method]}" if method in apart else method
        rows.append((name, *(cells[method, metric] for metric in _MEANS)))
    expected = overall.groupby("metric")["no_effect"].mean()
    if no_effect and expected.notna().any():
        numbers = (number(float(expected.get(metric, np.nan))) for metric in _MEANS)
        rows.append((_NO_EFFECT, *numbers))
    numeric = (False, *([True] * len(_MEANS)))
    caption = f"{title} ({told(*compared_numbers(overall))}){NOT_TOLD if silent else ''}"
    return Table(caption, ("method", *marked(_MEANS, silent)), tuple(rows), numeric)


def transfer_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context that methods of other contexts were scored on (Table 4)."""
    scores = without_repeats(result.means[result.means["task"] == TRANSFER])
    if not len(scores):
        return []
    return [
        Section(
            f"{context}, from other contexts",
            tables=tuple(_transfer_tables(result, scores[scores["context"] == context], context)),
        )
        for context in dict.fromkeys(scores["context"])
    ]


def _transfer_tables(
    result: BenchmarkResult, scores: pd.DataFrame, context: str
) -> Iterator[Table]:
    held_out = {
        (context, name): len(split.held_out)
        for name, split in result.splits.get(context, {}).items()
    }
    means = result.averages
    means = means[(means["task"] == TRANSFER) & (means["context"] == context)]
    means = means[_shown(means["train_contexts"])]
    for setting in dict.fromkeys(scores.loc[scores["metric"] == "n_perturbations", "setting"]):
        numbers = told(*counted(scores[scores["setting"] == setting], context, held_out))
        for point, title in POINTS.items():
            mine = means[(means["setting"] == setting) & (means["operating_point"] == point)]
            if len(mine):
                caption = f"{setting}, {title.lower()} ({numbers}; Table 4)"
                yield _by_source(mine, _TABLE_4, caption, _TRANSFER_TITLES, _TRANSFER_GROUPS)
    errors = scores[scores["setting"] == TOP_EXPRESSED]
    if len(errors):
        caption = (
            f"Expression of {context}, effects of other contexts on its own control "
            f"({told(*compared_numbers(errors))})"
        )
        titles = tuple(METRICS[metric].heading for metric in EXPRESSION_HEADLINE)
        wanted = [("", metric) for metric in EXPRESSION_HEADLINE]
        yield _by_source(means[means["setting"] == TOP_EXPRESSED], wanted, caption, titles)


def _by_source(
    averages: pd.DataFrame,
    wanted: Sequence[tuple[str, str]],
    caption: str,
    titles: Sequence[str],
    groups: tuple[tuple[str, int], ...] = (),
) -> Table:
    """Return scores of methods, by what they were trained on; `wanted` are groups and metrics."""
    rows = []
    for source in dict.fromkeys(averages["train_contexts"]):
        mine = averages[averages["train_contexts"] == source]
        cells = {g: cells_of(mine[mine["group"] == g]) for g in dict.fromkeys(g for g, _ in wanted)}
        rows += [
            (source, method, *(cells[group][method, metric] for group, metric in wanted))
            for method in dict.fromkeys(mine["method"])
        ]
    numeric = (False, False, *([True] * len(wanted)))
    return Table(caption, ("Trained on", "Method", *titles), tuple(rows), numeric, groups)


_TABLE_4 = [
    *(("", metric) for metric in ("accuracy", "balanced_accuracy", "macro_f1")),
    *((name, metric) for name in CLASS_NAMES for metric in CALLS),
]
_TRANSFER_TITLES = (
    "Accuracy",
    "Balanced acc.",
    "Macro F1",
    *(title for _ in CLASS_NAMES for title in CALLS.values()),
)
_TRANSFER_GROUPS = (("", 5), *((CLASS_TITLES[name], len(CALLS)) for name in CLASS_NAMES))


def _shown(trained: pd.Series) -> pd.Series:
    """Mark the averages over single sources, the pooled ones and files; all if there is one."""
    several = trained.str.contains("[|,]", regex=True)
    return several | (trained == "file") if several.any() else several | True


def interaction_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section per context in which interactions were called."""
    return [_interactions(result, context) for context in result.manifest["interactions"]]


def _interactions(result: BenchmarkResult, context: str) -> Section:
    pairs = of_interactions.JudgedPairs(result, context)
    table = pairs.table
    drawn = {"null": of_interactions.draw_null(pairs)}
    if _has_calls(result, context):
        drawn |= {
            "curves": of_interactions.draw_call_curves(pairs),
            "areas": of_interactions.draw_areas(pairs),
            "deviations": of_interactions.draw_deviations(pairs),
            "genes": of_interactions.draw_recurrence(pairs, of="gene"),
            "doubles": of_interactions.draw_recurrence(pairs, of="perturbation"),
        }
        genes = list(table.loc[table["interaction"], GENE].value_counts().index[:2])
        drawn["chosen"] = of_interactions.draw_genes(pairs, genes=genes)
    notes = "".join(f" Note: {n}." for n in pairs.record["notes"])
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
    tables = (shown, *_areas_of_calls(result, context))
    return Section(f"{context}: genetic interactions", tables=tables, pictures=pictures)


def _areas_of_calls(result: BenchmarkResult, context: str) -> Iterator[Table]:
    """Yield the areas of each method that deviates from additivity, where one was scored."""
    rows = result.averages
    rows = rows[(rows["context"] == context) & (rows["task"] == INTERACTIONS)]
    if len(rows):
        cells = cells_of(rows)
        titles = {"auprc_interactions": "AUPRC", "auroc_interactions": "AUROC"}
        listed = tuple(
            (method, *(cells[method, metric] for metric in titles))
            for method in dict.fromkeys(rows["method"])
        )
        caption = "How well deviations from additivity find interactions of held-out doubles"
        yield Table(caption, ("Method", *titles.values()), listed, (False, True, True))


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
    scores = result.means
    mine = scores[(scores["context"] == context) & (scores["task"] == INTERACTIONS)]
    return bool(mine["value"].notna().any())


def overview_pictures(result: BenchmarkResult) -> list[Picture]:
    """Return the data set's overview, a picture per context, and how two contexts agree."""
    contexts = result.labels.contexts
    pictures = [
        _picture(f"overview-{c}", screens.screen_overview(result, context=c), _OVERVIEW)
        for c in contexts
    ]
    profiles = result.pseudobulk["mean_log1p"]
    for other in contexts[1:2]:
        one, two = (
            profiles.isel({PERTURBATION: profiles["context"].values == c})
            for c in (contexts[0], other)
        )
        if len(set(one[PERTURBATION].values) & set(two[PERTURBATION].values)) > 1:
            figure = screens.transfer_scatter(one, two, names=(contexts[0], other))
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
