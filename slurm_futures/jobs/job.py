"""What is known of one job, and who waits for it. Rules only, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from slurm_futures.calls.call import PickledCall
from slurm_futures.errors import JobState, SlurmFuturesError
from slurm_futures.runs.finished import Record
from slurm_futures.runs.job import JobDirectory
from slurm_futures.runs.submission import Death, SubmissionDirectory
from slurm_futures.schedulers.base import JobId

#: squeue must have left a job out so many times running before it counts as gone.
_ABSENCES = 2
#: States of jobs that wait for something; squeue shows what it is.
WAITING = frozenset({JobState.PENDING, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT})


class Waiter(Protocol):
    """Who waits for a job: the calls that it runs, or the pool that it serves.

    What Slurm knows of a job and who waits for it are two objects. Each job has one
    waiter, and tells it once how it ended; in the poller's thread, but for `fail`.
    """

    @property
    def size(self) -> int:
        """How many outcomes the job will leave."""

    def is_wanted(self) -> bool:
        """Whether the job is still of use; asked by the submitter."""

    def note_job(self, job: Job) -> None:
        """Hear that there is a job; the submitter's part."""

    def deliver(self, records: Iterable[Record]) -> tuple[list[int], bool]:
        """Settle what these outcomes tell.

        Returns:
            The numbers of the calls of which they tell nothing, and whether any of the
            others raised.
        """

    def break_off(
        self, missing: list[int], error: SlurmFuturesError, *, began: bool
    ) -> None:
        """Hear that the job is over without these outcomes."""

    def fail(self, error: SlurmFuturesError) -> None:
        """Hear that there will be no outcome: the job never was, or is not waited for.

        Comes from the submitter's thread, too.
        """


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What is to become a job: its calls, and who waits for it."""

    waiter: Waiter
    calls: list[PickledCall]


def fail_orders(orders: Iterable[JobOrder], error: SlurmFuturesError) -> None:
    """Fail what never became jobs."""
    for order in orders:
        order.waiter.fail(error)


@dataclass(slots=True)
class Job:
    """What is known of one open job. Owned by the poller; others only read.

    Attributes:
        waiter: who waits for it; None once it is closed.
        submitted_at: monotonic seconds, when sbatch had returned.
        state: Slurm's last word.
        may_run_again: whether Slurm may start it again when it has died, as the user
            wants.
        started: whether the job directory exists, or squeue has seen the job run.
        absences: how many good snapshots running did not list the job.
        id_taken: whether the last snapshot has another job with this id.
        over_since: monotonic seconds of the first good snapshot that says the job is
            over; None while it may be alive.
        published_at: monotonic seconds when its outcomes were first seen to be there.
        death: what its script wrote when the worker had died.
        death_at: monotonic seconds when that was first seen.
        old_death: that of an attempt before a requeue, which says nothing any more.
        being_explained: whether the scheduler is being asked how the job ended.
        withdrawn: whether the job was told to begin no more calls.
        unreadable_since: monotonic seconds since when it is over, and what it has left
            cannot be read.
        put_off_until: monotonic seconds until which that is not tried again.
        problem: why its outcomes could not be read.
        closed: whether nobody waits for the job any more.
        closed_at: monotonic seconds, since when.
        lingers: whether its process may live on after its outcomes, as these say.
        to_cancel: whether it is to be cancelled, or was.
        cancelled_at: monotonic seconds when scancel had done so; None: not yet.
        listed_as: its state in the last snapshot since then; None: it was not listed.
        failed: whether its worker has ended with exit code 1, after its outcomes.
        may_restart: whether Slurm may start it again for its exit code.
        is_given_up: whether the client has given up to end it.
        is_asked_for: whether the scheduler is asked whether it is over.
    """

    job_id: JobId
    index: int
    submission: SubmissionDirectory
    waiter: Waiter | None
    submitted_at: float
    state: JobState = JobState.PENDING
    may_run_again: bool = False
    started: bool = False
    absences: int = 0
    id_taken: bool = False
    over_since: float | None = None
    published_at: float | None = None
    death: Death | None = None
    death_at: float = 0.0
    old_death: Death | None = None
    being_explained: bool = False
    withdrawn: bool = False
    unreadable_since: float | None = None
    put_off_until: float = -math.inf
    problem: str = ""
    closed: bool = False
    closed_at: float = math.inf
    lingers: bool = False
    to_cancel: bool = False
    cancelled_at: float | None = None
    listed_as: JobState | None = None
    failed: bool = False
    may_restart: bool = False
    is_given_up: bool = False
    is_asked_for: bool = False

    def see(self, state: JobState, at: float) -> bool:
        """Note what a snapshot of this time says; return whether it is news."""
        news = state is not self.state or self.absences > 0
        self.state = state
        self.absences = 0
        self.id_taken = False
        self.started = self.started or state.started
        requeued = WAITING if self.may_run_again else {JobState.PENDING}
        if state in requeued and at > self.death_at:
            self.begin_anew()
        if not state.ended:
            self.over_since = None
            if not self.left_mark:
                self.unreadable_since = None
        elif self.over_since is None:
            self.over_since = at
        return news

    def miss(self, at: float, *, id_taken: bool = False) -> bool:
        """Note that a snapshot does not list the job; return whether it is news."""
        if at < self.submitted_at:
            return False
        self.id_taken = id_taken
        self.absences += 1
        if self.absences >= _ABSENCES and self.over_since is None:
            self.over_since = at
        return True

    def begin_anew(self) -> None:
        """Note that Slurm has requeued the job, if it has died before."""
        if self.death is not None:
            self.old_death, self.death = self.death, None

    def note_start(self) -> None:
        """Note that the job has made its directory."""
        self.started = True
        if self.state is JobState.PENDING:
            self.state = JobState.RUNNING

    @property
    def may_exist(self) -> bool:
        """Whether Slurm may know the job: only then scancel cannot hit another one.

        A slurmctld that has lost its state gives the same ids once more.
        """
        return not self.id_taken and self.absences < _ABSENCES

    @property
    def may_linger(self) -> bool:
        """Whether it may be in the queue still when nobody waits for it any more.

        Mostly a job ends when its outcomes are there, or when Slurm says so.
        """
        expected = self.lingers or self.to_cancel or self.may_restart
        return expected and self.over_since is None

    @property
    def exit_code(self) -> int | None:
        """With what it has ended, if it failed and that is known."""
        return (
            1 if self.failed else None if self.death is None else self.death.exit_code
        )

    @property
    def directory(self) -> JobDirectory:
        """Where the job leaves its files, once it has begun."""
        return self.submission.job(self.index)

    @property
    def plainly_pending(self) -> bool:
        """Whether nothing else is known, and nothing can be decided."""
        return (
            self.state is JobState.PENDING
            and self.over_since is None
            and self.absences == 0
            and not self.left_mark
        )

    @property
    def left_mark(self) -> bool:
        """Whether the job itself says that it is over."""
        return self.published_at is not None or self.death is not None
