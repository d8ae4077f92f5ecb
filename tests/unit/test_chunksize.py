"""`map(chunksize="auto")`: enough jobs to keep all workers busy, and not many more."""

from pathlib import Path

import pytest

from slurm_futures import SlurmExecutor
from slurm_futures.calls.mapping import choose_chunksize


@pytest.mark.parametrize(
    ("max_workers", "count", "chunksize"),
    [
        (2, 0, 1),
        (2, 7, 1),
        (2, 8, 1),
        (2, 100, 12),
        (16, 1_000_000, 15_625),
        (None, 399, 1),
        (None, 10_000, 25),
    ],
)
def test_about_four_jobs_for_each_worker(
    max_workers: int | None, count: int, chunksize: int
) -> None:
    """Or 400 jobs, where the number of workers has no limit; every item is there."""
    items = ((number,) for number in range(count))

    listed, chosen = choose_chunksize(items, None, max_workers)
    assert chosen == chunksize
    assert sum(1 for _ in listed) == count


def test_with_a_buffer_nothing_is_read_ahead() -> None:
    """The number of items is not known then, so each one is a job."""
    items = ((number,) for number in range(100))

    same, chosen = choose_chunksize(items, 4, 2)
    assert (chosen, next(same)) == (1, (0,))


@pytest.mark.parametrize("max_tasks_per_child", [1, None])
def test_results_are_those_of_any_chunksize(
    tmp_path: Path, max_tasks_per_child: int | None
) -> None:
    """In order, with jobs of their own and with jobs that live on."""
    with SlurmExecutor(
        1,
        max_tasks_per_child=max_tasks_per_child,
        scheduler="local",
        directory=tmp_path,
    ) as executor:
        assert list(executor.map(abs, range(-50, 0), chunksize="auto")) == [
            *range(50, 0, -1)
        ]
