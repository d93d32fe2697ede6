"""Local false discovery rates, interactions, their classes and calls (method J)."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.expression import top_genes
from pertscale.evaluation.interaction_calls import (
    agreement,
    call_curve,
    recurrence,
    strongest,
)
from pertscale.guide_names import target_group
from pertscale.perturbation_names import targets
from pertscale.stats.empirical_null import local_fdr
from pertscale.stats.interactions import (
    INTERACTION_CLASSES,
    class_of_prediction,
    classify,
    complete_doubles,
    find_interactions,
    same_direction,
)
from tests.support.helpers import GOLDEN


def golden(name):
    return json.loads((GOLDEN / name).read_text())


INPUTS = golden("locfdr_inputs.json")
EXPECTED = golden("locfdr_expected.json")
R_VALUES = golden("trust/locfdr_R_1.1-8.json")
NORMAL = norm.ppf((np.arange(500) + 0.5) / 500)
LARGE = golden("locfdr_deterministic.json")
ROWS = {"maximum_likelihood": "mle", "central_matching": "cme", "theoretical": "the"}


def formula_made(n, scale):
    """The large golden vectors: a normal core, exponential tails."""
    n_core = round(n * 0.83)
    n_up = round((n - n_core) * 0.6)

    def spread(m):
        return (np.arange(1, m + 1) - 0.5) / m

    core = 0.0068 + 0.0576 * norm.ppf(spread(n_core))
    up = 0.03 - scale * np.log1p(-spread(n_up))
    down = -(0.03 - scale * np.log1p(-spread(n - n_core - n_up)))
    return np.concatenate([core, up, down])


def golden_case(name):
    if name in INPUTS:
        return np.array(INPUTS[name]), EXPECTED[name]
    return formula_made(LARGE[name]["n"], LARGE[name]["params"]["scale"]), LARGE[name]


@pytest.mark.parametrize("name", [*EXPECTED, *LARGE])
def test_local_fdr_is_locfdrs(name):
    values, want = golden_case(name)
    tolerance = 1e-9 if name in EXPECTED else 1e-6
    found = local_fdr(values)
    matrix = want["mat"]["values"] if isinstance(want["mat"], dict) else want["mat"]
    columns = dict(zip(want["matcols"], np.array(matrix, float).T, strict=True))
    np.testing.assert_array_equal(found.counts, columns["counts"])
    np.testing.assert_allclose(found.centers, columns["x"], rtol=1e-9)
    np.testing.assert_allclose(found.fdr, columns["fdr"], rtol=0, atol=tolerance)
    rows = dict(zip(want["fp0"]["rows"], want["fp0"]["values"], strict=True))
    null = found.null
    np.testing.assert_allclose([null.delta, null.sigma, null.p0], rows["mlest"], rtol=1e-8)
    np.testing.assert_allclose([null.se_delta, null.se_sigma, null.se_p0], rows["mleSD"], rtol=1e-6)
    if "fdr_first100" in want:
        np.testing.assert_allclose(found.of(values[:100]), want["fdr_first100"], atol=tolerance)
    lower, upper = found.thresholds(values)
    for ours, side in ((lower, "lower"), (upper, "upper")):
        if want[f"{side}_fdr"] > 0.05 and np.isinf(ours):
            continue  # locfdr's rule returns an arbitrary central value; ours finds nothing there
        assert ours == pytest.approx(want[f"{side}_threshold"], rel=1e-9)
    assert bool(np.isinf(lower)) == (name in {"B_z_5pct_shift", "E_pure_null"})
    assert bool(np.isinf(upper)) == (name == "E_pure_null")


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("null", ["central_matching", "theoretical"])
def test_the_other_nulls_are_locfdrs(name, null):
    values, want = golden_case(name)
    rows = dict(zip(want["fp0"]["rows"], want["fp0"]["values"], strict=True))
    found = local_fdr(values, null=null).null
    np.testing.assert_allclose(
        [found.delta, found.sigma, found.p0], rows[f"{ROWS[null]}st"], rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("name", R_VALUES)
def test_local_fdr_is_that_of_locfdr_in_r(name):
    """Values of R's locfdr 1.1-8: small, tied, displaced and narrow inputs."""
    want, values = R_VALUES[name], R_VALUES[name]["z"]
    if isinstance(values, dict):
        values = np.loadtxt(GOLDEN / "trust" / f"{values['file']}.gz")
    values = np.array(values)
    found = local_fdr(values)
    null = found.null
    np.testing.assert_allclose([null.delta, null.sigma, null.p0], want["mlest"], rtol=1e-9)
    at = [int(i) for i in want["fdr_at"]]
    np.testing.assert_allclose(found.of(values[at]), [*want["fdr_at"].values()], atol=1e-9)


@pytest.mark.parametrize(
    ("location", "scale"), [(100, 1), (0, 1e-6), (0, 1e6), (-5e4, 1e-2), (0, 1e-12), (3, 50)]
)
@pytest.mark.parametrize("null", ["maximum_likelihood", "central_matching"])
@pytest.mark.parametrize("kind", ["local", "tail"])
def test_values_may_have_any_location_and_scale(location, scale, null, kind):
    z = np.concatenate([norm.ppf((np.arange(4000) + 0.5) / 4000), NORMAL[:150] + 6, NORMAL - 5])
    plain, moved = (local_fdr(v, null=null) for v in (z, location + scale * z))
    assert (moved.null.delta - location) / scale == pytest.approx(plain.null.delta, abs=1e-5)
    assert moved.null.sigma / scale == pytest.approx(plain.null.sigma, rel=1e-5)
    assert moved.null.p0 == pytest.approx(plain.null.p0, rel=1e-5)
    errors = [[f.null.se_delta, f.null.se_sigma, f.null.se_p0] for f in (moved, plain)]
    np.testing.assert_allclose(errors[0] / np.array([scale, scale, 1]), errors[1], rtol=1e-4)
    np.testing.assert_allclose(moved.of(location + scale * z), plain.of(z), atol=1e-5)
    thresholds = np.array(moved.thresholds(location + scale * z, kind=kind))
    np.testing.assert_allclose(
        (thresholds - location) / scale, plain.thresholds(z, kind=kind), rtol=1e-6
    )


@pytest.mark.parametrize(("location", "scale"), [(100, 1), (1000, 1e-3)])
def test_the_theoretical_null_is_not_moved(location, scale):
    with pytest.raises(InputError, match="is not where most of the values are"):
        local_fdr(location + scale * NORMAL, null="theoretical")


def test_tail_thresholds_hold_their_rate():
    values, _ = golden_case("A_norman_like")
    found = local_fdr(values)
    lower, upper = found.thresholds(values, kind="tail")
    local_lower, local_upper = found.thresholds(values)
    assert local_lower < lower < 0 < upper < local_upper
    beyond = found.centers > upper
    rate = (found.null.p0 * found.null_density[beyond]).sum() / found.density[beyond].sum()
    assert rate <= 0.05
    wider = found.centers > upper - (found.centers[1] - found.centers[0])
    assert (found.null.p0 * found.null_density[wider]).sum() > 0.05 * found.density[wider].sum()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(500), "values that differ"),
        (np.arange(50.0), "at least 119"),
        (np.append(np.arange(500.0), np.nan), "1 of 501 values are not finite"),
        (np.concatenate([np.zeros(400), np.linspace(-1, 1, 100)]), "half of the values"),
    ],
)
def test_a_null_that_cant_be_fitted_says_why(values, message):
    with pytest.raises(InputError, match=message):
        local_fdr(values)


def test_unknown_nulls_and_densities_without_a_peak_are_refused():
    with pytest.raises(ArgumentError, match="null="):
        local_fdr(np.arange(500.0), null="mle")
    with pytest.raises(InputError, match="not curved downwards"):
        local_fdr(np.cos(np.linspace(0, np.pi, 1000)), null="central_matching")
    with pytest.raises(ArgumentError, match="kind="):
        local_fdr(NORMAL).thresholds(NORMAL, kind="both")


# --- classes --------------------------------------------------------------------------------------


def test_classes_are_the_golden_ones():
    want = golden("interaction_classes.json")
    cases = want["cases"]
    control, first, second, both, additive = (
        np.array([case[key] for case in cases], float)
        for key in ("ctrl", "A", "B", "AB", "additive")
    )
    for rule in ("code", "text"):
        found = classify(
            control, first, second, both, lower=want["lower"], upper=want["upper"], rule=rule
        )
        assert list(found) == [case[rule].lower() for case in cases]
    claimed = class_of_prediction(control, additive, both)
    assert list(claimed) == [case["as_prediction"].lower() for case in cases]


def profiles_with(interactions, *, n_doubles=40, n_genes=400, noise=0.02, seed=0):
    """Singles and doubles that are additive but for `interactions`, a share of the pairs."""
    random = np.random.default_rng(seed)
    singles = [f"G{i:02d}" for i in range(12)]
    doubles = sorted(f"{a}+{b}" for i, a in enumerate(singles) for b in singles[i + 1 :])[
        :n_doubles
    ]
    control = random.gamma(2, 0.5, n_genes)
    effect = {s: random.normal(0, 0.4, n_genes) * (random.random(n_genes) < 0.3) for s in singles}
    truth = random.random((len(doubles), n_genes)) < interactions
    size = random.uniform(0.3, 0.8, truth.shape) * random.choice([-1, 1], truth.shape)
    rows = {"control": control} | {s: control + effect[s] for s in singles}
    for i, double in enumerate(doubles):
        a, b = double.split("+")
        rows[double] = control + effect[a] + effect[b] + truth[i] * size[i]
    values = np.stack(list(rows.values()))
    values += random.normal(0, noise, values.shape)
    genes = [f"read{i}" for i in range(n_genes)]
    profiles = xr.DataArray(
        values, dims=("perturbation", "gene"), coords={"perturbation": list(rows), "gene": genes}
    )
    return profiles, doubles, truth


def test_known_interactions_are_found_at_the_stated_rate():
    rates = []
    for seed in range(6):
        profiles, doubles, truth = profiles_with(0.05, seed=seed)
        found = find_interactions(profiles, n_genes=400, threshold="tail")
        calls = found.table.set_index(["perturbation", "gene"])["interaction"]
        called = calls.unstack().loc[doubles, list(profiles["gene"].values)].to_numpy()
        assert called[truth].mean() > 0.95
        rates.append((called & ~truth).sum() / called.sum())
        assert found.class_counts()["additive"] == (~called).sum()
    assert 0.02 < np.mean(rates) < 0.08  # singles are shared, so single screens scatter around 5 %


@pytest.mark.parametrize("seed", range(3))
def test_an_additive_truth_is_not_called(seed):
    profiles, _, _ = profiles_with(0.0, seed=seed)
    found = find_interactions(profiles, n_genes=400)
    assert found.table["interaction"].mean() < 0.001


def test_the_table_of_interactions():
    profiles, doubles, _ = profiles_with(0.05)
    found = find_interactions(profiles, n_genes=50)
    assert len(found.table) == len(doubles) * 50
    order = np.argsort(-profiles.sel(perturbation="control").values, kind="stable")[:50]
    assert list(found.table["gene"][:50]) == list(profiles["gene"].values[order])
    row = found.table.iloc[61]
    a, b = row["perturbation"].split("+")
    at = {"gene": row["gene"]}
    expected = profiles.sel(perturbation=a, **at) + profiles.sel(perturbation=b, **at)
    expected = float(expected - profiles.sel(perturbation="control", **at))
    assert row["additive"] == pytest.approx(expected)
    assert row["deviation"] == pytest.approx(
        float(profiles.sel(perturbation=row["perturbation"], **at)) - expected
    )
    assert set(found.table["interaction_class"]) <= set(INTERACTION_CLASSES)
    assert same_direction(found.table).mean() < 0.6
    assert "doubles" in repr(found)


def test_two_guides_of_a_gene_are_no_double_and_any_guide_of_a_target_is_its_single():
    names = ["control", "A_1", "A_2", "B_1", "A_1+A_2", "A_1+B_2", "B_1+A_2", "A_1+C_1"]
    groups = target_group(names, ["A", "B", "C"])
    of = {name: targets(group) for name, group in groups.items()}
    assert complete_doubles(names, of) == {
        "A_1+B_2": (("A_1",), ("B_1",)),
        "B_1+A_2": (("A_2",), ("B_1",)),
    }
    without = [name for name in names if name != "A_1"]
    assert complete_doubles(without, of)["A_1+B_2"] == (("A_2", "A_1+A_2"), ("B_1",))


def test_the_single_of_a_double_is_the_mean_over_guides_where_its_own_is_not_there():
    profiles, _, _ = profiles_with(0.05, n_doubles=40)
    named = profiles.assign_coords(
        perturbation=[n.replace("G00+", "G00_9+") for n in profiles["perturbation"].values]
    )
    of = {n: targets(n.replace("_9", "").replace("_1", "")) for n in named["perturbation"].values}
    same = find_interactions(named, targets=of, n_genes=400)
    wanted = find_interactions(profiles, n_genes=400)
    np.testing.assert_array_equal(same.table["deviation"], wanted.table["deviation"])
    assert "doubles, such as G00_9+" in same.fit.notes[-1]
    twice = xr.concat(
        [named, named.sel(perturbation=["G00"]).assign_coords(perturbation=["G00_1"]) + 0.5],
        "perturbation",
    )
    moved = find_interactions(twice, targets=of | {"G00_1": ("G00",)}, n_genes=400).table
    first = moved["perturbation"].str.startswith("G00_9+")
    table = same.table.set_index(["perturbation", "gene"])["first"]
    there = pd.MultiIndex.from_frame(moved[["perturbation", "gene"]])
    difference = moved["first"].to_numpy() - table.reindex(there).to_numpy()
    np.testing.assert_allclose(difference[first], 0.25)
    np.testing.assert_array_equal(difference[~first], 0)


def test_what_interactions_need():
    profiles, _, _ = profiles_with(0.05, n_doubles=3)
    found = complete_doubles(["control", "A", "B", "A+B", "A+C", "A+B+C"])
    assert found == {"A+B": (("A",), ("B",))}
    assert complete_doubles(["A", "B", "A+B"]) == {}
    with pytest.raises(InputError, match="both of its singles"):
        find_interactions(profiles.sel(perturbation=["control", "G00", "G00+G01"]))
    with pytest.raises(ArgumentError, match="rule="):
        find_interactions(profiles, rule="both")
    with pytest.raises(ArgumentError, match="level"):
        find_interactions(profiles, level=5)
    with pytest.raises(ArgumentError, match="n_genes"):
        find_interactions(profiles, n_genes=0)
    assert list(top_genes(np.array([1.0, 3.0, 3.0, 2.0]), 3)) == [1, 2, 3]


def not_expressed(profiles, n):
    """The same with `n` more genes that no cell expresses."""
    zeros = np.zeros((profiles.sizes["perturbation"], n))
    values = np.concatenate([np.clip(profiles.values, 0, None), zeros], axis=1)
    genes = [*profiles["gene"].values, *(f"silent{i}" for i in range(n))]
    names = profiles["perturbation"].values
    return xr.DataArray(
        values, dims=("perturbation", "gene"), coords={"perturbation": names, "gene": genes}
    )


def test_genes_that_are_not_expressed_are_left_out_where_they_hide_the_null():
    profiles, doubles, _ = profiles_with(0.05, n_genes=100)
    wanted = find_interactions(not_expressed(profiles, 0))
    assert "expressed" not in " ".join(wanted.fit.notes)
    few = find_interactions(not_expressed(profiles, 20))  # a fit there is: as it always was
    assert len(few.table) == 120 * len(doubles)
    many = find_interactions(not_expressed(profiles, 400))
    assert not many.table["gene"].str.startswith("silent").any()
    assert many.fit.null.sigma == pytest.approx(wanted.fit.null.sigma, rel=0.05)
    assert "of 100 of 500 genes, those that are expressed" in many.fit.notes[0]
    with pytest.raises(InputError, match="half of the values"):
        find_interactions(not_expressed(profiles, 400), null="maximum_likelihood")


def test_where_there_is_no_null_an_effect_decides():
    profiles, doubles, _ = profiles_with(0.05, n_genes=20, n_doubles=3)
    found = find_interactions(profiles)
    assert (found.lower, found.upper, found.threshold) == (-0.5, 0.5, "effect")
    assert "thresholds are an effect of 0.5" in found.fit.notes[0]
    assert "at least 119" in found.fit.notes[0]
    table = found.table
    assert len(table) == 20 * len(doubles)
    assert (table["interaction"] == (table["deviation"].abs() > 0.5)).all()
    assert table["local_fdr"].isna().all()
    assert "no null" in repr(found)


# --- calls ----------------------------------------------------------------------------------------


def test_curves_are_the_golden_ones():
    want = golden("tpr_fdp.json")
    curves, auprc, auroc = [], [], []
    for split in want["splits"]:
        observed = np.array(split["obs_minus_add"])
        truth = (observed > want["upper"]) | (observed < want["lower"])
        curve = call_curve(np.array(split["pred_minus_add"]), truth)
        np.testing.assert_allclose(curve.tpr_at(), split["curve_tpr"], atol=1e-9)
        curves.append(curve.tpr_at())
        auprc.append(curve.auprc("paper"))
        auroc.append(curve.auroc("paper"))
        assert auprc[-1] == pytest.approx(split["auprc_paper"], rel=1e-9)
        assert auroc[-1] == pytest.approx(split["auroc_paper"], rel=1e-9)
    np.testing.assert_allclose(np.mean(curves, axis=0), want["mean_curve"], atol=1e-9)
    for name, areas in {"auprc": auprc, "auroc": auroc}.items():
        error = np.std(areas, ddof=1) / np.sqrt(len(areas))
        assert (np.mean(areas), error) == pytest.approx((want[f"{name}_mean"], want[f"{name}_se"]))


@pytest.mark.parametrize("ties", [False, True])
def test_proper_areas_are_scikit_learns(ties):
    random = np.random.default_rng(0)
    truth = random.random(500) < 0.2
    deviation = random.normal(0, 1, 500) * np.where(truth, 2, 1)
    deviation = np.round(deviation) if ties else deviation
    curve = call_curve(deviation, truth)
    assert curve.auprc() == pytest.approx(average_precision_score(truth, np.abs(deviation)))
    assert curve.auroc() == pytest.approx(roc_auc_score(truth, np.abs(deviation)))


def test_pairs_without_a_prediction_are_called_last():
    curve = call_curve(np.array([np.nan, 0.0, 0.5]), np.array([True, False, True]))
    assert list(curve.true_calls) == [1, 1, 2]
    with pytest.raises(InputError, match="2 of 2 pairs interact"):
        call_curve(np.ones(2), np.ones(2, bool))
    with pytest.raises(InputError, match="one length"):
        call_curve(np.ones(2), np.ones(3, bool))
    with pytest.raises(ArgumentError, match="area="):
        curve.auprc("trapezoid")


@pytest.mark.parametrize("n", [0, 1, 7, 40, 60, 100])
def test_the_strongest_are_the_first_of_equal_ones_and_pairs_without_a_value_the_last(n):
    random = np.random.default_rng(n)
    values = random.integers(-5, 6, 60).astype(float)
    values[random.random(60) < 0.3] = np.nan
    table = pd.DataFrame({"strength": values})
    order = np.argsort(-np.abs(values), kind="stable")  # NaN last
    assert list(strongest(table, by="strength", n=n).index) == list(order[:n])


def test_recurrence_and_agreement_of_the_strongest_calls():
    table = pd.DataFrame(
        {
            "perturbation": ["A+B", "A+B", "A+C", "A+C"],
            "gene": ["x", "y", "x", "y"],
            "strength": [-3.0, 1.0, 1.0, 0.5],
        }
    )
    first = strongest(table, by="strength", n=2)
    assert list(first.index) == [0, 1]
    calls = {"one": first, "other": table.iloc[[0, 2]]}
    found = recurrence(calls, of="gene")
    assert found.to_dict() == {"one": {"x": 1, "y": 1}, "other": {"x": 2, "y": 0}}
    assert list(recurrence(calls, of="perturbation").index) == ["A+B", "A+C"]
    assert agreement(calls).to_numpy().tolist() == [[2, 1], [1, 2]]
