"""Votes of nearest neighbours."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pertscale._jit import inline, jit

_U = np.uint64
#: Bound on the relative rounding error of three sums, by the number of their terms.
_ROUNDING: Final = 4 * 2.0**-52


@inline
def _is_class(label: int) -> Any:
    return (label >= -1) & (label <= 1)


@inline
def _winner(down: float, none: float, up: float, fallback: int) -> Any:
    """Return the class (0, 1, 2) with the most votes; of equals Non-DE, then Up, then Down."""
    best, winner = none, np.int64(1)
    if up > best:
        best, winner = up, np.int64(2)
    if down > best:
        best, winner = down, np.int64(0)
    return winner if best > 0.0 else np.int64(fallback)


@jit
def add_votes(
    index: np.ndarray,
    weight: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    votes: np.ndarray,
) -> None:
    """Add the weights of the neighbours' labels to the votes, gene by gene.

    Parameters
    ----------
    index, weight : ndarray (queries, k)
        Rows of `labels` that are neighbours, and the weights of their votes.
    labels : ndarray (n, genes), int8
        -1, 0, 1; any other code is no vote.
    rows : ndarray (queries,)
        Row of `votes` of each query.
    votes : ndarray (3, rows, genes), float64
        Sums over the neighbours are added. A sum is taken in the order of the neighbours, so
        two classes with the same weights get the same votes, bit for bit.
    """
    for q in range(_U(len(index))):
        to = _U(rows[q])
        for j in range(_U(index.shape[1])):
            w = weight[q, j]
            row = labels[_U(index[q, j])]
            down, none, up = votes[0, to], votes[1, to], votes[2, to]
            for gene in range(_U(len(row))):
                down[gene] += w if row[gene] == -1 else 0.0
                none[gene] += w if row[gene] == 0 else 0.0
                up[gene] += w if row[gene] == 1 else 0.0


@jit
def count_votes(
    index: np.ndarray,
    weight: np.ndarray,
    grid: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    fallback: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count the pairs of every true and voted class, for several numbers of neighbours.

    Rows have one label in most genes. Only the others are gone through, as what is left of all
    votes is that label's; where rounding could decide, its votes are added up after all.

    Parameters
    ----------
    index, weight : ndarray (queries, k)
        As of :func:`add_votes`.
    grid : ndarray (candidates,)
        Numbers of neighbours that vote, ascending.
    labels : ndarray (n, genes), int8
    queries : ndarray (queries,)
        Row of `labels` of each query: the truth.
    fallback : ndarray (genes,)
        Class, from 0, where nobody votes.
    counts : ndarray (candidates, 3, 4), int64
        Gets the counts added.
    """
    n_genes = labels.shape[1]
    mostly_none = _is_mostly_none(labels)
    usual = np.ones(n_genes, np.int64) if mostly_none else fallback.astype(np.int64)
    starts, genes = _genes_apart(labels, mostly_none)
    votes = np.empty((4, n_genes))  # the last of what is untested
    seen, touched = np.zeros(n_genes, np.bool_), np.empty(n_genes, np.int64)
    cells = np.empty((3, 3), np.int64)
    for q in range(_U(len(index))):
        truth = labels[_U(queries[q])]
        _count(truth, usual, cells)
        n_touched = n_voters = _U(0)
        total = 0.0
        for candidate in range(_U(len(grid))):
            while n_voters < _U(grid[candidate]):
                w, row = weight[q, n_voters], _U(index[q, n_voters])
                total += w
                n_voters += _U(1)
                for entry in range(_U(starts[row]), _U(starts[row + _U(1)])):
                    gene = _U(genes[entry])
                    if not _is_class(truth[gene]):
                        continue
                    if not seen[gene]:
                        seen[gene] = True
                        touched[n_touched] = gene
                        n_touched += _U(1)
                        votes[:, gene] = 0.0
                    label = labels[row, gene]
                    votes[_U(label + 1) if _is_class(label) else _U(3), gene] += w
            counts[candidate, :, :3] += cells
            margin = _ROUNDING * (n_voters + 4.0) * total
            for i in range(n_touched):
                gene = _U(touched[i])
                down, none, up = votes[0, gene], votes[1, gene], votes[2, gene]
                if mostly_none:
                    none = total - (down + up + votes[3, gene])
                    if not abs(none - max(down, up)) > margin:
                        none = _none(index[q, :n_voters], weight[q], labels, gene)
                winner = _winner(down, none, up, fallback[gene])
                true = _U(truth[gene] + 1)
                counts[candidate, true, _U(usual[gene])] -= 1
                counts[candidate, true, _U(winner)] += 1
        for i in range(n_touched):
            seen[_U(touched[i])] = False


@jit
def _is_mostly_none(labels: np.ndarray) -> Any:
    """Whether more pairs are Non-DE than untested."""
    n_none = n_untested = np.int64(0)
    for row in range(_U(len(labels))):
        for gene in range(_U(labels.shape[1])):
            n_none += np.int64(labels[row, gene] == 0)
            n_untested += np.int64(not _is_class(labels[row, gene]))
    return n_none > n_untested


@jit
def _count(truth: np.ndarray, called: np.ndarray, cells: np.ndarray) -> None:
    """Fill in the confusion matrix of some genes."""
    cells[:] = 0
    for gene in range(_U(len(truth))):
        if _is_class(truth[gene]):
            cells[_U(truth[gene] + 1), _U(called[gene])] += 1


@jit
def _none(rows: np.ndarray, weight: np.ndarray, labels: np.ndarray, gene: np.uint64) -> Any:
    """Add up the votes of some rows for Non-DE, in their order."""
    none = 0.0
    for j in range(_U(len(rows))):
        none += weight[j] if labels[_U(rows[j]), gene] == 0 else 0.0
    return none


@jit
def _genes_apart(labels: np.ndarray, mostly_none: bool) -> Any:
    """Return the genes in which each row is not untested, or not Non-DE: their starts, and they."""
    starts = np.zeros(len(labels) + 1, np.int64)
    genes = np.empty(labels.size, np.int32)
    n = _U(0)
    for row in range(_U(len(labels))):
        for gene in range(_U(labels.shape[1])):
            label = labels[row, gene]
            genes[n] = gene
            n += _U(label != 0) if mostly_none else _U(_is_class(label))
        starts[row + _U(1)] = n
    return starts, genes[:n]


@jit
def _voters(rows: np.ndarray, starts: np.ndarray, genes: np.ndarray, n_genes: int) -> Any:
    """Count the labels of each gene in some rows."""
    n = np.zeros(n_genes, np.int64)
    for row in rows:
        for entry in range(_U(starts[row]), _U(starts[row + 1])):
            n[_U(genes[entry])] += 1
    return n


@inline
def _weight(distance: float, nearest: float, exponent: float) -> Any:
    """Return 1/d^exponent up to a factor; who coincides weighs 1, and all others 0 then."""
    if exponent == 0.0:
        return 1.0
    if nearest == 0.0:
        return 1.0 if distance == 0.0 else 0.0
    return 1.0 / distance if exponent == 1.0 else (nearest / distance) ** exponent


@jit
def add_labelled_votes(
    index: np.ndarray,
    distance: np.ndarray,
    k: int,
    exponent: float,
    labels: np.ndarray,
    rows: np.ndarray,
    votes: np.ndarray,
) -> None:
    """Add the votes of the nearest neighbours that have a label, which differ between genes.

    Parameters
    ----------
    index, distance : ndarray (queries, n)
        All neighbours of each query, the nearest first: their rows of `labels`, and how far they
        are. The same rows for every query.
    k : int
        How many of the neighbours with a label vote.
    exponent : float
        Of the weight 1/d^exponent; 0 for equal weights. Neighbours at distance 0 weigh 1 and all
        others 0, unless weights are equal.
    labels : ndarray (n, genes), int8
        -1, 0, 1; any other code is no vote.
    rows : ndarray (queries,)
        Row of `votes` of each query.
    votes : ndarray (3, rows, genes), float64
        Sums are added, in the order of the neighbours.
    """
    if len(index) == 0:
        return
    n_genes = labels.shape[1]
    starts, genes = _genes_apart(labels, False)
    expected = np.minimum(_voters(index[0], starts, genes, n_genes), k).sum()
    found, nearest = np.empty(n_genes, np.int64), np.empty(n_genes)
    for q in range(_U(len(index))):
        to = _U(rows[q])
        found[:] = 0
        missing = expected
        for j in range(_U(index.shape[1])):
            row = _U(index[q, j])
            d = distance[q, j]
            for entry in range(_U(starts[row]), _U(starts[row + _U(1)])):
                gene = _U(genes[entry])
                if found[gene] == k:
                    continue
                if found[gene] == 0:
                    nearest[gene] = d
                found[gene] += 1
                missing -= 1
                label = _U(labels[row, gene] + 1)
                votes[label, to, gene] += _weight(d, nearest[gene], exponent)
            if missing == 0:
                break


@jit
def count_labelled_votes(
    index: np.ndarray,
    distance: np.ndarray,
    grid: np.ndarray,
    exponent: float,
    labels: np.ndarray,
    queries: np.ndarray,
    fallback: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count as :func:`count_votes` what :func:`add_labelled_votes` leads to."""
    if len(index) == 0:
        return
    n_genes, k = labels.shape[1], grid[-1]
    starts, genes = _genes_apart(labels, False)
    voters = np.minimum(_voters(index[0], starts, genes, n_genes), k)
    found, nearest = np.empty(n_genes, np.int64), np.empty(n_genes)
    candidate, votes = np.empty(n_genes, np.int64), np.empty((3, n_genes))
    for q in range(_U(len(index))):
        truth = labels[_U(queries[q])]
        found[:], candidate[:], votes[:] = 0, 0, 0.0
        missing = np.int64(0)
        for to_find in range(_U(n_genes)):
            missing += voters[to_find] if _is_class(truth[to_find]) else 0
        for j in range(_U(index.shape[1])):
            row = _U(index[q, j])
            d = distance[q, j]
            for entry in range(_U(starts[row]), _U(starts[row + _U(1)])):
                gene = _U(genes[entry])
                true = truth[gene]
                if found[gene] == k or not _is_class(true):
                    continue
                if found[gene] == 0:
                    nearest[gene] = d
                found[gene] += 1
                missing -= 1
                votes[_U(labels[row, gene] + 1), gene] += _weight(d, nearest[gene], exponent)
                at = _U(candidate[gene])
                if found[gene] == grid[at]:
                    winner = _winner(votes[0, gene], votes[1, gene], votes[2, gene], fallback[gene])
                    counts[at, _U(true + 1), _U(winner)] += 1
                    candidate[gene] += 1
            if missing == 0:
                break
        for g in range(_U(n_genes)):
            if _is_class(truth[g]):
                winner = _winner(votes[0, g], votes[1, g], votes[2, g], fallback[g])
                for rest in range(_U(candidate[g]), _U(len(grid))):
                    counts[rest, _U(truth[g] + 1), _U(winner)] += 1
