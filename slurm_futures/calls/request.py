"""Calls that are to run, on their way to jobs or into a queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from slurm_futures.calls.call import PickledCall
from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.errors import SlurmFuturesError

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Calls that run one after another, and the future that waits for them.

    `positions` are those of the calls in the future.
    """

    future: SlurmFuture[Any]
    positions: range | list[int]
    calls: list[PickledCall]

    def __post_init__(self) -> None:
        """Let the future know what calls that are tried again must find."""
        if self.calls:
            self.future._caller = self.calls[0].state


class Unsent(Protocol):
    """Calls that have no job, and the future that waits for them."""

    @property
    def future(self) -> SlurmFuture[Any]:
        """The future."""

    @property
    def positions(self) -> Iterable[int]:
        """The positions of the calls in it."""


def fail_requests(requests: Iterable[Unsent], error: SlurmFuturesError) -> None:
    """Fail the futures of requests that nobody has taken yet."""
    for request in requests:
        try:
            for position in request.positions:
                request.future._settle(position, Outcome(exception=error.copy()))
        except BaseException:
            logger.exception("%r: a callback raised", request.future)
