"""h5ad files: AnnData in HDF5."""

from __future__ import annotations

import h5py

from pertscale.io.sources._anndata import AnnDataSource
from pertscale.io.sources._base import SourceSpec, reading


def open_hdf5(path: str) -> h5py.File:
    """Open for reading without file locks, which shared file systems often refuse."""
    with reading(path):
        return h5py.File(path, "r", locking=False)


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
