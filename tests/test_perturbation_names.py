"""Spellings of perturbations: controls, combinations, guides of one target."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertscale.errors import InputError
from pertscale.guide_names import target_group
from pertscale.perturbation_names import (
    Grammar,
    is_control_word,
    is_suggested_control,
    is_unassigned_word,
    known_targets,
    left_out_reason,
    name_of,
    resolve,
    targets,
)
from tests.support.helpers import real_data

KNOWN = frozenset({"A", "B", "C", "KLF1", "MAP2K6", "HLA-A", "NKX2-1", "STX16-NPEPL1", "X,Y"})
GRAMMAR = Grammar(KNOWN | {"STX16", "NPEPL1"}, frozenset({"non-targeting", "NT-1"}))


@pytest.mark.parametrize(
    "word",
    [
        "control",
        "ctrl",
        "CTRL",
        "non-targeting",
        "non_targeting",
        "Non-Targeting",
        "NT",
        "NT-1",
        "NT-17",
        "NT3",
        "NTg7",
        "NTC",
        "NTC_4",
        "NegCtrl0",
        "NegCtrl10",
        "neg_ctrl",
        "Scrambled",
        "negative_control",
        "safe-targeting",
        "scramble",
        "unperturbed",
        "control_nontargeting",
        "non-targeting_00025",
        "nontargeting",
    ],
)
def test_clear_control_words(word: str) -> None:
    assert is_control_word(word)
    assert not is_unassigned_word(word)


@pytest.mark.parametrize(
    "word",
    [
        "AAVS1",
        "GFP",
        "INTERGENIC123",
        "DMSO",
        "[('DMSO_TF', 0.0, 'uM')]",
        "mCherry",
        "LacZ",
        "luciferase",
        "vehicle",
        "62(mod)",
        "63(mod)_pBA581",
        "Gal4-4(mod)_pBA582",
    ],
)
def test_words_that_are_control_in_some_screens_are_only_suggested(word: str) -> None:
    assert is_suggested_control(word)
    assert not is_control_word(word)


@pytest.mark.parametrize(
    "gene",
    ["NTS", "NT5E", "NTRK1", "WT1", "CTRB1", "STAT1", "NKX2-1", "LUC7L", "GAL", "A", "NEGR1"],
)
def test_genes_that_look_alike_are_no_controls(gene: str) -> None:
    assert not is_control_word(gene)
    assert not is_suggested_control(gene)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("nan", "missing"),
        ("None", "missing"),
        ("", "missing"),
        ("  ", "missing"),
        ("unassigned", "unassigned"),
        ("Unknown", "unassigned"),
        ("Negative", "unassigned"),
        ("*", "unassigned"),
        ("no-guide", "unassigned"),
        ("Doublet", "multiplet"),
        ("multiplet", "multiplet"),
        ("ambiguous", "multiplet"),
        ("STAT1", None),
        ("control", None),
    ],
)
def test_labels_that_are_never_control(word: str, reason: str | None) -> None:
    assert left_out_reason(word) == reason
    assert is_unassigned_word(word) == (reason is not None)
    if reason is not None:
        assert not is_control_word(word)
        assert GRAMMAR.parse(word) is None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("A", ("A",)),
        ("A+B", ("A", "B")),
        ("B+A", ("A", "B")),
        (" A + B ", ("A", "B")),
        ("ctrl+A", ("A",)),
        ("A+ctrl", ("A",)),
        ("A+control", ("A",)),
        ("A_control", ("A",)),
        ("A+A", ("A",)),
        ("ctrl", ()),
        ("ctrl+ctrl", ()),
        ("control", ()),
        ("NT-1", ()),
        ("A_B", ("A", "B")),
        ("B-A", ("B-A",)),
        ("A-ctrl", ("A",)),
        ("A_B_C", ("A", "B", "C")),
        ("A|B", ("A", "B")),
        ("A,B", ("A", "B")),
        ("A;B", ("A", "B")),
        ("A & B", ("A", "B")),
        ("KLF1_MAP2K6__KLF1_MAP2K6", ("KLF1", "MAP2K6")),
        ("KLF1_NegCtrl0__KLF1_NegCtrl0", ("KLF1",)),
        ("NegCtrl0_KIAA1804__NegCtrl0_KIAA1804", ("KIAA1804",)),
        ("NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0", ()),
        ("HLA-A", ("HLA-A",)),
        ("NKX2-1", ("NKX2-1",)),
        ("NKX2-1+HLA-A", ("HLA-A", "NKX2-1")),
        ("HLA-A_NKX2-1", ("HLA-A", "NKX2-1")),
        ("STX16-NPEPL1", ("STX16-NPEPL1",)),
        ("X,Y", ("X,Y",)),
        ("X,Y|A", ("A", "X,Y")),
        ("X,Y,A", ("A", "X,Y")),
        ("A_D", ("A_D",)),
        ("D-A", ("D-A",)),
        ("ZAP70_1", ("ZAP70_1",)),
        ("STAT1g2", ("STAT1g2",)),
        ("CPQ_+_97657557.23-P1P2", ("CPQ_+_97657557.23-P1P2",)),
        ("CPQ_+_97657557.23-P1P2|A", ("A", "CPQ_+_97657557.23-P1P2")),
        ("[('drug', 0.5, 'uM')]", ("[('drug', 0.5, 'uM')]",)),
        ("A+non-targeting", ("A",)),
        ("A+nan", ("A",)),
        ("safe-targeting", ("safe-targeting",)),
        ("A+doublet", None),
        ("nan+nan", None),
        ("+", None),
        (" + | ", None),
        ("MYC+", ("MYC+",)),
        ("+MYC", ("+MYC",)),
        ("MYC+/-", ("MYC+/-",)),
        ("ctrl+", ()),
        ("MYC+/++A", ("A", "MYC+/+")),
        ("Ca2++A", ("A", "Ca2+")),
        ("A+Ca2+", ("A", "Ca2+")),
        ("A + + B", ("A", "B")),
        ("(+)-JQ1", ("(+)-JQ1",)),
        ("(+)-JQ1+A", ("(+)-JQ1", "A")),
        ("2i (LIF+MEKi+GSK3i)", ("2i (LIF+MEKi+GSK3i)",)),
        ("D [1,2]|A", ("A", "D [1,2]")),
        ("T (ARRY-380, ONT-380)", ("T (ARRY-380, ONT-380)",)),
        ("1,25-dihydroxyvitamin D3", ("1,25-dihydroxyvitamin D3",)),
        ("N,N-dimethylaniline,A", ("A", "N,N-dimethylaniline")),
        ("A,NKX2-1", ("A", "NKX2-1")),
    ],
)
def test_parse(label: str, expected: tuple[str, ...] | None) -> None:
    assert GRAMMAR.parse(label) == expected


def test_a_chosen_control_may_contain_separators() -> None:
    label = "[('DMSO_TF', 0.0, 'uM')]"
    assert Grammar(frozenset(), frozenset({label})).parse(label) == ()
    assert Grammar(frozenset(), frozenset({"no,guide"})).parse("no,guide") == ()


def test_canonical_of_no_label_is_an_error() -> None:
    with pytest.raises(InputError, match="'Doublet' names no perturbation"):
        GRAMMAR.canonical("Doublet")
    assert GRAMMAR.canonical("ctrl+B") == "B"
    assert GRAMMAR.canonical("ctrl") == "control"


READ_THROUGH = (
    "RPS10-NUDT3",
    "NEDD8-MDP1",
    "RBM14-RBM4",
    "ST20-MTHFS",
    "EEF1E1-BLOC1S5",
    "TXNDC5-BLOC1S5",
)


@pytest.mark.parametrize("halves", [(), ("RPS10", "NUDT3", "NEDD8", "MDP1"), "all"])
def test_read_through_genes_are_one_name_whatever_is_read_out(halves: Iterable[str]) -> None:
    genes = {h for name in READ_THROUGH for h in name.split("-")} if halves == "all" else halves
    for alone in ((), ("RPS10", "RBM4", "BLOC1S5")):
        labels = [*READ_THROUGH, *alone, "MYC", "non-targeting"]
        grammar = Grammar.of(labels, genes, ["non-targeting"])
        assert {name: grammar.parse(name) for name in READ_THROUGH} == {
            n: (n,) for n in READ_THROUGH
        }
    # so they are beside a control or another gene, also where "-" is told to join
    labels = ["RPS10-NUDT3+ctrl", "MYC+RBM14-RBM4", "A-ctrl", "RPS10-MYC", "ctrl"]
    grammar = Grammar.of(labels, ["RPS10", "NUDT3", "RBM14", "RBM4", "MYC", "A"], ["ctrl"])
    found = [grammar.parse(label) for label in labels]
    assert found == [("RPS10-NUDT3",), ("MYC", "RBM14-RBM4"), ("A",), ("MYC", "RPS10"), ()]


@pytest.mark.parametrize(
    ("labels", "joins"),
    [
        (["A", "B", "A-ctrl", "A-B"], True),
        (["ctrl-B", "A-B"], True),
        (["A", "B", "C", "A-B", "B-C", "C-A"], True),
        (["A", "B", "C", "A-B"], False),
        (["A", "B", "A-B", "NKX2-1"], False),
        (["HLA-A_ctrl", "A-B"], False),
    ],
)
def test_hyphens_join_where_other_labels_show_it(labels: list[str], joins: bool) -> None:
    grammar = Grammar.of([*labels, "ctrl"], ["A", "B", "C", "HLA-A"], ["ctrl"])
    assert grammar.hyphens == joins
    assert (grammar.parse("A-B") == ("A", "B")) == joins


def test_an_empty_half_is_nothing_only_where_no_name_stands_alone() -> None:
    pasted = Grammar.of(["A+", "B+", "A+B", "ctrl"], [], ["ctrl"])
    assert [pasted.parse(x) for x in ("A+", "+B", "A+B")] == [("A",), ("B",), ("A", "B")]
    plain = Grammar.of(["A", "Ca2+", "A+B", "ctrl"], [], ["ctrl"])
    assert [plain.parse(x) for x in ("Ca2+", "A")] == [("Ca2+",), ("A",)]


@pytest.mark.needs("perturbqa")
def test_every_gene_of_four_screens_is_one_name() -> None:
    tables = [
        pd.read_csv(path, keep_default_na=False, usecols=["pert", "gene"])
        for path in sorted(real_data("perturbqa").glob("*-de.csv"))
    ]
    everything = set().union(*(set(t["pert"]) | set(t["gene"]) for t in tables))
    for table in tables:
        names = sorted(set(table["pert"]))
        for genes in (set(table["gene"]), {g for g in everything if "-" not in g}):
            grammar = Grammar.of([*names, "ctrl"], genes, ["ctrl"])
            assert [n for n in names if grammar.parse(n) != (n,)] == []


def test_what_another_file_means_follows_from_the_screen() -> None:
    grammar = Grammar.of(["A-B", "B-C", "MYC+"], ["A", "B", "C", "MYC"], [])
    screen = ["A+B", "B-C", "MYC"]
    found = [resolve(label, grammar, screen) for label in ("A-B", "B-C", "MYC+", "ctrl", "D")]
    assert found == ["A+B", "B-C", None, "control", None]


_token = st.one_of(
    st.sampled_from(
        [*sorted(KNOWN), "ctrl", "NT-1", "ZAP70_1", "NegCtrl0", "nan", "CPQ_+_97657557.23-P1P2"]
    ),
    st.text("ABg_-1.", min_size=1, max_size=5),
)


@given(st.lists(_token, min_size=1, max_size=4), st.sampled_from("+|,;&"))
def test_canonical_is_idempotent(tokens: list[str], mark: str) -> None:
    label = mark.join(tokens)
    found = GRAMMAR.parse(label)
    if found is not None:
        canonical = GRAMMAR.canonical(label)
        assert GRAMMAR.canonical(canonical) == canonical
        assert targets(canonical) == found
        assert name_of(found) == canonical


# "X_" and "_1234" joined by "+" spell the strand of a guide: underscores beside "+" belong to it
_inner_token = _token.filter(lambda token: token.strip("_") == token)


@given(st.lists(_inner_token, min_size=1, max_size=4), st.randoms())
def test_order_and_repeats_do_not_matter(tokens: list[str], random: object) -> None:
    shuffled = tokens + tokens[:1]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    if len(tokens) > 1:  # repeating a lone label makes a combination of it
        assert GRAMMAR.parse("+".join(shuffled)) == GRAMMAR.parse("+".join(tokens))


@given(st.text(st.sampled_from("AB+-/(),1 _|"), max_size=12))
def test_the_name_of_what_was_read_says_the_same(label: str) -> None:
    found = GRAMMAR.parse(label)
    if found is not None:
        assert targets(name_of(found)) == found
        assert GRAMMAR.parse(name_of(found)) == found


@given(st.text(max_size=20))
def test_any_text_parses_to_sorted_unique_targets_or_nothing(label: str) -> None:
    found = GRAMMAR.parse(label)
    assert found is None or list(found) == sorted(set(found))


def test_known_targets_come_from_genes_and_plain_labels() -> None:
    known = known_targets(["B_C", "B", "KIAA1804_NegCtrl0", "C+HLA-B", "ctrl", "nan"], ["A"])
    assert known == {"A", "B", "KIAA1804", "C", "HLA-B"}
    assert Grammar(known, frozenset()).parse("B_C") == ("B", "C")


def test_guides_of_one_target_share_a_group() -> None:
    names = [
        "ZAP70_1",
        "ZAP70_2",
        "LCK_1",
        "ZAP70_2+LCK_1",
        "STAT1g2",
        "CPQ_+_97657557.23-P1P2",
        "MYC-D",
        "control",
        "A+B",
    ]
    groups = target_group(names, ["STAT1", "CPQ"])
    assert groups["ZAP70_1"] == groups["ZAP70_2"] == "ZAP70"
    assert groups["LCK_1"] == "LCK_1"  # alone, and no gene: nothing says that it is a guide
    assert groups["ZAP70_2+LCK_1"] == "LCK_1+ZAP70"
    assert groups["STAT1g2"] == "STAT1"
    assert groups["CPQ_+_97657557.23-P1P2"] == "CPQ"
    assert groups["MYC-D"] == "MYC-D"
    assert groups["control"] == "control"
    assert groups["A+B"] == "A+B"
    assert list(groups) == names


def test_genes_whose_names_end_in_numbers_are_no_guides() -> None:
    names = ["NKX2-1", "NKX2-5", "Atg5", "Atg7", "STAT1", "STAT2", "HLA-1", "HLA-2", "AB_1"]
    assert target_group(names, ["AB_1", "AB"]) == {name: name for name in names}


def test_a_stem_that_is_itself_a_label_is_shared() -> None:
    groups = target_group(["ZAP70", "ZAP70_2"], [])
    assert groups == {"ZAP70": "ZAP70", "ZAP70_2": "ZAP70"}
