"""One run at a time in an output folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pertscale.errors import LockedError, StorageError
from pertscale.storage import lock as lock_module
from pertscale.storage import lock_owner
from pertscale.storage.lock import Lock, locked
from pertscale.storage.lock_owner import this_process

HOLD = """
import sys, time
from pathlib import Path
from pertscale.storage.lock import locked
with locked(Path(sys.argv[1]), share=sys.argv[2], quiet=True):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Start a process that holds a folder; it is ended after the test."""
    started = []

    def start(folder, share=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), share], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def quick(monkeypatch):
    """Beats of a twentieth of a second."""
    monkeypatch.setattr(lock_module, "BEAT", 0.05)
    monkeypatch.setattr(lock_module, "PATIENCE", 0.5)


def test_held_and_released(tmp_path):
    with locked(tmp_path / "run") as lock, locked(tmp_path / "run"):  # the same thread goes on
        assert json.loads(lock.file.read_text())["pid"] == os.getpid()
        lock.check()
    assert list(tmp_path.iterdir()) == []  # a folder that nothing was written to is none


def test_another_thread_is_refused(tmp_path):
    seen = []

    def work():
        try:
            with locked(tmp_path):
                seen.append("held")
        except LockedError as error:
            seen.append(str(error))

    with locked(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in seen[0]


def test_another_process_is_refused_until_it_dies(tmp_path, holder, capsys):
    process = holder(tmp_path)
    with (
        pytest.raises(LockedError, match=f"process {process.pid} on .*; wait until it ends, or"),
        locked(tmp_path),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(tmp_path):
        assert f"run that died: process {process.pid}" in capsys.readouterr().err


def test_shares_work_together_but_not_with_a_whole_run(tmp_path, holder):
    holder(tmp_path, "1-of-3")
    with locked(tmp_path, share="2-of-3"):
        pass
    for share in ("1-of-3", ""):
        with pytest.raises(LockedError), locked(tmp_path, share=share):
            pass
    assert [p.name for p in tmp_path.iterdir()] == [".lock-1-of-3"]  # the refused left nothing


def test_a_share_waits_for_no_whole_run(tmp_path, holder):
    holder(tmp_path)
    with pytest.raises(LockedError), locked(tmp_path, share="1-of-3"):
        pass


def of_another_machine(folder):
    owner = this_process() | {"machine": "elsewhere", "host": "node7", "token": "theirs"}
    file = folder / ".lock"
    file.write_text(json.dumps(owner))
    return file


@pytest.mark.parametrize("year", [1990, 2060])  # clocks of machines differ
def test_another_machine_that_lives_is_recognised(tmp_path, quick, year):
    file = of_another_machine(tmp_path)
    stop = threading.Event()

    def beat():
        at = (year - 1970) * 31_556_952
        while not stop.wait(0.05):
            at += 1
            os.utime(file, (at, at))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockedError, match="node7"), locked(tmp_path):
            pass
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("year", [1990, 2060])
def test_another_machine_that_died_is_recognised(tmp_path, quick, year):
    file = of_another_machine(tmp_path)
    os.utime(file, ((year - 1970) * 31_556_952,) * 2)
    with locked(tmp_path) as lock:
        assert json.loads(lock.file.read_text())["pid"] == os.getpid()


def test_half_a_lock_is_of_nobody(tmp_path, quick):
    (tmp_path / ".lock").write_text('{"tok')
    with locked(tmp_path, quiet=True):
        pass


def test_who_stood_still_for_too_long_notices(tmp_path):
    with pytest.raises(LockedError, match="taken over"), locked(tmp_path) as lock:
        of_another_machine(tmp_path)
        lock.check()
    assert json.loads((tmp_path / ".lock").read_text())["token"] == "theirs"  # it is left


def test_a_nested_lock_notices_too(tmp_path):
    with locked(tmp_path), locked(tmp_path) as inner:
        of_another_machine(tmp_path)
        with pytest.raises(LockedError, match="taken over"):
            inner.check()


def test_an_interrupted_wait_leaves_no_lock(tmp_path, monkeypatch):
    of_another_machine(tmp_path).rename(tmp_path / ".lock-1-of-3")

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".lock-1-of-3"]


def test_the_lock_is_touched(tmp_path, quick):
    with locked(tmp_path) as lock:
        os.utime(lock.file, (0, 0))
        while not lock.file.stat().st_mtime:
            time.sleep(0.01)


def test_a_lock_that_was_taken_over_is_not_touched(tmp_path, quick):
    """Else the run that holds it now would seem to live when it is dead."""
    with locked(tmp_path):
        file = of_another_machine(tmp_path)
        os.utime(file, (0, 0))
        time.sleep(0.5)
        assert file.stat().st_mtime == 0


def test_where_nothing_can_be_written():
    with (
        pytest.raises(StorageError, match=r"can't write to /sys/pertscale: .*; write to another"),
        locked(Path("/sys/pertscale")),
    ):
        pass


def test_a_process_that_one_may_not_see_is_watched(tmp_path, quick, monkeypatch, capsys):
    """As on login nodes where /proc shows one's own processes only."""
    owner = this_process() | {"pid": 1, "born": "7", "token": "theirs"}
    (tmp_path / ".lock").write_text(json.dumps(owner))

    def refuse(pid, signal):
        raise PermissionError

    monkeypatch.setattr(lock_owner, "_born", lambda pid: "")
    monkeypatch.setattr(os, "kill", refuse)
    with locked(tmp_path):
        pass
    assert "watching up to" in capsys.readouterr().err


def test_of_three_that_find_a_dead_run_one_gets_it(tmp_path, quick, monkeypatch):
    """Two have the folder already when the first one, slower, sets the dead run's lock aside."""
    file = of_another_machine(tmp_path)
    second, third = (
        json.dumps(this_process() | {"host": name, "token": name}) for name in ("b", "c")
    )

    def slow(*arguments, **options):
        file.write_text(second)
        return False

    rename = Path.rename

    def renamed(path, target):
        rename(path, target)
        if path == file:
            file.write_text(third)

    monkeypatch.setattr(lock_module, "is_alive", slow)
    monkeypatch.setattr(Path, "rename", renamed)
    lock = Lock(file, this_process())
    lock._clear(file, quiet=True)
    assert file.read_text() == third
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", ["dangling", "fifo", "folder"])
def test_a_lock_that_is_no_file(tmp_path, kind):
    file = tmp_path / ".lock"
    if kind == "dangling":
        file.symlink_to(tmp_path / "none")
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    with (
        pytest.raises(StorageError, match="is not a file, as locks are; remove it"),
        locked(tmp_path),
    ):
        pass


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "deep"):
        with pytest.raises(StorageError, match="write to another place"), locked(folder):
            pass
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_is_removed_meanwhile(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(StorageError, match="was removed while a run worked in it"), locked(folder):
        shutil.rmtree(folder)
        (folder / "x").read_text()
    with pytest.raises(StorageError, match="was removed"), locked(folder) as lock:
        shutil.rmtree(folder)
        lock.check()


def test_a_link_that_its_server_answers_twice(tmp_path, monkeypatch):
    once = os.link

    def twice(source, final):
        once(source, final)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", twice)
    with locked(tmp_path) as lock:
        lock.check()


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"[" * 5000, b'{"pid": "x", "token": 3}', b"7"])
def test_a_lock_that_makes_no_sense(tmp_path, quick, content):
    (tmp_path / ".lock").write_bytes(content)
    with locked(tmp_path, quiet=True):
        pass
