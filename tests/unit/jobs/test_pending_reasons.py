"""Jobs that wait: for how long each of them has."""

from __future__ import annotations

from pathlib import Path

from slurm_futures.errors import JobState
from slurm_futures.jobs.pending_reasons import PendingJobs
from slurm_futures.schedulers.base import Row
from tests.unit.fakes import FakeJobs


def test_time_behind_the_own_array_does_not_count_afterwards(tmp_path: Path) -> None:
    """When a task ends squeue shows another reason for all others of the array."""
    array = FakeJobs(tmp_path, 3)
    pending = PendingJobs(10.0)
    submitted_at = array.opened.jobs[0].submitted_at

    def count_late(after: float, reason: str) -> int:
        directory = str(array.submission.path)
        row = Row(JobState.PENDING, reason, (range(3),), directory)
        array.opened.compare([row], submitted_at + after)
        return len(list(pending.check(array.opened, submitted_at + after)))

    assert count_late(100, "JobArrayTaskLimit") == 0
    assert count_late(105, "Resources") == 0
    assert count_late(112, "Resources") == 3
