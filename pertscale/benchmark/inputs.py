"""Stores of a run, or files that are ingested first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.units.running import unmark
from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, ExistsError, NotFoundError, PertscaleError
from pertscale.io.guards.json_files import read_json_file
from pertscale.io.ingestion.inputs import unique_names
from pertscale.io.ingestion.run import ingest
from pertscale.io.store.layout import is_store
from pertscale.schema import PREDICTIONS_DIR, WORK_DIR
from pertscale.screen import Screen, open_screen
from pertscale.storage.atomic import remove_leftovers_below, write_json
from pertscale.storage.files import states
from pertscale.storage.folder_names import slug
from pertscale.storage.locations import Location, Remote, absolute, locate

#: Store that a file is ingested to, in the output folder.
INGESTED_STORE = "screen.zarr"


@dataclass(frozen=True)
class ScreenInput:
    """A screen of a run: what was passed, and the folder of its part.

    Attributes
    ----------
    store : path, URL or Screen
    folder : str
        Below the output folder; ``.`` for a screen that is alone.
    """

    store: Any
    folder: str


@dataclass(frozen=True)
class OpenedScreen:
    """A screen that is open, with the folder and the log of its part of a run.

    Attributes
    ----------
    screen : Screen
    folder : Path
    log : RunLog
    alone : bool
        Whether it is the only one.
    """

    screen: Screen
    folder: Path
    log: RunLog
    alone: bool

    @property
    def parents(self) -> tuple[Path, ...]:
        """Folders of the results that its own is a part of."""
        return _parents(self.folder, self.alone)


def _parents(folder: Path, alone: bool) -> tuple[Path, ...]:
    return () if alone else (folder.parent.parent,)


def open_or_ingest(
    given: ScreenInput, out: Path, *, memory: str | int, client: Any, quiet: bool
) -> OpenedScreen:
    """Open a store, or ingest a file; begin the log of its screen."""
    log, folder, alone = RunLog(quiet=quiet), out / given.folder, given.folder == "."
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PREDICTIONS_DIR, WORK_DIR):
        remove_leftovers_below(folder / name)
    ingest_file = partial(ingest, memory=memory, client=client, quiet=quiet, overwrite=True)
    screen = _screen(given.store, folder, _parents(folder, alone), ingest_file, log)
    return OpenedScreen(screen, folder, log, alone)


def locate_stores(store: Any, out: Any) -> tuple[Location, tuple[ScreenInput, ...]]:
    """Return the output folder, absolute, and the stores with their folders in it."""
    listed = list(store) if isinstance(store, list | tuple) else [store]
    paths = [locate(one.path if isinstance(one, Screen) else one) for one in listed]
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"there is no store or file {path}")
    if not paths:
        raise ArgumentError("no store was given; pass a store, or a list of stores")
    twice = [str(p) for p in paths if paths.count(p) > 1]
    if twice:
        raise ArgumentError(
            f"{twice[0]} was given twice; its contexts would be trained on themselves"
        )
    if len(paths) == 1:
        folder = out if out is not None else paths[0].with_suffix(".benchmark")
        return absolute(folder), (ScreenInput(listed[0], "."),)
    if out is None:
        raise ArgumentError("several stores have no output folder in common; pass out=")
    names = unique_names(path.stem for path in paths)
    inputs = (ScreenInput(s, f"screens/{slug(n)}") for s, n in zip(listed, names, strict=True))
    return absolute(out), tuple(inputs)


def _screen(
    store: Any,
    folder: Path,
    parents: tuple[Path, ...],
    ingest_file: Callable[[Any, Path], Any],
    log: RunLog,
) -> Screen:
    """Open the store, or ingest what is not one into the output folder."""
    if isinstance(store, Screen) or isinstance(locate(store), Remote) or is_store(store):
        return open_screen(store)
    inside, marker, record, done = ingested(store, folder)
    with log.stage("ingest") as stage:
        stage.reused = done
        if not stage.reused:
            say(f"{store} is not a screen store: ingesting it into {inside}", quiet=log.quiet)
            _check_ours(inside, marker, Path(store))
            unmark((*parents, folder))
            write_json(marker, None)  # the store there is ours, but not what its record says
            ingest_file(store, inside)
            write_json(marker, record)
    return open_screen(inside)


def ingested(store: Any, folder: Path) -> tuple[Path, Path, list[list[Any]], bool]:
    """Return where a file is ingested to, its record, and whether an earlier call has done so."""
    inside, marker = folder / INGESTED_STORE, folder / WORK_DIR / "source.json"
    record = states([Path(store)])
    try:
        done = inside.exists() and read_json_file(marker, "a record of a source") == record
    except PertscaleError:  # none, or a damaged one
        done = False
    return inside, marker, record, done


def _check_ours(inside: Path, marker: Path, source: Path) -> None:
    """Refuse to replace a store of the user's in the place where files are ingested to."""
    if not inside.exists() or marker.exists():
        return
    try:
        made_from = open_screen(inside).info.get("sources", [])
    except PertscaleError:
        return  # damaged, or no store, which ingest refuses to replace
    if made_from != [source.name]:
        raise ExistsError(
            f"{inside}, where {source} is to be ingested to, is a store of another file "
            f"({', '.join(map(str, made_from))}); pass it as store, move it away, or write to "
            "another place (out=, --out)"
        )
