"""The scheduler, the client and the workers of one job, in its tasks."""

from __future__ import annotations

import asyncio

from dask_jobqueue.slurm import SLURMRunner

from pertscale.slurm.inside import scheduler_address


class JobRunner(SLURMRunner):
    """``SLURMRunner`` whose client waits until the scheduler has written its file whole.

    dask-jobqueue 0.9 reads the file as soon as it exists, and fails if it is empty by then.
    """

    async def get_scheduler_address(self) -> str:
        """Return the address that the client connects to."""
        return await asyncio.to_thread(scheduler_address, self.scheduler_file)
