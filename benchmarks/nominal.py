"""Whether p-values and power are what they say: screens whose truth is known.

``python benchmarks/run.py --only nominal`` (some minutes, no screen). Counts are negative-binomial
with log-normal library sizes; dense genes have 1 to 20 counts in a mean cell, sparse ones 0.01 to
0.3. On screens without any effect: shares of p-values below three levels, and what is called. On
screens with effects: recall by :func:`pertscale.stats.power`, beside the recall that there is, per
decile of the effect theta.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import ndtri

import pertscale as ps
from pertscale.stats.effect_spread import spread_with_effect
from pertscale.stats.statistical_power import POWER, detected_share, untied_sigma
from session import Session

#: Mean counts of the rarest and of the most frequent gene in a cell.
GENES: Final = {"dense": (1.0, 20.0), "sparse": (0.01, 0.3)}
#: Cells of each perturbation; 20 times as many controls in all, at least 2,000.
N_CELLS: Final = (20, 50, 150)
#: Levels of p-values.
LEVELS: Final = (0.05, 0.01, 1e-4)
#: Genes besides one that fills a cell up to its library size; perturbations; screens.
_N_GENES, _N_PERTURBATIONS, _N_SCREENS = 200, 80, 6
_LIBRARY, _LIBRARY_SD, _DISPERSION = 10_000, 0.4, 2.0
#: Effects, as natural logs of fold changes, that a third of the pairs have; by kind of genes.
_N_EFFECTS: Final = 20
_LARGEST: Final = {"dense": 0.8, "sparse": 2.5}
#: Cells that the true theta of a gene and an effect is known of.
_MANY: Final = 20_000
_DECILES: Final = 10


@dataclass(frozen=True)
class Design:
    """What a screen is drawn with."""

    kind: str
    n_cells: int
    n_genes: int = _N_GENES
    n_perturbations: int = _N_PERTURBATIONS

    @property
    def means(self) -> np.ndarray:
        """Counts of each gene in a mean cell."""
        low, high = GENES[self.kind]
        return np.geomspace(low, high, self.n_genes)

    @property
    def n_controls(self) -> int:
        """Control cells."""
        return max(2000, 20 * self.n_cells)

    @property
    def effects(self) -> np.ndarray:
        """Natural logs of fold changes."""
        largest = _LARGEST[self.kind]
        return np.linspace(-largest, largest, _N_EFFECTS)


def library_sizes(random: np.random.Generator, n: int) -> np.ndarray:
    """Return total counts of cells."""
    return np.rint(_LIBRARY * np.exp(random.normal(0, _LIBRARY_SD, n))).astype(np.int64)


def counts_of(
    random: np.random.Generator, means: np.ndarray, library: np.ndarray, change: Any = 0.0
) -> np.ndarray:
    """Return counts (cell, gene) of cells of a library size."""
    expected = means * np.exp(change) * (library / _LIBRARY)[:, None]
    return random.poisson(random.gamma(_DISPERSION, expected / _DISPERSION))


def write_screen(file: Path, design: Design, effect: np.ndarray, seed: list[int]) -> None:
    """Write a screen with an effect (perturbation, gene) in natural logs."""
    random = np.random.default_rng(seed)
    names = [f"P{i:03d}" for i in range(design.n_perturbations)]
    sizes = [design.n_controls, *[design.n_cells] * len(names)]
    parts = []
    for n, change in zip(sizes, [np.zeros(design.n_genes), *effect], strict=True):
        library = library_sizes(random, n)
        counts = counts_of(random, design.means, library, change)
        rest = np.maximum(library - counts.sum(axis=1), 0)
        parts.append(sparse.csr_matrix(np.column_stack([counts, rest]).astype(np.float32)))
    labels = np.repeat(["control", *names], sizes)
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    var = pd.DataFrame(index=[*(f"G{i:03d}" for i in range(design.n_genes)), "REST"])
    anndata.AnnData(sparse.vstack(parts, format="csr"), obs, var).write_h5ad(file)


def tested(design: Design, effect: np.ndarray, seed: list[int]) -> pd.DataFrame:
    """Return all pairs of a screen but those of the rest, with what is known of their power."""
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder) / "screen.h5ad", Path(folder) / "screen.zarr"
        write_screen(source, design, effect, seed)
        ps.io.ingest(source, store, quiet=True)
        labels = ps.stats.rank_sum(store, out=Path(folder) / "labels", quiet=True)
        pairs = labels.to_pandas().reset_index(drop=True)
        found = ps.stats.power(labels).compute().reset_index(drop=True)
        summary = ps.stats.power_summary(labels).set_index("perturbation")["p_threshold"]
        fdr = labels.options["fdr"]
    pairs["min_effect"] = found["min_effect"]
    pairs["p_threshold"] = pairs["perturbation"].astype(str).map(summary)
    called = pairs["fdr"] < fdr
    n_called = called.groupby(pairs["perturbation"].astype(str)).transform("sum")
    pairs["own_threshold"] = fdr * (n_called + ~called) / (design.n_genes + 1)
    return pairs[pairs["gene"] != "REST"].reset_index(drop=True)


# --- without any effect ---------------------------------------------------------------------------


def null_rates(design: Design, n_screens: int) -> dict[str, float]:
    """Return the shares of p-values and calls on screens without any effect."""
    nothing = np.zeros((design.n_perturbations, design.n_genes))
    tables = [tested(design, nothing, [1, design.n_cells, i]) for i in range(n_screens)]
    pairs = pd.concat(tables, keys=range(n_screens), names=["screen"])
    rates = {f"p < {level:g}": float((pairs["p_value"] < level).mean()) for level in LEVELS}
    called = pairs["label"] != 0
    screens = called.index.get_level_values(0)
    of_any = called.groupby([screens, pairs["perturbation"].astype(str)]).any()
    return {
        **rates,
        "called": float(called.mean()),
        "perturbations with a call": float(of_any.mean()),
        "pairs": float(len(pairs)),
    }


# --- with effects ---------------------------------------------------------------------------------


@cache
def thetas(kind: str) -> np.ndarray:
    """Return the true theta of each effect and gene, (effect, gene), of many cells."""
    design = Design(kind, _MANY)
    random = np.random.default_rng(2)
    found = np.empty((_N_EFFECTS, design.n_genes))
    library = library_sizes(random, _MANY)
    controls = np.sort(counts_of(random, design.means, library) / library[:, None], axis=0)
    for i, change in enumerate(design.effects):
        library = library_sizes(random, _MANY)
        cells = counts_of(random, design.means, library, change) / library[:, None]
        for gene in range(design.n_genes):
            below = np.searchsorted(controls[:, gene], cells[:, gene], "left")
            up_to = np.searchsorted(controls[:, gene], cells[:, gene], "right")
            found[i, gene] = (below + up_to).mean() / (2 * _MANY)
    return found


def recall(design: Design, n_screens: int) -> dict[str, list[float]]:
    """Return effect, predicted and realised recall per decile of the effect."""
    parts = []
    for i in range(n_screens):
        random = np.random.default_rng([3, i])
        which = random.integers(0, _N_EFFECTS, (design.n_perturbations, design.n_genes))
        has_effect = random.random(which.shape) < 1 / 3
        pairs = tested(design, np.where(has_effect, design.effects[which], 0.0), [4, i])
        row = pairs["perturbation"].astype(str).str[1:].astype(int).to_numpy()
        gene = pairs["gene"].astype(str).str[1:].astype(int).to_numpy()
        theta = thetas(design.kind)[which[row, gene], gene]
        pairs = pairs.assign(true=theta, is_called=pairs["label"] != 0)
        parts.append(pairs[has_effect[row, gene] & pairs["min_effect"].notna()])
    return by_decile(pd.concat(parts, ignore_index=True))


def by_decile(pairs: pd.DataFrame) -> dict[str, list[float]]:
    """Return the means of pairs in each decile of the effect."""
    threshold = pairs["p_threshold"].to_numpy()
    sigma = pairs["min_effect"] / (ndtri(POWER) - ndtri(threshold / 2))
    theta, sigma = pairs["true"].to_numpy(), sigma.to_numpy()
    n = pairs["n_cells"].to_numpy(float), pairs["n_control"].to_numpy(float)
    spread = spread_with_effect(theta, sigma, untied_sigma(*n) / (n[0] * n[1]), *n)
    own = pairs["own_threshold"].to_numpy()
    predicted = detected_share(theta, sigma, own, spread=spread)
    size = (pairs["true"] - 0.5).abs()
    decile = pd.qcut(size.rank(method="first"), _DECILES, labels=False)
    table = pd.DataFrame(
        {"effect": size, "predicted": predicted, "realised": pairs["is_called"].astype(float)}
    )
    means = table.groupby(decile).mean()
    return {str(name): means[name].tolist() for name in means}


def measure_nominal(session: Session, *, n_screens: int = _N_SCREENS) -> None:
    """Simulate all screens; write down rates without an effect, and recall with effects."""
    record = session.record("nominal")
    for kind in GENES:
        for n in N_CELLS:
            key: dict[str, Any] = {"genes": kind, "cells": n, "screens": n_screens}
            if record.find(key):
                continue
            design = Design(kind, n)
            deciles = recall(design, n_screens)
            apart = np.subtract(deciles["realised"], deciles["predicted"])
            values = {
                "null": null_rates(design, n_screens),
                "deciles": deciles,
                "largest_difference": float(100 * np.abs(apart).max()),
            }
            record.add(key, values)
            print(
                f"  {kind}, {n} cells: {values['null']}, {values['largest_difference']:.1f} points"
            )
