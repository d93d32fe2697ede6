"""Embeddings: looking up, reading every format, refusing bad files, and the made ones."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections import OrderedDict

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from pertscale import embeddings
from pertscale.embeddings import Embedding, from_gene_sets, from_texts, from_training
from pertscale.embeddings.graph import adjacency_spectral_embedding, graph_from_edges, jaccard_graph
from pertscale.errors import (
    AmbiguousInputError,
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
)
from pertscale.io.guards import safe_pickle
from tests.support.helpers import GOLDEN, real_data

NAMES = ("TP53", "HLA-A", "NAN", "NKX2-1")
MATRIX = np.array([[0.1, -2.0, 3.0], [1 / 3, 1e-12, 0.5], [4.0, 5.0, 6.0], [7.0, 8.0, -9.5]])


@pytest.fixture
def small():
    return Embedding("small", ("A", "B", "C", "ctrl"), [[3, 4], [0, 2], [0, -5], [0, 0]])


# --- looking up ---------------------------------------------------------------------------------


def test_vectors(small):
    got = small.vectors(["B", "A", "A+B", "A+X", "X", "control", "B+C"])
    expected = np.full((7, 2), np.nan)
    expected[0], expected[1] = (0, 2), (3, 4)
    expected[2] = np.array([0.6, 1.8]) / np.hypot(0.6, 1.8)  # of the unit vectors, to length 1
    np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_vectors_of_guides_and_of_whole_names(small):
    targets = {"g1": ["A"], "g1|g2": ["A", "B"], "g1|g1": ["A", "A"], "g9": ["X"], "none": []}
    got = small.vectors(list(targets), targets=targets)
    np.testing.assert_allclose(got[:3], small.vectors(["A", "A+B", "A"]))
    assert np.isnan(got[3:]).all()
    doubles = Embedding("doubles", ("A", "B", "A+B"), [[1, 0], [0, 1], [9, 9]])
    np.testing.assert_array_equal(doubles.vectors(["A+B"]), [[9, 9]])
    with pytest.raises(ArgumentError, match="list of genes"):
        small.vectors(["g1"], targets={"g1": "STAT1"})


def test_a_control_of_its_own_is_used():
    other = Embedding("other", ("A", "ctrl"), [[1, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(other.vectors(["control"]), [[0.5, 0.5]])


def test_coverage(small):
    table = small.coverage(["A", "A+X", "X+Y", "control", "B+C"])
    assert table["n_genes_found"].to_list() == [1, 1, 0, 0, 2]
    assert table["missing"].to_list() == ["", "X", "X,Y", "", ""]
    assert table["covered"].to_list() == [True, False, False, False, False]


@given(
    npst.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6).map(lambda x: x if abs(x) > 1e-6 else 0.0),
    )
)
def test_normalized_rows_have_length_one_or_zero(matrix):
    embedding = Embedding("e", tuple(f"g{i}" for i in range(len(matrix))), matrix)
    unit = embedding.normalized()
    length = np.linalg.norm(unit.matrix, axis=1)
    np.testing.assert_allclose(length, matrix.any(axis=1).astype(float), rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(unit.vectors(unit.names)[:, 0]), ~matrix.any(axis=1))
    np.testing.assert_allclose(unit.normalized().matrix, unit.matrix, rtol=1e-12)


@pytest.mark.parametrize(
    ("names", "matrix", "words"),
    [
        (("A", "A"), [[1], [2]], "'A' twice"),
        (("A", ""), [[1], [2]], "empty name in row 1"),
        (("A", "B"), [[1], [np.nan]], "first 'B'"),
        (("A", "B"), [[1, 2]], "2 names and a matrix of shape"),
        ((), np.empty((0, 3)), "0 names"),
        (("A",), np.empty((1, 0)), "at least one column"),
    ],
)
def test_bad_content_is_refused(names, matrix, words):
    with pytest.raises(InputError, match=words):
        Embedding("e", names, matrix)


def test_it_is_immutable_and_hashed(small):
    with pytest.raises(ValueError, match="read-only"):
        small.matrix[0, 0] = 1
    same = Embedding("other name", small.names, small.matrix, {"from": "elsewhere"})
    assert same.hash == small.hash
    assert Embedding("small", small.names, small.matrix + 1).hash != small.hash
    assert Embedding("small", ("A", "B", "C", "D"), small.matrix).hash != small.hash
    again = pickle.loads(pickle.dumps(small))  # noqa: S301
    assert again.hash == small.hash
    assert "4 names, 1 of them zero (missing), 2 dimensions" in repr(small)
    assert "4 names" in small._repr_html_()


# --- tables -------------------------------------------------------------------------------------


def numbers(matrix, separator):
    return [separator.join(map(repr, map(float, row))) for row in matrix]


def rows_text(separator, first):
    """One gene per row; `first` is the header, if any."""
    body = [f"{n}{separator}{v}" for n, v in zip(NAMES, numbers(MATRIX, separator), strict=True)]
    return "\n".join([*([first] if first is not None else []), *body]) + "\n"


def columns_text(header, labels=("",) * 3):
    """One gene per column."""
    body = [f"{n}{v}" for n, v in zip(labels, numbers(MATRIX.T, "\t"), strict=True)]
    return "\n".join([header, *body]) + "\n"


TABLES = {
    "pandas.csv": rows_text(",", ",0,1,2"),
    "named_index.csv": rows_text(",", "gene,dim_1,dim_2,dim_3"),
    "counting_header_without_index_name.csv": rows_text(",", "gene,0,1,2"),
    "no_header.csv": rows_text(",", None),
    "tabs.tsv": rows_text("\t", "gene\tPC1\tPC2\tPC3"),
    "r_row_names.txt": rows_text("\t", "V1\tV2\tV3"),
    "tabs_in.csv": rows_text("\t", "gene\t0\t1\t2"),
    "bom.csv": "\ufeff" + rows_text(",", ",0,1,2"),
    "crlf.csv": rows_text(",", ",0,1,2").replace("\n", "\r\n"),
    "k1.tsv": columns_text("\t".join(NAMES)),
    "k1_with_index.tsv": columns_text("\t" + "\t".join(NAMES), ("0\t", "1\t", "2\t")),
    "k1_with_names.tsv": columns_text("\t" + "\t".join(NAMES), ("PC1\t", "PC2\t", "PC3\t")),
}


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_either_orientation(tmp_path, name, gzipped):
    data = TABLES[name].encode()
    path = tmp_path / (name + ".gz" * gzipped)
    path.write_bytes(gzip.compress(data) if gzipped else data)
    embedding = embeddings.read(path)
    assert embedding.names == NAMES
    np.testing.assert_array_equal(embedding.matrix, MATRIX)  # to the last bit
    assert embedding.name == name.rpartition(".")[0]


def test_the_user_decides_where_both_sides_could_be_names(tmp_path):
    path = tmp_path / "square.csv"
    path.write_text(",KRAS,MYC\nTP53,1,2\nJUN,3,4\n")
    with pytest.raises(AmbiguousInputError, match=r"orientation='rows'.*'columns'"):
        embeddings.read(path)
    assert embeddings.read(path, orientation="rows").names == ("TP53", "JUN")
    columns = embeddings.read(path, orientation="columns")
    assert columns.names == ("KRAS", "MYC")
    np.testing.assert_array_equal(columns.matrix, [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("e.csv", "gene,0,1\nA,1,2\nB,x,4\n", InputError, "line 3, column 2 is 'x'"),
        ("e.csv", "gene,0,1\nA,1,2\nB,,4\n", InputError, "line 3, column 2 is ''"),
        ("e.csv", "gene,0,1\nA,1,2\nB,nan,4\n", InputError, "line 3, column 2 is 'nan'"),
        ("e.csv", "gene,0,1\nA,1,2\nA,3,4\n", InputError, "'A' twice"),
        ("e.csv", "gene,0,1\nA,1,2\nB,3,4,5\n", CorruptFileError, "line 3 has 4 cells"),
        ("e.csv", "gene,0,1\nA,1,2\nB,3\n", CorruptFileError, "line 3 has 2 cells"),
        ("e.csv", "gene,0,1\nA,1,1e999\n", InputError, "line 2, column 3 is '1e999'"),
        ("e.csv", "gene,0,1\n", InputError, "no rows"),
        ("e.csv", "", InputError, "no columns"),
        ("e.csv", "0,1\n1,2\n", AmbiguousInputError, "neither"),
        ("e.json", '{"A": [1, 2], "B": [1]}', InputError, "'B' has shape"),
        ("e.json", '{"A": [1, 2], "B": "text"}', InputError, "'B' is not made of numbers"),
        ("e.json", '{"A": [1, 2], "A": [3, 4]}', InputError, "'A' occurs twice"),
        ("e.json", '{"A": [1, 2', CorruptFileError, "JSON"),
        ("e.json", "[1, 2]", InputError, "JSON object"),
        ("e.docx", "", InputError, "suffix '.docx'"),
        ("e.npz", "no zip", CorruptFileError, "zip archive"),
        ("e.parquet", "no parquet", CorruptFileError, "Parquet"),
        ("e.h5ad", "no hdf5", CorruptFileError, "h5ad"),
        ("e.gmt", "term\tdescription\n", InputError, "line 1 has no genes"),
        ("e.gmt", "t\td\tA\nt\td\tB\n", InputError, "line 2 repeats the term 't'"),
        ("e.gmt", "\n", InputError, "no gene sets"),
    ],
)
def test_bad_files_say_where(tmp_path, name, text, error, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=words):
        embeddings.read(path)


def test_content_tells_whether_a_text_is_gzipped(tmp_path):
    """A browser unpacks what it loads, and keeps the name."""
    path = tmp_path / "e.csv.gz"
    path.write_text("gene,0,1\nA,1,2\n")
    np.testing.assert_array_equal(embeddings.read(path).matrix, [[1, 2]])


def test_a_truncated_gzip_is_noticed(tmp_path):
    path = tmp_path / "e.csv.gz"
    rng = np.random.default_rng(0)
    text = "gene,0,1\n" + "".join(f"g{i},{rng.normal()},{rng.normal()}\n" for i in range(5000))
    path.write_bytes(gzip.compress(text.encode())[:-2000])
    with pytest.raises(CorruptFileError, match=r"e\.csv\.gz"):
        embeddings.read(path)


def test_arguments_that_do_not_apply_are_refused(tmp_path):
    (tmp_path / "e.csv").write_text("gene,0\nA,1\n")
    (tmp_path / "e.gmt").write_text("t\td\tA\n")
    for name, options in (
        ("e.csv", {"key": "x"}),
        ("e.csv", {"orientation": "up"}),
        ("e.gmt", {"orientation": "rows"}),
    ):
        with pytest.raises(ArgumentError):
            embeddings.read(tmp_path / name, **options)
    with pytest.raises(NotFoundError, match="nothing"):
        embeddings.read(tmp_path / "nothing.csv")


# --- binary formats -----------------------------------------------------------------------------


def test_parquet(tmp_path):
    frame = pd.DataFrame(MATRIX, index=list(NAMES))
    for i, table in enumerate(
        [
            frame.rename(columns=str),
            frame.rename(columns=str).rename_axis("gene").reset_index(),
            frame.T.reset_index(drop=True),
        ]
    ):
        table.to_parquet(tmp_path / f"{i}.parquet")
        embedding = embeddings.read(tmp_path / f"{i}.parquet")
        assert embedding.names == NAMES
        np.testing.assert_array_equal(embedding.matrix, MATRIX)


def test_npz(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, genes=np.array(NAMES), embedding=MATRIX.astype("f4"), other=np.eye(4))
    embedding = embeddings.read(path, name="mine")
    assert (embedding.names, embedding.name) == (NAMES, "mine")
    np.testing.assert_array_equal(embedding.matrix, MATRIX.astype("f4").astype("f8"))
    np.testing.assert_array_equal(embeddings.read(path, key="other").matrix, np.eye(4))
    np.savez(path, genes=np.array(NAMES), X=MATRIX.T)
    with pytest.raises(InputError, match="4 names and a matrix of shape"):
        embeddings.read(path)
    assert embeddings.read(path, orientation="columns").names == NAMES


def test_npz_errors(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, names=np.array(NAMES), X=MATRIX, vectors=MATRIX)
    with pytest.raises(AmbiguousInputError, match="vectors"):
        embeddings.read(path)
    with pytest.raises(InputError, match="no array 'Y'"):
        embeddings.read(path, key="Y")
    np.savez(path, X=MATRIX)
    with pytest.raises(InputError, match="no array for names"):
        embeddings.read(path)
    np.savez(path, names=np.array(NAMES, dtype=object), X=MATRIX)
    with pytest.raises(InputError, match="dtype=str"):
        embeddings.read(path)


def test_h5ad(tmp_path):
    path = tmp_path / "e.h5ad"
    adata = anndata.AnnData(sparse.csr_matrix((2, 4)))
    adata.var_names = list(NAMES)
    adata.obs_names = ["A", "A+B"]
    adata.varm["PCs"] = MATRIX
    adata.write_h5ad(path)
    assert embeddings.read(path).names == NAMES
    adata.obsm["P"] = np.array([[1.0, 2.0], [3.0, 4.0]])
    adata.write_h5ad(path)
    np.testing.assert_array_equal(embeddings.read(path, key="varm/PCs").matrix, MATRIX)
    assert embeddings.read(path, key="P").names == ("A", "A+B")
    with pytest.raises(AmbiguousInputError, match=r"obsm/P.*varm/PCs"):
        embeddings.read(path)
    with pytest.raises(InputError, match="no 'Q'"):
        embeddings.read(path, key="Q")


# --- pickles ------------------------------------------------------------------------------------


class Call:
    """Pickles to a call of a function."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def stolen(module, name, argument):
    """Bytes of a pickle that calls a function by its name, importing the module if need be."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles(tmp_path, protocol):
    content = {
        "array": np.arange(4, dtype="f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 3)),
        "0-d": np.array(2.5),
        "strided": np.arange(10.0)[::2],
        "half": np.arange(3, dtype="f2"),
        "text": np.array(["x", "yy"]),
        "bytes": np.array([b"a", b"bcd"]),
        "scalar": np.float64(3.5),
        "bool": np.True_,
        "plain": [1, 2.5, None, True, "é", b"\xff", b"", 1j, (1, (2,)), {1, 2}, frozenset("ab")],
        "ordered": OrderedDict(b=1, a=2),
    }
    path = tmp_path / "e.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    got = safe_pickle.load(path)
    assert got.keys() == content.keys()
    assert got["plain"] == content["plain"]
    assert list(got["ordered"].items()) == [("b", 1), ("a", 2)]
    for key, value in content.items():
        if isinstance(value, (np.ndarray, np.generic)):
            np.testing.assert_array_equal(got[key], value)
            assert got[key].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
            assert got[key].shape == value.shape


def test_genept_pickle_needs_permission(tmp_path):
    path = tmp_path / "GenePT.pickle"
    vectors = {name: row.tolist() for name, row in zip(NAMES, MATRIX, strict=True)}
    vectors["NAN"] = MATRIX[2]
    path.write_bytes(pickle.dumps(vectors))
    with pytest.raises(InputError, match="allow_pickle=True"):
        embeddings.read(path)
    embedding = embeddings.read(path, allow_pickle=True)
    assert embedding.names == NAMES
    assert type(embedding.matrix) is np.ndarray
    np.testing.assert_array_equal(embedding.matrix, MATRIX)


@pytest.mark.parametrize(
    "attack",
    [
        Call(os.system, "touch {flag}"),
        Call(os.mkdir, "{flag}"),
        Call(eval, "open('{flag}', 'w')"),
        Call(exec, "open('{flag}', 'w')"),
        Call(open, "{flag}", "w"),
        Call(np.save, "{flag}", 1),
        Call(np.memmap, "{flag}", "u1", "w+", 0, (3,)),
        {"A": [1.0], "B": [Call(os.mkdir, "{flag}")]},
    ],
    ids=["system", "mkdir", "eval", "exec", "open", "np.save", "np.memmap", "nested"],
)
def test_malicious_pickles_do_not_run(tmp_path, attack):
    flag = tmp_path / "flag"

    def aimed(value):
        if isinstance(value, Call):
            function, args = value.reduced
            return Call(function, *(aimed(a) for a in args))
        if isinstance(value, dict):
            return {k: [aimed(v) for v in values] for k, values in value.items()}
        return value.format(flag=flag) if isinstance(value, str) else value

    path = tmp_path / "e.pkl"
    path.write_bytes(pickle.dumps(aimed(attack)))
    with pytest.raises(InputError, match="was not loaded"):
        embeddings.read(path, allow_pickle=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.pkl"]


def test_the_attack_would_run_in_an_ordinary_unpickler(tmp_path):
    """The test above can fail: the same bytes do make the folder."""
    pickle.loads(pickle.dumps(Call(os.mkdir, str(tmp_path / "flag"))))  # noqa: S301
    assert (tmp_path / "flag").is_dir()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "__import__"),
        ("builtins", "getattr"),
        ("builtins", "set.__class__"),
        ("numpy", "dtype.__class__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "fromfile"),
        ("numpy", "load"),
        ("numpy.f2py", "compile"),
        ("numpy.f2py.diagnose", "run_command"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.testing", "rundocs"),
        ("numpy.distutils.exec_command", "exec_command"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("numpy.lib._npyio_impl", "load"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("pandas", "read_pickle"),
        ("importlib", "import_module"),
        ("pertscale.io.guards.safe_pickle", "_Function"),
    ],
)
def test_every_other_name_is_refused_and_named(tmp_path, module, name):
    path = tmp_path / "e.pkl"
    for data in (
        stolen(module, name, "x"),
        pickle.PROTO + b"\x04" + _short(module) + _short(name) + pickle.STACK_GLOBAL + b".",
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"asks for {module}\.{name}, .*e\.pkl"):
            safe_pickle.load(path)


def _short(text):
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


class Forged:
    """Pickles to an object made by a call, then filled with a state."""

    def __init__(self, function, args, state):
        self.reduced = (function, args, state)

    def __reduce__(self):
        return self.reduced


RECONSTRUCT = (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"))


@pytest.mark.parametrize(
    "content",
    [
        np.array([{"a": 1}], dtype=object),
        np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        # a structure with an object inside that hides behind cleared flags
        Forged(np.dtype, ("V8",), (3, "|", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 8, 0)),
        Forged(np.dtype, ("f8",), (3, "<", None, ("f",), {}, 8, 8, 0)),
        Forged(*RECONSTRUCT, (1, (1000,), np.dtype("f8"), False, b"12345678")),
        Forged(*RECONSTRUCT, (1, (-1,), np.dtype("f8"), False, b"")),
        Forged(*RECONSTRUCT, (1, (1,), "f8", False, b"12345678")),
        Call(np._core.multiarray.scalar, np.dtype("f8"), b"123"),
        Call(np._core.multiarray.scalar, np.dtype("O"), "x"),
        Call(np.ndarray, (3,)),
        Call(bytes, 10**6),
    ],
)
def test_forged_arrays_are_refused(tmp_path, content):
    path = tmp_path / "e.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"the pickle .*e\.pkl"):
        safe_pickle.load(path)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    path = tmp_path / "e.pkl"
    # BUILD with attributes on the function that makes dtypes
    path.write_bytes(b"cnumpy\ndtype\n(}V_call\nI1\nstb.")
    with pytest.raises(InputError, match="change a function"):
        safe_pickle.load(path)
    path.write_bytes(pickle.dumps({"A": MATRIX[0]}))
    np.testing.assert_array_equal(safe_pickle.load(path)["A"], MATRIX[0])


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_damaged_pickles_are_errors_of_ours(tmp_path_factory, noise, cut):
    data = pickle.dumps({"A": MATRIX[0], "B": [1.0, 2.0]})
    path = tmp_path_factory.mktemp("p") / "e.pkl"
    path.write_bytes(data[: min(cut, len(data) - 1)] + noise)
    try:
        safe_pickle.load(path)
    except (InputError, CorruptFileError) as error:
        assert "e.pkl" in str(error)


# --- gene sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["full", "asym"])
def test_spectral_embedding_is_that_of_igraph(case):
    golden = json.loads((GOLDEN / "adjacency_spectral_embedding.json").read_text())
    edges = golden["edges"]
    if case == "asym":  # each pair once, in one direction
        edges = [e for e in edges if e["source"] <= e["target"]]
    expected = golden[case]
    nodes, graph = graph_from_edges(
        *([e[k] for e in edges] for k in ("source", "target", "importance"))
    )
    assert list(nodes) == expected["genes"]
    degree = graph.sum(axis=1) + graph.diagonal()
    np.testing.assert_allclose(degree, expected["strength"], rtol=1e-9)
    got = adjacency_spectral_embedding(graph, dim=2)
    # the golden numbers have twelve digits
    np.testing.assert_allclose(np.abs(got), expected["X_abs"], atol=2e-12)
    np.testing.assert_allclose(got @ got.T, expected["gram"], atol=2e-12)
    np.testing.assert_allclose((got**2).sum(axis=0), np.abs(expected["D"]), rtol=1e-9)


def test_sparse_solver_agrees_with_the_dense_one():
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((400, 400)) * (rng.random((400, 400)) < 0.05), 1)
    adjacency = upper + upper.T + np.eye(400)
    augmented = adjacency + np.diag((adjacency.sum(1) + 1) / 399)
    values, vectors = np.linalg.eigh(augmented)
    top = np.argsort(-np.abs(values))[:5]
    got = adjacency_spectral_embedding(sparse.csr_array(adjacency), dim=5)
    expected = vectors[:, top] * np.sqrt(np.abs(values[top]))
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-10)
    assert (got[np.abs(got).argmax(axis=0), range(5)] > 0).all()


def test_repeated_edges_have_the_largest_weight():
    nodes, graph = graph_from_edges(["b", "a", "b", "a"], ["a", "b", "a", "a"], [0.2, 0.5, 0.3, 1])
    assert nodes == ("b", "a")
    np.testing.assert_array_equal(graph.toarray(), [[0, 0.5], [0.5, 1]])


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=9), st.floats(0, 0.9))
def test_jaccard_graph_is_that_of_python_sets(sets, threshold):
    membership = np.array([[t in s for t in range(8)] for s in sets], dtype=np.int32)
    got = jaccard_graph(sparse.csr_array(membership), threshold).toarray()
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            index = len(a & b) / len(a | b) if a | b else 0.0
            assert got[i, j] == (index if index > threshold else 0.0)


def test_blocks_do_not_change_the_graph(monkeypatch):
    membership = sparse.random_array((50, 20), density=0.3, rng=np.random.default_rng(1))
    membership = (membership > 0).astype(np.int32).tocsr()
    whole = jaccard_graph(membership, 0.1)
    monkeypatch.setattr("pertscale.embeddings.graph._GENES_PER_BLOCK", 7)
    assert (jaccard_graph(membership, 0.1) != whole).nnz == 0


def test_small_gene_sets(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("t1\t\tA\tB\tC,1.0\tA\nt2\tabout\tA\tB\nt3\t\tX\tY\nt4\t\tZ\n")
    embedding = from_gene_sets(path, dim=1)
    assert embedding.names == ("A", "B", "C", "X", "Y", "Z")
    # the leading vector is that of A, B, C; the others have nothing to do with it
    assert embedding.coverage(embedding.names)["covered"].to_list() == [True] * 3 + [False] * 3
    only = from_gene_sets(path, genes=["B", "A", "unknown", "X"], dim=2)
    assert only.names == ("A", "B", "X")
    with pytest.raises(InputError, match="none of the genes"):
        from_gene_sets(path, genes=["unknown"])
    with pytest.raises(ArgumentError, match="from 1 to 5"):
        from_gene_sets(path, dim=6)
    with pytest.raises(ArgumentError, match="min_jaccard"):
        from_gene_sets(path, dim=1, min_jaccard=1)


def test_the_default_length_of_vectors_fits_small_files(tmp_path):
    sets, texts = tmp_path / "sets.gmt", tmp_path / "texts.json"
    sets.write_text("t1\t\tA\tB\tC\nt2\tabout\tA\tB\nt3\t\tX\tY\n")
    texts.write_text(
        json.dumps({g: f"gene {g} binds zinc in word{i % 3}" for i, g in enumerate("ABCDE")})
    )
    for found, most, default in ((embeddings.read(sets), 4, 50), (embeddings.read(texts), 4, 100)):
        assert found.dim == found.provenance["dim"] == most
        note = f"dim is {most}, not {default}: there are no more dimensions"
        assert found.provenance["note"] == note
    for call in (lambda: from_gene_sets(sets, dim=50), lambda: from_texts(texts, dim=100)):
        with pytest.raises(ArgumentError, match="dim has to be from 1 to"):
            call()
    sets.write_text("t1\t\tA\n")
    with pytest.raises(ArgumentError, match="as there are 1 genes"):
        embeddings.read(sets)


def test_gene_ontology():
    path = real_data("gene_sets/enrichr.GO_Biological_Process_2021.gmt")
    embedding = from_gene_sets(path, dim=2)
    assert len(embedding.names) == 14937
    assert embedding.hash == from_gene_sets(path, dim=2).hash
    families = embeddings.read(path).normalized()
    assert families.dim == 50
    related, unrelated = ["RPL3", "RPL5", "RPS6"], ["TP53", "SLC6A4", "MYH7"]
    similar = cosine_similarity(families.vectors(related))
    across = cosine_similarity(families.vectors(related), families.vectors(unrelated))
    assert similar.min() > 0.9
    assert across.max() < 0.5


def test_unconnected_genes_of_gene_ontology_are_missing():
    path = real_data("gene_sets/enrichr.GO_Biological_Process_2021.gmt")
    genes = [f"RPL{i}" for i in range(3, 40)] + ["OR1A1"]
    embedding = from_gene_sets(path, genes=genes, dim=3)
    table = embedding.coverage(["RPL5", "OR1A1", "no gene"])
    assert table["covered"].to_list() == [True, False, False]


# --- texts --------------------------------------------------------------------------------------


@pytest.mark.needs("genept")
def test_gene_summaries():
    path = real_data("genept/GeneSummary.json")
    embedding = embeddings.read(path)
    assert (len(embedding.names), embedding.dim) == (1915, 100)
    assert embedding.hash == from_texts(path).hash
    unit = embedding.normalized()
    proteasome = cosine_similarity(unit.vectors(["PSMA1", "PSMB2", "PSMC3"]))
    across = cosine_similarity(unit.vectors(["PSMA1"]), unit.vectors(["MRPL20"]))
    assert proteasome.min() > 0.5 > across.max()


def test_texts_without_common_words(tmp_path):
    path = tmp_path / "texts.json"
    content = {"A": "kinase binds", "B": "kinase membrane", "C": "membrane binds", "D": "zinc"}
    path.write_text(json.dumps(content))
    embedding = from_texts(path, dim=2)
    assert embedding.coverage(list("ABCD"))["covered"].to_list() == [True, True, True, False]
    with pytest.raises(ArgumentError, match="from 1 to 2, as there are 4 texts"):
        from_texts(path, dim=3)
    path.write_text(json.dumps({"A": "kinase", "B": "membrane"}))
    with pytest.raises(InputError, match="no word occurs in two"):
        from_texts(path, dim=1)
    path.write_text(json.dumps({"A": "kinase", "B": 1}))
    with pytest.raises(InputError, match="'B' has int"):
        from_texts(path, dim=1)


# --- from the training screen -------------------------------------------------------------------


def test_training_embedding_is_that_of_the_linear_model():
    inputs = json.loads((GOLDEN / "linear_model_inputs.json").read_text())
    expected = json.loads((GOLDEN / "linear_model_expected.json").read_text())
    training = [c == "ctrl" or inputs["role"][c] == "train" for c in inputs["conditions"]]
    profiles = np.array(inputs["pseudobulk"]).T[training]
    embedding = from_training(profiles, genes=inputs["genes"], dim=inputs["pca_dim"])
    assert embedding.names == tuple(inputs["genes"])
    np.testing.assert_allclose(np.abs(embedding.matrix), expected["G_abs"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (6, 6)])
def test_training_embedding_is_the_exact_svd(shape):
    profiles = np.random.default_rng(2).random(shape)
    dim = min(shape) - 1
    embedding = from_training(profiles, genes=[f"g{i}" for i in range(shape[1])], dim=dim)
    centred = profiles.T - profiles.T.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(
        np.abs(embedding.matrix), np.abs(left * values)[:, :dim], rtol=1e-9, atol=1e-12
    )
    assert embedding.hash == from_training(profiles, genes=embedding.names, dim=dim).hash


def test_training_embedding_errors():
    profiles = np.ones((4, 6))
    genes = list("ABCDEF")
    with pytest.raises(ArgumentError, match="from 1 to 3"):
        from_training(profiles, genes=genes, dim=4)
    with pytest.raises(InputError, match="n_conditions, 2 genes"):
        from_training(profiles, genes=["A", "B"], dim=1)
    profiles[2, 1] = np.nan
    with pytest.raises(InputError, match=r"condition 2 .* 'B'"):
        from_training(profiles, genes=genes, dim=1)


# --- real vectors -------------------------------------------------------------------------------


@pytest.mark.needs("genept")
def test_real_genept():
    embedding = embeddings.read(real_data("genept/Embedding_small.csv.gz"))
    assert embedding.matrix.shape == (87, 1536)
    assert embedding.name == "Embedding_small"
    assert np.isnan(embedding.vectors(["control"])).all()  # the file's ctrl row is zero
    np.testing.assert_allclose(np.linalg.norm(embedding.vectors(["SRPR"])), 1, rtol=1e-6)
    double = embedding.vectors(["SRPR+TARS"])
    parts = embedding.normalized().vectors(["SRPR", "TARS"])
    np.testing.assert_allclose(double[0], parts.sum(0) / np.linalg.norm(parts.sum(0)), rtol=1e-12)
