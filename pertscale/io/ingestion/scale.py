"""Raw counts or log-normalised: declared by the user, or proved from the values (method A2)."""

from __future__ import annotations

import numpy as np

from pertscale.errors import ArgumentError, InputError, NegativeValueError
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.ingestion.passes import NOT_FINITE, REWRITE, place_of
from pertscale.io.ingestion.scale_proof import FORMS, LOG1P, Evidence
from pertscale.io.sources import CsrBlock, Source, SourceSpec, open_source
from pertscale.schema import COUNTS, LOG1P_1E4, MOST_LOG1P, SCALES, TARGET_TOTAL

#: A fractional part above this means that a value is not a count.
FRACTION = 1e-3
_SAMPLE_BYTES = 8_000_000
_DECLARE = "name another matrix with layer=, or write the file again"
#: Factor by which the sums of most predicted cells may exceed 10,000.
_PREDICTED_ABOVE = 1.5


def decide_scale(
    sources: SourceSet, *, declared: str | None, predicted: bool = False
) -> tuple[str, str]:
    """Return the scale of the sources and a sentence on how it is known.

    A sample of each source is judged here; the first pass of ingest checks every value against
    the verdict, and stops at the first that contradicts it.

    Parameters
    ----------
    sources
        What is judged, one by one.
    declared
        What the user says; it is taken unless the values prove that it is wrong.
    predicted
        Whether a model made the values. There were no counts to normalise, so only impossible
        values are refused, and cells may miss their total by a little.

    Raises
    ------
    InputError
        If the values fit neither scale or contradict the declared one, or the sources differ.
    """
    if declared is not None:
        if declared not in SCALES:
            raise ArgumentError(f"scale={declared!r} is not one of {', '.join(SCALES)}")
        for spec in sources if declared == LOG1P_1E4 else ():
            _check_declared(spec, predicted)
        return declared, f"scale: {declared}, as declared"
    verdicts = {spec.path: _judge(spec, predicted) for spec in sources}
    scales = {scale for scale, _ in verdicts.values()}
    if len(scales) > 1:
        listed = "; ".join(f"{path}: {scale}" for path, (scale, _) in verdicts.items())
        raise InputError(f"the files are on different scales ({listed}); ingest them separately")
    return next(iter(verdicts.values()))


def _judge(spec: SourceSpec, predicted: bool) -> tuple[str, str]:
    blocks, whole = read_sample(spec)
    where = f"{spec.path} ({spec.matrix})"
    values = np.concatenate([block.data for block in blocks]).astype(np.float64)
    high = float(values.max())
    fraction = float(np.abs(values - np.round(values)).max())
    if fraction == 0:
        return COUNTS, f"scale: counts, since all values are integers (up to {high:,.0f})"
    if fraction <= FRACTION or high >= MOST_LOG1P:
        raise InputError(
            f"{where}: fractional values up to {high:,.4g} are neither counts nor log1p of counts "
            f"per 10,000 (below {MOST_LOG1P:g}): they were corrected or normalised. {REWRITE}"
        )
    evidence = Evidence(blocks, whole)
    _refuse(_contradiction(evidence, predicted), where)
    known = _support(evidence)
    if known is None and not predicted:
        raise InputError(f"{where}: {_undecided(evidence)}")
    how = "the values are fractional and below 15" + (f", {known}" if known else "")
    return LOG1P_1E4, f"scale: log1p of counts per 10,000, since {how}"


def _check_declared(spec: SourceSpec, predicted: bool) -> None:
    """Raise where values that are declared as log1p_1e4 prove to be something else.

    That counts are integers, the first pass checks value by value.
    """
    blocks, whole = read_sample(spec)
    where = f"{spec.path} ({spec.matrix})"
    if all((block.data == np.round(block.data)).all() for block in blocks):
        raise InputError(
            f"{where}: declared as scale='log1p_1e4', but all values are "
            "integers, as counts are; pass scale='counts', or leave scale= out"
        )
    if max(float(block.data.max(initial=0.0)) for block in blocks) < MOST_LOG1P:
        _refuse(_contradiction(Evidence(blocks, whole), predicted), where)


def _refuse(contradiction: str | None, where: str) -> None:
    if contradiction is not None:
        raise InputError(f"{where}: the values are not log1p of counts per 10,000: {contradiction}")


# --- what the values prove ------------------------------------------------------------------------


def _contradiction(evidence: Evidence, predicted: bool) -> str | None:
    """Say what values below 15 are if not log1p of counts per 10,000, and how to convert them.

    None where nothing proves it.
    """
    common = evidence.common_sum
    if common is not None and abs(common / TARGET_TOTAL - 1) <= 0.01:
        return None
    for form in FORMS:
        if evidence.is_whole_numbers(form):
            return (
                f"{form.back} gives whole numbers, so they are {form.name} of counts that were "
                f"never normalised; write numpy.rint({form.back}), the counts"
            )
    if common is not None:
        return _other_total(common, f"every cell sums to {common:,.0f}")
    proved = {form.name: evidence.is_normalised(form) for form in FORMS}
    other = next((form for form in FORMS if proved[form.name] and form is not LOG1P), None)
    if other is not None and proved[LOG1P.name] is False:
        return (
            f"{other.back} gives whole multiples of one number in each cell, as normalised counts "
            f"are, and expm1 does not: they are {other.name}; write numpy.log1p({other.back}), if "
            "the counts were divided to 10,000 per cell"
        )
    sums, most = evidence.sums, evidence.most_allowed
    # some predicted cells may be far off, and are scored as they are; not all of them
    high = float(np.quantile(sums, 0.1)) if predicted else float(sums.max())
    if high > (_PREDICTED_ABOVE * TARGET_TOTAL if predicted else most):
        found = f"they sum to {sums.min():,.0f} to {sums.max():,.0f} per cell"
        return _other_total(evidence.total or None, found)
    if sums.max() <= most and evidence.total and evidence.total != TARGET_TOTAL:
        found = "that makes whole numbers of counts in each cell, which 10,000 does not"
        if TARGET_TOTAL % evidence.total == 0:
            found = "10,000 would make the counts of every cell a multiple of one number"
        return _other_total(evidence.total, found)
    return None


def _other_total(total: float | None, found: str) -> str:
    named = f"{total:,.0f} per cell" if total else "another total"
    factor = f"{total:.10g}" if total else "the total"
    return (
        f"the counts were normalised to {named} ({found}); write "
        f"numpy.log1p(numpy.expm1(X) * 10000 / {factor})"
    )


def _support(evidence: Evidence) -> str | None:
    """Say what proves log1p of counts per 10,000, where nothing contradicts it; None if nothing."""
    if evidence.common_sum is not None:
        return "and every cell sums to 10,000"
    if not evidence.is_normalised(LOG1P):
        return None
    known = "no cell is above 10,000 and all values of a cell are multiples of one"
    if evidence.total == TARGET_TOTAL:
        return f"{known}, which makes the total of each a whole number (genes were left out)"
    return f"{known}; they are rounded too much to tell more" if evidence.is_coarse else None


def _undecided(evidence: Evidence) -> str:
    """Say what values may be that fit no scale, or several, and that it can be declared."""
    fitting = [form.name for form in FORMS if evidence.is_normalised(form) is not False]
    if evidence.is_normalised(LOG1P):
        fitting = ["log1p of counts per 10,000", "log1p of counts per another total"]
    found = f"they may be {' or '.join(fitting)}" if fitting else "no cell has multiples of one"
    return (
        f"whether the fractional values are log1p of counts per 10,000 can't be proved ({found}); "
        "if they are, declare it with scale='log1p_1e4', or name the counts with layer="
    )


def _check_usable(source: Source, block: CsrBlock) -> None:
    """Raise for a value that neither scale can have."""
    bad = np.flatnonzero(~np.isfinite(block.data) | (block.data < 0))
    if len(bad):
        found = f"{place_of(source, block, int(bad[0]))}: the value is {block.data[bad[0]]}; "
        if not np.isfinite(block.data[bad[0]]):
            raise InputError(found + NOT_FINITE)
        raise NegativeValueError(
            f"{found}counts "
            "and log1p of normalised counts are finite and not negative. If the matrix was scaled, "
            "name the one that was not with layer='counts' or layer='raw'"
        )


def read_sample(spec: SourceSpec) -> tuple[list[CsrBlock], bool]:
    """Read the first, the middle and the last block; tell whether their rows are whole cells."""
    with open_source(spec) as source:
        blocks = source.blocks(_SAMPLE_BYTES)
        chosen = sorted({0, len(blocks) // 2, len(blocks) - 1}) if blocks else []
        found = [source.read(blocks[i]) for i in chosen]
        for block in found:
            _check_usable(source, block)
        whole = source.row_major or len(blocks) == 1
    if not any(block.data.any() for block in found):
        raise InputError(
            f"{spec.path} ({spec.matrix}): no value other than zero was found; {_DECLARE}"
        )
    return found, whole
