"""What a perturbation is, from its label to the tables: one idea of it in the whole run."""

from __future__ import annotations

import json

import pytest

import pertscale as ps
from pertscale.predictions.given_split import on_screen
from pertscale.report import write_report
from tests.support.screens import screen_of

pytestmark = pytest.mark.usefixtures("without_report")

TARGETS = ["TP53", "MYC", "KLF1", "STAT1", "JAK2", "IRF1"]


@pytest.fixture(scope="module")
def guides(without_report, tmp_path_factory):
    """A run on cells with one or two guides, of one gene or of two, and one with three targets."""
    folder = tmp_path_factory.mktemp("guides")
    alone = [f"{t}_{k}" for t in TARGETS for k in (1, 2)]
    of_one_gene = [f"{t}_1+{t}_2" for t in TARGETS]
    doubles = ["MYC_1+TP53_1", "KLF1_1+JAK2_1", "MYC_2+TP53_2", "IRF1_1+STAT1_1"]
    triples = ["MYC_1+TP53_1+KLF1_1"]
    labels = ["ctrl"] * 60 + [
        n for n in [*alone, *of_one_gene, *doubles, *triples] for _ in range(12)
    ]
    screen = screen_of(folder, labels, TARGETS + [f"G{i}" for i in range(50)])
    return ps.run_benchmark(
        screen,
        out=folder / "r",
        methods=["no_change", "additive"],
        quiet=True,
        tasks=["single", "double", "interactions"],
        seed=1,
    )


def test_the_number_of_targets_makes_a_double(guides):
    doubles = {"MYC_1+TP53_1", "JAK2_1+KLF1_1", "MYC_2+TP53_2", "IRF1_1+STAT1_1"}
    assert set(guides.interactions["perturbation"]) == doubles
    keys = ("context", "task", "split")
    held_out = {
        unit["task"]: set(guides.expression(**{k: unit[k] for k in keys})["perturbation"].values)
        for unit in guides.manifest["expression"]
    }
    assert held_out["double"] <= doubles
    assert held_out["single"] and not held_out["single"] & doubles
    split = guides.splits["s"]["doubles-seed1"]  # the doubles of two genes stay together
    sides = {n: part for part in ("train", "held_out") for n in getattr(split, part)}
    assert sides["MYC_1+TP53_1"] == sides["MYC_2+TP53_2"]


def test_what_has_three_targets_is_no_double_and_said_so(guides):
    skipped = guides.skipped
    row = skipped[skipped["what"] == "double: more than two targets"].iloc[0]
    assert row["reason"].startswith("1 perturbations have more than two targets, such as KLF1_1+")


# --- a split file, and what it does not name ------------------------------------------------------


NAMED = [f"GENE{i}" for i in range(10)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A screen of singles and doubles."""
    folder = tmp_path_factory.mktemp("plain")
    labels = ["ctrl"] * 40 + [n for n in [*NAMED, "GENE0+GENE1"] for _ in range(12)]
    return screen_of(folder, labels, [f"GENE{i}" for i in range(40)])


def split_file(folder, **parts):
    path = folder / "theirs.json"
    path.write_text(json.dumps(parts))
    return path


def test_names_that_a_split_has_and_the_screen_has_not_are_told(
    plain, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("pertscale.report.write_report", write_report)
    test = ["GENE6", "GENE1_GENE0", "OTHER7", "LOST1", "LOST2"]
    path = split_file(tmp_path, train=NAMED[:5], test=test)
    result = ps.run_benchmark(
        plain,
        out=tmp_path / "r",
        split=path,
        methods=["all_non_de"],
        tasks=["within"],
        aliases={"OTHER7": "GENE7"},
    )
    used = result.splits["s"]["theirs"]
    assert used.test == ("GENE6", "GENE0+GENE1", "GENE7")  # another order, and an alias
    row = result.coverage.query("what == 'split'").iloc[0]
    assert row[["name", "context", "split"]].tolist() == ["theirs", "s", "theirs"]
    assert row["not_in_screen"] == "LOST1,LOST2"
    assert row["perturbations_missing"] == "GENE5,GENE8,GENE9"
    assert (row["n_perturbations"], row["n_perturbations_predicted"]) == (11, 8)
    assert row["note"] == "3 perturbations are in no part: not trained on, not scored"
    told = capsys.readouterr().err
    assert "split 'theirs': 2 of its 10 names are no perturbation of the screen" in told
    assert "s: 3 of 11 perturbations are in no part of split 'theirs'" in told
    log = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    named = next(line for line in log if line["event"] == "split_names")
    assert named["not_in_screen"] == ["LOST1", "LOST2"]
    before = [line["event"] for line in log[: log.index(named)]]
    assert "stage" not in before  # at the start
    assert "GENE5" in result.report.read_text()


@pytest.mark.parametrize("run", [ps.run_benchmark, ps.plan_benchmark])
def test_a_split_for_another_screen_is_refused(plain, tmp_path, run):
    train = [*NAMED[:2], *(f"ALIAS{i}" for i in range(4))]
    path = split_file(tmp_path, train=train, test=["GENE9"])
    message = r"4 of its 7 names are no perturbation of the screen, such as ALIAS0.* aliases="
    with pytest.raises(ps.errors.InputError, match=message):
        run(plain, out=tmp_path / "r", split=path, tasks=["within"], quiet=True)
    others = {f"ALIAS{i}": f"GENE{i + 2}" for i in range(4)}  # what the message says
    run(
        plain,
        out=tmp_path / "r",
        split=path,
        tasks=["within"],
        methods=["all_non_de"],
        aliases=others,
        quiet=True,
    )


def test_names_of_one_perturbation_can_not_be_in_two_parts(plain):
    split = ps.Split("s", train=("GENE1_GENE0", "GENE2"), test=("GENE0+GENE1",))
    with pytest.raises(ps.errors.InputError, match=r"'GENE0\+GENE1' in 'train' and in 'test'"):
        on_screen(split, plain, None)
    same = ps.Split("s", train=("GENE3",), test=("GENE0+GENE1",))
    assert on_screen(same, plain, None) is same
