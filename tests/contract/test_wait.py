"""`wait`, `as_completed` and done-callbacks on futures of the executor."""

import functools
import logging
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Executor,
    Future,
    as_completed,
    wait,
)

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, AnyFuture, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def test_wait_for_all(executor: Executor) -> None:
    """ALL_COMPLETED returns when values and exceptions are all there."""
    value: AnyFuture = executor.submit(abs, -1)
    error = executor.submit(calls.divide, 1, 0)

    done, not_done = wait([value, error, value], PATIENCE, ALL_COMPLETED)

    assert (done, not_done) == ({value, error}, set())


def test_wait_for_the_first(make_executor: MakeExecutor, gate: Gate) -> None:
    """FIRST_COMPLETED returns with the call that ended, not with its neighbours."""
    executor = make_executor(2)
    slow: AnyFuture = executor.submit(gate.hold, "slow")
    quick = executor.submit(abs, -1)

    done, not_done = wait([slow, quick], PATIENCE, FIRST_COMPLETED)

    assert (done, not_done) == ({quick}, {slow})


def test_wait_for_the_first_exception(make_executor: MakeExecutor, gate: Gate) -> None:
    """FIRST_EXCEPTION passes over values, and returns when a call fails."""
    executor = make_executor(3)
    slow: AnyFuture = executor.submit(gate.hold, "slow")
    quick = executor.submit(abs, -1)
    # Two cores run two workers, which may take the calls in any order.
    assert quick.result(PATIENCE) == 1
    failing = executor.submit(gate.hold_and_fail, "failing")
    gate.await_arrivals("failing")
    gate.open("failing")

    done, not_done = wait([slow, quick, failing], PATIENCE, FIRST_EXCEPTION)

    assert (done, not_done) == ({quick, failing}, {slow})


def test_wait_times_out(make_executor: MakeExecutor, gate: Gate) -> None:
    """When the time is up, `wait` returns what is done by then."""
    executor = make_executor(2)
    slow: AnyFuture = executor.submit(gate.hold, "slow")
    quick = executor.submit(abs, -1)
    assert quick.result(PATIENCE) == 1

    done, not_done = wait([slow, quick], timeout=0.05)

    assert (done, not_done) == ({quick}, {slow})


def test_wait_returns_cancelled_futures(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """A waiter is told of cancelled futures, also one that began to wait before."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)
    waiting: list[set[AnyFuture]] = []
    thread = threading.Thread(target=lambda: waiting.append(wait(futures[4:]).done))
    thread.start()

    assert futures[5].cancel()
    assert futures[4].cancel()
    gate.open()
    thread.join(PATIENCE)
    assert waiting == [{futures[4], futures[5]}]
    assert set(as_completed(futures, PATIENCE)) == set(futures)


def test_as_completed_gives_what_ends_first(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Futures come in the order in which their calls end, each of them once."""
    executor = make_executor(2)
    slow: AnyFuture = executor.submit(gate.hold, "slow")
    quick = executor.submit(gate.hold, "quick")
    gate.open("quick")
    iterator = as_completed([slow, quick, slow], PATIENCE)

    assert next(iterator) is quick
    gate.open("slow")
    assert list(iterator) == [slow]


def test_as_completed_times_out(make_executor: MakeExecutor, gate: Gate) -> None:
    """It raises TimeoutError that counts what is open, after what is done."""
    executor = make_executor(2)
    slow: AnyFuture = executor.submit(gate.hold, "slow")
    quick = executor.submit(abs, -1)
    assert quick.result(PATIENCE) == 1
    iterator = as_completed([slow, quick], timeout=0.05)

    assert next(iterator) is quick
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(iterator)


def test_futures_of_several_executors_can_be_mixed(
    make_executor: MakeExecutor,
) -> None:
    """`wait` takes futures of two executors, and plain ones."""
    plain: Future[int] = Future()
    plain.set_result(3)
    futures = [make_executor(1).submit(abs, -1), make_executor(1).submit(abs, -2)]

    done, _ = wait([*futures, plain], PATIENCE)

    assert sorted(future.result() for future in done) == [1, 2, 3]


def test_several_threads_can_wait_for_one_future(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """All of them get the result."""
    future = make_executor(1).submit(gate.hold, 5)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(future.result(PATIENCE)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()

    gate.open()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [5, 5, 5]


def test_callbacks_run_in_order_when_the_call_ends(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Each is called once, in the order of addition, with the settled future."""
    future: AnyFuture = make_executor(1).submit(gate.hold, "call")
    seen: list[tuple[str, AnyFuture, bool]] = []

    def note(name: str, done: AnyFuture) -> None:
        seen.append((name, done, done.done()))

    for name in ("first", "second", "third"):
        future.add_done_callback(functools.partial(note, name))

    assert seen == []
    gate.open()
    assert_soon(lambda: len(seen) == 3, PATIENCE)
    assert seen == [(name, future, True) for name in ("first", "second", "third")]


def test_callback_of_a_settled_future_runs_at_once(executor: Executor) -> None:
    """It runs in the thread that adds it."""
    future = executor.submit(abs, -1)
    assert future.result(PATIENCE) == 1
    threads: list[threading.Thread] = []

    future.add_done_callback(lambda _: threads.append(threading.current_thread()))

    assert threads == [threading.current_thread()]


def test_callback_of_a_cancelled_future_runs(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """`cancel` calls the callbacks, once, and before it returns."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(12)]
    gate.await_arrivals(0)
    seen: list[tuple[AnyFuture, threading.Thread]] = []
    for future in futures:
        future.add_done_callback(
            lambda future: seen.append((future, threading.current_thread()))
        )
    expected = [(future, threading.current_thread()) for future in futures[5:]]

    for count, future in enumerate(futures[5:], 1):
        assert future.cancel()
        assert seen == expected[:count]
        assert future.cancel(), "a second time"
    gate.open()
    executor.shutdown()
    assert seen[: len(expected)] == expected


def test_callback_that_raises_is_logged_and_harms_nobody(
    make_executor: MakeExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """The standard library's logger tells; other callbacks and calls go on."""
    executor = make_executor(1)
    future = executor.submit(gate.hold, "call")
    seen: list[AnyFuture] = []

    def broken(_: AnyFuture) -> None:
        raise ArithmeticError("broken callback")

    future.add_done_callback(broken)
    future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        gate.open()
        assert_soon(lambda: seen, PATIENCE)

    assert future.result(PATIENCE) == "call"
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert "exception calling callback" in caplog.text
    assert "broken callback" in caplog.text
