"""The queue of `LocalScheduler`: who waits, who runs, who has ended.

Decisions only, as slurmctld takes them: first come, first served, no backfill. This
module starts nothing and knows no threads: the scheduler holds its lock around each
call. Pending array tasks are ranges of indices, never objects of their own, so that
an array of a million costs what a single job costs.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import TYPE_CHECKING

from slurm_futures.errors import JobState
from slurm_futures.schedulers.base import Ending, JobId, Row
from slurm_futures.schedulers.local.submission import (
    NODE_NAME,
    LocalJob,
    LocalSubmission,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from slurm_futures.schedulers.base import BatchScript


class LocalQueue:
    """All submissions that wait, run, or ended less than `min_job_age` seconds ago."""

    def __init__(self, cpus: int, min_job_age: float = 300.0) -> None:
        self._cpus = self._free_cpus = cpus
        self._min_job_age = min_job_age
        self._numbers = itertools.count(1)
        self._submissions: dict[int, LocalSubmission] = {}
        self._waiting: dict[int, LocalSubmission] = {}  # in order of submission
        self._ended: deque[tuple[float, LocalSubmission, int | None]] = deque()

    def add(self, batch: BatchScript) -> JobId:
        """Put a submission at the end of the queue.

        Raises:
            SubmitError: an option has a value that makes no sense.
        """
        submission = LocalSubmission(next(self._numbers), batch, self._cpus)
        self._submissions[submission.number] = submission
        self._waiting[submission.number] = submission
        return JobId(submission.number)

    def claim(self) -> list[LocalJob]:
        """Take the jobs that can start now; they have their CPUs from here on."""
        claimed = []
        for submission in self._waiting.values():
            while submission.may_start and submission.cpus <= self._free_cpus:
                claimed.append(self._start(submission))
            if submission.may_start:
                break  # it waits for CPUs, and nobody overtakes it
        for job in claimed:
            self._leave_if_started(job.submission)
        return claimed

    def _start(self, submission: LocalSubmission) -> LocalJob:
        index = submission.take_first()
        # As in slurmctld, the last task of an array has the number of the array.
        number = next(self._numbers) if submission.pending else submission.number
        job = LocalJob(submission, index, number)
        self._free_cpus -= submission.cpus
        submission.running[index] = job
        submission.show(index, JobState.RUNNING)
        return job

    def _leave_if_started(self, submission: LocalSubmission) -> None:
        if not submission.pending:
            self._waiting.pop(submission.number, None)

    def stop(self, job: LocalJob, state: JobState) -> bool:
        """Record that a job is to end in this state; False if it ends already."""
        if job.stopping is not None:
            return False
        job.stopping = state
        job.submission.show(job.index, JobState.COMPLETING)
        return True

    def finish(self, job: LocalJob, exit_code: int, signal: int | None) -> None:
        """Record how a job ended, and free its CPUs."""
        state = job.verdict(exit_code, signal)
        del job.submission.running[job.index]
        self._free_cpus += job.submission.cpus
        job.submission.show(job.index, state)
        ending = Ending(state, exit_code, signal, NODE_NAME, job.problem)
        self._remember(job.submission, job.index, ending)

    def set_throttle(self, number: int, limit: int) -> bool:
        """Change the throttle of an array; False if nothing of it waits or runs."""
        submission = self._submissions.get(number)
        if submission is None or submission.over:
            return False
        submission.throttle = limit
        return True

    def cancel(self, jobs: Collection[JobId]) -> list[LocalJob]:
        """Drop what is pending of these jobs; return those that must be stopped."""
        indices: dict[int, set[int | None]] = {}
        for job in jobs:
            indices.setdefault(job.number, set()).add(job.index)
        running = []
        for number in indices.keys() & self._submissions.keys():
            submission = self._submissions[number]
            if submission.pending:
                self._drop_pending(submission, indices[number])
            running += submission.select_running(indices[number])
        return [job for job in running if self.stop(job, JobState.CANCELLED)]

    def _drop_pending(
        self, submission: LocalSubmission, indices: set[int | None]
    ) -> None:
        dropped = submission.drop_pending(indices)
        if not submission.pending:
            # What squeue 22.05 shows: the indices of an array cancelled as a whole,
            # none for one whose last pending tasks were cancelled one by one. Tasks
            # cancelled before the last one leave no record at all.
            del self._waiting[submission.number]
            directory = str(submission.batch.directory)
            submission.rows[None] = Row(JobState.CANCELLED, "", dropped, directory)
            self._remember(submission, None, Ending(JobState.CANCELLED, 0))

    def _remember(
        self, submission: LocalSubmission, index: int | None, ending: Ending
    ) -> None:
        submission.endings[index] = ending
        self._ended.append((time.monotonic(), submission, index))

    def explain(self, jobs: Collection[JobId]) -> dict[JobId, Ending]:
        """How these jobs ended, as far as that is known."""
        endings = {}
        for job in jobs:
            submission = self._submissions.get(job.number)
            if submission and (ending := submission.ending(job.index)):
                endings[job] = ending
        return endings

    def rows(self) -> dict[JobId, tuple[Row, ...]]:
        """What squeue would print."""
        self._forget_old()
        return {
            JobId(number): submission.all_rows()
            for number, submission in self._submissions.items()
        }

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._min_job_age
        while self._ended and self._ended[0][0] <= oldest:
            _, submission, index = self._ended.popleft()
            submission.forget(index)
            if not submission.rows and not submission.pending:
                del self._submissions[submission.number]
