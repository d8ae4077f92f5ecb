"""The end of the interpreter: scripts that leave calls open in one way or another."""

import sys
from pathlib import Path

import pytest

from tests.contract.executors import RunScript

# CPython 3.12.0 and 3.12.1 let a program that waits for its threads at exit start
# none (https://github.com/python/cpython/issues/113964).
_CANNOT_START_AT_EXIT = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1)


@pytest.fixture
def starts_at_exit(kind: str) -> None:
    """Skip the test where jobs that live on cannot be looked after at exit."""
    if _CANNOT_START_AT_EXIT and kind == "pool":
        pytest.skip("CPython cannot start threads at exit: needs 3.12.2 or later")


# Each script defines this call: it takes its time, so that the script ends first.
_WORK = """
import sys, threading, time
from pathlib import Path
from executors import make_executor

def work(name):
    time.sleep(0.3)
    Path(name).touch()
    return name
"""


def _files(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.done")}


@pytest.mark.usefixtures("starts_at_exit")
def test_exit_without_shutdown_lets_all_calls_end(
    run_script: RunScript, tmp_path: Path
) -> None:
    """The program waits for running and pending calls, and says nothing."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    for name in "abc":
        executor.submit(work, name + ".done")
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a", "b", "c"}


@pytest.mark.usefixtures("starts_at_exit")
@pytest.mark.oracle_differs(
    "hangs, or loses the calls: https://github.com/python/cpython/issues/94777 and "
    "https://github.com/python/cpython/issues/83386",
    hangs=True,
)
def test_exit_after_shutdown_without_wait_lets_all_calls_end(
    run_script: RunScript, tmp_path: Path
) -> None:
    """`shutdown(wait=False)` gives up the executor, not its calls."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    executor.submit(work, "a.done")
    executor.submit(work, "b.done")
    executor.shutdown(wait=False)
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a", "b"}


@pytest.mark.usefixtures("starts_at_exit")
def test_exit_with_a_dropped_executor_lets_all_calls_end(
    run_script: RunScript, tmp_path: Path
) -> None:
    """Calls of an executor that is garbage are waited for as well."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    make_executor(1).submit(work, "a.done")
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a"}


@pytest.mark.usefixtures("starts_at_exit")
def test_exit_with_an_error_lets_all_calls_end(
    run_script: RunScript, tmp_path: Path
) -> None:
    """An exception that nobody catches changes nothing, but the exit code."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    executor.submit(work, "a.done")
    raise ArithmeticError("the script fails")
"""
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ArithmeticError: the script fails"
    assert _files(tmp_path) == {"a"}


@pytest.mark.usefixtures("starts_at_exit")
def test_sys_exit_lets_all_calls_end(run_script: RunScript, tmp_path: Path) -> None:
    """`sys.exit` waits, and its exit code stays."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    executor.submit(work, "a.done")
    sys.exit(3)
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "", "")
    assert _files(tmp_path) == {"a"}


@pytest.mark.usefixtures("starts_at_exit")
def test_exit_with_an_executor_of_a_thread_lets_all_calls_end(
    run_script: RunScript, tmp_path: Path
) -> None:
    """It does not matter that the thread that submitted has ended by `sys.exit`."""
    ended = run_script(
        _WORK
        + """
def use_executor():
    make_executor(1).submit(work, "a.done")
    sys.exit(3)

if __name__ == "__main__":
    thread = threading.Thread(target=use_executor)
    thread.start()
    thread.join()
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a"}


@pytest.mark.usefixtures("starts_at_exit")
def test_callbacks_run_at_exit(run_script: RunScript) -> None:
    """While the program waits for its calls, their callbacks are called."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    future = make_executor(1).submit(work, "a.done")
    future.add_done_callback(lambda done: print(done.result(), flush=True))
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a.done\n", "")


def test_submit_in_the_last_exit_handler_raises(run_script: RunScript) -> None:
    """After the end of all threads, submit raises, and does not hang."""
    ended = run_script(
        """
import atexit

def run_last():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(error)

if __name__ == "__main__":
    atexit.register(run_last)
    from executors import make_executor
    executor = make_executor(1)
    print(executor.submit(abs, -1).result())
"""
    )

    assert ended.stderr == ""
    assert ended.stdout.startswith("1\ncannot schedule new futures after")


@pytest.mark.usefixtures("starts_at_exit")
def test_submit_of_a_thread_that_outlives_the_program_raises(
    run_script: RunScript,
) -> None:
    """Once the main thread is at its end, no other thread can submit."""
    ended = run_script(
        """
import threading
from executors import make_executor

def submit_until_refused(executor):
    threading.main_thread().join()
    try:
        for _ in range(1000):
            executor.submit(abs, -1)
    except RuntimeError as error:
        print(error)

if __name__ == "__main__":
    executor = make_executor(1)
    executor.submit(abs, -1).result()
    threading.Thread(target=submit_until_refused, args=[executor]).start()
"""
    )

    assert ended.stderr == ""
    assert ended.stdout.startswith("cannot schedule new futures after")
