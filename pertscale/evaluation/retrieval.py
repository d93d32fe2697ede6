"""Whether a prediction is nearer to its own truth than to those of other perturbations.

Distances of all predictions to all truths are n² · genes operations: they are computed for a few
predictions at a time, in threads, and of equal predictions, such as those of a mean, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from pertscale.evaluation._kernels.retrieval import (
    count_nearer,
    inner_products,
    l1_distances,
)

#: Truths of a panel of :class:`Truths`: with 1,000 genes 1 MB, which stays in a processor's cache.
_WIDTH: Final = 128
#: Predictions whose distances to all truths are held at a time, by each thread.
_ROWS: Final = 16
N_THREADS: Final = min(CPU_COUNT, 16)


class Truths:
    """True changes, laid out so that a gene of many perturbations is read at once.

    Parameters
    ----------
    truth : ndarray (perturbation, gene)
    control : ndarray (gene,)
    genes : ndarray of int
        The genes that are compared. Of these one copy is kept.
    """

    def __init__(self, truth: NDArray, control: np.ndarray, genes: np.ndarray) -> None:
        self.n = len(truth)
        self._genes, self._control = genes, control[genes]
        self._panels = np.zeros((-(-self.n // _WIDTH), len(genes), _WIDTH))
        for rows, panel in self._rows():
            change = truth[rows, genes] - self._control
            panel[:, : len(change)] = change.T

    def rank_l1(self, delta: NDArray, rows: np.ndarray) -> NDArray:
        """Return where the own truth stands among all by its L1 distance to the prediction.

        1: no other truth is nearer; 0: all others are; ties count half, so a prediction that is the
        same for all has 0.5 on average.

        Parameters
        ----------
        delta : ndarray (prediction, gene)
            Predicted changes from the control.
        rows : ndarray (prediction,), int
            Which truth is the own one.

        Returns
        -------
        ndarray (prediction,)
            NaN where there is nothing to compare. Memory: distances of 16 predictions to all
            truths, per thread.
        """
        return self._ranks(delta, rows, partial(l1_distances, self._panels))

    def rank_cosine(
        self, delta: NDArray, rows: np.ndarray, *, origin: np.ndarray | None = None
    ) -> NDArray:
        """Return the same by the cosine of the changes.

        `origin`, (all genes,), is the profile that true changes are measured from: by default the
        control.
        """
        zero = np.zeros(len(self._genes))
        if origin is not None:
            zero = origin[self._genes] - self._control
        length = np.empty(self.n)
        for at, panel in self._rows():
            length[at] = np.linalg.norm(panel - zero[:, None], axis=0)[: at.stop - at.start]

        def distances(values: NDArray, out: NDArray) -> None:
            inner_products(self._panels, zero, values, out)
            cosine = out[:, : self.n]
            np.divide(-cosine, length, out=cosine, where=length > 0)
            cosine[:, length == 0] = 0.0

        return self._ranks(delta, rows, distances)

    def _rows(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield the truths of each panel."""
        for i, panel in enumerate(self._panels):
            yield slice(i * _WIDTH, min((i + 1) * _WIDTH, self.n)), panel

    def _ranks(
        self, delta: NDArray, rows: np.ndarray, distances: Callable[[NDArray, NDArray], None]
    ) -> NDArray:
        if self.n < 2 or not len(self._genes) or not len(rows):
            return np.full(len(rows), np.nan)
        first, same_as = _distinct(delta)
        nearer = np.empty(len(rows))

        def count(part: tuple[np.ndarray, ...]) -> None:
            distinct, members, which = part
            distance = np.empty((len(distinct), self._panels.shape[0] * _WIDTH))
            distances(delta[distinct], distance)
            nearer[members] = count_nearer(distance, self.n, which, rows[members])

        parts = list(_parts(first, same_as))
        if len(parts) == 1:
            count(parts[0])
        else:
            with ThreadPoolExecutor(N_THREADS) as pool:
                list(pool.map(count, parts))
        return np.asarray(1 - nearer / (self.n - 1))


def _distinct(values: NDArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of each group of equal rows, and the group of each row."""
    values = np.ascontiguousarray(values + 0.0)  # and no -0
    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values]
    same_as, _ = pd.factorize(np.array(keys, object))
    _, first = np.unique(same_as, return_index=True)
    return first, same_as


def _parts(first: np.ndarray, same_as: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield some distinct predictions, all rows that equal one of them, and which."""
    order = np.argsort(same_as, kind="stable")
    start = np.searchsorted(same_as[order], np.arange(len(first) + 1))
    for at in range(0, len(first), _ROWS):
        end = min(at + _ROWS, len(first))
        members = order[start[at] : start[end]]
        yield first[at:end], members, same_as[members] - at
