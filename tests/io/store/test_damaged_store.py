"""A store of which something was lost or changed is refused, by whoever reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner

from pertscale.cli import main
from pertscale.errors import CorruptFileError, InputError, PertscaleError
from pertscale.io import check, ingest
from pertscale.io.store.layout import open_root
from pertscale.screen import open_screen
from pertscale.stats import rank_sum
from tests.support import screens
from tests.support.screens import draw, draw_obs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    source = screens.WRITERS["h5ad csr"](folder, draw(), draw_obs())
    return ingest(source, folder / "s.zarr", quiet=True)


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "s.zarr"))


def everything(path: Path) -> dict[str, Any]:
    """Read all that a screen has."""
    screen = open_screen(path)
    data = screen.to_xarray()
    n = screen.n_cells
    return {
        "genes": list(screen.genes),
        "groups": screen.groups,
        "info": screen.info,
        "obs": screen.obs,
        "var": screen.var,
        "drops": screen.drops,
        "totals": screen.totals.tolist(),
        "expressed": screen.n_genes_expressed(0, n).tolist(),
        "counts": data["counts"].values.tolist(),
        "cells": list(data["cell"].values),
        "anndata": screen.to_anndata().X.compute().tolist(),
    }


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[k].equals(other[k]) if isinstance(one[k], pd.DataFrame) else one[k] == other[k]
        for k in one
    )


def files_of(store: Path) -> list[Path]:
    return sorted(p for p in store.rglob("*") if p.is_file())


def is_chunk(file: Path) -> bool:
    return file.name != "zarr.json"


@pytest.mark.once
@pytest.mark.parametrize("how", ["lost", "flipped", "cut"])
def test_every_file_of_a_store(store, copy, how):
    """Each chunk is refused; the other files as well, unless all is read as before."""
    whole = everything(store)
    files = files_of(copy)
    chunks = [f for f in files if is_chunk(f)]
    others = [copy / name for name in ("X/zarr.json", "obs/perturbation/zarr.json", "zarr.json")]
    for file in [*chunks[{"lost": 0, "flipped": 2, "cut": 4}[how] :: 6], *others]:
        content = file.read_bytes()
        if how == "lost":
            file.unlink()
        elif how == "cut":
            file.write_bytes(content[: len(content) // 2])
        else:
            middle = len(content) // 2
            file.write_bytes(
                content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            )
        name = file.relative_to(copy)
        try:
            found = everything(copy)
        except PertscaleError as error:
            told = str(error)
            assert "s.zarr" in told, name
            assert not is_chunk(file) or ("ingest" in told and "overwrite=True" in told), name
        else:
            assert not is_chunk(file), name
            assert is_same(found, whole), name
        if is_chunk(file) or how != "flipped":  # some bits of a description say nothing
            with pytest.raises(PertscaleError):
                check(copy)  # it also looks at what nobody has read
        file.write_bytes(content)
    assert is_same(everything(copy), whole)


def test_check_says_what_was_verified(store, copy):
    n_chunks = sum(map(is_chunk, files_of(store)))
    account = check(store)
    assert f"whole: {n_chunks:,} chunks of" in str(account)
    assert "checksums" in str(account)
    assert account.scale == "counts"
    assert account.n_input == account.n_kept + account.n_dropped
    assert CliRunner().invoke(main, ["check", str(store)]).exit_code == 0
    for name in ("X/c/0/1", "obs/total_counts/c/0", "uns/pertscale/drops/reason/c/0"):
        (copy / name).unlink()
    with pytest.raises(CorruptFileError, match="damaged in 3 of") as caught:
        check(copy)
    for name in ("X", "obs/total_counts", "uns/pertscale/drops/reason"):
        assert name in str(caught.value)
    found = CliRunner().invoke(main, ["check", str(copy)])
    assert found.exit_code == 1
    assert "Traceback" not in found.output


def change_info(store: Path, **new: Any) -> None:
    info = zarr.open_group(store, mode="r+", use_consolidated=False)["uns/pertscale/info"]
    assert isinstance(info, zarr.Array)
    info[()] = json.dumps({**json.loads(str(info[()])), **new})


@pytest.mark.parametrize("scale", ["banana", "log1p_1e4", None, 7])
def test_a_scale_that_the_matrix_does_not_have(copy, scale):
    change_info(copy, scale=scale)
    with pytest.raises(CorruptFileError, match=r"holds uint16.*ingest the source again"):
        open_screen(copy)


def test_values_changed_through_zarr(copy):
    """With right checksums, so that only the hash of the content tells."""
    root = zarr.open_group(copy, mode="r+", use_consolidated=False)
    for name in ("obs/total_counts", "obs/n_genes_expressed", "uns/pertscale/groups/is_control"):
        array: Any = root[name]
        before = array[:]
        array[0] = 1 - before[0]
        with pytest.raises(CorruptFileError, match="genes, groups or totals that ingest wrote"):
            open_screen(copy)
        array[:] = before
    matrix: Any = root["X"]
    matrix[3, 5] = matrix[3, 5] + 1
    open_screen(copy)
    with pytest.raises(CorruptFileError, match="holds other values than ingest wrote"):
        check(copy)


@pytest.mark.parametrize("how", ["missing", "cut", "codec", "shape", "dimensions", "no JSON"])
def test_the_description_of_the_matrix(copy, how):
    file = copy / "X" / "zarr.json"
    told = json.loads(file.read_text())
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:300])
    elif how == "no JSON":
        file.write_bytes(b"\xff\x00banana")
    else:
        if how == "codec":
            told["codecs"][2]["name"] = 7
        elif how == "shape":
            told["shape"][0] += 1
        else:
            told["shape"] = told["shape"][:1]
        file.write_text(json.dumps(told))
    with pytest.raises(CorruptFileError, match="ingest the source again"):
        rank_sum(copy, out=copy.parent / "labels", quiet=True)


def test_a_root_that_is_no_json(copy):
    (copy / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="is not a screen store"):
        open_screen(copy)


def test_flipped_bits_of_the_matrix_stop_the_labels(copy, tmp_path):
    """Blosc alone notices one in three."""
    file = copy / "X" / "c" / "0" / "0"
    content = file.read_bytes()
    out = tmp_path / "labels"
    for at in np.linspace(40, len(content) - 1, 5).astype(int):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(CorruptFileError, match=r"can't be decoded.*checksum"):
            rank_sum(copy, out=out, quiet=True)
    file.write_bytes(content)
    assert len(rank_sum(copy, out=out, quiet=True).to_pandas())  # the same process, once repaired


@pytest.mark.parametrize("lost", ["obs/total_counts", "uns/pertscale/groups/context"])
def test_a_repaired_store_works_in_the_same_process(copy, tmp_path, lost):
    file = copy / lost / "c" / "0"
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        rank_sum(copy, out=tmp_path / "l", quiet=True)
    file.write_bytes(content)
    whole = rank_sum(copy, out=tmp_path / "l", quiet=True)
    assert whole.contexts == ("alpha", "beta")


def as_earlier_versions_wrote(store: Path) -> None:
    """Rewrite all arrays without checksums, vectors without chunks that are all zero."""
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    for name, node in list(root.members(max_depth=None)):
        if isinstance(node, zarr.Array):
            values, attributes, dims = node[...], dict(node.attrs), node.metadata.dimension_names
            codecs = {"compressors": node.compressors[:1], "filters": node.filters}
            made = root.create_array(
                name,
                shape=node.shape,
                chunks=node.chunks,
                dtype=node.dtype,
                fill_value=0 if node.dtype.kind in "biuf" else "",
                dimension_names=dims,
                overwrite=True,
                **(codecs if name == "X" else {}),
            )
            made.with_config({"write_empty_chunks": name == "X"})[...] = values
            made.attrs.update(attributes)
    info: Any = root["uns/pertscale/info"]
    told = json.loads(str(info[()]))
    info[()] = json.dumps({k: v for k, v in told.items() if k not in ("content", "checksum")})
    zarr.consolidate_metadata(root.store)


@pytest.mark.filterwarnings("ignore")
def test_stores_of_earlier_versions_open(store, copy, tmp_path):
    as_earlier_versions_wrote(copy)
    found, whole = everything(copy), everything(store)
    found.pop("info"), whole.pop("info")
    assert is_same(found, whole)
    assert "without checksums" in str(check(copy))
    one, other = (
        rank_sum(path, out=tmp_path / name, quiet=True).to_pandas()
        for path, name in ((store, "one"), (copy, "other"))
    )
    pd.testing.assert_frame_equal(one, other)
    (copy / "uns/pertscale/groups/is_control/c/0").unlink()  # the fingerprint tells
    with pytest.raises(CorruptFileError, match="genes, groups or totals"):
        open_screen(copy)


def test_chunks_of_zeros_are_written(store):
    """So that one that is missing was lost."""
    for name, node in open_root(store).members(max_depth=None):
        if isinstance(node, zarr.Array):
            assert node.nchunks_initialized == node.nchunks, name
