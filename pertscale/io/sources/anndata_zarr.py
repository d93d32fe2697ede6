"""AnnData-Zarr stores, Zarr versions 2 and 3; pertscale's own screens are such stores."""

from __future__ import annotations

import zarr

from pertscale.errors import CorruptFileError
from pertscale.io.sources._anndata import AnnDataSource
from pertscale.io.sources._arrays import Compressed
from pertscale.io.sources._base import Block, SourceSpec, reading


class AnnDataZarrSource(AnnDataSource):
    """One AnnData-Zarr store: ``X``, ``raw`` or a layer; CSR, CSC or dense."""

    def __init__(self, spec: SourceSpec) -> None:
        with reading(spec.path):
            group = zarr.open_group(spec.path, mode="r")
        super().__init__(spec, group)

    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the stored entries, after a look that no chunk of values is missing.

        Zarr reads a missing chunk as zeros. Sparse values are not zero, so there a missing
        chunk is a loss; in a dense matrix it is the normal way to store zeros.
        """
        if isinstance(self.matrix, Compressed):
            with reading(f"{self.spec.path}, {self.spec.matrix!r}"):
                found = int(self.matrix.data.nchunks_initialized)
                expected = int(self.matrix.data.nchunks)
            if found < expected:
                raise CorruptFileError(
                    f"{self.matrix.place}/data has {found} of {expected} chunks; the store is "
                    "incomplete: copy or write it again"
                )
        return super().blocks(block_bytes)
