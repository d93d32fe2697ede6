"""The store opens in AnnData, xarray and pertscale; a Screen is lazy, picklable, unchanging."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from dask.callbacks import Callback

from pertscale.errors import CorruptFileError, InputError, NotFoundError, UnknownNameError
from pertscale.io import ingest
from pertscale.io.store.layout import is_store, open_root
from pertscale.io.store.matrix import MatrixReader
from pertscale.schema import CELL_COLUMNS, DROP_COLUMNS, GROUP_COLUMNS
from pertscale.screen import Screen, open_screen
from tests.support import screens
from tests.support.screens import GENES, Expected, draw, draw_obs, expected

COUNTS, OBS = draw(), draw_obs()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    obs = OBS.assign(cell_line=OBS["cell_line"].replace("alpha", "<b>alpha</b>"))
    source = screens.WRITERS["h5ad csr"](folder, COUNTS, obs)
    return ingest(source, folder / "k562.zarr", quiet=True)


@pytest.fixture(scope="module")
def wanted() -> Expected:
    return expected(COUNTS, OBS.assign(cell_line=OBS["cell_line"].replace("alpha", "<b>alpha</b>")))


@contextmanager
def computes() -> Iterator[list[Any]]:
    """Collect the tasks that Dask runs."""
    tasks: list[Any] = []
    with Callback(pretask=lambda key, *_: tasks.append(key)):
        yield tasks


# --- other tools --------------------------------------------------------------------------------


def test_anndata_reads_the_store_without_warnings(store: Path, wanted: Expected) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ad.read_zarr(store)
    np.testing.assert_array_equal(data.X, wanted.counts)
    assert data.var_names.tolist() == GENES
    assert data.obs_names.tolist() == [OBS.index[i] for i in wanted.rows]
    assert data.obs["perturbation"].tolist() == wanted.perturbation
    assert list(data.uns["pertscale"]) == ["drops", "groups", "info"]


@pytest.mark.parametrize("consolidated", [None, True])
def test_xarray_reads_the_store_without_warnings(
    store: Path, wanted: Expected, consolidated: bool | None
) -> None:
    options = {"consolidated": consolidated, "create_default_indexes": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(store, **options)
        cells = xr.open_zarr(store, group="obs", **options)
        tree = xr.open_datatree(store, engine="zarr", **options)
        values = dataset["X"].to_numpy()
    assert dataset["X"].dims == ("cell", "gene")
    assert dataset["X"].chunks is not None
    np.testing.assert_array_equal(values, wanted.counts)
    assert cells["total_counts"].dims == ("cell",)
    assert tree["uns/pertscale/groups"]["start"].dims == ("groups_row",)
    np.testing.assert_array_equal(tree["obs/total_counts"], wanted.counts.sum(axis=1))


def test_tables_have_the_columns_of_the_schema(store: Path) -> None:
    screen = open_screen(store)
    optional = {"batch", "guide"}
    for frame, columns in (
        (screen.obs, CELL_COLUMNS),
        (screen.groups, GROUP_COLUMNS),
        (screen.drops, DROP_COLUMNS),
    ):
        for column in columns:
            if column.name in frame or column.name not in optional:
                found = frame[column.name].dtype
                text = pd.api.types.is_string_dtype(found) and column.dtype == "str"
                assert text or str(found) == column.dtype, column.name


def test_chunks_are_gene_major(store: Path) -> None:
    array = open_root(store)["X"]
    assert array.chunks == (2048, 512)
    assert [type(codec).__name__ for codec in array.filters] == ["TransposeCodec"]
    assert array.dtype == np.uint16


# --- the handle ---------------------------------------------------------------------------------


def test_screen_knows_what_is_inside(store: Path, wanted: Expected) -> None:
    screen = open_screen(store)
    assert screen.shape == wanted.counts.shape
    assert screen.contexts == ("<b>alpha</b>", "beta")
    assert screen.perturbations == ("GENE3", "KLF1", "STAT1")
    assert screen.targets["GENE3"] == ("GENE3",)
    assert screen.targets["control"] == ()
    assert screen.context_groups("beta")["is_control"].tolist() == [True, False, False, False]
    with pytest.raises(UnknownNameError, match="no context 'gamma'"):
        screen.context_groups("gamma")
    assert open_screen(screen) is screen
    summary = screen.summary().set_index("context")
    assert summary["cells"].sum() == len(wanted.rows)


def test_screen_knows_its_sizes(store: Path) -> None:
    screen = open_screen(store)
    obs, groups = screen.obs, screen.groups
    counted = obs.groupby(["context", "perturbation"], observed=True).size()
    sizes = pd.Series(screen.group_sizes, groups.index)
    for row, size in zip(groups.itertuples(), sizes, strict=True):
        assert size == counted[row.context, row.perturbation]
    assert len(sizes) == len(counted)
    first, last = screen.control_rows("beta")
    assert set(obs["perturbation"].iloc[first:last]) == {"control"}
    assert last - first == counted["beta", "control"]
    perturbed = counted["beta"].drop("control")
    for least in (0, int(perturbed.min()) + 1, int(perturbed.max()) + 1):
        assert screen.tested("beta", min_cells=least) == sorted(perturbed[perturbed >= least].index)
    assert screen.gene_ids is None


def test_screen_does_not_change(store: Path) -> None:
    screen = open_screen(store)
    for name in ("groups", "drops", "var", "obs"):
        table = getattr(screen, name)
        table["new"] = 1
        table.iloc[0, 0] = table.iloc[1, 0]
        pd.testing.assert_frame_equal(getattr(screen, name), getattr(open_screen(store), name))
    screen.info["scale"] = "other"
    assert screen.scale == "counts"
    with pytest.raises(ValueError, match="read-only"):
        screen.totals[0] = 1
    with pytest.raises(AttributeError):
        screen.path = "elsewhere"  # type: ignore[misc]


def test_screen_is_pickled_as_its_path(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    screen = open_screen("k562.zarr")
    assert len(screen.totals)
    data = pickle.dumps(screen)
    assert len(data) < 500
    monkeypatch.chdir("/")
    again = pickle.loads(data)  # noqa: S301
    assert again.fingerprint == screen.fingerprint
    pd.testing.assert_frame_equal(again.groups, screen.groups)


def test_looks(store: Path) -> None:
    screen = open_screen(store)
    text = repr(screen)
    n = int((OBS["perturbation"] == "KLF1").sum())
    assert text.startswith(f"<Screen k562.zarr: {screen.n_cells} cells x 700 genes")
    assert "beta: " in text
    assert n > 0
    page = screen._repr_html_()
    assert "<b>alpha</b>" not in page
    assert "&lt;b&gt;alpha&lt;/b&gt;" in page


def test_names_are_escaped_in_notebooks(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "<script>.zarr")
    assert "<script>" not in open_screen(copy)._repr_html_()


# --- arrays -------------------------------------------------------------------------------------


def test_to_xarray_is_lazy_and_normalises(store: Path, wanted: Expected) -> None:
    with computes() as tasks:
        dataset = open_screen(store).to_xarray()
    assert tasks == []
    assert dataset["counts"].dtype == np.uint16
    assert dataset["expression"].dtype == np.float32
    assert dataset["expression"].chunks == dataset["counts"].chunks
    assert dataset["perturbation"].values.tolist() == wanted.perturbation
    totals = wanted.counts.sum(axis=1, keepdims=True)
    oracle = np.log1p(1e4 * wanted.counts / totals)
    with computes() as tasks:
        np.testing.assert_array_equal(dataset["counts"].values, wanted.counts)
        np.testing.assert_allclose(dataset["expression"].values, oracle, rtol=1e-6)
    assert len(tasks) > 0
    one = dataset["expression"].sel(gene="GENE9").values
    np.testing.assert_allclose(one, oracle[:, 9], rtol=1e-6)


def test_to_xarray_of_log_normalised_values(tmp_path: Path) -> None:
    values = np.log1p(COUNTS / np.maximum(COUNTS.sum(axis=1, keepdims=True), 1) * 1e4)
    values = values.astype(np.float32)
    source = screens.WRITERS["h5ad csr"](tmp_path, values, OBS)
    screen = open_screen(ingest(source, tmp_path / "out.zarr", quiet=True))
    dataset = screen.to_xarray()
    assert list(dataset.data_vars) == ["expression"]
    np.testing.assert_array_equal(dataset["expression"], values[expected(COUNTS, OBS).rows])


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_arrays_compute_on_any_scheduler(store: Path, wanted: Expected, scheduler: str) -> None:
    total = open_screen(store).to_xarray()["counts"].sum()
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert int(total) == wanted.counts.sum()


def test_to_anndata_is_lazy(store: Path, wanted: Expected) -> None:
    with computes() as tasks, warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_screen(store).to_anndata()
    assert tasks == []
    part = data[data.obs["perturbation"] == "KLF1"]
    rows = np.array(wanted.perturbation) == "KLF1"
    np.testing.assert_array_equal(part.X.compute(), wanted.counts[rows])


def test_reader_gives_genes_by_cells(store: Path, wanted: Expected) -> None:
    reader = MatrixReader(str(store), gene_start=500, gene_stop=512)
    np.testing.assert_array_equal(reader.read(3, 40), wanted.counts[3:40, 500:512].T)
    np.testing.assert_array_equal(reader.read(40, 41), wanted.counts[40:41, 500:512].T)


def test_reader_of_shards_and_of_what_is_missing(
    store: Path, wanted: Expected, tmp_path: Path
) -> None:
    """Chunks that are files are decoded here, all others by zarr: the same values."""
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    matrix = zarr.open_array(copy / "X", mode="r")
    shutil.rmtree(copy / "X")
    sharded = zarr.create_array(
        copy / "X",
        shape=matrix.shape,
        chunks=matrix.chunks,
        dtype=matrix.dtype,
        shards=(2 * matrix.chunks[0], matrix.chunks[1]),
        fill_value=0,
    )
    sharded[:] = wanted.counts
    n_genes = min(512, wanted.counts.shape[1])
    for path in (store, copy):
        reader = MatrixReader(str(path), gene_start=0, gene_stop=n_genes)
        np.testing.assert_array_equal(reader.read(5, 60), wanted.counts[5:60, :n_genes].T)
    empty = Path(shutil.copytree(store, tmp_path / "empty.zarr"))
    (empty / "X" / "c" / "0" / "0").unlink()
    reader = MatrixReader(str(empty), gene_start=0, gene_stop=n_genes)
    with pytest.raises(CorruptFileError, match="this chunk of the matrix is missing"):
        reader.read(0, 60)


# --- what is not a store ------------------------------------------------------------------------


def test_what_is_not_a_store(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no screen store at"):
        open_screen(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(InputError, match=r"other.zarr is a Zarr group, but not a screen store"):
        open_screen(tmp_path / "other.zarr")
    source = store.parent / "screen.h5ad"
    with pytest.raises(InputError, match=r"screen.h5ad is not a screen store.*ingest\("):
        open_screen(source)
    assert not any(map(is_store, (tmp_path / "none.zarr", tmp_path / "other.zarr", source)))
    assert is_store(store)


def test_newer_stores_and_damaged_chunks(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    (copy / "X" / "c" / "0" / "0").write_bytes(b"damage")
    reader = MatrixReader(str(copy), gene_start=0, gene_stop=5)
    with pytest.raises(CorruptFileError, match=r"copy.zarr.*overwrite=True"):
        reader.read(0, 10)
    info = zarr.open_group(copy, mode="r+", use_consolidated=False)["uns/pertscale/info"]
    assert isinstance(info, zarr.Array)
    info[()] = str(info[()]).replace('"schema_version": 1', '"schema_version": 99')
    with pytest.raises(InputError, match="schema 99"):
        open_screen(copy)


def test_screens_are_hashable_and_differ(store: Path) -> None:
    one, two = open_screen(store), open_screen(store)
    assert isinstance(one, Screen)
    assert len({one, two}) == 2
