"""Ends that are ours alone: cancelling what runs, several shutdowns, odd callbacks."""

import logging
import threading
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from typing import NoReturn

import pytest

from tests.contract import calls, executors
from tests.contract.executors import PATIENCE, MakeOurs
from tests.contract.gate import Gate
from tests.waiting import assert_soon

pytestmark = executors.ours


def test_running_call_can_be_cancelled(make_ours: MakeOurs, gate: Gate) -> None:
    """`cancel` of a running call is True, and its job ends before its time."""
    executor = make_ours(1)
    future = executor.submit(gate.hold, "call")
    gate.await_arrivals("call")
    assert_soon(future.running)

    assert future.cancel()
    assert future.cancelled()
    assert not future.running()
    with pytest.raises(CancelledError):
        future.result()
    assert wait([future], PATIENCE).done == {future}
    assert list(as_completed([future], 0)) == [future]
    assert executor.submit(abs, -1).result(PATIENCE) == 1, "its worker is free"


def test_later_shutdown_may_cancel(make_ours: MakeOurs, gate: Gate) -> None:
    """While the first shutdown waits, a second one cancels what is pending."""
    executor = make_ours(1)
    futures = [executor.submit(gate.hold, name) for name in range(3)]
    gate.await_arrivals(0)
    assert_soon(futures[0].running)
    thread = threading.Thread(target=executor.shutdown)
    thread.start()
    executor.shutdown(wait=False, cancel_futures=True)

    assert_soon(futures[2].cancelled, PATIENCE)
    assert [future.cancelled() for future in futures] == [False, True, True]
    gate.open()
    thread.join(PATIENCE)
    assert futures[0].result(0) == 0


def test_many_threads_may_shut_down(make_ours: MakeOurs, gate: Gate) -> None:
    """All of them wait until the calls have ended."""
    executor = make_ours(1)
    future = executor.submit(gate.hold, "call")
    threads = [threading.Thread(target=executor.shutdown) for _ in range(3)]
    for thread in threads:
        thread.start()

    gate.open()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert future.done()


def test_keyboard_interrupt_in_the_with_block_cancels(
    make_ours: MakeOurs, gate: Gate
) -> None:
    """After Ctrl-C running and pending calls are cancelled, and it goes on."""
    executor = make_ours(1)
    futures: list[Future[str]] = []

    def interrupted() -> NoReturn:
        with executor:
            futures.extend(executor.submit(gate.hold, name) for name in "ab")
            gate.await_arrivals("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.cancelled() for future in futures)


@pytest.mark.parametrize("method", ["terminate_workers", "kill_workers"])
def test_workers_can_be_stopped(make_ours: MakeOurs, gate: Gate, method: str) -> None:
    """As in Python 3.14: open futures fail, and the executor is closed."""
    executor = make_ours(1)
    futures = [executor.submit(gate.hold, name) for name in "ab"]
    gate.await_arrivals("a")

    getattr(executor, method)()
    for future in futures:
        assert isinstance(future.exception(PATIENCE), BrokenExecutor)
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        executor.submit(abs, -1)


def test_callback_may_wait_for_shutdown(make_ours: MakeOurs, gate: Gate) -> None:
    """`shutdown(wait=True)` in a callback does not wait for itself."""
    executor = make_ours(2)
    returned = threading.Event()

    def shut_down(_: Future[str]) -> None:
        executor.shutdown(wait=True)
        returned.set()

    first, second = executor.submit(gate.hold, "a"), executor.submit(gate.hold, "b")
    first.add_done_callback(shut_down)

    gate.open("a")
    assert returned.wait(PATIENCE)
    gate.open()
    assert second.result(PATIENCE) == "b"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), calls.Stop()])
def test_callback_cannot_stop_the_executor(
    make_ours: MakeOurs,
    gate: Gate,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even an exception that ends threads is only logged."""
    executor = make_ours(1)
    future = executor.submit(gate.hold, "call")
    future.add_done_callback(lambda _: calls.raise_error(error))
    with caplog.at_level(logging.ERROR, "slurm_futures"):
        gate.open()
        assert future.result(PATIENCE) == "call"

        assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert type(error).__name__ in caplog.text
