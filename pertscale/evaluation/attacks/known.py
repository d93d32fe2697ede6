"""What an attack is given: the training part, and of what is held out the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pertscale.errors import InputError
from pertscale.evaluation.target_genes import own_targets
from pertscale.hashing import seed_from


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What can be known without measuring what is held out.

    Attributes
    ----------
    profiles : ndarray (training perturbation, gene)
        Mean log1p expression.
    control : ndarray (gene,)
    names, held_out : tuple of str
        Training perturbations, and those that are asked for.
    own, asked : ndarray (perturbation, gene), bool
        Genes that each of these targets.
    labels : ndarray (training perturbation, gene), int8, optional
        Observed classes, where classes are scored.
    """

    profiles: NDArray
    control: np.ndarray
    names: tuple[str, ...]
    held_out: tuple[str, ...]
    own: np.ndarray
    asked: np.ndarray
    labels: NDArray[np.int8] | None = None

    @classmethod
    def of(
        cls,
        profiles: NDArray,
        control: np.ndarray,
        *,
        names: Sequence[str],
        held_out: Sequence[str],
        genes: Sequence[str],
        target_genes: Mapping[str, Sequence[str]] | None = None,
        labels: NDArray[np.int8] | None = None,
    ) -> Known:
        """Return it for named rows and columns.

        Raises
        ------
        InputError
            If shapes do not fit, or there is no training perturbation.
        """
        profiles, control = (np.asarray(x, np.float64) for x in (profiles, control))
        wanted = (len(names), len(genes))
        if profiles.shape != wanted or control.shape != wanted[1:] or not len(names):
            raise InputError(
                f"training profiles have shape {profiles.shape} and the control {control.shape}; "
                f"with {len(names)} training perturbations and {len(genes)} genes they have to be "
                f"{wanted} and {wanted[1:]}, with at least one perturbation"
            )
        if labels is not None and labels.shape != wanted:
            raise InputError(
                f"training labels have shape {labels.shape}, training profiles {wanted}; give the "
                "labels of the same perturbations and genes"
            )
        own, asked = (own_targets(n, genes, target_genes=target_genes) for n in (names, held_out))
        return cls(
            profiles=profiles,
            control=control,
            names=tuple(map(str, names)),
            held_out=tuple(map(str, held_out)),
            own=own,
            asked=asked,
            labels=labels,
        )

    def generator(self, *purpose: object) -> np.random.Generator:
        """Return random numbers that depend on the names that are asked for, and a purpose."""
        return np.random.default_rng(seed_from(list(self.held_out), *purpose))

    def same(self, profile: np.ndarray) -> NDArray:
        """Return one profile for all that is asked for."""
        return np.tile(np.asarray(profile, np.float64), (len(self.held_out), 1))

    @cached_property
    def change(self) -> NDArray:
        """Changes of the training perturbations from the control."""
        return self.profiles - self.control

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean profile of the training perturbations, (gene,)."""
        return np.asarray(self.profiles.mean(axis=0))

    @cached_property
    def multiple(self) -> np.ndarray:
        """Mean profile of the training perturbations in multiples of the control, (gene,).

        At least 0: a change that was measured from another control may be larger than this one.
        """
        ones = np.ones(len(self.mean))
        return np.divide(np.maximum(self.mean, 0), self.control, out=ones, where=self.control > 0)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Standard deviation over the training perturbations, (gene,); 0 for one."""
        if len(self.profiles) < 2:
            return np.zeros(self.profiles.shape[1])
        return np.asarray(self.profiles.std(axis=0, ddof=1))

    @cached_property
    def expected_share(self) -> float:
        """What is left of a target: median of profile / control over training targets.

        Below 1 for a knock-down, above for an activation; 1 where no target is measured.
        """
        there = self.own & (self.control > 0)
        shares = (self.profiles / np.where(self.control > 0, self.control, 1.0))[there]
        return float(np.median(shares)) if len(shares) else 1.0
