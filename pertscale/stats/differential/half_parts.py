"""From the tiles' statistics to the halves of the cells, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.special import erfc

from pertscale.execution.buffers import Buffers
from pertscale.io.store.layout import ALL_CHUNKS
from pertscale.schema import HALVES_DIR, Label
from pertscale.stats.differential._kernels.adjust import adjust
from pertscale.stats.differential.half_tiles import N_HALVES, SUFFIX, half_dtype
from pertscale.stats.differential.multiple_testing import assign_labels
from pertscale.stats.differential.tile_statistics import ContextStatistics
from pertscale.storage.atomic import put_on_disk


def write_half_rows(
    tiles: ContextStatistics,
    staging: Path,
    groups: slice,
    n_seeds: int,
    fdr: float,
    buffers: Buffers,
) -> None:
    """Fill the rows of some consecutive groups, of one context.

    Memory: one statistic of these groups; of labels, five.
    """
    root: Any = zarr.open_group(staging / HALVES_DIR, mode="r+")
    arrays = {name: array.with_config(ALL_CHUNKS) for name, array in root.arrays()}
    dtype = half_dtype(n_seeds)

    def found(*names: str) -> list[np.ndarray]:
        rows, _ = tiles.rows(groups, names, buffers, dtype=dtype, suffix=SUFFIX)
        return list(rows.values())

    (arrays["variance_log1p"][groups],) = found("variance")
    for seed in range(n_seeds):
        (arrays["mean_log1p_first"][seed, groups],) = found(f"mean_{seed}")
    for half in range(N_HALVES):
        z, change = found(f"z_{half}", f"change_{half}")
        arrays["z"][half, groups] = z
        arrays["label"][half, groups] = _labels(z, change, fdr, buffers)


def _labels(z: np.ndarray, change: np.ndarray, fdr: float, buffers: Buffers) -> np.ndarray:
    """Return the classes of pairs as the label table has them, from the rounded statistic."""
    there = ~np.isnan(z).any(axis=1)
    labels = np.full(z.shape, Label.UNTESTED, np.int8)
    p_values = erfc(np.abs(z[there].astype(float)) / np.sqrt(2))
    adjusted = buffers.take("adjusted", p_values.shape, np.float64)
    adjust(p_values, np.argsort(p_values, axis=None), adjusted)
    labels[there] = assign_labels(adjusted, change[there], z[there], fdr=fdr)
    return labels


def put_halves_on_disk(staging: Path, chunk: int, n_seeds: int) -> list[str]:
    """Sync a chunk of rows to the disk; return its file in all arrays."""
    if not n_seeds:
        return []
    names = [f"variance_log1p/c/{chunk}/0"]
    names += [f"mean_log1p_first/c/{seed}/{chunk}/0" for seed in range(n_seeds)]
    names += [f"{name}/c/{half}/{chunk}/0" for name in ("z", "label") for half in range(N_HALVES)]
    for name in names:
        put_on_disk(staging / HALVES_DIR / name)
    return names
