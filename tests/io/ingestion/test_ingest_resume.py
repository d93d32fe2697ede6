"""The same bytes on every scheduler, for every memory, and after every kind of interruption."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from pertscale.errors import ExistsError, NotFoundError, UnknownNameError
from pertscale.execution.runner import run
from pertscale.io import ingest
from pertscale.io.ingestion import work_folder as work
from pertscale.io.ingestion.passes import sort_block, write_shards
from pertscale.io.store.layout import CHUNK_ROWS, is_store
from pertscale.screen import open_screen
from tests.support import screens
from tests.support.helpers import tree_hash
from tests.support.processes import run_script
from tests.support.screens import GENES

N_CELLS = 2 * CHUNK_ROWS + 50
MODULE = sys.modules["pertscale.io.ingestion.write"]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """What fits a memory= depends on the number of threads."""
    with dask.config.set(num_workers=2):
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen of three shards, and of several blocks where memory is small."""
    random = np.random.default_rng(0)
    counts = random.poisson(0.8, (N_CELLS, len(GENES)))
    table = {"perturbation": random.choice(["ctrl", "KLF1", "STAT1"], N_CELLS)}
    obs = pd.DataFrame(table, index=[f"c{i}" for i in range(N_CELLS)])
    return screens.WRITERS["h5ad csr"](tmp_path_factory.mktemp("source"), counts, obs)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the store that an undisturbed call writes."""
    store = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    with dask.config.set(scheduler="synchronous"):
        return tree_hash(ingest(source, store, memory="20MB", quiet=True))


# --- schedulers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["40MB", "100MB", "2GB"])
def test_memory_does_not_change_the_bytes(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, memory: str
) -> None:
    assert tree_hash(ingest(source, tmp_path / "a.zarr", memory=memory, quiet=True)) == undisturbed


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_local_schedulers_write_the_same_bytes(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, scheduler: str
) -> None:
    with dask.config.set(scheduler=scheduler):
        store = ingest(source, tmp_path / "a.zarr", memory="40MB", quiet=True)
    assert tree_hash(store) == undisturbed


@pytest.mark.once
@pytest.mark.parametrize("processes", [False, True])
def test_distributed_writes_the_same_bytes(
    source: Path,
    undisturbed: dict[str, str],
    tmp_path: Path,
    processes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        if processes:  # paths are relative to our folder, not to that of the workers
            client.run(os.chdir, "/")
        monkeypatch.chdir(tmp_path)
        shutil.copy(source, "screen.h5ad")
        store = ingest("screen.h5ad", "a.zarr", memory="40MB", client=client, quiet=True)
    assert tree_hash(store) == undisturbed


def test_shards_written_together_are_the_same_bytes(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In large screens a task writes several shards: scratch files are not opened too often."""
    monkeypatch.setattr(work, "_MAX_OPENED", 1)
    calls = Calls(monkeypatch)
    assert tree_hash(ingest(source, tmp_path / "a.zarr", memory="2GB", quiet=True)) == undisturbed
    assert calls.todo["write"] == 1


# --- interruptions --------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
import dask
import pertscale.io.ingestion.write
ingest = sys.modules["pertscale.io.ingestion.write"]
source, store, phase, after = sys.argv[1:]
real = ingest.run

def run(function, descriptors, *, label, **options):
    if label == phase:
        real(function, descriptors[: int(after)], label=label, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(function, descriptors, label=label, **options)

def replace(*_):
    os.kill(os.getpid(), signal.SIGKILL)

ingest.run = run
if phase == "rename":
    ingest.replace = replace
with dask.config.set(scheduler="synchronous"):
    pertscale.io.ingest(source, store, memory="20MB", quiet=True)
"""


def kill_in(phase: str, after: int, source: Path, store: Path) -> None:
    """Ingest in another process that kills itself after some tasks of a phase."""
    dead = run_script(_KILLED, source, store, phase, after)
    assert dead.returncode == -signal.SIGKILL, dead.stderr


class Calls:
    """Counts the tasks that have something to do: their receipt is not there yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> None:
        self.todo = {"read": 0, "write": 0}
        self._stop_after = stop_after
        monkeypatch.setattr(MODULE, "run", self.run)

    def run(self, function: Any, descriptors: Any, *, label: str, **options: Any) -> Any:
        """Run, or run a part of the second pass and then act as Ctrl-C."""
        for task in descriptors:
            receipt = (
                task.target.block_file(task.index)
                if function is sort_block
                else task.target.shard_file(task.first)
            )
            self.todo[label] += not receipt.exists()
        if function is write_shards and self._stop_after is not None:
            run(function, descriptors[: self._stop_after], label=label, **options)
            raise KeyboardInterrupt
        return run(function, descriptors, label=label, **options)


def interrupt(source: Path, store: Path, *, after: int) -> int:
    """Ingest until some shards are written; return the number of blocks that were read."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        calls = Calls(patch, stop_after=after)
        ingest(source, store, memory="40MB", quiet=True)
    assert calls.todo["read"] > 3
    assert calls.todo["write"] == 3
    assert not store.exists()
    assert (store.parent / f".{store.name}.ingest").exists()
    return calls.todo["read"]


@pytest.mark.once
@pytest.mark.parametrize(("phase", "done"), [("read", 0), ("read", 3), ("write", 1), ("rename", 3)])
def test_killed_calls_go_on_where_they_were(
    source: Path,
    undisturbed: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    done: int,
) -> None:
    store = tmp_path / "out.zarr"
    kill_in(phase, done, source, store)
    assert not store.exists()
    assert not is_store(store)
    with pytest.raises(NotFoundError):
        open_screen(store)
    work = tmp_path / ".out.zarr.ingest"
    (work / "store" / "X" / "c" / "0").mkdir(parents=True, exist_ok=True)
    # what a writer that died in the middle of a chunk leaves
    (work / "store" / "X" / "c" / "0" / "0.123.partial").write_bytes(b"half")
    calls = Calls(monkeypatch)
    with dask.config.set(scheduler="synchronous"):
        ingest(source, store, memory="20MB", quiet=True)
    assert tree_hash(store) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
    n_blocks = interrupt(source, tmp_path / "again" / "out.zarr", after=0)
    todo = {"read": {"read": n_blocks - done, "write": 3}, "write": {"read": 0, "write": 2}}
    assert calls.todo == todo.get(phase, {"read": 0, "write": 0})


def test_interrupt_from_the_keyboard(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(source, tmp_path / "out.zarr", after=2)
    calls = Calls(monkeypatch)
    with dask.config.set(scheduler="synchronous"):  # more memory for each task than before
        ingest(source, tmp_path / "out.zarr", memory="100MB", quiet=True)
    assert calls.todo == {"read": 0, "write": 1}
    assert tree_hash(tmp_path / "out.zarr") == undisturbed


def test_a_mistyped_option_does_not_cost_the_work(source: Path, tmp_path: Path) -> None:
    interrupt(source, tmp_path / "out.zarr", after=1)
    before = tree_hash(tmp_path)
    with pytest.raises(UnknownNameError, match="is not a column"):
        ingest(source, tmp_path / "out.zarr", memory="40MB", perturbation="nonsense", quiet=True)
    assert tree_hash(tmp_path) == before


def test_changed_options_start_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(source, tmp_path / "out.zarr", after=2)
    calls = Calls(monkeypatch)
    ingest(source, tmp_path / "out.zarr", dtype="uint32", memory="60MB", quiet=True)
    assert calls.todo["write"] == 3
    assert open_screen(tmp_path / "out.zarr").info["dtype"] == "uint32"


def test_a_changed_source_starts_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copy(source, tmp_path / "screen.h5ad"))
    (tmp_path / "to").mkdir()
    interrupt(copy, tmp_path / "to" / "out.zarr", after=2)
    os.utime(copy, (1, 1))
    calls = Calls(monkeypatch)
    ingest(copy, tmp_path / "to" / "out.zarr", memory="40MB", quiet=True)
    assert calls.todo["write"] == 3


# --- overwriting ----------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ingest(source, tmp_path / "out.zarr", dtype="uint32", quiet=True)
    other = tree_hash(store)
    with pytest.raises(ExistsError, match="overwrite=True"):
        ingest(source, store, quiet=True)
    seen = []

    def watching(function: Any, descriptors: Any, **options: Any) -> Any:
        seen.append(tree_hash(store))
        return run(function, descriptors, **options)

    monkeypatch.setattr(MODULE, "run", watching)
    ingest(source, store, overwrite=True, quiet=True)
    assert seen == [other, other]
    assert tree_hash(store) == undisturbed
    assert is_store(store)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
