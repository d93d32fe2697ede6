"""From the tiles' statistics to the label table and the pseudobulk, part by part.

A part is a fixed range of groups (controls and perturbations, in the order of the store) with
about :data:`PART_PAIRS` pairs. Its boundaries depend on the screen alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from pertscale.io.atomic import atomic_path, read_json, write_json
from pertscale.io.tables import ROW_GROUP_ROWS, write_pairs, write_table
from pertscale.schema import (
    CONTEXT,
    GENE,
    LABEL_COLUMNS,
    LABELS_DIR,
    MANIFEST_FILE,
    PERTURBATION,
    PSEUDOBULK_DIR,
    PSEUDOBULK_VARIABLES,
    SCHEMA_VERSION,
    Label,
)
from pertscale.screen import Screen, open_screen
from pertscale.stats._kernels.ranksum import STATISTICS_DTYPE
from pertscale.stats.multiple_testing import benjamini_hochberg, look_up, screen_wide
from pertscale.stats.options import RankSumOptions
from pertscale.tiles import Tile

#: Pairs of a part: 21 MB of statistics, and about six times that while it is written.
PART_PAIRS = 524_288
#: Added to both sides of a fold change, as scanpy and pdex do.
PSEUDOCOUNT = 1e-9


@dataclass(frozen=True)
class Part:
    """Descriptor of one part: groups ``first:last`` of the store."""

    store: str
    staging: str
    index: int
    first: int
    last: int
    options: RankSumOptions


def part_groups(screen: Screen) -> list[tuple[int, int]]:
    """Ranges of groups that are written together."""
    n = max(1, PART_PAIRS // screen.n_genes)
    return [(i, min(i + n, len(screen.groups))) for i in range(0, len(screen.groups), n)]


# --- before the parts ---------------------------------------------------------------------


def prepare_tables(
    screen: Screen, staging: Path, pieces: Sequence[tuple[Tile, str]], options: RankSumOptions
) -> None:
    """Write what every part needs: which tile is where, the screen-wide steps, the empty arrays."""
    write_json(
        staging / "pieces.json",
        [[t.context, t.first, t.last, t.gene_start, t.gene_stop, path] for t, path in pieces],
    )
    for context in range(len(screen.contexts)):
        steps = staging / f"screen-fdr-{context}.npy"
        if not steps.exists():
            mine = [(tile, path) for tile, path in pieces if tile.context == context]
            read = partial(_p_values, mine, _tested(screen, context, options))
            with atomic_path(steps) as temporary, temporary.open("wb") as file:
                np.save(file, screen_wide(read))
    if not (staging / PSEUDOBULK_DIR).exists():
        _create_pseudobulk(screen, staging / PSEUDOBULK_DIR)


def _tested(screen: Screen, context: int, options: RankSumOptions) -> np.ndarray:
    """Which perturbations of a context have enough cells."""
    groups = screen.context_groups(screen.contexts[context]).iloc[1:]
    return (groups["stop"] - groups["start"]).to_numpy() >= options.min_cells


def _p_values(pieces: Sequence[tuple[Tile, str]], tested: np.ndarray) -> Iterator[np.ndarray]:
    for tile, path in pieces:
        p_values = np.load(path, mmap_mode="r")["p_value"][1:]
        yield np.ascontiguousarray(p_values[tested[tile.first : tile.last]])


def _create_pseudobulk(screen: Screen, path: Path) -> None:
    """Write the coordinates and empty arrays of the pseudobulk; the parts fill them."""
    n_groups = len(screen.groups)
    rows = min(max(1, PART_PAIRS // screen.n_genes), n_groups)
    with atomic_path(path) as temporary:
        coords = xr.Dataset(
            coords={
                PERTURBATION: screen.groups["perturbation"].to_numpy(object),
                CONTEXT: (PERTURBATION, screen.groups["context"].to_numpy(object)),
                GENE: screen.genes.to_numpy(object),
            },
            data_vars={
                "n_cells": (
                    PERTURBATION,
                    (screen.groups["stop"] - screen.groups["start"]).to_numpy(np.int64),
                )
            },
            attrs={"scale": screen.scale, "fingerprint": screen.fingerprint},
        )
        coords.to_zarr(temporary, zarr_format=3, consolidated=False)
        root = zarr.open_group(temporary, mode="r+")
        for variable in PSEUDOBULK_VARIABLES:
            if variable.name in root:
                root[variable.name].attrs.update({"doc": variable.doc, "units": variable.unit})
                continue
            root.create_array(
                variable.name,
                shape=(n_groups, screen.n_genes),
                chunks=(rows, screen.n_genes),
                dtype=variable.dtype,
                dimension_names=(PERTURBATION, GENE),
                attributes={"doc": variable.doc, "units": variable.unit},
            )


# --- one part --------------------------------------------------------------------------------


def write_part(part: Part) -> dict[str, Any]:
    """Write the pseudobulk rows and the label rows of one part; return a summary per group."""
    staging = Path(part.staging)
    receipt = staging / "parts" / f"{part.index:05d}.json"
    if receipt.exists():
        return dict(read_json(receipt))
    screen = open_screen(part.store)
    groups = screen.groups.iloc[part.first : part.last]
    summaries = []
    profiles = np.zeros((len(groups), screen.n_genes), STATISTICS_DTYPE)
    for context, mine in groups.groupby("context", sort=False):
        code = screen.contexts.index(str(context))
        statistics, control = _statistics(staging, screen, code, mine)
        profiles[mine.index - part.first] = statistics
        summaries += _write_labels(part, screen, code, mine, statistics, control)
    _write_profiles(staging, part, groups, profiles)
    done = {"groups": summaries}
    write_json(receipt, done)
    return done


@lru_cache(maxsize=2)
def _pieces(staging: str) -> list[list[Any]]:
    return list(read_json(Path(staging) / "pieces.json"))


def _statistics(
    staging: Path, screen: Screen, context: int, groups: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Collect the statistics of some groups of one context, and of its controls, over all genes."""
    first_group = int(screen.context_groups(screen.contexts[context]).index[0])
    wanted = groups.index.to_numpy() - first_group - 1  # -1 is the control itself
    out = np.zeros((len(groups), screen.n_genes), STATISTICS_DTYPE)
    control = np.zeros(screen.n_genes, STATISTICS_DTYPE)
    for code, first, last, gene_start, gene_stop, path in _pieces(str(staging)):
        if code != context or (first >= wanted.max() + 1 and first > 0):
            continue
        piece = np.load(path, mmap_mode="r")
        genes = slice(gene_start, gene_stop)
        control[genes] = piece[0]
        inside = (wanted >= first) & (wanted < last)
        if inside.any():
            out[inside, genes] = piece[1 + wanted[inside] - first]
    out[wanted < 0] = control
    return out, control


def _write_profiles(
    staging: Path, part: Part, groups: pd.DataFrame, statistics: np.ndarray
) -> None:
    n = (groups["stop"] - groups["start"]).to_numpy(np.float64)[:, None]
    root: Any = zarr.open_group(staging / PSEUDOBULK_DIR, mode="r+")
    rows = slice(part.first, part.last)
    root["mean_log1p"][rows] = statistics["sum_log1p"] / n
    root["mean"][rows] = statistics["sum_normalized"] / n
    root["fraction_expressed"][rows] = (statistics["n_expressed"] / n).astype(np.float32)


def _write_labels(
    part: Part,
    screen: Screen,
    context: int,
    groups: pd.DataFrame,
    statistics: np.ndarray,
    control: np.ndarray,
) -> list[dict[str, Any]]:
    """Write one context's rows of a part; return what is known of each perturbation."""
    n_cells = (groups["stop"] - groups["start"]).to_numpy()
    tested = ~groups["is_control"].to_numpy() & (n_cells >= part.options.min_cells)
    if not tested.any():
        return []
    steps = np.load(Path(part.staging) / f"screen-fdr-{context}.npy", mmap_mode="r")
    columns = _columns(part.options, screen, groups[tested], statistics[tested], control, steps)
    n_genes = screen.n_genes
    name = f"part-{part.index:05d}.parquet"
    write_pairs(
        Path(part.staging) / LABELS_DIR / "data" / f"context={context}" / name,
        {c.name: _flat(columns[c.name], c.dtype) for c in LABEL_COLUMNS},
        declared=LABEL_COLUMNS,
        row_group=n_genes * max(1, ROW_GROUP_ROWS // n_genes),
    )
    label = columns["label"]
    disagree = (label != Label.NON_DE) & (np.sign(columns["z"]) * label < 0)
    return [
        {
            "group": int(group),
            "n_up": int((row == Label.UP).sum()),
            "n_down": int((row == Label.DOWN).sum()),
            "n_sign_disagreements": int(bad.sum()),
        }
        for group, row, bad in zip(groups.index[tested], label, disagree, strict=True)
    ]


def _columns(
    options: RankSumOptions,
    screen: Screen,
    groups: pd.DataFrame,
    statistics: np.ndarray,
    control: np.ndarray,
    steps: np.ndarray,
) -> dict[str, np.ndarray]:
    """Columns of the label table for tested perturbations, each (perturbation, gene)."""
    shape = statistics.shape
    n = (groups["stop"] - groups["start"]).to_numpy()[:, None]
    controls = screen.context_groups(groups["context"].iloc[0]).iloc[0]
    n_control = controls["stop"] - controls["start"]
    mean, mean_control = statistics["sum_log1p"] / n, control["sum_log1p"] / n_control
    if options.fold_change == "geometric":
        fold = _log2_ratio(np.expm1(mean), np.expm1(mean_control))
    else:
        fold = _log2_ratio(statistics["sum_normalized"] / n, control["sum_normalized"] / n_control)
    q = benjamini_hochberg(np.ascontiguousarray(statistics["p_value"]))
    codes = _codes(screen)[groups.index.to_numpy()]
    return {
        "perturbation": np.broadcast_to(codes[:, None], shape),
        "gene": np.broadcast_to(np.arange(shape[1]), shape),
        "n_cells": np.broadcast_to(n, shape),
        "n_control": np.broadcast_to(n_control, shape),
        "mean": mean,
        "mean_control": np.broadcast_to(mean_control, shape),
        "log2_fold_change": fold,
        "u_statistic": statistics["u_statistic"],
        "z": statistics["z"],
        "p_value": statistics["p_value"],
        "fdr": q,
        "fdr_screen": look_up(steps, statistics["p_value"]),
        "label": assign_labels(q, mean - mean_control, statistics["z"], fdr=options.fdr),
        "is_target": _target_mask(screen, list(groups["perturbation"])),
    }


def _flat(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=dtype).ravel()


def assign_labels(q: np.ndarray, delta: np.ndarray, z: np.ndarray, *, fdr: float) -> np.ndarray:
    """Classes of pairs: where ``q < fdr`` the sign of `delta`, or of `z` if it is 0 (SPEC B3)."""
    direction = np.where(delta != 0, np.sign(delta), np.sign(z))
    return np.where(q < fdr, direction, int(Label.NON_DE)).astype(np.int8)


def _log2_ratio(mean: np.ndarray, mean_control: np.ndarray) -> np.ndarray:
    return np.log2((mean + PSEUDOCOUNT) / (mean_control + PSEUDOCOUNT))


def _codes(screen: Screen) -> np.ndarray:
    """Code of each group in perturbations.parquet, which leaves out the controls."""
    perturbed = ~screen.groups["is_control"].to_numpy()
    return np.cumsum(perturbed) - 1


def _target_mask(screen: Screen, names: Sequence[str]) -> np.ndarray:
    """Whether gene j is a target of perturbation i."""
    mask = np.zeros((len(names), screen.n_genes), bool)
    for i, name in enumerate(names):
        at = screen.genes.get_indexer(list(screen.targets[name]))
        mask[i, at[at >= 0]] = True
    return mask


# --- after the parts ----------------------------------------------------------------------------


def finish_tables(
    screen: Screen,
    staging: Path,
    options: RankSumOptions,
    receipts: Sequence[dict[str, Any]],
    key: str,
) -> None:
    """Write the vocabularies beside the data and, last, the manifest."""
    folder = staging / LABELS_DIR
    write_table(folder / "perturbations.parquet", _perturbation_table(screen, options, receipts))
    write_table(folder / "genes.parquet", pd.DataFrame({GENE: screen.genes.to_numpy(object)}))
    write_json(
        folder / MANIFEST_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "contexts": list(screen.contexts),
            "n_genes": screen.n_genes,
            "options": options.as_dict(),
            "fingerprint": screen.fingerprint,
            "scale": screen.scale,
        },
    )


def _perturbation_table(
    screen: Screen, options: RankSumOptions, receipts: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """One row per (context, perturbation): its cells, its targets, and what the test found."""
    counted = ["n_up", "n_down", "n_sign_disagreements"]
    found = pd.DataFrame([g for r in receipts for g in r["groups"]], columns=["group", *counted])
    found = found.astype("int64").set_index("group")
    n_cells = screen.groups["stop"] - screen.groups["start"]
    controls = screen.groups["is_control"]
    n_control = dict(zip(screen.groups.loc[controls, "context"], n_cells[controls], strict=True))
    groups = screen.groups[~controls]
    table = pd.DataFrame(
        {
            "context": groups["context"],
            "perturbation": groups["perturbation"],
            "targets": ["+".join(screen.targets[p]) for p in groups["perturbation"]],
            "n_cells": n_cells[~controls],
            "n_control": groups["context"].map(n_control),
            "tested": groups.index.isin(found.index),
        }
    )
    table[counted] = found.reindex(groups.index, fill_value=0)
    few = [f"{n} cells, min_cells={options.min_cells}" for n in table["n_cells"]]
    table["reason"] = np.where(table["tested"], "", few)
    return table.reset_index(drop=True)
