"""What is drawn again: the target groups of perturbations (method N1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.errors import ArgumentError
from pertscale.hashing import seed_from

#: What is drawn: all perturbations of one set of targets together, or single genes.
Cluster = Literal["targets", "gene"]
#: Resamples of a table.
N_RESAMPLES: Final = 2000
#: Weight matrices that are kept: the methods of a table, which share one, are looked at in turn.
_KEPT: Final = 2


@checked
@dataclass(frozen=True)
class Draws:
    """Resamples of the clusters of a table, which all of its methods, metrics and splits share.

    Perturbations of the same targets, such as the guides of a gene, are one cluster: their scores
    are not independent. Each resample draws as many clusters as there are, with replacement; a
    perturbation that several splits hold out has one weight in it. Differences between methods are
    therefore paired.

    Attributes
    ----------
    table : str
        Name of the table, which the seed depends on.
    clusters : tuple of str
        What is drawn, sorted.
    members : dict of str to tuple of str
        Perturbation → the clusters that it belongs to: one, or, where genes are drawn, its genes.
        Its weight is the product of theirs.
    n_resamples : int

    Examples
    --------
    >>> draws = ps.evaluation.Draws.of(
    ...     "k562", {"GATA1_1": ("GATA1",), "GATA1_2": ("GATA1",), "KLF1": ("KLF1",)}
    ... )
    >>> draws.clusters, draws.weights(["GATA1_1", "GATA1_2", "KLF1"]).shape
    (('GATA1', 'KLF1'), (2000, 3))
    """

    table: str
    clusters: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]] = field(compare=False)
    n_resamples: int = N_RESAMPLES

    @classmethod
    def of(
        cls,
        table: str,
        target_genes: Mapping[str, Collection[str]],
        *,
        cluster: Cluster = "targets",
        n_resamples: int = N_RESAMPLES,
    ) -> Draws:
        """Return the draws of a table.

        Parameters
        ----------
        table : str
        target_genes : mapping of str to collection of str
            Perturbation → the genes that it targets, of all perturbations that any method or split
            is scored on. One without targets, such as a drug, is a cluster of its own.
        cluster : {'targets', 'gene'}
            'targets': a cluster is a set of target genes; a double is one. 'gene': genes are drawn,
            and the weight of a double is the product of its genes'.
        n_resamples : int

        Raises
        ------
        ArgumentError
        """
        check_cluster(cluster)
        if n_resamples < 1:
            raise ArgumentError(f"n_resamples has to be at least 1, got {n_resamples}")
        members: dict[str, tuple[str, ...]] = {}
        for name, genes in target_genes.items():
            own = tuple(sorted(set(genes))) or (name,)
            members[name] = own if cluster == "gene" else ("+".join(own),)
        drawn = tuple(sorted({one for of_name in members.values() for one in of_name}))
        return cls(table, drawn, members, n_resamples)

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return len(self.clusters)

    def weights(self, perturbations: Sequence[str]) -> NDArray[np.float32]:
        """Return how often each perturbation is drawn, (resample, perturbation)."""
        drawn = _drawn(self)
        found = np.ones((self.n_resamples, len(perturbations)), np.float32)
        for of_rank in self._places(perturbations):
            there = of_rank >= 0
            found[:, there] *= drawn[:, of_rank[there]]
        return found

    def factors(
        self, perturbations: Sequence[str], sums: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return weights (resample, n), and what they weight (n, ...): clusters, where that is all.

        Sums of perturbations that are drawn together are added up first.
        """
        if any(len(own) > 1 for own in map(self.members.__getitem__, perturbations)):
            return self.weights(perturbations), sums
        present = self.present(perturbations)
        drawn = _drawn(self)
        weights = drawn if present.all() else drawn[:, present]
        return weights, self.of_each(sums, perturbations)[present]

    def present(self, perturbations: Sequence[str]) -> NDArray[np.bool_]:
        """Return which clusters some perturbations belong to, (cluster,)."""
        found = np.zeros(self.n_clusters, np.bool_)
        for of_rank in self._places(perturbations):
            found[of_rank[of_rank >= 0]] = True
        return found

    def of_each(self, sums: NDArray, perturbations: Sequence[str]) -> NDArray[np.float64]:
        """Return totals of sums (perturbation, ...) of each cluster alone, (cluster, ...)."""
        found = np.zeros((self.n_clusters, *sums.shape[1:]))
        for of_rank in self._places(perturbations):
            there = np.flatnonzero(of_rank >= 0)
            first = np.unique(of_rank[there])
            if len(first) == len(there):  # no two in a cluster
                found[of_rank[there]] += sums[there]
            else:
                order = there[np.argsort(of_rank[there], kind="stable")]
                starts = np.searchsorted(of_rank[order], first)
                found[first] += np.add.reduceat(sums[order], starts, axis=0, dtype=np.float64)
        return found

    def _places(self, perturbations: Sequence[str]) -> list[NDArray[np.intp]]:
        """Return the position of the first, second, … cluster of each; -1 where there are fewer."""
        position = {name: at for at, name in enumerate(self.clusters)}
        places = [[position[one] for one in self.members[name]] for name in perturbations]
        most = max(map(len, places), default=0)
        return [
            np.array([own[rank] if rank < len(own) else -1 for own in places], np.intp)
            for rank in range(most)
        ]


def check_cluster(cluster: str) -> None:
    """Refuse what can't be drawn."""
    if cluster not in get_args(Cluster):
        raise ArgumentError(f"cluster={cluster!r} is not one of {', '.join(get_args(Cluster))}")


@lru_cache(maxsize=_KEPT)
def _drawn(draws: Draws) -> NDArray[np.float32]:
    """Return how often each cluster is drawn, (resample, cluster)."""
    n, rng = draws.n_clusters, np.random.default_rng(seed_from(draws.table, *draws.clusters))
    found = np.empty((draws.n_resamples, n), np.float32)
    for at in range(draws.n_resamples):
        found[at] = np.bincount(rng.integers(0, n, n), minlength=n)
    found.flags.writeable = False
    return found
