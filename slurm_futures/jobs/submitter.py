"""The thread that turns waiting calls into submissions.

Submissions form by themselves: while one sbatch is under way, and for a short while
after it, further calls wait in the outbox; then all of them with the same options
become the next job array. A refusal that may pass is answered by waiting, one that
the size may have caused by smaller arrays; only what would be refused again fails the
futures, with the scheduler's own words.

The thread exists only while there is something to submit, or to adjust: with
`max_workers` the throttles of arrays are raised as the jobs of other arrays end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from slurm_futures.errors import (
    OptionError,
    SchedulerError,
    SlurmFuturesError,
    SubmitError,
    words_of,
)
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.capacity import Capacity
from slurm_futures.jobs.job import JobOrder, fail_orders
from slurm_futures.jobs.open_submission import OpenSubmission, open_submission
from slurm_futures.jobs.poller import Poller
from slurm_futures.jobs.sender import Sender
from slurm_futures.jobs.threads import ThreadGroup, WorkThread, take_all
from slurm_futures.jobs.timing import Timing
from slurm_futures.jobs.write_patience import WritePatience
from slurm_futures.runs.writer import Writer, WrittenSubmission, not_written
from slurm_futures.schedulers.base import JobId, Limits, Scheduler
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")


class Submitter:
    """Sends what is put into its outbox.

    The outbox and the places are guarded by `_changed`, which only our own threads
    take; no lock is held while files are written or the scheduler is asked.

    Args:
        scheduler: where the jobs will run.
        writer: writes the files of submissions.
        poller: watches each submission that has been accepted.
        above: hears that jobs wait, since `max_workers` are open.
        group: counts its thread.
        timing: when to submit.
        max_workers: at most so many jobs at the same time; None for no limit.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        writer: Writer,
        poller: Poller,
        above: Above,
        group: ThreadGroup,
        timing: Timing,
        max_workers: int | None,
    ) -> None:
        self._scheduler = scheduler
        self._writer = writer
        self._timing = timing
        self._capacity = Capacity(max_workers)
        self._poller = poller
        self._above = above
        self._changed = threading.Condition()
        self._outbox: dict[Kind, tuple[str, list[JobOrder]]] = {}
        self._thread: WorkThread[tuple[Kind, str, list[JobOrder]]] = WorkThread(
            self._run, "slurm_futures-submitter", group
        )
        self._under_way: list[JobOrder] = []
        # From here on: state of the thread.
        self._limits_asked_at = -float("inf")
        self._limits = Limits()
        self._pause = timing.shortest_rest
        self._rest_until = 0.0
        self._patience = WritePatience("a submission is written", timing)
        self._sender = Sender(scheduler, timing, self._changed, self._capacity)

    def put(self, kind: Kind, label: str, orders: list[JobOrder]) -> None:
        """Let these orders become jobs soon; called from any thread."""
        if not self._thread.put((kind, label, orders)):
            self._thread.work_here()

    # The poller's thread.

    @property
    def is_open(self) -> bool:
        """Whether anybody waits for orders that have not become jobs."""
        with self._changed:
            if not self._thread.inbox.empty():
                return True
            orders = [self._under_way, *(each for _, each in self._outbox.values())]
        return any(order.waiter.is_wanted() for each in orders for order in each)

    def look(self) -> bool:
        """Return False: what is submitted is watched from then on."""
        return False

    def note_over(self, submission: OpenSubmission) -> None:
        """Note that a job is over, which may let others run."""
        with self._changed:
            self._capacity.note_over(submission)
            has_work = bool(self._outbox or self._capacity.to_raise())
            self._changed.notify_all()
        if has_work and not self._thread.start():
            self._thread.work_here()

    def is_room_wanted(self, kind: Kind) -> bool:
        """Whether other kinds of jobs wait since `max_workers` jobs are open."""
        if self._take_orders() and not self._thread.start():
            self._thread.work_here()
        with self._changed:
            return self._capacity.free() == 0 and any(
                order.waiter.is_wanted()
                for other, (_, orders) in self._outbox.items()
                if other != kind
                for order in orders
            )

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail all futures that have no job yet.

        A submission that is under way is cancelled as soon as there is a job.
        """
        self._take_orders()
        with self._changed:
            waiting = [orders for _, orders in self._outbox.values()]
            waiting.append(self._under_way)
            self._outbox = {}
        for orders in waiting:
            fail_orders(orders, error)
        with self._changed:
            self._changed.notify_all()

    stop = fail

    # The thread.

    def _take_orders(self) -> bool:
        """Put what has come into the outbox; return whether there was any."""
        with self._changed:
            new = take_all(self._thread.inbox)
            for kind, label, orders in new:
                if kind in self._outbox:
                    self._outbox[kind][1].extend(orders)
                else:
                    self._outbox[kind] = (label, list(orders))
        return bool(new)

    def _run(self) -> None:
        self._patience.end()
        try:
            while self._has_work():
                self._rest()
                self._raise_throttles()
                batch = self._next()
                if batch is not None:
                    self._submit(*batch)
                self._rest_until = time.monotonic() + self._pause
        except BaseException as error:
            logger.exception("the submitter met an error that should not happen")
            self.fail(_internal_error(error))
            raise

    def _has_work(self) -> bool:
        """Whether something can be done now; if not, the thread is over.

        The next order, or the next job that is over, starts another one.
        """
        self._take_orders()
        with self._changed:
            if (
                self._outbox and self._capacity.free() != 0
            ) or self._capacity.to_raise():
                return True
            is_full = bool(self._outbox)
        if is_full:
            self._above.note_full()
        return False

    def _rest(self) -> None:
        """Let calls gather and the scheduler rest, longer and longer in a long row.

        Where no job is open somebody waits for us: then there is no rest.
        """
        rested = False
        with self._changed:
            while self._capacity and (left := self._rest_until - time.monotonic()) > 0:
                rested = True
                self._changed.wait(left)
        longer = min(2 * self._pause, self._timing.longest_rest)
        if not rested or self._sender.only_single:  # one by one they would take long
            longer = self._timing.shortest_rest
        self._pause = longer
        time.sleep(self._timing.gather_pause)

    def _next(self) -> tuple[Kind, str, list[JobOrder], int | None] | None:
        """Take the orders that may become jobs now, if there are any."""
        size = self._size()
        while True:
            with self._changed:
                free = self._capacity.free()
                if not self._outbox or free == 0:
                    return None
                kind, label, orders = self._take(size)
                self._under_way = orders
            alive = [each for each in orders if each.waiter.is_wanted()]
            self._under_way = alive
            if alive:
                return kind, label, alive, free
            self._poller.wake()

    def _take(self, size: int) -> tuple[Kind, str, list[JobOrder]]:
        kind, (label, orders) = next(iter(self._outbox.items()))
        if len(orders) > size:
            self._outbox[kind] = (label, orders[size:])
        else:
            del self._outbox[kind]
        return kind, label, orders[:size]

    def _raise_throttles(self) -> None:
        """Let arrays use the places of jobs that are over."""
        with self._changed:
            changes = self._capacity.to_raise()
        for each, limit in changes:
            # Whether it fails or not: a scontrol that failed may have done its work.
            each.throttle, each.throttle_due = limit, None
            try:
                self._scheduler.throttle(each.job_id, limit)
            except SchedulerError as error:
                # Tried again when a job ends.
                each.throttle_due = time.monotonic() + self._timing.throttle_retry
                logger.info("job %s: its throttle stays: %s", each.job_id, error)

    # Submissions.

    def _submit(
        self, kind: Kind, label: str, orders: list[JobOrder], free: int | None
    ) -> None:
        """Let orders become jobs, or fail; whatever goes wrong, none is forgotten."""
        try:
            self._write_and_send(kind, label, orders, free)
        except Exception as error:
            logger.exception("an error that should not happen in a submission")
            fail_orders(orders, _internal_error(error))
        finally:
            with self._changed:
                self._under_way = []
            self._poller.wake()

    def _write_and_send(
        self, kind: Kind, label: str, orders: list[JobOrder], free: int | None
    ) -> None:
        calls = [order.calls for order in orders]
        try:
            written = self._writer.write(kind, label, calls, free)
        except (OSError, SlurmFuturesError) as error:
            pause = self._patience.pause(error)
            if pause is not None:
                self._put_back(kind, label, orders)
                with self._changed:
                    self._changed.wait(pause)
                return
            if not isinstance(error, OptionError):
                error = not_written(self._writer.directory, error)
            fail_orders(orders, error)
            return
        self._patience.end()
        try:
            job_id = self._sender.send(written, orders)
        except SubmitError as error:
            logger.info("%s", error)
            self._writer.discard(written.directory)
            if self._sender.end_doubt():  # the others were in that array
                orders = orders + self._take_all(kind)
            fail_orders(orders, error)
            return
        except OSError as error:
            self._writer.discard(written.directory)
            fail_orders(orders, not_written(self._writer.directory, error))
            return
        if job_id is None:
            self._writer.discard(written.directory)
            self._put_back(kind, label, orders)
            return
        self._accept(kind, label, written, job_id, orders)

    def _take_all(self, kind: Kind) -> list[JobOrder]:
        with self._changed:
            return self._outbox.pop(kind, ("", []))[1]

    def _put_back(self, kind: Kind, label: str, orders: list[JobOrder]) -> None:
        with self._changed:
            later = self._outbox.pop(kind, (label, []))[1]
            self._outbox = {kind: (label, orders + later), **self._outbox}

    def _accept(
        self,
        kind: Kind,
        label: str,
        written: WrittenSubmission,
        job_id: JobId,
        orders: list[JobOrder],
    ) -> None:
        """Let the poller watch the jobs."""
        submission = open_submission(kind, label, written, job_id, orders)
        logger.info("job %s: submitted %d jobs", job_id, len(orders))
        with contextlib.suppress(OSError):  # for people and later programs only
            written.describe("submitted", job_id=str(job_id), cluster=job_id.cluster)
        with self._changed:
            self._capacity.add(submission)
        self._poller.watch(submission)

    def _size(self) -> int:
        """Return how many jobs the next submission may hold."""
        with self._changed:
            single = all(len(orders) == 1 for _, orders in self._outbox.values())
        if single:
            return 1
        self._ask_limits()
        largest = self._sender.largest or self._limits.array_size
        return max(1, min(largest, self._limits.array_size))

    def _ask_limits(self) -> None:
        now = time.monotonic()
        if now - self._limits_asked_at < self._timing.limits_age:
            return
        self._limits_asked_at = now
        try:
            self._limits = self._scheduler.limits()
        except SchedulerError as error:
            logger.info("the limits of the scheduler are not known: %s", error)


def _internal_error(error: BaseException) -> SlurmFuturesError:
    failure = SlurmFuturesError(
        "The calls were not submitted, since slurm_futures met an error that should "
        f"not happen. It was {type(error).__name__}: {words_of(error)}. Please report "
        "it."
    )
    failure.__cause__ = error
    return failure
