"""Models of users: objects with ``fit`` and ``predict``, scikit-learn estimators, entry points."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pickle import PicklingError
from typing import Any, Final
from uuid import uuid4

import dask.array as da
import joblib
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor

from pertscale.arguments import checked
from pertscale.baselines.classifiers._votes import class_counts, class_shares, majority_labels
from pertscale.baselines.classifiers.base import LabelClassifier, with_embedding
from pertscale.baselines.expression.base import ExpressionModel, row_of
from pertscale.baselines.registry import ExpressionMethod, Method
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError, InputError
from pertscale.hashing import digest
from pertscale.schema import CLASSES, CONTROL, GENE, PERTURBATION, Label

#: Entry points of packages that bring models.
GROUP: Final = "pertscale.models"

UserModels = Mapping[str, Any] | Sequence[str]


@checked
def own_methods(models: UserModels | None) -> dict[str, Method | ExpressionMethod]:
    """Return the methods of a user's models by name.

    Parameters
    ----------
    models
        Name → model; or names of entry points of the group ``pertscale.models``, which lead to a
        model or to something that makes one when it is called. A model is

        * an :class:`ExpressionModel` or :class:`LabelClassifier`;
        * a scikit-learn regressor: from a perturbation's vector to its change of expression;
        * a scikit-learn classifier: one per gene, from a perturbation's vector to the class;
        * any other object with ``fit(profiles)`` and ``predict(perturbations)``: of mean log1p
          expression as ``xarray.DataArray`` (perturbation, gene), the control among the training
          profiles; it returns such an array, a DataFrame, or a NumPy array.

    Raises
    ------
    ArgumentError
        Something is not a model, or there is no such entry point.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> methods = ps.baselines.own_methods({"ridge": Ridge()})
    >>> methods["ridge"].needs_embedding
    True
    """
    if models is None:
        return {}
    if not isinstance(models, Mapping):
        models = {name: _entry_point(name) for name in models}
    return {str(name): _method(str(name), model) for name, model in models.items()}


def _entry_point(name: str) -> Any:
    installed = entry_points(group=GROUP)
    if name not in installed.names:
        raise ArgumentError(
            f"no installed package has an entry point {name!r} in the group {GROUP!r}; there are "
            f"{', '.join(sorted(installed.names)) or 'none'}"
        )
    return installed[name].load()


def _method(name: str, model: Any) -> Method | ExpressionMethod:
    if inspect.isclass(model) or inspect.isfunction(model):
        model = model()
    key = model_key(model)
    if isinstance(model, LabelClassifier):
        takes_genes = "gene_vectors" in model.get_params(deep=False)
        return Method(
            make=_fresh(model), needs_embedding=True, needs_gene_vectors=takes_genes, key=key
        )
    if isinstance(model, ExpressionModel):
        return ExpressionMethod(make=_fresh(model), key=key)
    estimator = isinstance(model, BaseEstimator)
    if estimator and is_regressor(model):
        make = _fresh(EmbeddingRegressor(model))
        return ExpressionMethod(make=make, needs_embedding=True, key=key)
    if estimator and is_classifier(model):
        make = _fresh(ClassifierPerGene(model))
        return Method(make=make, needs_embedding=True, key=key)
    if callable(getattr(model, "fit", None)) and callable(getattr(model, "predict", None)):
        return ExpressionMethod(make=_fresh(AnyModel(model)), key=key)
    raise ArgumentError(
        f"model {name!r} is a {type(model).__name__}; needed is an object with fit and predict "
        "(see pertscale.baselines.own_methods)"
    )


def _fresh(model: Any) -> Callable[[int], Any]:
    """Return a function that makes an unfitted copy; the seed of the split is not used."""
    return lambda seed: clone(model)


def model_key(model: Any) -> str:
    """Hash of a model's parameters and of the module that its class is in.

    A class from a notebook or script has no key that lasts: it is fitted again in every run.
    """
    module = inspect.getmodule(type(model))
    if module is None or module.__name__ == "__main__":
        return uuid4().hex
    try:
        return digest(joblib.hash(model), inspect.getsource(module))
    except (
        OSError,
        TypeError,
        AttributeError,
        ValueError,
        PicklingError,
    ):  # compiled, or can't be pickled
        return uuid4().hex


class AnyModel(ExpressionModel):
    """An object with ``fit(profiles)`` and ``predict(perturbations)``.

    Parameters
    ----------
    model
        Copied for every split, before it is fitted.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def fitted_params(self) -> dict[str, Any]:
        """Return the class of the model."""
        return {"model": type(self.model).__name__}

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._model = copy.deepcopy(self.model)
        _called(self._model.fit, profiles)

    def _predict(self, names: list[str]) -> NDArray:
        predicted = _called(self._model.predict, names)
        if isinstance(predicted, pd.DataFrame):
            predicted = xr.DataArray(
                predicted.to_numpy(np.float64),
                dims=(PERTURBATION, GENE),
                coords={
                    PERTURBATION: predicted.index.astype(str),
                    GENE: predicted.columns.astype(str),
                },
            )
        if isinstance(predicted, xr.DataArray):
            predicted = self._in_order(predicted, names)
        values = np.asarray(predicted, np.float64)
        if np.isinf(values).any():
            raise InputError(f"{type(self.model).__name__}.predict returned infinite values")
        if values.shape != (len(names), len(self.genes_)):
            raise InputError(
                f"{type(self.model).__name__}.predict returned shape {values.shape}, needed is "
                f"{(len(names), len(self.genes_))}: perturbations asked for x genes of the profiles"
            )
        return values

    def _in_order(self, predicted: xr.DataArray, names: list[str]) -> xr.DataArray:
        """Put labelled predictions in the order asked for; NaN where there is none."""
        where = {PERTURBATION: names, GENE: self.genes_}
        for dim in where:
            if dim not in predicted.dims or dim not in predicted.coords:
                raise InputError(
                    f"{type(self.model).__name__}.predict returned dimensions {predicted.dims}; "
                    f"needed are {PERTURBATION} and {GENE}, with names"
                )
            if predicted.indexes[dim].has_duplicates:
                raise InputError(
                    f"{type(self.model).__name__}.predict returned a {dim} twice; give each once"
                )
        return predicted.reindex(where).transpose(PERTURBATION, GENE)


def _called(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call the user's code; what it raises is the reason why this model alone has no score."""
    try:
        return function(argument)
    except Exception as error:
        raise InputError(
            f"{function.__qualname__} raised {type(error).__name__}: {error}"
        ) from error


class EmbeddingRegressor(ExpressionModel):
    """A scikit-learn regressor from the vector of a perturbation to its change of expression.

    Parameters
    ----------
    regressor
        Takes several targets at once.
    embedding : Embedding, optional
        Set by the benchmark. Perturbations without a vector are neither fitted nor predicted.
    """

    def __init__(self, regressor: Any, embedding: Embedding | None = None) -> None:
        self.regressor = regressor
        self.embedding = embedding

    def fitted_params(self) -> dict[str, Any]:
        """Return the regressor and the name of the embedding."""
        name = None if self.embedding is None else self.embedding.name
        return {"regressor": repr(self.regressor), "embedding": name}

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        X = self._vectors(names)
        rows = [i for i, n in enumerate(names) if n != CONTROL and np.isfinite(X[i]).all()]
        if len(rows) < 2:
            raise InputError(f"{len(rows)} training perturbations have a vector; 2 are needed")
        self._control = row_of(profiles, names.index(CONTROL))
        change = np.asarray(profiles[rows].values, np.float64) - self._control
        self._fitted = clone(self.regressor).fit(X[rows], change)

    def _predict(self, names: list[str]) -> NDArray:
        X = self._vectors(names)
        known = np.isfinite(X).all(axis=1)
        out = np.full((len(names), len(self._control)), np.nan)
        if known.any():
            out[known] = self._control + self._fitted.predict(X[known])
        return out

    def _vectors(self, names: list[str]) -> NDArray:
        if self.embedding is None:
            raise ArgumentError("a regressor needs vectors of the perturbations; pass embedding=")
        return self.embedding.normalized().vectors(names)


class ClassifierPerGene(LabelClassifier):
    """A scikit-learn classifier per gene, from the vector of a perturbation to the class.

    A gene with one class has that class; perturbations without a vector get the gene's majority.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def fitted_params(self) -> dict[str, Any]:
        """Return the classifier."""
        return {"classifier": repr(self.classifier)}

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        self._rows = with_embedding(X)
        self._vectors = X[self._rows]
        self._labels = y.rechunk({0: -1}) if isinstance(y, da.Array) else y

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, Any]:
        known = np.isfinite(X).all(axis=1)

        def block(y: NDArray, genes: NDArray) -> tuple[NDArray, NDArray]:
            counts = class_counts(y)
            shares = np.moveaxis(class_shares(counts), 0, -1)
            labels = np.tile(majority_labels(counts), (len(X), 1))
            scores = np.tile(shares, (len(X), 1, 1))
            for gene in range(y.shape[1]):
                column = y[self._rows, gene]
                tested = column != Label.UNTESTED
                if known.any() and len(np.unique(column[tested])) > 1:
                    fitted = clone(self.classifier).fit(self._vectors[tested], column[tested])
                    labels[known, gene] = fitted.predict(X[known])
                    scores[known, gene] = _class_scores(fitted, X[known])
            return labels, scores

        return self._labels, block


def _class_scores(fitted: Any, X: NDArray) -> NDArray:
    """Return scores of the three classes: probabilities, else 1 for what is predicted."""
    if hasattr(fitted, "predict_proba"):
        scores = np.zeros((len(X), len(CLASSES)))
        scores[:, np.searchsorted(CLASSES, fitted.classes_)] = fitted.predict_proba(X)
        return scores
    return (fitted.predict(X)[:, None] == np.array(CLASSES)).astype(np.float64)
