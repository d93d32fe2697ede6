"""Splits that are drawn: a random part held out, and folds (method D1, D2).

With ``gene_disjoint=True`` genes are drawn in place of perturbations: a double whose single is
trained on shares a gene with the training part, so that half of its effect is known. Perturbations
with genes on both sides are in no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, UnknownNameError
from pertscale.perturbation_names import targets
from pertscale.schema import CONTROL
from pertscale.splits.split import Split, checked_names, checked_seed


def check_test_fraction(test_fraction: float) -> None:
    """Raise an ArgumentError unless `test_fraction` lies between 0 and 1."""
    if not 0 < test_fraction < 1:
        raise ArgumentError(f"test_fraction has to be between 0 and 1, got {test_fraction}")


@checked
def holdout(
    perturbations: Iterable[str],
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    gene_disjoint: bool = False,
) -> Split:
    """Hold out a random part of the perturbations (method D1).

    The names are sorted and permuted with NumPy's legacy generator; the first
    ``ceil(test_fraction * n)`` are the test set. Both parts are returned sorted.

    Parameters
    ----------
    perturbations
        Names, each once, in any order. The control is left out if it is among them.
    test_fraction
        Share of the perturbations (with `groups`: of the groups) to hold out, between 0 and 1.
    seed
        Seed of ``numpy.random.RandomState``.
    groups
        Perturbation → target. Perturbations of one target, such as several guides of a gene, always
        fall on the same side. With one perturbation per target the split is the same as without.
    gene_disjoint
        Hold out `test_fraction` of the genes that are perturbed: the test set are the perturbations
        all of whose genes are among these, the training set those none of whose are. Those with
        genes on both sides are in no part. Genes are those of the target (``A+B``: A and B), or of
        the name, where there are no `groups`.

    Raises
    ------
    ArgumentError
        `test_fraction` or `seed` out of range.
    InputError
        A name occurs twice, or there are too few perturbations (or genes) to fill both parts.
    UnknownNameError
        A perturbation is not in `groups`.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> ps.splits.holdout(["CEBPA", "GATA1", "KLF1", "TP53"], seed=1)
    <Split 'holdout-seed1': 3 train, 1 test, 0 val (holdout, seed 1)>
    >>> guides = {"GATA1_1": "GATA1", "GATA1_2": "GATA1", "KLF1_1": "KLF1", "TP53_1": "TP53"}
    >>> ps.splits.holdout(list(guides), groups=guides, seed=1).test
    ('GATA1_1', 'GATA1_2')
    """
    check_test_fraction(test_fraction)
    drawn = _draw(perturbations, seed=seed, groups=groups, gene_disjoint=gene_disjoint)
    # 0.07 * 100 is 7.000000000000001, which must not round up to 8
    n_test = math.ceil(test_fraction * drawn.n - 1e-9)
    if n_test >= drawn.n:
        raise InputError(
            f"holding out {test_fraction:g} of {drawn.n} {drawn.unit}s leaves none to "
            f"train on; give more perturbations or a smaller test_fraction"
        )
    train, test = drawn.parts(0, n_test)
    of = "-genes" if gene_disjoint else ""
    return Split(f"holdout{of}-seed{seed}", train, test, seed=seed, kind="holdout")


@checked
def repeated_holdout(
    perturbations: Iterable[str],
    *,
    seeds: Iterable[int],
    test_fraction: float = 0.25,
    groups: Mapping[str, str] | None = None,
    gene_disjoint: bool = False,
) -> tuple[Split, ...]:
    """Return one :func:`holdout` per seed, in the order of `seeds`.

    Raises
    ------
    ArgumentError
        There is no seed, or one occurs twice.

    Examples
    --------
    >>> names = ["CEBPA", "GATA1", "KLF1", "TP53"]
    >>> [split.test for split in ps.splits.repeated_holdout(names, seeds=[0, 1, 2])]
    [('KLF1',), ('TP53',), ('KLF1',)]
    """
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ArgumentError(f"seeds have to be different and at least one, got {seeds}")
    names = checked_names(perturbations, what="perturbations")
    return tuple(
        holdout(
            names,
            test_fraction=test_fraction,
            seed=seed,
            groups=groups,
            gene_disjoint=gene_disjoint,
        )
        for seed in seeds
    )


@checked
def k_fold(
    perturbations: Iterable[str],
    *,
    n_folds: int = 5,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    gene_disjoint: bool = False,
) -> tuple[Split, ...]:
    """Cut the perturbations into folds; each is the test set once (method D2).

    The names are sorted, permuted with NumPy's legacy generator and cut by ``numpy.array_split``,
    so the first folds may have one more than the last.

    Parameters
    ----------
    perturbations
        Names, each once, in any order. To choose a setting of a method, these are the training
        perturbations only. The control is left out if it is among them.
    n_folds
        Number of folds, at least 2.
    seed
        Seed of ``numpy.random.RandomState``.
    groups
        Perturbation → target, as in :func:`holdout`.
    gene_disjoint
        Cut the genes into folds, as in :func:`holdout`: a perturbation is in the test set of the
        fold that all of its genes are in, and with genes of two folds in none.

    Raises
    ------
    ArgumentError
        `n_folds` is below 2 or `seed` is out of range.
    InputError
        A name occurs twice, or there are fewer perturbations (groups, genes) than folds.
    UnknownNameError
        A perturbation is not in `groups`.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> folds = ps.splits.k_fold(["CEBPA", "GATA1", "KLF1", "TP53"], n_folds=2)
    >>> [fold.test for fold in folds]
    [('KLF1', 'TP53'), ('CEBPA', 'GATA1')]
    """
    if n_folds < 2:
        raise ArgumentError(f"n_folds has to be at least 2, got {n_folds}")
    drawn = _draw(perturbations, seed=seed, groups=groups, gene_disjoint=gene_disjoint)
    if drawn.n < n_folds:
        raise InputError(
            f"{n_folds} folds need at least {n_folds} {drawn.unit}s, there are {drawn.n}; "
            f"lower n_folds"
        )
    bounds = np.cumsum([0, *map(len, np.array_split(np.arange(drawn.n), n_folds))])
    of = "-genes" if gene_disjoint else ""
    found = []
    for i in range(n_folds):
        train, test = drawn.parts(int(bounds[i]), int(bounds[i + 1]))
        name = f"fold{i + 1}of{n_folds}{of}-seed{seed}"
        found.append(Split(name, train, test, seed=seed, kind="k_fold"))
    return tuple(found)


@checked
def with_seen_genes(split: Split, *, groups: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the held-out perturbations with a gene that is perturbed in training, too.

    Most often these are doubles, of which a single or another double is trained on.

    Parameters
    ----------
    split
        Drawn or from a file.
    groups
        Perturbation → target, as in :func:`holdout`.

    Raises
    ------
    UnknownNameError
        A perturbation is not in `groups`.

    Examples
    --------
    >>> split = ps.Split("mine", train=("GATA1", "KLF1"), test=("GATA1+TP53", "CEBPA"))
    >>> ps.splits.with_seen_genes(split)
    ('GATA1+TP53',)
    """
    genes = _genes_of(_targets_of((*split.train, *split.held_out), groups))
    seen = frozenset().union(*(genes[name] for name in split.train))
    return tuple(name for name in split.held_out if genes[name] & seen)


@dataclass(frozen=True)
class _Drawn:
    """The units of a split in their drawn order: perturbations that stay together, or genes.

    Attributes
    ----------
    units : list of tuple of str
    unit : str
        What a unit is called.
    genes : dict of str to frozenset of str, optional
        Of each perturbation, where units are genes.
    """

    units: list[tuple[str, ...]]
    unit: str
    genes: Mapping[str, frozenset[str]] | None = None

    @property
    def n(self) -> int:
        return len(self.units)

    def parts(self, start: int, stop: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return training and test set, sorted; units `start` to before `stop` are held out."""
        held_out = {name for unit in self.units[start:stop] for name in unit}
        if self.genes is None:
            train = {name for unit in self.units for name in unit} - held_out
            return tuple(sorted(train)), tuple(sorted(held_out))
        test = sorted(name for name, genes in self.genes.items() if genes <= held_out)
        train = {name for name, genes in self.genes.items() if not genes & held_out}
        if not train or not test:
            raise InputError(
                f"with {stop - start} of {self.n} genes held out, {len(test)} perturbations have "
                f"all and {len(train)} none of their genes among these, the other "
                f"{len(self.genes) - len(train) - len(test)} have genes on both sides; a split "
                "needs one of each: draw with another seed or share, or without gene_disjoint=True"
            )
        return tuple(sorted(train)), tuple(test)


def _draw(
    perturbations: Iterable[str],
    *,
    seed: int,
    groups: Mapping[str, str] | None,
    gene_disjoint: bool,
) -> _Drawn:
    """Permute what is drawn: perturbations, target groups or genes."""
    names = sorted(set(checked_names(perturbations, what="perturbations")) - {CONTROL})
    target, genes = _targets_of(names, groups), None
    units: list[tuple[str, ...]]
    if gene_disjoint:
        unit, genes = "gene", _genes_of(target)
        units = [(gene,) for gene in sorted(frozenset().union(*genes.values()))]
    else:
        # in the order of their first perturbations: groups of one give the split without groups
        members: dict[str, list[str]] = {}
        for name in names:
            members.setdefault(target[name], []).append(name)
        unit = "perturbation" if groups is None else "target group"
        units = [tuple(together) for together in members.values()]
    if len(units) < 2:
        raise InputError(
            f"a split needs at least 2 {unit}s besides the control, there are {len(units)}"
        )
    order = np.random.RandomState(checked_seed(seed)).permutation(len(units))
    return _Drawn([units[i] for i in order], unit, genes)


def _targets_of(names: Iterable[str], groups: Mapping[str, str] | None) -> dict[str, str]:
    """Return the target of each perturbation: as `groups` say, or its own name."""
    found = {}
    for name in names:
        if groups is not None and name not in groups:
            raise UnknownNameError(
                f"perturbation {name!r} is not in groups, which has to give the target of every "
                f"perturbation"
            )
        found[name] = name if groups is None else groups[name]
    return found


def _genes_of(target: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the genes of each perturbation's target."""
    return {name: frozenset(targets(mine) or (mine,)) for name, mine in target.items()}
