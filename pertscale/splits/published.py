"""The splits of the second paper: GEARS' simulation split, and that of the doubles (method D3, D4).

Both draw from sorted names or genes with NumPy's legacy generator. The doubles are sorted by their
names, so ``B+A`` and ``A+B`` draw differently: to get a published split, pass the names as the data
set spells them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.splits.split import Split, checked_names, checked_seed

#: Shares of the genes that GEARS calls seen: first train against test, then against validation.
_GEARS_SHARES = (0.75, 0.9)


@checked
def gears_simulation(perturbations: Iterable[str], *, seed: int = 1) -> Split:
    """Split by genes, as GEARS' ``simulation`` split does (method D3).

    A share of the genes is drawn as seen: 75 %, then 90 % of those that are left for validation. A
    single goes with its gene. Of the doubles of two seen genes the same share stays in training;
    all others are test (in the second cut: validation).

    Parameters
    ----------
    perturbations
        Names; ``A``, ``A+ctrl`` and ``A+B`` are understood. The control is left out.
    seed
        The paper uses 1 and 2.

    Raises
    ------
    InputError
        A name occurs twice, or there are too few genes to fill training and test.

    References
    ----------
    Roohani, Huang and Leskovec (2024), https://doi.org/10.1038/s41587-023-01905-6

    Examples
    --------
    >>> names = ["CEBPA+ctrl", "GATA1+ctrl", "KLF1+ctrl", "TP53+ctrl", "GATA1+KLF1", "ctrl"]
    >>> ps.splits.gears_simulation(names, seed=1)
    <Split 'gears-seed1': 2 train, 2 test, 1 val (gears_simulation, seed 1)>
    """
    seed = checked_seed(seed)
    names = _without_control(perturbations)
    train, test = _cut(names, _GEARS_SHARES[0], seed)
    train, val = _cut(train, _GEARS_SHARES[1], seed)
    if not train or not test:
        raise InputError(
            f"GEARS' simulation split of {len(names)} perturbations leaves {len(train)} for "
            f"training and {len(test)} for the test; it needs more genes"
        )
    return Split(f"gears-seed{seed}", train, test, val, seed=seed, kind="gears_simulation")


def _cut(names: Sequence[str], share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cut into names that are kept and names that are not, by the genes drawn as seen."""
    genes = sorted({gene for name in names for gene in genes_of(name)})
    seen = set(_draw(genes, int(len(genes) * share), seed))
    both = [n for n in names if len(genes_of(n)) > 1 and seen.issuperset(genes_of(n))]
    kept = set(_draw(both, int(len(both) * share), seed))
    kept |= {n for n in names if len(genes_of(n)) == 1 and seen.issuperset(genes_of(n))}
    return tuple(n for n in names if n in kept), tuple(n for n in names if n not in kept)


@checked
def doubles_split(
    perturbations: Iterable[str],
    *,
    seed: int = 1,
    train_fraction: float = 0.5,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Put all singles and a share of the doubles into training (method D4).

    Of the doubles, sorted by name, ``int(train_fraction * n)`` are drawn for training, and of the
    rest, sorted again, half for the test; what is left is validation. The paper judges on test and
    validation together.

    Parameters
    ----------
    perturbations
        Names; ``A``, ``A+ctrl`` and ``A+B`` are understood. The control is left out.
        Combinations of more than two genes are in no part.
    seed
        The paper uses 1 to 5.
    train_fraction
        Share of the doubles in training, from 0 to below 1.
    groups
        Perturbation → target, as in :func:`holdout`: ``A`` for ``A_1+A_2``, two guides of a gene,
        which is a single. Doubles of the same two targets fall on the same side.

    Raises
    ------
    ArgumentError
        `train_fraction` or `seed` out of range.
    InputError
        A name occurs twice, or there are no singles or too few doubles.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> names = ["GATA1", "KLF1", "TP53", "GATA1+KLF1", "GATA1+TP53", "KLF1+TP53"]
    >>> split = ps.splits.doubles_split(names, seed=1)
    >>> split.train, split.held_out
    (('GATA1', 'KLF1', 'TP53', 'GATA1+KLF1'), ('KLF1+TP53', 'GATA1+TP53'))
    """
    if not 0 <= train_fraction < 1:
        raise ArgumentError(f"train_fraction has to be from 0 to below 1, got {train_fraction}")
    seed = checked_seed(seed)
    names = _without_control(perturbations)
    of = {name: genes_of(groups[name] if groups else name) for name in names}
    singles = [name for name in names if len(of[name]) == 1]
    together: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(name for name in names if len(of[name]) == 2):
        together.setdefault(tuple(sorted(of[name])) if groups else (name,), []).append(name)
    # a unit is named after its first double: units of one are drawn as the doubles themselves
    doubles = {members[0]: members for members in together.values()}
    random = np.random.RandomState(seed)
    drawn = _choose(random, list(doubles), int(train_fraction * len(doubles)))
    rest = sorted(set(doubles) - set(drawn))
    held_out = _choose(random, rest, max(1, len(rest) // 2))
    train, test, val = (
        sorted(name for unit in units for name in doubles[unit])
        for units in (drawn, held_out, set(rest) - set(held_out))
    )
    if not singles or not test:
        raise InputError(
            f"the split of the doubles needs single perturbations to train on and doubles to hold "
            f"out; there are {len(singles)} singles and {len(doubles)} doubles"
        )
    return Split(
        f"doubles-seed{seed}",
        (*singles, *train),
        tuple(test),
        tuple(val),
        seed=seed,
        kind="doubles",
    )


def genes_of(name: str) -> tuple[str, ...]:
    """Return the genes of a name in either spelling; ``()`` for the control."""
    return tuple(
        t
        for t in perturbation_names.targets(name)
        if t and not perturbation_names.is_control_word(t)
    )


def _without_control(perturbations: Iterable[str]) -> list[str]:
    return [n for n in checked_names(perturbations, what="perturbations") if genes_of(n)]


def _draw(items: Sequence[str], n: int, seed: int) -> list[str]:
    return _choose(np.random.RandomState(seed), items, n)


def _choose(random: np.random.RandomState, items: Sequence[str], n: int) -> list[str]:
    """Draw without replacement, as the authors' ``choice`` does."""
    return [items[i] for i in random.permutation(len(items))[:n]] if n else []
