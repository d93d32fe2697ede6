"""pertscale: labels, honest baselines and scores for Perturb-seq screens, out of core.

Names are loaded when they are first used, so that ``import pertscale`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pertscale import baselines, embeddings, evaluation, io, schema, stats
    from pertscale.benchmark import BenchmarkResult, read_result, run_benchmark, score_labels
    from pertscale.embeddings import Embedding
    from pertscale.embeddings import read as read_embedding
    from pertscale.screen import Screen, open_screen
    from pertscale.simulate import simulate_screen
    from pertscale.splits import Split
    from pertscale.stats import LabelTable, curate, read_labels

#: Public name -> module that defines it, and its name there.
_NAMES = {
    "BenchmarkResult": ("pertscale.benchmark", "BenchmarkResult"),
    "Embedding": ("pertscale.embeddings", "Embedding"),
    "LabelTable": ("pertscale.stats", "LabelTable"),
    "Screen": ("pertscale.screen", "Screen"),
    "Split": ("pertscale.splits", "Split"),
    "curate": ("pertscale.stats", "curate"),
    "open_screen": ("pertscale.screen", "open_screen"),
    "read_embedding": ("pertscale.embeddings", "read"),
    "read_labels": ("pertscale.stats", "read_labels"),
    "read_result": ("pertscale.benchmark", "read_result"),
    "run_benchmark": ("pertscale.benchmark", "run_benchmark"),
    "score_labels": ("pertscale.benchmark", "score_labels"),
    "simulate_screen": ("pertscale.simulate", "simulate_screen"),
}
_MODULES = ("baselines", "embeddings", "evaluation", "io", "schema", "splits", "stats")

__version__ = "0.1.0"

__all__ = [
    "BenchmarkResult",
    "Embedding",
    "LabelTable",
    "Screen",
    "Split",
    "baselines",
    "curate",
    "embeddings",
    "evaluation",
    "io",
    "open_screen",
    "read_embedding",
    "read_labels",
    "read_result",
    "run_benchmark",
    "schema",
    "score_labels",
    "simulate_screen",
    "stats",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        module, attribute = _NAMES[name]
        return getattr(importlib.import_module(module), attribute)
    if name in _MODULES:
        return importlib.import_module(f"pertscale.{name}")
    raise AttributeError(f"module 'pertscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
