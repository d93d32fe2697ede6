"""Files of predictions of any model: one module per format.

:func:`read_parts` looks at a path and returns what it holds as :class:`PredictionTable`, with names
as the file spells them; what they mean for a screen is decided where the screen is known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pertscale.errors import ArgumentError, InputError
from pertscale.io.long_tables import Codes
from pertscale.predictions.files.arrays import read_anndata, read_npz, read_pickle, read_zarr
from pertscale.predictions.files.paper_folder import is_prediction_folder, read_folder
from pertscale.predictions.files.prediction_table import (
    CLASS_SCORES,
    EXPRESSION,
    LABELS,
    PredictionTable,
)
from pertscale.predictions.files.tables import read_table_file
from pertscale.storage.locations import check_folder, input_path

__all__ = ["CLASS_SCORES", "EXPRESSION", "LABELS", "PredictionTable", "read_parts"]

_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_KNOWN = (
    "h5ad, AnnData-Zarr, Zarr (xarray), csv, tsv, parquet, npz, pkl, or a folder with "
    "all_predictions.json and gene_names.json"
)


def read_parts(
    path: str | os.PathLike[str],
    *,
    genes: str | os.PathLike[str] | Sequence[str] | None = None,
    codes: Codes | None = None,
    layer: str | None = None,
    perturbation: str | None = None,
    allow_pickle: bool = False,
) -> list[PredictionTable] | None:
    """Read a file of predictions; None if it holds single cells, which are not read here.

    Parameters
    ----------
    path
        File or folder.
    genes
        Names of the values in their order, where the file does not carry them: dictionaries of
        vectors, and h5ad whose ``var`` has numbers.
    codes
        Meaning of integer classes (:data:`pertscale.io.long_tables.CODES`).
    layer
        Matrix of an AnnData file; ``X`` by default.
    perturbation
        Column of perturbations of an AnnData file, where it can't be told.
    allow_pickle
        Whether a pickle of plain numbers may be read; nothing in it is run.

    Raises
    ------
    NotFoundError, CorruptFileError
        The path is missing or damaged.
    InputError
        The content is not a prediction.
    """
    path = input_path(path, "a prediction")
    suffix = Path(path.name.removesuffix(".gz").lower()).suffix
    if genes is not None and suffix not in (".npz", ".pkl", ".pickle", ".h5ad"):
        raise ArgumentError(f"genes= is for h5ad and dictionaries, but {path} names its genes")
    if path.is_dir():
        check_folder(path)
        if is_prediction_folder(path):
            return read_folder(path)
        if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
            return read_zarr(path, layer=layer, perturbation=perturbation)
        raise InputError(f"{path} is a folder without predictions; pertscale reads {_KNOWN}")
    if suffix == ".h5ad":
        return read_anndata(path, layer=layer, perturbation=perturbation, genes=genes)
    if suffix in _TABLES:
        return read_table_file(path, codes=codes)
    if suffix == ".npz":
        return read_npz(path, genes=genes)
    if suffix in (".pkl", ".pickle"):
        return read_pickle(path, genes=genes, allow_pickle=allow_pickle)
    raise InputError(f"{path} has a format that is not known; pertscale reads {_KNOWN}")
