"""Who is held out: by a split that is given, or by one drawn per seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pertscale.perturbation_names import name_of
from pertscale.splits import Split, doubles_split, holdout

#: Held-out perturbations below which several splits are drawn by default, and how many.
FEW_HELD_OUT = 40
SPLITS_OF_FEW = 5


@dataclass(frozen=True)
class SplitRule:
    """How perturbations are held out: by a given split, or by drawing one per seed.

    Without seeds, the number of held-out perturbations decides how many splits are drawn: scores of
    few perturbations depend on which they are.
    """

    given: Split | None
    seeds: tuple[int, ...] | None
    test_fraction: float
    gene_disjoint: bool = False

    def splits(self, names: Sequence[str], groups: dict[str, str]) -> list[Split]:
        """Split the perturbations of a context; `groups` are their targets."""
        mine = {name: groups[name] for name in names}
        return self._drawn(
            names,
            lambda seed: holdout(
                names,
                test_fraction=self.test_fraction,
                seed=seed,
                groups=mine,
                gene_disjoint=self.gene_disjoint,
            ),
        )

    def of_doubles(self, names: Sequence[str], targets: Mapping[str, Sequence[str]]) -> list[Split]:
        """Split the doubles among the perturbations of a context; more targets are left out.

        Singles are trained on, as the task wants it: that genes are apart holds for :meth:`splits`.
        """
        few = {name: name_of(targets[name]) for name in names if len(targets[name]) <= 2}
        return self._drawn(names, lambda seed: doubles_split(list(few), seed=seed, groups=few))

    def _drawn(self, names: Sequence[str], draw: Callable[[int], Split]) -> list[Split]:
        if self.given is not None:
            return [self.given.restrict(names)]
        if self.seeds is not None:
            return [draw(seed) for seed in self.seeds]
        first = draw(0)
        if len(first.held_out) >= FEW_HELD_OUT:
            return [first]
        different = {(first.train, first.test): first}  # of three perturbations there are no five
        for seed in range(1, SPLITS_OF_FEW):
            split = draw(seed)
            different.setdefault((split.train, split.test), split)
        return list(different.values())

    def reason(self, splits: Sequence[Split]) -> str:
        """Say why there are so many splits."""
        if self.given is not None:
            return "the split was given"
        if self.seeds is not None:
            return "the seeds were given"
        few = len(splits[0].held_out) < FEW_HELD_OUT
        return f"{'fewer than' if few else 'at least'} {FEW_HELD_OUT} are held out"

    def in_words(self, split: Split, *, min_cells: int, min_knockdown: float | None = None) -> str:
        """Say how a split came about: what it is drawn from, and how many are held out."""
        among = f"min_cells={min_cells}"
        if min_knockdown is not None:
            among += f", min_knockdown={min_knockdown:g}"
        if self.given is not None:
            how = f"given with split=, of perturbations with {among}"
        else:
            apart = ", gene_disjoint=True" if self.gene_disjoint else ""
            how = f"drawn with test_fraction={self.test_fraction:g}, {among}{apart}"
        n = len(split.held_out)
        return f"{how}; {n:,} of {n + len(split.train):,} held out"

    def as_dict(self) -> dict[str, Any]:
        """Return the options for the manifest."""
        if self.given is not None:
            return {"split": self.given.name, "split_hash": self.given.hash}
        seeds = None if self.seeds is None else list(self.seeds)
        return {
            "seeds": seeds,
            "test_fraction": self.test_fraction,
            "gene_disjoint": self.gene_disjoint,
        }


def single_split(split: Split, targets: Mapping[str, Sequence[str]]) -> Split:
    """Restrict a split to perturbations of one target; raises InputError if nothing is left."""
    everyone = [*split.train, *split.held_out]
    return split.restrict([n for n in everyone if len(targets[n]) == 1])


def double_split(split: Split, targets: Mapping[str, Sequence[str]]) -> Split:
    """Hold out the doubles; other held-out perturbations are neither predicted nor used."""
    doubles = [n for n in split.held_out if len(targets[n]) == 2]
    return split.restrict([*split.train, *doubles])
