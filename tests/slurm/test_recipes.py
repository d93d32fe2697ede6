"""Each recipe, as the command writes it and submitted as it is, on a real SLURM."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.usefixtures("alone"), pytest.mark.once]


def test_notebook(setting):
    script = setting.write("notebook", "--name", "from-python")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=setting.folder,
        env=setting.slurm.env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all_non_de" in done.stdout
    assert len(setting.slurm.jobs("from-python")) >= 2  # SLURM started the workers
    setting.check_labels()


def test_runner(setting):
    job = setting.slurm.wait(setting.slurm.submit(setting.write("runner")))
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert "all_non_de" in job.output
    setting.check_labels()


def test_batch(setting):
    # one task on each node: the workers are not where the scheduler is
    job = setting.slurm.wait(setting.slurm.submit(setting.write("batch"), "--nodes=3"))
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert "all_non_de" in job.output
    setting.check_labels()


def test_array(setting):
    script = setting.write("array", "--workers", "3")
    told = setting.slurm.run("bash", str(script), cwd=setting.folder)
    shares, last = re.fullmatch(
        r"array job (\d+) labels 3 shares, then job (\d+) .*", told
    ).groups()
    job = setting.slurm.wait(last)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    # the shares have done all tiles, and the last job none
    n_tiles = int(re.search(r"rank-sum: (\d+) of \1 tiles are there already", job.output)[1])
    assert n_tiles >= 3
    logs = [setting.folder / f"pertscale-{shares}_{i}.log" for i in (1, 2, 3)]
    assert all("rank-sum" in log.read_text() for log in logs)
    setting.check_labels()
