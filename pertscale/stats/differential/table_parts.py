"""From the tiles' statistics to the label table and the pseudobulk, part by part.

A part is a fixed range of groups (controls and perturbations, in the order of the store) with
about :data:`PART_PAIRS` pairs. Its boundaries depend on the screen alone. A task holds one row
group of it at a time, and no more tasks work at once in a process than fit into its memory.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import BufferPool, Buffers
from pertscale.execution.resources import Resources
from pertscale.io.checksums import FILES, sums_of, write_record
from pertscale.io.parquet import ROW_GROUP_ROWS, pairs_file, write_table
from pertscale.schema import (
    GENE,
    HALVES_DIR,
    LABEL_COLUMNS,
    LABELS_DIR,
    MANIFEST_FILE,
    NULLS_DIR,
    PSEUDOBULK_DIR,
    PSEUDOCOUNT,
    Label,
)
from pertscale.screen import Screen, opened_screen
from pertscale.stats.differential import tile_task
from pertscale.stats.differential._kernels.adjust import adjust, look_up
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.half_cells import Halves
from pertscale.stats.differential.half_parts import put_halves_on_disk, write_half_rows
from pertscale.stats.differential.multiple_testing import assign_labels
from pertscale.stats.differential.null_cells import NullCells, opened_nulls
from pertscale.stats.differential.null_parts import write_null_chunks
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.screen_fdr import steps_file
from pertscale.stats.differential.tile_statistics import ContextStatistics, read_index
from pertscale.stats.halves import create_halves
from pertscale.stats.labels.table import (
    GENES_FILE,
    HALVES,
    NULLS,
    PERTURBATIONS_FILE,
    PROFILES,
    REPLICATES,
)
from pertscale.stats.null_tests import create_null_tests
from pertscale.stats.pseudobulk import create_pseudobulk, put_profiles_on_disk, write_profiles
from pertscale.storage.atomic import read_json, write_json
from pertscale.storage.files import files_of
from pertscale.versions import SCHEMA_VERSION

#: Pairs of a part, and so of a file.
PART_PAIRS = 524_288
#: Bytes of a pair while its row group is made: statistics, columns, orders, and their encoding.
PAIR_BYTES = 5 * STATISTICS_DTYPE.itemsize
#: Statistics of the profiles, which are written for a part as a whole: a chunk of the pseudobulk.
_PROFILE_FIELDS = ("sum_log1p", "sum_normalized", "n_expressed")
#: Bytes of these, and of a mean.
PROFILE_BYTES = 8 + sum(STATISTICS_DTYPE[name].itemsize for name in _PROFILE_FIELDS)
#: Receipts of the parts that are written, in a run's working folder.
PARTS_DIR = "receipts"

#: Bytes for parts above which what tasks left behind is worth the time to look for it.
_COLLECTED_BYTES = 20_000_000

#: Of this process: memory for parts, and the number of parts that are being made.
_buffers = BufferPool()
_turns: dict[int, threading.Semaphore] = {}
_turns_lock = threading.Lock()


def release_memory() -> None:
    """Free what the tiles and parts of this process kept for the next one."""
    tile_task.release_memory()
    if _buffers.n_bytes > _COLLECTED_BYTES:
        gc.collect()  # the scheduler's graph refers to itself, and to what its tasks returned
    _buffers.clear()


@dataclass(frozen=True, kw_only=True)
class PartTask:
    """Descriptor of one part: groups ``first:last`` of the store.

    At most `at_once` parts are made at the same time in a process. Cells were halved in `n_seeds`
    ways. Of the tests of controls against controls, the part has the chunks `null_chunks`.
    """

    store: str
    fingerprint: str
    staging: str
    index: int
    first: int
    last: int
    options: RankSumOptions
    n_seeds: int
    nulls: NullCells | None
    null_chunks: range
    at_once: int

    def file(self, context: int) -> str:
        """Name of its rows of a context, below the label table."""
        return f"data/context={context}/part-{self.index:05d}.parquet"

    def describe(self) -> str:
        """Say which perturbations these are."""
        names = list(opened_screen(self.store, self.fingerprint).groups["perturbation"])
        return f"perturbations {names[self.first]} to {names[self.last - 1]}"


def rows_at_once(n_genes: int) -> int:
    """Return the number of tested perturbations in a row group, which a task holds at a time."""
    return max(1, ROW_GROUP_ROWS // n_genes)


def parts_at_once(n_genes: int, resources: Resources) -> int:
    """Return how many parts a process makes at the same time, so that they fit into its memory."""
    return max(1, min(resources.n_parallel, resources.memory // part_bytes(n_genes)))


def part_bytes(n_genes: int) -> int:
    """Return the bytes that a task holds: those of its profiles, then a row group of labels."""
    profiles = max(PART_PAIRS, n_genes) * PROFILE_BYTES
    return rows_at_once(n_genes) * n_genes * PAIR_BYTES + profiles


def make_parts(
    screen: Screen,
    staging: Path,
    options: RankSumOptions,
    labels_key: str,
    resources: Resources,
    *,
    halves: Halves | None = None,
    nulls: NullCells | None = None,
) -> list[PartTask]:
    """Cut the groups into parts; make the pseudobulk, halves and tests that they fill."""
    n_groups = len(screen.groups)
    step = min(max(1, PART_PAIRS // screen.n_genes), n_groups)
    create_pseudobulk(screen, staging, labels_key=labels_key, rows_per_chunk=step)
    if halves is not None:
        create_halves(
            screen,
            staging,
            n_cells=halves.n_cells(screen),
            labels_key=labels_key,
            rows_per_chunk=step,
        )
    n_chunks, starts = 0, range(0, n_groups, step)
    if nulls is not None:
        n_chunks = create_null_tests(
            screen,
            staging,
            tests=opened_nulls(nulls).tests,
            min_cells=options.min_cells,
            fdr=options.fdr,
            labels_key=labels_key,
            rows_per_chunk=max(1, PART_PAIRS // screen.n_genes),
        )
    return [
        PartTask(
            store=screen.path,
            fingerprint=screen.fingerprint,
            staging=str(staging),
            index=index,
            first=first,
            last=min(first + step, n_groups),
            options=options,
            n_seeds=0 if halves is None else halves.n_seeds,
            nulls=nulls,
            null_chunks=range(index, n_chunks, len(starts)),
            at_once=parts_at_once(screen.n_genes, resources),
        )
        for index, first in enumerate(starts)
    ]


# --- one part --------------------------------------------------------------------------------


def write_part(part: PartTask) -> dict[str, Any]:
    """Write the pseudobulk rows and the label rows of one part; return a summary per group."""
    staging = Path(part.staging)
    receipt = staging / PARTS_DIR / f"{part.index:05d}.json"
    if receipt.exists():
        return dict(read_json(receipt))
    tile_task.release_memory()  # this process has no more tiles to test
    screen = opened_screen(part.store, part.fingerprint)
    groups = screen.groups.iloc[part.first : part.last]
    summaries: list[dict[str, Any]] = []
    written = []
    with _turn(part.at_once), _buffers.borrow() as buffers:
        # groups are sorted by context, so a context is a run of rows
        for context, of_context in groups.groupby("context", sort=False):
            code = screen.contexts.index(str(context))
            tested = _write_context(part, screen, code, of_context, buffers)
            summaries += tested
            written += [part.file(code)] if tested else []
        nulls = []
        if part.null_chunks and part.nulls is not None:
            index = read_index(part.staging)
            nulls = write_null_chunks(index, staging, opened_nulls(part.nulls), part.null_chunks)
    profiles = put_profiles_on_disk(staging, part.index)
    halves = put_halves_on_disk(staging, part.index, part.n_seeds)
    done = {
        "groups": summaries,
        FILES: sums_of(staging / LABELS_DIR, written),
        PROFILES: sums_of(staging / PSEUDOBULK_DIR, profiles),
        HALVES: sums_of(staging / HALVES_DIR, halves),
        NULLS: sums_of(staging / NULLS_DIR, nulls),
    }
    write_json(receipt, done)
    return done


@contextmanager
def _turn(at_once: int) -> Iterator[None]:
    """Wait until fewer than `at_once` parts are being made in this process."""
    with _turns_lock:
        turns = _turns.setdefault(at_once, threading.Semaphore(at_once))
    with turns:
        yield


def _write_context(
    part: PartTask, screen: Screen, context: int, groups: pd.DataFrame, buffers: Buffers
) -> list[dict[str, Any]]:
    """Write one context's rows of a part, labels row group by row group; sum up perturbations."""
    n_cells = screen.group_sizes[groups.index]
    tested = (~groups["is_control"] & (n_cells >= part.options.min_cells)).to_numpy()
    staging = Path(part.staging)
    first_group = int(screen.context_groups(screen.contexts[context]).index[0])
    tiles = ContextStatistics(read_index(part.staging), context, first_group, screen.n_genes)
    sums, _ = tiles.rows(_span(groups), _PROFILE_FIELDS, buffers)
    _check_sums(screen, groups, sums["n_expressed"])
    write_profiles(staging, n_cells, sums, buffers)
    if part.n_seeds:
        write_half_rows(tiles, staging, _span(groups), part.n_seeds, part.options.fdr, buffers)
    summaries: list[dict[str, Any]] = []
    if not tested.any():
        return summaries
    file = staging / LABELS_DIR / part.file(context)
    with pairs_file(file, declared=LABEL_COLUMNS) as write:
        for rows in _row_groups(tested, rows_at_once(screen.n_genes)):
            some, keep = groups.iloc[rows], tested[rows]
            statistics, control = tiles.rows(_span(some), _LABEL_FIELDS, buffers)
            if not keep.all():
                statistics = {name: values[keep] for name, values in statistics.items()}
            columns = _columns(part, screen, context, some[keep], statistics, control, buffers)
            write({name: values.reshape(-1) for name, values in columns.items()})
            summaries += _summaries(some[keep], columns)
    return summaries


#: Statistics that the columns of the label table are made of.
_LABEL_FIELDS = tuple(n for n in STATISTICS_DTYPE.names or () if n != "n_expressed")


def _span(groups: pd.DataFrame) -> slice:
    """Return the range of consecutive groups."""
    return slice(int(groups.index[0]), int(groups.index[-1]) + 1)


def _row_groups(tested: np.ndarray, n: int) -> Iterator[slice]:
    """Yield ranges of groups that begin and end with a tested one and have `n` of these."""
    positions = np.flatnonzero(tested)
    for first in range(0, len(positions), n):
        together = positions[first : first + n]
        yield slice(int(together[0]), int(together[-1]) + 1)


def _summaries(groups: pd.DataFrame, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return what is known of each tested perturbation."""
    label = columns["label"]
    disagree = (label != Label.NON_DE) & (np.sign(columns["z"]) * label < 0)
    counts = {
        "group": groups.index.to_numpy(),
        "n_up": np.count_nonzero(label == Label.UP, axis=1),
        "n_down": np.count_nonzero(label == Label.DOWN, axis=1),
        "n_sign_disagreements": np.count_nonzero(disagree, axis=1),
    }
    each = zip(*(values.tolist() for values in counts.values()), strict=True)
    return [dict(zip(counts, values, strict=True)) for values in each]


def _check_sums(screen: Screen, groups: pd.DataFrame, n_expressed: np.ndarray) -> None:
    """Fail unless the tiles counted as many values above zero as ingest did, in every group."""
    first, last = int(groups["start"].iloc[0]), int(groups["stop"].iloc[-1])
    of_cells = screen.n_genes_expressed(first, last)
    expected = np.add.reduceat(of_cells, groups["start"].to_numpy() - first)
    wrong = groups[n_expressed.sum(axis=1, dtype=np.int64) != expected]
    if len(wrong):
        raise CorruptFileError(
            f"{screen.path} does not hold the cells that were ingested: perturbation "
            f"{wrong['perturbation'].iloc[0]!r} ({len(wrong)} in all) has other values; chunks of "
            "the matrix were exchanged: copy the store again, or ingest the source again with "
            "overwrite=True"
        )


def _columns(
    part: PartTask,
    screen: Screen,
    context: int,
    groups: pd.DataFrame,
    statistics: dict[str, np.ndarray],
    control: dict[str, np.ndarray],
    buffers: Buffers,
) -> dict[str, np.ndarray]:
    """Columns of the label table for tested perturbations, each (perturbation, gene)."""
    shape = (len(groups), screen.n_genes)
    columns = {
        c.name: buffers.take(f"column {c.name}", shape, c.dtype)
        for c in LABEL_COLUMNS
        if c.name not in statistics
    }
    columns |= {name: statistics[name] for name in ("u_statistic", "z", "p_value")}
    n = screen.group_sizes[groups.index].to_numpy()[:, None]
    first, last = screen.control_rows(screen.contexts[context])
    n_control = last - first
    columns["perturbation"][:] = _codes(screen)[groups.index.to_numpy()][:, None]
    columns["gene"][:] = np.arange(screen.n_genes)
    columns["n_cells"][:] = n
    columns["n_control"][:] = n_control
    mean = np.divide(statistics["sum_log1p"], n, out=buffers.take("mean", shape, np.float64))
    mean_control = control["sum_log1p"] / n_control
    columns["mean"][:] = mean
    columns["mean_control"][:] = mean_control
    fold = buffers.take("fold", shape, np.float64)
    if part.options.fold_change == "geometric":
        fold_control = np.expm1(mean_control)
        np.expm1(mean, out=fold)
    else:
        fold_control = control["sum_normalized"] / n_control
        np.divide(statistics["sum_normalized"], n, out=fold)
    columns["log2_fold_change"][:] = log2_ratio(fold, fold_control)
    order = np.argsort(statistics["p_value"], axis=None)
    adjust(statistics["p_value"], order, columns["fdr"])
    steps = np.load(steps_file(Path(part.staging), context), mmap_mode="r")
    look_up(statistics["p_value"], order, np.asarray(steps), columns["fdr_screen"])
    change = columns["log2_fold_change"]
    if part.options.fold_change == "geometric":  # its sign, without the pseudocount's rounding
        change = np.subtract(mean, mean_control, out=mean)
    columns["label"][:] = assign_labels(
        columns["fdr"], change, statistics["z"], fdr=part.options.fdr
    )
    columns["is_target"][:] = _target_mask(screen, list(groups["perturbation"]))
    return columns


def log2_ratio(mean: np.ndarray, mean_control: np.ndarray) -> np.ndarray:
    """Log2 fold change; `mean` is overwritten with it."""
    mean += PSEUDOCOUNT
    mean /= mean_control + PSEUDOCOUNT
    return np.log2(mean, out=mean)


def _codes(screen: Screen) -> np.ndarray:
    """Code of each group in perturbations.parquet, which leaves out the controls."""
    perturbed = ~screen.groups["is_control"].to_numpy()
    return np.cumsum(perturbed) - 1


def _target_mask(screen: Screen, names: Sequence[str]) -> np.ndarray:
    """Whether gene j is a target of perturbation i."""
    mask = np.zeros((len(names), screen.n_genes), bool)
    pairs = [(row, target) for row, name in enumerate(names) for target in screen.targets[name]]
    rows = np.array([row for row, _ in pairs], np.intp)
    at = screen.genes.get_indexer([target for _, target in pairs])
    mask[rows[at >= 0], at[at >= 0]] = True
    return mask


# --- after the parts ----------------------------------------------------------------------------


def finish_tables(
    screen: Screen,
    staging: Path,
    options: RankSumOptions,
    receipts: Sequence[dict[str, Any]],
    key: str,
    halves: Halves | None = None,
) -> None:
    """Write the vocabularies beside the data and, last, the manifest."""
    folder = staging / LABELS_DIR
    write_table(folder / PERTURBATIONS_FILE, _perturbation_table(screen, options, receipts))
    write_table(folder / GENES_FILE, pd.DataFrame({GENE: screen.genes.to_numpy(object)}))
    tables = {name: value for one in receipts for name, value in one[FILES].items()}
    of_halves = {}
    if halves is not None:
        of_halves = {
            HALVES: _sums_of_arrays(staging, HALVES, receipts),
            NULLS: _sums_of_arrays(staging, NULLS, receipts),
            REPLICATES: halves.n_seeds,
        }
    write_record(
        folder / MANIFEST_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "contexts": list(screen.contexts),
            "n_genes": screen.n_genes,
            "options": options.as_dict(),
            "fingerprint": screen.fingerprint,
            "scale": screen.scale,
            FILES: tables | sums_of(folder, [GENES_FILE, PERTURBATIONS_FILE]),
            PROFILES: _sums_of_arrays(staging, PROFILES, receipts),
            **of_halves,
        },
    )


#: Folders of arrays, by the key of their checksums.
_ARRAYS = {PROFILES: PSEUDOBULK_DIR, HALVES: HALVES_DIR, NULLS: NULLS_DIR}


def _sums_of_arrays(staging: Path, what: str, receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the checksums of a folder of arrays: of its parts, and of what is written once."""
    folder = staging / _ARRAYS[what]
    parts = {name: value for one in receipts for name, value in one[what].items()}
    names = [f.relative_to(folder).as_posix() for f in files_of(folder)]
    return parts | sums_of(folder, [name for name in names if name not in parts])


def _perturbation_table(
    screen: Screen, options: RankSumOptions, receipts: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """One row per (context, perturbation): its cells, its targets, and what the test found."""
    counted = ["n_up", "n_down", "n_sign_disagreements"]
    counts = pd.DataFrame([g for r in receipts for g in r["groups"]], columns=["group", *counted])
    counts = counts.astype("int64").set_index("group")
    n_cells = screen.group_sizes
    controls = screen.groups["is_control"]
    n_control = dict(zip(screen.groups.loc[controls, "context"], n_cells[controls], strict=True))
    groups = screen.groups[~controls]
    table = pd.DataFrame(
        {
            "context": groups["context"],
            "perturbation": groups["perturbation"],
            "targets": ["+".join(screen.targets[p]) for p in groups["perturbation"]],
            "n_cells": n_cells[~controls],
            "n_control": groups["context"].map(n_control),
            "tested": groups.index.isin(counts.index),
        }
    )
    table[counted] = counts.reindex(groups.index, fill_value=0)
    few = [f"{n} cells, min_cells={options.min_cells}" for n in table["n_cells"]]
    table["reason"] = np.where(table["tested"], "", few)
    return table.reset_index(drop=True)
