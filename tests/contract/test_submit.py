"""`submit`, and what the future that it returns says and does."""

import concurrent.futures
import pickle
import time
from concurrent.futures import CancelledError, Executor
from pathlib import Path

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, MakeExecutor, MakeOurs, ours
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def test_submit_returns_a_future_of_the_value(executor: Executor) -> None:
    """The value comes back, the future is done, and there is no exception."""
    future = executor.submit(pow, 2, 8)

    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 256
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()


def test_keyword_arguments_may_have_any_name(executor: Executor) -> None:
    """Names of the executor's own parameters are free for the call."""
    keywords = {"self": 1, "fn": 2, "timeout": 3, "args": 4, "future": 5}

    future = executor.submit(calls.capture, 0, **keywords)

    assert future.result(PATIENCE) == ((0,), keywords)


def test_function_must_be_positional(executor: Executor) -> None:
    """A function given by keyword, or none at all, is a TypeError."""
    with pytest.raises(TypeError):
        executor.submit(fn=calls.capture, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]


def test_call_works_on_copies_of_its_arguments(executor: Executor) -> None:
    """What the call does to an argument is not seen here."""
    items = [1]

    assert executor.submit(calls.append, items, 2).result(PATIENCE) == [1, 2]
    assert items == [1]


def test_result_times_out_while_the_call_runs(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """`result` and `exception` raise TimeoutError in time, and work later."""
    future = make_executor(1).submit(gate.hold, "call")
    gate.await_arrivals("call")
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    assert time.monotonic() - began < 20
    gate.open()
    assert future.result(PATIENCE) == "call"


def test_future_says_that_its_call_runs(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """A future whose call has started is running, until it is done."""
    future = make_executor(1).submit(gate.hold, "call")
    gate.await_arrivals("call")

    assert_soon(future.running, message="the call runs")
    assert not future.done()
    assert "running" in repr(future)
    gate.open()
    assert future.result(PATIENCE) == "call"
    assert not future.running()
    assert "finished" in repr(future)


def test_cancelled_call_does_not_run(make_executor: MakeExecutor, gate: Gate) -> None:
    """A pending future can be cancelled; its call never starts, the others do."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)

    assert futures[5].cancel()
    assert futures[5].cancel(), "a second time"
    assert futures[5].cancelled()
    assert futures[5].done()
    with pytest.raises(CancelledError):
        futures[5].result()
    with pytest.raises(CancelledError):
        futures[5].exception()
    gate.open()
    executor.shutdown()
    assert gate.arrivals() == {"0", "1", "2", "3", "4"}


def test_finished_call_cannot_be_cancelled(executor: Executor) -> None:
    """`cancel` of a settled future is False and changes nothing."""
    future = executor.submit(abs, -1)
    concurrent.futures.wait([future], PATIENCE)

    assert not future.cancel()
    assert future.result() == 1


@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy:DeprecationWarning")
def test_future_and_executor_cannot_be_pickled(executor: Executor) -> None:
    """Both belong to this process; pickling one is a TypeError."""
    future = executor.submit(abs, -1)

    with pytest.raises(TypeError):
        pickle.dumps(future)
    with pytest.raises(TypeError):
        pickle.dumps(executor)
    assert future.result(PATIENCE) == 1


@ours
def test_refusal_to_pickle_names_the_object(make_ours: MakeOurs) -> None:
    """It does not depend on what the threads of the executor do at that moment."""
    executor = make_ours(1)

    with pytest.raises(TypeError, match="cannot pickle a SlurmExecutor"):
        pickle.dumps(executor)
    with pytest.raises(TypeError, match="cannot pickle a SlurmFuture"):
        pickle.dumps(executor.submit(abs, -1))


def test_argument_that_cannot_be_pickled_fails_its_future(
    executor: Executor, tmp_path: Path
) -> None:
    """`submit` does not raise: the error is on the future, and the others go on."""
    unpicklable = executor.submit(calls.ignore, calls.return_lock())
    own_error = executor.submit(calls.ignore, calls.FailsToPickle())
    future_inside = executor.submit(calls.ignore, [[unpicklable]])  # too deep
    fine = executor.submit(abs, -1)

    assert isinstance(unpicklable.exception(PATIENCE), TypeError)
    assert isinstance(own_error.exception(PATIENCE), ArithmeticError)
    assert isinstance(future_inside.exception(PATIENCE), TypeError)
    assert fine.result(PATIENCE) == 1


@pytest.mark.oracle_differs(
    "its threads wait for each other for ever, and the interpreter for them", hangs=True
)
def test_argument_that_cannot_be_pickled_fails_after_its_executor_was_dropped(
    make_executor: MakeExecutor,
) -> None:
    """Nobody holds the executor when its call turns out to be no pickle."""
    future = make_executor(1).submit(calls.ignore, calls.FailsToPickle())

    assert isinstance(future.exception(PATIENCE), ArithmeticError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        (
            {"max_tasks_per_child": 1.5},
            TypeError,
            "max_tasks_per_child must be an integer",
        ),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
    ],
    ids=["no_workers", "negative_workers", "initializer", "float_tasks", "no_tasks"],
)
def test_bad_constructor_argument_raises(
    make_executor: MakeExecutor,
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    """The constructor refuses what makes no sense, in the standard library's words."""
    with pytest.raises(error, match=message):
        make_executor(**options)


def test_executor_is_its_own_context(make_executor: MakeExecutor) -> None:
    """`with` gives the executor itself, and shuts it down at the end."""
    executor = make_executor(1)

    with executor as entered:
        assert entered is executor
        future = executor.submit(abs, -1)
    assert future.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        executor.submit(abs, -1)
