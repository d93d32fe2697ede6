"""The report: one page that loads nothing, escapes everything, and says what the tables say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import anndata
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

import pertscale as ps
from pertscale.report import write_report
from pertscale.report.figures import classes, style
from pertscale.report.page import p_value_counts
from pertscale.report.tables import Heading, class_tables, number, overview, plain_table

pytestmark = pytest.mark.once

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def finished(example, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "run"
    return ps.run_benchmark(example.screen, out=out, seed=[0, 1], quiet=True)


@pytest.fixture(scope="module")
def page(finished):
    return finished.report.read_text()


class Links(HTMLParser):
    """Collects every reference that a browser would follow or load, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action", "srcset") and value:
                self.references.append(value)


def parsed(page):
    links = Links()
    links.feed(page)
    return links


def test_nothing_is_loaded(page):
    assert len(page) > 10_000
    links = parsed(page)
    embedded = ("#", "data:image/png;base64,")  # points of a figure are pixels inside of it
    assert all(reference.startswith(embedded) for reference in links.references)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(links.tags)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert page.startswith("<!DOCTYPE html>")


def test_sections_are_there(page):
    for heading in ("Scores", "Skipped", "The screen", "Labels", "Methods", "The run"):
        assert f">{heading}</h2>" in page
    # bars, five figures of singles and an overview of two contexts; times; how the two agree;
    # cells; p-values, and those of controls against controls
    assert parsed(page).tags.count("svg") == 2 * (1 + 5 + 1) + 5
    for text in ("alpha", "beta", "1 cells, min_cells=2", "control labels by their names"):
        assert text in page


def of_keys(scores, point, metric):
    return (scores["operating_point"] == point) & (scores["metric"] == metric)


def test_numbers_are_those_of_the_scores(finished, page):
    """Of both operating points, with n of N in the heading; the mean, below it the interval."""
    within = finished.means.query("task == 'within'")
    mine = "level == 'overall' and context == 'beta' and setting == 'full' and method == 'knn_10'"
    scores, of_splits = finished.estimates.query(f"task == 'within' and {mine}"), within.query(mine)
    n_intervals = 0
    heading = Heading("full", "3 of 3 held out, 2 splits")
    averages = finished.averages.query("task == 'within'")
    table = overview(within, averages, context="beta", heading=heading)
    row = next(r for r in table.rows if r[0] == "knn_10")
    expected = [
        ("", "auprc_de"),
        ("", "auprc_macro"),
        *(
            (point, metric)
            for point in ("as_called", "at_training_rate")
            for metric in ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
        ),
    ]
    for cell, (point, metric) in zip(row[1:], expected, strict=True):
        score = scores[of_keys(scores, point, metric)].iloc[0]
        text, bounds = f"{score.value:.3f}", f"{score.low:.3f} – {score.high:.3f}"
        n_intervals += np.isfinite(score.low)
        if np.isfinite(score.low):
            assert cell == f"{text} [{score.low:.3f}, {score.high:.3f}]"
        else:  # few target groups make a difference: the range over splits
            values = of_splits.loc[of_keys(of_splits, point, metric), "value"]
            assert cell == f"{text} ({values.min():.3f} to {values.max():.3f})"
            bounds = f"{values.min():.3f} to {values.max():.3f}"
        assert f">{text}<br><small>{bounds}</small></td>" in page
    assert n_intervals > 3
    assert "full (3 of 3 held out, 2 splits), " in page
    assert "alpha: singles, 3 of 3 held out, 2 splits" in page
    by_class = class_tables(within, averages, context="beta", heading=heading)
    assert [t.caption.split(" (")[0] for t in by_class] == [
        "full, as called",
        "full, at the training rate",
    ]


def test_what_was_skipped_is_a_row_for_each_reason(finished, page):
    grouped = finished.skipped_by_reason
    assert len(grouped) == finished.skipped["reason"].nunique() < len(finished.skipped)
    assert grouped["n"].sum() == len(finished.skipped)
    additive = grouped[grouped["reason"].str.startswith("it can predict none")]
    assert list(additive["what"]) == ["additive"]
    assert list(additive["context"]) == ["alpha, beta"]
    assert page.count("it can predict none of the held-out perturbations") == 1
    assert '<a href="#skipped">' in page


def test_targets_are_counted_and_those_that_stay_are_listed(example, finished, page, tmp_path):
    counts = finished.targets["verdict"].value_counts()
    assert counts["knocked_down"] > 10
    cells = [f"{counts.get(name, 0)}" for name in ("not", "activated")]
    n_kept = sum(map(int, cells))
    assert "Targets of perturbations, by verdict" in page
    assert (f"Targets that are not knocked down ({n_kept})" in page) == (n_kept > 0)
    strict = tmp_path / "strict"
    how = {"tasks": ["within"], "methods": ["majority_vote"], "settings": ["full"], "seed": 0}
    left = ps.run_benchmark(example.screen, out=strict, min_knockdown=0.95, quiet=True, **how)
    n = left.drops["reason"].str.contains("min_knockdown").sum()
    assert n > 5
    (row,) = re.findall(r"the target keeps more of its expression.*?</tr>", left.report.read_text())
    assert f">{n}<" in row


def test_p_values_are_all_counted(finished):
    counts = p_value_counts(finished.labels)
    frame = finished.labels.to_pandas(context="alpha", columns=["p_value"])
    expected = np.histogram(frame["p_value"], bins=50, range=(0, 1))[0]
    np.testing.assert_array_equal(counts["alpha"], expected)


def test_same_input_same_page(finished, example, page, monkeypatch):
    """And all figures of a task read the predictions of each of its two splits once."""
    opened = []
    expression = type(finished).expression
    monkeypatch.setattr(
        type(finished),
        "expression",
        lambda self, **of: (opened.append(of), expression(self, **of))[1],
    )
    write_report(finished, example.screen)
    assert finished.report.read_text() == page
    for context in ("alpha", "beta"):
        assert sum(of["context"] == context for of in opened) == 2


def test_store_is_gone(tiny_store, tmp_path):
    """Few figures: they are drawn twice."""
    few = {"tasks": ["within"], "settings": ["full"], "methods": ["majority_vote"], "seed": 0}
    result = ps.run_benchmark(tiny_store, out=tmp_path / "run", quiet=True, **few)
    assert "was not at hand" not in result.report.read_text()
    write_report(result, None)
    assert "was not at hand" in result.report.read_text()


def test_names_from_the_data_are_only_text(tmp_path):
    random = np.random.default_rng(0)
    labels = random.choice(["control", HOSTILE, "$x_1$", "a&b;c", "B", "C"], 600)
    counts = random.poisson(3.0, (600, 40))
    counts[labels == "B", :20] *= 3
    data = anndata.AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame(
            {"perturbation": labels, "cell_line": f"line {HOSTILE}"},
            index=[f"c{i}" for i in range(600)],
        ),
        var=pd.DataFrame(index=[HOSTILE, "a&b;c", *(f"g{i}" for i in range(38))]),
    )
    data.write_h5ad(tmp_path / "hostile.h5ad")
    result = ps.run_benchmark(tmp_path / "hostile.h5ad", quiet=True, seed=0)
    page = result.report.read_text()
    assert "script" not in parsed(page).tags
    assert "&lt;script&gt;" in page
    assert all(result.path in p.parents for p in result.path.rglob("*"))


def test_nothing_was_run(example, tmp_path):
    """All but one perturbation left out: everything is skipped, and the page says so."""
    result = ps.run_benchmark(example.screen, out=tmp_path, min_cells=1000, quiet=True)
    page = result.report.read_text()
    assert len(result.scores) == 0
    assert "No method was run" in page
    assert "all methods" in page


def test_the_lead_is_the_findings(finished, page):
    assert finished.findings
    for line in finished.findings:
        assert f"<li>{escape(line)}</li>" in page
    assert finished.manifest["findings"] == finished.findings


def test_a_context_without_changes_is_one_sentence(tmp_path):
    """No tables and no bars of classes; its expression is scored."""
    random = np.random.default_rng(0)
    names = ["control", *(f"g{i}" for i in range(6))]
    labels = np.array([f"{c}:{n}" for c in ("flat", "real") for n in names for _ in range(40)])
    context, name = (np.array([part.split(":")[i] for part in labels]) for i in (0, 1))
    counts = random.poisson(4.0, (len(labels), 20)) + 1
    for i in range(6):
        counts[(context == "real") & (name == f"g{i}"), i : i + 3] *= 5
    data = anndata.AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame({"perturbation": name, "cell_line": context}).set_index(
            pd.Index([f"c{i}" for i in range(len(labels))])
        ),
        var=pd.DataFrame(index=[f"g{i}" for i in range(20)]),
    )
    data.write_h5ad(tmp_path / "s.h5ad")
    result = ps.run_benchmark(
        tmp_path / "s.h5ad",
        out=tmp_path / "run",
        seed=0,
        quiet=True,
        tasks=["within", "single", "transfer"],
        methods=["majority_vote", "no_change", "mean"],
    )
    why = "flat: no DE gene among 6 perturbations, 40 cells each; classes can't be scored."
    assert why in result.findings
    page = result.report.read_text()
    assert page.count(escape(why)) == 2  # in the lead, and in place of tables
    scores = result.scores
    assert set(scores.loc[scores["task"] == "within", "context"]) == {"real"}
    assert set(scores.loc[scores["task"] == "single", "context"]) == {"flat", "real"}
    of_classes = scores[(scores["task"] == "transfer") & (scores["metric"] == "macro_f1")]
    assert set(of_classes["context"]) == {"real"}  # trained on flat, which can be
    assert result.skipped.query("what == 'classes'")["context"].tolist() == ["flat"]


def test_tables():
    frame = pd.DataFrame({"a_name": ["x"], "n": [12345], "share_percent": [np.nan], "ok": [True]})
    table = plain_table(frame, caption="c")
    assert table.rows == (("x", "12,345", "–", "yes"),)
    assert table.columns == ("a name", "n", "share %", "ok")
    assert table.numeric == (False, True, True, False)
    assert number(float("inf")) == "–"


def test_many_contexts_and_methods_are_drawn():
    contexts = [f"a rather long name of a cell line, number {i}" for i in range(12)]
    perturbations = pd.DataFrame({"context": contexts, "n_cells": range(1, 13)})
    drawn = [classes.cells_per_perturbation(perturbations, contexts=contexts) for _ in range(2)]
    first, second = (style.to_svg(figure, name="cells") for figure in drawn)
    assert first.startswith("<svg")
    assert first == second
    assert len(drawn[0].axes) == 12
