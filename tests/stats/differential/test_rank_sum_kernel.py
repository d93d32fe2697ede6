"""The rank-sum kernel against SciPy, on plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from pertscale.stats.differential._kernels import kernel, ranksum
from pertscale.stats.differential._kernels.cpu import CpuKernel

VARIANTS = (kernel.MANN_WHITNEY, kernel.SCANPY, kernel.SCANPY_TIE)


def run(control, groups, control_totals, group_totals, *, is_counts=True, variant=0):
    """Statistics of groups (list of (genes, cells) arrays) against a control (genes, cells)."""
    table = CpuKernel().prepare_controls(control, control_totals, is_counts=is_counts)
    block = np.ascontiguousarray(np.concatenate(groups, axis=1))
    bounds = np.cumsum([0, *(g.shape[1] for g in groups)]).astype(np.int64)
    out = np.zeros((len(groups), len(control)), kernel.STATISTICS_DTYPE)
    most = control.shape[1] + max(group.shape[1] for group in groups)
    CpuKernel().test(
        block,
        group_totals,
        bounds,
        table,
        is_counts=is_counts,
        variant=variant,
        out=out,
        most_cells=most,
    )
    return out, table


def oracle(x, y, variant):
    """U, z and p of one gene by SciPy's ranks and the formulas (method B1)."""
    n1, n2 = len(x), len(y)
    n = n1 + n2
    ranks = stats.rankdata(np.concatenate([x, y]))
    u = ranks[:n1].sum() - n1 * (n1 + 1) / 2
    _, t = np.unique(np.concatenate([x, y]), return_counts=True)
    ties = float((t.astype(np.int64) ** 3 - t).sum())
    if variant == kernel.MANN_WHITNEY:
        variance = n1 * n2 / 12 * ((n + 1) - ties / (n * (n - 1)))
        gap = abs(u - n1 * n2 / 2) - 0.5
    else:
        factor = 1 - ties / (n**3 - n) if variant == kernel.SCANPY_TIE else 1.0
        variance = factor * n1 * n2 * (n + 1) / 12
        gap = abs(u - n1 * n2 / 2)
    if variance <= 0:
        return u, 0.0, 1.0
    z = gap / np.sqrt(variance)
    return u, np.sign(u - n1 * n2 / 2) * z, min(2 * stats.norm.sf(z), 1.0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_agrees_with_scipy(variant, dtype):
    random = np.random.default_rng(1)
    is_counts = dtype != np.float32
    mean = np.exp(random.normal(-0.5, 1.5, 40))[:, None]
    sizes = [2, 3, 17, 300, 1500]
    control = random.poisson(mean, (40, 400)).astype(dtype)
    groups = [random.poisson(mean * random.gamma(2, 0.5), (40, n)).astype(dtype) for n in sizes]
    control[0] = 0
    control[1] = 1
    for group in groups:
        group[0] = 0  # never expressed
        group[1] = 1
    totals = [random.integers(50, 60, n).astype(float) for n in (400, sum(sizes))]
    if not is_counts:
        control, *groups = (np.log1p(m * 0.37).astype(dtype) for m in (control, *groups))
    out, _ = run(control, groups, *totals, is_counts=is_counts, variant=variant)
    first = np.cumsum([0, *sizes])
    for q, group in enumerate(groups):
        for g in range(40):
            x, y = group[g].astype(float), control[g].astype(float)
            if is_counts:
                x, y = x / totals[1][first[q] : first[q + 1]], y / totals[0]
            u, z, p = oracle(x, y, variant)
            assert out[q, g]["u_statistic"] == u
            assert out[q, g]["p_value"] == pytest.approx(p, rel=1e-12)
            assert out[q, g]["z"] == pytest.approx(z, rel=1e-6, abs=1e-7)
            if variant == kernel.MANN_WHITNEY and 0 < p < 1:
                expected = stats.mannwhitneyu(x, y, method="asymptotic").pvalue
                assert out[q, g]["p_value"] == pytest.approx(expected, rel=1e-12)


def test_tiny_p_values():
    control = np.arange(1, 4001, dtype=np.uint16)[None]
    group = np.arange(5001, 9001, dtype=np.uint16)[None]
    ones = np.ones(4000)
    for shift in range(0, 2600, 200):
        moved = (group - (2600 - shift)).astype(np.uint16)
        out, _ = run(control, [moved], ones, ones)
        p = stats.mannwhitneyu(moved[0], control[0], method="asymptotic").pvalue
        if p > 1e-300:
            assert out[0, 0]["p_value"] == pytest.approx(p, rel=1e-12)
        else:
            assert out[0, 0]["p_value"] <= 1e-300


def test_ties_are_those_of_fractions():
    """1/3 and 2/6 tie, 333/1000 and 1/3 do not."""
    control = np.array([[1, 2, 333]], np.uint16)
    group = np.array([[5, 334]], np.uint16)
    out, table = run(control, [group], np.array([3.0, 6.0, 1000.0]), np.array([15.0, 1003.0]))
    assert table.tie_exact[0] == 2**3 - 2
    # 5/15 ties with two controls and is above one; 334/1003 lies between 333/1000 and 1/3
    assert out[0, 0]["u_statistic"] == (1 + 2 * 0.5) + 1


def test_sums():
    random = np.random.default_rng(2)
    control = random.poisson(3.0, (5, 50)).astype(np.uint16)
    group = random.poisson(900.0, (5, 2000)).astype(np.uint16)  # long products
    totals = random.integers(2000, 9000, 2000).astype(float)
    out, table = run(control, [group], np.full(50, 700.0), totals)
    normalized = 1e4 * group / totals
    np.testing.assert_allclose(out[0]["sum_log1p"], np.log1p(normalized).sum(1), rtol=1e-13)
    np.testing.assert_allclose(out[0]["sum_normalized"], normalized.sum(1), rtol=1e-13)
    np.testing.assert_array_equal(out[0]["n_expressed"], (group > 0).sum(1))
    expected = np.log1p(1e4 * control / 700.0).sum(1)
    np.testing.assert_allclose(table.statistics["sum_log1p"], expected, rtol=1e-13)


def test_log_values_are_summed_as_they_are():
    values = np.log1p(np.arange(12, dtype=np.float32)).reshape(1, 12)
    out, _ = run(values, [values], np.ones(12), np.ones(12), is_counts=False)
    assert out[0, 0]["sum_log1p"] == pytest.approx(values.astype(float).sum())
    assert out[0, 0]["sum_normalized"] == pytest.approx(np.expm1(values.astype(float)).sum())


def test_clustered_keys_are_sorted_and_found():
    """Almost equal totals put thousands of keys into few buckets."""
    random = np.random.default_rng(3)
    totals = (10_000_000 + random.permutation(20_000)).astype(float)
    control = np.ones((1, 10_000), np.uint16)
    control[0, 0] = 60_000  # stretches the range of the buckets
    group = np.ones((1, 10_000), np.uint16)
    out, _ = run(control, [group], totals[:10_000], totals[10_000:])
    x, y = group[0] / totals[10_000:], control[0] / totals[:10_000]
    assert out[0, 0]["u_statistic"] == stats.mannwhitneyu(x, y, method="asymptotic").statistic


@pytest.mark.parametrize("n_totals", [1, 3, 40, 100_000])
@pytest.mark.parametrize("n_cells", [12, 60, 700, 9_000])
def test_ties_inside_of_a_group(n_totals, n_cells):
    """Few totals make many ties, counted by a hash table; many make few, compared one by one."""
    random = np.random.default_rng(n_totals + n_cells)
    totals = [random.integers(1, n_totals + 1, n).astype(float) + 500 for n in (400, n_cells)]
    control, group = (random.poisson(1.5, (2, len(t))).astype(np.uint16) for t in totals)
    control[1] = 0  # no control is equal to any perturbed cell
    out, _ = run(control, [group], *totals)
    for g in range(2):
        u, z, p = oracle(group[g] / totals[1], control[g] / totals[0], kernel.MANN_WHITNEY)
        assert out[0, g]["u_statistic"] == u
        assert out[0, g]["p_value"] == pytest.approx(p, rel=1e-11, abs=1e-300)
        assert out[0, g]["z"] == pytest.approx(z, rel=1e-5)


def test_sums_of_ties_as_floats_are_those_as_integers():
    random = np.random.default_rng(4)
    control, group = (random.poisson(2.0, (5, n)).astype(np.uint16) for n in (300, 200))
    totals = [random.integers(50, 60, n).astype(float) for n in (300, 200)]
    table = CpuKernel().prepare_controls(control, totals[0], is_counts=True)
    results = []
    for exact in (True, False):
        out = np.zeros((1, 5), kernel.STATISTICS_DTYPE)
        CpuKernel().test(
            group,
            totals[1],
            np.array([0, 200]),
            table,
            is_counts=True,
            variant=0,
            out=out,
            most_cells=500 if exact else ranksum.EXACT_TIES_UP_TO + 1,
        )
        results.append(out)
    np.testing.assert_array_equal(*results)


def test_totals_smaller_than_the_counts():
    """Totals that a column names may be: the product of (1 + 1e4 key) must not overflow."""
    counts = np.full((1, 80), 60_000, np.uint16)
    out, _ = run(counts, [counts], np.full(80, 2.0), np.full(80, 2.0))
    assert out[0, 0]["sum_log1p"] == pytest.approx(80 * np.log1p(1e4 * 30_000))


def test_tie_sums_beyond_int64():
    """Past EXACT_TIES_UP_TO cells the sums are float64 and do not overflow."""
    n = ranksum.EXACT_TIES_UP_TO
    control = np.zeros((2, n), np.uint16)
    control[1] = 1
    group = np.zeros((2, 4), np.uint16)
    group[:, 0] = 7
    group[1, 1:] = 1
    out, _ = run(control, [group], np.full(n, 10.0), np.full(4, 10.0))
    for g in range(2):
        tied = float(n + 3)
        variance = 4.0 * n / 12 * ((n + 5) - (tied**3 - tied) / ((n + 4.0) * (n + 3.0)))
        p = 2 * stats.norm.sf((n / 2 - 0.5) / np.sqrt(variance))
        assert out[g // 2, g]["u_statistic"] == 2.5 * n
        # the variance is a difference of two large numbers: three digits are left
        assert out[0, g]["p_value"] == pytest.approx(p, rel=1e-2, abs=1e-300)


@settings(max_examples=60, deadline=None)
@given(
    control=npst.arrays(np.uint16, st.integers(2, 30), elements=st.integers(0, 6)),
    group=npst.arrays(np.uint16, st.integers(2, 30), elements=st.integers(0, 6)),
    seed=st.integers(0, 2**16),
    variant=st.sampled_from(VARIANTS),
)
def test_property_any_counts(control, group, seed, variant):
    random = np.random.default_rng(seed)
    totals = [random.integers(7, 12, len(a)).astype(float) for a in (control, group)]
    out, _ = run(control[None], [group[None]], *totals, variant=variant)
    u, z, p = oracle(group / totals[1], control / totals[0], variant)
    assert out[0, 0]["u_statistic"] == u
    assert out[0, 0]["p_value"] == pytest.approx(p, rel=1e-11)
    assert out[0, 0]["z"] == pytest.approx(z, rel=1e-5, abs=1e-6)
    assert 0 <= out[0, 0]["p_value"] <= 1


def test_order_of_groups_and_genes_does_not_matter():
    random = np.random.default_rng(5)
    control = random.poisson(1.0, (6, 90)).astype(np.uint16)
    groups = [random.poisson(1.0, (6, n)).astype(np.uint16) for n in (5, 40, 11)]
    totals = [random.integers(20, 90, g.shape[1]).astype(float) for g in groups]
    base = np.full(90, 50.0)
    together, _ = run(control, groups, base, np.concatenate(totals))
    for q, (group, total) in enumerate(zip(groups, totals, strict=True)):
        alone, _ = run(control, [group], base, total)
        assert alone[0].tobytes() == together[q].tobytes()
    flipped, _ = run(
        np.ascontiguousarray(control[::-1]), [g[::-1] for g in groups], base, np.concatenate(totals)
    )
    assert np.ascontiguousarray(flipped[:, ::-1]).tobytes() == together.tobytes()
