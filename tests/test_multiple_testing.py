from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pertscale.stats.multiple_testing import benjamini_hochberg, look_up, screen_wide


def test_per_perturbation_is_scipys():
    p = np.random.default_rng(0).random((7, 200)) ** 3
    p[0] = 1.0
    p[1, :50] = p[1, 50]
    np.testing.assert_allclose(
        benjamini_hochberg(p), stats.false_discovery_control(p, axis=1), rtol=1e-14
    )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 400),
    held=st.integers(1, 100),
    pieces=st.integers(1, 5),
)
def test_screen_wide_is_the_same_however_little_is_held(seed, n, held, pieces):
    random = np.random.default_rng(seed)
    p = np.minimum(random.random(n) ** random.integers(1, 30), 1.0)
    p[random.random(n) < 0.2] = 1.0
    p[random.random(n) < 0.1] = 0.0
    p[random.random(n) < 0.2] = p[0]
    steps = screen_wide(lambda: np.array_split(p, pieces), max_values=held)
    np.testing.assert_allclose(look_up(steps, p), stats.false_discovery_control(p), rtol=1e-13)


def test_screen_wide_holds_no_more_than_it_may():
    p = np.random.default_rng(1).random(5000)
    passes = []

    def read():
        passes.append(1)
        return np.array_split(p, 10)

    steps = screen_wide(read, max_values=1000)
    assert len(passes) > 5  # one to count, then one per range
    assert look_up(steps, p).max() == pytest.approx(stats.false_discovery_control(p).max())
