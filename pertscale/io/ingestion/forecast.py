"""What an ingest would do: cells, entries, bytes, and how fast a block is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from pertscale.diagnostics.stopwatch import Stopwatch
from pertscale.io.ingestion.column_roles import ColumnChoices
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.plan import IngestPlan, plan_screen
from pertscale.io.ingestion.scale import decide_scale
from pertscale.io.ingestion.work_folder import IngestTasks, planned_tasks, work_folder
from pertscale.io.sources import CsrBlock, open_source
from pertscale.schema import COUNTS
from pertscale.storage.files import size_of

#: Bytes of the block that is read, in the source's own size.
_SAMPLE_BYTES = 16_000_000
#: Bytes of an entry in the store, as measured, and in the scratch files: counts, others.
_STORE_BYTES = {True: 0.8, False: 4.0}
_SCRATCH_BYTES = {True: 2, False: 6}


@dataclass(frozen=True, kw_only=True)
class IngestForecast:
    """What is to be done for a file, or several, that are not a store.

    Attributes
    ----------
    plan : IngestPlan
        Cells, genes and groups, as they will be in the store.
    tasks : IngestTasks
    is_counts : bool
    dtype : dtype
        Of the store's matrix.
    n_entries : int
        Stored entries; estimated from a block where only reading all of them would tell.
    bytes_read : int
        Size of the files.
    sample : CsrBlock
        Entries of some cells.
    read_seconds : float
        CPU seconds to read all entries.
    """

    plan: IngestPlan
    tasks: IngestTasks
    is_counts: bool
    dtype: np.dtype
    n_entries: int
    bytes_read: int
    sample: CsrBlock
    read_seconds: float

    @property
    def density(self) -> float:
        """Share of the entries of the matrix that are stored."""
        return min(1.0, self.n_entries / max(1, sum(self.plan.n_input) * len(self.plan.var)))

    @property
    def bytes_written(self) -> int:
        """Bytes of the store, about."""
        return int(self.n_entries * _STORE_BYTES[self.is_counts]) + 100 * self.plan.n_cells

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch files, which are gone when the store is there."""
        return self.n_entries * _SCRATCH_BYTES[self.is_counts]


def forecast_ingest(source: Any, store: Path, *, memory: int, parallel: int) -> IngestForecast:
    """Plan the ingest of a file to a store; nothing is written.

    Parameters
    ----------
    source : path, glob, or a list of these
    store : Path
        Absolute.
    memory : int
        What the tasks of one process may hold together, in bytes.
    parallel : int
        How many tasks that are.

    Raises
    ------
    MemoryBudgetError, and the errors of :func:`pertscale.io.check`
    """
    sources = SourceSet.find(source)
    plan = plan_screen(sources, ColumnChoices(), name=store.stem, genes="same")
    verdict, _ = decide_scale(sources, declared=None)
    is_counts = verdict == COUNTS
    dtype = np.dtype(np.uint16 if is_counts else np.float32)
    tasks = planned_tasks(
        work_folder(store), plan, scale=verdict, dtype=dtype, memory=memory, parallel=parallel
    )
    watch = Stopwatch()
    with open_source(sources.specs[0]) as opened:
        block = opened.blocks(_SAMPLE_BYTES)[0]
        read: list[CsrBlock] = []
        seconds = watch.time(lambda: read.append(opened.read(block)), warm=True)
    sample = read[-1]
    blocks = [task.block for task in tasks.to_sort]
    n_entries = sum(one.n_entries for one in blocks)
    if any(one.n_entries < 0 for one in blocks):
        span = sum(one.stop - one.start for one in blocks)
        n_entries = int(len(sample.data) * span / max(1, block.stop - block.start))
    return IngestForecast(
        plan=plan,
        tasks=tasks,
        is_counts=is_counts,
        dtype=dtype,
        n_entries=n_entries,
        bytes_read=sum(size_of(spec.file) for spec in sources),
        sample=sample,
        read_seconds=seconds * n_entries / max(1, len(sample.data)),
    )


def dense_cells(sample: CsrBlock, n_genes: int) -> np.ndarray:
    """Return some genes of the sampled cells, (genes, cells), each gene contiguous."""
    listed = np.unique(sample.indices)
    genes = listed[:: max(1, len(listed) // n_genes)][:n_genes]
    shape = sample.n_rows, int(listed.max(initial=0)) + 1
    matrix = sp.csr_matrix((sample.data, sample.indices, sample.indptr), shape=shape)
    return np.ascontiguousarray(matrix[:, genes].toarray().T)
