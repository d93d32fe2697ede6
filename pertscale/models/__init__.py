"""Models that can't be imported: each runs in an environment of its own, files are exchanged.

A task folder holds the cells that a model may see and says what it is to predict; a model is a
command that reads the folder and writes ``predictions.parquet``. The result is checked before it is
moved to where a benchmark finds it.
"""

from pertscale._lazy import public_dir
from pertscale.models.check import check_predictions
from pertscale.models.config import ModelSpec, read_config
from pertscale.models.process import ModelRun, run_model
from pertscale.models.run import predictions_of, run_models
from pertscale.models.task import write_task

__all__ = [
    "ModelRun",
    "ModelSpec",
    "check_predictions",
    "predictions_of",
    "read_config",
    "run_model",
    "run_models",
    "write_task",
]

__dir__ = public_dir(__all__)
