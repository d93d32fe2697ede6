"""Genetic interactions of double perturbations: deviations, calls and classes (method J1-J5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.expression import top_genes
from pertscale.schema import CONTROL, GENE, PERTURBATION
from pertscale.stats.empirical_null import LocalFdr, NormalNull, Null, local_fdr

if TYPE_CHECKING:
    import xarray as xr

Rule = Literal["text", "code"]
#: Classes in the order of figures; a pair without an interaction is additive.
INTERACTION_CLASSES: Final = ("additive", "buffering", "synergy", "opposite", "other")
_RULES: Final = ("text", "code")
#: Mean log1p expression below which a gene counts as not expressed, where that matters.
_EXPRESSED: Final = 0.01
#: Deviation that counts as an interaction where there is no null: a change by two thirds.
_EFFECT: Final = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Interactions:
    """Calls of genetic interactions.

    Attributes
    ----------
    table : DataFrame
        One row per double and gene, doubles in the order of the profiles, genes from the most
        expressed on: ``perturbation, gene, control, first, second, double, additive, deviation,
        local_fdr, interaction, interaction_class``. Expression is mean log1p.
    fit : LocalFdr
        The empirical null of the deviations.
    lower, upper : float
        A deviation beyond these is an interaction.
    rule, threshold, level
        What they were called with; `threshold` is ``'effect'`` where no null could be fitted.

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> interactions = ps.stats.find_interactions(profiles)
    >>> interactions.lower < 0 < interactions.upper
    True
    """

    table: pd.DataFrame
    fit: LocalFdr
    lower: float
    upper: float
    rule: str
    threshold: str
    level: float

    def class_counts(self) -> pd.Series:
        """Return the number of pairs of each class."""
        counts = self.table["interaction_class"].value_counts()
        return counts.reindex(list(INTERACTION_CLASSES), fill_value=0)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {name}" for name, n in self.class_counts().items() if n)
        null = self.fit.null
        fitted = f"null N({null.delta:.4g}, {null.sigma:.4g})"
        return (
            f"<Interactions: {self.table[PERTURBATION].nunique():,} doubles, {len(self.table):,} "
            f"pairs: {counts}; {'no null' if self.threshold == 'effect' else fitted}, thresholds "
            f"{self.lower:.4g} and {self.upper:.4g}>"
        )


@checked
def find_interactions(
    profiles: xr.DataArray,
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
    n_genes: int = 1000,
    level: float = 0.05,
    threshold: Literal["local", "tail"] = "local",
    rule: Rule = "text",
    null: Null | None = None,
) -> Interactions:
    """Call the (double, gene) pairs whose expression is not the sum of the singles' changes.

    The deviations from additivity of all doubles whose singles were measured are judged against an
    empirical null.

    Parameters
    ----------
    profiles : DataArray (perturbation, gene)
        Mean log1p expression of one context, the control among the perturbations.
    targets : mapping of str to sequence of str, optional
        Genes that each perturbation targets (``screen.targets``). Two guides of a gene in a cell
        are a single; where the guides of a double were not measured alone, the mean over the
        guides of the target counts. By default a name's parts are its targets.
    n_genes : int
        Number of genes that are judged: the most expressed ones in the control.
    level : float
        Rate of false discoveries.
    threshold : {'local', 'tail'}
        Whether `level` is the local rate at the threshold (the second paper's code) or the rate of
        all that lies beyond it (its text).
    rule : {'text', 'code'}
        Classes by the paper's text, or by its code, which can't find opposite interactions.
    null : {'maximum_likelihood', 'central_matching', 'theoretical'}, optional
        As for :func:`pertscale.stats.local_fdr`. By default by maximum likelihood; where that has
        no fit, without the genes that are not expressed, then by central matching, and where there
        is no null at all, deviations of 0.5 are called. ``fit.notes`` say so.

    Returns
    -------
    Interactions
        Memory: about 120 bytes per pair.

    Raises
    ------
    InputError
        If there is no control, no double with both singles, or `null` was given and has no fit.
    ArgumentError
        For an unknown option.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6
    Efron (2004), https://doi.org/10.1198/016214504000000089
    Efron (2007), https://doi.org/10.1198/016214506000001211

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> interactions = ps.stats.find_interactions(profiles)
    >>> interactions.table[["perturbation", "gene", "deviation", "interaction_class"]].shape
    (480, 4)
    >>> interactions.class_counts().index.to_list()
    ['additive', 'buffering', 'synergy', 'opposite', 'other']
    """
    _check_rule(rule)
    if not 0 < level < 1:
        raise ArgumentError(f"level has to be between 0 and 1, got {level}")
    names = [str(n) for n in profiles[PERTURBATION].values]
    singles = complete_doubles(names, targets)
    doubles = list(singles)
    if not doubles:
        raise InputError(
            "no double perturbation has both of its singles and the control in the profiles; "
            "interactions need A, B and A+B"
        )
    at = pd.Index(names)
    control = np.asarray(profiles[at.get_loc(CONTROL)].values, np.float64)
    genes = top_genes(control, n_genes)
    chosen = profiles.isel({GENE: genes})
    both = np.asarray(chosen[at.get_indexer(doubles)].values, np.float64)
    first, second = (_means(chosen, at, [singles[double][i] for double in doubles]) for i in (0, 1))
    control = np.broadcast_to(control[genes], both.shape)
    additive = first + second - control
    deviation = both - additive
    if not np.isfinite(deviation).all():
        raise InputError("the profiles of doubles, singles or control have values that are NaN")
    level_of_gene = np.concatenate([control, first, second, both]).mean(axis=0)
    fit, kept = _judged(deviation, level_of_gene > _EXPRESSED, null)
    fit = replace(fit, notes=(*fit.notes, *_guide_note(singles)))
    genes, chosen = genes[kept], chosen.isel({GENE: kept})
    control, first, second, both, additive, deviation = (
        values[:, kept] for values in (control, first, second, both, additive, deviation)
    )
    if np.isfinite(fit.null.sigma):
        lower, upper = fit.thresholds(deviation.ravel(), level=level, kind=threshold)
        called_by: str = threshold
    else:
        lower, upper, called_by = -_EFFECT, _EFFECT, "effect"
    classes = classify(control, first, second, both, lower=lower, upper=upper, rule=rule)
    columns = {
        "control": control,
        "first": first,
        "second": second,
        "double": both,
        "additive": additive,
        "deviation": deviation,
        "local_fdr": fit.of(deviation),
        "interaction": (deviation > upper) | (deviation < lower),
    }
    gene_names = chosen[GENE].values.astype(str)
    table = pd.DataFrame(
        {
            PERTURBATION: np.repeat(np.array(doubles, object), len(genes)),
            GENE: np.tile(gene_names.astype(object), len(doubles)),
            **{name: np.ravel(values) for name, values in columns.items()},
            "interaction_class": np.ravel(classes),
        }
    )
    return Interactions(
        table=table,
        fit=fit,
        lower=lower,
        upper=upper,
        rule=rule,
        threshold=called_by,
        level=level,
    )


def _judged(
    deviation: np.ndarray, expressed: np.ndarray, null: Null | None
) -> tuple[LocalFdr, np.ndarray]:
    """Return the null of the deviations, and which genes (double, gene) it is of."""
    everything = np.ones(len(expressed), bool)
    if null is not None:
        return local_fdr(deviation, null=null), everything
    reasons: list[str] = []
    for kept, kind, note in _attempts(expressed):
        try:
            fit = local_fdr(deviation[:, kept], null=kind)
        except InputError as error:
            reasons = reasons or [str(error)]
            continue
        told = (f"{note}, as with all of them there is {reasons[0]}",) if reasons else ()
        return replace(fit, notes=(*told, *fit.notes)), kept
    kept = expressed if expressed.any() else everything
    return _no_null(deviation[:, kept], reasons[0]), kept


def _attempts(expressed: np.ndarray) -> Iterator[tuple[np.ndarray, Null, str]]:
    """Yield genes and a kind of null, from the preferred one to the least demanding."""
    n = int(expressed.sum())
    few = f"of {n:,} of {len(expressed):,} genes, those that are expressed"
    yield np.ones(len(expressed), bool), "maximum_likelihood", ""
    if n:
        yield expressed, "maximum_likelihood", few
        yield expressed, "central_matching", f"by central matching, {few}"


def _no_null(deviation: np.ndarray, reason: str) -> LocalFdr:
    """Return a placeholder for the null where none can be fitted."""
    counts, edges = np.histogram(deviation, bins=10)
    unknown = np.full(len(counts), np.nan)
    note = (
        f"thresholds are an effect of {_EFFECT}, not a rate of false discoveries, of the genes "
        f"that are expressed: {reason}"
    )
    return LocalFdr(
        null=NormalNull(delta=np.nan, sigma=np.nan, p0=np.nan),
        centers=(edges[1:] + edges[:-1]) / 2,
        counts=counts.astype(float),
        density=unknown,
        null_density=unknown,
        fdr=unknown,
        misfit=np.nan,
        notes=(note,),
    )


def complete_doubles(
    names: Sequence[str], targets: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the doubles whose two targets are perturbed alone too; none without the control.

    Parameters
    ----------
    names
        Perturbations, the control among them.
    targets
        Genes that each targets; by default the parts of its name.

    Returns
    -------
    dict
        Double → the singles of each of its two targets: the guide that the double has, where that
        is there alone, else all guides of the target.
    """
    of = {
        name: tuple((targets or {}).get(name, perturbation_names.targets(name))) for name in names
    }
    if CONTROL not in of:
        return {}
    guides: dict[str, list[str]] = {}
    for name, mine in of.items():
        if len(mine) == 1:
            guides.setdefault(mine[0], []).append(name)
    found = {}
    for name, mine in of.items():
        if len(mine) == 2 and all(target in guides for target in mine):
            own = set(perturbation_names.targets(name))
            first, second = (
                tuple(g for g in guides[target] if g in own) or tuple(guides[target])
                for target in mine
            )
            found[name] = first, second
    return found


def _guide_note(singles: Mapping[str, tuple[tuple[str, ...], ...]]) -> list[str]:
    """Say in how many doubles other guides stand for those that the double has."""
    own = {double: set(perturbation_names.targets(double)) for double in singles}
    other = [d for d, both in singles.items() if any(not own[d] & set(names) for names in both)]
    if not other:
        return []
    return [
        f"in {len(other)} of {len(singles)} doubles, such as {other[0]}, other guides of a target "
        "stand for the one that is not there alone; of several, their mean"
    ]


def _means(profiles: xr.DataArray, at: pd.Index, groups: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the mean profile of each group of names, float64."""
    first = np.asarray(profiles[at.get_indexer([names[0] for names in groups])].values, np.float64)
    for row, names in enumerate(groups):
        if len(names) > 1:
            first[row] = np.asarray(profiles[at.get_indexer(list(names))].values).mean(
                axis=0, dtype=np.float64
            )
    return first


# --- classes ------------------------------------------------------------------------------------


def classify(
    control: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    both: np.ndarray,
    *,
    lower: float,
    upper: float,
    rule: Rule = "text",
) -> np.ndarray:
    """Return the class of each pair, of :data:`INTERACTION_CLASSES` (method J4).

    Parameters
    ----------
    control, first, second, both : ndarray
        Expression of one shape: of the control, the two singles, and the double.
    lower, upper : float
        Deviations from additivity strictly beyond these are interactions.
    rule : {'text', 'code'}
        As for :func:`find_interactions`.
    """
    _check_rule(rule)
    additive = first + second - control
    deviation = both - additive
    one, two, together = (np.sign(x - control) for x in (first, second, both))
    up, down = deviation > upper, deviation < lower
    rises, falls = additive > control, additive < control
    if rule == "code":
        same = (one == two) & (one == together)
        kinds = {
            "synergy": same & ((rises & up) | (falls & down)),
            "buffering": same & ((rises & down) | (falls & up)),
        }
    else:
        same = (one == two) & (one != 0)
        beyond = (rises & (both > additive)) | (falls & (both < additive))
        opposite = (rises & (both < control)) | (falls & (both > control))
        kinds = {
            "synergy": same & beyond,
            "opposite": same & opposite,
            "buffering": same & ~beyond & ~opposite,
        }
    found = np.select(list(kinds.values()), list(kinds), default="other").astype(object)
    found[~(up | down)] = "additive"
    return found


def class_of_prediction(
    control: np.ndarray, additive: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """Return the class that a predicted value claims, single effects not looked at (method J4).

    Between the control (inclusive) and the additive expectation it is buffering, beyond the
    expectation synergy, on the other side of the control opposite, else 'other'.
    """
    rises, falls = additive > control, additive < control
    kinds = {
        "buffering": (rises & (predicted >= control) & (predicted < additive))
        | (falls & (predicted <= control) & (predicted > additive)),
        "synergy": (rises & (predicted > additive)) | (falls & (predicted < additive)),
        "opposite": (rises & (predicted < control)) | (falls & (predicted > control)),
    }
    return np.select(list(kinds.values()), list(kinds), default="other").astype(object)


def same_direction(table: pd.DataFrame) -> np.ndarray:
    """Return which pairs have singles and double on one side of the control (method J8)."""
    one, two, both = (np.sign(table[c] - table["control"]) for c in ("first", "second", "double"))
    return np.asarray((one == two) & (one == both))


def _check_rule(rule: str) -> None:
    if rule not in _RULES:
        raise ArgumentError(f"rule={rule!r} is not one of {', '.join(_RULES)}")
