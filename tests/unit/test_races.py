"""Whole executors at their worst moments: what another thread does just then.

Each test puts the action of one thread between two steps of another one, where it came
once in thousands of runs. Nothing may hang, be left over, or run although it should
not.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import SlurmExecutor
from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import JobCancelled, Refusal
from slurm_futures.jobs.job import Job
from slurm_futures.node import formats
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.pool.pool import Pool
from slurm_futures.pool.pools import Pools
from slurm_futures.schedulers.base import JobId
from slurm_futures.schedulers.sbatch_options import Kind
from tests.unit.fakes import (
    FakeScheduler,
    accept_and_fail,
    error_of,
    refusal,
    value_of,
)
from tests.waiting import assert_soon

PATIENCE = 60  #: seconds

MakeExecutor = Callable[..., SlurmExecutor]


@pytest.fixture
def scheduler() -> FakeScheduler:
    """Give a scheduler that runs nothing."""
    return FakeScheduler()


@pytest.fixture
def make(scheduler: FakeScheduler, tmp_path: Path) -> Iterator[MakeExecutor]:
    """Make executors on it; they end with the test."""
    executors: list[SlurmExecutor] = []

    def make_executor(max_workers: int | None = None, **options: Any) -> SlurmExecutor:
        options = {"scheduler": scheduler, "directory": tmp_path, **options}
        executors.append(SlurmExecutor(max_workers, **options))
        return executors[-1]

    yield make_executor
    scheduler.gate.set()
    for each in executors:
        each.terminate_workers()


def call_of(function: Callable[[], object] = int) -> PickledCall:
    """Return a call without arguments."""
    return PickledCall(dump(function), dump_arguments((), {}))


def submit(executor: SlurmExecutor) -> SlurmFuture[Any]:
    """Submit a call, and wait until it is a job and nobody submits any more."""
    future: SlurmFuture[Any] = executor.submit(int)
    assert_soon(lambda: future._job is not None)
    await_submitter(executor)
    return future


def await_submitter(executor: SlurmExecutor) -> None:
    """Wait until nothing can be sent now."""
    submitter = executor._session._jobs.submitter
    assert_soon(lambda: not submitter._thread.exists, PATIENCE)


def await_feeder(pool: Pool) -> None:
    """Wait until all calls are in the queue."""
    assert_soon(lambda: not pool._feeder._thread.exists, PATIENCE)


def pools_of(executor: SlurmExecutor) -> dict[Kind, Pool]:
    """Return the pools of an executor."""
    machine = executor._session._machine
    assert isinstance(machine, Pools)
    return machine._pools


def publish(future: SlurmFuture[Any], record: tuple[int, int, bytes]) -> None:
    """Let the job of a call end with this outcome."""
    job = future._job
    assert isinstance(job, Job)
    path = job.submission.job(job.index).path
    path.mkdir()
    outcomes = OutcomesFile(str(job.submission.path), job.index, "0-c17-99")
    outcomes.append(*record)
    outcomes.publish(sync=True)


def in_thread(function: Callable[[], object]) -> threading.Thread:
    """Start a thread that does this."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def own_threads() -> list[str]:
    """Return the names of our threads that live."""
    names = [each.name for each in threading.enumerate()]
    return [name for name in names if name.startswith("slurm_futures")]


# Shutdown.


def test_shutdown_sees_a_call_that_goes_from_thread_to_thread(
    make: MakeExecutor, scheduler: FakeScheduler
) -> None:
    """From the poller to a submitter, and back: somebody is at work all the time."""
    executor = make(retries={ArithmeticError: 1})
    future = submit(executor)
    ending = in_thread(executor.shutdown)
    scheduler.gate.clear()
    publish(future, error_of(0, ArithmeticError("once")))
    assert_soon(lambda: len(scheduler.batches) == 2)

    ending.join(0.1)
    assert ending.is_alive()
    scheduler.gate.set()
    assert_soon(lambda: future._job is not None and not future._job.closed)
    publish(future, value_of(0, "again"))
    ending.join(PATIENCE)
    assert future.result(0) == "again"


def test_callbacks_in_two_of_our_threads_shut_down(
    make: MakeExecutor, scheduler: FakeScheduler
) -> None:
    """A result in the poller, a refusal in the submitter: neither waits for ever."""
    executor = make()
    both = threading.Barrier(2)
    ended: list[Future[Any]] = []

    def shut_down(future: Future[Any]) -> None:
        both.wait(PATIENCE)
        executor.shutdown()
        ended.append(future)

    good = submit(executor)
    good.add_done_callback(shut_down)
    scheduler.gate.clear()
    scheduler.answers = [refusal(Refusal.PERMANENT)]
    refused = executor.submit(int)
    refused.add_done_callback(shut_down)
    publish(good, value_of(0, 1))
    scheduler.gate.set()

    assert_soon(lambda: len(ended) == 2)
    assert_soon(lambda: not own_threads())


# Cancel.


def test_callback_of_a_cancelled_call_shuts_down(
    make: MakeExecutor, scheduler: FakeScheduler
) -> None:
    """It waits for the end of the job, which has been sent its scancel."""
    executor = make()
    future = submit(executor)
    future.add_done_callback(lambda _: executor.shutdown())

    cancelling = in_thread(future.cancel)
    cancelling.join(PATIENCE)

    assert not cancelling.is_alive()
    assert len(scheduler.cancelled) == 1


def test_cancel_while_nobody_knows_whether_there_is_a_job(
    make: MakeExecutor, scheduler: FakeScheduler
) -> None:
    """The sbatch timed out and had made one: it is looked for, and cancelled."""
    scheduler.answers = [accept_and_fail(scheduler)]
    executor = make()
    future = executor.submit(int)
    assert_soon(lambda: scheduler.batches)

    future.cancel()
    executor.shutdown()

    assert [JobId(100)] in scheduler.cancelled


@pytest.mark.parametrize("where", ["callback", "on_cancel"])
@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_ctrl_c_within_cancel(
    make: MakeExecutor,
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    living_on: bool,
    where: str,
) -> None:
    """The call is cancelled already, and its job with the end of the block."""
    executor = make(1, max_tasks_per_child=None if living_on else 1)

    def interrupt(_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def work() -> None:
        with executor:
            future = executor.submit(int)
            assert_soon(lambda: scheduler.batches)
            await_submitter(executor)
            if where == "callback":
                future.add_done_callback(interrupt)
            else:
                monkeypatch.setattr(executor._session, "note_cancel", interrupt)
            future.cancel()

    def work_and_note() -> None:
        with pytest.raises(KeyboardInterrupt):
            work()

    working = in_thread(work_and_note)
    working.join(PATIENCE)
    assert not working.is_alive()
    assert len(scheduler.cancelled) == 1


def test_callbacks_come_though_the_thread_that_cancels_is_interrupted(
    make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls them itself, but for that; then the poller does."""
    future = submit(make())
    called: list[Future[Any]] = []
    future.add_done_callback(called.append)

    def interrupt(_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Future, "cancel", interrupt)
        with pytest.raises(KeyboardInterrupt):
            future.cancel()

    assert_soon(lambda: called == [future])
    assert future.cancel()
    assert called == [future]


def test_cancel_of_what_waits_keeps_values_of_the_same_chunk(
    make: MakeExecutor,
) -> None:
    """The outcome of one part is known, the other one waits for a place."""
    executor = make(1)
    session = executor._session
    kind = Kind(executor._options, "/")
    chunk = ChunkFuture(session, 2)
    session.put(kind, "fit", [JobRequest(chunk, [0, 1], [call_of(), call_of()])])
    await_submitter(executor)
    chunk._settle(1, Outcome(value=5))

    executor.shutdown(wait=False, cancel_futures=True)

    cancelled, value = chunk.result(PATIENCE)
    assert isinstance(cancelled.exception, CancelledError)
    assert value.value == 5


def test_cancel_of_a_chunk_whose_parts_are_in_two_pools(make: MakeExecutor) -> None:
    """After an attempt with more memory: one part runs, the other one is cancelled."""
    executor = make(2, max_tasks_per_child=None, mem="1G")
    session = executor._session
    small, large = (
        Kind(each._options, "/") for each in (executor, executor.options(mem="2G"))
    )
    chunk = ChunkFuture(session, 2)
    session.put(small, "fit", [JobRequest(chunk, [1], [call_of()])])
    session.put(large, "fit", [JobRequest(chunk, [0], [call_of()])])
    pools = pools_of(executor)
    for pool in pools.values():
        await_feeder(pool)
    home = pools[small]._queue.directory
    assert home is not None
    (number,) = pools[small]._queue.entries.numbers_of(chunk)
    (home.path / f"claims/0-999/{number}").symlink_to("0001-0")

    executor.shutdown(wait=False, cancel_futures=True)
    outcome = formats.pack_outcome(*value_of(0, 5))
    (home.path / "outcome").write_bytes(outcome)
    (home.path / "outcome").rename(home.path / f"finished/0-999/{number}")

    cancelled, value = chunk.result(PATIENCE)
    assert type(cancelled.exception).__name__ == "CancelledError"
    assert value.value == 5


# terminate_workers.


def test_terminate_while_a_call_is_being_written(
    make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool has stopped when the call arrives in it."""
    executor = make(1, max_tasks_per_child=None)
    writer = executor._session.writer
    new_pool = writer.new_pool
    writing, go_on = threading.Event(), threading.Event()

    def new_pool_late(label: str) -> object:
        writing.set()
        assert go_on.wait(PATIENCE)
        return new_pool(label)

    monkeypatch.setattr(writer, "new_pool", new_pool_late)
    future = executor.submit(int)
    assert writing.wait(PATIENCE)
    executor.terminate_workers()
    assert_soon(lambda: executor._session._lifecycle.stopped is not None)
    go_on.set()

    assert isinstance(future.exception(PATIENCE), JobCancelled)


def test_terminate_as_the_first_call_of_a_pool_comes(
    make: MakeExecutor, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is made just after all pools were stopped: nothing is left of it."""
    executor = make(1, max_tasks_per_child=None)
    put_to_any, put = Pools.put, Pool.put

    def terminate_and_put(self: Pools, *request: Any) -> None:
        monkeypatch.setattr(Pools, "put", put_to_any)
        in_thread(executor.terminate_workers).join(PATIENCE)
        put_to_any(self, *request)

    def put_and_wait(self: Pool, *request: Any) -> None:
        put(self, *request)
        await_feeder(self)

    monkeypatch.setattr(Pools, "put", terminate_and_put)
    monkeypatch.setattr(Pool, "put", put_and_wait)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)

    ending = in_thread(executor.shutdown)
    ending.join(PATIENCE)
    assert not ending.is_alive()
    assert len(scheduler.batches) == len(scheduler.cancelled)


def test_terminate_while_a_part_of_a_chunk_is_submitted(
    make: MakeExecutor, scheduler: FakeScheduler
) -> None:
    """The chunk is open still, as its second job is there: that one ends, too."""
    executor = make()
    session = executor._session
    kind = Kind(executor._options, "/")
    chunk = ChunkFuture(session, 2)
    session.put(kind, "fit", [JobRequest(chunk, [0], [call_of()])])
    assert_soon(lambda: chunk._job is not None)
    await_submitter(executor)
    scheduler.gate.clear()
    session.put(kind, "fit", [JobRequest(chunk, [1], [call_of()])])
    assert_soon(lambda: len(scheduler.batches) == 2)
    busy, go_on = threading.Event(), threading.Event()

    def be_busy() -> None:
        busy.set()
        assert go_on.wait(PATIENCE)

    session._jobs.poller.call(be_busy)
    assert busy.wait(PATIENCE)
    executor.terminate_workers()
    scheduler.gate.set()
    await_submitter(executor)
    go_on.set()

    ending = in_thread(executor.shutdown)
    ending.join(PATIENCE)
    assert not ending.is_alive()
    assert sum(map(len, scheduler.cancelled)) == 2
    assert chunk.done()


# Files.


def test_nothing_is_left_of_an_idle_pool_that_is_dropped(
    tmp_path: Path,
) -> None:
    """There is no thread that could notice."""
    executor = SlurmExecutor(
        1,
        max_tasks_per_child=None,
        scheduler="local",
        directory=tmp_path,
        idle_timeout=0.1,
    )
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert_soon(lambda: not own_threads(), PATIENCE)
    assert list(tmp_path.iterdir())

    del executor
    gc.collect()
    assert_soon(lambda: not list(tmp_path.iterdir()))


def test_nothing_is_left_of_a_call_that_was_cancelled_on_its_way(
    make: MakeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look at its pool comes before it is known to be on its way no more."""
    executor = make(1, max_tasks_per_child=None, scheduler="local", idle_timeout=0.1)
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert_soon(lambda: not own_threads(), PATIENCE)
    (pool,) = pools_of(executor).values()
    look, feed = pool.look, pool._feeder._feed
    looked, fed = threading.Event(), threading.Event()

    def feed_late(items: list[Any]) -> None:
        assert looked.wait(PATIENCE)
        feed(items)
        fed.set()

    def look_and_feed() -> bool:
        news = look()
        if executor._session._lifecycle.closed:
            looked.set()
            assert fed.wait(PATIENCE)
        return news

    monkeypatch.setattr(pool._feeder, "_feed", feed_late)
    monkeypatch.setattr(pool, "look", look_and_feed)
    executor.submit(abs, -2).cancel()
    executor.shutdown()

    assert list(tmp_path.iterdir()) == []
