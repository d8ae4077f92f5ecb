"""Jobs that wait: which reasons never go away by themselves, and what to type then.

The poller asks with every snapshot. No I/O but a warning, no threads.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slurm_futures.errors import JobState, PendingTimeout

if TYPE_CHECKING:
    from slurm_futures.jobs.job import Job
    from slurm_futures.jobs.open_submission import OpenSubmission
    from slurm_futures.schedulers.base import JobId

logger = logging.getLogger("slurm_futures")

#: Reasons of squeue with which a job waits until somebody acts, and the advice. The
#: first pattern that matches counts. ReqNodeNotAvail and the like often pass: they are
#: here since sometimes they do not, and a wait is only told of, never ended.
_STUCK: tuple[tuple[str, str], ...] = (
    (
        # Two schedulers of slurmctld look at a job, and call the same fact now
        # PartitionConfig and now PartitionTimeLimit.
        "PartitionTimeLimit|PartitionNodeLimit|PartitionConfig|BadConstraints"
        "|FrontEndDown",
        "the partition does not allow so much time, or no node of it has what the job "
        "asks for; compare with 'scontrol show partition' and 'sinfo -Nel', and ask "
        'for less, as with SlurmExecutor(time="...")',
    ),
    (
        "BeginTime",
        "Slurm failed to start it, and tries again every few minutes; why is in the "
        "log of slurmctld, such as a user whom the cluster does not know",
    ),
    (
        "DependencyNeverSatisfied",
        "the job it depends on has failed; cancel the future and submit it again",
    ),
    ("InvalidAccount|AccountNotAllowed", 'choose another SlurmExecutor(account="...")'),
    ("InvalidQOS|QOSNotAllowed", 'choose another SlurmExecutor(qos="...")'),
    (
        r"(QOS|Assoc)(Max|Min)\w*(PerJob|PerNode|WallDuration\w*)|\w+PerJobLimit",
        "ask for less: the limit is on each single job",
    ),
    (
        r"(QOS|Assoc)Grp\w*Minutes\w*|\w*BillingRunMinutes\w*",
        "the budget is used up; 'sshare' shows it",
    ),
    (
        "launch failed requeued held|JobHoldMaxRequeue",
        "a node could not start it; 'scontrol release {job}' lets it try again",
    ),
    (
        "JobHeldUser|JobHeldAdmin|job requeued in held state",
        "it is held; 'scontrol release {job}' lets it go on",
    ),
    (
        "PartitionDown|PartitionInactive|NodeDown|ReqNodeNotAvail|ReservationDeleted"
        "|Nodes required for job are DOWN",
        "what it needs is out of service; 'sinfo -R' tells more",
    ),
)

#: Why a job waits that waits for other jobs of its own array.
_OWN_TURN = "JobArrayTaskLimit"


class PendingJobs:
    """Tells of jobs that wait for nothing, once each, and finds those that are late.

    Args:
        timeout: seconds after which a job that is pending is late; None: never.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._warned: set[tuple[JobId, str]] = set()  # with this advice

    def check(
        self, submission: OpenSubmission, now: float
    ) -> Iterator[tuple[Job, PendingTimeout]]:
        """Yield the jobs that have waited too long, with the error for their calls.

        Args:
            submission: a submission that has been compared with a snapshot.
            now: monotonic seconds of that snapshot.
        """
        if _OWN_TURN in submission.reasons:
            submission.throttled = submission.reasons[_OWN_TURN]
            submission.throttled_at = now
        for reason, ranges in submission.reasons.items():
            if not _is_chosen(reason, submission):
                self._warn(submission.job_id, reason)
            if self._timeout is None or reason == _OWN_TURN:
                continue
            for index in submission.unstarted.intersection(itertools.chain(*ranges)):
                job = submission.jobs[index]
                if now - _waits_since(submission, job) > self._timeout:
                    error = pending_error(str(job.job_id), self._timeout, reason)
                    yield job, error

    def _warn(self, job_id: JobId, reason: str) -> None:
        advice = find_advice(reason, str(job_id))
        if advice is None or (job_id, advice) in self._warned:
            return
        self._warned.add((job_id, advice))
        logger.warning(
            "job %s waits, and may do so for ever (reason %s): %s",
            job_id,
            reason,
            advice,
        )


def find_advice(reason: str, job: str) -> str | None:
    """Return what to do about a job that waits for this reason; None: just wait."""
    for pattern, advice in _STUCK:
        if re.match(pattern, reason):
            return advice.format(job=job)
    return None


def _waits_since(submission: OpenSubmission, job: Job) -> float:
    """Return since when a job waits for something else than its own array."""
    if any(job.index in indices for indices in submission.throttled):
        return max(job.submitted_at, submission.throttled_at)
    return job.submitted_at


def _is_chosen(reason: str, submission: OpenSubmission) -> bool:
    """Whether the options of a job let it wait until some time."""
    options = dict(submission.kind.options.items)
    return reason.startswith("BeginTime") and not options.keys().isdisjoint(
        {"begin", "requeue"}
    )


def pending_error(job: str, seconds: float, reason: str) -> PendingTimeout:
    """Return the error for a call whose job did not start in time."""
    advice = find_advice(reason, job) or (
        "wait longer, SlurmExecutor(pending_timeout=None), or ask for less"
    )
    return PendingTimeout(
        f"job {job} was cancelled, since it was still pending after {seconds:g} s.\n"
        f"Slurm's reason was {reason or 'not known'!r}.\n"
        f"{advice[0].upper()}{advice[1:]}.",
        job_id=job,
        state=JobState.PENDING,
    )
