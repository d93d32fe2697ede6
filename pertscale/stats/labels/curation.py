"""The curated setting: down-sampling pairs as PerturbQA does (method C2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.hashing import seed_from
from pertscale.schema import PERTURBATION, Label
from pertscale.stats.labels.table import LabelTable

_COLUMNS = ["p_value", "z", "label", "is_target"]


@checked
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

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> ps.stats.Curation(n_negatives=50)
    Curation(max_positives=20, n_negatives=50, min_positives=5, n_null=100, gene_holdout=0.2)
    """

    max_positives: int = 20
    n_negatives: int = 100
    min_positives: int = 5
    n_null: int = 100
    gene_holdout: float = 0.2


@checked
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
        Read once, part by part, so it may be larger than memory.
    context : str, optional
        Needed where the table has several.
    recipe : Curation, optional
        Numbers; PerturbQA's by default. Where there are fewer genes or perturbations than asked
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

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", quiet=True)
    >>> recipe = ps.stats.Curation(min_positives=2, n_negatives=20)
    >>> curated = ps.curate(labels, recipe=recipe, seed=0)
    >>> curated.summary()[["perturbations", "genes", "pairs"]]
       perturbations  genes  pairs
    0              4     49     59
    """
    recipe = recipe or Curation()
    context = labels.only_context(context)
    table = labels.perturbations
    table = table[(table["context"] == context) & table["tested"]]
    n_de = (table["n_up"] + table["n_down"]).to_numpy()
    names = table[PERTURBATION].to_numpy(object)
    nulls = sorted(names[n_de == 0], key=lambda n: seed_from(seed, "null", n))[: recipe.n_null]
    wanted = {*names[n_de >= recipe.min_positives], *nulls}
    held_out = _held_out_genes(labels, recipe.gene_holdout, seed)
    drawn = {}
    for name, genes, label in _drawn(labels, context, wanted, recipe, seed):
        if (label != Label.NON_DE).sum() >= recipe.min_positives or name in nulls:
            keep = ~held_out[genes]
            drawn[name] = genes[keep], label[keep]
    if not any((label != Label.NON_DE).any() for _, label in drawn.values()):
        raise InputError(
            f"context {context!r}: no perturbation has {recipe.min_positives} differentially "
            f"expressed genes (the most is {n_de.max(initial=0)}), so there is nothing to curate"
        )
    options = {"curation": asdict(recipe), "seed": seed, "from": labels.key}
    listed = sorted(drawn)
    codes, found = zip(*(drawn[name] for name in listed), strict=True)
    pairs = pd.DataFrame(
        {
            "perturbation": np.repeat(np.array(listed, object), [len(c) for c in codes]),
            "gene": labels.genes.to_numpy(object)[np.concatenate(codes)],
            "label": np.concatenate(found),
        }
    )
    return LabelTable.from_pairs(pairs, context=context, options=options)


def _held_out_genes(labels: LabelTable, share: float, seed: int) -> np.ndarray:
    """Return which genes are set aside, by their codes."""
    by_name = np.argsort(labels.genes.to_numpy(str), kind="stable")
    order = np.random.RandomState(seed).permutation(len(by_name))
    held_out = np.zeros(len(by_name), bool)
    held_out[by_name[order[: int(share * len(by_name))]]] = True
    return held_out


def _drawn(
    labels: LabelTable, context: str, wanted: set[str], recipe: Curation, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, genes (codes) and labels that are drawn, in the order of the table."""
    names = labels.perturbations[PERTURBATION].to_numpy(object)
    by_name = np.argsort(labels.genes.to_numpy(str), kind="stable")
    for part in labels.parts(context, _COLUMNS):
        codes = part[PERTURBATION]
        changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        for start, stop in pairwise(np.unique([0, *changes, len(codes)])):
            name = names[codes[start]]
            if name in wanted:
                pairs = {column: values[start:stop] for column, values in part.items()}
                random = np.random.RandomState(seed_from(seed, "negatives", name))
                rows = _draw(pairs, by_name, recipe, random)
                yield name, pairs["gene"][rows], pairs["label"][rows]


def _draw(
    pairs: dict[str, np.ndarray],
    by_name: np.ndarray,
    recipe: Curation,
    random: np.random.RandomState,
) -> np.ndarray:
    """Choose positives and negatives among the pairs of one perturbation, its targets left out.

    `by_name` are the codes of all genes in the order of their names.
    """
    label = pairs["label"]
    positive = np.flatnonzero(label != Label.NON_DE)
    order = np.lexsort((-np.abs(pairs["z"][positive]), pairs["p_value"][positive]))
    row_of_gene = np.full(len(by_name), -1)
    row_of_gene[pairs["gene"]] = np.arange(len(label))
    rows = row_of_gene[by_name]
    rows = rows[rows >= 0]
    negative = rows[label[rows] == Label.NON_DE]
    chosen = random.permutation(len(negative))[: recipe.n_negatives]
    both = np.concatenate([positive[order[: recipe.max_positives]], negative[np.sort(chosen)]])
    return both[~pairs["is_target"][both]]
