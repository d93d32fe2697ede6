"""Labels, predictions, embeddings and small files of the fuzz."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xarray as xr

import pertscale as ps
from pertscale.embeddings import files
from pertscale.io.gene_aliases import read_aliases
from pertscale.models.config import read_config
from tests.fuzz.plain import ANY, Reader, name_of, unpickled

NAMES = ["GA", "GB", "GC", "GD"]
GENES = ["g0", "x1", "y2", "z3", "w4"]
VALUES = np.round(np.random.default_rng(0).gamma(1.0, 1.0, (len(NAMES), len(GENES))), 3)
LABELS = np.random.default_rng(1).integers(-1, 2, VALUES.shape)
SCORES = np.round(np.random.default_rng(2).dirichlet([1, 1, 1], VALUES.size), 6)


def wide() -> pd.DataFrame:
    return pd.DataFrame(VALUES, pd.Index(NAMES, name="perturbation"), GENES)


def long(**columns: Any) -> pd.DataFrame:
    pairs = pd.MultiIndex.from_product([NAMES, GENES], names=["perturbation", "gene"])
    return pd.DataFrame({k: np.ravel(v) for k, v in columns.items()}, pairs).reset_index()


def scanpy() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "group": np.repeat(NAMES, len(GENES)),
            "names": GENES * len(NAMES),
            "logfoldchanges": np.where(LABELS.ravel() < 0, -1.25, 0.75),
            "pvals_adj": np.where(LABELS.ravel() == 0, 0.5, 0.001),
        }
    )


def _text(path: Path) -> str:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    text = content.decode("utf-8-sig")
    assert "\0" not in text, "a NUL byte"
    return text


def table(path: Path, *, row_names: str = "") -> list[dict[str, Any]]:
    """Return the rows of a table as the csv module, or Arrow, has them.

    A first line that does not begin with what heads the `row_names` may leave this out, as R's.
    """
    if path.suffix == ".parquet":
        found = pq.read_table(path)
        assert len(set(found.column_names)) == len(found.column_names), "a column twice"
        return found.to_pylist()
    mark = "\t" if ".tsv" in path.suffixes else ","
    head, *rows = (
        r for r in csv.reader(io.StringIO(_text(path)), delimiter=mark, strict=True) if r
    )
    assert len(set(head)) == len(head), "a column twice"
    if row_names and head[0] not in ("", row_names) and len(rows[0]) == len(head) + 1:
        head.insert(0, row_names)
    assert all(len(row) == len(head) for row in rows), "rows of different lengths"
    return [dict(zip(head, row, strict=True)) for row in rows]


# --- labels ---------------------------------------------------------------------------------------


def read_labels(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = ps.stats.read_label_table(next(folder.iterdir()))
    return _listed(found)


def _listed(found: Any) -> list[Any]:
    frame = found.to_pandas()[["perturbation", "gene", "label"]]
    return sorted([str(p), str(g), _LABEL[str(w)]] for p, g, w in frame.itertuples(index=False))


_LABEL = {"-1": -1, "0": 0, "1": 1, "down": -1, "non_de": 0, "up": 1}


def right_labels(folder: Path) -> Any:
    """Labels as numbers or words, or from scanpy's columns."""
    found = []
    for row in table(next(folder.iterdir())):
        if "label" in row:
            pair, label = (row["perturbation"], row["gene"]), _LABEL[str(row["label"])]
        else:
            pair, chance = (row["group"], row["names"]), float(row["pvals_adj"] or "nan")
            if np.isnan(chance):
                continue
            assert 0 <= chance <= 1, "no probability"
            label = int(np.sign(float(row["logfoldchanges"]))) if chance < 0.01 else 0
        assert all(pair), "a pair without a name"
        found.append([*map(name_of, pair), label])
    pairs = [tuple(row[:2]) for row in found]
    assert len(set(pairs)) == len(pairs), "a pair twice"
    return sorted(found)


def write_perturbqa(folder: Path) -> None:
    frame = long(label=LABELS).rename(columns={"perturbation": "pert"})
    frame["split"] = np.where(frame["pert"] == "GC", "test", "train")
    changed = frame[frame["label"] != 0]
    frame.assign(label=(frame["label"] != 0).astype(int)).to_csv(folder / "k-de.csv", index=False)
    changed.assign(label=(changed["label"] > 0).astype(int)).to_csv(
        folder / "k-dir.csv", index=False
    )


def read_perturbqa(folder: Path) -> Any:
    found, split = ps.stats.read_perturbqa(folder, line="k")
    return {"labels": _listed(found), "train": split.train, "test": split.test}


def right_perturbqa(folder: Path) -> Any:
    de, direction = (table(folder / f"k-{kind}.csv") for kind in ("de", "dir"))
    ups = {(r["pert"], r["gene"]): float(r["label"]) for r in direction}
    labels = []
    for row in de:
        is_changed, up = float(row["label"]), ups.get((row["pert"], row["gene"]))
        assert is_changed in (0, 1) and up in (0, 1, None), "a label that is neither 0 nor 1"
        assert (is_changed == 1) == (up is not None), "a pair in only one of the files"
        labels.append([row["pert"], row["gene"], 0 if up is None else int(2 * up - 1)])
    assert len({tuple(row[:2]) for row in labels}) == len(labels), "a pair twice"
    assert len(ups) == len(direction) == sum(row[2] != 0 for row in labels), "a pair twice"
    parts = {p: sorted({r["pert"] for r in de if r["split"] == p}) for p in ("train", "test")}
    return {"labels": sorted(labels), **parts}


# --- predictions ----------------------------------------------------------------------------------


def predictions(name: str, **options: Any) -> Callable[[Path], Any]:
    """Read predictions, and put them on a screen, which refuses more."""

    def read(folder: Path) -> Any:
        found = ps.read_predictions(folder / name, **options)
        if found.kind == "cells":
            return ANY  # several rows of a perturbation; they are read as any screen's
        parts = [_part(p.kind, p.perturbations, p.genes, np.asarray(p.values)) for p in found.parts]
        placed = found.align(
            "K562", "s", perturbations=NAMES, genes=GENES, control=VALUES.mean(axis=0)
        )
        assert placed is not None, "nothing for any context"
        placed.profiles(NAMES) if found.kind == "expression" else placed.classes(NAMES)
        return parts

    return read


def profiles(name: str, **options: Any) -> Callable[[Path], Any]:
    return predictions(name, scale="log1p_1e4", **options)


def _part(kind: str, names: Any, genes: Any, values: np.ndarray) -> Any:
    """Return rows and columns in the order of their names."""
    rows, columns = (np.argsort(np.array(n, str), kind="stable") for n in (names, genes))
    return [kind, sorted(names), sorted(genes), values[rows][:, columns]]


def _expression(names: Any, genes: Any, values: Any) -> Any:
    values = np.asarray(values, np.float64)
    assert values.shape == (len(names), len(genes)), "values of another shape than their names"
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return [_part("expression", list(map(name_of, names)), list(map(name_of, genes)), values)]


def right_wide(folder: Path) -> Any:
    rows = table(next(folder.iterdir()), row_names="perturbation")
    genes = [key for key in rows[0] if key != "perturbation"]
    return _expression(
        [r["perturbation"] for r in rows], genes, [[float(r[g]) for g in genes] for r in rows]
    )


def right_long(folder: Path) -> Any:
    """Values, labels, or probabilities of (perturbation, gene)."""
    rows = table(next(folder.iterdir()))
    names = sorted({name_of(r["perturbation"]) for r in rows})
    genes = sorted({name_of(r["gene"]) for r in rows})
    columns = [c for c in ("value", "label", "p_down", "p_non_de", "p_up") if c in rows[0]]
    filled: dict[tuple[str, str], Any] = {}
    for row in rows:
        pair = (name_of(row["perturbation"]), name_of(row["gene"]))
        assert pair not in filled, "a pair twice"
        filled[pair] = [float(row[c]) for c in columns]
    kind = {1: "expression" if columns == ["value"] else "labels", 3: "class_scores"}[len(columns)]
    empty = [ANY] * len(columns)
    values = [[filled.get((n, g), empty) for g in genes] for n in names]
    if len(columns) == 1:
        values = [[v[0] for v in row] for row in values]
    return [[kind, names, genes, values]]


def right_npz(folder: Path) -> Any:
    with np.load(folder / "p.npz", allow_pickle=False) as found:
        names, genes = found["perturbations"].tolist(), found["genes"].tolist()
        return _expression(names, genes, found["values"])


def right_pickle(folder: Path) -> Any:
    """A tuple is a condition of several genes, which GEARS joins."""
    found = unpickled(folder / "p.pkl")
    names = ["_".join(map(name_of, k)) if isinstance(k, tuple) else k for k in found]
    return _expression(names, GENES, list(found.values()))


def write_folder(folder: Path) -> None:
    rows = {name: row.tolist() for name, row in zip(NAMES, VALUES, strict=True)}
    (folder / "all_predictions.json").write_text(json.dumps(rows, indent=1))
    (folder / "gene_names.json").write_text(json.dumps(GENES))


def right_folder(folder: Path) -> Any:
    rows = _json(folder / "all_predictions.json")
    return _expression(list(rows), _json(folder / "gene_names.json"), list(rows.values()))


def _json(path: Path) -> Any:
    """Parse JSON; a key that is there twice is damage."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key twice"
        return dict(pairs)

    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)


def write_anndata(folder: Path) -> None:
    obs = pd.DataFrame({"perturbation": NAMES}, [f"row{i}" for i in range(len(NAMES))])
    data = ad.AnnData(VALUES.astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES))
    data.write_h5ad(folder / "p.h5ad", compression="gzip")


def right_anndata(folder: Path) -> Any:
    data = ad.read_h5ad(folder / "p.h5ad")
    if data.obs["perturbation"].duplicated().any():
        return ANY
    return _expression(data.obs["perturbation"].astype(object), data.var_names, data.X)


def write_zarr(folder: Path) -> None:
    coordinates = {"perturbation": NAMES, "gene": GENES}
    values = xr.DataArray(VALUES.astype(np.float32), coordinates, tuple(coordinates))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset({"prediction": values}).to_zarr(folder / "p.zarr", consolidated=False)


def right_zarr(folder: Path) -> Any:
    with xr.open_zarr(folder / "p.zarr", consolidated=False) as found:
        values = found["prediction"].transpose("perturbation", "gene")
        return _expression(
            found["perturbation"].values.tolist(), found["gene"].values.tolist(), values.values
        )


# --- embeddings -----------------------------------------------------------------------------------


def vectors() -> pd.DataFrame:
    return pd.DataFrame(VALUES[:, :3], NAMES, ["d0", "d1", "d2"])


def embedding(name: str, **options: Any) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        found = ps.read_embedding(folder / name, **options)
        return dict(zip(found.names, found.matrix, strict=True))

    return read


def _vectors(names: Any, rows: Any) -> Any:
    assert len(set(names)) == len(names), "a name twice"
    assert all(names), "an empty name"
    rows = np.asarray(rows, np.float64)
    assert rows.ndim == 2 and np.isfinite(rows).all(), "vectors that are no numbers"
    return dict(zip(map(name_of, names), rows, strict=True))


def right_vectors(folder: Path) -> Any:
    """The first column names the rows; a table may have lost its header."""
    path = next(folder.iterdir())
    if path.suffix == ".parquet":
        rows = [list(row.values()) for row in pq.read_table(path).to_pylist()]
        texts = {i for i, v in enumerate(rows[0]) if isinstance(v, str | bytes)}
        assert len(texts) == 1, "no one column of names"
        at = texts.pop()
        return _vectors([row[at] for row in rows], [row[:at] + row[at + 1 :] for row in rows])
    mark = "\t" if ".tsv" in path.suffixes else ","
    head, *body = (
        r for r in csv.reader(io.StringIO(_text(path)), delimiter=mark, strict=True) if r
    )
    assert len({len(row) for row in body}) == 1, "rows of different lengths"
    bare = len(head) == len(body[0]) - 1 and head[0]  # as R writes it
    assert len(head) == len(body[0]) or bare, "a header of another length"
    if head[0] in NAMES:
        body.insert(0, head)
    return _vectors([row[0] for row in body], [list(map(float, row[1:])) for row in body])


def right_npz_vectors(folder: Path) -> Any:
    with np.load(folder / "e.npz", allow_pickle=False) as found:
        return _vectors(found["names"].tolist(), found["matrix"])


def right_dict(folder: Path) -> Any:
    path = next(folder.iterdir())
    found = unpickled(path) if path.suffix == ".pkl" else _json(path)
    return _vectors(list(found), list(found.values()))


def write_varm(folder: Path) -> None:
    data = ad.AnnData(np.zeros((3, len(NAMES))), var=pd.DataFrame(index=NAMES))
    data.varm["PCs"] = VALUES[:, :3]
    data.write_h5ad(folder / "e.h5ad")


def right_varm(folder: Path) -> Any:
    data = ad.read_h5ad(folder / "e.h5ad")
    return _vectors(data.var_names.tolist(), data.varm["PCs"])


def write_cell_vectors(folder: Path) -> None:
    obs = pd.DataFrame({"perturbation": [*NAMES, "control"] * 3}, [f"c{i}" for i in range(15)])
    data = ad.AnnData(np.zeros((15, 2)), obs=obs, var=pd.DataFrame(index=["a", "b"]))
    data.obsm["X_emb"] = np.random.default_rng(3).normal(size=(15, 3))
    data.write_h5ad(folder / "c.h5ad", compression="gzip")


def read_cell_vectors(folder: Path) -> Any:
    found = ps.embeddings.from_cells(folder / "c.h5ad", perturbation="perturbation")
    return dict(zip(found.names, found.matrix, strict=True))


def right_cell_vectors(folder: Path) -> Any:
    data = ad.read_h5ad(folder / "c.h5ad")
    names = data.obs["perturbation"].astype(object)
    if not set(names) <= {*NAMES, "control"}:
        return ANY
    means = pd.DataFrame(data.obsm["X_emb"]).groupby(names.to_numpy()).mean()
    return _vectors(means.index.tolist(), means.to_numpy())


def write_gene_sets(folder: Path) -> None:
    sets = [GENES[i % 3 : i % 3 + 3] for i in range(6)]
    lines = [f"T{i}\tabout\t" + "\t".join(genes) + "\n" for i, genes in enumerate(sets)]
    (folder / "s.gmt").write_text("".join(lines))


def read_gene_sets(folder: Path) -> Any:
    found = ps.embeddings.from_gene_sets(folder / "s.gmt", dim=2)
    return {"names": found.names, "sets": files.read_gmt(folder / "s.gmt")}


def right_gene_sets(folder: Path) -> Any:
    text = io.StringIO(_text(folder / "s.gmt"), newline=None)  # ends as files have, no others
    lines = [line.rstrip("\n").split("\t") for line in text if line.strip()]
    assert len({line[0] for line in lines}) == len(lines), "a term twice"
    sets = {term: [g.split(",")[0].strip() for g in genes] for term, _, *genes in lines}
    sets = {term: list(dict.fromkeys(filter(None, genes))) for term, genes in sets.items()}
    assert all(sets.values()), "a term without genes"
    return {"names": sorted({g for genes in sets.values() for g in genes}), "sets": sets}


def write_edges(folder: Path) -> None:
    pairs = [("GA", "GB"), ("GB", "GC"), ("GA", "g0"), ("g0", "x1"), ("x1", "y2")]
    rows = [{"source": a, "target": b, "importance": 0.1 * i} for i, (a, b) in enumerate(pairs, 1)]
    pd.DataFrame(rows).to_csv(folder / "e.csv", index=False)


def read_edges(folder: Path) -> Any:
    return sorted(ps.embeddings.from_edges(folder / "e.csv", dim=2).names)


def right_edges(folder: Path) -> Any:
    rows = table(folder / "e.csv")
    assert all(np.isfinite(float(row["importance"])) for row in rows), "no number"
    return sorted({row[side] for row in rows for side in ("source", "target")})


def write_texts(folder: Path) -> None:
    texts = {g: f"gene {g} does thing {i} and other {i % 2}" for i, g in enumerate(GENES)}
    (folder / "t.json").write_text(json.dumps(texts))


def read_texts(folder: Path) -> Any:
    return sorted(ps.embeddings.from_texts(folder / "t.json", dim=2).names)


def right_texts(folder: Path) -> Any:
    return sorted(_json(folder / "t.json"))


# --- small files ----------------------------------------------------------------------------------


def read_alias_table(folder: Path) -> Any:
    return read_aliases(next(folder.iterdir()))


def right_aliases(folder: Path) -> Any:
    path = next(folder.iterdir())
    if path.suffix == ".json":
        return _json(path)
    if path.suffix == ".parquet":
        listed = pq.read_table(path).to_pylist()
        rows = [tuple(v if v is None else name_of(v) for v in row.values()) for row in listed]
    else:
        rows = [tuple(r) for r in csv.reader(io.StringIO(_text(path)), strict=True) if r][1:]
    assert all(len(row) == 2 and all(row) for row in rows), "no pair of names"
    assert len({row[0] for row in rows}) == len(set(rows)), "an alias of two names"
    return dict(rows)


def read_split(folder: Path) -> Any:
    found = ps.Split.read(folder / "s.json")
    return {"train": sorted(found.train), "test": sorted(found.test), "val": sorted(found.val)}


def write_other_split(folder: Path) -> None:
    parts = {"train": ["GA+ctrl", "ctrl", "GB+ctrl"], "test": ["GC+ctrl"], "val": ["GA+GB"]}
    (folder / "s.json").write_text(json.dumps(parts))


def right_other_split(folder: Path) -> Any:
    parts = _json(folder / "s.json")
    known = {"GA+ctrl": "GA", "GB+ctrl": "GB", "GC+ctrl": "GC", "GA+GB": "GA+GB", "ctrl": None}
    assert {"train", "test"} <= set(parts) <= {"train", "test", "val"}, "other keys"
    named = {part: [known[n] for n in parts.get(part, [])] for part in ("train", "test", "val")}
    return {part: sorted(filter(None, names)) for part, names in named.items()}


def write_config(folder: Path) -> None:
    (folder / "models.toml").write_text(
        '[models.GEARS]\ncommand = ["python", "run.py", "{task}", "{out}"]\ntimeout = "2h"\n'
        '[models.other]\ncommand = ["run", "{task}", "{out}"]\nenvironment = {A = "1"}\n'
    )


def read_models(folder: Path) -> Any:
    found = read_config(folder / "models.toml")
    return {name: [list(s.command), dict(s.environment)] for name, s in found.items()}


def right_models(folder: Path) -> Any:
    content = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    return {
        name: [
            ANY if any("/" in a for a in entry["command"]) else entry["command"],
            entry.get("environment", {}),
        ]
        for name, entry in content["models"].items()
    }


def _put(name: str, save: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: save(folder / name)


def _arrays(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def _pickled(rows: Any) -> Callable[[Path], Any]:
    content = dict(zip(NAMES, rows, strict=True))
    return lambda path: path.write_bytes(pickle.dumps(content, protocol=4))


def _csv(frame: Callable[[], pd.DataFrame], **how: Any) -> Callable[[Path], Any]:
    return lambda path: frame().to_csv(path, index="index" in how, sep=how.get("sep", ","))


def _words() -> pd.DataFrame:
    return long(label=np.array(["down", "non_de", "up"])[LABELS + 1])


def _scores() -> pd.DataFrame:
    return long(p_down=SCORES[:, 0], p_non_de=SCORES[:, 1], p_up=SCORES[:, 2])


_ALIASES = {"xA": "GA", "xB": "GB", "xC": "GC"}
_ALIAS_TABLE = pd.DataFrame({"other": list(_ALIASES), "name": list(_ALIASES.values())})
_SPLIT = ps.Split("s", ("GA", "GB"), ("GC",), ("GA+GB",))

TABLES = (
    Reader(
        "labels csv", _put("l.csv", _csv(lambda: long(label=LABELS))), read_labels, right_labels
    ),
    Reader(
        "labels tsv.gz words", _put("l.tsv.gz", _csv(_words, sep="\t")), read_labels, right_labels
    ),
    Reader(
        "labels parquet",
        _put("l.parquet", lambda path: long(label=LABELS).to_parquet(path)),
        read_labels,
        right_labels,
    ),
    Reader("scanpy csv", _put("l.csv", _csv(scanpy)), read_labels, right_labels),
    Reader(
        "scanpy parquet",
        _put("l.parquet", lambda path: scanpy().to_parquet(path)),
        read_labels,
        right_labels,
    ),
    Reader("perturbqa", write_perturbqa, read_perturbqa, right_perturbqa),
    Reader(
        "profiles csv",
        _put("p.csv", lambda path: wide().to_csv(path)),
        profiles("p.csv"),
        right_wide,
    ),
    Reader(
        "profiles parquet",
        _put("p.parquet", lambda path: wide().reset_index().to_parquet(path)),
        profiles("p.parquet"),
        right_wide,
    ),
    Reader(
        "profiles long tsv.gz",
        _put("p.tsv.gz", _csv(lambda: long(value=VALUES), sep="\t")),
        profiles("p.tsv.gz"),
        right_long,
    ),
    Reader(
        "classes csv",
        _put("p.csv", _csv(lambda: long(label=LABELS))),
        predictions("p.csv"),
        right_long,
    ),
    Reader("scores csv", _put("p.csv", _csv(_scores)), predictions("p.csv"), right_long),
    Reader(
        "scores parquet",
        _put("p.parquet", lambda path: _scores().to_parquet(path)),
        predictions("p.parquet"),
        right_long,
    ),
    Reader(
        "profiles npz",
        _put("p.npz", _arrays(perturbations=np.array(NAMES), genes=np.array(GENES), values=VALUES)),
        profiles("p.npz"),
        right_npz,
    ),
    Reader(
        "profiles pickle",
        _put("p.pkl", _pickled(VALUES)),
        profiles("p.pkl", genes=GENES, allow_pickle=True),
        right_pickle,
    ),
    Reader("profiles folder", write_folder, profiles(""), right_folder),
    Reader(
        "profiles h5ad",
        write_anndata,
        profiles("p.h5ad", perturbation="perturbation"),
        right_anndata,
    ),
    Reader("profiles zarr", write_zarr, profiles("p.zarr"), right_zarr),
    Reader(
        "vectors csv",
        _put("e.csv", lambda path: vectors().to_csv(path)),
        embedding("e.csv"),
        right_vectors,
    ),
    Reader(
        "vectors tsv.gz",
        _put("e.tsv.gz", lambda path: vectors().to_csv(path, sep="\t")),
        embedding("e.tsv.gz"),
        right_vectors,
    ),
    Reader(
        "vectors parquet",
        _put("e.parquet", lambda path: vectors().reset_index().to_parquet(path)),
        embedding("e.parquet"),
        right_vectors,
    ),
    Reader(
        "vectors npz",
        _put("e.npz", _arrays(names=np.array(NAMES), matrix=VALUES[:, :3])),
        embedding("e.npz"),
        right_npz_vectors,
    ),
    Reader(
        "vectors pickle",
        _put("e.pkl", _pickled(VALUES[:, :3])),
        embedding("e.pkl", allow_pickle=True),
        right_dict,
    ),
    Reader(
        "vectors json",
        _put(
            "e.json",
            lambda path: path.write_text(
                json.dumps(dict(zip(NAMES, VALUES.tolist(), strict=True)))
            ),
        ),
        embedding("e.json"),
        right_dict,
    ),
    Reader("vectors h5ad", write_varm, embedding("e.h5ad"), right_varm),
    Reader("vectors of cells", write_cell_vectors, read_cell_vectors, right_cell_vectors),
    Reader("gene sets", write_gene_sets, read_gene_sets, right_gene_sets),
    Reader("edges", write_edges, read_edges, right_edges),
    Reader("texts", write_texts, read_texts, right_texts),
    Reader(
        "aliases csv",
        _put("a.csv", _csv(lambda: _ALIAS_TABLE)),
        read_alias_table,
        right_aliases,
    ),
    Reader(
        "aliases json",
        _put("a.json", lambda path: path.write_text(json.dumps(_ALIASES))),
        read_alias_table,
        right_aliases,
    ),
    Reader(
        "aliases parquet",
        _put("a.parquet", _ALIAS_TABLE.to_parquet),
        read_alias_table,
        right_aliases,
    ),
    Reader("split", _put("s.json", _SPLIT.write), read_split, None),
    Reader("split of others", write_other_split, read_split, right_other_split),
    Reader("models", write_config, read_models, right_models),
)
