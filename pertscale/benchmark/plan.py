"""What a benchmark is to run: splits, units of classifiers and of models of expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale import embeddings
from pertscale.baselines import METHODS
from pertscale.benchmark import expression
from pertscale.benchmark.expression import DOUBLE, SINGLE, ExpressionUnit
from pertscale.benchmark.log import Log
from pertscale.benchmark.units import TASK, LabelMatrix, Unit, label_matrix, slug
from pertscale.conditions import target_group
from pertscale.embeddings import Embedding
from pertscale.errors import InputError
from pertscale.schema import CONTROL, PERTURBATION, SPLITS_DIR
from pertscale.screen import Screen
from pertscale.splits import Split, doubles_split, holdout
from pertscale.stats.curation import Curation, curate
from pertscale.stats.interactions import Interactions
from pertscale.stats.labels import LabelTable
from pertscale.stats.pseudobulk import read_pseudobulk

SETTINGS = ("full", "full_without_target", "curated")
#: Classes within a context; expression of held-out singles and doubles; genetic interactions.
TASKS = (TASK, SINGLE, DOUBLE, "interactions")
#: Principal components of the embedding that is learned from the training part (SPEC H4).
TRAINING_DIM = 10
#: Scratch below the output folder that later calls reuse.
WORK_DIR = ".work"


@dataclass(frozen=True)
class Splitting:
    """How perturbations are held out: by a given split, or by drawing one per seed."""

    given: Split | None
    seeds: tuple[int, ...]
    test_fraction: float

    def splits(self, names: Sequence[str], groups: dict[str, str]) -> list[Split]:
        """Split the perturbations of a context; `groups` are their targets."""
        if self.given is not None:
            return [self.given.restrict(names)]
        mine = {name: groups[name] for name in names}
        return [
            holdout(names, test_fraction=self.test_fraction, seed=seed, groups=mine)
            for seed in self.seeds
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the options for the manifest."""
        if self.given is not None:
            return {"split": self.given.name, "split_hash": self.given.hash}
        return {"seeds": list(self.seeds), "test_fraction": self.test_fraction}


@dataclass
class Plan:
    """What is to be run, collected context by context."""

    folder: Path
    screen: Screen
    labels: LabelTable
    embedding: Embedding | None
    methods: list[str]
    models: list[str]
    log: Log
    units: list[Unit] = field(default_factory=list)
    expression: list[ExpressionUnit] = field(default_factory=list)
    interactions: dict[str, Interactions] = field(default_factory=dict)
    failed: list[Unit] = field(default_factory=list)
    matrices: dict[tuple[str, str], LabelMatrix] = field(default_factory=dict)
    vectors: dict[tuple[str, str], Embedding] = field(default_factory=dict)
    splits: dict[str, dict[str, str]] = field(default_factory=dict)


def plan_context(
    plan: Plan, context: str, tasks: Sequence[str], settings: Sequence[str], how: Splitting
) -> None:
    """Split the perturbations of a context and list what to fit and score."""
    table = plan.labels.perturbations
    mine = table[(table["context"] == context) & table["tested"]]
    groups = target_group(plan.screen.perturbations, set(plan.screen.genes))
    try:
        splits = how.splits(list(mine[PERTURBATION]), groups)
    except InputError as error:
        plan.log.skip("all methods", context, str(error))
        return
    if TASK in tasks:
        _plan_classes(plan, context, mine, splits, settings, groups)
    if plan.models:
        _plan_expression(plan, context, list(mine[PERTURBATION]), splits, tasks, how)


def _plan_classes(
    plan: Plan,
    context: str,
    mine: pd.DataFrame,
    splits: Sequence[Split],
    settings: Sequence[str],
    groups: dict[str, str],
) -> None:
    """List the classifiers' units; `mine` are the tested perturbations of the context."""
    if not (mine["n_up"] + mine["n_down"]).any():
        plan.log.skip(
            "curated", context, "no gene is differentially expressed in any perturbation; scores "
            "of the full setting only say how often a method predicts otherwise",
        )  # fmt: skip
    full = tuple(s for s in settings if s.startswith("full"))
    tables = {"full": (plan.labels, full)} if full else {}
    if "curated" in settings and (mine["n_up"] + mine["n_down"]).any():
        try:
            tables["curated"] = (
                curate(plan.labels, context=context, recipe=Curation()),
                ("curated",),
            )
        except InputError as error:
            plan.log.skip("curated", context, str(error))
    for split in splits:
        _write_split(plan, context, split)
        for kind, (labels, wanted) in tables.items():
            matrix = label_matrix(labels, context, plan.folder / WORK_DIR / kind)
            plan.matrices[context, kind] = matrix
            try:
                usable = split.restrict(matrix.perturbations)
            except InputError as error:
                plan.log.skip(f"{kind}, {split.name}", context, str(error))
                continue
            _plan_units(plan, context, kind, usable, split, wanted, groups)


def _plan_expression(
    plan: Plan,
    context: str,
    names: list[str],
    splits: Sequence[Split],
    tasks: Sequence[str],
    how: Splitting,
) -> None:
    """List the units of expression: the same split for singles, one of its own for doubles."""
    if SINGLE in tasks:
        for split in splits:
            _plan_expression_unit(plan, context, SINGLE, split, expression.single_unit)
    if DOUBLE not in tasks:
        return
    try:
        doubles = splits if how.given else [doubles_split(names, seed=s) for s in how.seeds]
    except InputError as error:
        plan.log.skip(DOUBLE, context, str(error))
        return
    for split in doubles:
        _plan_expression_unit(plan, context, DOUBLE, split, expression.double_unit)


def _plan_expression_unit(
    plan: Plan,
    context: str,
    task: str,
    split: Split,
    make: Callable[[str, Split, Sequence[str]], ExpressionUnit],
) -> None:
    try:
        unit = make(context, split, plan.models)
    except InputError as error:
        plan.log.skip(f"{task}, {split.name}", context, str(error))
        return
    _write_split(plan, context, split)
    plan.expression.append(unit)


def _write_split(plan: Plan, context: str, split: Split) -> None:
    file = f"{slug(context)}-{split.name}.json"
    split.write(plan.folder / SPLITS_DIR / file)
    plan.splits.setdefault(context, {})[split.name] = file


def _plan_units(
    plan: Plan,
    context: str,
    kind: str,
    usable: Split,
    split: Split,
    settings: tuple[str, ...],
    groups: dict[str, str],
) -> None:
    embedding = _embedding_for(plan, context, split)
    for name in plan.methods:
        key = ""
        if METHODS[name].needs_embedding:
            if isinstance(embedding, str):
                plan.log.skip(f"{name} ({kind}, {split.name})", context, embedding)
                continue
            covered = np.isfinite(vectors_of(plan, embedding, usable.train)).all(axis=1)
            if not covered.any():
                reason = f"embedding {embedding.name!r} has none of the training perturbations"
                plan.log.skip(f"{name} ({kind}, {split.name})", context, reason)
                continue
            key = embedding.hash
        plan.units.append(
            Unit(context, kind, usable, name, settings, tuple(groups[n] for n in usable.train), key)
        )


def _embedding_for(plan: Plan, context: str, split: Split) -> Embedding | str:
    """Return the vectors for a split, or why there are none."""
    if plan.embedding is not None:
        plan.vectors[context, split.name] = plan.embedding
        return plan.embedding
    if (context, split.name) not in plan.vectors:
        profiles = read_pseudobulk(plan.folder, context=context)["mean_log1p"]
        mine = np.isin(profiles[PERTURBATION].values.astype(str), [*split.train, CONTROL])
        dim = min(TRAINING_DIM, int(mine.sum()) - 1, len(plan.labels.genes) - 1)
        if dim < 1:
            return "too few training perturbations to learn an embedding from; pass embedding="
        learned = embeddings.from_training(
            profiles.isel({PERTURBATION: mine}).values, genes=list(plan.labels.genes), dim=dim
        )
        plan.vectors[context, split.name] = learned
    return plan.vectors[context, split.name]


def vectors_of(plan: Plan, embedding: Embedding, names: Sequence[str]) -> np.ndarray:
    """Return the vectors of perturbations, (n, d), scaled to length 1; NaN where there is none."""
    return embedding.normalized().vectors(names, targets=plan.screen.targets)
