"""h5ad files: AnnData in HDF5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py

from pertscale.io.guards.hdf5 import check_own, open_hdf5
from pertscale.io.sources._anndata import AnnDataSource, anndata_spec, matrix_path
from pertscale.io.sources._base import SourceChoices, SourceFormat, SourceSpec
from pertscale.io.sources._hdf5 import is_hdf5, top_names


def check_h5ad(file: h5py.File, matrix: str, path: str) -> None:
    """Raise unless what will be read is in the file itself, whole; see :func:`check_own`."""
    key = matrix_path(matrix)
    check_own(file, (key, "obs", "raw/var" if key == "raw/X" else "var"), path)
    obs = file.get("obs")
    if isinstance(obs, h5py.Dataset):  # the older layout, with its categories elsewhere
        check_own(file, [f"uns/{name}_categories" for name in obs.dtype.names or ()], path)


class H5adSource(AnnDataSource):
    """One h5ad file: ``X``, ``raw`` or a layer; CSR, CSC or dense."""

    def __init__(self, spec: SourceSpec) -> None:
        self._file = open_hdf5(spec.path)
        try:
            super().__init__(spec, self._file)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _looks_like(path: Path) -> bool:
    return is_hdf5(path) and {"obs", "var"} <= set(top_names(path))


def _find(path: Path, choices: SourceChoices) -> SourceSpec:
    """Look at all that will be read, once; it is read in workers, and in parts."""
    spec = anndata_spec(path, FORMAT.name, choices)
    with open_hdf5(spec.path) as file:
        check_h5ad(file, spec.matrix, spec.path)
    with H5adSource(spec) as source:
        return replace(spec, notes=tuple(source.left_out()))


FORMAT = SourceFormat(
    name="h5ad",
    doc="h5ad (HDF5 with obs, var, X)",
    open=H5adSource,
    looks_like=_looks_like,
    find=_find,
)
