"""The order of the packages: imports point down, in no circle, and arrays know no files.

Imports under ``TYPE_CHECKING`` and inside functions count.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.helpers import ROOT

#: From below; a module has the rank of its longest prefix. Packages of one rank import none of
#: another there, but for names and words at the bottom.
RANKS = (
    {
        "errors",
        "versions",
        "schema",
        "hashing",
        "display",
        "arguments",
        "diagnostics",
        "_computing",
        "_jit",
        "_lazy",
        "_optimized",
    },
    {"perturbation_names", "gene_names", "guide_names", "evaluation"},
    {"storage"},
    {"execution"},
    {"io.guards"},
    {"io.store"},
    {"io.sources"},
    {"io"},
    {"screen", "splits", "embeddings", "simulate"},
    {"baselines", "stats"},
    {"predictions", "results"},
    {"models"},
    {"report"},
    {"benchmark"},
    {"slurm"},
    {"cli", "cli_help", "cli_words", "__main__"},
    {""},
)
#: Ranks whose members may import each other.
SHARED = (0, 1, 15)
#: They read ``pertscale.__version__``.
VERSION = {("slurm.scripts", ""), ("cli", "")}
#: Plain arrays: what they reach, through others too, is neither files nor stores.
ARRAYS = ("baselines", "evaluation", "embeddings.embedding", "embeddings.components")
PACKAGE = ROOT / "pertscale"


def modules(package: Path) -> dict[str, Path]:
    """Files by their dotted name below the package, which itself is the empty one."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "pertscale":
                yield rest if rest in known else rest.rpartition(".")[0]


def rank(module: str) -> tuple[int, str]:
    """Position in RANKS, and which of its members it is in."""
    prefixes = [
        (len(name), at, name)
        for at, names in enumerate(RANKS)
        for name in names
        if module == name or (name and module.startswith(f"{name}."))
    ]
    assert prefixes, f"pertscale.{module} has no rank: where does it belong?"
    return max(prefixes)[1:]


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that don't point down."""
    found = []
    for module, targets in graph.items():
        mine, member = rank(module)
        for target in targets:
            its, other = rank(target)
            beside = its == mine and other != member and mine not in SHARED
            if (its > mine or beside) and (module, target) not in VERSION:
                found.append(f"{module} imports {target}")
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of files, if there is one. A package's exports are no part of it."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            found = walk(target, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next(filter(None, (walk(m, []) for m in sorted(graph))), [])


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All modules that are imported, directly or through others."""
    found: set[str] = set()
    waiting = [m for m in graph if m == start or m.startswith(f"{start}.")]
    while waiting:
        for target in graph[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def files_reached(graph: dict[str, set[str]], start: str) -> list[str]:
    return sorted(m for m in reached(graph, start) if m.split(".")[0] in ("io", "storage"))


def impure_kernels(graph: dict[str, set[str]]) -> list[str]:
    """Imports of kernels that are no kernels and not `_jit`."""
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        if "_kernels" in module.split(".")
        for target in targets
        if target != "_jit" and "_kernels" not in target.split(".")
    ]


KNOWN = modules(PACKAGE)


@cache
def found_graph() -> dict[str, set[str]]:
    """What each file of the package imports; read when a test asks, not by each that collects."""
    return {name: set(imports(path, KNOWN)) for name, path in KNOWN.items()}


def with_import(module: str, target: str) -> dict[str, set[str]]:
    """The graph with one import more."""
    return {**found_graph(), module: found_graph()[module] | {target}}


def test_imports_point_down():
    assert upward(found_graph()) == []


def test_no_files_import_each_other():
    assert circle(found_graph()) == []


@pytest.mark.parametrize("start", ARRAYS)
def test_arrays_reach_no_files(start):
    assert files_reached(found_graph(), start) == []


def test_kernels_import_nothing_of_ours():
    assert impure_kernels(found_graph()) == []


def test_a_violation_is_found():
    """Each of the rules above fails on a planted import."""
    assert upward(with_import("io.sources.csv", "screen"))
    assert upward(with_import("stats.pseudobulk", "baselines.thresholds"))
    assert upward(with_import("screen", "splits.split"))
    assert upward(with_import("splits.split", ""))
    assert circle(with_import("storage.atomic", "storage.publish"))
    assert files_reached(with_import("embeddings.embedding", "embeddings.readers"), "baselines")
    assert impure_kernels(with_import("evaluation._kernels", "schema"))
    with pytest.raises(AssertionError, match="has no rank"):
        rank("misc")


@pytest.mark.parametrize("module", sorted(m for m, p in KNOWN.items() if p.name == "__init__.py"))
def test_every_public_name_is_there_and_no_module_has_it(module):
    """Importing a module would put it in the place of the function that has its name."""
    package = importlib.import_module(f"pertscale.{module}".rstrip("."))
    prefix = f"{module}." if module else ""
    inside = {m.removeprefix(prefix) for m in KNOWN if m.startswith(prefix) and m != module}
    for name in getattr(package, "__all__", ()):
        value = getattr(package, name)
        assert name not in inside or value.__name__ == f"pertscale.{prefix}{name}"


@pytest.mark.parametrize(
    ("document", "fewest"), [("CONTRIBUTING.md", 60), ("docs/glossary.md", 40)]
)
def test_documents_name_files_that_are_there(document, fewest):
    """Paths of files and folders in backticks, from the package or from the repository."""
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:[\w-]+/)+[\w-]*(?:\.\w+)?|[\w-]+\.py)`", text))
    assert len(named) > fewest
    below = (p for top in (PACKAGE, ROOT / "tests") for p in top.rglob("*") if p.is_dir())
    places = [ROOT, PACKAGE, ROOT / "tests", ROOT / "examples" / "models", *below]
    assert [name for name in sorted(named) if not any((p / name).exists() for p in places)] == []
