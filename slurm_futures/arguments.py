"""Checks of what `SlurmExecutor` is told, before there is a file or a thread."""

from __future__ import annotations

import math
import operator
import os
from functools import cache
from typing import SupportsIndex, get_args

from slurm_futures.errors import OptionError
from slurm_futures.pool_workers import PoolSettings
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.local import LocalScheduler
from slurm_futures.schedulers.slurm import SlurmScheduler
from slurm_futures.staging import Keep


def check_workers(
    max_workers: int | None,
    initializer: object,
    max_tasks_per_child: int | None,
) -> None:
    """See that these work, with the errors and words of ProcessPoolExecutor.

    Raises:
        ValueError, TypeError: as there.
        OptionError: jobs that live on, and nobody says how many.
    """
    if max_workers is not None:
        if not isinstance(max_workers, SupportsIndex):
            raise TypeError("max_workers must be an integer")
        if operator.index(max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if max_tasks_per_child is not None:
        if not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
    if max_tasks_per_child != 1 and max_workers is None:
        raise OptionError(
            "Jobs that live on need to know how many they are. Write "
            "SlurmExecutor(max_workers=16, max_tasks_per_child=None), or leave out "
            "max_tasks_per_child: then each call is a job of its own."
        )


def check_buffersize(buffersize: object) -> None:
    """See that a map can read ahead so far, with the errors of Python 3.14.

    Raises:
        ValueError, TypeError: as there.
    """
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def check_keep(keep: object) -> None:
    """See that `keep` is one of its words.

    Raises:
        OptionError: it is not.
    """
    if keep not in get_args(Keep):
        raise OptionError(
            f'keep={keep!r} is unknown. Write keep="failed", "always" or "never".'
        )


def check_seconds(
    name: str, value: object, *, optional: bool = False, positive: bool = False
) -> None:
    """See that an option is a time in seconds.

    Args:
        name: the option.
        value: what it was set to.
        optional: whether it may be None.
        positive: whether it must be more than 0, and not infinite either.

    Raises:
        OptionError: it is no such time.
    """
    if optional and value is None:
        return
    seconds = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    if (positive and 0 < seconds < math.inf) or (not positive and seconds >= 0):
        return
    raise OptionError(
        f"{name}={value!r} is no time. Write seconds: SlurmExecutor({name}=30)."
    )


def pool_settings(
    max_workers: int | None, max_tasks_per_child: int | None, idle_timeout: float
) -> PoolSettings | None:
    """Return how jobs live that live on; None: each call is a job of its own."""
    if max_tasks_per_child == 1 or max_workers is None:
        return None
    return PoolSettings(max_workers, max_tasks_per_child, idle_timeout)


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
    if not hasattr(scheduler, "identity"):
        raise OptionError(
            f'{scheduler!r} is no scheduler. Write scheduler="slurm" or "local".'
        )
    return scheduler


@cache
def _local_scheduler(pid: int) -> LocalScheduler:  # noqa: ARG001  (not the parent's)
    """Return the scheduler that all executors of this process share."""
    return LocalScheduler()
