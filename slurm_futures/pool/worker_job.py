"""One worker of a pool, as the client sees it: a job, and how it ended.

It is an ordinary job of an ordinary submission; the pool waits for it in the place of
calls, and hears how it ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from slurm_futures.calls.outcome import load_outcome
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.jobs import Jobs
from slurm_futures.runs.finished import Record
from slurm_futures.runs.queue import PoolDirectory


class WorkerEnds(Protocol):
    """Who hears of the ends of workers."""

    def note_worker_end(self, worker: Worker) -> None:
        """Hear that a worker has ended; in the poller's thread."""


class Worker:
    """A job that takes calls from a queue; its waiter (`jobs.job.Waiter`).

    Args:
        queue: where it takes calls from.
        first: the first call that was not in the queue when it was asked for.
        jobs: makes and cancels its job.
        ends: hears of its end.

    Attributes:
        job: its job, once there is one.
        done: it has ended, or was cancelled.
        cancelled: it was cancelled before it had ended.
        error: why it ended, if not well.
    """

    size = 1

    def __init__(
        self, queue: PoolDirectory, first: int, jobs: Jobs, ends: WorkerEnds
    ) -> None:
        self.queue = queue
        self.first = first
        self._jobs = jobs
        self._ends = ends
        self._lock = threading.RLock()
        self.job: Job | None = None
        self.done = False
        self.cancelled = False
        self.error: BaseException | None = None

    @property
    def name(self) -> str:
        """What the worker calls itself in its claims."""
        job = self.job
        return "" if job is None else f"{job.submission.path.name}-{job.index}"

    @property
    def is_running(self) -> bool:
        """Whether its job is known to have begun, and it has not ended."""
        return not self.done and self.job is not None and self.job.started

    def is_wanted(self) -> bool:
        """Whether it has not been cancelled."""
        return not self.done

    def note_job(self, job: Job) -> None:
        """Hear that there is a job."""
        self.job = job

    def deliver(self, records: Iterable[Record]) -> tuple[list[int], bool]:
        """End with what the job has left: the number of its calls, or an error."""
        for _, kind, payload in records:
            outcome = load_outcome(kind, payload)
            error = outcome.exception
            if outcome.initializer_failed and error is not None:
                error = self._jobs.above.note_initializer(error)
            self._end(error)
            return [], error is not None
        return [0], False

    def break_off(
        self, missing: list[int], error: SlurmFuturesError, *, began: bool
    ) -> None:
        """End with this error."""
        del missing, began
        self._end(error)

    def fail(self, error: SlurmFuturesError) -> None:
        """End with an error of its own."""
        self._end(error.copy())

    def cancel(self) -> None:
        """Cancel the job, whether it exists already or not."""
        with self._lock:
            if self.done:
                return
            self.done = self.cancelled = True
        if self.job is not None:
            self._jobs.poller.cancel(self.job)
        self._tell()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if self.done:
                return
            self.done, self.error = True, error
        if error is not None and self.job is not None:
            self._jobs.writer.note_failure(self.job.directory.path)
        self._tell()

    def _tell(self) -> None:
        self._jobs.poller.call(partial(self._ends.note_worker_end, self))
