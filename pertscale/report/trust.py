"""How far labels can be trusted, as tables: by cells and effects, and between halves of cells."""

from __future__ import annotations

from typing import Final

import pandas as pd

from pertscale.baselines.registry import FLOORS_ON_HALVES, REFERENCES, REPLICATE
from pertscale.report.tables import MISSING, Table, number
from pertscale.schema import CLASS_NAMES

#: Metric that strata are shown by; strata.parquet has the others.
_METRIC: Final = "auprc_de"
_STRATA: Final = {"n_cells": "cells", "n_de": "DE genes"}
_OF_CLASS: Final = {"precision": "precision", "recall": "recall", "f1": "F1"}


def strata_tables(
    strata: pd.DataFrame, *, task: str, context: str, setting: str
) -> tuple[Table, ...]:
    """Return the average precision of each method by quartiles of cells, and of DE genes.

    Parameters
    ----------
    strata : DataFrame
        :data:`pertscale.schema.STRATA_COLUMNS`.
    task, context, setting : str
    """
    keys = {"task": task, "context": context, "setting": setting, "metric": _METRIC}
    rows = strata[(strata[list(keys)] == list(keys.values())).all(axis=1)]
    rows = rows[~rows["method"].isin({*FLOORS_ON_HALVES, *REFERENCES} - {REPLICATE})]
    tables = [
        _by_quartile(rows[rows["stratum"] == stratum], title, setting)
        for stratum, title in _STRATA.items()
    ]
    return tuple(table for table in tables if len(table.rows))


def _by_quartile(rows: pd.DataFrame, title: str, setting: str) -> Table:
    value = rows.set_index(["method", "quartile"])["value"]
    # most methods score all of a quartile's perturbations; a replicate only those with halves
    of_quartile = rows.sort_values("n_perturbations", ascending=False, kind="stable")
    of_quartile = of_quartile.drop_duplicates("quartile").sort_values("quartile")
    quartiles = list(of_quartile["quartile"])
    heads = [
        f"{_range(row.low, row.high)} {title} (n {row.n_perturbations})"
        for row in of_quartile.itertuples()
    ]
    cells = tuple(
        (method, *(number(value.get((method, q), float("nan"))) for q in quartiles))
        for method in dict.fromkeys(rows["method"])
    )
    caption = f"Average precision by quartiles of {title}, {setting}: n held-out perturbations"
    return Table(caption, ("Method", *heads), cells, (False, *([True] * len(heads))))


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def reproducibility_table(found: pd.DataFrame) -> Table | None:
    """Return how well halves of the cells agree, a row per context; None without halves.

    Parameters
    ----------
    found : DataFrame
        :data:`pertscale.schema.REPRODUCIBILITY_COLUMNS`.
    """
    if not len(found):
        return None
    classes = [(name, metric) for name in CLASS_NAMES for metric in _OF_CLASS]
    cells = []
    for context, rows in found.groupby("context", sort=False):
        value = rows.set_index(["group", "metric"])["value"]
        n = rows.set_index("metric")["n_perturbations"]
        lacking = int(rows["n_without_halves"].iloc[0])
        cells.append(
            (
                str(context),
                f"{n['macro_f1']:,}",
                f"{lacking:,}" if lacking else MISSING,
                *(number(value[key]) for key in classes),
                number(value["", "macro_f1"]),
                f"{number(value['', 'jaccard_de'])} (n {n['jaccard_de']:,})",
            )
        )
    of_class = [title for _ in CLASS_NAMES for title in _OF_CLASS.values()]
    columns = (
        *("Context", "halved", "too few cells"),
        *of_class,
        *("macro F1", "Jaccard of DE genes"),
    )
    groups = (("", 1), ("Perturbations", 2), *((name, len(_OF_CLASS)) for name in CLASS_NAMES))
    caption = "Labels of one half of the cells against those of the other"
    numeric = (False, *([True] * (len(columns) - 1)))
    return Table(caption, columns, tuple(cells), numeric, (*groups, ("", 2)))
