"""The poller on files and snapshots that the test makes: from a look to the future."""

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.errors import (
    InitializerFailed,
    JobCancelled,
    JobFailed,
    JobLost,
    JobOutOfMemory,
    JobPreempted,
    JobState,
    JobTimeout,
    NodeFailed,
    OutcomeNotReadable,
    PendingTimeout,
    RemoteTraceback,
    SlurmFuturesError,
)
from slurm_futures.jobs.judge import UNLISTED
from slurm_futures.jobs.queue_cache import Subscriber
from slurm_futures.jobs.timing import Timing
from slurm_futures.node import formats
from slurm_futures.schedulers.base import Ending, JobId, Row
from tests.unit.fakes import (
    FakeJobs,
    FakeScheduler,
    WatchedPoller,
    finished_path,
    make_jobs,
    squeue_is_down,
)
from tests.waiting import assert_soon, becomes_true


def end(watched: WatchedPoller, *arrays: FakeJobs) -> None:
    """Cancel what is still open, and wait for the thread of the poller."""
    for array in arrays:
        for job in list(array.opened.jobs.values()):
            watched.poller.cancel(job)
    watched.group.join()


def assert_more_queries(scheduler: FakeScheduler, count: int = 3) -> None:
    """Wait until squeue was asked so many times more."""
    before = scheduler.query_count
    assert_soon(lambda: scheduler.query_count >= before + count)


def test_value_of_a_finished_job_is_the_result(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """The good path: found by listing, no question to the scheduler."""
    watched.watch(jobs)

    jobs.finish(0, "zero")
    jobs.finish(1, "one")

    assert [future.result(60) for future in jobs.futures] == ["zero", "one"]
    watched.group.join()
    assert watched.above.over == [jobs.opened, jobs.opened]
    assert watched.failures.failed == []


def test_files_win_over_squeue(jobs: FakeJobs, scheduler: FakeScheduler) -> None:
    """A job that Slurm calls failed has a result all the same."""
    watched = WatchedPoller(scheduler, grace=60)
    jobs.begin(0)
    jobs.begin(1)
    scheduler.show(jobs, jobs.row(JobState.NODE_FAIL))
    watched.watch(jobs)
    assert_more_queries(scheduler, 1)

    jobs.finish(0, 1)
    jobs.finish(1, 2)

    assert [future.result(60) for future in jobs.futures] == [1, 2]
    watched.group.join()


def test_exception_of_a_call_is_that_of_the_future(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """With the remote traceback as its cause; its job counts as failed."""
    watched.watch(jobs)

    jobs.raise_in_call(0, ValueError("no such seed"))

    error = jobs.futures[0].exception(60)
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert jobs.futures[0].state is JobState.FAILED
    end(watched, jobs)
    assert watched.failures.failed == [jobs.futures[0].directory]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (JobState.FAILED, JobFailed),
        (JobState.CANCELLED, JobCancelled),
        (JobState.TIMEOUT, JobTimeout),
        (JobState.DEADLINE, JobTimeout),
        (JobState.NODE_FAIL, NodeFailed),
        (JobState.BOOT_FAIL, NodeFailed),
        (JobState.PREEMPTED, JobPreempted),
        (JobState.OUT_OF_MEMORY, JobOutOfMemory),
        (JobState.COMPLETED, JobLost),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_ended_job_without_outcome_fails_with_its_cause(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    state: JobState,
    error: type[JobFailed],
) -> None:
    """After the grace, with what Slurm says."""
    jobs.begin(0)
    scheduler.show(jobs, jobs.row(state, 0), jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    failure = jobs.futures[0].exception(60)

    assert type(failure) is error
    assert isinstance(failure, JobFailed)
    assert (failure.job_id, failure.state) == ("100_0", state)
    assert not jobs.futures[1].done()
    end(watched, jobs)


@pytest.mark.parametrize("state", [JobState.COMPLETING, JobState.UNKNOWN])
def test_job_in_a_passing_or_unknown_state_is_waited_for(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler, state: JobState
) -> None:
    """However many snapshots say so."""
    scheduler.show(jobs, jobs.row(state))
    watched.watch(jobs)

    assert_more_queries(scheduler, 8)

    assert not any(future.done() for future in jobs.futures)
    end(watched, jobs)


def test_job_that_squeue_forgot_is_lost(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """Nobody knows how it ended: the future does not wait for ever."""
    jobs.begin(0)
    scheduler.show(jobs)
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), JobLost)
    end(watched, jobs)


def test_job_that_squeue_forgot_ends_as_the_accounting_knows(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """The scheduler is asked once how jobs ended that have left the queue."""
    jobs.begin(0)
    job_id = jobs.job_id.task(0)
    scheduler.endings[job_id] = Ending(JobState.NODE_FAIL, node="c9")
    scheduler.show(jobs, jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), NodeFailed)
    assert scheduler.explained == [job_id]
    end(watched, jobs)


@pytest.mark.parametrize("state", sorted(UNLISTED, key=str))
def test_job_that_squeue_cannot_list_is_waited_for(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler, state: JobState
) -> None:
    """Slurm 20.11: squeue leaves a stopped job out, scontrol says that it is there."""
    jobs.begin(0)
    job_id = jobs.job_id.task(0)
    scheduler.endings[job_id] = Ending(state, node="c9")
    scheduler.show(jobs, jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    assert_soon(lambda: scheduler.explained.count(job_id) >= 2)
    assert jobs.futures[0].state is state
    jobs.finish(0, "late")

    assert jobs.futures[0].result(60) == "late"
    end(watched, jobs)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_job_that_squeue_leaves_out_lives_as_slurmctld_says(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler, state: JobState
) -> None:
    """A squeue that answers from a cache of the site is behind."""
    job_id, directory = jobs.job_id.task(0), str(jobs.submission.path)
    scheduler.endings[job_id] = Ending(state, directory=directory)
    scheduler.show(jobs, jobs.row(JobState.PENDING, 1))
    watched.watch(jobs)

    assert_soon(lambda: scheduler.explained.count(job_id) >= 2)
    jobs.finish(0, "late")

    assert jobs.futures[0].result(60) == "late"
    end(watched, jobs)


def test_job_of_somebody_else_with_our_id_keeps_nobody_waiting(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """The controller has lost its state; squeue shows our user's jobs alone."""
    jobs.begin(0)
    job_id = jobs.job_id.task(0)
    scheduler.endings[job_id] = Ending(JobState.RUNNING, directory="/elsewhere")
    scheduler.show(jobs, jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), JobLost)
    end(watched, jobs)


def test_pending_task_that_vanishes_alone_was_cancelled(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """Slurm keeps no record of it, while it lists the rest of the array."""
    scheduler.show(jobs, jobs.row(JobState.PENDING, 1))
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), JobCancelled)
    assert not jobs.futures[1].done()
    end(watched, jobs)


def test_row_without_index_speaks_for_a_whole_array(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """All that is left of an array that was cancelled before it started."""
    directory = str(jobs.submission.path)
    scheduler.show(jobs, Row(JobState.CANCELLED, "None", None, directory))
    watched.watch(jobs)

    assert all(isinstance(each.exception(60), JobCancelled) for each in jobs.futures)
    watched.group.join()


def test_row_of_another_program_with_our_id_is_not_ours(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """A controller that lost its state gives the same ids again."""
    jobs.begin(0)
    jobs.begin(1)
    scheduler.show(jobs, Row(JobState.RUNNING, "None", (range(2),), "/elsewhere"))
    watched.watch(jobs)

    assert all(isinstance(each.exception(60), JobLost) for each in jobs.futures)
    watched.group.join()


def test_no_clock_runs_while_squeue_fails(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed squeue is no news; a good one ends the wait."""
    jobs.begin(0)
    scheduler.show(jobs)
    scheduler.query_error = squeue_is_down()
    watched.watch(jobs)
    assert_more_queries(scheduler, 10)
    undecided = [future.done() for future in jobs.futures]

    scheduler.query_error = None

    assert undecided == [False, False]
    assert isinstance(jobs.futures[0].exception(60), JobLost)
    end(watched, jobs)


def test_requeued_job_is_waited_for_again(
    scheduler: FakeScheduler, jobs: FakeJobs
) -> None:
    """The end that a snapshot told of is taken back by a later one."""
    watched = WatchedPoller(scheduler, grace=1.0)
    scheduler.show(jobs, jobs.row(JobState.NODE_FAIL))
    watched.watch(jobs)
    assert_soon(lambda: jobs.futures[0].state is JobState.NODE_FAIL)
    scheduler.show(jobs, jobs.row(JobState.PENDING))
    assert_soon(lambda: jobs.futures[0].state is JobState.PENDING)

    jobs.finish(0, "second attempt")

    assert jobs.futures[0].result(60) == "second attempt"
    end(watched, jobs)


def test_job_whose_worker_died_fails_without_a_question(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """Its own mark says all: nobody waits, and scontrol is not asked."""
    watched.watch(jobs)

    jobs.die(0, exit_code=3)

    failure = jobs.futures[0].exception(60)
    assert type(failure) is JobFailed
    assert (failure.exit_code, failure.node) == (3, "c17")
    assert scheduler.explained == []
    end(watched, jobs)


def test_job_that_slurm_would_start_again_is_cancelled(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """For its exit code: nobody waits for what it would do then."""
    scheduler.requeue_exits = (range(78, 79),)
    scheduler.show(jobs, jobs.row(JobState.SPECIAL_EXIT))
    watched.watch(jobs)

    jobs.die(0, exit_code=78)
    jobs.die(1, exit_code=3)

    assert all(isinstance(each.exception(60), JobFailed) for each in jobs.futures)
    assert_soon(lambda: jobs.job_id.task(0) in watched.cancelled)
    assert jobs.job_id.task(1) not in watched.cancelled
    scheduler.show(jobs)
    watched.group.join()


def test_killed_job_ran_out_of_memory_if_slurm_says_so(
    scheduler: FakeScheduler, jobs: FakeJobs
) -> None:
    """SIGKILL alone does not tell who sent it."""
    watched = WatchedPoller(scheduler)
    watched.watch(jobs)
    scheduler.show(jobs, jobs.row(JobState.OUT_OF_MEMORY, 0))

    jobs.die(0, exit_code=137)

    assert isinstance(jobs.futures[0].exception(60), JobOutOfMemory)
    end(watched, jobs)


def test_killed_job_fails_if_slurm_says_nothing(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """Somebody else has killed it, maybe the call itself."""
    watched.watch(jobs)

    jobs.die(0, exit_code=137)

    failure = jobs.futures[0].exception(60)
    assert type(failure) is JobFailed
    assert failure.signal == 9
    end(watched, jobs)


@pytest.mark.parametrize("exit_code", [137, 143])
def test_job_that_is_requeued_after_its_worker_died_goes_on(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    exit_code: int,
) -> None:
    """The signal came from Slurm, and the mark is that of the attempt before."""
    watched.set_times(cause_wait=3600)
    watched.watch(jobs)
    jobs.die(0, exit_code)
    assert_soon(lambda: jobs.opened.jobs[0].death is not None)

    scheduler.show(jobs, jobs.row(JobState.PENDING, 0))

    assert_soon(lambda: jobs.opened.jobs[0].old_death is not None)
    watched.set_times(cause_wait=0)
    jobs.finish(0, "second attempt")
    assert jobs.futures[0].result(60) == "second attempt"
    end(watched, jobs)


def test_job_that_has_begun_anew_takes_back_that_its_worker_died(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the requeue was too quick for squeue to show it."""
    watched.set_times(cause_wait=3600)
    watched.watch(jobs)
    jobs.die(0, 137)
    assert_soon(lambda: jobs.opened.jobs[0].death is not None)

    finished_path(jobs.submission, 0).with_name("0.died").unlink()

    assert_soon(lambda: jobs.opened.jobs[0].death is None)
    watched.set_times(cause_wait=0)
    jobs.finish(0, "second attempt")
    assert jobs.futures[0].result(60) == "second attempt"
    end(watched, jobs)


@pytest.mark.parametrize(
    ("words", "error"),
    [(" DUE TO TIME LIMIT", JobTimeout), ("", JobCancelled)],
    ids=["time limit", "scancel"],
)
def test_job_that_slurm_ended_fails_as_its_log_says(
    watched: WatchedPoller, jobs: FakeJobs, words: str, error: type[JobFailed]
) -> None:
    """Long before squeue shows it."""
    watched.watch(jobs)

    jobs.be_ended_by_slurm(0, f"*** JOB 100 ON c17 CANCELLED AT 2026-11-22{words} ***")

    assert type(jobs.futures[0].exception(60)) is error
    end(watched, jobs)


def test_preempted_job_may_run_again(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """What the log says is not final: the queue decides."""
    watched.watch(jobs)
    jobs.be_ended_by_slurm(0, "*** JOB 100 CANCELLED AT 11-22 DUE TO PREEMPTION ***")
    assert_more_queries(scheduler)

    jobs.finish(0, "later")

    assert jobs.futures[0].result(60) == "later"
    end(watched, jobs)


def test_call_that_ended_before_its_job_was_killed_has_its_result(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """Outcomes are appended one by one: what is there counts."""
    watched.watch(jobs)
    jobs.write_outcome(0, "in time")

    jobs.die(0, exit_code=1)

    assert jobs.futures[0].result(60) == "in time"
    end(watched, jobs)


def test_start_is_seen_in_the_files(watched: WatchedPoller, jobs: FakeJobs) -> None:
    """`running()` need not wait for squeue."""
    watched.watch(jobs)

    jobs.begin(1)

    assert_soon(jobs.futures[1].running)
    end(watched, jobs)


def test_callback_that_raises_harms_nobody(
    watched: WatchedPoller, jobs: FakeJobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Even an exception that is no Exception."""

    def leave(future: object) -> None:
        raise SystemExit

    jobs.futures[0].add_done_callback(leave)
    watched.watch(jobs)

    jobs.finish(0, 0)
    jobs.finish(1, 1)

    assert jobs.futures[1].result(60) == 1
    watched.group.join()
    assert "a callback raised" in caplog.text


def test_error_in_one_submission_does_not_harm_others(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own futures fail with the cause, all others go on."""
    other = make_jobs(tmp_path, scheduler, number=101)

    def fail(blocks: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(jobs.submission, "list_ends", fail)
    watched.watch(jobs)
    watched.watch(other)
    other.finish(0, "unharmed")

    failure = jobs.futures[0].exception(60)

    assert isinstance(failure, SlurmFuturesError)
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert other.futures[0].result(60) == "unharmed"
    end(watched, other)


def test_directory_that_cannot_be_read_for_a_while_is_no_news(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may come back."""
    looks: list[object] = []

    def fail(blocks: object) -> None:
        looks.append(blocks)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(jobs.submission, "list_ends", fail)
        watched.watch(jobs)
        assert_soon(lambda: len(looks) > 2)
    jobs.finish(0, "back")

    assert jobs.futures[0].result(60) == "back"
    end(watched, jobs)


def cannot_list(blocks: object) -> None:
    """Fail as the mount of a dead file server does."""
    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


def test_directory_that_cannot_be_read_for_long_is_told_of(
    watched: WatchedPoller,
    jobs: FakeJobs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once in a while; jobs that are alive are waited for all the same."""
    watched.set_times(unlisted_warning=0.1)
    with monkeypatch.context() as patched:
        patched.setattr(jobs.submission, "list_ends", cannot_list)
        watched.watch(jobs)
        assert_soon(lambda: "is not connected" in caplog.text)
    jobs.finish(0, "back")

    assert jobs.futures[0].result(60) == "back"
    assert caplog.text.count("job 100: its results cannot be looked for") == 1
    end(watched, jobs)


def test_job_that_is_over_is_lost_where_its_directory_stays_unreadable(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the grace, with the words of the system; a living one is waited for."""
    monkeypatch.setattr(jobs.submission, "list_ends", cannot_list)
    scheduler.show(jobs, jobs.row(JobState.COMPLETED, 0), jobs.row(JobState.RUNNING, 1))

    watched.watch(jobs)

    failure = jobs.futures[0].exception(60)
    assert isinstance(failure, JobLost)
    assert "Transport endpoint is not connected" in str(failure)
    assert failure.job_id == "100_0"
    assert not jobs.futures[1].done()
    end(watched, jobs)


def test_job_that_was_over_before_its_directory_became_unreadable_has_its_grace(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has left may be there when the file system is back."""
    watched = WatchedPoller(scheduler, grace=60)
    scheduler.show(jobs, jobs.row(JobState.COMPLETED))
    with monkeypatch.context() as patched:
        patched.setattr(jobs.submission, "list_ends", cannot_list)
        watched.watch(jobs)
        assert_soon(lambda: jobs.opened.outage.since is not None)
        for job in jobs.opened.jobs.values():
            job.over_since = -1000.0
        assert_more_queries(scheduler, 3)
        jobs.finish(0, "back")
        undecided = not jobs.futures[0].done()

    assert undecided
    assert jobs.futures[0].result(60) == "back"
    end(watched, jobs)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_every_future_fails_if_the_thread_ends(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort: no future may hang."""

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(watched.poller, "_look", fail)
    watched.watch(jobs)

    failures = [future.exception(60) for future in jobs.futures]

    assert [type(each) for each in failures] == [SlurmFuturesError] * 2
    watched.group.join()


def fail_once(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function that raises when it is called for the first time."""
    calls: list[None] = []

    def fail_at_first() -> None:
        calls.append(None)
        if len(calls) == 1:
            raise ZeroDivisionError
        function()

    return fail_at_first


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_submission_that_arrives_as_the_thread_fails_is_watched_by_the_next_one(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its message waits in the inbox when all that was open has failed."""
    other = make_jobs(tmp_path, scheduler, number=101)
    fail_everything = watched.poller._fail_everything

    def fail_while_another_one_comes(error: BaseException) -> None:
        fail_everything(error)
        watched.watch(other)

    monkeypatch.setattr(watched.poller, "_look", fail_once(watched.poller._look))
    monkeypatch.setattr(
        watched.poller, "_fail_everything", fail_while_another_one_comes
    )
    other.finish(0, "late")
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), SlurmFuturesError)
    assert other.futures[0].result(60) == "late"
    end(watched, other)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_queue_that_cannot_be_stopped_does_not_hold_up_the_end_of_the_thread(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All futures of jobs fail, and a later submission finds another thread."""

    class BrokenQueue:
        is_open = True

        def look(self) -> bool:
            return False

        def fail(self, error: SlurmFuturesError) -> None:
            self.is_open = False
            raise LookupError from error

        stop = fail

    watched.poller.watch_queue(BrokenQueue())
    watched.watch(jobs)
    monkeypatch.setattr(watched.poller, "_look", fail_once(watched.poller._look))

    assert isinstance(jobs.futures[0].exception(60), SlurmFuturesError)
    watched.group.join()


class Queue:
    """A queue of calls that waits until it is stopped."""

    def __init__(self) -> None:
        self.is_open = True
        self.error: SlurmFuturesError | None = None

    def look(self) -> bool:
        """Look."""
        return False

    def fail(self, error: SlurmFuturesError) -> None:
        """End."""
        self.is_open = False
        self.error = error

    stop = fail


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_messages_that_arrive_before_the_thread_fails_are_not_lost(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue is stopped as well, and what settles futures is called."""
    queue = Queue()
    called: list[str] = []

    def receive_and_fail() -> None:
        watched.poller.watch_queue(queue)
        watched.poller.call(lambda: called.append("called"))
        raise ZeroDivisionError

    monkeypatch.setattr(watched.poller, "_look", receive_and_fail)
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), SlurmFuturesError)
    assert_soon(lambda: queue.error is not None)
    assert called == ["called"]
    watched.group.join()


def test_call_that_raises_harms_nobody(
    watched: WatchedPoller, jobs: FakeJobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Even an exception that is no Exception: the thread goes on."""

    def leave() -> None:
        raise SystemExit

    watched.watch(jobs)
    watched.poller.call(leave)
    jobs.finish(0, 0)
    jobs.finish(1, 1)

    assert [future.result(60) for future in jobs.futures] == [0, 1]
    watched.group.join()
    assert "an error that should not happen" in caplog.text


def test_stop_fails_open_futures_and_cancels_their_jobs(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """Each future has an error of its own; none is raised twice."""
    watched.watch(jobs)

    watched.stop(InitializerFailed("the initializer failed"))

    first, second = (future.exception(60) for future in jobs.futures)
    assert isinstance(first, InitializerFailed)
    assert first is not second
    watched.group.join()
    assert watched.cancelled == [jobs.job_id.task(0), jobs.job_id.task(1)]


def test_failed_initializer_is_reported(watched: WatchedPoller, jobs: FakeJobs) -> None:
    """Who is told decides about all futures, also about that of this job."""
    watched.watch(jobs)

    jobs.raise_in_call(0, KeyError("licence"), formats.INITIALIZER_FAILED)

    assert_soon(lambda: watched.above.initializer_errors)
    watched.stop(InitializerFailed("the initializer failed"))
    assert isinstance(jobs.futures[0].exception(60), InitializerFailed)
    watched.group.join()
    assert isinstance(watched.above.initializer_errors[0], KeyError)


def test_dropped_job_is_not_watched_any_more(
    watched: WatchedPoller, jobs: FakeJobs
) -> None:
    """With the last job the thread ends."""
    watched.watch(jobs)

    end(watched, jobs)

    assert jobs.opened.jobs == {}
    watched.group.join()
    assert not watched.poller._thread.exists


def test_poller_can_watch_again_after_its_thread_has_ended(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    tmp_path: Path,
) -> None:
    """An idle executor has no thread, and takes calls all the same."""
    watched.watch(jobs)
    end(watched, jobs)
    later = make_jobs(tmp_path, scheduler, number=101)
    later.finish(0, "later")

    watched.watch(later)

    assert later.futures[0].result(60) == "later"
    end(watched, later)


def test_callback_may_watch_another_submission(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    """No lock is held while a future is settled."""
    later = make_jobs(tmp_path, scheduler, number=101)
    later.finish(0, "chained")

    def go_on(future: SlurmFuture[object]) -> None:
        watched.watch(later)

    jobs.futures[0].add_done_callback(go_on)  # type: ignore[arg-type]  # a Future
    watched.watch(jobs)
    jobs.finish(0)

    assert later.futures[0].result(60) == "chained"
    end(watched, jobs, later)


def test_squeue_is_asked_less_often_while_nothing_changes(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """Up to a factor of 12."""
    watched.watch(jobs)

    assert_soon(
        lambda: watched.poller._pace.query_factor == Timing().longest_query_factor
    )

    end(watched, jobs)


def test_no_squeue_while_no_future_is_open(
    watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """The wish of a poller ends with its last job."""
    watched.watch(jobs)
    assert_more_queries(scheduler, 1)

    end(watched, jobs)

    assert_soon(lambda: not watched.poller._subscription.cache._thread.exists)


def test_stuck_job_is_told_of_once(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A request that no node can fulfil waits for ever, with a word from us."""
    directory = str(jobs.submission.path)
    row = Row(JobState.PENDING, "PartitionConfig", (range(2),), directory)
    scheduler.show(jobs, row)

    watched.watch(jobs)
    assert_more_queries(scheduler, 3)

    end(watched, jobs)
    assert caplog.text.count("may do so for ever (reason PartitionConfig)") == 1


def test_job_that_is_pending_for_too_long_is_cancelled(
    scheduler: FakeScheduler, jobs: FakeJobs
) -> None:
    """With `pending_timeout`; the reason is in the message."""
    watched = WatchedPoller(scheduler, pending_timeout=0.05)
    directory = str(jobs.submission.path)
    row = Row(JobState.PENDING, "Resources", (range(1),), directory)
    scheduler.show(jobs, row, jobs.row(JobState.RUNNING, 1))

    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), PendingTimeout)
    assert watched.cancelled == [jobs.job_id.task(0)]
    assert not jobs.futures[1].done()
    end(watched, jobs)


def test_waiting_for_the_own_array_is_not_being_stuck(
    scheduler: FakeScheduler, jobs: FakeJobs
) -> None:
    """`pending_timeout` does not count the time behind `max_workers`."""
    watched = WatchedPoller(scheduler, pending_timeout=0.0)
    directory = str(jobs.submission.path)
    row = Row(JobState.PENDING, "JobArrayTaskLimit", (range(2),), directory)
    scheduler.show(jobs, row)

    watched.watch(jobs)
    assert_more_queries(scheduler, 5)

    assert not any(future.done() for future in jobs.futures)
    end(watched, jobs)


def test_late_result_is_taken_while_the_end_is_explained(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explanation takes its time; files that came meanwhile win."""
    watched = WatchedPoller(scheduler)

    def explain(lost: object) -> dict[object, Ending]:
        jobs.finish(0, "just in time")
        return {}

    monkeypatch.setattr(scheduler, "explain", explain)
    jobs.begin(0)
    scheduler.show(jobs, jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    assert jobs.futures[0].result(60) == "just in time"
    end(watched, jobs)


def test_explanation_that_fails_costs_facts_only(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The future ends without it."""
    watched = WatchedPoller(scheduler)

    def explain(lost: object) -> None:
        raise squeue_is_down()

    monkeypatch.setattr(scheduler, "explain", explain)
    jobs.begin(0)
    scheduler.show(jobs)
    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), JobLost)
    end(watched, jobs)


@pytest.mark.parametrize("dies", [False, True])
def test_a_call_that_is_about_to_run_again_does_not_run(
    scheduler: FakeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dies: bool,
) -> None:
    """From the moment on at which the next attempt is known it can be cancelled."""
    watched = WatchedPoller(scheduler, retries={ArithmeticError: 1, JobFailed: 1})
    jobs = make_jobs(tmp_path, scheduler, 1)
    (future,) = jobs.futures
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        watched.above,
        "resubmit",
        lambda *_: seen.append((future.attempts, future.running())),
    )
    watched.watch(jobs)
    jobs.begin(0)
    assert_soon(future.running)
    if dies:
        jobs.die(0)
    else:
        jobs.raise_in_call(0, ArithmeticError())
    watched.group.join()

    assert seen == [(2, False)]


def test_joining_waits_for_the_explainer(
    watched: WatchedPoller,
    scheduler: FakeScheduler,
    jobs: FakeJobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though nobody wants to know any more what it asks for."""
    asked, go_on = threading.Event(), threading.Event()

    def explain(_: object) -> dict[JobId, Ending]:
        asked.set()
        assert go_on.wait(60)
        return {}

    monkeypatch.setattr(scheduler, "explain", explain)
    watched.watch(jobs)
    jobs.begin(0)
    scheduler.show(jobs, jobs.row(JobState.NODE_FAIL))
    assert asked.wait(60)
    for job in list(jobs.opened.jobs.values()):
        watched.poller.cancel(job)
    joining = threading.Thread(target=watched.group.join)
    joining.start()
    assert_soon(lambda: not watched.poller._thread.exists)

    joining.join(0.1)
    assert joining.is_alive()
    go_on.set()
    joining.join(60)
    assert not joining.is_alive()


def test_result_is_noticed_soon(watched: WatchedPoller, jobs: FakeJobs) -> None:
    """At once, though squeue is asked much later."""
    watched.watch(jobs)
    jobs.finish(0, time.monotonic())

    written_at = jobs.futures[0].result(60)

    assert time.monotonic() - written_at < 3
    end(watched, jobs)


@pytest.mark.parametrize("content", [b"", b"SLFO", b"no outcomes at all" * 9])
def test_outcomes_that_stay_incomplete_fail_the_job(
    watched: WatchedPoller, jobs: FakeJobs, content: bytes
) -> None:
    """After the grace; the file alone is no result."""
    jobs.finish(0)
    finished_path(jobs.submission, 0).write_bytes(content)

    watched.watch(jobs)

    assert isinstance(jobs.futures[0].exception(60), JobFailed)
    end(watched, jobs)


def test_outcomes_of_somebody_else_are_refused(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are never unpickled; the future says so."""
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    jobs.finish(0)

    watched.watch(jobs)

    failure = jobs.futures[0].exception(60)
    monkeypatch.undo()
    assert isinstance(failure, OutcomeNotReadable)
    assert "only your own files are unpickled" in str(failure)
    end(watched, jobs)


def test_jobs_whose_directory_was_removed_fail(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No result can come any more."""
    watched.set_times(gone_grace=0.05)
    watched.watch(jobs)

    jobs.submission.remove()

    assert all(isinstance(each.exception(60), JobLost) for each in jobs.futures)
    watched.group.join()


def test_slow_callback_does_not_delay_the_next_look(
    watched: WatchedPoller, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the time that the file system takes stretches the pauses."""
    watched.set_times(look_cost_factor=1000)
    gate = threading.Event()
    jobs.futures[0].add_done_callback(lambda _: gate.wait(0.2))
    jobs.finish(0)

    watched.watch(jobs)

    jobs.futures[0].result(60)
    assert_soon(watched.poller._inbox.empty)
    assert watched.poller._pace.cost < 0.1
    end(watched, jobs)


def test_stream_of_submissions_does_not_put_off_squeue(
    jobs: FakeJobs, tmp_path: Path
) -> None:
    """A new submission may wait for the next squeue, which comes when it is due."""
    scheduler = FakeScheduler(poll_interval=0.2)
    watched = WatchedPoller(scheduler)
    arrays: list[FakeJobs] = []

    def submit_more() -> bool:
        arrays.append(make_jobs(tmp_path, scheduler, 1, 100 + len(arrays)))
        watched.poller.watch(arrays[-1].opened)
        return scheduler.query_count > 0

    assert_soon(submit_more, 60)
    end(watched, *arrays)


def test_submission_that_arrives_as_the_thread_ends_has_its_squeue(
    watched: WatchedPoller,
    jobs: FakeJobs,
    scheduler: FakeScheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old thread does not take the wish of the new one along."""
    forget = watched.poller._subscription.cache.forget
    later = make_jobs(tmp_path, scheduler, 1, number=101)
    scheduler.show(later)
    threads: list[threading.Thread] = []

    def forget_slowly(subscriber: Subscriber) -> None:
        if not threads:
            threads.append(
                threading.Thread(target=watched.poller.watch, args=[later.opened])
            )
            threads[0].start()
            becomes_true(lambda: later.opened in watched.poller._open, 0.3)
        forget(subscriber)

    monkeypatch.setattr(watched.poller._subscription.cache, "forget", forget_slowly)
    watched.watch(jobs)
    jobs.finish(0)
    jobs.finish(1)

    assert isinstance(later.futures[0].exception(60), JobFailed)
    end(watched, later)


def test_explanation_of_jobs_that_were_cancelled_meanwhile_is_dropped(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their futures are done."""
    watched = WatchedPoller(scheduler)

    def explain(lost: object) -> dict[object, Ending]:
        jobs.futures[0].cancel()
        watched.poller.cancel(jobs.opened.jobs[0])
        return {}

    monkeypatch.setattr(scheduler, "explain", explain)
    jobs.begin(0)
    scheduler.show(jobs, jobs.row(JobState.RUNNING, 1))
    watched.watch(jobs)

    assert_soon(lambda: 0 not in jobs.opened.jobs)
    end(watched, jobs)
    assert jobs.futures[0].cancelled()
