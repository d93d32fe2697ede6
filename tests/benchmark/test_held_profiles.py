"""Profiles in memory are picked late: a model that is fitted on them holds a few at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from xarray.core import indexing

import pertscale as ps
from pertscale.baselines import BilinearModel, MeanExpression
from pertscale.baselines.expression.base import BLOCK_BYTES, rows_of
from pertscale.benchmark.units.held import held_arrays
from pertscale.benchmark.units.profiles import ContextProfiles, _Held
from pertscale.schema import CONTROL, GENE, PERTURBATION

NAMES = [CONTROL, *(f"G{i}" for i in range(799))]
GENES = [f"G{i}" for i in range(9_000)]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).gamma(2, 1, (len(NAMES), len(GENES)))


@pytest.fixture(scope="module")
def held(values: np.ndarray) -> xr.DataArray:
    lazy = indexing.LazilyIndexedArray(_Held(values))
    return xr.DataArray(
        xr.Variable((PERTURBATION, GENE), lazy),
        {PERTURBATION: np.array(NAMES, object), GENE: np.array(GENES, object)},
    )


def test_picked_values_are_those_of_the_array(held, values):
    names = [CONTROL, "G700", "G3"]
    at = [NAMES.index(name) for name in names]
    picked = rows_of(held, names)
    np.testing.assert_array_equal(picked.values, values[at])
    np.testing.assert_array_equal(picked[1:, 5:9].values, values[at[1:], 5:9])
    np.testing.assert_array_equal(picked[0].values, values[0])
    columns = [4, 2, 8_999]
    np.testing.assert_array_equal(picked.isel({GENE: columns}).values, values[at][:, columns])
    np.testing.assert_array_equal(held.transpose(GENE, PERTURBATION)[7].values, values[:, 7])


def test_profiles_of_a_run_are_held_in_one_place(tiny_store, tmp_path):
    labels = ps.stats.rank_sum(tiny_store, out=tmp_path, quiet=True)
    profiles = ContextProfiles(tmp_path, labels.contexts[0], len(labels.genes), labels.key)
    expected = ps.stats.read_pseudobulk(tmp_path, context=labels.contexts[0])["mean_log1p"]
    np.testing.assert_array_equal(profiles.values.values, expected.values)
    assert not profiles.lazy.variable._in_memory
    held_arrays.clear()
    np.testing.assert_array_equal(profiles.values[:2].values, expected[:2].values)


def test_what_was_picked_can_be_changed_without_harm(held, values):
    before = values[0, 0]
    rows_of(held, [CONTROL]).values[0, 0] = -1
    held[0].values[0] = -1
    assert values[0, 0] == before


@pytest.mark.parametrize("name", ["linear", "mean"])
def test_a_model_holds_a_few_blocks_of_its_training_profiles(held, name):
    made = {
        "linear": lambda: BilinearModel(components=np.ones((len(GENES), 3)) * np.arange(1, 4)),
        "mean": lambda: MeanExpression(),
    }[name]()
    train = rows_of(held, NAMES[:700])
    made.fit(train)  # what is imported or compiled on the way is not counted
    tracemalloc.start()
    try:
        made.fit(train)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert train.nbytes > 3 * BLOCK_BYTES
    assert peak < 2.6 * BLOCK_BYTES
