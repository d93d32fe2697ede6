"""run_benchmark: the stages in their order, each reused where nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pertscale.arguments import checked
from pertscale.baselines import own_methods
from pertscale.baselines.thresholds import Rule
from pertscale.baselines.user_models import UserModels
from pertscale.benchmark.external import PredictionsLike, read_all
from pertscale.benchmark.inputs import INGESTED_STORE, ScreenInput, locate_stores, open_or_ingest
from pertscale.benchmark.options import read_options
from pertscale.benchmark.outputs import LAYOUT, check_fresh
from pertscale.benchmark.run_log import RunLog, log_file
from pertscale.benchmark.stages import (
    ResultPart,
    RunResources,
    find_finished,
    finish_run,
    plan_across,
    plan_screen,
    run_planned,
)
from pertscale.benchmark.state import RunRecord
from pertscale.diagnostics.events import ClusterSeen, emit
from pertscale.diagnostics.progress import say
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError
from pertscale.evaluation.resampling.draws import Cluster
from pertscale.evaluation.shared_control import Controls
from pertscale.evaluation.target_genes import Targets
from pertscale.execution.allocator import keep_little
from pertscale.execution.clients import ClientLike, cluster_errors, use_client
from pertscale.execution.memory import AUTO, check_memory
from pertscale.io.gene_aliases import Aliases
from pertscale.predictions.given_split import check_names
from pertscale.results.result import BenchmarkResult
from pertscale.schema import MANIFEST_FILE, REPLICATES, SETTINGS, TASKS, Setting, Task
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.stats.differential.options import FoldChange, RankSumOptions, Test
from pertscale.storage.disk_errors import disk_errors
from pertscale.storage.locations import Location, check_apart
from pertscale.storage.lock import locked
from pertscale.storage.publish import finished_folder


@checked
def run_benchmark(
    store: str | os.PathLike[str] | Screen | Sequence[str | os.PathLike[str] | Screen],
    *,
    out: str | os.PathLike[str] | None = None,
    embedding: str | os.PathLike[str] | Embedding | None = None,
    split: str | os.PathLike[str] | Split | None = None,
    predictions: Mapping[str, PredictionsLike] | None = None,
    models: UserModels | None = None,
    tasks: Sequence[Task] = TASKS,
    methods: Sequence[str] | None = None,
    settings: Sequence[Setting] = SETTINGS,
    test_fraction: float = 0.25,
    seed: int | Sequence[int] | None = None,
    gene_disjoint: bool = False,
    threshold: Rule = "match_rate",
    exclude_test_perturbations: bool = True,
    aliases: Aliases | None = None,
    targets: Targets = "exclude",
    controls: Controls = "split",
    intervals: bool = True,
    cluster: Cluster = "targets",
    reference: str | None = None,
    replicates: int = REPLICATES,
    min_knockdown: float | None = None,
    test: Test = "mannwhitney",
    fdr: float = 0.01,
    fold_change: FoldChange = "geometric",
    min_cells: int = 2,
    memory: str | int = AUTO,
    client: ClientLike = None,
    performance_report: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> BenchmarkResult:
    """Label a screen, fit the simple baselines, score them, and report.

    Within each context perturbations are split into training and test; methods are fitted on the
    labels of the training perturbations and scored on those of the test perturbations, on all
    pairs (``full``), on all but the target genes, and on pairs curated as in PerturbQA. Models of
    expression predict the profiles of the held-out singles, and of held-out doubles where there are
    any; where both singles of a double were measured, genetic interactions are called. The changes
    that models predict become classes by a threshold from the training part, so that all methods
    stand in one table. With several contexts, methods are also fitted on the others, one by one and
    together.

    A second call with the same arguments computes nothing; with another option, only what depends
    on it; after an interruption, it goes on where it was. Files that were lost or damaged since are
    made anew. A finished result is returned from a read-only folder, too.

    Parameters
    ----------
    store : path, URL, Screen, or a list of these
        A screen store; or a file that :func:`pertscale.io.ingest` reads, which is then ingested
        into the output folder. Each of several has a result of its own, in ``screens/`` of the
        output folder, and methods are transferred between their contexts.
    out : path or URL, optional
        Output folder; one on object storage is completed in scratch, then published. By default
        the store's name with the suffix ``.benchmark``. Needed for several stores.
    embedding : path or Embedding, optional
        Vectors of genes for the methods that need them: any file that
        :func:`pertscale.read_embedding` reads. Without one, genes are embedded by their expression
        over the training perturbations (method H4), split by split.
    split : path or Split, optional
        Who is held out, as a split file or :class:`pertscale.Split`; used in every context. By
        default a share of the perturbations is drawn.
    predictions : mapping, optional
        Other models' predictions to score: name → file that :func:`pertscale.read_predictions`
        reads, what it returned, several of these, or a mapping from the name of a split. What they
        leave out counts as no change.
    models : mapping or sequence of str, optional
        Your own models, fitted and scored like the baselines: name → object with ``fit`` and
        ``predict``, or names of entry points (:func:`pertscale.baselines.own_methods`).
    tasks : sequence of str
        Of ``'within'`` (classes), ``'single'``, ``'double'``, ``'interactions'`` and
        ``'transfer'``; what the data do not allow is skipped, with the reason.
    methods : sequence of str, optional
        Names in :data:`pertscale.baselines.METHODS` and
        :data:`pertscale.baselines.EXPRESSION_MODELS`; by default all but ``label_only`` and
        ``label_only_mean``, which score what no change and the mean score.
    settings : sequence of str
        Of ``'full'``, ``'full_without_target'``, ``'curated'`` and ``'confident'``: of
        ``'full_without_target'`` the pairs whose labels are likely right (method P4), which there
        is only with `replicates`.
    test_fraction : float
        Share of the perturbations held out (method D1), where `split` is not given.
    seed : int or sequence of int, optional
        Seeds of the splits, one split each, where `split` is not given. By default one split, and
        five (seeds 0 to 4) in a context that holds out fewer than 40 perturbations: one split of so
        few says little. The manifest says what was chosen.
    gene_disjoint : bool
        Draw genes, and hold out the perturbations all of whose genes are drawn: no gene of these is
        perturbed in training, as most genes of doubles are otherwise. Perturbations with genes on
        both sides are in no part, with a row in the coverage table. The split of doubles, which are
        predicted from their singles, stays as it is.
    threshold : {'match_rate', 'macro_f1'}
        How changes of expression become classes (method G2): as many as are differentially
        expressed in the training part, or those with its best macro F1.
    exclude_test_perturbations : bool
        Whether perturbations that a context holds out are left out of the others too, when methods
        are trained on those (method E4). With False methods are added that copy what the same
        perturbation does there.
    aliases : path or mapping, optional
        Other names of genes → names, for several stores and for predictions.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets itself are left out of its scores of
        expression, and those of the whole panel where perturbations are compared; 'include' scores
        as the second paper does. Of classes, ``settings`` has both.
    controls : {'split', 'shared'}
        What changes of expression are measured from. 'split': predicted changes from one half of
        the control cells and true changes from the other, both ways (method O7), so that they do
        not agree by the noise of the controls. 'shared': both from all of them, as in the second
        paper; so it is without `replicates`, which is where halves come from, and where controls
        are too few to be halved. The column ``no_effect`` says what that makes of scores.
    intervals : bool
        Whether scores get 95 % intervals over perturbations, and methods are compared and ranked:
        the columns ``low, high, se, n_clusters`` of ``scores``, and ``estimates``, ``comparisons``
        and ``ranks`` of the result.
    cluster : {'targets', 'gene'}
        What is drawn again for these: all perturbations of the same targets together, a double as
        one; or genes, the weight of a double being the product of its genes'.
    reference : str, optional
        Method that the others are compared with; by default that of the task: the majority vote for
        classes, the mean perturbation for singles, the additive model for doubles.
    replicates : int
        Ways to split the cells of each perturbation into halves, which are measured in the same
        pass as all of them: what one half says of the other is the ceiling of every score, the
        method ``replicate``. 0 switches this off.
    min_knockdown : float, optional
        Leave perturbations out of splits and scores, each with a row in ``drops``, whose target
        keeps more than ``1 - min_knockdown`` of the control's expression, as guides of CRISPRi or
        knock-outs do that do not work (method P5). All measured targets of a combination have to be
        down; perturbations whose targets are not measured stay. Not for activation screens. By
        default nobody is left out; ``targets`` of the result tells.
    test, fdr, fold_change, min_cells
        Of :func:`pertscale.stats.rank_sum`.
    memory : str or int
        What the tasks of one process may hold together: ``'2GB'``, or ``'auto'`` for what the
        limits of workers, control group or SLURM job leave: 2 GB at most for labels, and 320 MB
        for each thread after them.
    client : Client, cluster, address or scheduler file, optional
        Where to run; by default Dask's current scheduler: a distributed client where there is one.
    performance_report : path, optional
        Write Dask's page on what each worker did when, self-contained. Needs a cluster.
    quiet : bool
        Show no progress.

    Returns
    -------
    BenchmarkResult

    Raises
    ------
    ArgumentError
        For an unknown method or setting, or an object that is not a model.
    InputError
        For a screen, an embedding or predictions that can't be used.
    LockedError
        If another run works in the output folder.
    ClusterError, TaskError, StorageError, MemoryBudgetError
        What can go wrong during the run; the same call goes on with what is missing.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> result = ps.run_benchmark(
    ...     "k562.zarr", out="runs/k562", tasks=["within"], methods=["majority_vote", "all_non_de"],
    ...     settings=["full"], seed=0, quiet=True,
    ... )
    >>> result.summary()[["method", "operating_point", "accuracy"]]
              method   operating_point accuracy
    0  majority_vote         as_called    0.985
    1  majority_vote  at_training_rate    0.977
    2     all_non_de         as_called    0.985
    3     all_non_de  at_training_rate    0.985
    4      replicate         as_called    0.994
    5      replicate  at_training_rate    0.993
    """
    keep_little()
    check_memory(memory)
    files = read_all(predictions, aliases)
    options = read_options(
        own_methods(models),
        files,
        embedding=embedding,
        split=split,
        tasks=tasks,
        methods=methods,
        settings=settings,
        test_fraction=test_fraction,
        seed=seed,
        gene_disjoint=gene_disjoint,
        threshold=threshold,
        exclude_test_perturbations=exclude_test_perturbations,
        aliases=aliases,
        targets=targets,
        controls=controls,
        intervals=intervals,
        cluster=cluster,
        reference=reference,
        replicates=replicates,
        min_knockdown=min_knockdown,
    )
    testing = RankSumOptions(test=test, fdr=fdr, fold_change=fold_change, min_cells=min_cells)
    output, stores = locate_stores(store, out)
    _check_output(output, stores)
    read_only = _is_read_only(output)
    finish = find_finished if read_only else finish_run
    with (
        finished_folder(output, LAYOUT, quiet=quiet) as folder,
        _looking_at(folder) if read_only else _working_in(folder, stores, quiet) as check_held,
        use_client(client, quiet=quiet) as resolved,
        cluster_errors(resolved),
        _watched(resolved, performance_report),
    ):
        _say_where(resolved, quiet)
        resources = RunResources(memory, resolved, quiet)
        opened = [open_or_ingest(one, folder, **vars(resources)) for one in stores]
        if options.rule.given is not None:
            check_names(options.rule.given, [one.screen for one in opened], aliases, quiet=quiet)
        screens = [plan_screen(one, options, files, testing, resources) for one in opened]
        together = len(screens) > 1
        record = (
            RunRecord(folder=folder, options=options, log=RunLog(quiet=quiet))
            if together
            else screens[0].record
        )
        plan_across(screens, record)
        run_planned(screens, record, resources)
        check_held()
        if together:
            finish([ResultPart(one.record, [one]) for one in screens], files, resources)
        finish([ResultPart(record, screens)], files, resources)
    return BenchmarkResult(output)


def _check_output(output: Location, stores: Sequence[ScreenInput]) -> None:
    """Refuse an output folder that is inside a store, or holds files of the user's."""
    for one in stores:
        path = one.store.path if isinstance(one.store, Screen) else one.store
        check_apart(path, output, set(LAYOUT.folders) - {INGESTED_STORE, "screens"})
    check_fresh(output)


def _is_read_only(output: Location) -> bool:
    """Whether a folder holds a finished benchmark and is read-only."""
    there = isinstance(output, Path) and (output / MANIFEST_FILE).exists()
    return there and not os.access(str(output), os.W_OK)


@contextmanager
def _working_in(
    folder: Path, stores: Sequence[ScreenInput], quiet: bool
) -> Iterator[Callable[[], None]]:
    """Lock a folder and log what happens; yield a check that the lock is still held."""
    names = [str(one.store) for one in stores]
    with (
        locked(folder, quiet=quiet) as lock,
        log_file(folder, version=version("pertscale"), stores=names),
    ):
        yield lock.check


@contextmanager
def _looking_at(folder: Path) -> Iterator[Callable[[], None]]:
    """Look at a read-only folder: work that would have to be written is a StorageError."""
    with disk_errors(folder, marker=folder / MANIFEST_FILE):
        yield lambda: None


@contextmanager
def _watched(client: Any, page: str | os.PathLike[str] | None) -> Iterator[None]:
    """Write Dask's performance report on the block, where one is asked for."""
    if page is None:
        yield
        return
    if client is None:
        raise ArgumentError(
            "performance_report= tells what the workers of a distributed cluster do, and there is "
            "none; make a Client first, or pass client="
        )
    if find_spec("bokeh") is None:
        raise ArgumentError("performance_report= needs bokeh, which is not installed")
    from distributed import performance_report

    # inline: the default page fetches its scripts from elsewhere
    with client.as_current(), performance_report(filename=os.fspath(page), mode="inline"):
        yield


def _say_where(client: Any, quiet: bool) -> None:
    """Print on which workers the tasks run, and the address of their dashboard."""
    if client is None:
        return
    threads = client.nthreads()
    emit(ClusterSeen(scheduler=client.scheduler.address, n_workers=len(threads)))
    say(
        f"on {len(threads)} workers with {sum(threads.values())} threads at "
        f"{client.scheduler.address}; dashboard: {client.dashboard_link}",
        quiet=quiet,
    )
