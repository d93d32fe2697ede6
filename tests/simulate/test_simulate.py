"""The simulator: its counts, its truth, its file."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.typing import NDArray

from pertscale.errors import ArgumentError, ExistsError
from pertscale.simulate import SimulatedScreen, simulate_screen
from pertscale.simulate import screen as screen_module
from pertscale.simulate.design import draw_design
from pertscale.simulate.effects import Effects, draw_effects, draw_programs
from pertscale.simulate.expression import LIBRARY_SD, draw_genes
from pertscale.simulate.guides import draw_guides
from pertscale.simulate.sampling import _negative_binomial, rows_per_block
from tests.support.helpers import real_data

SMALL = {
    "n_cells": 9_000,
    "n_genes": 500,
    "n_perturbations": 40,
    "n_doubles": 12,
    "contexts": ("left", "right"),
    "control_fraction": 0.2,
    "umi_per_cell": 1_500.0,
    "quiet": True,
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedScreen:
    return simulate_screen(tmp_path_factory.mktemp("simulate") / "small.h5ad", **SMALL)


@pytest.fixture(scope="module")
def adata(simulated: SimulatedScreen) -> anndata.AnnData:
    return anndata.read_h5ad(simulated.path)


def mean_counts(adata: anndata.AnnData, context: str, perturbation: str) -> NDArray[np.float64]:
    """Mean over the cells of a group after scaling every cell to the mean total, (gene,)."""
    total = np.asarray(adata.X.sum(axis=1)).ravel()
    rows = (
        (adata.obs["cell_line"] == context) & (adata.obs["perturbation"] == perturbation)
    ).values
    scaled = adata.X[rows].toarray() * (total.mean() / total[rows])[:, None]
    return scaled.mean(axis=0, dtype=np.float64)


# --- the file -------------------------------------------------------------------------------------


def test_a_file_is_not_named_as_a_store(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"ends in \.h5ad"):
        simulate_screen(tmp_path / "s.zarr", **SMALL)


def test_anndata_reads_counts_in_canonical_csr(
    simulated: SimulatedScreen, adata: anndata.AnnData
) -> None:
    assert adata.shape == (9_000, 500)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    assert adata.X.data.min() >= 1
    assert np.array_equal(adata.X.data, np.rint(adata.X.data))
    assert adata.X.nnz == simulated.n_nonzero
    assert adata.X.sum(dtype=np.float64) == simulated.total_counts
    assert simulated.density == pytest.approx(adata.X.nnz / (9_000 * 500))
    assert tuple(adata.var_names) == simulated.genes
    assert adata.obs_names.is_unique


def test_obs_names_perturbation_context_batch_and_guide(
    simulated: SimulatedScreen, adata: anndata.AnnData
) -> None:
    obs = adata.obs
    assert list(obs) == ["perturbation", "cell_line", "gem_group", "guide_id"]
    assert all(isinstance(obs[column].dtype, pd.CategoricalDtype) for column in obs)
    assert set(obs["perturbation"]) == {"non-targeting", *simulated.perturbations}
    assert (obs["gem_group"].astype(str).str.rsplit("_", n=1).str[0] == obs["cell_line"]).all()
    per_guide = obs.groupby("guide_id", observed=True)["perturbation"].nunique()
    assert (per_guide == 1).all()
    double = obs[obs["perturbation"].astype(str).str.contains("+", regex=False)].iloc[0]
    genes = [guide.rsplit("_", 1)[0] for guide in double["guide_id"].split("|")]
    assert "+".join(genes) == double["perturbation"]


def test_cells_are_in_random_order_and_counted_in_the_truth(
    simulated: SimulatedScreen, adata: anndata.AnnData
) -> None:
    codes = adata.obs["perturbation"].cat.codes.to_numpy()
    assert (codes[1:] == codes[:-1]).mean() < 0.1
    sizes = adata.obs.groupby(["cell_line", "perturbation"], observed=True).size()
    truth = simulated.truth["n_cells"].to_series()
    truth.index.names = sizes.index.names
    assert sizes.drop("non-targeting", level=1).to_dict() == truth.to_dict()
    assert sizes["left", "non-targeting"] == 0.2 * 4_500


def test_group_sizes_are_skewed() -> None:
    design = draw_design(
        ("a",),
        n_cells=200_000,
        n_genes=500,
        n_perturbations=500,
        n_doubles=0,
        control_fraction=0.05,
        umi_per_cell=100.0,
        expressed_fraction=0.4,
        seed=1,
    )
    sizes = np.bincount(design.cells.condition)
    assert sizes[0] == 10_000
    assert sizes.sum() == 200_000
    assert np.log(sizes[1:]).std() == pytest.approx(0.55, abs=0.05)


def test_same_bytes_for_any_number_of_threads_and_any_time(
    simulated: SimulatedScreen, tmp_path: Path
) -> None:
    time.sleep(1.1)  # HDF5 counts seconds, where it notes the time of a dataset
    for n_threads in (1, 2, 3):
        again = simulate_screen(tmp_path / f"{n_threads}.h5ad", n_threads=n_threads, **SMALL)
        assert again.path.read_bytes() == simulated.path.read_bytes()
        assert again.truth.identical(simulated.truth)
        pd.testing.assert_frame_equal(again.interactions, simulated.interactions)
        pd.testing.assert_frame_equal(again.embedding, simulated.embedding)


def test_another_seed_gives_another_screen(simulated: SimulatedScreen, tmp_path: Path) -> None:
    other = simulate_screen(tmp_path / "other.h5ad", seed=1, **SMALL)
    assert other.perturbations != simulated.perturbations
    assert other.total_counts != simulated.total_counts


def test_gzip_holds_the_same_matrix(adata: anndata.AnnData, tmp_path: Path) -> None:
    path = simulate_screen(tmp_path / "gz.h5ad", compression="gzip", **SMALL).path
    with h5py.File(path) as file:
        assert file["X/data"].compression == "gzip"
    assert (anndata.read_h5ad(path).X != adata.X).nnz == 0


def test_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "there.h5ad"
    path.write_text("precious")
    with pytest.raises(ExistsError, match="overwrite=True"):
        simulate_screen(path, **SMALL)
    assert path.read_text() == "precious"
    simulate_screen(path, overwrite=True, **SMALL)
    assert anndata.read_h5ad(path, backed="r").shape == (9_000, 500)
    with pytest.raises(ExistsError, match="folder"):
        simulate_screen(tmp_path, overwrite=True, **SMALL)


def test_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(block: int, **_: object) -> None:
        raise RuntimeError(f"block {block}")

    monkeypatch.setattr(screen_module, "sample_block", fail)
    with pytest.raises(RuntimeError, match="block 0"):
        simulate_screen(tmp_path / "x.h5ad", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_few_blocks_are_in_memory_whatever_the_number_of_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    design = draw_design(
        ("a",),
        n_cells=400,
        n_genes=50,
        n_perturbations=5,
        n_doubles=0,
        control_fraction=0.1,
        umi_per_cell=50.0,
        expressed_fraction=0.4,
        seed=0,
    )
    started = itertools.count(1)
    latest, lock, sample = [0], threading.Lock(), screen_module.sample_block

    def counting(block: int, **arguments: object) -> object:
        with lock:
            latest[0] = next(started)
        return sample(block, **arguments)

    monkeypatch.setattr(screen_module, "sample_block", counting)
    monkeypatch.setattr(screen_module, "rows_per_block", lambda n_genes: 4)
    handed_over = 0
    for block in screen_module._draw_blocks(design, seed=0, n_threads=2):
        assert len(block.row_lengths) == 4
        handed_over += 1
        assert latest[0] <= handed_over + 3  # n_threads + 1 ahead
    assert handed_over == latest[0] == 100


def test_blocks_depend_on_the_number_of_genes_only() -> None:
    assert rows_per_block(8_000) * 8_000 * 8 <= 17e6
    assert rows_per_block(10**9) == 1


# --- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.05, 1.0, 3.0, 400.0])
@pytest.mark.parametrize("mu", [0.01, 0.4, 3.0, 20.0, 60.0])
def test_counts_follow_the_negative_binomial(mu: float, size: float) -> None:
    rng = np.random.default_rng(7)
    drawn = np.array([_negative_binomial(rng, mu, size) for _ in range(20_000)])
    oracle = scipy.stats.nbinom(size, size / (size + mu))
    edges = np.unique(oracle.ppf(np.linspace(0.02, 0.98, 25)))  # bins (edge, next edge]
    probability = np.diff(np.concatenate([[0.0], oracle.cdf(edges), [1.0]]))
    observed = np.bincount(np.searchsorted(edges, drawn), minlength=len(edges) + 1)
    assert scipy.stats.chisquare(observed, probability * len(drawn)).pvalue > 1e-4


def test_library_sizes_are_as_asked_for(simulated: SimulatedScreen, adata: anndata.AnnData) -> None:
    control = (adata.obs["perturbation"] == "non-targeting").to_numpy()
    total = np.asarray(adata.X[control].sum(axis=1)).ravel()
    assert total.mean() == pytest.approx(1_500, rel=0.05)
    # NB noise of the genes adds to the library's own variation
    mean, size = simulated.truth["mean"], simulated.truth["dispersion"]
    loading = simulated.truth["state_loading"].to_numpy()
    together = np.expm1(loading.T @ loading) - np.diag(np.expm1((loading**2).sum(axis=0)))
    shared = mean.to_numpy() @ together @ mean.to_numpy().T  # genes that follow one state
    noise = ((mean + mean**2 / size).sum("gene") + np.diag(shared)) / mean.sum("gene") ** 2
    noise = float(noise.mean())
    assert np.log(total).std() == pytest.approx(np.hypot(LIBRARY_SD, noise**0.5), rel=0.05)


def test_means_and_variances_are_the_true_ones(
    simulated: SimulatedScreen, adata: anndata.AnnData
) -> None:
    for context in simulated.contexts:
        control = (adata.obs["perturbation"] == "non-targeting") & (
            adata.obs["cell_line"] == context
        )
        counts = adata.X[control.to_numpy()].toarray().astype(float)
        mean = simulated.truth["mean"].sel(context=context).to_numpy().astype(float)
        size = simulated.truth["dispersion"].to_numpy()
        spread = np.exp(LIBRARY_SD**2)  # E[library²]
        variance = mean + mean**2 * (spread * (1 + 1 / size) - 1)
        z = (counts.mean(axis=0) - mean) / np.sqrt(variance / len(counts))
        assert np.abs(z).max() < 5
        assert np.median(counts.var(axis=0) / variance) == pytest.approx(1, abs=0.05)


def test_density_follows_the_umi_per_cell(tmp_path: Path) -> None:
    shape = {"n_cells": 600, "n_genes": 4_000, "n_perturbations": 20, "quiet": True}
    filtered = simulate_screen(tmp_path / "a.h5ad", **shape)
    assert filtered.density == pytest.approx(0.39, abs=0.015)
    assert filtered.umi_per_cell == pytest.approx(1.67 * 4_000, rel=0.05)
    whole = simulate_screen(
        tmp_path / "b.h5ad", umi_per_cell=4_000 / 6, expressed_fraction=1.0, **shape
    )
    assert 0.05 < whole.density < 0.09


def test_genes_resemble_the_real_screen() -> None:
    table = pd.read_csv(
        real_data("expression_model") / "k562_gasperini_gene_mean_dispersion.csv.gz"
    )
    for fraction in (0.4, 1.0):
        real = table.nlargest(round(fraction * len(table)), "relative_expression")
        genes = draw_genes(
            len(real),
            n_contexts=1,
            n_batches=2,
            umi_per_cell=float(real["relative_expression"].sum()),
            expressed_fraction=fraction,
            rng=np.random.default_rng(0),
        )
        levels = np.linspace(0.01, 0.99, 50)
        drawn, expected = np.log(genes.mean[0]), np.log(real["relative_expression"])
        gap = np.quantile(drawn, levels) - np.quantile(expected, levels)
        assert np.abs(gap).max() < 0.15
        assert drawn.std() == pytest.approx(expected.std(), rel=0.05)

        log_size = np.log(genes.dispersion[np.argsort(genes.mean[0])])
        real_log_size = np.log(
            real.sort_values("relative_expression")["expression_size"].to_numpy()
        )
        for ours, theirs in zip(
            np.array_split(log_size, 10), np.array_split(real_log_size, 10), strict=True
        ):
            assert np.median(ours) == pytest.approx(np.median(theirs), abs=0.25)
            assert scipy.stats.iqr(ours) == pytest.approx(scipy.stats.iqr(theirs), rel=0.35)


# --- effects --------------------------------------------------------------------------------------


def test_targets_are_knocked_down(simulated: SimulatedScreen, adata: anndata.AnnData) -> None:
    singles = simulated.perturbations[:40]
    remaining = []
    for context in simulated.contexts:
        control = mean_counts(adata, context, "non-targeting")
        for target in singles:
            true = 2.0 ** simulated.truth["log2_effect"].loc[context, target, target].item()
            gene = simulated.genes.index(target)
            if control[gene] > 0.5:
                found = mean_counts(adata, context, target)[gene] / control[gene]
                remaining.append((true, found))
    assert len(remaining) > 40
    true, found = np.transpose(remaining)
    assert np.median(np.abs(found - true)) < 0.05
    assert np.quantile(true, [0, 0.5, 1]) == pytest.approx([0.02, 0.27, 0.8], abs=0.12)


def test_a_third_of_the_perturbations_has_no_effect_but_on_the_target() -> None:
    moved = (_effects(300).log2_effect[0, 1:301] != 0).sum(axis=1) - 1  # all but the target
    assert (moved == 0).mean() == pytest.approx(1 / 3, abs=0.05)


def _effects(n_perturbations: int) -> Effects:
    rng = np.random.default_rng(0)
    programs = draw_programs(2_000, n_perturbations=n_perturbations, n_contexts=1, rng=rng)
    return draw_effects(programs, n_perturbations=n_perturbations, n_doubles=3, rng=rng)


# --- cells that are not alike ---------------------------------------------------------------------


def test_one_score_of_the_cells_tells_of_much_of_the_variance(tmp_path: Path) -> None:
    """Of the real screens at hand: 4 to 15 % in controls."""
    screen = simulate_screen(
        tmp_path / "s.h5ad",
        n_cells=3_000,
        n_genes=1_000,
        n_perturbations=20,
        control_fraction=0.3,
        quiet=True,
    )
    data = anndata.read_h5ad(screen.path)
    counts = data.X[(data.obs["perturbation"] == "non-targeting").to_numpy()].toarray()
    logs = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    left, values, _ = np.linalg.svd(logs - logs.mean(axis=0), full_matrices=False)
    assert 0.05 < values[0] ** 2 / (values**2).sum() < 0.12
    loading = screen.truth["state_loading"].to_numpy()[0]
    found = np.corrcoef(left[:, 0], logs.T)[0, 1:]
    seen = screen.truth["mean"].to_numpy()[0] > 1
    assert abs(np.corrcoef(found[seen], loading[seen])[0, 1]) > 0.8


def test_batches_shift_genes_and_their_mean_does_not() -> None:
    genes = draw_genes(
        3_000,
        n_contexts=2,
        n_batches=3,
        umi_per_cell=1e4,
        expressed_fraction=0.4,
        rng=np.random.default_rng(0),
    )
    assert np.log(genes.batch).std() == pytest.approx(0.08 * np.sqrt(2 / 3), rel=0.05)
    np.testing.assert_allclose(genes.batch.mean(axis=1), 1, rtol=1e-6)


def test_guides_differ_and_their_mean_is_the_perturbation() -> None:
    effects = _effects(40)
    guides = draw_guides(effects, rng=np.random.default_rng(1))
    assert guides.start[1] == 0  # control has no guides that differ
    np.testing.assert_allclose(guides.factor.mean(axis=1), 1, rtol=1e-6)
    for single, target in enumerate(effects.targets):
        mine = guides.gene[guides.start[1 + single] : guides.start[2 + single]]
        assert target in mine
        assert 1 <= len(mine) <= 6
    assert np.abs(np.log2(guides.factor)).mean() > 0.2


def test_guides_of_a_target_are_told_apart_by_their_counts(
    simulated: SimulatedScreen, adata: anndata.AnnData
) -> None:
    """Their counts of the target differ by more than chance, and by nothing in control."""

    def z(perturbation: str, gene: str) -> float:
        cells = adata[(adata.obs["perturbation"] == perturbation).to_numpy()]
        counts = np.asarray(cells[:, gene].X.todense()).ravel()
        one = cells.obs["guide_id"].astype(str).str.endswith("_g1").to_numpy()
        spread = counts[one].var() / one.sum() + counts[~one].var() / (~one).sum()
        return float((counts[one].mean() - counts[~one].mean()) / np.sqrt(spread + 1e-12))

    mean = simulated.truth["mean"].mean("context").to_series()
    targets = [name for name in simulated.perturbations[:40] if mean[name] > 1]
    assert len(targets) > 10
    perturbed = [z(name, name) for name in targets]
    assert np.mean(np.square(perturbed)) > 2
    assert np.mean(np.square([z("non-targeting", name) for name in targets])) < 2


def test_counts_show_the_true_effects(simulated: SimulatedScreen, adata: anndata.AnnData) -> None:
    strong = simulated.truth["n_cells"].where(simulated.truth["is_strong"]).sel(context="left")
    perturbation = str(strong.idxmax("perturbation").item())
    control = mean_counts(adata, "left", "non-targeting")
    seen = control > 0.5
    observed = np.log2(mean_counts(adata, "left", perturbation)[seen] / control[seen])
    truth = simulated.truth["log2_effect"].sel(context="left", perturbation=perturbation)[seen]
    moved = np.abs(truth.to_numpy()) > 0.5
    assert moved.sum() > 3
    assert np.corrcoef(observed[moved], truth[moved])[0, 1] > 0.95


def test_a_third_of_the_perturbations_is_strong(simulated: SimulatedScreen) -> None:
    single = simulated.truth.isel(perturbation=slice(40))
    assert int(single["is_strong"].sum()) == 13
    moved = (np.abs(single["log2_effect"]) > 0.3).mean(["context", "gene"])
    assert 0.015 < float(moved[single["is_strong"]].mean()) < 0.05
    assert float(moved[~single["is_strong"]].mean()) < 0.006  # the target, and hardly more


def test_doubles_add_up_where_nothing_interacts(simulated: SimulatedScreen) -> None:
    effect = simulated.truth["log2_effect"]
    doubles = [name for name in simulated.perturbations if "+" in name]
    assert len(set(doubles)) == 12
    first, second = zip(*(name.split("+") for name in doubles), strict=True)
    total = effect.sel(perturbation=list(first)).values + effect.sel(perturbation=list(second))
    extra = effect.sel(perturbation=doubles) - total.values

    table = simulated.interactions
    assert set(table["kind"]) == {"synergy", "buffering", "opposite"}
    known = extra.copy(data=np.zeros(extra.shape, np.float32))
    for row in table.itertuples():
        known.loc[row.context, row.perturbation, row.gene] = row.log2_interaction
    np.testing.assert_allclose(extra, known, atol=1e-6)
    assert 0.0005 < (known.values != 0).mean() < 0.02


@pytest.mark.parametrize(
    ("kind", "factor"), [("synergy", 1.75), ("buffering", 0.4), ("opposite", -0.5)]
)
def test_kinds_of_interactions(simulated: SimulatedScreen, kind: str, factor: float) -> None:
    for row in simulated.interactions.query("kind == @kind").itertuples():
        observed = simulated.truth["log2_effect"].loc[row.context, row.perturbation, row.gene]
        total = float(observed) - row.log2_interaction
        assert float(observed) == pytest.approx(factor * total, rel=1e-4)
        assert abs(total) >= 0.299
        assert row.gene not in row.perturbation.split("+")


def _strong_effects(
    *, n_contexts: int = 1, seed: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Effects of strong singles on genes that are not their target, and their programs."""
    rng = np.random.default_rng(seed)
    programs = draw_programs(2_000, n_perturbations=300, n_contexts=n_contexts, rng=rng)
    effects = draw_effects(programs, n_perturbations=300, n_doubles=0, rng=rng)
    log2_effect = effects.log2_effect[:, 1:].copy()
    log2_effect[:, np.arange(300), effects.targets] = 0
    return log2_effect[:, effects.strong], programs.of_gene[effects.targets[effects.strong]]


def test_contexts_share_part_of_the_effects() -> None:
    correlation = []
    for seed in range(4):
        effect, _ = _strong_effects(n_contexts=3, seed=seed)
        correlation.append(
            [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in itertools.combinations(effect, 2)]
        )
    assert np.mean(correlation, axis=0) == pytest.approx(0.7, abs=0.04)


def test_related_perturbations_share_genes_and_directions() -> None:
    effect, program = _strong_effects()
    correlation = np.corrcoef(effect[0])
    related = program[:, None] == program
    np.fill_diagonal(related, False)
    unrelated = program[:, None] != program
    assert correlation[related].mean() > 0.5
    assert np.abs(correlation[unrelated]).mean() < 0.15


def test_some_genes_answer_to_many_perturbations_in_one_direction() -> None:
    effect, _ = _strong_effects()
    up, down = (effect[0] > 0.3).mean(axis=0), (effect[0] < -0.3).mean(axis=0)
    busiest = np.argsort(-(up + down))[:100]
    assert (up + down)[busiest].mean() > 5 * (up + down).mean()
    usual = np.maximum(up, down)[busiest] / (up + down)[busiest]
    assert usual.mean() > 0.7


def test_embedding_brings_related_perturbations_together(simulated: SimulatedScreen) -> None:
    singles = list(simulated.perturbations[:40])
    position = simulated.embedding.loc[singles].to_numpy()
    program = simulated.truth["program"].sel(gene=singles).to_numpy()
    distance = np.linalg.norm(position[:, None] - position, axis=2)
    np.fill_diagonal(distance, np.inf)
    agree = (program[distance.argmin(axis=1)] == program).mean()
    chance = (program[:, None] == program).mean()
    assert agree > 0.8 > 2 * chance


def test_embedding_file_has_genes_first(simulated: SimulatedScreen, tmp_path: Path) -> None:
    path = simulated.write_embedding(tmp_path / "embedding.parquet")
    table = pd.read_parquet(path)
    assert table.columns[0] == "gene"
    assert tuple(table["gene"]) == simulated.genes
    assert (table.dtypes.iloc[1:] == np.float32).all()
    np.testing.assert_array_equal(table.iloc[:, 1:], simulated.embedding)
    with pytest.raises(ExistsError):
        simulated.write_embedding(path)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_perturbations": 501}, "n_perturbations is 501, n_genes only 500"),
        ({"n_perturbations": 0}, "n_perturbations is 0"),
        ({"n_genes": 5}, "n_genes is 5"),
        ({"n_genes": 500.0}, r"n_genes has to be a whole number, found 500\.0"),
        ({"n_doubles": 781}, "n_doubles is 781, but 40 perturbations have only 780 pairs"),
        ({"n_cells": 300}, "n_cells=300 leaves 120 cells of a context for 52 perturbations"),
        ({"control_fraction": 0.0}, "control_fraction is 0"),
        ({"control_fraction": 1.0}, "control_fraction is 1"),
        ({"umi_per_cell": 0}, "umi_per_cell is 0"),
        ({"umi_per_cell": float("nan")}, "umi_per_cell is nan"),
        ({"expressed_fraction": 1.1}, "expressed_fraction is 1.1"),
        ({"contexts": "sim"}, r"pass a list: contexts=\['sim'\]"),
        ({"contexts": ()}, "distinct, non-empty names"),
        ({"contexts": ("a", "a")}, "distinct, non-empty names"),
        ({"seed": -1}, "seed is -1"),
        ({"compression": "lzf"}, "None and 'gzip'"),
        ({"n_threads": 0}, "n_threads is 0"),
    ],
)
def test_impossible_arguments_are_refused(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match=message):
        simulate_screen(tmp_path / "x.h5ad", **{**SMALL, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_smallest_screen(tmp_path: Path) -> None:
    tiny = simulate_screen(
        tmp_path / "tiny.h5ad",
        n_cells=10,
        n_genes=10,
        n_perturbations=1,
        control_fraction=0.5,
        quiet=True,
    )
    assert anndata.read_h5ad(tiny.path).obs["perturbation"].value_counts().tolist() == [5, 5]
    assert tiny.interactions.empty


def test_repr_says_what_it_is(simulated: SimulatedScreen) -> None:
    text = repr(simulated)
    assert "9,000 cells x 500 genes, 52 perturbations, contexts left, right" in text
    assert f"{simulated.density:.1%}" in text
