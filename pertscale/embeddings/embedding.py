"""Vectors for genes and perturbations: from files, gene sets, texts or the training screen.

A method looks perturbations up with :meth:`Embedding.vectors`. What has no vector is a row of NaN
there and a line of :meth:`Embedding.coverage`; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale import display, perturbation_names
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.hashing import digest
from pertscale.schema import CONTROL

if TYPE_CHECKING:
    pass


#: Name of the control in the embedding files of the field.
_CTRL: Final = "ctrl"


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

    Examples
    --------
    >>> embedding = ps.Embedding("mine", ("GATA1", "KLF1"), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> embedding.vectors(["GATA1", "GATA1+KLF1", "TP53"]).round(2)  # TP53 has none
    array([[1.  , 0.  ],
           [0.71, 0.71],
           [ nan,  nan]])
    """

    name: str
    names: tuple[str, ...]
    matrix: NDArray[np.float64]
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
            self, matrix=unit_rows(self.matrix), provenance={**self.provenance, "normalized": True}
        )

    def vectors(
        self,
        perturbations: Sequence[str],
        *,
        targets: Mapping[str, Sequence[str]] | None = None,
    ) -> NDArray[np.float64]:
        """Return a vector for each perturbation; a row of NaN where there is none (method E2).

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
                mean = unit_rows(self.matrix[rows]).mean(axis=0, keepdims=True)
                # opposite vectors cancel: there is no direction, so no vector
                result[i] = unit_rows(mean)[0] if mean.any() else np.nan
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
            "first names": display.first_few(self.names),
            "without a vector": f"{n_missing:,} (rows of zeros)" if n_missing else "",
            **{str(key): str(value) for key, value in self.provenance.items()},
            "hash": self.hash[:12],
        }
        return display.card("Embedding", self.name, display.line(shape), display.facts(facts))


# --- shared steps ------------------------------------------------------------------------------


def chosen_dim(dim: int | None, default: int, most: int) -> tuple[int, dict[str, str]]:
    """Return how long vectors are, and a note where the default is more than there can be."""
    if dim is not None or not 1 <= most < default:
        return default if dim is None else dim, {}
    return most, {"note": f"dim is {most}, not {default}: there are no more dimensions"}


def unit_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows at length 1; a row of zeros stays."""
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
