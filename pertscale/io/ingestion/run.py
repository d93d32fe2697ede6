"""Ingest: convert the files of a screen to a screen store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, ExistsError, PertscaleError
from pertscale.execution.allocator import trim
from pertscale.execution.clients import ClientLike
from pertscale.execution.memory import AUTO, check_memory
from pertscale.hashing import digest
from pertscale.io.ingestion.account import sampled_lines, shape_lines
from pertscale.io.ingestion.column_roles import ColumnChoices
from pertscale.io.ingestion.genes import GeneRule
from pertscale.io.ingestion.inputs import PathLike, SourceSet, source_paths
from pertscale.io.ingestion.obs import check_columns, check_totals_column
from pertscale.io.ingestion.plan import IngestPlan, plan_screen
from pertscale.io.ingestion.scale import decide_scale
from pertscale.io.ingestion.work_folder import is_resumable, work_folder
from pertscale.io.ingestion.write import write_screen
from pertscale.io.store.layout import (
    ROOT_FILE,
    STORE_FILES,
    STORE_FOLDERS,
    is_store,
    open_root,
    read_frame,
    read_info,
)
from pertscale.io.store.verify import verify_store
from pertscale.schema import COUNTS, LOG1P_1E4, MATRIX, METADATA, Scale
from pertscale.storage.atomic import read_json, remove, write_json
from pertscale.storage.files import states
from pertscale.storage.locations import Location, Remote, absolute
from pertscale.storage.lock import locked
from pertscale.storage.own_files import check_replaceable
from pertscale.storage.publish import OutputLayout, finished_folder

#: Types that counts can be stored as.
_COUNT_DTYPES = ("uint16", "uint32")
#: What is published on object storage: AnnData's folders.
_LAYOUT = OutputLayout(STORE_FOLDERS, ROOT_FILE, keep=False, files=STORE_FILES)


@dataclass(frozen=True, kw_only=True)
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
    lines = (*shape_lines(plan), how, *plan.account, *sampled_lines(plan, verdict, None))
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
    verified = verify_store(store)
    root = open_root(store)
    info, groups = read_info(root), read_frame(root[METADATA + "/groups"])
    n_cells, n_genes = root[MATRIX].shape
    how = "with their checksums, and the matrix with the sums of its cells"
    if not verified.has_checksums:
        how = (
            "as far as the store allows: it was written by an earlier version, without checksums; "
            "ingest the source again to have them"
        )
    lines = (
        f"a screen store of {n_cells:,} cells x {n_genes:,} genes, {info['scale']}",
        f"whole: {verified.n_chunks:,} chunks of {verified.n_arrays} arrays were read and compared "
        f"{how}",
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
        account = [*shape_lines(plan), how, *plan.account, *sampled_lines(plan, verdict, totals)]
        say("\n".join(account), quiet=quiet)
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
    objects = output.objects()
    foreign = sorted(n for n in objects if not re.fullmatch(STORE_FILES, n))
    if foreign:
        raise ExistsError(
            f"{output} holds objects that are no part of a store, such as {foreign[0]}; name "
            "another place"
        )
    if ROOT_FILE in objects and not any(n.startswith(f"{METADATA}/") for n in objects):
        raise _no_store(output)
    if ROOT_FILE in objects and not overwrite:
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
