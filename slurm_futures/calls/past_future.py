"""The future of a call that is over, whose outcome lies on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from typing import Any

from slurm_futures.calls.future import JobView, SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.stored import CallPlace
from slurm_futures.calls.usage import Usage, read_usage


class PastFuture(SlurmFuture[Any]):
    """It is done from the first; its outcome is read when it is asked for.

    Args:
        load: reads the outcome; None: the call was cancelled.
        job: which has run the call, if that is known.
        name: of the function, for people.
        place: of the call.
    """

    def __init__(
        self,
        load: Callable[[], Outcome] | None,
        job: JobView | None,
        name: str,
        place: CallPlace,
    ) -> None:
        super().__init__()
        self._load = load
        self._state = CANCELLED_AND_NOTIFIED if load is None else FINISHED
        self._job, self._name, self._place = job, name, place

    def result(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised."""
        self._read()
        try:
            return super().result(timeout)
        finally:
            # As in the standard library: no cycle of exception, frame and future.
            self = None  # type: ignore[assignment]  # noqa: PLW0642

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None."""
        self._read()
        return super().exception(timeout)

    @property
    def usage(self) -> Usage | None:
        """What the call has used; `waited` is not known."""
        self._read()
        return read_usage(self._usage, math.inf)

    def _read(self) -> None:
        load = self._load
        if load is not None:
            outcome = load()
            self._result, self._exception = outcome.value, outcome.exception
            self._usage = outcome.usage
            self._load = None

    def _has_run(self) -> bool:
        return self._job is not None and self._job.started
