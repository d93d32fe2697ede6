"""models.toml: which models there are, and the command of each.

::

    [models.GEARS]
    command = ["envs/gears/bin/python", "run_gears.py", "{task}", "{out}"]
    timeout = "2h"
    submit = ["srun", "--mem=32G"]
    environment = { OMP_NUM_THREADS = "1" }
    tasks = ["single", "double"]
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from pertscale.arguments import checked
from pertscale.errors import CorruptFileError, InputError, NotFoundError, did_you_mean
from pertscale.hashing import digest
from pertscale.schema import DOUBLE, SINGLE
from pertscale.storage.folder_names import DEVICES
from pertscale.storage.locations import input_path

TASKS = (SINGLE, DOUBLE)
#: Stand for the task folder and the folder to write to; the command has to have both.
PLACEHOLDERS = ("{task}", "{out}")
#: A model's name is a folder's name.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+-]{0,60}[A-Za-z0-9_+-])?")
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?) *(?P<unit>s|min|h|d)")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
#: Arguments that are files up to this size are scripts, and hashed.
_SCRIPT_BYTES = 1_000_000


@dataclass(frozen=True)
class ModelSpec:
    """A model as a command.

    Parameters
    ----------
    name : str
        Name in folders and tables.
    command : tuple of str
        Program and arguments, no shell; ``{task}`` and ``{out}`` stand for the two folders.
    timeout : float, optional
        Seconds after which it is ended; by default never.
    submit : tuple of str
        Put before the command, such as ``srun``; it has to wait for the end.
    environment : mapping of str to str
        Variables added to those that are inherited.
    tasks : tuple of str
        Tasks that the model can do: of ``'single'`` and ``'double'``.
    """

    name: str
    command: tuple[str, ...]
    _: KW_ONLY
    timeout: float | None = None
    submit: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = TASKS

    @property
    def hash(self) -> str:
        """Hash of what a result depends on: the command with its scripts, and the environment."""
        scripts = [digest(path.read_bytes().hex()) for path in self._scripts()]
        return digest(list(self.command), scripts, dict(self.environment))

    def _scripts(self) -> list[Path]:
        paths = [Path(argument) for argument in self.command]
        return [p for p in paths if p.is_file() and p.stat().st_size <= _SCRIPT_BYTES]


@checked
def read_config(path: str | os.PathLike[str]) -> dict[str, ModelSpec]:
    """Read a models.toml.

    A program with a slash, and every argument that names a file beside the toml, are relative to
    the toml's folder.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        Name -> :class:`ModelSpec`, in the order of the file.

    Raises
    ------
    NotFoundError
        There is no such file.
    CorruptFileError
        It is not TOML.
    InputError
        A key is not known or a value can't be used.
    """
    path = input_path(path, "a file of models").absolute()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError as error:
        raise NotFoundError(f"there is no file of models {path}") from error
    except (ValueError, RecursionError) as error:  # no TOML, or nested without end
        raise CorruptFileError(f"not TOML, which a file of models is: {error} ({path})") from error
    _check_keys(content, ("models",), f"the top level of {path}")
    models = content.get("models")
    if not isinstance(models, dict) or not models:
        raise InputError(f"no model in {path}; write a table [models.NAME] with a command")
    specs = {name: _spec(name, entry, path) for name, entry in models.items()}
    folders = [name.lower() for name in specs]
    for name in specs:
        if folders.count(name.lower()) > 1:
            raise InputError(
                f"two models are called {name!r} but for case, which is one folder on some file "
                f"systems; rename one ({path})"
            )
    return specs


def _spec(name: str, entry: Any, path: Path) -> ModelSpec:
    where = f"[models.{name}] of {path}"
    if not _NAME.fullmatch(name) or DEVICES.fullmatch(name):
        raise InputError(
            f"the model's name {name!r} can't be that of a folder; use up to 62 letters, digits "
            f"and ._+-, the last one no dot ({path})"
        )
    if not isinstance(entry, dict):
        raise InputError(f"{where} has to be a table with a command, found {entry!r}")
    _check_keys(entry, ("command", "timeout", "submit", "environment", "tasks"), where)
    command = _texts(entry.get("command"), "command", where)
    missing = [p for p in PLACEHOLDERS if not any(p in argument for argument in command)]
    if missing:
        raise InputError(
            f"command in {where} lacks {' and '.join(missing)}; write for example "
            f'["python", "model.py", "{{task}}", "{{out}}"]'
        )
    tasks = _texts(entry.get("tasks", list(TASKS)), "tasks", where)
    _check_keys(tasks, TASKS, f"tasks in {where}")
    return ModelSpec(
        name=name,
        command=_located(command, path.parent),
        timeout=_seconds(entry.get("timeout"), where),
        submit=_texts(entry["submit"], "submit", where) if "submit" in entry else (),
        environment=_environment(entry.get("environment", {}), where),
        tasks=tasks,
    )


def _check_keys(found: Iterable[str], known: tuple[str, ...], where: str) -> None:
    for key in found:
        if key not in known:
            near = did_you_mean(key, known)
            raise InputError(f"{where} has {key!r}, known are {', '.join(known)}{near}")


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise InputError(f"{key} in {where} has to be a list of texts, found {value!r}")
    return tuple(value)


def _environment(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise InputError(
            f'environment in {where} has to be a table of texts such as {{K = "1"}}, found '
            f"{value!r}"
        )
    return dict(value)


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        seconds = float(match["number"]) * _UNITS[match["unit"]]
    else:
        seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    if not 0 < seconds < math.inf:
        raise InputError(
            f"timeout in {where} has to be seconds, or a text such as '90s', '30min', '2h', '1d', "
            f"found {value!r}"
        )
    return float(seconds)


def _located(command: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Make paths absolute; links are kept, since a Python finds its environment by its path."""
    program = Path(command[0]).expanduser()
    first = str(folder / program) if len(program.parts) > 1 else command[0]
    rest = (str(folder / a) if (folder / a).is_file() else a for a in command[1:])
    return (os.path.normpath(first) if os.sep in first else first, *rest)
