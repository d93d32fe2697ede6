"""Forged and damaged files are refused, with an error of ours, before memory is reserved."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import shutil
import warnings
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertscale as ps
from pertscale.errors import CorruptFileError, InputError, PertscaleError, PertscaleWarning
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.guards import limits
from pertscale.io.h5ad_writer import write_h5ad
from pertscale.io.sources import find_source, open_source
from pertscale.models.config import read_config
from pertscale.models.process import _filled
from pertscale.predictions.files import read_parts

HUGE = 10**12
N_CELLS, N_GENES = 8, 5


def screen() -> ad.AnnData:
    labels = ["control", "A"] * (N_CELLS // 2)
    obs = pd.DataFrame(
        {"perturbation": labels, "n": np.arange(N_CELLS)}, [f"c{i}" for i in range(N_CELLS)]
    )
    var = pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)])
    data = ad.AnnData(sp.csr_matrix(np.ones((N_CELLS, N_GENES), np.float32)), obs=obs, var=var)
    data.varm["e"] = np.ones((N_GENES, 2))
    return data


def read_whole(path: Path) -> None:
    with open_source(find_source(path)) as source:
        source.cell_names(), source.genes()
        for name in source.cell_columns():
            source.cell_column(name)
        for block in source.blocks(1 << 20):
            source.read(block)


# --- HDF5 -----------------------------------------------------------------------------------------


def replaced(key, **how):
    """Put another dataset in the place of one, with its attributes."""

    def change(file):
        attributes = dict(file[key].attrs)
        del file[key]
        file.create_dataset(key, **how).attrs.update(attributes)

    return change


TEXT = {"dtype": h5py.string_dtype(), "chunks": (1024,)}


def absurd_entries(file):
    for name in ("data", "indices"):
        replaced(f"X/{name}", shape=(HUGE,), dtype="i4", chunks=(1024,))(file)


def absurd_dense(file):
    del file["X"]
    made = file.create_dataset("X", shape=(HUGE, 10**6), dtype="f4", chunks=(1024, 1024))
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    replaced("obs/_index", shape=(HUGE,), **TEXT)(file)
    replaced("var/_index", shape=(10**6,), **TEXT)(file)


def text_matrix(file):
    del file["X"]
    file.create_dataset("X", data=np.full((N_CELLS, N_GENES), b"x" * 9))


def external(file):
    secret = Path(file.filename).with_name("secret.bin")
    secret.write_bytes(b"s" * 4 * N_CELLS * N_GENES)
    del file["X"]
    stored = [(str(secret), 0, 4 * N_CELLS * N_GENES)]
    file.create_dataset("X", shape=(N_CELLS, N_GENES), dtype="f4", external=stored)


def references(file):
    made = np.array([file["X"].ref] * N_CELLS, dtype=h5py.ref_dtype)
    replaced("obs/n", data=made)(file)


H5AD = {
    "names of cells": (replaced("obs/_index", shape=(HUGE,), **TEXT), "stored"),
    "cells in a matrix": (
        replaced("obs/_index", data=np.array([[f"c{i}"] for i in range(N_CELLS)], "S")),
        "'obs', index.*2 dimensions",
    ),
    "genes in a matrix": (
        replaced("var/_index", data=np.array([[f"G{i}"] for i in range(N_GENES)], "S")),
        "'var', index.*2 dimensions",
    ),
    "cells that are lists": (
        replaced(
            "obs/_index",
            data=np.array([np.arange(2)] * N_CELLS + [None], object)[:-1],
            dtype=h5py.vlen_dtype(np.int64),
        ),
        "'obs', index.*references or lists",
    ),
    "a column": (replaced("obs/n", shape=(HUGE,), dtype="i8", chunks=(1024,)), "stored"),
    "entries": (absurd_entries, "stored"),
    "dense": (absurd_dense, "chunks are stored"),
    "text": (text_matrix, "holds"),
    "external": (external, "another file"),
    "offsets": (lambda f: f["X/indptr"].__setitem__(slice(1, 3), [30, 2]), "growing"),
    "index": (lambda f: f["X/indices"].__setitem__(0, 77), "index 77"),
    "negative": (lambda f: f["X/indices"].__setitem__(0, -1), "index -1"),
    "codes": (lambda f: f["obs/perturbation/codes"].__setitem__(0, 100), "perturbation"),
    "shape": (lambda f: f["X"].attrs.__setitem__("shape", [HUGE, N_GENES]), "offsets"),
    "no shape": (lambda f: f["X"].attrs.__setitem__("shape", 5), "X"),
    "order": (lambda f: f["obs"].attrs.__setitem__("column-order", ["../var/x"]), "../var/x"),
    "tiny chunks": (
        replaced("obs/n", shape=(10**8,), dtype="i1", chunks=(1,)),
        "chunks",
    ),
}


@pytest.mark.parametrize("name", H5AD)
def test_forged_h5ad(tmp_path, name):
    change, says = H5AD[name]
    screen().write_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "s.h5ad", "a") as file:
        change(file)
    with pytest.raises((CorruptFileError, InputError, ps.errors.UnknownNameError), match=says):
        read_whole(tmp_path / "s.h5ad")


def test_references_are_not_followed(tmp_path):
    screen().write_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "s.h5ad", "a") as file:
        references(file)
    with open_source(find_source(tmp_path / "s.h5ad")) as source:
        assert source.cell_columns() == ["perturbation"]
        assert "'n' holds references" in source.left_out()[0]


def test_forged_embedding_in_h5ad(tmp_path):
    screen().write_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "s.h5ad", "a") as file:
        replaced("varm/e", shape=(HUGE, 10), dtype="f8", chunks=(1024, 10))(file)
    with pytest.raises(CorruptFileError, match="stored"):
        ps.read_embedding(tmp_path / "s.h5ad")


def tenx(path: Path, **changed) -> Path:
    matrix = sp.csr_matrix(np.ones((N_CELLS, N_GENES), np.int32))
    parts = {
        "barcodes": np.array([f"c{i}" for i in range(N_CELLS)], "S"),
        "data": matrix.data,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
        "shape": np.array([N_GENES, N_CELLS]),
        "features/name": np.array([f"G{i}" for i in range(N_GENES)], "S"),
        "features/id": np.array([f"E{i}" for i in range(N_GENES)], "S"),
    }
    with h5py.File(path, "w") as file:
        for name, value in {**parts, **changed}.items():
            if isinstance(value, dict):
                file.create_dataset(f"matrix/{name}", **value)
            else:
                file[f"matrix/{name}"] = value
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": np.array([N_GENES, HUGE])},
        {"shape": np.array([N_GENES])},
        {"shape": np.array([-1, -1])},
        {"shape": np.array([b"x", b"y"])},
        {"shape": {"shape": (HUGE,), "dtype": "i8", "chunks": (1024,)}},
        {"barcodes": 3},
        {"barcodes": np.array([[f"c{i}"] for i in range(N_CELLS)], "S")},
        {"features/name": np.array([[f"G{i}"] for i in range(N_GENES)], "S")},
        {
            "shape": np.array([N_GENES, HUGE]),
            "barcodes": {"shape": (HUGE,), "dtype": "S10", "chunks": (1024,)},
            "indptr": {"shape": (HUGE + 1,), "dtype": "i8", "chunks": (1024,)},
        },
    ],
)
def test_forged_10x(tmp_path, changed):
    with pytest.raises(CorruptFileError):
        read_whole(tenx(tmp_path / "s.h5", **changed))


# --- Zarr -----------------------------------------------------------------------------------------


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def as_zarr(path: Path, version: int) -> Path:
    old = ad.settings.zarr_write_format
    ad.settings.zarr_write_format = version
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            screen().write_zarr(path)
    finally:
        ad.settings.zarr_write_format = old
    (path / ".zmetadata").unlink(missing_ok=True)
    return path


def array_in(path: Path, name: str) -> Path:
    """Folder of an array; newer versions of AnnData write names as a group of values and a mask."""
    return path / name / "values" if (path / name / ".zgroup").exists() else path / name


def edited(path: Path, **changed) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changed}))


@pytest.mark.parametrize("array", ["obs/_index", "obs/n", "var/_index", "X/data", "X/indptr"])
@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_pickle_codec_is_refused_and_not_run(tmp_path, array, place):
    """Zarr 2 has a codec that unpickles each chunk, also of arrays of numbers."""
    path, mark = as_zarr(tmp_path / "s.zarr", 2), tmp_path / "mark"
    codec = {"id": "pickle", "protocol": 5}
    kinds = {"filters": [codec], "compressor": None}
    if place == "compressor":
        kinds = {"filters": None, "compressor": codec}
    node = array_in(path, array)
    edited(node / ".zarray", **kinds)
    (node / "0").write_bytes(pickle.dumps(Evil(mark)))
    for read in (read_whole, ps.io.check, read_parts):
        with pytest.raises(PertscaleError):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "changed"),
    [
        ("obs/_index", {"shape": [HUGE]}),
        ("obs/n", {"shape": [HUGE]}),
        ("obs/n", {"shape": [-8]}),
        ("obs/n", {"chunks": [HUGE]}),
        ("obs/n", {"chunks": [0]}),
        ("obs/n", {"dtype": "no such"}),
        ("X/data", {"shape": [HUGE], "chunks": [1]}),
        ("X/indptr", {"shape": [2 * 10**8], "chunks": [1]}),
    ],
)
def test_forged_zarr(tmp_path, array, changed):
    path = as_zarr(tmp_path / "s.zarr", 2)
    edited(array_in(path, array) / ".zarray", **changed)
    with pytest.raises(CorruptFileError):
        read_whole(path)


def test_nested_metadata(tmp_path):
    path = as_zarr(tmp_path / "s.zarr", 3)
    (path / "zarr.json").write_text("[" * 100_000)
    with pytest.raises(PertscaleError):
        read_whole(path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    screen().write_h5ad(folder / "s.h5ad")
    return ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True)


@pytest.mark.parametrize(
    ("array", "changed"),
    [
        ("X", {"shape": [HUGE, N_GENES]}),
        ("X", {"shape": [N_CELLS, HUGE]}),
        ("var/gene", {"shape": [HUGE]}),
        ("uns/pertscale/groups/start", {"shape": [HUGE]}),
        ("uns/pertscale/groups/stop", {"data_type": "int8"}),
        ("uns/pertscale/info", {"shape": [3]}),
    ],
)
def test_manipulated_store(stored, tmp_path, array, changed):
    path = tmp_path / "s.zarr"
    shutil.copytree(stored, path)
    root = json.loads((path / "zarr.json").read_text())
    root.pop("consolidated_metadata", None)
    (path / "zarr.json").write_text(json.dumps(root))
    edited(path / array / "zarr.json", **changed)
    with pytest.raises(PertscaleError):
        ps.open_screen(path)


# --- packed files ---------------------------------------------------------------------------------


def npy(shape: str, descr: str = "<f8", body: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body


NAMES = npy("(3,)", "<U1", np.array(list("ABC"), "<U1").tobytes())
VALUES = npy("(3, 1)", "<f8", np.arange(3.0).tobytes())


def npz(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "matrix",
    [npy("(1000000000000, 1000000)"), npy("(-1, 3)"), npy("(3, 2)", "<f8", bytes(8)), b"no array"],
)
def test_forged_npz(tmp_path, matrix):
    path = npz(tmp_path / "e.npz", **{"names.npy": NAMES, "matrix.npy": matrix})
    with pytest.raises((CorruptFileError, InputError)):
        ps.read_embedding(path)
    with pytest.raises((CorruptFileError, InputError)):
        read_parts(path, genes=["a"])


def test_objects_in_npz_are_not_unpickled(tmp_path):
    mark = tmp_path / "mark"
    evil = npy("(1,)", "|O", pickle.dumps(Evil(mark)))
    path = npz(tmp_path / "e.npz", **{"names.npy": evil, "matrix.npy": VALUES})
    with pytest.raises(InputError):
        ps.read_embedding(path)
    with pytest.raises(CorruptFileError):
        read_parts(path, genes=["a"])
    assert not mark.exists()


def test_entries_of_a_zip_are_not_unpacked_by_name(tmp_path):
    entries = {"../../evil.npy": NAMES, "/abs.npy": NAMES, "names.npy": NAMES, "matrix.npy": VALUES}
    (tmp_path / "a/b").mkdir(parents=True)
    path = npz(tmp_path / "a/b/e.npz", **entries)
    assert ps.read_embedding(path).names == ("A", "B", "C")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_bombs(tmp_path, monkeypatch):
    """Files of some kB that unpack to 50 MB, with the limit set below that."""
    monkeypatch.setattr(limits, "FREE_BYTES", 10_000_000)
    zeros = bytes(50_000_000)
    values = npy("(3, 2083333)", "<f8", zeros[: 3 * 2083333 * 8])
    npz(tmp_path / "e.npz", **{"names.npy": NAMES, "matrix.npy": values})
    with gzip.open(tmp_path / "e.csv.gz", "wb", compresslevel=6) as file:
        file.write(b"g,x\n" + zeros.replace(b"\0", b"0"))
    n = 2_000_000
    table = pd.DataFrame({"perturbation": ["A"] * n, "gene": ["x"] * n, "value": np.zeros(n)})
    table.to_parquet(tmp_path / "e.parquet")
    for name in ("e.npz", "e.csv.gz", "e.parquet"):
        for read in (ps.read_embedding, lambda p: read_parts(p)):
            with pytest.raises(CorruptFileError, match=r"declares .* stored"):
                read(tmp_path / name)
    with pytest.raises(CorruptFileError, match="stored"):
        ps.io.check(tmp_path / "e.csv.gz")


def test_a_large_file_that_holds_what_it_declares_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "FREE_BYTES", 1000)
    values = np.random.default_rng(0).normal(size=(3, 500))
    np.savez_compressed(tmp_path / "e.npz", names=np.array(list("ABC")), matrix=values)
    assert ps.read_embedding(tmp_path / "e.npz").matrix.shape == (3, 500)


# --- text -----------------------------------------------------------------------------------------

MTX = "%%MatrixMarket matrix coordinate integer general\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{HUGE} {HUGE} 1\n1 1 1\n",
        f"{'9' * 6000} 3 1\n1 1 1\n",
        f"2 3 {HUGE}\n1 1 1\n",
        "2 3 1\n7 1 1\n",
        "2 3 1\n-1 1 1\n",
        "2 3 1\n99999999999999999999 1 1\n",
    ],
)
def test_forged_mtx(tmp_path, text):
    (tmp_path / "matrix.mtx").write_text(MTX + text)
    (tmp_path / "features.tsv").write_text("a\nb\n")
    (tmp_path / "barcodes.tsv").write_text("x\ny\nz\n")
    with pytest.raises((CorruptFileError, InputError)):
        read_whole(tmp_path)


DEEP = "[" * 200_000
SPLITS = {
    "nested": '{"train":' + DEEP,
    "digits": '{"train":[' + "9" * 5000 + '],"test":["B"]}',
    "NaN": '{"train":["A",NaN],"test":["B"]}',
    "key twice": '{"train":["A"],"train":["C"],"test":["B"]}',
    "name twice": '{"train":["A","A"],"test":["B"]}',
    "half a character": '{"train":["\\ud800"],"test":["B"]}',
    "name": '{"train":["A"],"test":["B"],"pertscale":{"name":[1],"seed":1,"kind":"x","hash":"x"}}',
    "kind": '{"train":["A"],"test":["B"],"pertscale":{"name":"n","seed":1,"kind":3,"hash":2}}',
    "seed": '{"train":["A"],"test":["B"],"pertscale":{"name":"n","seed":"x","kind":"k","hash":2}}',
}


def test_names_in_tables_stay_as_they_are_spelled(tmp_path):
    names = ["NA", "nan", "None", "007", "1e5", "-1", "True", "=cmd()", '"q"', "a,b", " ", "x\ty"]
    long = pd.DataFrame({"perturbation": names, "gene": names[::-1], "value": 1.0})
    for name, separator in (("p.csv", ","), ("p.tsv.gz", "\t")):
        long.to_csv(tmp_path / name, index=False, sep=separator)
        (part,) = read_parts(tmp_path / name)
        assert (list(part.perturbations), list(part.genes)) == (names, names[::-1])


@pytest.mark.parametrize("name", SPLITS)
def test_forged_split(tmp_path, name):
    (tmp_path / "s.json").write_text(SPLITS[name])
    with pytest.raises(PertscaleError):
        ps.Split.read(tmp_path / "s.json")


def test_nested_json_elsewhere(tmp_path):
    (tmp_path / "e.json").write_text('{"A":' + DEEP)
    (tmp_path / "genes.json").write_text(DEEP)
    (tmp_path / "models.toml").write_text("a=" + DEEP)
    (tmp_path / "all_predictions.json").write_text('{"A":' + DEEP + "]")
    (tmp_path / "gene_names.json").write_text('["a"]')
    np.savez(tmp_path / "p.npz", A=np.ones(1))
    for read in (
        lambda: ps.read_embedding(tmp_path / "e.json"),
        lambda: read_aliases(tmp_path / "e.json"),
        lambda: read_parts(tmp_path / "p.npz", genes=tmp_path / "genes.json"),
        lambda: read_parts(tmp_path),
        lambda: read_config(tmp_path / "models.toml"),
    ):
        with pytest.raises(CorruptFileError):
            read()


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/b", "x" * 300, "CON", "nul.txt", "x.", "x ", ".task", "a\\nb", "-rf", "a:b"],
)
def test_names_of_models(tmp_path, name):
    text = f'[models.{json.dumps(name)}]\ncommand = ["m", "{{task}}", "{{out}}"]\n'
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(InputError, match="folder"):
        read_config(tmp_path / "models.toml")


def test_models_that_differ_by_case_alone(tmp_path):
    command = 'command = ["m", "{task}", "{out}"]\n'
    (tmp_path / "models.toml").write_text(f"[models.CPA]\n{command}[models.cpa]\n{command}")
    with pytest.raises(InputError, match="case"):
        read_config(tmp_path / "models.toml")


def test_commands_are_lists(tmp_path):
    (tmp_path / "models.toml").write_text('[models.X]\ncommand = "m {task} {out}; rm -rf x"\n')
    with pytest.raises(InputError, match="list of texts"):
        read_config(tmp_path / "models.toml")


def test_placeholders_are_filled_once():
    places = {"{task}": "/x/{out}/t", "{out}": "/x/{task}/o"}
    assert _filled("--in={task};{out}", places) == "--in=/x/{out}/t;/x/{task}/o"


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_hdf5_cannot_hold(tmp_path, name):
    labels = pd.Index([name], dtype=object)  # pandas' own strings may refuse such a name
    frame = pd.DataFrame({"x": pd.Categorical.from_codes([0], labels)}, index=["c"])
    for obs, var in ((frame, frame[[]]), (frame[[]].set_axis(labels), frame[[]])):
        with pytest.raises(InputError, match=re.escape(repr(name))):
            write_h5ad(tmp_path / "t.h5ad", [], obs=obs, var=var, compression=None)


def test_a_wide_csv_is_read(tmp_path):
    n = 50_000
    rows = [f"c{i}," + ",".join(["1"] * n) for i in range(4)]
    head = "cell," + ",".join(f"g{i}" for i in range(n))
    (tmp_path / "wide.csv").write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "cells.csv").write_text("cell,perturbation\nc0,control\nc1,A\nc2,control\nc3,A\n")
    with open_source(find_source(tmp_path / "wide.csv")) as source:
        assert (source.n_cells, source.n_genes) == (4, n)


# --- bytes changed at random ----------------------------------------------------------------------


def changed(data: bytes, random: np.random.Generator) -> bytes:
    """Cut, overwrite or insert some bytes."""
    at = int(random.integers(0, len(data)))
    noise = random.integers(0, 256, int(random.integers(1, 9)), dtype=np.uint8).tobytes()
    return [data[:at], data[:at] + noise + data[at:], data[:at] + noise + data[at + len(noise) :]][
        int(random.integers(0, 3))
    ]


def write_files(folder: Path) -> dict[str, object]:
    """Small files of each kind, and what reads them."""
    screen().write_h5ad(folder / "s.h5ad")
    np.savez(folder / "e.npz", names=np.array(list("ABC")), matrix=np.eye(3))
    long = pd.DataFrame({"perturbation": ["A", "B"], "gene": ["x", "y"], "value": [1.0, 2.0]})
    long.to_csv(folder / "p.csv", index=False)
    long.to_csv(folder / "p.tsv.gz", index=False, sep="\t")
    long.to_parquet(folder / "p.parquet")
    pd.DataFrame(np.eye(3), index=list("ABC")).to_csv(folder / "e.csv")
    ps.Split("s", ("A", "B"), ("C",)).write(folder / "s.json")
    as_zarr(folder / "s.zarr", 3)
    return {
        "s.h5ad": read_whole,
        "e.npz": ps.read_embedding,
        "p.csv": read_parts,
        "p.tsv.gz": read_parts,
        "p.parquet": read_parts,
        "e.csv": ps.read_embedding,
        "s.json": ps.Split.read,
        "s.zarr": read_whole,
    }


def test_damaged_files_raise_errors_of_ours(tmp_path):
    readers = write_files(tmp_path)
    refused = 0
    for seed in range(6):
        for name, read in readers.items():
            random = np.random.default_rng([seed, *name.encode()])
            files = [tmp_path / name]
            if files[0].is_dir():
                files = sorted(p for p in files[0].rglob("*") if p.is_file())
            target = files[int(random.integers(0, len(files)))]
            whole = target.read_bytes()
            target.write_bytes(changed(whole, random))
            try:
                read(tmp_path / name)
            except (PertscaleError, PertscaleWarning):
                refused += 1
            finally:
                target.write_bytes(whole)
    assert refused > 10
    for name, read in readers.items():  # they are whole again, and readable
        read(tmp_path / name)
