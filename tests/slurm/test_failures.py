"""What goes wrong on a cluster while a run is in its middle; all end with the same bytes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import pytest

from tests.slurm.conftest import MANY_TILES
from tests.slurm.local_slurm import Job, wait_until

pytestmark = [pytest.mark.usefixtures("alone"), pytest.mark.once]


def already_there(job: Job) -> int:
    """How many tiles a run did not do again; fewer than there are."""
    found = re.findall(r"rank-sum: (\d+) of (\d+) tiles are there already", job.output)
    assert found, job.output
    done, tiles = map(int, found[-1])
    assert done < tiles
    return done


def test_a_worker_is_cancelled(setting):
    script = setting.write("notebook", "--name", "lost", run=MANY_TILES)
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=setting.folder,
        env=setting.slurm.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        setting.wait_for_middle()
        worker = setting.slurm.jobs("lost")[0]
        setting.slurm.run("scancel", worker)
        assert setting.slurm.wait(worker).state == "CANCELLED"
        setting.check_middle()
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    setting.check_labels()


def test_a_node_goes_down(setting):
    """The one with the batch script, the scheduler and the client on it."""
    script = setting.write("batch", run=MANY_TILES)
    number = setting.slurm.submit(script, "--nodes=3")
    setting.wait_for_middle()
    lost = next(
        node for node in setting.slurm.nodes if node != setting.slurm.job(number).batch_host
    )
    setting.slurm.run("scontrol", "update", f"nodename={lost}", "state=down", "reason=test")
    wait_until(lambda: setting.slurm.job(number).restarts == 1, "queued again", timeout=60)
    setting.check_middle()
    # --nodes=3 was this test's; two are left
    setting.slurm.run("scontrol", "update", f"jobid={number}", "numnodes=2")
    job = setting.slurm.wait(number)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert already_there(job) > 0
    setting.check_labels()


def test_its_time_is_over(setting):
    script = setting.write("batch", "--time", "60", run=MANY_TILES)
    started = time.monotonic()
    number = setting.slurm.submit(script)
    setting.wait_for_middle()
    # SLURM looks every 30 s whose time is over: until then the workers stand still
    setting.slurm.run("scancel", "--signal=STOP", f"{number}.0")
    minutes = 2 + int(time.monotonic() - started) // 60  # of which one to two are left
    setting.slurm.run("scontrol", "update", f"jobid={number}", f"timelimit={minutes}")
    job = setting.slurm.wait(number)
    setting.check_middle()
    assert (job.state, job.exit_code) == ("FAILED", "75:0"), job.output
    assert "stopped by SIGUSR1; the same command goes on where it was" in job.output
    again = re.search(r"the job's time is over; this goes on where it was:\n  (.*)", job.output)
    assert shlex.split(again[1]) == ["sbatch", str(script)]
    job = setting.slurm.wait(setting.slurm.submit(script))
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert already_there(job) > 0
    setting.check_labels()


def test_it_queues_itself_again(setting):
    script = setting.write("runner", "--resubmit", "1", run=MANY_TILES)
    number = setting.slurm.submit(script)
    setting.wait_for_middle()
    setting.slurm.run("scancel", "--batch", "--signal=USR1", number)  # as at the end of its time
    wait_until(lambda: setting.slurm.job(number).restarts == 1, "queued again", timeout=60)
    setting.check_middle()
    job = setting.slurm.wait(number)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert already_there(job) > 0
    setting.check_labels()


def test_a_share_is_cancelled(setting):
    script = setting.write("array", run=MANY_TILES)
    told = setting.slurm.run("bash", str(script), cwd=setting.folder)
    shares, last = re.findall(r"job (\d+)", told)
    setting.wait_for_middle()
    setting.slurm.run("scancel", f"{shares}_2")
    setting.check_middle()
    job = setting.slurm.wait(last)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    done, tiles = re.search(
        r"rank-sum: (\d+) of (\d+) tiles are there already", job.output
    ).groups()
    assert int(done) < int(tiles)
    setting.check_labels()
