"""`shutdown` inside a program: what it waits for, what it cancels, what comes after."""

import gc
import threading
import weakref
from concurrent.futures import Executor, as_completed, wait
from typing import NoReturn

import pytest

from tests.contract.executors import PATIENCE, AnyFuture, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


@pytest.mark.parametrize("waits", [True, False], ids=["wait", "no_wait"])
def test_shutdown_lets_all_calls_end(
    make_executor: MakeExecutor, gate: Gate, waits: bool
) -> None:
    """Running and pending calls all run, whether anybody waits for them or not."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(3)]
    gate.await_arrivals(0)
    thread = _in_thread(executor, wait=waits)

    if not waits:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "returns at once"
    assert not any(future.done() for future in futures)
    gate.open()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if waits:
        assert all(future.done() for future in futures)
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]


@pytest.mark.parametrize("waits", [True, False], ids=["wait", "no_wait"])
def test_shutdown_cancels_what_is_pending(
    make_executor: MakeExecutor, gate: Gate, waits: bool
) -> None:
    """With cancel_futures, running calls end and the others never start."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)
    assert_soon(futures[0].running)
    thread = _in_thread(executor, wait=waits, cancel_futures=True)

    assert_soon(futures[5].cancelled)
    assert not futures[0].done()
    gate.open()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert futures[0].result(PATIENCE) == 0
    assert_soon(lambda: all(future.done() for future in futures), PATIENCE)
    assert "5" not in gate.arrivals()


@pytest.mark.oracle_differs(
    "the standard library forgets to tell waiters of futures that shutdown cancels",
    hangs=True,
)
def test_waiters_are_told_of_what_shutdown_cancels(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """`wait` and `as_completed` return futures that shutdown has cancelled."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(4)]
    gate.await_arrivals(0)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()

    assert wait(futures, PATIENCE) == (set(futures), set())
    assert set(as_completed(futures, PATIENCE)) == set(futures)


def test_shutdown_can_be_repeated(make_executor: MakeExecutor, gate: Gate) -> None:
    """A second shutdown, of whatever kind, does nothing more."""
    executor = make_executor(1)
    future = executor.submit(gate.hold, "call")
    gate.open()

    executor.shutdown()
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    assert future.result() == "call"


def test_unused_executor_shuts_down_at_once(make_executor: MakeExecutor) -> None:
    """It has nothing to wait for, and started nothing."""
    threads = set(threading.enumerate())
    executor = make_executor()

    assert set(threading.enumerate()) == threads
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_submit_after_shutdown_raises(make_executor: MakeExecutor) -> None:
    """The standard library's error, for submit and for map."""
    executor = make_executor(1)
    executor.shutdown()

    with pytest.raises(RuntimeError, match="cannot schedule new futures after shut"):
        executor.submit(abs, -1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shut"):
        executor.map(abs, [-1])


def test_submit_after_unfinished_shutdown_raises(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Calls that still run do not keep the executor open."""
    executor = make_executor(1)
    future = executor.submit(gate.hold, "call")
    executor.shutdown(wait=False)

    with pytest.raises(RuntimeError, match="cannot schedule new futures after shut"):
        executor.submit(abs, -1)
    gate.open()
    assert future.result(PATIENCE) == "call"


def test_callback_may_submit(make_executor: MakeExecutor, gate: Gate) -> None:
    """A callback submits the next call to the same executor."""
    executor = make_executor(1)
    later: list[AnyFuture] = []
    future = executor.submit(gate.hold, -2)
    future.add_done_callback(
        lambda done: later.append(executor.submit(abs, done.result()))
    )

    gate.open()
    assert_soon(lambda: later, PATIENCE)
    assert later[0].result(PATIENCE) == 2


def test_callback_cannot_submit_during_shutdown(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """While shutdown waits, submit raises in the callback as everywhere."""
    executor = make_executor(1)
    errors: list[str] = []

    def submit_again(_: AnyFuture) -> None:
        try:
            executor.submit(abs, -1)
        except RuntimeError as error:
            errors.append(str(error))

    executor.submit(gate.hold, "call").add_done_callback(submit_again)
    executor.shutdown(wait=False)
    gate.open()

    assert_soon(lambda: errors, PATIENCE)
    assert errors == ["cannot schedule new futures after shutdown"]


def test_callback_may_shut_down(make_executor: MakeExecutor, gate: Gate) -> None:
    """A callback closes the executor, and the other calls still end."""
    executor = make_executor(1)
    first, second = (executor.submit(gate.hold, name) for name in ("a", "b"))
    first.add_done_callback(lambda _: executor.shutdown(wait=False))

    gate.open()
    assert second.result(PATIENCE) == "b"
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        executor.submit(abs, -1)


def test_exception_in_the_with_block_waits_for_the_calls(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """The exception goes on when the calls have ended."""
    gate.open()
    futures: list[AnyFuture] = []

    def fail_in_the_block() -> NoReturn:
        with make_executor(1) as executor:
            futures.append(executor.submit(gate.hold, "call"))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail_in_the_block()
    assert futures[0].done()
    assert futures[0].result() == "call"


def test_dropped_executor_ends_its_calls(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Without shutdown and without a reference, futures and iterators still end."""
    threads = set(threading.enumerate())
    executor = make_executor(2)
    future = executor.submit(gate.hold, "call")
    iterator = executor.map(abs, [-1, -2])
    reference = weakref.ref(executor)
    del executor
    gc.collect()

    assert reference() is None
    gate.open()
    assert future.result(PATIENCE) == "call"
    assert list(iterator) == [1, 2]
    assert_soon(lambda: set(threading.enumerate()) <= threads, PATIENCE)


def test_dropped_unused_executor_leaves_nothing(make_executor: MakeExecutor) -> None:
    """An executor that was never used just goes away."""
    reference = weakref.ref(make_executor(1))
    gc.collect()

    assert reference() is None


def _in_thread(executor: Executor, **options: bool) -> threading.Thread:
    thread = threading.Thread(target=executor.shutdown, kwargs=options, daemon=True)
    thread.start()
    return thread
