"""What follows from what is known of a job: rules without any I/O.

`judge` is the table of the library's second promise, that each future ends:

    outcome there   squeue says                  verdict
    yes             anything                     settle: the file always wins; if it
                                                 cannot be read: grace, then fail
    no, job died    anything                     fail; after SIGKILL or SIGTERM first
                                                 wait a while for Slurm to say why,
                                                 with requeue=True that it has ended
    no, job died    pending again                wait: that was before a requeue
    no, job told    anything                     fail if Slurm's own log says that it
    to end                                       was cancelled or reached its limit
    no              alive, or an unknown word    wait
    no              ended                        grace for this state, then fail
    no              not listed                   wait
    no              not listed, twice running    grace, then fail, unless scontrol says
                                                 that it is alive

A snapshot says nothing about a job that was submitted after it was asked for. Time
passes in good snapshots only: while squeue fails, every clock stands still. A job
that is alive again (requeued) starts anew.
"""

from __future__ import annotations

import enum

from slurm_futures.errors import JobState
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.submission import Death

#: States of living jobs that squeue 20.11 does not list, whatever its options
#: (`-t all` names all states since 22.05). scontrol shows them.
UNLISTED = frozenset({JobState.STOPPED, JobState.SIGNALING, JobState.STAGE_OUT})
#: Exit codes of what Slurm, or somebody else, has killed.
_SLURMS_EXIT_CODES = frozenset({128 + 9, 128 + 15})  # SIGKILL, SIGTERM


class Verdict(enum.Enum):
    """What to do about a job now."""

    WAIT = enum.auto()
    SETTLE = enum.auto()
    FAIL = enum.auto()


def judge(job: Job, now: float, snapshot_at: float, timing: Timing) -> Verdict:
    """Decide about a job whose outcomes are not all there.

    Args:
        job: what is known of the job.
        now: monotonic seconds.
        snapshot_at: monotonic seconds of the last good snapshot.
        timing: how long to wait for what.
    """
    grace = timing.grace
    if job.published_at is not None:
        late = now - job.published_at > grace
        return Verdict.FAIL if late else Verdict.SETTLE
    if job.death is not None:
        return _judge_dead(job, job.death, now, snapshot_at, timing)
    if job.over_since is None:
        return Verdict.WAIT
    if job.absences > 0:
        patience = grace if job.started else min(grace, timing.never_started_grace)
    else:
        patience = min(grace, timing.state_graces.get(job.state, grace))
    over = snapshot_at - job.over_since >= patience
    return Verdict.FAIL if over else Verdict.WAIT


def _judge_dead(
    job: Job, death: Death, now: float, snapshot_at: float, timing: Timing
) -> Verdict:
    """Decide about a job whose script has seen the worker die."""
    if job.over_since is not None:
        return Verdict.FAIL
    if job.may_run_again:
        waited = snapshot_at - job.death_at >= timing.grace
    elif death.exit_code in _SLURMS_EXIT_CODES:
        waited = now - job.death_at >= timing.cause_wait
    else:
        waited = True
    return Verdict.FAIL if waited else Verdict.WAIT
