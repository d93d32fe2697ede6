"""The scale of values is proved, not presumed, whatever they were made as."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertscale.errors import InputError
from pertscale.io import check
from tests.support.helpers import real_data

N_CELLS, N_GENES = 120, 300
_RANDOM = np.random.default_rng(0)
_MEANS = np.exp(_RANDOM.normal(0, 1, N_GENES)) * 2
LABELS = ["non-targeting", "DEEP"] * (N_CELLS // 2)
COUNTS = _RANDOM.poisson(_MEANS * np.array([1.0, 2.0] * (N_CELLS // 2))[:, None]).astype(float)
TOTALS = COUNTS.sum(axis=1, keepdims=True)
PANEL = np.argsort(-_MEANS)[:80]
LOW = np.argsort(-_MEANS)[100:180]


def _log1p(total: float) -> np.ndarray:
    return np.log1p(COUNTS / TOTALS * total)


def _write(folder: Path, x: np.ndarray, form: type = sp.csr_matrix) -> Path:
    obs = pd.DataFrame({"target_gene": LABELS}, index=[f"c{i}" for i in range(len(x))])
    var = pd.DataFrame(index=[f"G{i}" for i in range(x.shape[1])])
    ad.AnnData(form(x), obs=obs, var=var).write_h5ad(folder / "screen.h5ad")
    return folder / "screen.h5ad"


#: Name → values, what the message says of them, and what its remedy makes of them.
OTHERS = {
    "log1p of counts": (np.log1p(COUNTS), "they are log1p of counts that were never", "counts"),
    "log2 of counts": (np.log2(1 + COUNTS), "they are log2.* never normalised", "counts"),
    "log10 of counts": (np.log10(1 + COUNTS), "they are log10.* never normalised", "counts"),
    "square roots": (np.sqrt(COUNTS), "they are square roots of counts", "counts"),
    "square roots of a panel": (np.sqrt(COUNTS)[:, PANEL], "square roots of counts", "counts"),
    "log2": (np.log2(1 + COUNTS / TOTALS * 1e4), r"they are log2\(1 \+ x\)", "log1p_1e4"),
    "log2 of a panel": (np.log2(1 + COUNTS / TOTALS * 1e4)[:, LOW], "they are log2", "log1p_1e4"),
    "log10": (np.log10(1 + COUNTS / TOTALS * 1e4), r"they are log10\(1 \+ x\)", "log1p_1e4"),
    "log1p twice": (np.log1p(_log1p(1e4)), "they are log1p of log1p", "log1p_1e4"),
    "log1p twice, a panel": (np.log1p(_log1p(1e4))[:, LOW], "log1p of log1p", "log1p_1e4"),
    "no logarithm": ((COUNTS / TOTALS * 1e4)[:, LOW] / 200, "without a logarithm", "log1p_1e4"),
    "per 5,000": (_log1p(5e3), "normalised to 5,000 per cell", "log1p_1e4"),
    "per 5,000, a panel": (_log1p(5e3)[:, PANEL], "normalised to 5,000 per cell", "log1p_1e4"),
    "per 20,000, a panel": (_log1p(2e4)[:, LOW], "normalised to 20,000 per cell", "log1p_1e4"),
    "per 50,000": (_log1p(5e4), "normalised to 50,000 per cell", "log1p_1e4"),
    "per 50,000, a panel": (_log1p(5e4)[:, PANEL], "normalised to 50,000 per cell", "log1p_1e4"),
    "per million, a panel": (_log1p(1e6)[:, PANEL], "normalised to 1,000,000 per", "log1p_1e4"),
    "per million, few genes": (_log1p(1e6)[:, LOW[:20]], "to 1,000,000 per cell", "log1p_1e4"),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_scales_are_refused_and_the_remedy_works(
    tmp_path: Path, name: str, dtype: str
) -> None:
    values, message, after = OTHERS[name]
    path = _write(tmp_path, values.astype(dtype))
    for declared in (None, "log1p_1e4"):  # a proof is stronger than what is declared
        with pytest.raises(InputError, match=message) as caught:
            check(path, scale=declared)
    remedy = re.search(r"write (numpy\..*?)(, the counts|, if the counts|$)", str(caught.value))
    assert remedy is not None
    mended = eval(remedy[1], {"numpy": np, "X": values.astype(dtype)})
    if name != "no logarithm":  # what it was divided by, only the user knows
        assert check(_write(tmp_path, mended.astype("f4"))).scale == after


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("rounded", ["f4", "f8", "f2", "3 digits"])
@pytest.mark.parametrize("genes", ["all", "panel", "low"])
def test_log1p_per_ten_thousand_is_proved(
    tmp_path: Path, genes: str, rounded: str, form: type
) -> None:
    values = _log1p(1e4)[:, {"all": slice(None), "panel": PANEL, "low": LOW}[genes]]
    values = values.round(3) if "digits" in rounded else values.astype(rounded)
    found = check(_write(tmp_path, values.astype("f8" if rounded == "f8" else "f4"), form))
    assert found.scale == "log1p_1e4"
    line = next(line for line in found.lines if line.startswith("scale"))
    told = "every cell sums to 10,000" if genes == "all" else "multiples of one"
    assert told in line
    assert ("rounded too much" in line) == (genes != "all" and rounded in ("f2", "3 digits"))


def test_values_of_a_part_of_the_columns_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of compressed columns no cell is seen whole, but what is seen of it tells as much."""
    monkeypatch.setattr("pertscale.io.ingestion.scale._SAMPLE_BYTES", 20_000)
    assert check(_write(tmp_path, _log1p(1e4), sp.csc_matrix)).scale == "log1p_1e4"
    with pytest.raises(InputError, match="normalised to 50,000 per cell"):
        check(_write(tmp_path, _log1p(5e4), sp.csc_matrix))
    with pytest.raises(InputError, match="they are square roots"):
        check(_write(tmp_path, np.sqrt(COUNTS), sp.csc_matrix))


def test_cells_of_one_depth_leave_the_total_open(tmp_path: Path) -> None:
    """6,000 counts in every cell: halves of 10,000 fit a panel of the genes as well as 10,000."""
    counts = _RANDOM.multinomial(6000, _MEANS / _MEANS.sum(), N_CELLS)
    values = np.log1p(counts / 6000 * 1e4)
    assert check(_write(tmp_path, values)).scale == "log1p_1e4"
    path = _write(tmp_path, values[:, np.argsort(_MEANS)[:80]])
    both = "log1p of counts per 10,000 or log1p of counts per another total"
    with pytest.raises(InputError, match=rf"can't be proved \(they may be {both}\)"):
        check(path)
    assert check(path, scale="log1p_1e4").scale == "log1p_1e4"


def test_what_proves_nothing_can_be_declared(tmp_path: Path) -> None:
    values = np.abs(_RANDOM.normal(1, 1, (N_CELLS, 60)))
    path = _write(tmp_path, values)
    with pytest.raises(InputError, match=r"can't be proved.*declare it with scale='log1p_1e4'"):
        check(path)
    assert check(path, scale="log1p_1e4").scale == "log1p_1e4"
    median = float(np.median(TOTALS)) + 0.37
    path = _write(tmp_path, _log1p(median)[:, PANEL])
    with pytest.raises(InputError, match="can't be proved"):
        check(path)
    assert check(path, scale="log1p_1e4").scale == "log1p_1e4"


def test_a_real_screen_of_500_genes_is_proved() -> None:
    found = check(real_data("norman_mcfaline/devel.h5ad"))
    assert found.scale == "log1p_1e4"
    assert any("the total of each a whole number" in line for line in found.lines)
