"""A name is given to what is whole and on the disk, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from pertscale.errors import StorageError
from pertscale.storage import atomic
from pertscale.storage.lock import locked


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    with pytest.raises(RuntimeError), atomic.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    atomic.write_bytes(path, b"one")
    atomic.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_what_gets_its_name_is_on_the_disk(tmp_path, monkeypatch):
    """Otherwise a machine that goes down may leave a name without its content."""
    synced = {}

    def sync(descriptor):
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[file.name] = file.parent.name, file.read_bytes()

    monkeypatch.setattr(os, "fsync", sync)
    atomic.write_bytes(tmp_path / "file", b"one")
    [(name, (_, content))] = synced.items()
    assert name.startswith(".file.")
    assert content == b"one"
    with atomic.atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        for i in range(3):
            (temporary / f"{i}").write_text("two")
        assert set(synced) == {name}
    assert {"0", "1", "2"} < set(synced)


def test_a_disk_that_is_full_only_when_it_writes(tmp_path, monkeypatch):
    """As on file systems over a network."""

    def full(descriptor):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(StorageError, match=r"Disk quota exceeded.*make room"),
        locked(tmp_path / "run"),
    ):
        atomic.write_bytes(tmp_path / "run" / "file", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_keeps_no_promises_is_none_of_ours(tmp_path, monkeypatch):
    def unable(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unable)
    atomic.write_bytes(tmp_path / "file", b"one")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_a_folder_that_is_still_written_to_is_removed(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    rmtree, tried = shutil.rmtree, []

    def late(path):
        tried.append(path)
        if len(tried) == 1:  # a task that was not waited for has been quicker
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", late)
    atomic.remove(folder)
    assert len(tried) == 2
    assert not folder.exists()


def test_what_killed_processes_left_is_removed(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / ".x.0123456789ab.tmp").mkdir()
    (deep / ".x.0123456789ab.tmp" / "half").write_text("")
    (deep / ".x.0123456789ab.old").write_text("")
    (deep / "x").write_text("")
    atomic.remove_leftovers_below(tmp_path)
    atomic.remove_leftovers_below(tmp_path / "none")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [deep / "x"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("a", "b"):
        with atomic.atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_equal_content_gives_equal_bytes(tmp_path):
    atomic.write_json(tmp_path / "a", {"x": 1, "y": [2]})
    atomic.write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert atomic.read_json(tmp_path / "a") == {"x": 1, "y": [2]}


def test_what_somebody_else_has_made_meanwhile_is_left(tmp_path):
    final = tmp_path / "folder"
    with atomic.atomic_path(final, unless=final.exists) as temporary:
        temporary.mkdir()
        (temporary / "mine").touch()
        final.mkdir()  # by another process
        (final / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "theirs"]
