"""The thread that sends cancels to the scheduler, many in one request."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slurm_futures.errors import SchedulerError
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.threads import Courier, ThreadGroup
from slurm_futures.jobs.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_futures.schedulers.base import JobId, Scheduler

logger = logging.getLogger("slurm_futures")

#: A scancel may take longer than that until it fails: it is tried so often at least.
_LEAST_TRIES = 2


@dataclass(frozen=True, slots=True)
class _Cancel:
    job_id: JobId
    deadline: float
    tries: int = 0

    def is_over(self, now: float) -> bool:
        """Whether it is given up."""
        return self.deadline < now and self.tries >= _LEAST_TRIES


class Canceller:
    """Cancels jobs; what fails is tried again together with what comes later.

    Args:
        scheduler: where the jobs are.
        timing: how long cancels are gathered, and tried.
        group: counts its thread.
    """

    def __init__(
        self, scheduler: Scheduler, timing: Timing, group: ThreadGroup | None = None
    ) -> None:
        self._scheduler = scheduler
        self._timing = timing
        self._backoff = self._timing.shortest_cancel_backoff
        self._courier = Courier(
            self._send, "slurm_futures-canceller", group, timing.cancel_pause
        )

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Let these jobs be cancelled soon, if Slurm may know them."""
        self.put(job.job_id for job in jobs if job.may_exist)

    def put(self, job_ids: Iterable[JobId]) -> None:
        """Let these jobs be cancelled soon; called from any thread."""
        deadline = time.monotonic() + self._timing.cancel_patience
        self._courier.put([_Cancel(job_id, deadline) for job_id in job_ids])

    def _send(self, cancels: list[_Cancel]) -> None:
        job_ids = [each.job_id for each in cancels]
        try:
            self._scheduler.cancel(job_ids)
        except SchedulerError as error:
            logger.info("jobs are not cancelled yet: %s", error)
        else:
            self._backoff = self._timing.shortest_cancel_backoff
            return
        now = time.monotonic()
        cancels = [replace(each, tries=each.tries + 1) for each in cancels]
        late = [str(each.job_id) for each in cancels if each.is_over(now)]
        if late:
            logger.warning("these jobs may still run: scancel %s", " ".join(late))
        time.sleep(self._backoff)
        self._backoff = min(2 * self._backoff, self._timing.longest_cancel_backoff)
        self._courier.put([each for each in cancels if not each.is_over(now)])
