"""Vectors for genes and perturbations: from files, gene sets, texts or the training screen.

A method looks perturbations up with :meth:`Embedding.vectors`. What has no vector is a row of NaN
there and a line of :meth:`Embedding.coverage`; nothing is filled in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import svds
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from pertscale import display, perturbation_names
from pertscale._lazy import public_dir
from pertscale.arguments import checked
from pertscale.embeddings import files
from pertscale.embeddings.files import Orientation
from pertscale.embeddings.graph import (
    adjacency_spectral_embedding,
    fix_signs,
    graph_from_edges,
    jaccard_graph,
    start_vector,
)
from pertscale.errors import ArgumentError, InputError
from pertscale.hashing import digest
from pertscale.io.cell_vectors import read_cell_vectors
from pertscale.io.guards.damage import naming_file
from pertscale.io.long_tables import all_names, as_numbers, read_long
from pertscale.schema import CONTROL, GENE, PERTURBATION
from pertscale.storage.publish import local_copy

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Embedding",
    "from_cells",
    "from_edges",
    "from_gene_sets",
    "from_screen",
    "from_texts",
    "from_training",
    "read",
]

__dir__ = public_dir(__all__)

Matrix = np.ndarray[Any, np.dtype[np.float64]]

#: Name of the control in the embedding files of the field.
_CTRL: Final = "ctrl"
#: Rows of the gene-set graph that are this small against the largest one are rounding noise.
_NOISE: Final = 1e-8
#: Default lengths of vectors made from gene sets and from texts.
GRAPH_DIM: Final = 50
TEXT_DIM: Final = 100


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Named vectors, and where they came from.

    Parameters
    ----------
    name
        Name that scores and reports carry.
    names
        Genes, or perturbations, each once.
    matrix
        float64 (n, d), row ``i`` is the vector of ``names[i]``; copied and made read-only. A row of
        zeros counts as missing, as GenePT files have for the control.
    provenance
        File, settings and whatever else says how the vectors came about.

    Raises
    ------
    InputError
        Repeated or empty names, a shape that does not fit, or values that are not finite.
    """

    name: str
    names: tuple[str, ...]
    matrix: Matrix
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = tuple(map(str, self.names))
        matrix = np.array(self.matrix, dtype=np.float64, order="C")
        _check_names(names, self.name)
        if matrix.ndim != 2 or matrix.shape[0] != len(names) or 0 in matrix.shape:
            raise InputError(
                f"embedding {self.name!r} has {len(names)} names and a matrix of shape "
                f"{matrix.shape}; needed is one row per name and at least one column"
            )
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            raise InputError(
                f"embedding {self.name!r} has values that are not finite for "
                f"{np.count_nonzero(~finite)} names, first {names[int(np.argmin(finite))]!r}; "
                f"leave out names without a vector"
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "provenance", dict(self.provenance))

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.matrix.shape[1])

    @property
    def hash(self) -> str:
        """Hash of the names and the vectors, in their order."""
        return digest(self.names, self.matrix)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """Row of every name that has a vector other than zero."""
        return {self.names[i]: int(i) for i in np.flatnonzero(self.matrix.any(axis=1))}

    def normalized(self) -> Embedding:
        """Return the embedding with vectors of Euclidean length 1; rows of zeros stay."""
        return replace(
            self, matrix=_unit_rows(self.matrix), provenance={**self.provenance, "normalized": True}
        )

    def vectors(
        self,
        perturbations: Sequence[str],
        *,
        targets: Mapping[str, Sequence[str]] | None = None,
    ) -> Matrix:
        """Return a vector for each perturbation; a row of NaN where there is none (SPEC E2).

        A perturbation has the vector of its own name if that is in the embedding, else the one of
        its target gene. Several targets have the mean of their vectors, each scaled to length 1,
        scaled to length 1 again; all of them have to be in the embedding. So vectors of singles
        and of combinations have the same length only in a :meth:`normalized` embedding. The control
        has a vector only if the embedding has one for ``control`` or ``ctrl``.

        Parameters
        ----------
        perturbations
            Canonical names.
        targets
            Perturbation → its target genes, for names that do not say them, such as guides. Names
            that are not in it are read as genes joined by ``+``.

        Returns
        -------
        numpy.ndarray
            float64 (n_perturbations, d).
        """
        result = np.full((len(perturbations), self.dim), np.nan)
        for i, perturbation in enumerate(perturbations):
            names = self._sources(perturbation, targets)
            rows = [self._row_of[name] for name in names if name in self._row_of]
            if not names or len(rows) < len(names):
                continue
            if len(rows) == 1:
                result[i] = self.matrix[rows[0]]
            else:
                mean = _unit_rows(self.matrix[rows]).mean(axis=0, keepdims=True)
                # opposite vectors cancel: there is no direction, so no vector
                result[i] = _unit_rows(mean)[0] if mean.any() else np.nan
        return result

    def coverage(
        self,
        perturbations: Sequence[str],
        *,
        targets: Mapping[str, Sequence[str]] | None = None,
    ) -> pd.DataFrame:
        """Say which perturbations have a vector, and which genes are missing for the others.

        Returns
        -------
        pandas.DataFrame
            One row per perturbation, in the given order: `perturbation`, `n_genes_found`,
            `missing` (names joined by commas) and `covered`.
        """
        sources = [self._sources(p, targets) for p in perturbations]
        missing = [[name for name in names if name not in self._row_of] for names in sources]
        return pd.DataFrame(
            {
                "perturbation": list(perturbations),
                "n_genes_found": [
                    len(names) - len(lost) for names, lost in zip(sources, missing, strict=True)
                ],
                "missing": [",".join(names) for names in missing],
                "covered": np.isfinite(self.vectors(perturbations, targets=targets)).all(axis=1),
            }
        )

    def coverage_summary(
        self,
        perturbations: Sequence[str],
        *,
        targets: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Return :meth:`coverage` as one line of text."""
        table = self.coverage(perturbations, targets=targets)
        lost = table.loc[~table["covered"], "perturbation"].to_list()
        line = f"{self.name}: {len(table) - len(lost)} of {len(table)} perturbations have a vector"
        if not lost:
            return line
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        return f"{line}; without: {shown}"

    def _sources(
        self, perturbation: str, targets: Mapping[str, Sequence[str]] | None
    ) -> tuple[str, ...]:
        """Return the names whose vectors make up that of a perturbation."""
        if perturbation in self._row_of:
            return (perturbation,)
        if perturbation == CONTROL and _CTRL in self._row_of:
            return (_CTRL,)
        if targets is None or perturbation not in targets:
            return perturbation_names.targets(perturbation)
        genes = targets[perturbation]
        if isinstance(genes, str):
            raise ArgumentError(
                f"targets[{perturbation!r}] is the text {genes!r}, needed is a list of genes"
            )
        return tuple(dict.fromkeys(genes))

    def __repr__(self) -> str:
        n_missing = len(self.names) - len(self._row_of)
        missing = f", {n_missing} of them zero (missing)" if n_missing else ""
        return f"<Embedding {self.name!r}: {len(self.names)} names{missing}, {self.dim} dimensions>"

    def _repr_html_(self) -> str:
        n_missing = len(self.names) - len(self._row_of)
        shape = f"{len(self.names):,} names, {self.dim:,} dimensions"
        facts = {
            "first names": display.some(self.names),
            "without a vector": f"{n_missing:,} (rows of zeros)" if n_missing else "",
            **{str(key): str(value) for key, value in self.provenance.items()},
            "hash": self.hash[:12],
        }
        return display.card("Embedding", self.name, display.line(shape), display.facts(facts))


# --- from files --------------------------------------------------------------------------------


@checked
def read(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    name: str | None = None,
    orientation: Orientation | None = None,
    allow_pickle: bool = False,
) -> Embedding:
    """Read an embedding from a file; the suffix says the format.

    Parameters
    ----------
    path
        Path or URL. ``.csv``, ``.tsv``, ``.txt`` (also gzipped) or ``.parquet``: a table with one
        gene per row, or one per column as the second paper writes them (SPEC K1). ``.npz``: `names`
        and `matrix`.
        ``.h5ad``: an entry of `obsm` or `varm`. ``.json``: gene → vector, or gene → text
        (:func:`from_texts`). ``.gmt``: gene sets (:func:`from_gene_sets`). ``.pkl``: a dictionary
        gene → vector, as GenePT is published.
    key
        The array of an ``.npz`` or the entry of an ``.h5ad`` (``"varm/PCs"``), where there are
        several.
    name
        Name of the embedding, by default the file's without its suffix.
    orientation
        ``"rows"`` if each row of a table is a gene, ``"columns"`` if each column is. Found out from
        the table, except where both sides look like names.
    allow_pickle
        Whether a pickle may be read. Even then only plain data and arrays are, and nothing in the
        file is run (:mod:`pertscale.io.guards.safe_pickle`).

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    AmbiguousInputError
        Several readings are possible; the message names the argument that decides.
    InputError
        The content is not an embedding.
    """
    path = local_copy(path)
    suffix = files.suffix_of(path)
    name = name or path.name.removesuffix(".gz")[: -len(suffix) or None]
    if suffix in (".gmt", ".json") and (key is not None or orientation is not None):
        raise ArgumentError(f"key and orientation have no meaning for {suffix} files ({path})")
    if suffix == ".gmt":
        return from_gene_sets(path, name=name)
    if suffix == ".json":
        content = files.read_json_object(path)
        if all(isinstance(value, str) for value in content.values()):
            return _from_text_dict(content, dim=None, name=name, path=path)
        found = files.vectors_of_dict(content, path)
    else:
        found = files.read_vectors(
            path, key=key, orientation=orientation, allow_pickle=allow_pickle
        )
    with naming_file(path):
        return Embedding(name, found.names, found.matrix, {"file": path.name, "read as": found.how})


# --- from gene sets (SPEC H7) ------------------------------------------------------------------


@checked
def from_gene_sets(
    path: str | os.PathLike[str],
    *,
    genes: Iterable[str] | None = None,
    dim: int | None = None,
    min_jaccard: float = 0.1,
    name: str | None = None,
) -> Embedding:
    """Embed genes by the gene sets they share (SPEC H7; GEARS' gene ontology graph).

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
        The file is no gene-set file, or has none of `genes`.

    Notes
    -----
    Overlaps are counted for some genes at a time: beside the graph, 12 bytes per joined pair and
    direction, at most ``60 bytes * 512 * n_genes`` are in use.
    """
    if not 0 <= min_jaccard < 1:
        raise ArgumentError(f"min_jaccard has to be in [0, 1), got {min_jaccard}")
    path = Path(path)
    terms = files.read_gmt(path)
    names, membership = _membership(terms, None if genes is None else set(genes))
    if not names:
        raise InputError(f"none of the genes asked for is in any gene set ({path})")
    dim, note = _chosen_dim(dim, GRAPH_DIM, len(names) - 1)
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
    """Embed genes by a graph that is given as a table of edges, such as GEARS' (SPEC H7).

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
        A column is missing, or a weight is no number.
    ArgumentError
        `dim` is not below the number of genes.
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


# --- from cells (SPEC K2) ----------------------------------------------------------------------


@checked
def from_cells(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    perturbation: str | None = None,
    name: str | None = None,
) -> Embedding:
    """Embed perturbations by the mean vector of their cells: Geneformer, UCE, scBERT (SPEC K2).

    Parameters
    ----------
    path
        ``.h5ad`` with a vector per cell (or per condition) in ``obsm`` or ``X``; read in blocks.
    key
        Entry of ``obsm``, or ``"X"``; by default the only entry, or ``X`` where there is none.
    perturbation
        Column of perturbations, where it can't be told by its name.
    name
        Name of the embedding, by default the file's.

    Returns
    -------
    Embedding
        A vector per perturbation, names in their canonical spelling; the control is ``control``.

    Raises
    ------
    AmbiguousInputError
        There are several entries, and `key` is not given.
    InputError
        There are no vectors, or no labels.
    """
    labels, blocks, how = read_cell_vectors(path, key=key, perturbation=perturbation)
    texts = [str(c) for c in labels.categories]
    with naming_file(path):
        grammar = perturbation_names.Grammar.of(
            texts, (), filter(perturbation_names.is_control_word, texts)
        )
        parsed = [grammar.parse(text) for text in texts]
    names = sorted({perturbation_names.name_of(p) for p in parsed if p is not None})
    row = {found: i for i, found in enumerate(names)}
    way = np.array([-1 if p is None else row[perturbation_names.name_of(p)] for p in parsed] + [-1])
    total, count = None, np.zeros(len(names))
    start = 0
    for block in blocks:
        at = way[labels.codes[start : start + len(block)]]
        start += len(block)
        total = np.zeros((len(names), block.shape[1])) if total is None else total
        np.add.at(total, at[at >= 0], block[at >= 0])
        count += np.bincount(at[at >= 0], minlength=len(names))
    if total is None or not names:
        raise InputError(f"no labelled vectors found ({path})")
    provenance = {"file": Path(path).name, "read as": f"mean over cells of {how}"}
    with naming_file(path):
        return Embedding(
            name or Path(path).name.split(".")[0], tuple(names), total / count[:, None], provenance
        )


# --- from texts --------------------------------------------------------------------------------


@checked
def from_texts(
    path: str | os.PathLike[str], *, dim: int | None = None, name: str | None = None
) -> Embedding:
    """Embed genes by the words of their descriptions: TF-IDF, then truncated SVD.

    A plain and reproducible stand-in for GenePT, whose vectors come from a paid language model.

    Parameters
    ----------
    path
        JSON object gene → text. A text without any word in common with another has no vector.
    dim
        Length of the vectors; by default 100, as scikit-learn recommends for this method, or as
        many as fewer texts or words have, which the provenance notes.
    name
        Name of the embedding, by default the file's.

    Raises
    ------
    ArgumentError
        `dim` is not below the number of genes and of words.
    InputError
        The content is not texts, or no word occurs in two of them.
    """
    path = Path(path)
    content = files.read_json_object(path)
    name = name or path.name.partition(".json")[0]
    return _from_text_dict(content, dim=dim, name=name, path=path)


def _from_text_dict(
    content: Mapping[str, Any], *, dim: int | None, name: str, path: Path
) -> Embedding:
    for gene, text in content.items():
        if not isinstance(text, str):
            raise InputError(f"{gene!r} has {type(text).__name__}, not a text ({path})")
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    try:
        weights = vectorizer.fit_transform(content.values())
    except ValueError as error:  # scikit-learn's word for an empty vocabulary
        raise InputError(f"no word occurs in two of the texts: {error} ({path})") from error
    limit = min(weights.shape)
    dim, note = _chosen_dim(dim, TEXT_DIM, limit - 1)
    if not 1 <= dim < limit:
        raise ArgumentError(
            f"dim has to be from 1 to {limit - 1}, as there are {weights.shape[0]} texts with "
            f"{weights.shape[1]} different words; got {dim} ({path})"
        )
    svd = TruncatedSVD(n_components=dim, algorithm="arpack", random_state=0)
    matrix = fix_signs(svd.fit_transform(weights))
    # a text without known words is exactly zero before the rotation, and stays so
    matrix[np.diff(weights.indptr) == 0] = 0.0
    provenance = {"file": path.name, "read as": "texts, TF-IDF, truncated SVD", "dim": dim, **note}
    with naming_file(path):
        return Embedding(name, tuple(content), matrix, provenance)


# --- from the training screen (SPEC H4.1) ------------------------------------------------------


@checked
def from_training(
    profiles: Matrix, *, genes: Sequence[str], dim: int = 10, name: str = "training"
) -> Embedding:
    """Embed read-out genes by their expression over the training conditions (SPEC H4.1).

    Genes are the observations: from the profile of each condition its mean over genes is
    subtracted, and the first `dim` columns of ``U D`` of the singular value decomposition are kept.
    Nothing is scaled, and the control is not subtracted, so the first dimension is mostly the
    average expression.

    Pass the profiles of the *training* conditions only, the control among them: whatever is in
    `profiles` enters the vectors, and a test perturbation in it would leak.

    Parameters
    ----------
    profiles
        float64 (n_conditions, n_genes), mean of log1p expression.
    genes
        Names of the columns.
    dim
        Length of the vectors.
    name
        Name of the embedding.

    Raises
    ------
    ArgumentError
        `dim` is above ``min(n_conditions, n_genes) - 1``.
    InputError
        Shapes that do not fit, repeated genes, or values that are not finite.

    Notes
    -----
    Memory is one float64 copy of `profiles`; the solver is iterative and starts from a fixed
    vector. The vectors are those of the exact decomposition, each with its largest entry positive.
    """
    centred = np.array(profiles, dtype=np.float64, order="C")
    if centred.ndim != 2 or centred.shape[1] != len(genes):
        raise InputError(
            f"profiles have shape {centred.shape}, needed is (n_conditions, {len(genes)} genes)"
        )
    if not np.isfinite(centred).all():
        row, column = np.argwhere(~np.isfinite(centred))[0]
        raise InputError(
            f"the profile of condition {row} has no finite value for {genes[column]!r}"
        )
    check_dim(dim, *centred.shape)
    centred -= centred.mean(axis=1, keepdims=True)
    left, values, _ = svds(centred.T, k=dim, v0=start_vector(min(centred.shape)))
    leading = np.argsort(-values, kind="stable")
    matrix = fix_signs(left[:, leading] * values[leading])
    provenance = {
        "read as": "principal components of genes over training conditions",
        "n_conditions": len(centred),
        "dim": dim,
    }
    return Embedding(name, tuple(genes), matrix, provenance)


def check_dim(dim: int, n_conditions: int, n_genes: int) -> None:
    """Raise an ArgumentError if conditions x genes do not have `dim` principal components."""
    limit = min(n_conditions, n_genes) - 1
    if not 1 <= dim <= limit:
        raise ArgumentError(
            f"dim has to be from 1 to {limit}, as there are {n_conditions} conditions and "
            f"{n_genes} genes; got {dim}"
        )


@checked
def from_screen(profiles: xr.DataArray, *, dim: int = 10, name: str = "other screen") -> Embedding:
    """Embed perturbations by their profiles in another screen (SPEC H6).

    Conditions are the observations: from each gene its mean over conditions is subtracted, and the
    first `dim` columns of ``U D`` are kept. Pass all conditions of that screen, its control among
    them: the control has a vector of its own then.

    Parameters
    ----------
    profiles
        Mean log1p expression (perturbation, gene), such as ``read_pseudobulk(...)["mean_log1p"]``.
    dim
        Length of the vectors.
    name
        Name of the embedding.

    Raises
    ------
    ArgumentError
        `dim` is above ``min(n_conditions, n_genes) - 1``.
    InputError
        Values that are not finite, or names that occur twice.
    """
    values = profiles.transpose(PERTURBATION, GENE).values
    names = [str(n) for n in profiles[PERTURBATION].values]
    found = from_training(values.T, genes=names, dim=dim, name=name)
    provenance = {"read as": "principal components of conditions", "n_genes": values.shape[1]}
    return replace(found, provenance={**provenance, "dim": dim})


# --- shared steps ------------------------------------------------------------------------------


def _chosen_dim(dim: int | None, default: int, most: int) -> tuple[int, dict[str, str]]:
    """Return how long vectors are, and a note where the default is more than there can be."""
    if dim is not None or not 1 <= most < default:
        return default if dim is None else dim, {}
    return most, {"note": f"dim is {most}, not {default}: there are no more dimensions"}


def _unit_rows(matrix: Matrix) -> Matrix:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.divide(matrix, length, out=np.zeros_like(matrix), where=length > 0)


def _check_names(names: tuple[str, ...], embedding: str) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if not name:
            raise InputError(f"embedding {embedding!r} has an empty name in row {i}")
        if name in seen:
            raise InputError(f"embedding {embedding!r} has {name!r} twice; keep one vector of it")
        seen.add(name)
