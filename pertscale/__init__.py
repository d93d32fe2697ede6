"""pertscale: labels, honest baselines and scores for Perturb-seq screens, out of core.

Names are loaded when they are first used, so that ``import pertscale`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names
from pertscale._optimized import check_optimized

if TYPE_CHECKING:
    from pertscale import (
        baselines,
        embeddings,
        errors,
        evaluation,
        io,
        models,
        report,
        schema,
        splits,
        stats,
    )
    from pertscale.benchmark import (
        BenchmarkPlan,
        BenchmarkResult,
        audit_screen,
        plan_benchmark,
        read_result,
        run_benchmark,
        score_labels,
        score_transfer,
    )
    from pertscale.embeddings import Embedding
    from pertscale.embeddings import read as read_embedding
    from pertscale.predictions import Predictions, read_predictions
    from pertscale.screen import Screen, open_screen
    from pertscale.simulate import simulate_screen
    from pertscale.splits import Split
    from pertscale.stats import LabelTable, curate, read_labels

__version__ = "0.1.0"

__all__ = [
    "BenchmarkPlan",
    "BenchmarkResult",
    "Embedding",
    "LabelTable",
    "Predictions",
    "Screen",
    "Split",
    "audit_screen",
    "baselines",
    "curate",
    "embeddings",
    "errors",
    "evaluation",
    "io",
    "models",
    "open_screen",
    "plan_benchmark",
    "read_embedding",
    "read_labels",
    "read_predictions",
    "read_result",
    "report",
    "run_benchmark",
    "schema",
    "score_labels",
    "score_transfer",
    "simulate_screen",
    "splits",
    "stats",
]

check_optimized()
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BenchmarkPlan": "pertscale.benchmark",
            "BenchmarkResult": "pertscale.benchmark",
            "Embedding": "pertscale.embeddings",
            "LabelTable": "pertscale.stats",
            "Predictions": "pertscale.predictions",
            "Screen": "pertscale.screen",
            "Split": "pertscale.splits",
            "audit_screen": "pertscale.benchmark",
            "baselines": "pertscale.baselines",
            "curate": "pertscale.stats",
            "embeddings": "pertscale.embeddings",
            "errors": "pertscale.errors",
            "evaluation": "pertscale.evaluation",
            "io": "pertscale.io",
            "models": "pertscale.models",
            "open_screen": "pertscale.screen",
            "plan_benchmark": "pertscale.benchmark",
            "read_embedding": "pertscale.embeddings:read",
            "read_labels": "pertscale.stats",
            "read_predictions": "pertscale.predictions",
            "read_result": "pertscale.benchmark",
            "report": "pertscale.report",
            "run_benchmark": "pertscale.benchmark",
            "schema": "pertscale.schema",
            "score_labels": "pertscale.benchmark",
            "score_transfer": "pertscale.benchmark",
            "simulate_screen": "pertscale.simulate",
            "splits": "pertscale.splits",
            "stats": "pertscale.stats",
        },
    )
