"""Attacks on metrics: what knows nothing of the held-out perturbations gains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pertscale as ps
from pertscale.baselines.thresholds import labels_of_changes, matching_rate, scores_of_changes
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import ATTACKS, AuditedClasses, audit_metrics, evaluate_expression
from pertscale.evaluation import expression as expression_scores
from pertscale.evaluation.attacks import cells, classes, profiles
from pertscale.evaluation.attacks.audit import MOST_GAIN, NO_SPAN
from pertscale.evaluation.attacks.known import Known
from pertscale.evaluation.attacks.registry import GAMED, Attack
from pertscale.evaluation.attacks.values import _dealt
from pertscale.schema import ATTACK_COLUMNS

GENES = [f"G{i}" for i in range(80)]
HELD_OUT = GENES[:12]
TRAIN = GENES[12:72]
N_FLOORS = sum(attack.is_floor for attack in ATTACKS.values())


def screen(seed=0, *, noise=0.02):
    """Targets at a fifth, six genes of their own besides, and a response that all share."""
    rng = np.random.default_rng(seed)
    control = rng.uniform(0.5, 2.5, len(GENES))
    names = [*HELD_OUT, *TRAIN]
    shared = np.where(rng.random(len(GENES)) < 0.3, rng.normal(0, 0.4, len(GENES)), 0)
    values = control + shared + rng.normal(0, noise, (len(names), len(GENES)))
    for row, name in enumerate(names):
        values[row, rng.choice(80, 6, replace=False)] += rng.normal(0, 0.6, 6)
        values[row, GENES.index(name)] = 0.2 * control[GENES.index(name)]
    values = np.maximum(values, 0)
    return values[len(HELD_OUT) :], values[: len(HELD_OUT)], control


def audited(arrays, **how):
    train, truth, control = arrays
    return audit_metrics(
        train, truth, control, perturbations=TRAIN, held_out=HELD_OUT, genes=GENES, **how
    )


def known(seed=0, **more):
    train, _, control = screen(seed)
    return Known.of(train, control, names=TRAIN, held_out=HELD_OUT, genes=GENES, **more)


def labels(seed=0):
    """Labels of the screen's changes, and the rule for files."""
    train, truth, control = screen(seed)
    observed = (labels_of_changes(x - control, 0.3) for x in (train, truth))

    def classify(change, tested, rate):
        return labels_of_changes(change, matching_rate(change[tested], rate)), scores_of_changes(
            change
        )

    return AuditedClasses(**dict(zip(("train", "truth"), observed, strict=True)), classify=classify)


def value(table, attack, metric, column="value"):
    (found,) = table.loc[(table["attack"] == attack) & (table["metric"] == metric), column]
    return found


# --- the label is no prediction -------------------------------------------------------------------


def test_the_label_alone_is_found_where_targets_count_and_gains_nothing_where_they_do_not():
    included, excluded = (audited(screen(), targets=t) for t in ("include", "exclude"))
    assert value(included, "label_only_control", "rank_cosine") == 1.0
    assert value(included, "label_only_control", "rank_cosine", "verdict") == "gains"
    assert value(excluded, "label_only_control", "rank_cosine") == 0.5
    for metric in excluded["metric"].unique():
        for label_only, plain in (("control", "no_change"), ("mean", "mean")):
            mine = value(excluded, f"label_only_{label_only}", metric)
            np.testing.assert_equal(mine, value(excluded, plain, metric))


def test_targets_of_others_raised_gain_nothing_where_targets_are_left_out():
    included, excluded = (audited(screen(), targets=t) for t in ("include", "exclude"))
    assert value(included, "other_targets_raised", "rank_cosine") > 0.8
    mine = excluded[excluded["attack"] == "other_targets_raised"]
    assert (mine["gain"].fillna(0) <= MOST_GAIN).all()
    assert value(excluded, "other_targets_raised", "rank_cosine") == 0.5


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_attack_gains_in_a_headline_metric_of_expression(seed):
    table = audited(screen(seed))
    unknown = table[table["is_headline"] & (table["note"] == "")]
    assert (unknown["verdict"] != "gains").all()
    honest = unknown[~unknown["metric"].isin([m for m, _ in GAMED])]
    knows = [name for name, attack in ATTACKS.items() if attack.knows]
    worst = honest[~honest["attack"].isin(knows)]["gain"].max()
    assert worst <= MOST_GAIN


def test_the_table_has_every_attack_and_metric_once():
    table = audited(screen(), classes=labels())
    assert ["context", *table.columns] == [column.name for column in ATTACK_COLUMNS]
    assert not table.duplicated(["attack", "metric", "operating_point"]).any()
    expected = {name for name, attack in ATTACKS.items() if attack.kind != "cells"}
    assert set(table["attack"]) == expected
    assert set(table["metric"]) >= {"l2", "rank_l1", "spread_ratio", "macro_f1", "auprc_de"}
    assert not {"share_called", "n_without_prediction", "support"} & set(table["metric"])
    assert set(table["verdict"]) <= {"ok", "gains", "cannot tell"}


def test_values_are_those_of_the_metrics_and_gains_parts_of_the_span():
    train, truth, control = screen()
    table = audited((train, truth, control))
    mean = np.tile(train.mean(axis=0), (len(truth), 1))
    alone = evaluate_expression(
        truth, mean, control, background=train.mean(axis=0), perturbations=HELD_OUT, genes=GENES
    )
    overall = alone[alone["level"] == "overall"].set_index("metric")["value"]
    for metric in ("l2", "pearson_delta", "rank_l1", "spread_ratio"):
        assert value(table, "mean", metric) == pytest.approx(overall[metric], rel=1e-12)
    rows = table[table["metric"] == "l2"]
    np.testing.assert_allclose(rows["gain"], (rows["floor"] - rows["value"]) / rows["floor"])
    assert value(table, "no_change", "l2", "ceiling") == 0
    spread = table[table["metric"] == "spread_ratio"].set_index("attack")
    np.testing.assert_allclose(spread["gain"], 1 - abs(spread["value"] - 1), atol=1e-12)
    assert spread.loc["most_similar_name", "verdict"] == "gains"
    assert spread.loc["perturbations_left_out", "note"] == GAMED["spread_ratio", ""]


def test_floors_do_not_gain_and_the_best_is_named():
    table = audited(screen(), classes=labels())
    floors = [name for name, attack in ATTACKS.items() if attack.is_floor]
    assert (table.loc[table["attack"].isin(floors), "gain"].fillna(0) <= 1e-12).all()
    assert set(table["best_floor"]) <= set(floors)


def test_a_metric_that_can_be_gamed_is_found(monkeypatch):
    """One that is larger the more is predicted to change."""
    patched = {
        **expression_scores.OF_PERTURBATION,
        "pearson_delta": lambda compared: np.minimum(np.abs(compared.delta).mean(axis=1), 1.0),
    }
    monkeypatch.setattr(expression_scores, "OF_PERTURBATION", patched)
    table = audited(screen())
    assert value(table, "scaled_20", "pearson_delta", "verdict") == "gains"
    assert value(table, "scaled_20", "pearson_delta", "note") == ""
    assert value(table, "scaled_0.1", "pearson_delta", "verdict") == "ok"


def test_a_gain_that_may_be_chance_is_not_told():
    """Four perturbations are too few to tell."""
    train, truth, control = screen()
    few = audit_metrics(
        train, truth[:4], control, perturbations=TRAIN, held_out=HELD_OUT[:4], genes=GENES,
        targets="include",
    )  # fmt: skip
    assert value(few, "label_only_control", "rank_cosine", "gain") > MOST_GAIN
    assert value(few, "label_only_control", "rank_cosine", "verdict") == "cannot tell"


def test_the_ceiling_is_the_replicate_and_where_it_is_no_better_nothing_is_told():
    train, truth, control = screen()
    rng = np.random.default_rng(0)
    good = audited((train, truth, control), replicate=truth + rng.normal(0, 0.05, truth.shape))
    bad = audited((train, truth, control), replicate=rng.permuted(truth, axis=1))
    assert 0 < value(good, "mean", "l2", "ceiling") < value(good, "mean", "l2", "floor")
    assert value(good, "mean", "l2", "verdict") == "ok"
    assert set(bad.loc[bad["metric"] == "l2", "verdict"]) == {"cannot tell"}
    assert bad.loc[bad["metric"] == "l2", "gain"].isna().all()
    assert set(bad.loc[bad["metric"] == "l2", "note"]) == {NO_SPAN}
    spread = good[good["metric"] == "spread_ratio"]  # has no interval
    assert spread["gain"].notna().all()
    assert set(good["ceiling_is"]) == set(bad["ceiling_is"]) == {"replicate"}


def test_a_replicate_has_to_be_better_by_its_interval():
    """One that is better by its estimate alone is a ceiling of nothing."""
    train, truth, control = screen()
    rng = np.random.default_rng(0)
    mixed = truth + rng.normal(0, 0.05, truth.shape)
    mixed[:4] = truth[:4] + rng.normal(0, 0.3, truth[:4].shape)
    table = audited((train, truth, control), replicate=mixed)
    rows = table[table["metric"] == "l2"]
    assert rows["ceiling"].iloc[0] < rows["floor"].iloc[0]
    assert rows["gain"].isna().all()
    assert set(rows["verdict"]) == {"cannot tell"}


def test_a_guess_without_a_correlation_counts_as_none():
    """Where the mean points the wrong way, it is no floor: to say nothing is better."""
    train, truth, control = screen()
    table = audited((2 * control - train, truth, control))
    assert value(table, "mean", "pearson_delta") < 0
    assert value(table, "mean", "pearson_delta", "floor") == 0
    assert value(table, "mean", "pearson_delta", "best_floor") == "no_change"
    assert np.isnan(value(table, "no_change", "pearson_delta"))
    assert value(table, "no_change", "pearson_delta", "verdict") == "ok"
    assert value(table, "sign_flipped", "pearson_delta", "verdict") == "gains"


def test_the_same_table_every_time_and_a_new_attack_is_one_entry(monkeypatch):
    first, again = (audited(screen(), classes=labels()) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    one = Attack(make=lambda known, random: known.same(known.control + 1), doc="one more")
    monkeypatch.setitem(ATTACKS, "one_more", one)
    more = audited(screen(), classes=labels())
    assert set(more["attack"]) - set(first["attack"]) == {"one_more"}
    rest = more[more["attack"] != "one_more"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest.drop(columns="verdict"), first.drop(columns="verdict"))


def test_what_does_not_fit_is_refused():
    train, truth, control = screen()
    with pytest.raises(InputError, match=r"training profiles have shape \(59, 80\)"):
        audited((train[1:], truth, control))
    with pytest.raises(InputError, match=r"truth has shape \(11, 80\)"):
        audited((train, truth[1:], control))
    with pytest.raises(InputError, match="replicate has shape"):
        audited((train, truth, control), replicate=truth[:, 1:])
    with pytest.raises(InputError, match="training labels have shape"):
        known(labels=np.zeros((3, 80), np.int8))
    with pytest.raises(ArgumentError, match="targets='all'"):
        audited((train, truth, control), targets="all")


# --- leaving out ----------------------------------------------------------------------------------


def test_leaving_out_what_is_hard_gains_nothing_as_files_are_scored():
    """Not even where somebody knows which perturbations it fails on.

    Ranks would tell: who knows that has seen the truth.
    """
    train, truth, control = screen()
    mean, background = np.tile(train.mean(axis=0), (12, 1)), train.mean(axis=0)
    how = {"background": background, "perturbations": HELD_OUT, "genes": GENES}
    table = evaluate_expression(truth, mean, control, **how)
    errors = table.query("level == 'perturbation' and metric == 'l2'")["value"].to_numpy()
    silent = mean.copy()
    silent[errors > np.median(errors)] = np.nan

    def overall(table, metric):
        return table.query(f"level == 'overall' and metric == '{metric}'")["value"].item()

    alone = evaluate_expression(truth, silent, control, **how)
    assert overall(alone, "l2") < 0.95 * overall(table, "l2")  # a mean over the rest
    assert overall(alone, "n_without_prediction") == 6  # which is told
    arrays = {
        name: xr.DataArray(x, {"perturbation": HELD_OUT, "gene": GENES})
        for name, x in (("truth", truth), ("silent", silent), ("mean", mean))
    }
    both = ps.evaluation.compare_expression(
        arrays.pop("truth"), arrays,
        control=xr.DataArray(control, {"gene": GENES}),
        background=xr.DataArray(background, {"gene": GENES}), no_change=["silent"],
    )  # fmt: skip
    for metric in ("l2", "pearson_delta"):
        mine, whole = (overall(both[both["method"] == m], metric) for m in ("silent", "mean"))
        assert mine >= whole if metric == "l2" else mine <= whole + 1e-12


# --- each attack ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a.kind == "profiles"])
def test_profiles_are_of_what_is_asked_for_and_knew_only_names(name):
    one = known()
    made = ATTACKS[name].make(one, one.generator(name))
    assert made.shape == (12, 80)
    assert ATTACKS[name].doc
    np.testing.assert_array_equal(made, ATTACKS[name].make(one, one.generator(name)))


def test_the_suite_is_whole_and_on_the_page():
    """What method R2 names, and every attack in the documentation."""
    wanted = {
        "no_change", "mean", "label_only_control", "label_only_mean", "other_targets_raised",
        "scaled_0.1", "scaled_20", "sign_flipped", "noise", "hard_genes_left_out",
        "perturbations_left_out", "best_constant_l2", "best_constant_correlation", "cells_copied",
        "cells_four", "cells_cancelling", "own_controls_shifted", "cells_own_controls",
        "at_test_rate", "genes_in_another_order", "most_similar_name",
    }  # fmt: skip
    assert wanted <= set(ATTACKS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "attacks.md").read_text("utf-8")
    for name, attack in ATTACKS.items():
        assert f"| `{name}` |" in page
        assert attack.doc in page
    for (metric, _), why in GAMED.items():
        assert f"| `{metric}` |" in page
        assert why in page


def test_what_each_profile_is():
    one = known()
    random, change = one.generator("test"), one.mean - one.control
    assert one.expected_share == pytest.approx(0.2)
    np.testing.assert_allclose(profiles.scaled(one, 5)[0] - one.control, 5 * change)
    label = profiles.label_only_control(one, random)
    np.testing.assert_allclose(label[0, 0], 0.2 * one.control[0])
    np.testing.assert_array_equal(label[0, 1:], one.control[1:])
    raised = profiles.other_targets_raised(one, random)
    np.testing.assert_allclose(raised[0, 1:12], 5 * one.control[1:12])
    np.testing.assert_array_equal(raised[0, 12:], one.control[12:])
    drawn = np.concatenate([profiles.noise(one, random) for _ in range(200)])
    np.testing.assert_allclose(drawn.std(axis=0), one.deviation, rtol=0.1)
    assert np.isnan(profiles.hard_genes_left_out(one, random)).sum(axis=1).tolist() == [8] * 12
    silent = np.isnan(profiles.perturbations_left_out(one, random))
    assert silent.all(axis=1).sum() == silent.any(axis=1).sum() == 6
    for constant in (profiles.best_constant_l2, profiles.best_constant_correlation):
        made = constant(one, random)
        assert (made == made[0]).all()
        assert (one.profiles == made[0]).all(axis=1).any()
    shifted = profiles.own_controls_shifted(one, random)[0] - one.mean
    np.testing.assert_allclose(shifted, np.abs(one.change).mean())
    moved = profiles.genes_in_another_order(one, random)[0] - one.control
    np.testing.assert_allclose(np.sort(moved), np.sort(change))
    assert np.abs(moved - change).max() > 0.1
    few = np.concatenate([profiles.four_cells(one, random) for _ in range(200)])
    assert few.min() >= 0
    assert few.std(axis=0).mean() > 2 * one.deviation.mean()


def test_the_best_constants_are_those_of_brute_force():
    one = known()
    others = [np.delete(one.change, i, axis=0) for i in range(len(TRAIN))]
    rows = list(zip(one.change, others, strict=True))
    nearest = np.argmin([np.linalg.norm(rest - mine, axis=1).mean() for mine, rest in rows])
    alike = np.argmax([np.mean([np.corrcoef(mine, r)[0, 1] for r in rest]) for mine, rest in rows])
    random = one.generator("test")
    np.testing.assert_array_equal(profiles.best_constant_l2(one, random)[0], one.profiles[nearest])
    found = profiles.best_constant_correlation(one, random)[0]
    np.testing.assert_array_equal(found, one.profiles[alike])


def test_the_most_similar_name_is_the_guide_of_the_same_target():
    train, _, control = screen()
    names = ["IRF1", "GATA1_2", "STAT1", "GATA2_1", "GATA1_1"]
    one = Known.of(
        train[:5], control, names=names, held_out=["GATA1_3", "STAT2", "A", "Z"], genes=GENES
    )
    found = profiles.most_similar_name(one, one.generator("test"))
    np.testing.assert_array_equal(found, train[[1, 2, 4, 2]])


def test_without_measured_targets_nothing_is_expected_of_them():
    train, _, control = screen()
    drugs = [f"drug {i}" for i in range(len(TRAIN))]
    one = Known.of(train, control, names=drugs, held_out=["drug 99"], genes=GENES)
    assert one.expected_share == 1.0
    made = profiles.label_only_control(one, one.generator("test"))
    np.testing.assert_array_equal(made[0], control)
    alone = Known.of(train[:1], control, names=TRAIN[:1], held_out=HELD_OUT, genes=GENES)
    assert (alone.deviation == 0).all()


def test_classes_of_attacks():
    counted = np.array([[1, 0, -1, 0], [1, 0, 0, 0], [-1, 0, -1, -128]], np.int8)
    train, _, control = screen()
    one = Known.of(
        train[:3, :4], control[:4], names=TRAIN[:3], held_out=["X", "Y"], genes=list("abcd"),
        labels=counted,
    )  # fmt: skip
    called, scores = classes.majority(one, 0.5)
    assert called.tolist() == [[1, 0, -1, 0]] * 2
    np.testing.assert_allclose(scores[0, 0], [1 / 3, 0, 2 / 3], rtol=1e-6)
    assert classes.at_test_rate(one, 0.25)[0].tolist() == [[1, 0, 0, 0]] * 2
    assert classes.at_test_rate(one, 0.0)[0].tolist() == [[0] * 4] * 2
    assert (classes.all_called(one, 0.1)[0] != 0).all()


def test_cells_of_attacks():
    rng = np.random.default_rng(0)
    controls = rng.gamma(2, 0.5, (300, 10)) * (rng.random((300, 10)) < 0.7)
    multiple = np.linspace(0.5, 1.5, 10)
    made = {
        name: ATTACKS[name].make(controls, multiple, 30, np.random.default_rng(1))
        for name, attack in ATTACKS.items()
        if attack.kind == "cells"
    }
    assert {name: len(one) for name, one in made.items()} == {
        "cells_moved": 30, "cells_copied": 90, "cells_four": 4, "cells_cancelling": 30,
        "cells_own_controls": 30,
    }  # fmt: skip
    assert all((one >= 0).all() for one in made.values())
    np.testing.assert_array_equal(made["cells_copied"][::3], made["cells_moved"])
    mean = controls.mean(axis=0) * multiple
    np.testing.assert_allclose(made["cells_cancelling"].mean(axis=0), mean)
    scatter = made["cells_cancelling"].std(axis=0) / made["cells_moved"].std(axis=0)
    assert (scatter < 0.2).all()
    own = cells.shifted_controls(controls, multiple)
    np.testing.assert_allclose(own * multiple, controls)


@pytest.mark.parametrize("turn", [(0, 1), (0, 10), (1, 10), (9, 10)])
def test_only_random_attacks_are_dealt_out_anew(turn):
    """Whatever the truth's turn, what is not drawn stays with its perturbation."""
    rows = np.arange(12.0)[:, None]
    for name in ("truth", "replicate", "scaled_2", "most_similar_name"):
        ((found,),) = _dealt(name, 50, rows, turn=turn)
        np.testing.assert_array_equal(found, rows)
    deals = [found[0, 0] for (found,) in _dealt("noise", 50, rows, turn=turn)]
    assert deals == [-start % 12 for start in range(turn[0], 12, turn[1])]
