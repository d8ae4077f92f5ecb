"""How far the end of an executor has come: one place, read by all its parts."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.program_end import program_ends


@dataclass(slots=True)
class Lifecycle:
    """The two steps to the end. They are taken once and never back.

    Attributes:
        closed: no more calls will come, but those that are tried again. Set by
            shutdown, or by the garbage collector when the executor is dropped.
        stopped: all open calls, and those that come still, fail with this error.
    """

    closed: bool = False
    stopped: SlurmFuturesError | None = None

    @property
    def is_last(self) -> bool:
        """Whether no more calls can come: it is closed, or the program ends."""
        return self.closed or program_ends()
