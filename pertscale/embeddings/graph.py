"""The graph of genes that share gene sets, and its spectral embedding, on arrays (method H7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from pertscale.embeddings.signs import fix_signs, start_vector
from pertscale.errors import ArgumentError
from pertscale.io.guards.limits import check_dense

#: Genes whose overlaps with all others are computed at a time, fewer where there are many others;
#: a pair takes up to 60 bytes on the way, an edge 24 where the parts are put together.
_GENES_PER_BLOCK: Final = 512
_PAIR_BYTES: Final = 60
_BLOCK_BYTES: Final = 256_000_000
#: Up to this size the dense eigensolver is as fast, and exact for any dimension.
_DENSE_NODES: Final = 256


def jaccard_graph(membership: sparse.csr_array, min_jaccard: float) -> sparse.csr_array:
    """Return the symmetric sparse matrix (n_genes, n_genes) of Jaccard indices above `min_jaccard`.

    Parameters
    ----------
    membership
        0/1 integers (n_genes, n_terms). A gene with a term has index 1 with itself.
    min_jaccard
        Pairs with this index or less are left out.

    Raises
    ------
    InputError
        There are more pairs than fit into memory.
    """
    n_terms = np.asarray(membership.sum(axis=1)).ravel()
    transposed = membership.T.tocsr()
    n_genes, n_edges, blocks = membership.shape[0], 0, []
    step = max(1, min(_GENES_PER_BLOCK, _BLOCK_BYTES // (_PAIR_BYTES * n_genes)))
    for start in range(0, n_genes, step):
        shared = (membership[start : start + step] @ transposed).tocoo()
        row, column = shared.coords
        union = n_terms[start + row] + n_terms[column] - shared.data
        jaccard = shared.data / union
        kept = jaccard > min_jaccard
        n_edges += int(np.count_nonzero(kept))
        check_dense((n_edges, 3), np.float64, f"the graph of {n_genes:,} genes, by its edges")
        blocks.append(
            sparse.coo_array((jaccard[kept], (row[kept], column[kept])), shape=shared.shape)
        )
    graph = sparse.vstack(blocks, format="csr")
    graph.sort_indices()
    return graph


def graph_from_edges(
    source: Sequence[str], target: Sequence[str], weight: Sequence[float]
) -> tuple[tuple[str, ...], sparse.csr_array]:
    """Return the nodes and the symmetric adjacency matrix of a list of edges (method H7).

    Nodes are in the order of first appearance in `source`, then in `target`. An edge that is given
    in both directions, or repeatedly, has the largest of its weights; loops count once.
    """
    codes, nodes = pd.factorize(np.array([*source, *target], dtype=object))
    first, second = codes[: len(source)], codes[len(source) :]
    edges = pd.DataFrame(
        {"low": np.minimum(first, second), "high": np.maximum(first, second), "weight": weight}
    )
    edges = edges.groupby(["low", "high"], as_index=False)["weight"].max()
    low, high, weights = (edges[column].to_numpy() for column in ("low", "high", "weight"))
    shape = (len(nodes), len(nodes))
    upper = sparse.coo_array((weights.astype(np.float64), (low, high)), shape=shape)
    other = low != high
    lower = sparse.coo_array(
        (weights[other].astype(np.float64), (high[other], low[other])), shape=shape
    )
    return tuple(map(str, nodes)), (upper + lower).tocsr()


def adjacency_spectral_embedding(adjacency: sparse.csr_array, *, dim: int) -> NDArray[np.float64]:
    """Embed the nodes of an undirected weighted graph (method H7).

    With ``A`` the adjacency matrix and ``s`` the weighted degrees, loops counted twice, the `dim`
    eigenpairs of ``A + diag(s / (n - 1))`` with the largest absolute eigenvalues give the rows
    ``V * sqrt(abs(eigenvalue))``, as igraph's ``embed_adjacency_matrix`` does. In each column the
    entry of largest absolute value is positive.

    Parameters
    ----------
    adjacency
        Symmetric sparse matrix (n, n), loops once on the diagonal.
    dim
        Number of dimensions, below ``n``.

    Returns
    -------
    numpy.ndarray
        float64 (n, dim), columns by falling absolute eigenvalue.

    Raises
    ------
    ArgumentError
        `dim` is below 1 or not below the number of nodes.
    """
    n = adjacency.shape[0]
    if not 1 <= dim < n:
        raise ArgumentError(f"dim has to be from 1 to {n - 1}, as there are {n} genes; got {dim}")
    degree = np.asarray(adjacency.sum(axis=1)).ravel() + adjacency.diagonal()
    augmented = (adjacency + sparse.diags_array(degree / (n - 1))).tocsr()
    if n <= _DENSE_NODES or dim >= n - 1:
        check_dense((n, n, 3), np.float64, f"the graph of {n:,} genes, in {dim:,} dimensions")
        values, vectors = eigh(augmented.toarray())
    else:
        values, vectors = eigsh(augmented, k=dim, which="LM", v0=start_vector(n))
    leading = np.argsort(-np.abs(values), kind="stable")[:dim]
    return fix_signs(vectors[:, leading] * np.sqrt(np.abs(values[leading])))
