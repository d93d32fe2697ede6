"""What the account of an ingest says of sizes, contexts and totals."""

from __future__ import annotations

import numpy as np

from pertscale.io.ingestion.obs import listed_totals, total_column, totals_hint, without_total
from pertscale.io.ingestion.plan import IngestPlan
from pertscale.io.ingestion.scale import read_sample
from pertscale.schema import COUNTS

#: Share of cells without any count above which a file is taken for damaged.
MOST_EMPTY = 0.05


def shape_lines(plan: IngestPlan) -> list[str]:
    """Tell how many cells and genes were read and kept, and of which contexts."""
    groups = plan.groups
    n_input = sum(plan.n_input)
    lines = [
        f"read: {n_input:,} cells x {len(plan.gene_maps[0]):,} genes from "
        f"{', '.join(plan.sources.file_names)}",
        f"kept: {plan.n_cells:,} cells, {len(plan.var):,} genes; left out: "
        f"{n_input - plan.n_cells:,} cells",
    ]
    for context, of_context in groups.groupby("context", sort=False):
        size = of_context["stop"] - of_context["start"]
        lines.append(
            f"context {context!r}: {int(size.sum()):,} cells, "
            f"{int(size[of_context['is_control']].sum()):,} of them control, "
            f"{int((~of_context['is_control']).sum()):,} perturbations"
        )
    return lines


def sampled_lines(plan: IngestPlan, scale: str, totals: str | None) -> list[str]:
    """Report the totals of some cells, and how many of them have no count.

    Ingest looks at all cells, once the matrix is written.
    """
    name = totals or total_column(plan.sources.columns.names)
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
            f"leaves such cells out, and refuses more than {MOST_EMPTY:.0%}{of_panel}"
        )
    if scale == COUNTS and name is not None:
        listed = listed_totals(plan, name)[rows]
        of = f"{n:,} cells that were looked at"
        lines += totals_hint(name, listed, sums, of=of, chosen=totals is not None)
    return lines


def _sampled_sums(plan: IngestPlan) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the sums of some kept cells over the kept genes, and which input cells these are.

    The last value says whether the sources store whole cells; otherwise there are none.
    """
    sums, rows, first = [], [], 0
    for spec, n, gene_map in zip(plan.sources, plan.n_input, plan.gene_maps, strict=True):
        blocks, whole = read_sample(spec)
        if not whole:
            return np.empty(0), np.empty(0, np.int64), False
        for block in blocks:
            values = np.where(gene_map[block.indices] >= 0, block.data, 0).astype(np.float64)
            ends = np.concatenate([[0.0], np.cumsum(values)])
            sums.append(np.diff(ends[block.indptr]))
            rows.append(first + block.row_start + np.arange(block.n_rows))
        first += n
    all_sums, cells = np.concatenate(sums), np.concatenate(rows)
    kept = plan.destination[cells] >= 0
    return all_sums[kept], cells[kept], True
