"""The rank-sum kernel alone against illico's, in one process, on one thread.

Run by ``run.py`` with the interpreter of the peers; ``python kernel.py SHAPE`` prints JSON.
pertscale gets counts of cells sorted by perturbation, as its store has them, and returns U, z, p,
the mean and the mean log1p; illico gets log-normalised CSR in random order.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Cells, control cells, perturbations, and the genes of the block that is tested.
SHAPES = {
    "toy": (2_000, 200, 10, 8),
    "M": (60_000, 3_000, 400, 256),
    "L": (150_000, 7_500, 1_000, 128),
    "K": (310_000, 10_691, 2_057, 64),
    "genome-wide": (1_990_000, 75_328, 9_866, 16),
}
REPEATS = 3


class Block(NamedTuple):
    """Counts of a few genes, (genes, cells) uint16; the controls are the first cells."""

    counts: np.ndarray
    totals: np.ndarray
    bounds: np.ndarray  # of the groups, the controls being the first
    n_nonzero: int


def draw_block(cells: int, controls: int, perturbations: int, genes: int) -> Block:
    """Draw negative-binomial counts; sizes of cells, genes and groups are log-normal."""
    random = np.random.default_rng(0)
    weights = random.lognormal(0, 0.55, perturbations)
    sizes = np.maximum(5, (weights / weights.sum() * (cells - controls)).astype(np.int64))
    bounds = np.cumsum([0, controls, *sizes])
    n = int(bounds[-1])
    depth = random.lognormal(0, 0.4, n)
    counts = np.empty((genes, n), np.uint16)
    for gene in counts:
        mean = np.exp(random.normal(-0.9, 1.2))
        gene[:] = random.poisson(mean * depth * random.gamma(6.0, 1 / 6.0, n))
    totals = np.round(depth * 1e4) + counts.sum(axis=0)
    return Block(counts, totals, bounds, int(np.count_nonzero(counts)))


def pertscale_test(block: Block) -> Callable[[], np.ndarray]:
    """Return pertscale's test of the block: sort the controls, test all groups."""
    from pertscale.stats.differential._kernels import KERNELS
    from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, STATISTICS_DTYPE

    kernel = KERNELS["cpu"]
    first = int(block.bounds[1])
    control = np.ascontiguousarray(block.counts[:, :first])
    rest = np.ascontiguousarray(block.counts[:, first:])
    out = np.zeros((len(block.bounds) - 2, len(block.counts)), STATISTICS_DTYPE)

    def test() -> np.ndarray:
        controls = kernel.prepare_controls(control, block.totals[:first], is_counts=True)
        kernel.test(
            rest,
            block.totals[first:],
            block.bounds[1:] - first,
            controls,
            is_counts=True,
            variant=MANN_WHITNEY,
            most_cells=len(block.totals),
            out=out,
        )
        return out["p_value"]

    return test


def illico_test(block: Block) -> Callable[[], np.ndarray]:
    """Return illico's test of the same cells, in random order."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp
    from illico import asymptotic_wilcoxon

    order = np.random.default_rng(1).permutation(len(block.totals))
    names = np.array([f"P{i:05d}" for i in range(len(block.bounds) - 1)])
    labels = np.repeat(names, np.diff(block.bounds))[order]
    values = np.log1p(1e4 * block.counts[:, order] / block.totals[order]).astype(np.float32)
    data = anndata.AnnData(
        sp.csr_matrix(values.T),
        obs=pd.DataFrame(
            {"group": pd.Categorical(labels)}, index=np.arange(len(order)).astype(str)
        ),
    )

    def test() -> np.ndarray:
        table = asymptotic_wilcoxon(
            data, is_log1p=True, group_keys="group", reference=names[0], n_threads=1
        )
        return table["p_value"].to_numpy().reshape(len(names), -1)[1:]

    return test


def seconds(test: Callable[[], Any], repeats: int) -> list[float]:
    """CPU seconds of each call."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        test()
        taken.append(time.process_time() - started)
    return taken


def compare(name: str) -> dict[str, Any]:
    """Time both on a block of this shape; both have been called before on a toy."""
    cells, controls, perturbations, genes = SHAPES[name]
    toy = draw_block(*SHAPES["toy"])
    pertscale_test(toy)()
    illico_test(toy)()
    block = draw_block(cells, controls, perturbations, genes)
    ours, theirs = pertscale_test(block), illico_test(block)
    taken = {"pertscale": seconds(ours, 1), "illico": seconds(theirs, 1)}
    repeats = REPEATS if taken["illico"][0] < 15 else 1
    for _ in range(repeats - 1):  # A B A B
        taken["pertscale"] += seconds(ours, 1)
        taken["illico"] += seconds(theirs, 1)
    a, b = ours(), theirs()
    largest = np.maximum(a, b)
    difference = np.divide(np.abs(a - b), largest, out=np.zeros_like(a), where=largest > 0)
    return {
        "cells": cells,
        "controls": controls,
        "perturbations": perturbations,
        "genes": genes,
        "n_nonzero": block.n_nonzero,
        "cpu": taken,
        "max_relative": float(difference.max()),
    }


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1])))
