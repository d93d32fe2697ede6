"""Every public reader of embeddings, predictions, labels and their like, on files that are wrong.

A case is a file, what reads it, and what has to come out: the right values where the data are
fine, else an error of ours that names the file. Nothing may take more memory than there is.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import xarray as xr

import pertscale as ps
from pertscale.errors import CorruptFileError, InputError, PertscaleError, PertscaleWarning
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.guards import limits
from pertscale.io.guards.pickle_shape import MOST_NESTED
from tests.security.test_untrusted_files import npy

GENES = ["x", "y"]


def embedding(path: Path) -> Any:
    found = ps.read_embedding(path, allow_pickle=path.suffix == ".pkl")
    return dict(zip(found.names, found.matrix.tolist(), strict=True))


def predictions(path: Path) -> Any:
    named = path.suffix in (".npz", ".pkl")
    (part,) = ps.read_predictions(
        path, genes=GENES if named else None, allow_pickle=path.suffix == ".pkl"
    ).parts
    return dict(zip(part.perturbations, np.asarray(part.values).tolist(), strict=True))


def labels(path: Path) -> Any:
    found, _ = ps.stats.read_label_table(path)
    table = found.to_pandas()[["perturbation", "gene", "label"]]
    return [tuple(map(str, row)) for row in table.itertuples(index=False)]


def perturbqa(path: Path) -> Any:
    found, split = ps.stats.read_perturbqa(path.parent, line="k")
    return found.to_pandas()["label"].tolist(), split.train, split.test


def edges(path: Path) -> Any:
    return ps.embeddings.from_edges(path, dim=1).names


def cells(path: Path) -> Any:
    return ps.embeddings.from_cells(path).names


# --- what makes a file ----------------------------------------------------------------------------


def text(content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data) and None


def parquet(**columns: Any) -> Callable[[Path], None]:
    table = pa.table(columns)
    return lambda path: pq.write_table(table, path)


def arrays(**entries: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(f"{name}.npy", content)

    return write


def saved(**entries: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **entries)


def pickled(content: Any, protocol: int = 4) -> Callable[[Path], None]:
    return text(pickle.dumps(content, protocol=protocol))


def h5ad(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    """Three genes and six labelled cells with vectors of both, then changed."""

    def write(path: Path) -> None:
        obs = pd.DataFrame({"perturbation": ["A", "B", "control"] * 2}, list("cdefgh"))
        data = ad.AnnData(np.zeros((6, 3)), obs=obs, var=pd.DataFrame(index=list("XYZ")))
        data.varm["e"], data.obsm["X_emb"] = np.eye(3), np.arange(12.0).reshape(6, 2)
        data.write_h5ad(path)
        with h5py.File(path, "a") as file:
            change(file)

    return write


def put(key: str, **how: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        attributes = dict(file[key].attrs) if key in file else {}
        if key in file:
            del file[key]
        file.create_dataset(key, **how).attrs.update(attributes)

    return change


def only_genes(change: Callable[[h5py.File], None] = lambda _: None) -> Callable[[Path], None]:
    def both(file: h5py.File) -> None:
        del file["obsm/X_emb"]
        change(file)

    return h5ad(both)


def no_utf8(file: h5py.File) -> None:
    names = np.array([b"\xff\xfe", b"b", b"c"], dtype=object)
    put("var/_index", data=names, dtype=h5py.string_dtype("ascii"))(file)


def newer(key: str) -> Callable[[h5py.File], None]:
    return lambda file: file[key].attrs.__setitem__("encoding-version", "9.0.0")


def sparse(path: Path) -> None:
    data = ad.AnnData(np.zeros((3, 1)), obs=pd.DataFrame(index=list("XYZ")))
    data.obsm["e"] = sp.csr_matrix((3, 3000))
    data.write_h5ad(path)


def profiles_without(row: int) -> Callable[[Path], None]:
    """Two profiles, one of which does not say what it is of."""

    def write(path: Path) -> None:
        names = pd.Categorical(["A", "B"])
        names[row] = None
        obs = pd.DataFrame({"perturbation": names}, ["a", "b"])
        ad.AnnData(np.eye(2), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)

    return write


def perturbqa_files(de: bytes, direction: bytes = b"A,y,1,train\n") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        head = b"pert,gene,label,split\n"
        path.write_bytes(head + de)
        path.with_name("k-dir.csv").write_bytes(head + direction)

    return write


def nested(opcode: bytes, n: int, first: bytes = b")") -> bytes:
    """Return a pickle of a dictionary whose key nests n times."""
    return b"\x80\x04}" + first + opcode * n + b"K\x01s."


def deep(n: int = 200_000) -> dict[str, bytes]:
    through_memo = b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(250))
    return {
        "tuples": nested(b"\x85", n),
        "pairs": nested(b"N\x86", n),
        "marked": b"\x80\x04}" + b"(" * n + b")" + b"t" * n + b"K\x01s.",
        "memo": b"\x80\x04})" + through_memo + b"K\x01s.",
        "in the arguments of a call": nested(
            b"", 0, b"cbuiltins\nfrozenset\n(]" + b")" + b"\x85" * n + b"atR"
        ),
        "in a frozenset": b"\x80\x04}()" + b"\x85" * n + b"\x91K\x01s.",
        "with other objects between": nested(b"\x85N0", n),
    }


Z0 = npy("(1000000000,)", "<U0"), npy("(1000000000, 0)", "<f8")
NAME = npy("(1,)", "<U1", "a".encode("utf-32-le"))
PAIRS = "perturbation,gene,label\nA,x,up\nA,y,down\n"
WRONG: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any]]] = {
    # pickles
    **{f"nested {k}": ("e.pkl", text(v), embedding) for k, v in deep().items()},
    **{f"nested {k}, predicted": ("p.pkl", text(v), predictions) for k, v in deep().items()},
    "memo of 16 GB": ("e.pkl", text(b"\x80\x02}r\xff\xff\xff\x7f."), embedding),
    "cut pickle": ("e.pkl", text(pickle.dumps({"A": [1.0]})[:-3]), embedding),
    "empty pickle": ("e.pkl", text(b""), embedding),
    "lists in lists": (
        "e.pkl",
        text(b"\x80\x02}X\x01\0\0\0A" + b"]" * 99 + b"a" * 98 + b"s."),
        embedding,
    ),
    "a list in itself": ("e.pkl", text(b"\x80\x02}X\x01\0\0\0A]q\x00h\x00as."), embedding),
    "a doubled list": (
        "p.pkl",
        text(
            b"\x80\x02}X\x01\0\0\0A]K\x01a"
            + b"".join(b"q%c]h%ca" % (i, i) + b"h%ca" % i for i in range(28))
            + b"s."
        ),
        predictions,
    ),
    "complex in a pickle": ("p.pkl", pickled({"A": [1 + 2j, 3j]}), predictions),
    "text in a pickle": ("p.pkl", pickled({"A": ["a", "b"]}), predictions),
    "text array in a pickle": ("p.pkl", pickled({"A": np.array(["a", "b"])}), predictions),
    "no name in a tuple": ("p.pkl", pickled({("A", None): [1.0, 2.0]}), predictions),
    "no name in a pickle": ("p.pkl", pickled({None: [1.0, 2.0]}), predictions),
    # npz
    "1e9 empty names": ("e.npz", arrays(names=Z0[0], matrix=Z0[1]), embedding),
    "1e9 empty perturbations": (
        "p.npz",
        arrays(perturbations=Z0[0], genes=NAME, values=Z0[1]),
        predictions,
    ),
    "1e11 empty bytes": ("p.npz", arrays(A=npy("(100000000000,)", "|S0")), predictions),
    "complex": (
        "p.npz",
        saved(perturbations=["A"], genes=GENES, values=[[1 + 2j, 3]]),
        predictions,
    ),
    "complex rows": ("p.npz", saved(A=np.array([1 + 2j, 3])), predictions),
    "complex embedding": ("e.npz", saved(names=["A"], matrix=[[1 + 2j, 3]]), embedding),
    "times": ("p.npz", saved(A=np.zeros(2, "M8[s]")), predictions),
    "text values": (
        "p.npz",
        saved(perturbations=["A"], genes=GENES, values=[["a", "b"]]),
        predictions,
    ),
    "names in a matrix": (
        "p.npz",
        saved(perturbations=[["A"]], genes=GENES, values=[[1, 2]]),
        predictions,
    ),
    "empty npz": ("p.npz", saved(), predictions),
    # Parquet
    "lists for names": (
        "t.parquet",
        parquet(perturbation=[["A"]], gene=["x"], label=[1]),
        labels,
    ),
    "lists for names, predicted": (
        "t.parquet",
        parquet(perturbation=["A"], gene=[["x"]], value=[1.0]),
        predictions,
    ),
    "a prediction of nothing": (
        "p.parquet",
        parquet(perturbation=["A", None], x=[1.0, 2.0], y=[1.0, 2.0]),
        predictions,
    ),
    "lists for values": (
        "t.parquet",
        parquet(perturbation=["A"], gene=["x"], value=[[1.0]]),
        predictions,
    ),
    "lists for labels": ("t.parquet", parquet(perturbation=["A"], gene=["x"], label=[[1]]), labels),
    "lists in an embedding": ("e.parquet", parquet(name=["A"], d=[[1.0]]), embedding),
    "times for values": (
        "t.parquet",
        parquet(perturbation=["A"], gene=["x"], value=pa.array([1], pa.timestamp("ns"))),
        predictions,
    ),
    "bytes that are no text": (
        "t.parquet",
        parquet(perturbation=[b"\xff"], gene=["x"], label=[1]),
        labels,
    ),
    "cut Parquet": ("t.parquet", text(b"PAR1"), labels),
    "cut Parquet, embedding": ("t.parquet", text(b"PAR1" * 9), embedding),
    "broken pandas metadata": (
        "t.parquet",
        lambda path: pq.write_table(
            pa.table({"a": ["A"], "b": [1.0]}).replace_schema_metadata({"pandas": "{"}), path
        ),
        embedding,
    ),
    # label tables
    "integer columns": ("t.parquet", parquet(**{"0": ["A"], "1": ["x"], "2": [1]}), labels),
    "two spellings": ("t.csv", text(PAIRS.replace("label", "Gene")), labels),
    "label missing": ("t.parquet", parquet(perturbation=["A"], gene=["x"], label=[None]), labels),
    "labels of no number": (
        "t.parquet",
        parquet(perturbation=["A"], gene=["x"], label=[np.nan]),
        labels,
    ),
    "a pair twice": ("t.csv", text(PAIRS + "A,x,up\n"), labels),
    "a name in both parts": (
        "t.csv",
        text("perturbation,gene,label,split\nA,x,up,train\nA,y,up,test\nB,x,up,test\n"),
        labels,
    ),
    "probabilities that are text": (
        "p.csv",
        text("perturbation,gene,p_down,p_non_de,p_up\nA,x,0.1,low,0.9\n"),
        predictions,
    ),
    "an unclosed quote": ("p.csv", text('perturbation,gene,value\nA,x,1\n"A,y,2\n'), predictions),
    # PerturbQA
    "PerturbQA, label 2": ("k-de.csv", perturbqa_files(b"A,x,2,train\nA,y,1,train\n"), perturbqa),
    "PerturbQA, direction 7": (
        "k-de.csv",
        perturbqa_files(b"A,x,0,train\nA,y,1,train\n", b"A,y,7,train\n"),
        perturbqa,
    ),
    "PerturbQA, cut": ("k-de.csv", perturbqa_files(b"A,x,0,train\nA,y,1,train\nB,y"), perturbqa),
    "PerturbQA, no label": ("k-de.csv", perturbqa_files(b"A,x,,train\nA,y,1,train\n"), perturbqa),
    "PerturbQA, quote": ("k-de.csv", perturbqa_files(b'A,"x,0,train\nA,y,1,train\n'), perturbqa),
    "PerturbQA, a part": ("k-de.csv", perturbqa_files(b"A,x,0,tra\nA,y,1,train\n"), perturbqa),
    "PerturbQA, in both parts": (
        "k-de.csv",
        perturbqa_files(b"A,x,0,test\nA,y,1,train\n"),
        perturbqa,
    ),
    "PerturbQA, twice": (
        "k-de.csv",
        perturbqa_files(b"A,x,0,train\nA,x,0,train\nA,y,1,train\n"),
        perturbqa,
    ),
    # h5ad
    "names that are no text": ("e.h5ad", only_genes(no_utf8), embedding),
    "a newer encoding": ("e.h5ad", only_genes(newer("varm/e")), embedding),
    "vectors of text": ("c.h5ad", h5ad(put("obsm/X_emb", data=np.full((6, 2), b"x"))), cells),
    "vectors without numbers": ("c.h5ad", h5ad(put("obsm/X_emb", data=np.zeros((6, 0)))), cells),
    "vectors of 1e12 numbers": (
        "c.h5ad",
        h5ad(put("obsm/X_emb", shape=(6, 2**40), dtype="i1", chunks=(1, 2**20))),
        cells,
    ),
    "names in a matrix, embedding": (
        "e.h5ad",
        only_genes(put("var/_index", data=[[b"X"], [b"Y"], [b"Z"]])),
        embedding,
    ),
    "a row of nothing": ("p.h5ad", profiles_without(1), predictions),
    "too few vectors": ("c.h5ad", h5ad(put("obsm/X_emb", data=np.zeros((4, 2)))), cells),
    "infinite vectors": ("c.h5ad", h5ad(put("obsm/X_emb", data=np.full((6, 2), np.inf))), cells),
    # edges
    "edges without weight": ("e.csv", text("source,target,importance\nA,B,nan\nB,C,1\n"), edges),
    "edges of infinite weight": (
        "e.csv",
        text("source,target,importance\nA,B,inf\nB,C,1\n"),
        edges,
    ),
    "edges to nothing": (
        "e.parquet",
        parquet(source=["A", "B"], target=["B", None], importance=[1.0, 2.0]),
        edges,
    ),
    "two genes": ("e.csv", text("source,target,importance\nA,A,1\n"), edges),
    # aliases
    "an alias of null": ("a.json", text('{"a": null}'), read_aliases),
    "an alias of a list": ("a.json", text('{"a": ["A", "B"]}'), read_aliases),
    "aliases that are lists": ("a.parquet", parquet(a=[[1]], b=["A"]), read_aliases),
    "an alias of nothing": (
        "a.parquet",
        parquet(a=["a"], b=pa.array([None], pa.string())),
        read_aliases,
    ),
    "an alias of the empty name": ("a.csv", text("other,name\na,\n"), read_aliases),
    "cut aliases": ("a.parquet", text(b"PAR1"), read_aliases),
    # a separator of the first line is lost, which then looks as R writes it
    "a wide header": ("p.csv", text("perturbation,x,y\fz\nA,1,2,3\nB,1,2,3\n"), predictions),
    "a wide header without its first name": ("p.csv", text(",x,y\fz\nA,1,2,3\n"), predictions),
    "a long header": (
        "t.csv",
        text("perturbation,gene,fold\fpval,label\nA,x,1,.5,up\nA,y,1,.5,up\n"),
        labels,
    ),
    "a header of vectors": ("e.csv", text(",d0,d1\fd2\nA,1,2,3\nB,4,5,6\n"), embedding),
    # text
    "a field without end": ("e.csv", text("g,a\nA," + "1" * 200_000 + "\n"), embedding),
    "a header without end": ("e.csv", text("g," + "a" * 200_000 + "\nA,1\n"), embedding),
    "names twice": ("e.csv", text("g,d0,d1\nA,1,2\nA,3,4\n"), embedding),
    "no name": ("e.csv", text("g,d0,d1\n,1,2\nA,3,4\n"), embedding),
    "UTF-8 and not": ("e.csv", text("g,d0,d1\né,1,2\n".encode() + b"A\xe9,3,4\n"), embedding),
    "no text": ("e.csv", text(b"g,d0,d1\nA\x81,1,2\n"), embedding),
    "gene sets that are no text": ("s.gmt", text(b"T\td\tA\x81\n"), embedding),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_clear_error_names_the_file(tmp_path, name):
    file, write, read = WRONG[name]
    write(tmp_path / file)
    with pytest.raises(PertscaleError) as error:
        read(tmp_path / file)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value)) < 1500


FINE: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any], Any]] = {
    "big-endian npz": (
        "p.npz",
        saved(A=np.array([1, 2], ">f8"), B=np.array([3, 4], ">i2")),
        predictions,
        {"A": [1, 2], "B": [3, 4]},
    ),
    "big-endian embedding": (
        "e.npz",
        saved(names=np.array(["A"], ">U1"), matrix=np.array([[1, 2]], ">f4")),
        embedding,
        {"A": [1, 2]},
    ),
    "big-endian pickle": (
        "p.pkl",
        pickled({"A": np.array([1, 2], ">f4")}),
        predictions,
        {"A": [1, 2]},
    ),
    "big-endian cells": (
        "c.h5ad",
        h5ad(put("obsm/X_emb", data=np.ones((6, 2), ">f8"))),
        cells,
        ("A", "B", "control"),
    ),
    "labels in a newer encoding": (
        "c.h5ad",
        h5ad(newer("obs/perturbation")),
        cells,
        ("A", "B", "control"),
    ),
    "tuples as keys": ("p.pkl", pickled({("A", "B"): [1, 2]}), predictions, {"A_B": [1, 2]}),
    "NumPy scalars in lists": (
        "e.pkl",
        pickled({"A": [np.float64(1), np.float32(2)]}),
        embedding,
        {"A": [1, 2]},
    ),
    "profiles of AnnData without contexts": (
        "p.h5ad",
        lambda path: ad.AnnData(
            np.eye(2),
            obs=pd.DataFrame({"perturbation": ["A", "B"], "context": [np.nan] * 2}, ["a", "b"]),
            var=pd.DataFrame(index=GENES),
        ).write_h5ad(path),
        predictions,
        {"A": [1, 0], "B": [0, 1]},
    ),
    "a control without a name": (
        "p.csv",
        text(",x,y\n,1,2\nA,3,4\n"),
        predictions,
        {"": [1, 2], "A": [3, 4]},
    ),
    "names of rows as R writes them": (
        "t.csv",
        text('"perturbation","gene","label"\n"1","A","x","up"\n"2","A","y","down"\n'),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "a row in a matrix": ("p.pkl", pickled({"A": np.ones((1, 2))}), predictions, {"A": [1, 1]}),
    "names in a dictionary": (
        "t.parquet",
        parquet(
            perturbation=pa.array(["A", "A"]).dictionary_encode(),
            gene=pa.array(["x", "y"]).dictionary_encode(),
            label=pa.array([1, -1]).dictionary_encode(),
        ),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "bytes for names": (
        "t.parquet",
        parquet(perturbation=[b"A", b"A"], gene=[b"x", b"y"], label=[1, -1]),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "integers for names": (
        "t.parquet",
        parquet(perturbation=[7, 7], gene=[1, 2], label=[1, -1]),
        labels,
        [("7", "1", "1"), ("7", "2", "-1")],
    ),
    "rows that are numbered otherwise": (
        "t.parquet",
        lambda path: pd.DataFrame(
            {"perturbation": ["A", "A"], "gene": ["x", "y"], "label": [1, -1]}, index=[5, 9]
        ).to_parquet(path),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "large texts": (
        "t.parquet",
        parquet(
            perturbation=pa.array(["A", "A"], pa.large_string()), gene=["x", "y"], label=[1, -1]
        ),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "a wide table with numbered columns": (
        "p.parquet",
        lambda path: pd.DataFrame({0: ["A"], 1: [1.0], 2: [2.0]}).to_parquet(path),
        predictions,
        {"A": [1, 2]},
    ),
    "a byte order mark": (
        "t.csv",
        text("\ufeff" + PAIRS),
        labels,
        [("A", "x", "1"), ("A", "y", "-1")],
    ),
    "PerturbQA": (
        "k-de.csv",
        perturbqa_files(b"A,NA,0,train\nA,y,1,train\nB,y,0,test\n"),
        perturbqa,
        ([0, 1, 0], ("A",), ("B",)),
    ),
    "aliases as bytes": (
        "a.parquet",
        parquet(a=[b"a", b"7"], b=["A", "B"]),
        read_aliases,
        {"a": "A", "7": "B"},
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_read(tmp_path, name):
    file, write, read, expected = FINE[name]
    write(tmp_path / file)
    assert read(tmp_path / file) == expected


@pytest.mark.parametrize(
    ("file", "content", "read", "expected"),
    [
        ("t.csv", PAIRS.replace("A", "Å"), labels, [("Å", "x", "1"), ("Å", "y", "-1")]),
        ("e.csv", "g,d0,d1\nÅ,1,2\n", embedding, {"Å": [1, 2]}),
        ("a.csv", "other,name\né,A\n", read_aliases, {"é": "A"}),
        (
            "k-de.csv",
            "pert,gene,label,split\nÅ,x,0,train\nB,x,0,test\n",
            perturbqa,
            ([0, 0], ("Å",), ("B",)),
        ),
    ],
)
def test_windows_1252_is_read_with_a_warning(tmp_path, file, content, read, expected):
    (tmp_path / "k-dir.csv").write_text("pert,gene,label,split\nZ,z,1,train\n")
    if read is perturbqa:
        content += "Z,z,1,train\n"
        expected = ([0, 1, 0], ("Z", "Å"), ("B",))
    (tmp_path / file).write_bytes(content.encode("cp1252"))
    with pytest.warns(PertscaleWarning, match=f"{file} is no UTF-8; .* Windows-1252"):
        found = read(tmp_path / file)
    assert sorted(map(str, found)) == sorted(map(str, expected))


# --- sizes ----------------------------------------------------------------------------------------


def diagonal(column: str, value: str, n: int = 400) -> str:
    return f"perturbation,gene,{column}\n" + "".join(f"P{i},g{i},{value}\n" for i in range(n))


@pytest.mark.parametrize(
    ("file", "write", "read"),
    [
        ("p.csv", text(diagonal("value", "1")), predictions),
        ("p.csv", text(diagonal("label", "up")), predictions),
        (
            "l.csv",
            text(diagonal("label", "up")),
            lambda p: ps.stats.read_label_table(p)[0].matrix(),
        ),
        ("e.h5ad", sparse, embedding),
        ("s.gmt", text("T\td\t" + "\t".join(f"g{i}" for i in range(400)) + "\n"), embedding),
        ("p.pkl", pickled({str(i): [1.0, 2.0] for i in range(40_000)}), predictions),
    ],
)
def test_dense_sizes_are_compared_with_memory(tmp_path, monkeypatch, file, write, read):
    write(tmp_path / file)
    read(tmp_path / file) if file != "s.gmt" else ps.embeddings.from_gene_sets(tmp_path / file)
    monkeypatch.setattr(limits, "FREE_BYTES", 10_000)
    monkeypatch.setattr(limits, "_free_bytes", lambda: 100_000)
    with pytest.raises(InputError, match="memory"):
        read(tmp_path / file)


def test_a_name_that_repeats_in_parquet_is_stored_once(tmp_path):
    """Otherwise 20,000 rows of it take 2 GB."""
    import tracemalloc

    n, long = 2000, "x" * 10_000
    columns = {"gene": [f"g{i}" for i in range(n)], "value": np.ones(n)}
    for name, names in (
        ("plain", pa.array([long] * n)),
        ("dictionary", pa.array([long] * n).dictionary_encode()),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"perturbation": names, **columns}), path)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        (part,) = ps.read_predictions(path).parts
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert part.perturbations == (long,)
        assert most < 5_000_000
        assert pa.total_allocated_bytes() - before < 5_000_000


def test_large_texts_are_counted_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE_BYTES", 1_000_000)
    names = pa.array(["x" * 10_000] * 2000, pa.large_string())
    pq.write_table(pa.table({"name": names, "d": np.ones(2000)}), tmp_path / "e.parquet")
    with pytest.raises(CorruptFileError, match="unpacks to more than it can hold"):
        ps.read_embedding(tmp_path / "e.parquet")


def test_how_deep_pickles_may_nest(tmp_path):
    """At the limit a key is refused for what it is, beyond it before it is loaded."""
    for n, says in ((MOST_NESTED, "is not a name"), (MOST_NESTED + 1, "inside of each other")):
        (tmp_path / "e.pkl").write_bytes(nested(b"\x85", n))
        with pytest.raises(InputError, match=says):
            ps.read_embedding(tmp_path / "e.pkl", allow_pickle=True)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(tmp_path, protocol):
    content = {f"g{i}": np.arange(3.0) + i for i in range(300)}
    (tmp_path / "e.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = embedding(tmp_path / "e.pkl")
    assert found == {k: v.tolist() for k, v in content.items()}
    (tmp_path / "e.pkl").write_bytes(pickle.dumps(found, protocol=protocol))
    assert embedding(tmp_path / "e.pkl") == found


def test_lists_of_genes(tmp_path):
    np.savez(tmp_path / "p.npz", A=np.ones(2))
    for name, content in (
        ("g.json", json.dumps(["x", None])),
        ("g.json", json.dumps(["x", ["y"]])),
        ("g.json", json.dumps({"x": 1})),
        ("g.txt", "x\n"),
        ("g.txt", b"x\ny\x81\n"),
    ):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PertscaleError) as error:
            ps.read_predictions(tmp_path / "p.npz", genes=tmp_path / name)
        assert str(tmp_path) in str(error.value)
    with pytest.raises(PertscaleError, match="genes"):
        ps.read_predictions(tmp_path / "p.npz", genes=["x", None])


@pytest.mark.parametrize("reader", [embedding, predictions])
def test_texts_that_are_no_characters(tmp_path, reader):
    """As of another byte order than the header says; Python fails on them later."""
    names = np.array(GENES).astype("<U4")
    forged = npy("(2,)", ">U4", names.tobytes())
    key = "names" if reader is embedding else "perturbations"
    whole = {"values": np.ones((2, 2)), "genes": np.array(GENES)}
    whole = {"matrix": np.eye(2)} if reader is embedding else whole
    np.savez(tmp_path / "f.npz", **whole)
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive:
        archive.writestr(f"{key}.npy", forged)
    with pytest.raises(CorruptFileError, match=rf"{key}.*no characters.*f\.npz"):
        reader(tmp_path / "f.npz")


def test_a_fill_value_that_is_no_number(tmp_path):
    """Xarray keeps it as the text of eight bytes."""
    values = xr.DataArray(np.ones((2, 2)), [("perturbation", ["A", "B"]), ("gene", GENES)])
    values.to_dataset(name="prediction").to_zarr(tmp_path / "p.zarr", consolidated=False)
    meta = tmp_path / "p.zarr" / "prediction" / "zarr.json"
    forged = json.loads(meta.read_text())
    forged["attributes"]["_FillValue"] = "AAA="
    meta.write_text(json.dumps(forged))
    with pytest.raises(CorruptFileError, match=r"p\.zarr"):
        predictions(tmp_path / "p.zarr")
