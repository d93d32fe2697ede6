"""Corrected p-values are SciPy's, within a perturbation and over a screen, however few at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pertscale.stats.differential.multiple_testing import (
    benjamini_hochberg,
    count_p_values,
    join_steps,
    look_up,
    sorted_steps,
)


def test_per_perturbation_is_scipys():
    p = np.random.default_rng(0).random((7, 200)) ** 3
    p[0] = 1.0
    p[1, :50] = p[1, 50]
    np.testing.assert_allclose(
        benjamini_hochberg(p), stats.false_discovery_control(p, axis=1), rtol=1e-14
    )


def screen_wide(pieces, max_values):
    m, ranges = count_p_values(pieces, max_values=max_values)
    return ranges, join_steps([sorted_steps(pieces, r, m) for r in ranges])


@settings(max_examples=100, deadline=None)
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
    _, steps = screen_wide(np.array_split(p, pieces), held)
    expected = stats.false_discovery_control(p)
    np.testing.assert_allclose(look_up(steps, p[None])[0], expected, rtol=1e-13)
    np.testing.assert_allclose(look_up(steps, p[:, None])[:, 0], expected, rtol=1e-13)


def test_ranges_hold_no_more_than_they_may():
    p = np.random.default_rng(1).random(5000)
    ranges, steps = screen_wide(np.array_split(p, 10), 1000)
    assert len(ranges) >= 5
    held = [((p >= r.low) & (p < r.high)).sum() for r in ranges]
    assert sum(held) == len(p)
    assert max(held) <= 1000
    assert [r.below for r in ranges] == list(np.cumsum([0, *held[:-1]]))
    _, at_once = screen_wide([p], 10**6)
    np.testing.assert_array_equal(look_up(steps, p[None]), look_up(at_once, p[None]))


def test_p_values_of_one_are_not_held():
    """Genes that are not expressed have them, which may be most of a screen."""
    p = np.random.default_rng(1).random(1000)
    for pieces in ([p, np.ones(9000)], [np.ones(500)]):
        m, ranges = count_p_values(pieces, max_values=400)
        whole = np.concatenate(pieces)
        assert ranges[-1].low == 1
        assert ranges[-1].n_values == (whole == 1).sum()
        held = [r.n_values for r in ranges[:-1]]
        assert max(held, default=0) <= 400
        np.testing.assert_array_equal(sorted_steps(iter(()), ranges[-1], m), np.ones((2, 1)))
        _, steps = screen_wide(pieces, 400)
        expected = stats.false_discovery_control(whole)
        np.testing.assert_allclose(look_up(steps, whole[None])[0], expected, rtol=1e-13)
