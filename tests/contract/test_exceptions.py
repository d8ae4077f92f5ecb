"""Exceptions that cross from a call to here, and outcomes that cannot cross."""

import concurrent.futures
import re
import subprocess
import traceback
from concurrent.futures import BrokenExecutor, Executor
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, AnyFuture, MakeExecutor

_ORDINARY: list[BaseException] = [
    ValueError("text", 1, None),
    Exception(),
    KeyError("key"),
    FileNotFoundError(2, "No such file", "name"),
    UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range"),
    SyntaxError("bad", ("file.py", 1, 2, "text")),
    subprocess.CalledProcessError(3, ["false"]),
    StopIteration(5),
    StopAsyncIteration(),
    GeneratorExit(),
    KeyboardInterrupt(),
    SystemExit(3),
    calls.Stop("stop"),
    TimeoutError("of the call"),
    concurrent.futures.CancelledError("of the call"),
    concurrent.futures.InvalidStateError("of the call"),
    BrokenExecutor("of the call"),
    RecursionError("of the call"),
    MemoryError("of the call"),
]


@pytest.fixture(scope="module")
def ordinary_failures(executor: Executor) -> list[AnyFuture]:
    """Submit calls that raise each of the ordinary exceptions."""
    return [executor.submit(calls.raise_error, error) for error in _ORDINARY]


@pytest.mark.parametrize(
    "number", range(len(_ORDINARY)), ids=[type(each).__name__ for each in _ORDINARY]
)
def test_exception_comes_back_as_itself(
    ordinary_failures: list[AnyFuture], number: int
) -> None:
    """Its class, arguments and attributes are those that the call raised."""
    future, expected = ordinary_failures[number], _ORDINARY[number]
    exception = future.exception(PATIENCE)

    assert type(exception) is type(expected)
    assert exception.args == expected.args
    assert str(exception) == str(expected)
    assert _own_attributes(exception) == _own_attributes(expected)
    assert not future.cancelled()
    with pytest.raises(type(expected)) as caught:
        future.result()
    assert caught.value is exception


def _own_attributes(error: BaseException) -> dict[str, Any]:
    names = ("code", "errno", "filename", "start", "reason", "lineno", "returncode")
    return {name: getattr(error, name, None) for name in names}


def test_executor_goes_on_after_failed_calls(
    executor: Executor, ordinary_failures: list[AnyFuture]
) -> None:
    """Exceptions of calls break nothing, not even BrokenExecutor or SystemExit."""
    concurrent.futures.wait(ordinary_failures, PATIENCE)

    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_cause_shows_the_remote_traceback(executor: Executor) -> None:
    """The text names file, function and source line, and is printed with the rest."""
    exception = executor.submit(calls.divide, 1, 0).exception(PATIENCE)

    assert isinstance(exception, ZeroDivisionError)
    remote = str(exception.__cause__)
    assert re.search(r'File ".*calls.py", line \d+, in divide', remote)
    assert "return numerator // denominator" in remote
    assert remote.rstrip().rstrip('"').rstrip().endswith(f": {exception}")
    assert "in divide" in "".join(traceback.format_exception(exception))


def test_recursion_without_end_is_an_exception(executor: Executor) -> None:
    """RecursionError comes back with a traceback of bearable length."""
    exception = executor.submit(calls.recurse).exception(PATIENCE)

    assert isinstance(exception, RecursionError)
    assert "in recurse" in str(exception.__cause__)


def test_remote_text_shows_cause_and_context(executor: Executor) -> None:
    """`raise ... from` and exceptions during handling are in the remote text."""
    exception = executor.submit(calls.raise_from_cause).exception(PATIENCE)

    assert isinstance(exception, ValueError)
    remote = str(exception.__cause__)
    assert re.search("(?s)the disk.*During handling.*the name", remote)
    assert re.search("(?s)the name.*direct cause.*the whole", remote)


def test_notes_come_back(executor: Executor) -> None:
    """What `add_note` added is on the exception."""
    exception = executor.submit(calls.raise_with_notes).exception(PATIENCE)

    assert isinstance(exception, ValueError)
    assert exception.__notes__ == ["first note", "second note"]


def test_exception_groups_come_back(executor: Executor) -> None:
    """Groups in groups keep their messages and exceptions."""
    exception = executor.submit(calls.raise_group).exception(PATIENCE)

    assert isinstance(exception, ExceptionGroup)
    assert exception.message == "outer"
    first, inner = exception.exceptions
    assert repr(first) == "ValueError('a')"
    assert isinstance(inner, ExceptionGroup)
    assert repr(inner.exceptions) == "(TypeError('b'), KeyError('c'))"
    assert "in raise_group" in str(exception.__cause__)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (calls.return_lock, TypeError),
        (calls.return_fails_to_pickle, ArithmeticError),
        (calls.return_exits_when_pickled, SystemExit),
    ],
)
def test_value_that_cannot_be_pickled_is_an_exception(
    executor: Executor, function: Any, error: type[BaseException]
) -> None:
    """What pickling raised is the exception of the call."""
    future = executor.submit(function)

    assert type(future.exception(PATIENCE)) is error
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_exception_that_cannot_be_pickled_still_ends_its_future(
    executor: Executor,
) -> None:
    """There is some exception, and the executor goes on."""
    exception = executor.submit(calls.raise_holding_lock).exception(PATIENCE)

    assert isinstance(exception, Exception)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.oracle_differs("a result that cannot be loaded breaks the whole pool")
def test_value_that_cannot_be_loaded_fails_only_its_future(
    make_executor: MakeExecutor,
) -> None:
    """The future tells why, and the executor goes on."""
    executor = make_executor(1)

    exception = executor.submit(calls.return_fails_to_load).exception(PATIENCE)

    assert "cannot be loaded" in str(exception)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.oracle_differs("an argument that cannot be loaded breaks the whole pool")
def test_argument_that_cannot_be_loaded_fails_only_its_future(
    make_executor: MakeExecutor,
) -> None:
    """What unpickling raised there is the exception of the call."""
    executor = make_executor(1)

    future = executor.submit(calls.identity, calls.FailsToLoad())

    with pytest.raises(ArithmeticError, match="cannot be loaded"):
        future.result(PATIENCE)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.oracle_differs("such an exception breaks the whole pool")
def test_exception_of_two_arguments_comes_back(make_executor: MakeExecutor) -> None:
    """An exception that pickle cannot rebuild is rebuilt without its constructor."""
    executor = make_executor(1)

    exception = executor.submit(calls.raise_two_arguments).exception(PATIENCE)

    assert isinstance(exception, calls.TwoArguments)
    assert (exception.code, exception.text) == (404, "not found")
    assert str(exception) == "404: not found"
    assert "in raise_two_arguments" in str(exception.__cause__)


@pytest.mark.oracle_differs("such an exception breaks the whole pool")
def test_exception_of_keyword_arguments_comes_back(
    make_executor: MakeExecutor,
) -> None:
    """A constructor with keywords alone is no obstacle either."""
    executor = make_executor(1)

    exception = executor.submit(calls.raise_only_keywords).exception(PATIENCE)

    assert isinstance(exception, calls.OnlyKeywords)
    assert exception.code == 404
