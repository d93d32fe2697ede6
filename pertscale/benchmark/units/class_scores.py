"""The scores of predicted classes, in each of the settings that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import zarr

from pertscale.baselines.inputs import Predicted
from pertscale.benchmark.units.label_matrix import PAIR_BYTES, is_held, strip_rows
from pertscale.evaluation import evaluate_per_gene
from pertscale.evaluation.classification import ScoredPairs, scored_both
from pertscale.evaluation.per_gene import evaluate_per_gene_both
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CONFIDENT, WITHOUT_TARGET, Label


@dataclass(frozen=True)
class Points:
    """Operating points at which a predictor is scored, beside the calls it makes.

    Attributes
    ----------
    training_rate : float, optional
        Share of differentially expressed pairs in training, to which its calls are set. None
        where its scores rank nothing, or no training pair was tested.
    same : bool
        Whether its calls count at the training rate, too: reference methods that mark the scale.
    """

    training_rate: float | None = None
    same: bool = False


def score_settings(
    predicted: Predicted,
    truth: np.ndarray,
    perturbations: Sequence[str],
    *,
    settings: Sequence[str],
    target_pairs: np.ndarray,
    overlap: Callable[[], np.ndarray],
    points: Points,
    keep_sums: bool,
    confident: Callable[[], np.ndarray] | None = None,
) -> dict[str, ScoredPairs]:
    """Score a prediction in each of the settings.

    Parameters
    ----------
    predicted : Predicted
    truth : ndarray of int8, (perturbation, gene)
    perturbations : sequence of str
    settings : sequence of str
        ``full`` and ``curated`` are all pairs, ``full_without_target`` all but the targets, and
        ``..._overlap`` those of the genes that the training contexts have, too. For files these
        are all other contexts: what a file leaves out does not make its task easier. ``confident``
        are those of `confident` without the targets, called as they are among all.
    target_pairs : ndarray of int, (n, 2)
        Row and column of the pairs of a perturbation with its own target genes.
    overlap : callable
        Returns which genes ``..._overlap`` is of, (n_genes,) bool.
    points : Points
    keep_sums : bool
        Whether the sums are kept that the scores are functions of.
    confident : callable, optional
        Returns which pairs ``confident`` is of, (perturbation, gene) bool.

    Returns
    -------
    dict of str to ScoredPairs
        By setting: a table as of :func:`pertscale.evaluation.evaluate`, and the sums of it.
    """
    options: Any = {
        "perturbations": perturbations,
        "training_rate": points.training_rate,
        "keep_sums": keep_sums,
    }
    whole = [s for s in settings if not s.endswith("_overlap") and s != CONFIDENT]
    scored = _score_whole(predicted, truth, whole, target_pairs, options)
    if CONFIDENT in settings:
        assert confident is not None
        kept = np.where(confident(), truth, np.int8(Label.UNTESTED))
        kept[tuple(target_pairs.T)] = Label.UNTESTED
        threshold = _threshold(predicted, truth, scored, target_pairs, options)
        of_kept = options | {"training_rate": None, "threshold": threshold}
        scored[CONFIDENT] = _score_pairs(predicted, kept, of_kept)
    rest = [setting for setting in settings if setting not in scored]
    if rest:
        scored |= dict.fromkeys(rest, _score_overlap(predicted, truth, overlap(), scored, options))
    if points.same:
        scored = {setting: _at_both_points(one) for setting, one in scored.items()}
    return {
        setting: replace(scored[setting], table=_with_counts(scored[setting].table, predicted))
        for setting in settings
    }


def _score_whole(
    predicted: Predicted,
    truth: np.ndarray,
    settings: Sequence[str],
    target_pairs: np.ndarray,
    options: dict[str, Any],
) -> dict[str, ScoredPairs]:
    """Score all pairs, and all but the targets in the same pass."""
    if not settings:
        return {}
    if WITHOUT_TARGET not in settings or not len(target_pairs):  # all settings are the same
        return dict.fromkeys(settings, _score_pairs(predicted, truth, options))
    labels, scores = predicted.labels, predicted.scores
    both = scored_both(truth, labels, scores=scores, exclude=target_pairs, **options)
    within_genes = evaluate_per_gene_both(truth, scores, exclude=target_pairs)
    scored = [
        replace(one, table=_with_rest(one.table, more, predicted, truth, exclude))
        for one, more, exclude in zip(both, within_genes, (None, target_pairs), strict=True)
    ]
    return {setting: scored[setting == WITHOUT_TARGET] for setting in settings}


def _threshold(
    predicted: Predicted,
    truth: np.ndarray,
    scored: Mapping[str, ScoredPairs],
    target_pairs: np.ndarray,
    options: dict[str, Any],
) -> float | None:
    """Return where all pairs are called at the training rate, without their targets if known."""
    if options["training_rate"] is None:
        return None
    scored = scored or _score_whole(predicted, truth, [WITHOUT_TARGET], target_pairs, options)
    return scored.get(WITHOUT_TARGET, next(iter(scored.values()))).threshold


def _score_overlap(
    predicted: Predicted,
    truth: np.ndarray,
    shared: np.ndarray,
    whole: Mapping[str, ScoredPairs],
    options: dict[str, Any],
) -> ScoredPairs:
    """Score the pairs of shared genes: all pairs, which may be scored already, if all are."""
    on_genes = np.where(shared, truth, np.int8(Label.UNTESTED))
    if np.array_equal(on_genes, truth):
        others = (WITHOUT_TARGET, CONFIDENT)
        every = next((one for name, one in whole.items() if name not in others), None)
        if every is not None:
            return every
    return _score_pairs(predicted, on_genes, options)


def _score_pairs(predicted: Predicted, truth: np.ndarray, options: dict[str, Any]) -> ScoredPairs:
    one, _ = scored_both(truth, predicted.labels, scores=predicted.scores, **options)
    within_genes = evaluate_per_gene(truth, predicted.scores)
    return replace(one, table=_with_rest(one.table, within_genes, predicted, truth))


def read_prediction(path: Any, n_pairs: int, params: dict[str, Any]) -> Predicted:
    """Return what was written of a prediction: arrays, or of many pairs Zarr's."""
    root: Any = zarr.open_group(path, mode="r")
    found = {name: root[name] for name in ("label", "score", "fell_back") if name in root}
    if is_held(PAIR_BYTES * n_pairs):
        found = {name: array[:] for name, array in found.items()}
    return Predicted(found["label"], found["score"], params, found.get("fell_back"))


def _with_rest(
    table: pd.DataFrame,
    within_genes: pd.DataFrame,
    predicted: Predicted,
    truth: np.ndarray,
    exclude: np.ndarray | None = None,
) -> pd.DataFrame:
    """Put further scores of all pairs after the other ones of level overall.

    The areas within genes and, of methods that vote, the share of pairs without a vote.
    """
    n = int((table["level"] != "overall").argmax())
    more = [within_genes]
    if predicted.fell_back is not None:
        more.append(share_without_vote(truth, predicted.fell_back, exclude))
    return pd.concat([table[:n], *more, table[n:]], ignore_index=True)


def share_without_vote(
    truth: np.ndarray, fell_back: Any, exclude: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the row that says which share of the tested pairs got their gene's majority label."""
    kept = truth != Label.UNTESTED
    if exclude is not None:
        kept[tuple(exclude.T)] = False
    n, step = int(kept.sum()), strip_rows(*truth.shape)
    strips = (slice(start, start + step) for start in range(0, len(truth), step))
    n_back = sum(int((kept[rows] & np.asarray(fell_back[rows])).sum()) for rows in strips)
    row = {"operating_point": "", "level": "overall", "group": "", "n": n}
    row |= {"metric": "share_without_vote", "value": n_back / n if n else np.nan}
    return pd.DataFrame([row])


def _at_both_points(one: ScoredPairs) -> ScoredPairs:
    """Repeat the scores of calls for the training rate, of methods whose calls count there."""
    called = one.table[one.table["operating_point"] == AS_CALLED]
    at_rate = called.assign(operating_point=AT_TRAINING_RATE)
    table = pd.concat([one.table, at_rate], ignore_index=True)
    if one.sums is None:
        return ScoredPairs(table, None)
    counts = {**one.sums.called, AT_TRAINING_RATE: one.sums.called[AS_CALLED]}
    return ScoredPairs(table, replace(one.sums, called=counts))


def _with_counts(table: pd.DataFrame, predicted: Predicted) -> pd.DataFrame:
    """Add how many perturbations are scored, and how many of all have no vector that is needed."""
    scored = (table["level"] == "perturbation") & (table["n"] > 0)
    n = table.loc[scored, "group"].nunique()
    counts, params = {"n_perturbations": n}, predicted.params
    if "n_test_without_embedding" in params:
        counts["n_without_vector"] = params["n_test_without_embedding"]
    row = {"operating_point": "", "level": "overall", "group": "", "n": n}
    rows = [row | {"metric": name, "value": float(count)} for name, count in counts.items()]
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def pairs_of_targets(
    perturbations: Sequence[str], genes: Sequence[str], targets: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Return row and column of the pairs of perturbations with their own targets, (n, 2)."""
    column = {gene: at for at, gene in enumerate(genes)}
    pairs = [
        (row, column[gene])
        for row, name in enumerate(perturbations)
        for gene in targets[name]
        if gene in column
    ]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)
