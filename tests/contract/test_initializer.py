"""`initializer` and `initargs`: before each job's calls, and what if it fails."""

import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, MakeExecutor
from tests.contract.gate import Gate

_state: list[object] = []


def _set_state(*values: object) -> None:
    _state[:] = values


def _get_state() -> list[object]:
    return _state


def _fail() -> None:
    raise ArithmeticError("the initializer fails")


class _Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _fail_silently() -> None:
    raise _Silent


def _exit() -> None:
    os._exit(3)


def test_initializer_runs_before_each_call(make_executor: MakeExecutor) -> None:
    """Every call finds what the initializer did, in its own process only."""
    executor = make_executor(2, initializer=_set_state, initargs=("a", 1))
    futures = [executor.submit(_get_state) for _ in range(3)]

    assert [future.result(PATIENCE) for future in futures] == [["a", 1]] * 3
    assert _state == []


def test_initializer_without_arguments(make_executor: MakeExecutor) -> None:
    """`initargs` may be left out."""
    executor = make_executor(1, initializer=_set_state)

    assert executor.submit(_get_state).result(PATIENCE) == []


@pytest.mark.parametrize(
    "initializer",
    [_fail, _fail_silently, _exit],
    ids=["raises", "raises without words", "exits"],
)
def test_failing_initializer_fails_all_futures(
    make_executor: MakeExecutor, initializer: Callable[[], None]
) -> None:
    """Every open future ends with BrokenExecutor."""
    executor = make_executor(1, initializer=initializer)
    futures = [executor.submit(abs, -1) for _ in range(3)]

    for future in futures:
        assert isinstance(future.exception(PATIENCE), BrokenExecutor)
    executor.shutdown()


def test_submit_after_failed_initializer_raises(make_executor: MakeExecutor) -> None:
    """The executor is broken, and says so from then on."""
    executor = make_executor(1, initializer=_fail)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, -1).result(PATIENCE)

    with pytest.raises(BrokenExecutor):
        executor.submit(abs, -1)
    with pytest.raises(BrokenExecutor):
        executor.map(abs, [-1])


def test_failed_initializer_does_not_touch_what_ended(
    make_executor: MakeExecutor, gate: Gate, tmp_path: Path
) -> None:
    """Futures that were done before keep their results."""
    executor = make_executor(
        1,
        initializer=_fail_if_exists,
        initargs=(tmp_path / "fail",),
        max_tasks_per_child=1,
    )
    early = executor.submit(abs, -1)
    assert early.result(PATIENCE) == 1
    calls.touch(tmp_path / "fail")

    late = executor.submit(abs, -2)
    assert isinstance(late.exception(PATIENCE), BrokenExecutor)
    assert early.result() == 1


def _fail_if_exists(path: Path) -> None:
    if path.exists():
        _fail()


def test_initializer_may_change_what_calls_see(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Working directory and environment that it sets are those of the call."""
    executor = make_executor(1, initializer=os.chdir, initargs=(tmp_path,))
    here = Path.cwd()

    assert Path(executor.submit(os.getcwd).result(PATIENCE)) == tmp_path.resolve()
    assert Path.cwd() == here
