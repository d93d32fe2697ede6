"""``simulate_screen``: a screen with a known truth, as large as the disk allows."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from dask.system import CPU_COUNT

from pertscale.arguments import checked
from pertscale.diagnostics.progress import Progress
from pertscale.errors import ArgumentError, ExistsError
from pertscale.io.h5ad_writer import WrittenBlock, write_h5ad
from pertscale.simulate.arguments import (
    check_cells,
    check_contexts,
    check_genes,
    check_output,
    check_perturbations,
)
from pertscale.simulate.cells import obs_table
from pertscale.simulate.design import (
    Design,
    draw_design,
    embedding_table,
    interaction_table,
    truth_dataset,
)
from pertscale.simulate.sampling import rows_per_block, sample_block
from pertscale.storage.atomic import atomic_path
from pertscale.storage.locations import local_path

#: Mean total count per cell and gene where none is asked for: 40 % of the entries are not zero.
UMI_PER_GENE = 1.67
#: More threads than this outrun the one that writes.
MAX_THREADS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatedScreen:
    """A simulated screen: where it is, and what is true of it.

    Attributes
    ----------
    path
        The h5ad file.
    genes
        Names of the genes, in the order of ``var``.
    perturbations
        Canonical names: the singles, then the doubles; without control.
    contexts
        Values of ``cell_line``.
    truth
        Dataset over (context, perturbation, gene):

        * ``log2_effect`` (context, perturbation, gene): log2 of the expected count in a perturbed
          cell over that in a control cell with the same library factor. Library factors don't
          depend on the perturbation, so the fold change of normalised counts departs from it by
          what the perturbation adds to or takes from a cell's total;
        * ``mean`` (context, gene): expected count in a control cell;
        * ``dispersion`` (gene): variance = mean + mean² / dispersion over the cells of a batch that
          have one library size;
        * ``state_loading`` (state, gene): what a cell's standard normal score does to the natural
          log of the gene's mean;
        * ``program`` (gene): program that a perturbation of the gene sets off; perturbations with
          the same program are related;
        * ``is_strong`` (perturbation): for doubles, whether one of the singles is;
        * ``n_cells`` (context, perturbation).
    interactions
        The (double, gene) pairs that depart from additivity: columns ``context``,
        ``perturbation``, ``gene``, ``kind`` ('synergy', 'buffering', 'opposite') and
        ``log2_interaction``, which ``log2_effect`` contains.
    embedding
        An embedding of the genes that tells of their programs, with noise; (gene, dimension)
        float32, indexed by gene.
    n_cells, n_nonzero, total_counts
        Cells in the file, entries that are not zero, and the sum of all counts.
    """

    path: Path
    genes: tuple[str, ...]
    perturbations: tuple[str, ...]
    contexts: tuple[str, ...]
    truth: xr.Dataset
    interactions: pd.DataFrame
    embedding: pd.DataFrame
    n_cells: int
    n_nonzero: int
    total_counts: int

    @property
    def density(self) -> float:
        """Share of the entries of the matrix that are not zero."""
        return self.n_nonzero / (self.n_cells * len(self.genes))

    @property
    def umi_per_cell(self) -> float:
        """Mean total count of a cell."""
        return self.total_counts / self.n_cells

    def __repr__(self) -> str:
        return (
            f"<SimulatedScreen {self.path}: {self.n_cells:,} cells x {len(self.genes):,} genes, "
            f"{len(self.perturbations):,} perturbations, contexts {', '.join(self.contexts)}; "
            f"{self.density:.1%} of entries not zero, {self.umi_per_cell:,.0f} UMI per cell>"
        )

    def write_embedding(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the embedding to Parquet: column ``gene``, then one column per dimension.

        Raises
        ------
        ExistsError
            If the file exists and ``overwrite`` is false.
        """
        final = _refuse_existing(path, overwrite=overwrite)
        with atomic_path(final) as temporary:
            self.embedding.reset_index().to_parquet(temporary, index=False)
        return final


@checked
def simulate_screen(
    path: str | os.PathLike[str],
    *,
    n_cells: int = 20_000,
    n_genes: int = 2_000,
    n_perturbations: int = 120,
    n_doubles: int = 0,
    contexts: Sequence[str] = ("sim",),
    control_fraction: float = 0.05,
    umi_per_cell: float | None = None,
    expressed_fraction: float = 0.4,
    seed: int = 0,
    compression: str | None = None,
    n_threads: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> SimulatedScreen:
    """Simulate a Perturb-seq screen of knock-downs and stream it to an h5ad file.

    Counts are negative-binomial. Relative expression and dispersion of the genes follow a K562
    screen, library sizes are log-normal (sd 0.40), cells per perturbation log-normal (sd 0.55).
    Genes follow each other from cell to cell through three scores, of which the largest is the
    first component of a cell's state. What is left of a target's expression is anything from 2 to
    95 %, 27 % in the middle. A third of the perturbations move about 4 % of the genes besides, a
    third do so weakly and a third not at all. Related perturbations share a program of downstream
    genes, and some genes answer to many programs, mostly in one direction. Doubles add up in logs,
    except for known interactions. In two contexts the effects of a perturbation correlate with
    about 0.7. Batches shift every gene a little (sd 0.08 in natural logs), and the two guides of a
    perturbation knock down to different degrees and differ in a few other genes; the truth is their
    average. ``benchmarks/README.md`` has figures of such a screen beside those of real ones
    (section "Simulated screens beside real ones").

    Parameters
    ----------
    path
        The h5ad file to write: ``X`` raw counts as CSR of float32, cells in random order; ``obs``
        ``perturbation`` ('non-targeting' for controls, 'A+B' for doubles), ``cell_line``,
        ``gem_group`` and ``guide_id``; ``var`` indexed by gene.
    n_cells, n_genes
        Shape of the matrix. The cells are shared out evenly over the contexts.
    n_perturbations, n_doubles
        Perturbed genes, each of them as a single in each context; and pairs of them.
    contexts
        Names of the cell lines.
    control_fraction
        Share of control cells.
    umi_per_cell
        Mean total count of a control cell over the simulated genes; 1.67 per gene by default,
        which makes about 40 % of the entries non-zero.
    expressed_fraction
        The genes are drawn from this upper share of all genes by mean expression, as a screen
        that was filtered to expressed genes. With 1.0 silent genes stay, and the density falls.
    seed
        Same arguments give the same bytes, whatever ``n_threads``, with one version of NumPy,
        h5py and anndata.
    compression
        ``None`` or ``"gzip"``.
    n_threads
        Threads that draw counts; by default the cores this process may use, up to 8.
    overwrite
        Whether to replace ``path`` if it exists.
    quiet
        Show no progress.

    Returns
    -------
    SimulatedScreen
        The path and the truth.

    Raises
    ------
    ArgumentError
        If an argument has a value that is not possible.
    ExistsError
        If ``path`` exists and ``overwrite`` is false.

    Notes
    -----
    Memory: 4 bytes x contexts x conditions x genes for the truth, about 200 bytes per cell for
    ``obs``, and 16 MB for each block in flight, of which there are ``n_threads`` + 2. The file
    takes 8 bytes per non-zero.

    Examples
    --------
    >>> screen = ps.simulate_screen(
    ...     "simulated.h5ad", n_cells=300, n_genes=50, n_perturbations=6, n_doubles=1, seed=1,
    ...     quiet=True,
    ... )
    >>> screen.perturbations[-1]
    'GENE0027+GENE0050'
    >>> screen.truth["log2_effect"].dims
    ('context', 'perturbation', 'gene')
    """
    umi_per_cell = UMI_PER_GENE * n_genes if umi_per_cell is None else umi_per_cell
    contexts = check_contexts(contexts)
    check_genes(n_genes, umi_per_cell=umi_per_cell, expressed_fraction=expressed_fraction)
    check_perturbations(n_perturbations, n_doubles=n_doubles, n_genes=n_genes)
    check_cells(
        n_cells,
        n_contexts=len(contexts),
        n_perturbations=n_perturbations + n_doubles,
        control_fraction=control_fraction,
    )
    check_output(seed=seed, compression=compression, n_threads=n_threads)
    if Path(path).suffix == ".zarr":
        raise ArgumentError(
            f"{path}: a screen is simulated as an h5ad file, of which pertscale.io.ingest makes a "
            "store; pass a name that ends in .h5ad"
        )
    final = _refuse_existing(path, overwrite=overwrite)
    design = draw_design(
        contexts,
        n_cells=n_cells,
        n_genes=n_genes,
        n_perturbations=n_perturbations,
        n_doubles=n_doubles,
        control_fraction=control_fraction,
        umi_per_cell=umi_per_cell,
        expressed_fraction=expressed_fraction,
        seed=seed,
    )
    blocks = _Watch(
        _draw_blocks(design, seed=seed, n_threads=n_threads or min(CPU_COUNT, MAX_THREADS)),
        n_blocks=math.ceil(n_cells / rows_per_block(n_genes)),
        quiet=quiet,
    )
    with atomic_path(final) as temporary:
        write_h5ad(
            temporary,
            blocks,
            obs=obs_table(design.cells, contexts=contexts, perturbations=design.perturbation_names),
            var=pd.DataFrame(index=pd.Index(design.gene_names, dtype=object)),
            compression=compression,
        )
    return SimulatedScreen(
        path=final,
        genes=design.gene_names,
        perturbations=design.perturbation_names,
        contexts=contexts,
        truth=truth_dataset(design),
        interactions=interaction_table(design),
        embedding=embedding_table(design),
        n_cells=n_cells,
        n_nonzero=blocks.n_nonzero,
        total_counts=blocks.total_counts,
    )


class _Watch:
    """Blocks on their way to the file: adds up what passes by and shows the progress."""

    def __init__(self, blocks: Iterator[WrittenBlock], *, n_blocks: int, quiet: bool) -> None:
        self._blocks, self._n_blocks, self._quiet = blocks, n_blocks, quiet
        self.n_nonzero = self.total_counts = 0

    def __iter__(self) -> Iterator[WrittenBlock]:
        with Progress("simulate", total=self._n_blocks, quiet=self._quiet) as progress:
            for block in self._blocks:
                yield block
                self.n_nonzero += len(block.values)
                self.total_counts += int(block.values.sum(dtype=np.float64))
                progress.advance()


def _draw_blocks(design: Design, *, seed: int, n_threads: int) -> Iterator[WrittenBlock]:
    """Draw the blocks in threads and hand them over in order, few at a time."""
    cells, step = design.cells, rows_per_block(len(design.gene_names))
    draw = partial(
        sample_block,
        seed=seed,
        genes=design.genes,
        effects=design.effects,
        guides=design.guides,
    )
    with ThreadPoolExecutor(n_threads) as pool:
        pending = (
            pool.submit(draw, start // step, cells=cells.part(slice(start, start + step)))
            for start in range(0, len(cells.condition), step)
        )
        in_flight = deque(itertools.islice(pending, n_threads + 1))
        while in_flight:
            block = in_flight.popleft().result()
            in_flight.extend(itertools.islice(pending, 1))
            yield block


def _refuse_existing(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    final = local_path(path, "what is simulated")
    if final.is_dir():
        raise ExistsError(f"{final} is a folder; a file is written: pass another path")
    if final.exists() and not overwrite:
        raise ExistsError(f"{final} exists; pass overwrite=True to replace it, or another path")
    return final
