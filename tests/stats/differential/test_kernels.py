"""Another kernel takes the place of the compiled one: one entry in KERNELS, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from scipy import stats

from pertscale.errors import ArgumentError
from pertscale.screen import Screen, open_screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.cpu import CpuKernel
from pertscale.stats.differential._kernels.kernel import (
    MANN_WHITNEY,
    STATISTICS_DTYPE,
    Take,
    new_array,
)
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.rank_sum import label_screen, labels_key
from pertscale.stats.labels.table import LabelTable


@dataclass
class Controls:
    keys: np.ndarray
    statistics: np.ndarray


class ScipyKernel:
    """Ranks all cells of a group and the controls anew for each group: slow, and simple."""

    bit_equal = False
    row_bytes = 8
    group_bytes = 8

    def __init__(self) -> None:
        self.n_blocks = 0

    def control_bytes(self, n_expressed: int) -> int:
        return 8

    def prepare_controls(
        self, block: np.ndarray, totals: np.ndarray, *, is_counts: bool, take: Take = new_array
    ) -> Controls:
        keys = block / totals
        statistics = np.zeros(len(block), STATISTICS_DTYPE)
        statistics["p_value"] = 1.0
        self._sum(statistics, keys)
        return Controls(keys, statistics)

    def test(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        bounds: np.ndarray,
        controls: Any,
        *,
        is_counts: bool,
        variant: int,
        most_cells: int,
        out: np.ndarray,
    ) -> None:
        assert is_counts
        assert variant == MANN_WHITNEY
        self.n_blocks += 1
        n2 = controls.keys.shape[1]
        for row, first, last in zip(out, bounds[:-1], bounds[1:], strict=True):
            keys, n1 = block[:, first:last] / totals[first:last], int(last - first)
            assert n1 + n2 <= most_cells
            together = np.concatenate([keys, controls.keys], axis=1)
            low, high = (stats.rankdata(together, m, axis=1) for m in ("min", "max"))
            ties = ((high - low + 1) ** 2 - 1).sum(axis=1)
            u = ((low + high) / 2)[:, :n1].sum(axis=1) - n1 * (n1 + 1) / 2
            n, gap = n1 + n2, u - n1 * n2 / 2
            variance = n1 * n2 / 12 * ((n + 1) - ties / (n * (n - 1)))
            with np.errstate(divide="ignore", invalid="ignore"):
                z = (np.abs(gap) - 0.5) / np.sqrt(variance)
            z[variance <= 0] = 0.0
            row["u_statistic"], row["z"] = u, np.sign(gap) * z
            row["p_value"] = np.where(variance > 0, np.minimum(2 * stats.norm.sf(z), 1), 1.0)
            self._sum(row, keys)

    @staticmethod
    def _sum(statistics: np.ndarray, keys: np.ndarray) -> None:
        statistics["sum_normalized"] = 1e4 * keys.sum(axis=1)
        statistics["sum_log1p"] = np.log1p(1e4 * keys).sum(axis=1)
        statistics["n_expressed"] = (keys > 0).sum(axis=1)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ScipyKernel:
    kernel = ScipyKernel()
    monkeypatch.setitem(KERNELS, "scipy", kernel)
    return kernel


@pytest.fixture
def screen(tiny_store: Path) -> Screen:
    return open_screen(tiny_store)


@pytest.fixture(params=["threads", "distributed"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "threads":
        with dask.config.set(scheduler="threads", num_workers=2):
            yield
        return
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        yield


def pairs(labels: LabelTable) -> pd.DataFrame:
    files = sorted((labels.path / "data").rglob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


@pytest.mark.usefixtures("scheduler")
def test_another_kernel_gives_the_same_labels(
    screen: Screen, planted: ScipyKernel, tmp_path: Path
) -> None:
    compiled = label_screen(screen, tmp_path / "cpu", RankSumOptions(), quiet=True)
    assert planted.n_blocks == 0
    options = RankSumOptions(kernel="scipy")
    labels = label_screen(screen, tmp_path / "scipy", options, quiet=True)
    assert planted.n_blocks > 0
    assert labels.options["kernel"] == "scipy"
    expected, found = pairs(compiled), pairs(labels)
    assert (expected["label"] != 0).any()
    exact = ["perturbation", "gene", "label", "n_cells", "n_control", "u_statistic", "is_target"]
    pd.testing.assert_frame_equal(found[exact], expected[exact])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-12)


def test_a_kernel_with_the_same_bits_makes_the_same_tables(
    screen: Screen, planted: ScipyKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KERNELS, "twin", CpuKernel())
    keys = {name: labels_key(screen, RankSumOptions(kernel=name)) for name in KERNELS}
    assert keys["twin"] == keys["cpu"] != keys["scipy"]
    assert "kernel" not in RankSumOptions().as_dict()


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ArgumentError, match="kernel='gpu' is not one of cpu"):
        RankSumOptions(kernel="gpu")
