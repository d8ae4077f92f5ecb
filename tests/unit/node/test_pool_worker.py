"""Workers of a pool: who takes which call, when they end, what they leave."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.outcome import load_outcome
from slurm_futures.calls.pickler import dump
from slurm_futures.node import formats, pool_worker, runner
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.node.pool_worker import Batch, PoolWorker
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.queue import PoolDirectory
from tests.unit.fakes import CONTEXT, outcomes_of
from tests.waiting import assert_soon

PATIENCE = 60  #: seconds


class Queue:
    """A queue with calls, and workers that run in this process."""

    def __init__(self, path: Path) -> None:
        self.directory = PoolDirectory(path)
        self.directory.create()
        self.next = 0

    def put(self, *functions: Callable[[], object]) -> range:
        """Add a batch: each function is a call without arguments."""
        return self.put_chunks(*([each] for each in functions))

    def put_chunks(self, *chunks: list[Callable[[], object]]) -> range:
        """Add a batch of which each entry holds several calls."""
        numbers = range(self.next, self.next + len(chunks))
        self.next = numbers.stop
        calls = [
            [PickledCall(dump(each), dump_arguments((), {})) for each in chunk]
            for chunk in chunks
        ]
        self.directory.add_blocks(numbers)
        write_calls(self.directory.batch(numbers), calls, CONTEXT)
        return numbers

    def worker(
        self,
        me: int = 0,
        workers: int = 1,
        *,
        idle_timeout: float = 0.0,
        max_calls: int | None = None,
        time_limit: float | None = None,
    ) -> PoolWorker:
        """Return a worker; by default it ends when it finds nothing."""
        root = str(self.directory.path)
        return PoolWorker(
            root,
            f"0001-{me}",
            me,
            workers,
            idle_timeout,
            max_calls,
            time_limit,
        )

    def results(self) -> dict[int, list[Any]]:
        """What each call that is over has left."""
        return {
            number: [
                load_outcome(kind, payload).value
                for _, kind, payload in outcomes_of(
                    self.directory.finished.read(number)
                )
            ]
            for number in sorted(self.directory.list_finished(self.blocks()))
        }

    def has_results(self, count: int) -> bool:
        """Whether so many calls are over."""
        return len(self.directory.list_finished(self.blocks())) == count

    def owners(self) -> list[str | None]:
        """Who took each call."""
        taken = self.directory.list_claims(self.blocks())
        return [self.directory.owner(number) for number in sorted(taken)]

    def blocks(self) -> list[str]:
        """The names of all blocks that there are."""
        return os.listdir(self.directory.path / "claims")

    def names(self, kind: str) -> set[str]:
        """What lies in the first block."""
        return set(os.listdir(self.directory.path / kind / "0-999"))


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Give an empty queue."""
    return Queue(tmp_path / "pool")


def raise_error() -> None:
    """Fail."""
    raise ValueError("no value")


def return_pid() -> int:
    """Tell which process ran the call."""
    return os.getpid()


def fail() -> None:
    """Raise."""
    raise ArithmeticError("the call failed")


# Taking calls.


def test_a_worker_runs_all_calls(queue: Queue) -> None:
    """Each one once, whatever batch it came with; the claims say who did."""
    queue.put(lambda: "a", lambda: "b")
    queue.put(lambda: "c")

    assert queue.worker().serve() == 3
    assert queue.results() == {0: ["a"], 1: ["b"], 2: ["c"]}
    assert queue.owners() == ["0001-0"] * 3
    assert queue.names("finished") == {"0", "1", "2"}, "nothing else is left"


def test_the_outcomes_of_a_chunk_lie_in_one_file(queue: Queue) -> None:
    """Its calls run one after another; one that raises does not end the others."""
    queue.put_chunks([lambda: 1, fail, lambda: 3])

    assert queue.worker().serve() == 1
    assert queue.results() == {0: [1, None, 3]}


def test_threads_that_race_take_each_call_once(queue: Queue) -> None:
    """Eight workers and 600 calls: nobody runs what another one has."""
    ran: list[int] = []
    original, count = runner.run_call, 600

    def run_call(calls: Any, entry: Any, position: int, outcomes: Any) -> bool:
        ran.append(int(outcomes._final.rpartition("/")[2]))
        return original(calls, entry, position, outcomes)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pool_worker, "run_call", run_call)
        queue.put(*[int] * (count // 2))
        queue.put(*[int] * (count // 2))
        workers = [queue.worker(me, 8) for me in range(8)]
        threads = [threading.Thread(target=each.serve) for each in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    assert Counter(ran) == Counter(range(count))
    assert len(queue.results()) == count


def _serve(queue: Queue, me: int) -> None:
    queue.worker(me, 4).serve()


def test_processes_that_race_take_each_call_once(queue: Queue) -> None:
    """The number of calls that the workers ran is the number of calls."""
    log = queue.directory.path / "log"
    queue.put(*[_AppendLine(log)] * 200)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_serve, args=(queue, me)) for me in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)

    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "x" * 200
    assert len(queue.results()) == 200


class _AppendLine:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        with self.path.open("a") as file:
            file.write("x")


def test_workers_begin_at_different_calls(queue: Queue) -> None:
    """At first each one goes through a part of its own, so that they seldom meet."""
    queue.put(*[int] * 6)
    root = str(queue.directory.path)

    first = [next(iter(Batch(root, "0-6", me, 3).candidates)) for me in range(3)]
    assert first == [0, 1, 2]


def test_a_worker_steals_what_others_leave(queue: Queue) -> None:
    """The part of a worker that is slow, or never came, is for all."""
    queue.put(*[int] * 9)
    queue.directory.claim(1)

    assert queue.worker(0, 3).serve() == 8
    assert queue.owners() == ["0001-0", None, *["0001-0"] * 7]


def test_a_call_that_the_client_took_back_does_not_run(queue: Queue) -> None:
    """Its claim is there, so that no worker takes it."""
    queue.put(lambda: "a", lambda: "b")

    assert queue.directory.claim(0)
    queue.worker().serve()
    assert queue.results() == {1: ["b"]}


def test_calls_of_a_block_that_is_gone_are_over(queue: Queue) -> None:
    """A worker with an old listing goes past them."""
    queue.put(*[int] * 3)
    late = queue.worker()
    assert late._list()
    queue.directory.remove_block("0-999")

    assert late.serve() == 0


def test_calls_over_several_blocks(queue: Queue) -> None:
    """Numbers beyond 1,000 lie in directories of their own."""
    queue.next = 990
    queue.put(*[int] * 20)

    assert queue.worker(1, 3).serve() == 20
    assert sorted(queue.blocks()) == ["0-999", "1000-1999"]


# Ends of a worker.


def test_an_idle_worker_ends(queue: Queue) -> None:
    """After `idle_timeout` seconds without a call, and not much later."""
    began = time.monotonic()

    assert queue.worker(idle_timeout=0.3).serve() == 0
    assert 0.3 <= time.monotonic() - began < 5


def test_a_waiting_worker_takes_a_new_call(queue: Queue) -> None:
    """The idle time begins anew with each call."""
    thread = threading.Thread(target=queue.worker(idle_timeout=PATIENCE).serve)
    thread.start()
    for number in range(3):
        queue.put(int)
        assert_soon(partial(queue.has_results, number + 1))
    queue.directory.close()
    thread.join(PATIENCE)

    assert not thread.is_alive()


def test_a_closed_queue_is_drained_first(queue: Queue) -> None:
    """Calls that are there still run; then the worker does not wait."""
    queue.put(*[int] * 5)
    queue.directory.close()
    began = time.monotonic()

    assert queue.worker(idle_timeout=PATIENCE).serve() == 5
    assert time.monotonic() - began < PATIENCE / 2


def test_a_queue_that_is_gone_is_closed(queue: Queue) -> None:
    """The client has removed the directory: nothing will come."""
    queue.directory.remove()

    assert queue.worker(idle_timeout=PATIENCE).serve() == 0


def test_a_worker_ends_after_max_calls(queue: Queue) -> None:
    """What is left is for the next one."""
    queue.put(*[int] * 5)

    counts = [queue.worker(me, max_calls=2).serve() for me in range(3)]
    assert counts == [2, 2, 1]


def test_a_worker_near_its_time_limit_takes_no_call(queue: Queue) -> None:
    """It keeps a reserve, measured by the longest call so far."""
    queue.put(*[_Sleep(0.2)] * 10)

    count = queue.worker(time_limit=1.0).serve()

    assert 1 <= count <= 4
    assert len(queue.results()) == count


class _Sleep:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> None:
        time.sleep(self.seconds)


def test_waits_grow(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 5 ms to at most 2 s, and longer the more workers there are."""
    waits: list[float] = []
    now = [100.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    queue.worker(workers=1000, idle_timeout=60).serve()

    assert 0.002 <= waits[0] <= 0.01
    assert 1 <= max(waits) <= pool_worker.LONGEST_WAIT
    assert len(waits) < 100


# What a worker leaves.


def test_outcomes_appear_when_all_are_there(queue: Queue) -> None:
    """Before that they have a name of their worker's own."""
    queue.put(int)
    outcomes = OutcomesFile(str(queue.directory.path), 0, "0001-0")
    outcomes.append(0, formats.VALUE, dump(5))

    assert queue.names("finished") == {"0.0001-0"}
    assert queue.directory.finished.read_left(0) == [(0, formats.VALUE, dump(5))]
    assert queue.directory.list_finished(["0-999"]) == set()

    assert outcomes.publish(sync=False)
    assert queue.names("finished") == {"0"}


def test_a_worker_whose_call_is_cancelled_ends(queue: Queue) -> None:
    """It must not take another call, since its job is being ended."""
    queue.put(_TakeBack(queue.directory), int)

    assert queue.worker().serve() == 1
    assert queue.results() == {}
    assert queue.owners() == ["0001-0"]


class _TakeBack:
    """Does in a call what the client does when the future is cancelled."""

    def __init__(self, directory: PoolDirectory) -> None:
        self.directory = directory

    def __call__(self) -> None:
        assert self.directory.withdraw(0, "0001-0")


def test_a_call_whose_files_are_gone_is_left_out(queue: Queue) -> None:
    """Cancelled between its claim and its start: the worker goes on."""
    queue.put(lambda: "a")
    queue.put(lambda: "b")
    worker_here = queue.worker()
    assert worker_here._list()
    queue.directory.remove_batch(range(1))

    assert worker_here.serve() == 2
    assert queue.results() == {1: ["b"]}
    assert queue.names("finished") == {"1"}


def test_a_call_whose_block_is_gone_is_left_out(queue: Queue) -> None:
    """The same, with the directory of the outcomes."""
    queue.put(lambda: "a")
    (queue.directory.path / "finished" / "0-999").rmdir()

    assert queue.worker().serve() == 1


def test_a_claim_that_was_sent_twice_is_our_own(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says that the link exists, when it lost the first answer."""
    symlink = os.symlink

    def send_twice(source: str, target: str) -> None:
        symlink(source, target)
        symlink(source, target)

    queue.put(lambda: "a", lambda: "b", lambda: "c")
    (queue.directory.path / "claims" / "0-999" / "1").symlink_to("0001-1")
    monkeypatch.setattr(os, "symlink", send_twice)

    assert queue.worker().serve() == 2
    assert queue.results() == {0: ["a"], 2: ["c"]}


def test_a_requeued_worker_runs_its_call_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job of its own would; calls that are over, and those of others, stay."""
    queue.put(lambda: "a", lambda: "b", lambda: "c", lambda: "d")
    assert queue.worker(max_calls=1).serve() == 1
    claims = queue.directory.path / "claims" / "0-999"
    (claims / "1").symlink_to("0001-0")
    (claims / "2").symlink_to("0001-1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")

    assert queue.worker().serve() == 2
    assert queue.results() == {0: ["a"], 1: ["b"], 3: ["d"]}


def test_a_requeued_worker_passes_over_what_is_being_deleted(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that are all over: their claims are deleted last."""
    queue.put(lambda: "a")
    claims = queue.directory.path / "claims" / "1000-1999"
    claims.mkdir()
    (claims / "1000").symlink_to("0001-0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")

    assert queue.worker().serve() == 1


# What it costs.


def test_operations_for_each_call_are_few(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One link, one file, one rename for a call; listings only when all is taken."""
    counts: Counter[str] = Counter()
    for name in ("symlink", "open", "rename", "listdir", "readlink", "unlink"):
        monkeypatch.setattr(os, name, _counted(name, getattr(os, name), counts))

    queue.put(*[int] * 500)
    counts.clear()
    queue.worker().serve()

    assert (counts["symlink"], counts["rename"]) == (500, 500)
    assert counts["open"] == 500 + 1  # and the batch
    assert counts["listdir"] < 10
    assert counts["readlink"] == counts["unlink"] == 0


def _counted(
    name: str, function: Callable[..., Any], counts: Counter[str]
) -> Callable[..., Any]:
    def count(*args: Any, **keywords: Any) -> Any:
        counts[name] += not str(args[0]).startswith("/proc/")
        return function(*args, **keywords)

    return count


def test_mark_tells_how_many_calls_of_an_entry_have_no_value(queue: Queue) -> None:
    """As in jobs of their own."""
    queue.put_chunks([raise_error, return_pid, raise_error], [return_pid])

    queue.worker().serve()

    assert queue.names("finished") == {"0", "0.raised-2", "1"}


def test_worker_that_was_requeued_takes_back_marks(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of calls that it runs once more."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    queue.put(return_pid)
    formats.leave_mark(f"{queue.directory.finished.file(0)}.raised-1", "")

    queue.worker().serve()

    assert queue.names("finished") == {"0"}
