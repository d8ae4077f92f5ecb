"""Calls that are to become jobs, on their way through outboxes and queues."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurm_futures.calls.call import PickledCall
from slurm_futures.calls.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.errors import SlurmFuturesError

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is to become one job: calls, and the future that waits for them.

    `positions` are those of the calls in the future.
    """

    future: SlurmFuture[Any]
    positions: range | list[int]
    calls: list[PickledCall]


def fail_requests(requests: Iterable[JobRequest], error: SlurmFuturesError) -> None:
    """Fail the futures of requests that never became jobs."""
    for request in requests:
        try:
            for position in request.positions:
                request.future.settle(position, Outcome(exception=error.copy()))
        except BaseException:
            logger.exception("%r: a callback raised", request.future)
