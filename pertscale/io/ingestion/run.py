"""Ingest: convert the files of a screen to a screen store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.diagnostics.progress import say
from pertscale.display import shown_path
from pertscale.errors import (
    ArgumentError,
    ExistsError,
    InputError,
    PertscaleError,
)
from pertscale.execution.buffers import trim
from pertscale.execution.clients import (
    ClientLike,
    memory_limit,
    run_on_all_workers,
    tasks_per_process,
    use_client,
)
from pertscale.execution.memory import AUTO, check_memory, task_budget
from pertscale.execution.runner import run
from pertscale.hashing import digest
from pertscale.io.ingestion.column_roles import ColumnChoices
from pertscale.io.ingestion.genes import GeneRule
from pertscale.io.ingestion.inputs import (
    PathLike,
    SourceSet,
    source_paths,
)
from pertscale.io.ingestion.obs import (
    cell_table,
    check_columns,
    check_totals_column,
    named_totals,
    source_columns,
    total_column,
    totals_hint,
    without_total,
)
from pertscale.io.ingestion.passes import release_memory, sort_block, write_shards
from pertscale.io.ingestion.plan import IngestPlan, plan_screen, without_cells
from pertscale.io.ingestion.scale import decide_scale, read_sample
from pertscale.io.ingestion.work_folder import (
    IngestTasks,
    is_resumable,
    planned_tasks,
    prepare,
    work_folder,
)
from pertscale.io.store.column_names import renamed, stored_names
from pertscale.io.store.layout import (
    ROOT_FILE,
    STORE_FILES,
    STORE_FOLDERS,
    content_hash,
    fingerprint,
    is_store,
    open_root,
    read_frame,
    read_info,
    write_metadata,
)
from pertscale.io.store.verify import verify_store
from pertscale.schema import COUNTS, GENE, LOG1P_1E4, MATRIX, METADATA, Scale
from pertscale.storage.atomic import read_json, remove, remove_leftovers, replace, write_json
from pertscale.storage.files import states
from pertscale.storage.locations import Location, Remote, absolute
from pertscale.storage.lock import locked
from pertscale.storage.own_files import check_replaceable
from pertscale.storage.publish import OutputLayout, finished_folder

#: Types that counts can be stored as.
_COUNT_DTYPES = ("uint16", "uint32")
#: Share of cells without any count above which a file is taken for damaged.
_MOST_EMPTY = 0.05
#: A run of empty cells that no panel of genes has by chance.
_LONG_RUN = 20
#: What is published on object storage: AnnData's folders.
_LAYOUT = OutputLayout(STORE_FOLDERS, ROOT_FILE, keep=False, files=STORE_FILES)


@dataclass(frozen=True)
class Account:
    """What :func:`check` found, without writing anything.

    Attributes
    ----------
    lines : tuple of str
        Plain sentences: columns, labels, scale, what is left out.
    groups : DataFrame
        Cells per context and perturbation.
    n_input, n_kept, n_dropped : int
        Cells; kept + dropped = input.
    scale : str
    """

    lines: tuple[str, ...]
    groups: pd.DataFrame
    n_input: int
    n_kept: int
    n_dropped: int
    scale: str

    def __str__(self) -> str:
        return "\n".join(self.lines)


@checked
def check(
    source: PathLike | Sequence[PathLike],
    *,
    scale: Scale | None = None,
    layer: str | None = None,
    cells: PathLike | None = None,
    perturbation: str | tuple[str, str] | None = None,
    control: str | Sequence[str] = (),
    context: str | None = None,
    batch: str | None = None,
    guide: str | None = None,
    gene_name: str | None = None,
    genes: GeneRule = "same",
) -> Account:
    """Say how :func:`ingest` would read a file, without writing anything.

    Parameters and errors are those of :func:`ingest`. Of a screen store, all chunks are read and
    compared with their checksums, and the matrix with the sums of its cells.

    Returns
    -------
    Account

    Examples
    --------
    >>> account = ps.io.check("k562.h5ad")
    >>> account.scale, account.n_dropped
    ('counts', 0)
    """
    choices = _chosen(perturbation, control, context, batch, guide, gene_name)
    if isinstance(source, str | os.PathLike) and is_store(source):
        return _verified(source)
    sources = SourceSet.find(source, layer=layer, cells=cells)
    plan = plan_screen(sources, choices, name="screen", genes=genes)
    check_columns(plan)
    verdict, how = decide_scale(sources, declared=scale)
    lines = (*_shape_lines(plan), how, *plan.account, *_sampled_lines(plan, verdict, None))
    n_input = sum(plan.n_input)
    return Account(
        lines=lines,
        groups=plan.groups,
        n_input=n_input,
        n_kept=plan.n_cells,
        n_dropped=n_input - plan.n_cells,
        scale=verdict,
    )


def _verified(store: PathLike) -> Account:
    """Read all of a store; report what was compared, and what ingest had recorded."""
    found = verify_store(store)
    root = open_root(store)
    info, groups = read_info(root), read_frame(root[METADATA + "/groups"])
    n_cells, n_genes = root[MATRIX].shape
    how = "with their checksums, and the matrix with the sums of its cells"
    if not found.has_checksums:
        how = (
            "as far as the store allows: it was written by an earlier version, without checksums; "
            "ingest the source again to have them"
        )
    lines = (
        f"a screen store of {n_cells:,} cells x {n_genes:,} genes, {info['scale']}",
        f"whole: {found.n_chunks:,} chunks of {found.n_arrays} arrays were read and compared {how}",
        *info.get("account", ()),
    )
    n_input = int(info.get("n_input", n_cells))
    return Account(
        lines=lines,
        groups=groups.reset_index(drop=True),
        n_input=n_input,
        n_kept=n_cells,
        n_dropped=n_input - n_cells,
        scale=info["scale"],
    )


@checked
def ingest(
    source: PathLike | Sequence[PathLike],
    store: PathLike,
    *,
    scale: Scale | None = None,
    layer: str | None = None,
    cells: PathLike | None = None,
    perturbation: str | tuple[str, str] | None = None,
    control: str | Sequence[str] = (),
    context: str | None = None,
    batch: str | None = None,
    guide: str | None = None,
    gene_name: str | None = None,
    totals: str | None = None,
    genes: GeneRule = "same",
    dtype: Literal["uint16", "uint32"] = "uint16",
    memory: str | int = AUTO,
    overwrite: bool = False,
    client: ClientLike = None,
    quiet: bool = False,
) -> Location:
    """Convert a screen to a store, out of core.

    Two passes over the entries, both parallel on the current Dask scheduler. An interrupted call,
    made again, goes on where it was; until it ends, `store` does not exist or is what it was
    before. The bytes of the store depend on the input alone.

    Cells without a count in any gene, and contexts without controls, are left out, each cell with a
    row in ``drops``; where more than a few cells are empty the file is refused as damaged. Cells
    that have a total in the column `totals` are kept: a panel may have none of their genes.

    Parameters
    ----------
    source : path, glob, or a list of these
        h5ad, AnnData-Zarr, 10x h5, MatrixMarket folder, csv or tsv (text also gzipped). Several
        become one screen; their cells are stacked.
    store : path or URL
        The store to write. One on object storage is completed in scratch, then published.
    scale : {'counts', 'log1p_1e4'}, optional
        What the values are: raw counts, or log1p of counts per 10,000. Without it, it is proved
        from the values or refused.
    layer : str, optional
        Matrix to read: ``'raw'`` or the name of a layer; by default ``X``.
    cells : path, optional
        Table of cells for text and 10x files; by default the one table beside the matrix whose
        rows are its cells.
    perturbation, context, batch, guide : str, optional
        Columns of the cells. By default found by name and content; what was found is printed and
        stored.
    control : str or sequence of str
        Labels of control cells, where they can't be recognised.
    gene_name : str, optional
        Column of gene names.
    totals : str, optional
        Column with the total count of each cell. By default the sum over all genes of the matrix;
        name a column where the matrix holds only a part of the genes (method A1).
    genes : {'same', 'shared'}
        Whether several sources have to have the same genes, or the shared ones are kept.
    dtype : {'uint16', 'uint32'}
        How counts are stored.
    memory : str or int
        What the tasks of one process may hold together. The peak does not grow with the number
        of cells, but for about 100 bytes each for names and labels. On disk, about 2 bytes per
        count (6 per log-normalised value) are needed beside the store until it is finished.
    overwrite : bool
        Replace a store that is there already; anything else that is there is never replaced.
    client : Client, cluster, address or scheduler file, optional
        Where to run.
    quiet : bool
        Print no account and no progress.

    Returns
    -------
    Path or Remote
        The store.

    Raises
    ------
    ExistsError
        If `store` exists and `overwrite` is False, or it is no store, or holds other files.
    ArgumentError
        For an option that is not among the allowed ones or contradicts another.
    AmbiguousInputError
        If several columns or tables fit; the message lists them.
    InputError
        For values, labels or genes that can't be used; the message says in which file, and where.
    CorruptFileError
        For truncated or damaged files.
    MemoryBudgetError
        If `memory` does not hold the smallest task; the message says what does.

    Examples
    --------
    >>> store = ps.io.ingest("k562.h5ad", "again.zarr", quiet=True)
    >>> ps.open_screen(store).contexts
    ('sim',)
    """
    if dtype not in _COUNT_DTYPES:
        raise ArgumentError(f"dtype={dtype!r} is not one of {', '.join(_COUNT_DTYPES)}")
    check_memory(memory)
    choices = _chosen(perturbation, control, context, batch, guide, gene_name)
    final = absolute(store)
    if isinstance(final, Remote):
        options: dict[str, Any] = {
            "scale": scale,
            "layer": layer,
            "cells": None if cells is None else os.fspath(cells),
            **choices.arguments(),
            "totals": totals,
            "genes": genes,
            "dtype": dtype,
        }
        where = {"memory": memory, "client": client, "quiet": quiet}
        _ingest_remote(source, final, options, where, overwrite=overwrite)
        return final
    _check_replaceable_folder(final, overwrite)
    work = work_folder(final)
    with locked(work, quiet=quiet):
        try:
            sources = SourceSet.find(source, layer=layer, cells=cells, scratch=work)
            _check_apart(sources, final)
            plan = plan_screen(sources, choices, name=final.stem, genes=genes)
            check_columns(plan)
            verdict, how = decide_scale(sources, declared=scale)
            trim()  # what was read for the decision is freed; the passes need the room
            _check_totals(plan, totals, verdict)
        except PertscaleError:
            if not is_resumable(work):  # else it is what an interrupted call left
                remove(work)
            raise
        told = [*_shape_lines(plan), how, *plan.account, *_sampled_lines(plan, verdict, totals)]
        say("\n".join(told), quiet=quiet)
        stored = np.dtype(dtype if verdict == COUNTS else np.float32)
        return write_screen(
            plan,
            final,
            scale=verdict,
            dtype=stored,
            how=how,
            totals=totals,
            memory=memory,
            client=client,
            quiet=quiet,
        )


def _ingest_remote(
    source: PathLike | Sequence[PathLike],
    output: Remote,
    how: dict[str, Any],
    where: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Ingest into scratch, unless an interrupted call has, and publish the store."""
    _check_replaceable(output, overwrite)
    with finished_folder(output, _LAYOUT, quiet=where["quiet"]) as local:
        record = local.parent / "source.json"
        key = digest(how, states(map(Path, source_paths(source))))
        if not (record.exists() and local.exists() and read_json(record) == key):
            ingest(source, local, **how, **where, overwrite=True)
            write_json(record, key)


def _check_replaceable(output: Remote, overwrite: bool) -> None:
    """Refuse to replace a store unasked, and anything that is not one."""
    there = output.objects()
    foreign = sorted(n for n in there if not re.fullmatch(STORE_FILES, n))
    if foreign:
        raise ExistsError(
            f"{output} holds objects that are no part of a store, such as {foreign[0]}; name "
            "another place"
        )
    if ROOT_FILE in there and not any(n.startswith(f"{METADATA}/") for n in there):
        raise _no_store(output)
    if ROOT_FILE in there and not overwrite:
        raise ExistsError(f"{output} exists; pass overwrite=True to replace it")


def _check_replaceable_folder(final: Path, overwrite: bool) -> None:
    """Refuse to replace a store unasked, and anything that is not one, though it may be damaged."""
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    if not (final / METADATA).is_dir():
        raise _no_store(final)
    if not overwrite:
        raise ExistsError(f"{final} exists; pass overwrite=True to replace it")
    check_replaceable(final, STORE_FILES, "a screen store")


def _no_store(where: Location) -> ExistsError:
    return ExistsError(
        f"{where} is not a screen store of pertscale, and overwrite=True replaces nothing else; "
        "move it away, or name another place"
    )


def write_screen(
    plan: IngestPlan,
    final: Path,
    *,
    scale: str,
    dtype: np.dtype,
    how: str,
    totals: str | None,
    memory: str | int,
    client: ClientLike,
    quiet: bool,
    keep_empty: bool = False,
) -> Path:
    """Write the store that a plan describes, or go on where an interrupted call was.

    Cells without any count are left out. Only the matrix shows which these are: it is then written
    again.

    Parameters
    ----------
    how
        A sentence on how the scale is known.
    keep_empty
        Whether cells without any count are kept: a model may predict them.
    plan, final, scale, dtype, totals, memory, client, quiet
        As in :func:`ingest`, and so are the errors.
    """
    work = work_folder(final)
    with locked(work, quiet=quiet) as lock, use_client(client, quiet=quiet) as resolved:
        budget = task_budget(memory, worker_limit=memory_limit(resolved))
        parallel = tasks_per_process(resolved)
        settings: dict[str, Any] = {
            "scale": scale,
            "dtype": dtype,
            "memory": budget,
            "parallel": parallel,
        }
        empty = without_total(plan, planned_tasks(work, plan, **settings).noted_empty(), totals)
        if len(empty):
            plan = without_cells(plan, empty)
        tasks = prepare(work, plan, **settings)
        empty = _write_matrix(tasks, plan, resolved, totals, keep_empty=keep_empty, quiet=quiet)
        if len(empty):
            tasks.note_empty(empty)
            told, plan = len(plan.account), without_cells(plan, empty)
            say("\n".join(f"warning: {line}" for line in plan.account[told:]), quiet=quiet)
            tasks = prepare(work, plan, **settings)
            _write_matrix(tasks, plan, resolved, totals, keep_empty=True, quiet=quiet)
        tasks.drop_scratch()
        account = [*_shape_lines(plan), how, *plan.account]
        added = _write_tables(tasks, plan, scale, totals, account)
        lock.check()
        replace(work / "store", final)
    remove(work)
    remove_leftovers(final.parent, final.name)
    say("\n".join([*added, f"wrote {shown_path(final)}"]), quiet=quiet)
    return final


def _chosen(
    perturbation: str | tuple[str, str] | None,
    control: str | Sequence[str],
    context: str | None,
    batch: str | None,
    guide: str | None,
    gene_name: str | None,
) -> ColumnChoices:
    return ColumnChoices(
        perturbation=perturbation,
        control=(control,) if isinstance(control, str) else tuple(control),
        context=context,
        batch=batch,
        guide=guide,
        gene_name=gene_name,
    )


def _check_apart(sources: SourceSet, final: Path) -> None:
    """Refuse to replace a source by its own screen, or to write into it."""
    store = final.resolve()
    for spec in sources:
        path = Path(spec.path).resolve()
        if store == path or store in path.parents or path in store.parents:
            raise ArgumentError(
                f"the store {final} and the source {spec.path} are one inside the other; write the "
                "store to another place"
            )


def _check_totals(plan: IngestPlan, totals: str | None, scale: str) -> None:
    if totals is None:
        return
    if scale == LOG1P_1E4:
        raise ArgumentError("totals= is for raw counts; log-normalised values are divided already")
    check_totals_column(plan, totals)


# --- the account --------------------------------------------------------------------------------


def _shape_lines(plan: IngestPlan) -> list[str]:
    groups = plan.groups
    n_input = sum(plan.n_input)
    lines = [
        f"read: {n_input:,} cells x {len(plan.gene_maps[0]):,} genes from "
        f"{', '.join(plan.sources.file_names)}",
        f"kept: {plan.n_cells:,} cells, {len(plan.var):,} genes; left out: "
        f"{n_input - plan.n_cells:,} cells",
    ]
    for context, mine in groups.groupby("context", sort=False):
        size = mine["stop"] - mine["start"]
        lines.append(
            f"context {context!r}: {int(size.sum()):,} cells, "
            f"{int(size[mine['is_control']].sum()):,} of them control, "
            f"{int((~mine['is_control']).sum()):,} perturbations"
        )
    return lines


def _sampled_lines(plan: IngestPlan, scale: str, totals: str | None) -> list[str]:
    """Report the totals of some cells, and how many of them have no count.

    Ingest looks at all cells, once the matrix is written.
    """
    columns = plan.sources.columns
    name = totals or total_column(columns.names)
    sums, rows, whole = _sampled_sums(plan)
    if not whole:
        hint = f"totals: ingest will compare column {name!r} with the sums of the matrix"
        return [hint] if scale == COUNTS and name is not None else []
    lines = []
    n_empty, n = len(without_total(plan, rows[sums == 0], totals)), len(sums)
    if n_empty:
        of_panel = (
            "; of a panel of genes, totals= names the column of cells' totals, and those that have "
            "one are kept"
            if scale == COUNTS and totals is None
            else ""
        )
        lines.append(
            f"{n_empty:,} of {n:,} cells that were looked at have no count in any gene; ingest "
            f"leaves such cells out, and refuses more than {_MOST_EMPTY:.0%}{of_panel}"
        )
    if scale == COUNTS and name is not None:
        listed = pd.to_numeric(columns.load(name), errors="coerce").to_numpy(np.float64)[rows]
        of = f"{n:,} cells that were looked at"
        lines += totals_hint(name, listed, sums, of=of, chosen=totals is not None)
    return lines


def _sampled_sums(plan: IngestPlan) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the sums of some kept cells over the kept genes, and which input cells these are.

    The last value says whether the sources store whole cells; otherwise there are none.
    """
    sums, rows, first = [], [], 0
    for spec, n, way in zip(plan.sources, plan.n_input, plan.gene_maps, strict=True):
        blocks, whole = read_sample(spec)
        if not whole:
            return np.empty(0), np.empty(0, np.int64), False
        for block in blocks:
            values = np.where(way[block.indices] >= 0, block.data, 0).astype(np.float64)
            ends = np.concatenate([[0.0], np.cumsum(values)])
            sums.append(np.diff(ends[block.indptr]))
            rows.append(first + block.row_start + np.arange(block.n_rows))
        first += n
    found, at = np.concatenate(sums), np.concatenate(rows)
    kept = plan.destination[at] >= 0
    return found[kept], at[kept], True


# --- the matrix, then the tables ----------------------------------------------------------------


def _write_matrix(
    tasks: IngestTasks,
    plan: IngestPlan,
    client: ClientLike,
    totals: str | None,
    *,
    keep_empty: bool,
    quiet: bool,
) -> np.ndarray:
    """Run the two passes, as far as an earlier call has not; return the input cells to leave out.

    These are the ones without a count, and without a total.

    Raises
    ------
    InputError
        If a value can't be used, or more cells than a few are empty.
    """
    try:
        if not tasks.is_written():
            run(sort_block, tasks.to_sort, label="read", client=client, quiet=quiet)
            run(write_shards, tasks.to_write, label="write", client=client, quiet=quiet)
            run_on_all_workers(release_memory, client)
        expressed = tasks.cell_sums()[1]
        if not expressed.any():
            raise InputError(f"{tasks.to_sort[0].source.path}: all values are zero")
        empty = np.sort(plan.order[expressed == 0])
        if keep_empty:
            return empty[:0]
        unmeasured = without_total(plan, empty, totals)
        longest, most = _longest_run(empty), _MOST_EMPTY * plan.n_cells
        if len(unmeasured) > max(1, most) or len(longest) > max(_LONG_RUN, most):
            way = "" if totals or tasks.to_write[0].target.scale != COUNTS else _of_a_panel(plan)
            raise InputError(_too_many_empty(plan, empty, longest) + way)
    except InputError:
        remove(tasks.folder)  # the input has to change, so nothing of this can be reused
        raise
    return unmeasured


def _longest_run(cells: np.ndarray) -> np.ndarray:
    """Return the longest run of neighbours among sorted cells."""
    return max(np.split(cells, np.flatnonzero(np.diff(cells) > 1) + 1), key=len)


def _too_many_empty(plan: IngestPlan, empty: np.ndarray, longest: np.ndarray) -> str:
    """Return the error of too many empty cells: how many, the longest run, and what to do."""
    ends = np.cumsum(plan.n_input)
    source = int(np.searchsorted(ends, longest[0], side="right"))
    first = int(longest[0] - ends[source] + plan.n_input[source])
    last = first + len(longest) - 1
    where = "to the last one" if last == plan.n_input[source] - 1 else f"to {last:,}"
    return (
        f"{plan.sources.where}: {len(empty):,} of {plan.n_cells:,} cells "
        f"({len(empty) / plan.n_cells:.0%}) have no count in any gene; rows {first:,} {where} of "
        f"{plan.sources.specs[source].path} are one run of them. A file that was cut off while it "
        "was written looks so: copy or write it again. If these cells are empty indeed, write the "
        f"file without them (up to {_MOST_EMPTY:.0%} are left out, each with its row)"
    )


def _of_a_panel(plan: IngestPlan) -> str:
    column = total_column(plan.sources.columns.names)
    name = repr(column) if column else ""
    return (
        f". If the matrix holds a panel of genes only, pass totals={name} "
        "with the column of each cell's total count over all genes: cells that have one are kept"
    )


def _write_tables(
    tasks: IngestTasks, plan: IngestPlan, scale: str, totals: str | None, account: Sequence[str]
) -> list[str]:
    """Write the tables beside the matrix; return the sentences that this adds to the account."""
    sums, expressed = tasks.cell_sums()
    divisors = sums if totals is None else named_totals(plan, totals, sums)
    if scale == LOG1P_1E4:
        divisors = np.full(len(sums), np.nan)
    names, added = plan.sources.cell_names()
    var_columns = stored_names(map(str, plan.var.columns), [GENE])
    added += [*renamed(source_columns(plan)), *renamed(var_columns)]
    if scale == COUNTS:
        added += _exact_hint(plan, sums, totals)
    zero = int((expressed == 0).sum())
    if zero and totals is not None:
        added.append(
            f"kept: {zero:,} of {len(sums):,} cells ({100 * zero / len(sums):.2g} %) that have no "
            f"count in any gene, but a total in column {totals!r}"
        )
    there = set(plan.groups["perturbation"])
    guides = {name: group for name, group in sorted(plan.guides.items()) if name in there}
    info = {
        "scale": scale,
        "dtype": np.dtype(tasks.to_write[0].target.dtype).name,
        "totals": totals or "matrix",
        "account": [*account, *added],
        "n_input": sum(plan.n_input),
        "sources": list(plan.sources.file_names),
        "roles": {k: v for k, v in asdict(plan.roles).items() if k != "account"},
        "fingerprint": fingerprint(
            plan.var.index, plan.groups, scale, sums, divisors, expressed, guides
        ),
        "content": content_hash(plan.var.index, plan.groups, scale, divisors, expressed, guides),
        "guides": guides,
    }
    write_metadata(
        tasks.folder / "store",
        obs=cell_table(plan, names=names, totals=divisors, expressed=expressed),
        var=plan.var.set_axis(list(var_columns.values()), axis=1),
        groups=plan.groups,
        drops=plan.drops,
        info=info,
    )
    return added


def _exact_hint(plan: IngestPlan, sums: np.ndarray, totals: str | None) -> list[str]:
    columns = plan.sources.columns
    name = totals or total_column(columns.names)
    if name is None:
        return []
    listed = pd.to_numeric(columns.load(name), errors="coerce").to_numpy(np.float64)
    return totals_hint(name, listed[plan.order], sums, of="all cells", chosen=totals is not None)
