"""Write the store that a plan describes: the matrix in two passes, then the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.diagnostics.progress import say
from pertscale.display import shown_path
from pertscale.errors import InputError
from pertscale.execution.clients import (
    ClientLike,
    memory_limit,
    run_on_all_workers,
    tasks_per_process,
    use_client,
)
from pertscale.execution.memory import task_budget
from pertscale.execution.runner import run
from pertscale.io.ingestion.account import MOST_EMPTY, shape_lines
from pertscale.io.ingestion.obs import (
    cell_table,
    listed_totals,
    named_totals,
    source_columns,
    total_column,
    totals_hint,
    without_total,
)
from pertscale.io.ingestion.passes import release_memory, sort_block, write_shards
from pertscale.io.ingestion.plan import IngestPlan, without_cells
from pertscale.io.ingestion.work_folder import IngestTasks, planned_tasks, prepare, work_folder
from pertscale.io.store.column_names import renamed, stored_names
from pertscale.io.store.layout import content_hash, fingerprint, write_metadata
from pertscale.schema import COUNTS, GENE, LOG1P_1E4
from pertscale.storage.atomic import remove, remove_leftovers, replace
from pertscale.storage.lock import locked

#: A run of empty cells that no panel of genes has by chance.
_LONG_RUN = 20


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
            n_told, plan = len(plan.account), without_cells(plan, empty)
            say("\n".join(f"warning: {line}" for line in plan.account[n_told:]), quiet=quiet)
            tasks = prepare(work, plan, **settings)
            _write_matrix(tasks, plan, resolved, totals, keep_empty=True, quiet=quiet)
        tasks.drop_scratch()
        account = [*shape_lines(plan), how, *plan.account]
        added = _write_tables(tasks, plan, scale, totals, account)
        lock.check()
        replace(work / "store", final)
    remove(work)
    remove_leftovers(final.parent, final.name)
    say("\n".join([*added, f"wrote {shown_path(final)}"]), quiet=quiet)
    return final


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
        longest, most = _longest_run(empty), MOST_EMPTY * plan.n_cells
        if len(unmeasured) > max(1, most) or len(longest) > max(_LONG_RUN, most):
            remedy = "" if totals or tasks.to_write[0].target.scale != COUNTS else _of_a_panel(plan)
            raise InputError(_too_many_empty(plan, empty, longest) + remedy)
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
        f"file without them (up to {MOST_EMPTY:.0%} are left out, each with its row)"
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
    kept = set(plan.groups["perturbation"])
    guides = {name: group for name, group in sorted(plan.guides.items()) if name in kept}
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
    name = totals or total_column(plan.sources.columns.names)
    if name is None:
        return []
    listed = listed_totals(plan, name)[plan.order]
    return totals_hint(name, listed, sums, of="all cells", chosen=totals is not None)
