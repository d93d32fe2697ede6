"""Every format gives the same cells, genes and entries; damaged files say where."""

from __future__ import annotations

import gzip
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from pertscale.errors import (
    AmbiguousInputError,
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
    PertscaleWarning,
    UnknownNameError,
)
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.sources import Source, find_source, open_source
from pertscale.io.sources._hdf5 import read_stretch
from tests.support.helpers import real_data

N_CELLS, N_GENES = 23, 11
CELLS = [f"AAC{i}-1" for i in range(N_CELLS)]
GENES = [f"GENE{i}" for i in range(N_GENES)]


def counts() -> np.ndarray:
    found = np.random.RandomState(0).poisson(0.7, (N_CELLS, N_GENES)).astype(np.int32)
    found[4] = 0  # a cell without entries
    found[:, 3] = 0
    return found


def obs() -> pd.DataFrame:
    labels = pd.Categorical(["control", "KLF1", "STAT1"] * 7 + ["control", None])
    return pd.DataFrame(
        {"perturbation": labels, "lane": np.arange(N_CELLS) % 3, "donor": ["d1"] * N_CELLS},
        index=CELLS,
    )


def anndata_of(x: object) -> ad.AnnData:
    var = pd.DataFrame({"gene_name": [g.lower() for g in GENES]}, index=GENES)
    return ad.AnnData(x, obs=obs(), var=var)


def assembled(source: Source, block_bytes: int) -> np.ndarray:
    """Sum of all blocks, each checked for its structure."""
    total = np.zeros((source.n_cells, source.n_genes))
    following = 0
    for block in source.blocks(block_bytes):
        assert len(pickle.dumps(block)) < 1000
        part = source.read(block)
        assert part.indptr[0] == 0
        assert part.indptr[-1] == len(part.indices) == len(part.data)
        assert part.indptr.dtype == np.int64
        if source.row_major:
            assert part.row_start == following
            following += part.n_rows
        rows = np.repeat(np.arange(part.n_rows), np.diff(part.indptr)) + part.row_start
        np.add.at(total, (rows, part.indices), part.data)
    if source.row_major:
        assert following == source.n_cells
    return total


def h5ad_of(folder: Path, form: Callable, **more: object) -> Path:
    anndata_of(form(counts())).write_h5ad(folder / "screen.h5ad", **more)
    return folder / "screen.h5ad"


def write_zarr(folder: Path, form: Callable, version: int) -> Path:
    old = ad.settings.zarr_write_format
    ad.settings.zarr_write_format = version
    try:
        anndata_of(form(counts())).write_zarr(folder / "screen.zarr")
    finally:
        ad.settings.zarr_write_format = old
    assert (folder / "screen.zarr" / (".zgroup" if version == 2 else "zarr.json")).exists()
    return folder / "screen.zarr"


def write_mtx(
    folder: Path, *, zipped: bool = False, tenx: bool = False, turned: bool = True
) -> Path:
    target = folder / "mtx"
    target.mkdir()
    matrix = counts().T if turned else counts()
    scipy.io.mmwrite(target / "matrix.mtx", sp.coo_matrix(matrix), field="integer")
    if tenx:
        (target / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS))
        lines = [f"ENSG{i:011d}\t{g}\tGene Expression\n" for i, g in enumerate(GENES)]
        (target / "features.tsv").write_text("".join(lines))
    else:
        pd.DataFrame({"x": CELLS}, index=range(1, N_CELLS + 1)).to_csv(
            target / "barcodes.csv", quoting=2
        )
        pd.DataFrame({"x": GENES}, index=range(1, N_GENES + 1)).to_csv(
            target / "genes.csv", quoting=2
        )
    if zipped:
        for path in list(target.iterdir()):
            with gzip.open(f"{path}.gz", "wb") as file:
                file.write(path.read_bytes())
            path.unlink()
    obs().to_csv(target / "metadata.csv")
    return target


def write_csv(folder: Path, *, name: str = "counts.csv", turned: bool = False) -> Path:
    table = pd.DataFrame(counts(), index=CELLS, columns=GENES)
    sep = "\t" if "tsv" in name else ","
    (table.T if turned else table).to_csv(folder / name, sep=sep)
    obs().to_csv(folder / "cells.tsv.gz", sep="\t")
    return folder / name


def write_tenx(folder: Path, *, version: int = 3) -> Path:
    matrix = sp.csr_matrix(counts())
    with h5py.File(folder / "filtered.h5", "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = np.array(CELLS, dtype="S")
        group["data"], group["indices"] = matrix.data, matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array([N_GENES, N_CELLS], dtype=np.int32)
        ids = np.array([f"ENSG{i:011d}" for i in range(N_GENES)], dtype="S")
        if version == 3:
            group["features/id"], group["features/name"] = ids, np.array(GENES, dtype="S")
            group["features/feature_type"] = np.array([b"Gene Expression"] * N_GENES)
            group["features/genome"] = np.array([b"GRCh38"] * N_GENES)
        else:
            group["genes"], group["gene_names"] = ids, np.array(GENES, dtype="S")
    obs().to_csv(folder / "cells.csv")
    return folder / "filtered.h5"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "h5ad csr": lambda f: h5ad_of(f, sp.csr_matrix),
    "h5ad csc": lambda f: h5ad_of(f, sp.csc_matrix),
    "h5ad dense": lambda f: h5ad_of(f, np.asarray),
    "h5ad gzip": lambda f: h5ad_of(f, np.asarray, compression="gzip"),
    "h5ad gzip csr": lambda f: h5ad_of(f, sp.csr_matrix, compression="gzip"),
    "h5ad lzf csr": lambda f: h5ad_of(f, sp.csr_matrix, compression="lzf"),
    "zarr 2 csr": lambda f: write_zarr(f, sp.csr_matrix, 2),
    "zarr 2 dense": lambda f: write_zarr(f, np.asarray, 2),
    "zarr 3 csr": lambda f: write_zarr(f, sp.csr_matrix, 3),
    "zarr 3 csc": lambda f: write_zarr(f, sp.csc_matrix, 3),
    "zarr 3 dense": lambda f: write_zarr(f, np.asarray, 3),
    "mtx": write_mtx,
    "mtx cells x genes": lambda f: write_mtx(f, turned=False),
    "mtx gz 10x": lambda f: write_mtx(f, zipped=True, tenx=True),
    "csv": write_csv,
    "tsv": lambda f: write_csv(f, name="counts.tsv"),
    "csv genes x cells": lambda f: write_csv(f, turned=True),
    "10x 3": write_tenx,
    "10x 2": lambda f: write_tenx(f, version=2),
}


@pytest.mark.parametrize("block_bytes", [1, 150, 1 << 20])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_screen(tmp_path: Path, kind: str, block_bytes: int) -> None:
    spec = find_source(WRITERS[kind](tmp_path), scratch=tmp_path / "scratch")
    spec = pickle.loads(pickle.dumps(spec))  # noqa: S301
    assert len(pickle.dumps(spec)) < 1000
    with open_source(spec) as source:
        assert (source.n_cells, source.n_genes) == (N_CELLS, N_GENES)
        assert source.cell_names().tolist() == CELLS
        assert source.genes().index.tolist() == GENES
        assert "perturbation" in source.cell_columns()
        found = source.cell_column("perturbation")
        assert isinstance(found.dtype, pd.CategoricalDtype)
        assert found.tolist()[:-1] == obs()["perturbation"].tolist()[:-1]
        assert found.isna().tolist() == [False] * (N_CELLS - 1) + [True]
        assert source.cell_column("lane").tolist() == obs()["lane"].tolist()
        np.testing.assert_array_equal(assembled(source, block_bytes), counts())


@pytest.mark.parametrize("kind", WRITERS)
def test_blocks_stay_near_the_bytes_that_were_asked_for(tmp_path: Path, kind: str) -> None:
    with open_source(find_source(WRITERS[kind](tmp_path))) as source:
        few, many = source.blocks(1 << 20), source.blocks(100)
        assert len(few) == 1
        assert len(many) > 3 or "zarr" in kind or "gzip" in kind  # never below a chunk of rows
        for block in many:
            part = source.read(block)
            row = N_GENES * 12
            assert part.indices.nbytes + part.data.nbytes <= 8 * 100 + row or "dense" in kind


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", "|u1"])
@pytest.mark.parametrize("filters", ["none", "gzip", "gzip+shuffle", "lzf", "gzip+checksum"])
@pytest.mark.parametrize("shape", [(1000,), (1000, 3)])
def test_stretches_of_hdf5_whatever_the_filters(
    tmp_path: Path, dtype: str, filters: str, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    options: dict[str, Any] = {"chunks": (64, *shape[1:])}
    if filters != "none":
        options |= {"compression": filters.split("+")[0], "shuffle": "shuffle" in filters}
        options["fletcher32"] = "checksum" in filters
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=values, **options)
        if filters.startswith("gzip+s"):  # a chunk that was left uncompressed
            dataset.id.write_direct_chunk(
                (64, *(0 for _ in shape[1:])), values[64:128].tobytes(), filter_mask=3
            )
        for start, stop in [(0, 1000), (0, 0), (63, 65), (64, 128), (100, 999), (999, 1000)]:
            out = np.empty((stop - start, *shape[1:]), dtype)
            read_stretch(dataset, start, out)
            np.testing.assert_array_equal(out, values[start:stop])
        with pytest.raises(ValueError, match="1000 rows are stored, 1001 are needed"):
            read_stretch(dataset, 990, np.empty((11, *shape[1:]), dtype))


def test_raw_and_layers(tmp_path: Path) -> None:
    full = anndata_of(sp.csr_matrix(counts()))
    part = full[:, 2:7].copy()
    part.raw = full
    part.layers["counts"] = part.X * 2
    part.X = part.X.astype(np.float32)
    part.write_h5ad(tmp_path / "a.h5ad")
    with open_source(find_source(tmp_path / "a.h5ad", matrix="raw")) as source:
        assert source.genes().index.tolist() == GENES
        np.testing.assert_array_equal(assembled(source, 100), counts())
    for name in ("counts", "layers/counts"):
        with open_source(find_source(tmp_path / "a.h5ad", matrix=name)) as source:
            assert source.genes()["gene_name"].tolist() == [g.lower() for g in GENES[2:7]]
            np.testing.assert_array_equal(assembled(source, 100), 2 * counts()[:, 2:7])
    with pytest.raises(UnknownNameError, match="no matrix 'spliced'; it has 'X', 'raw', 'counts'"):
        find_source(tmp_path / "a.h5ad", matrix="spliced")


def test_values_and_order_pass_through_unchecked(tmp_path: Path) -> None:
    data = np.array([np.nan, -1.5, 70000.0, 0.0])
    matrix = sp.csr_matrix((data, [2, 0, 0, 1], [0, 2, 4]), shape=(2, 3))
    ad.AnnData(matrix).write_h5ad(tmp_path / "a.h5ad")
    with open_source(find_source(tmp_path / "a.h5ad")) as source:
        part = source.read(source.blocks(1 << 20)[0])
    np.testing.assert_array_equal(part.data, data)
    assert part.indices.tolist() == [2, 0, 0, 1]
    dense = np.array([[np.nan, 0.0], [-1.0, 0.5]])
    ad.AnnData(dense).write_h5ad(tmp_path / "b.h5ad")
    with open_source(find_source(tmp_path / "b.h5ad")) as source:
        part = source.read(source.blocks(1 << 20)[0])
    np.testing.assert_array_equal(part.data, [np.nan, -1.0, 0.5])
    assert part.indptr.tolist() == [0, 1, 3]


def test_old_h5ad_layouts(tmp_path: Path) -> None:
    path = tmp_path / "old.h5ad"
    matrix = sp.csr_matrix(counts())
    frame = np.array(
        [(c.encode(), i % 2) for i, c in enumerate(CELLS)], dtype=[("index", "S9"), ("gene", "i1")]
    )
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", counts().shape
        group["data"], group["indices"], group["indptr"] = (
            matrix.data,
            matrix.indices,
            matrix.indptr,
        )
        file["obs"] = frame
        file["uns/gene_categories"] = np.array([b"NT", b"STAT1"])
        var = file.create_group("var")
        var.attrs["_index"], var.attrs["column-order"] = "index", ["kind"]
        var["index"] = np.array(GENES, dtype="S")
        var["kind"] = np.zeros(N_GENES, dtype=np.int8)
        var["__categories/kind"] = np.array([b"protein"])
    with open_source(find_source(path)) as source:
        assert source.cell_names().tolist() == CELLS
        assert source.cell_columns() == ["gene"]
        assert source.cell_column("gene").tolist()[:3] == ["NT", "STAT1", "NT"]
        assert source.genes()["kind"].tolist() == ["protein"] * N_GENES
        np.testing.assert_array_equal(assembled(source, 100), counts())


# --- damaged and foreign files -------------------------------------------------------------


def test_truncated_h5ad(tmp_path: Path) -> None:
    path = h5ad_of(tmp_path, sp.csr_matrix)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptFileError, match=r"screen\.h5ad.*incomplete or damaged"):
        find_source(path)


def test_hdf5_name_without_hdf5_content(tmp_path: Path) -> None:
    (tmp_path / "a.h5ad").write_text("<html>404</html>")
    with pytest.raises(CorruptFileError, match="not an HDF5 file, though its name says so"):
        find_source(tmp_path / "a.h5ad")


def _edit(path: Path, key: str, values: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[key]
        file[key] = values


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_structure_of_sparse_matrices_is_checked(tmp_path: Path, form: Callable) -> None:
    matrix = form(counts())

    def refused(key: str, values: np.ndarray, message: str) -> None:
        path = h5ad_of(tmp_path, form)
        _edit(path, f"X/{key}", values)
        with (
            pytest.raises(CorruptFileError, match=message),
            open_source(find_source(path)) as source,
        ):
            assembled(source, 100)

    refused("indptr", matrix.indptr[:-1], r"indptr has \d+ offsets, the shape 23 x 11 needs")
    falling = matrix.indptr.copy()
    falling[1], falling[2] = falling[2] + 1, falling[1]
    refused("indptr", falling, r"not a growing list of offsets .*at row 1")
    refused("indptr", np.minimum(matrix.indptr, len(matrix.data) - 1), "indptr runs from 0 to")
    refused("indices", matrix.indices[:-1], r"'data' has \d+ entries but 'indices' has")
    outside = matrix.indices.copy()
    outside[-1] = 400
    refused("indices", outside, r"holds the (gene|cell) index 400, but the matrix has")
    refused("indices", -1 - matrix.indices, "holds the (gene|cell) index -")


def test_lengths_of_obs_and_var_are_checked(tmp_path: Path) -> None:
    path = h5ad_of(tmp_path, sp.csr_matrix)
    _edit(path, "obs/_index", np.array(CELLS[:-1], dtype="S"))
    with pytest.raises(CorruptFileError, match=r"'obs' has 22 rows, but 'X' has 23 cells"):
        find_source(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]
        del file["X/data"]
    with pytest.raises(
        InputError, match="an HDF5 file of no format that pertscale reads; it holds X, "
    ):
        find_source(path)


def test_a_damaged_chunk_names_dataset_and_rows(tmp_path: Path) -> None:
    path = h5ad_of(tmp_path, np.asarray, compression="gzip")
    with h5py.File(path) as file:
        place = file["X"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[place.byte_offset + 2 : place.byte_offset + 12] = b"\xff" * 10
    path.write_bytes(bytes(raw))
    with (
        open_source(find_source(path)) as source,
        pytest.raises(CorruptFileError, match=r"'X', rows 0 to \d+ can't be read"),
    ):
        source.read(source.blocks(1 << 20)[0])


def test_a_missing_chunk_of_sparse_zarr_values(tmp_path: Path) -> None:
    path = write_zarr(tmp_path, sp.csr_matrix, 3)
    (path / "X" / "data" / "c" / "0").unlink()
    with pytest.raises(CorruptFileError, match="'X/data': 0 of 1 chunks are stored"):
        find_source(path)


def test_truncated_mtx_says_what_is_expected_and_found(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path)
    lines = (folder / "matrix.mtx").read_text().splitlines(keepends=True)
    (folder / "matrix.mtx").write_text("".join(lines[:-3]))
    n = int(lines[2].split()[2])
    with (
        open_source(find_source(folder)) as source,
        pytest.raises(CorruptFileError, match=f"promises {n} entries, found {n - 3}"),
    ):
        source.blocks(100)


def test_truncated_gzip(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, zipped=True)
    path = folder / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFileError, match=r"matrix\.mtx\.gz.*incomplete or damaged"):
        find_source(folder, scratch=tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        ("%%MatrixMarket matrix coordinate pattern general\n", InputError, "pattern general"),
        ("%%MatrixMarket matrix coordinate integer symmetric\n", InputError, "symmetric"),
        ("%%MatrixMarket matrix coordinate complex general\n", InputError, "complex"),
        ("hello\n", CorruptFileError, "a MatrixMarket file starts with"),
    ],
)
def test_matrix_market_kinds(tmp_path: Path, head: str, error: type, message: str) -> None:
    folder = write_mtx(tmp_path)
    lines = (folder / "matrix.mtx").read_text().splitlines(keepends=True)
    (folder / "matrix.mtx").write_text(head + "".join(lines[1:]))
    with pytest.raises(error, match=message):
        find_source(folder)


def test_mtx_with_odd_white_space_and_reals(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path)
    lines = (folder / "matrix.mtx").read_text().splitlines()
    odd = [line.replace(" ", "  ") + " " for line in lines[3:]]
    head = ["%%MatrixMarket matrix coordinate real general", *lines[1:3]]
    (folder / "matrix.mtx").write_text("\r\n".join(head + odd) + "\n\n")
    with open_source(find_source(folder)) as source:
        np.testing.assert_array_equal(assembled(source, 100), counts())
        assert source.read(source.blocks(100)[0]).data.dtype == np.float64


def test_mtx_lists_that_do_not_fit_and_bad_entries(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, tenx=True)
    with open_source(find_source(folder)) as source:
        assert source.genes()["feature_types"].unique().tolist() == ["Gene Expression"]
        assert source.genes()["gene_ids"].iloc[1] == "ENSG00000000001"
    path = folder / "matrix.mtx"
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*text[:-1], "99 1 1\n"]))
    with (
        open_source(find_source(folder)) as source,
        pytest.raises(CorruptFileError, match="gene index 98, but the matrix has 11 genes"),
    ):
        assembled(source, 1 << 20)
    (folder / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS[:-4]))
    with pytest.raises(
        CorruptFileError, match=r"barcodes\.tsv has 19 names where 23 cells are needed"
    ):
        find_source(folder)
    (folder / "barcodes.tsv").unlink()
    with pytest.raises(NotFoundError, match="needs a list of its cells"):
        find_source(folder)


def _lines(names: list[str], *, tenx: bool) -> list[str]:
    return [f"ENSG{i:011d}\t{n}\tGene Expression" if tenx else n for i, n in enumerate(names)]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("which", ["barcodes", "features"])
@pytest.mark.parametrize("extra", ["repeated in the middle", "foreign", "at the end", "at the top"])
def test_a_list_with_a_line_too_many_is_never_shifted(
    tmp_path: Path, extra: str, which: str, turned: bool, zipped: bool
) -> None:
    folder = write_mtx(tmp_path, tenx=True, turned=turned)
    names = CELLS if which == "barcodes" else GENES
    lines = _lines(names, tenx=which == "features")
    other = _lines(["other"], tenx=which == "features")[0]
    at = {"repeated in the middle": 7, "foreign": 5, "at the end": len(names), "at the top": 0}
    lines.insert(at[extra], lines[6] if extra == "repeated in the middle" else other)
    path = folder / f"{which}.tsv"
    path.write_text("".join(f"{line}\n" for line in lines))
    if zipped:
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    n = len(names)
    message = rf"{which}\.tsv.* has {n + 1} names.* where {n} (cells|genes) are needed"
    with pytest.raises(CorruptFileError, match=message) as caught:
        find_source(folder)
    assert ("line 8 repeats" in str(caught.value)) == (extra == "repeated in the middle")
    whole = tmp_path / "whole"
    whole.mkdir()
    with pytest.raises(CorruptFileError, match=message):
        SourceSet.find([write_mtx(whole), folder])


@pytest.mark.parametrize(
    "header", ["barcode", "Cell ID", "x", "0", "cell_barcode", '"x"', "barcodes", "Index"]
)
def test_headers_of_lists(tmp_path: Path, header: str) -> None:
    folder = write_mtx(tmp_path, tenx=True)
    path = folder / "barcodes.tsv"
    path.write_text("".join(f"{line}\n" for line in [header, *CELLS]))
    with open_source(find_source(folder)) as source:
        assert source.cell_names().tolist() == CELLS
    path.write_text("".join(f"{line}\n" for line in [header, *CELLS[:11], *CELLS[10:]]))
    with pytest.raises(CorruptFileError, match=r"barcodes\.tsv has 2[45] names"):
        find_source(folder)


def test_a_list_below_a_header_that_lacks_a_line(tmp_path: Path) -> None:
    """It has as many lines as the matrix has cells, but the first is no cell."""
    folder = write_mtx(tmp_path, tenx=True)
    (folder / "barcodes.tsv").write_text("".join(f"{c}\n" for c in ["barcode", *CELLS[:-1]]))
    with pytest.raises(CorruptFileError, match="has 22 names below the header 'barcode' where 23"):
        find_source(folder)


def test_a_table_of_cells_as_the_list(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, tenx=True)
    (folder / "barcodes.tsv").unlink()
    (folder / "metadata.csv").unlink()
    table = obs().assign(depth=1.5)
    table.to_csv(folder / "cells.csv")
    with open_source(find_source(folder)) as source:
        assert source.cell_names().tolist() == CELLS
    pd.concat([table.iloc[:9], table.iloc[8:]]).to_csv(folder / "cells.csv")
    with pytest.raises(CorruptFileError, match=r"cells\.csv has 24 names below the header ''"):
        find_source(folder)


def test_a_header_without_the_name_of_its_index(tmp_path: Path) -> None:
    """As write.table of R writes it; a line too many is not taken for more columns."""
    folder = write_mtx(tmp_path, tenx=True)
    (folder / "features.tsv").write_text(
        "symbol\ttype\n" + "".join(f"E{i}\t{g}\tx\n" for i, g in enumerate(GENES))
    )
    with open_source(find_source(folder)) as source:
        assert source.genes().index.tolist() == [f"E{i}" for i in range(N_GENES)]
        assert source.genes()["symbol"].tolist() == GENES


def test_names_in_quotes(tmp_path: Path) -> None:
    """R puts them around names; they are no part of these, as for scanpy and Seurat."""
    folder = write_mtx(tmp_path, tenx=True)
    for file in ("barcodes.tsv", "features.tsv"):
        lines = (folder / file).read_text().splitlines()
        lines[3] = "\t".join(f'"{field}"' for field in lines[3].split("\t"))
        (folder / file).write_text("\n".join(lines) + "\n")
    with open_source(find_source(folder)) as source:
        assert source.cell_names().tolist() == CELLS
        assert source.genes()["gene_ids"].tolist()[3] == "ENSG00000000003"
        assert GENES[3] in source.genes().index


@pytest.mark.parametrize("turned", [False, True])
def test_headers_of_csv_that_lack_a_name(tmp_path: Path, turned: bool) -> None:
    """One name less than values may be R's way, but not where the first name is no gene's."""
    path = write_csv(tmp_path, turned=turned)
    header, *rows = path.read_text().splitlines()
    assert header.startswith(",")
    bare = "\n".join([header[1:], *rows]) + "\n"
    path.write_text(bare)  # R's
    with open_source(find_source(path)) as source:
        np.testing.assert_array_equal(assembled(source, 1 << 20), counts())
    for start in ("cell", "", "gene"):
        path.write_text("\n".join([start + header.rpartition(",")[0], *rows]) + "\n")
        with pytest.raises(CorruptFileError, match=r"counts\.csv: the header names \d+ columns"):
            find_source(path)
    path.write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n")
    with pytest.raises(CorruptFileError, match="rows end in a separator"):
        find_source(path)


def test_csv_rows_have_to_be_complete_and_numbers(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    good = path.read_text()
    path.write_text(good[:-15] + "\n")
    with pytest.raises(
        CorruptFileError, match=r"counts\.csv, row 22: \d+ values, the header names"
    ):
        find_source(path)
    path.write_text(good.replace("AAC3-1,", "AAC3-1,x", 1))
    with (
        open_source(find_source(path)) as source,
        pytest.raises(InputError, match=r"rows 0 to 23: the values are not all numbers"),
    ):
        assembled(source, 1 << 20)


def test_unknown_formats_say_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file or folder"):
        find_source(tmp_path / "nothing.h5ad")
    with pytest.raises(InputError, match="it holds nothing"):
        find_source(tmp_path)
    (tmp_path / "a.rds").write_text("x")
    with pytest.raises(InputError, match="format that pertscale doesn't read; it reads h5ad"):
        find_source(tmp_path / "a.rds")
    with pytest.raises(ArgumentError, match="holds one matrix only"):
        find_source(write_csv(tmp_path), matrix="raw")


def test_several_genomes(tmp_path: Path) -> None:
    path = write_tenx(tmp_path)
    _edit(path, "matrix/features/genome", np.array([b"GRCh38"] * 5 + [b"mm10"] * 6))
    with (
        open_source(find_source(path)) as source,
        pytest.raises(AmbiguousInputError, match="genomes GRCh38, mm10"),
    ):
        source.genes()


# --- tables of cells -----------------------------------------------------------------------


def test_table_of_cells_is_found_by_content(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    pd.DataFrame({"x": ["a", "b"], "y": [1, 2]}).to_csv(tmp_path / "other.csv", index=False)
    spec = find_source(path)
    assert Path(spec.cells or "").name == "cells.tsv.gz"
    assert "found beside the matrix (100.0% of cells)" in spec.notes[0]
    obs().reset_index(names="barcode").to_parquet(tmp_path / "again.parquet")
    with pytest.raises(AmbiguousInputError, match=r"again\.parquet, cells\.tsv\.gz; pass one"):
        find_source(path)
    with open_source(find_source(path, cells=tmp_path / "again.parquet")) as source:
        assert source.cell_column("perturbation").tolist()[1] == "KLF1"


def test_cells_without_exactly_one_row_are_missing(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    table = obs().iloc[:22]
    table.iloc[::-1].to_csv(tmp_path / "cells.tsv.gz", sep="\t")  # another order; one cell missing
    pd.concat([table, table.iloc[:1]]).to_csv(tmp_path / "twice.txt", sep="\t")
    with open_source(find_source(path, cells=tmp_path / "cells.tsv.gz")) as source:
        found = source.cell_column("perturbation")
        assert found.tolist()[:22] == obs()["perturbation"].tolist()[:22]
        assert found.isna().tolist() == [False] * 22 + [True]
    with open_source(find_source(path, cells=tmp_path / "twice.txt")) as source:
        assert source.cell_column("perturbation").isna().tolist() == [True] + [False] * 21 + [True]
        assert source.cell_column("lane").isna().sum() == 2


def test_table_that_names_other_cells(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    pd.DataFrame({"cell": ["q"], "perturbation": ["A"]}).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(InputError, match=r"has to name the rows of .* but names none"):
        find_source(path, cells=tmp_path / "bad.csv")
    with pytest.raises(InputError, match=r"no cell of .* is named"):
        find_source(write_mtx(tmp_path), cells=tmp_path / "bad.csv")


@pytest.mark.parametrize("kind", ["csv", "csv genes x cells", "mtx", "10x 3"])
def test_a_name_that_several_cells_have_is_no_key(tmp_path: Path, kind: str) -> None:
    """Two lanes pasted together: the table's one row can't be of both cells."""
    path = WRITERS[kind](tmp_path)
    names = [*CELLS[:20], *CELLS[3:6]]
    if kind == "10x 3":
        _edit(path, "matrix/barcodes", np.array(names, "S"))
    elif kind == "mtx":
        (path / "barcodes.csv").unlink()
        (path / "barcodes.tsv").write_text("".join(f"{name}\n" for name in names))
    else:
        table = pd.DataFrame(counts(), index=names, columns=GENES)
        (table.T if "genes x" in kind else table).to_csv(path)
    obs().iloc[:19].to_csv(tmp_path / "labels.csv")
    with open_source(find_source(path, cells=tmp_path / "labels.csv")) as source:
        missing = source.cell_column("perturbation").isna().tolist()
        assert missing == [False] * 3 + [True] * 3 + [False] * 13 + [True] * 4
        why = source.unlabelled()
        assert why is not None
        several, no_row = "one row in the table of cells, but several cells", "no row in the table"
        told = [str(text) for text in why[[3, 4, 5, 19, 20, 21, 22]]]
        assert [several in text for text in told] == [True] * 3 + [False] + [True] * 3
        assert no_row in told[3]
        assert why[:3].isna().all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["csv", "csv genes x cells", "tsv", "mtx", "10x 3"])
def test_a_table_of_some_of_the_cells(tmp_path: Path, kind: str, share: float) -> None:
    """What is passed is taken: all formats alike, whatever share it names."""
    path = WRITERS[kind](tmp_path)
    known = np.random.default_rng(0).permutation(N_CELLS)[: max(1, int(N_CELLS * share))]
    table = obs().iloc[known].assign(target_gene=GENES[2])  # a name of the other side
    table.to_csv(tmp_path / "some.csv")
    spec = find_source(path, cells=tmp_path / "some.csv")
    n_lacking = N_CELLS - len(known)
    assert f"{n_lacking} of 23 cells are left out" in spec.notes[-1]
    with open_source(spec) as source:
        assert source.cell_names().tolist() == CELLS
        assert source.cell_column("donor").notna().to_numpy().nonzero()[0].tolist() == sorted(known)
        why = source.unlabelled()
        assert why is not None
        assert (why == "no row in the table of cells").sum() == n_lacking


def test_a_table_whose_key_is_in_any_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    table = obs().reset_index(names="my_key")[["perturbation", "my_key"]]
    table.to_csv(tmp_path / "keyed.csv", index=False)
    with open_source(find_source(path, cells=tmp_path / "keyed.csv")) as source:
        assert source.cell_column("perturbation").tolist()[1] == "KLF1"


@pytest.mark.parametrize("kind", ["csv", "mtx", "10x 3"])
def test_damaged_tables_of_cells(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    table = tmp_path / "labels.csv"
    obs().to_csv(table)
    whole = table.read_text()
    table.write_text(whole.replace("AAC7-1,KLF1", "AAC7-1,pool 1,KLF1"))
    with pytest.raises(CorruptFileError, match=r"labels\.csv: line 9 has 5 fields"):
        find_source(path, cells=table)
    table.write_text(whole.replace("AAC7-1,KLF1,", "AAC7-1,"))
    with pytest.raises(CorruptFileError, match=r"labels\.csv: line 9 has 3 fields"):
        find_source(path, cells=table)
    raw = bytearray(whole.encode())
    raw[200:300] = bytes(100)
    table.write_bytes(bytes(raw))
    with pytest.raises(CorruptFileError, match=r"labels\.csv: byte 200 is NUL"):
        find_source(path, cells=table)
    header, _, rest = whole.partition("\n")
    assert header.startswith(",")
    table.write_text("\f".join(header.rsplit(",", 1)) + "\n" + rest)  # a separator is damaged
    with pytest.raises(CorruptFileError, match=r"labels\.csv: the first line begins with an empty"):
        find_source(path, cells=table)
    table.write_text(whole.partition("\nAAC12-1")[0])
    with pytest.raises(CorruptFileError, match="no line end, and 11 of 23 cells"):
        find_source(path, cells=table)
    table.write_text(table.read_text() + "\n")
    assert "11 of 23 cells are left out" in find_source(path, cells=table).notes[-1]


@pytest.mark.parametrize("kind", ["csv", "csv genes x cells", "mtx"])
def test_nul_bytes_in_text_matrices_and_their_lists(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    files = [path] if path.is_file() else [path / "matrix.mtx", *path.glob("*s.csv")]
    for file in files:
        whole = file.read_bytes()
        for at in (len(whole) // 2, len(whole) - 3):
            file.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
            with pytest.raises(CorruptFileError, match=rf"{file.name}.*NUL"):
                assembled(open_source(find_source(path)), 1 << 20)
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", ["csv", "csv genes x cells", "tsv"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_mark_of_utf8_is_no_part_of_a_name(tmp_path: Path, kind: str, bare: bool) -> None:
    """Excel puts it there; the header may be R's, which begins with a name."""
    path = WRITERS[kind](tmp_path)
    table = tmp_path / "labels.csv"
    obs().to_csv(table)
    head, _, rest = path.read_bytes().partition(b"\n")
    mark = b"\t" if kind == "tsv" else b","
    head = head.partition(mark)[2] if bare else head
    path.write_bytes(b"\xef\xbb\xbf" + head + b"\n" + rest)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    with open_source(find_source(path, cells=table)) as source:
        assert source.cell_names().tolist() == CELLS
        assert source.genes().index.tolist() == GENES


@pytest.mark.parametrize("missing", ["NA", "nan"])
@pytest.mark.parametrize("column", [0, 1])
def test_an_entry_without_its_row_or_column(tmp_path: Path, missing: str, column: int) -> None:
    path = WRITERS["mtx"](tmp_path)
    matrix = path / "matrix.mtx"
    lines = matrix.read_text().split("\n")
    fields = lines[-2].split(" ")
    fields[column] = missing
    matrix.write_text("\n".join([*lines[:-2], " ".join(fields), ""]))
    with pytest.raises(CorruptFileError, match=r"matrix\.mtx.*a row or column has no number"):
        assembled(open_source(find_source(path)), 1 << 20)


@pytest.mark.parametrize("kind", ["csv", "csv genes x cells", "mtx"])
def test_a_matrix_that_may_be_cut_in_its_last_value(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    matrix = path if path.is_file() else path / "matrix.mtx"
    table = tmp_path / "labels.csv"
    obs().to_csv(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_source(path, cells=table)
    for file in (matrix, table):
        whole = file.read_bytes()
        file.write_bytes(whole.rstrip(b"\n"))
        with pytest.warns(PertscaleWarning, match=rf"last line of .*{file.name} has no line end"):
            find_source(path, cells=table)
        file.write_bytes(whole)


def test_without_a_table_rows_are_cells_and_the_spec_says_so(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    (tmp_path / "cells.tsv.gz").unlink()
    spec = find_source(path)
    assert spec.notes == ("no table of cells beside counts.csv: its rows are taken for cells",)
    with open_source(spec) as source:
        assert source.cell_columns() == []
        with pytest.raises(UnknownNameError, match="no column 'gene' of cells"):
            source.cell_column("gene")


def test_unzipped_copy_is_used_again(tmp_path: Path) -> None:
    path = write_csv(tmp_path, name="counts.csv")
    zipped = tmp_path / "zipped" / "counts.csv.gz"
    zipped.parent.mkdir()
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    first = find_source(zipped, scratch=tmp_path / "scratch")
    assert first.path == str(zipped)
    before = first.file.stat().st_mtime_ns
    assert find_source(zipped, scratch=tmp_path / "scratch") == first
    assert first.file.stat().st_mtime_ns == before


# --- real files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_cells", "n_genes", "n_entries", "total"),
    [
        ("papalexi/papalexi.h5ad", 20729, 299, 1390126, 4299765),
        ("norman_mcfaline/devel.h5ad", 5961, 500, 211790, None),
        ("schraivogel/counts.csv.gz", 21977, 72, 998313, 21410434),
        ("datlinger", 7500, 2000, 135077, 636558),
    ],
)
def test_real_files_open_without_arguments(
    name: str, n_cells: int, n_genes: int, n_entries: int, total: int | None
) -> None:
    with open_source(find_source(real_data(name))) as source:
        assert (source.n_cells, source.n_genes) == (n_cells, n_genes)
        parts = [source.read(block) for block in source.blocks(1 << 20)]
        assert sum(len(part.data) for part in parts) == n_entries
        if total is not None:
            assert sum(part.data.sum() for part in parts) == total
