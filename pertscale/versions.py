"""Every number to raise when older files must not be taken for new ones.

Each goes into a key or a header of the files that it is named after; its comment says when to raise
it.
Methods and models of the registry have a ``version`` of their own.
"""

from __future__ import annotations

from typing import Final

#: Of stores and results. Raise when older readers could not read them.
SCHEMA_VERSION: Final = 1
#: Of label tables and profiles, by how fold changes are calculated. Raise when the same screen and
#: options give other numbers.
LABELS_VERSION: Final = {"geometric": 2, "arithmetic": 3}
#: Of the blocks between the two passes of an ingest. Raise when they are written differently.
BLOCK_FILES_VERSION: Final = 1
#: Of genetic interactions. Raise when the same profiles give other calls.
INTERACTIONS_VERSION: Final = 1
#: Of predictions. Raise when what is written, or what goes in, changes for all methods; where one
#: method changes, raise the version of its record instead.
PREDICTIONS_VERSION: Final = 10
#: Of scores. Raise when a metric is corrected, or scored in other settings: kept predictions are
#: scored again then. A metric that is added needs no new version: its name is part of the key.
SCORES_VERSION: Final = 2
#: Of intervals, comparisons and ranks. Raise when the same scores give others.
RESAMPLES_VERSION: Final = 3
#: Of the table of targets. Raise when the same labels and profiles give another.
TARGETS_VERSION: Final = 1
#: Of the confidence of labels. Raise when the same labels and null give another.
CONFIDENCE_VERSION: Final = 1
#: Of the folder that an external model is given. Raise when the model has to read it differently.
MODEL_TASK_VERSION: Final = 1
