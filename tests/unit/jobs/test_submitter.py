"""The submitter on a scheduler in memory: which calls become which submissions."""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.errors import (
    JobState,
    Refusal,
    SchedulerError,
    SlurmFuturesError,
    SubmitError,
)
from slurm_futures.jobs import sender
from slurm_futures.jobs.job import Job, JobOrder
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.submitter import Submitter
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.script import ScriptTemplate
from slurm_futures.runs.writer import Writer
from slurm_futures.schedulers.base import BatchScript, JobId, Row, Snapshot
from slurm_futures.schedulers.sbatch_options import Kind, SbatchOptions
from tests.failing_files import FailingFiles
from tests.unit.fakes import (
    SHORT,
    FakeAbove,
    FakeScheduler,
    accept_and_fail,
    future_of,
    make_order,
    refusal,
    squeue_is_down,
)
from tests.waiting import assert_soon, becomes_true

KIND = Kind(SbatchOptions(), "/")
_ERRORS = [
    *(errno.ESTALE, errno.EIO, errno.EACCES),
    *(errno.ENOSPC, errno.ETIMEDOUT, errno.EINTR),
]
LARGE = Kind(SbatchOptions((("mem", "16G"),)), "/")


class Desk:
    """A submitter, what it has handed on, and the files that it writes."""

    def __init__(
        self,
        scheduler: FakeScheduler,
        directory: Path,
        max_workers: int | None = None,
        **times: Any,
    ) -> None:
        self.directory = directory
        self.watched: list[OpenSubmission] = []
        self.cancelled: list[Job] = []
        self.group = ThreadGroup()
        self.writer = writer = Writer(
            directory, ScriptTemplate(("python3",)), None, "failed"
        )
        self.submitter = Submitter(
            scheduler,
            writer,
            self,  # type: ignore[arg-type]  # plays the poller
            FakeAbove(),
            self.group,
            replace(SHORT, **times),
            max_workers,
        )

    def set_times(self, **times: Any) -> None:
        """Let some times of the sender be others from now on."""
        sending = self.submitter._sender
        sending._timing = replace(sending._timing, **times)

    def wake(self) -> None:
        """See that nothing is left to be done, as a poller does."""

    def watch(self, submission: OpenSubmission) -> None:
        """Keep a submission, as a poller does, and jobs that should end."""
        self.watched.append(submission)
        self.cancelled += submission.unwanted()

    def put(self, count: int, kind: Kind = KIND) -> list[SlurmFuture[Any]]:
        """Put so many calls into the outbox, as one `map` does."""
        orders = [make_order() for _ in range(count)]
        self.submitter.put(kind, "fit", orders)
        return [future_of(order) for order in orders]

    def finish(self, submission: OpenSubmission, *indices: int) -> None:
        """Do what the poller does when jobs of a submission are over."""
        for index in indices or list(submission.jobs):
            submission.close(index)
            self.submitter.note_over(submission)


@pytest.fixture
def desk(scheduler: FakeScheduler, tmp_path: Path) -> Desk:
    """Give a submitter without a limit on jobs."""
    return Desk(scheduler, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for jobs that sbatch may have made without long pauses."""
    wait = sender.Sender._pause

    def pause(
        sender: sender.Sender, seconds: float, orders: Sequence[JobOrder]
    ) -> None:
        wait(sender, seconds / 100, orders)

    monkeypatch.setattr(sender.Sender, "_pause", pause)


def test_one_call_becomes_a_plain_job(desk: Desk, scheduler: FakeScheduler) -> None:
    """No array; the script learns which attempt it is."""
    (future,) = desk.put(1)
    desk.group.join()

    (batch,) = scheduler.batches
    assert (batch.array_size, batch.arguments) == (None, ("1",))
    assert future.job_id == "100"
    assert future._job is desk.watched[0].jobs[0]


def test_calls_of_a_map_become_one_array(desk: Desk, scheduler: FakeScheduler) -> None:
    """One sbatch, and each future knows its array task."""
    futures = desk.put(50)
    desk.group.join()

    assert scheduler.sizes == [50]
    assert [each.job_id for each in futures[:2]] == ["100_0", "100_1"]


def test_calls_that_come_while_sbatch_runs_travel_together(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """A loop of submits costs a handful of sbatch calls."""
    scheduler.gate.clear()
    desk.put(1)
    assert_soon(lambda: scheduler.batches)
    for _ in range(99):
        desk.put(1)

    scheduler.gate.set()

    desk.group.join()
    assert scheduler.sizes == [1, 99]


def test_calls_with_other_options_go_apart(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """The jobs of an array have the same options."""
    scheduler.gate.clear()
    desk.put(2)
    assert_soon(lambda: scheduler.batches)
    for kind in (KIND, LARGE, KIND):
        desk.put(1, kind)

    scheduler.gate.set()

    desk.group.join()
    assert scheduler.sizes == [2, 2, 1]
    assert dict(scheduler.batches[2].options) == {"mem": "16G"}


def test_arrays_are_no_larger_than_the_scheduler_allows(
    tmp_path: Path,
) -> None:
    """MaxArraySize splits a long map."""
    scheduler = FakeScheduler(array_size=4)
    desk = Desk(scheduler, tmp_path)

    desk.put(10)
    desk.group.join()

    assert scheduler.sizes == [4, 4, 2]


def test_limits_that_are_not_known_are_slurms_defaults(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scontrol that fails does not hold up submissions."""

    def fail() -> None:
        raise squeue_is_down()

    monkeypatch.setattr(scheduler, "limits", fail)

    desk.put(1002)
    desk.group.join()

    assert scheduler.sizes == [1001, 1]


def test_caller_does_not_wait_for_the_scheduler(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """However slow slurmctld is."""
    orders = [make_order() for _ in range(1000)]
    scheduler.gate.clear()
    desk.put(1)
    assert_soon(lambda: scheduler.batches)
    began = time.monotonic()

    desk.submitter.put(KIND, "fit", orders)

    assert time.monotonic() - began < 5
    scheduler.gate.set()
    desk.group.join()


def test_caller_does_not_wait_for_the_limits(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is held while the scheduler is asked for them."""
    asked: list[None] = []
    limits = scheduler.limits

    def ask() -> object:
        asked.append(None)
        assert scheduler.gate.wait(60)
        return limits()

    monkeypatch.setattr(scheduler, "limits", ask)
    scheduler.gate.clear()
    desk.put(2)
    assert_soon(lambda: asked)
    began = time.monotonic()

    desk.put(2)

    assert time.monotonic() - began < 5
    scheduler.gate.set()
    desk.group.join()


def test_permanent_refusal_fails_the_futures(
    desk: Desk, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Each with an error of its own; nothing is left on disk."""
    scheduler.answers = [refusal(Refusal.PERMANENT)]

    first, second = desk.put(2)
    desk.group.join()

    errors = [first.exception(0), second.exception(0)]
    assert all(isinstance(error, SubmitError) for error in errors)
    assert errors[0] is not errors[1]
    assert desk.watched == []
    assert list(tmp_path.glob("*/0*")) == []


def test_transient_refusal_is_tried_again(desk: Desk, scheduler: FakeScheduler) -> None:
    """The same submission, until it is accepted."""
    scheduler.answers = [refusal(Refusal.TRANSIENT)] * 3

    desk.put(2)
    desk.group.join()

    assert scheduler.sizes == [2, 2, 2, 2]
    assert len({batch.directory for batch in scheduler.batches}) == 1
    assert {batch.arguments for batch in scheduler.batches} == {("1",)}
    assert len(desk.watched) == 1


def test_refusal_that_does_not_pass_fails_in_the_end(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the words of the scheduler."""
    desk.set_times(patience=0.05)
    scheduler.answers = [refusal(Refusal.TRANSIENT)] * 1000

    (future,) = desk.put(1)
    desk.group.join()

    assert str(future.exception(0)) == "refused: TRANSIENT"


@pytest.mark.parametrize("kind", [Refusal.ARRAY_TOO_LARGE, Refusal.QUOTA])
def test_array_that_is_too_large_is_halved(
    desk: Desk, scheduler: FakeScheduler, kind: Refusal
) -> None:
    """And halved again; all calls get their job in the end."""
    scheduler.answers = [refusal(kind), refusal(kind)]

    desk.put(8)
    desk.group.join()

    assert scheduler.sizes[:3] == [8, 4, 2]
    assert sum(len(submission.jobs) for submission in desk.watched) == 8


def test_site_that_takes_no_arrays_gets_single_jobs(
    desk: Desk, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """Learned once, with one warning; later calls are not sent as arrays at all."""
    scheduler.answers = [refusal(Refusal.NO_ARRAYS)]

    desk.put(4)
    desk.group.join()
    desk.put(3)
    desk.group.join()

    assert scheduler.sizes == [4] + [1] * 7
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert [each.getMessage()[:30] for each in warnings] == [
        "this site takes no job arrays,"
    ]


def test_array_that_is_refused_for_another_reason_is_not_sent_job_by_job(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """One single job shows that; all calls have its error, and arrays go on later."""
    scheduler.answers = [refusal(Refusal.NO_ARRAYS), refusal(Refusal.PERMANENT)]

    futures = desk.put(4)
    desk.group.join()
    desk.put(3)
    desk.group.join()

    assert scheduler.sizes == [4, 1, 3]
    words = {str(each.exception(0)) for each in futures}
    assert words == {"refused: PERMANENT"}


def test_single_job_that_is_too_large_an_array_fails(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """There is nothing to make smaller."""
    scheduler.answers = [refusal(Refusal.ARRAY_TOO_LARGE)]

    (future,) = desk.put(1)
    desk.group.join()

    assert isinstance(future.exception(0), SubmitError)


def test_single_job_above_the_quota_waits(desk: Desk, scheduler: FakeScheduler) -> None:
    """Until jobs of this user have ended."""
    scheduler.answers = [refusal(Refusal.QUOTA)] * 2

    desk.put(1)
    desk.group.join()

    assert scheduler.sizes == [1, 1, 1]
    assert len(desk.watched) == 1


def test_quota_that_own_jobs_fill_is_waited_for_as_long_as_they_run(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ends make room, however late they come."""
    desk.put(1)
    desk.group.join()
    desk.set_times(patience=0.0)
    scheduler.answers = [refusal(Refusal.QUOTA)] * 5

    (later,) = desk.put(1)
    desk.group.join()

    assert scheduler.sizes == [1] * 7
    assert later.job_id == "101"


@pytest.mark.usefixtures("impatient")
def test_job_that_sbatch_made_although_it_failed_is_adopted(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Found by its directory; nothing is submitted twice."""
    scheduler.answers = [accept_and_fail(scheduler)]

    desk.put(3)
    desk.group.join()

    assert len(scheduler.batches) == 1
    assert desk.watched[0].job_id == JobId(100)


@pytest.mark.usefixtures("impatient")
def test_job_that_was_never_made_is_submitted_again_as_another_attempt(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Should the first turn up later, its script finds its mark gone."""
    scheduler.answers = [refusal(Refusal.AMBIGUOUS)]

    desk.put(1)
    desk.group.join()

    assert [batch.arguments for batch in scheduler.batches] == [("1",), ("2",)]
    directory = scheduler.batches[0].directory
    assert [path.name for path in directory.glob("attempt-*")] == ["attempt-2"]


@pytest.mark.usefixtures("impatient")
def test_late_job_of_an_earlier_attempt_may_run_once_it_is_adopted(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Both sbatch timed out; the mark of the attempt becomes that of the job."""

    def time_out_as_the_first_turns_up(batch: BatchScript) -> JobId:
        scheduler.accept(scheduler.batches[0])
        raise refusal(Refusal.AMBIGUOUS)

    scheduler.answers = [refusal(Refusal.AMBIGUOUS), time_out_as_the_first_turns_up]

    desk.put(1)
    desk.group.join()

    assert len(scheduler.batches) == 2
    assert desk.watched[0].job_id == JobId(100)
    marks = scheduler.batches[0].directory.glob("a*-*")
    assert [path.name for path in marks] == ["adopted-100"]


@pytest.mark.usefixtures("impatient")
def test_record_of_a_refused_request_is_not_adopted(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Slurm may list what it has refused as a job that failed."""

    def refuse(batch: BatchScript) -> JobId:
        row = Row(JobState.FAILED, "BadConstraints", None, str(batch.directory))
        scheduler.jobs[JobId(99)] = (row,)
        raise refusal(Refusal.AMBIGUOUS)

    scheduler.answers = [refuse]

    desk.put(1)
    desk.group.join()

    assert len(scheduler.batches) == 2


@pytest.mark.usefixtures("impatient")
def test_queries_that_fail_prove_nothing(desk: Desk, scheduler: FakeScheduler) -> None:
    """While squeue is down the search goes on, and nothing is sent."""
    scheduler.answers = [accept_and_fail(scheduler)]
    scheduler.query_error = squeue_is_down()
    desk.put(1)
    assert_soon(lambda: scheduler.query_count > 10)
    sent = len(scheduler.batches)

    scheduler.query_error = None

    desk.group.join()
    assert sent == 1
    assert len(scheduler.batches) == 1


@pytest.mark.usefixtures("impatient")
def test_queue_that_stays_unknown_fails_the_futures(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a job: a second one would run the calls twice."""
    desk.set_times(patience=0.05)
    scheduler.answers = [accept_and_fail(scheduler)]
    scheduler.query_error = squeue_is_down()

    (future,) = desk.put(1)
    desk.group.join()

    assert len(scheduler.batches) == 1
    assert isinstance(future.exception(0), SubmitError)


@pytest.mark.usefixtures("impatient")
def test_silence_of_another_cluster_does_not_hold_up_a_search(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier executor used it; the job cannot be there."""

    def query() -> Snapshot:
        return Snapshot(time.monotonic(), dict(scheduler.jobs), frozenset({"c2"}))

    monkeypatch.setattr(scheduler, "query", query)
    scheduler.answers = [refusal(Refusal.AMBIGUOUS)]

    (future,) = desk.put(1)
    was_sent_again = becomes_true(lambda: future.job_id)

    future.cancel()
    desk.group.join()
    assert was_sent_again


@pytest.mark.usefixtures("impatient")
def test_submission_that_is_deleted_during_a_search_fails_its_futures(
    desk: Desk, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """No further attempt can be marked there; that is no error of ours."""

    def delete(batch: BatchScript) -> JobId:
        shutil.rmtree(batch.directory)
        raise refusal(Refusal.AMBIGUOUS)

    scheduler.answers = [delete]

    (future,) = desk.put(1)
    desk.group.join()

    assert isinstance(future.exception(0), SubmitError)
    assert "should not happen" not in caplog.text


@pytest.mark.usefixtures("impatient")
def test_search_ends_when_nobody_waits_any_more(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Also while slurmctld is down."""
    scheduler.answers = [refusal(Refusal.AMBIGUOUS)]
    scheduler.query_error = squeue_is_down()
    (future,) = desk.put(1)
    assert_soon(lambda: scheduler.query_count)

    future.cancel()

    desk.group.join()
    assert desk.watched == []


def test_call_that_is_cancelled_in_the_outbox_is_not_sent(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """Nobody waits for it."""
    scheduler.gate.clear()
    desk.put(1)
    assert_soon(lambda: scheduler.batches)
    futures = desk.put(3)

    futures[1].cancel()
    scheduler.gate.set()

    desk.group.join()
    assert scheduler.sizes == [1, 2]


def test_call_that_is_cancelled_while_it_is_submitted_gets_an_scancel(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """As soon as there is an id."""
    scheduler.gate.clear()
    futures = desk.put(3)
    assert_soon(lambda: scheduler.batches)

    futures[1].cancel()
    scheduler.gate.set()

    desk.group.join()
    assert [str(job.job_id) for job in desk.cancelled] == ["100_1"]


def test_submission_that_nobody_waits_for_is_not_tried_again(
    desk: Desk, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel ends the pause after a refusal."""
    desk.set_times(longest_backoff=60.0)
    desk.submitter._sender._backoff = 60.0
    scheduler.answers = [refusal(Refusal.TRANSIENT)]
    (future,) = desk.put(1)
    assert_soon(lambda: scheduler.batches)

    future.cancel()

    desk.group.join()
    assert scheduler.sizes == [1]


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "refused"])
def test_each_submission_has_the_full_patience(
    desk: Desk,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    cancelled: bool,
) -> None:
    """However long ago another one was refused that never became a job."""
    passing, final = refusal(Refusal.TRANSIENT), refusal(Refusal.PERMANENT)
    scheduler.answers = [passing] * 1000 if cancelled else [passing, final]
    (earlier,) = desk.put(1)
    assert_soon(lambda: len(scheduler.batches) >= 2)
    if cancelled:
        earlier.cancel()
    desk.group.join()
    desk.set_times(patience=0.05)
    later_on = time.monotonic() + 0.1
    assert_soon(lambda: time.monotonic() > later_on)
    scheduler.answers = [passing]

    (later,) = desk.put(1)
    desk.group.join()

    assert not later.done()
    assert len(desk.watched) == 1


def test_waiting_calls_can_be_failed(desk: Desk, scheduler: FakeScheduler) -> None:
    """What has no job yet; a submission that is under way is cancelled afterwards."""
    scheduler.gate.clear()
    (sent,) = desk.put(1)
    assert_soon(lambda: scheduler.batches)
    (waiting,) = desk.put(1)

    desk.submitter.fail(SlurmFuturesError("stopped"))

    scheduler.gate.set()
    desk.group.join()
    assert str(waiting.exception(0)) == "stopped"
    assert str(sent.exception(0)) == "stopped"
    assert [str(job.job_id) for job in desk.cancelled] == ["100"]


def test_files_that_cannot_be_written_fail_the_futures(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """With what the system said, and what to type."""
    (tmp_path / "file").touch()
    desk = Desk(scheduler, tmp_path / "file", grace=0.05)

    (future,) = desk.put(1)
    desk.group.join()

    error = future.exception(0)
    assert isinstance(error, SubmitError)
    assert isinstance(error.__cause__, OSError)
    assert 'SlurmExecutor(directory="...")' in str(error)


@pytest.mark.parametrize("first", range(12))
def test_an_error_that_passes_costs_no_call(
    desk: Desk, scheduler: FakeScheduler, tmp_path: Path, first: int
) -> None:
    """Whichever operation it is of those that write; nothing half-written is left."""
    files = FailingFiles(tmp_path, 4 * first, 0.0, _ERRORS[first % len(_ERRORS)])
    with files.active():
        futures = desk.put(2)
        desk.group.join()

    assert [each.job_id for each in futures] == ["100_0", "100_1"]
    assert len(scheduler.batches) == 1
    (run,) = tmp_path.iterdir()
    assert RunDirectory(run).is_complete()
    written = scheduler.batches[0].directory
    assert [each for each in run.iterdir() if each.name.isdigit()] == [written]


def test_an_outage_leaves_nothing_half_written(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Nor does its end: what could not be deleted then is deleted at the end."""
    desk = Desk(scheduler, tmp_path, grace=0.05)
    files = FailingFiles(tmp_path, 40, 3600, errno.ESTALE)
    with files.active():
        (future,) = desk.put(1)
        desk.group.join()
    assert os.strerror(errno.ESTALE) in str(future.exception(0))
    assert list(tmp_path.iterdir())

    desk.writer.clean()

    assert list(tmp_path.iterdir()) == []


def test_calls_that_are_cancelled_in_an_outage_are_not_sent(
    desk: Desk, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """The submitter does not go on for them."""
    files = FailingFiles(tmp_path, 0, 3600, errno.EIO)
    with files.active():
        (future,) = desk.put(1)
        assert_soon(lambda: files.failed)
        future.cancel()
        desk.group.join()

    assert scheduler.batches == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("error", [errno.ESTALE, errno.EACCES, errno.ENOSPC])
def test_an_error_between_two_attempts_costs_no_call(
    desk: Desk,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    """The marker of the next attempt is renamed once more; one job is there."""
    scheduler.answers = [refusal(Refusal.AMBIGUOUS)]
    rename, errors = Path.rename, [OSError(error, "it fails")]

    def fail_once(path: Path, target: Path) -> Path:
        if errors and path.name == "attempt-1":
            raise errors.pop()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    (future,) = desk.put(1)
    desk.group.join()

    assert errors == []
    assert future.job_id == "100"
    assert [each.arguments for each in scheduler.batches] == [("1",), ("2",)]


def test_calls_after_the_run_was_deleted_get_another_one(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so."""
    desk.put(1)
    desk.group.join()
    deleted = RunDirectory(desk.watched[0].directory.path.parent)
    shutil.rmtree(deleted.path)

    desk.put(1)
    desk.group.join()

    run = RunDirectory(desk.watched[1].directory.path.parent)
    assert run.path != deleted.path
    assert run.is_complete()
    assert f"{deleted.path} was deleted" in caplog.text


def test_a_deleted_run_that_slurm_made_again_takes_no_calls(desk: Desk) -> None:
    """Slurm 26.05 makes the directory of a job's log: the worker is not there."""
    desk.put(1)
    desk.group.join()
    deleted = RunDirectory(desk.watched[0].directory.path.parent)
    shutil.rmtree(deleted.path)
    deleted.logs.mkdir(parents=True)

    desk.put(1)
    desk.group.join()

    assert desk.watched[1].directory.path.parent != deleted.path
    assert not deleted.path.exists()


def test_a_run_without_its_worker_keeps_what_it_holds(desk: Desk) -> None:
    """Some file systems delete files that nobody has read for weeks."""
    desk.put(1)
    desk.group.join()
    first = desk.watched[0].directory
    (first.path.parent / "start.py").unlink()

    desk.put(1)
    desk.group.join()

    assert desk.watched[1].directory.path.parent != first.path.parent
    assert first.calls.exists()


def test_unexpected_error_fails_the_futures_of_its_submission_only(
    desk: Desk, scheduler: FakeScheduler
) -> None:
    """No future is forgotten, whatever goes wrong; later calls are served."""

    def fail(batch: BatchScript) -> JobId:
        raise ZeroDivisionError

    scheduler.answers = [fail]
    (broken,) = desk.put(1)
    desk.group.join()

    (later,) = desk.put(1)
    desk.group.join()

    error = broken.exception(0)
    assert isinstance(error, SlurmFuturesError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert later.job_id == "100"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_waiting_calls_fail_if_the_thread_ends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort."""

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.submitter, "_next", fail)

    (future,) = desk.put(1)
    desk.group.join()

    assert isinstance(future.exception(60), SlurmFuturesError)


# max_workers


def test_array_is_throttled_to_the_number_of_workers(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Slurm itself starts the next task when one ends."""
    desk = Desk(scheduler, tmp_path, max_workers=3)

    desk.put(8)
    desk.group.join()

    assert [(b.array_size, b.throttle) for b in scheduler.batches] == [(8, 3)]


def test_array_that_fits_is_not_throttled(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """`%3` for three tasks says nothing."""
    desk = Desk(scheduler, tmp_path, max_workers=3)

    desk.put(3)
    desk.group.join()

    assert scheduler.batches[0].throttle is None


def test_second_submission_has_the_workers_that_are_left(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """All submissions of an executor share its workers."""
    desk = Desk(scheduler, tmp_path, max_workers=5)
    desk.put(2)
    desk.group.join()

    desk.put(9)
    desk.group.join()

    assert scheduler.batches[1].throttle == 3


def test_calls_wait_while_all_workers_are_busy(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """In the outbox, without a thread; a job that ends sends them."""
    desk = Desk(scheduler, tmp_path, max_workers=2)
    desk.put(2)
    desk.group.join()
    desk.put(3)
    desk.group.join()
    sizes_before = scheduler.sizes

    desk.finish(desk.watched[0], 0)

    desk.group.join()
    assert sizes_before == [2]
    assert scheduler.sizes == [2, 3]
    assert scheduler.batches[1].throttle == 1


def test_room_is_wanted_while_other_kinds_wait(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Until there is a place, or nobody waits for the calls any more."""
    desk = Desk(scheduler, tmp_path, max_workers=2)
    desk.put(2)
    desk.group.join()
    assert not desk.submitter.is_room_wanted(LARGE)

    (waiting,) = desk.put(1)
    desk.group.join()
    assert desk.submitter.is_room_wanted(LARGE)
    assert not desk.submitter.is_room_wanted(KIND)
    waiting.cancel()
    assert not desk.submitter.is_room_wanted(LARGE)


def test_throttle_is_raised_as_other_jobs_end(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """Workers that another submission no longer needs go to the array."""
    desk = Desk(scheduler, tmp_path, max_workers=4)
    desk.put(2)
    desk.group.join()
    desk.put(9)
    desk.group.join()

    desk.finish(desk.watched[0])

    assert_soon(lambda: sum(limit == 4 for _, limit in scheduler.throttled) == 1)
    desk.group.join()
    assert {array for array, _ in scheduler.throttled} == {JobId(101)}


def test_throttle_that_cannot_be_raised_harms_nothing(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array goes on with fewer jobs at a time."""

    def fail(array: JobId, limit: int) -> None:
        raise SchedulerError("scontrol failed")

    monkeypatch.setattr(scheduler, "throttle", fail)
    desk = Desk(scheduler, tmp_path, max_workers=2)
    desk.put(1)
    desk.group.join()
    desk.put(4)
    desk.group.join()

    desk.finish(desk.watched[0])

    desk.group.join()
    assert len(desk.watched[1].jobs) == 4


def test_throttle_that_could_not_be_raised_is_raised_later(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scontrol that fails does not leave an array at one job at a time."""
    throttle = scheduler.throttle

    def fail_once(array: JobId, limit: int) -> None:
        monkeypatch.setattr(scheduler, "throttle", throttle)
        raise SchedulerError("scontrol failed")

    monkeypatch.setattr(scheduler, "throttle", fail_once)
    desk = Desk(scheduler, tmp_path, max_workers=8, throttle_retry=0.0)
    desk.put(7)
    desk.group.join()
    desk.put(20)
    desk.group.join()

    desk.finish(desk.watched[0])

    desk.group.join()
    assert scheduler.throttled == [(JobId(101), 8)]


def test_thread_ends_when_there_is_nothing_to_send(desk: Desk) -> None:
    """An idle executor has no thread at all."""
    desk.put(1)
    desk.group.join()

    assert not desk.submitter._thread.exists
