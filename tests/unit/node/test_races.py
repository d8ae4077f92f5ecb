"""Node and client at their worst moments: two processes that meet only in files.

Each test puts what one of them does, or a file system that is slow or fails once,
between two steps of the other one.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import JobFailed, JobState, NodeFailed
from slurm_futures.jobs.retries import Retries
from slurm_futures.node import calls_file, formats, outcomes, patience, pool_worker
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.runs.job import JobDirectory
from slurm_futures.runs.queue import PoolDirectory
from tests.unit.fakes import (
    FakeJobs,
    FakeScheduler,
    WatchedPoller,
    finished_path,
    outcomes_of,
    value_of,
)
from tests.unit.node.test_pool_worker import Queue
from tests.unit.pool.test_pool import Harness
from tests.unit.runs.test_script import Script
from tests.waiting import assert_soon

#: How often each call ran, and what it does there.
RAN: Counter[str] = Counter()
HOOKS: dict[str, Callable[[], object]] = {}


def note(name: str) -> str:
    """Be a call; pickled by reference, so that it sees the tables above."""
    RAN[name] += 1
    HOOKS.get(name, int)()
    return name


def call_a() -> str:
    """Call."""
    return note("a")


def call_b() -> str:
    """Call."""
    return note("b")


def call_c() -> str:
    """Call."""
    return note("c")


def call_longer() -> str:
    """Return more each time."""
    note("longer")
    return "x" * RAN["longer"]


CALLS = (call_a, call_b, call_c)


@pytest.fixture(autouse=True)
def _tables() -> None:
    RAN.clear()
    HOOKS.clear()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Give a pool of at most two workers."""
    harness = Harness(tmp_path)
    yield harness
    harness.group.join()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Give an empty queue."""
    return Queue(tmp_path / "pool")


def once(error: int) -> Callable[..., Any]:
    """Return what raises at its first call."""
    left = [OSError(error, os.strerror(error))]

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def lost() -> NodeFailed:
    """Return the error of a worker whose node is lost for Slurm."""
    return NodeFailed("node lost", job_id="7", state=JobState.NODE_FAIL)


# Marks.


def test_a_requeued_job_leaves_no_mark_of_another_one(tmp_path: Path) -> None:
    """Its own mark is there already: a link whose text is the name of job 1."""
    script = Script(tmp_path, "raise SystemExit(1)", array=True, requeue=True)
    mark = f"{script.final}.died"
    formats.leave_mark(mark, "1")

    assert script.run() == 1

    assert os.listdir(script.final.parent) == [Path(mark).name]


def test_a_mark_whose_answer_was_lost_is_none_of_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link was made, and the system said EIO."""
    symlink = os.symlink

    def make_and_fail(text: str, path: str) -> None:
        symlink(text, path)
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "symlink", make_and_fail)
    formats.leave_mark(f"{tmp_path}/5", "0")
    assert os.listdir(tmp_path) == ["5"]


# A worker that lives on where Slurm does not see it.


def test_a_lost_worker_fails_no_calls_after_the_one_it_runs(harness: Harness) -> None:
    """The slurmd died, say: its processes go on, and see the queue."""
    first, second, third = harness.submit(call_a, call_b, call_c)
    zombie = harness.workers[0]
    zombie.start()

    def be_lost() -> None:
        harness.poll()
        zombie.end(lost())

    HOOKS["a"] = be_lost
    HOOKS["b"] = HOOKS["c"] = harness.poll
    zombie.serve()

    assert isinstance(first.exception(0), NodeFailed)
    assert RAN == {"a": 1}
    assert not second.done()
    assert not third.done()


# Two incarnations of a worker.


def test_both_lives_of_a_requeued_worker_take_different_calls(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one lives on without work, on a node that Slurm has lost."""
    first = queue.worker()
    assert first.serve() == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = queue.worker()
    queue.put(call_a, call_b)

    def let_the_first_serve() -> None:
        HOOKS.clear()
        first.serve()

    HOOKS["a"] = let_the_first_serve
    second.serve()
    assert RAN == {"a": 1, "b": 1}
    assert queue.results() == {0: ["a"], 1: ["b"]}


def test_a_worker_that_runs_again_dies_with_its_call(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client knows it under whatever name it has in its claims."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    first, second = harness.submit(call_a, call_b)
    here = harness.workers[0]
    here.start()

    def cancel() -> None:
        assert first.cancel()
        harness.poll()

    HOOKS["a"] = cancel
    assert here.serve() == 1
    harness.poll()
    assert harness.cancelled == [here.waiter.job]
    assert not second.done()
    assert RAN == {"a": 1}


# Between the claim and the file for the outcomes.


class Pause:
    """Lets something happen before a worker opens the file for its outcomes."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
    ) -> None:
        self._act: Callable[[], object] | None = act
        self._original = OutcomesFile
        monkeypatch.setattr(pool_worker, "OutcomesFile", self)

    def __call__(self, *arguments: Any) -> object:
        """Open it, once that has happened."""
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._original(*arguments)


def test_cancel_between_claim_and_outcomes_harms_no_other_call(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scancel for the first call hit the worker in the next one."""
    first, second = harness.submit(call_a, call_b)
    here = harness.workers[0]
    here.start()
    Pause(monkeypatch, first.cancel)
    HOOKS["b"] = harness.poll  # the poller sees the end of the worker
    here.serve()
    harness.poll()

    assert not RAN, "it ends, as where its call was cancelled a moment later"
    assert not second.done(), str(second.exception(0))
    harness.workers[-1].serve()
    harness.poll()
    assert second.result(0) == "b"


def test_a_chunk_of_a_lost_worker_that_was_about_to_begin(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls run in the next job, and not here as well."""
    chunk = ChunkFuture(harness.above, 3)
    other = SlurmFuture[Any](harness.above)
    calls = [PickledCall(dump(fn), dump_arguments((), {})) for fn in CALLS]
    harness.pool.put(
        "fit",
        [
            JobRequest(chunk, range(3), calls),
            JobRequest(other, range(1), calls[:1]),
        ],
    )
    harness.group.join()
    zombie = harness.workers[0]
    zombie.start()

    def be_lost() -> None:
        zombie.end(lost())
        harness.poll()

    Pause(monkeypatch, be_lost)
    zombie.serve(max_calls=1)
    assert not RAN
    harness.workers[-1].serve()
    harness.poll()

    assert RAN == {"a": 1, "b": 1, "c": 1}, "a is that of the other future"
    assert [each.value for each in chunk.result(0)] == [None, "b", "c"]
    assert other.result(0) == "a"


def test_a_cancel_after_that_does_not_let_it_begin(queue: Queue) -> None:
    """The chunk is taken back twice: as its worker is lost, and by a cancel."""
    queue.put(call_a)
    here = queue.worker()
    assert here._list()
    assert here._take() == ("0-1", 0)
    assert queue.directory.withdraw(0, "0001-0")
    assert queue.directory.withdraw(0, "0001-0")

    assert here._run("0-1", 0) is False
    assert not RAN
    assert queue.directory.finished.read_left(0) == []


# A look that fails once.


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_look_that_fails_ends_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whether calls are still wanted can be asked again later."""
    monkeypatch.setattr(outcomes, "LOOK_INTERVAL", 0)
    (tmp_path / "finished/0-999").mkdir(parents=True)
    file = OutcomesFile(str(tmp_path), 0, "0001-0")
    listdir, fail = os.listdir, once(number)
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: fail() or listdir(path))
        assert file.are_wanted()
    assert file.are_wanted()


# The mark of an earlier attempt that comes late.


@pytest.mark.parametrize("error", [None, errno.ESTALE, errno.EIO])
def test_an_attempt_that_dies_late_does_not_end_the_next_one(
    watched: WatchedPoller,
    jobs: FakeJobs,
    monkeypatch: pytest.MonkeyPatch,
    error: int | None,
) -> None:
    """It lived on where Slurm could not see it, while the job ran again.

    Nor does it where nobody can read for a while which attempt is the last one.
    """
    read = os.readlink
    tries: list[str] = []

    def fail_at_first(path: str) -> str:
        if error is not None and str(path).endswith("started") and len(tries) < 3:
            tries.append(path)
            raise OSError(error, os.strerror(error))
        return read(path)

    monkeypatch.setattr(os, "readlink", fail_at_first)
    watched.watch(jobs)
    formats.leave_mark(f"{jobs.begin(0)}/started", "c18 100_0 1")
    formats.leave_mark(f"{finished_path(jobs.submission, 0)}.died", "1 0")
    if error is not None:
        assert_soon(lambda: len(tries) == 3)
    with pytest.raises(TimeoutError):
        jobs.futures[0].exception(0.5)

    again = OutcomesFile(str(jobs.submission.path), 0, "1-c18-99")
    again.append(*value_of(0, "second attempt"))
    again.publish(sync=True)
    assert jobs.futures[0].result(60) == "second attempt"
    jobs.finish(1)
    watched.group.join()


# Listings that are late.


def test_an_outcome_that_is_listed_late_is_not_lost(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker has ended well; the file can be opened."""
    (future,) = harness.submit(call_a)
    here = harness.workers[0]
    here.start()
    here.serve()
    with monkeypatch.context() as patch:
        patch.setattr(PoolDirectory, "list_finished", lambda *_: set())
        here.end()
        harness.poll()
    harness.poll()
    assert future.result(0) == "a"


# A claim of the client that NFS has sent twice.


def test_a_claim_of_the_client_that_was_sent_twice(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker can take the call: it does not wait for one for ever."""
    (future,) = harness.submit(call_a)
    symlink = os.symlink

    def send_twice(source: str, target: str, *_: Any, **__: Any) -> None:
        symlink(source, target)
        symlink(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", send_twice)
        begun = harness.withdraw(future)
    harness.workers[0].serve()
    harness.poll()
    assert begun == bool(RAN)


# A requeued worker that cannot list the queue at first.


def test_a_requeued_worker_that_cannot_list_the_queue_at_first(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can run the call that it had begun."""
    queue.put(call_a)
    (queue.directory.path / "claims/0-999/0").symlink_to("0001-0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    listdir = os.listdir
    fail = once(errno.EIO)
    monkeypatch.setattr(os, "listdir", lambda path: fail() or listdir(path))
    monkeypatch.setattr(patience, "grace", 10.0)
    queue.worker().serve()
    assert RAN == {"a": 1}


def test_attempts_that_live_at_once_do_not_mix(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is back, and the first one goes on while the second one runs all."""
    queue.put_chunks([call_longer, call_b, call_longer])

    def restart() -> None:
        del HOOKS["b"]
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        assert queue.worker().serve() == 1
        assert queue.results() == {0: ["xx", "b", "xxx"]}

    HOOKS["b"] = restart

    assert queue.worker().serve() == 1
    assert queue.results() == {0: ["x", "b", "xxxx"]}
    assert queue.names("finished") == {"0"}
    assert queue.owners() == ["0001-0.1"]


def test_a_requeued_worker_leaves_alone_what_was_withdrawn(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has settled it otherwise."""
    queue.put(call_a)
    HOOKS["a"] = lambda: queue.directory.withdraw(0, "0001-0")
    queue.worker().serve()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")

    assert queue.worker().serve() == 0
    assert RAN == {"a": 1}


# Calls that cannot begin.


@pytest.mark.parametrize("place", ["finished/", "queue/"])
def test_a_call_that_cannot_begin_is_given_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The worker ends with the error, and leaves nothing; another one runs the call."""
    queue.put(call_a)
    original = os.open

    def fail(path: str, *arguments: Any) -> int:
        if place in path:
            raise OSError(errno.EIO, "I/O error")
        return original(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="I/O error"):
            queue.worker().serve()

    assert queue.names("claims") == queue.names("finished") == set()
    assert queue.worker(1).serve() == 1
    assert queue.owners() == ["0001-1"]


def test_calls_of_a_chunk_that_cannot_be_read_run_elsewhere(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has run before counts."""
    queue.put_chunks([*CALLS])
    original = calls_file.CallsFile.read

    def fail(file: calls_file.CallsFile, *place: int) -> bytes:
        if RAN:
            file.problem = OSError(errno.EIO, "I/O error")
            raise file.problem
        return original(file, *place)

    monkeypatch.setattr(calls_file.CallsFile, "read", fail)

    assert queue.worker().serve() == 1
    records = outcomes_of(queue.directory.finished.read(0))
    assert [each[:2] for each in records] == [
        (0, formats.VALUE),
        (1, formats.NOT_BEGUN),
    ]


def test_a_call_that_a_worker_has_given_back_waits_again(harness: Harness) -> None:
    """Its worker was known to have it, and has ended with the error of a file."""
    (future,) = harness.submit(call_a)
    first = harness.workers[0]
    first.start()
    claim = harness.directory.path / "claims/0-999/0"
    claim.symlink_to(first.name)
    harness.poll()
    claim.unlink()

    first.end(OSError(errno.EIO, "I/O error"))
    assert not future.done()
    harness.workers[1].start()
    harness.workers[1].serve()
    harness.poll()

    assert future.result(0) == "a"


def test_calls_fail_that_no_worker_can_begin(harness: Harness) -> None:
    """Each worker takes the call, and gives it back: the error names the cause."""
    (future,) = harness.submit(call_a)
    claim = harness.directory.path / "claims/0-999/0"
    for number in range(3):
        worker = harness.workers[number]
        worker.start()
        claim.symlink_to(worker.name)
        harness.poll()
        claim.unlink()
        worker.end(OSError(errno.ENOSPC, "No space left on device"))

    error = future.exception(0)
    assert isinstance(error, JobFailed)
    assert "A worker could not use the files of its run" in str(error)
    assert "No space left on device" in str(error)


# Two errors far apart.


def test_errors_that_are_far_apart_are_no_outage(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was alive again in between, for longer than the grace."""
    watched = WatchedPoller(scheduler, grace=0.3, put_off=0.5)
    watched.set_times(state_graces={JobState.FAILED: 0.0})
    watched.watch(jobs)
    jobs.write_outcome(0, "value")
    job = jobs.opened.jobs[0]
    original = JobDirectory.exists
    fails: list[Callable[..., Any]] = [once(errno.EIO)]

    def exists(self: JobDirectory) -> bool:
        if self.path == job.directory.path and fails:
            fails.pop()()
        return original(self)

    monkeypatch.setattr("slurm_futures.jobs.closer.may_live_on", lambda _: True)
    monkeypatch.setattr(JobDirectory, "exists", exists)
    scheduler.show(jobs, jobs.row(JobState.FAILED, 0), jobs.row(JobState.RUNNING, 1))
    assert_soon(lambda: job.unreadable_since is not None)
    scheduler.show(jobs, jobs.row(JobState.RUNNING))
    assert_soon(lambda: job.over_since is None)
    later = time.monotonic() + 0.8  # longer than the grace
    assert_soon(lambda: time.monotonic() > later)
    fails.append(once(errno.EIO))
    scheduler.show(jobs, jobs.row(JobState.FAILED, 0), jobs.row(JobState.RUNNING, 1))
    assert jobs.futures[0].result(60) == "value"
    jobs.finish(1)
    watched.group.join()


# What Slurm said of an earlier attempt.


def test_a_requeued_job_that_dies_was_not_preempted(
    tmp_path: Path, watched: WatchedPoller, jobs: FakeJobs, scheduler: FakeScheduler
) -> None:
    """The log is appended to: its last word is of the attempt before."""
    script = Script(tmp_path / "script", "raise SystemExit(3)", requeue=True)
    said = "slurmstepd: error: *** JOB 9 ON c1 CANCELLED AT now DUE TO PREEMPTION ***\n"
    script.log.write_text(said)
    script.run(SLURM_RESTART_COUNT="1")
    log = jobs.submission.logs / str(jobs.job_id.task(0))
    log.write_text(script.log.read_text())
    watched.watch(jobs)
    formats.leave_mark(f"{jobs.begin(0)}/started", "c18 100_0 1")
    formats.leave_mark(f"{finished_path(jobs.submission, 0)}.died", "3 1")

    assert type(jobs.futures[0].exception(60)) is JobFailed
    jobs.finish(1)
    watched.group.join()


# Kind of error.


def test_a_worker_that_could_not_open_a_file_is_tried_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `retries`: as a job of its own, whose worker ends with exit code 1."""
    harness.settler._retries = Retries.of(1)
    (future,) = harness.submit(call_a)
    here = harness.workers[0]
    here.start()
    here.take(0)
    here.end(OSError(errno.EIO, "I/O error"))
    harness.workers[-1].serve()
    harness.poll()
    assert future.result(0) == "a"
