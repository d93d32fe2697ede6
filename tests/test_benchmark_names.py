"""What a perturbation is, from its label to the tables: one idea of it in the whole run."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertscale as ps

TARGETS = ["TP53", "MYC", "KLF1", "STAT1", "JAK2", "IRF1"]


def screen_of(folder, labels, genes, *, name="s", **columns):
    """Ingest a small screen with these labels."""
    random = np.random.default_rng(0)
    counts = sp.csr_matrix(random.poisson(3, (len(labels), len(genes))).astype("f4"))
    obs = pd.DataFrame({"condition": labels, **columns})
    obs.index = [f"c{i}" for i in range(len(labels))]
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / f"{name}.h5ad")
    ps.io.ingest(folder / f"{name}.h5ad", folder / f"{name}.zarr", quiet=True)
    return ps.open_screen(folder / f"{name}.zarr")


@pytest.fixture(scope="module")
def guides(tmp_path_factory):
    """A run on cells with one or two guides, of one gene or of two, and one with three targets."""
    folder = tmp_path_factory.mktemp("guides")
    alone = [f"{t}_{k}" for t in TARGETS for k in (1, 2)]
    of_one_gene = [f"{t}_1+{t}_2" for t in TARGETS]
    doubles = ["MYC_1+TP53_1", "KLF1_1+JAK2_1", "MYC_2+TP53_2", "IRF1_1+STAT1_1"]
    triples = ["MYC_1+TP53_1+KLF1_1"]
    labels = ["ctrl"] * 60 + [
        n for n in [*alone, *of_one_gene, *doubles, *triples] for _ in range(12)
    ]
    screen = screen_of(folder, labels, TARGETS + [f"G{i}" for i in range(50)])
    return ps.run_benchmark(
        screen, out=folder / "r", methods=["no_change", "additive"], quiet=True,
        tasks=["single", "double", "interactions"], seed=1,
    )  # fmt: skip


def test_the_number_of_targets_makes_a_double(guides):
    doubles = {"MYC_1+TP53_1", "JAK2_1+KLF1_1", "MYC_2+TP53_2", "IRF1_1+STAT1_1"}
    assert set(guides.interactions["perturbation"]) == doubles
    keys = ("context", "task", "split")
    held_out = {
        unit["task"]: set(guides.expression(**{k: unit[k] for k in keys})["perturbation"].values)
        for unit in guides.manifest["expression"]
    }
    assert held_out["double"] <= doubles
    assert held_out["single"] and not held_out["single"] & doubles
    split = guides.splits["s"]["doubles-seed1"]  # the doubles of two genes stay together
    sides = {n: part for part in ("train", "held_out") for n in getattr(split, part)}
    assert sides["MYC_1+TP53_1"] == sides["MYC_2+TP53_2"]


def test_what_has_three_targets_is_no_double_and_said_so(guides):
    skipped = guides.skipped
    row = skipped[skipped["what"] == "double: more than two targets"].iloc[0]
    assert row["reason"].startswith("1 perturbations have more than two targets, such as KLF1_1+")
