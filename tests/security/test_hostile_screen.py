"""A screen whose every name is an attack goes from ingest to a report, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import anndata
import matplotlib as mpl
import pandas as pd
import pytest

import pertscale as ps
from pertscale.perturbation_names import left_out_reason
from pertscale.report.figures.style import STYLE, short, to_svg
from tests.support import hostile
from tests.support.helpers import tree_hash

pytestmark = pytest.mark.once

METHODS = ["majority_vote", "oracle", "no_change", "mean", "additive"]
TASKS = {"within", "single", "double", "interactions", "transfer"}
#: Labels that say that there is no perturbation, by the grammar of labels.
NO_LABELS = {name for name in hostile.NAMES if left_out_reason(name)}
_CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
)


@dataclass(frozen=True)
class Case:
    """The screen as it was written, what came of it, and what stood beside it before."""

    folder: Path
    obs: pd.DataFrame
    screen: ps.Screen
    result: ps.BenchmarkResult
    before: dict[str, str]


def run(folder: Path) -> ps.BenchmarkResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font does not have
        return ps.run_benchmark(
            folder / "in/screen.zarr",
            out=folder / "in/out",
            methods=METHODS,
            settings=["full"],
            split=folder / "in/split.json",
            quiet=True,
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """`in/out` is the output folder; what `../..` of it would be is watched."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "in").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = hostile.write_screen(folder / "in/screen.h5ad")
    ps.io.check(folder / "in/screen.h5ad")
    ps.io.ingest(folder / "in/screen.h5ad", folder / "in/screen.zarr", quiet=True)
    screen = ps.open_screen(folder / "in/screen.zarr")
    names = list(screen.perturbations)
    test = [*names[::4]]
    split = ps.Split("../../x", [n for n in names if n not in test], test)
    split.write(folder / "in/split.json")
    before = tree_hash(folder)
    return Case(folder, obs, screen, run(folder), before)


# --- nothing is lost ------------------------------------------------------------------------------


def test_every_cell_is_in_the_store_or_in_the_drops(case):
    drops = case.result.drops
    dropped = drops[drops["kind"] == "cell"]
    assert case.screen.n_cells + len(dropped) == len(case.obs) == case.screen.info["n_input"]
    assert (dropped["reason"] != "").all()
    assert set(dropped["label"]) == {*NO_LABELS, "", "unassigned", "G1+doublet", "G1"}
    kept = set(case.screen.obs["source_row"])
    assert kept.isdisjoint(dropped["row"])
    assert kept | set(dropped["row"]) == set(range(len(case.obs)))


def test_names_come_back_exactly(case):
    names = {n for n in hostile.NAMES if n not in NO_LABELS}
    labels = case.result.labels
    assert set(labels.contexts) == set(case.screen.contexts) == set(hostile.CONTEXTS)
    for context in hostile.CONTEXTS:
        mine = labels.perturbations[labels.perturbations["context"] == context]
        singles = {n for n in mine["perturbation"] if n not in hostile.doubles()}
        assert singles == names
    source = anndata.read_h5ad(case.folder / "in/screen.h5ad").obs
    stored = case.screen.obs
    assert list(stored.index) == list(source.index[stored["source_row"]])
    for column in ("perturbation_source", "cell_line"):
        original = source[column.removesuffix("_source")].astype(str)
        assert list(stored[column].astype(str)) == list(original.iloc[stored["source_row"]])


def test_genes_are_all_kept_with_names_of_their_own(case):
    wanted = hostile.genes()
    first, second = len(hostile.NAMES), len(hostile.NAMES) + 1
    wanted[first], wanted[second], wanted[second + 1] = f"{wanted[0]}-1", "TP53-1", "unnamed"
    assert list(case.screen.genes) == wanted
    assert list(case.result.labels.genes) == wanted
    assert any("have no name" in line for line in case.screen.info["account"])


def test_scores_and_splits_speak_of_the_same_names(case):
    scores, split = case.result.scores, ps.Split.read(case.folder / "in/split.json")
    assert set(scores["context"]) == set(hostile.CONTEXTS)
    assert set(scores["task"]) == TASKS
    assert set(scores["split"]) == {"../../x"}
    each = scores[(scores["level"] == "perturbation") & (scores["task"] == "within")]
    assert set(each["group"]) == set(split.test)
    for context in hostile.CONTEXTS:
        assert case.result.splits[context]["../../x"].hash == split.hash


def test_a_context_with_commas_is_one_context(case):
    transfer = case.result.scores.query("task == 'transfer'")
    assert set(transfer["train_contexts"]) == set(hostile.CONTEXTS)


def test_columns_have_folders_of_their_own_on_any_file_system(case):
    columns = [*case.screen.obs.columns, case.screen.obs.index.name]
    assert len({c.casefold() for c in columns}) == len(columns)
    assert len(columns) >= len(hostile.COLUMNS)
    wrong = re.compile(r'[/\\\\<>:"|?*\x00-\x1f]|^[. ]|[. ]$|^zarr\.json$|^CON$', re.IGNORECASE)
    assert [c for c in columns if wrong.search(c) or len(c.encode()) > 255] == []
    dataset = case.screen.to_xarray()
    assert list(dataset["gene"].values) == list(case.screen.genes)
    assert dataset.sizes == {"cell": case.screen.n_cells, "gene": case.screen.n_genes}


# --- nothing leaves the output folder -------------------------------------------------------------


def test_nothing_is_written_outside_of_the_output_folder(case):
    now = tree_hash(case.folder)
    assert {k: v for k, v in now.items() if not k.startswith("in/out/")} == case.before
    out = case.folder / "in/out"
    assert [p for p in out.rglob("*") if p.is_symlink()] == []
    folders = [u["folder"] for k in ("units", "expression") for u in case.result.manifest[k]]
    assert folders
    for folder in folders:
        assert ".." not in Path(folder).parts
        assert (out / folder / "unit.json").is_file()
    names = [p.name for p in out.rglob("*")]
    assert max(len(name) for name in names) < 100


def test_run_again_nothing_is_computed_again(case, monkeypatch):
    monkeypatch.setattr("pertscale.report.write_report", lambda *_: None)
    again = run(case.folder)
    timings = again.timings
    steps = timings[timings["stage"].isin(["labels", "method", "model", "expression"])]
    assert len(steps) > 10
    assert steps["reused"].all()
    pd.testing.assert_frame_equal(again.scores, case.result.scores)


# --- the report -----------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects what a page could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag, attrs):
        self._in_title = tag == "title"
        if tag in ("script", "iframe", "img", "object", "embed", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            # pictures of points are drawn into the page
            inline = (value or "").startswith(("#", "data:image/png"))
            if name.startswith("on") or (name in ("href", "src", "xlink:href") and not inline):
                self.found.append(f"{tag} {name}={value}")

    def handle_data(self, data):
        self.title += data if self._in_title else ""

    def handle_endtag(self, tag):
        self._in_title = False


def looked_at(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_the_report_has_nothing_to_run(case):
    html = case.result.report.read_text()
    page = looked_at(html)
    assert [f for f in page.found if not f.startswith("image ")] == []
    assert page.title == "pertscale: screen.zarr"
    for name in (hostile.MARKUP[0], hostile.CONTEXTS[0]):
        assert name not in html
    assert "&lt;svg onload" in html
    looked = looked_at(case.screen._repr_html_() + case.result._repr_html_())
    assert looked.found == []
    looked = looked_at(ps.Split(hostile.MARKUP[0], hostile.MARKUP[1:4], ["x"])._repr_html_())
    assert looked.found == []


@pytest.fixture
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing = "no Chromium to open the report in: install Debian's package chromium"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def test_a_browser_runs_nothing_of_it(case, browser, tmp_path):
    """Also without the page's own policy, which forbids scripts: the escapes have to do alone."""
    html = case.result.report.read_text()
    bare = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", html)
    assert bare != html
    control = f"<!DOCTYPE html><title>no</title>{hostile.MARKUP[0]}"
    titles = {}
    for name, page in {"as it is": html, "bare": bare, "control": control}.items():
        path = tmp_path / "page.html"
        path.write_text(page)
        dom = opened(browser, path, tmp_path / name.replace(" ", "-"))
        titles[name] = looked_at(dom).title
        if name != "control":
            assert [f for f in looked_at(dom).found if not f.startswith("image ")] == []
    assert titles["control"] == hostile.MARK  # this browser does run scripts
    assert titles["as it is"] == titles["bare"] == "pertscale: screen.zarr"


def opened(browser: str, page: Path, profile: Path) -> str:
    """Return the page as it is after all scripts that it runs."""
    command = [browser, *_CHROMIUM, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("name", ["$\\frac{$", "$x^2$", "\\$", "a\nb", "_x", "-->", "<b>&", "]]>"])
def test_names_in_figures_are_text(name):
    with mpl.rc_context(STYLE):
        figure = mpl.figure.Figure()
        axis = figure.subplots()
        axis.plot([0, 1], label=short(name))
        axis.set_title(f"{short(name)}, {short(name)}")
        axis.legend()
    svg = to_svg(figure, name="x")
    assert svg.count("-->") == svg.count("<!--")
    texts = [t.get_text() for t in axis.get_legend().get_texts()]
    assert len(texts) == 1, "it is in the legend"
    assert not mpl.cbook.is_math_text(texts[0])
    assert "<b>" not in svg
