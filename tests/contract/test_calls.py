"""What a call may do besides computing, without harm to its result or to others."""

import contextlib
import os
import signal
from concurrent.futures import Executor
from pathlib import Path

import pytest

from tests.contract import activities
from tests.contract.executors import PATIENCE, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def test_call_may_print_and_log(executor: Executor) -> None:
    """Whatever it writes to stdout and stderr, its value comes back."""
    assert executor.submit(activities.print_and_log).result(PATIENCE) == "done"


def test_call_may_close_its_streams(make_executor: MakeExecutor) -> None:
    """Outcomes do not travel through stdout."""
    executor = make_executor(1)

    assert executor.submit(activities.close_streams).result(PATIENCE) == "done"


def test_call_may_close_the_standard_files(make_executor: MakeExecutor) -> None:
    """What the next one writes does not get into files of the library."""
    executor = make_executor(1)

    closing = executor.submit(activities.close_standard_files)
    assert closing.result(PATIENCE) == "closed"
    for _ in range(2):
        writing = executor.submit(activities.write_to_standard_files)
        assert writing.result(PATIENCE) == "written"


def test_call_finds_an_empty_stdin(executor: Executor) -> None:
    """It cannot hang at a question that nobody answers."""
    assert executor.submit(activities.read_stdin).result(PATIENCE) == ""


def test_call_may_ruin_its_surroundings(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """With max_tasks_per_child=1, neither the next call nor this process sees it."""
    ruin = tmp_path / "ruin"
    ruin.mkdir()
    here = activities.see_surroundings()
    executor = make_executor(1, max_tasks_per_child=1)

    future = executor.submit(activities.change_surroundings, ruin)
    assert future.result(PATIENCE) == "done"
    assert executor.submit(activities.see_surroundings).result(PATIENCE) == here
    assert activities.see_surroundings() == here


def test_call_may_use_threads(executor: Executor) -> None:
    """Threads that it starts and joins are its own business."""
    assert executor.submit(activities.sum_in_threads).result(PATIENCE) == 6


def test_thread_that_a_call_leaves_behind_does_its_work(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Though the executor is shut down as soon as the value is there."""
    with make_executor(1) as executor:
        executor.submit(activities.work_on, tmp_path / "late").result(PATIENCE)

    assert_soon((tmp_path / "late").exists, PATIENCE)


def test_call_may_leave_a_thread_behind(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """The value is there while a thread, not a daemon, still runs."""
    future = make_executor(1).submit(activities.leave_thread_behind, gate)

    assert future.result(PATIENCE) == "done"
    gate.await_arrivals("thread")


def test_call_may_run_programs(executor: Executor) -> None:
    """A child process with pipes works as anywhere."""
    assert executor.submit(activities.run_program).result(PATIENCE) == "42\n"


def test_call_may_leave_a_program_behind(make_executor: MakeExecutor) -> None:
    """The value does not wait for a child process that lives on."""
    with make_executor(1) as executor:
        pid = executor.submit(activities.leave_program_behind).result(PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_call_may_use_multiprocessing(executor: Executor, start_method: str) -> None:
    """A pool of processes inside the call works."""
    future = executor.submit(activities.use_multiprocessing, start_method)

    assert future.result(PATIENCE) == [1, 2, 3]
