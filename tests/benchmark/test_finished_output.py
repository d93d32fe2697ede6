"""A finished output: returned from where nothing may be written, made with asserts left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pertscale as ps
from pertscale.errors import StorageError
from pertscale.execution.blas_build import blas_libraries
from tests.benchmark.test_damaged_output import QUICK, contents

# results are written and damaged again and again
pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]


@pytest.fixture(scope="module")
def finished(tiny_store: Path, without_report: None) -> Path:
    out = tiny_store.parent / "out"
    ps.run_benchmark(tiny_store, out=out, **QUICK)
    return out


class ReadOnly:
    """Stands in for ``os`` in one folder: root may write anywhere, whatever the permissions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.asked: list[str] = []
        access = os.access

        def may(path: Any, mode: int, **options: Any) -> bool:
            mine = Path(os.fspath(path)).is_relative_to(folder)
            return access(path, mode, **options) and not (mine and mode & os.W_OK)

        monkeypatch.setattr(os, "access", may)
        for name in ("replace", "rename", "link", "unlink", "rmdir", "mkdir"):
            monkeypatch.setattr(os, name, self._refusing(getattr(os, name), folder))

    def _refusing(self, real: Any, folder: Path) -> Any:
        def change(path: Any, *arguments: Any, **options: Any) -> Any:
            made = real.__name__ == "mkdir" and Path(path).exists()
            if Path(os.fspath(path)).is_relative_to(folder) and not made:
                self.asked.append(f"{real.__name__} {path}")
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return change


def test_a_finished_result_is_returned_from_a_folder_that_can_not_be_written_to(
    tiny_store, finished, tmp_path, monkeypatch
):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*")}
    read_only = ReadOnly(monkeypatch, out)
    result = ps.run_benchmark(tiny_store, out=out, **QUICK)
    assert len(result.scores)
    assert read_only.asked == []
    assert {f: f.stat().st_mtime_ns for f in out.rglob("*")} == before
    assert ps.stats.rank_sum(tiny_store, out=out, quiet=True).key == result.labels.key
    for other in ({"fdr": 0.2}, {"seed": 3}, {"methods": ["no_change"]}, {"settings": ["curated"]}):
        with pytest.raises(StorageError, match=r"can't be written to|can't write to"):
            ps.run_benchmark(tiny_store, out=out, **QUICK | other)
    unit = next(out.rglob("unit.json"))
    unit.write_bytes(b"{}")
    with pytest.raises(StorageError, match="can't be written to"):
        ps.run_benchmark(tiny_store, out=out, **QUICK)


def test_interactions_are_written_again_only_where_they_are_damaged(tmp_path, monkeypatch):
    doubles = {"n_perturbations": 8, "n_doubles": 4, "n_cells": 500, "n_genes": 40}
    ps.simulate_screen(tmp_path / "doubles.h5ad", **doubles, seed=0, quiet=True)
    store = ps.io.ingest(tmp_path / "doubles.h5ad", tmp_path / "doubles.zarr", quiet=True)
    options = {"tasks": ["double", "interactions"], "methods": ["mean", "additive"], "quiet": True}
    made = ps.run_benchmark(store, out=tmp_path / "out", **options)
    assert len(made.interactions)
    (pairs,) = (tmp_path / "out" / ".work" / "interactions").glob("*/pairs.parquet")
    whole = pairs.read_bytes()
    pairs.write_bytes(whole[:-100])
    assert ps.run_benchmark(store, out=tmp_path / "out", **options).manifest == made.manifest
    assert pairs.read_bytes() == whole
    read_only = ReadOnly(monkeypatch, tmp_path / "out")
    again = ps.run_benchmark(store, out=tmp_path / "out", **options)
    assert again.manifest == made.manifest
    assert read_only.asked == []


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Any:
    """Return what mounts a file system, and makes it read-only."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], check=True)

    def close() -> Path:
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        return place

    yield place, close
    subprocess.run(["umount", "-l", place], check=True)


def test_a_finished_result_is_returned_from_a_read_only_disk(tiny_store, finished, read_only_disk):
    place, close = read_only_disk
    shutil.copytree(finished, place / "out")
    close()
    assert len(ps.run_benchmark(tiny_store, out=place / "out", **QUICK).scores)
    with pytest.raises(StorageError, match="Read-only file system"):
        ps.run_benchmark(tiny_store, out=place / "out", fdr=0.2, **QUICK)
    with pytest.raises(StorageError, match="Read-only file system"):
        ps.run_benchmark(tiny_store, out=place / "fresh", **QUICK)


def test_the_manifest_says_which_blas(finished):
    assert ps.read_result(finished).manifest["blas"] == blas_libraries()
    assert {"library", "version", "architecture"} == set(blas_libraries()[0])


def test_without_asserts(tiny_store, finished, tmp_path):
    """The same bytes, or at once the reason why not: Zarr may need them."""
    program = (
        "import sys, pertscale as ps\n"
        "assert False\n"
        "ps.report.write_report = lambda *_: None\n"
        f"ps.run_benchmark(sys.argv[1], out=sys.argv[2], **{QUICK!r})"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-O", "-c", program, str(tiny_store), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        assert contents(out) == contents(finished)
        return
    assert re.search(
        r"ImportError: Zarr 3\.\S+, .* run Python without -O and without PYTHONOPT", ended.stderr
    )
    assert not out.exists()
