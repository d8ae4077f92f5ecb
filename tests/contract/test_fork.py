"""`os.fork` in a program that has an executor: parent and child keep apart."""

from pathlib import Path

import pytest

from tests.contract.executors import RunScript

# The beginning of each script. A call takes its time, so that it is open at the fork.
_WORK = """
import os, sys, time, warnings
from pathlib import Path
from executors import make_executor

warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, 3.12

def work(name):
    time.sleep(0.3)
    Path(name).touch()
    return name
"""


def _files(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.done")}


def test_fork_leaves_the_calls_of_the_parent_alone(
    run_script: RunScript, tmp_path: Path
) -> None:
    """A forked child ends at once and takes nothing along; the parent goes on."""
    ended = run_script(
        _WORK
        + """
import gc

if __name__ == "__main__":
    with make_executor(1) as executor:
        futures = [executor.submit(work, name + ".done") for name in "ab"]
        pid = os.fork()
        if pid == 0:
            del executor, futures
            gc.collect()
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert [future.result() for future in futures] == ["a.done", "b.done"]
        assert executor.submit(abs, -1).result() == 1
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a", "b"}


@pytest.mark.oracle_differs(
    "multiprocessing prints 'can only join a child process' in the child"
)
def test_forked_child_can_exit_in_the_ordinary_way(
    run_script: RunScript, tmp_path: Path
) -> None:
    """Exit handlers in the child neither wait for the parent's calls nor end them."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    future = executor.submit(work, "a.done")
    pid = os.fork()
    if pid == 0:
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert future.result() == "a.done"
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a"}


def test_cancel_and_shutdown_in_a_forked_child_do_nothing(
    run_script: RunScript, tmp_path: Path
) -> None:
    """A child neither ends the calls of its parent nor waits for them."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    executor = make_executor(1)
    futures = [executor.submit(work, name + ".done") for name in "ab"]
    pid = os.fork()
    if pid == 0:
        futures[1].cancel()
        executor.shutdown()
        executor.shutdown(wait=False, cancel_futures=True)
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert [future.result() for future in futures] == ["a.done", "b.done"]
    assert executor.submit(abs, -1).result() == 1
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert _files(tmp_path) == {"a", "b"}


def test_executor_made_in_a_forked_child_works(run_script: RunScript) -> None:
    """A child that makes an executor of its own can use it as anybody else."""
    ended = run_script(
        _WORK
        + """
if __name__ == "__main__":
    with make_executor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        pid = os.fork()
        if pid == 0:
            with make_executor(1) as own:
                print(own.submit(abs, -2).result(), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        print(executor.submit(abs, -3).result())
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2\n3\n", "")


@pytest.mark.oracle_differs("the child waits for ever for its result", hangs=True)
def test_submit_in_a_forked_child_raises(run_script: RunScript) -> None:
    """An executor belongs to the process that made it."""
    ended = run_script(
        _WORK
        + """
with make_executor(1) as executor:
    assert executor.submit(abs, -1).result() == 1
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(abs, -1)
        except RuntimeError as error:
            print(error, flush=True)
        try:
            executor.map(abs, [-1])
        except RuntimeError as error:
            print(error, flush=True)
        executor.shutdown()
        os._exit(0)
    os.waitpid(pid, 0)
    print(executor.submit(abs, -2).result())
"""
    )

    first, second, last = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr, last) == (0, "", "2")
    assert first == second
    assert "fork" in first
