"""A job for each call: all that makes jobs out of calls, and settles them.

    put --> submitter --> sbatch                      cancel --> canceller --> scancel
                |                                                    ^
                +--> poller --> inspector --> closer --> settler     |
                        +--------------------------------------------+

`Jobs` puts these parts together. `pool.pools.Pools` has the same methods for workers,
which are jobs too: it starts them here, with a waiter of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.awaiting import Awaiting
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.job import Job, JobOrder
from slurm_futures.jobs.job_calls import JobCalls
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.poller import Poller
from slurm_futures.jobs.retries import Retries
from slurm_futures.jobs.settler import Settler
from slurm_futures.jobs.submitter import Submitter
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.writer import Writer
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.sbatch_options import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What `SlurmExecutor` was told of its jobs; it describes the items."""

    max_workers: int | None
    retries: Retries
    timing: Timing


class Jobs:
    """Runs each call, or chunk of a map, as a job of its own.

    Args:
        scheduler: where the jobs run.
        writer: has the files.
        settings: what all jobs have in common.
        lifecycle: how far the end has come.
        group: counts all threads.
        above: hears what points up.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        writer: Writer,
        settings: JobSettings,
        lifecycle: Lifecycle,
        group: ThreadGroup,
        above: Above,
    ) -> None:
        self.writer = writer
        self.lifecycle = lifecycle
        self.group = group
        self.timing = settings.timing
        self.above = above
        self.canceller = Canceller(scheduler, settings.timing, lifecycle, group)
        self.settler = Settler(settings.retries, writer, above, settings.timing.grace)
        self.poller = Poller(
            scheduler,
            self.canceller,
            lifecycle,
            above,
            group,
            settings.timing,
        )
        self.submitter = Submitter(
            scheduler,
            writer,
            self.poller,
            above,
            group,
            settings.timing,
            settings.max_workers,
        )
        self.awaiting = Awaiting(self.poller, above)

    # From any thread; the thread of a caller may be interrupted at any moment.

    def put(self, kind: Kind, label: str, requests: list[JobRequest]) -> None:
        """Let these requests become jobs."""
        self.start(
            kind,
            label,
            [
                JobOrder(
                    JobCalls(
                        each.future,
                        each.positions,
                        kind,
                        label,
                        settler=self.settler,
                    ),
                    each.calls,
                )
                for each in requests
            ],
        )

    def start(self, kind: Kind, label: str, orders: list[JobOrder]) -> None:
        """Let these orders become jobs, whoever waits for them."""
        self.submitter.put(kind, label, orders)
        self.poller.attend(self.submitter)
        self.poller.attend(self.settler.unread)
        if self.lifecycle.stopped is not None:  # maybe while these were on their way
            self.poller.stop(self.lifecycle.stopped)

    def hold_back(self, future: SlurmFuture[Any]) -> None:
        """Hear that the calls of a future should not begin: here jobs are sent."""

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all that waits or runs, and cancel the jobs."""
        self.poller.attend(self.submitter)
        self.poller.stop(error)

    def close(self) -> None:
        """Hear that no more calls will come."""

    # The poller's thread.

    def cancel(self, future: SlurmFuture[Any]) -> None:
        """Cancel the jobs of a future that was cancelled."""
        for job in future._open_jobs():
            if isinstance(job, Job):
                self.poller.cancel(job)

    def has_outcome(self, future: SlurmFuture[Any]) -> bool:
        """Whether all calls of a future are over, as their files say."""
        jobs = [job for job in future._open_jobs() if isinstance(job, Job)]
        return bool(jobs) and all(
            job.submission.finished.has(job.index) for job in jobs
        )

    def withdraw(self, future: SlurmFuture[Any]) -> bool:
        """Say whether a call of the future runs already."""
        return future.running()

    def note_over(self, submission: OpenSubmission) -> None:
        """Let others have the place of a job that is over."""
        if not submission.is_open:
            self.writer.note_over(submission.directory)
        self.submitter.note_over(submission)

    def note_full(self) -> None:
        """Wait: a place is free when a job is over."""

    def end(self) -> None:
        """End jobs that have no call; here there are none."""
