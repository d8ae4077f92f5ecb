"""What a type checker must refuse; tests/unit/test_typing.py lets mypy read it.

Nothing here is run. A comment `# E:` holds a part of what mypy has to say of its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

from slurm_futures import SlurmExecutor, SlurmFuture


def power(base: int, exponent: int = 2, *, modulus: int | None = None) -> float:
    """Stand for a user's function with all kinds of arguments."""
    return float(pow(base, exponent, modulus))


def prepare(path: str, seed: int) -> None:
    """Stand for an initializer."""


def calls(executor: SlurmExecutor) -> None:
    """`submit` knows the arguments and the result of the function."""
    executor.submit(power)  # E: Missing positional argument "base"
    executor.submit(power, "2")  # E: has incompatible type "str"; expected "int"
    executor.submit(power, 2, 3, 5)  # E: Too many positional arguments for "submit"
    executor.submit(power, 2, modulo=5)  # E: Unexpected keyword argument "modulo"
    executor.submit(power(2))  # E: has incompatible type "float"; expected "Callable
    executor.submit(power, 2).result() + "text"  # E: Unsupported operand types for +


def maps(executor: SlurmExecutor) -> None:
    """`map` knows the result of the function."""
    executor.map(power, 2)  # E: No overload variant of "map"
    executor.map(power, [1], chunksize="2")  # E: No overload variant of "map"
    executor.map(power, [1], workers=2)  # E: No overload variant of "map"


def wrong_future(executor: SlurmExecutor) -> Future[str]:
    """A future of floats is no future of strings."""
    return executor.submit(power, 2)  # E: "submit" of "SlurmExecutor" has incompatible


def wrong_results(executor: SlurmExecutor) -> Iterator[str]:
    """Neither are results of floats."""
    return executor.map(power, [1])  # E: expected "Callable[..., str]"


def constructor(executor: SlurmExecutor) -> None:
    """Arguments of the constructor have types, words are from lists."""
    SlurmExecutor("4")  # E: has incompatible type "str"; expected "int | None"
    SlurmExecutor(keep="sometimes")  # E: incompatible type "Literal['sometimes']"
    SlurmExecutor(scheduler="lokal")  # E: has incompatible type "Literal['lokal']"
    SlurmExecutor(initializer=3)  # E: has incompatible type "int"
    SlurmExecutor(initializer=prepare, initargs="path")  # E: has incompatible type
    SlurmExecutor(retries="twice")  # E: has incompatible type "str"
    SlurmExecutor(retries={"JobTimeout": 2})  # E: has incompatible type "str"
    SlurmExecutor(mem=[4])  # E: List item 0 has incompatible type "int"
    executor.options(mem={"4G"})  # E: has incompatible type "set[str]"
    executor.options("16G")  # E: Too many arguments for "options"
    executor.shutdown(False, True)  # E: Too many positional arguments for "shutdown"


def attributes(future: SlurmFuture[float]) -> None:
    """What a future knows of its job may be None, and cannot be set."""
    future.job_id.split("_")  # E: Item "None" of "str | None" has no attribute
    future.job_id = "3"  # E: is read-only
    print(future.jobid)  # E: "SlurmFuture[float]" has no attribute "jobid"
