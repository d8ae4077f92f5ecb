"""`map`: order, errors, timeouts, chunks, buffers and early ends."""

import itertools
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, cast

import pytest

from tests.contract import calls
from tests.contract.executors import MakeExecutor, needs_buffersize
from tests.contract.gate import Gate


def test_results_keep_the_order_of_the_arguments(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """The first result comes first, even if its call ends last."""
    iterator = make_executor(2).map(gate.hold, ["slow", "quick"])
    gate.await_arrivals("slow", "quick")
    gate.open("quick")
    gate.open("slow")

    assert list(iterator) == ["slow", "quick"]


def test_shortest_iterable_ends_the_map(executor: Executor) -> None:
    """Several iterables are taken side by side, as the built-in map does."""
    iterator = executor.map(pow, [2, 3, 4], itertools.repeat(2), (1 for _ in range(2)))

    assert list(iterator) == [0, 0]


def test_map_over_nothing_is_empty(executor: Executor) -> None:
    """An empty iterable, and no iterable at all, give an empty iterator."""
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(abs)) == []


@pytest.mark.parametrize("chunksize", [2, 100])
def test_chunks_do_not_change_the_results(executor: Executor, chunksize: int) -> None:
    """Neither a chunk that does not divide the number of calls nor a huge one."""
    iterator = executor.map(divmod, range(5), [3] * 5, chunksize=chunksize)

    assert list(iterator) == [divmod(number, 3) for number in range(5)]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_chunksize_must_be_positive(executor: Executor, chunksize: int) -> None:
    """The call of map itself raises, before anything is submitted."""
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(abs, [1], chunksize=chunksize)


def test_exception_ends_the_iterator_where_it_happened(executor: Executor) -> None:
    """Results before it are delivered, it is raised in its place, then all is over."""
    iterator = executor.map(calls.divide, [4, 4, 4, 4], [1, 2, 0, 4])

    assert next(iterator) == 4
    assert next(iterator) == 2
    with pytest.raises(ZeroDivisionError):
        next(iterator)
    assert list(iterator) == []


def test_exception_in_a_chunk_is_the_exception_of_the_chunk(
    executor: Executor,
) -> None:
    """A failing call is raised in order when several calls share a job."""
    iterator = executor.map(calls.divide, [4, 4, 4], [2, 1, 0], chunksize=2)

    assert [next(iterator), next(iterator)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(iterator)


def test_iterables_are_read_at_once(executor: Executor) -> None:
    """`map` takes all arguments when it is called, not when results are asked for."""
    numbers = iter([-1, -2, -3])

    iterator = executor.map(abs, numbers)

    assert list(numbers) == []
    assert list(iterator) == [1, 2, 3]


def test_error_of_an_iterable_is_raised_by_map(executor: Executor) -> None:
    """An iterable that raises, or that is none, fails the call of map itself."""

    def broken() -> Iterator[int]:
        yield 1
        raise ArithmeticError("broken iterable")

    with pytest.raises(ArithmeticError, match="broken iterable"):
        executor.map(abs, broken())
    with pytest.raises(TypeError):
        executor.map(abs, cast("Iterable[int]", 5))


def test_argument_that_cannot_be_pickled_fails_in_its_place(
    executor: Executor,
) -> None:
    """Only the item that cannot travel fails, when its turn comes."""
    arguments: list[Any] = [1, calls.FailsToPickle()]
    iterator = executor.map(calls.identity, arguments)

    assert next(iterator) == 1
    with pytest.raises(ArithmeticError, match="cannot be pickled"):
        next(iterator)


def test_timeout_counts_from_the_call_of_map(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """The timeout is for all results together; what is done already is delivered."""
    executor = make_executor(2)
    gate.open("quick")
    began = time.monotonic()
    iterator = executor.map(gate.hold, ["quick", "slow"], timeout=7)
    gate.await_arrivals("slow")
    arrived = time.monotonic()

    assert next(iterator) == "quick"
    with pytest.raises(TimeoutError):
        next(iterator)
    ended = time.monotonic()
    assert ended - began >= 7
    assert ended - max(arrived, began + 7) < 3
    assert list(iterator) == []


def test_timeout_cancels_the_rest(make_executor: MakeExecutor, gate: Gate) -> None:
    """After TimeoutError nobody can ask for the other results, so they do not run."""
    executor = make_executor(1)
    iterator = executor.map(gate.hold, range(8), timeout=0)

    with pytest.raises(TimeoutError):
        next(iterator)
    gate.open()
    executor.shutdown()
    assert "7" not in gate.arrivals()


def test_closing_the_iterator_cancels_the_rest(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """An iterator that is closed after its first item cancels what is pending."""
    executor = make_executor(1)
    gate.open(0)
    iterator = executor.map(gate.hold, range(8))

    assert next(iterator) == 0
    cast("Generator[int]", iterator).close()
    gate.open()
    executor.shutdown()
    assert "7" not in gate.arrivals()


def test_iterator_that_nobody_reads_still_runs(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """Dropping an iterator before its first item cancels nothing."""
    gate.open()

    with make_executor(2) as executor:
        executor.map(gate.hold, range(3))
    assert gate.arrivals() == {"0", "1", "2"}


def test_iterator_can_be_read_after_shutdown(make_executor: MakeExecutor) -> None:
    """The results are there when the executor is gone."""
    with make_executor(2) as executor:
        iterator = executor.map(abs, [-1, -2])

    assert list(iterator) == [1, 2]
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        executor.map(abs, [-1])


@needs_buffersize
@pytest.mark.parametrize(
    ("buffersize", "error", "message"),
    [
        ("2", TypeError, "buffersize must be an integer or None"),
        (1.5, TypeError, "buffersize must be an integer or None"),
        (0, ValueError, "buffersize must be None or > 0"),
        (-1, ValueError, "buffersize must be None or > 0"),
    ],
)
def test_bad_buffersize_raises(
    executor: Executor, buffersize: object, error: type[Exception], message: str
) -> None:
    """The call of map itself refuses what is no positive integer."""
    with pytest.raises(error, match=message):
        _map(executor, abs, [1], buffersize=buffersize)


@needs_buffersize
def test_buffersize_bounds_what_is_read_ahead(make_executor: MakeExecutor) -> None:
    """So many items are taken at once, and one more for each result asked for."""
    executor = make_executor(2)
    numbers = calls.count_up()

    iterator = _map(executor, calls.identity, numbers, buffersize=2)

    assert next(numbers) == 2
    assert next(iterator) == 0
    assert next(numbers) == 4
    assert [next(iterator), next(iterator)] == [1, 3]


@needs_buffersize
def test_buffersize_counts_chunks(make_executor: MakeExecutor) -> None:
    """With a chunksize, the buffer holds so many chunks."""
    numbers = calls.count_up()

    iterator = _map(
        make_executor(2), calls.identity, numbers, buffersize=2, chunksize=3
    )

    assert next(numbers) == 6
    assert next(iterator) == 0


@needs_buffersize
@pytest.mark.parametrize("buffersize", [None, 1, 9])
def test_buffersize_does_not_change_the_results(
    executor: Executor, buffersize: int | None
) -> None:
    """Smaller and larger than the number of calls, and none at all."""
    iterator = _map(executor, pow, range(3), [2] * 3, buffersize=buffersize)

    assert list(iterator) == [0, 1, 4]


@needs_buffersize
def test_buffered_map_over_nothing_is_empty(executor: Executor) -> None:
    """No iterables and empty ones end at once."""
    assert list(_map(executor, abs, buffersize=2)) == []
    assert list(_map(executor, abs, [], buffersize=2)) == []


@needs_buffersize
def test_full_buffer_survives_shutdown(make_executor: MakeExecutor) -> None:
    """What was read ahead is there after shutdown; reading more is an error then."""
    numbers = calls.count_up()
    with make_executor(2) as executor:
        iterator = _map(executor, calls.identity, numbers, buffersize=2)

    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        next(iterator)


def _map(executor: Executor, fn: Any, *iterables: Any, **options: Any) -> Iterator[Any]:
    # Type stubs before Python 3.14 do not know buffersize.
    results: Iterator[Any] = cast("Any", executor).map(fn, *iterables, **options)
    return results
