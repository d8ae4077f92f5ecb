"""Which scheduler the argument `scheduler=` stands for."""

from __future__ import annotations

import logging
import os
from functools import cache

from slurm_futures.errors import OptionError, shown
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.local.scheduler import LocalScheduler
from slurm_futures.schedulers.slurm import SlurmScheduler

logger = logging.getLogger("slurm_futures")


def choose_scheduler(
    scheduler: Scheduler | str | None, poll_interval: float | None
) -> Scheduler:
    """Return the scheduler that the argument `scheduler=` stands for.

    Raises:
        OptionError: there is none of this name.
    """
    if scheduler is None:
        scheduler = os.environ.get("SLURM_FUTURES_SCHEDULER") or "slurm"
    if scheduler == "slurm":
        return (
            SlurmScheduler() if poll_interval is None else SlurmScheduler(poll_interval)
        )
    if scheduler == "local":
        return _local_scheduler(os.getpid())
    if isinstance(scheduler, str):
        raise OptionError(
            f'There is no scheduler {scheduler!r}. Write scheduler="slurm" or "local", '
            "also in the environment variable SLURM_FUTURES_SCHEDULER."
        )
    if isinstance(scheduler, type) or not hasattr(scheduler, "identity"):
        raise OptionError(
            f"{shown(scheduler)} is not a scheduler. Write "
            'scheduler="slurm", "local" or an object: SlurmScheduler().'
        )
    return scheduler


def has_steps(scheduler: Scheduler) -> bool:
    """Whether srun can start a job step in its jobs."""
    if isinstance(scheduler, LocalScheduler):
        logger.debug("the local scheduler has no job steps, and ignores srun=True")
        return False
    return True


@cache
def _local_scheduler(pid: int) -> LocalScheduler:  # noqa: ARG001  (not the parent's)
    """Return the scheduler that all executors of this process share."""
    return LocalScheduler()
