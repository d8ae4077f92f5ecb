"""Sees that jobs end that nobody waits for any more, and that Slurm may have still.

That the outcomes of a job are there does not mean that it is over: a thread or an exit
function may keep its process, its slurmstepd may have died, Slurm may start it again
for its exit code, and a scancel may come to nothing. Such jobs keep their places until
they are known to be over.

    what is known of it                          what follows
    its mark: over                               it is over
    no mark for a while, or scancel has done     ask squeue, once
    its work, or its exit code lets it start
    again
    squeue: ended, or not listed                 it is over
    squeue: completing, after a scancel          it is over
    squeue: listed otherwise, after a scancel    scancel once more
    squeue: pending or held                      scancel
    squeue: listed otherwise, for long           scancel
    none of it, long after the executor's end    give it up, and say so

A snapshot counts if it is younger than the end of the calls, or than the scancel. Used
in the poller's thread.
"""

from __future__ import annotations

import logging
import time

from slurm_futures.errors import JobState
from slurm_futures.jobs.canceller import Canceller, give_up
from slurm_futures.jobs.closer import Closer
from slurm_futures.jobs.job import WAITING, Job
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.queue_cache import Subscription
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.submission import Ends

logger = logging.getLogger("slurm_futures")


class LingeringJobs:
    """Sees that they end.

    Args:
        closer: forgets what is over.
        canceller: takes jobs that should end.
        subscription: asks the scheduler about them.
        lifecycle: whether the executor has ended.
        timing: how long to wait for what.
    """

    def __init__(
        self,
        closer: Closer,
        canceller: Canceller,
        subscription: Subscription,
        lifecycle: Lifecycle,
        timing: Timing,
    ) -> None:
        self._closer = closer
        self._canceller = canceller
        self._subscription = subscription
        self._lifecycle = lifecycle
        self._timing = timing
        self._last_since: float | None = None

    def note_marks(self, submission: OpenSubmission, ends: Ends) -> None:
        """Forget the jobs that say themselves that they are over."""
        for index in submission.lingering.keys() & ends.over:
            job = submission.lingering[index]
            job.lingers = False
            if not job.may_linger:
                self._closer.forget(submission, job)
        for index in submission.lingering.keys() & ends.ending:
            # Slurm has ended it: after a scancel that is its last word.
            if submission.lingering[index].cancelled_at is not None:
                self._closer.forget(submission, submission.lingering[index])

    def look(self, submission: OpenSubmission) -> None:
        """Ask the scheduler about jobs without a mark, or give them up."""
        if not submission.lingering:
            return
        now = time.monotonic()
        give_up(self._find_late(submission, now))
        for job in list(submission.lingering.values()):
            if job.is_given_up or not job.may_linger:
                self._closer.forget(submission, job)
            elif not job.is_asked_for and now >= self._ask_at(job):
                job.is_asked_for = True
                self._subscription.ask(0)

    def _find_late(self, submission: OpenSubmission, now: float) -> list[Job]:
        if not self._lifecycle.is_last:
            return []
        self._last_since = self._last_since or now
        since = now - self._timing.cancel_patience
        if self._last_since > since:
            return []
        jobs = submission.lingering.values()
        return [job for job in jobs if not job.is_given_up and job.closed_at < since]

    def _ask_at(self, job: Job) -> float:
        """Return from when on the scheduler can tell whether a job is over."""
        if job.to_cancel:
            return float("inf") if job.cancelled_at is None else job.cancelled_at
        soon = job.may_restart and not job.failed
        pause = 0.0 if soon else self._timing.over_pause
        return job.closed_at + pause

    def note_snapshot(self, submission: OpenSubmission) -> None:
        """Do what follows from a snapshot, with which the jobs have been compared."""
        at = submission.snapshot_at
        again = []
        for job in list(submission.lingering.values()):
            since = job.cancelled_at if job.to_cancel else job.closed_at
            if since is None or at < since:
                continue
            if _is_over(job):
                self._closer.forget(submission, job)
            elif job.to_cancel or job.listed_as in WAITING:
                again.append(job)
            elif at - job.closed_at >= self._timing.linger_patience:
                logger.warning(
                    "job %s is cancelled: it has not ended, %d s after its last call",
                    job.job_id,
                    at - job.closed_at,
                )
                again.append(job)
        self._canceller.cancel(again)
        for job in again:
            job.is_asked_for = False


def _is_over(job: Job) -> bool:
    """Whether the last snapshot says that a job is over, or will be soon."""
    state = job.listed_as
    return (
        state is None or state.ended or (job.to_cancel and state is JobState.COMPLETING)
    )


def is_asked_for(submission: OpenSubmission) -> bool:
    """Whether squeue is to say of a job that it is over, soon."""
    return any(job.is_asked_for for job in submission.lingering.values())
