"""How many calls run at once, in which processes, and what if a process dies."""

import os
import signal
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def test_max_workers_bounds_all_submissions_together(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Over several submissions never more calls run at once, and as many as allowed."""
    executor = make_executor(2)
    futures = [executor.submit(gate.time_inside, "first")]
    gate.await_arrivals("first")
    futures += [executor.submit(gate.time_inside, name) for name in range(2)]
    assert_soon(lambda: len(gate.arrivals()) == 2, PATIENCE, "both workers are used")
    iterator = executor.map(gate.time_inside, range(2, 5))
    gate.open("first")
    assert_soon(lambda: len(gate.arrivals()) == 3, PATIENCE, "the free one is used")
    gate.open()

    intervals = [future.result(PATIENCE) for future in futures] + list(iterator)
    assert _most_at_once(intervals) == 2


def test_one_worker_runs_calls_in_order(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """With max_workers=1, calls run one after another as they were submitted."""
    gate.open()
    executor = make_executor(1)
    futures = [executor.submit(gate.time_inside, name) for name in range(2)]
    intervals = [future.result(PATIENCE) for future in futures]

    intervals += executor.map(gate.time_inside, range(2, 4))
    assert intervals == sorted(intervals)
    assert _most_at_once(intervals) == 1


def test_default_number_of_workers_runs_calls_side_by_side(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Without max_workers, two calls that wait for each other both end."""
    executor = make_executor()
    iterator = executor.map(gate.hold, ["a", "b"])
    gate.await_arrivals("a", "b")
    gate.open()

    assert list(iterator) == ["a", "b"]


def _most_at_once(intervals: list[tuple[float, float]]) -> int:
    changes = [(began, 1) for began, _ in intervals]
    changes += [(ended, -1) for _, ended in intervals]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def test_call_runs_in_another_process(make_executor: MakeExecutor) -> None:
    """Neither this process, nor, with max_tasks_per_child=1, that of another call."""
    executor = make_executor(1, max_tasks_per_child=1)
    pids = set(executor.map(calls.pid_of_call, range(2)))

    assert len(pids) == 2
    assert os.getpid() not in pids


def test_call_finds_cwd_and_environment_of_the_program(
    make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Working directory and variables are those at the time of the first submit."""
    monkeypatch.setenv("CONTRACT_VARIABLE", "with space, 'quotes' and\nlines")
    monkeypatch.chdir(tmp_path)
    executor = make_executor(1)

    assert Path(executor.submit(os.getcwd).result(PATIENCE)) == tmp_path.resolve()
    value = executor.submit(os.getenv, "CONTRACT_VARIABLE").result(PATIENCE)
    assert value == "with space, 'quotes' and\nlines"


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (calls.kill_own_process, signal.SIGKILL),
        (calls.kill_own_process, signal.SIGSEGV),
        (calls.kill_own_process, signal.SIGTERM),
        (calls.leave_process, 0),
        (calls.leave_process, 3),
    ],
    ids=["SIGKILL", "SIGSEGV", "SIGTERM", "exit_0", "exit_3"],
)
def test_process_that_dies_is_a_broken_executor(
    make_executor: MakeExecutor, function: Any, argument: int
) -> None:
    """A call whose process ends without an outcome fails, and soon."""
    executor = make_executor(1)
    began = time.monotonic()
    exception = executor.submit(function, argument).exception(PATIENCE)

    assert isinstance(exception, BrokenExecutor)
    assert time.monotonic() - began < 30


def test_process_that_dies_ends_a_map(make_executor: MakeExecutor) -> None:
    """The iterator raises BrokenExecutor, and shutdown returns."""
    with make_executor(1) as executor:
        iterator = executor.map(calls.leave_process, [3, 3], chunksize=2)

        with pytest.raises(BrokenExecutor):
            next(iterator)
