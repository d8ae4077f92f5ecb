"""How the calls of an executor stand, and the end of all that are open."""

from __future__ import annotations

import gc
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from tests.contract import calls, executors
from tests.contract.executors import PATIENCE, MakeOurs
from tests.contract.gate import Gate
from tests.waiting import assert_soon

pytestmark = executors.ours

in_all_modes = pytest.mark.parametrize("max_tasks_per_child", [1, None])


def counts(**numbers: int) -> dict[str, int]:
    """Return what there should be; all else is 0."""
    names = "done failed cancelled running pending".split()
    return {name: numbers.get(name, 0) for name in names}


def pass_gate(gate: Gate, number: int) -> int:
    """Wait if the number is 2; fail if it is 1."""
    if number == 2:
        gate.hold("call")
    return calls.divide(1, number - 1)


@in_all_modes
def test_each_call_counts_once(
    make_ours: MakeOurs, gate: Gate, max_tasks_per_child: int | None
) -> None:
    """Whatever became of it, and whether or not somebody has its future still."""
    executor = make_ours(1, max_tasks_per_child=max_tasks_per_child)
    assert executor.counts() == counts()
    futures = [executor.submit(pass_gate, gate, number) for number in range(4)]
    assert sum(executor.counts().values()) == 4
    gate.await_arrivals("call")
    futures[0].result(PATIENCE)
    futures[1].exception(PATIENCE)
    assert_soon(futures[2].running)
    assert executor.counts() == counts(done=1, failed=1, running=1, pending=1)

    assert futures[3].cancel()
    assert executor.counts() == counts(done=1, failed=1, running=1, cancelled=1)
    gate.open()
    futures[2].result(PATIENCE)
    futures.clear()
    gc.collect()

    assert executor.counts() == counts(done=2, failed=1, cancelled=1)


@in_all_modes
def test_calls_of_a_chunk_count(
    make_ours: MakeOurs, gate: Gate, max_tasks_per_child: int | None
) -> None:
    """One of them runs at a time; what has no job, since it cannot be sent, failed."""
    executor = make_ours(1, max_tasks_per_child=max_tasks_per_child)
    items: list[Any] = [2, 3, 4, _Unpicklable(), _Unpicklable(), _Unpicklable(), 1]
    results = executor.map(
        pass_gate, [gate] * 7, items, chunksize=3, return_exceptions=True
    )
    gate.await_arrivals("call")
    expected = counts(failed=3, running=1, pending=3)
    assert_soon(lambda: executor.counts() == expected)

    gate.open()
    assert len(list(results)) == 7

    assert executor.counts() == counts(done=3, failed=4)


def test_call_that_cannot_be_sent_has_failed(make_ours: MakeOurs) -> None:
    """It is a call, too."""
    executor = make_ours(1)

    future = executor.submit(calls.identity, _Unpicklable())

    assert isinstance(future.exception(PATIENCE), TypeError)
    assert executor.counts() == counts(failed=1)


@in_all_modes
def test_cancel_ends_all_that_is_open(
    make_ours: MakeOurs, gate: Gate, max_tasks_per_child: int | None
) -> None:
    """What is over stays so, and the executor takes calls that come later."""
    executor = make_ours(1, max_tasks_per_child=max_tasks_per_child)
    first = executor.submit(abs, -1)
    assert first.result(PATIENCE) == 1
    futures = [
        executor.submit(gate.hold, "call"),
        executor.submit(gate.hold, "other"),
        executor.options(comment="other").submit(gate.hold, "third"),
    ]
    gate.await_arrivals("call")

    executor.cancel()
    later = executor.submit(abs, -2)

    assert wait(futures, PATIENCE).not_done == set()
    assert all(each.cancelled() for each in futures)
    assert later.result(PATIENCE) == 2
    assert executor.counts() == counts(done=2, cancelled=3)


def test_cancel_ends_a_map(make_ours: MakeOurs, gate: Gate) -> None:
    """Each call of a chunk counts as cancelled."""
    executor = make_ours(1)
    results = executor.map(pass_gate, [gate] * 3, [2, 3, 4], chunksize=3)
    gate.await_arrivals("call")

    executor.cancel()

    with pytest.raises(CancelledError):
        next(results)
    assert executor.counts() == counts(cancelled=3)


class _Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not to be sent")
