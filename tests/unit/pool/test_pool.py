"""The pool: how many workers it starts, and what becomes of its calls.

Workers are those of pool_worker.py, run here one by one; the poller is the test.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from slurm_futures import JobFailed, SlurmFuturesError
from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import (
    JobCancelled,
    JobLost,
    JobTimeout,
    OutcomeNotReadable,
    PendingTimeout,
    SubmitError,
)
from slurm_futures.jobs import settler
from slurm_futures.jobs.job import Job, JobOrder, Waiter
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.open_calls import OpenCalls
from slurm_futures.jobs.retries import Retries
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.jobs.timing import Timing
from slurm_futures.node import formats
from slurm_futures.node.pool_worker import PoolWorker
from slurm_futures.pool import inspector, workers
from slurm_futures.pool.pools import Pools
from slurm_futures.pool.settings import PoolSettings
from slurm_futures.pool.worker_job import Worker
from slurm_futures.runs import finished
from slurm_futures.runs.calls_file import read_calls, write_calls
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.schedulers.base import JobId
from slurm_futures.schedulers.sbatch_options import Kind, SbatchOptions
from tests.unit.fakes import CONTEXT, FakeAbove, make_calls, make_settler
from tests.waiting import assert_soon

_KIND = Kind(SbatchOptions(), "/")


class FakeWriter:
    """Writes the files of a pool and nothing else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pools: list[PoolDirectory] = []
        self.over: list[PoolDirectory] = []
        self.before_write: Callable[[], None] = lambda: None
        self.failed: list[Path] = []

    def new_pool(self, _: str) -> PoolDirectory:
        """Make a pool."""
        self.pools.append(PoolDirectory(self.directory / f"pool-{len(self.pools)}"))
        self.pools[-1].create()
        return self.pools[-1]

    def write_batch(
        self, path: Path, _: Kind, jobs: Sequence[Sequence[PickledCall]]
    ) -> None:
        """Write a batch, after whatever the test wants to happen first."""
        self.before_write()
        write_calls(path, jobs, CONTEXT)

    def note_failure(self, job: Path) -> None:
        """Note whose files are to be kept."""
        self.failed.append(job)

    def note_over(self, pool: PoolDirectory) -> None:
        """Note that a pool is over."""
        self.over.append(pool)


class FakeWorker:
    """A job that serves the pool when the test lets it."""

    def __init__(self, harness: Harness, waiter: Waiter, number: int) -> None:
        assert isinstance(waiter, Worker)
        self.waiter = waiter
        self._harness = harness
        self._submission = harness.run.submission(number)
        self.name = f"{self._submission.path.name}-0"
        self._taken: set[int] = set()

    def start(self) -> None:
        """Let the job exist."""
        job = Job(JobId(7), 0, self._submission, self.waiter, 0.0)
        job.note_start()
        self.waiter.note_job(job)

    def serve(self, max_calls: int | None = None, *, early: bool = False) -> int:
        """Run calls till there are none; early: before the job is known."""
        if self.waiter.job is None and not early:
            self.start()
        root = str(self._harness.directory.path)
        serving = PoolWorker(root, self.name, 0, 1, 0.0, max_calls, None)
        serving._taken |= self._taken
        return serving.serve()

    def take(self, number: int) -> None:
        """Claim a call, and begin to run it."""
        directory = self._harness.directory
        block = formats.block_of(number)
        (directory.path / "claims" / block / str(number)).symlink_to(self.name)
        self._taken.add(number)
        self.outcomes(number).touch()

    def outcomes(self, number: int) -> Path:
        """Where it leaves the outcomes of a call that it has not finished."""
        block = formats.block_of(number)
        return (
            self._harness.directory.path / "finished" / block / f"{number}.{self.name}"
        )

    def publish(self, number: int, content: bytes) -> None:
        """Take a call, and let these be its outcomes."""
        if self.waiter.job is None:
            self.start()
        self.take(number)
        path = self.outcomes(number)
        path.write_bytes(content)
        path.rename(path.with_name(str(number)))

    def end(self, error: BaseException | None = None) -> None:
        """Let the poller see the end of the job."""
        self.waiter._end(error)
        self._harness.poll()


class Harness:
    """A pool with a poller that looks when it is told to.

    It plays `Jobs`, of which a pool uses the parts, and the poller.
    """

    def __init__(
        self, directory: Path, max_workers: int = 2, max_calls: int | None = None
    ) -> None:
        self.run = RunDirectory.create(directory, "fit").fill()
        self.writer = FakeWriter(directory)
        self.lifecycle = Lifecycle()
        self.group = ThreadGroup()
        self.timing = Timing(withdrawal_pause=0, shortest_rewrite=0.01)
        self.above = Above(self)
        self.settler = make_settler(self.above, failures=self.writer)
        self.poller = self.submitter = self
        self.workers: list[FakeWorker] = []
        self.posted: list[Callable[[], None]] = []
        self.cancelled: list[Job] = []
        self.room_is_wanted = False
        settings = PoolSettings(max_workers, max_calls, 60.0)
        parts: Any = self
        self.pools = Pools(parts, settings)
        self.pool = self.pools._pool(_KIND)

    def set_times(self, **times: Any) -> None:
        """Let some times be others from now on."""
        self.timing = replace(self.timing, **times)
        self.pool._queue.inspector._timing = self.timing
        self.pool._feeder._patience._timing = self.timing

    def start(self, _kind: Kind, _label: str, orders: list[JobOrder]) -> None:
        """Let workers be there that the test starts."""
        for order in orders:
            self.workers.append(FakeWorker(self, order.waiter, len(self.workers) + 1))

    def call(self, function: Callable[[], None]) -> None:
        """Keep what the poller shall do."""
        self.posted.append(function)

    def watch_queue(self, _: object) -> None:
        """The test says when to look."""

    def cancel(self, job: Job) -> None:
        """Keep which jobs should end."""
        self.cancelled.append(job)

    def is_room_wanted(self, _: Kind) -> bool:
        """Answer as the test says."""
        return self.room_is_wanted

    def close(self) -> None:
        """Accept no more calls."""
        self.lifecycle.closed = True
        self.pool.close()

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all calls, also those to come."""
        self.lifecycle.stopped = error
        self.pool.stop(error)

    @property
    def directory(self) -> PoolDirectory:
        """Where the queue is."""
        return self.writer.pools[-1]

    def submit(self, *functions: Callable[[], object]) -> list[SlurmFuture[Any]]:
        """Put calls into the pool as one batch, and wait until they are there."""
        futures = [SlurmFuture[Any](self.above) for _ in functions]
        requests = [
            JobRequest(
                future, range(1), [PickledCall(dump(fn), dump_arguments((), {}))]
            )
            for future, fn in zip(futures, functions, strict=True)
        ]
        self.pool.put("fit", requests)
        self.group.join()
        return futures

    def submit_chunk(self, *functions: Callable[[], object]) -> ChunkFuture:
        """Put a chunk of a map into the pool."""
        future = ChunkFuture(self.above, len(functions))
        calls = [PickledCall(dump(fn), dump_arguments((), {})) for fn in functions]
        self.pool.put("fit", [JobRequest(future, range(len(calls)), calls)])
        self.group.join()
        return future

    def wake(self) -> None:
        """See that nothing is left to be done, as a poller does."""

    def attend(self, _: object) -> None:
        """See to the pool with the next `poll`."""

    def withdraw(self, future: SlurmFuture[Any]) -> bool:
        """Take the calls of a future back that no worker has."""
        return self.pools.withdraw(future)

    def poll(self) -> None:
        """Do what the poller does in each round."""
        self.group.join()
        while self.posted:
            self.posted.pop(0)()
        self.pool._queue.inspector._claims_at = -1e9
        self.pool.look()
        self.group.join()  # what came back goes into the queue again

    def all_done(self, futures: list[SlurmFuture[Any]]) -> bool:
        """Look once more; whether these futures are all done then."""
        self.poll()
        return all(future.done() for future in futures)

    def running(self) -> list[FakeWorker]:
        """The workers that have not ended."""
        return [each for each in self.workers if not each.waiter.done]


class Above(FakeAbove):
    """Lets the pool hear of cancels, and of calls that run again."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self._harness = harness

    def has_outcome(self, _: SlurmFuture[Any]) -> bool:
        """Know of none."""
        return False

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """Withdraw the calls."""
        self._harness.pool.cancel(future)

    def resubmit(self, kind: Kind, label: str, request: JobRequest) -> None:
        """Put calls into the queue once more."""
        assert kind == _KIND
        self._harness.pool.put(label, [request])


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Give a pool of at most two workers; its threads end with the test."""
    harness = Harness(tmp_path)
    yield harness
    harness.group.join()


def failed(job: str = "7") -> JobFailed:
    """Return the error of a job that died."""
    return JobFailed(f"job {job} died", job_id=job)


def fail() -> None:
    """Raise."""
    raise ArithmeticError("the call failed")


# Workers.


@pytest.mark.parametrize(("calls", "workers"), [(1, 1), (2, 2), (9, 2)])
def test_as_many_workers_as_there_is_work_for(
    harness: Harness, calls: int, workers: int
) -> None:
    """But never more than `max_workers`."""
    harness.submit(*[int] * calls)

    assert len(harness.workers) == workers
    harness.submit(*[int] * 9)
    assert len(harness.workers) == 2


def test_results_arrive(harness: Harness) -> None:
    """Values and exceptions, when the poller looks."""
    good, bad = harness.submit(lambda: 5, fail)

    harness.workers[0].serve()
    assert not good.done()
    harness.poll()
    assert good.result(0) == 5
    assert isinstance(bad.exception(0), ArithmeticError)
    assert not harness.pool.is_open


def test_a_worker_that_is_quicker_than_its_sbatch(harness: Harness) -> None:
    """A value waits until the job is known: then its future names it."""
    (future,) = harness.submit(lambda: 5)
    harness.workers[0].serve(early=True)
    harness.poll()
    assert not future.done()

    harness.workers[0].start()
    harness.poll()

    assert (future.result(0), future.job_id) == (5, "7")


def test_an_sbatch_that_does_not_return_costs_no_value(harness: Harness) -> None:
    """When the grace is over it comes without the job."""
    (future,) = harness.submit(lambda: 5)
    harness.workers[0].serve(early=True)
    harness.poll()
    assert not future.done()

    harness.set_times(grace=0)
    harness.poll()

    assert (future.result(0), future.job_id) == (5, None)


def test_a_claim_that_cannot_be_read_at_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look tells whose it is."""
    (future,) = harness.submit(lambda: 5)
    harness.workers[0].serve()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "readlink", _stale)
        harness.poll()
    harness.poll()

    assert (future.result(0), future.job_id) == (5, "7")


def test_a_worker_that_ends_is_replaced_while_there_is_work(harness: Harness) -> None:
    """After its last call, say; with nothing to do it is not."""
    futures = harness.submit(int, int, int)
    first = harness.workers[0]
    first.start()
    first.serve(max_calls=1)
    first.end()
    assert len(harness.running()) == 2

    harness.workers[1].serve()
    harness.poll()
    harness.workers[1].end()

    assert [future.done() for future in futures] == [True] * 3
    assert len(harness.workers) == 3


def test_a_call_that_comes_as_the_last_worker_idles_out(harness: Harness) -> None:
    """The worker did not see it, so the end of the worker starts another one."""
    harness.submit(int)
    worker = harness.workers[0]
    worker.start()
    worker.serve()
    harness.poll()
    (late,) = harness.submit(lambda: "late")  # the worker has looked for the last time

    assert len(harness.workers) == 1
    worker.end()
    harness.workers[1].serve()
    harness.poll()
    assert late.result(0) == "late"


def test_workers_that_have_ended_are_forgotten(harness: Harness) -> None:
    """However many there have been, and although one call runs all the time."""
    (long,) = harness.submit(lambda: "long")
    first = harness.workers[0]
    first.start()
    first.take(0)
    for _ in range(250):
        futures = harness.submit(int)
        harness.workers[-1].start()
        harness.workers[-1].serve()
        assert harness.all_done(futures)
        harness.workers[-1].end()

    assert len(harness.workers) == 251
    assert len(harness.pool._workers._records) < 150
    first.end(failed())
    assert isinstance(long.exception(0), JobFailed)


def test_a_worker_that_was_forgotten_takes_a_call(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lived on where Slurm could not see it: the call is not waited for in vain."""
    monkeypatch.setattr(harness.pool._workers, "_many", 0)
    assert not harness.all_done(harness.submit(int))
    late = harness.workers[0]
    late.start()
    late.serve()
    harness.poll()
    late.end(failed())
    (future,) = harness.submit(int)
    late.take(1)
    harness.poll()
    assert not future.done(), "it may be the worker whose job is not known yet"

    harness.workers[1].start()
    harness.poll()
    assert isinstance(future.exception(0), JobLost)


# Workers that fail.


def test_a_worker_that_dies_fails_only_its_call(harness: Harness) -> None:
    """With the error of the job; the others go to its successor."""
    first, second, third = harness.submit(int, int, int)
    worker = harness.workers[0]
    worker.start()
    worker.take(1)
    worker.end(failed())

    error = second.exception(0)
    assert isinstance(error, JobFailed)
    assert error is not worker.waiter.error, "a copy of its own"
    assert second.job_id == "7"
    harness.workers[-1].serve()
    harness.poll()
    assert (first.result(0), third.result(0)) == (0, 0)


def test_a_worker_dies_while_its_files_cannot_be_changed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call has the error of its worker all the same, and others go on."""
    first, second = harness.submit(int, int)
    harness.workers[0].start()
    harness.workers[0].take(0)
    refused = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(PoolDirectory, "withdraw", raise_it(refused))
    harness.workers[0].end(failed())

    assert isinstance(first.exception(0), JobFailed)
    assert harness.workers[1].serve() == 1
    harness.poll()
    assert second.result(0) == 0


def test_a_call_that_was_finished_as_its_worker_died_has_its_value(
    harness: Harness,
) -> None:
    """The outcome counts, even if the poller sees the end of the worker first."""
    (future,) = harness.submit(lambda: 5)
    worker = harness.workers[0]
    worker.start()
    worker.serve()
    worker.end(failed())

    assert future.result(0) == 5


def test_a_claim_that_shows_late_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network file system, or if the directory could not be listed."""
    monkeypatch.setattr(harness.pool._workers, "_many", 0)
    (future,) = harness.submit(int)
    worker = harness.workers[0]
    worker.start()
    with monkeypatch.context() as patch:
        patch.setattr(PoolDirectory, "list_claims", _refuse)
        worker.waiter.fail(JobTimeout("time", job_id="7"))
        worker.take(0)
        harness.posted.pop(0)()
    assert not future.done()

    harness.poll()
    assert isinstance(future.exception(0), JobTimeout)


def _refuse(*_: object) -> set[int]:
    raise OSError("cannot be listed now")


def test_a_call_that_begins_before_the_id_of_its_job_is_known(
    harness: Harness,
) -> None:
    """It is running as soon as it is known who runs it."""
    (future,) = harness.submit(int)
    harness.workers[0].take(0)
    harness.poll()
    assert not future.running()

    harness.workers[0].start()
    harness.poll()
    assert future.running()


def test_a_call_that_begins_again_before_the_id_of_its_job_is_known(
    harness: Harness,
) -> None:
    """Its worker is not taken for one that was forgotten."""
    (future,) = harness.submit(int)
    first = harness.workers[0]
    first.start()
    calls = make_calls(future)
    calls.note_job(Job(JobId(3), 0, harness.run.submission(9), calls, 0.0))
    first.waiter.job, job = None, first.waiter.job
    first.take(0)
    harness.poll()

    first.waiter.job = job
    harness.poll()
    assert not future.done()


def test_a_chunk_goes_on_where_its_worker_died(harness: Harness) -> None:
    """Outcomes count, the call that ran fails, the rest goes to another worker."""
    chunk = harness.submit_chunk(lambda: 1, lambda: 2, lambda: 3)
    worker_here = harness.workers[0]
    worker_here.start()
    worker_here.take(0)
    record = formats.pack_outcome(0, formats.VALUE, dump(1))
    worker_here.outcomes(0).write_bytes(record)
    worker_here.end(failed())
    harness.poll()
    harness.workers[-1].serve()
    harness.poll()

    first, second, third = chunk.result(0)
    assert (first.value, third.value) == (1, 3)
    assert isinstance(second.exception, JobFailed)


def test_a_chunk_breaks_off_while_its_batch_is_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stays until all its calls are on their way again."""
    assert not harness.all_done(harness.submit(int))
    harness.workers[0].start()
    harness.workers[0].serve()
    harness.poll()
    monkeypatch.setattr(harness.settler, "_retries", Retries({JobFailed: 1}))
    write = harness.writer.write_batch
    written, go_on = threading.Event(), threading.Event()

    def write_and_wait(*arguments: Any) -> None:
        write(*arguments)
        written.set()
        assert go_on.wait(60)

    monkeypatch.setattr(harness.writer, "write_batch", write_and_wait)
    chunk = ChunkFuture(harness.above, 2)
    call = PickledCall(dump(int), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(chunk, range(2), [call, call])])
    assert written.wait(60)
    harness.workers[0].take(1)
    again: list[list[int]] = []

    def let_the_feeder_end(_: Kind, __: str, request: JobRequest) -> None:
        again.append(list(request.positions))
        go_on.set()
        harness.group.join()

    monkeypatch.setattr(harness.above, "resubmit", let_the_feeder_end)
    harness.workers[0].waiter.fail(failed())
    harness.posted.pop(0)()

    assert again == [[0], [1]]


def test_a_chunk_of_a_worker_that_may_live_on_is_first_taken_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker did in the meantime counts; it begins no call after that."""
    harness.set_times(withdrawal_pause=3600)
    chunk = harness.submit_chunk(lambda: 1, lambda: 2, lambda: 3)
    worker_here = harness.workers[0]
    worker_here.start()
    worker_here.take(0)
    record = formats.pack_outcome(0, formats.VALUE, dump(1))
    worker_here.outcomes(0).write_bytes(record)
    worker_here.end(failed())
    harness.poll()
    assert not worker_here.outcomes(0).exists()
    assert not chunk.done()

    harness.set_times(withdrawal_pause=0)
    harness.poll()
    harness.workers[-1].serve()
    harness.poll()

    assert [outcome.value for outcome in chunk.result(0)] == [1, None, 3]


def test_workers_that_never_take_a_call_end_in_failure(harness: Harness) -> None:
    """After a row of them the calls fail as they did; later calls try anew."""
    futures = harness.submit(int, int)
    for number in range(4):
        assert not futures[0].done()
        harness.workers[number].start()
        harness.workers[number].end(failed())

    assert [type(future.exception(0)) for future in futures] == [JobFailed] * 2
    assert harness.running() == []
    assert_served_by_another(harness)


def assert_served_by_another(harness: Harness) -> None:
    """See that a call that comes later has a worker, and its value."""
    (late,) = harness.submit(lambda: "late")
    (other,) = harness.running()
    other.start()
    assert other.serve() == 1
    harness.poll()
    assert late.result(0) == "late"
    other.end()


def test_workers_that_end_well_without_a_call_end_in_failure(harness: Harness) -> None:
    """They cannot see the queue: a node that does not mount its file system, say."""
    (future,) = harness.submit(int)
    for number in range(3):
        assert not future.done()
        harness.workers[number].start()
        harness.workers[number].end()

    assert isinstance(future.exception(0), JobLost)
    assert str(harness.directory.path) in str(future.exception(0))
    assert harness.running() == []
    assert_served_by_another(harness)


def test_a_worker_that_ends_as_a_call_comes_is_not_barren(harness: Harness) -> None:
    """It has waited for `idle_timeout`, since another one took all there was."""
    harness.submit(int)
    good = harness.workers[0]
    good.start()
    for _ in range(5):
        harness.submit(int, int)
        assert len(harness.running()) == 2
        good.serve()
        harness.poll()
        harness.submit(int)
        harness.running()[1].start()
        harness.running()[1].end()


class Clock:
    """Stands for the time of workers, and of what is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the seconds of the test."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the test say how late it is."""
    clock = Clock()
    monkeypatch.setattr(workers, "time", clock)
    monkeypatch.setattr(inspector, "time", clock)
    return clock


def end_all_but(harness: Harness, good: FakeWorker) -> None:
    """Let the workers of a broken node fail, until there are no others."""
    while others := [each for each in harness.running() if each is not good]:
        others[0].start()
        others[0].end(failed())


def test_a_broken_node_leaves_the_calls_to_the_others(
    harness: Harness, clock: Clock
) -> None:
    """Its workers are replaced less and less often, and nothing fails."""
    futures = harness.submit(*[int] * 9)
    good = harness.workers[0]
    good.start()
    good.take(0)
    started = []
    for _ in range(60):
        end_all_but(harness, good)
        started.append(len(harness.workers))
        clock.now += 1
        harness.poll()

    assert started[0] == 4, "the first ones are replaced at once"
    assert started[-1] == 9, "after 1, 2, 4, 8, 16 s"
    assert good.serve() == 8
    harness.poll()
    assert [future.done() for future in futures] == [False] + [True] * 8
    assert harness.cancelled == []


def test_a_worker_that_takes_a_call_ends_the_patience(
    harness: Harness, clock: Clock
) -> None:
    """When the node is well again there are as many workers as before."""
    harness.submit(*[int] * 9)
    good = harness.workers[0]
    good.start()
    good.take(0)
    harness.poll()
    end_all_but(harness, good)
    clock.now += 1
    harness.poll()
    another = harness.workers[-1]
    another.start()
    another.serve(max_calls=1)
    harness.poll()
    another.end()
    assert len(harness.running()) == 2


def test_the_end_of_the_only_good_worker(harness: Harness, clock: Clock) -> None:
    """Its successor is started at once, whatever others have done."""
    futures = harness.submit(*[int] * 9)
    good = harness.workers[0]
    good.start()
    good.serve(max_calls=1)
    harness.poll()
    end_all_but(harness, good)
    assert harness.running() == [good]

    good.end()
    assert len(harness.running()) == 2
    harness.running()[0].serve()
    assert harness.all_done(futures)


def test_idle_workers_that_fail_are_not_barren(harness: Harness) -> None:
    """A node with idle workers crashes: the next call has a new worker."""
    futures = harness.submit(int, int)
    harness.workers[0].start()
    harness.workers[1].start()
    harness.workers[0].serve()
    harness.poll()
    for _ in range(3):
        for each in harness.running():
            each.start()
            each.end(failed())
        futures += harness.submit(int)
        harness.running()[-1].serve()
        harness.poll()

    assert [future.result(0) for future in futures] == [0] * 5


@pytest.fixture(
    params=[SubmitError("refused"), PendingTimeout("waited", job_id="7")],
    ids=["refused", "never_started"],
)
def hopeless(request: pytest.FixtureRequest) -> SlurmFuturesError:
    """Give an error that tells that a worker could not be had."""
    error: SlurmFuturesError = request.param
    return error


def end_in_vain(each: FakeWorker, error: SlurmFuturesError) -> None:
    """Let a worker end that has never begun."""
    if isinstance(error, PendingTimeout):
        each.start()
    each.end(error)


def test_workers_that_cannot_be_had_fail_all_calls(
    harness: Harness, hopeless: SlurmFuturesError
) -> None:
    """There is nobody who would run them; later calls try anew."""
    futures = harness.submit(int, int, int)
    for each in harness.running():
        end_in_vain(each, hopeless)

    assert [type(future.exception(0)) for future in futures] == [type(hopeless)] * 3
    assert not harness.pool.is_open
    assert len(harness.workers) == 2
    (later,) = harness.submit(int)
    harness.workers[-1].start()
    harness.workers[-1].serve()
    harness.poll()
    assert later.result(0) == 0


def test_a_worker_that_could_not_be_had_leaves_later_calls_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come before the poller hears of its end, and before there is another one."""
    early = harness.submit(int, int)
    for each in harness.workers:
        each.waiter.fail(SubmitError("no"))
    harness.posted.pop(0)()
    assert [type(each.exception(0)) for each in early] == [SubmitError] * 2
    with monkeypatch.context() as patch:
        patch.setattr(harness.pool._queue, "scale", lambda: None)
        (late,) = harness.submit(lambda: "late")

    harness.poll()
    assert not late.done()
    assert harness.workers[-1].serve() == 1
    harness.poll()
    assert late.result(0) == "late"


def test_a_worker_that_cannot_be_had_leaves_the_calls_to_the_others(
    harness: Harness, hopeless: SlurmFuturesError
) -> None:
    """Nothing fails while somebody can run it, and it is not asked for at once."""
    futures = harness.submit(int, int, int)
    end_in_vain(harness.workers[0], hopeless)
    harness.workers[1].start()

    harness.workers[1].serve()
    harness.poll()

    assert [future.result(0) for future in futures] == [0, 0, 0]
    assert len(harness.workers) == 2


def test_an_error_in_a_worker_is_that_of_its_call(harness: Harness) -> None:
    """A call that closed the files of its worker, say: the others go on."""
    first, second = harness.submit(int, int)
    worker = harness.workers[0]
    worker.start()
    worker.take(0)
    worker.end(OSError(9, "Bad file descriptor"))

    assert "Bad file descriptor" in str(first.exception(0))
    harness.workers[1].serve()
    harness.poll()
    assert second.result(0) == 0


def test_a_worker_is_never_tried_again(tmp_path: Path) -> None:
    """The pool replaces it; with `retries` only its call runs once more."""
    harness = Harness(tmp_path)
    harness.settler._retries = Retries.of(1)
    (future,) = harness.submit(int)
    first = harness.workers[0]
    first.start()
    first.take(0)
    first.waiter.break_off([0], failed(), began=True)
    assert first.waiter.done
    harness.poll()

    assert len(harness.running()) == 1
    assert not future.done()
    harness.workers[-1].serve()
    harness.poll()
    assert future.result(0) == 0
    assert future.attempts == 2


def _worker_calls() -> list[PickledCall]:
    return [PickledCall(dump(formats.SERVE_POOL), dump_arguments((), {}))]


def test_workers_give_way_as_soon_as_nothing_waits(harness: Harness) -> None:
    """Calls of another kind wait for their places; later calls take it back."""
    harness.submit(int, int, int)
    for number, each in enumerate(harness.workers):
        each.start()
        each.take(number)
    closed = harness.directory.path / "queue" / "closed"
    harness.room_is_wanted = True
    harness.poll()
    assert not closed.exists(), "a call waits"

    assert harness.workers[1].serve() == 1
    harness.poll()
    assert harness.pool.is_open
    assert closed.exists(), "all are over or run"

    harness.submit(int)
    assert not closed.exists()


def test_workers_wait_for_calls_while_nobody_else_wants_room(harness: Harness) -> None:
    """They need not start again for the next one."""
    futures = harness.submit(int)
    harness.workers[0].serve()
    assert harness.all_done(futures)

    harness.pool.give_way()
    assert os.listdir(harness.directory.path / "queue") == []


# Cancelling.


def test_cancel_of_a_waiting_call(harness: Harness) -> None:
    """No worker can take it, and nothing else happens."""
    ran, cancelled = harness.submit(lambda: 1, lambda: 2)
    harness.workers[0].start()

    assert cancelled.cancel()
    harness.group.join()
    assert harness.workers[0].serve() == 1
    harness.poll()
    assert ran.result(0) == 1
    assert harness.cancelled == []
    assert not harness.pool.is_open


def test_cancel_of_a_running_call(harness: Harness) -> None:
    """Its worker is cancelled and replaced; the call of the other one goes on."""
    first, second = harness.submit(int, int)
    for number, each in enumerate(harness.workers):
        each.start()
        each.take(number)
    harness.poll()

    assert first.cancel()
    harness.group.join()
    assert harness.cancelled == [harness.workers[0].waiter.job]
    harness.poll()
    assert not second.done()
    assert len(harness.workers) == 2, "there is a worker for the only call"


def test_cancel_of_a_call_that_has_just_ended(harness: Harness) -> None:
    """Its worker has the next call already, and is left alone."""
    first, second = harness.submit(int, int)
    worker = harness.workers[0]
    worker.start()
    assert worker.serve(max_calls=1) == 1
    worker.take(1)

    assert first.cancel()
    harness.group.join()
    assert harness.cancelled == []
    harness.poll()
    assert not second.done()


def test_cancel_of_a_worker_before_its_call_is_open(harness: Harness) -> None:
    """Between claim and outcomes there is nothing to take back: the job ends."""
    (future,) = harness.submit(int)
    worker = harness.workers[0]
    worker.start()
    worker.take(0)
    worker.outcomes(0).unlink()

    assert future.cancel()
    harness.group.join()
    assert harness.cancelled == [worker.waiter.job]


@pytest.mark.parametrize("went_on", [False, True])
def test_cancel_of_a_call_whose_job_is_not_known_yet(
    harness: Harness, went_on: bool
) -> None:
    """It ends once it is, unless it runs another call by then."""
    cancelled, other = harness.submit(int, int)
    worker = harness.workers[0]
    worker.take(0)
    assert cancelled.cancel()
    if went_on:
        worker.take(1)
    worker.start()
    harness.poll()
    harness.poll()

    assert harness.cancelled == ([] if went_on else [worker.waiter.job])
    assert not other.done()


def test_cancel_on_the_way_into_the_queue(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is cancelled while its batch is written does not run."""
    futures: list[SlurmFuture[Any]] = []
    original = harness.writer.new_pool

    def cancel_first(label: str) -> PoolDirectory:
        futures[0].cancel()
        return original(label)

    monkeypatch.setattr(harness.writer, "new_pool", cancel_first)
    futures += [SlurmFuture(harness.above) for _ in range(2)]
    call = PickledCall(dump(int), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(each, range(1), [call]) for each in futures])
    harness.group.join()

    assert harness.workers[0].serve() == 1
    harness.poll()
    assert futures[0].cancelled()
    assert futures[1].result(0) == 0
    assert not harness.pool.is_open


def test_cancel_after_the_end_of_the_pool(harness: Harness) -> None:
    """There is nothing to cancel, and nothing goes wrong."""
    (future,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].serve()
    harness.poll()
    harness.close()
    harness.workers[0].end()

    harness.pool._queue.entries._numbers[future] = {0}
    harness.pool.cancel(future)


def test_withdrawing_leaves_alone_what_runs(harness: Harness) -> None:
    """Whoever claims a call first has it, long before the poller knows."""
    begun, waiting = harness.submit(lambda: 1, lambda: 2)
    harness.workers[0].start()
    harness.workers[0].take(0)

    assert harness.withdraw(begun)
    assert not harness.withdraw(waiting)

    assert harness.workers[1].serve() == 0
    path = harness.workers[0].outcomes(0)
    path.write_bytes(formats.pack_outcome(0, formats.VALUE, dump(1)))
    path.rename(path.with_name("0"))
    harness.poll()
    assert begun.result(0) == 1
    assert not harness.pool.is_open
    assert harness.cancelled == []


def test_withdrawing_a_part_of_a_chunk(harness: Harness) -> None:
    """One call is to be tried again, others run: it does not, and they do."""
    chunk = harness.submit_chunk(fail, lambda: 2)
    harness.workers[0].start()
    harness.workers[0].take(0)
    path = harness.workers[0].outcomes(0)
    again = PickledCall(dump(fail), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(chunk, [0], [again])])
    harness.group.join()

    assert harness.withdraw(chunk)
    assert harness.workers[1].serve() == 0
    failed_before = formats.pack_outcome(0, formats.VALUE, dump(1))
    path.write_bytes(failed_before + formats.pack_outcome(1, formats.VALUE, dump(2)))
    path.rename(path.with_name("0"))
    harness.poll()

    first, second = chunk.result(0)
    assert isinstance(first.exception, CancelledError)
    assert second.value == 2


@pytest.mark.parametrize("dies", [True, False])
def test_withdrawing_a_call_that_is_about_to_run_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """Its first attempt is over, though the look that has seen this is not."""
    retries = Retries({ArithmeticError: 1, JobFailed: 1})
    monkeypatch.setattr(harness.settler, "_retries", retries)
    begun: list[bool] = []

    def withdraw(_: Kind, __: str, request: JobRequest) -> None:
        begun.append(harness.withdraw(request.future))

    monkeypatch.setattr(harness.above, "resubmit", withdraw)
    harness.submit(fail)
    harness.workers[0].start()
    if dies:
        harness.workers[0].take(0)
        harness.workers[0].end(failed())
    else:
        harness.workers[0].serve()
        harness.poll()

    assert begun == [False]


def test_withdrawing_once_the_next_attempt_is_known(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is over, whatever is still to be read for the next one."""
    monkeypatch.setattr(harness.settler, "_retries", Retries({ArithmeticError: 1}))
    (future,) = harness.submit(fail)
    harness.workers[0].serve()
    begun: list[tuple[int, bool]] = []

    def take_back_and_read(*arguments: Any) -> list[PickledCall]:
        begun.append((future.attempts, harness.withdraw(future)))
        return read_calls(*arguments)

    monkeypatch.setattr(settler, "read_calls", take_back_and_read)
    harness.poll()

    assert begun == [(2, False)]


def test_withdrawing_as_the_queue_begins(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that has a number is claimed, or a worker would take it."""
    withdrawn = SlurmFuture[Any](harness.above)
    other = SlurmFuture[Any](harness.above)
    written, go_on = threading.Event(), threading.Event()

    def write_late() -> None:
        written.set()
        assert go_on.wait(60)

    harness.writer.before_write = write_late
    numbers_of = harness.pool._queue.entries.numbers_of

    def write_first(future: SlurmFuture[Any]) -> list[int]:
        monkeypatch.undo()
        call = PickledCall(dump(int), dump_arguments((), {}))
        harness.pool.put(
            "fit", [JobRequest(each, range(1), [call]) for each in (withdrawn, other)]
        )
        assert written.wait(60)
        return numbers_of(future)

    monkeypatch.setattr(harness.pool._queue.entries, "numbers_of", write_first)
    assert not harness.withdraw(withdrawn)
    go_on.set()
    harness.group.join()

    assert harness.workers[0].serve() == 1


def test_withdrawing_the_last_call_ends_the_pool(harness: Harness) -> None:
    """When no more will come."""
    (future,) = harness.submit(int)
    harness.close()
    assert not harness.withdraw(future)
    harness.poll()
    assert harness.workers[0].waiter.cancelled


# Ends.


def test_a_closed_pool_is_drained(harness: Harness) -> None:
    """Workers are told when the last call is over; then its files may go."""
    (future,) = harness.submit(int)
    running = harness.workers[0]
    running.start()
    harness.close()
    harness.poll()
    closed = harness.directory.path / "queue" / "closed"
    assert not closed.exists()

    running.serve()
    harness.poll()
    assert future.done()
    assert closed.exists()
    assert harness.writer.over == []
    running.end()
    assert harness.writer.over == harness.writer.pools


def test_workers_that_have_not_started_are_cancelled_at_the_end(
    harness: Harness,
) -> None:
    """Nobody waits for a job that will have nothing to do."""
    harness.submit(int, int)
    harness.workers[0].serve()
    harness.close()
    harness.poll()

    assert [each.waiter.cancelled for each in harness.workers] == [False, True]


def test_a_call_that_comes_after_the_end(harness: Harness) -> None:
    """It was accepted while another thread closed: a new queue, closed in its turn."""
    harness.submit(int)
    harness.workers[0].serve()
    harness.close()
    harness.poll()
    harness.workers[0].end()
    assert len(harness.writer.over) == 1

    (late,) = harness.submit(int)
    harness.workers[-1].start()
    harness.workers[-1].serve()
    harness.poll()
    assert late.result(0) == 0
    assert (harness.directory.path / "queue" / "closed").exists()
    harness.workers[-1].end()
    assert len(harness.writer.over) == 2


def test_a_call_that_comes_as_the_queue_is_given_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a queue that somebody looks at."""
    first = harness.submit(int)
    harness.workers[0].serve()
    harness.close()
    late: list[SlurmFuture[Any]] = []
    note_over = harness.writer.note_over

    def submit_another(directory: PoolDirectory) -> None:
        note_over(directory)
        if not late:
            late.extend(harness.submit(int))

    monkeypatch.setattr(harness.writer, "note_over", submit_another)
    assert harness.all_done(first)

    harness.workers[-1].serve()
    assert harness.all_done(late)


def test_resubmission_while_closing(harness: Harness) -> None:
    """The rest of a chunk whose worker died still runs."""
    chunk = harness.submit_chunk(lambda: 1, lambda: 2)
    harness.workers[0].start()
    harness.workers[0].take(0)
    harness.close()
    harness.workers[0].end(failed())
    harness.poll()

    assert not chunk.done()
    harness.workers[-1].serve()
    harness.poll()
    assert chunk.result(0)[1].value == 2


def test_stop_fails_everything(harness: Harness) -> None:
    """What waits, what runs, what comes; workers are ended and not replaced."""
    futures = harness.submit(int, int, int)
    harness.workers[0].start()
    harness.workers[0].take(0)

    harness.stop(JobCancelled("stopped", job_id="7"))
    harness.poll()
    futures += harness.submit(int)
    harness.poll()
    assert [type(future.exception(0)) for future in futures] == [JobCancelled] * 4
    assert harness.running() == []
    assert len(harness.workers) == 2


def test_stop_while_a_call_is_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails as those that are in the queue already."""
    new_pool = harness.writer.new_pool

    def stop_first(label: str) -> PoolDirectory:
        harness.stop(failed())
        return new_pool(label)

    monkeypatch.setattr(harness.writer, "new_pool", stop_first)
    (future,) = harness.submit(int)
    harness.poll()

    assert isinstance(future.exception(0), JobFailed)


def test_no_worker_is_started_for_calls_that_are_being_cancelled(
    harness: Harness,
) -> None:
    """After Ctrl-C workers end before all calls have been taken back."""
    harness.submit(*[int] * 5)

    harness.pool.end_workers()
    harness.poll()
    assert len(harness.workers) == 2
    assert harness.running() == []


def test_callbacks_may_use_the_pool(harness: Harness) -> None:
    """No lock is held: a callback submits, cancels, and asks."""
    first, second = harness.submit(int, int)
    later: list[SlurmFuture[Any]] = []

    def react(_: Future[Any]) -> None:
        assert harness.pool.is_open
        second.cancel()
        call = PickledCall(dump(int), dump_arguments((), {}))
        later.append(SlurmFuture(harness.above))
        harness.pool.put("fit", [JobRequest(later[0], range(1), [call])])

    first.add_done_callback(react)
    harness.workers[0].serve(max_calls=1)
    harness.poll()
    harness.group.join()
    harness.workers[0].serve()
    harness.poll()

    assert later[0].result(0) == 0


# Files.


def raise_it(error: BaseException) -> Callable[..., None]:
    """Return a function that raises."""

    def raise_error(*_: object) -> None:
        raise error

    return raise_error


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError("too little")]
)
def test_calls_that_cannot_be_written_fail(harness: Harness, error: Exception) -> None:
    """And do not count as open, so that nobody waits for them."""
    harness.set_times(grace=0)
    harness.writer.before_write = raise_it(error)
    (future,) = harness.submit(int)
    harness.poll()

    assert str(error) in str(future.exception(0))
    assert not harness.pool.is_open
    harness.writer.before_write = lambda: None
    (second,) = harness.submit(int)
    harness.workers[0].serve()
    harness.poll()
    assert second.result(0) == 0


def fail_at_first(times: int, after: Callable[[], None]) -> Callable[[], None]:
    """Return a function that raises so many times, and then does nothing."""
    left = [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOSPC][:times]

    def fail() -> None:
        if left:
            after()
            raise OSError(left.pop(), "it fails")

    return fail


def test_calls_wait_for_a_file_system_that_fails(harness: Harness) -> None:
    """Each error once; they are one batch still."""
    harness.writer.before_write = fail_at_first(4, lambda: None)
    futures = harness.submit(lambda: 1, lambda: 2)
    harness.group.join()

    (batch,) = (harness.directory.path / "queue").iterdir()
    assert batch.name == "0-2"
    harness.workers[0].serve()
    harness.poll()
    assert [each.result(0) for each in futures] == [1, 2]


def test_a_cancel_ends_the_wait_for_a_file_system(harness: Harness) -> None:
    """Nothing of the calls is written afterwards."""
    future = SlurmFuture[Any](harness.above)

    def cancel() -> None:
        future._end_cancel()
        harness.pool.cancel(future)

    harness.writer.before_write = fail_at_first(1, cancel)
    call = PickledCall(dump(int), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(future, range(1), [call])])
    harness.group.join()

    assert future.cancelled()
    assert list((harness.directory.path / "queue").iterdir()) == []
    assert not harness.pool.is_open


def test_a_queue_that_cannot_be_made_at_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls wait for the next attempt."""
    create, errors = PoolDirectory.create, [OSError(errno.ESTALE, "Stale")]

    def fail_once(directory: PoolDirectory) -> None:
        if errors:
            raise errors.pop()
        create(directory)

    monkeypatch.setattr(PoolDirectory, "create", fail_once)
    (future,) = harness.submit(int)
    harness.group.join()

    harness.workers[0].serve()
    harness.poll()
    assert future.result(0) == 0


def test_a_worker_ends_while_nobody_knows_whether_its_queue_is_there(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its call waits, and so does the next worker."""
    monkeypatch.setattr(workers, "_BARREN", 1)
    (future,) = harness.submit(int)
    with monkeypatch.context() as patch:
        patch.setattr(PoolDirectory, "is_there", _stale)
        harness.workers[-1].end(failed())
        harness.poll()
    assert not future.done()
    assert "should not happen" not in caplog.text


def test_calls_that_fail_on_their_way_do_not_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the queue, but no worker could be asked for."""
    harness.set_times(first_worker_pause=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(harness, "start", raise_it(RuntimeError("no")))
        futures = harness.submit(int, int)
    harness.poll()

    assert [type(future.exception(0)) for future in futures] == [SubmitError] * 2
    assert not harness.pool.is_open
    harness.submit(int)
    assert len(harness.workers) == 1
    assert harness.workers[0].serve() == 1


def test_a_call_that_runs_already_does_not_fail_on_its_way(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has taken in time has its value, and does so once."""
    assert harness.all_done(harness.submit(int)) is False
    harness.workers[0].serve()
    harness.poll()

    def take_and_fail(*_: object) -> None:
        harness.workers[0].serve(max_calls=1)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(harness.pool._workers, "scale", take_and_fail)
        taken, failed_on_its_way = harness.submit(lambda: 1, lambda: 2)
    harness.poll()

    assert taken.result(0) == 1
    assert isinstance(failed_on_its_way.exception(0), SubmitError)
    assert harness.workers[0].serve() == 0


def test_callbacks_of_calls_that_cannot_be_written(harness: Harness) -> None:
    """They may wait for all that is on its way: they run in the poller's thread."""
    harness.set_times(grace=0)
    harness.writer.before_write = raise_it(OSError(28, "No space left on device"))
    future = SlurmFuture[Any](harness.above)
    seen: list[bool] = []

    def wait_for_all(_: Future[Any]) -> None:
        harness.group.join()
        seen.append(harness.pool.is_open)

    future.add_done_callback(wait_for_all)
    call = PickledCall(dump(int), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(future, range(1), [call])])
    harness.poll()
    assert seen == [False]


def test_a_callback_that_raises_harms_no_other_call(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """Even an exception that is no Exception, in a call that cannot be written."""
    harness.set_times(grace=0)
    harness.writer.before_write = raise_it(OSError(28, "No space left on device"))
    futures = [SlurmFuture[Any](harness.above) for _ in range(2)]
    futures[0].add_done_callback(raise_it(SystemExit()))
    call = PickledCall(dump(int), dump_arguments((), {}))
    harness.pool.put("fit", [JobRequest(each, range(1), [call]) for each in futures])
    harness.poll()

    assert isinstance(futures[1].exception(0), SubmitError)
    assert "a callback raised" in caplog.text


def test_calls_that_fail_while_they_are_written_do_not_run(harness: Harness) -> None:
    """The executor is stopped meanwhile; workers that come later pass over them."""
    harness.submit(int)
    harness.workers[0].serve()
    harness.poll()
    harness.writer.before_write = lambda: harness.stop(SubmitError("no"))
    (future,) = harness.submit(int)
    harness.poll()

    assert isinstance(future.exception(0), SubmitError)
    assert os.listdir(harness.directory.path / "queue") == ["closed"]


def test_a_queue_that_cannot_be_closed_now(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing fails, and a later look closes it."""
    (future,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].serve()
    harness.close()
    closed = harness.directory.path / "queue" / "closed"
    with monkeypatch.context() as patch:
        patch.setattr(PoolDirectory, "close", raise_it(OSError(24, "Too many files")))
        harness.poll()
    assert future.result(0) == 0
    assert not closed.exists()

    harness.poll()
    assert closed.exists()


def test_workers_are_ended_even_if_the_queue_cannot_be_closed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C, on a full disk."""
    harness.submit(int, int)
    monkeypatch.setattr(PoolDirectory, "close", raise_it(OSError(28, "No space left")))

    harness.pool.end_workers()

    assert [each.waiter.cancelled for each in harness.workers] == [True, True]


def test_calls_in_a_deleted_queue_are_lost(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some time in which it may be there again; later calls have another one."""
    (lost,) = harness.submit(int)
    harness.workers[0].start()
    deleted = harness.directory
    hidden = deleted.path.rename(deleted.path.with_name("hidden"))

    with pytest.raises(FileNotFoundError):
        harness.poll()
    assert not lost.done()
    hidden.rename(deleted.path)
    harness.poll()
    deleted.remove()
    harness.set_times(gone_grace=0)
    with pytest.raises(FileNotFoundError):
        harness.poll()
    harness.poll()

    error = lost.exception(0)
    assert isinstance(error, JobLost)
    assert f"{deleted.path} was deleted" in str(error)
    assert harness.workers[0].waiter.cancelled
    assert_served_anew(harness)


def test_workers_of_a_deleted_queue_do_not_fail_its_calls(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """They end well; the calls are lost for what has happened, or served after all."""
    (future,) = harness.submit(lambda: 5)
    hidden = harness.directory.path.rename(harness.directory.path.with_name("hidden"))
    for number in range(3):
        harness.workers[number].start()
        with pytest.raises(FileNotFoundError):
            harness.workers[number].end()
    assert harness.running() == []
    assert not future.done()

    hidden.rename(harness.directory.path)
    clock.now += 1
    harness.poll()
    harness.workers[-1].serve()
    harness.poll()
    assert future.result(0) == 5


def test_a_queue_that_was_deleted_is_noticed_by_the_next_call(harness: Harness) -> None:
    """At once: this program has made it, so it cannot be late."""
    (lost,) = harness.submit(int)
    harness.directory.remove()

    assert_served_anew(harness)
    assert isinstance(lost.exception(0), JobLost)


def test_a_queue_that_is_given_up_while_a_call_comes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call goes into another one."""
    (lost,) = harness.submit(int)
    directory = harness.directory
    add_blocks = directory.add_blocks

    def give_up_first(numbers: range) -> None:
        harness.pool._queue.abandon(directory)
        add_blocks(numbers)

    monkeypatch.setattr(directory, "add_blocks", give_up_first)
    (future,) = harness.submit(int)
    harness.poll()
    assert isinstance(lost.exception(0), JobLost)
    assert not future.done()

    assert harness.workers[-1].serve() == 1
    harness.poll()
    assert future.result(0) == 0


def test_a_queue_that_is_given_up_while_workers_are_counted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None are started for it."""
    harness.submit(int)
    monkeypatch.setattr(
        type(harness.pool._queue.inspector),
        "is_blind",
        property(lambda _: harness.pool._queue.abandon(harness.directory)),
    )

    harness.pool._queue.scale()
    assert harness.pool._queue.directory is None


def test_an_idle_queue_may_be_deleted(harness: Harness) -> None:
    """The next call has another one, and workers for it."""
    served = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].serve()
    assert harness.all_done(served)
    harness.directory.remove()

    assert_served_anew(harness)


def assert_served_anew(harness: Harness) -> None:
    """See that a call has a new queue and a worker that serves it."""
    queues = len(harness.writer.pools)
    later = harness.submit(int)

    assert len(harness.writer.pools) == queues + 1
    harness.workers[-1].start()
    assert harness.workers[-1].serve() == 1
    assert harness.all_done(later)
    assert [future.result(0) for future in later] == [0]


def test_a_queue_that_fails_for_an_error_of_ours(harness: Harness) -> None:
    """Its calls fail and its workers end; a later call has others."""
    futures = harness.submit(int, int, int)
    error = JobLost("a bug")

    harness.pool.fail(error)
    harness.poll()

    assert [str(each.exception(0)) for each in futures] == ["a bug"] * 3
    assert [each.waiter.cancelled for each in harness.workers] == [True, True]
    assert_served_anew(harness)


def hide(harness: Harness, name: str) -> Callable[[], None]:
    """Put a file into the place of a directory; return what takes that back."""
    path = harness.directory.path / name
    hidden = path.rename(path.with_name("hidden"))
    path.touch()

    def show() -> None:
        path.unlink()
        hidden.rename(path)

    return show


def submit_three(harness: Harness) -> list[SlurmFuture[Any]]:
    """Let two workers run a call each, while a third one waits."""
    futures = harness.submit(int, int, int)
    for number, each in enumerate(harness.workers):
        each.start()
        each.take(number)
    harness.poll()
    return futures


@pytest.mark.parametrize("name", ["finished", "claims"])
def test_a_queue_that_can_never_be_listed_again(
    harness: Harness, clock: Clock, name: str
) -> None:
    """Calls fail a grace after their workers, all others after the last one.

    Later calls have another queue.
    """
    first, second, waiting = submit_three(harness)
    hide(harness, name)
    harness.poll()
    clock.now += 1000
    harness.workers[0].end(failed())
    clock.now += 59
    harness.poll()
    assert not first.done()

    clock.now += 1
    harness.poll()
    error = first.exception(0)
    assert isinstance(error, JobLost)
    assert f"{harness.directory.path} cannot be read: [Errno 20]" in str(error)
    assert error.job_id == "7"
    assert not second.done()
    harness.workers[1].end()
    clock.now += 60
    harness.poll()
    assert [type(each.exception(0)) for each in (second, waiting)] == [JobLost] * 2
    assert len(harness.workers) == 2
    assert not harness.pool.is_open
    assert_served_anew(harness)


@pytest.mark.parametrize("name", ["finished", "claims"])
def test_a_call_that_comes_as_all_others_of_such_a_queue_are_failing(
    harness: Harness, clock: Clock, name: str
) -> None:
    """It has another queue as well."""
    (lost,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].take(0)
    harness.poll()
    hide(harness, name)
    later: list[SlurmFuture[Any]] = []
    lost.add_done_callback(lambda _: later.extend(harness.submit(lambda: "later")))
    harness.workers[0].end(failed())
    clock.now += 60
    harness.poll()

    assert isinstance(lost.exception(0), JobLost)
    assert len(harness.writer.pools) == 2
    harness.workers[-1].start()
    assert harness.workers[-1].serve() == 1
    assert harness.all_done(later)
    assert later[0].result(0) == "later"


def test_workers_of_a_queue_that_cannot_be_listed_end_as_later_calls_come(
    harness: Harness,
) -> None:
    """Those that live, too: nobody would see what they do."""
    (cancelled,) = harness.submit(int)
    harness.workers[0].start()
    hide(harness, "finished")
    harness.poll()
    cancelled.cancel()

    assert_served_anew(harness)
    assert harness.workers[0].waiter.cancelled


@pytest.mark.parametrize("name", ["finished", "claims"])
def test_a_queue_that_cannot_be_listed_for_a_while(
    harness: Harness, clock: Clock, name: str
) -> None:
    """No worker is started in the meantime; then everything goes on as before."""
    first, second, waiting = submit_three(harness)
    show = hide(harness, name)
    harness.workers[0].end(failed())
    clock.now += 59
    harness.poll()
    assert len(harness.workers) == 2

    show()
    harness.poll()
    assert isinstance(first.exception(0), JobFailed)
    assert len(harness.workers) == 3
    assert harness.workers[2].serve() == 1
    harness.poll()
    assert waiting.result(0) == 0
    assert not second.done()


def test_each_time_that_a_queue_cannot_be_listed_has_its_grace(
    harness: Harness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is how long nobody could have seen the outcome."""
    chunk = harness.submit_chunk(lambda: 1, lambda: 2)
    harness.workers[0].start()
    harness.workers[0].take(0)
    harness.poll()
    show = hide(harness, "finished")
    harness.workers[0].end(failed())
    clock.now += 59
    show()
    harness.set_times(withdrawal_pause=3600)
    harness.poll()
    hide(harness, "finished")
    harness.poll()
    clock.now += 59
    harness.poll()
    assert not chunk.done()

    clock.now += 1
    harness.poll()
    assert [type(each.exception) for each in chunk.result(0)] == [JobLost] * 2


def test_workers_whose_calls_cannot_be_seen_are_not_barren(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have done what they could; the outcomes arrive when they can be seen."""
    monkeypatch.setattr(workers, "_BARREN", 1)
    futures = harness.submit(int, int)
    for each in harness.workers:
        each.start()
        each.serve(max_calls=1)
    show = hide(harness, "finished")
    for each in harness.workers[:2]:
        each.end()
    assert not any(future.done() for future in futures)

    show()
    assert harness.all_done(futures)


def test_a_queue_that_cannot_be_listed_for_long_is_told_of(
    harness: Harness, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a minute, then every ten; calls whose workers live are waited for."""
    (future,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].take(0)
    harness.poll()
    hide(harness, "finished")
    told = []
    for _ in range(100):
        harness.poll()
        told.append(caplog.text.count("WARNING"))
        clock.now += 10

    assert [told.index(count) for count in (1, 2)] == [6, 66]
    assert max(told) == 2
    assert f"{harness.directory.path}: its results cannot be looked for" in caplog.text
    assert not future.done()


def test_files_of_calls_that_are_over_are_deleted(harness: Harness) -> None:
    """A batch, and a full block, when the last of their calls is over."""
    harness.submit(*[int] * 999)
    harness.workers[0].serve()
    harness.poll()
    path = harness.directory.path
    assert os.listdir(path / "queue") == []
    assert os.listdir(path / "finished") == ["0-999"], "one call may still come"

    futures = harness.submit(int, int)
    harness.workers[0].serve()
    harness.poll()
    assert [future.result(0) for future in futures] == [0, 0]
    assert os.listdir(path / "queue") == []
    assert os.listdir(path / "finished") == ["1000-1999"]
    assert os.listdir(path / "claims") == ["1000-1999"]


def test_no_directory_holds_many_entries(harness: Harness) -> None:
    """Of 5,000 calls at most 1,000 lie in one place, with one file for all."""
    harness.submit(*[int] * 5000)
    harness.workers[0].serve(max_calls=4000)

    sizes = [
        len(names) for _, *lists in os.walk(harness.directory.path) for names in lists
    ]
    assert max(sizes) == 1000
    assert len(os.listdir(harness.directory.path / "queue")) == 1


def test_operations_of_the_client_for_each_call(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads each claim and each outcome once, however many calls there are."""
    harness.submit(*[int] * 1500)
    harness.workers[0].start()
    harness.workers[0].serve()
    counts: Counter[str] = Counter()
    for name in ("open", "readlink", "listdir", "stat"):
        original = getattr(os, name)

        def count(
            *args: Any, _name: str = name, _original: Any = original, **keywords: Any
        ) -> Any:
            counts[_name] += 1
            return _original(*args, **keywords)

        monkeypatch.setattr(os, name, count)
    harness.poll()

    assert not harness.pool.is_open
    assert counts["readlink"] == 1500
    assert counts["open"] <= 1500 + 20
    assert counts["listdir"] <= 10


def test_a_look_does_not_cost_more_the_more_calls_wait(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 blocks few are listed; one that is out of turn is noticed all the same."""
    futures = harness.submit(*[int] * 40_000)
    harness.workers[0].start()
    harness.workers[0].serve(max_calls=1)
    harness.workers[0].take(35_000)
    path = harness.workers[0].outcomes(35_000)
    record = formats.pack_outcome(0, formats.VALUE, dump(7))
    path.write_bytes(record)
    path.rename(path.with_name("35000"))
    listed: list[int] = []
    original = PoolDirectory.list_finished

    def list_finished(directory: PoolDirectory, blocks: list[str]) -> set[int]:
        listed.append(len(blocks))
        return original(directory, blocks)

    monkeypatch.setattr(PoolDirectory, "list_finished", list_finished)
    for _ in range(12):
        harness.poll()

    assert max(listed) <= 12
    assert (futures[0].result(0), futures[35_000].result(0)) == (0, 7)


def test_an_outcome_that_is_damaged_is_lost_in_the_end(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while it may be that it cannot be read yet."""
    (future,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].publish(0, b"nonsense")
    harness.poll()
    assert not future.done()

    harness.set_times(grace=0.0)
    harness.poll()
    error = future.exception(0)
    assert isinstance(error, JobLost)
    assert f"{harness.directory.path}/finished/0-999/0 is cut short" in str(error)
    assert error.job_id == "7"


def test_an_outcome_of_somebody_else_is_refused_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be unpickled, and no waiting makes it ours."""
    (future,) = harness.submit(int)
    harness.workers[0].start()
    harness.workers[0].publish(0, formats.pack_outcome(0, formats.VALUE, dump(1)))

    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    harness.poll()

    error = future.exception(0)
    assert isinstance(error, OutcomeNotReadable)
    assert "only your own files are unpickled" in str(error)


def test_a_damaged_chunk_is_settled_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there counts once it is clear that there will be no more."""
    chunk = harness.submit_chunk(lambda: 1, lambda: 2)
    harness.workers[0].start()
    harness.workers[0].publish(
        0, formats.pack_outcome(0, formats.VALUE, dump(1)) + b"nonsense"
    )
    delivered: list[object] = []
    deliver = harness.settler.deliver

    def count(work: OpenCalls, *others: Any) -> tuple[list[int], bool]:
        delivered.append(work)
        return deliver(work, *others)

    monkeypatch.setattr(harness.settler, "deliver", count)
    harness.poll()
    harness.poll()
    assert not delivered
    harness.set_times(grace=0.0)
    harness.poll()

    first, second = chunk.result(0)
    assert first.value == 1
    assert "cut short or damaged" in str(second.exception)
    assert len(delivered) == 1


def test_what_cannot_be_read_for_a_moment_is_not_lost(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker died in a chunk, and the file system has a hiccup."""
    chunk = harness.submit_chunk(lambda: 1, lambda: 2)
    worker_here = harness.workers[0]
    worker_here.start()
    worker_here.take(0)
    record = formats.pack_outcome(0, formats.VALUE, dump(1))
    worker_here.outcomes(0).write_bytes(record)
    with monkeypatch.context() as patch:
        patch.setattr(finished, "read_own", _stale)
        worker_here.end(failed())
        harness.poll()
        assert not chunk.done()
    harness.poll()

    first, second = chunk.result(0)
    assert first.value == 1
    assert isinstance(second.exception, JobFailed)


def _stale(_: object) -> NoReturn:
    raise OSError(errno.ESTALE, "Stale file handle")


def test_many_threads_submit_and_cancel(harness: Harness) -> None:
    """Each call runs once or is cancelled, and none is left over."""
    futures: list[SlurmFuture[Any]] = []
    stop = threading.Event()

    def submit(offset: int) -> None:
        for number in range(60):
            (future,) = harness.submit(int)
            futures.append(future)
            if number % 3 == offset:
                future.cancel()

    def serve() -> None:
        while not stop.is_set():
            for each in harness.running():
                each.serve()
            time.sleep(0.001)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(3)]
    server = threading.Thread(target=serve)
    for thread in [*threads, server]:
        thread.start()
    for thread in threads:
        thread.join()
    assert_soon(lambda: harness.all_done(futures), 60)
    stop.set()
    server.join()

    assert len(futures) == 180
    assert {future.result(0) for future in futures if not future.cancelled()} == {0}
    assert not harness.pool.is_open
