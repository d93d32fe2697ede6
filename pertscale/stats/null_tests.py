"""Controls against controls (method P1): the table of tests, and what it says of the p-values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import zarr
from scipy.special import erfc, log_ndtr

from pertscale.arguments import checked
from pertscale.errors import NotFoundError
from pertscale.io.guards.damage import file_errors
from pertscale.io.parquet import declared_frame
from pertscale.io.store.layout import ALL_CHUNKS, write_array
from pertscale.io.zarr_datasets import COMPRESSORS, open_dataset
from pertscale.schema import (
    CONTEXT,
    GENE,
    NULL_CALIBRATION_COLUMNS,
    NULL_CELLS,
    NULL_GUIDE,
    NULLS_DIR,
    TEST,
)
from pertscale.screen import Screen
from pertscale.stats.differential._kernels.adjust import adjust
from pertscale.stats.labels.table import REMEDY
from pertscale.storage.atomic import atomic_path
from pertscale.storage.locations import Location, LocationLike, locate
from pertscale.storage.own_files import zarr_pattern

if TYPE_CHECKING:
    import xarray as xr

#: Pattern of the files of the tests' folder.
NULLS_FILES: Final = zarr_pattern([CONTEXT, "kind", "name", "n_cells", GENE, "z"])
#: Median of the square of a standard normal value.
_MEDIAN_SQUARE: Final = 0.4549364
#: What is farther from 0 counts as this far.
_FAR: Final = 6.0
#: Tests whose p-values are in memory at a time.
_AT_ONCE: Final = 40
#: Points of a line of observed against expected p-values.
_POINTS: Final = 60


@checked
def read_null_tests(path: LocationLike, *, context: str | None = None) -> xr.Dataset:
    """Open the tests of controls against the other controls, lazily.

    Groups of controls, drawn at random or those of a non-targeting guide, are tested as if they
    were perturbations: none of them does anything.

    Parameters
    ----------
    path : path or URL
        Output folder of :func:`pertscale.run_benchmark`, or of :func:`pertscale.stats.rank_sum`
        with ``replicates=``.
    context : str, optional
        Only the tests of one context.

    Returns
    -------
    Dataset
        ``z`` (test, gene), float32: the signed statistic, from which ``p = erfc(|z| / sqrt(2))``;
        NaN for genes that no control of the context expresses. Coordinates ``context``, ``kind``
        (``'cells'`` or ``'guide'``), ``name`` (of the guide, or size and number of the draw) and
        ``n_cells``. Attribute ``fdr``: of the run.

    Raises
    ------
    NotFoundError
        If there is none.
    CorruptFileError
        If it is not whole; also when values are read.

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", out="halved", replicates=2, quiet=True)
    >>> tests = ps.stats.read_null_tests("halved")
    >>> tests["z"].dims
    ('test', 'gene')
    >>> sorted(set(tests["kind"].values))
    ['cells', 'guide']
    """
    tests = open_null_tests(locate(path))
    return tests if context is None else tests.isel({TEST: tests[CONTEXT].values == context})


def open_null_tests(folder: Location, *, dask: bool = True) -> xr.Dataset:
    """Open the tests of an output folder; see :func:`read_null_tests`.

    For `dask` see :func:`pertscale.io.zarr_datasets.open_dataset`.
    """
    if not (folder / NULLS_DIR / "zarr.json").exists():
        raise NotFoundError(
            f"no tests of controls against controls in {folder}; pertscale.stats.rank_sum(store, "
            "replicates=5) or pertscale.run_benchmark(store) makes them"
        )
    dataset = open_dataset(folder / NULLS_DIR, remedy=REMEDY, dask=dask)
    with file_errors(str(folder), remedy=REMEDY):
        coords = {
            name: (dims, dataset[name].compute(scheduler="synchronous").values.astype(dtype))
            for name, dims, dtype in (
                (CONTEXT, TEST, object),
                ("kind", TEST, object),
                ("name", TEST, object),
                ("n_cells", TEST, np.int64),
                (GENE, GENE, object),
            )
        }
    return dataset.assign_coords(coords)


@checked
def fitted_null(z: np.ndarray) -> tuple[float, float]:
    """Return centre and scale of statistics without an effect.

    Mean and standard deviation, values beyond 6 counted as 6, so that some controls that do
    something weigh little. 0 and 1 where p-values are right. Quartiles would not do: of genes that
    few cells express z takes few values.

    Parameters
    ----------
    z : ndarray
        Of any shape; NaN is left out. Without a value both are NaN.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(0.1, 1.2, size=100_000)
    >>> centre, scale = ps.stats.fitted_null(z)
    >>> round(centre, 1), round(scale, 1)
    (0.1, 1.2)
    """
    known = np.asarray(z).ravel()
    known = np.clip(known[~np.isnan(known)], -_FAR, _FAR)
    if not len(known):
        return np.nan, np.nan
    return float(known.mean(dtype=np.float64)), float(known.std(dtype=np.float64))


@checked
def null_calibration(path: LocationLike) -> pd.DataFrame:
    """Say how often controls differ from the other controls, by the test that makes the labels.

    Parameters
    ----------
    path : path or URL
        As of :func:`read_null_tests`.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.NULL_CALIBRATION_COLUMNS`: a row per context and number of cells
        that are drawn, and one per context for all of its guides. Where p-values are right, 5 % of
        the pairs have p < 0.05, nearly none is called, and ``inflation`` and ``scale`` are 1. Where
        all are larger, controls differ among themselves by more than chance. Of genes that few
        cells express z takes few values: shares are below nominal then, and ``inflation`` may be
        anything. Genes that no control expresses are left out.

    Raises
    ------
    NotFoundError, CorruptFileError
        As of :func:`read_null_tests`.

    Notes
    -----
    Memory: the z of the tests of a row, and the p-values of 40 of them.

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", out="halved", replicates=2, quiet=True)
    >>> table = ps.stats.null_calibration("halved")
    >>> bool((table["share_p_0_05"] < 0.1).all())
    True
    """
    tests = open_null_tests(locate(path), dask=False)
    rows: list[dict[str, Any]] = []
    for context, n_control, n_tested in tests.attrs["contexts"]:
        here = {CONTEXT: context, "n_control": n_control}
        mine = tests.isel({TEST: tests[CONTEXT].values == context})
        classes = null_classes(mine)
        rows += [{**here, **_row(some, kind)} for (kind, _), some in classes.items()]
        for kind in {NULL_CELLS: 0, NULL_GUIDE: 0}:
            if kind not in {found for found, _ in classes}:
                why = _reason(kind, n_control, n_tested, tests.attrs["min_cells"])
                rows.append({**here, **_NOTHING, "kind": kind, "reason": why})
    return declared_frame(rows, NULL_CALIBRATION_COLUMNS)


def null_classes(tests: xr.Dataset) -> dict[tuple[str, int], xr.Dataset]:
    """Return the tests of a context by kind and, of random cells, their number (of guides, 0)."""
    kinds, sizes = tests["kind"].values, tests["n_cells"].values
    keys = [(str(k), int(n) if k == NULL_CELLS else 0) for k, n in zip(kinds, sizes, strict=True)]
    return {
        key: tests.isel({TEST: [i for i, other in enumerate(keys) if other == key]})
        for key in dict.fromkeys(keys)
    }


_NOTHING: Final = {
    **{c.name: np.nan for c in NULL_CALIBRATION_COLUMNS if c.dtype == "float64"},
    "n_tests": 0,
    "n_pairs": 0,
}


def _reason(kind: str, n_control: int, n_tested: int, min_cells: int) -> str:
    if not n_tested:
        return "no perturbation was tested"
    if kind == NULL_CELLS:
        return f"{n_control:,} controls: no two groups of min_cells={min_cells}"
    return f"no guide is known of min_cells={min_cells} controls that leaves as many"


def _row(tests: xr.Dataset, kind: str) -> dict[str, Any]:
    """Return the shares of some tests, of one kind."""
    z = tests["z"].values
    expressed = ~np.isnan(z).all(axis=0)
    counted = np.zeros(4, np.int64)
    for first in range(0, len(z), _AT_ONCE):
        counted += _counts(z[first : first + _AT_ONCE], expressed, tests.attrs["fdr"])
    z = z[:, expressed]
    centre, scale = fitted_null(z)
    shares = counted / z.size if z.size else np.full(4, np.nan)
    names = ("share_p_0_05", "share_p_0_01", "share_p_1e_4", "share_called")
    return {
        "kind": kind,
        "n_cells": float(np.median(tests["n_cells"].values)),
        "n_tests": len(z),
        "n_pairs": z.size,
        **dict(zip(names, shares.tolist(), strict=True)),
        "inflation": float(np.median(np.square(z)) / _MEDIAN_SQUARE) if z.size else np.nan,
        "centre": centre,
        "scale": scale,
        "reason": "" if z.size else "no control expresses a gene",
    }


def _counts(z: np.ndarray, expressed: np.ndarray, fdr: float) -> np.ndarray:
    """Count pairs below 0.05, 0.01 and 1e-4, and those that labels would call."""
    p_values = np.ones(z.shape)
    p_values[:, expressed] = erfc(np.abs(z[:, expressed].astype(float)) / np.sqrt(2))
    adjusted = np.empty_like(p_values)
    adjust(p_values, np.argsort(p_values, axis=None), adjusted)
    counts = [np.count_nonzero(p_values < level) for level in (0.05, 0.01, 1e-4)]
    return np.array([*counts, np.count_nonzero(adjusted < fdr)])


def qq_points(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return expected and observed -log10 p of some statistics, the largest first.

    A few points, of which each has some times as many pairs to its right as the one before.
    """
    known = np.sort(np.abs(z[~np.isnan(z)].astype(float)))[::-1]
    ranks = np.unique(np.geomspace(1, max(1, len(known)), _POINTS).astype(int))[: len(known)]
    observed = -(np.log(2) + log_ndtr(-known[ranks - 1])) / np.log(10)
    return -np.log10((ranks - 0.5) / max(1, len(known))), np.maximum(observed, 0)


def create_null_tests(
    screen: Screen,
    folder: Path,
    *,
    tests: Sequence[tuple[int, str, str, int]],
    min_cells: int,
    fdr: float,
    labels_key: str,
    rows_per_chunk: int,
) -> int:
    """Write what the tests are, (code of the context, kind, name, cells), and an empty array.

    Nothing is done where they exist. Returns the number of chunks, each of all genes.
    """
    path, n = folder / NULLS_DIR, len(tests)
    rows = max(1, min(rows_per_chunk, n))
    if path.exists():
        return -(-n // rows)
    contexts = []
    for context in screen.contexts:
        first, last = screen.control_rows(context)
        n_tested = len(screen.tested(context, min_cells=min_cells))
        contexts.append([context, last - first, n_tested])
    with atomic_path(path) as temporary:
        root: Any = zarr.create_group(
            temporary,
            zarr_format=3,
            attributes={
                "fingerprint": screen.fingerprint,
                "labels_key": labels_key,
                "fdr": fdr,
                "min_cells": min_cells,
                "contexts": contexts,
            },
        )
        names = [screen.contexts[code] for code, *_ in tests]
        write_array(root, CONTEXT, np.array(names, object), TEST)
        write_array(root, "kind", np.array([kind for _, kind, *_ in tests], object), TEST)
        write_array(root, "name", np.array([name for *_, name, _ in tests], object), TEST)
        write_array(root, "n_cells", np.array([size for *_, size in tests], np.int64), TEST)
        write_array(root, GENE, screen.genes.to_numpy(object), GENE)
        root.create_array(
            "z",
            shape=(n, screen.n_genes),
            chunks=(rows, screen.n_genes),
            dtype=np.float32,
            compressors=COMPRESSORS,
            dimension_names=(TEST, GENE),
            config=ALL_CHUNKS,
        )
    return -(-n // rows)
