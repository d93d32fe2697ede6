"""Files that users keep in output folders: no call deletes or overwrites them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import pertscale as ps
from pertscale.errors import ExistsError, InputError

QUICK: dict[str, Any] = {
    "methods": ["majority_vote", "mean"],
    "settings": ["full"],
    "seed": 0,
    "quiet": True,
}
# results are written and damaged again and again
pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]


@pytest.fixture(scope="module")
def finished(
    tiny_store: Path, without_report: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    ps.run_benchmark(tiny_store, out=out, **QUICK)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


# --- splits --------------------------------------------------------------------------------------


def test_a_split_of_the_user_stays_where_it_was_passed_from(tiny_store, tmp_path):
    names = ps.open_screen(tiny_store).perturbations
    mine = tmp_path / "out" / "splits" / "mine.json"
    ps.Split("mine", names[:5], names[5:]).write(mine)
    before = mine.read_bytes()
    for more in ({"split": mine}, {}, {"split": mine, "methods": ["mean"]}):
        result = ps.run_benchmark(tiny_store, out=tmp_path / "out", **QUICK | more)
        assert mine.read_bytes() == before
        (written,) = next(iter(result.splits.values())).values()
        assert (written.name == "mine") == ("split" in more)
    assert len(list(mine.parent.iterdir())) == 2  # those of earlier calls are gone


def test_a_split_of_ours_that_was_changed_is_the_users(tiny_store, out):
    (ours,) = (out / "splits").iterdir()
    split = ps.Split.read(ours)
    edited = ps.Split(split.name, split.train[1:], (*split.test, split.train[0]))
    edited.write(ours)
    before = ours.read_bytes()
    with pytest.raises(ExistsError, match=r"splits/.*holds another split than this run"):
        ps.run_benchmark(tiny_store, out=out, **QUICK)
    assert ps.read_result(out).scores is not None  # nothing was taken away
    ps.run_benchmark(tiny_store, out=out, **QUICK | {"seed": 3})
    assert ours.read_bytes() == before


def test_copies_of_splits_stay(tiny_store, out):
    (ours,) = (out / "splits").iterdir()
    copy = ours.with_name(ours.name.replace("seed", "copy-of-seed").replace("holdout", "mine"))
    shutil.copy(ours, copy.with_name(f"{ours.stem}-2.json"))
    ps.run_benchmark(tiny_store, out=out, **QUICK | {"seed": 3})
    assert copy.with_name(f"{ours.stem}-2.json").exists()
    assert not ours.exists()


# --- folders that are replaced as a whole --------------------------------------------------------


def kept(folder: Path) -> list[Path]:
    """Put files, a link and an array of the user into a folder."""
    (folder / "notes.txt").write_text("mine")
    (folder / "elsewhere").symlink_to(folder.parent)
    zarr.create_array(folder / "my_array", data=np.ones(3), dimension_names=("mine",))
    return [folder / "notes.txt", folder / "elsewhere", folder / "my_array" / "c" / "0"]


@pytest.mark.parametrize("name", ["pseudobulk.zarr", "labels"])
def test_tables_are_not_replaced_around_a_users_files(tiny_store, out, name):
    mine = kept(out / name)
    before = ps.read_result(out).scores
    with pytest.raises(ExistsError, match=rf"{name} holds 'elsewhere' and \d+ more.*move it away"):
        ps.run_benchmark(tiny_store, out=out, fdr=0.2, **QUICK)
    with pytest.raises(ExistsError, match="move it away"):
        ps.stats.rank_sum(tiny_store, out=out, fdr=0.2, quiet=True)
    assert ps.read_result(out).scores.equals(before)  # refused before anything changed
    assert all(os.path.lexists(file) for file in mine)
    ps.run_benchmark(tiny_store, out=out, **QUICK)  # nothing to replace


def test_predictions_are_not_replaced_around_a_users_files(tiny_store, out):
    units = [unit["folder"] for unit in ps.read_result(out).manifest["units"]]
    mine = kept(out / units[0]) + kept(out / units[0] / "prediction.zarr")
    with pytest.raises(ExistsError, match="not part of the predictions of a method"):
        ps.run_benchmark(tiny_store, out=out, fdr=0.2, **QUICK)
    ps.run_benchmark(tiny_store, out=out, **QUICK | {"methods": ["mean"]})  # asks for them no more
    assert all(os.path.lexists(file) for file in mine)
    assert not (out / units[0] / "unit.json").exists()
    assert not (out / units[0] / "prediction.zarr" / "zarr.json").exists()


def test_hidden_files_that_look_unfinished_stay(tiny_store, out):
    mine = out / "predictions" / ".mine.old"
    mine.write_text("")
    ps.run_benchmark(tiny_store, out=out, **QUICK | {"seed": 3})
    assert mine.exists()


@pytest.mark.parametrize("name", ["scores.parquet", "report.html"])
def test_a_folder_of_the_user_with_a_table_of_that_name(tiny_store, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExistsError, match=f"{name} is there, though no benchmark was run"):
        ps.run_benchmark(tiny_store, out=tmp_path, **QUICK)
    assert [file.name for file in tmp_path.iterdir()] == [name]


# --- stores --------------------------------------------------------------------------------------


def a_folder(path: Path) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "data.csv").write_text("1")


def a_file(path: Path) -> None:
    path.write_text("1")


def somebodys_zarr(path: Path) -> None:
    root = zarr.create_group(path)
    root.create_array("X", data=np.ones((3, 3)))


@pytest.mark.parametrize("make", [a_folder, a_file, somebodys_zarr])
def test_overwrite_replaces_stores_only(tiny_source, tmp_path, make):
    make(tmp_path / "x.zarr")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExistsError, match="is not a screen store of pertscale"):
        ps.io.ingest(tiny_source, tmp_path / "x.zarr", overwrite=True, quiet=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_overwrite_keeps_a_users_files_in_a_store(tiny_source, tiny_store, tmp_path):
    mine = Path(shutil.copytree(tiny_store, tmp_path / "x.zarr")) / "notes.txt"
    mine.write_text("mine")
    with pytest.raises(
        ExistsError, match=r"holds 'notes.txt', which is not part of a screen store"
    ):
        ps.io.ingest(tiny_source, mine.parent, overwrite=True, quiet=True)
    mine.unlink()
    ps.io.ingest(tiny_source, mine.parent, overwrite=True, quiet=True)


@pytest.mark.parametrize("lost", ["zarr.json", "uns/pertscale/info/c", "uns/pertscale/zarr.json"])
def test_overwrite_replaces_damaged_stores(tiny_source, tiny_store, tmp_path, lost):
    damaged = Path(shutil.copytree(tiny_store, tmp_path / "x.zarr"))
    (damaged / lost).unlink()
    ps.io.ingest(tiny_source, damaged, overwrite=True, quiet=True)
    assert (damaged / lost).exists()


def test_a_store_that_stands_where_a_file_is_ingested_to(tiny_source, tiny_store, tmp_path):
    out = tmp_path / "out"
    other = tmp_path / "other.h5ad"
    shutil.copy(tiny_source, other)
    shutil.copytree(tiny_store, out / "screen.zarr")  # of screen.h5ad
    with pytest.raises(ExistsError, match=r"is a store of another file \(screen.h5ad\)"):
        ps.run_benchmark(other, out=out, **QUICK)
    ps.run_benchmark(tiny_source, out=out, **QUICK)
    os.utime(tiny_source)
    ps.run_benchmark(tiny_source, out=out, **QUICK)  # its own is replaced


# --- stores that change ---------------------------------------------------------------------------


def other_store(folder: Path) -> Path:
    ps.simulate_screen(
        folder / "two.h5ad",
        n_cells=400,
        n_genes=30,
        n_perturbations=8,
        control_fraction=0.2,
        seed=2,
        quiet=True,
    )
    return Path(str(ps.io.ingest(folder / "two.h5ad", folder / "two.zarr", quiet=True)))


@pytest.mark.parametrize("when", ["write_tables", "_report"])
def test_a_store_that_is_replaced_after_its_labels(tiny_store, tmp_path, monkeypatch, when):
    one = Path(shutil.copytree(tiny_store, tmp_path / "one.zarr"))
    two = other_store(tmp_path)
    do = getattr(ps.benchmark.stages, when)

    def later(*arguments: Any) -> Any:
        if when == "write_tables":
            shutil.rmtree(one)
            shutil.copytree(two, one)
            return do(*arguments)
        done = do(*arguments)
        shutil.rmtree(one)
        shutil.copytree(two, one)
        return done

    monkeypatch.setattr(f"pertscale.benchmark.stages.{when}", later)
    with pytest.raises(InputError, match="was replaced by another screen while it was read"):
        ps.run_benchmark(one, out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    assert ps.run_benchmark(one, out=tmp_path / "out", **QUICK).manifest["screen"] == (
        ps.open_screen(two).fingerprint
    )


@pytest.mark.parametrize("array", ["obs/total_counts", "uns/pertscale/groups/context", "X"])
def test_a_store_that_is_repaired_in_the_same_process(tiny_store, tmp_path, array):
    whole = ps.stats.rank_sum(tiny_store, out=tmp_path / "whole", quiet=True).to_pandas()
    damaged = Path(shutil.copytree(tiny_store, tmp_path / "damaged.zarr"))
    screen = ps.open_screen(damaged)
    chunk = next(p for p in sorted((damaged / array / "c").rglob("*")) if p.is_file())
    content = chunk.read_bytes()
    chunk.unlink()
    for handle in (damaged, screen):
        with pytest.raises(ps.errors.PertscaleError):
            ps.stats.rank_sum(handle, out=tmp_path / "labels", quiet=True)
    chunk.write_bytes(content)
    for i, handle in enumerate((damaged, screen)):
        again = ps.stats.rank_sum(handle, out=tmp_path / f"labels{i}", quiet=True).to_pandas()
        assert again.equals(whole)
