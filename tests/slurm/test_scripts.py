"""What the SLURM scripts hold; test_recipes.py submits them."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from pertscale.cli import main
from pertscale.errors import ArgumentError, ExistsError, PertscaleError
from pertscale.slurm import RECIPES, Call, Job, wait_for_workers, worker_memory, write_script
from pertscale.slurm.inside import scheduler_address, task_memory
from pertscale.slurm.runner import JobRunner

HOSTILE = "a b'c\"d$(touch hacked)`touch hacked`;&|*{x}\\%%{out}#é"
SHELL = [recipe for recipe in RECIPES if recipe != "notebook"]


def directives(script):
    lines = script.read_text().splitlines()
    return dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH --")
    )


def stub(folder, name):
    """A command that writes its arguments, one a line, to a file of its name."""
    program = folder / name
    program.write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$@" >>{shlex.quote(str(folder / name))}.log\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("recipe", SHELL)
def test_is_valid_shell(tmp_path, recipe):
    script = tmp_path / "job.sh"
    call = Call(HOSTILE, HOSTILE, ("--embedding", HOSTILE), ("--test", HOSTILE))
    assert write_script(recipe, script, call, Job(interface="ib0", time="1-00:00:00"))
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_left_to_fill_in(tmp_path, recipe):
    write_script(recipe, tmp_path / "job", Call("s.zarr", "out"))
    assert "%%" not in (tmp_path / "job").read_text()


@pytest.mark.parametrize("recipe", RECIPES)
def test_urls_stay_urls(tmp_path, recipe):
    store, out = "s3://bucket/k.zarr", "s3://bucket/out"
    write_script(recipe, tmp_path / "job", Call(store, str(tmp_path / "out")))
    assert (
        f"{store!r}," in (tmp_path / "job").read_text()
        or f"store={store}\n" in (tmp_path / "job").read_text()
    )
    if recipe == "notebook":
        write_script(recipe, tmp_path / "other", Call(store, out))
        assert f"out={out!r}" in (tmp_path / "other").read_text()
    else:  # its jobs find each other by files there
        with pytest.raises(ArgumentError, match="has to be a local path, got s3://bucket/out"):
            write_script(recipe, tmp_path / "other", Call(store, out))
        assert not (tmp_path / "other").exists()
    write_script(recipe, tmp_path / "third", Call("file:///data/k.zarr", "file:///data/out"))
    text = (tmp_path / "third").read_text()
    assert "/data/k.zarr" in text
    assert "file:" not in text


def test_urls_of_options_stay_urls(tmp_path):
    script = tmp_path / "n.py"
    words = ["slurm", "notebook", "s3://b/k.zarr", "--out", "s3://b/o", "--script", str(script)]
    done = CliRunner().invoke(main, [*words, "--", "--embedding", "s3://b/e.parquet"])
    assert done.exit_code == 0, done.output
    assert "embedding='s3://b/e.parquet'" in script.read_text()


def test_hostile_names_arrive_as_they_are(tmp_path, monkeypatch):
    """The last job of an array with a Python that only writes down its arguments."""
    folder = tmp_path / HOSTILE.replace("/", "")
    folder.mkdir()
    monkeypatch.chdir(folder)
    python = stub(tmp_path, "python")
    monkeypatch.setattr(sys, "executable", str(python))
    call = Call("s.zarr", HOSTILE, ("--embedding", HOSTILE, "--seed", "1"))
    write_script("array", "job.sh", call)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", folder / "job.sh", "run"], check=True, timeout=60)
    expected = [
        "-m",
        "pertscale",
        "run",
        f"{folder}/s.zarr",
        "--out",
        f"{folder}/{HOSTILE}",
        "--embedding",
        HOSTILE,
        "--seed",
        "1",
    ]
    assert (tmp_path / "python.log").read_text().splitlines() == expected
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize("recipe", ["notebook", "runner"])
def test_python_is_valid_and_holds_the_call(tmp_path, recipe):
    keywords = {"seed": (1, 2), "embedding": HOSTILE, "fdr": 0.05}
    write_script(recipe, tmp_path / "job", Call("s.zarr", HOSTILE, keywords=keywords))
    text = (tmp_path / "job").read_text()
    if recipe == "runner":
        text = text.partition("<<'PYTHON'\n")[2].partition("\nPYTHON\n")[0]
    (call,) = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "run_benchmark"
    ]
    found = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert found == keywords | {"out": str(Path(HOSTILE).absolute())}
    assert ast.literal_eval(call.args[0]) == str(Path("s.zarr").absolute())


def test_what_slurm_is_asked_for(tmp_path):
    job = Job(workers=6, cpus=2, memory="8GiB", time="04:00:00", partition="a,b", name="k562")
    for recipe, tasks in {"batch": "7", "runner": "8", "array": "1"}.items():
        write_script(recipe, tmp_path / recipe, Call("s", "o"), job)
        asked = directives(tmp_path / recipe)
        assert asked["ntasks"] == tasks
        assert (asked["cpus-per-task"], asked["mem-per-cpu"]) == ("2", "4096M")
        assert (asked["partition"], asked["time"], asked["job-name"]) == (
            "a,b",
            "04:00:00",
            "k562",
        )
        assert "account" not in asked
    assert "--array=1-6" in (tmp_path / "array").read_text()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "a b"}, "name='a b' can't stand in a job script"),
        ({"partition": "x\n#SBATCH --uid=0"}, "partition="),
        ({"account": "$(id)"}, "account="),
        ({"interface": "-"}, None),
        ({"time": "tomorrow"}, "is not a time limit of SLURM"),
        ({"time": "1-00"}, None),
        ({"workers": 0}, "workers=0 has to be 1 or more"),
        ({"resubmit": -1}, "resubmit=-1"),
        ({"memory": "100MB"}, "too little for a worker"),
        ({"memory": "lots"}, "is not a size"),
    ],
)
def test_jobs_are_checked(asked, message):
    if message is None:
        Job(**asked)
        return
    with pytest.raises(ArgumentError, match=message.replace("$", r"\$").replace("(", r"\(")):
        Job(**asked)


def test_calls_and_files_are_checked(tmp_path):
    with pytest.raises(ArgumentError, match="line break"):
        Call("s", "o\n#SBATCH --uid=0")
    with pytest.raises(ArgumentError, match="line break"):
        write_script("batch", tmp_path / "a\nb", Call("s", "o"))
    with pytest.raises(ArgumentError, match="recipe='mpi' is not one of notebook"):
        write_script("mpi", tmp_path / "job", Call("s", "o"))
    write_script("batch", tmp_path / "job", Call("s", "o"))
    with pytest.raises(ExistsError, match="is there already"):
        write_script("batch", tmp_path / "job", Call("s", "o"))
    write_script("array", tmp_path / "job", Call("s", "o"), overwrite=True)
    assert "array" in (tmp_path / "job").read_text()


# --- the command ------------------------------------------------------------------------------


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pertscale", "slurm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_passes_options_on(tmp_path):
    done = command(
        tmp_path,
        "array",
        "s.zarr",
        "--out",
        "o",
        "--script",
        "j.sh",
        "--workers",
        "3",
        "--",
        "--seed",
        "1",
        "--seed",
        "2",
        "--fdr",
        "0.05",
        "--embedding",
        "a b.csv",
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"bash {shlex.quote(str(tmp_path / 'j.sh'))}\n")
    text = (tmp_path / "j.sh").read_text()
    assert "--seed 1 --seed 2 --fdr 0.05 --embedding 'a b.csv' --quiet &" in text  # run
    assert "--fdr 0.05 --quiet --replicates 5 &" in text  # labels
    done = command(
        tmp_path,
        "notebook",
        "s.zarr",
        "--out",
        "o",
        "--script",
        "n.py",
        "--",
        "--seed",
        "1",
        "--include-test-perturbations",
        "--embedding",
        "e.csv",
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "n.py").read_text()
    for argument in (
        "seed=(1,)",
        "exclude_test_perturbations=False",
        f"embedding={str(tmp_path / 'e.csv')!r}",
    ):
        assert f"            {argument},\n" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("mpi", "s", "--out", "o", "--script", "j"), 2, "'mpi' is not one of"),
        (("batch", "s", "--out", "o"), 2, "--script"),
        (("batch", "s", "--out", "o", "--script", "j", "--", "--sed", "1"), 2, "--sed"),
        (("batch", "s", "--out", "o", "--script", "j", "--", "--out", "x"), 2, "--out is for"),
        (("batch", "s", "--out", "o", "--script", "j", "--", "--scheduler", "x"), 2, "--scheduler"),
        (("batch", "s", "--out", "o", "--script", "j", "--", "t.zarr"), 2, "for one store: s t.z"),
        (("batch", "s", "--out", "o", "--script", "j", "--name", "a;b"), 1, "--name 'a;b'"),
        (("batch", "s", "--out", "o", "--script", "j", "--memory", "1MB"), 1, "too little"),
    ],
)
def test_wrong_options_write_nothing(tmp_path, arguments, code, message):
    done = command(tmp_path, *arguments)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# --- inside a job -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "mebibytes"),
    [
        ({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_PER_TASK": "4"}, 8000),
        ({"SLURM_MEM_PER_CPU": "2000"}, 2000),
        ({"SLURM_MEM_PER_NODE": "9000", "SLURM_TASKS_PER_NODE": "3(x2),1"}, 3000),
        ({"SLURM_MEM_PER_NODE": "9000", "SLURM_TASKS_PER_NODE": "1,2"}, 4500),
        ({"SLURM_MEM_PER_NODE": "9000"}, 9000),
    ],
)
def test_memory_of_a_task(environ, mebibytes):
    assert task_memory(environ) == mebibytes * 2**20
    assert 0.8 * mebibytes * 2**20 < worker_memory(environ) < mebibytes * 2**20


def test_a_job_without_memory():
    for environ in ({}, {"SLURM_MEM_PER_NODE": "0"}):
        with pytest.raises(ArgumentError, match="submit it with --mem-per-cpu"):
            worker_memory(environ)


def test_waits_for_workers(capsys):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        assert wait_for_workers(client, 1) == 1
        assert wait_for_workers(client, 2, timeout=0.1) == 1
        assert "going on with 1 of 2 workers" in capsys.readouterr().err
        cluster.scale(0)
        client.retire_workers()
        with pytest.raises(PertscaleError, match="none of 2 workers has come"):
            wait_for_workers(client, 2, timeout=0.1)


def test_waits_for_a_scheduler_file_that_is_whole(tmp_path, monkeypatch):
    """The client of the runner's job looks while the scheduler writes."""
    for name, value in {"PROCID": 1, "NTASKS": 3, "JOB_ID": 7}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        text = json.dumps({"address": cluster.scheduler_address})
        file = tmp_path / "scheduler.json"
        file.write_text(text[:7])
        rest = threading.Timer(0.5, file.write_text, [text])
        rest.start()
        with JobRunner(scheduler_file=str(file)) as runner, Client(runner) as client:
            assert rest.finished.is_set()
            assert client.scheduler.address == cluster.scheduler_address


def test_a_scheduler_that_does_not_come(tmp_path):
    with pytest.raises(PertscaleError, match=r"has not written .*none\.json within 0\.1 s"):
        scheduler_address(tmp_path / "none.json", timeout=0.1)
