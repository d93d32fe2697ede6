"""Perturbations that a run leaves out as their target keeps its expression (method P5)."""

from __future__ import annotations

from typing import Final

import pandas as pd

from pertscale.benchmark.knocked_down import without_knockdown
from pertscale.benchmark.state import ScreenRun
from pertscale.diagnostics.events import KnockdownChecked, emit
from pertscale.diagnostics.progress import say
from pertscale.schema import ACTIVATED, CONTEXT, NOT_MEASURED, PERTURBATION

#: Names of a kind that are printed.
_NAMES_SAID: Final = 5


def leave_out(run: ScreenRun, context: str, tested: pd.DataFrame) -> pd.DataFrame:
    """Return the tested perturbations without those whose target keeps its expression.

    That is asked for with ``min_knockdown=``; what is left out is recorded with the reason, and
    told.
    """
    least = run.options.min_knockdown
    if least is None:
        return tested
    found = run.targets()
    found = found[(found[CONTEXT] == context) & found[PERTURBATION].isin(tested[PERTURBATION])]
    left_out = without_knockdown(found, least)
    run.left_out[context] = left_out
    _tell(run, context, found, len(tested))
    return tested[~tested[PERTURBATION].isin(left_out)]


def _tell(run: ScreenRun, context: str, found: pd.DataFrame, n: int) -> None:
    """Log and print how many are left out, and what else decides how to read that."""
    least, left_out = run.options.min_knockdown, run.left_out[context]
    assert least is not None
    measured = (found["verdict"] != NOT_MEASURED).groupby(found[PERTURBATION]).any()
    up = found.loc[found["verdict"] == ACTIVATED, PERTURBATION].nunique()
    event = KnockdownChecked(
        context=context,
        min_knockdown=least,
        n=n,
        n_left_out=len(left_out),
        n_not_measured=n - int(measured.sum()),
        n_activated=up,
    )
    emit(event)
    names = [*list(left_out)[:_NAMES_SAID], *(["…"] if len(left_out) > _NAMES_SAID else [])]
    listed = f" ({', '.join(names)})" if names else ""
    line = (
        f"{context}: min_knockdown={least:g} leaves out {len(left_out):,} of {n:,} perturbations"
        f"{listed}, whose target keeps more than {100 * (1 - least):.1f} % of its expression"
    )
    if event.n_not_measured:
        line += f"; {event.n_not_measured:,} stay whose target is not measured"
    if up:
        line += f"; {up:,} activate their target: leave the option out in an activation screen"
    say(line, quiet=run.log.quiet)
