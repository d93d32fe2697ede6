"""True effects of the perturbations: programs, knock-downs, combinations, contexts.

Genes fall into co-regulated sets. A program is a pair of sets with a direction each; related
perturbations belong to one program, so they share downstream genes and directions. Popular sets
take part in many programs, mostly in their usual direction: genes that answer to many
perturbations, as in real screens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: What remains of the expression of a perturbed gene: a beta distribution of these parameters, from
#: next to nothing to next to all, the median at 27 %. It is the same in all contexts.
KNOCK_DOWN = (1.2, 2.8)
#: Least that remains.
LEAST_LEFT = 0.02
EMBEDDING_DIMENSIONS = 32
#: A double's effect on a gene, as a multiple of the sum of its singles' effects. The names are
#: those of the classes of interactions (method J4).
INTERACTIONS = {"synergy": 1.75, "buffering": 0.4, "opposite": -0.5}

_N_SETS = 50  # a program moves two sets, so 4 % of the genes
_PERTURBATIONS_PER_PROGRAM = 10
_STRONG_SHARE = 1 / 3
# Share of a program that a context has in common with the others. The effects of a perturbation
# in two contexts then correlate with about 0.7: 0.8², and what agrees by chance.
_COMMON_SHARE = 0.8
_EFFECT_SD = 0.8
_INTERACTION_SHARE = 0.15
_INTERACTION_MIN_SUM = 0.3


@dataclass(frozen=True)
class Programs:
    """Programs of downstream genes, and what the embedding shows of them.

    Attributes
    ----------
    log2_effect
        Effect of a perturbation of strength 1, (context, program, gene), float32.
    of_gene
        Program that a perturbation of the gene sets off, (gene,), int32.
    embedding
        Noisy position of each gene near its program, (gene, dimension), float32.
    """

    log2_effect: NDArray[np.float32]
    of_gene: NDArray[np.int32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """True effects of all conditions.

    Attributes
    ----------
    log2_effect
        (context, condition, gene), float32. Condition 0 is control; then the singles in the
        order of ``targets``, then the doubles in the order of ``pairs``.
    targets
        Column of the gene each single perturbs, (single,).
    strength
        Strength of each single, (single,); 0 means that it only knocks its target down.
    strong
        Whether a single is among the third with strong effects, (single,).
    pairs
        The two singles of each double, (double, 2).
    interactions
        Where doubles depart from the sum of their singles: columns ``context``, ``double``,
        ``gene`` (codes), ``kind``, ``log2_interaction``.
    """

    log2_effect: NDArray[np.float32]
    targets: NDArray[np.int64]
    strength: NDArray[np.float64]
    strong: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    interactions: pd.DataFrame


def draw_programs(
    n_genes: int, *, n_perturbations: int, n_contexts: int, rng: np.random.Generator
) -> Programs:
    """Draw the co-regulated sets, the programs made of them, and the embedding of the genes."""
    n_sets = min(_N_SETS, n_genes // 2)
    n_programs = max(2, math.ceil(n_perturbations / _PERTURBATIONS_PER_PROGRAM))
    gene_set = rng.permutation(np.arange(n_genes) % n_sets)
    usual = rng.choice([-1.0, 1.0], n_sets)[gene_set] * np.where(rng.random(n_genes) < 0.9, 1, -1)
    loading = usual * np.abs(_EFFECT_SD * rng.standard_normal(n_genes))

    shared = _draw_directions(n_programs, n_sets, rng)
    log2_effect = np.empty((n_contexts, n_programs, n_genes), np.float32)
    log2_effect[:] = shared[:, gene_set] * loading
    if n_contexts > 1:
        for effect in log2_effect:
            own = _draw_directions(n_programs, n_sets, rng)[:, gene_set] * loading
            np.copyto(
                effect, own, where=rng.random(effect.shape) >= _COMMON_SHARE, casting="same_kind"
            )

    of_gene = rng.integers(0, n_programs, n_genes, dtype=np.int32)
    shape = (n_programs, EMBEDDING_DIMENSIONS)
    # programs that share a set lie near each other, too
    centre = shared @ rng.standard_normal((n_sets, shape[1])) / 2 + rng.standard_normal(shape)
    embedding = centre[of_gene] + rng.standard_normal((n_genes, shape[1]))
    return Programs(log2_effect, of_gene, embedding.astype(np.float32))


def _draw_directions(n_programs: int, n_sets: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two sets per program, popular ones more often; +1 usual direction, -1 against it."""
    directions = np.zeros((n_programs, n_sets))
    popularity = 1.0 / np.arange(1, n_sets + 1)
    popularity /= popularity.sum()
    for program in directions:
        sets = rng.choice(n_sets, 2, replace=False, p=popularity)
        program[sets] = np.where(rng.random(2) < 0.85, 1.0, -1.0)
    return directions


def draw_effects(
    programs: Programs, *, n_perturbations: int, n_doubles: int, rng: np.random.Generator
) -> Effects:
    """Draw which genes are perturbed and what follows.

    Memory: 4 bytes x contexts x (1 + singles + doubles) x genes.
    """
    n_contexts, n_programs, n_genes = programs.log2_effect.shape
    targets = np.sort(rng.choice(n_genes, n_perturbations, replace=False))
    left = np.maximum(LEAST_LEFT, rng.beta(*KNOCK_DOWN, n_perturbations))
    strength, strong = _draw_strength(programs.of_gene[targets], n_programs, rng)
    log2_effect = np.zeros((n_contexts, 1 + n_perturbations + n_doubles, n_genes), np.float32)
    for single, target in enumerate(targets):
        if strength[single] > 0:
            program = programs.log2_effect[:, programs.of_gene[target]]
            log2_effect[:, 1 + single] = strength[single] * _individual(program, rng)
        log2_effect[:, 1 + single, target] = math.log2(left[single])

    pairs = _draw_pairs(strength, n_doubles, rng)
    first, second = 1 + pairs.T
    log2_effect[:, 1 + n_perturbations :] = log2_effect[:, first] + log2_effect[:, second]
    interactions = _interact(log2_effect[:, 1 + n_perturbations :], targets[pairs], rng)
    return Effects(
        log2_effect=log2_effect,
        targets=targets,
        strength=strength,
        strong=strong,
        pairs=pairs,
        interactions=interactions,
    )


def _draw_strength(
    program: NDArray[np.int32], n_programs: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One third strong, and mostly so in the same programs; the others weak or nil."""
    n = len(program)
    score = rng.standard_normal(n_programs)[program] + rng.standard_normal(n)
    strong = np.zeros(n, np.bool_)
    strong[np.argsort(-score, kind="stable")[: max(1, round(_STRONG_SHARE * n))]] = True
    weak = np.where(rng.random(n) < 0.5, rng.uniform(0.05, 0.3, n), 0.0)
    strength = np.where(strong, np.exp(0.2 * rng.standard_normal(n)), weak)
    return strength.astype(np.float64), strong


def _individual(program: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Effect of one perturbation of strength 1: its program with individual differences."""
    n_genes = program.shape[-1]
    kept = (rng.random(n_genes) < 0.85) * (1.0 + 0.3 * rng.standard_normal(n_genes))
    effect = program.astype(np.float64) * kept
    private = rng.choice(n_genes, max(1, n_genes // 200), replace=False)
    effect[:, private] += _EFFECT_SD * rng.standard_normal(len(private))
    return effect


def _draw_pairs(
    strength: NDArray[np.float64], n_doubles: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Distinct pairs among the strongest singles, as screens of combinations choose them.

    The pool has about four times as many pairs as are drawn, where there are as many.
    """
    if n_doubles == 0:
        return np.empty((0, 2), np.int64)
    pool_size = min(len(strength), math.ceil(0.5 + math.sqrt(0.25 + 8 * n_doubles)))
    pool = np.sort(np.argsort(-strength, kind="stable")[:pool_size])
    first, second = np.triu_indices(pool_size, 1)
    drawn = np.sort(rng.choice(len(first), n_doubles, replace=False))
    return np.stack([pool[first[drawn]], pool[second[drawn]]], axis=1)


def _interact(
    doubles: NDArray[np.float32], targets: NDArray[np.int64], rng: np.random.Generator
) -> pd.DataFrame:
    """Turn some sums of ``doubles`` (context, double, gene) into interactions, in place."""
    affected = np.abs(doubles) >= _INTERACTION_MIN_SUM
    affected[:, np.arange(len(targets))[:, None], targets] = False  # knock-down stays
    context, double, gene = np.nonzero(affected & (rng.random(doubles.shape) < _INTERACTION_SHARE))
    kind = rng.integers(0, len(INTERACTIONS), len(gene))
    factor = np.array(list(INTERACTIONS.values()), np.float32)[kind]
    total = doubles[context, double, gene]
    doubles[context, double, gene] = total * factor
    return pd.DataFrame(
        {
            "context": context,
            "double": double,
            "gene": gene,
            "kind": np.array(list(INTERACTIONS), dtype=object)[kind],
            "log2_interaction": total * (factor - 1),
        }
    )
