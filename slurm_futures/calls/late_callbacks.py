"""The callbacks of futures that were cancelled by a thread that was interrupted.

The thread that cancels a future calls its callbacks, as everybody expects who knows
`concurrent.futures`. An interrupt may come before: then the poller calls them.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.errors import SlurmFuturesError

logger = logging.getLogger("slurm_futures")

_PATIENCE = 3.0  #: seconds; where a thread is slower, its callbacks come in another one


class LateCallbacks:
    """Cancelled futures whose callbacks may be left over. Owned by the poller."""

    def __init__(self) -> None:
        self._futures: list[tuple[float, SlurmFuture[Any]]] = []

    def add(self, future: SlurmFuture[Any]) -> None:
        """See that the callbacks of this future come."""
        self._futures.append((time.monotonic() + _PATIENCE, future))

    @property
    def is_open(self) -> bool:
        """Whether any are left."""
        return any(future._has_callbacks for _, future in self._futures)

    def look(self) -> bool:
        """Call those that are due; return False, since no job has news for that."""
        now = time.monotonic()
        futures, self._futures = self._futures, []
        for due, future in futures:
            if due <= now:
                invoke_callbacks(future)
            elif future._has_callbacks:
                self._futures.append((due, future))
        return False

    def fail(self, error: SlurmFuturesError) -> None:  # noqa: ARG002  (they are done)
        """Call all now: nobody will look any more."""
        for _, future in self._futures:
            invoke_callbacks(future)

    def stop(self, error: SlurmFuturesError) -> None:
        """Go on: the futures are done."""


def invoke_callbacks(future: SlurmFuture[Any]) -> None:
    """Call the callbacks that are left, in a thread of ours: nothing may get out."""
    try:
        future._invoke_callbacks()
    except BaseException:
        logger.exception("%r: a callback raised", future)
