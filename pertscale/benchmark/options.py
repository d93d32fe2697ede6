"""What a run was asked for, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pertscale import embeddings
from pertscale.baselines import EXPRESSION_MODELS, METHODS, ExpressionMethod, Method
from pertscale.baselines.registry import DEFAULT_METHODS, SCORED_ON_HALVES
from pertscale.baselines.thresholds import RULES, Rule
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, did_you_mean
from pertscale.evaluation.resampling.draws import Cluster, check_cluster
from pertscale.evaluation.shared_control import Controls, check_controls
from pertscale.evaluation.target_genes import Targets, check_targets
from pertscale.predictions.given_split import on_screen
from pertscale.schema import CONFIDENT, REPLICATES, SETTINGS, TASKS
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.splits.drawn import check_test_fraction
from pertscale.splits.rule import SplitRule
from pertscale.stats.differential.rank_sum import check_replicates


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What the user asked for.

    Attributes
    ----------
    methods : dict of str to Method
        Classifiers by name.
    models : dict of str to ExpressionMethod
        Models of expression by name.
    user_models : frozenset of str
        Which of both are the user's.
    tasks, settings : tuple of str
    rule : SplitRule
    embedding : Embedding, optional
    threshold : {'match_rate', 'macro_f1'}
    exclude_test_perturbations : bool
    aliases
        Other names of genes → names.
    targets : {'exclude', 'include'}
        Whether the targets of a perturbation are left out of its scores of expression.
    controls : {'split', 'shared'}
        Whether predicted and true changes are from halves of the controls.
    intervals : bool
        Whether scores get intervals, and methods are compared and ranked.
    cluster : {'targets', 'gene'}
        What resamples draw.
    reference : str, optional
        Method that others are compared with, in place of that of their task.
    replicates : int
        Ways in which cells are halved, to score replicates.
    min_knockdown : float, optional
        Share by which a target's expression has to be lowered; without it nobody is left out.
    """

    methods: dict[str, Method]
    models: dict[str, ExpressionMethod]
    user_models: frozenset[str]
    tasks: tuple[str, ...]
    settings: tuple[str, ...]
    rule: SplitRule
    embedding: Embedding | None
    threshold: Rule
    exclude_test_perturbations: bool
    aliases: Any
    targets: Targets = "exclude"
    controls: Controls = "split"
    intervals: bool = True
    cluster: Cluster = "targets"
    reference: str | None = None
    replicates: int = REPLICATES
    min_knockdown: float | None = None

    def on(self, screen: Screen) -> BenchmarkOptions:
        """Return the same options, with the names of a given split as the screen has them."""
        if self.rule.given is None:
            return self
        given = on_screen(self.rule.given, screen, self.aliases)
        return replace(self, rule=replace(self.rule, given=given))

    def methods_on(self, kind: str) -> dict[str, Method]:
        """Return the classifiers that are fitted on a kind of labels, full or curated."""
        return {n: m for n, m in self.methods.items() if kind != "full" or not m.needs_gaps}


def read_options(
    user_models: Mapping[str, Method | ExpressionMethod],
    files: Iterable[str],
    *,
    embedding: Any,
    split: Any,
    tasks: Sequence[str],
    methods: Sequence[str] | None,
    settings: Sequence[str],
    test_fraction: float,
    seed: int | Sequence[int] | None,
    gene_disjoint: bool,
    threshold: Rule,
    exclude_test_perturbations: bool,
    aliases: Any,
    targets: Targets = "exclude",
    controls: Controls = "split",
    intervals: bool = True,
    cluster: Cluster = "targets",
    reference: str | None = None,
    replicates: int = REPLICATES,
    min_knockdown: float | None = None,
) -> BenchmarkOptions:
    """Check the options of :func:`run_benchmark`, and read the files among them."""
    _check_names("methods", methods or (), [*METHODS, *EXPRESSION_MODELS])
    _check_names("settings", settings, SETTINGS)
    _check_names("tasks", tasks, TASKS)
    check_test_fraction(test_fraction)
    if threshold not in RULES:
        raise ArgumentError(f"threshold={threshold!r} is not one of {', '.join(RULES)}")
    check_targets(targets)
    check_controls(controls)
    _check_apart([*METHODS, *EXPRESSION_MODELS, *SCORED_ON_HALVES], user_models, files)
    settings = _measurable(settings, replicates)
    chosen = DEFAULT_METHODS if methods is None else methods
    everything: dict[str, Any] = METHODS | EXPRESSION_MODELS | dict(user_models)
    check_cluster(cluster)
    check_replicates(replicates)
    if min_knockdown is not None and not 0 < min_knockdown <= 1:
        raise ArgumentError(
            f"min_knockdown={min_knockdown} is the share by which a target's expression has to be "
            "lowered, such as 0.3; it has to lie above 0 and at most at 1"
        )
    if reference is not None:
        _check_names("reference", [reference], [*chosen, *user_models, *files])
    used = {name: m for name, m in everything.items() if name in chosen or name in user_models}
    if gene_disjoint and split is not None:
        raise ArgumentError(
            "gene_disjoint=True says how splits are drawn, and split= gives one; pass one of both"
        )
    seeds = seed if seed is None else (seed,) if isinstance(seed, int) else tuple(seed)
    return BenchmarkOptions(
        methods={name: m for name, m in used.items() if isinstance(m, Method)},
        models={name: m for name, m in used.items() if isinstance(m, ExpressionMethod)},
        user_models=frozenset(user_models),
        tasks=tuple(tasks),
        settings=tuple(settings),
        rule=SplitRule(_read_split(split), seeds, test_fraction, gene_disjoint),
        embedding=_read_embedding(embedding),
        threshold=threshold,
        exclude_test_perturbations=exclude_test_perturbations,
        aliases=aliases,
        targets=targets,
        controls=controls,
        intervals=intervals,
        cluster=cluster,
        reference=reference,
        replicates=replicates,
        min_knockdown=min_knockdown,
    )


def _measurable(settings: Sequence[str], replicates: int) -> tuple[str, ...]:
    """Return the settings, by default without the one that needs halves where there are none."""
    if replicates or CONFIDENT not in settings:
        return tuple(settings)
    if tuple(settings) != SETTINGS:
        raise ArgumentError(
            f"the setting {CONFIDENT!r} is of a run with replicates, and replicates=0 switches "
            "these off; pass one of both"
        )
    return tuple(s for s in settings if s != CONFIDENT)


def _check_apart(ours: Sequence[str], user_models: Iterable[str], files: Iterable[str]) -> None:
    """Refuse a name that stands for two methods, or that tables can't hold."""
    seen = set(ours)
    for name in [*user_models, *files]:
        if not name.strip():
            raise ArgumentError("a model or a file of predictions has an empty name")
        if name in seen:
            raise ArgumentError(f"{name!r} names two methods; give predictions and models others")
        seen.add(name)


def _check_names(what: str, names: Sequence[str], known: Any) -> None:
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ArgumentError(f"{what} has {name!r}, known are {', '.join(known)}{near}")


def _read_embedding(embedding: Any) -> Embedding | None:
    if embedding is None or isinstance(embedding, Embedding):
        return embedding
    return embeddings.read(embedding)


def _read_split(split: Any) -> Split | None:
    if split is None or isinstance(split, Split):
        return split
    if not isinstance(split, str | os.PathLike):
        raise ArgumentError(
            f"split= takes a split file or a pertscale.Split, got {type(split).__name__}"
        )
    return Split.read(split)
