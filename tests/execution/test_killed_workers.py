"""Runs in which a random worker or the client is killed, again and again.

Every run, made again until it ends, has to end with the bytes of an undisturbed one. A few runs in
CI; ``PERTSCALE_CHAOS_RUNS=50`` for more. The blows of run i are drawn with seed i.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

import pertscale as ps
from tests.support.helpers import tree_hash

pytestmark = pytest.mark.once

N_RUNS = int(os.environ.get("PERTSCALE_CHAOS_RUNS", "2"))
#: Chance of a blow after a finished task.
BLOW = 0.15
#: A run has to end after this many blows on its client.
MOST_TRIES = 40

#: Ingest and label; a line for each task that is done, which is when blows fall.
CLIENT = """
import sys
from pertscale.diagnostics.events import recording
from pertscale.io import ingest
from pertscale.stats import rank_sum
from pathlib import Path

source, folder, address, memory = sys.argv[1:]
store = Path(folder, "screen.zarr")
with recording(lambda event: print(event.kind, flush=True)):
    if not store.exists():
        ingest(source, store, memory="60MB", client=address, quiet=True)
    rank_sum(store, out=Path(folder, "out"), memory=memory, client=address, quiet=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("chaos") / "screen.h5ad"
    ps.simulate_screen(file, n_cells=12_000, n_genes=1_100, n_perturbations=40, quiet=True)
    return file


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ps.io.ingest(source, folder / "screen.zarr", quiet=True)
    ps.stats.rank_sum(folder / "screen.zarr", out=folder / "out", quiet=True)
    return tree_hash(folder)


def known(cluster) -> set[str]:
    """Addresses of the workers that the scheduler has."""
    return set(cluster.scheduler.workers)


def run_once(arguments, said, cluster, draw, blows) -> int | None:
    """Start a client and strike while it works; return its exit code, None if it was struck."""
    command = [sys.executable, "-c", CLIENT, *map(str, arguments)]
    with said.open("w") as errors:
        client = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"DASK_PERTSCALE__WORKER_TIMEOUT": "60s"},
        )
    assert client.stdout is not None
    struck = False
    for _ in client.stdout:  # a task is done
        if draw.random() < BLOW:
            struck = draw.random() < 0.5
            if struck:
                client.kill()
                blows["client"] += 1
                break
            # one that is being started again is left alone: its nanny would give up
            alive = [n for n in cluster.workers.values() if n.worker_address in known(cluster)]
            if alive:
                os.kill(draw.choice(alive).pid, signal.SIGKILL)
                blows["worker"] += 1
    code = client.wait()
    client.stdout.close()
    return None if struck else code


def test_chaos(source, undisturbed, tmp_path):
    blows = {"worker": 0, "client": 0}
    # else a worker that is struck twice, and late to come back, is given up by its cluster
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with patient, LocalCluster(**settings) as cluster:
        for seed in range(N_RUNS):
            draw = random.Random(seed)
            folder = tmp_path / str(seed)
            memory = draw.choice(["15MB", "25MB", "60MB"])
            arguments = (source, folder, cluster.scheduler_address, memory)
            said = tmp_path / f"{seed}.txt"
            codes: list[int | None] = [None]
            while codes[-1] is None:
                assert len(codes) < MOST_TRIES, f"run {seed} does not end"
                codes.append(run_once(arguments, said, cluster, draw, blows))
            assert codes[-1] == 0, f"run {seed}: {codes}\n{said.read_text()}"
            found = {k: v for k, v in tree_hash(folder).items() if Path(k).name != ".lock"}
            assert found == undisturbed, f"run {seed}, memory {memory}"
    print(f"{N_RUNS} runs, {blows}")
    assert min(blows.values()) >= N_RUNS // 4
