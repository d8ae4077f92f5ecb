"""Calls that end, or are tried again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slurm_futures.errors import JobFailed, JobState
from slurm_futures.node import calls_file
from slurm_futures.node.formats import USAGE, USAGE_NUMBERS
from tests.unit.fakes import (
    FakeScheduler,
    WatchedPoller,
    error_of,
    make_jobs,
    value_of,
)
from tests.waiting import assert_soon


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
    jobs.futures[0]._failures[0] = [error]
    watched.watch(jobs)

    jobs.publish(0, error_of(0, error))
    jobs.publish(1, value_of(0, "unharmed"))

    failure = jobs.futures[0].exception(60)
    assert type(failure) is type(error)
    assert failure.__notes__[0].startswith("This was attempt 2.\n  attempt 1: ")
    assert jobs.futures[1].result(60) == "unharmed"
    watched.group.join()


def test_call_that_somebody_wanted_to_cancel_is_not_tried_again(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cancel` has said False, since the outcome was there: so this is the last one."""
    watched = WatchedPoller(scheduler, retries={ConnectionError: 5})
    jobs = make_jobs(tmp_path, scheduler, 1)
    (future,) = jobs.futures
    future._hearer = watched.above
    monkeypatch.setattr(watched.above, "has_outcome", lambda _: True)
    assert not future.cancel()
    watched.watch(jobs)

    jobs.publish(0, error_of(0, ConnectionError("once")))

    assert isinstance(future.exception(60), ConnectionError)
    assert future.attempts == 1
    watched.group.join()


def test_calls_of_a_chunk_that_are_tried_again_become_one_job(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """A job for each of them would be an array that the chunks were to spare."""
    watched = WatchedPoller(scheduler, retries={ConnectionError: 1})
    chunk = make_jobs(tmp_path, scheduler, 1, calls=4)
    watched.watch(chunk)
    down = ConnectionError("the database is down")

    chunk.publish(
        0, error_of(0, down), value_of(1, 1), error_of(2, down), error_of(3, down)
    )

    assert_soon(lambda: watched.above.resubmitted)
    watched.group.join()
    assert watched.above.resubmitted == [[0, 2, 3]]


def test_calls_of_a_lost_chunk_are_tried_again_as_one_job(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Nobody knows which of them has run."""
    watched = WatchedPoller(scheduler, retries=1)
    chunk = make_jobs(tmp_path, scheduler, 1, calls=4)
    chunk.write_outcome(0, "zero")
    scheduler.show(chunk, chunk.row(JobState.COMPLETED))

    watched.watch(chunk)

    assert_soon(lambda: watched.above.resubmitted)
    watched.group.join()
    assert watched.above.resubmitted == [[1, 2, 3]]


def test_call_that_ended_its_job_is_tried_again_alone(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """It may do so again, and those that never began are to run."""
    watched = WatchedPoller(scheduler, retries=1)
    chunk = make_jobs(tmp_path, scheduler, 1, calls=4)
    chunk.write_outcome(0, "zero")
    watched.watch(chunk)

    chunk.die(0, exit_code=3)

    assert_soon(lambda: len(watched.above.resubmitted) == 2)
    watched.group.join()
    assert watched.above.resubmitted == [[1], [2, 3]]


def test_calls_that_cannot_be_read_back_fail(
    watched: WatchedPoller, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """With the name of the file."""
    chunk = make_jobs(tmp_path, scheduler, 1, calls=3)
    chunk.submission.calls.unlink()
    watched.watch(chunk)

    chunk.die(0, exit_code=3)

    first, *others = (each.exception for each in chunk.futures[0].result(60))
    assert type(first) is JobFailed
    assert all(str(chunk.submission.calls) in str(error) for error in others)
    watched.group.join()


def test_calls_that_cannot_be_read_back_now_are_read_later(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Errors of a file system pass; meanwhile one of them may be cancelled."""
    watched = WatchedPoller(scheduler, grace=60, retries=1)
    jobs = make_jobs(tmp_path, scheduler, 2)
    path = jobs.submission.calls
    aside = path.rename(path.with_name("aside"))
    watched.watch(jobs)
    for index in range(2):
        jobs.die(index, exit_code=3)
    assert_soon(lambda: len(watched.settler.unread._calls) == 2)
    assert watched.above.resubmitted == []

    jobs.futures[1].cancel()
    jobs.futures[1]._end_cancel()
    aside.rename(path)

    assert_soon(lambda: watched.above.resubmitted)
    watched.group.join()
    assert watched.above.resubmitted == [[0]]
    assert not jobs.futures[0].done()


def test_time_to_submit_calls_again_grows_with_their_number_only(
    watched: WatchedPoller,
    scheduler: FakeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The calls file is opened once for all of them."""
    submission: list[object] = []
    read_end = calls_file.CallsFile._read_end

    def count(file: calls_file.CallsFile) -> None:
        submission.append(file)
        read_end(file)

    monkeypatch.setattr(calls_file.CallsFile, "_read_end", count)
    chunk = make_jobs(tmp_path, scheduler, 1, calls=50)
    watched.watch(chunk)

    chunk.die(0, exit_code=3)

    assert_soon(lambda: watched.above.resubmitted)
    watched.group.join()
    assert len(submission) == 1


def test_outcomes_that_are_damaged_are_not_acted_on_again_and_again(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """They are looked at until the grace is over; a call in them has one retry."""
    watched = WatchedPoller(scheduler, grace=0.3, retries={ConnectionError: 5})
    chunk = make_jobs(tmp_path, scheduler, 1, calls=3)
    watched.watch(chunk)

    chunk.publish(0, error_of(0, ConnectionError("down")), value_of(1, 1))

    assert_soon(lambda: not chunk.opened.jobs)
    watched.group.join()
    assert watched.above.resubmitted == [[0]]
    assert len(chunk.futures[0]._failures[0]) == 1


def test_outcome_without_usage_is_read_as_before(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Each call has what stands before its own outcome."""
    watched = WatchedPoller(scheduler)
    jobs = make_jobs(tmp_path, scheduler)
    watched.watch(jobs)

    record = USAGE_NUMBERS.pack(1.8e9, 1.0, 0.5, 1.0, 0, 0) + b"c17"
    jobs.publish(0, (0, USAGE, record), value_of(0, "new"))
    jobs.publish(1, value_of(0, "old"))

    new, old = jobs.futures
    assert [new.result(60), old.result(60)] == ["new", "old"]
    assert new.usage is not None
    assert new.usage.node == "c17"
    assert old.usage is None
    watched.group.join()
