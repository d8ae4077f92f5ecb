"""Sends one submission until it is known whether there is a job.

An sbatch that failed may have created its job all the same: then the queue is searched
for the directory of the submission, which is unique, before anything is sent again.
And should such a job turn up later still, its script finds that another attempt has
taken its place, and ends at once. So no call ever runs twice on this account.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

from slurm_futures.errors import JobState, Refusal, SchedulerError, SubmitError
from slurm_futures.jobs.capacity import Capacity
from slurm_futures.jobs.job import JobOrder
from slurm_futures.jobs.timing import Timing
from slurm_futures.jobs.write_patience import WritePatience
from slurm_futures.runs.writer import WrittenSubmission
from slurm_futures.schedulers.base import JobId, Row, Scheduler, is_at_home

logger = logging.getLogger("slurm_futures")

P = ParamSpec("P")
T = TypeVar("T")

#: Refusals that nothing helps against where it was no array.
_OF_ARRAYS = {Refusal.ARRAY_TOO_LARGE, Refusal.NO_ARRAYS}


class Sender:
    """Hands submissions to the scheduler; used by the submitter's thread alone.

    Args:
        scheduler: where the jobs will run.
        timing: how long a submission is tried.
        changed: notified when all futures have failed, which ends a wait.
        capacity: tells whether jobs of this executor are open, whose ends make room.

    Attributes:
        largest: how many jobs the next submission may hold, as far as refusals have
            taught; None: nothing is known.
        only_single: whether the site takes no arrays; None: one was refused, and the
            next job, which is none, will show whether that was why.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        timing: Timing,
        changed: threading.Condition,
        capacity: Capacity,
    ) -> None:
        self._scheduler = scheduler
        self._timing = timing
        self._capacity = capacity
        self._changed = changed
        self._backoff = self._timing.shortest_backoff
        self._refused_since: float | None = None
        self.largest: int | None = None
        self.only_single: bool | None = False

    def send(
        self, written: WrittenSubmission, orders: Sequence[JobOrder]
    ) -> JobId | None:
        """Submit until it is known that there is a job.

        Args:
            written: the submission.
            orders: what its jobs are for.

        Returns:
            None if the calls should be submitted once more, in smaller arrays, or if
            all of them have been cancelled.

        Raises:
            SubmitError: the scheduler refused for good, or for too long.
            OSError: the files of the submission cannot be changed any more.
        """
        self._refused_since = None  # each submission has the full patience
        attempt = 1
        size = len(orders)
        while _is_wanted(orders):
            batch = replace(written.batch, arguments=(str(attempt),))
            try:
                job_id = self._scheduler.submit(batch)
            except SubmitError as error:
                if error.refusal is Refusal.QUOTA and self._capacity:
                    self._refused_since = None  # it clears as they end
                if error.refusal is Refusal.PERMANENT or self._is_too_late():
                    raise
                if self._shrink(error, size):
                    return None
                if error.refusal is Refusal.AMBIGUOUS:
                    found = self._search(written, attempt, orders)
                    if found is not None:
                        if attempt > 1:  # it may be the job of an earlier one
                            self._insist(
                                orders, written.directory.adopt, attempt, found.number
                            )
                        self._forgive()
                        return found
                    if self._is_too_late():
                        raise  # nobody knows whether there is a job
                    attempt += 1
                    self._insist(orders, written.directory.allow_attempt, attempt)
                self._wait(error, orders)
            else:
                self._forgive()
                return job_id
        return None

    def end_doubt(self) -> bool:
        """Hear that a single job is refused, too; return whether an array was before.

        Then it was not since it was an array.
        """
        if self.only_single is not None:
            return False
        self.largest, self.only_single = None, False
        return True

    def _is_too_late(self) -> bool:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since > self._timing.patience

    def _forgive(self) -> None:
        """Start anew after a success: short pauses, arrays may grow again."""
        self._backoff = self._timing.shortest_backoff
        if self.only_single is None:
            self.only_single = True
            logger.warning(
                "this site takes no job arrays, but single jobs: from now on each job "
                "is submitted by itself. With chunksize= or long-lived workers, "
                "max_tasks_per_child=None, it takes fewer of them."
            )
        if self.largest is not None and not self.only_single:
            self.largest *= 2

    def _shrink(self, error: SubmitError, size: int) -> bool:
        """Make later arrays smaller if the size may be why this one was refused."""
        if size == 1 and error.refusal in _OF_ARRAYS:
            raise error
        if error.refusal is Refusal.NO_ARRAYS:
            self.largest, self.only_single = 1, None
            logger.info("a submission of %d jobs is sent one by one. %s", size, error)
            return True
        if error.refusal in {Refusal.ARRAY_TOO_LARGE, Refusal.QUOTA} and size > 1:
            self.largest = size // 2
            logger.warning(
                "a submission of %d jobs is sent in smaller arrays. %s", size, error
            )
            return True
        return False

    def _wait(self, error: SubmitError, orders: Sequence[JobOrder]) -> None:
        """Let some time pass after a refusal, unless nobody waits any more."""
        logger.warning(
            "a submission of %d jobs is tried again in %g s. %s",
            len(orders),
            self._backoff,
            error,
        )
        self._pause(self._backoff, orders)
        self._backoff = min(2 * self._backoff, self._timing.longest_backoff)

    def _pause(self, seconds: float, orders: Sequence[JobOrder]) -> None:
        """Let some time pass, unless nobody waits for the jobs any more."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and _is_wanted(orders):
            with self._changed:
                self._changed.wait(min(left, self._timing.wanted_interval))

    def _insist(
        self,
        orders: Sequence[JobOrder],
        operation: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Repeat an operation on files until it works, while anybody waits.

        Raises:
            OSError: it did not work for too long, or the files are gone.
        """
        patience = WritePatience("a submission is sent", self._timing)
        while True:
            try:
                return operation(*args, **kwargs)
            except FileNotFoundError:
                raise
            except OSError as error:
                pause = patience.pause(error)
                if pause is None or not _is_wanted(orders):
                    raise
                self._pause(pause, orders)

    def _search(
        self, written: WrittenSubmission, attempt: int, orders: Sequence[JobOrder]
    ) -> JobId | None:
        """Look for a job that sbatch may have made although it failed.

        The directory of the submission tells it from all others. Queries that fail
        tell nothing: only good ones, over some time, prove that there is no job. When
        nobody waits any more there is one last look, so that the job is cancelled.
        """
        first_good: float | None = None
        for pause in itertools.chain((0.5, 1, 2), itertools.repeat(5)):
            self._pause(pause, orders)
            wanted = _is_wanted(orders)
            if wanted and self._is_too_late():
                return None
            try:
                snapshot = self._scheduler.query()
            except SchedulerError as error:
                logger.info("a submission may exist; the queue is unknown: %s", error)
                if not wanted:
                    return None
                continue
            for job_id, rows in sorted(
                snapshot.jobs.items(), key=lambda item: -item[0].number
            ):
                ours = [row for row in rows if _is_ours(row, written)]
                if ours and not self._insist(
                    orders, _was_turned_away, ours, attempt, written
                ):
                    logger.warning("job %s: found after sbatch had failed", job_id)
                    return job_id
            if not wanted:
                return None
            anywhere = written.batch.options.get("clusters") == "all"
            if snapshot.silent and (
                anywhere or snapshot.silent & written.batch.clusters
            ):
                continue  # it may be there
            first_good = first_good or snapshot.started_at
            if snapshot.started_at - first_good >= self._timing.search_time:
                return None
        raise AssertionError("the loop has no end")


def _is_wanted(orders: Sequence[JobOrder]) -> bool:
    """Whether anybody still waits for any of these jobs."""
    return any(order.waiter.is_wanted() for order in orders)


def _was_turned_away(rows: list[Row], attempt: int, written: WrittenSubmission) -> bool:
    """Whether a job has ended at once, since a later attempt had taken its place."""
    ended = attempt > 1 and all(row.state.ended for row in rows)
    return ended and not written.directory.has_started()


def _is_ours(row: Row, written: WrittenSubmission) -> bool:
    # A request that was refused may leave a record that never started.
    refused = row.state is JobState.FAILED and row.reason == "BadConstraints"
    path = written.directory.path
    return is_at_home(path, row.directory, row.command) and not refused
