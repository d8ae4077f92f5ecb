"""Futures that know their job.

Only the poller settles them, apart from `cancel`, which may come from any thread.
The state that `concurrent.futures` keeps stays PENDING until then: this is what lets
`Future.cancel` work for a call that runs already. `running()` tells what is known of
the job instead.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from slurm_futures.calls.counts import (
    CANCELLED,
    DONE,
    FAILED,
    OPEN,
    CallCounts,
    Fate,
)
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.reducers import refuse_future
from slurm_futures.calls.state import CallerState
from slurm_futures.calls.stored import Call, CallPlace, read_call
from slurm_futures.calls.usage import Usage, now, read_usage
from slurm_futures.calls.waiting import FutureCondition
from slurm_futures.errors import JobState

T = TypeVar("T")


class CancelHearer(Protocol):
    """Who runs the call of a future."""

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """End the call, if it waits or runs; called from any thread.

        It calls `_end_cancel` of the future, in a thread where no signal comes, and
        later `_invoke_callbacks`, if the thread that cancels was interrupted.
        """

    def has_outcome(self, future: SlurmFuture[Any]) -> bool:
        """Whether the call is over, and the future about to hear of it."""


class JobFiles(Protocol):
    """Where a job leaves its files."""

    @property
    def path(self) -> Path:
        """The job directory."""

    def stdout(self) -> str:
        """Return what the job has printed."""

    def stderr(self) -> str:
        """Return what the job has printed to stderr."""


class JobView(Protocol):
    """What a future shows of the job that runs its call; `jobs/job.py` is one."""

    @property
    def job_id(self) -> object:
        """Its id, which prints as squeue does."""

    @property
    def state(self) -> JobState:
        """Slurm's last word."""

    @property
    def started(self) -> bool:
        """Whether it is known to have begun."""

    @property
    def closed(self) -> bool:
        """Whether nobody waits for it any more."""

    @property
    def directory(self) -> JobFiles:
        """Where it leaves its files."""


class SlurmFuture(Future[T], Generic[T]):
    """The result of one call that runs as a Slurm job.

    Args:
        hearer: is told when the future is cancelled; None: nobody runs its call.
    """

    #: How many outcomes the future waits for.
    _size = 1
    #: The name of the function, for people.
    _name = ""

    def __init__(self, hearer: CancelHearer | None = None) -> None:
        super().__init__()
        condition = FutureCondition()
        self._condition, self._wakers = condition, condition.wakers
        self._hearer = hearer
        #: What is known of the job; set by the submitter once the job exists.
        self._job: JobView | None = None
        self._other_jobs: tuple[JobView, ...] = ()
        #: Whether somebody has called `cancel`: then no attempt follows another one.
        self._unwanted = False
        self._waits_again = False
        #: Where its call lies, once it is written.
        self._place: CallPlace | None = None
        #: The state of the caller for the calls, should they be submitted again.
        self._caller: CallerState | None = None
        #: The errors of earlier attempts, by the position of the call (`Retries`).
        self._failures: dict[int, list[BaseException]] = {}
        self._submitted_at = now()
        self._counts: CallCounts | None = None
        self._slot = 0  # there
        #: What the call has used, as its last attempt tells; b"": nothing is known.
        self._usage = b""

    def cancel(self) -> bool:
        """Cancel the call, even if it runs already: its job is sent an scancel.

        Returns:
            False only if the future is done already with a result or an exception, or
            is about to be: one look at the files tells that its call is over.
        """
        if self._state in {"RUNNING", "FINISHED"}:
            return False
        # First: an interrupt may come at any moment, and then who hears of it does all
        # that is left to do.
        hearer = self._hearer
        if hearer is not None and self._state == "PENDING":
            self._unwanted = True
            if hearer.has_outcome(self):
                return False
            hearer.note_cancel(self)
        if not super().cancel():
            return False
        self._note_fate()
        self._invoke_callbacks()  # which is left to do if he was faster
        return True

    def _end_cancel(self) -> bool:
        """Do what is left of `cancel`, but for the callbacks; return what it does.

        Called by who has heard of it.
        """
        with self._condition:
            if self._state == "PENDING":
                self._state = "CANCELLED"
                self._condition.notify_all()
            # Waiters learn of it here: no worker will ever pick this call up.
            if self._state == "CANCELLED":
                super().set_running_or_notify_cancel()
        self._note_fate()
        return self._state != "FINISHED"

    def _count_in(self, counts: CallCounts) -> None:
        """Let its calls be counted there, from now on."""
        self._slot = counts.add()
        self._counts = counts
        if self._fate() is not OPEN:
            self._note_fate()

    def _note_fate(self, outcome: Outcome | None = None) -> None:
        """Let it be counted how the calls stand, or that this is about to end one."""
        if self._counts is not None:
            self._counts.note(self._slot, self._fate(outcome))

    def _fate(self, outcome: Outcome | None = None) -> Fate:
        if self._state == "PENDING":
            if outcome is None:
                return OPEN
            return DONE if outcome.exception is None else FAILED
        if self._state == "FINISHED":
            return DONE if super().exception(0) is None else FAILED
        return CANCELLED

    @property
    def _has_callbacks(self) -> bool:
        """Whether there are callbacks that were not called yet."""
        return bool(self._done_callbacks)  # type: ignore[attr-defined]

    def _cancel_rest(self) -> bool:
        """Settle calls as cancelled that have no outcome; False if none has one."""
        return False

    def _invoke_callbacks(self) -> None:
        """Call each callback once, though two threads may come here after a cancel."""
        callbacks: list[Callable[[SlurmFuture[T]], object]]
        callbacks = self._done_callbacks  # type: ignore[attr-defined]
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                # The words and the logger of concurrent.futures.
                logging.getLogger("concurrent.futures").exception(
                    "exception calling callback for %r", self
                )

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised.

        Raises:
            TimeoutError: it is not done after so many seconds.
            CancelledError: it was cancelled.
        """
        try:
            self._wait(timeout)
            return super().result(0)
        finally:
            # As in the standard library: no cycle of exception, frame and future.
            self = None  # type: ignore[assignment]  # noqa: PLW0642

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; the rest is as for `result`."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        """Wait until it is done.

        Raises:
            TimeoutError: it is not in time.
        """
        if not self.done() and not self._wakers.wait(self.done, timeout):
            raise TimeoutError

    def running(self) -> bool:
        """Whether a job is known to have started and the call is not done.

        It is not between two attempts (`Retries`).
        """
        return self._count_running() > 0

    def _count_running(self) -> int:
        """Return how many jobs are known to run its calls, one call each."""
        if self.done() or self._waits_again:
            return 0
        return sum(job.started for job in self._open_jobs())

    def _wait_again(self) -> None:
        """Record that the call waits for a job, though the one that ran it goes on."""
        self._waits_again = True

    def _add_job(self, job: JobView) -> None:
        """Record that calls of this future have become a job; the submitter's part."""
        earlier = self._job
        if earlier is not None and earlier is not job and not earlier.closed:
            self._other_jobs = (*self._other_jobs, earlier)
        self._job = job
        self._waits_again = False

    def _open_jobs(self) -> list[JobView]:
        """Return the jobs that still run or wait for this future."""
        jobs = (*self._other_jobs, self._job)
        return [each for each in jobs if each is not None and not each.closed]

    @property
    def call(self) -> Call:
        """The function and its arguments, read from disk, anew each time.

        Raises:
            FileNotFoundError: the files were removed, as for `stdout`.
            SlurmFuturesError: there is no file yet, or it cannot be read.
            Exception: whatever they raise where they are unpickled.
        """
        return read_call(self._place)

    @property
    def job_id(self) -> str | None:
        """The id as squeue prints it, such as "4211_7"; None before there is a job."""
        return None if self._job is None else str(self._job.job_id)

    @property
    def state(self) -> JobState | None:
        """Slurm's last word on the job; None before there is a job.

        It is as old as the last squeue, up to a minute while nothing changes.
        """
        return None if self._job is None else self._job.state

    @property
    def attempts(self) -> int:
        """How many jobs the call has had, or will have once the next one exists."""
        return 1 + len(self._failures.get(0, ()))

    @property
    def earlier_errors(self) -> tuple[BaseException, ...]:
        """Why the earlier attempts failed, if the executor has `retries`."""
        return tuple(self._failures.get(0, ()))

    @property
    def usage(self) -> Usage | None:
        """What the call has used, in its last attempt.

        None while it is not done, and if it ended without an outcome.
        """
        return read_usage(self._usage, self._submitted_at) if self.done() else None

    @property
    def directory(self) -> Path | None:
        """The job directory; None before there is a job, made when the job starts."""
        return None if self._job is None else self._job.directory.path

    def stdout(self) -> str:
        """Return what the job has printed so far; "" before it has started.

        A long-lived worker prints what all of its calls print.

        Raises:
            FileNotFoundError: the files of the job were removed; with `keep="failed"`
                those of calls that went well are when the executor shuts down.
        """
        return "" if self._job is None else self._check(self._job.directory.stdout())

    def stderr(self) -> str:
        """Return what the job has printed to stderr so far, like `stdout`."""
        return "" if self._job is None else self._check(self._job.directory.stderr())

    def _check(self, text: str) -> str:
        """See that a job that has printed nothing still has its files."""
        if text or self._job is None or not self.done() or not self._has_run():
            return text
        path = self._job.directory.path
        if not path.exists():
            raise FileNotFoundError(
                errno.ENOENT,
                f"what job {self.job_id} has printed was removed with its other files; "
                "read it before the shutdown of the executor, or keep it with "
                'SlurmExecutor(keep="always")',
                str(path),
            )
        return text

    def _has_run(self) -> bool:
        """Whether its last job is known to have begun."""
        returned = not self.cancelled() and super().exception(0) is None
        return returned or (self._job is not None and self._job.started)

    def _settle(self, position: int, outcome: Outcome) -> None:  # noqa: ARG002  (the only one)
        """Record the outcome of a call; called by the poller and the submitter.

        A future that has been cancelled in the meantime stays cancelled.
        """
        self._note_fate(outcome)  # first: callbacks and waiters may look
        try:
            if outcome.exception is None:
                self.set_result(outcome.value)
            else:
                self.set_exception(outcome.exception)
        except InvalidStateError:
            self._note_fate()

    def __reduce__(self) -> NoReturn:
        refuse_future(self)

    def __repr__(self) -> str:
        if self.done():
            word = "cancelled" if self.cancelled() else "finished"
        else:
            word = "running" if self.running() else "pending"
        call = f" call={self._name}" if self._name else ""
        job = "" if self._job is None else f" job={self.job_id}"
        return f"<{type(self).__name__} at {id(self):#x} state={word}{call}{job}>"


class ChunkFuture(SlurmFuture["list[Outcome]"]):
    """The outcomes of several calls of one `map` that share a job, in their order.

    Its result is a list, complete once each call has ended, by whichever job.
    """

    def __init__(self, hearer: CancelHearer | None, size: int) -> None:
        super().__init__(hearer)
        self._size = size
        self._outcomes: list[Outcome | None] = [None] * size
        self._missing = size
        self._settled = [0, 0, 0]  # as in `Fate`

    def _cancel_rest(self) -> bool:
        """Settle calls as cancelled that have no outcome; False if none has one."""
        if self._missing == self._size:
            return False
        for position in range(self._size):
            self._settle(position, Outcome(exception=CancelledError()))
        return True

    def _fate(self, outcome: Outcome | None = None) -> Fate:  # noqa: ARG002  (it is recorded)
        done, failed, cancelled = self._settled
        if self.cancelled():
            cancelled = self._size - done - failed
        return done, failed, cancelled

    def _settle(self, position: int, outcome: Outcome) -> None:
        """Record the outcome of a call; a second one of the same call is dropped."""
        if not self._missing or self._outcomes[position] is not None:
            return
        self._outcomes[position] = outcome
        self._missing -= 1
        if outcome.exception is None:
            self._settled[0] += 1
        else:
            self._settled[1 + isinstance(outcome.exception, CancelledError)] += 1
        self._note_fate()
        if self._missing == 0:
            outcomes, self._outcomes = self._outcomes, []
            with contextlib.suppress(InvalidStateError):
                self.set_result(outcomes)  # type: ignore[arg-type]  # none is missing
