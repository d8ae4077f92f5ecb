"""Ends of jobs: read what they left, or find out why they left nothing.

Used in the poller's thread. What becomes of the calls is the settler's part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from slurm_futures.errors import (
    JobFailed,
    JobState,
    OutcomeNotReadable,
    SlurmFuturesError,
)
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.diagnosis import Remains, diagnose
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.settler import first_line
from slurm_futures.runs.files import ForeignFileError
from slurm_futures.runs.finished import are_complete
from slurm_futures.schedulers.base import Ending
from slurm_futures.schedulers.sbatch_options import SbatchOptions

logger = logging.getLogger("slurm_futures")


class Closer:
    """Ends jobs, one way or the other.

    Args:
        grace: seconds that are waited for files, for the messages.
        above: hears when a job is over and nothing is to be done for it any more.
    """

    def __init__(self, grace: float, above: Above) -> None:
        self._grace = grace
        self._above = above

    def withdraw(self, job: Job) -> None:
        """See that a job that lives on where Slurm cannot see it begins no more calls.

        When it is buried, WITHDRAWAL_PAUSE later, it can have begun none of those that
        it had not begun now but the first one, which fails.

        Raises:
            OSError: that cannot be done now.
        """
        if may_live_on(job):
            job.withdrawn = True
            job.submission.finished.withdraw(job.index)

    def restore(self, job: Job) -> None:
        """Let a job go on that was withdrawn, and is alive all the same.

        It may have noticed. Then its outcomes say which calls it did not begin.
        """
        if job.withdrawn:
            try:
                job.submission.finished.restore(job.index)
                job.withdrawn = False
            except OSError as error:
                logger.info("job %s cannot be told to go on: %s", job.job_id, error)

    def deliver(self, submission: OpenSubmission, job: Job) -> None:
        """Settle the calls of a job, if it has published all their outcomes.

        Raises:
            OSError: the outcomes cannot be read now.
        """
        outcomes = job.submission.finished
        try:
            records, job.lingers = outcomes.read_ended(job.index)
        except ForeignFileError as error:
            refused = OutcomeNotReadable(f"The outcome is refused: {error}.")
            self.fail(submission, job, refused)
            return
        waiter = job.waiter
        if waiter is None:
            return
        if not are_complete(records, waiter.size):
            job.problem = f"{outcomes.file(job.index)} is cut short or damaged"
            return
        _, failed = waiter.deliver(records)
        job.state = JobState.FAILED if failed else JobState.COMPLETED
        job.failed = job.may_restart = failed  # till more is known: see `Explainer`
        logger.debug("job %s: %s", job.job_id, job.state.name)
        self.close(submission, job)

    def bury(self, submission: OpenSubmission, job: Job, ending: Ending) -> None:
        """End a job that is over: what it has left counts, what is missing fails.

        Raises:
            OSError: the directory cannot be read now; nothing has been done.
        """
        outcomes = job.submission.finished
        if may_live_on(job) and outcomes.withdraw(job.index):
            raise OSError(f"an attempt at job {job.job_id} has just begun")
        left = outcomes.read_left(job.index)
        remains = remains_of(
            job,
            ending,
            submission.kind.options,
            listed=submission.listed,
            grace=self._grace,
        )
        waiter = job.waiter
        if waiter is None:
            return
        missing, _ = waiter.deliver(left)
        if missing:
            error = diagnose(remains)
            self._note(job, error)
            began = remains.started and not remains.words
            waiter.break_off(missing, error, began=began)
        self.close(submission, job)

    def fail(
        self, submission: OpenSubmission, job: Job, error: SlurmFuturesError
    ) -> None:
        """Fail all calls of a job that have no outcome."""
        if job.index not in submission.jobs or job.waiter is None:
            return
        self._note(job, error)
        job.waiter.fail(error)
        self.close(submission, job)

    def fail_all(self, submission: OpenSubmission, error: SlurmFuturesError) -> None:
        """Fail all calls of a submission that are open."""
        for job in list(submission.jobs.values()):
            self.fail(submission, job, error)

    def close(self, submission: OpenSubmission, job: Job) -> None:
        """Wait no more for a job."""
        submission.close(job.index)
        self.note_over(submission)

    def forget(self, submission: OpenSubmission, job: Job) -> None:
        """Forget a job that nobody waits for, since it is over."""
        submission.forget(job.index)
        self.note_over(submission)

    def note_over(self, submission: OpenSubmission) -> None:
        """Tell that a job is over, and with the last one the submission."""
        self._above.note_over(submission)

    def _note(self, job: Job, error: SlurmFuturesError) -> None:
        if isinstance(error, JobFailed) and error.state is not None:
            job.state = error.state
        logger.info("job %s: %s", job.job_id, first_line(error))


def remains_of(
    job: Job,
    ending: Ending,
    options: SbatchOptions | Mapping[str, Any],
    *,
    listed: bool,
    grace: float = 0.0,
) -> Remains:
    """Return what is known of a job that left no outcome for a call."""
    exists = job.directory.exists()
    return Remains(
        job_id=str(job.job_id),
        # Of a job that is not listed any more, only how it ended is still true.
        state=job.state if job.absences == 0 or job.state.ended else None,
        published=job.published_at is not None,
        death=job.death,
        ending=ending,
        started=exists or job.left_mark,
        worker_started=exists,
        array_listed=listed,
        node=job.directory.node() if exists else None,
        log=job.submission.read_log(str(job.job_id)),
        stderr_tail=job.directory.stderr_tail() if exists else "",
        directory=job.directory.path,
        time_limit=options.get("time"),
        memory=options.get("mem"),
        grace=grace,
        problem=job.problem,
    )


def may_live_on(job: Job) -> bool:
    """Whether a job that is given up has calls that it could still begin."""
    size = 0 if job.waiter is None else job.waiter.size
    return size > 1 and not job.left_mark
