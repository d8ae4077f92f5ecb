"""Threads that exist only while there is work for them."""

import threading

import pytest

from slurm_futures.threads import Courier, join_other
from tests.waiting import assert_soon


def test_items_that_wait_go_together() -> None:
    """In the order in which they came."""
    rounds: list[list[int]] = []
    gate = threading.Event()

    def deliver(items: list[int]) -> None:
        rounds.append(items)
        assert gate.wait(10)

    courier = Courier(deliver, "courier")
    courier.put([1])
    assert_soon(lambda: rounds)
    courier.put([2])
    courier.put([3, 4])

    gate.set()

    courier.join()
    assert rounds == [[1], [2, 3, 4]]


def test_pause_gathers_what_comes_in_a_loop() -> None:
    """Before the first round."""
    rounds: list[list[int]] = []
    courier = Courier(rounds.append, "courier", pause=0.2)

    for number in range(5):
        courier.put([number])

    courier.join()
    assert rounds == [[0, 1, 2, 3, 4]]


def test_thread_ends_when_all_is_delivered() -> None:
    """And the next item starts another one."""
    rounds: list[list[int]] = []
    courier = Courier(rounds.append, "courier")
    courier.put([1])
    courier.join()
    joined_again = courier.join()

    courier.put([2])

    courier.join()
    assert not joined_again
    assert rounds == [[1], [2]]


def test_error_is_logged_and_the_rest_is_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bad round does not stop the next."""
    rounds: list[list[int]] = []

    def deliver(items: list[int]) -> None:
        rounds.append(items)
        if items == [1]:
            courier.put([2])
            raise ValueError("not this one")

    courier = Courier(deliver, "courier")
    courier.put([1])

    courier.join()
    assert rounds == [[1], [2]]
    assert "courier: an error that should not happen" in caplog.text


def test_joining_itself_returns_at_once() -> None:
    """A callback may shut its own executor down."""
    answers: list[bool] = []

    def deliver(items: list[int]) -> None:
        answers.append(courier.join())

    courier = Courier(deliver, "courier")
    courier.put([1])

    courier.join()
    assert answers == [False]


def test_joining_no_thread_says_so() -> None:
    """There was nothing to wait for."""
    assert not join_other(None)
