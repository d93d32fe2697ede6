"""Splits that are drawn: a random part held out, and folds (SPEC D1, D2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, UnknownNameError
from pertscale.schema import CONTROL
from pertscale.splits.split import Split, checked_names, checked_seed


def check_test_fraction(test_fraction: float) -> None:
    """Raise an ArgumentError for what is no part."""
    if not 0 < test_fraction < 1:
        raise ArgumentError(f"test_fraction has to be between 0 and 1, got {test_fraction}")


@checked
def holdout(
    perturbations: Iterable[str],
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Hold out a random part of the perturbations (SPEC D1).

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

    Raises
    ------
    ArgumentError
        `test_fraction` or `seed` out of range.
    InputError
        A name occurs twice, or there are too few perturbations to fill both parts.
    UnknownNameError
        A perturbation is not in `groups`.
    """
    check_test_fraction(test_fraction)
    units = _permuted_units(perturbations, seed=seed, groups=groups)
    # 0.07 * 100 is 7.000000000000001, which must not round up to 8
    n_test = math.ceil(test_fraction * len(units) - 1e-9)
    if n_test >= len(units):
        raise InputError(
            f"holding out {test_fraction:g} of {_counted(len(units), groups)} leaves none to "
            f"train on; give more perturbations or a smaller test_fraction"
        )
    return Split(
        name=f"holdout-seed{seed}",
        train=_sorted_names(units[n_test:]),
        test=_sorted_names(units[:n_test]),
        seed=seed,
        kind="holdout",
    )


@checked
def repeated_holdout(
    perturbations: Iterable[str],
    *,
    seeds: Iterable[int],
    test_fraction: float = 0.25,
    groups: Mapping[str, str] | None = None,
) -> tuple[Split, ...]:
    """Return one :func:`holdout` per seed, in the order of `seeds`.

    Raises
    ------
    ArgumentError
        There is no seed, or one occurs twice.
    """
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ArgumentError(f"seeds have to be different and at least one, got {seeds}")
    names = checked_names(perturbations, what="perturbations")
    return tuple(
        holdout(names, test_fraction=test_fraction, seed=seed, groups=groups) for seed in seeds
    )


@checked
def k_fold(
    perturbations: Iterable[str],
    *,
    n_folds: int = 5,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[Split, ...]:
    """Cut the perturbations into folds; each is the test set once (SPEC D2).

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

    Raises
    ------
    ArgumentError
        `n_folds` is below 2 or `seed` is out of range.
    InputError
        A name occurs twice, or there are fewer perturbations (or groups) than folds.
    UnknownNameError
        A perturbation is not in `groups`.
    """
    if n_folds < 2:
        raise ArgumentError(f"n_folds has to be at least 2, got {n_folds}")
    units = _permuted_units(perturbations, seed=seed, groups=groups)
    if len(units) < n_folds:
        raise InputError(
            f"{n_folds} folds need at least {n_folds} {_unit(groups)}s, there are {len(units)}; "
            f"lower n_folds"
        )
    bounds = np.cumsum([0, *map(len, np.array_split(np.arange(len(units)), n_folds))])
    return tuple(
        Split(
            name=f"fold{i + 1}of{n_folds}-seed{seed}",
            train=_sorted_names(units[: bounds[i]] + units[bounds[i + 1] :]),
            test=_sorted_names(units[bounds[i] : bounds[i + 1]]),
            seed=seed,
            kind="k_fold",
        )
        for i in range(n_folds)
    )


def _permuted_units(
    perturbations: Iterable[str], *, seed: int, groups: Mapping[str, str] | None
) -> list[tuple[str, ...]]:
    """Return the units that are drawn: tuples of perturbations that stay together."""
    names = sorted(set(checked_names(perturbations, what="perturbations")) - {CONTROL})
    members: dict[str, list[str]] = {}
    for name in names:
        if groups is not None and name not in groups:
            raise UnknownNameError(
                f"perturbation {name!r} is not in groups, which has to give the target of every "
                f"perturbation"
            )
        members.setdefault(name if groups is None else groups[name], []).append(name)
    # in the order of their first perturbations: groups of one give the split without groups
    units = [tuple(together) for together in members.values()]
    if len(units) < 2:
        raise InputError(
            f"a split needs at least 2 {_unit(groups)}s besides the control, there are {len(units)}"
        )
    order = np.random.RandomState(checked_seed(seed)).permutation(len(units))
    return [units[i] for i in order]


def _sorted_names(units: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(name for unit in units for name in unit))


def _unit(groups: Mapping[str, str] | None) -> str:
    return "perturbation" if groups is None else "target group"


def _counted(n: int, groups: Mapping[str, str] | None) -> str:
    return f"{n} {_unit(groups)}{'' if n == 1 else 's'}"
