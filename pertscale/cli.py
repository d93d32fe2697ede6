"""The command line: thin, each command calls one public function."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from pertscale import __version__
from pertscale.cli_help import Benchmark
from pertscale.cli_words import in_words_of_the_shell
from pertscale.diagnostics.progress import wording
from pertscale.errors import PertscaleError, PertscaleWarning
from pertscale.schema import REPLICATES

F = TypeVar("F", bound=Callable[..., Any])
#: Exit code of a command that was stopped by a signal and can go on ("temporary failure").
STOPPED = 75


class _Commands(click.Group):
    """Shows commands in the order in which one uses them; one clear line for bad input."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [
            "check",
            "ingest",
            "labels",
            "plan",
            "run",
            "score",
            "report",
            "audit-metrics",
            "models",
            "slurm",
            "simulate",
            "demo",
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _stopped_by_signals(), _worded(partial(_in_words, ctx)):
                return super().invoke(ctx)
        except PertscaleError as error:
            click.echo(f"pertscale: {_in_words(ctx, str(error))}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            by = f"stopped by {stop.args[0]}" if isinstance(stop, _Stopped) else "interrupted"
            again = shlex.join(["pertscale", *sys.argv[1:]])
            click.echo(
                f"pertscale: {by}; the same command goes on where it was:\n{again}", err=True
            )
            ctx.exit(STOPPED if isinstance(stop, _Stopped) else 130)


def _in_words(ctx: click.Context, message: str) -> str:
    """Return a message with arguments as the options of the command that was typed."""
    commands = cast("_Commands", ctx.command).commands
    typed = commands.get(ctx.invoked_subcommand or "")
    if typed is None:
        return message
    if isinstance(typed, click.Group):  # which of its commands it was is not kept
        params = [one for command in typed.commands.values() for one in command.params]
        typed = click.Command(typed.name, params=params)
    others = [commands[n] for n in ("ingest", "run", "labels", "score") if commands[n] is not typed]
    return in_words_of_the_shell(message, typed, others)


@contextmanager
def _worded(words: Callable[[str], str]) -> Iterator[None]:
    """Within the block, show lines in these words, and warnings of ours as lines."""
    before, as_usual = wording.set(words), warnings.formatwarning

    def line(message: Any, category: type[Warning], *where: Any, **more: Any) -> str:
        if not issubclass(category, PertscaleWarning):
            return as_usual(message, category, *where, **more)
        return f"pertscale: {words(str(message))}\n"

    warnings.formatwarning = line
    try:
        yield
    finally:
        warnings.formatwarning = as_usual
        wording.reset(before)


class _Stopped(KeyboardInterrupt):
    """A batch system told this process to end."""


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Stop cleanly on the signals that batch systems send before the walltime ends."""
    before = {s: signal.signal(s, _stop) for s in (signal.SIGTERM, signal.SIGUSR1)}
    hook = sys.unraisablehook

    def send_again(lost: Any) -> None:
        """Where the signal came in a callback of Python's own, which discards exceptions."""
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        name = lost.exc_value.args[0] if isinstance(lost.exc_value, _Stopped) else "SIGINT"
        threading.Timer(0.05, os.kill, (os.getpid(), signal.Signals[name])).start()

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: Any) -> None:
    raise _Stopped(signal.Signals(number).name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pertscale")
def main() -> None:
    """Labels, honest baselines and scores for Perturb-seq screens, out of core.

    \b
    A screen's file becomes a store once, and the benchmark runs on the store:
      pertscale check  k562.h5ad                 what would be read, and how
      pertscale ingest k562.h5ad k562.zarr
      pertscale run    k562.zarr --embedding genept.parquet --out runs/k562
    """


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


_quiet = click.option("--quiet", is_flag=True, help="Print no account and no progress.")
_memory = click.option(
    "--memory",
    default="auto",
    show_default=True,
    help="What the tasks of one process may hold together; auto: what its limits leave, 2 GB at "
    "most.",
)
_client = click.option(
    "--scheduler",
    "client",
    metavar="ADDRESS|FILE",
    help="Run on this Dask cluster: tcp://host:8786, or a scheduler file.",
)
_reading = _options(
    click.option(
        "--scale",
        type=click.Choice(["counts", "log1p_1e4"]),
        help="Declare what the values are; without it they have to prove it.",
    ),
    click.option("--layer", help="Matrix to read instead of X: 'raw' or the name of a layer."),
    click.option("--cells", type=click.Path(), help="Table of cells for text and 10x files."),
    click.option("--perturbation", help="Column of perturbations."),
    click.option("--control", multiple=True, help="Label of control cells; may be repeated."),
    click.option("--context", help="Column of cell lines, cell types or donors."),
    click.option("--batch", help="Column of batches."),
    click.option("--guide", help="Column of guides."),
    click.option("--gene-name", help="Column of gene names."),
    click.option(
        "--genes",
        type=click.Choice(["same", "shared"]),
        default="same",
        show_default=True,
        help="Several files: same genes, or keep the shared ones.",
    ),
)
_testing = _options(
    click.option(
        "--test",
        type=click.Choice(["mannwhitney", "scanpy", "scanpy_tie"]),
        default="mannwhitney",
        show_default=True,
        help="Variant of the rank-sum test.",
    ),
    click.option(
        "--fdr",
        type=float,
        default=0.01,
        show_default=True,
        help="Differentially expressed where the adjusted p-value is below this.",
    ),
    click.option(
        "--fold-change",
        type=click.Choice(["geometric", "arithmetic"]),
        default="geometric",
        show_default=True,
        help="Means that are compared; their ratio gives the direction.",
    ),
    click.option(
        "--min-cells",
        type=int,
        default=2,
        show_default=True,
        help="Perturbations with fewer cells are not tested.",
    ),
)


def _show(text: str) -> None:
    """Print what has been written; a closed output is not a failure of the command."""
    try:
        click.echo(wording.get()(text))
    except OSError as error:
        # what is left in the buffer can't be printed at the end, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with suppress(OSError):
            click.echo(f"pertscale: all is written, but can't be shown: {error.strerror}", err=True)


def _source(values: tuple[str, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@_reading
def check(files: tuple[str, ...], **how: Any) -> None:
    """Say how FILES would be read: columns, control labels, scale, what is left out.

    Nothing is written. Override a wrong guess with the options, which `ingest` takes as well. Of a
    screen store all chunks are read, and compared with their checksums.
    """
    from pertscale.io import check as check_files

    _show(str(check_files(_source(files), **how)))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.argument("store", type=click.Path())
@_reading
@click.option(
    "--totals",
    help="Column with the total count of each cell, where the matrix holds "
    "only a part of the genes.",
)
@click.option(
    "--dtype",
    type=click.Choice(["uint16", "uint32"]),
    default="uint16",
    show_default=True,
    help="How counts are stored.",
)
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@_memory
@_client
@_quiet
def ingest(files: tuple[str, ...], store: str, **how: Any) -> None:
    """Convert FILES to the screen store STORE, out of core.

    FILES are h5ad, AnnData-Zarr, 10x h5, a MatrixMarket folder, csv or tsv; several become one
    screen. An interrupted call goes on where it was when it is made again.
    """
    from pertscale.io import ingest as ingest_files

    ingest_files(_source(files), store, **how)


@main.command()
@click.argument("store", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder to write to [default: STORE with .labels].")
@click.option(
    "--share", metavar="I/N", help="Test only the I-th of N shares of the tiles, for job arrays."
)
@click.option(
    "--replicates",
    type=int,
    default=0,
    show_default=True,
    help="Ways to halve the cells in the same pass; what `run` will ask for, by default "
    f"{REPLICATES}.",
)
@_testing
@_memory
@_client
@_quiet
def labels(store: str, share: str | None, **how: Any) -> None:
    """Test every perturbation of STORE against its controls: the label table alone.

    Writes labels/ (Parquet) and pseudobulk.zarr, with --replicates halves.zarr and
    null_tests.zarr. With --share only a part of the work is done, by as many processes as there are
    shares, that need nothing but the same --out; then the same command without it, or `run`, puts
    everything together.
    """
    from pertscale.stats import rank_sum, rank_sum_share

    if share is None:
        _show(repr(rank_sum(store, **how)))
    else:
        n_tiles = rank_sum_share(store, share=share, **how)
        click.echo(f"share {share}: {n_tiles} tiles are done")


_benchmark = _options(
    click.option(
        "--out",
        type=click.Path(),
        help="Output folder [default: STORE with .benchmark; needed for several stores].",
    ),
    click.option(
        "--embedding",
        type=click.Path(),
        help="Vectors of genes: parquet, csv, npz, h5ad, a .gmt of gene sets, a .json of "
        "texts. Without it, learned from the training part.",
    ),
    click.option("--split", type=click.Path(), help="Split file: JSON with train and test."),
    click.option("--task", "tasks", multiple=True, help="Only this task; may be repeated."),
    click.option("--method", "methods", multiple=True, help="Only this method; may be repeated."),
    click.option(
        "--setting", "settings", multiple=True, help="Only this setting; may be repeated."
    ),
    click.option(
        "--test-fraction",
        type=float,
        default=0.25,
        show_default=True,
        help="Share of the perturbations held out.",
    ),
    click.option(
        "--seed",
        type=int,
        multiple=True,
        help="Seed of a split; may be repeated [default: 0; 0 to 4 where fewer than 40 "
        "perturbations are held out].",
    ),
    click.option(
        "--gene-disjoint",
        is_flag=True,
        help="Hold out genes: none of a held-out perturbation is perturbed in training.",
    ),
    click.option(
        "--threshold",
        type=click.Choice(["match_rate", "macro_f1"]),
        default="match_rate",
        show_default=True,
        help="How changes of expression become classes.",
    ),
    click.option(
        "--targets",
        type=click.Choice(["exclude", "include"]),
        default="exclude",
        show_default=True,
        help="Genes that a perturbation targets itself, in scores of expression.",
    ),
    click.option(
        "--controls",
        type=click.Choice(["split", "shared"]),
        default="split",
        show_default=True,
        help="Predicted and true changes from halves of the controls, or both from all.",
    ),
    click.option(
        "--intervals/--no-intervals",
        default=True,
        show_default=True,
        help="Intervals of scores, and which differences between methods are real.",
    ),
    click.option(
        "--cluster",
        type=click.Choice(["targets", "gene"]),
        default="targets",
        show_default=True,
        help="What is drawn again for intervals: sets of targets, or genes.",
    ),
    click.option(
        "--reference",
        help="Method to compare the others with [default: that of the task].",
    ),
    click.option(
        "--replicates",
        type=int,
        default=REPLICATES,
        show_default=True,
        help="Ways to halve the cells: what halves say of each other is the ceiling. 0: none.",
    ),
    click.option(
        "--min-knockdown",
        type=float,
        help="Leave out perturbations whose target's expression is not lowered by this share, such "
        "as 0.3 [default: none].",
    ),
    click.option(
        "--include-test-perturbations",
        is_flag=True,
        help="Transfer: keep in other contexts what one holds out.",
    ),
    click.option("--aliases", type=click.Path(), help="Table of other names of genes."),
)
_watching = click.option(
    "--performance-report",
    type=click.Path(),
    help="Write Dask's page on what each worker did; with --scheduler.",
)


@main.command(cls=Benchmark)
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@_benchmark
@_testing
@_memory
@_client
@_quiet
def plan(stores: tuple[str, ...], **how: Any) -> None:
    """Forecast what `run` would read, hold, write and take on STORES, with the same options.

    Nothing is written. The exit code is 1 if memory or disk can't hold it.
    """
    from pertscale.benchmark import plan_benchmark

    _show(repr(plan_benchmark(_source(stores), **_choices(how))))


@main.command(cls=Benchmark)
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model that an installed package brings (entry point); may be repeated.",
)
@_benchmark
@_watching
@_testing
@_memory
@_client
@_quiet
def run(stores: tuple[str, ...], **how: Any) -> None:
    """Run the benchmark on STORES: labels, baselines, scores, report.

    A store may also be a file that `ingest` reads. A second run computes only what depends on a
    changed option. With several stores, methods are also transferred from one to another.
    """
    _run(stores, **how)


@main.command(cls=Benchmark)
@click.argument("store", type=click.Path())
@click.argument("predictions", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option(
    "--scale",
    type=click.Choice(["log1p_1e4", "counts", "delta", "lfc"]),
    help="Of predicted expression; without it the values have to prove it.",
)
@click.option(
    "--control",
    type=click.Choice(["observed", "in_file"]),
    default="observed",
    show_default=True,
    help="What changes are measured from.",
)
@click.option("--clip", is_flag=True, help="Read values below zero of predicted cells as zero.")
@click.option(
    "--codes",
    type=click.Choice(["pertscale", "synthpert", "up_first"]),
    help="Meaning of integer classes.",
)
@click.option("--genes", type=click.Path(), help="Names of the genes, for dictionaries of vectors.")
@_benchmark
@_watching
@_testing
@_memory
@_client
@_quiet
def score(
    store: str,
    predictions: tuple[str, ...],
    scale: Any,
    control: Any,
    clip: bool,
    codes: Any,
    genes: str | None,
    **how: Any,
) -> None:
    """Score predictions of any model on STORE, beside the baselines.

    Each is NAME=FILE: predicted cells (h5ad, AnnData-Zarr), profiles (h5ad, Zarr, csv, parquet,
    npz, the second paper's folder), or classes (csv, parquet). The options are for all files.
    """
    from pertscale.predictions.predictions import CELLS, read_predictions

    found: dict[str, Any] = {}
    for item in predictions:
        name, mark, path = item.partition("=")
        if not (mark and name and path):
            raise click.UsageError(f"{item!r} is not NAME=FILE, such as STATE=adata_pred.h5ad")
        if name in found:
            raise click.UsageError(f"{name!r} is given twice")
        read = partial(
            read_predictions,
            path,
            scale=scale,
            control=control,
            codes=codes,
            genes=genes,
            aliases=how["aliases"],
        )
        found[name] = read()
        if clip and found[name].kind == CELLS:
            found[name] = read(clip=True)
    if clip and all(one.kind != CELLS for one in found.values()):
        raise click.UsageError("--clip is for predicted cells, and no file has any")
    _run((store,), predictions=found, **how)


def _run(stores: tuple[str, ...], models: tuple[str, ...] = (), **how: Any) -> None:
    from pertscale.benchmark import run_benchmark

    result = run_benchmark(_source(stores), models=models or None, **_choices(how))
    _show(repr(result))


def _choices(how: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a benchmark as its function takes them."""
    from pertscale.schema import SETTINGS, TASKS

    included = how.pop("include_test_perturbations")
    return {
        **how,
        "tasks": how["tasks"] or TASKS,
        "methods": how["methods"] or None,
        "settings": how["settings"] or SETTINGS,
        "seed": how["seed"] or None,
        "exclude_test_perturbations": not included,
    }


@main.command()
@click.argument("folder", type=click.Path())
@click.option("--store", type=click.Path(), help="The screen store, if it has moved.")
def report(folder: str, store: str | None) -> None:
    """Write the report of a finished benchmark in FOLDER again."""
    from pertscale.benchmark import read_result
    from pertscale.report import write_report
    from pertscale.screen import open_screen

    result = read_result(folder)
    write_report(result, open_screen(store) if store is not None else None)
    _show(str(result.report))


@main.command("audit-metrics")
@click.argument("store", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder to write to [default: STORE with .labels].")
@click.option(
    "--targets",
    type=click.Choice(["exclude", "include"]),
    default="exclude",
    show_default=True,
    help="Genes that a perturbation targets itself, in all scores.",
)
@click.option(
    "--replicates",
    type=int,
    default=REPLICATES,
    show_default=True,
    help="Ways to halve the cells, for gains on the way to what one half says of the other, beside "
    "those on the way to the truth itself; 0: these alone.",
)
@_memory
@_client
@_quiet
def audit_metrics(store: str, **how: Any) -> None:
    """Attack the metrics on STORE with predictions that know nothing of what is held out.

    Writes attacks.parquet, beside labels/ and pseudobulk.zarr, which are made where they are not
    there. The table that is printed has the headline metrics, and which attack gains most in each,
    in parts of the way from the best honest guess to the truth, and to a replicate: the other half
    of the cells. Where a replicate is no better than the guess, nothing can be told. The exit code
    is 1 if one gains more than 0.02 in a metric that is not known for it.
    """
    from pertscale.benchmark import audit_screen, worst_attacks
    from pertscale.benchmark.audit import notes_on_gains

    table = audit_screen(store, **how)
    worst = worst_attacks(table)
    _show(worst.drop(columns="note").to_string(index=False, float_format="{:.3f}".format))
    for line in notes_on_gains(table):
        _show(line)
    if ((worst["verdict"] == "gains") & (worst["note"] == "")).any():
        sys.exit(1)


@main.group()
def models() -> None:
    """Drive models that have environments of their own."""


@models.command("run")
@click.argument("config", type=click.Path())
@click.option("--store", type=click.Path(), required=True, help="The screen store.")
@click.option("--out", type=click.Path(), required=True, help="Output folder.")
@click.option("--split", type=click.Path(), help="Split file: JSON with train and test.")
@click.option(
    "--task",
    "tasks",
    type=click.Choice(["single", "double"]),
    multiple=True,
    help="Only this task; may be repeated.",
)
@click.option(
    "--seed",
    "seeds",
    type=int,
    multiple=True,
    help="Seed of a split; may be repeated [default: as `run`].",
)
@click.option(
    "--test-fraction",
    type=float,
    default=0.25,
    show_default=True,
    help="Share of the perturbations held out, as of `run`.",
)
@click.option(
    "--min-cells",
    type=int,
    default=2,
    show_default=True,
    help="Perturbations with fewer cells are left out, as of `run`.",
)
@_quiet
def run_models(config: str, tasks: tuple[str, ...], seeds: tuple[int, ...], **how: Any) -> None:
    """Run the models of CONFIG, a models.toml, on the splits of a benchmark.

    Each predicts what is held out and sees nothing of it. A second run starts only those that have
    no predictions yet. The exit code is 1 if a model has none.
    """
    from pertscale.models import run_models as run_all
    from pertscale.models.config import TASKS

    found = run_all(config, tasks=tasks or TASKS, seeds=seeds or None, **how)
    _show(found.to_string(index=False))
    if not found["status"].isin(["complete", "partial", "skipped"]).all():
        sys.exit(1)


def _for_labels_and_python(
    store: str, out: str, run_options: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Check options of `run`; return those that `labels` takes too, and all for run_benchmark."""
    from pertscale.storage.locations import absolute

    context = run.make_context("pertscale run", [store, "--out", out, *run_options])
    if context.params["stores"] != (store,):
        raise click.UsageError(f"a script is for one store: {' '.join(context.params['stores'])}")
    of_labels = {option.name for option in labels.params}
    words: list[str] = []
    keywords: dict[str, Any] = {}
    for option in run.params:
        name = str(option.name)
        value = context.params[name]
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if name == "client" or (name == "out" and value != out):
            raise click.UsageError(f"{option.opts[0]} is for the script to say; leave it out")
        if name in of_labels - {"out"}:
            words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
        if name == "include_test_perturbations":
            keywords["exclude_test_perturbations"] = not value
        elif name not in ("stores", "out"):
            is_path = isinstance(option.type, click.Path)
            keywords[name] = str(absolute(value)) if is_path else value
    if "--replicates" not in words:  # by default `labels` makes none
        words += ["--replicates", str(context.params["replicates"])]
    return tuple(words), keywords


@main.command(context_settings={"max_content_width": 100})
@click.argument("recipe", type=click.Choice(["notebook", "runner", "batch", "array"]))
@click.argument("store", type=click.Path())
@click.argument("run_options", nargs=-1, metavar="[-- RUN OPTIONS]")
@click.option("--out", type=click.Path(), required=True, help="Output folder of the benchmark.")
@click.option("--script", type=click.Path(), required=True, help="File to write.")
@click.option(
    "--workers",
    type=int,
    default=4,
    show_default=True,
    help="Worker processes, or jobs of the array.",
)
@click.option("--cpus", type=int, default=1, show_default=True, help="Threads of each.")
@click.option("--memory", default="4GB", show_default=True, help="Memory of each.")
@click.option("--time", help="Time limit, as SLURM writes it.")
@click.option("--partition", help="Partition (queue).")
@click.option("--account", help="Account.")
@click.option("--name", default="pertscale", show_default=True, help="Name of the job.")
@click.option("--interface", help="Network interface of the cluster, such as ib0.")
@click.option(
    "--resubmit",
    type=int,
    default=0,
    show_default=True,
    help="How often the job queues itself again when its time is over.",
)
@click.option("--overwrite", is_flag=True, help="Replace a script that is there.")
def slurm(
    recipe: str,
    store: str,
    run_options: tuple[str, ...],
    out: str,
    script: str,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Write a SLURM script that runs the benchmark on STORE, ready to be submitted.

    \b
    notebook  Python for a notebook: SLURM starts workers, one job each
    runner    one job, one srun: scheduler, client and workers (dask-jobqueue's SLURMRunner)
    batch     one job in plain shell: scheduler file, workers by srun
    array     a job array without a scheduler, each job a share of the labels, and a last job

    What is asked of SLURM are the options; those of `pertscale run` stand after --, as in

    \b
      pertscale slurm batch k562.zarr --out runs/k562 --script k562.sh --workers 16 \\
        --time 04:00:00 -- --embedding genept.parquet
    """
    from pertscale.slurm import Call, Job, write_script

    call = Call(store, out, run_options, *_for_labels_and_python(store, out, run_options))
    start = write_script(recipe, script, call, Job(**asked), overwrite=overwrite)
    click.echo(f"submit it, and again to go on where it was: {start}")


@main.command()
@click.argument("file", type=click.Path())
@click.option("--cells", type=int, default=20_000, show_default=True, help="Number of cells.")
@click.option("--genes", type=int, default=2_000, show_default=True, help="Number of genes.")
@click.option(
    "--perturbations", type=int, default=120, show_default=True, help="Number of perturbed genes."
)
@click.option("--doubles", type=int, default=0, show_default=True, help="Pairs of them.")
@click.option(
    "--context",
    "contexts",
    multiple=True,
    default=("sim",),
    show_default=True,
    help="Name of a cell line; may be repeated.",
)
@click.option("--umi-per-cell", type=float, help="Mean count per cell; sets the density.")
@click.option("--embedding", type=click.Path(), help="Write the genes' embedding here (Parquet).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@_quiet
def simulate(
    file: str,
    cells: int,
    genes: int,
    perturbations: int,
    doubles: int,
    contexts: tuple[str, ...],
    umi_per_cell: float | None,
    embedding: str | None,
    seed: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Simulate a screen with a known truth into FILE (h5ad), streamed."""
    from pertscale.simulate import simulate_screen

    screen = simulate_screen(
        file,
        n_cells=cells,
        n_genes=genes,
        n_perturbations=perturbations,
        n_doubles=doubles,
        contexts=contexts,
        umi_per_cell=umi_per_cell,
        seed=seed,
        overwrite=overwrite,
        quiet=quiet,
    )
    if embedding is not None:
        screen.write_embedding(embedding, overwrite=overwrite)
    _show(repr(screen))


@main.command()
@click.option(
    "--out",
    type=click.Path(),
    default="demo",
    show_default=True,
    help="Folder to write to; it is made anew.",
)
@_quiet
def demo(out: str, quiet: bool) -> None:
    """Simulate a screen and run the whole benchmark on it, in less than a minute.

    The screen has two cell lines, single and double perturbations, and known interactions. Writes
    screen.h5ad, embedding.parquet, screen.zarr and run/ below the folder.
    """
    from pertscale.benchmark import run_benchmark
    from pertscale.diagnostics.progress import say
    from pertscale.io import ingest as ingest_file
    from pertscale.simulate import simulate_screen
    from pertscale.storage.locations import local_path

    started = time.perf_counter()
    folder = local_path(out, "the demo's folder")
    folder.mkdir(parents=True, exist_ok=True)
    say("1/3 simulate 40,000 cells: 1,000 genes, 80 perturbed, and 40 pairs of these", quiet=quiet)
    simulated = simulate_screen(
        folder / "screen.h5ad",
        n_cells=40_000,
        n_genes=1_000,
        n_perturbations=80,
        n_doubles=40,
        contexts=("K562", "RPE1"),
        umi_per_cell=4_000,  # with fewer, the noise of singles adds up to more than their mean's
        overwrite=True,
        quiet=quiet,
    )
    simulated.write_embedding(folder / "embedding.parquet", overwrite=True)
    say("2/3 ingest it", quiet=quiet)
    ingest_file(folder / "screen.h5ad", folder / "screen.zarr", overwrite=True, quiet=quiet)
    say("3/3 labels, baselines, scores, report", quiet=quiet)
    result = run_benchmark(
        folder / "screen.zarr",
        out=folder / "run",
        embedding=folder / "embedding.parquet",
        seed=0,  # one split of so few perturbations, not five
        quiet=quiet,
    )
    _show(repr(result))
    click.echo(f"done in {time.perf_counter() - started:.0f} s; open {result.report} in a browser")


if __name__ == "__main__":
    sys.exit(main())
