"""Calls that workers take from a queue of files: jobs that live on.

    put(requests) --> feeder --> queue/0-64 ........> workers: claim, run,
                        |                             finished/0-999/7
                        +----> start workers                |
                                                            |
    poller --> look() <--- finished/, claims/ <-------------+
           --> a worker has ended: fail what it ran, start another one

There is one pool for each kind of jobs. A worker that ends before its call is over
fails that call alone, with its own error.

Threads: `put`, `cancel`, `withdraw` and `close` are called from anywhere; `look`,
`note_worker_end` and `stop` by the poller. `_lock` guards the count of what is fed and
the end of a queue, which is given up only while nothing is on its way into it; it is
never held while a future is settled or a file is touched.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from slurm_futures.calls.request import JobRequest, fail_requests
from slurm_futures.errors import JobLost, SlurmFuturesError, is_passing
from slurm_futures.jobs.judge import GONE_GRACE
from slurm_futures.jobs.threads import Courier
from slurm_futures.jobs.track import Work
from slurm_futures.pool.inspector import (
    PoolInspector,
    as_ours,
    nobody_sees,
    settle_as_cancelled,
)
from slurm_futures.pool.open_entries import Unit, Units
from slurm_futures.pool.workers import PoolWorkers, WorkerFuture
from slurm_futures.runs.writer import not_written

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.jobs.settler import Settler
    from slurm_futures.pool.workers import PoolSettings
    from slurm_futures.runs.queue import PoolDirectory
    from slurm_futures.runs.writer import Staging
    from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

#: Seconds for which calls are gathered for one batch: mostly, and while others wait.
_FEED_PAUSE, _LONG_FEED_PAUSE = 0.004, 0.1
#: Seconds after which calls that could not be written are tried again.
_RETRY_PAUSE = 1.0


class Pool:
    """The queue of one kind of calls, and its workers.

    Args:
        kind: what jobs the workers are.
        settings: how they live.
        staging: writes the files.
        settler: settles the futures of the calls.
        grace: seconds to wait for the files of calls that are over.
        start: takes the requests that become workers.
        watch: lets the poller look at this pool from now on; may be called often.
        cancel_job: ends the job of a worker whose future was cancelled.
        post: lets the poller call a function soon, in its thread.
        is_room_wanted: whether jobs of other kinds than this one wait for a place.
    """

    def __init__(
        self,
        kind: Kind,
        settings: PoolSettings,
        staging: Staging,
        settler: Settler,
        grace: float,
        *,
        start: Callable[[Kind, str, list[JobRequest]], None],
        watch: Callable[[Pool], None],
        cancel_job: Callable[[SlurmFuture[Any]], None],
        post: Callable[[Callable[[], None]], None],
        is_room_wanted: Callable[[Kind], bool],
    ) -> None:
        self._kind = kind
        self._enough = 4 * settings.max_workers
        self._staging = staging
        self._settler = settler
        self._watch = watch
        self._post = post
        self._is_room_wanted = is_room_wanted
        self._feeder = Courier(self._feed, "slurm_futures-feeder", _FEED_PAUSE)
        self._lock = threading.RLock()
        self._directory: PoolDirectory | None = None
        self._label = ""
        self._next = 0
        self._closing = False  # no more calls will come, but those that come again
        self._told_to_end = False  # workers that have nothing to do
        self._fed = 0  # requests that are with the feeder
        self._batch = range(0)  # what the feeder has written last
        self._failed: SlurmFuturesError | None = None
        self._units = Units()
        self._workers = PoolWorkers(
            kind,
            settings,
            start=start,
            cancel_job=cancel_job,
            on_end=self._hear_of_end,
        )
        self._inspector = PoolInspector(self._units, self._workers, settler, grace)
        self._gone_since: float | None = None

    # From any thread.

    def put(self, label: str, requests: list[JobRequest]) -> None:
        """Let workers run these calls."""
        for request in requests:
            if isinstance(request.future, WorkerFuture):
                request.future.end_for_good()
                return
        with self._lock:
            self._fed += len(requests)
        self._feeder.put([(label, request) for request in requests])

    def cancel(self, future: SlurmFuture[Any]) -> None:
        """Take the calls of a cancelled future back; end the worker that runs one."""
        numbers = self._units.numbers_of(future)
        directory = self._directory
        for number in numbers:
            if directory is not None:
                self._cancel_unit(directory, number)
        if self._closing and numbers:
            self._post(self._close_if_drained)

    def _cancel_unit(self, directory: PoolDirectory, number: int) -> None:
        owner = None
        try:
            if not directory.claim(number):
                owner = directory.owner(number)
            if owner is not None and not directory.take_back(number, owner):
                owner = None
        except OSError as error:
            logger.debug("call %d is not taken back: %s", number, error)
        self._units.forget(number)
        if owner is not None:
            self._workers.cancel_owner(owner)

    def withdraw(self, future: SlurmFuture[Any]) -> tuple[list[Unit], bool]:
        """Take the calls of a future back that no worker has; see also `withdraw`.

        Returns:
            What was taken back, and whether a worker has others.
        """
        numbers = self._units.numbers_of(future)
        directory = self._directory  # in this order: what has a number is in it
        taken_back = [
            unit
            for number in numbers
            if (unit := self._units.get(number))
            and (directory is None or directory.take_away(number))
            and self._units.forget(number)
        ]
        if self._closing and taken_back:
            self._post(self._close_if_drained)
        return taken_back, len(taken_back) < len(numbers)

    def close(self) -> None:
        """Take that no more calls will come: workers end when there is nothing left."""
        self.release()
        self._post(self._close_if_drained)

    def release(self) -> None:
        """Do the same with the next look; safe within garbage collection."""
        self._closing = True

    @property
    def is_open(self) -> bool:
        """Whether calls wait or run."""
        # In this order: the feeder adds units before it says that it has done so.
        return self._fed > 0 or bool(self._units)

    @property
    def starts(self) -> int:
        """How often the feeder has begun."""
        return self._feeder.starts

    def join(self) -> bool:
        """Wait until all calls are in the queue; return whether there was a thread."""
        return self._feeder.join()

    # The feeder's thread.

    def _feed(self, items: list[tuple[str, JobRequest]]) -> None:
        """Write waiting calls into the queue, as one batch."""
        label = items[0][0]
        requests = [request for _, request in items if not request.future.done()]
        self._batch = range(0)
        try:
            if self._failed is not None:
                self._fail_requests(requests, self._failed)
            elif requests:
                self._write(label, requests)
                self._scale()
        except Exception as error:
            left = self._take_back(requests)
            if is_passing(error):
                self._feed_later([(label, request) for request in left], error)
            else:
                logger.exception("calls could not be put into the queue")
                failure = not_written(self._staging.directory, error)
                self._fail_requests(left, failure)
        finally:
            with self._lock:
                self._fed -= len(items)
        if self._closing and not self.is_open:
            self._post(self._close_if_drained)  # there may be no look any more
        self._gather()

    def _fail_requests(
        self, requests: list[JobRequest], error: SlurmFuturesError
    ) -> None:
        """Let the poller fail calls: their callbacks may wait for this thread."""
        self._post(partial(fail_requests, requests, error))

    def _feed_later(
        self, items: list[tuple[str, JobRequest]], error: Exception
    ) -> None:
        """Try once more in a while: this process is short of something."""
        logger.warning("calls are put into the queue later: %s", error)
        with self._lock:
            self._fed += len(items)
        time.sleep(_RETRY_PAUSE)
        self._feeder.put(items)

    def _take_back(self, requests: list[JobRequest]) -> list[JobRequest]:
        """Take a batch out of the queue; return the requests that no worker has."""
        numbers, self._batch = self._batch, range(0)
        if not numbers:
            return requests
        directory = self._directory
        return [
            request
            for number, request in zip(numbers, requests, strict=True)
            if (directory is None or directory.take_away(number))
            and self._units.forget(number)
        ]

    def _gather(self) -> None:
        """Let calls gather for longer where the workers have enough to do anyway.

        A loop of submit calls makes fewer batches, each of which every worker opens.
        """
        if len(self._units) > self._enough and not self._closing:
            time.sleep(_LONG_FEED_PAUSE)

    def _write(self, label: str, requests: list[JobRequest]) -> None:
        """Write a batch; of the requests those are left that belong to it."""
        directory = self._directory
        if directory is not None and self._inspector.is_blind and not self._units:
            # Nobody would see what becomes of them; all that was there has ended.
            self._abandon(directory)
            directory = None
        try:
            self._write_to(directory or self._begin(label), requests)
        except FileNotFoundError:
            is_lost = directory is not self._directory
            if directory is None or (not is_lost and directory.is_there()):
                raise
            requests[:] = self._take_back(requests)
            self._abandon(directory)
            self._write_to(self._begin(label), requests)

    def _begin(self, label: str) -> PoolDirectory:
        self._directory = directory = self._staging.new_pool(label)
        self._label = label
        self._told_to_end = False
        self._inspector.begin()
        return directory

    def _write_to(self, directory: PoolDirectory, requests: list[JobRequest]) -> None:
        if self._told_to_end:
            directory.reopen()
            self._told_to_end = False
        numbers = range(self._next, self._next + len(requests))
        self._next = numbers.stop
        directory.add_blocks(numbers)
        batch = directory.batch(numbers)
        self._units.add(
            numbers,
            [
                self._work(request, batch, at, directory)
                for at, request in enumerate(requests)
            ],
        )
        self._batch = numbers
        # The poller has not seen these if it has just given the queue up, or stopped.
        if directory is not self._directory:
            raise FileNotFoundError(f"{directory.path} is not used any more")
        if self._failed is not None:
            self._post(partial(self._fail_open, self._failed))
        # Those that were cancelled on their way here had no number yet.
        for request in requests:
            if request.future.done():
                self.cancel(request.future)
        self._watch(self)
        calls = [request.calls for request in requests]
        self._staging.write_batch(batch, self._kind, calls)
        if not any(self._units.get(number) for number in numbers):
            # All have failed, are cancelled, or run again: then the poller may just be
            # reading the batch.
            self._post(partial(_remove_batch, directory, numbers))

    def _work(
        self, request: JobRequest, batch: Path, at: int, directory: PoolDirectory
    ) -> Work:
        return Work(
            future=request.future,
            positions=request.positions,
            kind=self._kind,
            label=self._label,
            calls=batch,
            index=at,
            home=directory.path,
        )

    def _scale(self) -> None:
        """Start the workers that are missing; none while nobody sees what they do."""
        directory = self._directory
        if directory is not None and not self._inspector.is_blind:
            self._workers.scale(len(self._units), directory, self._next, self._label)

    def _abandon(self, directory: PoolDirectory) -> None:
        """Take that a queue is gone, or as good as: what is in it is lost."""
        with self._lock:
            if directory is not self._directory:
                return
            # First: the feeder adds units, and then looks whether it is still this one.
            self._directory = None
            units = self._units.take_all()
            workers = self._workers.forget_all()
        lost = JobLost(
            f"The results of calls are lost.\nThe directory {directory.path} was "
            "deleted while they were open.\nSubmit them again, in a directory that is "
            'not cleaned up: SlurmExecutor(directory="...").'
        )
        self._post(partial(self._fail_units, units, lost))
        for each in workers:
            each.cancel()

    def _hear_of_end(self, future: WorkerFuture) -> None:
        self._post(partial(self.note_worker_end, future))

    # The poller's thread.

    def look(self) -> bool:
        """Settle the calls that are over; return whether there are any.

        Raises:
            FileNotFoundError: the directory is not there now.
        """
        directory = self._directory
        if directory is None:
            return False
        was_blind = self._inspector.is_blind
        try:
            news = self._inspector.look(directory)
            self._gone_since = None
        except FileNotFoundError:
            self._note_gone(directory)
            raise
        if was_blind or (self._workers.may_resume and self._units.any_waits()):
            self._scale()
        if self._workers.any_unwanted:
            busy, _ = self._units.owners()
            self._workers.cancel_unwanted(busy)
        self.give_way()
        self._close_if_drained()
        return news

    def _note_gone(self, directory: PoolDirectory) -> None:
        """Take that the queue is not there; for some time this may be an illusion."""
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= GONE_GRACE:
            self._abandon(directory)

    def note_worker_end(self, future: WorkerFuture) -> None:
        """Fail what a worker was running when it ended, and replace it."""
        directory = self._directory
        if directory is None or future.queue is not directory:
            self._scale()
            return
        error = self._workers.note_end(future, self._next)
        if future.track is not None:
            self._inspector.end_broken_off(directory)
        waits = self._units.any_waits(before=future.first)
        hopeless = not self._inspector.is_blind and self._workers.weigh_end(
            future, waits=waits
        )
        if self._workers.are_many:
            self._workers.forget_ended(*self._units.owners())
        # One that cannot see a queue that was deleted says nothing: see `look`.
        if hopeless and self._workers.all_ended and directory.is_there():
            # Calls that came after it was asked for may have more luck.
            self._workers.trust()
            failed = self._units.take_all(before=future.first)
            self._fail_units(failed, as_ours(error or nobody_sees(directory)))
        self._scale()
        self._close_if_drained()

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all calls, also those to come, and end the workers."""
        self._failed = error
        self._fail_open(error)
        self.end_workers()

    def _fail_open(self, error: SlurmFuturesError) -> None:
        self._fail_units(self._units.take_all(), error)

    def _fail_units(self, units: list[Unit], error: SlurmFuturesError) -> None:
        for unit in units:
            self._settler.fail(unit.work, range(len(unit.work.positions)), error)

    def end_workers(self) -> None:
        """Cancel the jobs of all workers; there will be no others."""
        for each in self._workers.forbid():
            each.cancel()
        if self._directory is not None:
            self._tell_to_end(self._directory)

    def give_way(self) -> None:
        """Let workers without work end, if calls of another kind wait for places.

        Those that run calls end with them. Calls that come later take it back.
        """
        directory = self._directory
        if (
            directory is not None
            and not self._told_to_end
            and self._is_room_wanted(self._kind)
            and self._fed == 0
            and not self._units.any_waits()
        ):
            self._tell_to_end(directory)

    def _close_if_drained(self) -> None:
        """Let the workers end once no calls are left and none will come.

        So too where nobody sees what they do: later calls have another queue.
        """
        at_exit = not threading.main_thread().is_alive()
        is_last = self._closing or at_exit or self._inspector.is_blind
        directory = self._directory
        if not is_last or self.is_open or directory is None:
            return
        self._tell_to_end(directory)
        self._workers.cancel_pending()
        self._give_up(directory)

    def _tell_to_end(self, directory: PoolDirectory) -> None:
        """Let workers end that find nothing to do; on an error the next look does."""
        if self._told_to_end:
            return
        try:
            directory.close()
        except OSError as error:
            logger.info("workers cannot be told to end now: %s", error)
        else:
            self._told_to_end = True

    def _give_up(self, directory: PoolDirectory) -> None:
        """Forget the queue, unless a call has come or a worker is left."""
        with self._lock:
            if self.is_open or not self._workers.all_ended:
                return
            self._workers.forget_all()
            self._directory = None
        self._staging.note_over(directory)


def withdraw(
    pools: Iterable[Pool],
    future: SlurmFuture[Any],
    post: Callable[[Callable[[], None]], None],
) -> bool:
    """Take the calls of a future back that no worker has; return whether one has.

    Then those of a chunk that were taken back count as cancelled, in whatever pool
    they were.
    """
    results = [pool.withdraw(future) for pool in pools]
    has_begun = any(begun for _, begun in results)
    taken_back = [unit for units, _ in results for unit in units]
    if has_begun and taken_back:
        post(partial(settle_as_cancelled, taken_back))
    return has_begun


def _remove_batch(directory: PoolDirectory, numbers: range) -> None:
    with contextlib.suppress(OSError):  # it goes with the queue
        directory.remove_batch(numbers)
