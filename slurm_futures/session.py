"""What all executors made by `SlurmExecutor.options` share: threads, files, one end.

It takes requests to the machine that runs them, `Jobs` or `Pools`, which have the same
methods, and knows what points up from there. Nothing here refers to an executor: when
a program drops its executor, the threads go on until the last open future is done.
"""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from functools import partial
from typing import Any, NoReturn

from slurm_futures.calls.awaited import AwaitedRequest
from slurm_futures.calls.bootstrapping import check_bootstrapped
from slurm_futures.calls.counts import CallCounts, add_up
from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.late_callbacks import LateCallbacks, invoke_callbacks
from slurm_futures.calls.outcome import initializer_failed
from slurm_futures.calls.progress import Progress
from slurm_futures.calls.request import JobRequest
from slurm_futures.calls.usage import UsageSummary
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs import program_end
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
        numbers: yields the number of the next call, to any thread.
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
        self.numbers = itertools.count()
        self._pid = os.getpid()
        self._futures: set[weakref.ref[SlurmFuture[Any]]] = set()
        self._counts = CallCounts()
        self._late_callbacks = LateCallbacks()
        self._progress = Progress() if progress else None
        self._lifecycle = Lifecycle()
        self._group = ThreadGroup()
        self._jobs = Jobs(
            scheduler, writer, settings, self._lifecycle, self._group, self
        )
        self._machine = self._jobs if pool is None else Pools(self._jobs, pool)
        self._finalizer = weakref.finalize(self, writer.finish)
        program_end.listen(self)

    def check_usable(self) -> None:
        """See that calls are accepted.

        Raises:
            RuntimeError: after shutdown, at the end of the program, in a forked child,
                in a job that loads a call.
            InitializerFailed: the initializer has failed in a job.
        """
        check_bootstrapped()
        if self._is_foreign():
            raise RuntimeError(
                "this SlurmExecutor belongs to the process that made it, of which this "
                "one is a fork; make a new SlurmExecutor here"
            )
        if self.broken is not None:
            raise self.broken.copy()
        if self._lifecycle.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if program_end.program_ends():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def put(
        self, kind: Kind, label: str, requests: list[JobRequest | AwaitedRequest]
    ) -> None:
        """Let these requests run."""
        self.check_usable()
        for request in requests:
            self.count_in(request.future)
            self._futures.add(weakref.ref(request.future, self._futures.discard))
            if self._progress is not None:
                self._progress.watch(request.future, request.future._size)
        ready = [each for each in requests if isinstance(each, JobRequest)]
        if ready:
            self._machine.put(kind, label, ready)
        for each in requests:
            if isinstance(each, AwaitedRequest):
                self._jobs.awaiting.put(kind, label, each)
        if self._lifecycle.closed:  # by another thread, maybe before it saw these
            for request in requests:
                request.future.cancel()
            self.check_usable()

    def __reduce__(self) -> NoReturn:
        # Else pickle walks through what our threads are changing.
        raise TypeError("cannot pickle a SlurmExecutor: it belongs to this process")

    def describe(self) -> str:
        """Say in a word or two how it goes, for the repr of an executor."""
        open_count = sum(not future.done() for future in self._living_futures())
        closed = self._lifecycle.closed
        word = "broken" if self.broken else "closed" if closed else "open"
        return f"state={word} open_futures={open_count}"

    def count_in(self, future: SlurmFuture[Any]) -> None:
        """Let the calls of a future be counted, also if they are over already."""
        future._count_in(self._counts)

    def counts(self) -> dict[str, int]:
        """Return how many calls there are of each state."""
        living = self._living_futures()  # first: all that were open then are in it
        fates = self._counts.copy()
        done, failed, cancelled = add_up(fates)
        running = pending = 0
        for future in living:
            over = sum(fates[future._slot]) if future._slot < len(fates) else 0
            open_count = future._size - over
            running_count = min(open_count, future._count_running())
            running += running_count
            pending += open_count - running_count
        return {
            "done": done,
            "failed": failed,
            "cancelled": cancelled,
            "running": running,
            "pending": pending,
        }

    def usage(self) -> UsageSummary:
        """Return what calls have used that are over."""
        advise_time = self._machine is self._jobs  # else it is the limit of workers
        return self._jobs.settler.usage.summarize(advise_time=advise_time)

    def _living_futures(self) -> list[SlurmFuture[Any]]:
        return [each for ref in list(self._futures) if (each := ref()) is not None]

    # What points up (`jobs.above.Above`).

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """End the calls of a future that is being cancelled; called from any thread."""
        if self._is_foreign():
            future._end_cancel()  # the rest does the caller
        else:
            self._jobs.poller.call_if_open(partial(self._end_cancel, future))
            self._machine.hold_back(future)

    def _end_cancel(self, future: SlurmFuture[Any]) -> bool:
        """Do what is left of a cancel, but the callbacks; False if it was too late."""
        if not future._end_cancel():
            return False
        self._machine.cancel(future)
        if future._has_callbacks:
            self._late_callbacks.add(future)
            self._jobs.poller.attend(self._late_callbacks)
        return True

    def _cancel(self, future: SlurmFuture[Any]) -> None:
        """Cancel a future that nobody else cancels."""
        if self._end_cancel(future):
            invoke_callbacks(future)

    def has_outcome(self, future: SlurmFuture[Any]) -> bool:
        """Whether the call of a future is over; called from any thread."""
        return not self._is_foreign() and self._machine.has_outcome(future)

    def resubmit(self, kind: Kind, label: str, request: JobRequest) -> None:
        """Let calls whose job is over run once more, also after shutdown."""
        self._machine.put(kind, label, [request])

    def note_initializer(self, exception: BaseException) -> SlurmFuturesError:
        """Fail all calls, since the initializer has failed; called by the poller."""
        if self.broken is None:
            self.broken = initializer_failed(exception)
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

    def cancel_waiting(self) -> None:
        """Let all calls be cancelled soon whose jobs have not started."""
        if not self._is_foreign():
            self._jobs.poller.call(self._cancel_waiting)

    def _cancel_waiting(self) -> None:
        for future in self._living_futures():
            if future.done() or self._machine.withdraw(future):
                continue
            if future._cancel_rest():
                self._machine.cancel(future)
            else:
                self._cancel(future)

    def cancel_open(self) -> None:
        """Let all calls that there are be cancelled soon, also those that run."""
        if not self._is_foreign():
            cancel = partial(self._cancel_these, self._living_futures())
            self._jobs.poller.call(cancel)

    def _cancel_these(self, futures: list[SlurmFuture[Any]]) -> None:
        for future in futures:
            if future.done() or self._machine.has_outcome(future):
                continue
            if future._cancel_rest():
                self._machine.cancel(future)
            else:
                self._cancel(future)

    def interrupt(self) -> None:
        """Accept no more calls, and let all that there are be cancelled soon."""
        if not self._is_foreign():
            self._lifecycle.closed = True
            self._jobs.poller.call(self._cancel_everything)

    def _cancel_everything(self) -> None:
        for future in self._living_futures():
            self._cancel(future)
        self._machine.end()

    def close(self) -> None:
        """Accept no more calls."""
        if not self._is_foreign():
            self._lifecycle.closed = True
            self._machine.close()

    def _is_foreign(self) -> bool:
        """Whether this is a forked child: jobs, files and locks are the parent's."""
        return os.getpid() != self._pid

    def own(self) -> object:
        """Return what lives as long as a program can submit; its end is noted."""
        owner = _Owner()
        weakref.finalize(owner, self.release)
        return owner

    def release(self) -> None:
        """Hear that the last executor was dropped: no more calls will come.

        Called by the garbage collector, whatever this thread is doing: it only sets a
        flag, which the poller sees with its next look.
        """
        self._lifecycle.closed = True

    @property
    def is_idle(self) -> bool:
        """Whether all futures are done and all cancels sent."""
        return self._is_foreign() or self._group.is_idle()

    def wait(self) -> None:
        """Wait until all futures are done and all cancels sent."""
        if not self._is_foreign():
            self._group.wait()

    def join(self) -> None:
        """Wait until all futures are done and all cancels sent, then clean up.

        Called by one of our own threads (a callback shuts its executor down), it waits
        for the others only.
        """
        if not self._is_foreign():
            self._group.join()
            self._jobs.poller.call(self.writer.clean)
            self._group.join()

    def stop(self, error: SlurmFuturesError) -> None:
        """End all jobs now; every open future fails with the error."""
        if not self._is_foreign():
            self.close()
            self._fail_all(error)

    def _fail_all(self, error: SlurmFuturesError) -> None:
        """Fail all that waits or runs, wherever it is, and what comes later."""
        self._lifecycle.stopped = error
        self._machine.stop(error)


class _Owner:
    """Lives as long as a program can submit."""
