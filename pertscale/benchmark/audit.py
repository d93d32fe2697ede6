"""Attacks on the metrics of a screen: its labels and profiles, splits, a table (method R3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.thresholds import labels_of_changes, matching_rate, scores_of_changes
from pertscale.benchmark.attacked_cells import CellSource
from pertscale.benchmark.units.halves import Direction, both_directions
from pertscale.diagnostics.progress import say
from pertscale.errors import InputError
from pertscale.evaluation import ATTACKS, METRICS, AuditedClasses
from pertscale.evaluation.attacks.audit import NO_SPAN, as_audited, judged
from pertscale.evaluation.attacks.values import REPLICATE, TRUTH, Audited, Scores
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.target_genes import Targets, check_targets
from pertscale.execution.clients import ClientLike
from pertscale.execution.memory import AUTO
from pertscale.io.parquet import write_table
from pertscale.schema import (
    ATTACK_COLUMNS,
    ATTACKS_FILE,
    CONTEXT,
    CONTROL,
    GAINS,
    GENE,
    PERTURBATION,
    REPLICATES,
    Label,
)
from pertscale.screen import Screen, open_screen
from pertscale.splits import Split
from pertscale.splits.rule import SplitRule
from pertscale.stats.differential.rank_sum import rank_sum
from pertscale.stats.halves import read_halves
from pertscale.stats.pseudobulk import read_pseudobulk
from pertscale.storage.locations import local_path

if TYPE_CHECKING:
    import xarray as xr

#: As the benchmark holds out perturbations by default.
_RULE: Final = SplitRule(given=None, seeds=None, test_fraction=0.25)


@checked
def audit_screen(
    store: str | os.PathLike[str] | Screen,
    *,
    out: str | os.PathLike[str] | None = None,
    targets: Targets = "exclude",
    replicates: int = REPLICATES,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Run every attack through every metric on a screen, and say which metrics it games.

    Perturbations are held out as the benchmark does by default; attacks that predict cells are
    written as files, read and tested like those of a model, for the first split. See
    :func:`pertscale.evaluation.audit_metrics` for what is compared with what.

    Parameters
    ----------
    store : path, URL or Screen
        A screen store.
    out : path, optional
        Folder for ``attacks.parquet``, beside ``labels/`` and ``pseudobulk.zarr``, which are taken
        as they are where they are finished; by default the store's name with the suffix
        ``.labels``.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets are left out of its scores.
    replicates : int
        Ways to halve the cells (:func:`pertscale.stats.read_halves`), which are measured with the
        labels where they are not there yet. Beside all cells, where the ceiling is the truth
        itself, attacks are scored on halves (``ceiling_is`` 'replicate'): one half is what is
        known, and the ceiling is what it says of the held-out perturbations; the other half is the
        truth, measured from its own controls; and the other way round. Classes, and attacks that
        predict cells, are those of the first way. Perturbations with too few cells to halve are
        left out. With one way chance of the controls may look like a gain. 0: all cells alone.
    memory, client, quiet
        As of :func:`pertscale.stats.rank_sum`.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.ATTACK_COLUMNS`, also in ``attacks.parquet``.

    Raises
    ------
    InputError
        If no context has enough perturbations to hold some out.

    Examples
    --------
    >>> table = ps.audit_screen("k562.zarr", quiet=True)
    >>> found = table.query("attack == 'sign_flipped' and metric == 'l2'")
    >>> dict(zip(found["ceiling_is"], found["verdict"]))
    {'truth': 'ok', 'replicate': 'cannot tell'}
    """
    check_targets(targets)
    screen = open_screen(store)
    folder = local_path(
        screen.path.removesuffix(".zarr") + ".labels" if out is None else out, "the output folder"
    )
    labels = rank_sum(
        screen, out=folder, replicates=replicates, memory=memory, client=client, quiet=quiet
    )
    tables, reasons = [], []
    for context in screen.contexts:
        say(f"attacks: {context}", quiet=quiet)
        profiles = read_pseudobulk(folder, context=context).compute()
        matrix = labels.matrix(context).compute()
        halves = _halves(folder, context, replicates) if replicates else None
        audited = _AuditedContext(screen, context, targets, profiles, matrix, halves)
        try:
            found = (audited.scores(), audited.scores_of_halves())
            of_context = [judged(scores, targets=targets) for scores in found if scores]
            tables.append(pd.concat(of_context).assign(context=context))
        except InputError as error:  # too few perturbations to hold some out
            reasons.append(f"{context}: {error}")
            say(f"context {context!r} is left out: {error}", quiet=quiet)
    if not tables:
        raise InputError(f"no context of {screen.path} can be audited: {'; '.join(reasons)}")
    table = pd.concat(tables, ignore_index=True)[[column.name for column in ATTACK_COLUMNS]]
    write_table(folder / ATTACKS_FILE, table)
    return table


def _halves(folder: Path, context: str, replicates: int) -> xr.Dataset:
    """Return what was measured on halves, of as many ways as were asked for: more may be there."""
    return read_halves(folder, context=context).isel(replicate=slice(replicates)).compute()


@dataclass(frozen=True, eq=False)
class _AuditedContext:
    """Profiles and labels of a context, and halves of its cells where there are any."""

    screen: Screen
    context: str
    targets: Targets
    profiles: xr.Dataset
    labels: xr.DataArray
    halves: xr.Dataset | None

    def scores(self) -> dict[str, dict[str, Scores]]:
        """Return what attacks score on all cells, by split and attack."""
        splits = self._splits()
        found = {split.name: self._whole(split).scores() for split in splits}
        name, of_cells = self._cells(splits[0])
        found[name] = found.get(name, {}) | of_cells
        return found

    def scores_of_halves(self) -> dict[str, dict[str, Scores]]:
        """Return what they score on one half of the cells, with the other one as the ceiling.

        Empty where there are no halves of training and held-out perturbations.
        """
        splits = self._splits_of_halves()
        halved = (one for split in splits for one in self._halved(split))
        found = {name: audited.scores() for name, audited in halved}
        for name, of_cells in self._cells_of_halves(splits[0]) if splits else ():
            found[name] = found.get(name, {}) | of_cells
        return found

    def _splits(self) -> list[Split]:
        names = [str(name) for name in self.labels[PERTURBATION].values]
        return _RULE.splits(names, self.screen.target_groups)

    @cached_property
    def _draws(self) -> Draws:
        held_out = {name for split in self._splits() for name in split.held_out}
        targets = self.screen.targets
        return Draws.of(f"attacks / {self.context}", {n: targets[n] for n in sorted(held_out)})

    def _splits_of_halves(self) -> list[Split]:
        """Return the splits of the perturbations that have halves, where both parts have some."""
        if self.halves is None:
            return []
        n_cells = self.halves["n_cells"].sel(replicate=0).min("half")
        there = set(n_cells[PERTURBATION].values[n_cells.values > 0].tolist())
        if CONTROL not in there:
            return []
        splits = self._splits()
        return [
            split.restrict([n for n in (*split.train, *split.held_out) if n in there])
            for split in splits
            if there & set(split.train) and there & set(split.held_out)
        ]

    def _whole(self, split: Split) -> Audited:
        """Return the measured profiles and labels of a split; the ceiling is the truth itself."""
        mean = self.profiles["mean_log1p"]
        train, truth, control = (
            mean.sel({PERTURBATION: list(names)}).values
            for names in (split.train, split.held_out, [CONTROL])
        )
        observed = (self.labels.sel({PERTURBATION: list(n)}) for n in (split.train, split.held_out))
        of_train, of_truth = (one.values for one in observed)
        classes = AuditedClasses(train=of_train, truth=of_truth, classify=_classify)
        return self._audited(split, train, truth, control[0], None, classes)

    def _halved(self, split: Split) -> Iterator[tuple[str, Audited]]:
        """Yield one half as what is known, and the other as the truth, both ways.

        The truth is measured from its own controls, whose noise no prediction shares.
        """
        assert self.halves is not None
        mean = self.halves["mean_log1p"].transpose(..., "half", PERTURBATION, GENE)
        names, n_train = [*split.train, *split.held_out], len(split.train)
        for i, way in enumerate(mean):
            of_names, controls = (way.sel({PERTURBATION: n}).values for n in (names, CONTROL))
            for one in both_directions(of_names, controls):
                train, replicate = np.split(one.replicate, [n_train])
                classes = self._halved_classes(split, one) if i == 0 else None
                truth, turn = one.truth[n_train:], (2 * i + one.known, 2 * len(mean))
                yield (
                    f"{split.name}, {i}, {one.known}",
                    self._audited(split, train, truth, one.control, replicate, classes, turn),
                )

    def _halved_classes(self, split: Split, one: Direction) -> AuditedClasses:
        """Return labels of one half to know, and of the other as the truth."""
        assert self.halves is not None
        halves = self.halves.sel({GENE: self.labels[GENE].values})
        known, truth = (halves.isel(half=half) for half in (one.known, one.measured))
        held_out = {PERTURBATION: list(split.held_out)}
        labels = known["label"].sel(held_out).values
        scores = scores_of_changes(known["z"].sel(held_out).values)
        return AuditedClasses(
            train=known["label"].sel({PERTURBATION: list(split.train)}).values,
            truth=truth["label"].sel(held_out).values,
            classify=_classify,
            replicate=(np.where(labels == Label.UNTESTED, Label.NON_DE, labels), scores),
        )

    def _audited(
        self,
        split: Split,
        train: NDArray,
        truth: NDArray,
        control: np.ndarray,
        replicate: NDArray | None,
        classes: AuditedClasses | None,
        turn: tuple[int, int] = (0, 1),
    ) -> Audited:
        return as_audited(
            train,
            truth,
            control,
            perturbations=split.train,
            held_out=split.held_out,
            genes=[str(gene) for gene in self.labels[GENE].values],
            target_genes=self.screen.targets,
            targets=self.targets,
            replicate=replicate,
            classes=classes,
            draws=self._draws,
            turn=turn,
        )

    def _cells(self, split: Split) -> tuple[str, dict[str, Scores]]:
        """Return the scores of predicted cells; of many perturbations, of some only."""
        source = self._source(self.profiles["n_cells"])
        some = source.affordable(split.held_out)
        audited = self._whole(split.restrict([*split.train, *some]))
        scores = audited.scores_of_cells(source.test(some, audited.known.multiple))
        return _with_marks(split.name, audited, scores, is_all=some == split.held_out)

    def _cells_of_halves(self, split: Split) -> Iterator[tuple[str, dict[str, Scores]]]:
        """Yield the same of both halves of the first way, each as the truth.

        As many cells are predicted as a half has, moved as the training perturbations of the known
        half are. What they change is put on the controls of the half that is the truth.
        """
        assert self.halves is not None
        source = self._source(self.halves["n_cells"].sel(replicate=0).min("half"))
        some = source.affordable(split.held_out)
        mine = split.restrict([*split.train, *some])
        for name, audited in islice(self._halved(mine), 2):
            tested = source.test(some, audited.known.multiple)
            shift = audited.known.control - source.control
            moved = {attack: (one + shift, called) for attack, (one, called) in tested.items()}
            scores = audited.scores_of_cells(moved)
            yield _with_marks(name, audited, scores, is_all=some == split.held_out)

    def _source(self, n_cells: xr.DataArray) -> CellSource:
        names = n_cells[PERTURBATION].values.astype(str)
        return CellSource(
            screen=self.screen,
            context=self.context,
            control=self.profiles["mean_log1p"].sel({PERTURBATION: CONTROL}).values,
            n_cells={name: int(n) for name, n in zip(names, n_cells.values, strict=True)},
        )


def _with_marks(
    name: str, audited: Audited, scores: dict[str, Scores], *, is_all: bool
) -> tuple[str, dict[str, Scores]]:
    """Return the scores of cells with a name; of some perturbations, with marks of the same."""
    if is_all:
        return name, scores
    marks = {*(n for n, attack in ATTACKS.items() if attack.is_floor), TRUTH, REPLICATE}
    of_marks = {mark: one for mark, one in audited.scores().items() if mark in marks}
    return f"{name}, cells", scores | of_marks


def _classify(
    change: NDArray, tested: np.ndarray, rate: float
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return classes by the rule for files (method G2)."""
    change = change.astype(np.float32)  # as predictions are kept
    threshold = matching_rate(change[tested], rate)
    return labels_of_changes(change, threshold), scores_of_changes(change)


@checked
def worst_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the largest gain in each headline metric, and of which attack, by context and ceiling.

    Left out are attacks that know something, such as relatives by their names: what these gain is
    no flaw of a metric (:data:`pertscale.evaluation.ATTACKS` says which these are).

    Parameters
    ----------
    table : DataFrame
        As of :func:`audit_screen`.

    Returns
    -------
    DataFrame
        ``context, ceiling_is, metric, operating_point, floor, ceiling, attack, gain, verdict,
        note``: of gains beyond chance the largest, else of all; of equal ones the first.

    Examples
    --------
    >>> table = ps.audit_screen("k562.zarr", quiet=True)
    >>> worst = ps.benchmark.worst_attacks(table)
    >>> list(worst["metric"].unique()[:2])
    ['l2', 'pearson_delta']
    """
    keys = [CONTEXT, "ceiling_is", "metric", "operating_point"]
    knows = [name for name, attack in ATTACKS.items() if attack.knows]
    mine = table[table["is_headline"] & ~table["attack"].isin(knows)]
    gain = mine["gain"].fillna(-np.inf) + np.where(mine["verdict"] == GAINS, 1e9, 0)  # these first
    first = gain.groupby([mine[key] for key in keys], sort=False).idxmax()
    shown = [*keys, "floor", "ceiling", "attack", "gain", "verdict", "note"]
    return mine.loc[first, shown].reset_index(drop=True)


def notes_on_gains(table: pd.DataFrame) -> list[str]:
    """Return a line for each note on metrics that summaries show, with who and where.

    It says why attacks gain, or why nothing can be told.
    """
    is_shown = table["metric"].map(lambda metric: METRICS[metric].is_headline)
    mine = table[is_shown & (table["note"] != "")]
    lines = []
    for note, rows in mine.groupby("note", sort=False):
        first = str(rows["attack"].iloc[0])
        by = f"{first} gains" if ATTACKS[first].knows == note else "attacks gain"
        by = "no gain is told" if note == NO_SPAN else by
        where = dict.fromkeys(rows["metric"] + (" " + rows["operating_point"]).str.rstrip())
        lines.append(f"{by} in {', '.join(where)}: {note}")
    return lines
