"""How many jobs may run at the same time: `max_workers`, over all open submissions.

An array gets a throttle when it is larger than the places that are free. As the jobs
of other arrays end, throttles are raised.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_futures.jobs.open_submission import OpenSubmission


class Capacity:
    """The open submissions and the places that they take.

    No lock of its own: all methods are called under the submitter's.
    """

    def __init__(self, max_workers: int | None) -> None:
        self._max_workers = max_workers
        self._open: list[OpenSubmission] = []

    def __bool__(self) -> bool:
        """Whether any submission is open."""
        return bool(self._open)

    def add(self, submission: OpenSubmission) -> None:
        """Count the jobs of a submission, which may run."""
        self._open.append(submission)

    def note_over(self, submission: OpenSubmission) -> None:
        """Count a submission no more once its jobs are over."""
        if not submission.is_open and submission in self._open:
            self._open.remove(submission)

    def free(self) -> int | None:
        """Return how many more jobs may run at the same time; None: any number."""
        if self._max_workers is None:
            return None
        return max(0, self._max_workers - sum(map(_workers, self._open)))

    def to_raise(self) -> list[tuple[OpenSubmission, int]]:
        """Return the arrays that may run more jobs at the same time, and how many."""
        free = self.free() or 0
        changes = []
        for each in self._open:
            extra = min(free, each.size - _workers(each))
            if extra > 0 and each.throttle is not None:
                free -= extra
                changes.append((each, each.throttle + extra))
            elif _is_due(each) and each.throttle is not None:
                changes.append((each, each.throttle))
        return changes


def _is_due(submission: OpenSubmission) -> bool:
    """Whether the throttle is to be set again, which failed."""
    due = submission.throttle_due
    return due is not None and time.monotonic() >= due


def _workers(submission: OpenSubmission) -> int:
    """Return how many jobs of a submission may run at the same time."""
    size = submission.size
    return size if submission.throttle is None else min(size, submission.throttle)
