"""Screens of the fuzz: what ingest reads of a file, and the store that it writes."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

import pertscale as ps
from pertscale.io.ingestion.column_roles import ColumnChoices
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.plan import plan_screen
from pertscale.io.ingestion.scale import decide_scale
from pertscale.io.sources import open_source
from tests.fuzz.plain import ANY, Reader, name_of

N_CELLS = 40
GENES = ["GA", "GB", "GC", *(f"g{i}" for i in range(7))]
CELLS = [f"cell{i}" for i in range(N_CELLS)]
_ROLES = {"perturbation": "perturbation", "context": "cell_line"}


def counts() -> np.ndarray:
    """Counts of cells by genes, a few of them large; no cell is empty."""
    drawn = np.random.default_rng(0).poisson(1.2, (N_CELLS, len(GENES)))
    drawn[:, 3] += 1
    drawn[3, 4] = 300
    return drawn.astype(np.float32)


def cells() -> pd.DataFrame:
    """Two contexts, a double, numbers."""
    names = ["control"] * 8 + ["GA"] * 4 + ["GB"] * 4 + ["GA+GB"] * 4
    table = {
        "perturbation": pd.Categorical(names * 2),
        "cell_line": pd.Categorical(["K562"] * 20 + ["RPE1"] * 20),
        "batch": [f"b{i % 3}" for i in range(N_CELLS)],
        "mito": np.linspace(0, 1, N_CELLS),
    }
    order = np.random.default_rng(1).permutation(N_CELLS)
    return pd.DataFrame(table).iloc[order].set_axis(CELLS)


def _anndata(x: Any) -> ad.AnnData:
    var = pd.DataFrame({"gene_ids": [f"ENSG{i:011d}" for i in range(len(GENES))]}, index=GENES)
    return ad.AnnData(x, obs=cells(), var=var)


# --- files ----------------------------------------------------------------------------------------


def _h5ad(form: Callable[[np.ndarray], Any], **how: Any) -> Callable[[Path], None]:
    return lambda folder: _anndata(form(counts())).write_h5ad(folder / "s.h5ad", **how)


def _zarr(form: Callable[[np.ndarray], Any], version: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
            warnings.simplefilter("ignore")
            _anndata(form(counts())).write_zarr(folder / "s.zarr", chunks=None)

    return write


def _tenx(folder: Path) -> None:
    matrix = sp.csr_matrix(counts().astype(np.int32))
    with h5py.File(folder / "s.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(CELLS, "S")
        group.create_dataset("data", data=matrix.data, compression="gzip")
        group["indices"] = matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array([len(GENES), N_CELLS], np.int32)
        group["features/id"] = np.array([f"ENSG{i:011d}" for i in range(len(GENES))], "S")
        group["features/name"] = np.array(GENES, "S")
        group["features/feature_type"] = np.array(["Gene Expression"] * len(GENES), "S")
    cells().to_csv(folder / "cells.csv")


def _mtx(ending: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        matrix = sp.coo_matrix(counts().T.astype(int))
        entries = zip(matrix.row + 1, matrix.col + 1, matrix.data, strict=True)
        head = f"%%MatrixMarket matrix coordinate integer general\n{len(GENES)} {N_CELLS}"
        texts = {
            "matrix.mtx": f"{head} {matrix.nnz}\n"
            + "".join(f"{i} {j} {v}\n" for i, j, v in entries),
            "barcodes.tsv": "".join(f"{name}\n" for name in CELLS),
            "features.tsv": "".join(f"E{g}\t{g}\tGene Expression\n" for g in GENES),
        }
        for name, text in texts.items():
            content = text.encode()
            (folder / f"{name}{ending}").write_bytes(gzip.compress(content) if ending else content)
        cells().to_csv(folder / "cells.csv")

    return write


def _csv(folder: Path) -> None:
    pd.DataFrame(counts().astype(int), CELLS, GENES).to_csv(folder / "s.csv")
    cells().to_csv(folder / "cells.csv")


def _tsv_turned(folder: Path) -> None:
    pd.DataFrame(counts().T.astype(int), GENES, CELLS).to_csv(folder / "s.tsv.gz", sep="\t")
    cells().to_csv(folder / "cells.tsv", sep="\t")


# --- pertscale ------------------------------------------------------------------------------------


def _source(folder: Path) -> Path:
    """Return what is passed: the folder, where it is a MatrixMarket folder."""
    return next(iter(sorted(folder.glob("s.*"))), folder)


def planned(folder: Path) -> dict[str, Any]:
    """Read all that ingest reads before it writes: names, labels, and every entry."""
    sources = SourceSet.find(_source(folder))
    plan = plan_screen(sources, ColumnChoices(**_ROLES), name="screen", genes="same")
    decide_scale(sources, declared=None)
    with open_source(sources.specs[0]) as source:
        matrix = np.zeros((source.n_cells, source.n_genes))
        for block in source.blocks(1 << 20):
            part = source.read(block)
            rows = part.row_start + np.repeat(np.arange(part.n_rows), np.diff(part.indptr))
            np.add.at(matrix, (rows, part.indices), part.data)
        return {
            "cells": source.cell_names().tolist(),
            "genes": [str(name) for name in source.genes().index],
            "labels": _kept(plan.perturbation, plan.destination),
            "contexts": _kept(plan.context, plan.destination),
            "matrix": matrix,
        }


def _kept(names: pd.Categorical, destination: np.ndarray) -> list[str]:
    texts = np.asarray(names, object)
    return [str(t) if d >= 0 else "" for t, d in zip(texts, destination, strict=True)]


def ingested(folder: Path) -> dict[str, Any]:
    """Write a store and read it back, cells in the order of the file."""
    store = folder.parent / "out.zarr"
    ps.io.ingest(_source(folder), store, quiet=True, memory="300MB", **_ROLES)
    screen = ps.open_screen(store)
    obs, n = screen.obs, screen.info["n_input"]
    found: dict[str, Any] = {
        "cells": [None] * n,
        "labels": [""] * n,
        "contexts": [""] * n,
        "matrix": [None] * n,
        "genes": list(screen.genes),
    }
    matrix = screen.to_xarray()["counts"].values
    for at, row in enumerate(obs["source_row"]):
        found["cells"][row] = obs.index[at]
        found["labels"][row] = obs["perturbation"].iloc[at]
        found["contexts"][row] = obs["context"].iloc[at]
        found["matrix"][row] = matrix[at]
    dropped = screen.drops[screen.drops["kind"] == "cell"]
    assert len(dropped) + len(obs) == n, "a cell is neither kept nor among the drops"
    return found


def whole_store(folder: Path) -> dict[str, Any]:
    """Read all that a store has, in every way."""
    screen = ps.open_screen(folder / "s.zarr")
    data = screen.to_xarray()
    frames = {"groups": screen.groups, "obs": screen.obs, "var": screen.var, "drops": screen.drops}
    return {
        **{name: frame.astype(str).to_numpy().tolist() for name, frame in frames.items()},
        "genes": screen.genes,
        "info": repr(sorted(screen.info.items())),
        "totals": screen.totals,
        "expressed": screen.n_genes_expressed(0, screen.n_cells),
        "cells": data["cell"].values,
        "counts": data["counts"].values,
        "anndata": screen.to_anndata().X.compute(),
    }


def _write_store(folder: Path) -> None:
    _h5ad(sp.csr_matrix)(folder)
    ps.io.ingest(folder / "s.h5ad", folder / "s.zarr", quiet=True, **_ROLES)
    (folder / "s.h5ad").unlink()


# --- the right result -----------------------------------------------------------------------------


def expected_label(text: object) -> Any:
    """Return what becomes of a label; ANY where only the grammar of names knows."""
    if text is None or text != text or text == "":
        return ""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", str(text)) and str(text).lower() not in _WORDS
    return str(text) if plain or text in ("control", "GA+GB") else ANY


_WORDS = ("nan", "na", "null", "none", "true", "false", "inf", "control", "ctrl", "nt")


def _right(
    matrix: Any, names: Sequence[str], genes: Sequence[str], labels: Any, contexts: Any
) -> dict[str, Any]:
    """Return the right result; a cell without label or context is left out."""
    matrix = np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix)
    assert matrix.shape == (len(names), len(genes)), "the matrix has another shape than its names"
    found = [
        ("", "") if "" in (one, two) else (one, two)
        for one, two in zip(map(expected_label, labels), map(_context, contexts), strict=True)
    ]
    # where one of both can't be judged, neither can whether the cell is kept; a context without
    # controls is left out
    controlled = {two for one, two in found if one in ("control", ANY)}
    found = [
        (ANY, ANY) if ANY in pair else pair if pair[1] in controlled else ("", "") for pair in found
    ]
    return {
        "cells": [str(n) for n in names],
        "genes": [str(g) for g in genes],
        "labels": [one for one, _ in found],
        "contexts": [two for _, two in found],
        "matrix": matrix.astype(np.float64),
    }


def _context(text: object) -> Any:
    if text is None or text != text or text == "":
        return ""
    return str(text) if re.fullmatch(r"[A-Z]{1,4}[0-9]+", str(text)) else ANY


def _anndata_of(folder: Path) -> ad.AnnData:
    path = _source(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ad.read_zarr(path) if path.is_dir() else ad.read_h5ad(path)


def _by_anndata(folder: Path) -> dict[str, Any]:
    data = _anndata_of(folder)
    labels, contexts = (data.obs[c].astype(object) for c in ("perturbation", "cell_line"))
    return _right(data.X, data.obs_names, data.var_names, labels, contexts)


def _stored(folder: Path) -> dict[str, Any]:
    """The same as a store has it: unique names, genes without one by their id, no dropped cells."""
    right, var = _by_anndata(folder), _anndata_of(folder).var
    ids = var["gene_ids"].astype(object) if "gene_ids" in var else [None] * len(var)
    told = [name_of(i) if i is not None and i == i and i != "" else "unnamed" for i in ids]
    genes = [g if g.strip() else i for g, i in zip(right["genes"], told, strict=True)]
    return {
        **right,
        "genes": _unique(genes),
        "cells": _of_kept(_unique(right["cells"]), right["labels"]),
        "matrix": _of_kept(right["matrix"].tolist(), right["labels"]),
    }


def _unique(names: Sequence[str]) -> list[str]:
    return ad.utils.make_index_unique(pd.Index(names, dtype=object)).tolist()


def _of_kept(values: Sequence[Any], labels: Sequence[Any]) -> list[Any]:
    """Return None for cells that are left out; ANY where that can't be told."""
    told = {"": None, ANY: ANY}
    return [told.get(label, value) for value, label in zip(values, labels, strict=True)]


def _by_h5py(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "s.h5") as file:
        group = file["matrix"]
        parts = (group["data"][:], group["indices"][:], group["indptr"][:])
        matrix = sp.csc_matrix(parts, shape=tuple(group["shape"][:])).T
        names = [n.decode() for n in group["barcodes"][:]]
        genes = [g.decode() for g in group["features/name"][:]]
    return _right(matrix, names, genes, *_labels(folder, names))


def _by_scipy(folder: Path) -> dict[str, Any]:
    def text(name: str) -> str:
        path = next(iter(folder.glob(f"{name}*")))
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()

    matrix = scipy.io.mmread(io.StringIO(text("matrix.mtx"))).T

    def listed(name: str) -> list[list[str]]:  # quotes are R's, and no part of a name
        lines = io.StringIO(text(name).removeprefix("\ufeff"), newline=None)
        return [row for row in csv.reader(lines, delimiter="\t", strict=True) if row]

    names = [row[0] for row in listed("barcodes.tsv")]
    genes = [row[1] for row in listed("features.tsv")]
    return _right(matrix, names, genes, *_labels(folder, names))


def _by_csv(folder: Path) -> dict[str, Any]:
    path = _source(folder)
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    turned = ".tsv" in path.suffixes
    head, *rows = _rows(text, "\t" if turned else ",")
    matrix = np.array([[float(v) for v in row[1:]] for row in rows])
    above, left = head[1:], [row[0] for row in rows]
    names, genes = (above, left) if turned else (left, above)
    return _right(matrix.T if turned else matrix, names, genes, *_labels(folder, names))


def _labels(folder: Path, names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Return labels and contexts by the table of cells; of a name that is there twice none."""
    path = next(iter(folder.glob("cells.*")))
    head, *rows = _rows(
        path.read_bytes().decode("utf-8-sig"), "\t" if path.suffix == ".tsv" else ","
    )
    columns = [head.index(name) for name in ("perturbation", "cell_line")]
    listed = [row[0] for row in rows]
    told = {
        row[0]: tuple(row[c] for c in columns)
        for row in rows
        if listed.count(row[0]) == 1 and list(names).count(row[0]) == 1
    }
    found = [told.get(name, ("", "")) for name in names]
    return [one for one, _ in found], [two for _, two in found]


def _rows(text: str, mark: str) -> list[list[str]]:
    assert "\0" not in text, "a NUL byte"
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=mark, strict=True) if row]
    widths = {len(row) for row in rows[1:]}
    assert len(widths) == 1, "rows of different lengths"
    if len(rows[0]) == widths.pop() - 1 and rows[0][0]:  # as R writes it
        rows[0].insert(0, "")
    assert len(rows[0]) == len(rows[1]), "a header of another length"
    return rows


def _full_h5ad(folder: Path) -> None:
    _h5ad(sp.csr_matrix, compression="gzip")(folder)


SCREENS = (
    Reader("h5ad csr", _h5ad(sp.csr_matrix), planned, _by_anndata),
    Reader("h5ad csc gzip", _h5ad(sp.csc_matrix, compression="gzip"), planned, _by_anndata),
    Reader("h5ad dense", _h5ad(np.asarray, compression="lzf"), planned, _by_anndata),
    Reader("zarr 3 csr", _zarr(sp.csr_matrix, 3), planned, _by_anndata),
    Reader("zarr 2 dense", _zarr(np.asarray, 2), planned, _by_anndata),
    Reader("10x h5", _tenx, planned, _by_h5py),
    Reader("mtx", _mtx(""), planned, _by_scipy),
    Reader("mtx gz", _mtx(".gz"), planned, _by_scipy),
    Reader("csv", _csv, planned, _by_csv),
    Reader("tsv.gz turned", _tsv_turned, planned, _by_csv),
    Reader("ingest h5ad", _full_h5ad, ingested, _stored),
    Reader("store", _write_store, whole_store, None),
)
