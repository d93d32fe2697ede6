"""Each recipe, as the command writes it and submitted as it is, on a real SLURM.

Something goes wrong while each run is in its middle; all end with the same bytes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import pytest

from tests.slurm.local_slurm import Job, wait_until

pytestmark = [pytest.mark.usefixtures("alone"), pytest.mark.once]


def already_there(job: Job) -> tuple[int, int]:
    """How many tiles a run did not do again, which are not all, and how many there are."""
    found = re.findall(r"rank-sum: (\d+) of (\d+) tiles are there already", job.output)
    assert found, job.output
    done, tiles = map(int, found[-1])
    assert 0 < done < tiles
    return done, tiles


def test_notebook_and_a_worker_is_cancelled(setting):
    script = setting.write("notebook", "--name", "lost")
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=setting.folder,
        env=setting.slurm.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        setting.wait_for_middle()
        worker, *others = setting.slurm.jobs("lost")
        assert others  # SLURM started the workers
        setting.slurm.run("scancel", worker)
        assert setting.slurm.wait(worker).state == "CANCELLED"
        setting.check_middle()
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    setting.check_finished(output)


def test_batch_and_a_node_goes_down_and_its_time_is_over(setting):
    """One task on each node, so that the workers are not where the scheduler is."""
    script = setting.write("batch", "--time", "60")
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
    before = setting.n_tiles()
    wait_until(lambda: setting.slurm.job(number).state == "RUNNING", "it runs again", timeout=60)
    started = time.monotonic()
    wait_until(lambda: setting.n_tiles() > before, "more tiles are done", timeout=180)
    # SLURM looks every 30 s whose time is over: until then the workers stand still
    setting.slurm.run("scancel", "--signal=STOP", f"{number}.0")
    minutes = 2 + int(time.monotonic() - started) // 60  # of which one to two are left
    setting.slurm.run("scontrol", "update", f"jobid={number}", f"timelimit={minutes}")
    job = setting.slurm.wait(number)
    setting.check_middle()
    assert (job.state, job.exit_code) == ("FAILED", "75:0"), job.output
    assert already_there(job)
    assert "stopped by SIGUSR1; the same command goes on where it was" in job.output
    again = re.search(r"the job's time is over; this goes on where it was:\n  (.*)", job.output)
    assert shlex.split(again[1]) == ["sbatch", str(script)]
    job = setting.slurm.wait(setting.slurm.submit(script))
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert already_there(job)[0] > before
    setting.check_finished(job.output)


def test_runner_and_it_queues_itself_again(setting):
    script = setting.write("runner", "--resubmit", "1")
    number = setting.slurm.submit(script)
    setting.wait_for_middle()
    setting.slurm.run("scancel", "--batch", "--signal=USR1", number)  # as at the end of its time
    wait_until(lambda: setting.slurm.job(number).restarts == 1, "queued again", timeout=60)
    setting.check_middle()
    job = setting.slurm.wait(number)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    assert already_there(job)
    setting.check_finished(job.output)


def test_array_and_a_share_is_cancelled(setting):
    script = setting.write("array", "--workers", "3")
    told = setting.slurm.run("bash", str(script), cwd=setting.folder)
    shares, last = re.fullmatch(
        r"array job (\d+) labels 3 shares, then job (\d+) .*", told
    ).groups()
    setting.wait_for_middle()
    setting.slurm.run("scancel", f"{shares}_2")
    setting.check_middle()
    job = setting.slurm.wait(last)
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0"), job.output
    # the other shares have done all of theirs, and the last job what is missing of the second
    done, tiles = already_there(job)
    assert done >= tiles - len(range(1, tiles, 3))
    logs = [setting.folder / f"pertscale-{shares}_{i}.log" for i in (1, 3)]
    assert all("rank-sum" in log.read_text() for log in logs)
    setting.check_finished(job.output)
