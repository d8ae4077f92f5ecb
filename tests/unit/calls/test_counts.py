"""How calls are counted, step by step."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import pytest

from slurm_futures.calls.counts import CallCounts, add_up
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.outcome import Outcome

VALUE, ERROR = Outcome(value=1), Outcome(exception=ValueError())


class Hearer:
    """Runs nothing; hears of cancels, and does its part of them if it is told to."""

    def __init__(self, *, acts: bool) -> None:
        self.acts = acts

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """Do what the poller does."""
        if self.acts:
            future._end_cancel()

    def has_outcome(self, future: SlurmFuture[Any]) -> bool:  # noqa: ARG002
        """Say no."""
        return False


def counted(future: SlurmFuture[Any]) -> CallCounts:
    """Count the calls of a future among others."""
    counts = CallCounts()
    counts.add()
    future._count_in(counts)
    return counts


def test_outcome_is_counted_when_callbacks_and_waiters_come() -> None:
    """They may look at once."""
    future: SlurmFuture[int] = SlurmFuture()
    counts, seen = counted(future), list[list[int]]()
    future.add_done_callback(lambda _: seen.append(add_up(counts.copy())))

    future._settle(0, ERROR)

    assert seen == [[0, 1, 0]]


@pytest.mark.parametrize("acts", [False, True])
def test_outcome_that_comes_after_a_cancel_does_not_count(*, acts: bool) -> None:
    """Nor does a cancel count twice."""
    future: SlurmFuture[int] = SlurmFuture(Hearer(acts=acts))
    counts = counted(future)
    assert future.cancel()
    assert future.cancel()

    future._settle(0, VALUE)

    assert add_up(counts.copy()) == [0, 0, 1]


def test_cancel_of_an_interrupted_thread_is_counted_by_the_other_one() -> None:
    """Which does all that is left."""
    future: SlurmFuture[int] = SlurmFuture()
    counts = counted(future)

    future._end_cancel()

    assert add_up(counts.copy()) == [0, 0, 1]


def test_future_that_has_failed_before_is_counted() -> None:
    """Its call could not be pickled."""
    future: SlurmFuture[int] = SlurmFuture()
    future.set_exception(TypeError())

    assert add_up(counted(future).copy()) == [0, 1, 0]


def test_each_call_of_a_chunk_is_counted() -> None:
    """When the chunk is cancelled, those that had no outcome."""
    future = ChunkFuture(Hearer(acts=True), 5)
    future._settle(4, ERROR)
    counts = counted(future)
    future._settle(0, VALUE)
    future._settle(0, ERROR)
    future._settle(1, Outcome(exception=CancelledError()))
    assert add_up(counts.copy()) == [1, 1, 1]

    future.cancel()

    assert add_up(counts.copy()) == [1, 1, 3]


def test_places_are_made_as_they_are_needed() -> None:
    """Whichever is the first."""
    counts = CallCounts()
    places = [counts.add() for _ in range(5000)]

    for place in reversed(places):
        counts.note(place, (0, 1, 0))

    assert add_up(counts.copy()) == [0, 5000, 0]
