"""Vectors of genes from gene sets and from the edges of a graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from pertscale.arguments import checked
from pertscale.embeddings import files
from pertscale.embeddings.embedding import Embedding, chosen_dim
from pertscale.embeddings.graph import adjacency_spectral_embedding, graph_from_edges, jaccard_graph
from pertscale.errors import ArgumentError, InputError
from pertscale.io.guards.damage import naming_file
from pertscale.io.long_tables import all_names, as_numbers, read_long

if TYPE_CHECKING:
    pass

#: Rows of the gene-set graph that are this small against the largest one are rounding noise.
_NOISE: Final = 1e-8
#: Default lengths of vectors made from gene sets and from texts.
GRAPH_DIM: Final = 50


@checked
def from_gene_sets(
    path: str | os.PathLike[str],
    *,
    genes: Iterable[str] | None = None,
    dim: int | None = None,
    min_jaccard: float = 0.1,
    name: str | None = None,
) -> Embedding:
    r"""Embed genes by the gene sets they share (method H7; GEARS' gene ontology graph).

    Two genes are joined with their Jaccard index, the number of terms they share over the number
    of terms that either has, where that is above `min_jaccard`; every gene is joined to itself with
    weight 1. The graph is embedded by :func:`adjacency_spectral_embedding`.

    Parameters
    ----------
    path
        Gene sets as a ``.gmt`` file.
    genes
        Genes to make the graph of; by default all in the file. Those that no set contains get no
        vector.
    dim
        Length of the vectors; by default 50, or as many as the graph of fewer genes has, which the
        provenance notes. The second paper's code used 2, its text says 10; pass either to
        follow it. Both are few for finding neighbours: among the 1,600 perturbations of PerturbQA's
        K562 that are in GO, the mean Jaccard index of a gene with its ten nearest grows from 0.18
        (2) over 0.28 (10) to 0.33 (50), and little beyond.
    min_jaccard
        Pairs with this Jaccard index or less are not joined.
    name
        Name of the embedding, by default the file's.

    Returns
    -------
    Embedding
        Genes in sorted order. Genes that are not connected to the parts of the graph that the
        leading eigenvectors describe have rows of zeros, which count as missing.

    Raises
    ------
    ArgumentError
        `dim` is not below the number of genes in the graph, or `min_jaccard` is not in [0, 1).
    InputError
        The file is not a gene-set file, or has none of `genes`.

    Notes
    -----
    Overlaps are counted for some genes at a time: beside the graph, 12 bytes per joined pair and
    direction, at most ``60 bytes * 512 * n_genes`` are in use.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6
    Roohani, Huang and Leskovec (2024), https://doi.org/10.1038/s41587-023-01905-6
    Sussman et al. (2012), https://doi.org/10.1080/01621459.2012.699795

    Examples
    --------
    >>> with open("go.gmt", "w") as file:
    ...     n = file.write("heme\t\tGATA1\tKLF1\tHBG1\nstress\t\tTP53\tATM\nall\t\tGATA1\tTP53\n")
    >>> ps.embeddings.from_gene_sets("go.gmt", dim=2).names
    ('ATM', 'GATA1', 'HBG1', 'KLF1', 'TP53')
    """
    if not 0 <= min_jaccard < 1:
        raise ArgumentError(f"min_jaccard has to be in [0, 1), got {min_jaccard}")
    path = Path(path)
    terms = files.read_gmt(path)
    names, membership = _membership(terms, None if genes is None else set(genes))
    if not names:
        raise InputError(f"none of the genes asked for is in any gene set ({path})")
    dim, note = chosen_dim(dim, GRAPH_DIM, len(names) - 1)
    with naming_file(path):
        graph = jaccard_graph(membership, min_jaccard)
        matrix = adjacency_spectral_embedding(graph, dim=dim)
    length = np.linalg.norm(matrix, axis=1)
    matrix[length < _NOISE * length.max()] = 0.0
    provenance = {
        "file": path.name,
        "read as": "gene sets, Jaccard graph, adjacency spectral embedding",
        "n_terms": len(terms),
        "dim": dim,
        "min_jaccard": min_jaccard,
        **note,
    }
    with naming_file(path):
        return Embedding(name or path.name.partition(".gmt")[0], names, matrix, provenance)


def _membership(
    terms: Mapping[str, tuple[str, ...]], genes: set[str] | None
) -> tuple[tuple[str, ...], sparse.csr_array]:
    """Return sorted genes and their 0/1 matrix (n_genes, n_terms)."""
    found = {gene for members in terms.values() for gene in members}
    names = tuple(sorted(found if genes is None else found & genes))
    row_of = {gene: i for i, gene in enumerate(names)}
    pairs = [
        (row_of[gene], column)
        for column, members in enumerate(terms.values())
        for gene in members
        if gene in row_of
    ]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    ones = np.ones(len(rows), dtype=np.int32)
    return names, sparse.csr_array((ones, (rows, columns)), shape=(len(names), len(terms)))


@checked
def from_edges(path: str | os.PathLike[str], *, dim: int = 2, name: str | None = None) -> Embedding:
    """Embed genes by a graph that is given as a table of edges, such as GEARS' (method H7).

    Parameters
    ----------
    path
        csv, tsv or parquet with ``source, target, importance``, as ``go_essential_all.csv``; the
        graph is taken as it is, undirected.
    dim
        Length of the vectors; 2 in the second paper's code, 10 in its text.
    name
        Name of the embedding, by default the file's.

    Raises
    ------
    InputError
        A column is missing, or a weight is not a number.
    ArgumentError
        `dim` is not below the number of genes.

    References
    ----------
    Roohani, Huang and Leskovec (2024), https://doi.org/10.1038/s41587-023-01905-6

    Examples
    --------
    >>> edges = pd.DataFrame(
    ...     {
    ...         "source": ["GATA1", "KLF1", "TP53"],
    ...         "target": ["KLF1", "HBG1", "ATM"],
    ...         "importance": [0.5, 0.3, 0.4],
    ...     }
    ... )
    >>> edges.to_csv("go_essential_all.csv", index=False)
    >>> ps.embeddings.from_edges("go_essential_all.csv", dim=2).matrix.shape
    (5, 2)
    """
    table = read_long(path)
    columns = ("source", "target", "importance")
    lacking = [c for c in columns if c not in table]
    if lacking:
        raise InputError(
            f"a graph has the columns {', '.join(columns)}; {', '.join(lacking)} missing among "
            f"{', '.join(map(str, table.columns))} ({path})"
        )
    weight = as_numbers(table["importance"], path)
    wrong = np.flatnonzero(~np.isfinite(weight))
    if len(wrong):
        raise InputError(
            f"the importance is {weight[wrong[0]]} in row {int(wrong[0])} (and no finite number in "
            f"{len(wrong) - 1} more); an edge has a weight, or is left out ({path})"
        )
    source, target = (all_names(table[c], path) for c in ("source", "target"))
    names, graph = graph_from_edges(source, target, weight.tolist())
    with naming_file(path):
        matrix = adjacency_spectral_embedding(graph, dim=dim)
    provenance = {"file": Path(path).name, "read as": "edges, adjacency spectral embedding"}
    with naming_file(path):
        return Embedding(
            name or Path(path).name.split(".")[0], names, matrix, {**provenance, "dim": dim}
        )
