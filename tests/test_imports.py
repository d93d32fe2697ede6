"""What a process imports: libraries take longer to load than many a task takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: The libraries that take longest to load, with all that they load.
HEAVY = {
    *("anndata", "bokeh", "dask.array", "dask.dataframe", "dask_ml", "distributed", "h5py"),
    *("matplotlib", "numba", "numpy", "pandas", "pyarrow", "s3fs", "scipy.stats", "sklearn"),
    *("xarray", "zarr"),
}
HELP = "from pertscale.cli import main; main(['--help'], standalone_mode=False)"

#: What a process runs, and what of these it may import for that.
ALLOWED = {
    "import pertscale": "",
    HELP: "",
    # what workers unpickle: a tile of the test, a part of an ingest
    "import pertscale.stats.differential.tile_task": "numba numpy pandas pyarrow zarr",
    "import pertscale.io.ingestion.passes": "h5py numba numpy pandas pyarrow zarr",
    "import pertscale.benchmark.run": (
        "dask.array h5py numba numpy pandas pyarrow scipy.stats sklearn xarray zarr"
    ),
}


@pytest.mark.parametrize("code", ALLOWED)
def test_no_process_imports_more_than_it_needs(code):
    tell = "; import sys; print(*sys.modules)"
    command = [sys.executable, "-c", code + tell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) <= set(ALLOWED[code].split())
