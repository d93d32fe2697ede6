"""Damage to the files of a finished output: readers refuse it by name, the same call heals it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

import pertscale as ps
from pertscale.errors import CorruptFileError, PertscaleError

QUICK: dict[str, Any] = {
    "methods": ["mean"],
    "settings": ["full"],
    "seed": 0,
    "quiet": True,
    "tasks": ["within", "single"],
}
#: Differ from run to run: times, and what happened.
UNLIKE = {"timings.parquet", "log.jsonl"}
# results are written and damaged again and again
pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeros(content: bytes) -> bytes:
    """What a machine that went down leaves of a file whose size was on the disk."""
    return bytes(len(content))


def a_byte(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes] | None] = {
    "cut": cut,
    "zeros": zeros,
    "a byte": a_byte,
    "deleted": None,
}


def damage(file: Path, how: str) -> None:
    change = DAMAGE[how]
    if change is None:
        file.unlink()
        return
    before = file.read_bytes()
    after = change(before)
    assert after != before
    file.write_bytes(after)


@pytest.fixture(scope="module")
def finished(tiny_store: Path, without_report: None) -> Path:
    out = tiny_store.parent / "out"
    ps.run_benchmark(tiny_store, out=out, **QUICK)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files that are the same in every run."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in UNLIKE)
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def reads(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return everything that can be read of a result, by what it is."""
    result = ps.read_result(folder)
    found: dict[str, Callable[[], Any]] = {
        name: lambda name=name: getattr(result, name)
        for name in (
            "scores",
            "overall",
            "skipped",
            "drops",
            "targets",
            "coverage",
            "interactions",
            "splits",
            "findings",
            "manifest",
        )
    }
    found["timings"] = lambda: list(result.timings["stage"])
    found["labels"] = lambda: result.labels.to_pandas()
    found["matrix"] = lambda: result.labels.matrix().compute()
    found["frame"] = lambda: result.labels.frame.compute()
    found["perturbations"] = lambda: result.labels.perturbations
    found["pseudobulk"] = lambda: result.pseudobulk.compute()
    context = result.labels.contexts[0]
    of: dict[str, Any] = {"context": context, "split": "holdout-seed0"}
    found["expression"] = lambda: result.expression(task="single", **of).compute()
    found["classes"] = lambda: result.predictions(labels="full", method="mean", **of).compute()
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    if isinstance(one, xr.Dataset | xr.DataArray):
        return one.identical(other)
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(finished: Path) -> dict[str, Any]:
    return {name: read() for name, read in reads(finished).items()}


def test_what_is_read_of_a_damaged_result_is_right(out, whole):
    """Every file by itself, like ones in all ways: an error that names it, or what was written."""
    refused = 0
    for i, file in enumerate([f for f in sorted(out.rglob("*")) if f.is_file()]):
        before = file.read_bytes()
        damage(file, list(DAMAGE)[(2 * i + i // 2) % len(DAMAGE)])
        try:
            found = reads(out)
        except PertscaleError as error:
            refused += 1
            assert "make the same call of pertscale.run_benchmark" in str(error), file
            # without its manifest, a result is one that is not finished
            assert file.name in str(error) or file == out / "manifest.json"
        else:
            for name, read in found.items():
                try:
                    value = read()
                except PertscaleError as error:
                    assert "make the same call" in str(error), file
                else:
                    assert same(value, whole[name]), (file, name)
        file.write_bytes(before)
    assert refused


def test_the_same_call_heals(tiny_store, out, finished):
    """Every file by itself, like ones in all ways."""
    undisturbed = contents(finished)
    for i, name in enumerate(undisturbed):
        damage(out / name, list(DAMAGE)[i % len(DAMAGE)])
        ps.run_benchmark(tiny_store, out=out, **QUICK)
        found = contents(out)
        if name == ".work/splits.json":  # none of the splits is known to be ours any more
            (out / name).write_bytes(undisturbed[name])
            found = contents(out)
        assert found.keys() == undisturbed.keys(), name
        assert [n for n in found if found[n] != undisturbed[n]] == [], name


def test_a_lost_chunk_of_the_label_matrix_is_not_read_as_no_change(
    tiny_store, out, finished, tmp_path
):
    """The matrix is between the label table and methods, and stays for the next ones."""
    (matrix,) = (out / ".work" / "full").glob("*.zarr")
    (matrix / "c" / "0" / "0").unlink()
    more = QUICK | {"methods": ["oracle"], "tasks": ["within"]}
    scores = ps.run_benchmark(tiny_store, out=out, **more).scores
    whole = Path(shutil.copytree(finished, tmp_path / "whole"))
    assert scores.equals(ps.run_benchmark(tiny_store, out=whole, **more).scores)


def test_label_matrices_of_earlier_options_do_not_stay(tiny_store, out):
    (before,) = (out / ".work" / "full").iterdir()
    ps.run_benchmark(tiny_store, out=out, fdr=0.2, **QUICK)
    (after,) = (out / ".work" / "full").iterdir()
    assert after != before


def test_what_is_made_anew_is_told_once(tiny_store, out, capfd):
    (out / "labels" / "genes.parquet").unlink()
    next(out.rglob("prediction.zarr/score/c/0/0/0")).write_bytes(b"")
    ps.run_benchmark(tiny_store, out=out, **QUICK | {"quiet": False})
    told = [line for line in capfd.readouterr().err.splitlines() if "damaged" in line]
    assert len(told) == 2
    assert "labels is damaged: genes.parquet is missing; the tables are made anew" in told[0]
    assert "0/0/0 has 0 bytes" in told[1] and "it is made anew" in told[1]


@pytest.mark.parametrize("name", ["manifest.json", "labels/manifest.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"a": 1, "a": 2}', b"null"])
def test_a_manifest_that_is_none(out, name, content):
    (out / name).write_bytes(content)
    read = ps.read_result if name == "manifest.json" else ps.read_labels
    with pytest.raises(CorruptFileError, match=r"manifest\.json.*make the same call"):
        read(out)


def test_a_manifest_of_an_earlier_version(out):
    """It has no sums: what it says is taken as it is."""
    for name in ("manifest.json", "labels/manifest.json"):
        content = json.loads((out / name).read_text())
        for key in ("sum", "files", "pseudobulk_files"):
            content.pop(key, None)
        (out / name).write_text(json.dumps(content))
    assert len(ps.read_result(out).labels.to_pandas())
