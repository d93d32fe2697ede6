"""The HTML page: what was run, on what, and what came out."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from pertscale.arguments import checked
from pertscale.baselines.registry import DOCS
from pertscale.report import sections
from pertscale.report.chapters import shown_chapters
from pertscale.report.figures import classes as of_classes
from pertscale.report.figures import style
from pertscale.report.null_tests import null_section
from pertscale.report.tables import (
    Table,
    plain_table,
)
from pertscale.report.trust import reproducibility_table
from pertscale.schema import ACTIVATED, INTERACTIONS, NOT_KNOCKED_DOWN, TRANSFER, VERDICTS
from pertscale.screen import Screen
from pertscale.stats import LabelTable
from pertscale.storage.atomic import write_bytes

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

P_VALUE_BINS = 50
#: Names of a list that the page shows; the tables have all of them.
_NAMES_SHOWN = 5
#: Targets that are not knocked down, of which the page shows so many.
_TARGETS_SHOWN = 50
#: Of a reason: what is left of each target, and what stands for it where reasons are counted.
_WHAT_IS_LEFT, _KEEPS = r"^.*; (?=min_knockdown=)", "the target keeps more of its expression: "
#: With so few cells the test's normal approximation is rough, and hardly any gene can be called.
FEW_CELLS = 25


@checked
def write_report(result: BenchmarkResult, screen: Screen | None) -> None:
    """Write ``report.html`` into the folder of a benchmark.

    Parameters
    ----------
    result : BenchmarkResult
    screen : Screen, optional
        The store the benchmark ran on; without it the section on the screen says that it is gone.

    Notes
    -----
    One file; nothing is loaded from elsewhere, and everything that comes from the data is escaped.
    Memory: the score table, and the p-values of one part of the label table at a time.
    """
    scores = result.means
    alone = not result.screens
    page = _template().render(
        title=result.manifest["options"]["store"],
        findings=result.manifest["findings"],
        chapters=shown_chapters(result),
        screens=[(name, f"screens/{name}/report.html") for name in result.screens],
        coverage=_coverage(result.coverage),
        overview=sections.overview_pictures(result) if alone and screen is not None else [],
        screen=_screen(screen),
        dropped=_dropped(result.drops, screen),
        labels=_labels(result.labels) if alone else None,
        nulls=null_section(result) if alone else None,
        targets=_targets(result.targets) if alone else None,
        reproducibility=reproducibility_table(result.reproducibility) if alone else None,
        skipped=_table(_skipped(result), "What did not run, by reason"),
        methods=_methods(scores[~scores["task"].isin([INTERACTIONS, TRANSFER])]),
        embeddings=result.manifest["embeddings"],
        timings=_timings(result),
        options={k: str(v) for k, v in result.manifest["options"].items()},
        versions=result.manifest["versions"],
        splits=result.manifest["units"],
    )
    write_bytes(result.report, page.encode())


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = files("pertscale.report").joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(text)


def _svg(figure: Any, name: str) -> Markup:
    return Markup(style.to_svg(figure, name=name))  # matplotlib escapes the text


def _table(frame: pd.DataFrame, caption: str, digits: int = 2) -> Table | None:
    return plain_table(frame, caption=caption, digits=digits) if len(frame) else None


# --- sections -----------------------------------------------------------------------------------


def _skipped(result: BenchmarkResult) -> pd.DataFrame:
    """Return what was skipped, a row per reason."""
    return result.skipped_by_reason.rename(columns={"n": "steps"})


def _coverage(coverage: pd.DataFrame) -> Table | None:
    """Say what files, embeddings and other contexts cover; long lists of names are cut."""
    shown = coverage.drop_duplicates()
    for column in ("perturbations_missing", "genes_missing", "not_in_screen"):
        shown = shown.assign(**{column: shown[column].map(_cut)})
    return _table(shown, "What predictions, embeddings, other contexts and a given split cover")


def _cut(names: str) -> str:
    listed = names.split(",")
    return names if len(listed) <= _NAMES_SHOWN else f"{', '.join(listed[:_NAMES_SHOWN])}, …"


def _screen(screen: Screen | None) -> dict[str, Any] | None:
    if screen is None:
        return None
    return {
        "summary": plain_table(screen.summary(), caption="Cells per context", digits=0),
        "shape": f"{screen.n_cells:,} cells, {screen.n_genes:,} genes",
        "scale": screen.scale,
        "account": screen.info["account"],
    }


def _dropped(drops: pd.DataFrame, screen: Screen | None) -> dict[str, Any]:
    """Count by reason, and state the sum that they have to make."""
    counts = drops.groupby(["kind", "reason", "label"], dropna=False).size().rename("number")
    cells = counts[counts.index.get_level_values("kind") == "cell"].reset_index()
    other = counts[counts.index.get_level_values("kind") != "cell"].reset_index()
    other["reason"] = other["reason"].astype(str).str.replace(_WHAT_IS_LEFT, _KEEPS, regex=True)
    other = other.groupby(["kind", "reason"])["number"].sum().reset_index()
    listed = pd.concat([cells, other], ignore_index=True).fillna("")
    listed = listed.sort_values("number", ascending=False, kind="stable").head(50)
    total = None
    if screen is not None:
        n_dropped = int((drops["kind"] == "cell").sum())
        total = (
            f"{screen.n_cells:,} cells kept + {n_dropped:,} left out = "
            f"{screen.info['n_input']:,} read"
        )
    return {"table": _table(listed, "Left out, by reason"), "total": total}


def _labels(labels: LabelTable) -> dict[str, Any]:
    summary = labels.summary()
    disagree = labels.perturbations.groupby("context", sort=False)["n_sign_disagreements"].sum()
    few = (
        labels.perturbations["n_cells"].le(FEW_CELLS).groupby(labels.perturbations["context"]).sum()
    )
    summary[f"perturbations_up_to_{FEW_CELLS}_cells"] = summary["context"].map(few).astype(int)
    summary["sign_disagreements"] = summary["context"].map(disagree).astype(int)
    counts = p_value_counts(labels)
    cells = of_classes.cells_per_perturbation(labels.perturbations, contexts=labels.contexts)
    return {
        "table": plain_table(summary, caption="Pairs and classes per context (Table 1)"),
        "cells": _svg(cells, "cells"),
        "p_values": _svg(of_classes.p_value_histogram(counts), "p-values"),
        "options": {k: str(v) for k, v in labels.options.items()},
    }


def _targets(targets: pd.DataFrame) -> dict[str, Any] | None:
    """Count verdicts per context; list targets that keep their expression, or go up."""
    if not len(targets):
        return None
    by_context = targets.groupby("context", sort=False)
    counts = by_context["verdict"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=list(VERDICTS), fill_value=0).loc[list(by_context.groups)]
    counts.insert(0, "targets", by_context.size())
    counts["median_residual"] = by_context["residual"].median()
    kept = targets[targets["verdict"].isin([NOT_KNOCKED_DOWN, ACTIVATED])]
    kept = kept.sort_values("residual", ascending=False, kind="stable")
    columns = ["context", "perturbation", "target", "residual", "low", "high", "fdr", "n_cells"]
    caption = f"{min(len(kept), _TARGETS_SHOWN):,} of {len(kept):,}, most expression first"
    return {
        "table": plain_table(counts.reset_index(), caption="Targets of perturbations, by verdict"),
        "kept": _table(kept[[*columns, "verdict"]].head(_TARGETS_SHOWN), caption),
        "n_kept": len(kept),
    }


def p_value_counts(labels: LabelTable) -> dict[str, np.ndarray]:
    """Pairs per bin of p-values, per context; reads one part of the table at a time."""
    counts = {}
    for context in labels.contexts:
        total = np.zeros(P_VALUE_BINS, np.int64)
        for part in labels.parts(context, ["p_value"]):
            total += np.histogram(part["p_value"], bins=P_VALUE_BINS, range=(0, 1))[0]
        counts[context] = total
    return counts


def _methods(scores: pd.DataFrame) -> Table | None:
    """Describe each method, with the parameters that it ended with."""
    columns = ["context", "setting", "split", "method", "params"]
    fitted = scores[columns].drop_duplicates()
    fitted = fitted[fitted["setting"] != "full_without_target"]
    fitted.insert(4, "what it is", fitted["method"].map(DOCS).fillna(""))
    return _table(fitted, "Methods as fitted")


def _timings(result: BenchmarkResult) -> Table | None:
    timings = result.timings.query("level == 'stage' and stage != 'report'")  # that is not over
    stages = timings.groupby("stage", sort=False).agg(
        seconds=("seconds", "sum"), steps=("seconds", "size"), reused=("reused", "sum")
    )
    return _table(stages.reset_index(), "Run times, in seconds", digits=1)
