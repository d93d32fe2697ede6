"""Kernels of the rank-sum test, by name, and of the adjustment of its p-values."""

from __future__ import annotations

from pertscale.stats.differential._kernels.cpu import CpuKernel
from pertscale.stats.differential._kernels.kernel import RankSumKernel

#: Name, as ``RankSumOptions.kernel`` takes it → kernel.
KERNELS: dict[str, RankSumKernel] = {"cpu": CpuKernel()}
