"""Genetic interactions: called on the screen, and predicted by its units of doubles (method J)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.benchmark.called_interactions import CalledInteractions
from pertscale.benchmark.state import ScreenRun
from pertscale.benchmark.tasks.base import Task
from pertscale.benchmark.units.base import with_head
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.kept import remove_superseded
from pertscale.errors import InputError
from pertscale.evaluation import call_curve, own_targets
from pertscale.evaluation.interaction_calls import deviating_models
from pertscale.hashing import digest
from pertscale.io.parquet import table_file
from pertscale.results.unit_files import open_predictions
from pertscale.schema import (
    DOUBLE,
    GENE,
    INTERACTION_COLUMNS,
    INTERACTIONS,
    INTERACTIONS_FILE,
    MODEL,
    PERTURBATION,
    TOP_EXPRESSED,
    WORK_DIR,
)
from pertscale.stats.interactions import complete_doubles, find_interactions
from pertscale.storage.folder_names import slug
from pertscale.versions import INTERACTIONS_VERSION

_INTERACTION_METRICS: Final = ("auprc_interactions", "auroc_interactions")


class GeneticInteractions(Task):
    """Which genes deviate from additivity in doubles, and which models predict that."""

    name = INTERACTIONS

    def run(self, screen: ScreenRun) -> None:
        """Call the interactions of each context."""
        for context in screen.labels.contexts:
            _call(screen, context)
        used = [called.path for called in screen.interactions.values()]
        remove_superseded(_folder(screen), used)

    def scores(self, screens: Sequence[ScreenRun]) -> list[pd.DataFrame]:
        """Return the scores of calls; those of a screen are of its own tables and of all."""
        for screen in screens:
            if screen.interaction_scores is None:
                screen.interaction_scores = list(_scores(screen))
        return [table for screen in screens for table in screen.interaction_scores or ()]

    def write_tables(self, folder: Path, screens: Sequence[ScreenRun]) -> None:
        """Write all pairs that were judged, screen by screen and context by context."""
        with table_file(folder / INTERACTIONS_FILE, declared=INTERACTION_COLUMNS) as write:
            for screen in screens:
                for called in screen.interactions.values():
                    write(called.rows())

    def manifest(self, screens: Sequence[ScreenRun]) -> dict[str, Any]:
        """Return the null and the limits of the calls, by context."""
        called = {c: found for screen in screens for c, found in screen.interactions.items()}
        return {INTERACTIONS: {context: found.record for context, found in called.items()}}


def _scores(screen: ScreenRun) -> Iterator[pd.DataFrame]:
    """Yield the scores of each split of each context."""
    for context, called in screen.interactions.items():
        judged = called.table()  # of all splits
        for unit in screen.record.expression:
            if (unit.task, unit.context) == (DOUBLE, context):
                yield score_interactions(screen.folder, unit, judged)


def score_interactions(out: Path, unit: ExpressionUnit, judged: pd.DataFrame) -> pd.DataFrame:
    """Score how well each model's deviations from additivity find the interactions (method J5-J7).

    `judged` are the pairs of all doubles, as ``Interactions.table`` has them. What a model does not
    predict counts as no change. The targets of a double are left out, unless the unit includes
    targets. The areas are not defined for a model that is additive, which calls nothing, nor where
    none or all of the pairs interact.
    """
    rows = []
    scored, interaction = _scored_pairs(unit, judged), judged["interaction"].to_numpy()
    predictions = open_predictions(out / unit.folder)["prediction"]
    deviating = {found.model: found for found in deviating_models(judged, predictions)}
    for method in map(str, predictions[MODEL].values):
        areas, n = (np.nan, np.nan), 0
        if method in deviating:
            found = deviating[method]
            counts = scored[found.at]
            truth, n = interaction[found.at[counts]], int(counts.sum())
            if truth.any() and not truth.all():
                curve = call_curve(found.deviation[counts], truth)
                areas = (curve.auprc(), curve.auroc())
        rows += [
            (method, "overall", "", metric, value, n)
            for metric, value in zip(_INTERACTION_METRICS, areas, strict=True)
        ]
    table = pd.DataFrame(rows, columns=["method", "level", "group", "metric", "value", "n"])
    head = {"task": INTERACTIONS, "context": unit.context, "train_contexts": unit.source}
    return with_head(table, unit.params(out), unit.split, **head, setting=TOP_EXPRESSED)


def _scored_pairs(unit: ExpressionUnit, pairs: pd.DataFrame) -> np.ndarray:
    """Mark the pairs of perturbation and gene that count."""
    if unit.targets == "include":
        return np.ones(len(pairs), bool)
    row, names = pd.factorize(pairs[PERTURBATION])
    column, genes = pd.factorize(pairs[GENE])
    own = own_targets(list(names), list(genes), target_genes=unit.target_genes)
    return np.asarray(~own[row, column])


def _call(run: ScreenRun, context: str) -> None:
    """Call the interactions of a context, or record why they can't be."""
    profiles = run.profiles[context].values
    left_out = run.left_out.get(context, {})
    if left_out:
        profiles = profiles[~np.isin(profiles[PERTURBATION].values.astype(str), list(left_out))]
    names = [str(n) for n in profiles[PERTURBATION].values]
    targets = run.screen.targets
    if not complete_doubles(names, targets):
        n = sum(len(targets[name]) == 2 for name in names)
        reason = f"{n} double perturbations, none with both of its singles; A, B and A+B are needed"
        run.log.skip(INTERACTIONS, context, reason)
        return
    with run.log.stage(INTERACTIONS, context):
        try:
            found = find_interactions(profiles, targets=targets)
        except InputError as error:
            run.log.skip(INTERACTIONS, context, str(error))
            return
        without = [sorted(left_out)] if left_out else []
        key = digest(INTERACTIONS_VERSION, run.profiles[context].key, *without)
        path = _folder(run) / f"{slug(context)}-{key[:12]}.parquet"
        run.interactions[context] = CalledInteractions.keep(path, context, found)


def _folder(run: ScreenRun) -> Path:
    return run.folder / WORK_DIR / INTERACTIONS
