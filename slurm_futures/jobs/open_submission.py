"""A submission with jobs that are not over, and what a snapshot says about it.

No I/O, no threads: the poller owns the objects, and decides what follows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from slurm_futures.errors import JobState
from slurm_futures.jobs.job import WAITING, Job, JobOrder
from slurm_futures.jobs.outage import Outage
from slurm_futures.node.formats import block_of
from slurm_futures.runs.submission import SubmissionDirectory
from slurm_futures.runs.writer import WrittenSubmission
from slurm_futures.schedulers.base import JobId, Row
from slurm_futures.schedulers.sbatch_options import Kind


@dataclass(slots=True)
class OpenSubmission:
    """The open jobs of one submission. Owned by the poller, but for throttles.

    Attributes:
        kind: what its jobs have in common.
        label: what the jobs are called.
        jobs: the open ones by their index.
        lingering: jobs that nobody waits for, and that Slurm may have still.
        busy: how many of these have begun, and may keep a place.
        throttle: how many of them may run at the same time; None for no limit. Owned
            by the submitter.
        throttle_due: monotonic seconds when it is to be set again, if that has failed.
            Owned by the submitter, too.
        open_blocks: the number of open jobs in each directory of `finished`.
        unstarted: jobs that have not been seen to begin yet.
        notable: jobs of which more is known than that they are pending.
        suspects: jobs that may be over, about which something is to be decided.
        told_to_end: jobs whose script has told that Slurm is ending them.
        listed: whether the last snapshot listed any job of this submission.
        snapshot_at: monotonic seconds of the last good snapshot.
        reasons: why jobs are pending, as the last snapshot said.
        throttled: jobs that waited for others of their array, as the last snapshot said
            that had any.
        throttled_at: monotonic seconds of that snapshot.
        gone_since: monotonic seconds since when its directory is not there any more.
        outage: since when its directory cannot be listed.
    """

    directory: SubmissionDirectory
    job_id: JobId
    kind: Kind
    label: str
    jobs: dict[int, Job]
    throttle: int | None = None
    throttle_due: float | None = None
    lingering: dict[int, Job] = field(default_factory=dict)
    busy: int = 0
    open_blocks: dict[str, int] = field(default_factory=dict)
    unstarted: set[int] = field(default_factory=set)
    notable: set[int] = field(default_factory=set)
    suspects: set[int] = field(default_factory=set)
    told_to_end: set[int] = field(default_factory=set)
    listed: bool = True
    snapshot_at: float = -float("inf")
    reasons: dict[str, list[range]] = field(default_factory=dict)
    throttled: list[range] = field(default_factory=list)
    throttled_at: float = -float("inf")
    gone_since: float | None = None
    outage: Outage = field(default_factory=Outage)

    def __post_init__(self) -> None:
        for job in self.jobs.values():
            self.add(job)

    def add(self, job: Job) -> None:
        """Keep one more job."""
        self.jobs[job.index] = job
        self.unstarted.add(job.index)
        block = block_of(job.index)
        self.open_blocks[block] = self.open_blocks.get(block, 0) + 1

    def unwanted(self) -> list[Job]:
        """Return the jobs that nobody waits for any more."""
        return [job for job in self.jobs.values() if _is_unwanted(job)]

    @property
    def is_open(self) -> bool:
        """Whether there is a job that is waited for, or may be in the queue."""
        return bool(self.jobs or self.lingering)

    @property
    def size(self) -> int:
        """How many jobs wait or run, as far as is known."""
        return len(self.jobs) + self.busy

    def close(self, index: int) -> None:
        """Wait no more for a job, whose calls are all settled."""
        job = self.jobs.pop(index, None)
        if job is None:
            return
        job.closed, job.closed_at = True, time.monotonic()
        # A future knows its job: in a cycle its result would wait for the collector.
        job.waiter = None
        self.unstarted.discard(index)
        self.notable.discard(index)
        self.suspects.discard(index)
        if job.may_linger:
            self.lingering[index] = job
            self.busy += job.started
        else:
            self._leave_block(index)

    def forget(self, index: int) -> None:
        """Note that a job that has lingered is over."""
        self.busy -= self.lingering.pop(index).started
        self._leave_block(index)

    def forget_all(self) -> None:
        """Note that nothing is to be done any more about jobs that linger."""
        for index in list(self.lingering):
            self.forget(index)

    def _leave_block(self, index: int) -> None:
        """Look no more at the block of a job, if that was the last one there."""
        block = block_of(index)
        self.open_blocks[block] -= 1
        if not self.open_blocks[block]:
            del self.open_blocks[block]

    def note_start(self, indices: set[int]) -> None:
        """Record that these jobs have begun."""
        for index in indices & self.unstarted:
            self.jobs[index].note_start()
            self.unstarted.discard(index)
            self.notable.add(index)

    def compare(self, rows: Iterable[Row], at: float) -> bool:
        """Note what a snapshot says about each open job; return whether it is news.

        The cost does not grow with the number of jobs that are pending as before.

        Args:
            rows: the rows of a snapshot with the id of this submission.
            at: monotonic seconds, when the snapshot was asked for.
        """
        self.snapshot_at = at
        # After a loss of its state slurmctld counts from an old id again.
        rows = list(rows)
        self._compare_lingering(rows)
        ours = [row for row in rows if row.is_of(self.directory.path)]
        self.listed = bool(ours)
        self.reasons = {}
        unlisted = set(self.jobs)
        news = False
        for row in ours:
            for indices in row.indices or ():
                listed = unlisted.intersection(indices)
                unlisted -= listed
                news |= self._see(listed, row, at)
                self._note_reason(row, indices)
        # A job that is no array; or all that is left of an array that was cancelled.
        whole = next((row for row in ours if row.indices is None), None)
        if whole is not None:
            self._note_reason(whole, range(len(self.jobs)))
            return self._see(unlisted, whole, at) or news
        for index in unlisted:
            id_taken = bool(rows) and not ours
            news |= self.jobs[index].miss(at, id_taken=id_taken)
            self._note_suspect(index)
        self.notable |= unlisted
        return news

    def _compare_lingering(self, rows: list[Row]) -> None:
        ours = [row for row in rows if row.is_of(self.directory.path)]
        id_taken = bool(rows) and not ours
        for index, job in self.lingering.items():
            found = (
                row
                for row in ours
                if row.indices is None or any(index in each for each in row.indices)
            )
            row = next(found, None)
            job.listed_as = None if row is None else row.state
            job.id_taken = id_taken
            if row is not None and row.state.started and not job.started:
                job.started = True
                self.busy += 1

    def _see(self, indices: set[int], row: Row, at: float) -> bool:
        if row.state is JobState.PENDING:
            indices = indices & self.notable
        news = False
        for index in indices:
            job = self.jobs[index]
            news |= job.see(row.state, at)
            self._note_suspect(index)
            if job.plainly_pending:
                self.notable.discard(index)
            else:
                self.notable.add(index)
        return news

    def _note_suspect(self, index: int) -> None:
        job = self.jobs[index]
        if job.over_since is not None or job.left_mark or job.withdrawn:
            self.suspects.add(index)
        else:
            self.suspects.discard(index)

    def _note_reason(self, row: Row, indices: range) -> None:
        if row.state in WAITING:
            self.reasons.setdefault(row.reason, []).append(indices)


def _is_unwanted(job: Job) -> bool:
    return job.waiter is not None and not job.waiter.is_wanted()


def open_submission(
    kind: Kind,
    label: str,
    written: WrittenSubmission,
    job_id: JobId,
    orders: list[JobOrder],
) -> OpenSubmission:
    """Begin to keep the jobs of a submission that the scheduler has accepted."""
    submitted_at = time.monotonic()
    array = written.batch.array_size is not None
    directory = written.directory
    jobs = {
        index: Job(
            job_id=job_id.task(index) if array else job_id,
            index=index,
            submission=directory,
            waiter=order.waiter,
            submitted_at=submitted_at,
            may_run_again=bool(kind.options.get("requeue")),
        )
        for index, order in enumerate(orders)
    }
    for order, job in zip(orders, jobs.values(), strict=True):
        order.waiter.note_job(job)
    return OpenSubmission(directory, job_id, kind, label, jobs, written.batch.throttle)
