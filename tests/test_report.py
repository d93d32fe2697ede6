"""The report: one page that loads nothing, escapes everything, and says what the tables say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import anndata
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.evaluation import at_operating_point
from pertscale.report import figures, write_report
from pertscale.report.findings import findings
from pertscale.report.page import p_value_counts
from pertscale.report.tables import number, overview, plain_table

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
    # cells; p-values
    assert parsed(page).tags.count("svg") == 2 * (1 + 5 + 1) + 4
    for text in ("alpha", "beta", "1 cells, min_cells=2", "control labels by their names"):
        assert text in page


def test_numbers_are_those_of_the_scores(finished, page):
    within = at_operating_point(finished.scores).query("task == 'within'")
    scores = within.query("level == 'overall' and context == 'beta' and setting == 'full'")
    table = overview(within, context="beta", setting="full")
    values = scores.query("method == 'knn_10' and metric == 'macro_f1'")["value"]
    expected = f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
    row = next(r for r in table.rows if r[0] == "knn_10")
    assert row[3] == expected
    assert f">{expected}</td>" in page


def test_p_values_are_all_counted(finished):
    counts = p_value_counts(finished.labels)
    frame = finished.labels.to_pandas(context="alpha", columns=["p_value"])
    expected = np.histogram(frame["p_value"], bins=50, range=(0, 1))[0]
    np.testing.assert_array_equal(counts["alpha"], expected)


def test_same_input_same_page(finished, example, page):
    write_report(finished, example.screen)
    assert finished.report.read_text() == page


def test_store_is_gone(finished, example):
    write_report(finished, None)
    try:
        assert "was not at hand" in finished.report.read_text()
    finally:
        write_report(finished, example.screen)


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


def test_findings_follow_from_the_scores():
    def rows(setting, **values):
        return [
            {"task": "within", "context": "k", "setting": setting, "method": m,
             "operating_point": point, "level": "overall", "metric": metric, "value": v * factor}
            for m, v in values.items()
            for point, factor in (("as_called", 1), ("at_training_rate", 2))
            for metric in ("macro_f1", "balanced_accuracy")
        ]  # fmt: skip

    scores = pd.DataFrame(
        rows("full", majority_vote=0.33, knn_1=0.4, oracle=1.0)
        + rows("curated", majority_vote=0.7, knn_1=0.6, oracle=1.0)
    )
    lines = findings(scores)
    assert "full: the best macro F1 is 0.400, by knn_1" in " ".join(lines)
    assert "curated: the best macro F1 is 0.700, by majority_vote" in " ".join(lines)
    assert any("how pairs are chosen" in line for line in lines)
    even = scores.assign(value=scores["value"].where(scores["method"] != "majority_vote", 0.5))
    assert not any("how pairs are chosen" in line for line in findings(even))
    same = pd.DataFrame(rows("full", majority_vote=0.33, knn_1=0.33, oracle=0.33))
    assert findings(same) == ["k, full: all methods have the same macro F1, 0.330."]
    errors = {"additive": 1.0, "mean": 2.5, "no_change": 2.0}
    rows_of_errors = [
        {"task": "double", "setting": "top_expressed", "context": "k", "method": m,
         "operating_point": "", "level": "overall", "metric": "l2", "value": v}
        for m, v in errors.items()
    ]  # fmt: skip
    assert findings(pd.DataFrame(rows_of_errors)) == [
        "k, held-out doubles: the smallest mean error is 1.000, by additive; "
        "2.500 by mean, 2.000 by no_change."
    ]


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
    drawn = [figures.cells_per_perturbation(perturbations, contexts=contexts) for _ in range(2)]
    first, second = (figures.to_svg(figure, name="cells") for figure in drawn)
    assert first.startswith("<svg")
    assert first == second
    assert len(drawn[0].axes) == 12
