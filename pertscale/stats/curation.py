"""The curated setting: down-sampling pairs as PerturbQA does (SPEC C2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from pertscale.errors import InputError
from pertscale.hashing import seed_from
from pertscale.schema import PERTURBATION, Label
from pertscale.stats.labels import LabelTable

_COLUMNS = ["p_value", "z", "label", "is_target"]


@dataclass(frozen=True)
class Curation:
    """Numbers of the recipe.

    Attributes
    ----------
    max_positives : int
        Most significant differentially expressed genes kept per perturbation.
    n_negatives : int
        Genes drawn among those that are not differentially expressed.
    min_positives : int
        Perturbations with fewer positives are left out.
    n_null : int
        Perturbations without any differentially expressed gene that are added.
    gene_holdout : float
        Share of the genes that is set aside and appears in no pair.
    """

    max_positives: int = 20
    n_negatives: int = 100
    min_positives: int = 5
    n_null: int = 100
    gene_holdout: float = 0.2


def curate(
    labels: LabelTable,
    *,
    context: str | None = None,
    recipe: Curation | None = None,
    seed: int = 0,
) -> LabelTable:
    """Sample a curated table of pairs from a full one, as PerturbQA does.

    Per perturbation the most significant differentially expressed genes are kept (by p-value,
    then by the size of z), the target genes are taken out, and genes that are not differentially
    expressed are drawn uniformly. Perturbations with too few positives are left out, some without
    any are added, and a share of the genes is set aside. Perturbations are held out by a split of
    their own.

    Parameters
    ----------
    labels : LabelTable
        Read one perturbation at a time, so it may be larger than memory.
    context : str, optional
        Needed where the table has several.
    recipe : Curation, optional
        Numbers; PerturbQA's by default. Where fewer genes or perturbations are there than asked
        for, all are taken.
    seed : int
        Draws of a perturbation depend on the seed and its name only.

    Returns
    -------
    LabelTable
        In memory; pairs that were not drawn count as not tested.

    Raises
    ------
    InputError
        If no perturbation has enough differentially expressed genes.
    """
    recipe = recipe or Curation()
    context = labels.only_context(context)
    table = labels.perturbations
    table = table[(table["context"] == context) & table["tested"]]
    n_de = (table["n_up"] + table["n_down"]).to_numpy()
    names = table[PERTURBATION].to_numpy(object)
    nulls = sorted(names[n_de == 0], key=lambda n: seed_from(seed, "null", n))[: recipe.n_null]
    held_out = _held_out_genes(labels, recipe.gene_holdout, seed)
    drawn = []
    for name in sorted([*names[n_de >= recipe.min_positives], *nulls]):
        pairs = _draw(labels, context, name, recipe, seed)
        positives = int((pairs["label"] != Label.NON_DE).sum())
        if positives >= recipe.min_positives or name in nulls:
            drawn.append(pairs[~pairs["gene"].isin(held_out)])
    if not any((pairs["label"] != Label.NON_DE).any() for pairs in drawn):
        raise InputError(
            f"context {context!r}: no perturbation has {recipe.min_positives} differentially "
            f"expressed genes (the most is {n_de.max(initial=0)}), so there is nothing to curate"
        )
    options = {"curation": asdict(recipe), "seed": seed, "from": labels.key}
    return LabelTable.from_pairs(
        pd.concat(drawn, ignore_index=True), context=context, options=options
    )


def _held_out_genes(labels: LabelTable, share: float, seed: int) -> set[str]:
    genes = sorted(map(str, labels.genes))
    order = np.random.RandomState(seed).permutation(len(genes))
    return {genes[i] for i in order[: int(share * len(genes))]}


def _draw(labels: LabelTable, context: str, name: str, recipe: Curation, seed: int) -> pd.DataFrame:
    """Positives and negatives of one perturbation, its targets left out."""
    pairs = labels.to_pandas(context=context, perturbation=name, columns=_COLUMNS)
    pairs = pairs.assign(gene=pairs["gene"].astype(object), perturbation=name)
    positive = pairs[pairs["label"] != Label.NON_DE]
    order = np.lexsort((-positive["z"].abs().to_numpy(), positive["p_value"].to_numpy()))
    positive = positive.iloc[order[: recipe.max_positives]]
    negative = pairs[pairs["label"] == Label.NON_DE].sort_values("gene")
    random = np.random.RandomState(seed_from(seed, "negatives", name))
    chosen = random.permutation(len(negative))[: recipe.n_negatives]
    both = pd.concat([positive, negative.iloc[np.sort(chosen)]])
    return both.loc[~both["is_target"], ["perturbation", "gene", "label"]]
