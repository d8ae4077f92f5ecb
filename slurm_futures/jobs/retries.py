"""Which failures are tried again, how often, and with what more.

    SlurmExecutor(retries=2)                     a job that ended without an outcome,
                                                 for whatever cause but scancel
    SlurmExecutor(retries={NodeFailed: 5, ConnectionError: 1})
    SlurmExecutor(retries=Retries({JobOutOfMemory: 3}, memory_factor=2))

Rules only: the settler asks them, and submits again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slurm_futures.errors import (
    JobCancelled,
    JobFailed,
    JobOutOfMemory,
    JobTimeout,
    OptionError,
    shown,
)
from slurm_futures.schedulers.quantities import format_time, parse_memory, parse_time

if TYPE_CHECKING:
    from slurm_futures.schedulers.sbatch_options import SbatchOptions

_MEMORY_OPTIONS = ("mem", "mem_per_cpu", "mem_per_gpu")


@dataclass(frozen=True)
class Retries:
    """A policy for calls that fail.

    Args:
        times: how often a call is tried again, by the class of its error; the first
            class that fits counts. An exception that the call itself raised can be
            there as well as `JobFailed` and its kinds.
        memory_factor: after `JobOutOfMemory` the next job asks for so many times the
            memory, if there is an option mem, mem_per_cpu or mem_per_gpu.
        max_memory: the most that it asks for, such as "64G"; None: no bound.
        time_factor: the same after `JobTimeout`, for the option time.
        max_time: the most that it asks for, such as "2-00:00:00"; None: no bound.

    Raises:
        OptionError: a value makes no sense.
    """

    times: Mapping[type[BaseException], int] = field(
        default_factory=lambda: {JobFailed: 3}
    )
    memory_factor: float = 1.0
    max_memory: str | int | None = None
    time_factor: float = 1.0
    max_time: str | int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.times, Mapping):
            raise OptionError(
                f"Retries({shown(self.times)}) is not a mapping. "
                "Write Retries({JobFailed: 3})."
            )
        for cls, count in self.times.items():
            if not _is_exception(cls) or not _is_count(count):
                raise OptionError(
                    f"retries= maps exception classes to counts, not {shown(cls)} to "
                    f"{shown(count)}. Write retries={{NodeFailed: 3}}."
                )
        if not _is_factor(self.memory_factor) or not _is_factor(self.time_factor):
            raise OptionError("memory_factor and time_factor are numbers of 1 or more.")
        _ = self.max_memory is None or parse_memory(self.max_memory)
        _ = self.max_time is None or _seconds(self.max_time)

    @classmethod
    def of(
        cls, retries: int | Mapping[type[BaseException], int] | Retries | None
    ) -> Retries:
        """Return the policy that the argument `retries=` stands for.

        Raises:
            OptionError: it stands for none.
        """
        if isinstance(retries, Retries):
            return retries
        if isinstance(retries, Mapping):
            return cls(dict(retries))
        if retries is not None and not _is_count(retries):
            raise OptionError(
                f"retries={shown(retries)} is not a number of times. Write retries=2, "
                "or retries={NodeFailed: 5}."
            )
        return cls({JobFailed: retries or 0})

    def allow(self, error: BaseException, earlier: Sequence[BaseException]) -> bool:
        """Whether a call that failed before with these errors is tried once more."""
        cause = self._cause(error)
        if cause is None:
            return False
        count = sum(self._cause(each) is cause for each in earlier)
        return count < self.times[cause]

    def _cause(self, error: BaseException) -> type[BaseException] | None:
        for cls in self.times:
            # Whoever cancels a job by hand wants it to end, unless told otherwise.
            wanted = cls is JobCancelled or not isinstance(error, JobCancelled)
            if isinstance(error, cls) and wanted:
                return cls
        return None

    def grow(self, options: SbatchOptions, error: BaseException) -> SbatchOptions:
        """Return the options for the next attempt.

        A value that only sbatch understands stays as it is.
        """
        with contextlib.suppress(OptionError):
            return self._grow(options, error)
        return options

    def _grow(self, options: SbatchOptions, error: BaseException) -> SbatchOptions:
        if isinstance(error, JobOutOfMemory) and self.memory_factor > 1:
            return self._grow_memory(options)
        if isinstance(error, JobTimeout) and self.time_factor > 1:
            return self._grow_time(options)
        return options

    def _grow_memory(self, options: SbatchOptions) -> SbatchOptions:
        for name in _MEMORY_OPTIONS:
            value = options.get(name)
            if value is not None:
                wanted = parse_memory(value) * self.memory_factor
                if self.max_memory is not None:
                    wanted = min(wanted, parse_memory(self.max_memory))
                if wanted <= parse_memory(value):
                    return options
                return options.replace({name: f"{math.ceil(wanted)}M"})
        return options

    def _grow_time(self, options: SbatchOptions) -> SbatchOptions:
        seconds = _seconds(options.get("time"))
        if seconds is None:
            return options
        wanted = seconds * self.time_factor
        most = _seconds(self.max_time)
        longer = min(wanted, most or wanted)
        if longer <= seconds:
            return options
        return options.replace({"time": format_time(longer)})


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _is_factor(value: object) -> bool:
    return isinstance(value, (int, float)) and 1 <= value < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _seconds(value: object) -> float | None:
    return None if value is None else parse_time(value)
