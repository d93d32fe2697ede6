"""As many predicted cells are tested as were measured; what is fewer is told."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import pertscale as ps
from pertscale.predictions.cells import label_predicted_cells, plan_predicted_cells

CONTEXT = "sim"


@pytest.fixture(scope="module")
def screen(tiny_store):
    return ps.open_screen(tiny_store)


def source(tiny_source):
    """The measured cells without their controls, and how many each perturbation has."""
    data = anndata.read_h5ad(tiny_source)
    data = data[data.obs["perturbation"] != "non-targeting"].copy()
    return data, data.obs["perturbation"].astype(str).value_counts()


def labelled(screen, file, tmp_path, **how):
    """The predictions of a file, tested."""
    given = ps.read_predictions(file, perturbation="perturbation", **how)
    controls = {CONTEXT: np.ones(screen.n_genes)}
    return label_predicted_cells(
        given, screen, tmp_path / f"tested-{file.stem}", controls=controls, quiet=True
    )[CONTEXT]


def copies(data, n, file):
    """A file with every cell several times over, named anew."""
    obs = pd.DataFrame({"perturbation": np.tile(data.obs["perturbation"].astype(str), n)})
    obs.index = [f"c{i}" for i in range(len(obs))]
    x = sparse.vstack([sparse.csr_matrix(data.X)] * n, format="csr")
    anndata.AnnData(x, obs, data.var[[]]).write_h5ad(file)
    return file


def test_as_many_cells_are_tested_as_were_measured(screen, tiny_source, tmp_path):
    data, measured = source(tiny_source)
    found = labelled(screen, copies(data, 3, tmp_path / "three.h5ad"), tmp_path)
    table = found.labels.perturbations.set_index("perturbation")
    assert table["n_cells"].drop("control", errors="ignore").to_dict() == measured.to_dict()
    n = int(measured.sum())
    assert {k: v for k, v in found.params().items() if k.startswith("n_cells")} == {
        "n_cells_predicted": 3 * n,
        "n_cells_tested": n,
        "n_cells_measured": n,
    }
    told = f"{n:,} of {3 * n:,} cells were drawn, as many as measured"
    assert found.coverage(list(measured.index))["note"] == told


def test_cells_that_are_not_drawn_have_a_row_with_the_reason(screen, tiny_source, tmp_path):
    data, measured = source(tiny_source)
    file = copies(data, 2, tmp_path / "two.h5ad")
    given = ps.read_predictions(file, perturbation="perturbation")
    plans = [plan_predicted_cells(given, screen)[0] for _ in range(2)]
    np.testing.assert_array_equal(plans[0].destination, plans[1].destination)
    drops = plans[0].drops
    mine = drops[drops["reason"] == "more cells than were measured; as many are drawn"]
    assert mine["label"].value_counts().to_dict() == measured.to_dict()
    assert set(drops["source"]) == {"two.h5ad"}
    kept = ~np.isin(np.arange(2 * len(data)), mine["row"])
    assert 0.2 < kept[: len(data)].mean() < 0.8  # drawn from all, not the first ones
    told = f"{len(data):,} cells are left out: more cells than were measured; as many are drawn"
    assert told in plans[0].account


def test_all_cells_are_tested_where_there_are_no_more_than_measured(screen, tiny_source, tmp_path):
    data, measured = source(tiny_source)
    found = labelled(screen, copies(data, 1, tmp_path / "one.h5ad"), tmp_path)
    assert found.params()["n_cells_tested"] == found.params()["n_cells_predicted"] == len(data)
    assert found.note == ""
    assert set(found.rows) == set(measured.index)


def test_fewer_cells_are_told(screen, tiny_source, tmp_path):
    data, measured = source(tiny_source)
    names = list(measured.index)
    keep = data.obs.groupby("perturbation", observed=True).cumcount() < np.where(
        data.obs["perturbation"] == names[0], 4, 10**6
    )
    found = labelled(screen, copies(data[keep.to_numpy()], 1, tmp_path / "few.h5ad"), tmp_path)
    n = int(measured.sum())
    tested = n - int(measured[names[0]]) + 4
    assert found.params()["n_cells_tested"] == tested
    assert found.params()["n_cells_measured"] == n
    assert found.note == (
        f"1 of {len(names)} perturbations have fewer cells than were measured ({tested / n:.2g} "
        "times as many in all), so the tests find less"
    )


def test_controls_of_the_file_are_no_more_than_were_measured_either(screen, tiny_source, tmp_path):
    data, _ = source(tiny_source)
    whole = anndata.read_h5ad(tiny_source)
    n_controls = int((whole.obs["perturbation"] == "non-targeting").sum())
    file = copies(whole, 2, tmp_path / "own.h5ad")
    given = ps.read_predictions(file, perturbation="perturbation", control="in_file")
    plan, *_ = plan_predicted_cells(given, screen)
    sizes = plan.groups.assign(n=plan.groups["stop"] - plan.groups["start"])
    assert sizes.loc[sizes["is_control"], "n"].tolist() == [n_controls]
    reason = "more control cells than were measured; as many are drawn"
    assert (plan.drops["reason"] == reason).sum() == n_controls
    found = labelled(screen, file, tmp_path, control="in_file")
    assert found.params()["n_cells_predicted"] == 2 * len(data)


def test_copies_of_cells_find_no_more_than_the_cells(screen, tiny_source, tmp_path):
    data, measured = source(tiny_source)
    one = labelled(screen, copies(data, 1, tmp_path / "a.h5ad"), tmp_path)
    many = labelled(screen, copies(data, 5, tmp_path / "b.h5ad"), tmp_path)
    n_called = [int((each.classes(list(measured.index))[0] != 0).sum()) for each in (one, many)]
    assert abs(n_called[1] - n_called[0]) <= 0.3 * n_called[0] + 3


def test_files_of_a_split_may_have_different_numbers_of_cells(screen, tiny_source, tmp_path):
    from pertscale.predictions.joined import join

    data, measured = source(tiny_source)
    names = list(measured.index)
    first = (data.obs["perturbation"] == names[0]).to_numpy()
    parts = [
        labelled(screen, copies(part, n, tmp_path / f"{n}.h5ad"), tmp_path)
        for part, n in ((data[first], 1), (data[~first], 2))
    ]
    both = join(parts, names)
    assert set(both.rows) == set(names)
    assert "cells were drawn, as many as measured" in both.note
