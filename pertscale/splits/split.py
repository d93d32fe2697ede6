"""Split: who is in which part, and the file that holds it."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final

from pertscale import display, perturbation_names
from pertscale.arguments import checked
from pertscale.errors import (
    ArgumentError,
    InputError,
)
from pertscale.hashing import digest
from pertscale.io.guards.damage import naming_file
from pertscale.io.guards.json_files import read_json_file
from pertscale.schema import CONTROL
from pertscale.storage.atomic import write_bytes
from pertscale.storage.locations import Location, LocationLike, locate

PARTS: Final = ("train", "test", "val")
#: Key of our own record in a split file; other tools' files do not have it.
RECORD: Final = "pertscale"


@checked
@dataclass(frozen=True, repr=False)
class Split:
    """A partition of perturbations into training, test and validation.

    Test and validation part are held out alike, see :attr:`held_out`.

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
        Rule that drew it: ``"holdout"``, ``"k_fold"``, ``"gears_simulation"``, ``"doubles"``,
        or ``"file"`` for a split of another tool.

    Raises
    ------
    InputError
        Empty `train` or `test`, a repeated name, or the control among the names.

    Examples
    --------
    >>> split = ps.Split("mine", train=("GATA1", "KLF1"), test=("TP53",))
    >>> split.write("mine.json")
    >>> ps.Split.read("mine.json") == split
    True
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    val: tuple[str, ...] = ()
    _: KW_ONLY
    seed: int = 0
    kind: str = "holdout"

    def __post_init__(self) -> None:
        checked_names([self.name], what="the name of a split")
        object.__setattr__(self, "seed", checked_seed(self.seed))
        first_part: dict[str, str] = {}
        for part in PARTS:
            names = checked_names(getattr(self, part), what=f"split {self.name!r}, part {part!r}")
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
    def held_out(self) -> tuple[str, ...]:
        """Perturbations that nothing is fitted on and that are scored: of test, then of val.

        So it is for classes and for expression, as in the second paper (method D4, D5). What a
        method should tune itself on belongs to `train`.
        """
        return (*self.test, *self.val)

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
        kept = set(checked_names(names, what="names"))
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
        """Return the text of the split file: three parts, and a record of our own (method K1)."""
        content: dict[str, Any] = {part: list(getattr(self, part)) for part in PARTS}
        content[RECORD] = {
            "name": self.name,
            "seed": self.seed,
            "kind": self.kind,
            "hash": self.hash,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: LocationLike) -> None:
        """Write the split file, atomically; a file that is there is replaced."""
        write_bytes(path, self.to_json().encode())

    @classmethod
    def read(cls, path: LocationLike) -> Split:
        """Read a split file, ours or one that has only the parts (method K1).

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
        content = _read_object(locate(path))
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
            with naming_file(path):
                return cls(name=locate(path).stem, kind="file", **_canonical_parts(parts))
        return cls._from_record(record, parts, path)

    @classmethod
    def _from_record(
        cls, record: Any, parts: dict[str, tuple[str, ...]], path: LocationLike
    ) -> Split:
        if not isinstance(record, dict) or not {"name", "seed", "kind", "hash"} <= set(record):
            raise InputError(
                f"{RECORD!r} in a split file needs 'name', 'seed', 'kind' and 'hash'; complete it, "
                f"or delete it to have the file read as another tool's ({path})"
            )
        with naming_file(path):
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
        total = sum(len(getattr(self, part)) for part in PARTS)
        rows = [
            (
                part,
                display.bar({color: len(getattr(self, part))}, whole=total),
                f"{len(getattr(self, part)):,}",
                display.first_few(getattr(self, part)),
            )
            for part, color in zip(PARTS, ("main", "second", "third"), strict=True)
        ]
        facts = {"rule": self.kind, "seed": self.seed, "hash": self.hash[:12]}
        table = display.table(["part", "", "n", "perturbations"], rows, text=4)
        return display.card("Split", self.name, table, display.facts(facts))


def checked_seed(seed: int) -> int:
    """Return a seed as int; refuse what NumPy's legacy generator does not take."""
    try:
        value = operator.index(seed)
    except TypeError as error:
        raise ArgumentError(f"a seed is a whole number, got {seed!r}") from error
    if not 0 <= value < 2**32:
        raise ArgumentError(f"a seed is between 0 and 2**32 - 1, got {value}")
    return value


def checked_names(names: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Return names as a tuple of ``str``; refuse empty, repeated and non-text ones."""
    if isinstance(names, str):
        raise InputError(f"{what}: got the single text {names!r}, a list of names is needed")
    checked = tuple(names)
    seen: set[str] = set()
    for i, name in enumerate(checked):
        if not isinstance(name, str) or not name:
            raise InputError(f"{what}: entry {i} is {name!r}, a name is needed")
        if not can_be_written(name):
            raise InputError(
                f"{what}: entry {i} is {name!r}, which no file can hold: it has half of a "
                "character (a lone surrogate); correct it where it comes from"
            )
        if name in seen:
            raise InputError(f"{what}: {name!r} occurs twice; give every name once")
        seen.add(name)
    return tuple(map(str, checked))


def can_be_written(name: str) -> bool:
    """Return whether a name can be written as UTF-8, as all files of ours are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _canonical_parts(parts: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return another tool's parts in our names, without the control (method 0.2)."""
    names = [name for part in parts.values() for name in part]
    grammar = perturbation_names.Grammar.of(
        names, (), filter(perturbation_names.is_control_word, names)
    )
    return {
        part: tuple(name for name in map(grammar.canonical, members) if name != CONTROL)
        for part, members in parts.items()
    }


def _read_object(path: Location) -> dict[str, Any]:
    content = read_json_file(path, "a split file")
    if not isinstance(content, dict):
        raise InputError(
            f"a split file is a JSON object with 'train' and 'test', found {type(content).__name__}"
            f" ({path})"
        )
    return content


def _part_of_file(names: Any, part: str, path: LocationLike) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise InputError(f"{part!r} has to be a list, found {type(names).__name__} ({path})")
    return checked_names(names, what=f"{path}, part {part!r}")
