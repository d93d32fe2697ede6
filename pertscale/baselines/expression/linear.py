"""The bilinear model of the second paper, and the decoder from embeddings (method H4-H7, K2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.expression.base import (
    ExpressionModel,
    blocks,
    mean_profile,
    row_of,
)
from pertscale.embeddings.components import principal_scores
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, InputError
from pertscale.guide_names import called_genes, group_alone
from pertscale.hashing import seed_from
from pertscale.schema import CONTROL, GENE

Special = Literal["training", "random", "identity", "zero"]
_SPECIAL: Final = ("training", "random", "identity", "zero")
#: Principal components, where there are so many.
DIM: Final = 10
#: Width of the random vectors.
RANDOM_DIM: Final = 10
#: Other name of the control in embeddings of perturbations.
_CTRL: Final = "ctrl"


@checked
class BilinearModel(ExpressionModel):
    """``Y ≈ G W Pᵀ + b + y0``: genes times perturbations, both embedded (method H4).

    Parameters
    ----------
    dim : int, optional
        Principal components of an embedding that is learned from the training profiles. By default
        10, or as many as there are: one fewer than conditions or genes.
    ridge : float
        Penalty, on both sides.
    genes, perturbations : Embedding or {'training', 'random', 'identity', 'zero'}
        Vectors of the read-out genes (G) and of the perturbations (P). 'training': genes by their
        principal components over the training conditions; perturbations have the vector of the
        gene they target. An :class:`pertscale.Embedding` may come from anywhere: another screen
        (:func:`pertscale.embeddings.from_screen`), gene sets, a file. 'random' has one vector per
        name, 'identity' an axis per name, 'zero' leaves ``b + y0``. A guide of a gene that is read
        out, such as ``ZAP70_1``, has the vector of that gene.
    seed : int
        Of random vectors; a vector depends on the seed and its name.

    Attributes
    ----------
    weights_ : ndarray (dim of G, dim of P)
    center_ : ndarray (gene,)
        ``b``, the mean change of the matched training perturbations, the control among them.
    matched_ : list of str
        Training perturbations that have a vector.
    genes_ : ndarray of str
        Genes that have a vector, in the order of the embedding.

    Notes
    -----
    Perturbations without a vector are not predicted. The control has a vector of zeros unless the
    embedding of perturbations has one for it. Lazy profiles are read in blocks, three times.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> train, held_out = profiles[:9], ["GENE0079", "GENE0092"]
    >>> model = ps.baselines.BilinearModel(dim=4).fit(train)
    >>> model.predict(held_out).shape
    (2, 120)
    >>> len(model.matched_), model.weights_.shape
    (6, (4, 4))
    """

    weights_: NDArray
    center_: np.ndarray
    matched_: list[str]

    def __init__(
        self,
        *,
        dim: int | None = None,
        ridge: float = 0.1,
        genes: Embedding | Special = "training",
        perturbations: Embedding | Special = "training",
        components: NDArray | None = None,
        seed: int = 0,
    ) -> None:
        self.dim = dim
        self.ridge = ridge
        self.genes = genes
        self.perturbations = perturbations
        self.components = components
        self.seed = seed

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters; embeddings by their names, and a note where `dim` is lower."""
        params = {
            name: value.name if isinstance(value, Embedding) else value
            for name, value in self.get_params(deep=False).items()
            if name != "components"
        }
        if self.dim is not None:
            return params
        dim = getattr(self, "_dim", DIM)
        params["dim"] = dim
        if dim < DIM:
            params["note"] = f"{dim} principal components, not {DIM}: there are no more"
        return params

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._check_parameters()
        read_out = pd.Index(self.genes_)
        learned = None
        if "training" in (self.genes, self.perturbations):
            learned = self._components(profiles)
            self._dim = learned.shape[1]
        gene_rows, G = self._gene_vectors(read_out, learned)
        self._vectors = self._perturbation_vectors(read_out, learned, names)
        self._called = called_genes(read_out)
        for name in names:
            vector = self._vector_of_target(name)
            if vector is not None:
                self._vectors.setdefault(name, vector)
        self.matched_ = [n for n in names if n in self._vectors]
        if len(gene_rows) < 2 or len(self.matched_) < 2:
            raise InputError(
                f"the bilinear model needs 2 genes and 2 training conditions with vectors; there "
                f"are {len(gene_rows)} of {len(read_out)} genes and {len(self.matched_)} of "
                f"{len(names)} conditions (the control counts as one)"
            )
        P = np.stack([self._vectors[n] for n in self.matched_])
        every = np.array_equal(gene_rows, np.arange(len(read_out)))
        chosen = profiles if every else profiles.isel({GENE: gene_rows})
        control = row_of(chosen, names.index(CONTROL))
        at = [names.index(n) for n in self.matched_]
        self.genes_ = self.genes_[gene_rows]
        self.center_ = mean_profile(chosen, at) - control
        self._level = control + self.center_
        left = np.zeros((len(control) if G is None else G.shape[1], P.shape[1]))  # G' (Z - b) P
        for rows, block in blocks(chosen, at):
            block -= self._level
            left += (block.T if G is None else G.T @ block.T) @ P[rows]
        if G is None:
            left = left / (1 + self.ridge)
        else:
            left = np.linalg.solve(G.T @ G + self.ridge * np.eye(G.shape[1]), left)
        weights = np.linalg.solve(P.T @ P + self.ridge * np.eye(P.shape[1]), left.T).T
        self.weights_ = np.nan_to_num(weights, nan=0.0, posinf=np.inf, neginf=-np.inf)
        self._by_gene = self.weights_ if G is None else G @ self.weights_

    def _components(self, profiles: xr.DataArray) -> NDArray:
        """Return the principal components of genes, given or computed."""
        if self.components is None:
            return own_components(profiles, self.dim)
        given = np.asarray(self.components)
        dim = given.shape[1] if self.dim is None else self.dim
        if given.ndim != 2 or len(given) != profiles.sizes[GENE] or not 1 <= dim <= given.shape[1]:
            raise InputError(
                f"components have shape {given.shape}; needed are {dim} for each of the "
                f"{profiles.sizes[GENE]} genes"
            )
        return given[:, :dim]

    def _predict(self, names: list[str]) -> NDArray:
        out = np.full((len(names), len(self._level)), np.nan)
        for i, name in enumerate(names):
            vector = self._vector_of(name)
            if vector is not None:
                out[i] = self._by_gene @ vector + self._level
        return out

    def _vector_of(self, name: str) -> np.ndarray | None:
        if name in self._vectors:
            return self._vectors[name]
        if self.perturbations == "random":
            return _random_vector(self.seed, "perturbation", name)
        if self.perturbations in ("identity", "zero"):
            return np.zeros(next(iter(self._vectors.values())).shape)
        return self._vector_of_target(name)

    def _vector_of_target(self, name: str) -> np.ndarray | None:
        """Return the vector of the gene that a guide is of, where names are guides."""
        if self.perturbations == "training" or isinstance(self.perturbations, Embedding):
            return self._vectors.get(group_alone(name, self._called))
        return None

    def _gene_vectors(
        self, read_out: pd.Index, learned: NDArray | None
    ) -> tuple[np.ndarray, NDArray | None]:
        """Return the matched genes and their vectors; None stands for the identity."""
        everything = np.arange(len(read_out))
        if isinstance(self.genes, Embedding):
            first = {gene: i for i, gene in reversed(list(enumerate(read_out)))}
            there = [i for i, name in enumerate(self.genes.names) if name in first]
            matched = np.array([first[self.genes.names[i]] for i in there], np.intp)
            return matched, self.genes.matrix[there]
        if self.genes == "training":
            return everything, learned
        if self.genes == "random":
            return everything, _random_vectors_of_genes(self.seed, tuple(read_out))
        return everything, None if self.genes == "identity" else np.zeros((len(read_out), 1))

    def _perturbation_vectors(
        self, read_out: pd.Index, learned: NDArray | None, names: list[str]
    ) -> dict[str, np.ndarray]:
        """Return vectors by name, of all that may ever be asked for and of the control."""
        given = self.perturbations
        if isinstance(given, Embedding):
            return {CONTROL: np.zeros(given.dim)} | _by_name(given)
        if given == "training":
            assert learned is not None
            listed = zip(reversed(list(read_out)), learned[::-1], strict=True)
            return dict(listed) | {CONTROL: np.zeros(learned.shape[1])}  # the first of duplicates
        if given == "random":
            return {n: _random_vector(self.seed, "perturbation", n) for n in names}
        axes = np.eye(len(names)) if given == "identity" else np.zeros((len(names), 1))
        return dict(zip(names, axes, strict=True))

    def _check_parameters(self) -> None:
        for what in ("genes", "perturbations"):
            value = getattr(self, what)
            if not isinstance(value, Embedding) and value not in _SPECIAL:
                raise ArgumentError(
                    f"{what}={value!r} is neither an Embedding nor one of {', '.join(_SPECIAL)}"
                )
        if not self.ridge > 0:
            raise ArgumentError(f"ridge has to be positive, got {self.ridge}")


def own_components(profiles: xr.DataArray, dim: int | None = None) -> NDArray:
    """Return principal components of genes over profiles: ten, or as many as there are."""
    most = max(1, min(DIM, min(profiles.shape) - 1))
    return principal_scores(profiles, most if dim is None else dim)


def _by_name(embedding: Embedding) -> dict[str, np.ndarray]:
    """Return vectors by name; the control's, if there is one, under its canonical name too."""
    vectors = dict(zip(embedding.names, embedding.matrix, strict=True))
    if _CTRL in vectors:
        vectors.setdefault(CONTROL, vectors[_CTRL])
    return vectors


def _random_vector(seed: int, kind: str, name: str) -> np.ndarray:
    return np.random.default_rng(seed_from(seed, kind, name)).standard_normal(RANDOM_DIM)


@lru_cache(maxsize=8)
def _random_vectors_of_genes(seed: int, genes: tuple[str, ...]) -> NDArray:
    """Return the random vectors of all genes, (gene, dim): the same in all splits of a seed."""
    vectors = np.stack([_random_vector(seed, "gene", gene) for gene in genes])
    vectors.flags.writeable = False
    return vectors


@checked
class RidgeDecoder(ExpressionModel):
    """Ridge regression from embeddings of conditions to their profiles (method K2).

    How the second paper turns the cell embeddings of Geneformer, UCE and scBERT into predictions:
    fitted on condition means, all genes together, the intercept not penalised.

    Parameters
    ----------
    embedding : Embedding
        A vector per condition, for instance the mean over its cells. Conditions without one are
        neither fitted nor predicted.
    alpha : float
        Penalty.

    Attributes
    ----------
    coef_ : ndarray (d, gene)
    intercept_ : ndarray (gene,)

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.5, 2.0, 0.5], [1.0, 1.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={"perturbation": ["control", "GATA1", "KLF1"], "gene": ["HBG1", "ACTB", "TP53"]},
    ... )
    >>> names = ("control", "GATA1", "KLF1", "TP53")
    >>> cells = ps.Embedding("uce", names, np.array([[0.1, 0], [1.0, 0], [0, 1.0], [1.0, 1.0]]))
    >>> ps.baselines.RidgeDecoder(embedding=cells).fit(profiles).predict(["TP53"]).values.round(2)
    array([[1.24, 1.51, 0.5 ]])
    """

    coef_: NDArray
    intercept_: np.ndarray

    def __init__(self, *, embedding: Embedding, alpha: float = 1.0) -> None:
        self.embedding = embedding
        self.alpha = alpha

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters; the embedding by its name."""
        return {"embedding": self.embedding.name, "alpha": self.alpha}

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        if not self.alpha > 0:
            raise ArgumentError(f"alpha has to be positive, got {self.alpha}")
        self._vectors = _by_name(self.embedding)
        matched = [n for n in names if n in self._vectors]
        if len(matched) < 2:
            raise InputError(
                f"embedding {self.embedding.name!r} has vectors for {len(matched)} of the "
                f"{len(names)} training conditions; the decoder needs 2"
            )
        X = np.stack([self._vectors[n] for n in matched])
        at = [names.index(n) for n in matched]
        x = X.mean(axis=0)
        y = mean_profile(profiles, at)
        solver = _ridge_solver(X - x, self.alpha)
        self.coef_ = np.zeros((X.shape[1], len(y)))
        for r, block in blocks(profiles, at):
            self.coef_ += solver[:, r] @ (block - y)
        self.intercept_ = y - x @ self.coef_

    def _predict(self, names: list[str]) -> NDArray:
        out = np.full((len(names), len(self.intercept_)), np.nan)
        known = [i for i, n in enumerate(names) if n in self._vectors]
        if known:
            X = np.stack([self._vectors[names[i]] for i in known])
            out[known] = X @ self.coef_ + self.intercept_
        return out


def _ridge_solver(X: NDArray, alpha: float) -> NDArray:
    """Return ``(XᵀX + α)⁻¹ Xᵀ``, solved in whichever of rows and columns there are fewer of."""
    n, d = X.shape
    if d <= n:
        return np.linalg.solve(X.T @ X + alpha * np.eye(d), X.T)
    return np.linalg.solve(X @ X.T + alpha * np.eye(n), X).T
