"""Every format gives the same store, and every input row is kept or listed as left out, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import dask
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from pertscale.errors import ArgumentError, ExistsError, InputError, MemoryBudgetError
from pertscale.io import check, ingest
from pertscale.io.store import layout as store_module
from pertscale.io.store.layout import CHUNK_ROWS, open_root, read_frame
from pertscale.screen import open_screen
from tests.support import screens
from tests.support.helpers import real_data, tree_hash
from tests.support.screens import GENES, check_store, draw, draw_obs, expected

COUNTS, OBS = draw(), draw_obs()


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """What fits a memory= depends on the number of threads."""
    with dask.config.set(num_workers=2):
        yield


def write(folder: Path, counts: np.ndarray = COUNTS, obs: pd.DataFrame = OBS) -> Path:
    folder.mkdir(exist_ok=True)
    return screens.WRITERS["h5ad csr"](folder, counts, obs)


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", screens.WRITERS)
@pytest.mark.parametrize("memory", ["2GB", "40MB"])
def test_every_format_gives_the_same_screen(tmp_path: Path, kind: str, memory: str) -> None:
    source = screens.WRITERS[kind](tmp_path, COUNTS, OBS)
    store = ingest(source, tmp_path / "out.zarr", memory=memory, quiet=True)
    check_store(store, expected(COUNTS, OBS))
    screen = open_screen(store)
    assert screen.info["n_input"] == len(OBS)
    assert screen.scale == "counts"


@pytest.mark.parametrize("layer", ["raw", "umi"])
def test_raw_and_layers(tmp_path: Path, layer: str) -> None:
    source = screens.h5ad_raw(tmp_path, COUNTS, OBS)
    with pytest.raises(InputError, match="layer='raw'"):
        ingest(source, tmp_path / "out.zarr", quiet=True)
    store = ingest(source, tmp_path / "out.zarr", layer=layer, quiet=True)
    check_store(store, expected(COUNTS, OBS))


def halves(tmp_path: Path) -> tuple[Path, Path]:
    """The screen as two files, whose gem groups are not the same."""
    first = write(tmp_path / "one", COUNTS[:70], OBS.iloc[:70])
    second = write(tmp_path / "two", COUNTS[70:], OBS.iloc[70:])
    return first.rename(tmp_path / "lane1.h5ad"), second.rename(tmp_path / "lane2.h5ad")


@pytest.mark.parametrize("how", ["list", "glob"])
def test_several_files_are_one_screen(tmp_path: Path, how: str) -> None:
    files = halves(tmp_path)
    source = list(files) if how == "list" else str(tmp_path / "lane*.h5ad")
    store = ingest(source, tmp_path / "out.zarr", quiet=True)
    wanted = expected(COUNTS, OBS)
    check_store(store, wanted)
    obs = open_screen(store).obs
    lanes = np.where(wanted.rows < 70, "lane1", "lane2")
    groups = OBS["gem_group"].to_numpy()[wanted.rows]
    assert obs["batch"].tolist() == [f"{a}:{b}" for a, b in zip(lanes, groups, strict=True)]
    assert obs["source_file"].tolist() == [f"{lane}.h5ad" for lane in lanes]
    np.testing.assert_array_equal(obs["source_row"], wanted.rows - 70 * (wanted.rows >= 70))
    assert obs.index.tolist() == [OBS.index[i] for i in wanted.rows]


def test_files_of_one_name_and_shared_barcodes_stay_apart(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    store = ingest([one, two], tmp_path / "out.zarr", quiet=True)
    screen = open_screen(store)
    obs = screen.obs
    assert obs.index.is_unique
    assert set(obs["source_file"]) == {"one_screen", "two_screen"}
    assert obs.index[0].split(":")[0] == "one_screen"
    assert any("prefixed" in line for line in screen.info["account"])
    assert_partition(store, {"one_screen": len(OBS), "two_screen": len(OBS)})


def test_same_file_twice_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path)
    with pytest.raises(ArgumentError, match="twice"):
        ingest([source, source], tmp_path / "out.zarr", quiet=True)


# --- kept and left out --------------------------------------------------------------------------


def assert_partition(store: Path, sizes: dict[str, int]) -> None:
    """Every row of every input file is in obs or in drops, exactly once."""
    screen = open_screen(store)
    obs, drops = screen.obs, screen.drops
    cells = drops[drops["kind"] == "cell"]
    for file, n in sizes.items():
        kept = obs.loc[obs["source_file"] == file, "source_row"].tolist()
        left_out = cells.loc[cells["source"] == file, "row"].tolist()
        assert sorted(kept + left_out) == list(range(n))
    assert len(obs) + len(cells) == sum(sizes.values()) == screen.info["n_input"]


def test_kept_and_dropped_are_the_input(tmp_path: Path) -> None:
    source = write(tmp_path)
    account = check(source)
    store = ingest(source, tmp_path / "out.zarr", quiet=True)
    assert_partition(store, {"screen.h5ad": len(OBS)})
    drops = open_screen(store).drops
    assert account.n_kept + account.n_dropped == account.n_input == len(OBS)
    assert account.n_dropped == len(drops)
    assert set(drops["reason"]) == {"unassigned", "context is missing"}
    assert drops.loc[drops["row"] == 11, "name"].tolist() == [OBS.index[11]]
    rows = drops["row"].to_numpy()
    assert drops["label"].tolist() == OBS["perturbation"].iloc[rows].tolist()
    assert drops["name"].tolist() == OBS.index[rows].tolist()


def test_duplicate_barcodes_and_symbols_are_kept(tmp_path: Path) -> None:
    obs = OBS.copy()
    obs.index = ["same"] * 3 + list(OBS.index[3:])
    data = screens.anndata_of(sp.csr_matrix(COUNTS), obs)
    data.var["gene_name"] = ["TBCE", "A", "TBCE", "TBCE-1", *GENES[4:]]
    data.var.index = [f"ENSG{i:011d}" for i in range(len(GENES))]
    data.write_h5ad(tmp_path / "screen.h5ad")
    store = ingest(tmp_path / "screen.h5ad", tmp_path / "out.zarr", quiet=True)
    screen = open_screen(store)
    assert screen.genes[:4].tolist() == ["TBCE", "A", "TBCE-2", "TBCE-1"]
    assert screen.var["gene_name"].tolist()[:4] == ["TBCE", "A", "TBCE", "TBCE-1"]
    assert screen.obs.index.is_unique
    assert screen.obs.sort_values("source_row").index.str.startswith("same").sum() == 3
    assert sum("stand twice" in line for line in screen.info["account"]) == 2
    check_store(store, expected(COUNTS, OBS), genes=screen.genes.tolist())


def test_other_feature_types_are_left_out_even_where_their_counts_are_large(tmp_path: Path) -> None:
    hto = np.full((len(OBS), 2), 100_000, np.int32)
    kinds = ["Gene Expression"] * len(GENES) + ["Antibody Capture"] * 2
    source = screens.tenx(tmp_path, np.hstack([COUNTS, hto]), OBS, kinds=kinds)
    store = ingest(source, tmp_path / "out.zarr", quiet=True)
    check_store(store, expected(COUNTS, OBS))
    drops = open_screen(store).drops
    genes = drops[drops["kind"] == "gene"]
    assert genes["name"].tolist() == ["HTO0", "HTO1"]
    assert set(genes["reason"]) == {"feature type is 'Antibody Capture'"}


def test_genes_of_several_files(tmp_path: Path) -> None:
    one = write(tmp_path / "one").rename(tmp_path / "lane1.h5ad")
    data = ad.read_h5ad(one)[:, ::-1].copy()[:, 5:].copy()
    data.obs_names = [f"x{name}" for name in data.obs_names]
    data.write_h5ad(tmp_path / "lane2.h5ad")
    files = [one, tmp_path / "lane2.h5ad"]
    with pytest.raises(InputError, match=r"5 missing, 0 more .*genes='shared'"):
        ingest(files, tmp_path / "out.zarr", quiet=True)
    screen = open_screen(ingest(files, tmp_path / "out.zarr", genes="shared", quiet=True))
    assert screen.genes.tolist() == GENES[:-5]
    assert screen.drops.query("kind == 'gene'")["name"].tolist() == GENES[-5:]
    obs = screen.obs
    counts = zarr.open_array(f"{screen.path}/X", mode="r")[:]
    np.testing.assert_array_equal(counts, COUNTS[obs["source_row"], :-5])


# --- values and totals --------------------------------------------------------------------------


def test_log_normalised_values_are_kept_as_float32(tmp_path: Path) -> None:
    counts = COUNTS.astype(float)
    counts[5, 0] = 1
    values = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    screens.anndata_of(sp.csr_matrix(values), OBS).write_h5ad(tmp_path / "screen.h5ad")
    screen = open_screen(ingest(tmp_path / "screen.h5ad", tmp_path / "out.zarr", quiet=True))
    matrix = zarr.open_array(f"{screen.path}/X", mode="r")[:]
    assert screen.scale == "log1p_1e4"
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, values[expected(COUNTS, OBS).rows].astype(np.float32))
    assert np.isnan(screen.totals).all()
    assert any("every cell sums to 10,000" in line for line in screen.info["account"])


def test_large_counts_need_uint32(tmp_path: Path) -> None:
    counts = COUNTS.copy()
    counts[2, 4] = 70_000
    obs = OBS.assign(perturbation=OBS["perturbation"].replace("unassigned", "KLF1"))
    source = write(tmp_path, counts, obs)
    with pytest.raises(InputError, match=r"AAC002-1.*GENE4.*70000.* above 65,535.*uint32"):
        ingest(source, tmp_path / "out.zarr", quiet=True)
    store = ingest(source, tmp_path / "out.zarr", dtype="uint32", quiet=True)
    assert open_root(store)["X"].dtype == np.uint32
    check_store(store, expected(counts, obs))


@pytest.mark.parametrize("kind", ["h5ad csr", "h5ad csc"])
def test_totals_of_a_column(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    obs = OBS.assign(ncounts=COUNTS.sum(axis=1) * 20.0 + 1)
    source = screens.WRITERS[kind](tmp_path, COUNTS, obs)
    hint = "column 'ncounts' is 20 times as large"
    store = ingest(source, tmp_path / "hint.zarr")
    told = capsys.readouterr().err
    before = "cells that were looked at"
    assert told.index(before) < told.index("of all cells")  # before the matrix is written, too
    assert sum(hint in line for line in open_screen(store).info["account"]) == 1
    assert before in str(check(source))
    screen = open_screen(ingest(source, tmp_path / "out.zarr", totals="ncounts", quiet=True))
    rows = expected(COUNTS, OBS).rows
    np.testing.assert_array_equal(screen.totals, COUNTS[rows].sum(axis=1) * 20.0 + 1)
    assert any("'ncounts', as chosen, is 20 times" in line for line in screen.info["account"])
    with pytest.raises(ArgumentError, match="'nonsense' is not a column"):
        ingest(source, tmp_path / "x.zarr", totals="nonsense", quiet=True)


def test_totals_that_are_smaller_than_the_sums_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = write(tmp_path, COUNTS, OBS.assign(total_counts=COUNTS.sum(axis=1) / 30))
    found = "column 'total_counts' is 0.0333 times as large"
    assert found in str(check(source))
    assert "The sum is used" in str(check(source))
    ingest(source, tmp_path / "out.zarr", totals="total_counts")
    told = capsys.readouterr().err
    assert told.index(found) < told.index("wrote")
    assert "divided by 'total_counts' as chosen; leave totals= out" in told


def test_totals_have_to_be_positive(tmp_path: Path) -> None:
    source = write(tmp_path, COUNTS, OBS.assign(ncounts=np.where(np.arange(157) < 20, 0, 9)))
    with pytest.raises(InputError, match=r"total 0\.0 for input cell"):
        ingest(source, tmp_path / "out.zarr", totals="ncounts", quiet=True)
    assert not (tmp_path / "out.zarr").exists()


def test_account_is_printed_once_and_stored_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = ingest(write(tmp_path), tmp_path / "out.zarr")
    told = capsys.readouterr().err.splitlines()
    account = open_screen(store).info["account"]
    assert [line for line in told if line in account] == account
    assert check(tmp_path / "screen.h5ad").lines == tuple(account)


# --- columns ------------------------------------------------------------------------------------


def test_columns_of_the_cells_are_kept(tmp_path: Path) -> None:
    n = len(OBS)
    obs = OBS.assign(
        batch=np.arange(n),
        total_counts=1.5,
        flag=np.arange(n) % 2 == 0,
        some=pd.array([None, *range(n - 1)], dtype="Int64"),
        text=[None if i % 3 == 0 else f"t{i % 5}" for i in range(n)],
        level=pd.Categorical(np.arange(n) % 4),
    )
    obs["a_b"] = 1
    source = write(tmp_path, COUNTS, obs)
    screen = open_screen(ingest(source, tmp_path / "out.zarr", quiet=True))
    rows = expected(COUNTS, OBS).rows
    kept = screen.obs
    assert kept["batch"].tolist() == [str(i) for i in rows]
    assert kept["batch_source"].tolist() == rows.tolist()
    assert kept["total_counts_source"].unique().tolist() == [1.5]
    assert kept["flag"].tolist() == [i % 2 == 0 for i in rows]
    np.testing.assert_array_equal(kept["some"], [np.nan if i == 0 else i - 1 for i in rows])
    text = [None if pd.isna(v) else v for v in kept["text"]]
    assert text == [None if i % 3 == 0 else f"t{i % 5}" for i in rows]
    assert kept["level"].astype(int).tolist() == (rows % 4).tolist()


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_cells", [2 * CHUNK_ROWS + 3, CHUNK_ROWS])
def test_sharded_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_cells: int) -> None:
    monkeypatch.setattr(store_module, "MAX_FILES", 3)
    random = np.random.default_rng(0)
    counts = random.poisson(0.05, (n_cells, len(GENES))).astype(np.int32)
    table = {"perturbation": random.choice(["ctrl", "KLF1"], n_cells)}
    obs = pd.DataFrame(table, index=[f"c{i}" for i in range(n_cells)])
    store = ingest(write(tmp_path, counts, obs), tmp_path / "out.zarr", memory="80MB", quiet=True)
    array = open_root(store)["X"]
    assert (array.shards is not None) == (n_cells > CHUNK_ROWS)
    rows = np.argsort(obs["perturbation"] != "ctrl", kind="stable")
    np.testing.assert_array_equal(array[:], counts[rows])
    np.testing.assert_array_equal(open_screen(store).totals, counts[rows].sum(axis=1))


def test_one_gene(tmp_path: Path) -> None:
    counts = COUNTS // 2 + 1
    data = screens.anndata_of(sp.csr_matrix(counts), OBS)[:, :1].copy()
    data.write_h5ad(tmp_path / "screen.h5ad")
    store = ingest(tmp_path / "screen.h5ad", tmp_path / "out.zarr", quiet=True)
    check_store(store, expected(counts[:, :1], OBS), genes=GENES[:1])


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_more_genes_than_two_bytes_count_in_little_memory(tmp_path: Path, form: type) -> None:
    n_cells, n_genes = 60, 70_000
    counts = form(sp.random(n_cells, n_genes, 0.02, random_state=0, format="csr").ceil())
    obs = pd.DataFrame({"perturbation": ["ctrl", "KLF1"] * 30}, index=[f"c{i}" for i in range(60)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    ad.AnnData(counts, obs=obs, var=var).write_h5ad(tmp_path / "wide.h5ad")
    store = ingest(tmp_path / "wide.h5ad", tmp_path / "out.zarr", memory="50MB", quiet=True)
    rows = [*range(0, 60, 2), *range(1, 60, 2)]
    found = open_root(store)["X"][:]
    assert (sp.csr_matrix(found) != counts.tocsr()[rows]).nnz == 0
    with pytest.raises(MemoryBudgetError, match="pass memory='"):
        ingest(tmp_path / "wide.h5ad", tmp_path / "small.zarr", memory="1MB", quiet=True)


@pytest.mark.parametrize("dtype", [">f4", "f2", "?", "u8", "i1"])
def test_odd_types_of_values(tmp_path: Path, dtype: str) -> None:
    counts = np.minimum(COUNTS, 1).astype(dtype)
    screens.anndata_of(counts, OBS).write_h5ad(tmp_path / "screen.h5ad")
    store = ingest(tmp_path / "screen.h5ad", tmp_path / "out.zarr", quiet=True)
    check_store(store, expected(np.minimum(COUNTS, 1), OBS))


def test_unsorted_indices_are_the_same_screen(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(COUNTS)
    turned = matrix.copy()
    for row in range(len(COUNTS)):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        turned.indices[part] = matrix.indices[part][::-1]
        turned.data[part] = matrix.data[part][::-1]
    (tmp_path / "turned").mkdir()
    screens.anndata_of(turned, OBS).write_h5ad(tmp_path / "turned" / "screen.h5ad")
    one = ingest(write(tmp_path), tmp_path / "one.zarr", quiet=True)
    two = ingest(tmp_path / "turned" / "screen.h5ad", tmp_path / "two.zarr", quiet=True)
    assert tree_hash(one) == tree_hash(two)


# --- paths --------------------------------------------------------------------------------------


def test_relative_paths_and_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    store = ingest("screen.h5ad", "new/folder/k562", quiet=True)
    assert store == tmp_path / "new" / "folder" / "k562"
    check_store(store, expected(COUNTS, OBS))
    assert sorted(path.name for path in store.parent.iterdir()) == ["k562"]


def test_store_and_source_apart(tmp_path: Path) -> None:
    source = screens.WRITERS["zarr 3"](tmp_path, COUNTS, OBS)
    before = tree_hash(source)
    with pytest.raises(ExistsError, match="not a screen store of pertscale"):
        ingest(source, source, overwrite=True, quiet=True)
    with pytest.raises(ArgumentError, match="inside the other"):
        ingest(source, source / "inside.zarr", overwrite=True, quiet=True)
    assert tree_hash(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["screen.zarr"]


def test_a_store_is_a_source(tmp_path: Path) -> None:
    one = ingest(write(tmp_path), tmp_path / "one.zarr", quiet=True)
    two = ingest(one, tmp_path / "two.zarr", quiet=True)
    kept = expected(COUNTS, OBS)
    check_store(two, kept)
    assert read_frame(open_root(two)["obs"]).index.tolist() == [OBS.index[i] for i in kept.rows]


# --- real data ----------------------------------------------------------------------------------


def test_totals_of_the_whole_transcriptome_are_pointed_to(tmp_path: Path) -> None:
    screen = open_screen(ingest(real_data("datlinger"), tmp_path / "out.zarr", quiet=True))
    hints = [line for line in screen.info["account"] if "totals='ncounts'" in line]
    assert len(hints) == 1
