"""Calls that workers take from a queue of files: jobs that live on.

    put(requests) --> feeder --> queue/0-64 ........> workers: claim, run,
                        |                             finished/0-999/7
                        +----> start workers                |
                                                            |
    poller --> look() <--- finished/, claims/ <-------------+
           --> a worker has ended: fail what it ran, start another one

There is one pool for each kind of jobs. A worker is an ordinary job of an ordinary
submission, whose only call is to serve the pool; so its end, whatever it is, comes as
the result or the typed error of its future. Only the call that it was running shares
that error.

Threads: `put`, `cancel` and `close` are called from anywhere; `look`, `note_worker_end`
and `stop` by the poller. `_lock` guards the workers and what is fed; it is never held
while a future is settled or a file is touched.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from slurm_futures import worker
from slurm_futures.errors import (
    JobCancelled,
    JobLost,
    PendingTimeout,
    SlurmFuturesError,
)
from slurm_futures.future import SlurmFuture
from slurm_futures.pool_units import Unit, Units
from slurm_futures.schedulers.local_launch import parse_time
from slurm_futures.serialization import Outcome, PickledCall, dump, dump_arguments
from slurm_futures.submitter import PASSING_ERRORS, JobRequest, fail_requests
from slurm_futures.threads import Courier
from slurm_futures.tracking import Track, Work

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_futures.pool_directory import PoolDirectory
    from slurm_futures.settling import Settler
    from slurm_futures.staging import Kind, Staging

logger = logging.getLogger("slurm_futures")

#: Seconds for which calls are gathered for one batch: mostly, and while others wait.
_FEED_PAUSE, _LONG_FEED_PAUSE = 0.004, 0.1
#: Seconds after which calls that could not be written are tried again.
_RETRY_PAUSE = 1.0
#: Seconds between two listings of the claims, which tell what runs.
_CLAIMS_INTERVAL = 0.5
#: So many workers running that end in failure before they have taken a call show that
#: none ever will.
_BARREN = 3


#: Seconds to wait until outcomes that were announced can be read.
_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How workers live.

    Attributes:
        max_workers: at most so many at the same time.
        max_calls: a worker ends after so many; None: no limit.
        idle_timeout: seconds without work after which a worker ends.
    """

    max_workers: int
    max_calls: int | None
    idle_timeout: float


class _WorkerFuture(SlurmFuture[int]):
    """The end of a worker. The pool replaces workers, so none is tried again."""


class Pool:
    """The queue of one kind of calls, and its workers.

    Args:
        kind: what jobs the workers are.
        settings: how they live.
        staging: writes the files.
        settler: settles the futures of the calls.
        start: takes the requests that become workers.
        watch: lets the poller look at this pool from now on; may be called often.
        cancel_job: ends the job of a worker whose future was cancelled.
        post: lets the poller call a function soon, in its thread.
    """

    def __init__(
        self,
        kind: Kind,
        settings: PoolSettings,
        staging: Staging,
        settler: Settler,
        *,
        start: Callable[[Kind, str, list[JobRequest]], None],
        watch: Callable[[Pool], None],
        cancel_job: Callable[[SlurmFuture[Any]], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._staging = staging
        self._settler = settler
        self._start = start
        self._watch = watch
        self._cancel_job = cancel_job
        self._post = post
        self._feeder = Courier(self._feed, "slurm_futures-feeder", _FEED_PAUSE)
        self._lock = threading.RLock()
        self._directory: PoolDirectory | None = None
        self._label = ""
        self._next = 0
        self._closing = self._closed = False
        self._fed = 0  # requests that are with the feeder
        self._no_more = False  # no workers will be started
        self._given_way = False  # idle workers were told to end
        self._failed: SlurmFuturesError | None = None
        self._units = Units()
        self._workers: list[SlurmFuture[Any]] = []
        self._tracks: dict[str, Track] = {}  # of the workers, by their names
        self._ended: dict[str, BaseException | None] = {}
        self._proven: set[str] = set()  # workers that have taken a call
        self._barren = 0
        self._claims_at = 0.0

    # From any thread.

    def put(self, label: str, requests: list[JobRequest]) -> None:
        """Let workers run these calls."""
        for request in requests:
            if isinstance(request.future, _WorkerFuture):
                _end_for_good(request.future)
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
        for each in self._workers:
            if owner is not None and _name(each) == owner and not each.done():
                logger.info("job %s: cancelled with its call", each.job_id)
                each.cancel()

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

    def join(self) -> bool:
        """Wait until all calls are in the queue; return whether there was a thread."""
        return self._feeder.join()

    # The feeder's thread.

    def _feed(self, items: list[tuple[str, JobRequest]]) -> None:
        """Write waiting calls into the queue, as one batch."""
        requests = [request for _, request in items if not request.future.done()]
        try:
            if self._failed is not None:
                fail_requests(requests, self._failed)
            elif requests:
                self._write(items[0][0], requests)
                self._scale()
                self._gather()
        except Exception as error:
            if getattr(error, "errno", None) in PASSING_ERRORS:
                self._feed_later(items, error)
                return
            logger.exception("calls could not be put into the queue")
            fail_requests(requests, _not_queued(self._staging, error))
        finally:
            with self._lock:
                self._fed -= len(items)

    def _feed_later(
        self, items: list[tuple[str, JobRequest]], error: Exception
    ) -> None:
        """Try once more in a while: this process is short of something."""
        logger.warning("calls are put into the queue later: %s", error)
        with self._lock:
            self._fed += len(items)
        time.sleep(_RETRY_PAUSE)
        self._feeder.put(items)

    def _gather(self) -> None:
        """Let calls gather for longer where the workers have enough to do anyway.

        A loop of submit calls makes fewer batches, each of which every worker opens.
        """
        busy = len(self._units) > 4 * self._settings.max_workers
        if busy and not self._closing:
            time.sleep(_LONG_FEED_PAUSE)

    def _write(self, label: str, requests: list[JobRequest]) -> None:
        if self._directory is None:
            self._directory = self._staging.new_pool(label)
            self._label = label
            self._closed = False
        directory = self._directory
        if self._given_way:
            self._given_way = False
            directory.reopen()
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
        # Those that were cancelled on their way here had no number yet.
        for request in requests:
            if request.future.done():
                self.cancel(request.future)
        self._watch(self)
        calls = [request.calls for request in requests]
        try:
            self._staging.write_batch(batch, self._kind, calls)
        except OSError:
            for number in numbers:
                self._units.forget(number)
            raise

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
        """Start workers where there are fewer than there is work for."""
        with self._lock:
            alive = [each for each in self._workers if not each.done()]
            wanted = min(self._settings.max_workers, len(self._units))
            missing = wanted - len(alive)
            if missing <= 0 or self._directory is None or self._no_more:
                return
            new = [self._new_worker() for _ in range(missing)]
            self._workers = alive + [request.future for request in new]
        self._start(self._kind, f"{self._label}-worker", new)
        for request in new:
            hear = partial(self._hear_of_worker, request.future)
            request.future.add_done_callback(hear)

    def _new_worker(self) -> JobRequest:
        assert self._directory is not None
        future = _WorkerFuture(self._cancel_job)
        limit = self._kind.options.get("time")
        settings = (
            str(self._directory.path),
            self._settings.max_workers,
            self._settings.idle_timeout,
            self._settings.max_calls,
            None if limit is None else _seconds(limit),
        )
        call = PickledCall(dump(worker.SERVE_POOL), dump_arguments(settings, {}))
        return JobRequest(future, range(1), [call])

    def _hear_of_worker(self, future: SlurmFuture[Any], _: Future[Any]) -> None:
        self._post(partial(self.note_worker_end, future))

    # The poller's thread.

    def look(self) -> bool:
        """Settle the calls that are over; return whether there are any.

        Raises:
            OSError: the directory cannot be listed now.
        """
        directory = self._directory
        if directory is None:
            return False
        news = False
        blocks = self._units.choose_blocks()
        for number in sorted(directory.list_finished(blocks)):
            unit = self._units.get(number)
            if unit is not None and self._settle(directory, number, unit):
                news = True
        now = time.monotonic()
        if now - self._claims_at > _CLAIMS_INTERVAL:
            self._claims_at = now
            self._note_claims(directory, blocks)
        self._clean(directory)
        self._close_if_drained()
        return news

    def _settle(self, directory: PoolDirectory, number: int, unit: Unit) -> bool:
        if unit.owner is None:
            self._note_owner(directory, number, unit)
        missing: list[int] | range = range(len(unit.work.positions))
        try:
            content = directory.read_outcomes(number)
            missing, _ = self._settler.deliver(unit.work, [content])
        except OSError as error:
            unit.problem = str(error)
        if missing:
            now = time.monotonic()
            unit.finished_at = unit.finished_at or now
            if now - unit.finished_at < _GRACE:
                return False
            lost = JobLost(f"The outcome of a call cannot be read: {unit.problem}.")
            self._settler.fail(unit.work, missing, lost)
        self._units.forget(number)
        self._barren = 0
        return True

    def _note_claims(self, directory: PoolDirectory, blocks: list[str]) -> None:
        """Find out which worker runs which call, and that there is still one."""
        for number in directory.list_claims(blocks):
            unit = self._units.get(number)
            if unit is None:
                continue
            # A job may begin before its id is known here.
            if unit.owner is None or unit.work.future.track is None:
                self._note_owner(directory, number, unit)
            if unit.owner in self._ended and unit.finished_at is None:
                self._break_off(directory, number, unit)

    def _note_owner(self, directory: PoolDirectory, number: int, unit: Unit) -> None:
        unit.owner = owner = directory.owner(number)
        if owner is None:
            return
        self._proven.add(owner)
        self._units.note_begun(number)
        if owner not in self._tracks:
            tracks = [(each, each.track) for each in self._workers]
            self._tracks.update((_name(each), track) for each, track in tracks if track)
        if owner in self._tracks:
            unit.work.future.add_track(self._tracks[owner])

    def _break_off(self, directory: PoolDirectory, number: int, unit: Unit) -> None:
        """End a call that its worker has not finished."""
        assert unit.owner is not None
        if len(unit.work.positions) > 1 and not self._give_up(directory, number, unit):
            return
        left = directory.read_partial_outcomes(number, unit.owner)
        missing, _ = self._settler.deliver(unit.work, left)
        if missing:
            error = self._ended[unit.owner]
            cause = _as_ours(error or JobLost(f"worker {unit.owner} ended in a call."))
            self._settler.break_off(unit.work, missing, cause, began=True)
        self._units.forget(number)
        self._barren = 0

    def _give_up(self, directory: PoolDirectory, number: int, unit: Unit) -> bool:
        """Take a chunk back from a worker that may live on where Slurm cannot see it.

        Returns:
            Whether it can have begun no more calls since; if not, ask again later.
        """
        assert unit.owner is not None
        now = time.monotonic()
        if unit.taken_back_at is None and directory.take_back(number, unit.owner):
            unit.taken_back_at = now
        return (
            unit.taken_back_at is not None
            and now - unit.taken_back_at >= worker.GIVE_UP_PAUSE
        )

    def _clean(self, directory: PoolDirectory) -> None:
        """Delete the files of calls that are over, a block or a batch at a time."""
        blocks, batches = self._units.take_done()
        for numbers in batches:
            directory.remove_batch(numbers)
        for name in blocks:
            directory.remove_block(name)

    def note_worker_end(self, future: SlurmFuture[Any]) -> None:
        """Fail what a worker was running when it ended, and replace it."""
        error = None if future.cancelled() else future.exception()
        if self._directory is None:
            return
        if future.track is not None:
            self._ended[_name(future)] = error
            self._find_broken_off(self._directory)
            self._count_barren(_name(future), error)
        if error is not None and self._barren >= _BARREN:
            self.stop(_as_ours(error))
            return
        if error is None or not (
            future.track is None or isinstance(error, PendingTimeout)
        ):
            self._scale()
        elif all(each.done() for each in self._workers):
            # No worker can be had now; later calls may have more luck.
            self._fail_open(_as_ours(error))
        self._close_if_drained()

    def _find_broken_off(self, directory: PoolDirectory) -> None:
        """End the calls that workers have left unfinished."""
        blocks = self._units.choose_blocks()
        try:
            for number in sorted(directory.list_finished(blocks)):
                unit = self._units.get(number)
                if unit is not None:
                    self._settle(directory, number, unit)
            self._note_claims(directory, blocks)
        except OSError as error:
            logger.info("the queue cannot be read now: %s", error)

    def _count_barren(self, name: str, error: BaseException | None) -> None:
        """Take that a worker has failed before it took a call, if there were any."""
        by_hand = isinstance(error, JobCancelled)
        if error is None or by_hand or name in self._proven:
            return
        if self._units.any_waits():
            self._barren += 1

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all calls, also those to come, and end the workers."""
        self._failed = error
        self._fail_open(error)
        self.end_workers()

    def _fail_open(self, error: SlurmFuturesError) -> None:
        for unit in self._units.take_all():
            self._settler.fail(unit.work, range(len(unit.work.positions)), error)

    def end_workers(self) -> None:
        """Cancel the jobs of all workers; there will be no others."""
        with self._lock:
            self._no_more = True
            workers = list(self._workers)
        if self._directory is not None:
            self._directory.close()
        for each in workers:
            each.cancel()

    def give_way(self) -> None:
        """Let idle workers end, for whom calls of another kind wait; see `Session`."""
        if self._directory is not None and not self.is_open and not self._closed:
            self._given_way = True
            self._directory.close()

    def _close_if_drained(self) -> None:
        """Let the workers end once no calls are left and none will come."""
        at_exit = not threading.main_thread().is_alive()
        directory = self._directory
        if not (self._closing or at_exit) or self.is_open or directory is None:
            return
        if not self._closed:
            self._closed = True
            directory.close()
            for each in self._workers:
                if not each.done() and not each.running():
                    each.cancel()
        if all(each.done() for each in self._workers):
            self._workers = []
            self._staging.note_over(directory)
            self._directory = None


def _name(future: SlurmFuture[Any]) -> str:
    """Return what a worker calls itself in its claims."""
    track = future.track
    return "" if track is None else f"{track.work.home.name}-{track.index}"


def _end_for_good(worker_future: _WorkerFuture) -> None:
    """Settle a worker that the policy for calls wants to try again."""
    worker_future.settle(0, Outcome(exception=worker_future.failures[0][-1]))


def _seconds(limit: object) -> float | None:
    try:
        return parse_time(limit)
    except ValueError:
        return None  # sbatch will say so


def _as_ours(error: BaseException) -> SlurmFuturesError:
    if isinstance(error, SlurmFuturesError):
        return error
    failure = SlurmFuturesError(
        f"A worker ended with {type(error).__name__}: {error}. Please report it."
    )
    failure.__cause__ = error
    return failure


def _not_queued(staging: Staging, error: Exception) -> SlurmFuturesError:
    failure = SlurmFuturesError(
        "The calls could not be put into the queue of the workers below "
        f"{staging.directory}.\nThe system said: {error}.\nMake room there or choose "
        'another directory: SlurmExecutor(directory="...").'
    )
    failure.__cause__ = error
    return failure
