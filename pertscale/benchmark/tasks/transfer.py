"""From some contexts to another: units that are trained elsewhere (method E4).

A site is a context of a screen, wherever its store is. For every target site methods are fitted on
the perturbations of each other site alone (pairwise), and of all others together (pooled); those
that the target holds out are left out there too, unless asked for otherwise. Genes are matched by
name, id or alias; what perturbations are called in another site follows from what their target
genes are called.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.baselines import ExpressionMethod, ExpressionModel, Method
from pertscale.baselines.expression.base import rows_of
from pertscale.baselines.registry import COPY, OTHER_SCREEN, TRANSFER_METHODS, TRANSFER_MODELS
from pertscale.benchmark.state import RunRecord, ScreenRun, given_for, with_profiles
from pertscale.benchmark.tasks.expression import run_expression_unit
from pertscale.benchmark.tasks.within import has_none, run_units
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.label_matrix import LabelMatrix
from pertscale.benchmark.units.predictors import (
    ClassifierPredictor,
    FilePredictor,
    TrainingLabels,
    thresholded_file,
)
from pertscale.benchmark.vectors import learned_embedding
from pertscale.embeddings.components import from_screen
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import InputError
from pertscale.gene_names import GeneMatch, match_genes
from pertscale.hashing import digest
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import matching
from pertscale.io.parquet import stacked
from pertscale.io.store.layout import is_store, open_root, read_column
from pertscale.perturbation_names import is_unassigned_word, name_of, targets
from pertscale.predictions.cells import gene_ids
from pertscale.predictions.predictions import EXPRESSION, AlignedPredictions
from pertscale.schema import CONTROL, GENE, PERTURBATION, SCORE_COLUMNS, TRANSFER
from pertscale.splits import Split
from pertscale.splits.rule import single_split

#: In place of training contexts, where predictions come from a file.
FROM_FILE: Final = "file"
#: Columns of cells that tell what was done to them.
_KIND_COLUMNS: Final = ("perturbation_type", "perturbation_method", "crispr_type")
#: Why methods of transfer do not run by default.
_NEEDS_SEEN: Final = (
    "they need the held-out perturbations in other contexts; pass exclude_test_perturbations=False"
)


@dataclass(frozen=True, eq=False)
class TransferContext:
    """A context that can be trained on or predicted.

    Attributes
    ----------
    name : str
        Name in score tables: the context, with the store where that alone is not unique.
    plan : ScreenRun
    context : str
    """

    name: str
    plan: ScreenRun
    context: str

    @property
    def splits(self) -> list[Split]:
        """Splits of its perturbations, one per seed."""
        return self.plan.class_splits.get(self.context, [])

    @cached_property
    def groups(self) -> dict[str, str]:
        """Target behind each perturbation."""
        return self.plan.screen.target_groups

    @property
    def genes(self) -> list[str]:
        """Read-out genes."""
        return list(self.plan.screen.genes)

    @cached_property
    def gene_ids(self) -> list[str] | None:
        """Second names of the genes."""
        return gene_ids(self.plan.screen)

    @cached_property
    def perturbations(self) -> list[str]:
        """Perturbations of the context."""
        groups = self.plan.screen.context_groups(self.context)
        return list(groups.loc[~groups["is_control"], PERTURBATION])

    @cached_property
    def kinds(self) -> frozenset[str]:
        """What a column says was done to its cells: ``CRISPRa``; empty where none says so.

        Empty as well where a plan is made before the file is ingested.
        """
        if not is_store(self.plan.screen.path):
            return frozenset()
        obs = open_root(self.plan.screen.path)["obs"]
        column = next(iter(matching(obs.attrs["column-order"], _KIND_COLUMNS)), None)
        if column is None:
            return frozenset()
        values = text_categories(pd.Series(read_column(obs, column)))
        groups = self.plan.screen.context_groups(self.context)
        rows = groups.loc[~groups["is_control"], ["start", "stop"]].itertuples(index=False)
        found = np.unique(np.concatenate([values.codes[first:last] for first, last in rows]))
        words = [str(values.categories[code]) for code in found if code >= 0]
        return frozenset(word for word in words if not is_unassigned_word(word))

    def matrix(self, kind: str) -> LabelMatrix | None:
        """Labels of a kind, full or curated."""
        return self.plan.matrices.get((self.context, kind))


@dataclass(frozen=True, eq=False)
class NameMap:
    """Names of a source site in terms of a target site.

    Attributes
    ----------
    source, target : TransferContext
    aliases
        Other names of genes → names.
    """

    source: TransferContext
    target: TransferContext
    aliases: Any

    @cached_property
    def match(self) -> GeneMatch:
        """Where the source's read-out genes are in the target."""
        return match_genes(
            self.source.genes,
            self.target.genes,
            ids=self.source.gene_ids,
            reference_ids=self.target.gene_ids,
            aliases=read_aliases(self.aliases),
        )

    @cached_property
    def position(self) -> np.ndarray:
        """Position of each gene of the target in the source, -1 where it has none."""
        position = np.full(len(self.target.genes), -1, np.intp)
        here = np.flatnonzero(self.match.position >= 0)
        position[self.match.position[here]] = here
        return position

    @cached_property
    def group(self) -> dict[str, str]:
        """Perturbation of the source → its target genes as the target site calls them."""
        wanted = {g for group in self.target.groups.values() for g in targets(group)}
        mine = sorted({g for group in self.source.groups.values() for g in targets(group)})
        reference = [*self.target.genes, *sorted(wanted - set(self.target.genes))]
        ids = self.target.gene_ids
        reference_ids = None if ids is None else [*ids, *reference[len(ids) :]]
        own_ids = self.source.gene_ids
        second = {} if own_ids is None else dict(zip(self.source.genes, own_ids, strict=True))
        found = match_genes(
            mine,
            reference,
            ids=[second.get(g, g) for g in mine],
            reference_ids=reference_ids,
            aliases=read_aliases(self.aliases),
        )
        called = {
            gene: reference[at] if at >= 0 else gene
            for gene, at in zip(mine, found.position.tolist(), strict=True)
        }
        return {
            name: name_of(called[g] for g in targets(group))
            for name, group in self.source.groups.items()
        }

    def account(self) -> dict[str, Any]:
        """Return a row of the coverage table: genes of the target that the source has."""
        there = self.position >= 0
        genes = np.array(self.target.genes, object)
        names, wanted = self.source.perturbations, self.target.perturbations
        known = {self.target.groups[name] for name in wanted}
        here = {self.group[name] for name in names}
        missing = [name for name in wanted if self.target.groups[name] not in here]
        how = self.match.account["how"].value_counts().to_dict() if len(self.match.account) else {}
        genes_told = [f"{n} genes of the source: {why}" for why, n in how.items()]
        return {
            "what": "transfer",
            "name": self.source.name,
            "context": self.target.name,
            "split": "",
            "n_perturbations": len(wanted),
            "n_perturbations_predicted": len(wanted) - len(missing),
            "perturbations_missing": ",".join(missing),
            "n_genes": len(genes),
            "n_genes_predicted": int(there.sum()),
            "genes_missing": ",".join(genes[~there]),
            "not_in_screen": ",".join(n for n in names if self.group[n] not in known),
            "note": ", ".join(filter(None, [self.refused, *genes_told])),
        }

    @cached_property
    def refused(self) -> str:
        """Why nothing is transferred: what was done to the cells differs; empty if it is."""
        mine, theirs = self.source.kinds, self.target.kinds
        if mine and theirs and not mine & theirs:
            return (
                f"its perturbations are {' and '.join(sorted(mine))}, those of {self.target.name} "
                f"{' and '.join(sorted(theirs))}, which do different things to a gene: nothing is "
                "transferred"
            )
        known = {self.target.groups[name] for name in self.target.perturbations}
        if not any(self.group[name] in known for name in self.source.perturbations):
            return (
                f"none of its {len(self.source.perturbations)} perturbations is one of the "
                f"{len(self.target.perturbations)} of {self.target.name}: nothing is transferred; "
                "where the two spell genes in different ways, pass aliases="
            )
        return ""


def transfer_contexts(plans: Sequence[ScreenRun]) -> list[TransferContext]:
    """Return the contexts of all screens, with names of their own."""
    pairs = [(plan, context) for plan in plans for context in plan.labels.contexts]
    contexts = [context for _, context in pairs]
    return [
        TransferContext(
            context if contexts.count(context) == 1 else f"{plan.folder.name}:{context}",
            plan,
            context,
        )
        for plan, context in pairs
    ]


def plan_transfer(plans: Sequence[ScreenRun], root: RunRecord) -> list[TransferExpression]:
    """List the units of all targets in the plan `root`; return those of expression."""
    sites = [site for site in transfer_contexts(plans) if site.splits]
    expression: list[TransferExpression] = []
    if len(sites) < 2:
        names = ", ".join(site.name for site in sites) or "none"
        reason = f"one context needs another to be trained on; there are: {names}"
        root.log.skip(TRANSFER, "", reason)
        return expression
    if root.wanted.exclude_test_perturbations:
        names = ", ".join(dict.fromkeys([*TRANSFER_METHODS, *TRANSFER_MODELS]))
        root.log.skip(f"{names} ({TRANSFER})", "", _NEEDS_SEEN)
    for target in sites:
        root.targets[target.name] = target.plan.screen.targets
        every = [NameMap(s, target, root.wanted.aliases) for s in sites if s is not target]
        root.coverage += [bridge.account() for bridge in every]
        bridges = [bridge for bridge in every if not bridge.refused]
        for bridge in every:
            if bridge.refused:
                root.log.skip(f"{TRANSFER} from {bridge.source.name}", target.name, bridge.refused)
        if not bridges:
            continue
        for split in target.splits:
            root.splits.setdefault(target.name, {})[split.name] = split
            given = given_for(
                target.plan, target.context, split, log=root.log, where=target.name, task=TRANSFER
            )
            _plan_given(root, target, split, bridges, given)
            for chosen in _modes(bridges):
                _plan_classes(root, target, split, chosen)
                mine = _expression_of(root, target, split, chosen, given)
                if mine is not None:
                    expression.append(mine)
    return expression


def _modes(bridges: Sequence[NameMap]) -> Iterator[list[NameMap]]:
    """Each source alone, then all together where there are several."""
    yield from ([bridge] for bridge in bridges)
    if len(bridges) > 1:
        yield list(bridges)


def _settings(root: RunRecord, kind: str) -> tuple[str, ...]:
    wanted = [s for s in root.wanted.settings if s.startswith(kind)]
    return tuple(name for s in wanted for name in (s, f"{kind}_overlap") if s == kind)


# --- classes --------------------------------------------------------------------------------------


def _plan_classes(
    root: RunRecord, target: TransferContext, split: Split, bridges: Sequence[NameMap]
) -> None:
    if target.context in target.plan.without_changes:
        return  # as in its own tables
    sources = tuple(bridge.source.name for bridge in bridges)
    for kind in ("full", "curated"):
        matrix, settings = target.matrix(kind), _settings(root, kind)
        if matrix is None or not settings:
            continue
        what = f"from {','.join(sources)} ({kind}, {split.name})"
        try:
            usable = split.restrict(matrix.perturbations)
            training = training_labels(
                bridges, kind, usable, exclude=root.wanted.exclude_test_perturbations
            )
        except InputError as error:
            root.log.skip(what, target.name, str(error))
            continue
        root.matrices[target.name, kind] = matrix
        methods = root.wanted.methods_on(kind)
        found = _predictors(root, methods, training, target, split, bridges)
        for name, predictor in found.items():
            if isinstance(predictor, str):
                root.log.skip(f"{name} {what}", target.name, predictor)
            else:
                root.units.append(
                    ClassUnit(
                        target.name, kind, usable, name, settings, predictor, TRANSFER, sources
                    )
                )


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Training labels of all sources, and what their rows are called in the target.

    Attributes
    ----------
    parts : tuple of TrainingLabels
    groups : tuple of str
        Target genes of each row.
    """

    parts: tuple[TrainingLabels, ...]
    groups: tuple[str, ...]


def training_labels(
    bridges: Sequence[NameMap], kind: str, split: Split, *, exclude: bool
) -> TrainingSet:
    """Return the sources' labels, where asked for without what the target holds out.

    Raises
    ------
    InputError
        If nothing is left.
    """
    target = bridges[0].target
    predicted = target.matrix(kind)
    assert predicted is not None
    wanted = pd.Index(target.genes).get_indexer(list(predicted.genes))
    parts, groups = [], []
    for bridge in bridges:
        source = bridge.source
        matrix = source.matrix(kind)
        if matrix is None:
            continue
        there_too = set(matrix.perturbations)
        names = tuple(n for n in _train_names(bridge, split, exclude) if n in there_too)
        if not names:
            continue
        there = pd.Index(matrix.genes).get_indexer(
            [source.genes[at] if at >= 0 else "" for at in bridge.position]
        )
        parts.append(TrainingLabels(matrix, names, there[wanted]))
        groups += [bridge.group[name] for name in names]
    if not parts:
        raise InputError("no training perturbation is left in the sources")
    return TrainingSet(tuple(parts), tuple(groups))


def _predictors(
    root: RunRecord,
    methods: Mapping[str, Method],
    training: TrainingSet,
    target: TransferContext,
    split: Split,
    bridges: Sequence[NameMap],
) -> dict[str, ClassifierPredictor | str]:
    """Return the classifiers on one training set, or why one can't be."""
    found: dict[str, ClassifierPredictor | str] = {}
    embedding: Embedding | str = _embedding(root, target, split, bridges)
    if isinstance(embedding, Embedding):
        training_vectors = embedding.normalized().vectors(list(training.groups))
        embedding = has_none(embedding, training_vectors) or embedding
    added = {} if root.wanted.exclude_test_perturbations else TRANSFER_METHODS
    for name, method in {**methods, **added}.items():
        if method.needs_embedding and isinstance(embedding, str):
            found[name] = embedding
            continue
        vectors = embedding if isinstance(embedding, Embedding) else None
        found[name] = _fitted(method, training, target, vectors if method.needs_embedding else None)
    return found


def _fitted(
    method: Method, training: TrainingSet, target: TransferContext, embedding: Embedding | None
) -> ClassifierPredictor:
    def test_groups(test: Sequence[str]) -> list[str]:
        return [target.groups[name] for name in test]

    def both(test: Sequence[str]) -> np.ndarray:
        assert embedding is not None
        return embedding.normalized().vectors([*training.groups, *test_groups(test)])

    def of_genes(genes: Sequence[str]) -> np.ndarray:
        assert embedding is not None
        return embedding.normalized().vectors(list(genes))

    return ClassifierPredictor(
        method=method,
        training=training.parts,
        groups=training.groups,
        test_groups=test_groups,
        vectors=both,
        gene_vectors=of_genes,
        vectors_key="" if embedding is None else embedding.hash,
    )


def _embedding(
    root: RunRecord, target: TransferContext, split: Split, bridges: Sequence[NameMap]
) -> Embedding | str:
    """Return the vectors of genes: those given, or learned from the profiles trained on."""
    if root.wanted.embedding is not None:
        return root.wanted.embedding
    shared = np.logical_and.reduce([bridge.position >= 0 for bridge in bridges])
    genes = [g for g, there in zip(target.genes, shared, strict=True) if there]
    if len(genes) < 2:
        return "the contexts share too few genes to learn vectors from; pass embedding="
    parts = []
    for bridge in bridges:
        profiles = bridge.source.plan.profiles(bridge.source.context)
        names = _train_names(bridge, split, root.wanted.exclude_test_perturbations)
        mine = rows_of(profiles, [CONTROL, *names])
        parts.append(mine.isel({GENE: bridge.position[shared]}).values)
    stacked = xr.DataArray(np.concatenate(parts), dims=(PERTURBATION, GENE))
    return learned_embedding(stacked, genes)


def _train_names(bridge: NameMap, split: Split, exclude: bool) -> list[str]:
    """Return the tested perturbations of a source, without those that the target holds out."""
    target, table = bridge.target, bridge.source.plan.labels.perturbations
    mine = table[(table["context"] == bridge.source.context) & table["tested"]][PERTURBATION]
    held_out = {target.groups[n] for n in split.held_out}
    return [n for n in mine if not (exclude and bridge.group[n] in held_out)]


# --- predictions from files -----------------------------------------------------------------------


def _plan_given(
    root: RunRecord,
    target: TransferContext,
    split: Split,
    bridges: Sequence[NameMap],
    given: Mapping[str, AlignedPredictions],
) -> None:
    """List what files say of a target's held-out perturbations, beside the transferred methods."""
    plan = target.plan
    if target.context in plan.without_changes:
        return
    there = np.logical_or.reduce([bridge.position >= 0 for bridge in bridges])
    shared = frozenset(itertools.compress(target.genes, there))
    for name, found in given.items():
        control = plan.outsiders.controls[target.context]
        is_expression = found.predictions.kind == EXPRESSION
        predictor = (
            thresholded_file(found, control, root.wanted.threshold, shared)
            if is_expression
            else FilePredictor(found, shared)
        )
        for kind in ("full", "curated"):
            matrix, settings = target.matrix(kind), _settings(root, kind)
            if matrix is None or not settings:
                continue
            try:
                usable = split.restrict(matrix.perturbations)
            except InputError:
                continue  # _plan_classes says so
            root.matrices[target.name, kind] = matrix
            root.units.append(
                ClassUnit(
                    target.name, kind, usable, name, settings, predictor, TRANSFER, (FROM_FILE,)
                )
            )


# --- expression -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TransferExpression:
    """A unit of expression with the profiles that it is fitted on.

    The effect of a perturbation in the sources, put on the target's own control, is a training
    profile of the target; where several sources have it, the mean of their effects. Genes that a
    source does not read out are unchanged in it.

    Attributes
    ----------
    unit : ExpressionUnit
    bridges : tuple of NameMap
    names : dict of str to list of (NameMap, str)
        Perturbation in the target's spelling → where it is.
    """

    unit: ExpressionUnit
    bridges: tuple[NameMap, ...]
    names: Mapping[str, list[tuple[NameMap, str]]]

    @property
    def target(self) -> TransferContext:
        """The context that is predicted."""
        return self.bridges[0].target

    @property
    def inputs(self) -> str:
        """Hash of all profiles."""
        keys = [bridge.source.plan.labels.key for bridge in self.bridges]
        listed = {name: [b.source.name + n for b, n in at] for name, at in self.names.items()}
        positions = [bridge.position for bridge in self.bridges]
        return digest(self.target.plan.labels.key, keys, listed, *positions)

    def observed(self) -> xr.DataArray:
        """Return the target's own profiles, lazily."""
        return self.target.plan.profiles(self.target.context)

    def train(self) -> xr.DataArray:
        """Return the training profiles, the target's control first; in memory, float64."""
        control = rows_of(self.observed(), [CONTROL]).values[0]
        values = np.tile(control, (1 + len(self.names), 1))
        row_of = {name: i + 1 for i, name in enumerate(self.names)}
        for bridge in self.bridges:
            mine = [(n, name) for name, at in self.names.items() for b, n in at if b is bridge]
            profiles = bridge.source.plan.profiles(bridge.source.context)
            there = np.flatnonzero(bridge.position >= 0)
            columns = bridge.position[there]
            own = rows_of(profiles, [CONTROL]).values[0][columns]
            effects = rows_of(profiles, [n for n, _ in mine]).values[:, columns] - own
            for (_, name), effect in zip(mine, effects, strict=True):
                values[row_of[name], there] += effect / len(self.names[name])
        return xr.DataArray(
            values,
            dims=(PERTURBATION, GENE),
            coords={
                PERTURBATION: np.array([CONTROL, *self.names], object),
                GENE: np.array(self.target.genes, object),
            },
        )


def _expression_of(
    root: RunRecord,
    target: TransferContext,
    split: Split,
    bridges: Sequence[NameMap],
    given: Mapping[str, AlignedPredictions],
) -> TransferExpression | None:
    """Return the unit of single perturbations' expression for one training set."""
    sources = tuple(bridge.source.name for bridge in bridges)
    if not root.wanted.models:
        return None
    what = f"expression from {','.join(sources)} ({split.name})"
    exclude = root.wanted.exclude_test_perturbations
    names: dict[str, list[tuple[NameMap, str]]] = {}
    for bridge in bridges:
        for name in _train_names(bridge, split, exclude):
            called = bridge.group[name]
            if len(targets(called)) == 1:
                names.setdefault(called, []).append((bridge, name))
    try:
        usable = single_split(split, target.plan.screen.targets)
        if not names:
            raise InputError("no training perturbation is left in the sources")
    except InputError as error:
        root.log.skip(what, target.name, str(error))
        return None
    models = dict(root.wanted.models)
    if not exclude:
        models[COPY] = TRANSFER_MODELS[COPY]
        if len(bridges) == 1:
            models[OTHER_SCREEN] = _linear_by_other_screen(target, split, bridges[0])
    embedding = _embedding(root, target, split, bridges)
    vectors = embedding if isinstance(embedding, Embedding) else None
    unit = ExpressionUnit(
        target.name,
        TRANSFER,
        usable,
        models,
        root.wanted.own,
        with_profiles(given),
        vectors,
        sources,
        root.wanted.targets,
        target.plan.screen.targets,
    )
    return TransferExpression(unit, tuple(bridges), names)


class _TrainedAtHome(ExpressionModel):
    """A model that is fitted on other profiles than it is given: the target's own."""

    def __init__(self, model: ExpressionModel, profiles: xr.DataArray) -> None:
        self.model = model
        self.profiles = profiles

    def fitted_params(self) -> dict[str, Any]:
        return self.model.fitted_params()

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self.model.fit(self.profiles)
        self.genes_ = self.model.genes_

    def _predict(self, names: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(names).values)


def _linear_by_other_screen(
    target: TransferContext, split: Split, bridge: NameMap
) -> ExpressionMethod:
    """Return the bilinear model with vectors from the source's profiles of all its conditions."""
    method = TRANSFER_MODELS[OTHER_SCREEN]
    own = rows_of(target.plan.profiles(target.context), [CONTROL, *split.train])

    def make(seed: int) -> ExpressionModel:
        profiles = bridge.source.plan.profiles(bridge.source.context)
        called = [bridge.group.get(n, n) for n in profiles[PERTURBATION].values.astype(str)]
        _, first = np.unique(called, return_index=True)
        named = profiles.assign_coords({PERTURBATION: np.array(called, object)})
        vectors = from_screen(
            named.isel({PERTURBATION: np.sort(first)}),
            dim=min(10, len(first) - 1),
            name=bridge.source.name,
        )
        return _TrainedAtHome(method.make(seed).set_params(perturbations=vectors), own)

    return replace(method, make=make)


def with_averages(scores: pd.DataFrame) -> pd.DataFrame:
    """Append to transferred scores their mean over sources that each were trained on alone."""
    joined = scores["train_contexts"].str.contains("[,|]", regex=True)
    one = scores["train_contexts"].isin(scores["context"])  # a name may have a comma of its own
    alone = scores[
        (scores["task"] == TRANSFER)
        & (scores["level"] != "perturbation")
        & (scores["train_contexts"] != FROM_FILE)
        & (one | ~joined)
    ]
    keys = [
        "task",
        "setting",
        "context",
        "split",
        "seed",
        "method",
        "operating_point",
        "level",
        "group",
        "metric",
    ]
    mean = alone.groupby(keys, sort=False, as_index=False).agg(
        train_contexts=("train_contexts", lambda names: "|".join(sorted(names))),
        value=("value", "mean"),
        n=("n", "sum"),
        no_effect=("no_effect", "mean"),
        sources=("train_contexts", "nunique"),
    )
    mean = mean[mean["sources"] > 1].assign(params="{}")
    return stacked([scores, mean[scores.columns]], SCORE_COLUMNS)


def run_transfer(plans: Sequence[ScreenRun], runs: RunRecord) -> None:
    """Run all that is trained on some contexts and predicts another."""
    before = list(runs.units)
    runs.units = []
    transferred = plan_transfer(plans, runs)
    run_units(runs)
    runs.units = [*before, *runs.units]
    for one in transferred:
        run_expression_unit(runs, one.unit, one.train, one.observed(), one.inputs)
        runs.expression.append(one.unit)
