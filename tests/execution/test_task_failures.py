"""What breaks in the middle: it ends with the right bytes, or says which tile, why, and what to do.

The blows are real: damaged files, full disks, processes that are killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
import scipy.sparse as sp
from distributed import Client, LocalCluster
from distributed.core import Status

from pertscale.diagnostics.events import TaskDone, recording
from pertscale.errors import (
    ArgumentError,
    ClusterError,
    CorruptFileError,
    InputError,
    LockedError,
    MemoryBudgetError,
    NotFoundError,
    PertscaleError,
    StorageError,
    TaskError,
)
from pertscale.execution import clients
from pertscale.execution.clients import use_client
from pertscale.execution.runner import MOST_FAILED, TRIES, run
from pertscale.io import ingest
from pertscale.io.store import layout as store_module
from pertscale.stats import rank_sum, rank_sum_share, read_labels
from pertscale.stats.differential import rank_sum as ranksum
from tests.support import screens
from tests.support.helpers import tree_hash
from tests.support.processes import Script

pytestmark = pytest.mark.once

#: Tiles small enough that the example has a dozen.
SMALL = {"memory": "12MB", "quiet": True}


@pytest.fixture(scope="module")
def undisturbed(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    rank_sum(example.screen, out=folder, quiet=True)
    return tree_hash(folder)


@pytest.fixture
def events():
    """Tasks that are told to logs."""
    found = []
    with recording(found.append):
        yield found


@contextmanager
def cluster(**options):
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, **options}
    with LocalCluster(**settings) as found, Client(found, set_as_default=False) as client:
        yield client


# --- a tile that always fails -----------------------------------------------------------------


@pytest.fixture
def damaged(example, tmp_path):
    """A copy of the example with a chunk that can't be decoded, and how to mend it."""
    store = tmp_path / "damaged.zarr"
    shutil.copytree(example.screen.path, store)
    chunk = max(p for p in (store / "X" / "c").rglob("*") if p.is_file())
    good = chunk.read_bytes()
    chunk.write_bytes(good[: len(good) // 2])
    return store, lambda: chunk.write_bytes(good)


@pytest.mark.parametrize("distributed", [False, True])
def test_a_poison_tile_is_reported_and_takes_nothing_down(
    damaged, undisturbed, tmp_path, events, distributed
):
    store, mend = damaged
    out = tmp_path / "out"

    def go(client=None):
        with pytest.raises(CorruptFileError, match="can't be decoded") as caught:
            rank_sum(store, out=out, client=client, **SMALL)
        return str(caught.value)

    if distributed:
        with cluster(processes=False) as client:
            said = go(client)
    else:
        said = go()
    assert "the same call does only what is missing" in said
    assert "perturbations: G" in said
    assert "genes 512 to" in said
    failed = [event for event in events if event.error is not None]
    done = [event for event in events if event.error is None]
    assert {event.n_tries for event in failed} == {TRIES}
    assert done
    assert len(list(out.rglob("*.bin"))) == len(done)

    mend()
    events.clear()
    rank_sum(store, out=out, memory="100MB", quiet=True)  # the plan of tiles stays
    again = {event.unit for event in events if event.stage == "rank-sum"}
    assert again == {event.unit for event in failed}
    assert tree_hash(out) == undisturbed


def test_a_store_that_is_replaced(example, undisturbed, tmp_path, events):
    """The run ends, and what it has read of the first store is good for no other one."""
    store, aside = tmp_path / "s.zarr", tmp_path / "aside.zarr"
    shutil.copytree(example.screen.path, store)
    source = screens.h5ad(sp.csr_matrix)(tmp_path, screens.draw(), screens.draw_obs())
    other = ingest(source, tmp_path / "other.zarr", quiet=True)

    def swap(event):
        if other.exists():
            store.rename(aside)
            other.rename(store)

    with (
        recording(swap),
        dask.config.set(scheduler="threads", num_workers=1),
        pytest.raises(InputError, match=r"s\.zarr was replaced by another screen while it was"),
    ):
        rank_sum(store, out=tmp_path / "out", **SMALL)
    assert not (tmp_path / "out" / "labels").exists()
    done = [event for event in events if event.stage == "rank-sum" and event.error is None]
    assert len(done) == 1

    shutil.rmtree(store)
    aside.rename(store)
    rank_sum(store, out=tmp_path / "out", **SMALL)
    assert tree_hash(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("sharded", [False, True])
def test_a_store_with_a_lost_or_exchanged_chunk(example, tmp_path, monkeypatch, sharded):
    """As after a copy that was not whole: no zeros instead, and nothing of it is kept."""
    store = tmp_path / "s.zarr"
    if sharded:
        monkeypatch.setattr(store_module, "MAX_FILES", 1)
    ingest(example.source, store, quiet=True)
    want = tmp_path / "want"
    rank_sum(store, out=want, quiet=True)
    first, *_, last = sorted(p for p in (store / "X" / "c").rglob("*") if p.is_file())
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(CorruptFileError, match=r"X/c/0/0: this chunk of the matrix is missing"):
        rank_sum(store, out=tmp_path / "out", **SMALL)
    shutil.copy(last, first)
    with pytest.raises(CorruptFileError, match="does not hold the cells that were ingested"):
        rank_sum(store, out=tmp_path / "out", **SMALL)
    first.write_bytes(content)
    rank_sum(store, out=tmp_path / "out", **SMALL)
    assert tree_hash(tmp_path / "out") == tree_hash(want)


def test_killed_while_other_tables_are_put_in_place(example, undisturbed, tmp_path, monkeypatch):
    """Never labels of one run beside a pseudobulk of another."""
    out = tmp_path / "out"
    rank_sum(example.screen, out=out, quiet=True)
    put = ranksum.replace

    def die(source, final):
        if final.name == "labels":
            raise KeyboardInterrupt
        put(source, final)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ranksum, "replace", die)
        rank_sum(example.screen, out=out, min_cells=100, quiet=True)
    with pytest.raises(NotFoundError):
        read_labels(out)
    rank_sum(example.screen, out=out, quiet=True)
    assert tree_hash(out) == undisturbed
    shutil.rmtree(out / "pseudobulk.zarr")
    rank_sum(example.screen, out=out, quiet=True)
    assert tree_hash(out) == undisturbed


def test_a_piece_that_lost_its_end_is_made_again(example, undisturbed, tmp_path, monkeypatch):
    """As after the end of a machine whose disk has not kept its promise."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ranksum, "make_parts", stop)
        rank_sum(example.screen, out=tmp_path, **SMALL)
    first, second, *_ = sorted(tmp_path.rglob("*.bin"))
    os.truncate(first, 100)
    os.truncate(second, 0)
    rank_sum(example.screen, out=tmp_path, **SMALL)
    assert tree_hash(tmp_path) == undisturbed


def odd_fails(x):
    if x % 2:
        raise ValueError("odd")
    return x


def test_when_everything_fails_the_rest_is_not_tried(events):
    with pytest.raises(TaskError, match="20 of 200 tasks failed, the rest was not") as caught:
        run(odd_fails, range(200), label="odd", quiet=True)
    assert "… and 10 more" in str(caught.value)
    assert len([event for event in events if event.error]) == MOST_FAILED
    assert "odd_fails" in caught.value.__cause__.__notes__[0]  # the trace of the task


class Awkward(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def raises_what_cannot_travel(x):
    raise Awkward(x, lambda: x)


def test_an_error_that_cannot_be_pickled_is_told(tmp_path):
    with cluster(n_workers=1) as client, pytest.raises(TaskError, match="Awkward: 1 and"):
        run(raises_what_cannot_travel, [1], label="awkward", client=client, quiet=True)


def passes_the_third_time(path):
    with path.open("a") as file:
        file.write("x")
    if path.stat().st_size < 3:
        raise OSError("the server was away")
    return "done"


def test_what_may_pass_is_tried_again(tmp_path, events):
    file = tmp_path / "tries"
    assert run(passes_the_third_time, [file], label="tries", quiet=True) == ["done"]
    assert events[0].n_tries == 3


# --- workers ----------------------------------------------------------------------------------


def dies_on_three(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def takes_a_gigabyte_on_three(x):
    held = []
    for _ in range(20 if x == 3 else 0):
        held.append(np.ones(50_000_000, np.uint8))
        time.sleep(0.1)
    time.sleep(1.0 if held else 0.0)
    return x


@pytest.mark.parametrize("function", [dies_on_three, takes_a_gigabyte_on_three])
def test_a_task_that_kills_its_worker(function, events):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster(n_workers=1, memory_limit="600MB") as client,
        pytest.raises(TaskError, match=r"1 of 6 tasks failed(?s:.)*3: its workers died(?s:.)*mem"),
    ):
        run(function, range(6), label="dies", client=client, quiet=True)
    done = sorted(event.unit for event in events if event.error is None)
    assert done == ["0", "1", "2", "4", "5"]


def dies_once_on_two(x):
    number, marker = x
    if number == 2 and not marker.exists():
        marker.touch()
        time.sleep(1.0)  # for the news of the task before
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_result_lost_with_its_worker_before_it_was_fetched(tmp_path):
    """It was done, and told so; it runs again."""
    with cluster(n_workers=1) as client:
        [pid] = client.run(os.getpid).values()
        tasks = [(number, tmp_path / "died") for number in range(4)]
        held = []

        def hold(event):
            if isinstance(event, TaskDone) and not held:  # until the result that comes next is lost
                end = time.monotonic() + 30
                while not held and time.monotonic() < end:
                    held.extend(
                        key
                        for key, state in list(client.futures.items())
                        if state.status == "lost" and key.endswith("-1")
                    )
                    time.sleep(0.01)

        with recording(hold):
            assert run(dies_once_on_two, tasks, label="lost", client=client, quiet=True) == [
                0,
                1,
                2,
                3,
            ]
        assert held
        assert pid not in client.run(os.getpid).values()


def test_a_worker_killed_in_the_middle(example, undisturbed, tmp_path):
    """The others do its tiles."""
    with cluster() as client:
        pids = list(client.run(os.getpid).values())
        killed = []

        def kill(event):
            if isinstance(event, TaskDone) and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        with recording(kill):
            rank_sum(example.screen, out=tmp_path, client=client, **SMALL)
    assert killed
    assert tree_hash(tmp_path) == undisturbed


def test_tiles_follow_the_limit_of_workers(example, tmp_path):
    with (
        cluster(n_workers=1, memory_limit="1GB") as client,
        pytest.raises(MemoryBudgetError, match=r"limit of a worker is .*pass memory='\d+MB'"),
    ):
        rank_sum(example.screen, out=tmp_path, memory="4GB", client=client, quiet=True)


# --- the cluster ------------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler as a process of its own; it is ended after the test."""
    file = tmp_path / "scheduler.json"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dask",
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            file,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.1)
    yield process, str(file)
    process.kill()
    process.wait()


@contextmanager
def worker(file, folder, **environment):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dask",
            "worker",
            "--scheduler-file",
            file,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--no-nanny",
            "--local-directory",
            folder,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_no_worker_comes(scheduler, capsys):
    with (
        dask.config.set({"pertscale.worker-timeout": "1s"}),
        pytest.raises(ClusterError, match=r"no worker for 1 s; .*squeue.*pertscale\.worker-"),
        use_client(scheduler[1]),
    ):
        pass
    assert "waiting up to 1 s for a worker at tcp://" in capsys.readouterr().err


def test_a_worker_that_comes_late(scheduler, tmp_path, example, undisturbed):
    ended = threading.Event()

    def come_late():
        time.sleep(1.0)
        with worker(scheduler[1], str(tmp_path)):
            ended.wait()

    thread = threading.Thread(target=come_late)
    thread.start()
    try:
        rank_sum(example.screen, out=tmp_path / "out", client=scheduler[1], **SMALL)
    finally:
        ended.set()
        thread.join()
    assert tree_hash(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("content", ["", '{"address": "tcp', "{}", "[]", '{"address": 3}'])
def test_a_scheduler_file_that_is_none(tmp_path, monkeypatch, content):
    monkeypatch.setattr(clients, "_LOOKS", 1)
    file = tmp_path / "scheduler.json"
    file.write_text(content)
    with pytest.raises(ArgumentError, match="not a scheduler file"), use_client(str(file)):
        pass


def test_a_client_that_is_closed_meanwhile():
    with (
        cluster(processes=False) as client,
        recording(lambda event: client.close()),
        pytest.raises(ClusterError, match="the client was closed while"),
    ):
        run(slow, range(50), label="slow", client=client, quiet=True)


def test_other_versions_are_named(scheduler, tmp_path):
    other = tmp_path / "site" / "pertscale-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pertscale\nVersion: 9.9\n")
    with (
        worker(scheduler[1], str(tmp_path), PYTHONPATH=str(other.parent)),
        pytest.raises(ClusterError, match=r"same environment:\n  tcp://.*: pertscale 9\.9 \(here"),
        use_client(scheduler[1], quiet=True),
    ):
        pass


def test_other_versions_of_a_worker_that_comes_later(scheduler, tmp_path):
    other = tmp_path / "site" / "pertscale-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pertscale\nVersion: 9.9\n")
    with ExitStack() as stack:

        def come(event):
            if not come.called:
                come.called = True
                late = worker(scheduler[1], str(tmp_path), PYTHONPATH=str(other.parent))
                stack.enter_context(late)

        come.called = False
        with (
            worker(scheduler[1], str(tmp_path)),
            recording(come),
            use_client(scheduler[1], quiet=True) as client,
            pytest.raises(ClusterError, match=r"pertscale 9\.9 \(here"),
        ):
            run(slow, range(100), label="slow", client=client, quiet=True)


def pause(dask_worker):
    dask_worker.status = Status.paused


def test_all_workers_are_paused():
    settings = {"distributed.worker.memory.pause": False, "pertscale.worker-timeout": "1s"}
    with dask.config.set(settings), cluster(processes=False) as client:
        client.run(pause)
        with pytest.raises(ClusterError, match=r"all 2 workers .* paused for 1 s.*tasks: 0; 1"):
            run(slow, range(5), label="slow", client=client, quiet=True)


def slow(x):
    time.sleep(0.2)
    return x


def test_the_scheduler_is_killed(scheduler, tmp_path):
    process, file = scheduler

    def kill(event):
        process.send_signal(signal.SIGKILL)

    with (
        # how long the client tries to come back
        dask.config.set({"distributed.comm.timeouts.connect": "8s"}),
        worker(file, str(tmp_path)),
        recording(kill),
        pytest.raises(ClusterError, match=r"is gone(?s:.)*the same call goes on"),
        use_client(file, quiet=True) as client,
    ):
        run(slow, range(50), label="slow", client=client, quiet=True)


def test_an_adaptive_cluster_without_workers(example, undisturbed, tmp_path):
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None) as found,
        Client(found, set_as_default=False) as client,
    ):
        found.adapt(minimum=0, maximum=2, interval="200ms")
        rank_sum(example.screen, out=tmp_path, client=client, **SMALL)
    assert tree_hash(tmp_path) == undisturbed


def from_a_task(store, out):
    rank_sum(store, out=out, **SMALL)
    return os.getpid()


def test_inside_a_task_on_the_only_thread(example, undisturbed, tmp_path):
    with cluster(n_workers=1) as client:
        found = client.submit(from_a_task, example.screen.path, str(tmp_path)).result(timeout=120)
    assert found != os.getpid()
    assert tree_hash(tmp_path) == undisturbed


@pytest.mark.parametrize(("n_workers", "threads"), [(1, 2), (4, 1)])
def test_the_same_bytes_for_all_workers_threads_and_tiles(
    example, undisturbed, tmp_path, n_workers, threads
):
    with cluster(n_workers=n_workers, threads_per_worker=threads) as client:
        for memory in ("12MB", "30MB", "100MB", "1GB"):
            out = tmp_path / memory
            rank_sum(example.screen, out=out, memory=memory, client=client, quiet=True)
            assert tree_hash(out) == undisturbed


# --- disks ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of a few MB; read-only on request."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size="4m", options="rw"):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", place], check=True
        )
        return place

    yield mount
    subprocess.run(["umount", "-l", place], check=True)


def remount(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def test_the_disk_is_full(example, undisturbed, small_disk):
    place = small_disk("1m")
    with pytest.raises(StorageError, match=r"No space left .*make room.*goes on"):
        rank_sum(example.screen, out=place / "out", **SMALL)
    assert not (place / "out" / "labels").exists()
    assert not list(place.rglob("*.tmp"))
    remount(place, "size=50m")
    rank_sum(example.screen, out=place / "out", **SMALL)
    assert tree_hash(place / "out") == undisturbed


def test_the_disk_is_full_while_ingesting(example, small_disk):
    place = small_disk("1m")
    with pytest.raises(StorageError, match="No space left"):
        ingest(example.source, place / "out.zarr", quiet=True)
    assert not (place / "out.zarr").exists()
    remount(place, "size=50m")
    ingest(example.source, place / "out.zarr", quiet=True)
    assert tree_hash(place / "out.zarr") == tree_hash(Path(example.screen.path))


def test_the_disk_is_read_only(example, small_disk):
    place = small_disk(options="ro")
    with pytest.raises(StorageError, match=r"can't write to .*: Read-only file system; write to"):
        rank_sum(example.screen, out=place / "out", quiet=True)


# --- shares -----------------------------------------------------------------------------------


def test_shares_in_processes_of_their_own(example, undisturbed, tmp_path, events):
    program = (
        "import sys, dask\nfrom pertscale.stats import rank_sum_share\n"
        "dask.config.set(num_workers=1)\n"
        "rank_sum_share(sys.argv[1], out=sys.argv[2], share=sys.argv[3], memory='12MB', quiet=True)"
    )
    shares = [Script(program, example.screen.path, tmp_path, f"{i}/3") for i in (1, 2, 3)]
    assert [share.wait().returncode for share in shares] == [0, 0, 0]
    rank_sum(example.screen, out=tmp_path, memory="200MB", quiet=True)
    assert not [event for event in events if event.stage == "rank-sum"]  # nothing was left to do
    assert tree_hash(tmp_path) == undisturbed
    assert rank_sum_share(example.screen, out=tmp_path, share="2/3", quiet=True) == 0


def test_shares_that_are_none(example, tmp_path):
    for wrong in ("3", "0/3", "4/3", "a/b", "1/3/5", "/"):
        with pytest.raises(PertscaleError, match="the third of ten is '3/10'"):
            rank_sum_share(example.screen, out=tmp_path, share=wrong)


def test_a_share_with_less_memory_than_the_plan(example, tmp_path):
    rank_sum_share(example.screen, out=tmp_path, share="1/3", memory="200MB", quiet=True)
    with pytest.raises(MemoryBudgetError, match="give all shares the same memory"):
        rank_sum_share(example.screen, out=tmp_path, share="2/3", memory="8MB", quiet=True)


def test_two_runs_at_once(example, undisturbed, tmp_path):
    """One of the two is refused, the other one is not disturbed."""
    program = (
        "import sys\nfrom pertscale.cli import main\n"
        "main(['labels', sys.argv[1], '--out', sys.argv[2], '--memory', '12MB', '--quiet'])"
    )
    both = [Script(program, example.screen.path, tmp_path) for _ in range(2)]
    ended = [script.wait() for script in both]
    said = [one.stderr for one in ended]
    codes = sorted(one.returncode for one in ended)
    assert codes in ([0, 1], [0, 0]), said  # 0, 0: the second one came when all was done
    if codes == [0, 1]:
        assert "another run works in" in "".join(said)
    assert tree_hash(tmp_path) == undisturbed


def test_a_folder_in_use_is_refused_for_all(example, tmp_path):
    from pertscale.storage.lock import locked

    program = (
        "import sys, time\nfrom pathlib import Path\nfrom pertscale.storage.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    try:
        for call in (rank_sum, lambda *a, **k: rank_sum_share(*a, share="1/2", **k)):
            with pytest.raises(LockedError, match=f"process {holder.pid}"):
                call(example.screen, out=tmp_path, quiet=True)
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path, quiet=True):
        pass
