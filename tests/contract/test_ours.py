"""Where SlurmExecutor goes beyond ProcessPoolExecutor, or differs on purpose."""

import gc
import multiprocessing
import os
import pickle
import shutil
import weakref
import zipapp
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest

import slurm_futures
from slurm_futures import JobFailed, OptionError, OutcomeNotReadable
from slurm_futures.runs.calls_file import read_calls
from tests.contract import activities, calls, executors
from tests.contract.executors import PATIENCE, MakeOurs, RunScript
from tests.contract.gate import Gate
from tests.waiting import assert_soon

pytestmark = executors.ours


def test_arguments_are_taken_at_once(make_ours: MakeOurs, gate: Gate) -> None:
    """What the program does to an argument after submit is not seen by the call."""
    executor = make_ours(1)
    executor.submit(gate.hold, "first")
    items = [1]
    future = executor.submit(calls.append, items, 2)
    items.clear()

    gate.open()
    assert future.result(PATIENCE) == [1, 2]


def test_other_options_go_on_for_a_whole_buffered_map(make_ours: MakeOurs) -> None:
    """Nobody holds what `options` returns; the executor that it comes from is held."""
    executor = make_ours(2)

    results = executor.options(comment="other").map(abs, range(-9, 0), buffersize=2)

    assert list(results) == list(range(9, 0, -1))


@pytest.mark.parametrize(
    "options", [{}, {"chunksize": 2}, {"buffersize": 1}], ids=["", "chunks", "buffer"]
)
def test_map_may_return_exceptions(
    make_ours: MakeOurs, options: dict[str, Any]
) -> None:
    """In the place of the result, and all other calls run."""
    executor = make_ours(2)

    def work(number: int) -> int:
        if number == 3:
            raise TimeoutError("of the call")
        return 6 // number

    items = [2, 0, 3, _Unpicklable(), 1]
    results = executor.map(work, items, return_exceptions=True, **options)

    kinds = [each if isinstance(each, int) else type(each) for each in results]
    assert kinds == [3, ZeroDivisionError, TimeoutError, TypeError, 6]


def test_a_future_shows_its_function_and_its_job(make_ours: MakeOurs) -> None:
    """In its repr, where people look first."""
    executor = make_ours(1)

    future = executor.submit(calls.identity, 1)

    assert "state=pending call=identity" in repr(future)
    assert future.result(PATIENCE) == 1
    assert f"state=finished call=identity job={future.job_id}>" in repr(future)


def print_and_divide(number: int) -> int:
    """Print, and fail for 0."""
    print("printed for", number)
    return 6 // number


@pytest.mark.parametrize("workers", [False, True])
def test_only_the_files_of_calls_that_failed_are_kept(
    make_ours: MakeOurs, tmp_path: Path, workers: bool
) -> None:
    """What the others have printed is gone, and whoever reads it is told so."""
    options: dict[str, Any] = {"max_tasks_per_child": None} if workers else {}
    with make_ours(1, idle_timeout=60, **options) as executor:
        good = [executor.submit(print_and_divide, each) for each in (1, 2, 3)]
        assert [each.result(PATIENCE) for each in good] == [6, 3, 2]
        before = [each.stdout() for each in good]
        bad = executor.submit(print_and_divide, 0)
        assert isinstance(bad.exception(PATIENCE), ZeroDivisionError)

    assert all("printed for" in text for text in before)
    assert "printed for 0\n" in bad.stdout()
    kept = [str(path) for path in (tmp_path / "runs").glob("*/*/jobs/*/*")]
    assert kept == [str(bad.directory)]
    if workers:
        left = (tmp_path / "runs").glob("*/pool-1-failed/finished/*/*")
        outcome, mark = sorted(left)
        assert mark.name == f"{outcome.name}.raised-1"
        (batch,) = (tmp_path / "runs").glob("*/pool-1-failed/queue/*")
        first, count = map(int, batch.name.split("-"))
        number = int(outcome.name) - first
        assert number in range(count)
        (call,) = read_calls(batch, number, [0], None)
        assert pickle.loads(call.arguments)
    else:
        with pytest.raises(FileNotFoundError, match='keep="always"'):
            good[0].stdout()
        with pytest.raises(FileNotFoundError, match="removed"):
            good[0].stderr()


def test_an_endless_map_does_not_fill_the_disk(
    make_ours: MakeOurs, tmp_path: Path
) -> None:
    """The files of calls go that nobody can ask for any more."""
    with make_ours(2) as executor:
        results = executor.map(abs, range(30), buffersize=2)
        for number, result in enumerate(results):
            assert result == number
            assert len(list((tmp_path / "runs").glob("*/0*"))) < 15

        future = executor.submit(print_and_divide, 1)
        assert future.result(PATIENCE) == 6
        for _ in range(3):
            executor.submit(abs, -1).result(PATIENCE)
        assert "printed for 1" in future.stdout()


def test_map_that_returns_exceptions_may_be_late(
    make_ours: MakeOurs, gate: Gate
) -> None:
    """That is no exception of a call: it is raised, and the calls are cancelled."""
    executor = make_ours(2)

    results = executor.map(
        gate.hold, ["call"], timeout=0.1, return_exceptions=True, chunksize=1
    )

    with pytest.raises(TimeoutError):
        list(results)
    gate.open()


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_may_return_that_its_calls_were_cancelled(
    make_ours: MakeOurs, gate: Gate, chunksize: int
) -> None:
    """For each item, also those of a chunk."""
    executor = make_ours(1)
    executor.submit(gate.hold, "call")
    gate.await_arrivals("call")

    results = executor.map(abs, [1, 2], return_exceptions=True, chunksize=chunksize)
    executor.shutdown(wait=False, cancel_futures=True)

    assert [type(each) for each in results] == [CancelledError] * 2
    gate.open()


class _Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError("not to be sent")


class _Cycle:
    """Garbage that only the collector finds, at some time and in some thread."""

    def __init__(self, *held: object) -> None:
        self.held = (*held, self)


def test_garbage_collector_may_cancel_at_any_time(
    make_ours: MakeOurs, gate: Gate
) -> None:
    """It closes iterators of results while other calls are sent and come back."""
    executor = make_ours(2)
    executor.submit(gate.hold, "call")
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(40):
            _Cycle(executor.map(abs, [1, 2]))
            if number % 10 == 0:
                assert executor.submit(abs, -number).result(PATIENCE) == number
    finally:
        gc.set_threshold(*thresholds)


class _PressesCtrlC:
    def __reduce__(self) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_while_a_call_is_pickled_is_one_of_the_program(
    make_ours: MakeOurs,
) -> None:
    """It is no error of the call, whose future would hide it."""
    executor = make_ours(1)

    with pytest.raises(KeyboardInterrupt):
        executor.submit(calls.ignore, _PressesCtrlC())
    with pytest.raises(KeyboardInterrupt):
        executor.map(calls.ignore, [1, _PressesCtrlC()])
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_program_may_leave_its_directory_after_submit(run_script: RunScript) -> None:
    """A module of the directory in which `submit` was called is found, as in a shell.

    There, in a notebook and with `python -c`, `sys.path` has an empty entry.
    """
    ended = run_script(
        """
import os, sys
from pathlib import Path
from executors import make_executor

sys.path[0] = ""
Path("beside").mkdir()
os.chdir("beside")
Path("mine.py").write_text("def double(number): return 2 * number")
import mine

with make_executor(1) as executor:
    future = executor.submit(mine.double, 4)
    os.chdir("/")
    print(future.result())
"""
    )
    assert ended.stdout == "8\n", ended.stderr


def test_program_may_lose_its_directory(run_script: RunScript) -> None:
    """Calls run elsewhere."""
    ended = run_script(
        """
import os
from executors import make_executor

with make_executor(1) as executor:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    print(executor.submit(abs, -1).result(), list(executor.map(abs, [-2, -3])))
"""
    )
    assert ended.stdout == "1 [2, 3]\n", ended.stderr


def test_call_that_forks_and_returns_twice_has_one_result(make_ours: MakeOurs) -> None:
    """The outcome is that of the process that was there first."""
    future = make_ours(1).submit(activities.fork_and_return)

    assert future.result(PATIENCE) == "of the parent"


def test_call_may_use_an_executor_of_its_own(
    make_ours: MakeOurs, kind: str, tmp_path: Path
) -> None:
    """A job can submit jobs."""
    arguments = kind, tmp_path / "nested"

    future = make_ours(1).submit(activities.use_nested_executor, *arguments)
    assert future.result(PATIENCE) == [1, 2]


def test_future_gives_what_its_call_printed(make_ours: MakeOurs) -> None:
    """By every road: print, logging, warnings, file descriptor, child process."""
    executor = make_ours(1)
    future = executor.submit(activities.print_and_log)
    assert future.result(PATIENCE) == "done"

    assert sorted(future.stdout().split()) == ["echoed", "printed", "written"]
    for word in ("printed to stderr", "logged", "warned"):
        assert word in future.stderr()


def test_call_may_print_much(make_ours: MakeOurs) -> None:
    """100 MB of stdout are kept as they are."""
    future = make_ours(1).submit(activities.print_megabytes, 100)

    assert future.result(PATIENCE) == 100
    assert len(future.stdout()) == 100_000_000


def test_process_that_dies_fails_its_own_call_only(
    make_ours: MakeOurs, gate: Gate
) -> None:
    """Neighbours go on, and so does the executor."""
    executor = make_ours(2)
    neighbour = executor.submit(gate.hold, "neighbour")
    gate.await_arrivals("neighbour")
    dying = executor.submit(calls.leave_process, 3)

    assert isinstance(dying.exception(PATIENCE), JobFailed)
    gate.open()
    assert neighbour.result(PATIENCE) == "neighbour"
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_chunk_delivers_what_ended_before_the_process_died(
    make_ours: MakeOurs,
) -> None:
    """Results before the fatal call are there, then comes the error."""
    iterator = make_ours(1).map(calls.divide_or_die, [1, 2, 0, 3], chunksize=4)

    assert [next(iterator), next(iterator)] == [12, 6]
    with pytest.raises(JobFailed):
        next(iterator)


def test_chunk_delivers_what_comes_after_an_exception(make_ours: MakeOurs) -> None:
    """A call that raises ends the iterator in its place, not at its chunk's start."""
    iterator = make_ours(1).map(calls.divide, [4, 4, 4], [2, 1, 0], chunksize=3)

    assert [next(iterator), next(iterator)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(iterator)


def test_exception_that_cannot_be_pickled_keeps_class_and_message(
    make_ours: MakeOurs,
) -> None:
    """Only the part that cannot travel is replaced by its repr."""
    exception = make_ours(1).submit(calls.raise_holding_lock).exception(PATIENCE)

    assert isinstance(exception, calls.HoldsLock)
    assert str(exception) == "holds a lock"
    assert "unlocked" in cast("Any", exception.lock)
    assert "in raise_holding_lock" in str(exception.__cause__)


def test_values_that_travel_by_value_do_not_wait_for_the_garbage_collector(
    make_ours: MakeOurs,
) -> None:
    """Their class does: it is in a cycle wherever it comes from."""
    executor = make_ours(1)

    class Thing:
        pass

    gc.collect()
    gc.disable()
    try:
        returned = executor.submit(lambda thing: thing, Thing()).result(PATIENCE)
        reference = weakref.ref(returned)
        del returned
        assert_soon(lambda: reference() is None, PATIENCE)
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ArithmeticError("here"), SystemExit(1)])
def test_value_that_cannot_be_loaded_here_fails_its_future(
    make_ours: MakeOurs, error: BaseException
) -> None:
    """Not even a value that ends the program on loading does harm."""
    executor = make_ours(1)
    future = executor.submit(calls.return_fails_to_load_in, os.getpid(), error)

    failure = future.exception(PATIENCE)
    assert isinstance(failure, OutcomeNotReadable)
    assert isinstance(failure, BrokenProcessPool)  # what breaks a pool, programs catch
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_failed_initializer_says_why(make_ours: MakeOurs) -> None:
    """The error names the exception of the initializer and has it as its cause."""
    executor = make_ours(1, initializer=lambda: calls.divide(1, 0))

    error = executor.submit(abs, -1).exception(PATIENCE)
    assert isinstance(error, BrokenExecutor)
    assert "ZeroDivisionError" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "in divide" in str(error.__cause__.__cause__)


def test_mp_context_is_accepted(make_ours: MakeOurs) -> None:
    """Programs that choose a start method run unchanged."""
    context = multiprocessing.get_context("spawn")

    with make_ours(1, context) as executor:
        assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_jobs_that_live_on_need_a_number_of_workers(make_ours: MakeOurs) -> None:
    """Without max_workers nothing would say how many jobs to start."""
    with pytest.raises(OptionError, match="max_workers"):
        make_ours(max_tasks_per_child=2)


def test_the_default_of_the_pool_is_ours_too(make_ours: MakeOurs) -> None:
    """A program that passes on max_tasks_per_child=None has a job for each call."""
    with make_ours(max_tasks_per_child=None) as executor:
        first, second = (executor.submit(calls.identity, each) for each in "ab")
        assert [first.result(PATIENCE), second.result(PATIENCE)] == ["a", "b"]
        assert first.job_id != second.job_id


def test_function_of_a_notebook_can_be_submitted(run_script: RunScript) -> None:
    """Functions and classes of `__main__` need no file, as those of a notebook."""
    ended = run_script(
        """
from executors import make_executor

cell = '''
class Point:
    def __init__(self, x):
        self.x = x

class CellError(Exception):
    pass

def move(point):
    if point.x > 1:
        raise CellError(point.x)
    return Point(point.x + 1)
'''
exec(compile(cell, "<cell 1>", "exec"))

with make_executor(2) as executor:
    moved = executor.submit(move, Point(1)).result()
    error = executor.submit(move, Point(2)).exception()
print(isinstance(moved, Point), moved.x, repr(error))
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "True 2 CellError(2)\n"


def test_result_has_the_class_that_the_call_was_given(run_script: RunScript) -> None:
    """Also where the program has given its name to another one since, as notebooks do.

    And what has no name in `__main__` comes back as well.
    """
    ended = run_script(
        """
from executors import make_executor
import functools

class Point:
    pass

@functools.cache
def cached():
    return 1

def same(value):
    return value

old = Point
with make_executor(1) as executor:
    future = executor.submit(same, Point())
    Point = None
    print(type(future.result()) is old)
    print(executor.submit(same, cached).result() is cached)
    print(executor.submit(same, lambda: 5).result()())
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "True\nTrue\n5\n"


def test_success_leaves_no_files(make_ours: MakeOurs, tmp_path: Path) -> None:
    """When all calls went well, shutdown removes what the run has written."""
    with make_ours(2) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]

    assert [path for path in (tmp_path / "runs").rglob("*") if not path.is_dir()] == []


def test_program_may_be_an_archive(run_script: RunScript, tmp_path: Path) -> None:
    """With this package in it, and a module that the calls import."""
    source = tmp_path / "archive"
    shutil.copytree(Path(slurm_futures.__file__).parent, source / "slurm_futures")
    shutil.copy(tmp_path / "executors.py", source)
    (source / "beside.py").write_text("def double(number): return 2 * number\n")
    (source / "__main__.py").write_text(
        """
import slurm_futures, beside
from executors import make_executor

def use(number):
    return beside.double(number) + 1

if __name__ == "__main__":
    assert "program.pyz" in slurm_futures.__file__
    with make_executor(1) as executor:
        print(*executor.map(use, [4]), *executor.map(beside.double, [4]))
"""
    )
    zipapp.create_archive(source, tmp_path / "program.pyz")
    ended = run_script(
        """
import os, sys
os.execv(sys.executable, [sys.executable, "program.pyz"])
"""
    )
    assert ended.stdout == "9 8\n", ended.stderr


def test_a_module_that_submits_when_it_is_imported_starts_no_more_jobs(
    run_script: RunScript, tmp_path: Path
) -> None:
    """Each job imports it: without the error there would be more and more of them."""
    (tmp_path / "sweep_mod.py").write_text(
        "from executors import make_executor\n"
        "def work(x):\n"
        "    with make_executor(1) as executor:\n"
        "        return executor.submit(abs, x).result()\n"
        "executor = make_executor(1)\n"
        "future = executor.submit(work, -1)\n"
    )
    (tmp_path / "guarded.py").write_text(
        "from executors import make_executor\n"
        "def work(x):\n"
        "    with make_executor(1) as executor:\n"
        "        return executor.submit(abs, x).result()\n"
    )

    done = run_script(
        """
        import guarded, sweep_mod
        from executors import make_executor
        error = sweep_mod.future.exception()
        print(type(error).__name__, "finished its bootstrapping phase" in str(error))
        with make_executor(1) as executor:
            print(executor.submit(guarded.work, -2).result())
        """
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "RuntimeError True\n2\n"
