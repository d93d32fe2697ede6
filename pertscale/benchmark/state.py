"""The state of a run: of its output folder, and of each of its screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pertscale.benchmark.called_interactions import CalledInteractions
from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.knocked_down import kept_targets
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.units.base import Unit, is_of_earlier_version
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.halves import ContextHalves
from pertscale.benchmark.units.label_matrix import LabelMatrix, confident_matrix, label_matrix
from pertscale.benchmark.units.learned import LearnedVectors, Vectors
from pertscale.benchmark.units.profiles import ContextProfiles
from pertscale.benchmark.units.running import PlannedUnit, UnitReceipt, unmark
from pertscale.diagnostics.events import SplitsDrawn, emit
from pertscale.diagnostics.progress import say
from pertscale.display import shown_path
from pertscale.hashing import digest
from pertscale.schema import CONFIDENT, CONTEXT, PERTURBATION, WORK_DIR
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.stats.labels.curation import Curation, curate
from pertscale.stats.labels.table import LabelTable


@dataclass(kw_only=True)
class RunRecord:
    """What one output folder holds: its units, its splits, and what did not run.

    Attributes
    ----------
    folder : Path
    options : BenchmarkOptions
    log : RunLog
    parents : tuple of Path
        Folders of the results that have this one as a part.
    units : list of ClassUnit
        Those that are planned and, once they have run, those that have predictions.
    failed : list of ClassUnit
        Those that have none; their folders say why.
    expression : list of ExpressionUnit
    coverage : list of dict
        :data:`pertscale.schema.COVERAGE_COLUMNS`.
    splits : dict of str to dict of str to Split
        By context and name.
    drawn : list of dict
        How many splits each context has, of what, and why.
    vectors_lack : list of dict
        Of each context and split, how many held-out perturbations have no vector.
    genes_seen : list of dict
        Of each context and split, how many held-out perturbations have a gene that is perturbed in
        training, too.
    without_changes : dict of str to str
        Contexts without a differentially expressed gene, in which no class can be scored, and what
        to say of them.
    learned : dict of str to LearnedVectors
        Vectors that its units learn, by their hash.
    told_earlier_version : bool
        Whether it was said that predictions of an earlier version are made again.
    """

    folder: Path
    options: BenchmarkOptions
    log: RunLog
    parents: tuple[Path, ...] = ()
    units: list[ClassUnit] = field(default_factory=list)
    failed: list[ClassUnit] = field(default_factory=list)
    expression: list[ExpressionUnit] = field(default_factory=list)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, dict[str, Split]] = field(default_factory=dict)
    drawn: list[dict[str, Any]] = field(default_factory=list)
    vectors_lack: list[dict[str, Any]] = field(default_factory=list)
    genes_seen: list[dict[str, Any]] = field(default_factory=list)
    without_changes: dict[str, str] = field(default_factory=dict)
    learned: dict[str, LearnedVectors] = field(default_factory=dict)
    told_earlier_version: bool = False

    def unmark(self) -> None:
        """Take the manifest away: what it says is finished is going to change.

        Called before the first change; the manifest is written again after the last one.
        """
        unmark((*self.parents, self.folder))

    def keep_split(self, context: str, split: Split) -> None:
        """Record a split under its context and name."""
        self.splits.setdefault(context, {})[split.name] = split

    def tell_earlier_version(self) -> None:
        """Print that results of an earlier version are computed again, where there are any."""
        if self.told_earlier_version:
            return
        units = (*self.units, *self.expression)
        n = sum(is_of_earlier_version(self.folder / unit.folder) for unit in units)
        if n:
            self.told_earlier_version = True
            say(
                f"{n:,} of {len(units):,} predictions in {shown_path(self.folder)} were made by an "
                "earlier version of pertscale; they are made and scored again, this once",
                quiet=self.log.quiet,
            )

    def planned(self) -> list[PlannedUnit]:
        """Return its units, and where they are kept."""
        results = (*self.parents, self.folder)
        return [PlannedUnit(u, self.folder, results) for u in (*self.units, *self.expression)]

    def take(self, receipts: Sequence[UnitReceipt]) -> None:
        """Log what its units did; those of classes that have no predictions are set aside."""
        units = [*self.units, *self.expression]
        for unit, receipt in zip(units, receipts, strict=True):
            for text in receipt.damage:
                say(text, quiet=self.log.quiet)
            for model, seconds in receipt.models.items():
                self.log.add("model", f"{unit.title} / {model}", seconds)
            self.log.add(unit.stage, unit.title, receipt.seconds, reused=receipt.reused)
        failed = {unit for unit in units if self._skip_failed(unit)}
        self.failed += [unit for unit in self.units if unit in failed]
        self.units = [unit for unit in self.units if unit not in failed]

    def _skip_failed(self, unit: Unit) -> bool:
        """Record which methods of a finished unit have no predictions; whether there are any."""
        source = f" from {unit.source}" if unit.train_contexts else ""
        failed = unit.failed(self.folder)
        for method, reason in failed.items():
            what = f"{method} ({unit.kind}{source}, {unit.split.name})"
            self.log.skip(what, unit.context, reason)
        return bool(failed)


@dataclass(kw_only=True)
class ScreenRun:
    """One screen of a run: what is known of it, and where its part is recorded.

    Attributes
    ----------
    record : RunRecord
        Of its own folder; where there is one store, this is the record of the run.
    screen : Screen
    labels : LabelTable
    external : ExternalPredictions
    matrices : dict of (str, str) to LabelMatrix
        By context and kind of labels, full or curated.
    confident : dict of str to LabelMatrix
        By context, labels that are likely right, where the setting of these is asked for.
    interactions : dict of str to CalledInteractions
        By context.
    interaction_scores : list of DataFrame, optional
        Once they are known.
    vectors : dict of (str, str) to Vectors
        By context and name of the split.
    class_splits : dict of str to list of Split
        Splits of each context by which classes are held out, in the order of the seeds.
    left_out : dict of str to dict of str to str
        Perturbations of each context that are left out for their target's expression, and why.
    profiles : dict of str to ContextProfiles
        By context.
    """

    record: RunRecord
    screen: Screen
    labels: LabelTable
    external: ExternalPredictions
    matrices: dict[tuple[str, str], LabelMatrix] = field(default_factory=dict)
    confident: dict[str, LabelMatrix] = field(default_factory=dict)
    interactions: dict[str, CalledInteractions] = field(default_factory=dict)
    interaction_scores: list[pd.DataFrame] | None = None
    vectors: dict[tuple[str, str], Vectors] = field(default_factory=dict)
    class_splits: dict[str, list[Split]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    profiles: dict[str, ContextProfiles] = field(init=False)

    def __post_init__(self) -> None:
        self.profiles = {
            context: ContextProfiles(self.folder, context, self.screen.n_genes, self.labels.key)
            for context in self.screen.contexts
        }

    @property
    def folder(self) -> Path:
        """Output folder of its part."""
        return self.record.folder

    @property
    def options(self) -> BenchmarkOptions:
        """What was asked for, with names as the screen has them."""
        return self.record.options

    @property
    def log(self) -> RunLog:
        """Log of its part."""
        return self.record.log

    @property
    def n_pairs(self) -> int:
        """Pairs of perturbation and gene in all contexts."""
        return len(self.screen.groups) * self.screen.n_genes

    def matrix_of(self, context: str, kind: str) -> LabelMatrix:
        """Write the labels of a context, full or curated, as a matrix, unless it exists.

        Raises
        ------
        InputError
            If curation leaves nothing.
        """
        labels = self.labels
        if kind == "curated":
            labels = curate(self.labels_to_curate(context), context=context, recipe=Curation())
        return label_matrix(labels, context, self.folder / WORK_DIR / kind)

    def confident_of(self, context: str) -> LabelMatrix:
        """Write the labels of a context that are likely right as a matrix, unless it exists.

        Raises
        ------
        InputError
            If there are none.
        """
        return confident_matrix(self.labels, context, self.folder / WORK_DIR / CONFIDENT)

    def halves(self, context: str) -> ContextHalves | None:
        """Return the halves of the cells of a context, where cells were halved."""
        n, left_out = self.options.replicates, frozenset(self.left_out.get(context, {}))
        return ContextHalves(self.folder, context, n, self.labels.key, left_out) if n else None

    def labels_to_curate(self, context: str) -> LabelTable:
        """Return the labels as if what is left out of a context had not been tested."""
        left_out = self.left_out.get(context)
        if not left_out:
            return self.labels
        table = self.labels.perturbations
        gone = (table[CONTEXT] == context) & table[PERTURBATION].isin(left_out)
        return replace(
            self.labels,
            perturbations=table.assign(tested=table["tested"] & ~gone),
            key=digest(self.labels.key, context, sorted(left_out)),
        )

    def targets(self) -> pd.DataFrame:
        """Return what became of the targets (:data:`pertscale.schema.TARGET_COLUMNS`)."""
        return kept_targets(self.folder, self.labels)

    def tell_splits(self, context: str, of: str, splits: Sequence[Split], n: int) -> None:
        """Record how many splits there are of `n`, and why; print it where it was our choice."""
        rule, n_held_out = self.options.rule, len(splits[0].held_out)
        drawn = SplitsDrawn(
            context=context,
            of=of,
            n=n,
            n_held_out=n_held_out,
            n_splits=len(splits),
            reason=rule.reason(splits),
        )
        self.record.drawn.append(asdict(drawn))
        emit(drawn)
        if rule.given is None and rule.seeds is None and len(splits) > 1:
            say(
                f"{context}: {len(splits)} splits, as only {n_held_out} of {n} {of} are held out "
                "in each; seeds that are given decide otherwise",
                quiet=self.log.quiet,
            )


def records_of(record: RunRecord, screens: Sequence[ScreenRun]) -> list[RunRecord]:
    """Return the records of a run and of its screens, each once."""
    return [record, *(run.record for run in screens if run.record is not record)]


@dataclass(frozen=True, kw_only=True)
class ContextPlan:
    """A context whose units are to be listed.

    Attributes
    ----------
    run : ScreenRun
    context : str
    names : list of str
        Perturbations that were tested.
    splits : list of Split
        Of these, one per seed.
    settings : dict of str to tuple of str
        Which settings are scored on each kind of labels, full or curated.
    """

    run: ScreenRun
    context: str
    names: list[str]
    splits: list[Split]
    settings: dict[str, tuple[str, ...]]
