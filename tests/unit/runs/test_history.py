"""How the calls of a run ended, as its files tell."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.pickler import dump
from slurm_futures.errors import (
    InitializerFailed,
    JobFailed,
    JobLost,
    OutcomeNotReadable,
)
from slurm_futures.jobs.past import past_future
from slurm_futures.node import formats
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.history import History
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.submission import SubmissionDirectory
from tests.unit.fakes import CONTEXT, error_of, value_of

Records = Sequence[tuple[int, int, bytes]]


class StoredRun:
    """A run whose files the test writes."""

    def __init__(self, directory: Path) -> None:
        self.run = RunDirectory.create(directory, "fit").fill()
        self.run.describe({"created": "2026-11-29T02:11:22+0000"})
        self.history = History(self.run.path)
        self._count = 0

    def submit(self, *jobs: Sequence[int]) -> SubmissionDirectory:
        """Write a submission of jobs with calls of these numbers."""
        self._count += 1
        submission = self.run.submission(self._count)
        submission.create(len(jobs))
        write_calls(submission.calls, self._calls(*jobs), CONTEXT)
        facts: dict[str, Any] = {
            "job_id": "77",
            "cluster": None,
            "jobs": len(jobs),
            "options": {},
        }
        submission.describe({**facts, "label": "fit"})
        return submission

    def queue(self, *entries: Sequence[int], keep: str = "always") -> PoolDirectory:
        """Write a queue of entries with calls of these numbers."""
        pool = PoolDirectory(self.run.path / "pool-1", keep)
        pool.create()
        numbers = range(len(entries))
        pool.add_blocks(numbers)
        write_calls(pool.batch(numbers), self._calls(*entries), CONTEXT)
        return pool

    @staticmethod
    def _calls(*jobs: Sequence[int]) -> list[list[PickledCall]]:
        call = PickledCall(dump(abs), dump_arguments((-1,), {}))
        return [[replace(call, number=each) for each in numbers] for numbers in jobs]

    def words(self) -> dict[int, str]:
        """Say how each call ended."""
        found = self.history.look()
        return {number: call.ending.value for number, call in found.items()}

    def future(self, number: int) -> SlurmFuture[Any]:
        """Return the future of a call."""
        return past_future(self.history, self.history.look()[number])


def begin(home: SubmissionDirectory | PoolDirectory, number: int) -> OutcomesFile:
    """Let the worker of a job begin."""
    if isinstance(home, SubmissionDirectory):
        home.job(number).path.mkdir(exist_ok=True)
    return OutcomesFile(str(home.path), number, "0001-0")


def finish(
    home: SubmissionDirectory | PoolDirectory, number: int, *records: Any, size: int = 1
) -> None:
    """Let a job publish these outcomes."""
    outcomes = begin(home, number)
    outcomes.size = size
    for record in records:
        outcomes.append(*record)
    outcomes.publish(sync=True)


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    """Give a run without submissions."""
    return StoredRun(tmp_path)


def test_files_tell_how_far_each_job_has_come(stored: StoredRun) -> None:
    """Without a look into any outcome."""
    submission = stored.submit([0], [1], [2], [3])
    finish(submission, 0, value_of(0, "value"))
    finish(submission, 1, error_of(0, ValueError("one")))
    begin(submission, 2)

    assert stored.words() == {0: "done", 1: "failed", 2: "running", 3: "pending"}
    assert stored.future(0).result() == "value"
    assert stored.future(0).job_id == "77_0"
    assert isinstance(stored.future(1).exception(), ValueError)
    assert "call=fit job=77_1>" in repr(stored.future(1))


def test_calls_of_a_chunk_end_each_in_its_way(stored: StoredRun) -> None:
    """Some raise; others did not begin, since the client had withdrawn the job."""
    submission = stored.submit([0, 1, 2], [3, 4])
    records = value_of(0, "zero"), error_of(1, ValueError("one"))
    finish(submission, 0, *records, (2, formats.NOT_BEGUN, b""), size=3)
    finish(submission, 1, value_of(0, 3), value_of(1, 4), size=2)

    assert stored.words() == {0: "done", 1: "failed", 2: "failed", 3: "done", 4: "done"}
    assert stored.future(0).result() == "zero"
    assert "one" in str(stored.future(1).exception())
    assert "did not begin" in str(stored.future(2).exception())


def test_what_a_job_has_left_counts_when_it_died(stored: StoredRun) -> None:
    """The call in which it died, and those behind it, have failed."""
    submission = stored.submit([0, 1, 2])
    begin(submission, 0).append(*value_of(0, "kept"))
    formats.leave_mark(f"{submission.finished.file(0)}.died", "9")

    assert stored.words() == {0: "done", 1: "failed", 2: "failed"}
    assert stored.future(0).result() == "kept"
    error = stored.future(1).exception()
    assert isinstance(error, JobFailed)
    assert error.exit_code == 9


def test_a_value_counts_in_whichever_attempt(stored: StoredRun) -> None:
    """Else the last one tells."""
    first = stored.submit([0], [1], [2])
    second = stored.submit([2, 1, 0])
    finish(first, 0, value_of(0, "first"))
    finish(first, 1, error_of(0, ValueError("first")))
    finish(first, 2, error_of(0, ValueError("first")))
    records = [(at, error_of(0, KeyError("second"))[1:]) for at in (1, 2)]
    finish(
        second, 0, value_of(0, "second"), *((at, *rest) for at, rest in records), size=3
    )

    assert stored.words() == {0: "done", 1: "failed", 2: "done"}
    assert [stored.future(each).exception() for each in (0, 2)] == [None, None]
    assert isinstance(stored.future(1).exception(), KeyError)
    assert stored.future(2).result() == "second"


def test_an_initializer_that_failed_is_the_error_of_all(stored: StoredRun) -> None:
    """With what it raised as the cause."""
    submission = stored.submit([0, 1])
    _, _, payload = error_of(0, KeyError("initializer"))
    finish(submission, 0, (0, formats.INITIALIZER_FAILED, payload), size=2)

    assert stored.words() == {0: "failed", 1: "failed"}
    for number in (0, 1):
        error = stored.future(number).exception()
        assert isinstance(error, InitializerFailed)
        assert isinstance(error.__cause__, KeyError)


def test_an_outcome_that_others_could_write_is_refused(stored: StoredRun) -> None:
    """It would be unpickled."""
    submission = stored.submit([0])
    finish(submission, 0, value_of(0, "value"))
    submission.finished.file(0).chmod(0o666)

    error = stored.future(0).exception()

    assert isinstance(error, OutcomeNotReadable)
    assert "refused" in str(error)


def test_jobs_that_are_no_calls_are_not_counted(stored: StoredRun) -> None:
    """Such as the workers of a pool; nor is what is not written yet, or deleted."""
    stored.submit([formats.UNNUMBERED])
    stored.submit([0])
    (stored.submit([1]).path / "calls.pkl").write_bytes(b"")
    (stored.submit([2]).path / "calls.pkl").unlink()

    assert stored.words() == {0: "pending"}


def test_values_that_were_deleted_were_there(stored: StoredRun) -> None:
    """With `keep="failed"`, at the end of the executor."""
    submission = stored.submit([0], [1])
    finish(submission, 0, value_of(0, "value"))
    finish(submission, 1, error_of(0, ValueError("one")))
    submission.keep_only([1])

    assert stored.words() == {0: "done", 1: "failed"}
    assert 'keep="always"' in str(stored.future(0).exception())


def test_entries_of_a_queue_end_like_jobs(stored: StoredRun) -> None:
    """Their job is that of the worker that has claimed them."""
    submission = stored.submit([formats.UNNUMBERED])
    pool = stored.queue([0, 1], [2], [3], [4])
    for number, owner in enumerate(["0001-0", "0001-0", "0001-0", "client"]):
        pool._claim(number).symlink_to(owner)
    finish(pool, 0, value_of(0, "zero"), error_of(1, ValueError("one")), size=2)
    begin(pool, 1)

    assert stored.words() == {
        0: "done",
        1: "failed",
        2: "running",
        3: "running",
        4: "cancelled",
    }
    assert stored.future(0).job_id == "77"
    assert stored.future(0).directory == submission.job(0).path
    assert stored.future(4).cancelled()


def test_entries_of_a_worker_that_died_have_failed(stored: StoredRun) -> None:
    """Begun or not; those that nobody has taken wait."""
    submission = stored.submit([formats.UNNUMBERED])
    pool = stored.queue([0], [1], [2])
    pool._claim(0).symlink_to("0001-0")
    pool._claim(1).symlink_to("0001-0.1")
    begin(pool, 0)
    formats.leave_mark(f"{submission.finished.file(0)}.died", "9")

    assert stored.words() == {0: "failed", 1: "failed", 2: "pending"}
    error = stored.future(0).exception()
    assert isinstance(error, JobFailed)
    assert error.exit_code == 9


def test_what_a_queue_has_kept_of_failures(stored: StoredRun) -> None:
    """What went well was deleted, and who ran it is not known any more."""
    pool = stored.queue([0], [1], [2], keep="failed")
    finish(pool, 0, value_of(0, "value"))
    finish(pool, 1, error_of(0, ValueError("one")))
    begin(pool, 2)
    pool.note_failure(1)
    pool.note_failure(2)
    pool.keep_failed()

    assert stored.words() == {0: "done", 1: "failed", 2: "failed"}
    assert isinstance(stored.future(1).exception(), ValueError)
    assert isinstance(stored.future(2).exception(), JobLost)


def test_blocks_that_a_living_queue_has_deleted_were_done(stored: StoredRun) -> None:
    """Of calls that are all over."""
    pool = stored.queue([0], [1], keep="never")
    pool.remove_block("0-999")

    assert stored.words() == {0: "done", 1: "done"}
