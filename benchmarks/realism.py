"""How near simulated screens are to real ones: figures of both, side by side.

``python benchmarks/run.py --only realism --screens FILE ...`` reads files that pertscale ingests,
and simulates a screen with default arguments (of fewer cells) beside them. A screen is called as
the folder it is in.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import pertscale as ps
from pertscale.schema import Label
from session import Session

#: The screen that is simulated, and its cells.
SIMULATED = "simulated"
N_CELLS = 10_000
#: Cells of the controls, at most, of which the components are taken.
MOST_CELLS = 2_000
#: A target whose controls have fewer counts per cell says nothing of its knock-down.
MEASURED = 0.2


def figures(screen: ps.Screen, folder: Path) -> dict[str, float]:
    """Return the figures of the largest context of a screen."""
    tables = {c: screen.context_groups(c).set_index("perturbation") for c in screen.contexts}
    context, groups = max(tables.items(), key=lambda item: np.ptp(item[1][["start", "stop"]]))
    data = screen.to_anndata().X[int(groups["start"].min()) : int(groups["stop"].max())].compute()
    values = np.asarray(data.todense() if hasattr(data, "todense") else data, np.float64)
    values = values if screen.scale == "counts" else np.expm1(values)
    scaled = 1e4 * values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9)
    start = groups["start"].min()
    rows = {name: slice(r.start - start, r.stop - start) for name, r in groups.iterrows()}
    control = rows.pop(groups.index[0])
    return {
        "first component of controls, % of variance": first_component(scaled[control]),
        **knock_down(screen, rows, scaled[control].mean(axis=0), scaled),
        **responses(screen, context, folder),
    }


def first_component(scaled: np.ndarray) -> float:
    """Share of the variance of log1p values of which one score per cell tells, in percent."""
    logs = np.log1p(scaled[:MOST_CELLS])
    centred = logs - logs.mean(axis=0)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    return 100 * float(squares[0] / squares.sum())


def knock_down(
    screen: ps.Screen, rows: dict[str, slice], control: np.ndarray, scaled: np.ndarray
) -> dict[str, float]:
    """Return quartiles of what is left of the target, where controls have enough of it."""
    at = {gene: i for i, gene in enumerate(screen.genes)}
    left = [
        scaled[cells, at[name]].mean() / control[at[name]]
        for name, cells in rows.items()
        if name in at and control[at[name]] > MEASURED
    ]
    quartiles = np.quantile(left, [0.25, 0.5, 0.75]) if len(left) > 2 else [np.nan] * 3
    names = ("lower quartile", "median", "upper quartile")
    return {
        f"expression left of the target, {n}": float(q)
        for n, q in zip(names, quartiles, strict=True)
    }


def responses(screen: ps.Screen, context: str, folder: Path) -> dict[str, float]:
    """Return how many perturbations and genes have effects besides those on the targets."""
    labels = ps.stats.rank_sum(screen, out=folder, quiet=True).matrix(context)
    changed = pd.DataFrame(
        (labels.values != 0) & (labels.values != Label.UNTESTED),
        labels["perturbation"].values,
        labels["gene"].values,
    )
    for name in changed.index:
        if name in changed.columns:
            changed.loc[name, name] = False
    per_gene = np.sort(changed.sum().to_numpy())[::-1]
    top = per_gene[: max(1, len(per_gene) // 20)].sum() / max(1, per_gene.sum())
    return {
        "perturbations without a DE gene but the target, %": 100
        * float((changed.sum(axis=1) == 0).mean()),
        "DE pairs of the busiest 5 % of the genes, %": 100 * float(top),
    }


def compare_realism(session: Session, screens: list[Path]) -> None:
    """Take the figures of files of real screens, and of a simulated one."""
    record = session.record("realism")
    for path in [*screens, None]:
        key = {"screen": SIMULATED if path is None else path.absolute().parent.name}
        if record.find(key):
            continue
        with tempfile.TemporaryDirectory(dir=session.work) as name:
            folder = Path(name)
            if path is None:
                file = folder / "simulated.h5ad"
                path = ps.simulate_screen(file, n_cells=N_CELLS, quiet=True).path
            screen = ps.open_screen(ps.io.ingest(path, folder / "screen.zarr", quiet=True))
            found = figures(screen, folder / "labels")
        known = {what: value if np.isfinite(value) else None for what, value in found.items()}
        record.add(key, {"n_cells": screen.n_cells, "figures": known})
