"""The thread that settles futures: look, decide, act.

    inbox  ----+
    files  ----+--> look --> judge --> act: settle futures, cancel, explain, resubmit
    queue  ----+

Rules:
- Only this thread settles futures of jobs, and it holds no lock while it does: the
  callbacks of a future may submit.
- What one submission does never ends the loop. If the thread ends all the same, every
  open future fails with the cause.
- Nothing here waits for a command of the scheduler: snapshots and explanations arrive
  in the inbox, from threads of their own.
- The thread exists only while a future is open, or a job that should be over.

`look_pace.py` says when to look, `inspector.py` looks at submissions and decides.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from slurm_futures.errors import SlurmFuturesError, words_of
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.closer import Closer
from slurm_futures.jobs.explainer import Explained, Explainer
from slurm_futures.jobs.inspector import Inspector
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.lingering import LingeringJobs, is_asked_for
from slurm_futures.jobs.look_pace import LookPace
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.pending_reasons import PendingJobs
from slurm_futures.jobs.queue_cache import Subscription
from slurm_futures.jobs.threads import ThreadGroup, WorkThread
from slurm_futures.jobs.timing import Timing
from slurm_futures.schedulers.base import Ending, Scheduler, Snapshot

logger = logging.getLogger("slurm_futures")


class Watched(Protocol):
    """What the poller attends to besides submissions.

    The queue of a pool, and the submitter: its calls may be cancelled, too.
    """

    @property
    def is_open(self) -> bool:
        """Whether futures wait."""

    def look(self) -> bool:
        """Settle what is over; return whether there was any."""

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail all that is open; what comes later has another queue."""

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all that is open, since the executor was stopped."""


@dataclass(frozen=True, slots=True)
class _Watch:
    watched: Watched


@dataclass(frozen=True, slots=True)
class _Call:
    functions: list[Callable[[], object]]

    def run(self) -> None:
        """Call the function, once, though two threads may come to it."""
        with contextlib.suppress(IndexError):
            _run_guarded(self.functions.pop())


_Message = (
    OpenSubmission
    | Job
    | Snapshot
    | Explained
    | SlurmFuturesError
    | _Watch
    | _Call
    | None
)


class Poller:
    """Watches the jobs of one executor until each of their calls has an outcome.

    Args:
        scheduler: where the jobs run.
        canceller: takes jobs that should end.
        lifecycle: whether all that is open, or comes, fails.
        above: hears when jobs are over.
        group: counts its threads.
        timing: when to look, and how long to wait for what.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        canceller: Canceller,
        lifecycle: Lifecycle,
        above: Above,
        group: ThreadGroup,
        timing: Timing,
    ) -> None:
        self._canceller = canceller
        self._lifecycle = lifecycle
        self._closer = Closer(timing.grace, above)
        self._pending = PendingJobs(timing.pending_timeout)
        self._thread: WorkThread[_Message] = WorkThread(
            self._run, "slurm_futures-poller", group
        )
        self._inbox = self._thread.inbox
        self._subscription = Subscription(scheduler, self._inbox, timing)
        self._explainer = Explainer(scheduler, self._inbox, timing, group)
        # From here on: state of the thread.
        self._open: list[OpenSubmission] = []
        self._watched: list[Watched] = []
        self._cancelled: list[Job] = []
        self._pace = LookPace(timing)
        self._lingering = LingeringJobs(
            self._closer, canceller, self._subscription, lifecycle, timing
        )
        self._inspector = Inspector(
            self._closer,
            self._pace,
            timing,
            self._canceller,
            self._subscription,
            self._explainer,
            self._lingering,
        )

    def watch(self, submission: OpenSubmission) -> None:
        """Begin to watch a submission; called from the submitter's thread.

        If no thread can be started, that one becomes the poller's when it is done.
        """
        self._thread.put(submission)

    def watch_queue(self, watched: Watched) -> None:
        """Begin to look at a queue, or go on with it; called from any thread.

        Raises:
            RuntimeError: no thread can be started.
        """
        if not self._thread.put(_Watch(watched)):
            raise RuntimeError("can't start new thread")

    def attend(self, watched: Watched) -> None:
        """See that there is a thread while this is open; called from any thread."""
        if watched not in self._watched:
            self._inbox.put(_Watch(watched))
        self._thread.start()

    def wake(self) -> None:
        """See whether the thread is still of use; called from any thread."""
        self._thread.put(None)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the poller's thread soon; called from any thread."""
        call = _Call([function])
        if not self._thread.put(call):
            call.run()  # nobody else does anything

    def call_if_open(self, function: Callable[[], object]) -> None:
        """Do the same for a future that is open, so that the thread is there already.

        It starts nothing: it may come while garbage is collected, at any moment.
        """
        self._inbox.put(_Call([function]))

    def cancel(self, job: Job) -> None:
        """Cancel a job that nobody waits for, and watch it no more.

        Called from any thread. A job that is open has the thread already, or `watch`
        will start it.
        """
        self._inbox.put(job)

    def stop(self, error: SlurmFuturesError) -> None:
        """Cancel all jobs and fail their futures; called from any thread."""
        if not self._thread.put(error):
            self._stop(error)

    # The thread.

    def _run(self) -> None:
        try:
            self._pace.note_news()
            while self._stay():
                self._receive(self._pace.delay())
                self._look()
        except BaseException as error:
            logger.exception("the poller met an error that should not happen")
            self._fail_everything(error)
            self._subscription.drop()
            raise

    def _stay(self) -> bool:
        """Whether there is something to watch; if not, the thread is over."""
        watched = any(each.is_open for each in self._watched)
        if self._open or watched or not self._inbox.empty():
            return True
        self._subscription.drop()
        return False

    def _receive(self, timeout: float) -> None:
        """Handle what is in the inbox; wait for something to be there."""
        with contextlib.suppress(queue.Empty):
            self._handle(self._inbox.get(timeout=timeout))
            while True:
                self._handle(self._inbox.get_nowait())
        self._forget_cancelled()

    def _handle(self, message: _Message) -> None:
        match message:
            case OpenSubmission():
                self._open.append(message)
                # What was cancelled before it was known here.
                self._cancelled += message.unwanted()
                self._pace.expect_change()
                self._subscription.ask_later()
                if self._lifecycle.stopped is not None:
                    self._stop(self._lifecycle.stopped)
            case Job():
                self._cancelled.append(message)
            case Snapshot():
                self._absorb(message)
            case Explained():
                self._fail_explained(message)
            case SlurmFuturesError():
                self._stop(message)
            case _Watch():
                self._pace.note_news()
                if message.watched not in self._watched:
                    self._watched.append(message.watched)
                if self._lifecycle.stopped is not None:
                    message.watched.stop(self._lifecycle.stopped)
            case _Call():
                message.run()
            case None:
                pass

    def _forget_cancelled(self) -> None:
        """Cancel the jobs of futures that were cancelled, all in one go."""
        if not self._cancelled:
            return
        cancelled, self._cancelled = self._cancelled, []
        submissions = {
            submission.directory.path: submission for submission in self._open
        }
        found = []
        for job in cancelled:
            submission = submissions.get(job.submission.path)
            if submission is not None and submission.jobs.get(job.index) is job:
                found.append((submission, job))
        self._canceller.cancel([job for _, job in found])
        for submission, job in found:
            self._closer.close(submission, job)
        self._sweep()

    def _sweep(self) -> None:
        self._open = [submission for submission in self._open if submission.is_open]

    # Look.

    def _look(self) -> None:
        look_at = partial(
            self._inspector.look_at, look_at_started=self._pace.begin_look()
        )
        for submission in self._open:
            self._guard(submission, look_at)
            self._guard(submission, self._lingering.look)
        self._pace.end_look()
        self._subscription.cache.revive()
        self._sweep()
        for watched in self._watched:
            self._look_at_queue(watched)

    def _look_at_queue(self, watched: Watched) -> None:
        try:
            if watched.look():
                self._pace.note_news()
        except OSError as error:
            logger.debug("%s", error)
        except Exception as error:
            logger.exception("an error that should not happen in a queue")
            _run_guarded(partial(watched.fail, _internal_error(error)))

    def _guard(
        self, submission: OpenSubmission, act: Callable[[OpenSubmission], None]
    ) -> None:
        """Do something with a submission such that no other one suffers from it."""
        try:
            act(submission)
        except OSError as error:
            # No news: the directory cannot be read now, or no file can be opened.
            logger.debug("job %s: %s", submission.job_id, error)
        except Exception as error:
            logger.exception(
                "job %s: an error that should not happen", submission.job_id
            )
            self._abandon(submission, error)

    def _absorb(self, snapshot: Snapshot) -> None:
        """Take in what a snapshot says about each open job."""
        news: list[bool] = []

        def compare(submission: OpenSubmission) -> None:
            rows = snapshot.jobs.get(submission.job_id, ())
            news.append(submission.compare(rows, snapshot.started_at))
            self._lingering.note_snapshot(submission)
            self._end_late(submission, snapshot.started_at)

        for submission in self._open:
            if submission.job_id.cluster not in snapshot.silent:
                self._guard(submission, compare)
        self._sweep()
        are_asked_for = any(map(is_asked_for, self._open))
        self._pace.note_answer(changed=any(news) or are_asked_for)
        self._subscription.ask_later(self._pace.query_factor)

    def _end_late(self, submission: OpenSubmission, now: float) -> None:
        """Cancel jobs that have not started in time, and fail their calls."""
        late = list(self._pending.check(submission, now))
        if late:
            self._canceller.cancel([job for job, _ in late])
        for job, error in late:
            self._closer.fail(submission, job, error)

    # Decide and act.

    def _fail_explained(self, explained: Explained) -> None:
        """Fail the calls of jobs that are over, unless news came in the meantime."""
        for submission, job in explained.jobs:
            job.being_explained = False
            if job.index in submission.jobs:
                ending = explained.endings.get(job.job_id, Ending())
                bury = partial(self._inspector.bury, job=job, ending=ending)
                self._guard(submission, bury)
        self._sweep()

    def _stop(self, error: SlurmFuturesError) -> None:
        """Fail every open future and cancel its job."""
        for submission in self._open:
            self._canceller.cancel(submission.jobs.values())
            self._closer.fail_all(submission, error)
        self._sweep()
        for watched in self._watched:
            watched.stop(error)

    def _fail_everything(self, error: BaseException) -> None:
        while not self._inbox.empty():
            message = self._inbox.get()
            match message:
                case OpenSubmission():
                    self._open.append(message)
                case _Watch() if message.watched not in self._watched:
                    self._watched.append(message.watched)
                case _Call():
                    message.run()
        for submission in self._open:
            self._abandon(submission, error)
        self._open = []
        for watched in self._watched:
            _run_guarded(partial(watched.fail, _internal_error(error)))

    def _abandon(self, submission: OpenSubmission, error: BaseException) -> None:
        """Fail the calls of a submission for an error of ours, whatever else fails.

        Its jobs are left alone: what they do is not lost, if somebody reads the error.
        """
        failure = _internal_error(error, submission)
        submission.forget_all()
        try:
            self._closer.fail_all(submission, failure)
            submission.forget_all()
            self._closer.note_over(submission)
        except Exception:
            logger.exception("job %s: its calls fail the plain way", submission.job_id)
            for job in list(submission.jobs.values()):
                waiter = job.waiter
                submission.close(job.index)
                if waiter is not None:
                    waiter.fail(failure)


def _run_guarded(function: Callable[[], object]) -> None:
    """Call a function that may settle futures, whose callbacks may raise anything."""
    try:
        function()
    except BaseException:
        logger.exception("an error that should not happen in %r", function)


def _internal_error(
    error: BaseException, submission: OpenSubmission | None = None
) -> SlurmFuturesError:
    jobs = "Its jobs may still run."
    if submission is not None:
        jobs = (
            f"The job may still run: 'scancel {submission.job_id}' ends it, and what "
            f"it leaves is in {submission.directory.path}."
        )
    failure = SlurmFuturesError(
        f"slurm_futures met an error that should not happen.\nIt was "
        f"{type(error).__name__}: {words_of(error)}. {jobs}\nPlease report it with its "
        "traceback."
    )
    failure.__cause__ = error
    return failure
