"""Many threads, many executors, and callbacks that submit again and again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from tests.contract.executors import PATIENCE, AnyFuture, MakeExecutor
from tests.contract.gate import Gate
from tests.waiting import assert_soon


def _at_once(count: int, function: Callable[[int], list[int]]) -> list[list[int]]:
    barrier = threading.Barrier(count)

    def run(number: int) -> list[int]:
        barrier.wait(PATIENCE)
        return function(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count), timeout=PATIENCE))


def test_many_threads_submit_at_once(make_executor: MakeExecutor) -> None:
    """Every thread gets its own results."""
    executor = make_executor(2)

    def submit(number: int) -> list[int]:
        futures = [executor.submit(pow, number, power) for power in (1, 2)]
        return [future.result(PATIENCE) for future in futures]

    assert _at_once(6, submit) == [[number, number**2] for number in range(6)]


def test_many_threads_map_at_once(make_executor: MakeExecutor) -> None:
    """Iterators of several threads do not get into each other's way."""
    executor = make_executor(2)

    def submit(number: int) -> list[int]:
        return list(executor.map(pow, [number] * 2, [1, 2], timeout=PATIENCE))

    assert _at_once(4, submit) == [[number, number**2] for number in range(4)]


def test_many_executors_work_at_once(make_executor: MakeExecutor) -> None:
    """Executors of one program know nothing of each other."""

    def submit(number: int) -> list[int]:
        with make_executor(1) as executor:
            return list(executor.map(pow, [number] * 2, [1, 2]))

    assert _at_once(4, submit) == [[number, number**2] for number in range(4)]


def test_callback_submits_again_many_times(make_executor: MakeExecutor) -> None:
    """A chain of callbacks that each submit the next call does not deepen a stack."""
    executor = make_executor(1)
    depth = 100
    ended = threading.Event()
    errors: list[BaseException] = []

    def submit_next(future: AnyFuture) -> None:
        try:
            number = future.result()
            if number == depth:
                ended.set()
            else:
                executor.submit(abs, number + 1).add_done_callback(submit_next)
        except BaseException as error:  # noqa: BLE001  (raised again below)
            errors.append(error)
            ended.set()

    executor.submit(abs, 0).add_done_callback(submit_next)
    assert ended.wait(2 * PATIENCE)
    assert errors == []


def test_threads_that_cancel_meet_those_that_wait(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """All futures end, cancelled or with a result, whoever comes first."""
    executor = make_executor(2)
    futures = [executor.submit(abs, -number) for number in range(8)]

    def cancel_half(number: int) -> list[int]:
        return [future.cancel() for future in futures[number::2]]

    _at_once(2, cancel_half)
    executor.shutdown()
    assert all(future.done() for future in futures)
    results = [future.result() for future in futures if not future.cancelled()]
    assert set(results) <= set(range(8))


def test_submit_races_with_shutdown(make_executor: MakeExecutor) -> None:
    """Each submit either raises, or its future ends."""
    executor = make_executor(2)
    futures: list[AnyFuture] = [executor.submit(abs, -1)]
    refused = threading.Event()

    def submit_until_refused() -> None:
        try:
            while len(futures) < 20:
                futures.append(executor.submit(abs, -1))
        except RuntimeError:
            refused.set()

    thread = threading.Thread(target=submit_until_refused)
    thread.start()
    assert_soon(lambda: len(futures) > 3)
    executor.shutdown()
    thread.join(PATIENCE)
    done, not_done = wait(futures, PATIENCE)
    assert refused.is_set() or len(futures) == 20
    assert not not_done
    assert {future.result() for future in done} == {1}
