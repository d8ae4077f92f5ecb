"""asyncio programs that await jobs; single rules are in tests/contract."""

import asyncio
from concurrent.futures import CancelledError

import pytest

from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate
from tests.integration.clients import MakeExecutor, reciprocal, square

_PATIENCE = 60  #: seconds


def test_calls_are_gathered(executor: SlurmExecutor) -> None:
    """`gather` gives values and exceptions in the order of the calls."""

    async def main() -> list[float | BaseException]:
        run = asyncio.get_running_loop().run_in_executor
        calls = [run(executor, reciprocal, number) for number in (1, 0, 2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(main())

    assert (first, third) == (1, 0.5)
    assert isinstance(second, ZeroDivisionError)


def test_as_completed_gives_every_call(executor: SlurmExecutor) -> None:
    """The `as_completed` of asyncio works on wrapped futures."""

    async def main() -> list[int]:
        futures = [
            asyncio.wrap_future(executor.submit(square, number)) for number in range(3)
        ]
        return [await future for future in asyncio.as_completed(futures)]

    assert sorted(asyncio.run(main())) == [0, 1, 4]


def test_task_group_cancels_the_others_when_a_call_raises(
    executor: SlurmExecutor, gate: Gate
) -> None:
    """The jobs of calls that nobody awaits any more are cancelled."""
    held = executor.submit(gate.hold, "held")
    gate.await_arrivals("held")

    async def wait_for_held() -> None:
        await asyncio.wrap_future(held)

    async def fail() -> None:
        await asyncio.wrap_future(executor.submit(reciprocal, 0))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_held())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())

    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert held.cancelled()


def test_wait_for_ends_the_job_of_a_call_that_takes_too_long(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Its place is free for the next call, although the gate stays closed."""
    executor = make_executor(1)
    held = executor.submit(gate.hold, "held")
    gate.await_arrivals("held")

    async def main() -> None:
        await asyncio.wait_for(asyncio.wrap_future(held), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(main())

    with pytest.raises(CancelledError):
        held.result(_PATIENCE)
    assert executor.submit(square, 3).result(_PATIENCE) == 9
