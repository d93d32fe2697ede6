"""HDF5 and Zarr: what is read is in the file that was named, is all there, and comes to an end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import h5py
import numcodecs
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr

import pertscale as ps
from pertscale.errors import CorruptFileError, InputError, UnknownNameError
from pertscale.io.guards import first_look
from pertscale.io.sources import find_source, open_source

N_CELLS, N_GENES = 8, 5
COUNTS = np.arange(N_CELLS * N_GENES).reshape(N_CELLS, N_GENES).astype(np.int32) % 7


def screen() -> ad.AnnData:
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(["A", "control"] * (N_CELLS // 2)),
            "context": pd.Categorical(["K562"] * 4 + ["RPE1"] * 4),
            "n": np.arange(N_CELLS),
            "one": pd.Categorical(["same"] * N_CELLS),
        },
        [f"c{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame({"id": [f"E{i}" for i in range(N_GENES)]}, [f"G{i}" for i in range(N_GENES)])
    data = ad.AnnData(sp.csr_matrix(COUNTS), obs=obs, var=var)
    data.varm["e"] = np.arange(2.0 * N_GENES).reshape(N_GENES, 2)
    data.obsm["v"] = np.ones((N_CELLS, 2))
    return data


@pytest.fixture
def path(tmp_path) -> Path:
    screen().write_h5ad(tmp_path / "s.h5ad")
    return tmp_path / "s.h5ad"


def counts_of(path: Path) -> np.ndarray:
    found = np.zeros((N_CELLS, N_GENES))
    with open_source(find_source(path)) as source:
        for block in source.blocks(1 << 20):
            part = source.read(block)
            rows = part.row_start + np.repeat(np.arange(part.n_rows), np.diff(part.indptr))
            found[rows, part.indices] += part.data
    return found


# --- other files ----------------------------------------------------------------------------------


def external_link(file, key, other):
    file.move(key, "aside")
    with h5py.File(other, "w") as target:
        file.copy("aside", target, "it")
    del file["aside"]
    file[key] = h5py.ExternalLink(str(other), "/it")


def soft_link_that_leaves(file, key, other):
    external_link(file, key, other)
    file.move(key, "outside")
    file[key] = h5py.SoftLink("/outside")


def virtual(file, key, other):
    values, attributes = file[key][()], dict(file[key].attrs)
    with h5py.File(other, "w") as target:
        target["it"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(str(other), "it", values.shape)
    del file[key]
    file.create_virtual_dataset(key, layout).attrs.update(attributes)


def external_storage(file, key, other):
    values, attributes = file[key][()], dict(file[key].attrs)
    Path(other).write_bytes(values.tobytes())
    del file[key]
    stored = [(str(other), 0, values.nbytes)]
    made = file.create_dataset(key, values.shape, values.dtype, external=stored)
    made.attrs.update(attributes)


@pytest.mark.parametrize("key", ["X", "X/data", "obs", "obs/n", "obs/context/codes", "var/_index"])
@pytest.mark.parametrize("how", [external_link, soft_link_that_leaves])
def test_links_to_other_files_are_refused(path, how, key):
    with h5py.File(path, "a") as file:
        how(file, key, path.with_name("other.h5"))
    with pytest.raises(InputError, match=r"link to another file, '.*other\.h5'"):
        ps.io.check(path)


@pytest.mark.parametrize("key", ["X/data", "X/indptr", "obs/n", "obs/context/codes"])
@pytest.mark.parametrize("how", [virtual, external_storage])
@pytest.mark.parametrize("gone", [False, True])
def test_values_in_other_files_are_refused(path, how, key, gone):
    other = path.with_name("other.h5")
    with h5py.File(path, "a") as file:
        how(file, key, other)
    if gone:
        other.unlink()
    with pytest.raises(InputError, match=r"other\.h5"):
        ps.io.check(path)


def test_links_inside_of_the_file_and_unread_links_are_none_to_refuse(path):
    with h5py.File(path, "a") as file:
        file.move("obs/n", "elsewhere")
        file["obs/n"] = h5py.SoftLink("/elsewhere")
        file["uns/far"] = h5py.ExternalLink("/etc/passwd", "/x")
    ps.io.check(path)
    np.testing.assert_array_equal(counts_of(path), COUNTS)


def test_a_link_to_itself(path):
    with h5py.File(path, "a") as file:
        del file["obs/n"]
        file["obs/n"] = h5py.SoftLink("/obs/n")
    with pytest.raises(CorruptFileError, match="leads to itself"):
        ps.io.check(path)


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("varm/e", lambda p: ps.read_embedding(p, key="e")),
        ("obsm/v", lambda p: ps.embeddings.from_cells(p, key="v")),
        ("X/data", ps.read_predictions),
    ],
)
def test_embeddings_and_predictions(path, key, read):
    with h5py.File(path, "a") as file:
        external_link(file, key, path.with_name("other.h5"))
    with pytest.raises(InputError, match="link to another file"):
        read(path)


def test_10x(tmp_path):
    matrix = sp.csr_matrix(COUNTS)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["matrix/barcodes"] = np.array([f"c{i}" for i in range(N_CELLS)], "S")
        file["matrix/features/name"] = np.array([f"G{i}" for i in range(N_GENES)], "S")
        file["matrix/shape"] = np.array([N_GENES, N_CELLS])
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(matrix, name)
    np.testing.assert_array_equal(counts_of(tmp_path / "s.h5"), COUNTS)
    with h5py.File(tmp_path / "s.h5", "a") as file:
        virtual(file, "matrix/data", tmp_path / "other.h5")
    with pytest.raises(InputError, match="virtual dataset"):
        find_source(tmp_path / "s.h5")


# --- what was never written -----------------------------------------------------------------------


def unwritten(file, key, chunks):
    attributes, shape, dtype = dict(file[key].attrs), file[key].shape, file[key].dtype
    values = file[key][()]
    del file[key]
    made = file.create_dataset(key, shape, dtype, chunks=chunks)
    made.attrs.update(attributes)
    if chunks:
        made[: chunks[0]] = values[: chunks[0]]


@pytest.mark.parametrize("chunks", [None, (3,)])
@pytest.mark.parametrize(
    "key",
    ["X/data", "X/indices", "X/indptr", "obs/perturbation/codes", "obs/_index", "obs/n", "var/id"],
)
def test_chunks_that_were_never_written(path, key, chunks):
    with h5py.File(path, "a") as file:
        if isinstance(file[key], h5py.Group):  # texts, as later versions of AnnData write them
            key = f"{key}/values"
        unwritten(file, key, chunks)
    with pytest.raises(CorruptFileError, match=r"never written|chunks are stored") as error:
        ps.io.check(path)
    assert repr(key) in str(error.value)


def test_dense_rows_that_were_never_written(path):
    data = screen()
    data.X = COUNTS
    data.write_h5ad(path)
    with h5py.File(path, "a") as file:
        unwritten(file, "X", (3, N_GENES))
    with pytest.raises(CorruptFileError, match="1 of 3 chunks are stored"):
        ps.io.check(path)


@pytest.mark.parametrize(("key", "n"), [("obs/_index", 10**9), ("var/_index", 10**8)])
def test_names_by_the_hundred_million_that_are_not_there(path, key, n):
    with h5py.File(path, "a") as file:
        attributes = dict(file[key].attrs)
        del file[key]
        file.create_dataset(key, (n,), "i1", chunks=(1 << 20,)).attrs.update(attributes)
    with pytest.raises(CorruptFileError, match="chunks are stored"):
        ps.io.check(path)


def zarr_store(path: Path, version: int, data: ad.AnnData, **settings: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ad.settings.override(zarr_write_format=version, **settings):
            data.write_zarr(path)
    return path


def lose_chunks(path: Path, array: str) -> None:
    folder = path / array / "values" if (path / array / "values").exists() else path / array
    for chunk in [p for p in folder.rglob("*") if p.is_file() and p.name[0].isdigit()]:
        chunk.unlink()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "array",
    [
        "X/data",
        "X/indices",
        "X/indptr",
        "obs/_index",
        "var/_index",
        "obs/context/codes",
        "obs/context/categories",
    ],
)
def test_lost_chunks_of_zarr(tmp_path, version, array):
    path = zarr_store(tmp_path / "s.zarr", version, screen())
    ps.io.check(path)
    lose_chunks(path, array)
    with pytest.raises(CorruptFileError, match="0 of 1 chunks are stored") as error:
        ps.io.check(path)
    assert array in str(error.value)


def test_masks_of_columns_without_missing_values_are_not_told(tmp_path):
    """Text is written so by later versions of AnnData: each store would be told of."""
    data = screen()
    del data.obs["one"]
    data.obs["flag"] = pd.array([True] * N_CELLS, dtype="boolean")
    data.obs["depth"] = pd.array(range(1, N_CELLS + 1), dtype="Int64")
    path = zarr_store(tmp_path / "s.zarr", 3, data)
    assert not (path / "obs/flag/mask/c").exists()
    assert not any("not all chunks" in line for line in ps.io.check(path).lines)
    with zarr.config.set({"array.write_empty_chunks": True}):  # as other writers store them
        zarr.open_array(path / "obs/depth/mask", mode="r+")[:] = False
    told = [line for line in ps.io.check(path).lines if "not all chunks" in line]
    assert "obs/flag/mask" in told[0]  # of such a writer it is lost


def test_zeros_that_zarr_does_not_store_are_told(tmp_path):
    path = zarr_store(tmp_path / "s.zarr", 3, screen())
    account = ps.io.check(path).lines
    told = [line for line in account if line.startswith("not all chunks are stored of ")]
    assert len(told) == 1
    assert "obs/one/codes" in told[0]
    assert "/mask" not in told[0]
    data = screen()
    data.X = np.zeros_like(COUNTS)
    data.X[0, 0] = 1
    path = zarr_store(tmp_path / "d.zarr", 3, data)
    np.testing.assert_array_equal(counts_of(path), data.X)


def test_where_zeros_are_stored_a_missing_chunk_is_a_loss(tmp_path):
    import zarr

    path = zarr_store(tmp_path / "s.zarr", 3, screen())
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name, values in (("one", np.zeros(N_CELLS, np.int8)), ("context", [0] * 4 + [1] * 4)):
        codes = group.create_array(
            f"obs/{name}/codes",
            shape=(N_CELLS,),
            chunks=(4,),
            dtype="i1",
            overwrite=True,
            config={"write_empty_chunks": True},
        )
        codes[:] = np.asarray(values, np.int8)
    zarr.consolidate_metadata(path)
    ps.io.check(path)
    (path / "obs/context/codes/c/0").unlink()
    with pytest.raises(CorruptFileError, match="1 of 2 chunks are stored"):
        ps.io.check(path)


def prediction(path: Path) -> Path:
    names = {"perturbation": ["A", "B"], "gene": ["g", "h", "i"]}
    values = xr.DataArray(np.ones((2, 3), np.float32), coords=names, dims=list(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset({"prediction": values}).to_zarr(path, consolidated=False)
    return path


@pytest.mark.parametrize("name", ["perturbation", "gene"])
def test_a_prediction_without_its_names(tmp_path, name):
    path = prediction(tmp_path / "p.zarr")
    assert ps.read_predictions(path).parts[0].perturbations == ("A", "B")
    lose_chunks(path, name)
    with pytest.raises(CorruptFileError, match="not all chunks are stored"):
        ps.read_predictions(path)
    shutil.rmtree(path / name)
    with pytest.raises(InputError, match=f"does not name its {name}s"):
        ps.read_predictions(path)


def test_a_chunk_of_blosc_that_is_not_as_long_as_it_says(tmp_path):
    """Blosc reads on beyond its end, and what it finds there becomes names and sizes."""
    path = zarr_store(tmp_path / "s.zarr", 2, screen())
    ps.io.check(path)
    for name in ("obs/context/categories/0", "var/_index/0", "X/indices/0"):
        chunk = next(p for p in (path / name, (path / name).parent / "values/0") if p.exists())
        name = chunk.relative_to(path).as_posix()
        content = chunk.read_bytes()
        for cut in (content[:-5], content[:10], content + b"more", b""):
            chunk.write_bytes(cut)
            with pytest.raises(CorruptFileError, match=f"{name}.* is not what it says"):
                ps.io.check(path)
        chunk.write_bytes(content)


@pytest.mark.parametrize("packing", ["blosc", "zstd"])
@pytest.mark.parametrize("says", [2**31 - 1, 2**31 + 5])
def test_a_chunk_that_says_to_be_of_an_absurd_size(tmp_path, packing, says):
    """Room would be made for all of it, or for a negative size."""
    path = zarr_store(
        tmp_path / "s.zarr", 2 if packing == "blosc" else 3, screen(), auto_shard_zarr_v3=False
    )
    folder = next(p for p in (path / "obs/_index/values", path / "obs/_index") if p.exists())
    chunk = folder / ("0" if packing == "blosc" else "c/0")
    if packing == "blosc":
        content = bytearray(chunk.read_bytes())
        content[4:8] = says.to_bytes(4, "little")
    else:  # a frame whose header has four bytes for the size
        content = b"\x28\xb5\x2f\xfd" + b"\xa0" + says.to_bytes(4, "little") + b"\1\0\0"
    chunk.write_bytes(bytes(content))
    with pytest.raises(CorruptFileError, match=r"_index.*declares 2.15 GB, but \d+ bytes are"):
        ps.io.check(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("n", [1, 2**32 - 1])
def test_a_chunk_of_another_number_of_texts(tmp_path, version, n):
    """As many places as it says are reserved, 34 GB of them."""
    path = zarr_store(tmp_path / "s.zarr", version, screen(), auto_shard_zarr_v3=False)
    folder = next(p for p in (path / "obs/_index/values", path / "obs/_index") if p.exists())
    chunk = folder / ("0" if version == 2 else "c/0")
    codec = numcodecs.Blosc() if version == 2 else numcodecs.Zstd()
    texts = bytes(codec.decode(chunk.read_bytes()))
    chunk.write_bytes(codec.encode(n.to_bytes(4, "little") + texts[4:]))
    with pytest.raises(CorruptFileError, match=f"_index.*holds {n:,} texts, not"):
        ps.io.check(path)


def test_a_prediction_with_a_damaged_chunk(tmp_path):
    """Its values are read when they are needed, long after the file was passed."""
    path = prediction(tmp_path / "p.zarr")
    (path / "prediction/c/0/0").write_bytes(b"no chunk")
    (part,) = ps.read_predictions(path).parts
    with pytest.raises(CorruptFileError, match=r"p\.zarr.*damaged"):
        np.asarray(part.values)


# --- damage that HDF5 does not come back from -----------------------------------------------------


def test_a_file_on_which_hdf5_loops_is_given_up(path, monkeypatch):
    """An entry of the global heap without a size: HDF5 looks for the next at the same place."""
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL")
    content[at + 16 : at + 32] = bytes(16)
    path.write_bytes(content)
    monkeypatch.setattr(first_look, "PROBE_SECONDS", 1)
    for read in (ps.io.check, ps.read_embedding, ps.embeddings.from_cells, ps.read_predictions):
        with pytest.raises(CorruptFileError, match=r"s\.h5ad.*loops for ever"):
            read(path)


def test_one_process_looks_first_for_all_files_and_forks(path, tmp_path, monkeypatch):
    """It is started once, looks once at a file, and is started again when it was ended."""
    started, asked = [], []
    start, ask = first_look._start, first_look._ask
    monkeypatch.setattr(first_look, "_start", lambda: (started.append(start()), started[-1])[1])
    monkeypatch.setattr(first_look, "_ask", lambda file: (asked.append(file), ask(file))[1])
    monkeypatch.setattr(first_look, "_server", None)
    for _ in range(3):
        ps.io.check(path)
    shutil.copy(path, tmp_path / "t.h5ad")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(first_look.look_first, [path, tmp_path / "t.h5ad"] * 8))
    assert len(started) == 1
    assert set(asked) == {str(path), str(tmp_path / "t.h5ad")}
    shutil.copy(path, tmp_path / "u.h5ad")
    child = os.fork()
    if child == 0:
        first_look.look_first(tmp_path / "u.h5ad")
        os._exit(len(started))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    started[0].process.kill()
    first_look.look_first(tmp_path / "u.h5ad")
    assert len(started) == 2
    assert started[0].process.returncode == -signal.SIGKILL
    started[1].end()


def test_a_crash_of_hdf5_is_told(path, tmp_path, monkeypatch):
    """The program that crashes is one that looks like the real one."""
    real = Path(first_look._PROBE).read_text()
    step = "    for step in _steps(file):\n"
    for number, told in ((signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "ended early .signal 9")):
        name = f"{int(number)}.h5ad"
        kill = f"        os.kill(os.getpid(), {int(number)})\n"
        (tmp_path / "probe.py").write_text(real.replace(step, step + kill))
        monkeypatch.setattr(first_look, "_PROBE", tmp_path / "probe.py")
        monkeypatch.setattr(first_look, "_server", None)
        shutil.copy(path, tmp_path / name)
        with pytest.raises(OSError, match=f"{name}.*{told}"):
            ps.io.check(tmp_path / name)
        first_look._server.end()


def packed(file, key, raw: bytes) -> None:
    attributes, shape, dtype = dict(file[key].attrs), file[key].shape, file[key].dtype
    del file[key]
    made = file.create_dataset(key, shape, dtype, chunks=shape, compression="gzip")
    made.attrs.update(attributes)
    made.id.write_direct_chunk((0,) * len(shape), zlib.compress(raw, 9))


@pytest.mark.parametrize("key", ["X/data", "obs/n"])
def test_a_chunk_that_unpacks_to_more_than_a_chunk(path, key):
    with h5py.File(path, "a") as file:
        packed(file, key, bytes(50_000_000))
    with pytest.raises(CorruptFileError, match=r"unpacks to more|does not unpack to the"):
        ps.io.check(path)
        counts_of(path)


# --- data that are fine, in another way -----------------------------------------------------------


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("dtype", [">i4", ">f8", "<f2", "?"])
def test_byte_orders_and_types(tmp_path, form, compression, dtype):
    wanted = COUNTS.astype(dtype)
    data = screen()
    data.X = form(COUNTS)
    data.write_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "s.h5ad", "a") as file:
        keys = ["X"] if form is np.asarray else ["X/data", "X/indices", "X/indptr"]
        for key in keys:
            values, attributes = file[key][()], dict(file[key].attrs)
            del file[key]
            is_values = key in ("X", "X/data")
            values = values.astype(dtype if is_values else values.dtype.newbyteorder(">"))
            chunks = (2, N_GENES) if key == "X" else (4,)
            how = {"compression": compression, "chunks": chunks} if compression else {}
            file.create_dataset(key, data=values, **how).attrs.update(attributes)
    np.testing.assert_array_equal(counts_of(tmp_path / "s.h5ad"), wanted.astype(float))


def test_columns_in_another_byte_order_and_text_in_latin_1(path):
    with h5py.File(path, "a") as file:
        for key, values in (
            ("obs/n", np.arange(N_CELLS, dtype=">i8")),
            ("obs/context/codes", np.array([0] * 4 + [1] * 4, ">i2")),
            ("obs/context/categories", np.array(["Zürich".encode("latin-1"), b"Bern"])),
            ("var/_index", np.arange(N_GENES)),
        ):
            attributes = dict(file[key].attrs)
            del file[key]
            file.create_dataset(key, data=values).attrs.update(attributes)
    with open_source(find_source(path)) as source:
        assert list(source.cell_column("n")) == list(range(N_CELLS))
        assert list(source.cell_column("context")) == ["Zürich"] * 4 + ["Bern"] * 4
        assert list(source.genes().index) == list("01234")


def unknown_encoding(file):
    made = file.create_group("obs/odd")
    made.attrs.update({"encoding-type": "from-the-future", "encoding-version": "9"})


def two_dimensions(file):
    file["obs/odd"] = np.ones((N_CELLS, 2))


def references(file):
    file["obs/odd"] = np.array([file["X"].ref] * N_CELLS, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (unknown_encoding, "has the encoding 'from-the-future'"),
        (two_dimensions, "has 2 dimensions"),
        (references, "holds references"),
    ],
)
def test_columns_that_can_not_be_read_are_left_out_and_told(path, make, why):
    with h5py.File(path, "a") as file:
        make(file)
        file["obs"].attrs["column-order"] = ["perturbation", "odd", "n"]
    account = ps.io.check(path)
    assert [line for line in account.lines if f"obs: left out: 'odd' {why}" in line]
    store = ps.io.ingest(path, path.with_name("s.zarr"), quiet=True)
    assert "odd" not in ps.open_screen(store).obs
    with pytest.raises(UnknownNameError, match=f"'odd' that can be read .it {why}"):
        find = open_source(find_source(path))
        with find as source:
            source.cell_column("odd")


def test_encodings_that_this_anndata_does_not_know_are_read_by_what_they_are(path):
    """Later versions have others; the layout of these columns says enough."""
    with h5py.File(path, "a") as file:
        file["obs/n"].attrs["encoding-type"] = "better-array"
        file["obs/context"].attrs["encoding-version"] = "7.0"
        del file["obs/context/codes"].attrs["encoding-type"]
    with open_source(find_source(path)) as source:
        assert list(source.cell_column("n")) == list(range(N_CELLS))
        assert list(source.cell_column("context")) == ["K562"] * 4 + ["RPE1"] * 4


def test_a_column_of_another_length_is_found_at_once(path):
    with h5py.File(path, "a") as file:
        del file["obs/n"]
        file["obs/n"] = np.arange(3)
    with pytest.raises(CorruptFileError, match="column 'n' has 3 values for 8 rows"):
        ps.io.check(path)


def test_a_damaged_column_is_found_before_the_matrix_is_read(path):
    with h5py.File(path, "a") as file:
        attributes = dict(file["obs/n"].attrs)
        del file["obs/n"]
        made = file.create_dataset("obs/n", (N_CELLS,), "i8", chunks=(N_CELLS,), compression="gzip")
        made.attrs.update(attributes)
        made.id.write_direct_chunk((0,), b"no deflate")
    with pytest.raises(CorruptFileError, match="column 'n' can't be read"):
        ps.io.check(path)


def test_metadata_of_zarr_that_makes_no_sense(tmp_path):
    path = zarr_store(tmp_path / "s.zarr", 3, screen())
    root = json.loads((path / "zarr.json").read_text())
    root.pop("consolidated_metadata", None)
    (path / "zarr.json").write_text(json.dumps(root))
    meta = path / "obs/n/zarr.json"
    whole = json.loads(meta.read_text())
    for changed in ({"data_type": "banana"}, {"shape": "x"}, {"chunk_grid": {}}, {"codecs": []}):
        meta.write_text(json.dumps({**whole, **changed}))
        with pytest.raises(CorruptFileError, match=str(path)):
            ps.io.check(path)
