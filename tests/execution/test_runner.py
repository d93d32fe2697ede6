"""Maps of tasks: their receipts come back in order from every scheduler; progress is told."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import dask
import pytest
from distributed import Client, LocalCluster, get_client

from pertscale.diagnostics.progress import Progress, say
from pertscale.errors import ArgumentError, TaskError
from pertscale.execution.clients import tasks_per_process, use_client
from pertscale.execution.runner import run


def double(x):
    return 2 * x


def fails_on_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def process_id(_):
    return os.getpid()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_receipts_come_back_in_order(scheduler):
    with dask.config.set(scheduler=scheduler):
        assert run(double, range(20), label="double", quiet=True) == list(range(0, 40, 2))
        with pytest.raises(TaskError, match="3: ValueError: three"):
            run(fails_on_three, range(5), label="fails", quiet=True)


@pytest.mark.parametrize("shared", [None, "what all have"])
@pytest.mark.parametrize("n_tasks", [3, 31, 120])
def test_tasks_start_in_the_order_of_their_descriptors(n_tasks, shared):
    """Plans put what should end together last."""
    started = []

    def start(x, *_):
        started.append(x)

    with dask.config.set(scheduler="synchronous"):
        run(start, range(n_tasks), label="start", shared=shared, quiet=True)
    assert started == list(range(n_tasks))


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
    ) as found:
        yield found


def test_on_a_cluster(cluster, tmp_path):
    with Client(cluster) as client:
        assert run(double, range(50), label="double", client=client, quiet=True)[49] == 98
        assert os.getpid() not in run(process_id, [0, 1], label="pid", client=client, quiet=True)
        with pytest.raises(TaskError, match="3: ValueError: three"):
            run(fails_on_three, range(5), label="fails", client=client, quiet=True)
        assert tasks_per_process(client) == 2
        with use_client(None) as found:
            assert found is client
        with use_client(client) as found:
            assert found is client
        assert client.status == "running"


@pytest.mark.parametrize("how", ["cluster", "address", "scheduler file"])
def test_ways_to_name_a_cluster(cluster, tmp_path, how):
    # what `dask scheduler --scheduler-file` writes has more in it; this is what is read
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": cluster.scheduler_address}))
    named = {
        "cluster": cluster,
        "address": cluster.scheduler_address,
        "scheduler file": file,
    }[how]
    with use_client(named) as client:
        assert run(double, [4], label="double", client=client, quiet=True) == [8]
    assert client.status == "closed"  # it was opened here
    with pytest.raises(ValueError, match=r"No (global )?client"):
        get_client(timeout=0)


def test_no_client():
    with use_client(None) as found:
        assert found is None
    for wrong in ("nowhere.json", 7):
        with pytest.raises(ArgumentError, match="scheduler file"), use_client(wrong):
            pass


def test_no_scheduler_answers():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ArgumentError, match="no scheduler answers"),
        use_client("tcp://127.0.0.1:1"),
    ):
        pass


def add_to(descriptor):
    return sum(descriptor)


def test_maps_in_two_threads_get_their_own_results():
    """What Dask registers for a process would reach the map that starts first."""

    def many(n):
        return [run(add_to, [(n, i) for i in range(8)], label="sum", quiet=True) for _ in range(60)]

    with ThreadPoolExecutor(2) as threads:
        for n, found in zip((100, 200), threads.map(many, (100, 200)), strict=True):
            assert found == [[n + i for i in range(8)]] * 60


def test_nothing_to_do():
    assert run(double, [], label="none", quiet=True) == []


def test_progress_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr("pertscale.diagnostics.progress.LINE_EVERY", -1.0)
    with Progress("work", total=2) as progress:
        progress.advance()
        progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work: 1/2")
    assert lines[-1].startswith("work: 2/2")


def test_quiet(capsys):
    with Progress("work", total=1, quiet=True) as progress:
        progress.advance()
    say("hello", quiet=True)
    assert capsys.readouterr().err == ""


def test_progress_in_a_notebook_without_widgets(capsys, monkeypatch, recwarn):
    """A bar of text, and no warning that widgets are missing; not in the red of errors."""
    monkeypatch.setattr("pertscale.diagnostics.progress._in_notebook", lambda: True)
    monkeypatch.setattr(
        "pertscale.diagnostics.progress.importlib.util.find_spec", lambda name: None
    )
    with Progress("work", total=2) as progress:
        progress.advance(2)
    say("done")
    shown = capsys.readouterr()
    assert "work: 100%" in shown.out
    assert shown.out.endswith("done\n")
    assert shown.err == ""
    assert not recwarn.list
