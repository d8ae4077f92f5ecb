"""What a type checker must accept; tests/unit/test_typing.py lets mypy read it.

Nothing here is run. `assert_type` says what mypy has to make of each expression.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, Future, as_completed, wait
from pathlib import Path
from typing import assert_type

from slurm_futures import (
    JobState,
    JobTimeout,
    LocalScheduler,
    SlurmExecutor,
    SlurmFuture,
    SlurmScheduler,
)


def power(base: int, exponent: int = 2, *, modulus: int | None = None) -> float:
    """Stand for a user's function with all kinds of arguments."""
    return float(pow(base, exponent, modulus))


def prepare(path: str, seed: int) -> None:
    """Stand for an initializer."""


def calls(executor: SlurmExecutor) -> None:
    """Arguments and result of `submit` are those of the function."""
    assert_type(executor.submit(power, 2), SlurmFuture[float])
    assert_type(executor.submit(power, 2, 3, modulus=5), SlurmFuture[float])
    assert_type(executor.submit(power, base=2).result(), float)
    assert_type(executor.submit(lambda: "text"), SlurmFuture[str])
    assert_type(executor.submit(Path, "a", "b").result(timeout=1.5), Path)
    assert_type(executor.submit(print, "text", sep=""), SlurmFuture[None])
    assert_type(executor.submit("a,b".split, ","), SlurmFuture[list[str]])


def maps(executor: SlurmExecutor) -> None:
    """The results of `map` are those of the function, as in the standard library."""
    assert_type(executor.map(power, [1, 2]), Iterator[float])
    assert_type(executor.map(power, [1, 2], range(2), chunksize=2), Iterator[float])
    assert_type(executor.map(str, [1], timeout=1.5, buffersize=3), Iterator[str])
    errors_too = executor.map(power, [1, 2], return_exceptions=True)
    assert_type(errors_too, Iterator[float | BaseException])
    assert_type(list(executor.map(lambda x: [str(x)], {1, 2})), list[list[str]])


def context() -> SlurmExecutor:
    """`with` gives a SlurmExecutor, and `options` another one."""
    with SlurmExecutor(4, mem="4G", cpus_per_task=2, exclusive=True) as executor:
        assert_type(executor, SlurmExecutor)
        larger = executor.options(mem="16G", gres="gpu:1")
        assert_type(larger, SlurmExecutor)
        assert_type(larger.submit(power, 2), SlurmFuture[float])
        executor.shutdown(wait=False, cancel_futures=True)
        executor.terminate_workers()
        executor.kill_workers()
    return executor


def constructor() -> None:
    """The arguments that ProcessPoolExecutor has, and ours."""
    SlurmExecutor()
    SlurmExecutor(None, None, prepare, ("path", 1))
    SlurmExecutor(max_workers=4, initializer=print, initargs=("text", 2))
    SlurmExecutor(initializer=lambda: None)
    SlurmExecutor(max_tasks_per_child=1, directory=Path("runs"), keep="always")
    SlurmExecutor(scheduler="local", python=("python", "-X", "dev"), setup="module")
    SlurmExecutor(scheduler=LocalScheduler(cpus=2), setup=["module load gcc"])
    SlurmExecutor(scheduler=SlurmScheduler(poll_interval=10), template=Path("x.j2"))
    SlurmExecutor(poll_interval=5, grace=10, pending_timeout=None, progress=True)
    SlurmExecutor(retries=2)
    SlurmExecutor(retries={JobTimeout: 2, OSError: 1})


def attributes(future: SlurmFuture[float]) -> None:
    """A future knows its job."""
    assert_type(future.job_id, str | None)
    assert_type(future.state, JobState | None)
    assert_type(future.directory, Path | None)
    assert_type(future.stdout(), str)
    assert_type(future.stderr(), str)
    assert_type(future.attempts, int)
    assert_type(future.earlier_errors, tuple[BaseException, ...])
    assert_type(future.cancel(), bool)
    assert_type(future.exception(), BaseException | None)


def seen_as_the_standard_ones(executor: SlurmExecutor) -> None:
    """Code written for the interfaces of concurrent.futures takes ours."""
    base: Executor = executor
    future: Future[float] = executor.submit(power, 2)
    assert_type(base.submit(power, 2), Future[float])
    futures = [executor.submit(power, number) for number in range(3)]
    assert_type(next(as_completed(futures)), Future[float])
    assert_type(wait(futures).done, set[Future[float]])
    future.add_done_callback(lambda done: print(done.result()))
    futures[0].add_done_callback(report)


def report(future: Future[float]) -> None:
    """Stand for a callback."""


async def awaited(executor: SlurmExecutor) -> None:
    """Asyncio keeps the type of the result."""
    loop = asyncio.get_running_loop()
    assert_type(await loop.run_in_executor(executor, power, 2), float)
    assert_type(await asyncio.wrap_future(executor.submit(power, 2)), float)
