"""What calls have used, as people see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.usage import Usage, read_usage
from slurm_futures.node.formats import HAD_CHILDREN, USAGE_NUMBERS

START = 1_800_000_000.0  #: epoch seconds
MEGABYTE = 1 << 20


def record(
    elapsed: float = 1.0,
    cpu: float = 0.5,
    memory: float = 100,
    *,
    total: float | None = None,
    children: bool = False,
) -> bytes:
    """Return what a call leaves: seconds, and megabytes."""
    numbers = START, elapsed, cpu, elapsed if total is None else total
    flags = HAD_CHILDREN if children else 0
    return USAGE_NUMBERS.pack(*numbers, round(memory * MEGABYTE), flags) + b"c17"


def test_usage_of_a_call() -> None:
    """In seconds and bytes, with the times of a clock."""
    started = datetime.fromtimestamp(START, UTC)

    assert read_usage(record(1.5, 0.5, 100), START - 10) == Usage(
        waited=10,
        elapsed=1.5,
        cpu=0.5,
        max_rss=100 * MEGABYTE,
        node="c17",
        started_at=started,
        ended_at=started + timedelta(seconds=1.5),
    )


def test_what_is_not_known_is_none() -> None:
    """Memory that nobody has measured; a wait that would be negative."""
    usage = read_usage(record(memory=0), START + 1)

    assert usage is not None
    assert usage.max_rss is None
    assert usage.waited is None
    assert read_usage(b"", START) is None


def test_future_has_no_usage_before_its_call_is_over() -> None:
    """It may still be tried again."""
    future: SlurmFuture[int] = SlurmFuture()
    assert future.usage is None

    future.set_result(1)

    assert future.usage is None  # none was told
