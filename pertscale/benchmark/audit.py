"""Attacks on the metrics of a screen: its labels and profiles, splits, a table (method R3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.thresholds import labels_of_changes, matching_rate, scores_of_changes
from pertscale.benchmark.attacked_cells import CellSource
from pertscale.diagnostics.progress import say
from pertscale.errors import InputError
from pertscale.evaluation import ATTACKS, AuditedClasses
from pertscale.evaluation.attacks.audit import as_audited, judged
from pertscale.evaluation.attacks.values import TRUTH, Audited, Scores
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
    replicates: int = 0,
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
        labels where they are not there yet. One half is then what is known, and the ceiling is what
        it says of the held-out perturbations; the other half is the truth, measured from its own
        controls; and the other way round. Classes are those of the first way. Perturbations with
        too few cells to halve are left out. Attacks that predict cells are compared with all cells,
        and so are all by default: the ceiling is the truth itself.
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
    >>> table.query("attack == 'sign_flipped' and metric == 'l2'")["verdict"].tolist()
    ['ok']
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
        halves = read_halves(folder, context=context).compute() if replicates else None
        audited = _AuditedContext(screen, context, targets, profiles, matrix, halves)
        try:
            tables.append(judged(audited.scores(), targets=targets).assign(context=context))
        except InputError as error:  # too few perturbations to hold some out
            reasons.append(f"{context}: {error}")
            say(f"context {context!r} is left out: {error}", quiet=quiet)
    if not tables:
        raise InputError(f"no context of {screen.path} can be audited: {'; '.join(reasons)}")
    table = pd.concat(tables, ignore_index=True)[[column.name for column in ATTACK_COLUMNS]]
    write_table(folder / ATTACKS_FILE, table)
    return table


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
        """Return what attacks score, by split and attack."""
        splits = self._splits()
        found = {name: scores for split in splits for name, scores in self._of_split(split)}
        name, of_cells = self._cells(splits[0])
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

    def _of_split(self, split: Split) -> Iterator[tuple[str, dict[str, Scores]]]:
        """Yield the scores of a split, or of each half of its cells."""
        if self.halves is None:
            yield split.name, self._whole(split).scores()
            return
        for name, audited in self._halved(split, self.halves):
            yield name, audited.scores()

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

    def _halved(self, split: Split, halves: xr.Dataset) -> Iterator[tuple[str, Audited]]:
        """Yield one half as what is known, and the other as the truth, both ways.

        The truth is measured from its own controls, whose noise no prediction shares.
        """
        mean = halves["mean_log1p"].transpose(..., "half", PERTURBATION, GENE)
        measured = mean.notnull().all(["replicate", "half", GENE])
        there = set(mean[PERTURBATION].values[measured.values])
        mine = split.restrict([n for n in (*split.train, *split.held_out) if n in there])
        parts = [list(names) for names in (mine.train, mine.held_out, [CONTROL])]
        for i, way in enumerate(mean):
            train, held_out, control = (way.sel({PERTURBATION: names}).values for names in parts)
            for a, b in ((0, 1), (1, 0)):
                own = control[a][0]
                truth = held_out[b] - control[b] + own
                classes = self._halved_classes(mine, halves, a, b) if i == 0 else None
                audited = self._audited(mine, train[a], truth, own, held_out[a], classes)
                yield f"{split.name}, {i}, {a}", audited

    def _halved_classes(self, split: Split, halves: xr.Dataset, a: int, b: int) -> AuditedClasses:
        """Return labels of one half to know, and of the other as the truth."""
        genes = self.labels[GENE].values
        known, truth = (halves.isel(half=half).sel({GENE: genes}) for half in (a, b))
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
        )

    def _cells(self, split: Split) -> tuple[str, dict[str, Scores]]:
        """Return the scores of predicted cells; of many perturbations, of some only."""
        counts = self.profiles["n_cells"]
        n_cells = dict(zip(counts[PERTURBATION].values.astype(str), counts.values, strict=True))
        control = self.profiles["mean_log1p"].sel({PERTURBATION: CONTROL}).values
        source = CellSource(
            screen=self.screen,
            context=self.context,
            control=control,
            n_cells={name: int(n) for name, n in n_cells.items()},
        )
        some = source.affordable(split.held_out)
        audited = self._whole(split.restrict([*split.train, *some]))
        scores = audited.scores_of_cells(source.test(some, audited.known.mean))
        if some == split.held_out and self.halves is None:
            return split.name, scores
        marks = {*(n for n, attack in ATTACKS.items() if attack.is_floor), TRUTH}
        of_marks = {name: one for name, one in audited.scores().items() if name in marks}
        return f"{split.name}, cells", scores | of_marks  # compared on the same perturbations


def _classify(
    change: NDArray, tested: np.ndarray, rate: float
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return classes by the rule for files (method G2)."""
    change = change.astype(np.float32)  # as predictions are kept
    threshold = matching_rate(change[tested], rate)
    return labels_of_changes(change, threshold), scores_of_changes(change)


@checked
def worst_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the largest gain in each headline metric, and of which attack, by context.

    Left out are attacks that know something, such as relatives by their names: what these gain is
    no flaw of a metric (:data:`pertscale.evaluation.ATTACKS` says which these are).

    Parameters
    ----------
    table : DataFrame
        As of :func:`audit_screen`.

    Returns
    -------
    DataFrame
        ``context, metric, operating_point, floor, ceiling, attack, gain, verdict, note``: of gains
        beyond chance the largest, else of all; of equal ones the first.

    Examples
    --------
    >>> table = ps.audit_screen("k562.zarr", quiet=True)
    >>> worst = ps.benchmark.worst_attacks(table)
    >>> list(worst["metric"].unique()[:2])
    ['l2', 'pearson_delta']
    """
    keys = [CONTEXT, "metric", "operating_point"]
    knows = [name for name, attack in ATTACKS.items() if attack.knows]
    mine = table[table["is_headline"] & ~table["attack"].isin(knows)]
    gain = mine["gain"].fillna(-np.inf) + np.where(mine["verdict"] == GAINS, 1e9, 0)  # these first
    first = gain.groupby([mine[key] for key in keys], sort=False).idxmax()
    shown = [*keys, "floor", "ceiling", "attack", "gain", "verdict", "note"]
    return mine.loc[first, shown].reset_index(drop=True)


def notes_on_gains(table: pd.DataFrame) -> list[str]:
    """Return a line for each reason why attacks gain in headline metrics, with who and where."""
    mine = table[table["is_headline"] & (table["note"] != "")]
    lines = []
    for note, rows in mine.groupby("note", sort=False):
        first = str(rows["attack"].iloc[0])
        by = f"{first} gains" if ATTACKS[first].knows == note else "attacks gain"
        where = dict.fromkeys(rows["metric"] + (" " + rows["operating_point"]).str.rstrip())
        lines.append(f"{by} in {', '.join(where)}: {note}")
    return lines
