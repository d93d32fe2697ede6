"""Label tables of other tools: what their columns mean is read from the values."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.errors import ArgumentError, InputError, PertscaleWarning

RATIO = np.array([3, 1.5, 1.2, 0.8, 0.5, 0.1])
TRUE = [1, 1, 1, -1, -1, -1]


def table(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(
        {"target": "A", "feature": [f"G{i}" for i in range(n)], **columns, "fdr": 1e-9}
    )


def read(tmp_path, frame: pd.DataFrame, **options) -> list[int]:
    """Labels of A by gene, in the order of the rows; None for a pair that is not listed."""
    frame.to_csv(tmp_path / "t.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels, _ = ps.stats.read_label_table(tmp_path / "t.csv", **options)
    found = labels.to_pandas().set_index("gene")["label"].to_dict()
    return [found.get(gene) for gene in frame.get("feature", frame.get("gene"))]


def refuses(tmp_path, frame: pd.DataFrame, match: str, **options) -> None:
    with pytest.raises(InputError, match=match) as error:
        read(tmp_path, frame, **options)
    assert "t.csv" in str(error.value)


def means() -> dict[str, object]:
    return {"target_mean": RATIO, "ref_mean": 1.0}


# --- ratios and logarithms -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        {"fold_change": RATIO, **means()},  # pdex 0.1
        {"fold_change": np.log2(RATIO), **means()},  # pdex 0.2
        {"fold_change": np.log2(RATIO)},  # a negative value is proof enough
        {"log2_fold_change": np.log2(RATIO), **means()},  # pdex 0.3
        {"fold_change": RATIO, "z": np.log(RATIO)},
        {"fold_change": RATIO, "percent_change": RATIO - 1},
        {"avg_log2FC": np.log2(RATIO)},  # Seurat
        {"avg_logFC": np.log(RATIO)},
        {"fold_change": np.exp(np.log(RATIO)), "ref_mean": 2.0, "target_mean": 2 * RATIO},
    ],
)
def test_fold_changes_of_every_kind(tmp_path, columns):
    assert read(tmp_path, table(**columns)) == TRUE


def test_logarithms_above_zero_are_known_by_the_means(tmp_path):
    ratio = np.array([3, 1.5, 1.2])
    columns = {"fold_change": np.log2(ratio), "target_mean": ratio, "ref_mean": 1.0}
    assert read(tmp_path, table(**columns)) == [1, 1, 1]
    columns = {"fold_change": np.log2(ratio), "z": [9.0, 8.0, 7.0]}
    assert read(tmp_path, table(**columns)) == [1, 1, 1]


def test_where_nothing_tells_the_user_is_asked(tmp_path):
    frame = table(fold_change=[2.0, 0.5])
    refuses(tmp_path, frame, "pass fold_change='ratio' or fold_change='log'")
    assert read(tmp_path, frame, fold_change="ratio") == [1, -1]
    assert read(tmp_path, frame, fold_change="log") == [1, 1]
    assert read(tmp_path, table(fold_change=[2.0, 1.5])) == [1, 1]  # up, as either
    # a statistic that has no sign, such as U, tells nothing
    refuses(tmp_path, table(fold_change=[2.0, 0.5], statistic=[900.0, 20.0]), "may hold ratios")
    with pytest.raises(ArgumentError, match="'ratio' or 'log'"):
        read(tmp_path, frame, fold_change="log2")
    refuses(tmp_path, table(fold_change=[2.0, -0.5]), "no ratio is negative", fold_change="ratio")


def test_ratios_of_zero_and_infinity(tmp_path):
    columns = {"fold_change": [0.0, np.inf], "target_mean": [0.0, 2.0], "ref_mean": [1.0, 0.0]}
    assert read(tmp_path, table(**columns)) == [-1, 1]
    columns["fold_change"] = [-np.inf, np.inf]
    assert read(tmp_path, table(**columns)) == [-1, 1]


def test_a_missing_change_has_the_direction_of_means_or_z(tmp_path):
    lfc = [np.nan, 1.0, 0.0]
    assert read(tmp_path, table(logfoldchanges=lfc, scores=[-5.0, 5.0, -4.0])) == [-1, 1, -1]
    columns = {"target_mean": [0.0, 2.0, 1.0], "ref_mean": 1.0}
    assert read(tmp_path, table(logfoldchanges=lfc, **columns)) == [-1, 1, 0]
    refuses(tmp_path, table(logfoldchanges=lfc), "row 0 .* significant, but 'logfoldchanges'")
    # what is not significant needs no direction
    frame = table(logfoldchanges=lfc).assign(fdr=[0.5, 1e-9, 1e-9])
    assert read(tmp_path, frame) == [0, 1, 0]


# --- contradictions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        {"log2_fold_change": -np.log2(RATIO), **means()},
        {"log2_fold_change": np.log2(RATIO), "scores": -np.log2(RATIO)},
        {"fold_change": 1 / RATIO, **means()},
        {"fold_change": -np.log2(RATIO), "z": np.log2(RATIO)},
    ],
)
def test_directions_that_contradict_each_other_are_refused(tmp_path, columns):
    refuses(tmp_path, table(**columns), r"say the opposite for \d of 6 significant pairs \(row \d")


@pytest.mark.parametrize(
    "columns", [means(), {"z": np.log(RATIO)}, {"log2_fold_change": np.log(RATIO)}]
)
def test_classes_and_means(tmp_path, columns):
    frame = table(**columns).rename(columns={"target": "perturbation", "feature": "gene"})
    assert read(tmp_path, frame.assign(label=TRUE)) == TRUE
    refuses(tmp_path, frame.assign(label=-np.array(TRUE)), "the classes and .* the opposite for 6")
    # the codes of another tool
    codes = [1, 1, 1, 2, 2, 2]
    assert read(tmp_path, frame.assign(label=codes), codes="up_first") == TRUE
    refuses(tmp_path, frame.assign(label=codes), "the opposite for 6", codes="synthpert")


def test_a_few_contradictions_are_told(tmp_path):
    ratio = np.tile(RATIO, 10)
    lfc = np.log2(ratio)
    lfc[7] = -lfc[7]
    frame = table(log2_fold_change=lfc, target_mean=ratio, ref_mean=1.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(PertscaleWarning, match=r"1 of 60 significant pairs \(row 7: .* G7"):
        ps.stats.read_label_table(tmp_path / "t.csv")
    # ranks and means differ now and then by their nature
    assert read(tmp_path, table(log2_fold_change=lfc, z=np.log(ratio)))[7] == -1


def test_predicted_classes_and_means(tmp_path):
    frame = table(label=-np.array(TRUE), **means())
    frame.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match="the classes"):
        ps.read_predictions(tmp_path / "p.csv")


# --- p-values ------------------------------------------------------------------------------------


def test_pairs_without_p_value_are_not_tested(tmp_path):
    frame = table(logfoldchanges=[2.0, 2.0, -1.0]).assign(fdr=[np.nan, 0.001, 0.5])
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(PertscaleWarning, match="1 of 3 pairs have no 'fdr'"):
        labels, _ = ps.stats.read_label_table(tmp_path / "t.csv")
    assert labels.to_pandas()[["gene", "label"]].astype(str).values.tolist() == [
        ["G1", "1"],
        ["G2", "0"],
    ]
    assert labels.options["without p-value"] == "1 pairs"
    refuses(tmp_path, frame.assign(fdr=np.nan), "no value in any row")


@pytest.mark.parametrize("p_value", [-5, 1.5, np.inf])
def test_p_values_are_from_0_to_1(tmp_path, p_value):
    frame = table(logfoldchanges=[2.0, 2.0]).assign(fdr=[0.001, p_value])
    refuses(tmp_path, frame, "row 1; a p-value is from 0 to 1")


def test_rows_without_a_class_are_refused(tmp_path):
    frame = table(label=["up", ""])
    refuses(tmp_path, frame, "row 1")
