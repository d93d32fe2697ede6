"""Raw counts or log-normalised: declared by the user, or proved from the values (SPEC A2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pertscale.errors import ArgumentError, InputError, NegativeValueError
from pertscale.io.passes import LOG_LIMIT, place_of
from pertscale.io.sources import CsrBlock, Source, SourceSpec, open_source
from pertscale.schema import COUNTS, LOG1P_1E4, SCALES, TARGET_TOTAL

#: A fractional part above this means that a value is not a count.
FRACTION = 1e-3
_SAMPLE_BYTES = 8_000_000
_DECLARE = "declare it with scale='counts' or scale='log1p_1e4', or name another layer="


def decide_scale(specs: Sequence[SourceSpec], *, declared: str | None) -> tuple[str, str]:
    """Return the scale of the sources and a sentence on how it is known.

    A sample of each source is judged here; the first pass of ingest checks every value against
    the verdict, and stops at the first that contradicts it.

    Raises
    ------
    InputError
        If the values fit neither scale or contradict the declared one, or the sources differ.
    """
    if declared is not None:
        if declared not in SCALES:
            raise ArgumentError(f"scale={declared!r} is not one of {', '.join(SCALES)}")
        for spec in specs if declared == LOG1P_1E4 else ():
            _check_fractions(spec)
        return declared, f"scale: {declared}, as declared"
    verdicts = {spec.path: _judge(spec) for spec in specs}
    scales = {scale for scale, _ in verdicts.values()}
    if len(scales) > 1:
        listed = "; ".join(f"{path}: {scale}" for path, (scale, _) in verdicts.items())
        raise InputError(f"the files are on different scales ({listed}); ingest them separately")
    return next(iter(verdicts.values()))


def _judge(spec: SourceSpec) -> tuple[str, str]:
    with open_source(spec) as source:
        blocks = _sample(source)
        for block in blocks:
            _check_usable(source, block)
        whole = source.row_major or len(blocks) == 1
    where = f"{spec.path} ({spec.matrix})"
    values = np.concatenate([block.data for block in blocks]).astype(np.float64)
    high = float(values.max())
    fraction = float(np.abs(values - np.round(values)).max())
    if fraction == 0:
        return COUNTS, f"scale: counts, since all values are integers (up to {high:,.0f})"
    if fraction > FRACTION and high < LOG_LIMIT:
        known = "the values are fractional and below 15"
        if whole:
            known += f" {_check_total(blocks, where)}"
        return LOG1P_1E4, f"scale: log1p of counts per 10,000, since {known}"
    raise InputError(
        f"{where}: fractional values up to {high:,.4g} are neither counts nor log1p of counts per "
        f"10,000 (below {LOG_LIMIT:g}); {_DECLARE}"
    )


def _check_fractions(spec: SourceSpec) -> None:
    """Raise where all values are integers: the logarithms of normalised counts never are.

    That counts are integers, the first pass checks value by value.
    """
    with open_source(spec) as source:
        blocks = _sample(source)
    if all((block.data == np.round(block.data)).all() for block in blocks):
        raise InputError(
            f"{spec.path} ({spec.matrix}): declared as scale='log1p_1e4', but all values are "
            "integers, as counts are; pass scale='counts', or leave scale= out"
        )


def _check_usable(source: Source, block: CsrBlock) -> None:
    """Raise for a value that neither scale can have."""
    bad = np.flatnonzero(~np.isfinite(block.data) | (block.data < 0))
    if len(bad):
        kind = NegativeValueError if np.isfinite(block.data[bad[0]]) else InputError
        raise kind(
            f"{place_of(source, block, int(bad[0]))}: the value is {block.data[bad[0]]}; counts "
            "and log1p of normalised counts are finite and not negative. If the matrix was scaled, "
            "name the one that was not with layer='counts' or layer='raw'"
        )


def _check_total(blocks: Sequence[CsrBlock], where: str) -> str:
    """Say what the totals of the cells prove; raise if they prove another total than 10,000."""
    total, constant = _common_total(blocks)
    if not constant:
        return "(cells do not sum to 10,000, as where genes were left out)"
    if abs(total / TARGET_TOTAL - 1) > 0.01:
        raise InputError(
            f"{where}: the values are log1p of counts normalised to {total:,.0f} per cell, not to "
            "10,000; normalise the counts again, or pass scale='log1p_1e4' to take them as they are"
        )
    return "and every cell sums to 10,000"


def _common_total(blocks: Sequence[CsrBlock]) -> tuple[float, bool]:
    """Return the median of the cells' totals before log1p, and whether all are close to it."""
    sums = []
    for block in blocks:
        starts = block.indptr[:-1][np.diff(block.indptr) > 0]
        if len(starts):
            sums.append(np.add.reduceat(np.expm1(block.data.astype(np.float64)), starts))
    totals = np.concatenate(sums)
    median = float(np.median(totals))
    return median, float(np.abs(totals / median - 1).max()) < 1e-2


def _sample(source: Source) -> list[CsrBlock]:
    """Read the first, the middle and the last block."""
    blocks = source.blocks(_SAMPLE_BYTES)
    chosen = sorted({0, len(blocks) // 2, len(blocks) - 1}) if blocks else []
    found = [source.read(blocks[i]) for i in chosen]
    if not any(block.data.any() for block in found):
        raise InputError(
            f"{source.spec.path} ({source.spec.matrix}): no value other than zero was found; "
            f"{_DECLARE}"
        )
    return found
