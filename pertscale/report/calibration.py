"""What metrics can tell on a screen, as a table: replicates against methods that know nothing."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from pertscale.baselines.registry import INTERPOLATED, REPLICATE
from pertscale.evaluation.metrics import METRICS
from pertscale.report.tables import AREAS, MISSING, POINTS, Table, number
from pertscale.results.averages import with_interval

_COLUMNS = (
    "metric",
    "without knowledge",
    "",
    "replicate",
    "at full depth",
    "interpolated",
    "difference",
    "DRF",
    "BDS",
    "can tell",
)


def calibration_table(
    calibration: pd.DataFrame, *, task: str, context: str, setting: str
) -> tuple[Table, ...]:
    """Return the table of one context and setting, if replicates were measured.

    Parameters
    ----------
    calibration : DataFrame
        :data:`pertscale.schema.CALIBRATION_COLUMNS`.
    task, context, setting : str
    """
    keys = {"task": task, "context": context, "setting": setting, "train_contexts": context}
    rows = calibration[(calibration[list(keys)] == list(keys.values())).all(axis=1)]
    shown = rows["metric"].map(lambda metric: bool(METRICS[metric].heading))
    rows = rows[(rows["level"] == "overall") & shown.astype(bool)]
    scale = rows[rows["is_scale"]]
    if not len(scale):
        return ()
    duplicates = rows[rows["positive"] == INTERPOLATED].drop_duplicates(_METRIC)
    interpolated = duplicates.set_index(_METRIC)["positive_value"]
    cells = tuple(
        (
            _title(row.metric, row.operating_point),
            row.negative,
            number(row.negative_value),
            number(row.positive_value),
            number(row.full_depth),
            number(interpolated.get((row.operating_point, row.metric), float("nan"))),
            with_interval(row.difference, row.low, row.high) if row.low == row.low else MISSING,
            number(row.drf, 2),
            number(row.bds, 2),
            row.can_tell or MISSING,
        )
        for row in scale.itertuples()
    )
    numeric = tuple(name not in ("metric", "without knowledge", "can tell") for name in _COLUMNS)
    caption = f"What metrics can tell here, {setting}: {REPLICATE} against no knowledge"
    return (_without_empty(Table(caption, _COLUMNS, cells, numeric)),)


def _without_empty(table: Table) -> Table:
    """Leave out columns without any value."""
    kept = [i for i in range(len(table.columns)) if {row[i] for row in table.rows} != {MISSING}]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    columns = tuple(table.columns[i] for i in kept)
    return replace(table, columns=columns, rows=rows, numeric=tuple(table.numeric[i] for i in kept))


_METRIC = ["operating_point", "metric"]


def _title(metric: str, point: str) -> str:
    title = METRICS[metric].heading
    if metric in AREAS:
        title = f"Average precision: {title.lower()}"
    return f"{title}, {POINTS[point].lower()}" if point else title  # type: ignore[index]
