"""Transfer from some contexts to another: units that are trained elsewhere (method E4).

For every context of every screen methods are fitted on the perturbations of each other context
alone (pairwise), and of all others together (pooled); those that the target holds out are left out
there too, unless asked for otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.baselines import ExpressionMethod, ExpressionModel, Method
from pertscale.baselines.registry import COPY, OTHER_SCREEN, TRANSFER_METHODS, TRANSFER_MODELS
from pertscale.benchmark.external import with_profiles
from pertscale.benchmark.name_maps import NameMap, TransferContext, maps_between, transfer_contexts
from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.tasks.base import Task
from pertscale.benchmark.units.class_unit import ClassUnit, Predictor
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.learned import TrainingProfiles, Vectors
from pertscale.benchmark.units.predictors import (
    ClassifierPredictor,
    FilePredictor,
    TrainingLabels,
    TrainingSet,
    thresholded_file,
)
from pertscale.benchmark.units.profiles import (
    ContextProfiles,
    OwnProfiles,
    SourceProfiles,
    TransferProfiles,
)
from pertscale.benchmark.vectors import TOO_FEW, has_none, learned
from pertscale.embeddings.components import from_screen
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import InputError
from pertscale.io.gene_aliases import read_aliases
from pertscale.perturbation_names import targets
from pertscale.predictions.predictions import EXPRESSION, AlignedPredictions
from pertscale.schema import CONFIDENT, CONTROL, PERTURBATION, TRANSFER
from pertscale.splits import Split
from pertscale.splits.rule import single_split

#: In place of training contexts, where predictions come from a file.
FROM_FILE: Final = "file"
#: Why methods of transfer do not run by default.
_NEEDS_SEEN: Final = (
    "they need the held-out perturbations in other contexts; pass exclude_test_perturbations=False"
)


class Transfer(Task):
    """Methods that are trained on some contexts, and predict another."""

    name = TRANSFER

    def plan_across(self, screens: Sequence[ScreenRun], record: RunRecord) -> None:
        """List the units of all contexts, each from every other one and from all together."""
        contexts = [context for context in transfer_contexts(screens) if context.splits]
        if len(contexts) < 2:
            names = ", ".join(context.name for context in contexts) or "none"
            reason = f"one context needs another to be trained on; there are: {names}"
            record.log.skip(TRANSFER, "", reason)
            return
        if record.options.exclude_test_perturbations:
            names = ", ".join(dict.fromkeys([*TRANSFER_METHODS, *TRANSFER_MODELS]))
            record.log.skip(f"{names} ({TRANSFER})", "", _NEEDS_SEEN)
        maps = maps_between(contexts, read_aliases(record.options.aliases))
        for target in contexts:
            _plan_target(record, target, maps[target])


def _plan_target(record: RunRecord, target: TransferContext, maps: Sequence[NameMap]) -> None:
    """List the units that predict one context."""
    record.coverage += [mapping.account() for mapping in maps]
    for mapping in maps:
        if mapping.refused:
            what = f"{TRANSFER} from {mapping.source.name}"
            record.log.skip(what, target.name, mapping.refused)
    usable = [mapping for mapping in maps if not mapping.refused]
    for split in target.splits if usable else ():
        record.keep_split(target.name, split)
        given = target.run.external.for_split(
            target.context, split, log=record.log, where=target.name, task=TRANSFER
        )
        _plan_given(record, target, split, usable, given)
        for sources in _modes(usable):
            _plan_classes(record, target, split, sources)
            _plan_expression(record, target, split, sources, given)


def _modes(maps: Sequence[NameMap]) -> Iterator[list[NameMap]]:
    """Each source alone, then all together where there are several."""
    yield from ([mapping] for mapping in maps)
    if len(maps) > 1:
        yield list(maps)


def _settings(record: RunRecord, target: TransferContext, kind: str) -> tuple[str, ...]:
    """Return the settings of a kind of labels: all genes, and those that the sources have, too.

    Of full ones the likely right, where these are asked for.
    """
    settings = (kind, f"{kind}_overlap") if kind in record.options.settings else ()
    sure = kind == "full" and target.context in target.run.confident
    return (*settings, CONFIDENT) if sure else settings


# --- classes --------------------------------------------------------------------------------------


def _plan_classes(
    record: RunRecord, target: TransferContext, split: Split, maps: Sequence[NameMap]
) -> None:
    if target.context in target.run.record.without_changes:
        return  # as in its own tables
    sources = tuple(mapping.source.name for mapping in maps)
    for kind in ("full", "curated"):
        matrix, settings = target.matrix(kind), _settings(record, target, kind)
        if matrix is None or not settings:
            continue
        what = f"from {','.join(sources)} ({kind}, {split.name})"
        try:
            usable = split.restrict(matrix.perturbations)
            training = training_labels(
                maps, kind, usable, exclude=record.options.exclude_test_perturbations
            )
        except InputError as error:
            record.log.skip(what, target.name, str(error))
            continue
        methods = record.options.methods_on(kind)
        found = _predictors(record, methods, training, target, split, maps)
        for name, predictor in found.items():
            if isinstance(predictor, str):
                record.log.skip(f"{name} {what}", target.name, predictor)
            else:
                record.units.append(
                    _class_unit(target, usable, kind, settings, name, predictor, sources)
                )


def _class_unit(
    target: TransferContext,
    split: Split,
    kind: str,
    settings: tuple[str, ...],
    method: str,
    predictor: Predictor,
    sources: tuple[str, ...],
) -> ClassUnit:
    matrix = target.matrix(kind)
    assert matrix is not None
    return ClassUnit(
        task=TRANSFER,
        context=target.name,
        split=split,
        target_genes=target.run.screen.targets,
        train_contexts=sources,
        labels=kind,
        matrix=matrix,
        method=method,
        predictor=predictor,
        settings=settings,
        intervals=target.run.options.intervals,
        confident=target.run.confident.get(target.context) if kind == "full" else None,
    )


def training_labels(
    maps: Sequence[NameMap], kind: str, split: Split, *, exclude: bool
) -> TrainingSet:
    """Return the sources' labels, without what the target holds out if that was asked for.

    Raises
    ------
    InputError
        If nothing is left.
    """
    target = maps[0].target
    predicted = target.matrix(kind)
    assert predicted is not None
    wanted = pd.Index(target.genes).get_indexer(list(predicted.genes))
    parts, groups = [], []
    for mapping in maps:
        source = mapping.source
        matrix = source.matrix(kind)
        if matrix is None:
            continue
        there_too = set(matrix.perturbations)
        names = tuple(n for n in _train_names(mapping, split, exclude) if n in there_too)
        if not names:
            continue
        genes = source.genes
        there = pd.Index(matrix.genes).get_indexer(
            [genes[i] if i >= 0 else "" for i in mapping.position]
        )
        parts.append(TrainingLabels(matrix, names, there[wanted]))
        groups += [mapping.group[name] for name in names]
    if not parts:
        raise InputError("no training perturbation is left in the sources")
    return TrainingSet(tuple(parts), tuple(groups))


def _predictors(
    record: RunRecord,
    methods: Mapping[str, Method],
    training: TrainingSet,
    target: TransferContext,
    split: Split,
    maps: Sequence[NameMap],
) -> dict[str, ClassifierPredictor | str]:
    """Return the classifiers on one training set, or why one is impossible."""
    found: dict[str, ClassifierPredictor | str] = {}
    embedding = _embedding(record, target, split, maps)
    if not isinstance(embedding, str):
        embedding = has_none(embedding, training.groups) or embedding
    added = {} if record.options.exclude_test_perturbations else TRANSFER_METHODS
    for name, method in {**methods, **added}.items():
        if method.needs_embedding and isinstance(embedding, str):
            found[name] = embedding
            continue
        vectors = None if isinstance(embedding, str) else embedding
        found[name] = ClassifierPredictor(
            method=method,
            training=training,
            test_groups=target.groups,
            embedding=vectors if method.needs_embedding else None,
        )
    return found


def _embedding(
    record: RunRecord, target: TransferContext, split: Split, maps: Sequence[NameMap]
) -> Vectors | str:
    """Return the vectors of genes: those given, or learned from the profiles trained on."""
    if record.options.embedding is not None:
        return record.options.embedding
    shared = np.logical_and.reduce([mapping.position >= 0 for mapping in maps])
    genes = [g for g, there in zip(target.genes, shared, strict=True) if there]
    if len(genes) < 2:
        return "the contexts share too few genes to learn vectors from; pass embedding="
    parts = []
    for mapping in maps:
        names = _train_names(mapping, split, record.options.exclude_test_perturbations)
        profiles = mapping.source.profiles
        parts.append(TrainingProfiles(profiles, (CONTROL, *names), mapping.position[shared]))
    return learned(record, parts, genes) or TOO_FEW


def _train_names(mapping: NameMap, split: Split, exclude: bool) -> list[str]:
    """Return the perturbations of a source that count, without those that the target holds out."""
    target, table = mapping.target, mapping.source.run.labels.perturbations
    mine = table[(table["context"] == mapping.source.context) & table["tested"]][PERTURBATION]
    mine = mine[~mine.isin(mapping.source.run.left_out.get(mapping.source.context, {}))]
    held_out = {target.groups[n] for n in split.held_out}
    return [n for n in mine if not (exclude and mapping.group[n] in held_out)]


# --- predictions from files -----------------------------------------------------------------------


def _plan_given(
    record: RunRecord,
    target: TransferContext,
    split: Split,
    maps: Sequence[NameMap],
    given: Mapping[str, AlignedPredictions],
) -> None:
    """List what files say of a target's held-out perturbations, beside the transferred methods."""
    if target.context in target.run.record.without_changes:
        return
    there = np.logical_or.reduce([mapping.position >= 0 for mapping in maps])
    shared = frozenset(itertools.compress(target.genes, there))
    for name, found in given.items():
        control = target.run.external.controls[target.context]
        is_expression = found.predictions.kind == EXPRESSION
        predictor = (
            thresholded_file(found, control, record.options.threshold, shared)
            if is_expression
            else FilePredictor(found, shared)
        )
        for kind in ("full", "curated"):
            matrix, settings = target.matrix(kind), _settings(record, target, kind)
            if matrix is None or not settings:
                continue
            try:
                usable = split.restrict(matrix.perturbations)
            except InputError:
                continue  # _plan_classes says so
            record.units.append(
                _class_unit(target, usable, kind, settings, name, predictor, (FROM_FILE,))
            )


# --- expression -----------------------------------------------------------------------------------


def _plan_expression(
    record: RunRecord,
    target: TransferContext,
    split: Split,
    maps: Sequence[NameMap],
    given: Mapping[str, AlignedPredictions],
) -> None:
    """List the unit of single perturbations' expression for one training set."""
    options, sources = record.options, tuple(mapping.source.name for mapping in maps)
    if not options.models:
        return
    trained: dict[str, list[tuple[int, str]]] = {}
    for number, mapping in enumerate(maps):
        for name in _train_names(mapping, split, options.exclude_test_perturbations):
            called = mapping.group[name]
            if len(targets(called)) == 1:
                trained.setdefault(called, []).append((number, name))
    try:
        usable = single_split(split, target.run.screen.targets)
        if not trained:
            raise InputError("no training perturbation is left in the sources")
    except InputError as error:
        what = f"expression from {','.join(sources)} ({split.name})"
        record.log.skip(what, target.name, str(error))
        return
    embedding = _embedding(record, target, split, maps)
    unit = ExpressionUnit(
        task=TRANSFER,
        context=target.name,
        split=usable,
        target_genes=target.run.screen.targets,
        train_contexts=sources,
        profiles=TransferProfiles(
            target.profiles,
            tuple(SourceProfiles(m.source.name, m.source.profiles, m.position) for m in maps),
            trained,
        ),
        models=_models(record, target, split, maps),
        user_models=options.user_models,
        given=with_profiles(given),
        embedding=None if isinstance(embedding, str) else embedding,
        targets=options.targets,
        controls="shared",  # effects elsewhere do not share the noise of the controls here
        halves=target.run.halves(target.context),
    )
    record.expression.append(unit)


def _models(
    record: RunRecord, target: TransferContext, split: Split, maps: Sequence[NameMap]
) -> dict[str, ExpressionMethod]:
    """Return the models that were asked for, and those that copy, where these may."""
    models = dict(record.options.models)
    if not record.options.exclude_test_perturbations:
        models[COPY] = TRANSFER_MODELS[COPY]
        if len(maps) == 1:
            models[OTHER_SCREEN] = _linear_by_other_screen(target, split, maps[0])
    return models


@dataclass(frozen=True, eq=False)
class _OtherScreen:
    """Vectors of perturbations from the profiles of another screen, of its conditions.

    Attributes
    ----------
    name : str
    profiles : ContextProfiles
    called : dict of str to str
        Its perturbations → what the target calls them; others keep their names.
    left_out : frozenset of str
        Perturbations of it that do not count.
    """

    name: str
    profiles: ContextProfiles
    called: Mapping[str, str]
    left_out: frozenset[str]

    def vectors(self) -> Embedding:
        """Return the vectors, by the names that the target has for perturbations."""
        profiles = self.profiles.values
        if self.left_out:
            names = profiles[PERTURBATION].values.astype(str)
            profiles = profiles[~np.isin(names, list(self.left_out))]
        called = [self.called.get(n, n) for n in profiles[PERTURBATION].values.astype(str)]
        _, first = np.unique(called, return_index=True)
        named = profiles.assign_coords({PERTURBATION: np.array(called, object)})
        chosen = named.isel({PERTURBATION: np.sort(first)})
        return from_screen(chosen, dim=min(10, len(first) - 1), name=self.name)


class _ByOtherScreen(ExpressionModel):
    """A model with vectors of another screen, fitted to the target's own profiles.

    It is not fitted to those that it is given, which are of other contexts.
    """

    def __init__(self, model: ExpressionModel, own: OwnProfiles, other: _OtherScreen) -> None:
        self.model = model
        self.own = own
        self.other = other

    def fitted_params(self) -> dict[str, Any]:
        return self.model.fitted_params()

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self.model.set_params(perturbations=self.other.vectors()).fit(self.own.train())
        self.genes_ = self.model.genes_

    def _predict(self, names: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(names).values)


def _linear_by_other_screen(
    target: TransferContext, split: Split, mapping: NameMap
) -> ExpressionMethod:
    """Return the bilinear model with vectors from the source's profiles of all its conditions."""
    method = TRANSFER_MODELS[OTHER_SCREEN]
    own = OwnProfiles(target.profiles, split.train, None)
    source = mapping.source
    left_out = frozenset(source.run.left_out.get(source.context, {}))
    other = _OtherScreen(source.name, source.profiles, mapping.group, left_out)

    def make(seed: int) -> ExpressionModel:
        return _ByOtherScreen(method.make(seed), own, other)

    return replace(method, make=make)


def of_one_source(scores: pd.DataFrame, contexts: Collection[str]) -> pd.DataFrame:
    """Return the transferred scores of methods that were trained on one of the contexts alone."""
    transferred = scores[(scores["task"] == TRANSFER) & (scores["train_contexts"] != FROM_FILE)]
    joined = transferred["train_contexts"].str.contains("[,|]", regex=True)
    one = transferred["train_contexts"].isin(contexts)  # a name may have a comma of its own
    return transferred[one | ~joined]


def averages(alone: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over sources of scores that are each of one alone."""
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
    return mean[mean["sources"] > 1].assign(params="{}")[alone.columns]
