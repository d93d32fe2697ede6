"""All that is drawn before the first count, and the truth as labelled tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.schema import COMBINATION_SEPARATOR, CONTEXT, GENE, PERTURBATION
from pertscale.simulate.cells import Cells, batches_per_context, draw_cells
from pertscale.simulate.effects import Effects, Programs, draw_effects, draw_programs
from pertscale.simulate.expression import GeneModel, draw_genes
from pertscale.simulate.guides import Guides, draw_guides


@dataclass(frozen=True, eq=False, kw_only=True)
class Design:
    """Genes, effects and cells of a screen, with their names."""

    context_names: tuple[str, ...]
    gene_names: tuple[str, ...]
    perturbation_names: tuple[str, ...]
    genes: GeneModel
    programs: Programs
    effects: Effects
    guides: Guides
    cells: Cells


def draw_design(
    contexts: tuple[str, ...],
    *,
    n_cells: int,
    n_genes: int,
    n_perturbations: int,
    n_doubles: int,
    control_fraction: float,
    umi_per_cell: float,
    expressed_fraction: float,
    seed: int,
) -> Design:
    """Draw everything but the counts; see :func:`pertscale.simulate.simulate_screen`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    n_contexts = len(contexts)
    genes = draw_genes(
        n_genes,
        n_contexts=n_contexts,
        n_batches=batches_per_context(n_cells, n_contexts),
        umi_per_cell=umi_per_cell,
        expressed_fraction=expressed_fraction,
        rng=rng,
    )
    programs = draw_programs(
        n_genes, n_perturbations=n_perturbations, n_contexts=n_contexts, rng=rng
    )
    effects = draw_effects(programs, n_perturbations=n_perturbations, n_doubles=n_doubles, rng=rng)
    guides = draw_guides(effects, rng=rng)
    cells = draw_cells(
        n_cells,
        n_contexts=n_contexts,
        n_conditions=1 + n_perturbations + n_doubles,
        control_fraction=control_fraction,
        rng=rng,
    )
    width = max(4, len(str(n_genes)))
    gene_names = tuple(f"GENE{i + 1:0{width}d}" for i in range(n_genes))
    names = _perturbation_names(gene_names, effects)
    return Design(
        context_names=contexts,
        gene_names=gene_names,
        perturbation_names=names,
        genes=genes,
        programs=programs,
        effects=effects,
        guides=guides,
        cells=cells,
    )


def _perturbation_names(genes: tuple[str, ...], effects: Effects) -> tuple[str, ...]:
    singles = [genes[target] for target in effects.targets]
    doubles = [
        COMBINATION_SEPARATOR.join(sorted((singles[first], singles[second])))
        for first, second in effects.pairs
    ]
    return (*singles, *doubles)


def truth_dataset(design: Design) -> xr.Dataset:
    """Effects, means, dispersions, programs and cell numbers, by name. Copies no matrix."""
    effects, cells = design.effects, design.cells
    dims = (CONTEXT, PERTURBATION, GENE)
    names = (design.context_names, design.perturbation_names, design.gene_names)
    n_cells = np.zeros(effects.log2_effect.shape[:2], np.int64)
    np.add.at(n_cells, (cells.context, cells.condition), 1)
    is_strong = np.concatenate([effects.strong, effects.strong[effects.pairs].any(axis=1)])
    return xr.Dataset(
        {
            "log2_effect": (dims, effects.log2_effect[:, 1:]),
            "mean": ((CONTEXT, GENE), design.genes.mean),
            "dispersion": (GENE, design.genes.dispersion),
            "state_loading": (("state", GENE), design.genes.loading),
            "program": (GENE, design.programs.of_gene),
            "is_strong": (PERTURBATION, is_strong),
            "n_cells": ((CONTEXT, PERTURBATION), n_cells[:, 1:]),
        },
        coords={dim: np.array(values) for dim, values in zip(dims, names, strict=True)},
    )


def interaction_table(design: Design) -> pd.DataFrame:
    """Departures of the doubles from additivity, by name."""
    codes = design.effects.interactions
    n_singles = len(design.effects.targets)
    doubles = np.array(design.perturbation_names[n_singles:], dtype=object)
    return pd.DataFrame(
        {
            CONTEXT: np.array(design.context_names, dtype=object)[codes["context"]],
            PERTURBATION: doubles[codes["double"]],
            GENE: np.array(design.gene_names, dtype=object)[codes["gene"]],
            "kind": codes["kind"],
            "log2_interaction": codes["log2_interaction"],
        }
    )


def embedding_table(design: Design) -> pd.DataFrame:
    """Position of every gene, (gene, dimension) float32."""
    matrix = design.programs.embedding
    columns = [f"dim_{i + 1}" for i in range(matrix.shape[1])]
    return pd.DataFrame(matrix, pd.Index(design.gene_names, name=GENE), columns)
