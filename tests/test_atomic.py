from __future__ import annotations

import pytest

from pertscale.io import atomic


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
