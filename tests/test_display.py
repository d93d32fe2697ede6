"""How objects look in a notebook: what is on the cards, what is escaped, and what they cost."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import zarr
from markupsafe import Markup

import pertscale as ps
from pertscale import display
from pertscale.evaluation import at_operating_point
from pertscale.results import card
from pertscale.results.summaries import score_tables
from pertscale.stats.labels import LabelTable

pytestmark = pytest.mark.usefixtures("without_report")

HOSTILE = "<script>alert(1)</script>"


class _Balanced(HTMLParser):
    """Checks that every tag is closed, in its order, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data + " "


def look(thing) -> str:
    """Return the text of a card, once its html is known to be sound."""
    page = thing._repr_html_()
    parser = _Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.tags[0] == "div"
    assert "script" not in parser.tags
    return re.sub(r"\s+", " ", parser.text)


@pytest.fixture(scope="module")
def result(example, tmp_path_factory):
    methods = ["majority_vote", "all_non_de", "oracle", "no_change", "mean"]
    return ps.run_benchmark(
        example.screen,
        out=tmp_path_factory.mktemp("cards") / "run",
        methods=methods,
        tasks=["within", "single", "double"],
        seed=[0, 1],
        quiet=True,
    )


# --- building blocks ------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not():
    page = display.card(
        "Thing",
        HOSTILE,
        display.facts({HOSTILE: HOSTILE, "left out": None, "too": ""}),
        display.table([HOSTILE], [[HOSTILE]]),
        display.details(HOSTILE, HOSTILE),
        display.bullets([HOSTILE]),
        display.line(HOSTILE, Markup("<em>ours</em>")),
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 9
    assert "<em>ours</em>" in page
    assert "left out" not in page


def test_bars_are_shares():
    widths = re.findall(r"width:([\d.]+)%", display.bar({"down": 1, "non_de": 0, "up": 3}))
    assert widths == ["25.00", "75.00"]
    assert re.findall(r"width:([\d.]+)%", display.bar({"main": 1}, whole=4)) == ["25.00"]
    for empty in ({}, {"up": 0}, {"up": np.nan}):
        assert "width" not in display.bar(empty)


def test_sizes_and_lists():
    assert [display.n_bytes(n) for n in (0, 999, 2_230_000, 1.5e12)] == [
        "0 bytes",
        "999 bytes",
        "2.23 MB",
        "1.5 TB",
    ]
    assert display.first_few(["a", "b"]) == "a, b"
    assert display.first_few(["a"] * 1000, 2) == "a, a, … (1,000 in all)"


def test_links_are_relative_and_no_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 'href="./run/report.html"' in display.link(tmp_path / "run" / "report.html", "report")
    assert 'href="./javascript%3A1/a%22b"' in display.link(tmp_path / "javascript:1" / 'a"b', "x")
    assert "href" not in display.link("s3://bucket/run/report.html", "report")
    assert display.shown_path("s3://bucket/run") == "s3://bucket/run"
    assert "href" not in display.link(tmp_path.parent / "report.html", "report")


# --- the cards ------------------------------------------------------------------------------------


def test_screen(example):
    text = look(example.screen)
    n_cells, n_genes = example.screen.shape
    assert f"{n_cells:,} cells × {n_genes:,} genes" in text
    for context in example.screen.contexts:
        assert f" {context} " in text
    assert "raw counts" in text
    assert "kB" in text
    assert "how the source was read" in text


def test_screen_with_many_contexts_folds_them(example):
    groups = pd.concat(
        [example.screen.groups.assign(context=f"line {i}") for i in range(30)], ignore_index=True
    )
    screen = ps.Screen(example.screen.path, example.screen.genes, groups, example.screen.info)
    text = look(screen)
    assert "22 more contexts" in text
    assert "line 29" in text


def test_screen_reads_no_values(example, monkeypatch):
    screen = ps.open_screen(example.screen.path)
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda *_: pytest.fail("read values"))
    look(screen)


def test_labels(result):
    text = look(result.labels)
    for row in result.labels.summary().itertuples():
        assert f"{row.context} {row.down_percent:.2f} {row.non_de_percent:.2f}" in text
    assert "test = mannwhitney" in text
    assert "not tested 1 perturbations: 1 with 1 cells, min_cells=2" in text
    strongest = result.labels.perturbations.eval("n_up + n_down").idxmax()
    assert result.labels.perturbations["perturbation"][strongest] in text


def test_labels_read_no_pairs(result, monkeypatch):
    labels = ps.read_labels(result.path)
    for name in ("parts", "_read", "_dataset", "_files"):
        monkeypatch.setattr(LabelTable, name, lambda *_, **__: pytest.fail("read pairs"))
    monkeypatch.setattr(LabelTable, "frame", property(lambda self: pytest.fail("read pairs")))
    look(labels)


def test_labels_in_memory_and_empty():
    pairs = pd.DataFrame({"perturbation": [HOSTILE], "gene": ["G"], "label": np.int8([1])})
    labels = LabelTable.from_pairs(pairs, context=HOSTILE, options={HOSTILE: HOSTILE})
    assert HOSTILE in look(labels)
    assert "in memory" in look(labels)
    assert "–" in look(LabelTable.from_pairs(pairs[:0], context="none"))


def test_split():
    split = ps.Split(HOSTILE, ("A", "B", "C"), (HOSTILE,), seed=7)
    text = look(split)
    assert f"Split {HOSTILE}" in text
    assert f"train 3 A, B, C test 1 {HOSTILE} val 0" in text
    assert f"seed 7 hash {split.hash[:12]}" in text
    assert re.findall(r"width:([\d.]+)%", split._repr_html_()) == ["75.00", "25.00"]


def test_embedding():
    matrix = np.array([[1.0, 0], [0, 0]])
    text = look(ps.Embedding(HOSTILE, (HOSTILE, "B"), matrix, {"file": HOSTILE}))
    assert "2 names, 2 dimensions" in text
    assert "without a vector 1" in text


def test_predictions(tmp_path):
    frame = pd.DataFrame({"G1": [0.5], "G2": [1.0]}, index=["A+ctrl"])
    frame.to_csv(tmp_path / "<script>.csv", index_label="condition")
    text = look(ps.read_predictions(tmp_path / "<script>.csv", context=HOSTILE))
    assert "to be proved against a screen" in text
    assert f"{HOSTILE} any 1 2" in text


# --- a result -------------------------------------------------------------------------------------


def test_result(result):
    text = look(result)
    context = result.labels.contexts[0]
    assert f"Classes, as called: {context}, full (means of 2 splits)" in text
    assert f"Expression: {context}, single, top_expressed (means of 2 splits)" in text
    assert "holdout-seed0" in text
    assert "skipped, and why" in text
    scores = at_operating_point(result.summary()).query("context == @context and setting == 'full'")
    assert scores.set_index("method").loc["majority_vote", "macro_f1"].rstrip("*") in text


def test_only_what_stands_out_is_bold(result):
    """Of three held-out perturbations nothing does; else what is not worse than the best."""
    assert '<td class="t"><strong>' not in result._repr_html_()
    assert "<td><strong>" not in result._repr_html_()
    rows = pd.DataFrame(
        {
            "task": "single",
            "setting": "top_expressed",
            "context": "k562",
            "train_contexts": "k562",
            "method": ["oracle", "mean", "linear"],
            "operating_point": "",
            "level": "overall",
            "group": "",
            "metric": "l2",
            "value": [0.0, 1.02, 2.0],
            "low": [0.0, 0.9, 1.8],
            "high": [0.0, 1.1, 2.2],
            "least": 0.0,
            "most": 3.0,
            "in_best_set": [None, True, False],
            "can_tell": None,
        }
    )
    assert re.findall("<strong>(.*?)</strong>", card._score_rows(rows, ("l2",))) == [
        "1.020 [0.900, 1.100]"
    ]
    both = rows.assign(in_best_set=[None, True, True])
    assert "strong" not in card._score_rows(both, ("l2",))


def test_the_findings_lead(result):
    text = look(result)
    assert result.findings
    for line in result.findings:
        assert f"* {line}" in repr(result)
        assert " ".join(line.split()) in text


def test_result_reads_overall_scores_only(result):
    again = ps.read_result(result.path)
    look(again)
    repr(again)
    assert {"scores", "drops", "interactions", "coverage"}.isdisjoint(vars(again))
    pd.testing.assert_frame_equal(
        again.overall.reset_index(drop=True),
        result.scores.query("level == 'overall'").reset_index(drop=True),
    )
    again.scores  # noqa: B018
    assert [t.title for t in score_tables(again.overall, again.averages)] == [
        "Classes, as called",
        "Expression",
    ]


def test_result_whose_folder_is_gone(result, tmp_path):
    copy = ps.read_result(shutil.copytree(result.path, tmp_path / "<script>"))
    shutil.rmtree(copy.path)
    assert "is gone" in look(copy)
    assert "is gone" in repr(copy)


def test_result_without_any_score(example, tmp_path):
    empty = ps.run_benchmark(example.screen, out=tmp_path / "run", tasks=[], quiet=True)
    assert "no method was scored" in look(empty)
    repr(empty)
