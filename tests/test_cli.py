"""The commands as a shell runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
from click.testing import CliRunner

import pertscale as ps
from pertscale.cli import main
from tests.support.commands import run_command


def in_a_shell(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "pertscale", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_signal_that_comes_in_a_callback_is_not_lost(monkeypatch):
    """Python discards what is raised there: it is sent again."""

    class Thing:
        pass

    def strike(_):
        os.kill(os.getpid(), signal.SIGUSR1)
        sum(range(1000))

    def work(*_, **__):
        thing = Thing()
        watch = weakref.ref(thing, strike)
        del thing
        time.sleep(20)
        return watch

    monkeypatch.setattr("pertscale.stats.rank_sum", work)
    started = time.monotonic()
    result = CliRunner().invoke(main, ["labels", "s.zarr", "--out", "out"])
    assert result.exit_code == 75
    assert "stopped by SIGUSR1" in result.stderr
    assert time.monotonic() - started < 10


def test_what_can_not_be_shown_is_written_all_the_same(example, tmp_path):
    out = tmp_path / "out"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pertscale", "labels", example.screen.path, "--out", out],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert "all is written, but can't be shown: No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(ps.stats.read_labels(out).genes) == 700


@pytest.mark.once
def test_from_file_to_report(tmp_path):
    def ok(*arguments):
        done = in_a_shell(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    ok(
        "simulate",
        "s.h5ad",
        "--cells",
        2000,
        "--genes",
        200,
        "--perturbations",
        12,
        "--embedding",
        "e.parquet",
        "--quiet",
    )
    account = ok("check", "s.h5ad").stdout
    assert "perturbation: column 'perturbation'" in account
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.parquet", "s.h5ad"]
    ingested = ok("ingest", "s.h5ad", "s.zarr")
    assert "kept: 2,000 cells" in ingested.stderr
    assert ps.open_screen(tmp_path / "s.zarr").n_cells == 2000
    assert "LabelTable" in ok("labels", "s.zarr", "--test", "scanpy", "--quiet").stdout
    shown = ok(
        "run",
        "s.zarr",
        "--embedding",
        "e.parquet",
        "--out",
        "runs/s",
        "--seed",
        1,
        "--seed",
        2,
        "--method",
        "knn_10",
        "--task",
        "within",
        "--quiet",
    ).stdout
    assert "full_without_target, means of 2 splits" in shown
    assert "fewer than 5 perturbations are too few to compare methods" in shown
    report = tmp_path / "runs" / "s" / "report.html"
    report.unlink()
    ok("report", "runs/s", "--store", "s.zarr")
    assert report.exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ingest", "no.h5ad", "x.zarr"), 1, "no file or folder"),
        (("check", "empty.csv"), 1, "empty.csv"),
        (("run", "no.zarr"), 1, "no store or file no.zarr"),
        (("labels", "."), 1, "not a screen store"),
        (("report", "."), 1, "no finished benchmark"),
        (("run", "no.zarr", "--method", "knn_cw"), 1, "did you mean 'knn_cv'"),
        (("run", "no.zarr", "--min-knockdown", "30"), 1, "--min-knockdown 30.0 is the share"),
        (("ingest", "no.h5ad"), 2, "Missing argument"),
        (("labels", "x", "--test", "t"), 2, "'t' is not one of"),
        (("simulate", "x.h5ad", "--perturbations", "90", "--genes", "30"), 1, "n_perturbations"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, code, message):
    (tmp_path / "empty.csv").touch()
    run = in_a_shell if arguments[0] == "report" or code == 2 else run_command
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["empty.csv"]


@pytest.mark.parametrize(
    "command", ["check", "ingest", "labels", "run", "report", "models", "slurm", "simulate", "demo"]
)
def test_help(tmp_path, command):
    shown = run_command(command, "--help", cwd=tmp_path).stdout
    assert "Usage: " in shown
    overview = run_command("--help", cwd=tmp_path).stdout
    assert command in overview
    assert "\\b" not in overview + shown  # a mark for click that it did not see
