"""The columns of a benchmark: each plans its units, runs them, and adds what is its own.

A new task is a module with a subclass of :class:`pertscale.benchmark.tasks.base.Task` and a line in
:data:`pertscale.benchmark.tasks.registry.ALL_TASKS`.
"""
