"""Splits: the rules (method D1, D2), what a split refuses, and its file."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertscale.errors import (
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
    UnknownNameError,
)
from pertscale.splits import Split, holdout, k_fold, repeated_holdout, with_seen_genes

GENES = [f"G{i:03d}" for i in range(37)]
names_lists = st.lists(
    st.text("ABCDEF+-_1", min_size=1, max_size=6), min_size=4, max_size=40, unique=True
)


# --- the rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 17])
@pytest.mark.parametrize("n", [2, 5, 8, 37])
def test_holdout_is_the_rule_of_d1(n, seed):
    names = sorted(GENES[:n])
    permuted = np.random.RandomState(seed).permutation(np.array(names))
    n_test = math.ceil(0.25 * n)
    split = holdout(reversed(names), seed=seed)
    assert set(split.test) == set(permuted[:n_test])
    assert set(split.train) == set(permuted[n_test:])
    assert split.val == ()


def test_validation_is_held_out_with_test():
    split = Split("s", ("A", "B"), ("D", "C"), ("E",))
    assert split.held_out == ("D", "C", "E")
    assert split.restrict(["A", "C", "E"]).held_out == ("C", "E")


def test_holdout_known_draw():
    # RandomState(0).permutation(8) = 6 2 1 7 3 0 5 4
    split = holdout(list("ABCDEFGH"), seed=0)
    assert split.test == ("C", "G")
    assert split.train == ("A", "B", "D", "E", "F", "H")


def test_holdout_equals_choice_of_the_legacy_generator():
    drawn = np.random.RandomState(3).choice(GENES, math.ceil(0.25 * 37), replace=False)
    assert set(holdout(GENES, seed=3).test) == set(drawn)


def test_ceil_is_not_led_astray_by_rounding():
    names = [f"P{i}" for i in range(100)]
    assert 0.07 * 100 > 7
    assert len(holdout(names, test_fraction=0.07).test) == 7


@given(names=names_lists, seed=st.integers(0, 2**32 - 1), fraction=st.floats(0.01, 0.7))
def test_holdout_partitions_whatever_the_order(names, seed, fraction):
    split = holdout(names, seed=seed, test_fraction=fraction)
    assert sorted(split.train + split.test) == sorted(names)
    assert split == holdout(sorted(names), seed=seed, test_fraction=fraction)


@given(names=names_lists, seed=st.integers(0, 1000), n_targets=st.integers(2, 6))
def test_guides_of_a_target_never_straddle(names, seed, n_targets):
    groups = {name: f"target{i % n_targets}" for i, name in enumerate(names)}
    n_targets = len(set(groups.values()))
    splits = [holdout(names, seed=seed, groups=groups), *k_fold(names, n_folds=2, groups=groups)]
    for split in splits:
        sides = [{groups[name] for name in part} for part in (split.train, split.test)]
        assert sides[0].isdisjoint(sides[1])
        assert len(sides[0] | sides[1]) == n_targets


@given(names=names_lists, seed=st.integers(0, 1000))
def test_groups_of_one_change_nothing(names, seed):
    groups = {name: f"{len(names) - i:03d}" for i, name in enumerate(names)}
    assert holdout(names, seed=seed, groups=groups) == holdout(names, seed=seed)
    assert k_fold(names, n_folds=3, groups=groups) == k_fold(names, n_folds=3)


@given(names=names_lists, seed=st.integers(0, 1000), n_folds=st.integers(2, 4))
def test_folds_cover_every_perturbation_once(names, seed, n_folds):
    folds = k_fold(names, n_folds=n_folds, seed=seed)
    assert sorted(name for fold in folds for name in fold.test) == sorted(names)
    assert all(sorted(fold.train + fold.test) == sorted(names) for fold in folds)
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert len({fold.name for fold in folds}) == n_folds


def test_folds_are_the_rule_of_d2():
    permuted = np.random.RandomState(4).permutation(np.array(sorted(GENES)))
    for fold, part in zip(k_fold(GENES, seed=4), np.array_split(permuted, 5), strict=True):
        assert set(fold.test) == set(part)


SINGLES = GENES[:20]
DOUBLES = [f"{a}+{b}" for a, b in zip(GENES[:12], GENES[3:15], strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_genes_that_are_held_out_are_in_no_training_perturbation(seed):
    names = [*SINGLES, *DOUBLES]
    drawn = np.random.RandomState(seed).permutation(np.array(sorted(SINGLES)))[:5]
    split = holdout(names, seed=seed, gene_disjoint=True)
    assert split.name == f"holdout-genes-seed{seed}"
    genes = {name: set(name.split("+")) for name in names}
    assert set(split.test) == {n for n in names if genes[n] <= set(drawn)}
    assert set(split.train) == {n for n in names if not genes[n] & set(drawn)}
    assert set(names) - set(split.train) - set(split.test)  # genes on both sides
    assert with_seen_genes(split) == ()
    usual = holdout(names, seed=seed)
    assert with_seen_genes(usual) == tuple(
        n for n in usual.test if genes[n] & {g for t in usual.train for g in genes[t]}
    )
    assert len(with_seen_genes(usual)) > 0


def test_folds_of_genes():
    names = [*SINGLES, *DOUBLES]
    found = k_fold(names, n_folds=3, gene_disjoint=True)
    assert [with_seen_genes(split) for split in found] == [(), (), ()]
    singles = [name for split in found for name in split.test if "+" not in name]
    assert sorted(singles) == sorted(SINGLES)
    assert sum("+" in name for split in found for name in split.test) < len(DOUBLES)
    assert found[0].name == "fold1of3-genes-seed0"


def test_single_genes_are_apart_already():
    guides = {f"{gene}_{i}": gene for gene in GENES for i in (1, 2)}
    for names, groups in ((GENES, None), (list(guides), guides)):
        for genes, usual in zip(
            repeated_holdout(names, seeds=[0, 1], groups=groups, gene_disjoint=True),
            repeated_holdout(names, seeds=[0, 1], groups=groups),
            strict=True,
        ):
            assert genes.hash == usual.hash
            assert with_seen_genes(usual, groups=groups) == ()


def test_doubles_alone_may_leave_nothing():
    with pytest.raises(InputError, match="2 have genes on both sides; a split needs one of each"):
        holdout(["A+B", "A+C", "B+C"], gene_disjoint=True, test_fraction=0.34)


def test_the_control_is_in_no_part():
    assert holdout([*GENES, "control"], seed=2) == holdout(GENES, seed=2)
    assert k_fold(["control", *GENES]) == k_fold(GENES)


def test_repeated_holdout_is_one_per_seed():
    splits = repeated_holdout(iter(GENES), seeds=range(3), test_fraction=0.5)
    assert splits == tuple(holdout(GENES, seed=s, test_fraction=0.5) for s in range(3))
    assert len({split.hash for split in splits}) == 3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: holdout(["A"]), InputError, "at least 2 perturbations"),
        (lambda: holdout(["A", "control"]), InputError, "there are 1"),
        (lambda: holdout(["A", "B"], test_fraction=0.6), InputError, "leaves none"),
        (lambda: holdout(["A", "B"], test_fraction=1), ArgumentError, "between 0 and 1"),
        (lambda: holdout(["A", "B", "A"]), InputError, "'A' occurs twice"),
        (lambda: holdout(["A", ""]), InputError, "entry 1"),
        (lambda: Split("s", "KRAS", ("A",)), ArgumentError, "pass a list: train="),
        (lambda: holdout(["A", "B"], seed=-1), ArgumentError, "seed"),
        (lambda: holdout(["A", "B"], seed=0.5), ArgumentError, "a whole number, found 0.5"),
        (lambda: holdout(["A", "B"], groups={"A": "x"}), UnknownNameError, "'B'"),
        (
            lambda: holdout(["A", "B"], groups={"A": "x", "B": "x"}),
            InputError,
            "2 target groups",
        ),
        (lambda: k_fold(["A", "B", "C"]), InputError, "lower n_folds"),
        (lambda: k_fold(GENES, n_folds=1), ArgumentError, "at least 2"),
        (lambda: repeated_holdout(GENES, seeds=()), ArgumentError, "at least one"),
        (lambda: repeated_holdout(GENES, seeds=(1, 1)), ArgumentError, "different"),
        (lambda: Split("s", ("A",), ()), InputError, "empty 'test'"),
        (lambda: Split("s", (), ("A",)), InputError, "empty 'train'"),
        (lambda: Split("s", ("A",), ("B",), ("A",)), InputError, "'train' and in 'val'"),
        (lambda: Split("s", ("A", "control"), ("B",)), InputError, "control"),
    ],
)
def test_errors_say_what_is_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- the object ---------------------------------------------------------------------------------


def test_hash_is_of_who_is_where():
    split = Split("a", ("A", "B"), ("C",), ("D",), seed=1)
    assert split.hash == Split("b", ["B", "A"], ["C"], ["D"], kind="other").hash
    assert split.hash != Split("a", ("A", "B"), ("D",), ("C",), seed=1).hash
    assert split.hash != Split("a", ("A", "B", "D"), ("C",), seed=1).hash
    assert len(split.hash) == 32
    assert pickle.loads(pickle.dumps(split)) == split  # noqa: S301


def test_restrict_keeps_the_parts():
    split = Split("a", ("C", "A", "B"), ("D", "E"), ("F",), seed=5)
    small = split.restrict(["B", "C", "D", "not there"])
    assert (small.train, small.test, small.val) == (("C", "B"), ("D",), ())
    assert (small.name, small.seed) == ("a", 5)
    with pytest.raises(InputError, match="none of the 2 test"):
        split.restrict(["A", "F"])


def test_it_shows_itself_shortly():
    split = Split("<a>", tuple(GENES[:20]), tuple(GENES[20:]))
    assert repr(split) == "<Split '<a>': 20 train, 17 test, 0 val (holdout, seed 0)>"
    assert "&lt;a&gt;" in split._repr_html_()
    assert "<a>" not in split._repr_html_()


# --- the file -----------------------------------------------------------------------------------


def test_file_round_trip(tmp_path):
    split = Split("mine", ("B", "A"), ("C+D",), ("É",), seed=7, kind="by hand")
    path = tmp_path / "folder" / "mine.json"
    split.write(path)
    assert Split.read(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["mine.json"]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["train"] == ["B", "A"]
    assert content["pertscale"]["hash"] == split.hash


def test_a_changed_file_is_noticed(tmp_path):
    path = tmp_path / "s.json"
    Split("s", ("A", "B"), ("C",)).write(path)
    path.write_text(path.read_text().replace('"B"', '"X"'))
    with pytest.raises(InputError, match="changed after it was written"):
        Split.read(path)


def test_files_of_other_tools(tmp_path):
    path = tmp_path / "norman_seed1.json"
    content = {
        "train": ["ctrl", "A+ctrl", "ctrl+B", "D+C"],
        "test": ["A+B", "HLA-A+ctrl"],
        "val": ["B_C+ctrl"],
    }
    path.write_text(json.dumps(content))
    split = Split.read(path)
    assert split.train == ("A", "B", "C+D")
    assert split.test == ("A+B", "HLA-A")
    assert (split.name, split.kind) == ("norman_seed1", "file")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('{"train": ["A"], "te', CorruptFileError, "not JSON"),
        ("[]", InputError, "JSON object"),
        ('{"train": ["A"]}', InputError, "missing: .*'test'"),
        ('{"train": ["A"], "test": ["B"], "dev": ["C"]}', InputError, "not understood: .*'dev'"),
        ('{"train": "A", "test": ["B"]}', InputError, "'train' has to be a list"),
        ('{"train": ["A", 1], "test": ["B"]}', InputError, "entry 1 is 1"),
        ('{"train": ["A"], "test": ["A+ctrl"]}', InputError, "'train' and in 'test'"),
        ('{"train": ["A"], "test": ["B"], "pertscale": {}}', InputError, "needs 'name'"),
    ],
)
def test_bad_files(tmp_path, text, error, words):
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(error, match=words):
        Split.read(path)


def test_a_name_that_is_none_in_a_file_of_other_tools(tmp_path):
    path = tmp_path / "s.json"
    path.write_text('{"train": ["A+ctrl", "+"], "test": ["B+ctrl"]}')
    with pytest.raises(InputError, match=r"'\+' names no perturbation.*s\.json"):
        Split.read(path)


@pytest.mark.parametrize(("key", "value"), [("name", 0), ("seed", -1), ("kind", [])])
def test_a_record_of_the_wrong_type_names_the_file(tmp_path, key, value):
    path = tmp_path / "s.json"
    Split("s", ("A",), ("B",)).write(path)
    content = json.loads(path.read_text())
    record = next(v for v in content.values() if isinstance(v, dict))
    record[key] = value
    path.write_text(json.dumps(content))
    with pytest.raises((InputError, ArgumentError), match=r"s\.json"):
        Split.read(path)


def test_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match=r"nothing\.json"):
        Split.read(tmp_path / "nothing.json")
