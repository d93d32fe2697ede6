"""Pipes, devices and links in the place of files: refused at once, wherever a path is taken."""

from __future__ import annotations

import os
import signal
import socket
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.errors import InputError, NotFoundError
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.guards import limits
from pertscale.models.config import read_config
from pertscale.predictions.files.arrays import gene_list
from pertscale.storage.locations import check_folder

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture
def in_time():
    """Fail where a pipe is waited for, instead of waiting with it."""

    def late(*_):
        raise AssertionError("it waits for a pipe, or reads a device that never ends")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {
    "check .h5ad": ps.io.check,
    "check .csv": ps.io.check,
    "check .zarr": ps.io.check,
    "open_screen .zarr": ps.open_screen,
    "read_embedding .csv": ps.read_embedding,
    "read_embedding .npz": ps.read_embedding,
    "read_embedding .h5ad": ps.read_embedding,
    "from_gene_sets .gmt": ps.embeddings.from_gene_sets,
    "from_edges .csv": ps.embeddings.from_edges,
    "from_cells .h5ad": ps.embeddings.from_cells,
    "from_texts .json": ps.embeddings.from_texts,
    "read_predictions .parquet": ps.read_predictions,
    "read_predictions .h5ad": ps.read_predictions,
    "read_predictions .pkl": lambda p: ps.read_predictions(p, genes=["a"], allow_pickle=True),
    "genes .txt": gene_list,
    "Split.read .json": ps.Split.read,
    "read_label_table .csv": ps.stats.read_label_table,
    "read_labels .labels": ps.read_labels,
    "read_result .benchmark": ps.read_result,
    "read_aliases .tsv": read_aliases,
    "read_config .toml": read_config,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_by_every_reader(tmp_path, name):
    path = tmp_path / f"x{name.split()[-1]}"
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe") as error:
        READERS[name](path)
    assert str(path) in str(error.value)


def test_the_arguments_of_a_run(tmp_path):
    pipe = tmp_path / "x.json"
    os.mkfifo(pipe)
    (tmp_path / "m.csv").write_text("cell,A\nc,1\n")
    for call in (
        lambda: ps.io.check(tmp_path / "m.csv", cells=pipe),
        lambda: ps.run_benchmark(pipe, out=tmp_path / "out", quiet=True),
        lambda: ps.run_benchmark(tmp_path / "m.csv", out=pipe, quiet=True),
    ):
        with pytest.raises(InputError, match="is a pipe"):
            call()


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/dev/zero"), lambda p: p.touch()])
def test_devices_and_sockets(tmp_path, make):
    make(tmp_path / "x.csv")
    if (tmp_path / "x.csv").is_file():
        (tmp_path / "x.csv").unlink()
        socket.socket(socket.AF_UNIX).bind(str(tmp_path / "x.csv"))
    for read in (ps.io.check, ps.read_embedding, ps.read_predictions):
        with pytest.raises(InputError, match=r"is a (device|socket)"):
            read(tmp_path / "x.csv")


def zarr_screen(path: Path) -> Path:
    obs = pd.DataFrame({"perturbation": ["control", "A"] * 4}, [f"c{i}" for i in range(8)])
    var = pd.DataFrame(index=["G0", "G1"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the next version of Zarr
        ad.AnnData(np.ones((8, 2), np.float32), obs, var).write_zarr(path)
    return path


@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "secret"])
@pytest.mark.parametrize("read", [ps.io.check, ps.read_predictions])
def test_what_lies_in_a_zarr_folder(tmp_path, target, read):
    """A chunk that is a link to a device, a pipe, or a link to a file that was not named."""
    path = zarr_screen(tmp_path / "s.zarr")
    (tmp_path / "secret").write_bytes(bytes(64))
    chunk = next(p for p in sorted((path / "X").rglob("*")) if p.name[0].isdigit() and p.is_file())
    chunk.unlink()
    if target == "pipe":
        os.mkfifo(chunk)
    else:
        chunk.symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=r"is a pipe|is a device|outside of"):
        read(path)


def test_links_that_stay_inside_are_followed(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "a/b/link").symlink_to("../file")
    (tmp_path / "whole").symlink_to(tmp_path / "a")
    check_folder(tmp_path / "whole")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    with pytest.raises(InputError, match="outside of"):
        check_folder(tmp_path / "a")
    check_folder(tmp_path / "a", links=True)
    (tmp_path / "a/lost").symlink_to("nowhere")
    with pytest.raises(InputError, match="not there"):
        check_folder(tmp_path / "a", links=True)


def test_nothing_there_says_what_was_to_be_there(tmp_path):
    with pytest.raises(
        NotFoundError, match=r"no file or folder .*x\.csv, which should be an embeddi"
    ):
        ps.read_embedding(tmp_path / "x.csv")


def test_dense_sizes_are_compared_with_memory(monkeypatch):
    limits.check_dense((10**6, 10), np.float32, "x")
    with pytest.raises(InputError, match=r"x: 10,000,000 x 1,000,000 values take 40 TB .* free"):
        limits.check_dense((10**7, 10**6), np.float32, "x")
    monkeypatch.setattr(limits, "FREE_BYTES", 1000)
    monkeypatch.setattr(limits, "_free_bytes", lambda: 10_000)
    limits.check_dense((5000,), np.int8, "x")
    with pytest.raises(InputError, match="of 10 kB of free memory only 50%"):
        limits.check_dense((5001,), np.int8, "x")
