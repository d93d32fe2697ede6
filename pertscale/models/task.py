"""The task folder: what a model may see of a split, and what it is to predict.

Layout::

    data.h5ad      cells of the training perturbations and controls, and no others
    split.json     {"train": [...], "val": []}
    request.json   conditions to predict, genes, scale, seed, threads; how data.h5ad spells names

Perturbations have pertscale's names, but ``condition`` in data.h5ad is their genes in the grammar
of GEARS, which the other models' loaders read as well: ``ctrl``, ``A+ctrl``, ``A+B``. AnnData 0.9
reads the h5ad, so that models with old pins can; they could not read Zarr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from dask.system import CPU_COUNT

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, UnknownNameError
from pertscale.hashing import digest
from pertscale.io.h5ad_writer import WrittenBlock, write_h5ad
from pertscale.io.store.layout import CHUNK_ROWS, open_matrix, open_root, read_column
from pertscale.io.store.matrix import normalise
from pertscale.schema import (
    COMBINATION_SEPARATOR,
    CONTROL,
    COUNTS,
    LOG1P_1E4,
    PERTURBATION,
)
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.storage.atomic import atomic_path, write_json
from pertscale.versions import MODEL_TASK_VERSION

DATA_FILE: Final = "data.h5ad"
SPLIT_FILE: Final = "split.json"
REQUEST_FILE: Final = "request.json"
#: "No second gene" in the grammar of GEARS, and alone the control.
EMPTY_PARTNER: Final = "ctrl"
#: Rows that are normalised at a time.
_PIECE_ROWS: Final = 256


@checked
def write_task(
    screen: Screen,
    split: Split,
    folder: str | os.PathLike[str],
    *,
    context: str | None = None,
    seed: int = 0,
    genes: Sequence[str] | None = None,
) -> Path:
    """Write the task folder of a split.

    The cells of test and validation perturbations are not in the files, so no model can see them:
    the benchmark judges both, as the second paper does (method D4). A model that needs a validation
    part of its own takes it from the training perturbations.

    Parameters
    ----------
    screen : Screen
    split : Split
        Perturbations by their canonical names.
    folder : path
        The folder to write; one that is there is replaced as a whole.
    context : str, optional
        Whose cells; may be left out where the screen has one only.
    seed : int
        Seed that the model is asked to use.
    genes : sequence of str, optional
        Genes that the model sees and predicts; all by default. Cells are normalised by their total
        over all genes either way.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    ArgumentError
        There are several contexts and none is named, or a gene is named twice.
    UnknownNameError
        The context, a perturbation or a gene is not in the screen.
    InputError
        The context has no controls.
    """
    context = _the_context(screen, context)
    genes = _the_genes(screen, genes)
    groups = _the_groups(screen, split, context)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _write_data(temporary / DATA_FILE, screen, groups, genes)
        write_json(temporary / SPLIT_FILE, {"train": list(split.train), "val": []})
        write_json(
            temporary / REQUEST_FILE,
            {
                "format_version": MODEL_TASK_VERSION,
                "key": task_key(screen, split, context=context, seed=seed, genes=genes),
                "context": context,
                "conditions": list(split.held_out),
                "spelling": {
                    name: spelled(screen.targets[name]) for name in (*split.train, *split.held_out)
                },
                "genes": genes,
                "scale": LOG1P_1E4,
                "seed": seed,
                "threads": CPU_COUNT,
            },
        )
    return Path(folder)


def task_key(
    screen: Screen,
    split: Split,
    *,
    context: str,
    seed: int,
    genes: Sequence[str] | None = None,
) -> str:
    """Return a hash of what a task holds; known before the task is written."""
    genes = None if genes is None or list(genes) == list(screen.genes) else list(genes)
    return digest(MODEL_TASK_VERSION, screen.fingerprint, split.hash, context, seed, genes)


def spelled(genes: Sequence[str]) -> str:
    """Return the genes of a perturbation in the grammar of GEARS."""
    if not genes:
        return EMPTY_PARTNER
    return COMBINATION_SEPARATOR.join(genes if len(genes) > 1 else (*genes, EMPTY_PARTNER))


# --- what is asked for ------------------------------------------------------------------------


def _the_context(screen: Screen, context: str | None) -> str:
    if context is not None:
        return context
    if len(screen.contexts) > 1:
        raise ArgumentError(
            f"{screen.path} has {len(screen.contexts)} contexts, a task is for one; pass context=, "
            f"one of {', '.join(screen.contexts)}"
        )
    return screen.contexts[0]


def _the_genes(screen: Screen, genes: Sequence[str] | None) -> list[str]:
    if genes is None:
        return list(screen.genes)
    genes = list(genes)
    unknown = sorted(set(genes) - set(screen.genes))
    if unknown:
        raise UnknownNameError(
            f"{len(unknown)} of {len(genes)} genes are not in {screen.path}, for example "
            f"{unknown[0]!r}; name genes of screen.genes"
        )
    if not genes or len(set(genes)) < len(genes):
        raise ArgumentError("genes has to name at least one gene, and each once")
    return genes


def _the_groups(screen: Screen, split: Split, context: str) -> pd.DataFrame:
    """Return the groups whose cells are written: controls and training."""
    groups = screen.context_groups(context)
    unknown = sorted({*split.train, *split.held_out} - set(groups[PERTURBATION]))
    if unknown:
        raise UnknownNameError(
            f"{len(unknown)} perturbations of split {split.name!r} are not in context {context!r} "
            f"of {screen.path}, for example {unknown[0]!r}; use split.restrict(names)"
        )
    if CONTROL not in set(groups[PERTURBATION]):
        raise InputError(
            f"context {context!r} of {screen.path} has no control cells, and models predict "
            f"differences to them; name the controls with control= when you ingest"
        )
    return groups[groups[PERTURBATION].isin({CONTROL, *split.train})]


# --- the cells ------------------------------------------------------------------------------------


def _write_data(path: Path, screen: Screen, groups: pd.DataFrame, genes: Sequence[str]) -> None:
    rows = np.concatenate([np.arange(g.start, g.stop) for g in groups.itertuples()])
    write_h5ad(
        path,
        _blocks(screen, rows, screen.genes.get_indexer(list(genes))),
        obs=_cells(screen, groups, rows),
        var=pd.DataFrame(
            {"gene_name": np.array(genes, dtype=object)},
            index=pd.Index(np.array(genes, dtype=object), name="gene"),
        ),
        compression=None,
    )


def _cells(screen: Screen, groups: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Return the table of the cells; text as categories or objects, as AnnData 0.9 reads it."""
    obs: Any = open_root(screen.path)["obs"]
    sizes = screen.group_sizes[groups.index].to_numpy()
    conditions = [spelled(screen.targets[name]) for name in groups[PERTURBATION]]
    table = {
        "condition": pd.Categorical(np.repeat(np.array(conditions, dtype=object), sizes)),
        "cell_type": pd.Categorical(np.repeat(groups["context"].to_numpy(object), sizes)),
        "control": np.repeat(groups["is_control"].to_numpy(np.int64), sizes),
    }
    if "batch" in obs.attrs["column-order"]:
        batch = pd.Series(read_column(obs, "batch")).iloc[rows].astype(object).to_numpy()
        table["batch"] = pd.Categorical(batch)
    names = read_column(obs, obs.attrs["_index"])[rows]
    return pd.DataFrame(table, index=pd.Index(names, dtype=object, name="cell"))


def _blocks(screen: Screen, rows: np.ndarray, columns: np.ndarray) -> Iterator[WrittenBlock]:
    """Yield the rows as log1p, in CSR; every chunk of the store is read once.

    Memory: the chunks of a run of rows, and the non-zero values of a piece of it.
    """
    array: Any = open_matrix(screen.path)
    totals = screen.totals if screen.scale == COUNTS else None
    everything = np.array_equal(columns, np.arange(screen.n_genes))
    for mine in np.split(rows, np.flatnonzero(np.diff(rows // CHUNK_ROWS)) + 1):
        first = int(mine[0])
        window = np.asarray(array[first : int(mine[-1]) + 1])
        for i in range(0, len(mine), _PIECE_ROWS):
            piece = mine[i : i + _PIECE_ROWS]
            values = window[piece - first]
            yield _block(
                values if everything else values[:, columns],
                None if totals is None else totals[piece],
            )


def _block(values: np.ndarray, totals: np.ndarray | None) -> WrittenBlock:
    """Return rows as CSR of log1p of counts per 10,000 (method A1)."""
    row, column = np.nonzero(values)
    found = values[row, column]
    if totals is not None:
        found = normalise(found, totals[row])
    return WrittenBlock(
        found.astype(np.float32),
        column.astype(np.int32),
        np.bincount(row, minlength=len(values)).astype(np.int64),
    )
