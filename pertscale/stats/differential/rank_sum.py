"""Differential-expression labels and pseudobulks: a map over perturbation chunks (method A3, B).

Two maps on the current Dask scheduler. The first tests tiles (perturbations x a block of genes)
and writes each one's statistics; the second, over fixed parts of the label table, adjusts the
p-values of whole perturbations, assigns labels, and writes Parquet and the pseudobulk. The parts
do not depend on the tiles, so the same screen gives the same bytes for any memory, scheduler and
number of workers. Both skip what an earlier run has finished.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pertscale.arguments import checked
from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, CorruptFileError, InputError
from pertscale.execution.clients import ClientLike, run_on_all_workers, use_client
from pertscale.execution.memory import AUTO, check_memory
from pertscale.execution.resources import Resources
from pertscale.execution.runner import run
from pertscale.hashing import digest
from pertscale.io.checksums import FILES, is_intact
from pertscale.schema import (
    COUNTS,
    HALVES_DIR,
    LABELS_DIR,
    MANIFEST_FILE,
    NULLS_DIR,
    PSEUDOBULK_DIR,
)
from pertscale.screen import Screen, check_unchanged, open_screen
from pertscale.stats.differential._kernels.half_groups import MOST_SEEDS
from pertscale.stats.differential.exact_keys import check_exact
from pertscale.stats.differential.half_cells import Halves, write_codes
from pertscale.stats.differential.null_cells import NullCells, choose_controls
from pertscale.stats.differential.options import TESTS, FoldChange, RankSumOptions, Test
from pertscale.stats.differential.screen_fdr import write_steps
from pertscale.stats.differential.table_parts import (
    PARTS_DIR,
    finish_tables,
    make_parts,
    release_memory,
    write_part,
)
from pertscale.stats.differential.tile_plan import TILES_DIR, kept_plan
from pertscale.stats.differential.tile_statistics import write_index
from pertscale.stats.differential.tile_task import TileTask, process_tile
from pertscale.stats.differential.tiles import TilePlan
from pertscale.stats.halves import HALVES_FILES
from pertscale.stats.labels.table import (
    HALVES,
    LABEL_FILES,
    NULLS,
    PROFILES,
    REMEDY,
    REPLICATES,
    LabelTable,
    read_labels,
    read_manifest,
)
from pertscale.stats.null_tests import NULLS_FILES
from pertscale.stats.pseudobulk import PSEUDOBULK_FILES, belongs_to
from pertscale.storage.atomic import remove, remove_leftovers, replace
from pertscale.storage.locations import Location, Remote, absolute, check_apart, local_path, locate
from pertscale.storage.lock import locked
from pertscale.storage.own_files import check_replaceable
from pertscale.storage.publish import OutputLayout, finished_folder
from pertscale.versions import LABELS_VERSION

#: Fewest control cells to test against (method B5).
MIN_CONTROLS = 2
#: Pattern of the files that are written.
TABLE_FILES = (
    rf"{LABELS_DIR}/(?:{LABEL_FILES})|{PSEUDOBULK_DIR}/(?:{PSEUDOBULK_FILES})"
    rf"|{HALVES_DIR}/(?:{HALVES_FILES})|{NULLS_DIR}/(?:{NULLS_FILES})"
)
#: What is published on object storage.
_LAYOUT = OutputLayout(
    (LABELS_DIR, PSEUDOBULK_DIR, HALVES_DIR, NULLS_DIR),
    f"{LABELS_DIR}/{MANIFEST_FILE}",
    keep=False,
    files=TABLE_FILES,
)


@checked
def rank_sum(
    screen: str | os.PathLike[str] | Screen,
    *,
    out: str | os.PathLike[str] | None = None,
    test: Test = "mannwhitney",
    fdr: float = 0.01,
    fold_change: FoldChange = "geometric",
    min_cells: int = 2,
    replicates: int = 0,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> LabelTable:
    """Test every perturbation of every context against that context's controls, gene by gene.

    Two-sided asymptotic Wilcoxon-Mann-Whitney test on exact ranks (two cells tie if and only if
    ``count1 * total2 == count2 * total1``), Benjamini-Hochberg over the genes of a perturbation,
    direction from the sign of the fold change, and of z where that is 0. The same pass over the
    cells yields the pseudobulk.

    Parameters
    ----------
    screen : path, URL or Screen
        A screen store; one on object storage is read by the workers directly.
    out : path or URL, optional
        Folder for ``labels/`` and ``pseudobulk.zarr``; by default the store's name with the
        suffix ``.labels``. A finished table of the same screen and options is returned as it is;
        an interrupted one is continued.
    test : {'mannwhitney', 'scanpy', 'scanpy_tie'}
        Tie and continuity corrected as in SciPy's ``method='asymptotic'``, pdex and illico; or
        scanpy's two variants without continuity correction (method B1).
    fdr : float
        Threshold on the adjusted p-value.
    fold_change : {'geometric', 'arithmetic'}
        Log2 ratio of ``expm1`` of the mean log1p expression (scanpy), or of the means of
        normalised counts (method B3). Its sign is the direction of the label: a gene that few cells
        express, but strongly, can be down by the one and up by the other.
    min_cells : int
        Perturbations with fewer cells are listed as not tested (method B5).
    replicates : int
        Ways to split the cells of each perturbation, and the controls, into halves, which are
        measured in the same pass (method O1): profiles of all of them, labels of the first;
        ``halves.zarr``, see :func:`pertscale.stats.read_halves`. With any, groups of controls are
        tested against the others, too (method P1): ``null_tests.zarr``, see
        :func:`pertscale.stats.null_calibration`. :func:`pertscale.run_benchmark` takes 5.
    memory : str or int
        What the tasks of one process may hold together: ``'2GB'``, or ``'auto'`` for what the
        limits of workers, control group or SLURM job leave, 2 GB at most. Never less than the
        sorted controls of 16 genes and the largest perturbation need.
    client : Client, cluster, address or scheduler file, optional
        Where to run; by default Dask's current scheduler.
    quiet : bool
        Show no progress.

    Returns
    -------
    LabelTable

    Raises
    ------
    MemoryBudgetError
        If `memory` is too small for even the narrowest tile; the error names what would do.
    InputError
        If a context has fewer control cells than the test needs, or counts and totals are so large
        (their product 2**52 or more) that their quotients can't be compared exactly.
    LockedError
        If another run works in the output folder.
    TaskError, StorageError, ClusterError
        If tiles fail, the disk is full or read-only, or the cluster is gone; see
        :mod:`pertscale.execution.runner`. The same call goes on with what is missing.

    References
    ----------
    Wilcoxon (1945), https://doi.org/10.2307/3001968
    Mann and Whitney (1947), https://doi.org/10.1214/aoms/1177730491
    Benjamini and Hochberg (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", quiet=True)
    >>> labels.to_pandas(perturbation="GENE0002", gene="GENE0002", columns=["n_cells", "label"])
      context perturbation      gene  n_cells  label
    0     sim     GENE0002  GENE0002       52     -1
    >>> labels.matrix().compute().shape
    (16, 120)
    """
    options = RankSumOptions(test=test, fdr=fdr, fold_change=fold_change, min_cells=min_cells)
    check_memory(memory)
    check_replicates(replicates)
    screen = open_screen(screen)
    return label_screen(
        screen,
        _output(screen, out),
        options,
        replicates=replicates,
        memory=memory,
        client=client,
        quiet=quiet,
    )


def check_replicates(replicates: int) -> None:
    """Raise an ArgumentError unless cells can be halved in so many ways."""
    if not 0 <= replicates <= MOST_SEEDS:
        raise ArgumentError(
            f"replicates={replicates}: cells are halved in 0 (not at all) to {MOST_SEEDS} ways"
        )


def label_screen(
    screen: Screen,
    output: Location,
    options: RankSumOptions,
    *,
    replicates: int = 0,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> LabelTable:
    """Do the work of :func:`rank_sum`, whose parameters these are."""
    how: Any = {"replicates": replicates, "memory": memory, "client": client, "quiet": quiet}
    if isinstance(output, Remote):
        if not is_finished(output, labels_key(screen, options), replicates=replicates):
            with finished_folder(output, _LAYOUT, quiet=quiet) as local:
                label_screen(screen, local, options, **how)
        return read_labels(output)
    label_run = prepare_run(screen, output, options, replicates=replicates)
    if label_run.is_finished(quiet=quiet):
        label_run.remove_staging()
        return read_labels(output)
    with locked(output, quiet=quiet) as lock, use_client(client, quiet=quiet) as resolved:
        check_tables_replaceable(output)
        check_exact(screen, resolved, quiet=quiet)
        label_run.remove_others()
        resources = Resources.available(memory, resolved)
        label_run.test_tiles(resources, resolved, quiet=quiet)
        receipts = label_run.write_parts(resources, resolved, quiet=quiet)
        run_on_all_workers(release_memory, resolved)
        check_unchanged(screen)
        finish_tables(screen, label_run.staging, options, receipts, label_run.key, label_run.halves)
        lock.check()
        label_run.publish()
    return read_labels(output)


@checked
def rank_sum_share(
    screen: str | os.PathLike[str] | Screen,
    *,
    share: str,
    out: str | os.PathLike[str] | None = None,
    test: Test = "mannwhitney",
    fdr: float = 0.01,
    fold_change: FoldChange = "geometric",
    min_cells: int = 2,
    replicates: int = 0,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> int:
    """Do a share of the tiles of :func:`rank_sum`, for job arrays without a scheduler.

    The shares of one run have only the output folder in common, and may run at the same time or one
    after the other. :func:`rank_sum` with the same options then does what is missing (nothing, if
    all shares succeeded) and writes the tables; so does :func:`pertscale.run_benchmark`, of shares
    with its `replicates`, which are 5 by default.

    Parameters
    ----------
    screen, out, test, fdr, fold_change, min_cells, replicates, memory, client, quiet
        As of :func:`rank_sum`; the same for all shares.
    share : str
        Which share of how many: ``'3/10'`` is the third of ten.

    Returns
    -------
    int
        Tiles of this share.

    Raises
    ------
    ArgumentError
        For a share that is not of the form ``i/n``.
    MemoryBudgetError, InputError
        As of :func:`rank_sum`.

    Examples
    --------
    >>> for share in ("1/2", "2/2"):  # two jobs of an array
    ...     n_tiles = ps.stats.rank_sum_share("k562.zarr", share=share, out="by_jobs", quiet=True)
    >>> labels = ps.stats.rank_sum("k562.zarr", out="by_jobs", quiet=True)
    """
    options = RankSumOptions(test=test, fdr=fdr, fold_change=fold_change, min_cells=min_cells)
    number, n_shares = parse_share(share)
    check_replicates(replicates)
    screen = open_screen(screen)
    folder = local_path(_output(screen, out), "the folder of shares")
    label_run = prepare_run(screen, folder, options, replicates=replicates)
    if label_run.is_finished():
        return 0
    name = f"share-{number}-of-{n_shares}"
    with (
        locked(label_run.folder, share=name, quiet=quiet),
        use_client(client, quiet=quiet) as resolved,
    ):
        check_exact(screen, resolved, quiet=quiet)
        resources = Resources.available(memory, resolved, n_shares=n_shares)
        label_run.choose_cells()
        tasks = label_run.tasks(label_run.plan(resources, alone=False))[number - 1 :: n_shares]
        _run_tiles(tasks, f"rank-sum {share}", resolved, quiet=quiet)
        run_on_all_workers(release_memory, resolved)
    return len(tasks)


def parse_share(share: str) -> tuple[int, int]:
    """Read '3/10' as (3, 10)."""
    number, mark, n_shares = share.partition("/")
    are_numbers = bool(mark) and number.strip().isdigit() and n_shares.strip().isdigit()
    if are_numbers and 1 <= int(number) <= int(n_shares):
        return int(number), int(n_shares)
    raise ArgumentError(
        f"share={share!r} is not a share; the third of ten is '3/10' (in a job array from 1 to 10: "
        '"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")'
    )


@dataclass(frozen=True)
class RankSumRun:
    """One run: what is tested how, and where it goes."""

    screen: Screen
    options: RankSumOptions
    folder: Path
    key: str
    replicates: int

    @property
    def staging(self) -> Path:
        """Working folder: the plan, statistics and tables, as far as they are."""
        halved = f"-nulls-{self.replicates}" if self.replicates else ""
        return self.folder / f".rank-sum-{self.key}{halved}"

    def is_finished(self, *, content: bool = True, quiet: bool = True) -> bool:
        """Whether the tables of the same screen and options are there; see :func:`is_finished`."""
        return is_finished(
            self.folder, self.key, replicates=self.replicates, content=content, quiet=quiet
        )

    @property
    def halves(self) -> Halves | None:
        """Halves of the cells; None without replicates."""
        if not self.replicates:
            return None
        return Halves(
            store=self.screen.path,
            fingerprint=self.screen.fingerprint,
            staging=str(self.staging),
            n_seeds=self.replicates,
            min_cells=self.options.min_cells,
        )

    @property
    def nulls(self) -> NullCells | None:
        """Controls that are tested against the others; None without replicates."""
        if not self.replicates:
            return None
        return NullCells(
            store=self.screen.path,
            fingerprint=self.screen.fingerprint,
            staging=str(self.staging),
            min_cells=self.options.min_cells,
        )

    def choose_cells(self) -> None:
        """Write down which half each cell is in, and which controls are tested, where asked for."""
        if self.halves is not None:
            write_codes(self.screen, self.halves)
        if self.nulls is not None:
            choose_controls(self.screen, self.nulls)

    def remove_staging(self) -> None:
        """Remove what a run left that was ended between its last two steps."""
        if self.staging.exists():
            remove(self.staging)

    def remove_others(self) -> None:
        """Remove the leftovers of runs with other options."""
        for other in self.folder.glob(".rank-sum-*"):
            if other != self.staging:
                remove(other)

    def plan(self, resources: Resources, *, alone: bool) -> TilePlan:
        """Return the plan that is followed; see :func:`kept_plan`."""
        return kept_plan(
            self.screen,
            self.staging,
            resources,
            kernel=self.options.kernel,
            n_seeds=self.replicates,
            min_cells=self.options.min_cells,
            alone=alone,
        )

    def tasks(self, plan: TilePlan) -> list[TileTask]:
        """Return a task for each tile of a plan."""
        return [
            TileTask(
                store=self.screen.path,
                fingerprint=self.screen.fingerprint,
                statistics_file=str(self.staging / TILES_DIR / f"{tile.name}.bin"),
                tile=tile,
                window_rows=plan.window_rows,
                window_groups=plan.window_groups,
                kernel=self.options.kernel,
                variant=TESTS[self.options.test],
                is_counts=self.screen.scale == COUNTS,
                halves=self.halves,
                nulls=self.nulls,
                arithmetic=self.options.fold_change == "arithmetic",
            )
            for tile in plan.tiles
        ]

    def test_tiles(self, resources: Resources, client: Any, *, quiet: bool) -> None:
        """Test all tiles; write down where their statistics are, and the screen-wide adjustment."""
        self.choose_cells()
        tasks = self.tasks(self.plan(resources, alone=True))
        _run_tiles(tasks, "rank-sum", client, quiet=quiet)
        write_index(self.staging, [(task.tile, task.statistics_file) for task in tasks])
        write_steps(self.screen, self.staging, self.options, resources, client, quiet=quiet)

    def write_parts(
        self, resources: Resources, client: Any, *, quiet: bool
    ) -> list[dict[str, Any]]:
        """Write the parts of the label table and of the pseudobulk; return their receipts."""
        parts = make_parts(
            self.screen,
            self.staging,
            self.options,
            self.key,
            resources,
            halves=self.halves,
            nulls=self.nulls,
        )
        try:
            return run(write_part, parts, label="labels", client=client, quiet=quiet)
        except CorruptFileError:  # of what the tiles have read: they have to be tested again
            remove(self.staging)
            raise

    def publish(self) -> None:
        """Move the tables to their place; the labels' manifest says that all is there."""
        remove(self.staging / PARTS_DIR)  # a call that goes on from here makes the tables anew
        remove(self.folder / LABELS_DIR / MANIFEST_FILE)  # of tables whose pseudobulk goes now
        for name in (NULLS_DIR, HALVES_DIR, PSEUDOBULK_DIR, LABELS_DIR):
            if (self.staging / name).exists():
                replace(self.staging / name, self.folder / name)
            else:  # of other labels
                remove(self.folder / name)
            remove_leftovers(self.folder, name)
        remove(self.staging)


def _output(screen: Screen, out: Any) -> Location:
    """Return where the tables go; absolute, since workers may have another working directory."""
    output = absolute(out if out is not None else locate(screen.path).with_suffix(".labels"))
    check_apart(screen.path, output, (LABELS_DIR, PSEUDOBULK_DIR, HALVES_DIR, NULLS_DIR))
    return output


def is_finished(
    output: Location,
    key: str,
    *,
    replicates: int = 0,
    content: bool = True,
    quiet: bool = True,
) -> bool:
    """Whether the tables of a key (:func:`labels_key`) are there, as they were written.

    With `replicates`, halves of the cells in as many ways have to be there, too, and the tests of
    controls against controls.

    What was lost or damaged is printed unless `quiet`. Files are read and compared with their
    checksums; without `content`, and on object storage, they have to have their size.
    """
    intact = is_intact(
        lambda: read_manifest(output / LABELS_DIR),
        {"key": key},
        lambda manifest: (  # an earlier version has listed nothing
            (output / LABELS_DIR, manifest.get(FILES, {})),
            (output / PSEUDOBULK_DIR, manifest.get(PROFILES, {})),
            (output / HALVES_DIR, manifest.get(HALVES, {})),
            (output / NULLS_DIR, manifest.get(NULLS, {})),
        ),
        remedy=REMEDY,
        again="the tables are made anew",
        content=content,
        tell=partial(say, quiet=quiet),
    )
    if not (intact and belongs_to(output / PSEUDOBULK_DIR, key)):
        return False
    manifest = read_manifest(output / LABELS_DIR)
    if replicates and NULLS not in manifest:  # of an earlier version
        return False
    return replicates <= manifest.get(REPLICATES, 0)


def check_tables_replaceable(output: Location) -> None:
    """Refuse to replace folders of tables that hold what is not ours.

    Raises
    ------
    ExistsError
    """
    if isinstance(output, Path):
        check_replaceable(output / LABELS_DIR, LABEL_FILES, "a label table")
        check_replaceable(output / PSEUDOBULK_DIR, PSEUDOBULK_FILES, "a pseudobulk")
        check_replaceable(output / HALVES_DIR, HALVES_FILES, "halves of the cells")
        check_replaceable(output / NULLS_DIR, NULLS_FILES, "tests of controls")


def prepare_run(
    screen: Screen, folder: Path, options: RankSumOptions, *, replicates: int = 0
) -> RankSumRun:
    """Return the run of a screen with some options; nothing is read but names, nothing written."""
    _check_controls(screen)
    return RankSumRun(screen, options, folder, labels_key(screen, options), replicates)


def _run_tiles(tasks: Sequence[TileTask], label: str, client: Any, *, quiet: bool) -> None:
    """Test the tiles that were not tested yet."""
    missing = [task for task in tasks if not task.is_done]
    if len(missing) < len(tasks):
        done = len(tasks) - len(missing)
        say(f"{label}: {done} of {len(tasks)} tiles are there already", quiet=quiet)
    run(process_tile, missing, label=label, client=client, quiet=quiet)


def labels_key(screen: Screen, options: RankSumOptions) -> str:
    """Hash of all that the label table depends on."""
    version = LABELS_VERSION[options.fold_change]
    return digest("rank-sum", version, screen.fingerprint, options.as_dict())


def _check_controls(screen: Screen) -> None:
    for context in screen.contexts:
        first, last = screen.control_rows(context)
        if last - first < MIN_CONTROLS:
            raise InputError(
                f"context {context!r} has {last - first} control cells, the rank-sum test needs "
                f"{MIN_CONTROLS}; name further controls with control= when you ingest "
                f"({screen.path})"
            )
