"""Tornado: run_in_executor and run_on_executor."""

import asyncio

from slurm_futures import SlurmExecutor
from tests.integration.clients import client, square

ioloop = client("tornado.ioloop")


def test_handler_awaits_a_job(executor: SlurmExecutor) -> None:
    """The loop of Tornado takes our executor."""

    async def main() -> int:
        loop = ioloop.IOLoop.current()
        result: int = await loop.run_in_executor(executor, square, 3)
        return result

    assert asyncio.run(main()) == 9
