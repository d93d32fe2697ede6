"""What a benchmark is to run: splits, units of classes and of expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.label_matrix import LabelMatrix, label_matrix
from pertscale.diagnostics.events import emit
from pertscale.diagnostics.progress import say
from pertscale.embeddings.embedding import Embedding
from pertscale.predictions.predictions import CLASS_SCORES, LABELS, AlignedPredictions
from pertscale.schema import MANIFEST_FILE, WORK_DIR
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.stats.interactions import Interactions
from pertscale.stats.labels.curation import Curation, curate
from pertscale.stats.labels.table import LabelTable
from pertscale.stats.pseudobulk import open_pseudobulk
from pertscale.storage.atomic import remove


@dataclass(kw_only=True)
class RunRecord:
    """Units that are run and reported together, in one output folder.

    Attributes
    ----------
    folder : Path
    wanted : BenchmarkOptions
    log : RunLog
    targets : dict of str to dict
        By context, the target genes of each perturbation.
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
    parents : tuple of Path
        Folders of the results that have this one as a part.
    """

    folder: Path
    wanted: BenchmarkOptions
    log: RunLog
    parents: tuple[Path, ...] = ()
    units: list[ClassUnit] = field(default_factory=list)
    failed: list[ClassUnit] = field(default_factory=list)
    expression: list[ExpressionUnit] = field(default_factory=list)
    matrices: dict[tuple[str, str], LabelMatrix] = field(default_factory=dict)
    targets: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, dict[str, Split]] = field(default_factory=dict)
    drawn: list[dict[str, Any]] = field(default_factory=list)
    vectors_lack: list[dict[str, Any]] = field(default_factory=list)
    genes_seen: list[dict[str, Any]] = field(default_factory=list)
    without_changes: dict[str, str] = field(default_factory=dict)

    def unmark(self) -> None:
        """Take the manifest away: what it says is finished is going to change.

        Called before the first change; the manifest is written again after the last one.
        """
        unmark(*self.parents, self.folder)


def unmark(*results: Path) -> None:
    """Take the manifests of results away, the outermost first."""
    for result in results:
        remove(result / MANIFEST_FILE)


@dataclass(kw_only=True)
class ScreenRun(RunRecord):
    """What is to be run on one screen, collected context by context."""

    screen: Screen
    labels: LabelTable
    outsiders: ExternalPredictions
    interactions: dict[str, Interactions] = field(default_factory=dict)
    vectors: dict[tuple[str, str], Embedding] = field(default_factory=dict)
    #: Splits of each context by which classes are held out, in the order of the seeds.
    class_splits: dict[str, list[Split]] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """Pairs of perturbation and gene in all contexts."""
        return len(self.screen.groups) * self.screen.n_genes

    def profiles(self, context: str) -> xr.DataArray:
        """Return mean log1p expression (perturbation, gene) of a context, lazily."""
        return open_pseudobulk(self.folder, context=context)["mean_log1p"]

    def matrix_of(self, context: str, kind: str) -> LabelMatrix:
        """Write the labels of a context, full or curated, as a matrix, where it is not there yet.

        Raises
        ------
        InputError
            If curation leaves nothing.
        """
        labels = self.labels
        if kind == "curated":
            labels = curate(labels, context=context, recipe=Curation())
        return label_matrix(labels, context, self.folder / WORK_DIR / kind)

    def vectors_of(self, embedding: Embedding, names: Sequence[str]) -> np.ndarray:
        """Return vectors of perturbations, (n, d), of length 1; NaN where there is none."""
        return embedding.normalized().vectors(names, targets=self.screen.targets)


def given_for(
    plan: ScreenRun,
    context: str,
    split: Split,
    *,
    log: RunLog | None = None,
    where: str = "",
    task: str = "",
) -> dict[str, AlignedPredictions]:
    """Return the predictions from files for a split; a row of `log` says where there are none."""
    found = {}
    log, where = log or plan.log, where or context
    told = f"{task}, {split.name}" if task else split.name
    for name in plan.outsiders.files:
        mine = plan.outsiders.find(name, context, split)
        held_out = set(split.held_out)
        if mine is None:
            reason = f"its files are for {plan.outsiders.intended_for(name)}"
            log.skip(f"{name} ({told})", where, reason)
        elif not held_out & set(mine.rows):
            reason = "it predicts none of the held-out perturbations; see splits/"
            log.skip(f"{name} ({told})", where, reason)
        else:
            found[name] = mine
    return found


def with_profiles(given: Mapping[str, AlignedPredictions]) -> dict[str, AlignedPredictions]:
    """Return those of some predictions that say what expression is, not only classes."""
    return {
        name: found
        for name, found in given.items()
        if found.predictions.kind not in (LABELS, CLASS_SCORES)
    }


def tell_splits(plan: ScreenRun, context: str, of: str, splits: Sequence[Split], n: int) -> None:
    """Record how many splits there are, and why; tell it where it was not the user's choice."""
    how = plan.wanted.how
    told = {
        "context": context,
        "of": of,
        "n": n,
        "n_held_out": len(splits[0].held_out),
        "n_splits": len(splits),
        "reason": how.reason(splits),
    }
    plan.drawn.append(told)
    emit("splits", **told)
    if how.given is None and how.seeds is None and len(splits) > 1:
        say(
            f"{context}: {len(splits)} splits, as only {told['n_held_out']} of {n} {of} are held "
            "out in each; seeds that are given decide otherwise",
            quiet=plan.log.quiet,
        )


def keep_split(plan: ScreenRun, context: str, split: Split) -> None:
    """Record a split under its context and name."""
    plan.splits.setdefault(context, {})[split.name] = split
