"""Read all of a store, to check that it is what ingest wrote."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from pertscale.errors import CorruptFileError, PertscaleError
from pertscale.io.guards.damage import file_errors
from pertscale.io.store.layout import REMEDY, has_checksums, open_root, read_column, read_info
from pertscale.schema import COUNTS, MATRIX
from pertscale.storage.locations import LocationLike, locate

#: Blocks that are read at the same time.
_THREADS = 4
#: Faults that the error lists.
_MOST_LISTED = 5


@dataclass(frozen=True)
class Verified:
    """What was read of a store that is whole.

    Attributes
    ----------
    n_arrays, n_chunks : int
    has_checksums : bool
        Whether each chunk has one; stores of earlier versions have none, and only their matrix
        could be compared, with the sums of the cells.
    """

    n_arrays: int
    n_chunks: int
    has_checksums: bool


def verify_store(path: LocationLike) -> Verified:
    """Read all chunks of a store, and compare the matrix with the sums of its cells.

    Memory: a few chunks, or shards of large stores, and two numbers for each cell.

    Raises
    ------
    CorruptFileError
        The message lists what is missing or damaged.
    """
    root = open_root(str(locate(path)))
    faults: list[str] = []
    arrays = dict(_arrays(root, str(locate(path)), faults))
    n_chunks = 0
    with ThreadPoolExecutor(_THREADS) as threads:
        for name, array in arrays.items():
            check = _sums_check(root) if name == MATRIX else None
            bands = list(_bands(array))
            n_chunks += sum(len(band) for band in bands)
            told = [threads.submit(_read_band, array, name, band, check) for band in bands]
            for one in told:
                faults += one.result()
    if faults:
        more = f" … and {len(faults) - _MOST_LISTED} more" if len(faults) > _MOST_LISTED else ""
        raise CorruptFileError(
            f"{locate(path)} is damaged in {len(faults)} of {n_chunks:,} chunks: "
            f"{'; '.join(faults[:_MOST_LISTED])}{more}; {REMEDY}"
        )
    return Verified(len(arrays), n_chunks, has_checksums(root[MATRIX]))


def _arrays(root: Any, where: str, faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield all arrays by name; a fault where the description of one is not what the root has."""
    own = zarr.open_group(root.store, mode="r", zarr_format=3, use_consolidated=False)
    for name, node in sorted(root.members(max_depth=None)):
        try:
            with file_errors(f"{where}/{name}", remedy="its description is damaged"):
                same = _described(own[name]) == _described(node)
        except PertscaleError as error:
            faults.append(str(error))
            continue
        if not same:
            faults.append(f"{name}/zarr.json is not what the root of the store says")
        elif isinstance(node, zarr.Array):
            yield name, node


def _described(node: Any) -> Any:
    """Return what an array or a group says of itself."""
    return node.metadata.to_dict() if isinstance(node, zarr.Array) else node.attrs.asdict()


def _bands(array: Any) -> Iterator[list[tuple[slice, ...]]]:
    """Yield the blocks of an array that are stored together, those of the same rows as one list."""
    sizes = array.shards or array.chunks
    steps = [
        [slice(start, min(start + step, n)) for start in range(0, n, step)]
        for n, step in zip(array.shape, sizes, strict=True)
    ]
    if not steps:
        yield [()]
        return
    for rows in steps[0]:
        yield list(itertools.product([rows], *steps[1:]))


def _read_band(
    array: Any, name: str, band: list[tuple[slice, ...]], check: Callable[..., list[str]] | None
) -> list[str]:
    """Read the blocks of some rows; return what is wrong with them."""
    faults, blocks = [], []
    for block in band:
        shown = ", ".join(f"{part.start:,}:{part.stop:,}" for part in block)
        try:
            with file_errors(f"{name}[{shown}]", remedy="damaged"):
                values = np.asarray(array[block])
        except PertscaleError as error:
            faults.append(str(error).removesuffix(f": {REMEDY}"))
            continue
        if check is not None:
            blocks.append(((values > 0).sum(axis=1), values.sum(axis=1, dtype=np.float64)))
    if check is not None and not faults:
        return check(band[0][0], sum(b[0] for b in blocks), sum(b[1] for b in blocks))
    return faults


def _sums_check(root: Any) -> Callable[[slice, Any, Any], list[str]] | None:
    """Return what compares rows of the matrix with what ingest counted; None if that is damaged."""
    totals = None
    try:
        info, obs = read_info(root), root["obs"]
        expressed = np.asarray(read_column(obs, "n_genes_expressed"))
        if info.get("scale") == COUNTS and info.get("totals") == "matrix":
            totals = np.asarray(read_column(obs, "total_counts"))
    except CorruptFileError:  # a fault of its own
        return None

    def check(rows: slice, above_zero: Any, sums: Any) -> list[str]:
        same = np.array_equal(expressed[rows], above_zero)
        if same and (totals is None or np.array_equal(totals[rows], sums)):
            return []
        return [f"{MATRIX}[{rows.start:,}:{rows.stop:,}] holds other values than ingest wrote"]

    return check
