"""Expression of held-out singles and doubles, planned and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import xarray as xr

from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.state import (
    RunRecord,
    ScreenRun,
    given_for,
    keep_split,
    tell_splits,
    with_profiles,
)
from pertscale.benchmark.tasks.interactions import call_interactions
from pertscale.benchmark.units import expression_unit
from pertscale.benchmark.units.class_unit import check_unit_replaceable
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.vectors import embedding_for
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import InputError
from pertscale.schema import CONTROL, DOUBLE, INTERACTIONS, PERTURBATION, SINGLE
from pertscale.splits import Split
from pertscale.splits.rule import double_split, single_split


def plan_expression(
    plan: ScreenRun, context: str, names: list[str], splits: Sequence[Split]
) -> None:
    """List the units of expression: the same split for singles, one of its own for doubles."""
    wanted, targets = plan.wanted, plan.screen.targets
    if SINGLE in wanted.tasks:
        for split in splits:
            _plan_expression_unit(plan, context, SINGLE, split, single_split)
    if DOUBLE not in wanted.tasks:
        return
    more = [name for name in names if len(targets[name]) > 2]
    if more:
        reason = (
            f"{len(more)} perturbations have more than two targets, such as {more[0]}; the task "
            f"{DOUBLE!r} predicts none of them"
        )
        plan.log.skip(f"{DOUBLE}: more than two targets", context, reason)
    try:
        doubles = wanted.how.of_doubles(names, targets)
    except InputError as error:
        plan.log.skip(DOUBLE, context, str(error))
        return
    if wanted.how.given is None:
        n = sum(len(targets[name]) == 2 for name in names)
        tell_splits(plan, context, "doubles", doubles, n)
    for split in doubles:
        _plan_expression_unit(plan, context, DOUBLE, split, double_split)


def _plan_expression_unit(
    plan: ScreenRun,
    context: str,
    task: str,
    split: Split,
    restrict: Callable[[Split, Mapping[str, Sequence[str]]], Split],
) -> None:
    targets = plan.screen.targets
    try:
        usable = restrict(split, targets)
    except InputError as error:
        plan.log.skip(f"{task}, {split.name}", context, str(error))
        return
    keep_split(plan, context, split)
    given = with_profiles(given_for(plan, context, split))
    models = plan.wanted.models
    embedding = None
    if any(method.needs_embedding for method in models.values()):
        found = embedding_for(plan, context, split)
        embedding = found if isinstance(found, Embedding) else None
    if models or given:
        groups = plan.screen.context_groups(context)
        n_cells = dict(zip(groups[PERTURBATION], groups["stop"] - groups["start"], strict=True))
        plan.expression.append(
            ExpressionUnit(
                context,
                task,
                usable,
                models,
                plan.wanted.own,
                given,
                embedding,
                targets=plan.wanted.targets,
                target_genes=plan.screen.targets,
                n_cells=n_cells,
            )
        )


def run_expression(plan: ScreenRun) -> None:
    """Fit and score the models of expression, then call interactions."""
    for unit in plan.expression:
        observed = plan.profiles(unit.context)
        train = rows_of(observed, [CONTROL, *unit.split.train])
        run_expression_unit(plan, unit, partial(_same, train), observed, plan.labels.key)
    if INTERACTIONS in plan.wanted.tasks:
        for context in plan.labels.contexts:
            call_interactions(plan, context)


def run_expression_unit(
    runs: RunRecord,
    unit: ExpressionUnit,
    train: Callable[[], xr.DataArray],
    observed: xr.DataArray,
    inputs: str,
) -> None:
    """Run a unit, or take it from an earlier call; `train` gives the profiles to fit on."""
    with runs.log.stage("expression", unit.title) as stage:
        stage.reused = expression_unit.is_done(runs.folder, unit, inputs, quiet=runs.log.quiet)
        if not stage.reused:
            check_unit_replaceable(runs.folder / unit.folder)
            runs.unmark()
            seconds = expression_unit.run_unit(runs.folder, unit, train(), observed, inputs)
            for model, value in seconds.items():
                runs.log.add("model", f"{unit.title} / {model}", value)
    for model, reason in expression_unit.unit_record(runs.folder, unit)["failed"].items():
        source = f" from {unit.source}" if unit.train_contexts else ""
        runs.log.skip(f"{model} ({unit.task}{source}, {unit.split.name})", unit.context, reason)


def _same(train: xr.DataArray) -> xr.DataArray:
    return train
