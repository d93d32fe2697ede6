"""10x Genomics HDF5 files, of Cell Ranger 3 and later and of version 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pertscale.errors import AmbiguousInputError, CorruptFileError, InputError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.hdf5 import check_own, names_in, open_hdf5
from pertscale.io.guards.limits import check_names, checked_array
from pertscale.io.sources._arrays import CompressedRows
from pertscale.io.sources._base import (
    Block,
    CsrBlock,
    SourceChoices,
    SourceFormat,
    SourceSpec,
    as_names,
)
from pertscale.io.sources._hdf5 import is_hdf5
from pertscale.io.sources.cell_tables import TableSource, with_cells


def tenx_groups(file: h5py.File) -> list[str]:
    """Return the names of the groups that hold a 10x matrix."""
    return [
        name
        for name in names_in(file)
        if isinstance(node := file.get(name), h5py.Group)
        and {"barcodes", "indptr", "shape"} <= set(node)
    ]


class TenxSource(TableSource):
    """One 10x file. It stores genes by cells by column, which is cells by genes by row."""

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec)
        self._file = open_hdf5(spec.path)
        try:
            with file_errors(spec.path):
                self._group = self._only_group()
                shape = checked_array(self._group["shape"], f"{spec.path}, 'shape'")
                genes, cells = (int(n) for n in shape[:2])
            where = f"{spec.path}, {self._group.name!r}"
            self.matrix = CompressedRows(self._group, shape=(cells, genes), where=where)
        except BaseException:
            self._file.close()
            raise

    def _only_group(self) -> Any:
        groups = tenx_groups(self._file)
        if len(groups) > 1:
            raise AmbiguousInputError(
                f"{self.spec.path} holds the genomes {', '.join(groups)}; pertscale reads one "
                "genome: write the cells of one genome to a file of their own"
            )
        if not groups:
            raise InputError(f"{self.spec.path} has no 10x matrix (no group with 'barcodes')")
        return self._file[groups[0]]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def n_cells(self) -> int:
        """Number of barcodes."""
        return self.matrix.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of features of all types."""
        return self.matrix.shape[1]

    def cell_names(self) -> np.ndarray:
        """Return the barcodes."""
        return self._names("barcodes", self.n_cells)

    def genes(self) -> pd.DataFrame:
        """Return the features: index = names; ``gene_ids``, ``feature_types``, ``genome``."""
        with file_errors(self.matrix.where):
            return self._genes()

    def _genes(self) -> pd.DataFrame:
        if "features" not in self._group:
            names = self._names("gene_names", self.n_genes).astype(object)
            ids = self._names("genes", self.n_genes).astype(object)
            return pd.DataFrame({"gene_ids": ids}, index=pd.Index(names))
        keys = {"gene_ids": "id", "feature_types": "feature_type", "genome": "genome"}
        columns = {
            column: self._names(f"features/{key}", self.n_genes).astype(object)
            for column, key in keys.items()
            if f"features/{key}" in self._group
        }
        names = self._names("features/name", self.n_genes).astype(object)
        found = pd.DataFrame(columns, index=pd.Index(names))
        self._check_genomes(found)
        return found

    def _check_genomes(self, genes: pd.DataFrame) -> None:
        if "genome" not in genes:
            return
        genomes = sorted({g for g in genes["genome"] if g})
        if len(genomes) > 1:
            raise AmbiguousInputError(
                f"{self.spec.path} holds the genomes {', '.join(genomes)}; pertscale reads one "
                "genome: write the cells of one genome to a file of their own"
            )

    def _names(self, key: str, n: int) -> np.ndarray:
        where = f"{self.matrix.where}/{key}"
        with file_errors(where):
            listed = checked_array(self._group[key], where)
            n_listed = int(listed.shape[0])
        if n_listed != n:
            raise CorruptFileError(
                f"{where} has {n_listed:,} names, the matrix needs {n:,}; the file is damaged: "
                "write it again"
            )
        check_names(listed, where)
        with file_errors(where):
            return as_names(listed)

    def blocks(self, block_bytes: int) -> list[Block]:
        """Cut at cells."""
        return self.matrix.blocks(block_bytes)

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read whole cells."""
        return self.matrix.read(block, buffers)


def _looks_like(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    with open_hdf5(str(path)) as file, file_errors(str(path)):
        groups = tenx_groups(file)
        check_own(file, groups, str(path))
    return bool(groups)


def _find(path: Path, choices: SourceChoices) -> SourceSpec:
    choices.check_one_matrix(path)
    return with_cells(TenxSource, SourceSpec(str(path), FORMAT.name, cells=choices.cells))


FORMAT = SourceFormat(
    name="10x_h5",
    doc="10x h5 (HDF5 with matrix/barcodes)",
    open=TenxSource,
    looks_like=_looks_like,
    find=_find,
)
