"""Every dimension, variable, table column and file name of pertscale, declared once.

The other modules take names and dtypes from here; the documentation of the columns is the
``doc`` of these records. Changing a record that is written to disk means raising
:data:`pertscale.versions.SCHEMA_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, get_args

Setting = Literal["full", "full_without_target", "curated", "confident"]
SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)
WITHIN: Final = "within"
INTERACTIONS: Final = "interactions"
TRANSFER: Final = "transfer"
#: Classes within a context; expression of held-out singles and doubles; genetic interactions;
#: from some contexts to another.
Task = Literal["within", "single", "double", "interactions", "transfer"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
#: What the tasks and the settings of classes are, in words; the settings as the report has them.
TASK_DOCS: Final[dict[Task, str]] = {
    "within": "classes of held-out perturbations: is a gene up, down or unchanged",
    "single": "expression of held-out single perturbations",
    "double": "expression of held-out double perturbations",
    "interactions": "genes of a double that are not the sum of its singles",
    "transfer": "a context, from what was trained on others",
}
#: Kinds of scores. Those of one kind share a headline table and a chapter of the report.
ScoreKind = Literal["classes", "transfer", "expression", "interactions"]
SCORE_KINDS: Final[dict[Task, ScoreKind]] = {
    "within": "classes",
    "single": "expression",
    "double": "expression",
    "interactions": "interactions",
    "transfer": "transfer",
}
SETTING_DOCS: Final[dict[Setting, str]] = {
    "curated": "Curated: pairs sampled as PerturbQA does",
    "full": "Full: all pairs",
    "full_without_target": "Full, target genes left out",
    "confident": "Confident: pairs without targets whose labels are likely right",
}
#: Scratch below the output folder that later calls reuse.
WORK_DIR = ".work"

#: The setting of all pairs but those of a perturbation and its targets.
WITHOUT_TARGET = "full_without_target"
#: The setting of those of them whose labels are likely right; it needs halves of the cells.
CONFIDENT: Final = "confident"


#: Tasks of expression.
SINGLE: Final = "single"
DOUBLE: Final = "double"
#: Settings of their scores, over the genes that the control expresses most: all methods on one set
#: of perturbations; those that predict fewer, on these; all, with no change for what they lack; and
#: on what outsiders predict, too.
TOP_EXPRESSED: Final = "top_expressed"
PARTIAL: Final = "top_expressed_partial"
FILLED: Final = "top_expressed_filled"
COMMON: Final = "top_expressed_common"


# --- label classes ------------------------------------------------------------------------


class Label(IntEnum):
    """Class of a (perturbation, gene) pair. ``UNTESTED`` stands for null in int8 matrices."""

    DOWN = -1
    NON_DE = 0
    UP = 1
    UNTESTED = -128


#: The three classes in the order of every class axis: scores, confusion matrices, tables.
CLASSES: Final = (int(Label.DOWN), int(Label.NON_DE), int(Label.UP))
#: Their names, in the same order.
CLASS_NAMES: Final = ("down", "non_de", "up")


# --- dimensions ---------------------------------------------------------------------------

CELL: Final = "cell"
GENE: Final = "gene"
PERTURBATION: Final = "perturbation"
CONTEXT: Final = "context"
CLASS: Final = "class"
#: Of predictions; not ``method``, which ``DataArray.sel`` takes for its own argument.
MODEL: Final = "model"
#: Way in which the cells are halved, and the half.
REPLICATE: Final = "replicate"
HALF: Final = "half"
#: Ways to halve the cells of a benchmark's profiles by default. Labels are made of the first.
REPLICATES: Final = 5

#: Canonical name of the controls of every context.
CONTROL: Final = "control"
#: Joins the sorted genes of a combination, as in ``A+B``.
COMBINATION_SEPARATOR: Final = "+"


# --- operating points -----------------------------------------------------------------------

#: Classes as a method calls them: the likeliest, or those beyond its own threshold.
AS_CALLED: Final = "as_called"
#: As large a share called differentially expressed as is in the training pairs.
AT_TRAINING_RATE: Final = "at_training_rate"
OPERATING_POINTS: Final = (AS_CALLED, AT_TRAINING_RATE)


# --- expression scales --------------------------------------------------------------------

COUNTS: Final = "counts"
LOG1P_1E4: Final = "log1p_1e4"
Scale = Literal["counts", "log1p_1e4"]
SCALES: Final[tuple[Scale, ...]] = get_args(Scale)
#: Counts are scaled to this total per cell before log1p (method A1).
TARGET_TOTAL: Final = 1e4
#: log1p of counts per 10,000 lies below this (method A2).
MOST_LOG1P: Final = 15.0
#: Added to both means before their ratio is taken, as scanpy and pdex do (method B3).
PSEUDOCOUNT: Final = 1e-9


@dataclass(frozen=True)
class Column:
    """A column of a table, or a variable of a dataset."""

    name: str
    dtype: str
    doc: str
    unit: str = ""


# --- the screen store ---------------------------------------------------------------------

MATRIX: Final = "X"
METADATA: Final = "uns/pertscale"

CELL_COLUMNS: Final = (
    Column(
        "perturbation", "category", "canonical perturbation of the cell; 'control' for controls"
    ),
    Column("context", "category", "cell line, cell type or donor the cell belongs to"),
    Column("batch", "category", "library, lane or replicate, where known"),
    Column("guide", "category", "guide or guides found in the cell, where known"),
    Column("total_counts", "float64", "total that counts are divided by (method A1)", "counts"),
    Column("source_file", "category", "file the cell came from"),
    Column("source_row", "int64", "row of the cell in that file"),
)

GROUP_COLUMNS: Final = (
    Column("context", "str", "context of the group"),
    Column("perturbation", "str", "canonical perturbation of the group"),
    Column("is_control", "bool", "whether the group holds the context's controls"),
    Column("start", "int64", "first row of the group in the matrix"),
    Column("stop", "int64", "one past its last row"),
)


# --- the label table ----------------------------------------------------------------------

LABEL_COLUMNS: Final = (
    Column("perturbation", "int32", "code of the perturbation in perturbations.parquet"),
    Column("gene", "int32", "code of the read-out gene in genes.parquet"),
    Column("n_cells", "int32", "perturbed cells tested", "cells"),
    Column("n_control", "int32", "control cells tested against", "cells"),
    Column("mean", "float32", "mean of log1p expression over perturbed cells", "ln(1 + 1e4 c/S)"),
    Column("mean_control", "float32", "the same over control cells", "ln(1 + 1e4 c/S)"),
    Column("log2_fold_change", "float32", "log2 ratio of perturbed to control (method B3)", "log2"),
    Column("u_statistic", "float64", "Mann-Whitney U of the perturbed cells"),
    Column("z", "float32", "signed test statistic; positive: perturbed cells rank higher"),
    Column("p_value", "float64", "two-sided p-value of the rank-sum test"),
    Column("fdr", "float64", "Benjamini-Hochberg over the genes of the perturbation (method B2)"),
    Column("fdr_screen", "float64", "Benjamini-Hochberg over all pairs of the context"),
    Column("label", "int8", "-1 down, 0 not differentially expressed, +1 up"),
    Column("is_target", "bool", "whether the perturbation targets the gene (method B4)"),
)

#: Verdicts on a target: what its perturbation does to it, or why that is not known.
KNOCKED_DOWN: Final = "knocked_down"
ACTIVATED: Final = "activated"
NOT_KNOCKED_DOWN: Final = "not"
NOT_MEASURED: Final = "not_measured"
FEW_CELLS: Final = "few_cells"
VERDICTS: Final = (KNOCKED_DOWN, ACTIVATED, NOT_KNOCKED_DOWN, NOT_MEASURED, FEW_CELLS)

TARGET_COLUMNS: Final = (
    Column("context", "str", "context of the perturbation"),
    Column("perturbation", "str", "the perturbation"),
    Column("target", "str", "a gene that it targets"),
    Column("log2_fold_change", "float32", "as in the label table (method B3)", "log2"),
    Column("p_value", "float64", "two-sided p-value of the rank-sum test"),
    Column("fdr", "float64", "Benjamini-Hochberg over the genes of the perturbation (method B2)"),
    Column(
        "residual",
        "float64",
        "ratio of perturbed to control mean of normalised counts; 1 is unchanged (method P5)",
    ),
    Column("low", "float64", "lower bound of its 95 % interval"),
    Column("high", "float64", "upper bound"),
    Column("n_cells", "int64", "perturbed cells", "cells"),
    Column("n_control", "int64", "control cells", "cells"),
    Column(
        "verdict",
        "str",
        "'knocked_down' or 'activated' (the pair is differentially expressed, down or up), 'not', "
        "'not_measured' (no read-out gene, or no control expresses it), 'few_cells' (not tested)",
    ),
)

PSEUDOBULK_VARIABLES: Final = (
    Column("mean_log1p", "float64", "mean of log1p expression (method A3)", "ln(1 + 1e4 c/S)"),
    Column("mean", "float64", "mean of normalised counts", "counts per 1e4"),
    Column("fraction_expressed", "float32", "share of cells with a non-zero value"),
    Column("n_cells", "int64", "cells of the perturbation", "cells"),
)

HALVES_VARIABLES: Final = (
    Column(
        "mean_log1p_first",
        "float32",
        "mean of log1p expression over the first half of the cells (method O1)",
        "ln(1 + 1e4 c/S)",
    ),
    Column("variance_log1p", "float32", "variance of log1p expression over all cells"),
    Column("z", "float32", "signed test statistic of half of the cells, first replicate"),
    Column("label", "int8", "-1 down, 0 not differentially expressed, +1 up; -128: no halves"),
    Column("n_cells", "int64", "cells of each half", "cells"),
)

#: Dimension of the tests of controls against the other controls, and what is tested: random cells,
#: or those of a guide.
TEST: Final = "test"
NULL_CELLS: Final = "cells"
NULL_GUIDE: Final = "guide"
NULL_CALIBRATION_COLUMNS: Final = (
    Column("context", "str", "context of the controls"),
    Column("kind", "str", "'cells': drawn at random; 'guide': those of a non-targeting guide"),
    Column("n_cells", "float64", "controls that are tested, the median over the tests", "cells"),
    Column("n_control", "int64", "controls of the context; tested are some against the others"),
    Column("n_tests", "int64", "groups of controls that were tested"),
    Column("n_pairs", "int64", "groups times genes that a control expresses; shares are of these"),
    Column("share_p_0_05", "float64", "share of the pairs with p < 0.05; nominal: 0.05"),
    Column("share_p_0_01", "float64", "the same with p < 0.01"),
    Column("share_p_1e_4", "float64", "the same with p < 0.0001"),
    Column("share_called", "float64", "share called differentially expressed at the run's fdr"),
    Column("inflation", "float64", "median of z² over that of a normal statistic (method P1)"),
    Column("centre", "float64", "mean of z, values beyond 6 counted as 6"),
    Column("scale", "float64", "their standard deviation; 1 where p is right"),
    Column("reason", "str", "why nothing was tested; else empty"),
)


# --- results ------------------------------------------------------------------------------

#: Scores as units keep them.
UNIT_SCORE_COLUMNS: Final = (
    Column(
        "task",
        "str",
        "'within' (classes), 'single', 'double' (expression), 'interactions', 'transfer' (both)",
    ),
    Column(
        "setting",
        "str",
        "classes: 'full', 'full_without_target', 'curated', 'confident' (of 'full_without_target' "
        "the pairs with a confidence of 0.8 and more), in transfer also '..._overlap' (genes "
        "that the method was trained on); expression: 'top_expressed' (all on the same "
        "perturbations), '..._partial' (methods that predict fewer, on those that they predict), "
        "'..._filled' (all; what a method does not predict counts as no change), '..._common' "
        "(what files and models of users predict, too)",
    ),
    Column("context", "str", "context the scores are for"),
    Column(
        "train_contexts",
        "str",
        "contexts the method was fitted on, joined by ',' if together, by '|' if their scores were "
        "averaged; in transfer 'file' for predictions from files",
    ),
    Column("split", "str", "name of the split"),
    Column("seed", "int64", "seed of the split"),
    Column("method", "str", "name of the method"),
    Column("params", "str", "parameters of the fitted method, as JSON"),
    Column(
        "operating_point",
        "str",
        "which classes were scored: 'as_called' by the method, or 'at_training_rate': as large a "
        "share called differentially expressed as in training, the pairs with the highest score; "
        "empty where a metric needs no calls (areas, shares of the truth, expression)",
    ),
    Column("level", "str", "'overall', 'class' or 'perturbation'"),
    Column("group", "str", "the class or the perturbation; empty at level 'overall'"),
    Column("metric", "str", "name of the metric (pertscale.evaluation.METRICS)"),
    Column("value", "float64", "its value; NaN where it is not defined"),
    Column(
        "n", "int64", "pairs it was computed on; genes, or perturbations of a mean, for expression"
    ),
    Column(
        "no_effect",
        "float64",
        "what the mean of the training perturbations would score if no perturbation had an effect, "
        "as truth and prediction are measured from the same control; NaN where there is no formula",
    ),
)

#: Of intervals, here and in the tables that are made of resamples.
_INTERVAL: Final = (
    Column("low", "float64", "lower bound of the 95 % interval (BCa); NaN where there is none"),
    Column("high", "float64", "upper bound"),
    Column("se", "float64", "standard deviation of the resamples"),
    Column(
        "n_clusters",
        "int64",
        "target groups that are drawn; below 10 an interval is rough, below 5 there is none",
    ),
)
SCORE_COLUMNS: Final = (*UNIT_SCORE_COLUMNS, *_INTERVAL)
#: Names of the columns of an interval.
INTERVAL: Final = [column.name for column in _INTERVAL]

_OF_TABLE: Final = UNIT_SCORE_COLUMNS[:4]  # task, setting, context, train_contexts
_SCORED: Final = (
    Column("method", "str", "name of the method"),
    Column("operating_point", "str", "as in scores"),
    Column("level", "str", "'overall' or 'class'"),
    Column("group", "str", "the class; empty at level 'overall'"),
    Column("metric", "str", "name of the metric (pertscale.evaluation.METRICS)"),
)
ESTIMATE_COLUMNS: Final = (
    *_OF_TABLE,
    *_SCORED,
    Column("value", "float64", "mean over the splits"),
    *_INTERVAL,
    Column("n_splits", "int64", "splits that it is the mean of"),
    Column("sd_splits", "float64", "standard deviation over the splits; NaN for one"),
    Column("t_low", "float64", "corrected resampled t interval, lower bound; from 3 splits on"),
    Column("t_high", "float64", "upper bound"),
    Column(
        "scaled",
        "float64",
        "0 at the best floor, 1 at the replicate (method O5); NaN where the metric can't tell "
        "these apart, or nobody measured a replicate",
    ),
)
COMPARISON_COLUMNS: Final = (
    *_OF_TABLE,
    Column("operating_point", "str", "as in scores"),
    Column("metric", "str", "name of the metric"),
    Column("method", "str", "name of the method"),
    Column("reference", "str", "method that it is compared with"),
    Column(
        "kind",
        "str",
        "'declared': the table's own reference; 'best_baseline': the best of pertscale's baselines",
    ),
    Column("difference", "float64", "positive where the method is better than the reference"),
    *_INTERVAL,
    Column("p_value", "float64", "two-sided, from the resamples"),
    Column("p_holm", "float64", "adjusted over the methods of the table (Holm)"),
    Column("share_better", "float64", "share of the clusters on which it is better, ties half"),
)
RANK_COLUMNS: Final = (
    *_OF_TABLE,
    Column("operating_point", "str", "as in scores"),
    Column("metric", "str", "name of the metric"),
    Column("method", "str", "name of the method; those that mark the scale are left out"),
    Column("rank", "float64", "among the methods, 1 is best; equal ones share a rank"),
    Column("low", "float64", "2.5 % quantile of the rank over the resamples"),
    Column("high", "float64", "97.5 % quantile"),
    Column("p_best", "float64", "share of the resamples in which it is the best"),
    Column(
        "in_best_set",
        "bool",
        "whether it is not worse than the best, at an adjusted 5 %; where a split has fewer than "
        "5 clusters, all are",
    ),
    Column("n_clusters", "int64", "target groups that are drawn; below 5 nothing is told apart"),
)

#: Verdicts on an attack in a metric.
NO_GAIN: Final = "ok"
GAINS: Final = "gains"
CANNOT_TELL: Final = "cannot tell"
ATTACK_COLUMNS: Final = (
    Column("context", "str", "context that was attacked"),
    Column("targets", "str", "'exclude' or 'include': the genes that a perturbation targets"),
    Column(
        "ceiling_is",
        "str",
        "'replicate': scored on halves of the cells, of which one says what can be known of the "
        "other; 'truth': on all cells",
    ),
    Column("attack", "str", "name of the attack (pertscale.evaluation.ATTACKS)"),
    Column("metric", "str", "name of the metric (pertscale.evaluation.METRICS)"),
    Column("operating_point", "str", "as in scores"),
    Column(
        "is_headline",
        "bool",
        "whether summaries show the metric and no attack is known to gain in it",
    ),
    Column("value", "float64", "what the attack scores, mean over the splits; NaN if undefined"),
    Column("floor", "float64", "score of the best honest guess"),
    Column("best_floor", "str", "name of that guess"),
    Column("ceiling", "float64", "score of a replicate, or without one of the truth itself"),
    Column("span", "float64", "from floor to ceiling, positive where the ceiling is better"),
    Column(
        "gain",
        "float64",
        "(value - floor) / (ceiling - floor); positive: better than the floor; NaN where the "
        "ceiling is no better than it (a replicate: by its interval)",
    ),
    Column("low", "float64", "lower bound of its 95 % interval over perturbations"),
    Column("high", "float64", "upper bound"),
    Column(
        "verdict",
        "str",
        "'ok': no gain above 0.02; 'gains': one beyond chance; 'cannot tell': one that may be "
        "chance, or the ceiling is no better than the floor",
    ),
    Column("note", "str", "why a gain is known, or why there is none; else empty"),
    Column("n_splits", "int64", "splits that the values are means of"),
)
CALIBRATION_COLUMNS: Final = (
    *_OF_TABLE,
    *_SCORED[1:],
    Column("positive", "str", "'replicate' or 'interpolated_duplicate'"),
    Column("negative", "str", "method that knows nothing of the perturbation"),
    Column("positive_value", "float64", "score of the first; mean over the splits"),
    Column("negative_value", "float64", "score of the second"),
    Column(
        "full_depth",
        "float64",
        "of correlations: what all cells would give where half of them give that (Spearman-Brown)",
    ),
    Column("difference", "float64", "positive where the first is better"),
    *_INTERVAL,
    Column("is_scale", "bool", "replicate and best floor: the ends of the scale of scaled scores"),
    Column(
        "can_tell",
        "str",
        "'yes' where the first is better by the interval, else 'no'; empty without",
    ),
    Column(
        "drf",
        "float64",
        "part of the way from the second to perfection that the first goes, mean over clusters",
    ),
    Column("bds", "float64", "share of the clusters on which the first is better"),
    Column("n_undefined", "int64", "clusters without a value, which are left out of these"),
)
STRATA_COLUMNS: Final = (
    *_OF_TABLE,
    Column("method", "str", "name of the method"),
    Column("operating_point", "str", "as in scores"),
    Column("metric", "str", "name of the metric"),
    Column(
        "stratum",
        "str",
        "what perturbations are cut by: 'n_cells', or 'n_de', their differentially expressed genes",
    ),
    Column("quartile", "int64", "1 has the fewest; equal ones are in the same"),
    Column("low", "int64", "fewest cells or genes in it"),
    Column("high", "int64", "most"),
    Column("value", "float64", "its score, mean over the splits; areas are of binned scores"),
    Column("n_perturbations", "int64", "held-out perturbations in it, of all splits"),
    Column("n_pairs", "int64", "their pairs, of all splits together"),
    Column("n_splits", "int64", "splits that have any"),
)
REPRODUCIBILITY_COLUMNS: Final = (
    Column("context", "str", "context of the perturbations"),
    Column("level", "str", "'overall' or 'class'"),
    Column("group", "str", "the class; empty at level 'overall'"),
    Column(
        "metric",
        "str",
        "'precision', 'recall', 'f1', 'macro_f1' of the labels of one half of the cells by those "
        "of the other, mean of both directions; 'jaccard_de', of the sets of genes",
    ),
    Column("value", "float64", "its value; NaN where it is not defined"),
    Column(
        "n_perturbations",
        "int64",
        "perturbations with halves; of 'jaccard_de' those with a differentially expressed gene",
    ),
    Column("n_without_halves", "int64", "tested perturbations with too few cells to be halved"),
)

INTERACTION_COLUMNS: Final = (
    Column("context", "str", "context of the double"),
    Column("perturbation", "str", "the double"),
    Column("gene", "str", "read-out gene"),
    Column("control", "float64", "mean log1p expression of the control", "ln(1 + 1e4 c/S)"),
    Column("first", "float64", "the same of the first single", "ln(1 + 1e4 c/S)"),
    Column("second", "float64", "the same of the second single", "ln(1 + 1e4 c/S)"),
    Column("double", "float64", "the same of the double", "ln(1 + 1e4 c/S)"),
    Column("additive", "float64", "first + second - control", "ln(1 + 1e4 c/S)"),
    Column("deviation", "float64", "double - additive", "ln(1 + 1e4 c/S)"),
    Column("local_fdr", "float64", "local false discovery rate of the deviation (method J2)"),
    Column("interaction", "bool", "whether the deviation is beyond a threshold (method J3)"),
    Column("interaction_class", "str", "additive, buffering, synergy, opposite, other (method J4)"),
)

COVERAGE_COLUMNS: Final = (
    Column("what", "str", "'prediction' (a file), 'embedding', 'transfer' or 'split'"),
    Column("name", "str", "name of the method, the embedding, the other context or the split"),
    Column("context", "str", "context it was asked for"),
    Column("split", "str", "split it was asked for"),
    Column(
        "n_perturbations",
        "int64",
        "those asked for: of predictions held-out ones, else all of the context",
    ),
    Column("n_perturbations_predicted", "int64", "those it has; of a split those in a part"),
    Column("perturbations_missing", "str", "the others, joined by commas"),
    Column("n_genes", "int64", "read-out genes of the screen"),
    Column("n_genes_predicted", "int64", "those it has"),
    Column("genes_missing", "str", "the others, joined by commas"),
    Column("not_in_screen", "str", "labels of the file that are no perturbation of the screen"),
    Column("note", "str", "what else to know"),
)

DROP_COLUMNS: Final = (
    Column("kind", "str", "'cell', 'gene' or 'perturbation'"),
    Column("name", "str", "barcode, gene or perturbation that was left out"),
    Column("context", "str", "its context, where known"),
    Column("source", "str", "file it came from"),
    Column("row", "int64", "its row in that file; -1 where it has none"),
    Column("label", "str", "the label as the file spells it"),
    Column("reason", "str", "why it was left out"),
)

SKIPPED_COLUMNS: Final = (
    Column("what", "str", "the part of the benchmark that did not run"),
    Column("context", "str", "the context it would have run on"),
    Column("reason", "str", "why, and what would make it run"),
)

TIMING_COLUMNS: Final = (
    Column("level", "str", "'stage' of the benchmark; 'task': of one of its maps (tiles, parts)"),
    Column("stage", "str", "stage of the benchmark, or the map"),
    Column("unit", "str", "context, setting, split and method, or tile; where there are any"),
    Column("seconds", "float64", "wall time", "s"),
    Column("reused", "bool", "whether an earlier run's result was taken instead of computing"),
    Column("bytes_read", "float64", "decoded bytes of the matrix; missing for a stage", "bytes"),
    Column(
        "peak_bytes", "float64", "largest resident memory of the process up to its end", "bytes"
    ),
    Column("worker", "str", "host and process"),
    Column("n_tries", "int64", "how often it was tried"),
)

#: Names inside the output folder of a benchmark.
MANIFEST_FILE: Final = "manifest.json"
LABELS_DIR: Final = "labels"
PSEUDOBULK_DIR: Final = "pseudobulk.zarr"
HALVES_DIR: Final = "halves.zarr"
NULLS_DIR: Final = "null_tests.zarr"
SPLITS_DIR: Final = "splits"
PREDICTIONS_DIR: Final = "predictions"
SCORES_FILE: Final = "scores.parquet"
ESTIMATES_FILE: Final = "estimates.parquet"
COMPARISONS_FILE: Final = "comparisons.parquet"
RANKS_FILE: Final = "ranks.parquet"
ATTACKS_FILE: Final = "attacks.parquet"
CALIBRATION_FILE: Final = "calibration.parquet"
STRATA_FILE: Final = "strata.parquet"
REPRODUCIBILITY_FILE: Final = "reproducibility.parquet"
INTERACTIONS_FILE: Final = "interactions.parquet"
COVERAGE_FILE: Final = "coverage.parquet"
DROPS_FILE: Final = "drops.parquet"
TARGETS_FILE: Final = "targets.parquet"
NULL_CALIBRATION_FILE: Final = "null_calibration.parquet"
SKIPPED_FILE: Final = "skipped.parquet"
TIMINGS_FILE: Final = "timings.parquet"
LOG_FILE: Final = "log.jsonl"
REPORT_FILE: Final = "report.html"
