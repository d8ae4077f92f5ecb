"""Cancels: gathered, tried again, and in the end told to the user."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from slurm_futures.errors import SchedulerError
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.schedulers.base import JobId
from tests.unit.fakes import SHORT, FakeScheduler
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
def scheduler() -> _Refusing:
    """Give a scheduler that refuses as the test says."""
    return _Refusing()


def test_cancels_that_come_together_go_together(scheduler: _Refusing) -> None:
    """In one request."""
    cancels = Canceller(scheduler, SHORT)
    for number in range(5):
        cancels.put([JobId(number)])
    cancels.join()

    assert scheduler.cancelled == [[JobId(number) for number in range(5)]]


def test_a_refused_cancel_holds_no_other_one_up(scheduler: _Refusing) -> None:
    """It is tried again together with those that have come since."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, SHORT)
    cancels.put([JobId(1)])
    assert_soon(lambda: bool(scheduler.cancelled))
    cancels.put([JobId(2)])

    assert_soon(lambda: set(scheduler.cancelled[-1]) == {JobId(1), JobId(2)})
    scheduler.refuses = False
    cancels.join()
    attempts = len(scheduler.cancelled)
    cancels.join()
    assert len(scheduler.cancelled) == attempts


def test_a_cancel_is_given_up_in_the_end(
    scheduler: _Refusing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says what to type."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, replace(SHORT, cancel_patience=0.05))
    cancels.put([JobId(7, 3), JobId(8)])
    cancels.join()

    assert "these jobs may still run: scancel 7_3 8" in caplog.text
    assert len(scheduler.cancelled) > 1


def test_a_cancel_that_fails_late_is_tried_again(scheduler: _Refusing) -> None:
    """A scancel may need longer to fail than others are tried for."""
    scheduler.refuses = True
    cancels = Canceller(scheduler, replace(SHORT, cancel_patience=0.0))
    cancels.put([JobId(1)])
    cancels.join()

    assert scheduler.cancelled == [[JobId(1)]] * 2
