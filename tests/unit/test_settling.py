"""Calls that end, or are tried again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.unit.fakes import (
    FakeScheduler,
    WatchedPoller,
    error_of,
    make_jobs,
    value_of,
)

pytestmark = pytest.mark.usefixtures("short_times")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment, also that of a note."""


class Silent(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("error", [Frozen(), Silent()], ids=["frozen", "silent"])
def test_exception_that_is_hard_to_tell_of_is_tried_again(
    scheduler: FakeScheduler, tmp_path: Path, error: Exception
) -> None:
    """The last one has a note of the earlier ones; other calls do not suffer."""
    watched = WatchedPoller(scheduler, retries={type(error): 1})
    jobs = make_jobs(tmp_path, scheduler)
    jobs.futures[0].failures[0] = [error]
    watched.poller.watch(jobs.opened)

    jobs.publish(0, error_of(0, error))
    jobs.publish(1, value_of(0, "unharmed"))

    failure = jobs.futures[0].exception(5)
    assert type(failure) is type(error)
    assert failure.__notes__[0].startswith("This was attempt 2.\n  attempt 1: ")
    assert jobs.futures[1].result(5) == "unharmed"
    watched.poller.join()
