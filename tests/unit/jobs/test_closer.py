"""Jobs of several calls that end in the middle, or seem to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.errors import InitializerFailed, JobFailed, JobLost, JobState
from slurm_futures.node import formats
from slurm_futures.runs.job import JobDirectory
from slurm_futures.schedulers.base import Ending, JobId
from tests.unit.fakes import (
    FakeJobs,
    FakeScheduler,
    WatchedPoller,
    make_jobs,
    value_of,
)
from tests.waiting import assert_soon


@pytest.fixture
def chunk(tmp_path: Path, scheduler: FakeScheduler) -> FakeJobs:
    """Give a job of four calls that squeue shows as running."""
    return make_jobs(tmp_path, scheduler, 1, calls=4)


def end(watched: WatchedPoller, array: FakeJobs) -> None:
    """Cancel what is still open, and wait for the thread of the poller."""
    for job in list(array.opened.jobs.values()):
        watched.poller.cancel(job)
    watched.group.join()


def withdrawn(array: FakeJobs) -> bool:
    """Whether the first job was told to begin no more calls."""
    return os.listdir(array.submission.finished.path / "0-999") == [
        "0.0-c17-99.withdrawn"
    ]


def outcomes_of(future: SlurmFuture[Any]) -> list[object]:
    """Return what each call of a chunk has left: its value, or the type of an error."""
    return [each.value or type(each.exception) for each in future.result(60)]


def test_job_that_lives_where_slurm_cannot_see_it_begins_no_more_calls(
    watched: WatchedPoller, chunk: FakeJobs, scheduler: FakeScheduler
) -> None:
    """The one that runs fails, the others run in a new job and nowhere else."""
    chunk.write_outcome(0, "zero")
    scheduler.show(chunk, chunk.row(JobState.NODE_FAIL))

    watched.watch(chunk)

    assert_soon(lambda: watched.above.resubmitted)
    assert watched.above.resubmitted == [[2, 3]]
    assert withdrawn(chunk)
    assert not chunk.futures[0].done()
    watched.group.join()


def test_job_that_is_alive_after_all_may_go_on(
    watched: WatchedPoller, chunk: FakeJobs, scheduler: FakeScheduler
) -> None:
    """Withdrawn since squeue did not list it; scontrol shows that it is there."""
    chunk.begin_calls()
    scheduler.endings[chunk.job_id.task(0)] = Ending(JobState.STOPPED)
    scheduler.show(chunk)
    watched.watch(chunk)
    assert_soon(lambda: scheduler.explained)
    scheduler.show(chunk, chunk.row(JobState.RUNNING))

    assert_soon(lambda: chunk.futures[0].state is JobState.RUNNING)
    assert_soon(lambda: not withdrawn(chunk))

    chunk.publish(0, *(value_of(at, f"{at}") for at in range(4)))
    assert outcomes_of(chunk.futures[0]) == ["0", "1", "2", "3"]
    watched.group.join()


def test_job_that_cannot_be_restored_now_is_restored_later(
    watched: WatchedPoller,
    chunk: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the job is listed again in the meantime."""
    failures: list[object] = []
    rename = Path.rename

    def fail_at_first(path: Path, target: Path) -> None:
        if path.suffix == formats.WITHDRAWN and len(failures) < 3:
            failures.append(path)
            raise OSError(116, "Stale file handle")
        rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_first)
    chunk.begin_calls()
    scheduler.endings[chunk.job_id.task(0)] = Ending(JobState.STOPPED)
    scheduler.show(chunk)
    watched.watch(chunk)
    assert_soon(lambda: failures)

    scheduler.show(chunk, chunk.row(JobState.RUNNING))

    assert_soon(lambda: chunk.futures[0].state is JobState.RUNNING)
    assert_soon(lambda: not withdrawn(chunk))
    assert len(failures) == 3
    end(watched, chunk)


def test_calls_that_a_job_did_not_begin_run_in_another_one(
    watched: WatchedPoller, chunk: FakeJobs
) -> None:
    """It had seen that it was withdrawn, before it was restored."""
    watched.watch(chunk)

    chunk.publish(0, value_of(0, "0"), (1, formats.NOT_BEGUN, b""))

    assert_soon(lambda: watched.above.resubmitted)
    assert watched.above.resubmitted == [[1, 2, 3]]
    watched.group.join()
    assert watched.failures.failed == []


def test_what_a_job_has_left_that_was_withdrawn_counts(
    watched: WatchedPoller,
    chunk: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was alive, has noticed, and ended before it was restored."""
    file = chunk.begin_calls()
    file.append(*value_of(0, "zero"))

    def notice_and_end(_: object) -> dict[JobId, Ending]:
        assert withdrawn(chunk)
        file.append(1, formats.NOT_BEGUN, b"")
        assert not file.publish(sync=True)
        chunk.die(0)
        return {chunk.job_id.task(0): Ending(JobState.STOPPED)}

    monkeypatch.setattr(scheduler, "explain", notice_and_end)
    scheduler.show(chunk)
    watched.watch(chunk)

    assert_soon(lambda: watched.above.resubmitted)
    assert watched.above.resubmitted == [[1, 2, 3]]
    watched.group.join()
    assert watched.failures.failed == []


def test_attempt_that_begins_as_its_job_is_buried_is_withdrawn(
    watched: WatchedPoller,
    chunk: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has made its directory when the job is given up, and its file later."""

    def begin_calls(_: object) -> dict[JobId, Ending]:
        if not withdrawn(chunk):
            chunk.write_outcome(0, "zero")
        return {}

    chunk.begin()
    monkeypatch.setattr(scheduler, "explain", begin_calls)
    scheduler.show(chunk, chunk.row(JobState.NODE_FAIL))

    watched.watch(chunk)

    assert_soon(lambda: watched.above.resubmitted)
    assert watched.above.resubmitted == [[2, 3]]
    assert withdrawn(chunk)
    watched.group.join()


def test_done_calls_survive_an_error_that_passes(
    chunk: FakeJobs, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing fails just when a chunk that was killed is buried."""
    failures: list[object] = []
    exists = JobDirectory.exists

    def fail_at_first(directory: JobDirectory) -> bool:
        if not failures:
            failures.append(directory)
            raise OSError(116, "Stale file handle")
        return exists(directory)

    monkeypatch.setattr(JobDirectory, "exists", fail_at_first)
    watched = WatchedPoller(scheduler, grace=60)
    watched.watch(chunk)
    chunk.write_outcome(0, "zero")

    chunk.die(0, exit_code=3)

    assert_soon(lambda: watched.above.resubmitted)
    assert watched.above.resubmitted == [[2, 3]]
    assert len(failures) == 1
    watched.group.join()


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.NODE_FAIL])
def test_job_whose_files_stay_unreadable_is_lost(
    watched: WatchedPoller,
    chunk: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    state: JobState,
) -> None:
    """After the grace, with the words of the system."""

    def fail(directory: JobDirectory) -> bool:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(JobDirectory, "exists", fail)
    scheduler.show(chunk, chunk.row(state))
    watched.watch(chunk)
    if state is JobState.RUNNING:
        chunk.die(0, exit_code=3)

    left = chunk.futures[0].result(60)

    assert {type(each.exception) for each in left} == {JobLost}
    assert "Permission denied" in str(left[0].exception)
    watched.group.join()


def test_failed_initializer_ends_the_calls_of_its_job(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """And a job that dies meanwhile is buried as ever."""
    watched.watch(jobs)

    jobs.raise_in_call(0, KeyError("licence"), formats.INITIALIZER_FAILED)
    assert isinstance(jobs.futures[0].exception(60), InitializerFailed)
    jobs.die(1)

    assert type(jobs.futures[1].exception(60)) is JobFailed
    watched.group.join()


def test_calls_that_are_missing_without_a_word_are_not_run_again(
    watched: WatchedPoller, chunk: FakeJobs
) -> None:
    """They may have run: the file may be cut short."""
    watched.watch(chunk)

    chunk.publish(0, value_of(0, "0"))

    left = outcomes_of(chunk.futures[0])
    assert (left[0], set(left[1:])) == ("0", {JobLost})
    assert watched.above.resubmitted == []
    watched.group.join()
