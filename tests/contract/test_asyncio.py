"""The executor below an asyncio event loop."""

import asyncio
from concurrent.futures import CancelledError

import pytest

from tests.contract import calls
from tests.contract.executors import PATIENCE, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def test_run_in_executor_gives_values_and_exceptions(
    make_executor: MakeExecutor,
) -> None:
    """Calls can be awaited, one by one and together."""
    executor = make_executor(2)

    async def main() -> tuple[list[int], BaseException | None]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            values = await asyncio.gather(
                *(loop.run_in_executor(executor, abs, -number) for number in range(2))
            )
            failing = loop.run_in_executor(executor, calls.divide, 1, 0)
            (error,) = await asyncio.gather(failing, return_exceptions=True)
        assert isinstance(error, BaseException)
        return values, error

    values, error = asyncio.run(main())
    assert values == [0, 1]
    assert isinstance(error, ZeroDivisionError)
    assert "in divide" in str(error.__cause__)


def test_wrapped_future_can_be_awaited(make_executor: MakeExecutor) -> None:
    """`wrap_future` turns ours into one of asyncio."""
    executor = make_executor(1)

    async def main() -> int:
        future = executor.submit(abs, -1)
        return await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)

    assert asyncio.run(main()) == 1


def test_cancelling_the_awaiting_side_cancels_the_call(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """A pending call whose awaitable is cancelled does not run."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)

    async def main() -> None:
        wrapped = asyncio.wrap_future(futures[5])
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(main())
    assert_soon(futures[5].cancelled)
    gate.open()
    executor.shutdown()
    assert "5" not in gate.arrivals()


def test_timeout_of_the_awaiting_side_cancels_the_call(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """`asyncio.timeout` gives up a pending call."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)

    async def main() -> None:
        async with asyncio.timeout(0.05):
            await asyncio.wrap_future(futures[5])

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert_soon(futures[5].cancelled)
    with pytest.raises(CancelledError):
        futures[5].result()
    gate.open()
    assert futures[0].result(PATIENCE) == 0


def test_cancelling_ours_cancels_the_awaiting_side(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Whoever awaits a future that is cancelled gets CancelledError."""
    executor = make_executor(1)
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals(0)

    async def main() -> None:
        wrapped = asyncio.wrap_future(futures[5])
        futures[5].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(wrapped, PATIENCE)

    asyncio.run(main())
    gate.open()
