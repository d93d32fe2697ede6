"""Confusion matrices, areas under curves, and the table of scores."""

from __future__ import annotations

import json

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from zarr.storage import MemoryStore

from pertscale.errors import ArgumentError, InputError, PertscaleWarning
from pertscale.evaluation import (
    METRICS,
    RankCounts,
    auroc_by_gene,
    confusion,
    confusion_per_row,
    evaluate,
    evaluate_both,
    scores_from_confusion,
)
from pertscale.evaluation.line_areas import areas_of_change, packed_pairs
from pertscale.schema import CLASS_NAMES, CLASSES, Label
from tests.support.helpers import GOLDEN

UNTESTED = int(Label.UNTESTED)
FROM_GOLDEN = np.array([0, 1, -1], dtype=np.int8)

labels_of = st.sampled_from([-1, 0, 1])
vectors = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.int8, n, elements=labels_of), hnp.arrays(np.int8, n, elements=labels_of)
    )
)


def data(n=30, n_genes=50, untested=0.3, seed=0):
    """Return truth, predictions and scores of many ties, with some pairs not predicted."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(
        np.array([-1, 0, 1, UNTESTED], dtype=np.int8),
        size=(n, n_genes),
        p=[0.1, 0.6 - untested / 2, 0.3 - untested / 2, untested],
    )
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, np.roll(truth, 1)).astype(np.int8)
    scores = rng.integers(1, 6, size=(n, n_genes, 3)).astype(np.float32)
    scores[np.arange(3) == truth[..., None] + 1] += 1
    scores /= scores.sum(-1, keepdims=True)
    scores[predicted == UNTESTED] = np.nan
    return truth, predicted, scores


def names(truth):
    return [f"P{i}" for i in range(len(truth))]


# --- confusion and what follows -------------------------------------------------------------------


def test_golden_metrics():
    golden = json.loads((GOLDEN / "categorical.json").read_text())
    truth = FROM_GOLDEN[np.array(golden["labels"][golden["n_train"] :])]
    predicted = FROM_GOLDEN[np.array(golden["knn_distance_weighted"]["3"])]
    want, order = golden["metrics_k3"], [1, 2, 0]  # golden order from ours
    counts = confusion(truth, predicted)
    assert counts[order][:, order].tolist() == want["confusion"]
    scores = scores_from_confusion(counts)
    for metric in ("precision", "recall", "f1", "support"):
        np.testing.assert_allclose(scores[metric][order], want[metric])
    for metric in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert scores[metric] == pytest.approx(want[metric])


def test_golden_degenerate_metrics():
    golden = json.loads((GOLDEN / "categorical.json").read_text())["degenerate"]
    counts = confusion(FROM_GOLDEN[golden["y"]], FROM_GOLDEN[golden["p"]])
    fixed, present = (scores_from_confusion(counts, labels=how) for how in ("fixed", "present"))
    for metric in ("precision", "recall", "f1"):
        np.testing.assert_allclose(fixed[metric][[1, 2, 0]], golden[metric])
    assert fixed["balanced_accuracy"] == pytest.approx(golden["balanced_accuracy_sklearn"])
    assert fixed["macro_f1"] == pytest.approx(golden["macro_f1_fixed_labels"])
    assert present["macro_f1"] == pytest.approx(golden["macro_f1_sklearn_default"])


@pytest.mark.filterwarnings("ignore:A single label", "ignore:y_pred contains classes")
@settings(max_examples=150, deadline=None)
@given(pair=vectors)
def test_scores_equal_scikit_learn(pair):
    truth, predicted = pair
    counts = confusion(truth, predicted)
    np.testing.assert_array_equal(
        counts[:, :3], sk.confusion_matrix(truth, predicted, labels=CLASSES)
    )
    scores = scores_from_confusion(counts, labels="fixed")
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, predicted, labels=CLASSES, zero_division=0
    )
    np.testing.assert_allclose(scores["precision"], precision)
    np.testing.assert_allclose(scores["recall"], recall)
    np.testing.assert_allclose(scores["f1"], f1)
    np.testing.assert_array_equal(scores["support"], support)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert scores["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, predicted), abs=1e-12)
    fixed = sk.f1_score(truth, predicted, labels=CLASSES, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(fixed)
    there = sorted(set(truth))
    observed = scores_from_confusion(counts)
    if len(there) == 1:
        assert all(np.isnan(observed[m]) for m in ("macro_f1", "balanced_accuracy", "mcc"))
    else:
        of_those = sk.f1_score(truth, predicted, labels=there, average="macro", zero_division=0)
        assert observed["macro_f1"] == pytest.approx(of_those)
        assert observed["balanced_accuracy"] == scores["balanced_accuracy"]
        assert observed["mcc"] == scores["mcc"]
    for metric in ("precision", "recall", "f1"):
        expected = np.where(support > 0, scores[metric], np.nan)
        np.testing.assert_array_equal(observed[metric], expected)
    present = scores_from_confusion(counts, labels="present")["macro_f1"]
    assert present == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    balanced = sk.balanced_accuracy_score(truth, predicted)
    assert scores["balanced_accuracy"] == pytest.approx(balanced)


def test_abstaining_counts_as_wrong():
    truth, predicted, _ = data()
    tested = truth != UNTESTED
    assert (predicted[tested] == UNTESTED).any()
    scores = scores_from_confusion(confusion(truth, predicted))
    t, p = truth[tested], predicted[tested]
    assert scores["accuracy"] == pytest.approx(np.mean(t == p))
    np.testing.assert_allclose(
        scores["recall"], sk.recall_score(t, p, labels=CLASSES, average=None)
    )
    assert scores["mcc"] == pytest.approx(sk.matthews_corrcoef(t, p))
    # giving up on the pairs one has wrong is no gain
    silent = np.where(predicted == truth, predicted, UNTESTED)
    quiet = scores_from_confusion(confusion(truth, silent))
    for metric in ("accuracy", "balanced_accuracy"):
        assert quiet[metric] == pytest.approx(scores[metric])
    assert confusion(truth, silent).sum() == tested.sum()


def test_confusions_of_parts_add_up():
    truth, predicted, _ = data()
    rows = confusion_per_row(truth, predicted)
    assert rows.shape == (30, 3, 4)
    np.testing.assert_array_equal(rows[4], confusion(truth[4], predicted[4]))
    whole = confusion(truth, predicted)
    np.testing.assert_array_equal(rows.sum(0), whole)
    np.testing.assert_array_equal(
        confusion(truth[:, :17], predicted[:, :17]) + confusion(truth[:, 17:], predicted[:, 17:]),
        whole,
    )
    each = scores_from_confusion(rows)
    alone = scores_from_confusion(rows[4])
    for metric, values in each.items():
        np.testing.assert_array_equal(values[4], alone[metric])


def test_without_any_pair_scores_are_not_defined():
    scores = scores_from_confusion(np.zeros((3, 4), dtype=np.int64))
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        assert np.isnan(scores[metric])


@settings(max_examples=60, deadline=None)
@given(truth=st.lists(labels_of, min_size=1), wrong=labels_of)
def test_the_truth_scores_one_wherever_a_score_is_defined(truth, wrong):
    """With one class there is nothing to tell; a class that is absent takes nothing away."""
    truth = np.array(truth, np.int8)
    scores = scores_from_confusion(confusion(truth, truth))
    single = len(set(truth.tolist())) == 1
    for metric in ("balanced_accuracy", "macro_f1", "mcc"):
        expected = np.nan if single else 1
        assert scores[metric] == pytest.approx(expected, nan_ok=True)
    for metric in ("precision", "recall", "f1"):
        assert set(scores[metric][scores["support"] > 0]) == {1}
        assert np.isnan(scores[metric][scores["support"] == 0]).all()
    called = np.append(truth[:-1], wrong)  # a call of an absent class costs all the same
    if not single and wrong != truth[-1]:
        assert scores_from_confusion(confusion(truth, called))["macro_f1"] < 1


def test_unknown_codes_are_refused_with_their_place():
    truth, predicted, _ = data()
    predicted[20, 33] = 2
    lazy = da.from_array(predicted, chunks=(7, 10))
    for given_ in (predicted, lazy):
        with pytest.raises(InputError, match="predicted has the code 2 at row 20, gene 33"):
            evaluate(truth, given_, perturbations=names(truth))
    with pytest.raises(InputError, match="align"):
        confusion(truth, predicted[:, 1:])
    with pytest.raises(ArgumentError, match="'observed', 'fixed' or 'present'"):
        scores_from_confusion(np.eye(3, dtype=int), labels="all")


# --- areas under the curves -----------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.booleans(), st.floats(-2, 2, width=16) | st.just(0.25)),
        min_size=2,
        max_size=60,
    ),
    cut=st.integers(0, 60),
)
def test_areas_equal_scikit_learn(pairs, cut):
    positive = np.array([p for p, _ in pairs])
    scores = np.array([s for _, s in pairs], dtype=np.float32)
    counts = RankCounts()
    counts.add(scores[cut:], positive=positive[cut:])
    counts.add(scores[:cut], positive=positive[:cut])
    if positive.all() or not positive.any():
        assert np.isnan(counts.auroc())
        assert np.isnan(counts.average_precision())
        return
    assert counts.auroc() == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert counts.average_precision() == pytest.approx(
        sk.average_precision_score(positive, scores), abs=1e-12
    )


def test_areas_within_lines_of_all_pairs_and_of_the_rest():
    rng = np.random.default_rng(0)
    truth = rng.choice(
        np.array([-1, 0, 1, UNTESTED], np.int8), p=[0.1, 0.7, 0.1, 0.1], size=(9, 80)
    )
    truth[3], truth[5] = UNTESTED, 0  # no pair; one side only
    scores = rng.integers(0, 12, (9, 80, 3)).astype(np.float32) / 11
    left = np.array([[0, 3], [0, 4], [4, 0], [8, 79]])
    rest = truth.copy()
    rest[tuple(left.T)] = UNTESTED
    packed = packed_pairs(truth, scores, tuple(left.T))
    rows, genes = areas_of_change(packed.copy()), areas_of_change(packed.T.copy())
    for i, kept in enumerate((truth, rest)):
        for areas, lines, of_lines in (
            (rows, kept, scores),
            (genes, kept.T, scores.swapaxes(0, 1)),
        ):
            for area, line, score in zip(areas[:, i], lines, of_lines, strict=True):
                used = line != UNTESTED
                changed = line[used] != 0
                if changed.all() or not changed.any():
                    assert np.isnan(area)
                else:
                    expected = sk.roc_auc_score(changed, -score[used, 1])
                    assert area == pytest.approx(expected, abs=1e-12)


def test_missing_scores_rank_last_and_zeros_are_equal():
    counts = RankCounts()
    counts.add([np.nan, np.nan, 0.1, 0.2], positive=np.array([True, False, True, False]))
    assert counts.auroc() == pytest.approx(sk.roc_auc_score([1, 0, 1, 0], [-1, -1, 0.1, 0.2]))
    zeros = RankCounts()
    zeros.add([0.0, -0.0], positive=np.array([True, False]))
    assert zeros.auroc() == 0.5


def test_memory_is_bounded_by_rounding_the_same_way_in_any_order():
    rng = np.random.default_rng(1)
    scores = rng.random(20_000, dtype=np.float32)
    positive = rng.random(20_000) < scores
    results = []
    for order in (np.arange(20_000), rng.permutation(20_000), np.argsort(scores)):
        counts = RankCounts(max_distinct=3000)
        for part in np.array_split(order, 11):
            counts.add(scores[part], positive=positive[part])
            counts.auroc()  # merges what came so far
        results.append((counts.rounded_bits, counts.auroc(), counts.average_precision()))
    assert results[0] == results[1] == results[2]
    assert results[0][0] > 0
    assert results[0][1] == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-3)


# --- the table ------------------------------------------------------------------------------------


def test_the_table_equals_scikit_learn():
    truth, predicted, scores = data()
    predicted[predicted == UNTESTED] = 0
    scores = np.nan_to_num(scores, nan=1 / 3)
    table = evaluate(truth, predicted, scores=scores, perturbations=names(truth))
    assert list(table.columns) == ["operating_point", "level", "group", "metric", "value", "n"]
    assert set(table["metric"]) <= set(METRICS)
    values = table.set_index(["level", "group", "metric"])["value"].sort_index()
    tested = truth != UNTESTED
    t, p, s = truth[tested], predicted[tested], scores[tested]
    assert values["overall", "", "accuracy"] == pytest.approx(sk.accuracy_score(t, p))
    assert values["overall", "", "mcc"] == pytest.approx(sk.matthews_corrcoef(t, p))
    assert values["overall", "", "share_de"] == np.mean(t != 0)
    assert values["overall", "", "share_called"] == np.mean(p != 0)
    areas = [sk.average_precision_score(t == code, s[:, i]) for i, code in ((0, -1), (2, 1))]
    assert values["overall", "", "auprc_macro"] == pytest.approx(np.mean(areas))
    changed = sk.average_precision_score(t != 0, -s[:, 1])
    assert values["overall", "", "auprc_de"] == pytest.approx(changed)
    for index, (name, code) in enumerate(zip(CLASS_NAMES, CLASSES, strict=True)):
        row = values["class", name]
        assert row["recall"] == pytest.approx(sk.recall_score(t == code, p == code))
        assert row["auroc"] == pytest.approx(sk.roc_auc_score(t == code, s[:, index]))
        assert row["auprc"] == pytest.approx(sk.average_precision_score(t == code, s[:, index]))
        assert row["n_predicted_up"] == np.sum((t == code) & (p == 1))
        assert row["support"] == np.sum(t == code)
    here = tested[7]
    row = values["perturbation", "P7"]
    assert row["macro_f1"] == pytest.approx(
        sk.f1_score(truth[7, here], predicted[7, here], labels=CLASSES, average="macro")
    )
    assert row["auroc"] == pytest.approx(sk.roc_auc_score(truth[7, here] != 0, -scores[7, here, 1]))
    counts = table[table["level"] == "perturbation"].drop_duplicates("group")["n"]
    assert counts.tolist() == tested.sum(axis=1).tolist()
    assert (table.loc[table["level"] != "perturbation", "n"] == tested.sum()).all()


def test_the_order_of_the_rows_is_fixed_and_areas_need_scores():
    truth, predicted, scores = data(n=2)
    table = evaluate(truth, predicted, perturbations=["B", "A"])
    assert table["metric"].tolist()[:4] == ["accuracy", "balanced_accuracy", "macro_f1", "mcc"]
    assert table.loc[table["level"] == "perturbation", "group"].tolist() == ["B"] * 3 + ["A"] * 3
    areas = {"auroc", "auprc", "auprc_de", "auprc_macro"}
    assert not set(table["metric"]) & areas
    with_areas = evaluate(truth, predicted, scores=scores, perturbations=["B", "A"])
    assert areas < set(with_areas["metric"])
    rest = with_areas[~with_areas["metric"].isin(areas)]
    assert rest.reset_index(drop=True).equals(table)


@pytest.mark.parametrize("chunks", [(30, 50), (30, 7), (4, 50), (11, 13)])
@pytest.mark.parametrize("lazy_truth", [True, False])
def test_lazy_matrices_give_the_same_table(chunks, lazy_truth):
    truth, predicted, scores = data()
    want = evaluate(truth, predicted, scores=scores, perturbations=names(truth), exclude=[(3, 4)])
    got = evaluate(
        da.from_array(truth, chunks=(9, 20)) if lazy_truth else truth,
        da.from_array(predicted, chunks=chunks),
        scores=da.from_array(scores, chunks=(*chunks, 3)),
        perturbations=names(truth),
        exclude=[(3, 4)],
    )
    assert got.equals(want)


@pytest.mark.parametrize("block", [1, 150, 2**22])
@pytest.mark.parametrize("chunks", [(30, 50), (30, 7), (4, 50), (11, 13)])
def test_zarr_arrays_give_the_same_tables(chunks, block, monkeypatch):
    monkeypatch.setattr("pertscale.evaluation.sweeps._BLOCK_PAIRS", block)
    monkeypatch.setattr("pertscale.evaluation.per_gene._BLOCK_PAIRS", block)
    truth, predicted, scores = data()
    options = {"perturbations": names(truth), "exclude": [(3, 4)], "training_rate": 0.2}
    on_disk = []
    for array in (predicted, scores):
        store = MemoryStore()
        part = (*chunks, 3)[: array.ndim]
        on_disk.append(zarr.create_array(store, shape=array.shape, chunks=part, dtype=array.dtype))
        on_disk[-1][:] = array
    want = evaluate_both(truth, predicted, scores=scores, **options)
    got = evaluate_both(truth, on_disk[0], scores=on_disk[1], **options)
    assert all(a.equals(b) for a, b in zip(want, got, strict=True))
    areas = auroc_by_gene(truth, scores), auroc_by_gene(truth, on_disk[1])
    np.testing.assert_array_equal(*areas)


def test_each_block_is_computed_once():
    truth, predicted, scores = data()
    computed = []

    def noted(block, what, block_info=None):
        computed.append((what, tuple(block_info[0]["chunk-location"])))
        return block

    def lazy(array, what):
        chunked = da.from_array(array, chunks=(10, 20) + (3,) * (array.ndim - 2))
        return chunked.map_blocks(noted, what, dtype=array.dtype, meta=array[:0])

    with dask.config.set(scheduler="sync"):
        evaluate(
            lazy(truth, "truth"),
            lazy(predicted, "predicted"),
            scores=lazy(scores, "scores"),
            perturbations=names(truth),
        )
    assert len(computed) == len(set(computed)) == 3 * 9


def test_both_tables_from_one_pass():
    truth, predicted, scores = data()
    options = {"scores": scores, "perturbations": names(truth)}
    exclude = [(0, 0), (3, 17), (29, 49)]
    everything, rest = evaluate_both(truth, predicted, exclude=exclude, **options)
    assert everything.equals(evaluate(truth, predicted, **options))
    assert rest.equals(evaluate(truth, predicted, exclude=exclude, **options))


def test_excluded_pairs_are_left_out_without_touching_the_input():
    truth, predicted, scores = data()
    before = truth.copy()
    exclude = [(0, 0), (3, 17), (29, 49), (3, 17)]
    edited = truth.copy()
    edited[tuple(np.transpose(exclude))] = UNTESTED
    options = {"scores": scores, "perturbations": names(truth)}
    got = evaluate(truth, predicted, exclude=exclude, **options)
    assert got.equals(evaluate(edited, predicted, **options))
    assert not got.equals(evaluate(truth, predicted, **options))
    np.testing.assert_array_equal(truth, before)
    with pytest.raises(InputError, match=r"\(30, 0\)"):
        evaluate(truth, predicted, exclude=[(30, 0)], **options)


def test_very_sparse_truth_keeps_every_perturbation():
    truth, predicted, scores = data()
    sparse = np.full_like(truth, UNTESTED)
    sparse[2, 3], sparse[5, 8], sparse[5, 9] = 1, 0, -1
    predicted[2, 3], predicted[5, 8], predicted[5, 9] = 1, 0, 0
    table = evaluate(sparse, predicted, scores=scores, perturbations=names(truth))
    values = table.set_index(["level", "group", "metric"])
    assert values.loc[("overall", "", "accuracy"), "value"] == pytest.approx(2 / 3)
    assert values.loc[("overall", "", "accuracy"), "n"] == 3
    rows = table[(table["level"] == "perturbation") & (table["metric"] == "accuracy")]
    assert rows["value"].notna().sum() == 2
    assert rows["n"].sum() == 3
    assert len(rows) == 30


def test_an_oracle_is_perfect_and_constant_scores_are_chance():
    truth, _, _ = data()
    one_hot = (truth[..., None] == np.array(CLASSES)).astype(np.float32)
    table = evaluate(truth, truth, scores=one_hot, perturbations=names(truth))
    perfect = table[table["metric"].isin(["accuracy", "macro_f1", "mcc", "auroc", "auprc", "f1"])]
    assert (perfect["value"] == 1).all()
    flat = evaluate(truth, truth, scores=np.full_like(one_hot, 0.3), perturbations=names(truth))
    assert (flat.loc[flat["metric"] == "auroc", "value"] == 0.5).all()


def test_rounded_scores_are_announced(monkeypatch):
    truth, predicted, _ = data()
    scores = np.random.default_rng(0).random((*truth.shape, 3), dtype=np.float32)
    limited = RankCounts.__init__.__kwdefaults__ | {"max_distinct": 100}
    monkeypatch.setattr(RankCounts.__init__, "__kwdefaults__", limited)
    with pytest.warns(PertscaleWarning, match="more than 100 distinct scores"):
        evaluate(truth, predicted, scores=scores, perturbations=names(truth))


def test_shapes_that_do_not_fit_are_refused():
    truth, predicted, scores = data()
    with pytest.raises(InputError, match=r"\(30, 50\) with 29 perturbation names"):
        evaluate(truth, predicted, perturbations=names(truth)[1:])
    with pytest.raises(InputError, match="align"):
        evaluate(truth, predicted[1:], perturbations=names(truth))
    with pytest.raises(InputError, match="scores has shape"):
        evaluate(truth, predicted, scores=scores[..., :2], perturbations=names(truth))
