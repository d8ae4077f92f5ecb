"""Asks the scheduler how jobs ended that left no outcome, many at a time."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from slurm_futures.jobs.closer import may_live_on
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.threads import Courier, ThreadGroup
from slurm_futures.jobs.timing import Timing
from slurm_futures.schedulers.base import Ending, JobId, Scheduler

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True)
class Explained:
    """What the scheduler still knew about jobs that are over."""

    endings: dict[JobId, Ending]
    jobs: list[tuple[OpenSubmission, Job]]


class Explainer:
    """Explains ends of jobs, in a thread of its own.

    Args:
        scheduler: is asked.
        inbox: gets an `Explained` for the jobs of each round.
        timing: how long jobs that live on are waited for.
        group: counts the thread.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        inbox: SimpleQueue[Any],
        timing: Timing,
        group: ThreadGroup | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._inbox = inbox
        self._timing = timing
        self._courier = Courier(self._explain, "slurm_futures-explainer", group)

    def put(self, submission: OpenSubmission, job: Job) -> None:
        """Let the end of a job be explained soon; of one that is closed, what follows.

        That is whether Slurm may start it again for its exit code.
        """
        job.being_explained = True
        self._courier.put([(submission, job)])

    def _explain(self, lost: list[tuple[OpenSubmission, Job]]) -> None:
        unclear = [job.job_id for _, job in lost if not (job.closed or _is_clear(job))]
        endings: dict[JobId, Ending] = {}
        if unclear:
            try:
                endings = dict(self._scheduler.explain(unclear))
            except Exception as error:  # noqa: BLE001  (only fewer facts in the error)
                logger.info("nothing more is known of %d jobs: %s", len(unclear), error)
        if any(may_live_on(job) for _, job in lost):
            time.sleep(self._timing.withdrawal_pause)
        for _, job in lost:
            if job.exit_code is not None:
                job.may_restart = self._starts_again(job.exit_code)
        self._inbox.put(Explained(endings, lost))

    def _starts_again(self, exit_code: int) -> bool:
        """Whether Slurm may start a job again that ended with this exit code."""
        try:
            exits = self._scheduler.limits().requeue_exits
        except Exception as error:  # noqa: BLE001  (squeue will tell)
            logger.info("it is not known which jobs are started again: %s", error)
            return False
        return any(exit_code in codes for codes in exits)


def _is_clear(job: Job) -> bool:
    """Whether the job's own mark says all there is to say."""
    return job.left_mark and job.over_since is None
