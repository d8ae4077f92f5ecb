"""Which scheduler the argument `scheduler=` stands for."""

from __future__ import annotations

import os
from functools import cache

from slurm_futures.errors import OptionError
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.local.scheduler import LocalScheduler
from slurm_futures.schedulers.slurm import SlurmScheduler


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
            f"{scheduler!r} is not a scheduler. Write "
            'scheduler="slurm", "local" or an object: SlurmScheduler().'
        )
    return scheduler


@cache
def _local_scheduler(pid: int) -> LocalScheduler:  # noqa: ARG001  (not the parent's)
    """Return the scheduler that all executors of this process share."""
    return LocalScheduler()
