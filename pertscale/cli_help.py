"""Help of the benchmark's commands: tasks, methods, settings and metrics, and what they are."""

from __future__ import annotations

import click


class Benchmark(click.Command):
    """A command whose help ends with the names that its options and its tables have."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names; their modules are imported only here, as that takes seconds."""
        from pertscale.baselines import EXPRESSION_MODELS, METHODS
        from pertscale.evaluation import METRICS
        from pertscale.schema import SETTING_DOCS, TASK_DOCS

        methods = {name: method.doc for name, method in (METHODS | EXPRESSION_MODELS).items()}
        metrics = {name: metric.doc for name, metric in METRICS.items()}
        for title, names in (
            ("Tasks (--task)", TASK_DOCS),
            ("Methods (--method)", methods),
            ("Settings of classes (--setting)", SETTING_DOCS),
            ("Metrics in the tables", metrics),
        ):
            with formatter.section(title):
                formatter.write_dl(list(names.items()))
