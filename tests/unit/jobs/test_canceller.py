"""Cancels: gathered, tried again, and in the end told to the user."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from slurm_futures.errors import SchedulerError
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.schedulers.base import JobId
from tests.unit.fakes import SHORT, FakeScheduler, make_job
from tests.waiting import assert_soon


class _Refusing(FakeScheduler):
    """Refuses cancels as long as `refuses` is set."""

    refuses = False

    def cancel(self, jobs: Collection[JobId]) -> None:
        """Note the attempt, which may fail."""
        super().cancel(jobs)
        if self.refuses:
            raise SchedulerError("scancel failed")


@pytest.fixture
def group() -> ThreadGroup:
    """Give a group that counts the thread."""
    return ThreadGroup()


def make_jobs(*job_ids: JobId) -> list[Job]:
    """Return jobs of which only the ids matter."""
    return [replace(make_job(), job_id=each) for each in job_ids]


#: No more calls will come: cancels have so much patience and no more.
CLOSED = Lifecycle(closed=True)


@pytest.fixture
def scheduler() -> _Refusing:
    """Give a scheduler that refuses as the test says."""
    return _Refusing()


def test_cancels_that_come_together_go_together(
    scheduler: _Refusing, group: ThreadGroup
) -> None:
    """In one request: those that come before it, and those that come while it runs."""
    timing = replace(SHORT, cancel_pause=0.5)
    cancels = Canceller(scheduler, timing, Lifecycle(), group)
    for number in range(50):
        cancels.cancel(make_jobs(JobId(number)))
    group.join()

    assert len(scheduler.cancelled) <= 2  # two, if this thread is slow
    sent = [each for request in scheduler.cancelled for each in request]
    assert sent == [JobId(number) for number in range(50)]


def test_a_refused_cancel_holds_no_other_one_up(
    scheduler: _Refusing, group: ThreadGroup
) -> None:
    """It is tried again together with those that have come since."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, SHORT, Lifecycle(), group)
    cancels.cancel(make_jobs(JobId(1)))
    assert_soon(lambda: bool(scheduler.cancelled))
    cancels.cancel(make_jobs(JobId(2)))

    assert_soon(lambda: set(scheduler.cancelled[-1]) == {JobId(1), JobId(2)})
    scheduler.refuses = False
    group.join()
    attempts = len(scheduler.cancelled)
    group.join()
    assert len(scheduler.cancelled) == attempts


def test_a_cancel_is_given_up_in_the_end(
    scheduler: _Refusing,
    group: ThreadGroup,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says what to type."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, replace(SHORT, cancel_patience=0.05), CLOSED, group)
    cancels.cancel(make_jobs(JobId(7, 3), JobId(8)))
    group.join()

    assert "these jobs may still run: scancel 7_3 8" in caplog.text
    assert len(scheduler.cancelled) > 1


def test_no_cancel_is_given_up_while_the_executor_lives(
    scheduler: _Refusing, group: ThreadGroup
) -> None:
    """Slurmctld may be away for longer than anybody's patience."""
    scheduler.refuses = True
    lifecycle = Lifecycle()
    times = replace(SHORT, cancel_patience=0.0)
    cancels = Canceller(scheduler, times, lifecycle, group)
    (job,) = make_jobs(JobId(1))
    cancels.cancel([job])

    assert_soon(lambda: len(scheduler.cancelled) > 5)
    assert job.cancelled_at is None
    scheduler.refuses = False
    group.join()
    assert job.cancelled_at is not None


def test_a_cancel_that_fails_late_is_tried_again(
    scheduler: _Refusing, group: ThreadGroup
) -> None:
    """A scancel may need longer to fail than others are tried for."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, replace(SHORT, cancel_patience=0.0), CLOSED, group)
    cancels.cancel(make_jobs(JobId(1)))
    group.join()

    assert scheduler.cancelled == [[JobId(1)]] * 2
