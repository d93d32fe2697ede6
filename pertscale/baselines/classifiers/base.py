"""What the classifiers of labels share: their interface, checks, and the walk over genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from pertscale.arguments import checked
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, InputError, NotFittedError
from pertscale.guide_names import target_group
from pertscale.perturbation_names import targets
from pertscale.schema import CLASSES, GENE, PERTURBATION, Label

#: Genes predicted at a time: votes take 24 bytes per test perturbation and gene of the block.
GENE_STEP: Final = 256

#: Labels and class scores of the same pair, so that one pass over the data makes both.
PAIR: Final = np.dtype([("label", np.int8), ("scores", np.float32, (len(CLASSES),))])
#: The same with whether the label is the gene's majority, as nobody voted.
VOTED_PAIR: Final = np.dtype([*PAIR.descr, ("fell_back", np.bool_)])

#: Maps columns (n, genes) and the positions of these genes to labels and scores that broadcast to
#: (perturbation, genes) and (perturbation, genes, 3), and to what else its pairs have.
PredictBlock = Callable[[NDArray, NDArray[np.int64]], tuple[NDArray, ...]]


@checked
class LabelClassifier(BaseEstimator, ABC):
    """Base of the classifiers, following scikit-learn's conventions.

    A classifier is fitted on the labels of the training perturbations, ``y`` of shape
    (perturbation, gene), and their embedding ``X`` of shape (perturbation, d), in which a row of
    NaN means that the perturbation has none. ``y`` may be a Dask array: then predictions are Dask
    arrays with the gene chunks of ``y``, and fitting computes no more than a few counters per
    gene. Results do not depend on the chunks.

    Both may be an ``xarray.DataArray``, such as ``labels.matrix()``. Where ``y`` is one, ``X`` may
    be an :class:`pertscale.Embedding`: the vectors are looked up by the names of ``y``, and
    ``predict`` takes names of perturbations.
    """

    classes_: NDArray[np.int8]
    n_genes_: int
    lookup_: Lookup | None = None

    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None) -> Self:
        """Fit the classifier.

        Parameters
        ----------
        X
            Vectors of the training perturbations, shape (n, d); methods that ignore them accept
            (n, 0). Or an :class:`pertscale.Embedding`, where `y` names its perturbations.
        y
            Labels of shape (n, gene), integers in {-1, 0, 1, -128}: NumPy, Dask, or a DataArray.
        groups
            Target of each training perturbation, shape (n,): guides or transcripts of one gene
            have one. Methods that cross-validate keep a group in one fold; others ignore it.

        Returns
        -------
        Self

        Raises
        ------
        InputError
            For shapes that do not fit, codes that are not labels (with Dask: on compute), and
            fewer groups than a method needs folds.
        ArgumentError
            For a parameter with an unknown value.
        """
        X, y = self._training(X, y)
        self._fit(X, y, groups)
        return self._mark_fitted(y)

    def predict(self, X: Any) -> Any:
        """Return the predicted labels, int8 of shape (perturbation, gene)."""
        return self.predict_both(X)[0]

    def predict_proba(self, X: Any) -> Any:
        """Return the class scores, float32 of shape (perturbation, gene, 3).

        They sum to 1 over the classes, or are NaN where the method does not predict. Tied classes
        have equal scores, so labels cannot always be read off them.
        """
        return self.predict_both(X)[1]

    def predict_both(self, X: Any) -> tuple[Any, Any]:
        """Return labels and class scores from one pass, as :meth:`predict` and `predict_proba`.

        Parameters
        ----------
        X
            Vectors of the perturbations to predict, shape (n, d); or their names, where the
            classifier was fitted on an :class:`pertscale.Embedding`.

        Returns
        -------
        tuple of (labels, scores)
            Dask arrays if the classifier was fitted on one.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        InputError
            If `X` is not what the classifier was fitted on.
        """
        X = self._asked(X)
        columns, block = self._prepare(X)
        labels, scores = over_genes(block, columns, n_rows=len(X))
        return labels, scores

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters, with those that fitting chose, for the record of a run."""
        return dict(self.get_params(deep=False))

    @abstractmethod
    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        """Learn from checked input."""

    @abstractmethod
    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        """Return what is known per gene, shape (n, gene), and how to predict a block of it."""

    def _training(self, X: Any, y: Any) -> tuple[NDArray[np.float64], Any]:
        """Return checked vectors and labels; remember an embedding, for names to predict."""
        self.lookup_ = None
        if isinstance(X, Embedding):
            self.lookup_ = Lookup.of(X, y)
            X = self.lookup_(y[PERTURBATION].values)
        return check_training(X, unnamed(y))

    def _asked(self, X: Any) -> NDArray[Any]:
        """Return checked vectors of what is to be predicted."""
        self._check_fitted()
        if self.lookup_ is not None and np.asarray(X).dtype.kind in "UOT":
            X = self.lookup_(X)
        return check_embedding(X)

    def _mark_fitted(self, y: Any) -> Self:
        self.classes_ = np.array(CLASSES, dtype=np.int8)
        self.n_genes_ = y.shape[1]
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_genes_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(X, y) first")


@checked
class VotingClassifier(LabelClassifier):
    """Base of the classifiers that call the gene's majority label where nobody votes."""

    def predict_both(self, X: Any) -> tuple[Any, Any]:
        """Return labels and class scores; see :meth:`LabelClassifier.predict_both`."""
        labels, scores, _ = self.predict_with_fallback(X)
        return labels, scores

    def predict_with_fallback(self, X: Any) -> tuple[Any, Any, Any]:
        """Return labels, class scores, and which pairs fell back to the gene's majority label.

        Parameters
        ----------
        X
            As of :meth:`LabelClassifier.predict_both`.

        Returns
        -------
        tuple of (labels, scores, fell_back)
            The last bool of shape (perturbation, gene): where no neighbour has a label, or the
            perturbation has no vector.
        """
        X = self._asked(X)
        columns, block = self._prepare(X)
        labels, scores, fell_back = over_genes(block, columns, n_rows=len(X), pair=VOTED_PAIR)
        return labels, scores, fell_back


@dataclass(frozen=True)
class Lookup:
    """Looks up vectors of perturbations, of guides by the gene that their name starts with."""

    embedding: Embedding
    genes: frozenset[str]

    @classmethod
    def of(cls, embedding: Embedding, y: Any) -> Self:
        """Return the lookup for the perturbations of some labels."""
        if not (isinstance(y, xr.DataArray) and {PERTURBATION, GENE} <= set(y.coords)):
            raise InputError(
                "X is an Embedding, whose vectors go by name, and y does not name its "
                "perturbations; pass labels.matrix() as y, or X.vectors(names)"
            )
        return cls(embedding.normalized(), frozenset(map(str, y[GENE].values)))

    def __call__(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return vectors, (n, d); NaN for names that the embedding does not have."""
        named = [str(name) for name in names]
        groups = target_group(named, set(self.genes))
        return self.embedding.vectors(named, targets={n: targets(groups[n]) for n in named})


def over_genes(
    block: PredictBlock, columns: Any, *, n_rows: int, pair: np.dtype[Any] = PAIR
) -> tuple[Any, ...]:
    """Predict all genes, a few at a time.

    Parameters
    ----------
    block
        Predicts a block of genes.
    columns
        Array of shape (n, gene). If it is a Dask array, so are the results, one task per chunk of
        genes.
    n_rows
        Number of perturbations to predict.
    pair
        What the block returns of a pair.

    Returns
    -------
    tuple of (labels, scores, ...)
        Shapes (n_rows, gene) and (n_rows, gene, 3); one array for each field of `pair`.
    """
    n_genes, names = columns.shape[1], pair.names or ()
    if not dask.is_dask_collection(columns):
        arrays = tuple(
            np.empty((n_rows, n_genes, *pair[name].shape), pair[name].base) for name in names
        )
        _fill(block, columns, np.arange(n_genes), arrays)
        return arrays
    columns = columns.rechunk({0: -1})
    genes = da.from_array(np.arange(n_genes)[None], chunks=((1,), columns.chunks[1]))
    pairs = da.map_blocks(
        _pairs,
        columns,
        genes,
        block=dask.delayed(block),  # one node of the graph, not a copy per task
        n_rows=n_rows,
        pair=pair,
        chunks=((n_rows,), columns.chunks[1]),
        dtype=pair,
        meta=np.empty((0, 0), dtype=pair),
    )
    return tuple(pairs[name] for name in names)


def _pairs(
    columns: NDArray, genes: NDArray, *, block: PredictBlock, n_rows: int, pair: np.dtype[Any]
) -> NDArray:
    out = np.empty((n_rows, columns.shape[1]), dtype=pair)
    _fill(block, columns, genes[0], tuple(out[name] for name in pair.names or ()))
    return out


def _fill(
    block: PredictBlock, columns: NDArray, genes: NDArray, arrays: tuple[NDArray, ...]
) -> None:
    for start in range(0, columns.shape[1], GENE_STEP):
        part = slice(start, start + GENE_STEP)
        for array, values in zip(arrays, block(columns[:, part], genes[part]), strict=True):
            array[:, part] = values


def per_gene(values: NDArray, gene_chunks: tuple[int, ...] | None) -> Any:
    """Return (n, gene) values as they are, or as a Dask array with these gene chunks."""
    if gene_chunks is None:
        return values
    return da.from_array(values, chunks=((len(values),), gene_chunks))


def gene_chunks(y: Any) -> tuple[int, ...] | None:
    """Return the gene chunks of a Dask array, None for a NumPy array."""
    return y.chunks[1] if dask.is_dask_collection(y) else None


# --- checks -------------------------------------------------------------------------------------


def unnamed(values: Any) -> Any:
    """Return the array in a DataArray, NumPy or Dask; other arrays as they are."""
    return values.data if isinstance(values, xr.DataArray) else values


def check_training(X: ArrayLike, y: Any) -> tuple[NDArray[np.float64], Any]:
    """Return the checked embedding and labels; lazy labels are checked when they are computed."""
    X = check_embedding(X)
    lazy = dask.is_dask_collection(y)
    y = y if lazy else np.asarray(y)
    if y.ndim != 2 or y.dtype.kind != "i":
        raise InputError(
            f"y has shape {y.shape} and dtype {y.dtype}; labels are integers of shape "
            "(perturbation, gene), with -128 for pairs that were not tested"
        )
    if y.shape[0] != len(X) or not len(X):
        raise InputError(
            f"X has {len(X)} rows and y {y.shape[0]}; both need one row per training "
            "perturbation, and at least one (unknown Dask chunks: call compute_chunk_sizes first)"
        )
    return X, y.map_blocks(check_labels, dtype=np.int8) if lazy else check_labels(y)


def check_labels(y: NDArray) -> NDArray[np.int8]:
    """Return labels as int8; codes that are not labels are refused."""
    known = (y >= min(CLASSES)) & (y <= max(CLASSES)) | (y == int(Label.UNTESTED))
    if not known.all():
        unknown = ~known
        row, gene = np.argwhere(unknown)[0]
        raise InputError(
            f"y has the code {y[row, gene]} at row {row}, gene {gene} (counted within the block); "
            f"labels are {CLASSES}, or {int(Label.UNTESTED)} for pairs that were not tested"
        )
    return y.astype(np.int8, copy=False)


def check_embedding(X: ArrayLike, name: str = "X") -> NDArray[np.float64]:
    """Return an embedding as float64; rows are finite, or NaN throughout."""
    if isinstance(X, Embedding):
        raise InputError(
            f"{name} is an Embedding, whose vectors go by name; pass {name}.vectors(names)"
        )
    try:
        values = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} has values that are no numbers ({error}); needed are vectors, one row per "
            "perturbation or gene. Names are for classifiers that were fitted on an Embedding"
        ) from error
    if values.ndim != 2:
        raise InputError(
            f"{name} has shape {values.shape}; an embedding has one row per perturbation or gene"
        )
    damaged = ~np.isfinite(values).all(axis=1) & ~without_embedding(values)
    if damaged.any():
        raise InputError(
            f"row {np.flatnonzero(damaged)[0]} of {name} has values that are infinite, or NaN in "
            "some columns only; a row is finite, or NaN in all columns if there is no embedding"
        )
    return values


def without_embedding(X: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows are NaN, that is, have no embedding."""
    return np.logical_and.reduce(np.isnan(X), axis=1)


def with_embedding(X: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows that have an embedding.

    Raises
    ------
    InputError
        If no row has one.
    """
    rows = np.flatnonzero(~without_embedding(X))
    if not len(rows):
        raise InputError(
            f"none of the {len(X)} training perturbations has an embedding; the method "
            "needs one, so check that its names match those of the perturbations"
        )
    return rows


def check_dimensions(X: NDArray[np.float64], n_dimensions: int) -> None:
    """Refuse vectors with another number of dimensions than the training embedding."""
    if X.shape[1] != n_dimensions:
        raise InputError(
            f"X has {X.shape[1]} dimensions, the training embedding {n_dimensions}; "
            "both have to come from the same embedding"
        )


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a parameter that is not among the allowed values."""
    if value not in allowed:
        raise ArgumentError(f"{name}={value!r} is unknown; use one of {', '.join(allowed)}")
