"""Expression of held-out singles and doubles, planned and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pertscale.benchmark.external import with_profiles
from pertscale.benchmark.state import ContextPlan, ScreenRun
from pertscale.benchmark.tasks.base import Task
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.profiles import OwnProfiles
from pertscale.benchmark.vectors import learned_from, vectors_for
from pertscale.errors import InputError
from pertscale.schema import DOUBLE, PERTURBATION
from pertscale.splits import Split

#: Restricts a split to what a task predicts, by the target genes of each perturbation.
Restrict = Callable[[Split, Mapping[str, Sequence[str]]], Split]


@dataclass(frozen=True)
class HeldOutExpression(Task):
    """The profiles of held-out perturbations with one target, or with two.

    Singles have the splits of the classes, doubles splits of their own.
    """

    name: str
    restrict: Restrict

    def plan(self, context: ContextPlan) -> None:
        """List the units of all splits."""
        run = context.run
        if not (run.options.models or run.external.files):
            return
        for split in _splits_of_doubles(context) if self.name == DOUBLE else context.splits:
            _plan_split(run, context.context, self.name, split, self.restrict)


def _splits_of_doubles(context: ContextPlan) -> list[Split]:
    """Split the doubles of a context, or record why that can't be."""
    run, names, targets = context.run, context.names, context.run.screen.targets
    more = [name for name in names if len(targets[name]) > 2]
    if more:
        reason = (
            f"{len(more)} perturbations have more than two targets, such as {more[0]}; the task "
            f"{DOUBLE!r} predicts none of them"
        )
        run.log.skip(f"{DOUBLE}: more than two targets", context.context, reason)
    try:
        splits = run.options.rule.of_doubles(names, targets)
    except InputError as error:
        run.log.skip(DOUBLE, context.context, str(error))
        return []
    if run.options.rule.given is None:
        n = sum(len(targets[name]) == 2 for name in names)
        run.tell_splits(context.context, "doubles", splits, n)
    return splits


def _plan_split(run: ScreenRun, context: str, task: str, split: Split, restrict: Restrict) -> None:
    """List the unit of one split."""
    try:
        usable = restrict(split, run.screen.targets)
    except InputError as error:
        run.log.skip(f"{task}, {split.name}", context, str(error))
        return
    run.record.keep_split(context, split)
    given = with_profiles(run.external.for_split(context, split, log=run.log))
    models = run.options.models
    embedding = None
    if any(method.needs_embedding for method in models.values()):
        vectors = vectors_for(run, context, split)
        embedding = None if isinstance(vectors, str) else vectors
    if models or given:
        groups = run.screen.context_groups(context)
        sizes = run.screen.group_sizes[groups.index]
        unit = ExpressionUnit(
            task=task,
            context=context,
            split=usable,
            target_genes=run.screen.targets,
            profiles=OwnProfiles(
                run.profiles[context], usable.train, learned_from(run, context, usable.train)
            ),
            models=models,
            user_models=run.options.user_models,
            given=given,
            embedding=embedding,
            targets=run.options.targets,
            controls=run.options.controls,
            n_cells=dict(zip(groups[PERTURBATION], sizes, strict=True)),
            halves=run.halves(context),
        )
        run.record.expression.append(unit)
