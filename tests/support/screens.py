"""Small screens: drawn, written in every format that ingest reads, and what their stores hold."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

import pertscale as ps
from pertscale.io.store.layout import open_root, read_frame

N_CELLS, N_GENES = 157, 700  # two strips of genes, the last one not full
GENES = [f"GENE{i}" for i in range(N_GENES)]
CELLS = [f"AAC{i:03d}-1" for i in range(N_CELLS)]


def draw(seed: int = 0) -> np.ndarray:
    """Counts with an empty cell, which has no label either, and an empty gene."""
    counts = np.random.default_rng(seed).poisson(0.4, (N_CELLS, N_GENES)).astype(np.int32)
    counts[5] = 0
    counts[:, 7] = 0
    counts[3, 0] = 65_535
    return counts


def draw_obs(seed: int = 0) -> pd.DataFrame:
    """Two contexts in mixed order; unassigned cells, cells without label or context."""
    random = np.random.default_rng(seed + 1)
    labels = random.choice(["non-targeting", "KLF1", "STAT1", "GENE3", "unassigned"], N_CELLS)
    labels[5] = "unassigned"
    lines = random.choice(["beta", "alpha"], N_CELLS).astype(object)
    lines[11] = None
    table = {
        "perturbation": labels,
        "cell_line": lines,
        "gem_group": random.integers(1, 4, N_CELLS),
    }
    return pd.DataFrame(table, index=CELLS)


@dataclass(frozen=True)
class Expected:
    """A NumPy re-ordering of an input: what the store has to hold."""

    counts: np.ndarray
    rows: np.ndarray
    perturbation: list[str]
    context: list[str]


def expected(counts: np.ndarray, obs: pd.DataFrame) -> Expected:
    """Sort the kept cells by (context, control first, perturbation), stable; empty ones go."""
    names = obs["perturbation"].replace("non-targeting", "control").tolist()
    lines = obs["cell_line"].tolist()
    labelled = [names[i] != "unassigned" and isinstance(lines[i], str) for i in range(len(obs))]
    kept = [i for i in range(len(obs)) if labelled[i] and counts[i].any()]
    order = sorted(kept, key=lambda i: (lines[i], names[i] != "control", names[i]))
    rows = np.array(order)
    return Expected(counts[rows], rows, [names[i] for i in order], [lines[i] for i in order])


def check_store(store: Path, wanted: Expected, *, genes: list[str] = GENES) -> None:
    """Compare a store with what it has to hold, cell by cell."""
    root = open_root(store)
    obs = read_frame(root["obs"])
    np.testing.assert_array_equal(root["X"][:], wanted.counts)
    assert obs["perturbation"].tolist() == wanted.perturbation
    assert obs["context"].tolist() == wanted.context
    assert read_frame(root["var"]).index.tolist() == genes
    np.testing.assert_array_equal(obs["total_counts"], wanted.counts.sum(axis=1))
    np.testing.assert_array_equal(obs["n_genes_expressed"], (wanted.counts > 0).sum(axis=1))
    check_groups(root, wanted)


def check_groups(root: object, wanted: Expected) -> None:
    groups = read_frame(root["uns/pertscale/groups"])  # type: ignore[index]
    pairs = pd.DataFrame({"context": wanted.context, "perturbation": wanted.perturbation})
    sizes = pairs.groupby(["context", "perturbation"], sort=False).size()
    assert list(zip(groups["context"], groups["perturbation"], strict=True)) == list(sizes.index)
    np.testing.assert_array_equal(groups["stop"] - groups["start"], sizes)
    np.testing.assert_array_equal(groups["start"], np.cumsum([0, *sizes])[:-1])
    assert groups["is_control"].tolist() == [p == "control" for p in groups["perturbation"]]


def draw_counts(
    *, n_cells: int = 3000, n_genes: int = 700, n_perturbations: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts with ties, empty genes, knock-downs and shifted modules; labels; contexts."""
    random = np.random.default_rng(seed)
    mean = np.exp(random.normal(-1.0, 1.2, n_genes))
    perturbation = random.choice(
        ["non-targeting", *(f"G{i}" for i in range(n_perturbations))],
        n_cells,
        p=[0.25, *[0.75 / n_perturbations] * n_perturbations],
    )
    context = random.choice(["beta", "alpha"], n_cells)
    rate = random.gamma(3.0, 1 / 3.0, (n_cells, n_genes)) * mean
    for i in range(n_perturbations):
        cells = perturbation == f"G{i}"
        rate[np.ix_(cells, np.arange(40 + 10 * i, 70 + 10 * i) % n_genes)] *= 2.5
        rate[cells, i] *= 0.1
    counts = random.poisson(rate).astype(np.uint16)
    counts[:, n_genes - 1] = 0  # never expressed
    counts[:, n_genes - 2] = 1  # the same in every cell
    perturbation[0], context[0] = "G_alone", "alpha"  # one cell only
    return counts, perturbation, context


def write_h5ad(
    path: Path,
    matrix: np.ndarray,
    obs: dict[str, np.ndarray],
    *,
    cells: Iterable[str] | None = None,
) -> Path:
    """Write a matrix as CSR float32, as most screens come; cells are named by their rows."""
    cells = (f"cell{i}" for i in range(len(matrix))) if cells is None else cells
    names = [f"G{i}" for i in range(matrix.shape[1])]
    data = ad.AnnData(
        sp.csr_matrix(matrix.astype(np.float32)),
        obs=pd.DataFrame(obs, index=list(cells)),
        var=pd.DataFrame(index=names),
    )
    data.write_h5ad(path)
    return path


# --- writers ------------------------------------------------------------------------------------


def anndata_of(x: object, obs: pd.DataFrame) -> ad.AnnData:
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=GENES))


def h5ad(form: Callable[[np.ndarray], object]) -> Callable[[Path, np.ndarray, pd.DataFrame], Path]:
    def write(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
        anndata_of(form(counts.astype(np.float32)), obs).write_h5ad(folder / "screen.h5ad")
        return folder / "screen.h5ad"

    return write


def h5ad_raw(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
    """Counts in ``raw`` and in a layer; what is in X can't be used."""
    data = anndata_of(sp.csr_matrix(counts), obs)
    data.raw = data.copy()
    data.layers["umi"] = sp.csr_matrix(counts)
    data.X = np.random.default_rng(0).normal(size=counts.shape).astype(np.float32)
    data.write_h5ad(folder / "screen.h5ad")
    return folder / "screen.h5ad"


def zarr_version(version: int) -> Callable[[Path, np.ndarray, pd.DataFrame], Path]:
    def write(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
        old = ad.settings.zarr_write_format
        ad.settings.zarr_write_format = version
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                anndata_of(sp.csr_matrix(counts), obs).write_zarr(folder / "screen.zarr")
        finally:
            ad.settings.zarr_write_format = old
        return folder / "screen.zarr"

    return write


def tenx(
    folder: Path, counts: np.ndarray, obs: pd.DataFrame, *, kinds: list[str] | None = None
) -> Path:
    """A 10x file with the table of cells beside it."""
    matrix = sp.csr_matrix(counts)
    n_features = counts.shape[1]
    names = [*GENES, *(f"HTO{i}" for i in range(n_features - N_GENES))]
    with h5py.File(folder / "screen.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(obs.index, dtype="S")
        group["data"], group["indices"] = matrix.data, matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array([n_features, len(obs)], dtype=np.int32)
        group["features/id"] = np.array([f"ENSG{i:011d}" for i in range(n_features)], dtype="S")
        group["features/name"] = np.array(names, dtype="S")
        group["features/feature_type"] = np.array(kinds or ["Gene Expression"] * n_features, "S")
    obs.to_csv(folder / "cells.csv")
    return folder / "screen.h5"


def mtx(*, zipped: bool, named: str) -> Callable[[Path, np.ndarray, pd.DataFrame], Path]:
    def write(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
        target = folder / "screen"
        target.mkdir()
        scipy.io.mmwrite(target / "matrix.mtx", sp.coo_matrix(counts.T), field="integer")
        (target / "barcodes.tsv").write_text("".join(f"{c}\n" for c in obs.index))
        if named == "10x":
            lines = [f"ENSG{i:011d}\t{g}\tGene Expression\n" for i, g in enumerate(GENES)]
            (target / "features.tsv").write_text("".join(lines))
        else:
            (target / "genes.txt").write_text("".join(f"{g}\n" for g in GENES))
        for path in list(target.iterdir()) if zipped else []:
            with gzip.open(f"{path}.gz", "wb") as file:
                file.write(path.read_bytes())
            path.unlink()
        obs.to_csv(target / "metadata.csv")
        return target

    return write


def csv_gz(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
    pd.DataFrame(counts, index=obs.index, columns=GENES).to_csv(folder / "screen.csv.gz")
    obs.to_csv(folder / "cells.tsv", sep="\t")
    return folder / "screen.csv.gz"


def tsv_turned(folder: Path, counts: np.ndarray, obs: pd.DataFrame) -> Path:
    pd.DataFrame(counts.T, index=GENES, columns=obs.index).to_csv(folder / "screen.tsv", sep="\t")
    obs.to_csv(folder / "cells.csv.gz")
    return folder / "screen.tsv"


WRITERS = {
    "h5ad csr": h5ad(sp.csr_matrix),
    "h5ad csc": h5ad(sp.csc_matrix),
    "h5ad dense": h5ad(np.asarray),
    "zarr 2": zarr_version(2),
    "zarr 3": zarr_version(3),
    "10x h5": tenx,
    "mtx 10x": mtx(zipped=False, named="10x"),
    "mtx 10x gz": mtx(zipped=True, named="10x"),
    "mtx plain gz": mtx(zipped=True, named="plain"),
    "csv.gz": csv_gz,
    "tsv turned": tsv_turned,
}


def screen_of(folder, labels, genes, *, name="s", **columns):
    """Ingest a small screen with these labels."""
    random = np.random.default_rng(0)
    counts = sp.csr_matrix(random.poisson(3, (len(labels), len(genes))).astype("f4"))
    obs = pd.DataFrame({"condition": labels, **columns})
    obs.index = [f"c{i}" for i in range(len(labels))]
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / f"{name}.h5ad")
    ps.io.ingest(folder / f"{name}.h5ad", folder / f"{name}.zarr", quiet=True)
    return ps.open_screen(folder / f"{name}.zarr")
