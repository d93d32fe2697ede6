"""BenchmarkResult: what a benchmark wrote, read on access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from pertscale import display
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.evaluation.metrics import headings
from pertscale.io.checksums import FILES, check_files, read_record
from pertscale.io.parquet import declared_frame, read_table
from pertscale.io.zarr_datasets import open_dataset
from pertscale.results.averages import averaged_scores
from pertscale.results.card import (
    GONE,
    whole_card,
)
from pertscale.results.summaries import (
    EXPRESSION_HEADLINE,
    by_reason,
    class_headline,
    class_summary,
    printed_tables,
    summary,
)
from pertscale.results.unit_files import REMEDY, open_predictions, read_unit
from pertscale.results.weighted import confidence_weighted
from pertscale.schema import (
    CALIBRATION_COLUMNS,
    CALIBRATION_FILE,
    CLASS_NAMES,
    COMPARISON_COLUMNS,
    COMPARISONS_FILE,
    COVERAGE_FILE,
    DOUBLE,
    DROPS_FILE,
    ESTIMATE_COLUMNS,
    ESTIMATES_FILE,
    INTERACTIONS_FILE,
    LABELS_DIR,
    LOG_FILE,
    MANIFEST_FILE,
    NULL_CALIBRATION_COLUMNS,
    NULL_CALIBRATION_FILE,
    PARTIAL,
    PSEUDOBULK_DIR,
    RANK_COLUMNS,
    RANKS_FILE,
    REPORT_FILE,
    REPRODUCIBILITY_COLUMNS,
    REPRODUCIBILITY_FILE,
    SCORES_FILE,
    SINGLE,
    SKIPPED_FILE,
    SPLITS_DIR,
    STRATA_COLUMNS,
    STRATA_FILE,
    TARGET_COLUMNS,
    TARGETS_FILE,
    TIMINGS_FILE,
    TOP_EXPRESSED,
    TRANSFER,
    WITHIN,
    Column,
)
from pertscale.splits import Split
from pertscale.stats.labels.table import PROFILES, LabelTable, read_labels, read_manifest
from pertscale.stats.pseudobulk import read_pseudobulk
from pertscale.storage.locations import Location, LocationLike, locate

if TYPE_CHECKING:
    import xarray as xr

#: Entries that every manifest has.
_KEYS = (
    "options",
    "labels_key",
    "screens",
    "splits",
    "findings",
    "units",
    "expression",
    "interactions",
)
#: Metrics of a class that the transfer table shows.
PER_CLASS = tuple(headings("class", needs_calls=True))


@dataclass(frozen=True)
class Compared:
    """What the scores of expression of one split compare: the same for tables and figures.

    Attributes
    ----------
    methods : tuple of str
        Methods that are compared. Where one of them predicts nothing, it counts as no change.
    perturbations : tuple of str
        The perturbations that they are compared on.
    apart : dict of str to int
        Methods that predict fewer and stand apart, with the number that they predict.
    n_held_out : int
        Perturbations that are held out.
    """

    methods: tuple[str, ...]
    perturbations: tuple[str, ...]
    apart: dict[str, int]
    n_held_out: int


@checked
@dataclass(frozen=True)
class BenchmarkResult:
    """The output folder of a benchmark.

    Attributes
    ----------
    path : Path or Remote
        The folder, on a disk or on object storage; every table is read from it when it is first
        asked for.
    """

    path: Location
    #: Of a result that is being written: its manifest comes last.
    _manifest: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, options, hashes and seeds of the run."""
        if self._manifest is not None:
            return self._manifest
        _check_finished(self.path)
        return read_record(
            self.path / MANIFEST_FILE, "the manifest of a benchmark", remedy=REMEDY, keys=_KEYS
        )

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores, one row per metric (:data:`pertscale.schema.SCORE_COLUMNS`).

        Nearly all rows are of single perturbations: millions where there are many splits. Others
        are read alone by :attr:`means`, those of one metric by :meth:`perturbation_scores`.
        """
        return self._table(SCORES_FILE)

    @cached_property
    def means(self) -> pd.DataFrame:
        """Rows of :attr:`scores` that are not of single perturbations, read without the others."""
        return self._table(SCORES_FILE, filters=[("level", "!=", "perturbation")])

    @property
    def overall(self) -> pd.DataFrame:
        """Rows of :attr:`scores` at level 'overall', read without those of perturbations."""
        return self.means[self.means["level"] == "overall"]

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Scores averaged over splits, with 95 % intervals over perturbations.

        One row per method and metric (:data:`pertscale.schema.ESTIMATE_COLUMNS`); empty where the
        run was made with ``intervals=False``.
        """
        return self._later_table(ESTIMATES_FILE, ESTIMATE_COLUMNS)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Differences between methods, and which are real.

        Each method against the reference of its table, and against the best of the baselines
        (:data:`pertscale.schema.COMPARISON_COLUMNS`).
        """
        return self._later_table(COMPARISONS_FILE, COMPARISON_COLUMNS)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Ranks of methods with intervals, and who may be the best.

        :data:`pertscale.schema.RANK_COLUMNS`.
        """
        return self._later_table(RANKS_FILE, RANK_COLUMNS)

    @property
    def calibration(self) -> pd.DataFrame:
        """What each metric can tell on this screen: :data:`pertscale.schema.CALIBRATION_COLUMNS`.

        A row for each measurement on other cells against each method that knows nothing.
        """
        return self._later_table(CALIBRATION_FILE, CALIBRATION_COLUMNS)

    @cached_property
    def strata(self) -> pd.DataFrame:
        """Scores of classes by quartiles of cells, and of differentially expressed genes.

        :data:`pertscale.schema.STRATA_COLUMNS`, of the held-out perturbations; empty where the run
        was made with ``intervals=False``.
        """
        return self._later_table(STRATA_FILE, STRATA_COLUMNS)

    @cached_property
    def reproducibility(self) -> pd.DataFrame:
        """How well labels of half of the cells tell those of the other half.

        :data:`pertscale.schema.REPRODUCIBILITY_COLUMNS`; empty where the run was made with
        ``replicates=0``.
        """
        return self._later_table(REPRODUCIBILITY_FILE, REPRODUCIBILITY_COLUMNS)

    @cached_property
    def averages(self) -> pd.DataFrame:
        """Scores averaged over splits, with what is known of each (:func:`averaged_scores`)."""
        return averaged_scores(self.means, self.estimates, self.ranks, self.calibration)

    def perturbation_scores(
        self,
        *,
        task: str | None = None,
        setting: str | None = None,
        context: str | None = None,
        train_contexts: str | None = None,
        split: str | None = None,
        method: str | None = None,
        metric: str | None = None,
    ) -> pd.DataFrame:
        """Read the rows of :attr:`scores` that are of single perturbations, or some of them.

        Parameters
        ----------
        task, setting, context, train_contexts, split, method, metric : str, optional
            As in :attr:`scores`; all of them by default.

        Examples
        --------
        >>> result = ps.run_benchmark("k562.zarr", out="k562.benchmark", quiet=True)
        >>> errors = result.perturbation_scores(task="single", metric="l2")
        >>> set(errors["level"]), set(errors["metric"])
        ({'perturbation'}, {'l2'})
        """
        wanted = {
            "level": "perturbation",
            "task": task,
            "setting": setting,
            "context": context,
            "train_contexts": train_contexts,
            "split": split,
            "method": method,
            "metric": metric,
        }
        filters = [(key, "==", value) for key, value in wanted.items() if value is not None]
        return self._table(SCORES_FILE, filters=filters)

    @cached_property
    def labels(self) -> LabelTable:
        """The label table; InputError if another run has replaced it since."""
        found = read_labels(self.path)
        mine = self.manifest["labels_key"]
        if mine and found.key != mine:
            raise InputError(
                f"the labels in {self.path} are not those of its benchmark any more, another run "
                "has replaced them; run the benchmark again"
            )
        return found

    @cached_property
    def pseudobulk(self) -> xr.Dataset:
        """Mean expression per perturbation, lazily; InputError as of :attr:`labels`."""
        self.labels  # noqa: B018  (the check)
        return read_pseudobulk(self.path)

    def check(self) -> None:
        """Refuse a result of which files were lost or cut since it was written.

        What is read of a result is compared with its checksum, too.

        Raises
        ------
        CorruptFileError
        """
        check_files(self.path, self.manifest.get(FILES, {}), remedy=REMEDY)
        if mine := self.manifest["labels_key"]:
            made = read_manifest(self.path / LABELS_DIR)
            if made["key"] == mine and FILES in made:
                check_files(self.path / LABELS_DIR, made[FILES], remedy=REMEDY)
                check_files(self.path / PSEUDOBULK_DIR, made[PROFILES], remedy=REMEDY)
        for screen in self.screens.values():
            screen.check()

    def _table(self, name: str, **how: Any) -> pd.DataFrame:
        self._check(name)
        return read_table(self.path / name, remedy=REMEDY, **how)

    def _later_table(self, name: str, columns: Sequence[Column]) -> pd.DataFrame:
        """Read a table that results of earlier versions do not have; an empty one of these."""
        if self._manifest is None and name not in self.manifest.get(FILES, {}):
            return declared_frame([], columns)
        return self._table(name)

    def _check(self, name: str) -> None:
        """Refuse a file that is not what was written; objects are checked by their storage."""
        written = self.manifest.get(FILES, {}).get(name)
        if written and isinstance(self.path, Path):
            check_files(self.path, {name: written}, remedy=REMEDY, content=True)

    @cached_property
    def splits(self) -> dict[str, dict[str, Split]]:
        """Splits by context and name."""
        return {
            context: {name: self._split(f"{SPLITS_DIR}/{file}") for name, file in files.items()}
            for context, files in self.manifest["splits"].items()
        }

    def _split(self, name: str) -> Split:
        self._check(name)
        return Split.read(self.path / name)

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """What did not run, and why."""
        return self._table(SKIPPED_FILE)

    @property
    def findings(self) -> list[str]:
        """What the scores say, in sentences: the lead of the report."""
        return list(self.manifest["findings"])

    @property
    def skipped_by_reason(self) -> pd.DataFrame:
        """The same with one row per reason: ``what, context, n`` steps ``, reason``."""
        splits = {name for mine in self.manifest["splits"].values() for name in mine}
        return by_reason(self.skipped, splits)

    @cached_property
    def timings(self) -> pd.DataFrame:
        """Wall time of each stage."""
        return self._table(TIMINGS_FILE)

    @cached_property
    def drops(self) -> pd.DataFrame:
        """Cells, genes and perturbations that were left out, each with the reason."""
        return self._table(DROPS_FILE)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """What perturbations do to their own targets (:data:`pertscale.schema.TARGET_COLUMNS`)."""
        return self._later_table(TARGETS_FILE, TARGET_COLUMNS)

    @cached_property
    def null_calibration(self) -> pd.DataFrame:
        """How often controls differ from controls: :data:`schema.NULL_CALIBRATION_COLUMNS`."""
        return self._later_table(NULL_CALIBRATION_FILE, NULL_CALIBRATION_COLUMNS)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """What predictions and embeddings cover (:data:`pertscale.schema.COVERAGE_COLUMNS`)."""
        return self._table(COVERAGE_FILE)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """Pairs of doubles and genes (:data:`pertscale.schema.INTERACTION_COLUMNS`)."""
        return self._table(INTERACTIONS_FILE)

    @property
    def report(self) -> Location:
        """The HTML page."""
        return self.path / REPORT_FILE

    @property
    def screens(self) -> dict[str, BenchmarkResult]:
        """Results of the screens, where there were several: labels and predictions of each."""
        folders = [self.path / folder for folder in self.manifest["screens"]]
        return {folder.name: BenchmarkResult(folder) for folder in folders}

    def predictions(
        self,
        *,
        context: str,
        labels: str,
        split: str,
        method: str,
        train_contexts: str | None = None,
    ) -> xr.Dataset:
        """Open the predictions of one method, lazily.

        Parameters
        ----------
        context, split, method : str
            As in :attr:`scores`.
        labels : {'full', 'curated'}
            The labels the method was fitted on.
        train_contexts : str, optional
            As in :attr:`scores`, for a method that was trained on other contexts.

        Returns
        -------
        Dataset
            ``label`` (perturbation, gene) int8 and ``score`` (perturbation, gene, class) float32;
            of methods of neighbours ``fell_back`` (perturbation, gene) bool, the pairs that got the
            majority label of their gene as no neighbour has one.

        Raises
        ------
        NotFoundError
            If the benchmark has no such predictions.
        """
        wanted = {"labels": labels, "method": method}
        folder = self._folder("units", context, split, train_contexts, wanted)
        return open_dataset(folder / "prediction.zarr", remedy=REMEDY)

    def expression(
        self, *, context: str, task: str, split: str, train_contexts: str | None = None
    ) -> xr.Dataset:
        """Open the predictions of all models of expression on one split, lazily.

        Parameters
        ----------
        context, task, split : str
            As in :attr:`scores`; `task` is ``'single'``, ``'double'`` or ``'transfer'``.
        train_contexts : str, optional
            As in :attr:`scores`, for transfer.

        Returns
        -------
        Dataset
            ``prediction`` (model, perturbation, gene), float32 mean log1p expression, NaN where a
            model has none; ``truth`` (perturbation, gene).

        Raises
        ------
        NotFoundError
            If the benchmark has no such predictions.
        """
        folder = self._folder("expression", context, split, train_contexts, {"task": task})
        return open_predictions(folder)

    def compared(
        self, *, context: str, task: str, split: str, train_contexts: str | None = None
    ) -> Compared:
        """Say which methods and perturbations the scores of expression on one split compare.

        Parameters
        ----------
        context, task, split, train_contexts : str
            As of :meth:`expression`.

        Raises
        ------
        NotFoundError
            If the benchmark has no such scores.
        """
        keys = {
            "context": context,
            "task": task,
            "split": split,
            "train_contexts": train_contexts or context,
        }
        mine = self.means[(self.means[list(keys)] == list(keys.values())).all(axis=1)]
        lacking = mine[mine["metric"] == "n_without_prediction"]
        if not len(lacking):
            raise NotFoundError(
                f"no scores of expression for context {context!r}, task {task!r} and split "
                f"{split!r} in {self.path}; see .expression_summary()"
            )
        rows = self.perturbation_scores(**keys, setting=TOP_EXPRESSED, metric="l2")
        apart = lacking[lacking["setting"] == PARTIAL]
        held_out = int(lacking["n"].iloc[0])
        return Compared(
            tuple(dict.fromkeys(rows["method"])),
            tuple(dict.fromkeys(rows["group"])),
            dict(zip(apart["method"], held_out - apart["value"].astype(int), strict=True)),
            held_out,
        )

    def _folder(
        self, kind: str, context: str, split: str, trained: str | None, wanted: dict[str, str]
    ) -> Location:
        """Return the folder of a unit of the manifest."""
        keys = {**wanted, "context": context, "split": split, "train_contexts": trained or context}
        for unit in self.manifest[kind]:
            if all(unit[key] == value for key, value in keys.items()):
                folder = self.path / str(unit["folder"])
                written = read_unit(folder).get(FILES, {})
                check_files(folder, written, remedy=REMEDY, content=_is_description)
                return folder
        told = ", ".join(f"{key} {value!r}" for key, value in keys.items())
        raise NotFoundError(f"no predictions for {told} in {self.path}; see .manifest[{kind!r}]")

    def weighted_scores(
        self, *, context: str, split: str, weights: Literal["confidence"] = "confidence"
    ) -> pd.DataFrame:
        """Score classes over all pairs but the targets, each with a weight.

        Parameters
        ----------
        context, split : str
            As in :attr:`scores`.
        weights : {'confidence'}
            How sure the label of each pair is (:func:`pertscale.stats.confidence`).

        Returns
        -------
        DataFrame
            ``method``, and the columns of :func:`pertscale.evaluation.evaluate_weighted`: a row for
            each method that was fitted on the full labels of this context, operating point and
            metric. Predictions are read for it, those of one method at a time.

        Raises
        ------
        NotFoundError
            If the benchmark has no such predictions.
        ArgumentError
            For other weights.

        Examples
        --------
        >>> result = ps.run_benchmark("k562.zarr", out="k562.benchmark", quiet=True)
        >>> table = result.weighted_scores(context="sim", split="holdout-seed0")
        >>> table = table[table["operating_point"] == "as_called"]
        >>> mine = table[(table["method"] == "all_non_de") & (table["metric"] == "accuracy")]
        >>> round(float(mine["value"].iloc[0]), 2)
        0.94
        """
        if weights != "confidence":
            raise ArgumentError(f"weights={weights!r} is not 'confidence'")
        return confidence_weighted(self, context, split)

    def summary(self) -> pd.DataFrame:
        """Return the headline scores of classes, averaged over splits, as text.

        One row per context, setting, method and operating point: ``'as_called'``, and
        ``'at_training_rate'``, where every method calls the share of pairs that is differentially
        expressed in training. Compare methods at one point. A score stands with its 95 % interval
        over perturbations, ``0.44 [0.41, 0.47]``, and a star if the method is not worse than the
        best of its table, where some other one is. The numbers are in :attr:`estimates`, which of
        them differ in :attr:`comparisons`, and those of single splits in :attr:`scores`.
        """
        within = self.averages[self.averages["task"] == WITHIN]
        return class_summary(within, ["context", "setting", "method"])

    def expression_summary(self) -> pd.DataFrame:
        """Return those of expression: one row per context, task, setting and method."""
        rows = self.averages[self.averages["task"].isin([SINGLE, DOUBLE])]
        return summary(rows, EXPRESSION_HEADLINE, ["context", "task", "setting", "method"])

    def transfer_summary(self) -> pd.DataFrame:
        """Return the first paper's Table 4: methods trained on other contexts (method E4).

        One row per context, setting, training contexts (one alone; several joined by ``|``, their
        scores averaged; or by ``,``, trained together), split, method and operating point: the
        headline scores, and precision, recall and F1 of each class.
        """
        scores = self.means[self.means["task"] == TRANSFER]
        keys = ["context", "setting", "train_contexts", "split", "method"]
        overall = class_headline(scores, keys)
        keys.append("operating_point")
        classes = scores[(scores["level"] == "class") & scores["metric"].isin(PER_CLASS)]
        named = classes.assign(metric=classes["metric"] + "_" + classes["group"])
        columns = [f"{metric}_{name}" for name in CLASS_NAMES for metric in PER_CLASS]
        wide = named.pivot_table(index=keys, columns="metric", values="value", sort=False)
        wide = wide.reindex(columns=columns).reset_index().rename_axis(columns=None)
        return overall.merge(wide, on=keys, how="left")

    def __repr__(self) -> str:
        if not (self.path / MANIFEST_FILE).exists():
            return f"<BenchmarkResult {display.shown_path(self.path)}: {GONE}>"
        head = f"<BenchmarkResult {display.shown_path(self.path)}>"
        lead = "\n".join(f"* {line}" for line in self.findings)
        tables = printed_tables(self.averages)
        return "\n\n".join([head, *([lead] if lead else []), *tables])

    def _repr_html_(self) -> str:
        return whole_card(self)


@checked
def read_result(path: LocationLike) -> BenchmarkResult:
    """Open the output folder of a finished benchmark, by its path or URL.

    Raises
    ------
    NotFoundError
        If the folder holds no finished benchmark.
    CorruptFileError
        If files of it are missing or damaged.

    Examples
    --------
    >>> run = ps.run_benchmark(
    ...     "k562.zarr", out="runs/majority", tasks=["within"], methods=["majority_vote"],
    ...     settings=["full"], seed=0, quiet=True,
    ... )
    >>> result = ps.read_result("runs/majority")
    >>> result.scores.columns[:4].to_list()
    ['task', 'setting', 'context', 'train_contexts']
    """
    folder = locate(path)
    _check_finished(folder)
    result = BenchmarkResult(folder)
    result.check()
    return result


def _is_description(name: str) -> bool:
    """Whether a file tells what an array is: its chunks have checksums of their own."""
    return name.endswith("zarr.json")


def _check_finished(folder: Location) -> None:
    if (folder / MANIFEST_FILE).exists():
        return
    if (folder / LOG_FILE).exists():
        raise NotFoundError(
            f"no finished benchmark in {folder}: it is being written, or that was interrupted; "
            "make the same call of pertscale.run_benchmark again, which goes on with what is "
            "missing"
        )
    raise NotFoundError(
        f"no finished benchmark in {folder}; pertscale.run_benchmark(store, out=...) makes one"
    )
