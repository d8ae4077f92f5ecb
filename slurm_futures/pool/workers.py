"""The jobs that serve a pool: how many there are, what they run, how they ended.

A worker is an ordinary job of an ordinary submission, whose only call is to serve the
pool; so its end, whatever it is, comes as the result or the typed error of its future.
"""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import JobCancelled, OptionError, PendingTimeout
from slurm_futures.jobs.track import Track
from slurm_futures.node.formats import SERVE_POOL
from slurm_futures.node.pool_worker import worker_of
from slurm_futures.schedulers.quantities import parse_time

if TYPE_CHECKING:
    from slurm_futures.runs.queue import PoolDirectory
    from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

#: So many workers in a row that end before they have taken a call, although one waits,
#: show that there is no use in the next one; if no worker is left, calls fail then.
_BARREN = 3
#: Seconds until another one is tried, if others live: at first, and the most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: So many workers are known before those that have ended are looked through.
_MANY = 100


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


def check_workers(
    max_workers: int | None,
    initializer: object,
    max_tasks_per_child: int | None,
) -> None:
    """See that these work, with the errors and words of ProcessPoolExecutor.

    Raises:
        ValueError, TypeError: as there.
        OptionError: jobs that live on, and nobody says how many.
    """
    if max_workers is not None:
        if not isinstance(max_workers, SupportsIndex):
            raise TypeError("max_workers must be an integer")
        if operator.index(max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if max_tasks_per_child is not None:
        if not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
    if max_tasks_per_child != 1 and max_workers is None:
        raise OptionError(
            "Jobs that live on need to know how many they are. Write "
            "SlurmExecutor(max_workers=16, max_tasks_per_child=None), or leave out "
            "max_tasks_per_child: then each call is a job of its own."
        )


def pool_settings(
    max_workers: int | None, max_tasks_per_child: int | None, idle_timeout: float
) -> PoolSettings | None:
    """Return how jobs live that live on; None: each call is a job of its own."""
    if max_tasks_per_child == 1 or max_workers is None:
        return None
    return PoolSettings(max_workers, max_tasks_per_child, idle_timeout)


class WorkerFuture(SlurmFuture[int]):
    """The end of a worker. The pool replaces workers, so none is tried again.

    Attributes:
        queue: where it takes calls from.
        first: the first call that was not in the queue when it was asked for.
    """

    def __init__(
        self,
        on_cancel: Callable[[SlurmFuture[Any]], None],
        queue: PoolDirectory,
        first: int,
    ) -> None:
        super().__init__(on_cancel)
        self.queue = queue
        self.first = first

    def end_for_good(self) -> None:
        """Settle a worker that the policy for calls wants to try again."""
        self.settle(0, Outcome(exception=self.failures[0][-1]))

    @property
    def job(self) -> Track | None:
        """Its job, once there is one."""
        return self.track if isinstance(self.track, Track) else None

    @property
    def name(self) -> str:
        """What the worker calls itself in its claims."""
        job = self.job
        return "" if job is None else f"{job.work.home.name}-{job.index}"


@dataclass(slots=True)
class _Record:
    """What is known of a worker that may have taken calls.

    Attributes:
        track: its job, if that is known.
        proven: it has taken a call.
        ended: it has ended; then with what error.
        first: the first call that was not in the queue when it ended.
    """

    track: Track | None = None
    proven: bool = False
    ended: bool = False
    error: BaseException | None = None
    first: int = 0


class PoolWorkers:
    """The workers of one pool.

    `scale` is called by the feeder and the poller, `cancel_owner` by any thread, all
    else by the poller. The lock guards the list of workers, and is never held while a
    future is settled or a job is started.

    Args:
        kind: what jobs they are.
        settings: how they live.
        start: takes the requests that become workers.
        cancel_job: ends the job of a worker whose future was cancelled.
        on_end: takes each worker that has ended; called in any thread.
    """

    def __init__(
        self,
        kind: Kind,
        settings: PoolSettings,
        *,
        start: Callable[[Kind, str, list[JobRequest]], None],
        cancel_job: Callable[[SlurmFuture[Any]], None],
        on_end: Callable[[WorkerFuture], None],
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._start = start
        self._cancel_job = cancel_job
        self._on_end = on_end
        self._lock = threading.RLock()
        self._workers: list[WorkerFuture] = []
        self._no_more = False
        self._unwanted: set[str] = set()  # names of those whose jobs are not known yet
        self._records: dict[str, _Record] = {}  # by their names
        self._many = _MANY
        self._barren = 0
        self._pause = 0.0  # seconds between two attempts; 0: there is no need to wait
        self._resume_at: float | None = None  # monotonic seconds

    def scale(
        self, work: int, directory: PoolDirectory, first: int, label: str
    ) -> None:
        """Start workers where there are fewer than there is work for.

        After a row of failures there is one at a time, later and later.

        Args:
            work: how many calls are open.
            directory: the queue.
            first: the first call that is not in the queue yet.
            label: what the calls are called.
        """
        with self._lock:
            alive = [each for each in self._workers if not each.done()]
            missing = min(self._settings.max_workers, work) - len(alive)
            if missing <= 0 or self._no_more or not (allowed := self._allow()):
                return
            new = [
                WorkerFuture(self._cancel_job, directory, first)
                for _ in range(min(missing, allowed))
            ]
            self._workers = self._workers + new
        try:
            call = self._serve(directory)
            requests = [JobRequest(future, range(1), [call]) for future in new]
            self._start(self._kind, f"{label}-worker", requests)
        except Exception:
            self._drop(new)
            for future in new:
                future.cancel()
            with self._lock:
                self._slow_down()
            raise
        for future in new:
            future.add_done_callback(partial(self._hear_of_end, future))

    def _drop(self, workers: list[WorkerFuture]) -> None:
        with self._lock:
            self._workers = [each for each in self._workers if each not in workers]

    def _allow(self) -> int:
        """Return how many workers may be started now."""
        if self._resume_at is None:
            return self._settings.max_workers
        if not self.may_resume:
            return 0
        self._resume_at = None
        if not self._pause:
            return self._settings.max_workers
        self._slow_down()
        return 1

    def _slow_down(self) -> None:
        """Wait until the next worker is started, twice as long as the last time."""
        if self._resume_at is None:
            self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
            self._resume_at = time.monotonic() + self._pause

    @property
    def may_resume(self) -> bool:
        """Whether workers that were put off may be started now."""
        return self._resume_at is not None and time.monotonic() >= self._resume_at

    def _hear_of_end(self, worker_future: WorkerFuture, _: Future[Any]) -> None:
        self._on_end(worker_future)

    def _serve(self, directory: PoolDirectory) -> PickledCall:
        limit = self._kind.options.get("time")
        settings = (
            str(directory.path),
            self._settings.max_workers,
            self._settings.idle_timeout,
            self._settings.max_calls,
            None if limit is None else _seconds(limit),
        )
        return PickledCall(SERVE_POOL, dump_arguments(settings, {}))

    def note_claim(self, owner: str) -> Track | None:
        """Take that a worker has taken a call; return its job, if that is known yet."""
        record = self._record(worker_of(owner))
        if not record.proven:
            record.proven = True
            self.trust()
        if record.track is None:
            self._learn_tracks()
        return record.track

    def _learn_tracks(self) -> None:
        for each in self._workers:
            if each.track is not None:
                self._record(each.name).track = each.job

    def _record(self, name: str) -> _Record:
        return self._records.setdefault(name, _Record())

    def trust(self) -> None:
        """Take that workers are of use, or may be again."""
        with self._lock:
            self._barren, self._pause = 0, 0.0
            if self._resume_at is not None:
                self._resume_at = time.monotonic()

    def note_end(self, future: WorkerFuture, first: int) -> BaseException | None:
        """Take that a worker has ended; return with what error.

        Args:
            future: the worker.
            first: the first call that is not in the queue yet.
        """
        error = None if future.cancelled() else future.exception()
        if future.track is not None:
            record = self._record(future.name)
            record.track, record.ended = future.job, True
            record.error, record.first = error, first
            self._unwanted.discard(future.name)
        self._drop([future])
        return error

    def has_ended(self, owner: str | None) -> bool:
        """Whether the worker of this name has ended.

        So has one that was forgotten: it took a call after what Slurm calls its end.
        """
        record = self._records.get(worker_of(owner or ""))
        if record is None:
            return False
        if not record.ended and record.track is None:
            all_known = all(each.track is not None for each in self._workers)
            self._learn_tracks()
            return all_known and record.track is None
        return record.ended

    def error_of(self, owner: str) -> BaseException | None:
        """Return with what error a worker has ended."""
        return self._records[worker_of(owner)].error

    @property
    def are_many(self) -> bool:
        """Whether it is worth the effort to forget those that have ended."""
        return len(self._records) > self._many

    def forget_ended(self, owners: set[str], waiting: float) -> None:
        """Forget the workers that have ended, and that no open call can name.

        Args:
            owners: who has taken open calls.
            waiting: the first call of which it is not known who has taken it.
        """
        names = set(map(worker_of, owners))
        self._records = {
            name: each
            for name, each in self._records.items()
            if not each.ended or name in names or waiting < each.first
        }
        self._many = _MANY + 2 * len(self._records)

    def weigh_end(self, future: WorkerFuture, *, waits: bool) -> bool:
        """Take what the end of a worker says about the use of others.

        Args:
            future: the worker.
            waits: a call that was there before the worker waits still.

        Returns:
            Whether no other one can be had, or would do any better.
        """
        error = None if future.cancelled() else future.exception()
        if future.track is not None and self._record(future.name).proven:
            self.trust()
            return False
        if future.cancelled() or isinstance(error, JobCancelled):
            return False
        refused = error is not None and (
            future.track is None or isinstance(error, PendingTimeout)
        )
        with self._lock:
            self._barren += waits and not refused
            hopeless = refused or (waits and self._barren >= _BARREN)
            if hopeless:
                self._slow_down()
        return hopeless

    @property
    def all_ended(self) -> bool:
        """Whether there is no worker now."""
        return all(each.done() for each in self._workers)

    def cancel_owner(self, owner: str) -> None:
        """Cancel the worker that runs a call, once its job is known."""
        name = worker_of(owner)
        record = self._records.get(name)
        if not self._cancel(name) and (record is None or not record.ended):
            self._unwanted.add(name)

    def _cancel(self, name: str) -> bool:
        """Cancel a worker; return whether its job is known."""
        for each in self._workers:
            if each.name == name:
                if not each.done():
                    logger.info("job %s: cancelled with its call", each.job_id)
                    each.cancel()
                return True
        return False

    @property
    def any_unwanted(self) -> bool:
        """Whether there are workers to cancel whose jobs were not known."""
        return bool(self._unwanted)

    def cancel_unwanted(self, busy: set[str]) -> None:
        """Cancel those whose jobs are known by now.

        Args:
            busy: the workers that run other calls by now; these go on.
        """
        names = set(map(worker_of, busy))
        for name in self._unwanted.copy():
            if name in names or self._cancel(name):
                self._unwanted.discard(name)

    def cancel_pending(self) -> None:
        """Cancel the workers that have not started."""
        for each in self._workers:
            if not each.done() and not each.running():
                each.cancel()

    def forbid(self) -> list[WorkerFuture]:
        """Start no workers any more; return those that there are."""
        with self._lock:
            self._no_more = True
            return list(self._workers)

    def forget_all(self) -> list[WorkerFuture]:
        """Forget all workers; return them."""
        with self._lock:
            workers, self._workers = self._workers, []
            self._records = {}
            self._barren, self._pause, self._resume_at = 0, 0.0, None
        return workers


def _seconds(limit: object) -> float | None:
    try:
        return parse_time(limit)
    except ValueError:
        return None  # sbatch will say so
