"""Predicted single cells, judged as observed ones are: rank-sum against controls (method G1).

The predicted cells and the screen's own control cells are stacked into one screen store, out of
core, and that screen is tested like any other. Perturbations that the screen does not have, and the
controls that the file brings, are left out with a row that says so. So are cells beyond as many as
were measured, of which as many are drawn: more cells would find more (method R4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.baselines.thresholds import scores_of_changes
from pertscale.diagnostics.progress import say
from pertscale.errors import CorruptFileError, InputError, NegativeValueError, NotFoundError
from pertscale.execution.clients import ClientLike
from pertscale.execution.memory import AUTO
from pertscale.gene_names import GeneMatch, match_genes
from pertscale.hashing import seed_from
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import INDEX, Roles, label_column
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.plan import IngestPlan, cell_drops, sort_cells
from pertscale.io.ingestion.scale import decide_scale, read_sample
from pertscale.io.ingestion.write import write_screen
from pertscale.io.long_tables import SPELLINGS, column_of
from pertscale.io.sources import SourceSpec, find_source, open_source
from pertscale.predictions.files.arrays import genes_in_order
from pertscale.predictions.matching import canonical_names
from pertscale.predictions.predictions import AlignedPredictions, Predictions
from pertscale.predictions.profile_scale import (
    common_factor,
    factor_note,
    is_another_total,
    total_named,
)
from pertscale.schema import CONTEXT, CONTROL, COUNTS, LOG1P_1E4, PERTURBATION, Label
from pertscale.screen import Screen, open_screen
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.rank_sum import label_screen
from pertscale.stats.labels.table import LabelTable
from pertscale.stats.pseudobulk import open_pseudobulk
from pertscale.storage.atomic import remove

_PERTURBATION: Final = (*SPELLINGS[PERTURBATION][:-1], "gene")
_NOT_IN_SCREEN: Final = "no perturbation of the screen"
_OWN_CONTROL: Final = "own control; the screen's are used"
#: Label of the screen's own controls in the account.
_SCREEN_CONTROL: Final = "control of the screen"
_CLIPPED: Final = "values below zero are read as zero"
_MORE_CELLS: Final = "more cells than were measured; as many are drawn"
_MORE: Final = (_MORE_CELLS, "more control cells than were measured; as many are drawn")


class OtherContextError(InputError):
    """The predicted cells are of contexts that the screen does not have."""


def label_predicted_cells(
    predictions: Predictions,
    screen: Screen,
    folder: Path,
    *,
    controls: Mapping[str, np.ndarray],
    options: RankSumOptions | None = None,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> dict[str, CellPredictions]:
    """Test predicted cells against controls; return the predictions of each context.

    Parameters
    ----------
    predictions : Predictions
        Of kind 'cells'.
    screen : Screen
        The screen that they are scored on: its genes, perturbations and controls.
    folder : Path
        Where ``screen.zarr``, ``labels/`` and ``pseudobulk.zarr`` are written.
    controls : mapping of str to ndarray (n_genes,)
        Mean log1p expression of the screen's controls by context.
    options : RankSumOptions, optional
        How they are tested.
    memory, client, quiet
        As of :func:`pertscale.stats.rank_sum`.

    Raises
    ------
    OtherContextError
        If no context of the file is one of the screen.
    InputError
        If no gene or perturbation is, or the file's scale can't be converted to the screen's.
    """
    store = folder / "screen.zarr"
    with _suggest_clip():
        plan, scale, verdict, told = plan_predicted_cells(predictions, screen)
        write = partial(
            write_screen,
            plan,
            store,
            scale=scale,
            how=verdict,
            totals=None,
            memory=memory,
            dtype=np.dtype(screen.info["dtype"] if scale == COUNTS else np.float32),
            client=client,
            quiet=quiet,
            keep_empty=True,
        )
        if not _is_readable(store):
            remove(store)
            folder.mkdir(parents=True, exist_ok=True)
            write()

    def label() -> LabelTable:
        return label_screen(
            open_screen(store),
            folder,
            options or RankSumOptions(),
            memory=memory,
            client=client,
            quiet=quiet,
        )

    try:
        labels = label()
    except CorruptFileError as error:
        say(f"{error}; the store of predicted cells is made anew", quiet=quiet)
        remove(store)
        write()
        labels = label()
    predicted, clipped = open_screen(store), predictions.options["clip"]
    found = {}
    for context in labels.contexts:
        counts = CellCounts.of(screen, predicted, plan.drops, context)
        notes = (_CLIPPED if clipped else "", told, counts.note)
        found[context] = CellPredictions(
            predictions=predictions,
            context=context,
            labels=labels,
            genes=tuple(screen.genes),
            unmatched=_labels_left_out(plan.drops),
            note="; ".join(filter(None, notes)),
            control=controls[context],
            counts=counts,
        )
    return found


def _is_readable(store: Path) -> bool:
    """Whether there is a store that can be opened; a damaged one is made anew."""
    try:
        open_screen(store)
    except (InputError, CorruptFileError, NotFoundError):
        return False
    return True


@contextmanager
def _suggest_clip() -> Iterator[None]:
    """Say that values below zero can be clipped (method G1)."""
    try:
        yield
    except NegativeValueError as error:
        raise NegativeValueError(
            f"{error}; where a model misses zero by a little, clip=True (--clip) reads what is "
            "below as zero"
        ) from error


def plan_predicted_cells(
    predictions: Predictions, screen: Screen
) -> tuple[IngestPlan, str, str, str]:
    """Decide where every predicted cell and control goes; reads names, labels and some cells.

    Returns
    -------
    tuple of (IngestPlan, str, str, str)
        The plan, the scale of the new store, a sentence on how that is known, and one on the total
        per cell where that seems to be another one.
    """
    how = predictions.options
    spec = find_source(predictions.source, matrix=how["layer"], clip=how["clip"])
    scale, verdict = _common_scale(spec, predictions, screen)
    with open_source(spec) as source:
        n_predicted = source.n_cells
        genes = genes_in_order(source, how["genes"], predictions.source)
        columns = source.cell_columns()
    match = match_genes(
        genes,
        list(screen.genes),
        reference_ids=screen.gene_ids,
        aliases=read_aliases(predictions.aliases),
    )
    if not match.n_matched:
        raise InputError(
            f"none of the {len(genes)} genes (such as {genes[0]!r}) is a gene of the screen (such "
            f"as {screen.genes[0]!r}); pass aliases= ({predictions.source})"
        )
    labels = label_column(SourceSet((spec,)).columns, _column(columns, how, PERTURBATION, spec))
    perturbation, reasons = _perturbations(labels, predictions, screen)
    is_predicted = perturbation > 0
    context = _contexts(spec, columns, predictions, screen)
    surplus = _surplus(perturbation, context, screen)
    more = {int(cell): _MORE[int(perturbation[cell] == 0)] for cell in surplus}
    perturbation[surplus] = -1
    is_predicted[surplus] = False
    sources = SourceSet((spec,))
    sizes: tuple[int, ...] = (n_predicted,)
    kept, ways = _gene_maps(match, screen)
    maps = ways
    predicted = context.categories[np.unique(context.codes[context.codes >= 0])]
    controls = SourceSpec(screen.path, "controls", matrix=scale)
    with open_source(controls) as source:
        n, where = source.n_cells, source.cell_column(CONTEXT)
    used = where.isin(predicted).to_numpy()
    if predictions.control == "observed":
        sources = SourceSet((controls, spec))
        sizes, maps = (n, n_predicted), (maps[1], maps[0])
        perturbation = np.concatenate([np.where(used, 0, -1), perturbation])
        context = pd.Categorical(
            np.concatenate([where.to_numpy(object), _objects(context)]), context.categories
        )
        labels = pd.Series(pd.Categorical([*([_SCREEN_CONTROL] * n), *labels.astype(object)]))
        reasons[_SCREEN_CONTROL] = "control of a context that is not predicted"
    else:
        maps = (maps[0],)
    names = pd.Categorical.from_codes(perturbation, [CONTROL, *screen.perturbations])
    destination, groups = sort_cells(names, context)
    _check_groups(groups, predictions)
    roles = Roles(perturbation=PERTURBATION, controls=(CONTROL,), context=CONTEXT, gene_name=INDEX)
    drops = cell_drops(sources, sizes, labels, reasons, context, destination)
    of_file = drops["source"] == sources.file_names[-1]
    why = drops["row"].map(more)
    drops["reason"] = drops["reason"].mask(of_file & why.notna(), why)
    var = pd.DataFrame({"gene_name": screen.genes[kept]}, index=screen.genes[kept])
    told = _total_told((spec, is_predicted), (controls, used), ways, scale, predictions)
    account = [f"genes: {len(kept)} of {screen.n_genes} are predicted", *([told] if told else [])]
    if how["clip"]:
        account.append(_CLIPPED)
    if len(surplus):
        account.append(f"{len(surplus):,} cells are left out: {_MORE_CELLS}")
    plan = IngestPlan(
        sources=sources,
        n_input=sizes,
        roles=roles,
        var=var,
        gene_maps=maps,
        destination=destination,
        groups=groups,
        perturbation=names,
        context=context,
        drops=drops,
        account=tuple(account),
        guides={name: group for name, group in screen.target_groups.items() if name != group},
    )
    return plan, scale, verdict, told


def _common_scale(spec: SourceSpec, predictions: Predictions, screen: Screen) -> tuple[str, str]:
    scale, verdict = decide_scale(SourceSet((spec,)), declared=predictions.scale, predicted=True)
    if scale == COUNTS and screen.scale == LOG1P_1E4:
        raise InputError(
            f"the predicted cells are counts, but the screen's controls are log1p of counts per "
            f"10,000; normalise the prediction the same way ({predictions.source})"
        )
    return scale, verdict


def _total_told(
    cells: tuple[SourceSpec, np.ndarray],
    controls: tuple[SourceSpec, np.ndarray],
    ways: tuple[np.ndarray, ...],
    scale: str,
    predictions: Predictions,
) -> str:
    """Return a sentence on the total that predicted cells were normalised to.

    Parameters
    ----------
    cells, controls : tuple of (SourceSpec, ndarray)
        The file, and which of its cells are predictions and no controls of its own; the screen's
        controls, and which are of contexts that are predicted: others say nothing of their level.
    ways : tuple of ndarray
        Of the predicted genes, and of the screen's own, to those of the new store.
    scale : str
        That of the predicted cells.

    Raises
    ------
    InputError
        If it is another one than the screen's, and the scale was not declared.
    """
    if scale == COUNTS:
        return ""  # each cell is divided by its own sum
    (spec, is_predicted), (of_screen, near) = cells, controls
    mine, theirs = _levels(spec, ways[0], is_predicted), _levels(of_screen, ways[1], near)
    factor = common_factor(np.log1p(mine)[None], np.log1p(theirs))
    given = predictions.scale is not None or predictions.control == "in_file"
    if is_another_total(factor) and not given:
        raise InputError(
            f"{factor_note(factor)}: the cells can be read as {LOG1P_1E4} and as "
            f"{total_named(factor)}. Write numpy.log1p(numpy.expm1(X) / {factor:.4g}), or declare "
            f"scale={LOG1P_1E4!r} to score them as they are ({predictions.source})"
        )
    return factor_note(factor)


def _levels(spec: SourceSpec, way: np.ndarray, cells: np.ndarray | None = None) -> np.ndarray:
    """Return the mean of normalised counts over some cells, of the genes of the new store.

    NaN for genes that were not looked at, as in a file that is stored gene by gene.
    """
    blocks, whole = read_sample(spec)
    n_genes = int(way.max()) + 1
    sums, seen = np.zeros(n_genes), np.zeros(n_genes, bool)
    n_cells = 0
    for block in blocks:
        rows = block.row_start + np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
        at = way[block.indices]
        taken = at >= 0 if cells is None else (at >= 0) & cells[rows]
        level = np.expm1(np.maximum(block.data[taken], 0).astype(np.float64))
        sums += np.bincount(at[taken], weights=level, minlength=n_genes)
        seen[at[taken]] = True
        span = slice(block.row_start, block.row_start + block.n_rows)
        n_cells += block.n_rows if cells is None else int(cells[span].sum())
    if whole:
        return sums / max(1, n_cells)
    with open_source(spec) as source:
        n_cells = source.n_cells if cells is None else int(cells.sum())
    return np.where(seen, sums / max(1, n_cells), np.nan)


def _column(columns: Sequence[str], how: dict[str, Any], role: str, spec: SourceSpec) -> str:
    if how["perturbation"] is not None:
        return str(how["perturbation"])
    found = column_of(PERTURBATION, columns, spellings=_PERTURBATION)
    if found is None:
        raise InputError(
            f"no column of perturbations among {', '.join(columns)}; pass perturbation= "
            f"({spec.path})"
        )
    return found


def _perturbations(
    labels: pd.Series, predictions: Predictions, screen: Screen
) -> tuple[np.ndarray, dict[str, str]]:
    """Return each cell's position in (control, perturbations of the screen); -1 with a reason."""
    cells = text_categories(labels)
    texts = [str(c) for c in cells.categories]
    names = canonical_names(
        texts, screen.perturbations, screen.genes, predictions.options["control_label"]
    )
    position = {name: i + 1 for i, name in enumerate(screen.perturbations)}
    if predictions.control == "in_file":
        position[CONTROL] = 0
    table, reasons = [], {}
    for text, name in zip(texts, names, strict=True):
        table.append(-1 if name is None else position.get(name, -1))
        if table[-1] < 0:
            reasons[text] = _OWN_CONTROL if name == CONTROL else _NOT_IN_SCREEN
    return np.array([*table, -1])[cells.codes], reasons


def _contexts(
    spec: SourceSpec, columns: Sequence[str], predictions: Predictions, screen: Screen
) -> pd.Categorical:
    """Return the screen's context of every predicted cell; missing where the screen has none."""
    how = predictions.options
    column = how["context_column"] or column_of(CONTEXT, columns)
    with open_source(spec) as source:
        if column is not None and how["context"] is None:
            found = text_categories(source.cell_column(column))
            there = [str(c) for c in found.categories]
            if not set(there) & set(screen.contexts):
                raise OtherContextError(
                    f"column {column!r} has {', '.join(there[:5])}, the screen's contexts are "
                    f"{', '.join(screen.contexts)}; pass context= ({predictions.source})"
                )
            return pd.Categorical(_objects(found), list(screen.contexts))
        only = how["context"] or screen.contexts[0]
        if only not in screen.contexts:
            raise OtherContextError(
                f"the cells are of context {only!r}, the screen has "
                f"{', '.join(screen.contexts)} ({predictions.source})"
            )
        if how["context"] is None and len(screen.contexts) > 1:
            raise InputError(
                f"for which of the contexts {', '.join(screen.contexts)} are the cells? pass "
                f"context= ({predictions.source})"
            )
        return pd.Categorical([only] * source.n_cells, list(screen.contexts))


def _objects(values: pd.Categorical) -> np.ndarray:
    return np.asarray(values.astype(object), object)


def _gene_maps(match: GeneMatch, screen: Screen) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the kept genes of the screen, and where predicted genes and its own go among them."""
    kept = np.sort(match.position[match.position >= 0])
    way = np.full(screen.n_genes + 1, -1, np.int32)  # the last for genes that were not found
    way[kept] = np.arange(len(kept))
    return kept, (way[match.position], way[:-1])


def _check_groups(groups: pd.DataFrame, predictions: Predictions) -> None:
    if groups.empty or groups["is_control"].all():
        raise InputError(
            f"no cell is left: no label of the file is a perturbation of the screen; see how the "
            f"two spell them, or pass perturbation= ({predictions.source})"
        )
    lacking = set(groups[CONTEXT]) - set(groups.loc[groups["is_control"], CONTEXT])
    if lacking:
        raise InputError(
            f"control='in_file', but the file has no control cells for "
            f"{', '.join(sorted(lacking))}; name them with control_label=, or leave control= out "
            f"({predictions.source})"
        )


def _labels_left_out(drops: pd.DataFrame) -> tuple[str, ...]:
    if not len(drops):
        return ()
    mine = drops[drops["reason"] == _NOT_IN_SCREEN]
    return tuple(sorted(set(mine["label"])))


def _surplus(perturbation: np.ndarray, context: pd.Categorical, screen: Screen) -> np.ndarray:
    """Return the positions of predicted cells beyond as many as were measured (method R4).

    More cells would find more, and copies of cells would be taken for evidence. Which are kept is
    drawn by their position in the file, seeded by context and perturbation.

    Parameters
    ----------
    perturbation : ndarray (cell,), int
        Position in (control, perturbations of the screen); -1 for cells that are left out.
    context : Categorical (cell,)
    screen : Screen
    """
    n_names = len(screen.perturbations) + 1
    code = context.codes.astype(np.int64) * n_names + perturbation
    code[(context.codes < 0) | (perturbation < 0)] = -1
    order = np.argsort(code, kind="stable")
    present, starts = np.unique(code[order], return_index=True)
    measured = screen.groups.assign(n=screen.group_sizes).set_index([CONTEXT, PERTURBATION])["n"]
    names = np.array([CONTROL, *screen.perturbations], object)
    left_out = [np.empty(0, np.int64)]
    for group, cells in zip(present, np.split(order, starts[1:]), strict=True):
        if group < 0:
            continue
        key = str(context.categories[group // n_names]), str(names[group % n_names])
        n = int(measured.get(key, len(cells)))  # another context's perturbation
        if len(cells) > n:
            random = np.random.default_rng(seed_from(*key))
            left_out.append(random.permutation(cells)[n:])
    return np.sort(np.concatenate(left_out))


@dataclass(frozen=True)
class CellCounts:
    """How many cells of a context were predicted, drawn and measured.

    Attributes
    ----------
    n_predicted : int
        In the file, of perturbations of the screen.
    n_tested : int
        Of these, as many as were measured at most.
    n_measured : int
        Cells of the same perturbations in the screen.
    n_with_fewer, n_perturbations : int
        Perturbations with fewer cells than were measured, and all that are predicted.
    """

    n_predicted: int
    n_tested: int
    n_measured: int
    n_with_fewer: int
    n_perturbations: int

    @classmethod
    def of(
        cls, observed: Screen, predicted: Screen, drops: pd.DataFrame, context: str
    ) -> CellCounts:
        """Count them."""
        tested, measured = (_sizes(screen, context) for screen in (predicted, observed))
        measured = measured[tested.index]
        more = (drops["reason"] == _MORE_CELLS) & (drops["context"] == context)
        return cls(
            n_predicted=int(tested.sum()) + int(more.sum()),
            n_tested=int(tested.sum()),
            n_measured=int(measured.sum()),
            n_with_fewer=int((tested < measured).sum()),
            n_perturbations=len(tested),
        )

    @property
    def note(self) -> str:
        """What to know of them; empty where they are as many."""
        notes = []
        if self.n_tested < self.n_predicted:
            notes.append(
                f"{self.n_tested:,} of {self.n_predicted:,} cells were drawn, as many as measured"
            )
        if self.n_with_fewer:
            notes.append(
                f"{self.n_with_fewer} of {self.n_perturbations} perturbations have fewer cells "
                f"than were measured ({self.n_tested / self.n_measured:.2g} times as many in all), "
                "so the tests find less"
            )
        return "; ".join(notes)


def _sizes(screen: Screen, context: str) -> pd.Series:
    """Return the cells of each perturbation of a context."""
    groups = screen.context_groups(context).assign(n_cells=screen.group_sizes)
    return groups[~groups["is_control"]].set_index(PERTURBATION)["n_cells"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CellPredictions(AlignedPredictions):
    """Predictions for one context that follow from predicted cells.

    Attributes
    ----------
    labels : LabelTable
        Of the predicted cells.
    control : ndarray (n_genes,)
        The screen's control, mean log1p expression.
    counts : CellCounts
    """

    predictions: Predictions
    context: str
    labels: LabelTable
    genes: tuple[str, ...]
    unmatched: tuple[str, ...]
    note: str
    control: np.ndarray
    counts: CellCounts

    def params(self) -> dict[str, Any]:
        """Return what is recorded of the file, and how many of its cells were tested."""
        counts = self.counts
        return {
            **super().params(),
            "n_cells_predicted": counts.n_predicted,
            "n_cells_tested": counts.n_tested,
            "n_cells_measured": counts.n_measured,
        }

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Perturbation → row of the label table, where it was tested."""
        table = self.labels.perturbations
        mine = table[(table[CONTEXT] == self.context) & table["tested"]]
        return {str(name): int(row) for row, name in mine[PERTURBATION].items()}

    @cached_property
    def position(self) -> np.ndarray:
        """Position of each gene of the label table in the screen."""
        return pd.Index(self.genes).get_indexer(self.labels.genes)

    @property
    def has_gene(self) -> np.ndarray:
        """Which genes of the screen are predicted."""
        there = np.zeros(len(self.genes), bool)
        there[self.position] = True
        return there

    def classes(self, perturbations: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and class scores; a class is scored by how far z points to it."""
        labels = np.full((len(perturbations), len(self.genes)), Label.UNTESTED, np.int8)
        scores = np.full((*labels.shape, 3), np.nan, np.float32)
        at = {self.rows[name]: i for i, name in enumerate(perturbations) if name in self.rows}
        for part in self.labels.parts(self.context, ["z", "label"]):
            for row in np.unique(part[PERTURBATION]).tolist():
                if row in at:
                    mine = part[PERTURBATION] == row
                    columns = self.position[part["gene"][mine]]
                    labels[at[row], columns] = part["label"][mine]
                    scores[at[row], columns] = scores_of_changes(part["z"][mine])
        return labels, scores

    def profiles(self, perturbations: Sequence[str]) -> np.ndarray:
        """Return the mean log1p expression of the predicted cells, float32; NaN without any."""
        assert self.labels.path is not None
        mean = open_pseudobulk(self.labels.path.parent, context=self.context)["mean_log1p"]
        names = pd.Index(mean[PERTURBATION].values.astype(str))
        out = np.full((len(perturbations), len(self.genes)), np.nan, np.float32)
        rows = names.get_indexer(list(perturbations))
        known = np.flatnonzero(rows >= 0)
        found = mean.values[rows[known]].astype(np.float64)
        control, own = self.control[self.position], mean.values[names.get_loc(CONTROL)]
        if self.predictions.control == "in_file":
            found += control - own
        else:  # counts of a part of the genes are shares of that part
            level, there = np.expm1(own.astype(np.float64)), own > 0
            share = np.divide(np.expm1(control), level, out=np.ones(len(level)), where=there)
            found = np.log1p(np.expm1(found) * share)
        out[np.ix_(known, self.position)] = found
        return out
