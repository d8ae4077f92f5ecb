"""Futures: cancel at any time, what they know of their job, outcomes of chunks."""

import threading
from concurrent.futures import CancelledError, InvalidStateError, as_completed, wait
from pathlib import Path
from typing import Any, SupportsIndex

import pytest

from slurm_futures.calls.outcome import Outcome
from slurm_futures.errors import JobState
from tests.unit.fakes import FakeAbove, make_chunk, make_future, make_job
from tests.waiting import assert_soon


def test_cancel_of_a_running_call_succeeds_and_is_told_of_once() -> None:
    """Who is told sends the scancel."""
    told = FakeAbove()
    future = make_future(told)
    make_job(future=future).note_start()

    answers = [future.cancel(), future.cancel()]

    assert answers == [True, True]
    assert told.cancelled == [future]
    assert future.cancelled()
    assert not future.running()


def test_settled_future_cannot_be_cancelled() -> None:
    """As in the standard library."""
    told = FakeAbove()
    future = make_future(told)
    future._settle(0, Outcome(value=1))

    assert not future.cancel()
    assert told.cancelled == []


def test_cancelled_future_stays_cancelled() -> None:
    """A result that comes later is dropped."""
    future = make_future()
    future.cancel()

    future._settle(0, Outcome(value=1))

    with pytest.raises(CancelledError):
        future.result(0)


@pytest.mark.parametrize("how", ["wait", "as_completed"])
def test_cancel_wakes_who_waits(how: str) -> None:
    """Once it has been heard of: no worker will ever pick the call up and tell them."""
    future, other = make_future(), make_future()
    seen: list[object] = []

    def wait_for_it() -> None:
        if how == "wait":
            seen.extend(wait([future, other], 10, "FIRST_COMPLETED").done)
        else:
            seen.append(next(as_completed([future, other], 10)))

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert_soon(lambda: future._waiters)

    future.cancel()
    future._end_cancel()

    thread.join(60)
    assert seen == [future]


class _Interrupts(list[Any]):
    """Callbacks of a future, at which an interrupt comes."""

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Interrupt the first who takes one."""
        del index
        self.pop = super().pop  # type: ignore[assignment,method-assign]
        raise KeyboardInterrupt


def test_cancel_that_is_interrupted_is_ended_by_who_hears_of_it() -> None:
    """He has heard of it first, and each callback comes once."""
    told = FakeAbove()
    future = make_future(told)
    called: list[object] = []
    future._done_callbacks = _Interrupts([called.append])  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert (told.cancelled, called) == ([future], [])

    assert future._end_cancel()
    for _ in range(2):
        future._invoke_callbacks()

    assert called == [future]
    assert wait([future], 0).done == {future}


def test_cancel_that_was_heard_of_may_come_too_late() -> None:
    """Then it has no effect."""
    future = make_future()
    future._settle(0, Outcome(value=1))

    assert not future._end_cancel()
    assert future.result(0) == 1


def test_many_threads_may_cancel() -> None:
    """Callbacks come once all the same."""
    future = make_future()
    called: list[object] = []
    future.add_done_callback(called.append)
    gate = threading.Barrier(8)

    def cancel() -> None:
        gate.wait(60)
        future.cancel()
        future._end_cancel()
        future._invoke_callbacks()

    threads = [threading.Thread(target=cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert called == [future]


def test_callbacks_run_when_a_future_is_cancelled() -> None:
    """Before `cancel` returns."""
    future = make_future()
    called: list[object] = []
    future.add_done_callback(called.append)

    future.cancel()

    assert called == [future]


def test_future_without_a_job_knows_nothing() -> None:
    """It waits to be submitted."""
    future = make_future()

    assert (future.job_id, future.state, future.directory) == (None, None, None)
    assert (future.stdout(), future.stderr()) == ("", "")
    assert not future.running()
    assert future._open_jobs() == []


def test_future_knows_its_job(tmp_path: Path) -> None:
    """Its id, its state, its files."""
    future = make_future()
    job = make_job(directory=tmp_path, future=future)
    job.see(JobState.RUNNING, at=1.0)
    job.directory.path.mkdir(parents=True)
    (job.directory.path / "stdout").write_bytes(b"epoch 3\n\xff")
    (job.directory.path / "stderr").write_text("warning\n")

    assert (future.job_id, future.state) == ("5_7", JobState.RUNNING)
    assert future.directory == job.directory.path
    assert future.running()
    assert future.stdout() == "epoch 3\n\N{REPLACEMENT CHARACTER}"
    assert future.stderr() == "warning\n"


def test_output_of_a_job_that_has_not_begun_is_empty(tmp_path: Path) -> None:
    """There are no files yet."""
    future = make_future()
    make_job(directory=tmp_path, future=future)

    assert (future.stdout(), future.stderr()) == ("", "")


def test_future_knows_all_its_open_jobs() -> None:
    """The calls of a chunk may have become several jobs."""
    future = make_future()
    first, second, third = (make_job(future=future) for _ in range(3))
    second.closed = True

    assert future._open_jobs() == [first, third]
    assert future._job is third


def test_future_does_not_run_between_two_attempts() -> None:
    """Its last job is over, and there is no other one yet."""
    future = make_future()
    first, second = make_job(future=future), make_job()
    first.note_start()
    before = future.running()

    first.closed = True
    between = future.running()
    future._add_job(second)
    waiting = future.running()
    second.note_start()

    assert (before, between, waiting, future.running()) == (True, False, False, True)


def test_future_waits_again_though_its_worker_lives_on() -> None:
    """Until some worker takes it once more, maybe the same one."""
    future = make_future()
    job = make_job(future=future)
    job.note_start()

    future._wait_again()
    between = future.running()
    future._add_job(job)

    assert (between, future.running()) == (False, True)


def test_attempts_are_counted() -> None:
    """With the errors of those that failed."""
    future = make_future()
    before = future.attempts
    error = ValueError("first")
    future._failures[0] = [error]

    assert (before, future.attempts) == (1, 2)
    assert future.earlier_errors == (error,)


def test_repr_tells_the_state() -> None:
    """And the job, once there is one."""
    pending, running, done, cancelled = (make_future() for _ in range(4))
    make_job(future=running).note_start()
    done._settle(0, Outcome(value=1))
    cancelled.cancel()

    words = [repr(each).partition("state=")[2] for each in (pending, done, cancelled)]

    assert words == ["pending>", "finished>", "cancelled>"]
    assert repr(running).endswith("state=running job=5_7>")


def test_exception_is_set() -> None:
    """That of the call."""
    future = make_future()
    error = ValueError()

    future._settle(0, Outcome(exception=error))

    assert future.exception(0) is error


def test_chunk_is_done_with_its_last_outcome() -> None:
    """In the order of the calls, whoever comes first."""
    chunk = make_chunk(3)
    outcomes = [Outcome(value=number) for number in range(3)]

    chunk._settle(2, outcomes[2])
    chunk._settle(0, outcomes[0])
    undecided = not chunk.done()
    chunk._settle(1, outcomes[1])

    assert undecided
    assert chunk.result(0) == outcomes


def test_second_outcome_of_a_call_is_dropped() -> None:
    """Before the chunk is done, and after."""
    chunk = make_chunk(2)
    chunk._settle(0, Outcome(value="first"))
    chunk._settle(0, Outcome(value="second"))
    chunk._settle(1, Outcome(value="other"))
    chunk._settle(1, Outcome(value="late"))

    assert [outcome.value for outcome in chunk.result(0)] == ["first", "other"]


def test_failed_call_does_not_fail_its_chunk() -> None:
    """`map` raises it when it comes to that call."""
    chunk = make_chunk(2)
    error = ValueError()

    chunk._settle(0, Outcome(exception=error))
    chunk._settle(1, Outcome(value=1))

    assert [outcome.exception for outcome in chunk.result(0)] == [error, None]


def test_cancelled_chunk_stays_cancelled() -> None:
    """Outcomes that come later are dropped."""
    chunk = make_chunk(1)
    chunk.cancel()

    chunk._settle(0, Outcome(value=1))

    assert chunk.cancelled()
    with pytest.raises(InvalidStateError):
        chunk.set_result([])


@pytest.mark.parametrize("ask", ["result", "exception"])
def test_waiting_threads_look_around(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a Ctrl-C that came just before the wait is not overlooked for ever."""
    monkeypatch.setattr("slurm_futures.calls.waiting.LOOK_AROUND", 0.01)
    future = make_future()
    done = future.done
    looks: list[None] = []

    def look() -> bool:
        looks.append(None)
        if len(looks) == 5:
            future.set_result(5)
        return done()

    monkeypatch.setattr(future, "done", look)
    getattr(future, ask)()

    assert len(looks) == 5
    with pytest.raises(TimeoutError):
        getattr(make_future(), ask)(0.02)
