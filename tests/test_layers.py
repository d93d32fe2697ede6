"""Imports only point down: the arrow of DESIGN section 2, walked over the import statements."""

from __future__ import annotations

import ast

import pytest

from tests.helpers import ROOT

#: From the top down; modules of one line may import each other.
LAYERS = (
    ("cli", "cli_help", "cli_words", "__main__"),
    ("models", "slurm"),
    ("benchmark",),
    ("report",),
    ("baselines", "evaluation", "stats"),
    (
        "screen",
        "tiles",
        "splits",
        "embeddings",
        "gene_graph",
        "gene_names",
        "predictions",
        "profile_scale",
        "simulate",
    ),
    ("io",),
    (
        "runner",
        "clients",
        "events",
        "progress",
        "conditions",
        "guides",
        "hashing",
        "folder_names",
        "memory",
        "full_disk",
        "buffers",
        "probe",
    ),
    ("schema", "errors", "cards", "arguments", "_lazy", "_optimized", "_jit"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PACKAGE = ROOT / "pertscale"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported(path):
    """Top-level names below pertscale that a file imports, type checking left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pertscale":
                yield parts[1:]


def layer_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    mine = layer_of(path)
    for target in imported(path):
        if target[0] in RANK:
            assert RANK[target[0]] >= RANK[mine], f"{path.name} imports pertscale.{target[0]}"


def test_every_module_has_a_layer():
    assert {layer_of(path) for path in FILES} <= set(RANK)


@pytest.mark.parametrize("name", ["baselines", "evaluation"])
def test_array_layers_never_import_io(name):
    for path in (PACKAGE / name).rglob("*.py"):
        assert all(target[0] != "io" for target in imported(path)), path


def test_kernels_import_nothing_of_ours():
    for path in (PACKAGE / "stats" / "_kernels").glob("*.py"):
        targets = [t for t in imported(path) if t[:2] != ["stats", "_kernels"] and t[0] != "_jit"]
        assert targets == [], path
