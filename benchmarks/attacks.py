"""The page on attacks: which metrics they game, on two real and three simulated screens.

``python benchmarks/attacks.py`` writes docs/attacks.md, in about five minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

import pertscale as ps
from pertscale.benchmark import audit_screen, worst_attacks
from pertscale.evaluation import ATTACKS
from pertscale.evaluation.attacks.registry import GAMED

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "attacks.md"
REAL = {
    "Papalexi": "papalexi/papalexi.h5ad",
    "Schraivogel": "schraivogel/counts.csv.gz",
}
#: Screens of ``pertscale simulate``, with 4,000 counts per cell: many perturbations, few controls,
#: doubles.
SIMULATED: dict[str, dict[str, Any]] = {
    "many": {"n_cells": 9000, "n_genes": 250, "n_perturbations": 90, "control_fraction": 0.1},
    "few controls": {
        "n_cells": 5000,
        "n_genes": 200,
        "n_perturbations": 50,
        "control_fraction": 0.02,
    },
    "doubles": {
        "n_cells": 8000,
        "n_genes": 200,
        "n_perturbations": 40,
        "n_doubles": 30,
        "control_fraction": 0.1,
    },
}
REPEAT = "python benchmarks/attacks.py"


def audits(**how: Any) -> dict[str, pd.DataFrame]:
    """Return the table of each screen."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (*REAL, *SIMULATED):
            source, store = Path(folder) / "screen.h5ad", Path(folder) / f"{name}.zarr"
            if name in REAL:
                source = ROOT / "tests" / "data" / REAL[name]
            else:
                how_made = {**SIMULATED[name], "umi_per_cell": 4000, "seed": 1, "quiet": True}
                ps.simulate_screen(source, **how_made, overwrite=True)
            ps.io.ingest(source, store, quiet=True)
            found[name] = audit_screen(store, quiet=True, **how)
    return found


def main() -> None:
    """Write the page."""
    exclude, include = audits(), audits(targets="include", replicates=0)
    PAGE.write_text(page(exclude, include), "utf-8")


def page(exclude: dict[str, pd.DataFrame], include: dict[str, pd.DataFrame]) -> str:
    """Return the page, of tables without and with the targets."""
    attacks = [(f"`{name}`", _role(name), attack.doc) for name, attack in ATTACKS.items()]
    gamed = [
        (f"`{metric}`", point or "–", why, *_largest(exclude, metric, point))
        for (metric, point), why in GAMED.items()
    ]
    of_truth, of_replicates = (
        {name: t[t["ceiling_is"] == ceiling] for name, t in exclude.items()}
        for ceiling in ("truth", "replicate")
    )
    return TEXT.format(
        repeat=REPEAT,
        attacks=_table(["attack", "", "what it predicts"], attacks),
        worst=_worst(of_truth),
        worst_of_replicates=_worst(of_replicates),
        gamed=_table(["metric", "operating point", "why", *exclude], gamed),
        names=_of_attack(of_truth, "most_similar_name"),
        label=_of_attack(include, "label_only_control"),
    )


def _role(name: str) -> str:
    attack = ATTACKS[name]
    return "floor" if attack.is_floor else ("knows relatives" if attack.knows else "")


def _worst(tables: dict[str, pd.DataFrame]) -> str:
    """Return the largest gain in each headline metric, screen by screen."""
    keys = ["metric", "operating_point"]
    columns = {}
    for name, table in tables.items():
        worst = worst_attacks(table).set_index(keys)
        shown = zip(worst["gain"], worst["attack"], worst["verdict"], strict=True)
        columns[name] = pd.Series([_cell(*one) for one in shown], worst.index)
    wide = pd.DataFrame(columns).reset_index()
    rows = [(f"`{metric}`", point or "–", *cells) for metric, point, *cells in wide.values.tolist()]
    return _table(["metric", "operating point", *tables], rows)


def _largest(tables: dict[str, pd.DataFrame], metric: str, point: str) -> list[str]:
    """Return the largest gain on the way to the truth in a metric, screen by screen."""
    cells = []
    for table in tables.values():
        mine = table[(table["metric"] == metric) & (table["operating_point"] == point)]
        mine = mine[(mine["ceiling_is"] == "truth") & mine["attack"].map(_knows_nothing)]
        best = mine.loc[mine["gain"].idxmax()]
        cells.append(_cell(best["gain"], best["attack"], best["verdict"]))
    return cells


def _knows_nothing(attack: str) -> bool:
    return not ATTACKS[attack].knows


def _cell(gain: float, attack: str, verdict: str) -> str:
    if pd.isna(gain):
        return "cannot tell"
    if gain < 0.0005:
        return "none"
    shown = f"{gain:.3f} `{attack}`"
    return f"**{shown}**" if verdict == "gains" else shown + ("?" if verdict != "ok" else "")


def _of_attack(tables: dict[str, pd.DataFrame], attack: str) -> str:
    """Return the gains of one attack."""
    rows = []
    for metric, point in (
        ("l2", ""),
        ("pearson_delta", ""),
        ("rank_l1", ""),
        ("rank_cosine", ""),
        ("macro_f1", "at_training_rate"),
        ("auprc_de", ""),
    ):
        cells = []
        for table in tables.values():
            mine = table[
                (table["attack"] == attack)
                & (table["metric"] == metric)
                & (table["operating_point"] == point)
            ].iloc[0]
            bold = "**" if mine["verdict"] == "gains" else ""
            cells.append(f"{bold}{mine['gain']:.2f}{bold}" if mine["gain"] > 0 else "none")
        rows.append((f"`{metric}`", *cells))
    return _table(["metric", *tables], rows)


def _table(head: list[str], rows: list[Any]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


TEXT = """# Attacks on the metrics

A good score should mean that a model knows what a perturbation does. To see whether it does, we
hand in predictions that know nothing of the perturbations that were held out: they have seen the
training perturbations, the controls, and the *names* of what is asked for. If one of them scores
better than an honest guess, the metric can be gamed, and a model's score in it says little. The
definitions are in [method.md](method.md#r-what-needs-no-model) (R1 to R4).

Written by `{repeat}`. On a screen of your own:

```sh
pertscale audit-metrics k562.zarr      # writes k562.labels/attacks.parquet
```

or `ps.audit_screen("k562.zarr")`; on arrays `ps.evaluation.audit_metrics(...)`.

## What is handed in

*Floors* are honest guesses. That a knock-down lowers its own target needs no model, so the guess
that says only that is a floor, too.

{attacks}

What predicts cells is written as a file, read and tested like the cells of a model, on one split;
at most as many cells are tested as were measured, so copies are of no use.

## What they gain

The *gain* is how far an attack gets on the way from the best floor (0) to the ceiling (1). Up to
0.02 is nothing: *ok*. A bold gain is larger, and beyond the chance of which perturbations happen
to be held out: the metric is gamed, *gains*. One with a question mark may be chance. The largest
gain of any attack in each headline metric, without the attack that knows relatives (see below),
first with the truth itself as the ceiling:

{worst}

No model reaches the truth, which is noisy itself. With a *replicate* as the ceiling, half of the
cells predict the other half; attacks and floors are scored on the same halves. Where the replicate
is not better than the best floor by its 95 % interval, the metric *cannot tell* anything on this
screen, of attacks or of models:

{worst_of_replicates}

Predicted cells are of one split, so of few perturbations: what they seem to gain on the screen of
Schraivogel et al. may be chance (over all five splits 0.05 in macro F1, and below 0.02 elsewhere).
`l2` has the noise of both halves in it: one is hardly nearer to the other than the mean of the
training perturbations is, or further away, and at that depth it tells nothing on these screens.

Metrics that can be gamed are no headline metrics; what to do, and the largest gains in them:

{gamed}

In short: beyond chance no attack gains more than 0.02 in errors, correlations and ranks of
expression, areas under precision-recall curves, and classes called at the training rate. Classes as
a method calls them reward whoever knows, or guesses, how many pairs change. The spread of
predictions is no score.

## Names that know something

`most_similar_name` copies the training perturbation whose name is most alike, its gains:

{names}

Doubles that share a gene have similar names as well. On the screen of Schraivogel et al. four
guides each of GATA1, HS2, MYC and ZFPM2 are called `GATA1-A` to `GATA1-D`. Nothing in these names
says that they are guides of one target (`HLA-A` is a gene), so a random split has some on both
sides, and whoever copies a sibling has measured the answer. That is a leak of the split, not of a
metric: pass a split that keeps them together. Large gains of this attack on another screen point
to the same.

## With the targets

Before targets were left out (`targets="include"`, as the second paper scores; and the setting
`full` of classes), the guess that knows the label and no more gains over those that do not:

{label}
"""


if __name__ == "__main__":
    main()
