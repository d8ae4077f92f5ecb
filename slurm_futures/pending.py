"""Jobs that wait: which reasons never go away by themselves, and what to type then.

Rules only: the poller asks them with every snapshot.
"""

from __future__ import annotations

import re

from slurm_futures.errors import PendingTimeout
from slurm_futures.schedulers.base import JobState

#: Reasons of squeue with which a job waits until somebody acts, and the advice. The
#: first pattern that matches counts. ReqNodeNotAvail and the like often pass: they are
#: here since sometimes they do not, and a wait is only told of, never ended.
_STUCK: tuple[tuple[str, str], ...] = (
    ("PartitionTimeLimit", 'ask for less time, SlurmExecutor(time="...")'),
    (
        "PartitionNodeLimit|PartitionConfig|BadConstraints|FrontEndDown",
        "no node of the partition has what the job asks for; compare with "
        "'scontrol show partition' and 'sinfo -Nel'",
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
    ("JobHeldUser|JobHeldAdmin", "it is held; 'scontrol release {job}' lets it go on"),
    (
        "PartitionDown|PartitionInactive|NodeDown|ReqNodeNotAvail|ReservationDeleted",
        "what it needs is out of service; 'sinfo -R' tells more",
    ),
)


def find_advice(reason: str, job: str) -> str | None:
    """Return what to do about a job that waits for this reason; None: just wait."""
    for pattern, advice in _STUCK:
        if re.match(pattern, reason):
            return advice.format(job=job)
    return None


def is_own_turn(reason: str) -> bool:
    """Whether a job waits for other jobs of its own array."""
    return reason == "JobArrayTaskLimit"


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
