"""Raw counts or log-normalised: declared by the user, or proved from the values (SPEC A2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pertscale.errors import ArgumentError, InputError
from pertscale.schema import COUNTS, LOG1P_1E4, SCALES, TARGET_TOTAL
from pertscale.io.passes import LOG_LIMIT
from pertscale.io.sources import CsrBlock, SourceSpec, open_source

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
        If the values fit neither scale, or the sources differ.
    """
    if declared is not None:
        if declared not in SCALES:
            raise ArgumentError(f"scale={declared!r} is not one of {', '.join(SCALES)}")
        return declared, f"scale: {declared}, as declared"
    verdicts = {spec.path: _judge(spec) for spec in specs}
    scales = {scale for scale, _ in verdicts.values()}
    if len(scales) > 1:
        listed = "; ".join(f"{path}: {scale}" for path, (scale, _) in verdicts.items())
        raise InputError(f"the files are on different scales ({listed}); ingest them separately")
    return next(iter(verdicts.values()))


def _judge(spec: SourceSpec) -> tuple[str, str]:
    blocks = _sample(spec)
    values = np.concatenate([block.data for block in blocks]).astype(np.float64)
    values = values[values != 0]
    where = f"{spec.path} ({spec.matrix})"
    if not len(values):
        raise InputError(f"{where}: no value other than zero was found; {_DECLARE}")
    low, high = float(values.min()), float(values.max())
    fraction = float(np.abs(values - np.round(values)).max()) if np.isfinite(high) else np.nan
    if not np.isfinite(values).all():
        raise InputError(f"{where}: the values are not all finite; every one has to be a number")
    if low < 0:
        raise InputError(
            f"{where}: the smallest value is {low:.4g}, so these are neither counts nor log1p of "
            "normalised counts (scaled, perhaps); name the right matrix with layer='counts' or "
            "layer='raw'"
        )
    if fraction == 0:
        return COUNTS, f"scale: counts, since all values are integers (1 to {high:,.0f} in a sample)"
    if fraction > FRACTION and high < LOG_LIMIT:
        return LOG1P_1E4, f"scale: log1p of counts per 10,000, {_check_total(blocks, where)}"
    raise InputError(
        f"{where}: fractional values up to {high:,.4g} are neither counts nor log1p of counts per "
        f"10,000 (below {LOG_LIMIT:g}); {_DECLARE}"
    )


def _check_total(blocks: Sequence[CsrBlock], where: str) -> str:
    """Say what the totals of the cells prove; raise if they prove another total than 10,000."""
    sums = np.concatenate(
        [np.add.reduceat(np.expm1(b.data.astype(np.float64)), b.indptr[:-1][np.diff(b.indptr) > 0])
         for b in blocks if len(b.data)]
    )  # fmt: skip
    total = float(np.median(sums))
    constant = float(np.abs(sums / total - 1).max()) < 1e-2
    if constant and abs(total / TARGET_TOTAL - 1) > 0.01:
        raise InputError(
            f"{where}: the values are log1p of counts normalised to {total:,.0f} per cell, not to "
            "10,000; normalise the counts again, or pass scale='log1p_1e4' to take them as they are"
        )
    if constant:
        return "since all values are below 15 and every cell sums to 10,000"
    return "since values are fractional and below 15 (cells do not sum to 10,000: genes were left out)"


def _sample(spec: SourceSpec) -> list[CsrBlock]:
    with open_source(spec) as source:
        blocks = source.blocks(_SAMPLE_BYTES)
        chosen = sorted({0, len(blocks) // 2, len(blocks) - 1}) if blocks else []
        return [source.read(blocks[i]) for i in chosen]
