"""Which perturbations a method is fitted on and which it is judged on.

A :class:`Split` names perturbations, never cells: all cells and all genes of a perturbation fall on
the same side (SPEC D1). The controls are in no part; every method may use them.

The splits of the field that have rules of their own (GEARS' simulation split, the doubles of
Norman; SPEC D3, D4) are further functions here that return a :class:`Split` with their own
``kind``.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from pertscale import conditions
from pertscale.errors import (
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
    UnknownNameError,
)
from pertscale.hashing import digest
from pertscale.io.atomic import write_bytes
from pertscale.schema import CONTROL

PARTS: Final = ("train", "test", "val")
#: Key of our own record in a split file; other tools' files do not have it.
RECORD: Final = "pertscale"


@dataclass(frozen=True, repr=False)
class Split:
    """A partition of perturbations into training, test and validation.

    Parameters
    ----------
    name
        Name that scores and reports carry.
    train, test, val
        Perturbation names. No name may occur twice; `train` and `test` have at least one each. The
        order is kept, and has no influence on :attr:`hash`.
    seed
        Seed the split was drawn with.
    kind
        Rule it was drawn by: ``"holdout"``, ``"k_fold"``, or ``"file"`` for a split of another
        tool.

    Raises
    ------
    InputError
        Empty `train` or `test`, a repeated name, or the control among the names.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    val: tuple[str, ...] = ()
    seed: int = 0
    kind: str = "holdout"

    def __post_init__(self) -> None:
        _checked_names([self.name], what="the name of a split")
        object.__setattr__(self, "seed", _checked_seed(self.seed))
        first_part: dict[str, str] = {}
        for part in PARTS:
            names = _checked_names(getattr(self, part), what=f"split {self.name!r}, part {part!r}")
            object.__setattr__(self, part, names)
            for name in names:
                if name in first_part:
                    raise InputError(
                        f"split {self.name!r} has {name!r} in {first_part[name]!r} and in "
                        f"{part!r}; a perturbation has to be in one part only"
                    )
                first_part[name] = part
        for part in ("train", "test"):
            if not getattr(self, part):
                raise InputError(f"split {self.name!r} has an empty {part!r} part; it needs a name")
        if CONTROL in first_part:
            raise InputError(
                f"split {self.name!r} has the control in {first_part[CONTROL]!r}; leave "
                f"{CONTROL!r} out, every method gets the controls"
            )

    @property
    def hash(self) -> str:
        """Hash of who is in which part, whatever the order.

        Name, seed and kind do not enter: two splits with the same parts have the same hash, so
        it says whether a stored fit may be used again.
        """
        return digest({part: sorted(getattr(self, part)) for part in PARTS})

    def restrict(self, names: Iterable[str]) -> Split:
        """Return the split on the perturbations that are in `names`.

        Raises
        ------
        InputError
            No training or no test perturbation is left.
        """
        kept = set(_checked_names(names, what="names"))
        parts: dict[str, Any] = {
            part: tuple(n for n in getattr(self, part) if n in kept) for part in PARTS
        }
        for part in ("train", "test"):
            if not parts[part]:
                raise InputError(
                    f"none of the {len(getattr(self, part))} {part} perturbations of split "
                    f"{self.name!r} is among the {len(kept)} given, for example "
                    f"{getattr(self, part)[0]!r}; check how the two spell the names"
                )
        return replace(self, **parts)

    def to_json(self) -> str:
        """Return the text of the split file: the three parts, and a record of our own (SPEC K1)."""
        content: dict[str, Any] = {part: list(getattr(self, part)) for part in PARTS}
        content[RECORD] = {
            "name": self.name,
            "seed": self.seed,
            "kind": self.kind,
            "hash": self.hash,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the split file, atomically; a file that is there is replaced."""
        write_bytes(path, self.to_json().encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Split:
        """Read a split file, ours or one that has only the parts (SPEC K1).

        A file without our record gets the file's name and the kind ``"file"``, and its names are
        made canonical: ``A+ctrl`` becomes ``A``, and the control is left out.

        Raises
        ------
        NotFoundError
            There is no such file.
        CorruptFileError
            It is not JSON.
        InputError
            It is not of this form, or its parts are not those that its hash was made of.
        """
        content = _read_object(Path(path))
        record = content.pop(RECORD, None)
        unknown = sorted(set(content) - set(PARTS))
        missing = sorted({"train", "test"} - set(content))
        if unknown or missing:
            raise InputError(
                f"a split file has the keys 'train', 'test' and possibly 'val'; missing: "
                f"{missing}, not understood: {unknown} ({path})"
            )
        parts = {part: _part_of_file(content[part], part, path) for part in content}
        if record is None:
            return cls(name=Path(path).stem, kind="file", **_canonical_parts(parts))
        return cls._from_record(record, parts, path)

    @classmethod
    def _from_record(
        cls, record: Any, parts: dict[str, tuple[str, ...]], path: str | os.PathLike[str]
    ) -> Split:
        if not isinstance(record, dict) or not {"name", "seed", "kind", "hash"} <= set(record):
            raise InputError(
                f"{RECORD!r} in a split file needs 'name', 'seed', 'kind' and 'hash'; complete it, "
                f"or delete it to have the file read as another tool's ({path})"
            )
        split = cls(name=record["name"], seed=record["seed"], kind=record["kind"], **parts)
        if split.hash != record["hash"]:
            raise InputError(
                f"the parts of split {split.name!r} have hash {split.hash}, the file says "
                f"{record['hash']}: it was changed after it was written; if that was on purpose, "
                f"delete its {RECORD!r} entry ({path})"
            )
        return split

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(getattr(self, part))} {part}" for part in PARTS)
        return f"<Split {self.name!r}: {sizes} ({self.kind}, seed {self.seed})>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{part}</th><td>{len(getattr(self, part))}</td>"
            f"<td>{escape(_some(getattr(self, part)))}</td></tr>"
            for part in PARTS
        )
        return (
            f"<table><caption>Split {escape(self.name)} ({escape(self.kind)}, seed {self.seed})"
            f"</caption><tr><th>part</th><th>n</th><th>perturbations</th></tr>{rows}</table>"
        )


def holdout(
    perturbations: Iterable[str],
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Hold out a random part of the perturbations (SPEC D1).

    The names are sorted and permuted with NumPy's legacy generator; the first
    ``ceil(test_fraction * n)`` are the test set. Both parts are returned sorted.

    Parameters
    ----------
    perturbations
        Names, each once, in any order. The control is left out if it is among them.
    test_fraction
        Share of the perturbations (with `groups`: of the groups) to hold out, between 0 and 1.
    seed
        Seed of ``numpy.random.RandomState``.
    groups
        Perturbation → target. Perturbations of one target, such as several guides of a gene, always
        fall on the same side. With one perturbation per target the split is the same as without.

    Raises
    ------
    ArgumentError
        `test_fraction` or `seed` out of range.
    InputError
        A name occurs twice, or there are too few perturbations to fill both parts.
    UnknownNameError
        A perturbation is not in `groups`.
    """
    if not 0 < test_fraction < 1:
        raise ArgumentError(f"test_fraction has to be between 0 and 1, got {test_fraction}")
    units = _permuted_units(perturbations, seed=seed, groups=groups)
    # 0.07 * 100 is 7.000000000000001, which must not round up to 8
    n_test = math.ceil(test_fraction * len(units) - 1e-9)
    if n_test >= len(units):
        raise InputError(
            f"holding out {test_fraction:g} of {_counted(len(units), groups)} leaves none to "
            f"train on; give more perturbations or a smaller test_fraction"
        )
    return Split(
        name=f"holdout-seed{seed}",
        train=_sorted_names(units[n_test:]),
        test=_sorted_names(units[:n_test]),
        seed=seed,
        kind="holdout",
    )


def repeated_holdout(
    perturbations: Iterable[str],
    *,
    seeds: Iterable[int],
    test_fraction: float = 0.25,
    groups: Mapping[str, str] | None = None,
) -> tuple[Split, ...]:
    """Return one :func:`holdout` per seed, in the order of `seeds`.

    Raises
    ------
    ArgumentError
        There is no seed, or one occurs twice.
    """
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ArgumentError(f"seeds have to be different and at least one, got {seeds}")
    names = _checked_names(perturbations, what="perturbations")
    return tuple(
        holdout(names, test_fraction=test_fraction, seed=seed, groups=groups) for seed in seeds
    )


def k_fold(
    perturbations: Iterable[str],
    *,
    n_folds: int = 5,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[Split, ...]:
    """Cut the perturbations into folds; each is the test set once (SPEC D2).

    The names are sorted, permuted with NumPy's legacy generator and cut by ``numpy.array_split``,
    so the first folds may have one more than the last.

    Parameters
    ----------
    perturbations
        Names, each once, in any order. To choose a setting of a method, these are the training
        perturbations only. The control is left out if it is among them.
    n_folds
        Number of folds, at least 2.
    seed
        Seed of ``numpy.random.RandomState``.
    groups
        Perturbation → target, as in :func:`holdout`.

    Raises
    ------
    ArgumentError
        `n_folds` is below 2 or `seed` is out of range.
    InputError
        A name occurs twice, or there are fewer perturbations (or groups) than folds.
    UnknownNameError
        A perturbation is not in `groups`.
    """
    if n_folds < 2:
        raise ArgumentError(f"n_folds has to be at least 2, got {n_folds}")
    units = _permuted_units(perturbations, seed=seed, groups=groups)
    if len(units) < n_folds:
        raise InputError(
            f"{n_folds} folds need at least {n_folds} {_unit(groups)}s, there are {len(units)}; "
            f"lower n_folds"
        )
    bounds = np.cumsum([0, *map(len, np.array_split(np.arange(len(units)), n_folds))])
    return tuple(
        Split(
            name=f"fold{i + 1}of{n_folds}-seed{seed}",
            train=_sorted_names(units[: bounds[i]] + units[bounds[i + 1] :]),
            test=_sorted_names(units[bounds[i] : bounds[i + 1]]),
            seed=seed,
            kind="k_fold",
        )
        for i in range(n_folds)
    )


def _permuted_units(
    perturbations: Iterable[str], *, seed: int, groups: Mapping[str, str] | None
) -> list[tuple[str, ...]]:
    """Return the units that are drawn: tuples of perturbations that stay together."""
    names = sorted(set(_checked_names(perturbations, what="perturbations")) - {CONTROL})
    members: dict[str, list[str]] = {}
    for name in names:
        if groups is not None and name not in groups:
            raise UnknownNameError(
                f"perturbation {name!r} is not in groups, which has to give the target of every "
                f"perturbation"
            )
        members.setdefault(name if groups is None else groups[name], []).append(name)
    # in the order of their first perturbations: groups of one give the split without groups
    units = [tuple(together) for together in members.values()]
    if len(units) < 2:
        raise InputError(
            f"a split needs at least 2 {_unit(groups)}s besides the control, there are {len(units)}"
        )
    order = np.random.RandomState(_checked_seed(seed)).permutation(len(units))
    return [units[i] for i in order]


def _sorted_names(units: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(name for unit in units for name in unit))


def _unit(groups: Mapping[str, str] | None) -> str:
    return "perturbation" if groups is None else "target group"


def _counted(n: int, groups: Mapping[str, str] | None) -> str:
    return f"{n} {_unit(groups)}{'' if n == 1 else 's'}"


def _checked_seed(seed: int) -> int:
    try:
        value = operator.index(seed)
    except TypeError as error:
        raise ArgumentError(f"a seed is a whole number, got {seed!r}") from error
    if not 0 <= value < 2**32:
        raise ArgumentError(f"a seed is between 0 and 2**32 - 1, got {value}")
    return value


def _checked_names(names: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Return names as a tuple of ``str``; refuse empty, repeated and non-text ones."""
    if isinstance(names, str):
        raise InputError(f"{what}: got the single text {names!r}, a list of names is needed")
    checked = tuple(names)
    seen: set[str] = set()
    for i, name in enumerate(checked):
        if not isinstance(name, str) or not name:
            raise InputError(f"{what}: entry {i} is {name!r}, a name is needed")
        if name in seen:
            raise InputError(f"{what}: {name!r} occurs twice; give every name once")
        seen.add(name)
    return tuple(map(str, checked))


def _canonical_parts(parts: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return another tool's parts in our names, without the control (SPEC 0.2)."""
    names = [name for part in parts.values() for name in part]
    grammar = conditions.Grammar(
        known=conditions.known_targets(names, genes=()),
        controls=frozenset(filter(conditions.is_control_word, names)),
    )
    return {
        part: tuple(name for name in map(grammar.canonical, members) if name != CONTROL)
        for part, members in parts.items()
    }


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no split file {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"not JSON, which a split file is: {error} ({path})") from error
    if not isinstance(content, dict):
        raise InputError(
            f"a split file is a JSON object with 'train' and 'test', found {type(content).__name__}"
            f" ({path})"
        )
    return content


def _part_of_file(names: Any, part: str, path: str | os.PathLike[str]) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise InputError(f"{part!r} has to be a list, found {type(names).__name__} ({path})")
    return _checked_names(names, what=f"{path}, part {part!r}")


def _some(names: tuple[str, ...], *, n: int = 8) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")
