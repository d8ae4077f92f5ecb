"""Calls whose arguments are futures run once these have their values."""

import collections
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from slurm_futures import ArgumentFailed, JobCancelled
from tests.contract import calls, executors
from tests.contract.executors import PATIENCE, MakeOurs
from tests.contract.gate import Gate
from tests.waiting import assert_soon

pytestmark = pytest.mark.parametrize(
    "kind", executors.KINDS[1:], indirect=True, scope="session"
)


def test_future_stands_for_its_value(make_ours: MakeOurs, gate: Gate) -> None:
    """As an argument, and in a list, tuple or dict that is one."""
    executor = make_ours(2)
    held = executor.submit(gate.hold, 1)
    known: Future[Any] = Future()
    known.set_result({"b": 2})
    future = executor.submit(
        calls.capture, held, [held, 5], (known,), 6, name=known, more={"a": held}
    )
    gate.await_arrivals(1)
    assert not future.done()
    gate.open()

    args, kwargs = future.result(PATIENCE)
    assert args == (1, [1, 5], ({"b": 2},), 6)
    assert kwargs == {"name": {"b": 2}, "more": {"a": 1}}


_Pair = collections.namedtuple("_Pair", "first second")
_ELSEWHERE: list[Callable[[Any], Any]] = [
    lambda future: {future},
    lambda future: [[future]],
    lambda future: {future: 1},
    lambda future: _Pair(future, 1),
    lambda future: collections.deque([future]),
    lambda future: collections.OrderedDict(a=future),
]


@pytest.mark.parametrize("place", _ELSEWHERE)
def test_future_elsewhere_is_refused(
    make_ours: MakeOurs, place: Callable[[Any], Any]
) -> None:
    """With words that say where it may be, also beside one that is in its place."""
    executor = make_ours(1)
    known = executor.submit(abs, -1)
    plain: Future[int] = Future()

    refused = [
        executor.submit(calls.capture, place(known)),
        executor.submit(calls.capture, known, place(known)),
        executor.submit(calls.capture, place(plain)),
    ]

    for each in refused:
        with pytest.raises(TypeError, match="in a list, tuple or dict that is one"):
            each.result(PATIENCE)


def test_argument_that_is_there_twice_is_one(make_ours: MakeOurs) -> None:
    """With a future in it or not."""
    executor = make_ours(1)
    known = executor.submit(abs, -1)
    items, others = [known], [2]

    args, _ = executor.submit(calls.capture, items, others, items, others).result()

    assert args == ([1], [2], [1], [2])
    assert args[0] is args[2]
    assert args[1] is args[3]


def test_other_arguments_are_taken_at_once(make_ours: MakeOurs) -> None:
    """Though the call waits."""
    executor, awaited, items = make_ours(1), Future[int](), [1]
    future = executor.submit(calls.append, items, awaited)  # type: ignore[arg-type]
    items.append(7)
    awaited.set_result(2)

    assert future.result(PATIENCE) == [1, 2]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_items_of_a_map_can_be_futures(make_ours: MakeOurs, chunksize: int) -> None:
    """A chunk waits for all of its own."""
    executor = make_ours(2)
    squares = [executor.submit(pow, number, 2) for number in range(4)]
    results = executor.map(calls.identity, [*squares, 5], chunksize=chunksize)

    assert list(results) == [0, 1, 4, 9, 5]


def test_chain_of_futures_runs_in_its_order(make_ours: MakeOurs) -> None:
    """However long: each link is sent by the end of the one before."""
    with make_ours(2) as executor:
        future: Future[Any] = executor.submit(abs, 0)
        for _ in range(5):
            future = executor.submit(calls.add, [future, 1])

    assert future.result(0) == 5


def test_future_does_not_keep_the_call_that_waited_for_it(
    make_ours: MakeOurs,
) -> None:
    """Nor what this has returned."""
    executor, awaited = make_ours(1), Future[int]()
    future = executor.submit(calls.identity, awaited)
    awaited.set_result(1)
    assert future.result(PATIENCE) == 1
    kept = weakref.ref(future)
    del future

    assert_soon(lambda: kept() is None)
    assert awaited.done()


def test_call_fails_with_the_future_that_it_waits_for(make_ours: MakeOurs) -> None:
    """So do those that wait for it, and only these calls of a chunk."""
    executor = make_ours(2)
    failed = executor.submit(calls.divide, 1, 0)
    first = executor.submit(calls.identity, failed)
    second = executor.submit(calls.identity, [first])

    error = second.exception(PATIENCE)
    assert isinstance(error, ArgumentFailed)
    assert isinstance(error.__cause__, ArgumentFailed)
    assert isinstance(error.__cause__.__cause__, ZeroDivisionError)
    results = executor.map(calls.identity, [5, failed], chunksize=2)
    assert next(results) == 5
    with pytest.raises(ArgumentFailed):
        next(results)


def test_cancelled_future_fails_the_calls_that_wait(
    make_ours: MakeOurs, gate: Gate
) -> None:
    """They cannot have its value."""
    executor = make_ours(1)
    held = executor.submit(gate.hold, 1)
    future = executor.submit(calls.identity, held)
    assert held.cancel()

    error = future.exception(PATIENCE)
    assert isinstance(error, ArgumentFailed)
    assert isinstance(error.__cause__, CancelledError)


def test_call_that_waits_can_be_cancelled(make_ours: MakeOurs) -> None:
    """It is not sent when the value comes."""
    with make_ours(1) as executor:
        awaited = Future[int]()
        future = executor.submit(calls.identity, awaited)
        assert future.cancel()
        awaited.set_result(1)

    assert future.cancelled()
    assert future.job_id is None


def test_shutdown_waits_for_calls_that_wait(make_ours: MakeOurs, gate: Gate) -> None:
    """Also where their futures are done only afterwards."""
    executor = make_ours(2)
    held = executor.submit(gate.hold, 3)
    future = executor.submit(calls.identity, held)
    executor.shutdown(wait=False)
    gate.open()
    executor.shutdown()

    assert future.result(0) == 3


def test_shutdown_can_cancel_calls_that_wait(make_ours: MakeOurs) -> None:
    """As those that wait for a job."""
    executor = make_ours(1)
    future = executor.submit(calls.identity, Future[int]())
    executor.shutdown(cancel_futures=True)

    assert future.cancelled()


def test_terminate_workers_fails_calls_that_wait(make_ours: MakeOurs) -> None:
    """With the error of all others."""
    executor = make_ours(1)
    future = executor.submit(calls.identity, Future[int]())
    executor.terminate_workers()

    assert isinstance(future.exception(PATIENCE), JobCancelled)


def test_what_cannot_be_pickled_beside_a_future_fails_at_once(
    make_ours: MakeOurs,
) -> None:
    """With its own error; and so does a future somewhere deep, or a bad value."""
    executor, awaited = make_ours(1), Future[Any]()
    generator = (number for number in range(3))
    beside = executor.submit(calls.capture, awaited, generator)
    deep = executor.submit(calls.identity, [[awaited]])
    value = executor.submit(calls.identity, awaited)
    awaited.set_result(generator)

    for future in (beside, value):
        assert "generator" in str(future.exception(PATIENCE))
    assert isinstance(deep.exception(PATIENCE), TypeError)
