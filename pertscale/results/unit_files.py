"""What the folder of a finished unit keeps: its record, and predictions of expression."""

from __future__ import annotations

from typing import Any

import xarray as xr

from pertscale.io.checksums import read_record
from pertscale.io.guards.damage import file_errors
from pertscale.io.zarr_datasets import open_dataset
from pertscale.schema import (
    GENE,
    MODEL,
    PERTURBATION,
)
from pertscale.storage.locations import Location

#: What says that a unit is complete, and of what; and the record of a label matrix.
UNIT_FILE, SUMS_FILE = "unit.json", "sums.json"
#: What helps against damage.
REMEDY = "make the same call of pertscale.run_benchmark again, which makes it anew"


def read_unit(folder: Location) -> dict[str, Any]:
    """Return what the record of a unit says.

    Raises
    ------
    NotFoundError, CorruptFileError
    """
    return read_record(folder / UNIT_FILE, "the record of a unit", remedy=REMEDY, keys=("key",))


def open_predictions(folder: Location) -> xr.Dataset:
    """Open ``prediction`` (model, perturbation, gene) and ``truth`` of a unit, lazily."""
    dataset = open_dataset(folder / "prediction.zarr", remedy=REMEDY)
    with file_errors(str(folder), remedy=REMEDY):
        names = {n: dataset[n].compute().astype(object) for n in (MODEL, PERTURBATION, GENE)}
        return dataset.assign_coords(names)
