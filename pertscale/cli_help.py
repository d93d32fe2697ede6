"""Help of the benchmark's commands: tasks, methods, settings and metrics, and what they are."""

from __future__ import annotations

from typing import Final

import click

_TASKS: Final = {
    "within": "classes of held-out perturbations: is a gene up, down or unchanged",
    "single": "expression of held-out single perturbations",
    "double": "expression of held-out double perturbations",
    "interactions": "genes of a double that are not the sum of its singles",
    "transfer": "a context, from what was trained on others",
}


class Benchmark(click.Command):
    """A command whose help ends with the names that its options and its tables have."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names; their modules are imported only here, as that takes seconds."""
        from pertscale.baselines import EXPRESSION_MODELS, METHODS
        from pertscale.evaluation import METRICS
        from pertscale.report import page

        methods = {name: method.doc for name, method in (METHODS | EXPRESSION_MODELS).items()}
        metrics = {name: metric.doc for name, metric in METRICS.items()}
        for title, names in (
            ("Tasks (--task)", _TASKS),
            ("Methods (--method)", methods),
            ("Settings of classes (--setting)", page.SETTINGS),
            ("Metrics in the tables", metrics),
        ):
            with formatter.section(title):
                formatter.write_dl(list(names.items()))
