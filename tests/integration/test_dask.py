"""dask.compute(..., scheduler=executor)."""

import operator

import pytest

from slurm_futures import SlurmExecutor
from tests.integration.clients import MakeExecutor, client, reciprocal, square

dask = client("dask")


def test_delayed_calls_are_computed_by_jobs(executor: SlurmExecutor) -> None:
    """A graph whose last node needs all others gives the value of the last."""
    squares = [dask.delayed(square)(number) for number in range(3)]
    total = dask.delayed(sum)(squares)

    assert dask.compute(*squares, total, scheduler=executor) == (0, 1, 4, 5)


def test_dask_keeps_as_many_jobs_busy_as_max_workers_says(
    make_executor: MakeExecutor,
) -> None:
    """Dask reads `_max_workers`, and without it takes the CPUs of this computer."""
    assert make_executor(3)._max_workers == 3
    assert make_executor()._max_workers >= 1000


def test_array_is_computed_block_by_block(executor: SlurmExecutor) -> None:
    """Blocks of NumPy arrays travel both ways."""
    array = client("dask.array").arange(6, chunks=3)

    assert (array + 1).compute(scheduler=executor).tolist() == [1, 2, 3, 4, 5, 6]


def test_bag_is_folded(executor: SlurmExecutor) -> None:
    """Partitions of a bag are mapped and then folded into one value."""
    bag = client("dask.bag").from_sequence(range(4), npartitions=2)
    total = bag.map(square).fold(operator.add)

    assert total.compute(scheduler=executor) == 14


def test_exception_of_a_call_comes_out_of_compute(executor: SlurmExecutor) -> None:
    """Dask raises the exception of the call as itself."""
    with pytest.raises(ZeroDivisionError):
        dask.delayed(reciprocal)(0).compute(scheduler=executor)
