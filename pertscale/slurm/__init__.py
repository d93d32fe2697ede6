"""SLURM: scripts that run the benchmark there, ready to be submitted.

:func:`write_script` fills one of the templates for a :class:`Call` (what is run) and a
:class:`Job` (what it needs); the scripts use the functions of :mod:`pertscale.slurm.inside`.
"""

from pertscale._lazy import lazy_names

__all__ = [
    "RECIPES",
    "Call",
    "Job",
    "wait_for_workers",
    "worker_memory",
    "write_script",
]

# scripts import this package on every node, for functions that do not need the writing of scripts
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "RECIPES": "pertscale.slurm.scripts",
        "Call": "pertscale.slurm.job",
        "Job": "pertscale.slurm.job",
        "wait_for_workers": "pertscale.slurm.inside",
        "worker_memory": "pertscale.slurm.inside",
        "write_script": "pertscale.slurm.scripts",
    },
)
