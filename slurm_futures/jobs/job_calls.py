"""The calls of a job of their own: they wait for it, and are settled with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slurm_futures.calls.stored import CallPlace
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.open_calls import OpenCalls
from slurm_futures.jobs.settler import Settler
from slurm_futures.runs.finished import Record


@dataclass(slots=True, eq=False, kw_only=True)
class JobCalls(OpenCalls):
    """Open calls that a job runs; its waiter (`job.Waiter`).

    Attributes:
        settler: settles their future.
        job: which runs them, once there is one.
    """

    settler: Settler
    job: Job | None = None

    @property
    def size(self) -> int:
        """How many calls there are."""
        return len(self.positions)

    @property
    def directory(self) -> Path | None:
        """The job directory: not of another one that runs calls of the same future."""
        return None if self.job is None else self.job.directory.path

    def is_wanted(self) -> bool:
        """Whether the future still waits."""
        return not self.future.done()

    def note_job(self, job: Job) -> None:
        """Let the future know its job."""
        self.job = job
        self.calls = job.submission.calls
        self.index = job.index
        self.future._place = CallPlace(self.calls, self.index, 0)
        self.future._add_job(job)

    def release(self) -> None:
        """Note that the job is over."""
        if self.job is not None:
            self.job.closed = True

    def deliver(self, records: Iterable[Record]) -> tuple[list[int], bool]:
        """Settle what these outcomes tell."""
        return self.settler.deliver(self, records)

    def break_off(
        self, missing: list[int], error: SlurmFuturesError, *, began: bool
    ) -> None:
        """End the calls that have no outcome, or let them run again."""
        self.settler.break_off(self, missing, error, began=began)

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail the calls for good."""
        self.settler.fail(self, range(self.size), error)
