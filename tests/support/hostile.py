"""Names that break things, and a screen made of them."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

#: What a script that ran leaves in the page.
MARK = "owned"
#: Each changes the title of the page, if the page lets it.
MARKUP = (
    f"<script>document.title='{MARK}'</script>",
    f"</script><script>document.title='{MARK}'</script>",
    f"</title><script>document.title='{MARK}'</script>",
    f"<img src=x onerror=\"document.title='{MARK}'\">",
    f"\"><svg onload=document.title='{MARK}'>",
    f"'><iframe srcdoc=\"<script>top.document.title='{MARK}'</script>\">",
    f"javascript:document.title='{MARK}'",
    f"]]></svg><script>document.title='{MARK}'</script>",
    f"--><script>document.title='{MARK}'</script>",
    "{{ 7 * 7 }}",
    "{% raw %}",
)
#: Would leave the output folder, hide in it, or be no file at all.
PATHS = (
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "~root",
    "a/b",
    "a\\b",
    "C:\\x",
    "zarr.json",
    ".zattrs",
    "CON",
    "nul.txt",
    "x" * 300,
    "%2e%2e%2f",
    ".hidden",
    "-rf",
    "*",
    "a:b",
    "trailing.",
)
#: Mean something to a csv reader, pandas, a spreadsheet, a terminal or matplotlib.
WORDS = (
    "NA",
    "nan",
    "None",
    "null",
    "True",
    "007",
    "1e5",
    "-1",
    "=cmd()",
    "@SUM(1)",
    '"quoted"',
    "it's",
    "a,b",
    "a;b",
    "tab\there",
    "new\nline",
    "\x1b[31mred",
    "\x7f",
    "$x^2$",
    "$\\frac{$",
    "100%",
    "\\alpha",
    "_under",
    "cell",
    "gene",
    "_index",
    "index",
    "perturbation",
    "__class__",
)
#: Two spellings that look the same, or differ by case alone.
TWINS = (
    "tp53",
    "TP53",
    unicodedata.normalize("NFC", "G\xe9n"),
    unicodedata.normalize("NFD", "G\xe9n"),
    "\u202egnp.exe",
    "\U0001f9ec",
    "\ufeffbom",
    "a\u200bb",
    "ﬁ",
    "İ",
)
NAMES = (*MARKUP, *PATHS, *WORDS, *TWINS)
#: They differ by case alone, and have the separators of our own tables in them.
_ATTACK = f"$\\frac{{$|../../up\"><svg onload=document.title='{MARK}'>"
CONTEXTS = (f"K562,{_ATTACK}", f"k562,{_ATTACK}")
CONTROL = "non-targeting"
N_CELLS, N_CONTROLS = 5, 30
#: Genes of which the doubles are made.
DOUBLED = (*MARKUP[:4], "$x^2$", "$\\frac{$", *PATHS[:4], "tp53", "TP53")


def genes() -> list[str]:
    """All names; one stands twice, one is empty."""
    return [*NAMES, NAMES[0], "TP53", "", *(f"G{i}" for i in range(40))]


def doubles() -> list[str]:
    """Canonical names of the doubles."""
    return ["+".join(sorted(pair)) for pair in pairwise(DOUBLED)]


def cells(seed: int = 0) -> pd.DataFrame:
    """Every name as a perturbation in every context; doubles, cells without label or context."""
    labels = [CONTROL] * (N_CONTROLS // N_CELLS) + [*NAMES, *doubles()]
    rows = [(c, p) for c in CONTEXTS for p in labels for _ in range(N_CELLS)]
    rows += [(CONTEXTS[0], p) for p in ("", None, "unassigned", "G1+doublet")] * 3
    rows += [(c, "G1") for c in ("", None)] * 2
    order = np.random.default_rng(seed).permutation(len(rows))
    contexts, perturbations = zip(*(rows[i] for i in order), strict=True)
    n = len(rows)
    table: dict[str, object] = {
        "perturbation": np.array(perturbations, object),
        "cell_line": np.array(contexts, object),
        "batch": np.array([NAMES[i % len(NAMES)] for i in range(n)], object),
        "guide_id": np.array([NAMES[-1 - i % len(NAMES)] for i in range(n)], object),
    }
    for i, name in enumerate(COLUMNS):
        table[name] = np.arange(n) + i if i % 2 else np.array([NAMES[i]] * n, object)
    index = [NAMES[i] if i < len(NAMES) else f"cell{i}" for i in range(n)]
    return pd.DataFrame(table, index=pd.Index(index, dtype=object))


_NO_COLUMNS = (".", "..", "_index", "perturbation")
#: Names of columns: what HDF5 takes, short enough for a file, not one of the roles'.
COLUMNS = (
    *(name for name in NAMES if "/" not in name and len(name) < 200 and name not in _NO_COLUMNS),
    "Batch",
    "BATCH",
    "context",
    "total_counts",
    "source_file",
    "source_row",
    "é" * 150,
)


def write_screen(path: Path, seed: int = 0) -> pd.DataFrame:
    """Write the screen as h5ad; return its cells."""
    obs, names = cells(seed), genes()
    random = np.random.default_rng(seed)
    rate = np.tile(np.exp(random.normal(0, 1, len(names))), (len(obs), 1))
    labels = obs["perturbation"].fillna("").astype(str)
    for i, name in enumerate(sorted(set(labels))):
        rate[np.ix_(labels == name, (np.arange(12) + 3 * i) % len(names))] *= 4
    data = ad.AnnData(
        sp.csr_matrix(random.poisson(rate).astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(
            {name: [f"{name}{i}" for i in range(len(names))] for name in MARKUP if "/" not in name},
            index=pd.Index(names, dtype=object),
        ),
    )
    data.write_h5ad(path)
    return obs
