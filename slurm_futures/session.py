"""What all executors made by `SlurmExecutor.options` share: threads, files, one end.

It wires submitter, poller, canceller and staging together, and holds no logic of
theirs. Nothing here refers to an executor: when a program drops its executor, the
threads go on until the last open future is done, and end.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from slurm_futures.calls.progress import Progress
from slurm_futures.calls.request import JobRequest, fail_requests
from slurm_futures.errors import InitializerFailed, SlurmFuturesError, words_of
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.closer import JobEndings
from slurm_futures.jobs.poller import Poller
from slurm_futures.jobs.settler import Settler
from slurm_futures.jobs.submitter import Submitter
from slurm_futures.jobs.track import Track
from slurm_futures.pool.pool import Pool, withdraw
from slurm_futures.pool.workers import PoolSettings

if TYPE_CHECKING:
    from slurm_futures.calls.call import PickledCall
    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.jobs.open_submission import OpenSubmission
    from slurm_futures.jobs.retries import Retries
    from slurm_futures.runs.writer import Staging
    from slurm_futures.schedulers.base import Scheduler
    from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `SlurmExecutor` was told, of all calls alike; it describes the items."""

    max_workers: int | None
    grace: float
    pending_timeout: float | None
    retries: Retries
    progress: bool
    pool: PoolSettings | None


class Session:
    """One run of jobs: accepts requests, cancels, waits, cleans up.

    Attributes:
        broken: why no more calls are accepted, or None.
        closed: whether `shutdown` has been called.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        staging: Staging,
        settings: Settings,
    ) -> None:
        self.scheduler = scheduler
        self.staging = staging
        self.broken: SlurmFuturesError | None = None
        self.closed = False
        self._stopped: SlurmFuturesError | None = None
        self._released = False
        self._joined_by_us = False  # by a callback in one of our threads
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._entered = threading.Condition(self._lock)
        self._entering: list[threading.Thread] = []  # in `put`
        self._futures: weakref.WeakSet[SlurmFuture[Any]] = weakref.WeakSet()
        self._progress = Progress() if settings.progress else None
        self._canceller = Canceller(scheduler)
        self._settings = settings
        self._pools: dict[Kind, Pool] = {}
        self._settler = Settler(
            settings.retries,
            resubmit=self._resubmit,
            on_failed=staging.note_failure,
            on_initializer_failed=self._break,
        )
        self._poller = Poller(
            scheduler,
            JobEndings(self._settler, settings.grace, self._note_over),
            settings.grace,
            settings.pending_timeout,
            self._canceller.put,
        )
        self._submitter = Submitter(
            scheduler,
            staging,
            settings.max_workers,
            watch=self._poller.watch,
            cancel=self._cancel_tracks,
            on_full=self._make_room,
        )
        self._finalizer = weakref.finalize(self, staging.finish)

    def check_usable(self) -> None:
        """See that calls are accepted.

        Raises:
            RuntimeError: after shutdown, at the end of the program, in a forked child.
            InitializerFailed: the initializer has failed in a job.
        """
        if self._is_foreign():
            raise RuntimeError(
                "this SlurmExecutor belongs to the process that made it, of which this "
                "one is a fork; make a new SlurmExecutor here"
            )
        if self.broken is not None:
            raise self.broken.copy()
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if not threading.main_thread().is_alive():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def put(self, kind: Kind, label: str, requests: list[JobRequest]) -> None:
        """Let these requests become jobs."""
        with self._lock:
            self.check_usable()
            self._futures.update(request.future for request in requests)
            self._entering.append(threading.current_thread())
        try:
            if self._progress is not None:
                for request in requests:
                    self._progress.watch(request.future, request.future.size)
            self._route(kind, label, requests)
        finally:
            with self._entered:
                self._entering.remove(threading.current_thread())
                self._entered.notify_all()

    def _route(self, kind: Kind, label: str, requests: list[JobRequest]) -> None:
        """Let calls become jobs of their own, or take them to those that live on."""
        if self._settings.pool is None:
            self._submitter.put(kind, label, requests)
        else:
            self._pool(kind, self._settings.pool).put(label, requests)
        if self._stopped is not None:  # maybe while these were on their way
            fail_requests(requests, self._stopped)

    def _pool(self, kind: Kind, settings: PoolSettings) -> Pool:
        with self._lock:
            if kind not in self._pools:
                self._pools[kind] = Pool(
                    kind,
                    settings,
                    self.staging,
                    self._settler,
                    self._settings.grace,
                    start=self._submitter.put,
                    watch=self._poller.watch_queue,
                    cancel_job=self._cancel_job,
                    post=self._poller.call,
                    is_room_wanted=self._submitter.is_room_wanted,
                )
                if self.closed or self._released:
                    self._pools[kind].close()
            return self._pools[kind]

    def _make_room(self) -> None:
        """Let pools end workers without work soon, since other calls need them."""
        for pool in list(self._pools.values()):
            self._poller.call(pool.give_way)

    def _resubmit(
        self,
        kind: Kind,
        label: str,
        future: SlurmFuture[Any],
        positions: list[int],
        calls: list[PickledCall],
    ) -> None:
        """Let calls whose job is over become another one, also after shutdown."""
        if self._settings.pool is not None:
            future.wait_again()
        self._route(kind, label, [JobRequest(future, positions, calls)])

    def describe(self) -> str:
        """Say in a word or two how it goes, for the repr of an executor."""
        with self._lock:
            futures = list(self._futures)
        open_count = sum(not future.done() for future in futures)
        word = "broken" if self.broken else "closed" if self.closed else "open"
        return f"state={word} open_futures={open_count}"

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """Take that a future was cancelled; called from any thread."""
        if self._is_foreign():
            return
        if self._settings.pool is None:
            self._cancel_job(future)
        for pool in list(self._pools.values()):
            pool.cancel(future)

    def _cancel_job(self, future: SlurmFuture[Any]) -> None:
        """Cancel the job of a call, or of a worker."""
        tracks = [each for each in future.open_tracks() if isinstance(each, Track)]
        self._cancel_tracks(tracks)

    def _cancel_tracks(self, tracks: list[Track]) -> None:
        for track in tracks:
            self._poller.cancel(track)

    def cancel_open(self, *, started: bool) -> None:
        """Cancel open futures, on request also those whose jobs have started."""
        if self._is_foreign():
            return
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            if started and future.cancelled():
                self.note_cancel(future)  # Ctrl-C may have come before it was noted
            if not future.done() and (started or not self._has_begun(future)):
                future.cancel()

    def _has_begun(self, future: SlurmFuture[Any]) -> bool:
        """Whether a call of a future runs; if not, none does from now on in a pool."""
        if self._settings.pool is None:
            return future.running()
        return withdraw(list(self._pools.values()), future, self._poller.call)

    def close(self) -> None:
        """Accept no more calls."""
        if self._is_foreign():
            return
        with self._lock:
            self.closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()

    def _is_foreign(self) -> bool:
        """Whether this is a forked child: jobs, files and locks are the parent's."""
        return os.getpid() != self._pid

    def release(self) -> None:
        """Take that the last executor was dropped: no more calls will come.

        Called by the garbage collector, whatever this thread is doing: it only sets
        flags, which the poller sees with its next look.
        """
        self._released = True
        for pool in list(self._pools.values()):
            pool.release()

    def end_workers(self) -> None:
        """Cancel the workers of pools; their calls have been cancelled before."""
        if self._is_foreign():
            return
        for pool in list(self._pools.values()):
            pool.end_workers()

    def join(self) -> None:
        """Wait until all futures are done and all cancels sent, then clean up.

        Called by one of our own threads (a callback shuts its executor down), it waits
        for the others only.
        """
        if self._is_foreign():
            return
        if not (self._submitter.is_current or self._poller.is_current):
            self._join()
            return
        with self._lock:
            if self._joined_by_us:
                return  # another of our threads waits for this one
            self._joined_by_us = True
        try:
            self._join()
        finally:
            self._joined_by_us = False

    def _join(self) -> None:
        with self._entered:
            self._entered.wait_for(self._nobody_else_enters)
        starts = -1
        waited = True
        # A job that is over may have made another one possible; and a call that goes
        # from thread to thread may have passed by.
        while waited or starts != self._count_starts():
            starts = self._count_starts()
            waited = any(
                [self._join_pools(), self._submitter.join(), self._poller.join()]
            )
        self._canceller.join()
        self.staging.clean()

    def _nobody_else_enters(self) -> bool:
        """Whether no other thread is in `put`, with calls that are accepted."""
        return set(self._entering) <= {threading.current_thread()}

    def _count_starts(self) -> int:
        """Return how many threads there have been."""
        in_pools = sum(pool.starts for pool in list(self._pools.values()))
        return in_pools + self._submitter.starts + self._poller.starts

    def _join_pools(self) -> bool:
        waited = [pool.join() for pool in list(self._pools.values())]
        return any(waited)

    def stop(self, error: SlurmFuturesError) -> None:
        """End all jobs now; every open future fails with the error."""
        if self._is_foreign():
            return
        self.close()
        self._end_all(error)

    def _end_all(self, error: SlurmFuturesError) -> None:
        """Fail all that waits or runs, wherever it is, and what comes later."""
        self._stopped = error
        self._submitter.fail_waiting(error)
        self._poller.stop(error)
        for pool in list(self._pools.values()):
            self._poller.call(partial(pool.stop, error))

    def _break(self, exception: BaseException) -> SlurmFuturesError:
        """Give up, since the initializer has failed; called by the poller."""
        if self.broken is None:
            self.broken = _initializer_failed(exception)
            # The words and the logger of concurrent.futures.
            logging.getLogger("concurrent.futures").critical(
                "Exception in initializer:", exc_info=exception
            )
        self._end_all(self.broken)
        return self.broken

    def _note_over(self, opened: OpenSubmission) -> None:
        if not opened.tracks:
            self.staging.note_over(opened.submission)
        self._submitter.note_over(opened)


def _initializer_failed(exception: BaseException) -> InitializerFailed:
    error = InitializerFailed(
        "The initializer failed in a job, so no call of this executor can run.\n"
        f"It raised {type(exception).__name__}: {words_of(exception)}.\nThe traceback "
        "is above; mend the initializer and make a new SlurmExecutor."
    )
    error.__cause__ = exception
    return error
