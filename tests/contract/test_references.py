"""The executor keeps nothing alive that its user has dropped."""

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.calls import Thing
from tests.contract.executors import PATIENCE, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def _dies(reference: weakref.ref[Any]) -> None:
    def is_dead() -> bool:
        gc.collect()
        return reference() is None

    assert_soon(is_dead, PATIENCE, lambda: f"held by {gc.get_referrers(reference())}")


def test_argument_is_not_kept(make_executor: MakeExecutor) -> None:
    """Neither positional nor keyword arguments live on when the call has ended."""
    executor = make_executor(1)
    positional, keyword = Thing(), Thing()
    references = weakref.ref(positional), weakref.ref(keyword)

    future = executor.submit(calls.capture, positional, name=keyword)
    del positional, keyword
    future.exception(PATIENCE)
    for reference in references:
        _dies(reference)


def test_function_is_not_kept(make_executor: MakeExecutor) -> None:
    """A bound method whose future is dropped at once keeps its object no longer."""
    executor = make_executor(1)
    thing = Thing()
    reference = weakref.ref(thing)

    executor.submit(thing.method)
    del thing
    _dies(reference)


def test_items_of_a_map_are_not_kept(make_executor: MakeExecutor) -> None:
    """The iterator holds futures, not arguments."""
    executor = make_executor(1)
    things = [Thing(1), Thing(2)]
    references = [weakref.ref(thing) for thing in things]

    iterator = executor.map(Thing.method, things)
    assert next(iterator) == 1
    things.clear()
    assert next(iterator) == 2
    for reference in references:
        _dies(reference)


def test_result_dies_with_its_future(make_executor: MakeExecutor) -> None:
    """When the user drops future and result, nobody else holds them."""
    executor = make_executor(1)
    future = executor.submit(calls.make_thing, 5)
    thing = future.result(PATIENCE)
    of_result, of_future = weakref.ref(thing), weakref.ref(future)

    del thing, future
    _dies(of_result)
    _dies(of_future)


def test_exception_dies_with_its_future(make_executor: MakeExecutor) -> None:
    """An exception and what it holds are released as a result is."""
    executor = make_executor(1)
    future = executor.submit(calls.raise_thing)
    with pytest.raises(ValueError, match="Thing") as caught:
        future.result(PATIENCE)
    reference = weakref.ref(caught.value.args[0])

    del caught, future
    _dies(reference)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_releases_each_result_before_the_next(
    executor: Executor, chunksize: int
) -> None:
    """A loop over a map holds one result at a time."""
    for thing in executor.map(calls.make_thing, range(4), chunksize=chunksize):
        reference = weakref.ref(thing)
        del thing

        _dies(reference)  # soon: the thread that has brought it may still have it


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let no cycle be found: what is in one stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_results_do_not_wait_for_the_garbage_collector(executor: Executor) -> None:
    """It comes late where there are few objects, however large they are."""
    future = executor.submit(calls.make_thing, 5)
    thing = future.result(PATIENCE)
    references: list[weakref.ref[Any]] = [weakref.ref(future), weakref.ref(thing)]
    del future
    for chunksize in (1, 2):
        for thing in executor.map(calls.make_thing, range(4), chunksize=chunksize):
            references.append(weakref.ref(thing))
    del thing

    assert_soon(lambda: not any(each() for each in references), PATIENCE)


def test_cancelled_future_is_not_kept(make_executor: MakeExecutor, gate: Gate) -> None:
    """What was cancelled can be forgotten, with its arguments."""
    executor = make_executor(1)
    first = executor.submit(gate.hold, "call")
    futures = [executor.submit(gate.hold, name) for name in range(6)]
    gate.await_arrivals("call")
    reference = weakref.ref(futures[5])
    assert futures[5].cancel()
    gate.open()
    assert first.result(PATIENCE) == "call"
    assert futures[4].result(PATIENCE) == 4

    futures.clear()
    _dies(reference)


def test_dropped_futures_still_call_back(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """A callback is enough to get the result of a future that nobody holds."""
    results: list[str] = []
    make_executor(1).submit(gate.hold, "call").add_done_callback(
        lambda future: results.append(future.result())
    )
    gc.collect()

    gate.open()
    assert_soon(lambda: results == ["call"], PATIENCE)
