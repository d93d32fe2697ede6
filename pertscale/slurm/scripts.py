"""Fills the templates. They are shell and Python as they will run; only %%{names} are replaced."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from pertscale import __version__
from pertscale.errors import ArgumentError, ExistsError
from pertscale.slurm.job import Call, Job, one_line
from pertscale.storage.atomic import atomic_path
from pertscale.storage.locations import Remote, local_path, locate

#: Seconds before the end of its time at which a job is warned.
WARNED_BEFORE = 120
#: Name → (file of the template, tasks besides the workers, how the script is started).
RECIPES: Final[dict[str, tuple[str, int, str]]] = {
    "notebook": ("notebook.py.txt", 0, "python"),
    "runner": ("runner.sh.txt", 2, "sbatch"),  # scheduler and client
    "batch": ("batch.sh.txt", 1, "sbatch"),  # scheduler and client together
    "array": ("array.sh.txt", 0, "bash"),
}


class _Template(Template):
    """Names stand as %%{name}: a $ is the shell's, a single % is SLURM's."""

    delimiter = "%%"


def write_script(
    recipe: str,
    script: str | os.PathLike[str],
    call: Call,
    job: Job | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Write a script that runs a benchmark in SLURM.

    Parameters
    ----------
    recipe : {'notebook', 'runner', 'batch', 'array'}
        Workers as jobs of their own, started from Python (``dask_jobqueue.SLURMCluster``); one job
        that is scheduler, client and workers (``SLURMRunner``); the same in plain shell; or a job
        array without Dask's scheduler, and a last job.
    script : path
        File to write to.
    call : Call
        What is run.
    job : Job, optional
        What SLURM is asked for.
    overwrite : bool
        Replace a file that is there already.

    Returns
    -------
    str
        The command that submits it.

    Raises
    ------
    ArgumentError
        For an unknown recipe, or a value that a script can't hold.
    ExistsError
        If the file is there already.
    """
    if recipe not in RECIPES:
        raise ArgumentError(f"recipe={recipe!r} is not one of {', '.join(RECIPES)}")
    if recipe == "notebook" and job is not None and job.resubmit:
        raise ArgumentError(
            "resubmit= is of jobs that queue themselves again; the jobs of the recipe 'notebook' "
            "are workers, which are queued again always"
        )
    path = Path(one_line("the script's name", os.fspath(script))).absolute()
    if path.exists() and not overwrite:
        raise ExistsError(f"{path} is there already; pass overwrite=True (--overwrite) or another")
    job = job or Job()
    template, _, start = RECIPES[recipe]
    text = _filled(template, _names(recipe, path, call, job))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")  # any path's bytes
        temporary.chmod(0o755)
    return shlex.join([start, str(path)])


def _filled(template: str, names: dict[str, str]) -> str:
    text = (resources.files("pertscale.slurm") / "templates" / template).read_text("utf-8")
    return _Template(text).substitute(names)


def _names(recipe: str, path: Path, call: Call, job: Job) -> dict[str, str]:
    """Return what the templates may hold: shell words are quoted, Python values are literals."""
    if recipe != "notebook":  # its jobs find each other by files there
        local_path(call.out, f"the output folder of the recipe {recipe!r}")
    store, out = _anywhere(call.store), _anywhere(call.out)
    shell = {
        "folder": str(Path.cwd()),
        "python": sys.executable,
        "script": str(path),
        "store": store,
        "out": out,
    }
    words = {name: shlex.quote(one_line(name, text)) for name, text in shell.items()}
    interface = [] if job.interface is None else ["--interface", job.interface]
    return {
        **words,
        "version": __version__,
        "directives": _directives(job, job.workers + RECIPES[recipe][1], recipe),
        "setting": _filled("setting.sh.txt", words | {"resubmit": str(job.resubmit)}),
        "workers": str(job.workers),
        "interface": _further(interface),
        "run_arguments": _further(call.run_arguments),
        "labels_arguments": _further(call.labels_arguments),
        "call": _python_call(store, out, call),
        "cluster": _python_arguments(_cluster(job), 12),
        "options": repr({} if job.interface is None else {"interface": job.interface}),
    }


def _anywhere(path: str) -> str:
    """Return a path or URL that means the same in another working directory."""
    found = locate(path)
    return str(found) if isinstance(found, Remote) else os.path.abspath(found)  # noqa: PTH100


def _further(arguments: Sequence[str]) -> str:
    """Return the last arguments of a command of the shell, if any, on a line of their own."""
    return f" \\\n        {shlex.join(arguments)}" if arguments else ""


def _directives(job: Job, tasks: int, recipe: str) -> str:
    """Return the #SBATCH lines; what is not asked for is left to SLURM."""
    array = recipe == "array"
    asked = {
        "job-name": job.name,
        "partition": job.partition,
        "account": job.account,
        "time": job.time,
        "ntasks": 1 if array else tasks,
        "cpus-per-task": job.cpus,
        "mem-per-cpu": f"{job.mebibytes_per_cpu}M",
        "output": None if array else "%x-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{WARNED_BEFORE}",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in asked.items() if value is not None]
    return "\n".join([*lines, "#SBATCH --requeue"])


def _cluster(job: Job) -> dict[str, object]:
    """Return the arguments of SLURMCluster; what is not asked for is left to jobqueue.yaml."""
    asked = {
        "job_name": job.name,
        "cores": job.cpus,
        "processes": 1,
        "memory": f"{job.mebibytes_per_cpu * job.cpus}MiB",
        "walltime": job.time,
        "queue": job.partition,
        "account": job.account,
        "interface": job.interface,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _python_call(store: str, out: str, call: Call) -> str:
    return _python_arguments({"out": out, **call.keywords}, 12, repr(store))


def _python_arguments(keywords: Mapping[str, object], indent: int, *first: str) -> str:
    """Return arguments of a call, one to a line."""
    lines = [*first, *(f"{name}={value!r}" for name, value in keywords.items())]
    return "\n".join(" " * indent + line + "," for line in lines)
