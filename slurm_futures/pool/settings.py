"""How workers live, and the checks of the arguments that say so."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import SupportsIndex

from slurm_futures.errors import OptionError, shown


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How workers live.

    Attributes:
        max_workers: at most so many at the same time.
        max_calls: a worker ends after so many; None: no limit.
        idle_timeout: seconds without work after which a worker ends.
    """

    max_workers: int
    max_calls: int | None
    idle_timeout: float


def check_workers(
    max_workers: object,
    initializer: object,
    initargs: object,
    max_tasks_per_child: object,
) -> None:
    """See that these work, with the errors and words of ProcessPoolExecutor.

    Raises:
        ValueError, TypeError: as there.
        OptionError: long-lived workers, and nobody says how many.
    """
    if max_workers is not None:
        if isinstance(max_workers, bool) or not isinstance(max_workers, SupportsIndex):
            raise TypeError("max_workers must be an integer")
        if operator.index(max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if isinstance(initargs, str | bytes | Mapping) or (
        not isinstance(initargs, Iterable) and (initializer, initargs) != (None, None)
    ):
        raise TypeError(
            "initargs must be a tuple of arguments. "
            f"Write initargs=({shown(initargs)},)"
        )
    if max_tasks_per_child is not None:
        if isinstance(max_tasks_per_child, bool) or not isinstance(
            max_tasks_per_child, int
        ):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
    if max_tasks_per_child not in {1, None} and max_workers is None:
        raise OptionError(
            "Long-lived workers need a number of them. Write "
            f"SlurmExecutor(max_workers=16, max_tasks_per_child={max_tasks_per_child})"
            ", or leave out max_tasks_per_child: then each call is a job of its own."
        )


def pool_settings(
    max_workers: int | None, max_tasks_per_child: int | None, idle_timeout: float
) -> PoolSettings | None:
    """Return how workers live; None: each call is a job of its own.

    Without `max_workers`, `max_tasks_per_child=None` means that it was not given, as in
    programs that pass on ProcessPoolExecutor's default.
    """
    if max_tasks_per_child == 1 or max_workers is None:
        return None
    return PoolSettings(max_workers, max_tasks_per_child, idle_timeout)
