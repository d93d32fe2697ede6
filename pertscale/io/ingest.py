"""Ingest: from the files that screens come in to the screen store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dask.utils import parse_bytes

from pertscale.errors import ArgumentError, ExistsError, InputError, MemoryBudgetError
from pertscale.hashing import digest
from pertscale.io.atomic import read_json, remove, replace, write_json
from pertscale.io.columns import RoleChoices
from pertscale.io.passes import PassOne, PassTwo, shard_file, sort_block, write_shard
from pertscale.io.scale import decide_scale
from pertscale.io.screen_plan import (
    ScreenPlan,
    cell_names,
    find_sources,
    joined_columns,
    plan_screen,
    source_names,
)
from pertscale.io.sources import open_source
from pertscale.io.store import create_matrix, rows_per_shard, write_metadata
from pertscale.progress import say
from pertscale.runner import ClientLike, run, tasks_per_process, use_client
from pertscale.schema import CELL_COLUMNS, COUNTS, LOG1P_1E4

PathLike = str | os.PathLike[str]

#: Types that counts can be stored as.
_COUNT_DTYPES = ("uint16", "uint32")
#: A block of the source is held about this many times over while it is sorted.
_BLOCK_COPIES = 4
_MAX_BLOCK_BYTES = 128_000_000
#: Columns that hold totals over more genes than the matrix has, in many data sets.
_TOTAL_COLUMNS = ("ncounts", "UMI_count", "n_counts", "total_counts", "nCount_RNA")


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


def check(
    source: PathLike | Sequence[PathLike],
    *,
    scale: str | None = None,
    layer: str | None = None,
    cells: PathLike | None = None,
    perturbation: str | tuple[str, str] | None = None,
    control: str | Sequence[str] = (),
    context: str | None = None,
    batch: str | None = None,
    guide: str | None = None,
    gene_name: str | None = None,
    genes: str = "same",
) -> Account:
    """Tell how :func:`ingest` would read a file, without writing anything.

    Parameters and errors are those of :func:`ingest`.

    Returns
    -------
    Account
    """
    specs = find_sources(source, layer=layer, cells=cells, scratch=None)
    choices = _choices(perturbation, control, context, batch, guide, gene_name)
    plan = plan_screen(specs, choices, name="screen", genes=genes)
    verdict, how = decide_scale(specs, declared=scale)
    lines = [*_shape_lines(plan), how, *plan.account, *_total_hint(plan, verdict)]
    n_input = sum(plan.n_input)
    return Account(
        tuple(lines), plan.groups, n_input, plan.n_cells, n_input - plan.n_cells, verdict
    )


def ingest(
    source: PathLike | Sequence[PathLike],
    store: PathLike,
    *,
    scale: str | None = None,
    layer: str | None = None,
    cells: PathLike | None = None,
    perturbation: str | tuple[str, str] | None = None,
    control: str | Sequence[str] = (),
    context: str | None = None,
    batch: str | None = None,
    guide: str | None = None,
    gene_name: str | None = None,
    totals: str | None = None,
    genes: str = "same",
    dtype: str = "uint16",
    memory: str | int = "2GB",
    overwrite: bool = False,
    client: ClientLike = None,
    quiet: bool = False,
) -> Path:
    """Convert a screen to a store, out of core.

    Two passes over the entries, both parallel on the current Dask scheduler. An interrupted call
    goes on where it was when it is made again; until it ends there is nothing at `store`.

    Parameters
    ----------
    source : path, glob, or a list of these
        h5ad, AnnData-Zarr, 10x h5, MatrixMarket folder, csv or tsv (text also gzipped). Several
        become one screen; their cells are stacked.
    store : path
        The store to write.
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
        name a column where the matrix holds only a part of the genes (SPEC A1).
    genes : {'same', 'shared'}
        Whether several sources have to have the same genes, or the shared ones are kept.
    dtype : {'uint16', 'uint32'}
        How counts are stored.
    memory : str or int
        What the tasks of one process may hold together. The peak does not grow with the number
        of cells, but for about 100 bytes each for names and labels.
    overwrite : bool
        Replace a store that is there already.
    client : Client, cluster, address or scheduler file, optional
        Where to run.
    quiet : bool
        Print no account and no progress.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    ExistsError
        If `store` exists and `overwrite` is False.
    AmbiguousInputError
        If several columns or tables fit; the message lists them.
    InputError
        For values, labels or genes that can't be used; the message names file and place.
    CorruptFileError
        For truncated or damaged files.
    """
    final = Path(store)
    if final.exists() and not overwrite:
        raise ExistsError(f"{final} exists; pass overwrite=True to replace it")
    if dtype not in _COUNT_DTYPES:
        raise ArgumentError(f"dtype={dtype!r} is not one of {', '.join(_COUNT_DTYPES)}")
    final.parent.mkdir(parents=True, exist_ok=True)
    work = final.parent / f".{final.name}.ingest"
    specs = find_sources(source, layer=layer, cells=cells, scratch=work)
    choices = _choices(perturbation, control, context, batch, guide, gene_name)
    plan = plan_screen(specs, choices, name=final.stem, genes=genes)
    verdict, how = decide_scale(specs, declared=scale)
    if totals is not None and verdict == LOG1P_1E4:
        raise ArgumentError("totals= is for raw counts; log-normalised values are divided already")
    account = [*_shape_lines(plan), how, *plan.account]
    account += _total_hint(plan, verdict) if totals is None else []
    say("\n".join(account), quiet=quiet)
    stored = np.dtype(dtype if verdict == COUNTS else np.float32)
    with use_client(client) as resolved:
        parallel = tasks_per_process(resolved)
        rows = _rows_per_shard(plan, stored, parse_bytes(memory), parallel)
        block_bytes = parse_bytes(memory) // (parallel * 2 * _BLOCK_COPIES)
        block_bytes = min(max(block_bytes, 1_000_000), _MAX_BLOCK_BYTES)
        _prepare(work, plan, stored, _work_key(plan, verdict, stored, rows, block_bytes))
        first = _first_tasks(work, plan, verdict, stored, rows, block_bytes)
        run(sort_block, first, label="read", client=resolved, quiet=quiet)
        second = [
            PassTwo(str(work), s, len(first), stored.str, rows, plan.n_cells, len(plan.var))
            for s in range(-(-plan.n_cells // rows))
        ]
        run(write_shard, second, label="write", client=resolved, quiet=quiet)
    _finish(work, plan, verdict, stored, totals, account)
    replace(work / "store", final)
    remove(work)
    say(f"wrote {final}", quiet=quiet)
    return final


def _choices(
    perturbation: str | tuple[str, str] | None,
    control: str | Sequence[str],
    context: str | None,
    batch: str | None,
    guide: str | None,
    gene_name: str | None,
) -> RoleChoices:
    controls = (control,) if isinstance(control, str) else tuple(control)
    return RoleChoices(
        perturbation=perturbation,
        control=controls,
        context=context,
        batch=batch,
        guide=guide,
        gene_name=gene_name,
    )


# --- the account ---------------------------------------------------------------------------------


def _shape_lines(plan: ScreenPlan) -> list[str]:
    groups = plan.groups
    n_input = sum(plan.n_input)
    lines = [
        f"read: {n_input:,} cells x {len(plan.gene_maps[0]):,} genes from "
        f"{', '.join(Path(spec.path).name for spec in plan.specs)}",
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


def _total_hint(plan: ScreenPlan, scale: str) -> list[str]:
    """Point to a column of totals where the matrix seems to hold only a part of the genes."""
    if scale != COUNTS:
        return []
    columns = joined_columns(plan.specs)
    name = next((c for c in _TOTAL_COLUMNS if c in columns.names), None)
    if name is None:
        return []
    with open_source(plan.specs[0]) as source:
        block = source.read(source.blocks(8_000_000)[0])
        whole = source.row_major
    listed = pd.to_numeric(columns.load(name), errors="coerce").to_numpy(np.float64)
    listed = listed[block.row_start : block.row_start + block.n_rows]
    ends = np.concatenate([[0.0], np.cumsum(block.data, dtype=np.float64)])
    sums = np.diff(ends[block.indptr])
    filled = sums > 0
    if not whole or not filled.any():
        return []
    ratio = float(np.median(listed[filled] / sums[filled]))
    if not ratio > 1.05:
        return []
    return [
        f"totals: the sum over the matrix's genes is used, but column {name!r} is {ratio:.3g} times "
        f"as large: the matrix seems to hold a part of the genes; totals={name!r} would divide by it"
    ]


# --- the work folder ------------------------------------------------------------------------------


def _rows_per_shard(plan: ScreenPlan, dtype: np.dtype, memory: int, parallel: int) -> int:
    rows = rows_per_shard(plan.n_cells, len(plan.var))
    needed = 2 * rows * len(plan.var) * dtype.itemsize
    if needed * parallel > memory:
        raise MemoryBudgetError(
            f"{rows:,} cells x {len(plan.var):,} genes are written together, which needs "
            f"{needed / 1e6:,.0f} MB for each of {parallel} parallel tasks, but memory= allows "
            f"{memory / 1e6:,.0f} MB in all; pass memory='{needed * parallel // 1_000_000 + 1}MB'"
        )
    return rows


def _work_key(
    plan: ScreenPlan, scale: str, dtype: np.dtype, rows: int, block_bytes: int
) -> dict[str, Any]:
    """Everything that the scratch files depend on."""
    stats = [os.stat(spec.text or spec.path) for spec in plan.specs]
    sources = [
        {**asdict(spec), "size": stat.st_size, "modified": stat.st_mtime_ns}
        for spec, stat in zip(plan.specs, stats, strict=True)
    ]
    layout = digest(plan.destination, *plan.gene_maps, list(map(str, plan.var.index)))
    return {
        "sources": sources,
        "layout": layout,
        "scale": scale,
        "dtype": dtype.str,
        "rows_per_shard": rows,
        "block_bytes": block_bytes,
    }


def _prepare(work: Path, plan: ScreenPlan, dtype: np.dtype, key: dict[str, Any]) -> None:
    """Set up the work folder, or keep that of an interrupted call with the same plan."""
    marker = work / "plan.json"
    key = {k: v if not isinstance(v, list) else [dict(i, notes=list(i["notes"])) for i in v]
           for k, v in key.items()}  # fmt: skip
    if marker.exists() and read_json(marker) == key:
        return
    for name in ("plan.json", "blocks", "shards", "store"):
        remove(work / name)
    work.mkdir(exist_ok=True)
    np.save(work / "destination.npy", plan.destination)
    np.save(work / "n_cells.npy", plan.n_cells)
    for i, gene_map in enumerate(plan.gene_maps):
        np.save(work / f"genes-{i}.npy", gene_map)
    write_json(work / "genes.json", list(map(str, plan.var.index)))
    create_matrix(work / "store", n_cells=plan.n_cells, n_genes=len(plan.var), dtype=dtype)
    write_json(marker, key)


def _first_tasks(
    work: Path, plan: ScreenPlan, scale: str, dtype: np.dtype, rows: int, block_bytes: int
) -> list[PassOne]:
    tasks: list[PassOne] = []
    first = 0
    for i, (spec, n) in enumerate(zip(plan.specs, plan.n_input, strict=True)):
        with open_source(spec) as source:
            blocks = source.blocks(block_bytes)
        tasks += [
            PassOne(
                str(work), len(tasks) + j, spec, i, first, block, scale, dtype.str, rows,
                len(plan.var),
            )
            for j, block in enumerate(blocks)
        ]  # fmt: skip
        first += n
    return tasks


# --- the store's tables -----------------------------------------------------------------------------


def _finish(
    work: Path,
    plan: ScreenPlan,
    scale: str,
    dtype: np.dtype,
    totals: str | None,
    account: list[str],
) -> None:
    receipts = sorted((work / "shards").glob("*.npy"))
    expected = [shard_file(str(work), s) for s in range(len(receipts))]
    if receipts != expected:
        raise InputError(f"the work folder {work} is incomplete; delete it and ingest again")
    sums, expressed = np.concatenate([np.load(path) for path in receipts], axis=1)
    if not expressed.any():
        raise InputError(f"{plan.specs[0].path}: all values are zero")
    columns = joined_columns(plan.specs)
    total = sums if totals is None else _named_totals(plan, columns.load, totals, sums)
    if scale == LOG1P_1E4:
        total = np.full(len(sums), np.nan)
    empty = int((expressed == 0).sum())
    if empty:
        account.append(f"{empty:,} cells have no count at all; they are kept, all zero")
    info = {
        "scale": scale,
        "dtype": dtype.name,
        "totals": totals or "matrix",
        "account": account,
        "n_input": sum(plan.n_input),
        "sources": [Path(spec.path).name for spec in plan.specs],
        "roles": {k: v for k, v in asdict(plan.roles).items() if k != "account"},
        "fingerprint": digest(
            list(map(str, plan.var.index)),
            plan.groups.astype({"is_control": int}).to_dict("list"),
            scale,
            sums,
            np.nan_to_num(total),
            expressed,
        ),
    }
    write_metadata(
        work / "store",
        obs=_obs(plan, total, expressed),
        var=plan.var,
        groups=plan.groups,
        drops=plan.drops,
        info=info,
    )


def _named_totals(plan: ScreenPlan, load: Any, name: str, sums: np.ndarray) -> np.ndarray:
    columns = joined_columns(plan.specs)
    if name not in columns.names:
        raise ArgumentError(
            f"totals={name!r} is not a column of the cells; there are {', '.join(columns.names)}"
        )
    total = pd.to_numeric(load(name), errors="coerce").to_numpy(np.float64)[plan.order]
    bad = np.flatnonzero(~(np.isfinite(total) & (total > 0)) & (sums > 0))
    if len(bad):
        row = int(plan.order[bad[0]])
        raise InputError(
            f"column {name!r} has the total {total[bad[0]]} for input cell {row}, which has "
            f"{sums[bad[0]]:,.0f} counts; totals have to be positive ({columns.place})"
        )
    return np.nan_to_num(total)


def _obs(
    plan: ScreenPlan, totals: np.ndarray, expressed: np.ndarray
) -> Iterator[tuple[str, Any]]:
    """Columns of the cells in the order of the store, one at a time: ours, then the source's."""
    order = plan.order
    yield "cell", cell_names(plan.specs, plan.n_input)[order]
    yield "perturbation", pd.Series(plan.perturbation[order])
    yield "context", pd.Series(plan.context[order])
    columns = joined_columns(plan.specs)
    stems = source_names(plan.specs)
    source = np.repeat(np.arange(len(stems)), plan.n_input)
    for role in ("batch", "guide"):
        column = getattr(plan.roles, role)
        if column is not None:
            values = columns.load(column).astype("category")
            if role == "batch" and len(stems) > 1:  # gem groups of two files are not the same
                joined = [f"{stems[s]}:{v}" for s, v in zip(source, values, strict=True)]
                values = pd.Series(joined, dtype="category")
            yield role, _plain(values.iloc[order])
        elif role == "batch" and len(stems) > 1:
            yield role, pd.Series(pd.Categorical.from_codes(source, stems)[order])
    yield "total_counts", totals
    yield "n_genes_expressed", expressed.astype(np.int64)
    files = [Path(spec.path).name for spec in plan.specs]
    yield "source_file", pd.Series(pd.Categorical.from_codes(source, stems)[order]).cat.rename_categories(files) if len(set(files)) == len(files) else pd.Series(pd.Categorical.from_codes(source, stems)[order])
    first = np.concatenate([[0], np.cumsum(plan.n_input)])[:-1]
    yield "source_row", order - first[source[order]]
    ours = {c.name for c in CELL_COLUMNS} | {"cell", "n_genes_expressed"}
    for name in columns.names:
        yield (f"{name}_source" if name in ours else name), _plain(columns.load(name).iloc[order])


def _plain(values: pd.Series) -> pd.Series:
    """Return a column as numbers, booleans or a categorical of strings: what the store can hold."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        if values.cat.categories.dtype.kind in "biuf":
            return values
        return values.cat.rename_categories([str(v) for v in values.cat.categories])
    if pd.api.types.is_bool_dtype(values.dtype) and not values.isna().any():
        return values.astype(bool)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values if values.dtype.kind in "iuf" and isinstance(values.dtype, np.dtype) else values.astype("float64")
    return values.astype(object).where(values.notna(), None).astype("category").pipe(
        lambda v: v.cat.rename_categories([str(c) for c in v.cat.categories])
    )
