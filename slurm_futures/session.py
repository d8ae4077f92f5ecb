"""What all executors made by `SlurmExecutor.options` share: threads, files, one end.

It takes requests to the machine that runs them, `Jobs` or `Pools`, which have the same
methods, and knows what points up from there. Nothing here refers to an executor: when
a program drops its executor, the threads go on until the last open future is done.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any, NoReturn

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.progress import Progress
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import InitializerFailed, SlurmFuturesError, words_of
from slurm_futures.jobs.jobs import Jobs, JobSettings
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.pool.pools import Pools
from slurm_futures.pool.settings import PoolSettings
from slurm_futures.runs.writer import Writer
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")


class Session:
    """One run of jobs: accepts requests, cancels, waits, cleans up.

    Args:
        scheduler: where the jobs run.
        writer: has the files.
        settings: what all jobs have in common.
        pool: how workers live; None: each call is a job of its own.
        progress: whether to show a line that counts the calls.

    Attributes:
        broken: why no more calls are accepted, or None.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        writer: Writer,
        settings: JobSettings,
        pool: PoolSettings | None,
        *,
        progress: bool,
    ) -> None:
        self.scheduler = scheduler
        self.writer = writer
        self.broken: SlurmFuturesError | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._futures: weakref.WeakSet[SlurmFuture[Any]] = weakref.WeakSet()
        self._progress = Progress() if progress else None
        self._lifecycle = Lifecycle()
        self._group = ThreadGroup()
        self._jobs = Jobs(
            scheduler, writer, settings, self._lifecycle, self._group, self
        )
        self._machine = self._jobs if pool is None else Pools(self._jobs, pool)
        self._finalizer = weakref.finalize(self, writer.finish)

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
        if self._lifecycle.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if not threading.main_thread().is_alive():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def put(self, kind: Kind, label: str, requests: list[JobRequest]) -> None:
        """Let these requests run."""
        me = threading.current_thread()
        with self._lock:
            self.check_usable()
            self._futures.update(request.future for request in requests)
            self._group.enter(me)  # shutdown waits for calls that were accepted
        try:
            if self._progress is not None:
                for request in requests:
                    self._progress.watch(request.future, request.future._size)
            self._machine.put(kind, label, requests)
        finally:
            self._group.leave(me, ends=False)

    def __reduce__(self) -> NoReturn:
        # Else pickle walks through what our threads are changing.
        raise TypeError("cannot pickle a SlurmExecutor: it belongs to this process")

    def describe(self) -> str:
        """Say in a word or two how it goes, for the repr of an executor."""
        with self._lock:
            futures = list(self._futures)
        open_count = sum(not future.done() for future in futures)
        closed = self._lifecycle.closed
        word = "broken" if self.broken else "closed" if closed else "open"
        return f"state={word} open_futures={open_count}"

    # What points up (`jobs.above.Above`).

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """End the calls of a future that was cancelled; called from any thread."""
        if not self._is_foreign():
            self._machine.cancel(future)

    def resubmit(self, kind: Kind, label: str, request: JobRequest) -> None:
        """Let calls whose job is over run once more, also after shutdown."""
        self._machine.put(kind, label, [request])

    def note_initializer(self, exception: BaseException) -> SlurmFuturesError:
        """Fail all calls, since the initializer has failed; called by the poller."""
        if self.broken is None:
            self.broken = _initializer_failed(exception)
            # The words and the logger of concurrent.futures.
            logging.getLogger("concurrent.futures").critical(
                "Exception in initializer:", exc_info=exception
            )
        self._fail_all(self.broken)
        return self.broken

    def note_over(self, submission: OpenSubmission) -> None:
        """Let others have the place of a job that is over."""
        self._jobs.note_over(submission)

    def note_full(self) -> None:
        """Let jobs without work end soon, since other ones wait for their places."""
        self._machine.note_full()

    # The end.

    def cancel_open(self, *, started: bool) -> None:
        """Cancel open futures, on request also those whose jobs have started."""
        if self._is_foreign():
            return
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            if started and future.cancelled():
                self.note_cancel(future)  # Ctrl-C may have come before it was noted
            if not future.done() and (started or not self._machine.withdraw(future)):
                future.cancel()

    def close(self) -> None:
        """Accept no more calls."""
        if self._is_foreign():
            return
        with self._lock:
            self._lifecycle.closed = True
        self._machine.close()

    def _is_foreign(self) -> bool:
        """Whether this is a forked child: jobs, files and locks are the parent's."""
        return os.getpid() != self._pid

    def release(self) -> None:
        """Hear that the last executor was dropped: no more calls will come.

        Called by the garbage collector, whatever this thread is doing: it only sets a
        flag, which the poller sees with its next look.
        """
        self._lifecycle.closed = True

    def end_workers(self) -> None:
        """Cancel jobs that have no call; the calls have been cancelled before."""
        if not self._is_foreign():
            self._machine.end()

    def join(self) -> None:
        """Wait until all futures are done and all cancels sent, then clean up.

        Called by one of our own threads (a callback shuts its executor down), it waits
        for the others only.
        """
        if not self._is_foreign():
            self._group.join()
            self.writer.clean()

    def stop(self, error: SlurmFuturesError) -> None:
        """End all jobs now; every open future fails with the error."""
        if not self._is_foreign():
            self.close()
            self._fail_all(error)

    def _fail_all(self, error: SlurmFuturesError) -> None:
        """Fail all that waits or runs, wherever it is, and what comes later."""
        self._lifecycle.stopped = error
        self._machine.stop(error)


def _initializer_failed(exception: BaseException) -> InitializerFailed:
    error = InitializerFailed(
        "The initializer failed in a job, so no call of this executor can run.\n"
        f"It raised {type(exception).__name__}: {words_of(exception)}.\nThe traceback "
        "is above; fix the initializer and make a new SlurmExecutor."
    )
    error.__cause__ = exception
    return error
