"""Runs in which a random worker or the client is killed, again and again.

Every run, made again until it ends, has to end with the bytes of an undisturbed one. A few runs in
CI; ``PERTSCALE_CHAOS_RUNS=50`` for more. The blows of run i are drawn with seed i.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

import pertscale as ps
from pertscale.benchmark.units import running
from pertscale.diagnostics.events import recording
from pertscale.execution.clients import TIMEOUT_SETTING
from tests.support.helpers import stable_hash, tree_hash

pytestmark = pytest.mark.once

N_RUNS = int(os.environ.get("PERTSCALE_CHAOS_RUNS", "2"))
#: Chance of a blow after a finished task.
BLOW = 0.15
#: A run has to end after this many blows on its client.
MOST_TRIES = 40

#: How tests start processes: from one that has imported what they need.
_FORK = multiprocessing.get_context("forkserver")


#: What is fitted and scored: few methods, of all kinds.
ASKED = {
    "tasks": ["within", "single"],
    "settings": ["full"],
    "methods": ["majority_vote", "knn_1", "linear", "mean"],
    "seed": [0, 1],
    "quiet": True,
}


def everything(source, folder, address, memory, errors, done: Connection) -> None:
    """What the client does; tell of each task that is done, which is when blows fall."""
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), sys.stderr.fileno())
    store = folder / "screen.zarr"
    with (
        dask.config.set({TIMEOUT_SETTING: "60s"}),
        recording(lambda event: done.send(event.kind)),
    ):
        if not store.exists():
            ps.io.ingest(source, store, memory="60MB", client=address, quiet=True)
        out = folder / "out"
        ps.stats.rank_sum(store, out=out, memory=memory, client=address, quiet=True)
        running.LOCAL_PAIRS = 0  # units are tasks of the workers, few as they are
        ps.run_benchmark(store, out=out, client=address, **ASKED)


def kept(folder: Path) -> list[dict[str, str]]:
    """Hashes of what a run leaves: the store, and what does not tell of its course."""
    return [tree_hash(folder / "screen.zarr"), stable_hash(folder / "out")]


def differences(found: list[dict[str, str]], expected: list[dict[str, str]]) -> set[str]:
    """Names of the files that differ, or that only one of the two has."""
    items = [set(hashes.items()) for hashes in (*found, *expected)]
    pairs = zip(items[: len(found)], items[len(found) :], strict=True)
    return {name for one, other in pairs for name, _ in one ^ other}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("chaos") / "screen.h5ad"
    ps.simulate_screen(file, n_cells=12_000, n_genes=1_100, n_perturbations=40, quiet=True)
    return file


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ps.io.ingest(source, folder / "screen.zarr", quiet=True)
    ps.run_benchmark(folder / "screen.zarr", out=folder / "out", **ASKED)
    return kept(folder)


def known(cluster) -> set[str]:
    """Addresses of the workers that the scheduler has."""
    return set(cluster.scheduler.workers)


def tasks_done(receiver: Connection) -> Iterator[str]:
    """Tell when the client has done a task, until it ends."""
    with contextlib.suppress(EOFError):
        while True:
            yield receiver.recv()


def run_once(arguments, errors, cluster, draw, blows) -> int | None:
    """Start a client and strike while it works; return its exit code, None if it was struck."""
    receiver, sender = _FORK.Pipe(duplex=False)
    client = _FORK.Process(target=everything, args=(*arguments, errors, sender))
    client.start()
    sender.close()
    struck = False
    for _ in tasks_done(receiver):
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
    client.join()
    receiver.close()
    return None if struck else client.exitcode


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
            different = differences(kept(folder), undisturbed)
            assert not different, f"run {seed}, memory {memory}: {different}"
    print(f"{N_RUNS} runs, {blows}")
    assert min(blows.values()) >= N_RUNS // 4
