"""The benchmark: labels, splits, baselines, scores and a report from one call."""

from pertscale._lazy import public_dir
from pertscale.benchmark.audit import audit_screen, worst_attacks
from pertscale.benchmark.forecast.plan import BenchmarkPlan, plan_benchmark
from pertscale.benchmark.label_tables import score_labels, score_transfer
from pertscale.benchmark.run import run_benchmark
from pertscale.results.result import BenchmarkResult, read_result

__all__ = [
    "BenchmarkPlan",
    "BenchmarkResult",
    "audit_screen",
    "plan_benchmark",
    "read_result",
    "run_benchmark",
    "score_labels",
    "score_transfer",
    "worst_attacks",
]

__dir__ = public_dir(__all__)
