"""The observer of a run: it settles what is over, and changes nothing."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.errors import JobCancelled, JobLost, JobState, SlurmFuturesError
from slurm_futures.jobs.observer import Observer
from slurm_futures.node import formats
from slurm_futures.runs.history import History
from slurm_futures.runs.submission import SubmissionDirectory
from slurm_futures.schedulers.base import Ending, JobId, Row
from tests.unit.fakes import SHORT, FakeScheduler, value_of
from tests.unit.runs.test_history import StoredRun, begin, finish
from tests.waiting import assert_soon

PATIENCE = 60  #: seconds
TIMING = replace(SHORT, grace=0.05, gone_grace=0.05)


class Watched:
    """A run on disk with an observer."""

    def __init__(self, directory: Path) -> None:
        self.stored = StoredRun(directory)
        self.scheduler = FakeScheduler()
        self.history = History(self.stored.run.path)
        self.observer = Observer(self.history, self.scheduler, TIMING)

    def submit(self, *jobs: list[int], requeue: bool = False) -> SubmissionDirectory:
        """Write a submission, whose jobs run as squeue says."""
        submission = self.stored.submit(*jobs)
        if requeue:
            facts = {"job_id": "77", "cluster": None, "jobs": len(jobs)}
            submission.describe({**facts, "options": {"requeue": True}})
        self.show(submission, len(jobs), JobState.RUNNING)
        return submission

    def show(
        self, submission: SubmissionDirectory, size: int, state: JobState | None
    ) -> None:
        """Let squeue show the jobs in this state; None: not at all."""
        indices = (range(size),) if size > 1 else None
        row = Row(state or JobState.UNKNOWN, "None", indices, str(submission.path))
        rows = () if state is None else (row,)
        self.scheduler.jobs = {JobId(77): rows}

    def watch(self, *numbers: int) -> list[SlurmFuture[Any]]:
        """Return futures for these calls."""
        futures: list[SlurmFuture[Any]] = [SlurmFuture() for _ in numbers]
        for number, future in zip(numbers, futures, strict=True):
            self.observer.watch(number, future)
        return futures

    def files(self) -> dict[str, int]:
        """Return all that lies in the run."""
        return {
            str(path): path.lstat().st_ino for path in self.stored.run.path.rglob("*")
        }


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Give a run without submissions."""
    made = Watched(tmp_path)
    yield made
    made.observer.close()
    made.observer.join()


def test_futures_settle_when_outcomes_are_there(watched: Watched) -> None:
    """And know the job that runs their call."""
    submission = watched.submit([0], [1])
    first, second = watched.watch(0, 1)
    begin(submission, 0)
    assert_soon(first.running)

    finish(submission, 0, value_of(0, "value"))

    assert first.result(PATIENCE) == "value"
    assert first.job_id == "77_0"
    assert not second.done()
    assert second.call.args == (-1,)


def test_a_job_that_vanishes_is_lost_but_what_it_left(watched: Watched) -> None:
    """With the grace, and nothing of the run is changed."""
    submission = watched.submit([0, 1], [2])
    begin(submission, 0).append(*value_of(0, "kept"))
    kept, lost, other = watched.watch(0, 1, 2)
    assert_soon(kept.running)
    before = watched.files()

    watched.show(submission, 2, None)

    assert isinstance(lost.exception(PATIENCE), JobLost)
    assert kept.result(PATIENCE) == "kept"
    assert isinstance(other.exception(PATIENCE), JobLost)
    assert watched.files() == before
    assert watched.scheduler.cancelled == []


def test_a_job_that_was_cancelled_in_the_queue(watched: Watched) -> None:
    """As Slurm tells."""
    submission = watched.submit([0])
    (future,) = watched.watch(0)
    assert_soon(lambda: future.job_id)
    watched.scheduler.endings[JobId(77)] = Ending(JobState.CANCELLED)

    watched.show(submission, 1, None)

    assert isinstance(future.exception(PATIENCE), JobCancelled)
    assert watched.history.look()[0].ending.value == "cancelled"


def test_a_job_that_slurm_starts_again_is_waited_for(watched: Watched) -> None:
    """Though its first attempt has died."""
    submission = watched.submit([0], requeue=True)
    begin(submission, 0)
    mark = f"{submission.finished.file(0)}.died"
    formats.leave_mark(mark, "137")
    (future,) = watched.watch(0)
    asked = watched.scheduler.query_count
    assert_soon(lambda: watched.scheduler.query_count > asked + 1)
    watched.show(submission, 1, JobState.PENDING)
    os.unlink(mark)  # noqa: PTH108  (a mark may be a link)

    finish(submission, 0, value_of(0, "second"))

    assert future.result(PATIENCE) == "second"


def test_a_call_that_is_submitted_again_is_waited_for(watched: Watched) -> None:
    """By the program of the run, before anybody has seen its first job end."""
    first = watched.submit([0])
    begin(first, 0)
    (future,) = watched.watch(0)
    assert_soon(lambda: future.job_id)

    second = watched.stored.submit([0])
    finish(second, 0, value_of(0, "second"))

    assert future.result(PATIENCE) == "second"
    assert future.directory == second.job(0).path


def test_an_entry_that_was_withdrawn_is_cancelled(watched: Watched) -> None:
    """Callbacks are called as ever."""
    pool = watched.stored.queue([0], [1])
    withdrawn, other = watched.watch(0, 1)
    called = threading.Event()
    withdrawn.add_done_callback(lambda _: called.set())

    assert pool.claim(0)

    with pytest.raises(CancelledError):
        withdrawn.result(PATIENCE)
    assert called.wait(PATIENCE)
    assert not other.done()


def test_entries_of_a_worker_that_vanishes_are_lost(watched: Watched) -> None:
    """As squeue says; those that nobody has taken wait for another one."""
    submission = watched.submit([formats.UNNUMBERED])
    pool = watched.stored.queue([0], [1])
    pool._claim(0).symlink_to("0001-0")
    begin(pool, 0)
    taken, waiting = watched.watch(0, 1)
    assert_soon(lambda: taken.job_id == "77")

    watched.show(submission, 1, None)

    assert isinstance(taken.exception(PATIENCE), JobLost)
    assert not waiting.done()


def test_calls_of_a_run_that_is_deleted_are_lost(watched: Watched) -> None:
    """Its program has ended, and has kept nothing."""
    watched.submit([0])
    (future,) = watched.watch(0)

    watched.stored.run.remove()

    error = future.exception(PATIENCE)
    assert isinstance(error, JobLost)
    assert 'keep="always"' in str(error)


def test_the_thread_ends_with_the_last_future(watched: Watched) -> None:
    """Nobody has to close anything."""
    watched.submit([0])
    futures = watched.watch(0)
    assert watched.observer._thread.exists

    futures.clear()

    assert_soon(lambda: not watched.observer._thread.exists)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_error_of_ours_leaves_a_future_open(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fail with it."""
    watched.submit([0])
    monkeypatch.setattr(watched.history, "look", lambda: 1 / 0)

    (future,) = watched.watch(0)

    error = future.exception(PATIENCE)
    assert isinstance(error, SlurmFuturesError)
    assert "ZeroDivisionError" in str(error)


def test_nothing_more_need_be_known_of_a_job(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost, whatever scontrol and sacct say."""
    monkeypatch.setattr(watched.scheduler, "explain", lambda _: 1 / 0)
    submission = watched.submit([0])
    (future,) = watched.watch(0)
    assert_soon(lambda: future.job_id)

    watched.show(submission, 1, None)

    assert isinstance(future.exception(PATIENCE), JobLost)


def test_nothing_is_settled_after_close(watched: Watched) -> None:
    """The thread has ended when `join` returns."""
    submission = watched.submit([0])
    (future,) = watched.watch(0)

    watched.observer.close()
    watched.observer.join()
    finish(submission, 0, value_of(0, "value"))

    assert not watched.observer._thread.exists
    assert not future.done()


def test_without_a_scheduler_files_are_enough(tmp_path: Path) -> None:
    """The jobs of another program's local scheduler are in no queue."""
    stored = StoredRun(tmp_path)
    submission = stored.submit([0], [1])
    observer = Observer(History(stored.run.path), None, TIMING)
    futures: list[SlurmFuture[Any]] = [SlurmFuture(), SlurmFuture()]
    for number, future in enumerate(futures):
        observer.watch(number, future)

    finish(submission, 0, value_of(0, "value"))
    formats.leave_mark(f"{submission.finished.file(1)}.died", "9")

    assert futures[0].result(PATIENCE) == "value"
    assert futures[1].exception(PATIENCE) is not None
    observer.join()
