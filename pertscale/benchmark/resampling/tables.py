"""Which scores stand in one table, and so share their resamples (method N1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pertscale.benchmark.called_interactions import CalledInteractions
from pertscale.benchmark.name_maps import transfer_contexts
from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.tasks.transfer import FROM_FILE
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.evaluation.resampling.draws import Cluster, Draws
from pertscale.hashing import digest
from pertscale.schema import (
    CONTEXT,
    DOUBLE,
    INTERACTIONS,
    PERTURBATION,
    SINGLE,
    TRANSFER,
    WITHIN,
    WORK_DIR,
)
from pertscale.storage.folder_names import slug
from pertscale.versions import RESAMPLES_VERSION

#: Folder of what was resampled, below that of scratch.
RESAMPLES = "resamples"
#: Methods that others are compared with, by task, classes before expression: the first there is.
DECLARED = {
    WITHIN: ("majority_vote",),
    SINGLE: ("mean_perturbation",),
    DOUBLE: ("additive",),
    INTERACTIONS: ("mean",),
    TRANSFER: ("majority_vote", "mean"),
}


@dataclass(frozen=True)
class ScoredUnit:
    """Where the scores of a unit are, and what they are of.

    Attributes
    ----------
    folder : Path
    method : str
        Empty where a unit has several.
    source : str
        Contexts that the methods are fitted on.
    split : str
    test_to_train : float
        Perturbations that are held out for each that is trained on; NaN for other contexts, whose
        training perturbations are others.
    """

    folder: Path
    method: str
    source: str
    split: str
    test_to_train: float


@dataclass(frozen=True)
class JudgedPairs:
    """Where the pairs are that were judged to interact or not, and which of them count.

    Attributes
    ----------
    called : CalledInteractions
    without_targets : bool
        Whether the targets of a double are left out.
    """

    called: CalledInteractions
    without_targets: bool


@dataclass(frozen=True, eq=False)
class ScoredTable:
    """Scores of all methods on the same perturbations.

    Attributes
    ----------
    task, context : str
    source : str
        As in the column ``train_contexts``: several joined by ``|`` if their scores are averaged.
    units : tuple of ScoredUnit
    targets : dict of str to tuple of str
        Genes that each perturbation of any split targets.
    path : Path
        Folder of what is made of it.
    cluster : {'targets', 'gene'}
    references : tuple of str
        Methods to compare with; the first that there is.
    interactions : JudgedPairs, optional
        What the deviations of models from additivity are scored on.
    sizes : dict of str to dict of str to int
        Of classes: cells, and differentially expressed genes, of each perturbation.
    """

    task: str
    context: str
    source: str
    units: tuple[ScoredUnit, ...]
    targets: Mapping[str, tuple[str, ...]]
    path: Path
    cluster: Cluster
    references: tuple[str, ...]
    interactions: JudgedPairs | None = None
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def draws(self) -> Draws:
        """Its resamples; settings of the same perturbations share them."""
        name = f"{self.task} / {self.context} / {self.source}"
        return Draws.of(name, self.targets, cluster=self.cluster)

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        source = f" from {self.source}" if self.task == TRANSFER else ""
        return f"{self.context}{source} / {self.task}"


def scored_tables(record: RunRecord, screens: Sequence[ScreenRun]) -> Iterator[ScoredTable]:
    """Yield the tables of the units of a record that have scores; `screens` are all of the run."""
    groups: dict[tuple[str, ...], list[ClassUnit | ExpressionUnit]] = {}
    units: list[ClassUnit | ExpressionUnit] = [*record.units, *record.expression]
    for unit in units:
        kind = unit.labels if isinstance(unit, ClassUnit) else "expression"
        groups.setdefault((unit.task, unit.context, unit.source, kind), []).append(unit)
    tables = [_table(record, mine, source) for (_, _, source, _), mine in groups.items()]
    tables += [
        _table(record, mine, "|".join(sorted({unit.source for unit in mine})))
        for mine in _averaged(groups)
    ]
    sizes = _Sizes(record, screens)
    yield from (replace(t, sizes=sizes.of(t)) if t.units[0].method else t for t in tables)
    called = {
        c: one for run in screens if run.record is record for c, one in run.interactions.items()
    }
    for context, one in called.items():
        doubles = groups.get((DOUBLE, context, context, "expression"))
        if doubles:
            pairs = JudgedPairs(one, record.options.targets == "exclude")
            yield _table(record, doubles, context, task=INTERACTIONS, interactions=pairs)


class _Sizes:
    """Cells and differentially expressed genes of the perturbations of a context."""

    def __init__(self, record: RunRecord, screens: Sequence[ScreenRun]) -> None:
        self._places = {(TRANSFER, c.name): (c.run, c.context) for c in transfer_contexts(screens)}
        for run in screens:
            if run.record is record:
                self._places |= {(WITHIN, context): (run, context) for context in run.profiles}

    def of(self, table: ScoredTable) -> dict[str, dict[str, int]]:
        """Return both by name, for the perturbations of a table."""
        run, context = self._places[table.task, table.context]
        found = run.labels.perturbations
        found = found[found[CONTEXT] == context].set_index(PERTURBATION).loc[list(table.targets)]
        sizes = {"n_cells": found["n_cells"], "n_de": found["n_up"] + found["n_down"]}
        return {kind: dict(zip(of.index, map(int, of), strict=True)) for kind, of in sizes.items()}


def _averaged(
    groups: Mapping[tuple[str, ...], Sequence[ClassUnit | ExpressionUnit]],
) -> Iterator[list[ClassUnit | ExpressionUnit]]:
    """Yield the units of the methods that were trained on each of several contexts alone."""
    alone: dict[tuple[str, ...], list[ClassUnit | ExpressionUnit]] = {}
    for (task, context, _, kind), units in groups.items():
        of_one = len(units[0].train_contexts) == 1
        if of_one and units[0].train_contexts != (FROM_FILE,):
            alone.setdefault((task, context, kind), []).extend(units)
    yield from (units for units in alone.values() if len({unit.source for unit in units}) > 1)


def _table(
    record: RunRecord,
    units: Sequence[ClassUnit | ExpressionUnit],
    source: str,
    *,
    task: str | None = None,
    interactions: JudgedPairs | None = None,
) -> ScoredTable:
    options, first, task = record.options, units[0], task or units[0].task
    held_out = {name: unit.target_genes for unit in units for name in unit.split.held_out}
    key = digest(
        RESAMPLES_VERSION,
        [[unit.folder, unit.scores_key] for unit in units],
        options.cluster,
        options.reference or "",
        "" if interactions is None else interactions.called.path.name,
    )
    name = slug(f"{task}-{first.context}-{source}-{first.kind}")
    return ScoredTable(
        task=task,
        context=first.context,
        source=source,
        units=tuple(
            ScoredUnit(
                folder=record.folder / unit.folder,
                method=unit.method if isinstance(unit, ClassUnit) else "",
                source=unit.source,
                split=unit.split.name,
                test_to_train=np.nan
                if unit.train_contexts
                else len(unit.split.held_out) / max(1, len(unit.split.train)),
            )
            for unit in units
        ),
        targets={name: tuple(genes[name]) for name, genes in held_out.items()},
        path=record.folder / WORK_DIR / RESAMPLES / f"{name[:80]}-{key[:12]}.parquet",
        cluster=options.cluster,
        references=(*filter(None, [options.reference]), *DECLARED[task]),
        interactions=interactions,
    )
