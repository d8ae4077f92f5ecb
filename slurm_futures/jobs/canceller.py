"""The thread that sends cancels to the scheduler, many in one request.

Whether a job that was cancelled is over is seen to by `lingering.py`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slurm_futures.errors import SchedulerError
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.threads import Courier, ThreadGroup
from slurm_futures.jobs.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_futures.schedulers.base import Scheduler

logger = logging.getLogger("slurm_futures")

#: A scancel may take longer than that until it fails: it is tried so often at least.
_LEAST_TRIES = 2


@dataclass(frozen=True, slots=True)
class _Cancel:
    job: Job
    deadline: float
    tries: int = 0

    def is_over(self, now: float) -> bool:
        """Whether it is given up."""
        return self.deadline < now and self.tries >= _LEAST_TRIES


class Canceller:
    """Cancels jobs; what fails is tried again together with what comes later.

    Args:
        scheduler: where the jobs are.
        timing: how long cancels are gathered, and tried when the executor has ended.
        lifecycle: whether it has; until then nothing is given up.
        group: counts its thread.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        timing: Timing,
        lifecycle: Lifecycle,
        group: ThreadGroup | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._timing = timing
        self._lifecycle = lifecycle
        self._backoff = self._timing.shortest_cancel_backoff
        self._courier = Courier(
            self._send, "slurm_futures-canceller", group, timing.cancel_pause
        )

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Let these jobs be cancelled soon, if Slurm may know them."""
        wanted = [job for job in jobs if job.may_exist]
        for job in wanted:
            job.to_cancel, job.cancelled_at = True, None
        if wanted:
            deadline = time.monotonic() + self._timing.cancel_patience
            self._courier.put([_Cancel(job, deadline) for job in wanted])

    def _send(self, cancels: list[_Cancel]) -> None:
        cancels = [each for each in cancels if each.job.may_exist]
        if not cancels:
            return
        try:
            self._scheduler.cancel([each.job.job_id for each in cancels])
        except SchedulerError as error:
            logger.info("jobs are not cancelled yet: %s", error)
        else:
            self._backoff = self._timing.shortest_cancel_backoff
            for each in cancels:
                each.job.cancelled_at = time.monotonic()
            return
        now = time.monotonic()
        if not self._lifecycle.is_last:
            deadline = now + self._timing.cancel_patience
            cancels = [replace(each, deadline=deadline) for each in cancels]
        cancels = [replace(each, tries=each.tries + 1) for each in cancels]
        give_up([each.job for each in cancels if each.is_over(now)])
        time.sleep(self._backoff)
        self._backoff = min(2 * self._backoff, self._timing.longest_cancel_backoff)
        self._courier.put([each for each in cancels if not each.job.is_given_up])


def give_up(jobs: list[Job]) -> None:
    """Say which jobs could not be ended, and what to type."""
    for job in jobs:
        job.is_given_up = True
    if jobs:
        words = " ".join(str(job.job_id) for job in jobs)
        logger.warning("these jobs may still run: scancel %s", words)
