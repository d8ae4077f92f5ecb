"""Threads that exist only while there is work for them."""

import gc
import threading
from collections.abc import Callable

import pytest

from slurm_futures.jobs.threads import Courier, ThreadGroup
from tests.waiting import assert_soon


@pytest.fixture
def group() -> ThreadGroup:
    """Give a group that counts the threads of a test."""
    return ThreadGroup()


def test_items_that_wait_go_together(group: ThreadGroup) -> None:
    """In the order in which they came."""
    rounds: list[list[int]] = []
    gate = threading.Event()

    def deliver(items: list[int]) -> None:
        rounds.append(items)
        assert gate.wait(60)

    courier = Courier(deliver, "courier", group)
    courier.put([1])
    assert_soon(lambda: rounds)
    courier.put([2])
    courier.put([3, 4])

    gate.set()

    group.join()
    assert rounds == [[1], [2, 3, 4]]


def test_pause_gathers_what_comes_in_a_loop(group: ThreadGroup) -> None:
    """Before the first round."""
    rounds: list[list[int]] = []
    courier = Courier(rounds.append, "courier", group, pause=0.2)

    for number in range(5):
        courier.put([number])

    group.join()
    assert rounds == [[0, 1, 2, 3, 4]]


def test_thread_ends_when_all_is_delivered(group: ThreadGroup) -> None:
    """And the next item starts another one."""
    rounds: list[list[int]] = []
    courier = Courier(rounds.append, "courier", group)
    courier.put([1])
    group.join()
    assert not courier._thread.exists

    courier.put([2])

    group.join()
    assert rounds == [[1], [2]]


def test_error_is_logged_and_the_rest_is_delivered(
    group: ThreadGroup,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bad round does not stop the next."""
    rounds: list[list[int]] = []

    def deliver(items: list[int]) -> None:
        rounds.append(items)
        if items == [1]:
            courier.put([2])
            raise ValueError("not this one")

    courier = Courier(deliver, "courier", group)
    courier.put([1])

    group.join()
    assert rounds == [[1], [2]]
    assert "courier: an error that should not happen" in caplog.text


def test_joining_itself_returns_at_once(group: ThreadGroup) -> None:
    """A callback may shut its own executor down."""
    joined: list[list[int]] = []

    def deliver(items: list[int]) -> None:
        group.join()
        joined.append(items)

    courier = Courier(deliver, "courier", group)
    courier.put([1])

    group.join()
    assert joined == [[1]]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let no thread start until the patch is undone, as with `ulimit -u`."""
    monkeypatch.setattr(threading.Thread, "start", _start_none)
    return monkeypatch


def _start_none(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_threads_the_caller_does_the_work(
    group: ThreadGroup,
    no_threads: pytest.MonkeyPatch,
) -> None:
    """Also what it puts there while it does so; later there are threads again."""
    rounds: list[tuple[list[int], str]] = []

    def deliver(items: list[int]) -> None:
        rounds.append((items, threading.current_thread().name))
        if items == [1]:
            courier.put([2])

    courier = Courier(deliver, "courier", group)
    courier.put([1])
    here = threading.current_thread().name
    assert rounds == [([1], here), ([2], here)]
    group.join()

    no_threads.undo()
    courier.put([3])
    group.join()
    assert rounds[2] == ([3], "courier")


def test_others_wait_for_work_that_has_no_thread(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`join` of another thread returns when the work is done."""
    gate = threading.Event()
    began = threading.Event()
    done: list[list[int]] = []

    def deliver(items: list[int]) -> None:
        began.set()
        assert gate.wait(60)
        done.append(items)

    courier = Courier(deliver, "courier", group)
    joined: list[list[list[int]]] = []

    def join() -> None:
        assert began.wait(60)
        gate.set()
        group.join()
        joined.append(list(done))

    waiter = threading.Thread(target=join)
    waiter.start()
    monkeypatch.setattr(threading.Thread, "start", _start_none)
    courier.put([1])
    waiter.join()
    assert joined == [[[1]]]


@pytest.mark.parametrize("begins", [True, False], ids=["begun", "not begun"])
def test_ctrl_c_in_the_start_of_a_thread_loses_nothing(
    group: ThreadGroup, monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    """Whether the thread has begun or not, the items are delivered once.

    By the thread that the next item starts, or who waits for the end of all work.
    """
    delivered: list[int] = []
    start = threading.Thread.start
    courier = Courier(delivered.extend, "courier", group)

    def interrupt(thread: threading.Thread) -> None:
        if begins:
            start(thread)
        raise KeyboardInterrupt

    def put_and_interrupt(number: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupt)
            with pytest.raises(KeyboardInterrupt):
                courier.put([number])

    put_and_interrupt(1)
    courier.put([2])
    assert_soon(lambda: delivered == [1, 2])
    assert_soon(group.is_idle)
    put_and_interrupt(3)
    group.join()
    assert delivered == [1, 2, 3]


def test_joining_waits_for_a_thread_that_is_being_started(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is there, and cannot be joined yet."""
    start = threading.Thread.start
    starting, gate = threading.Event(), threading.Event()
    delivered: list[int] = []
    courier = Courier(delivered.extend, "courier", group)

    def start_slowly(thread: threading.Thread) -> None:
        if thread.name == "courier":
            starting.set()
            assert gate.wait(60)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    putting = threading.Thread(target=courier.put, args=([1],))
    putting.start()
    assert starting.wait(60)
    opening = threading.Timer(0.05, gate.set)
    opening.start()
    group.join()
    assert delivered == [1]
    putting.join()
    opening.join()


class _PutsWhenCollected:
    """What garbage may do when it is collected."""

    def __init__(self, courier: Courier[int]) -> None:
        self._courier = courier
        self._cycle = self

    def __del__(self) -> None:
        self._courier.put([0])


def test_garbage_collection_may_come_at_any_time(group: ThreadGroup) -> None:
    """It puts more while this thread is putting something."""
    delivered: list[int] = []
    gate = threading.Event()

    def deliver(items: list[int]) -> None:
        assert gate.wait(60)
        delivered.extend(items)

    # No thread is started meanwhile: CPython cannot do that in the middle of a start.
    courier = Courier(deliver, "courier", group)
    courier.put([1])
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            _PutsWhenCollected(courier)
            courier.put([1])
    finally:
        gc.set_threshold(*thresholds)
        gate.set()

    def all_delivered() -> bool:
        gc.collect()  # does nothing if another thread is at it
        group.join()
        return sorted(delivered) == [0] * 200 + [1] * 201

    assert_soon(all_delivered)


def _patch_start(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """Let something happen when the next courier's thread is about to be started."""
    start = threading.Thread.start

    def patched(thread: threading.Thread) -> None:
        if thread.name == "courier":
            monkeypatch.setattr(threading.Thread, "start", start)
            before()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", patched)


def test_signal_in_the_start_of_a_thread_may_put_more(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And wait for the end, which cannot come before the handler returns."""
    rounds: list[tuple[list[int], str]] = []
    joined: list[str] = []
    courier = Courier[int](
        lambda items: rounds.append((items, threading.current_thread().name)),
        "courier",
        group,
    )

    def handle_signal() -> None:
        courier.put([2])
        group.join()
        joined.append("returned")

    _patch_start(monkeypatch, handle_signal)
    courier.put([1])
    group.join()
    assert rounds == [([1, 2], "courier")]
    assert joined == ["returned"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_ends_the_thread_can_be_started_again(group: ThreadGroup) -> None:
    """Whatever it raises, the next item finds a thread."""
    delivered: list[int] = []

    def deliver(items: list[int]) -> None:
        delivered.extend(items)
        if items == [1]:
            raise SystemExit

    courier = Courier(deliver, "courier", group)
    courier.put([1])
    group.join()
    courier.put([2])
    group.join()
    assert delivered == [1, 2]


# Groups.


def test_group_waits_for_work_that_goes_from_thread_to_thread() -> None:
    """One thread ends and another one begins: somebody is at work all the time."""
    group = ThreadGroup()
    gate, ended = threading.Event(), threading.Event()
    last = Courier[int](lambda _: ended.set() if gate.wait(60) else None, "last", group)
    first = Courier[int](last.put, "first", group)
    first.put([1])
    joining = threading.Thread(target=group.join)
    joining.start()
    assert_soon(lambda: not first._thread.exists)
    joining.join(0.05)
    assert joining.is_alive()

    gate.set()

    joining.join(60)
    assert not joining.is_alive()
    assert ended.is_set()


def test_group_waits_until_threads_have_ended() -> None:
    """Their work is over a little earlier."""
    group = ThreadGroup()
    courier = Courier[int](lambda _: None, "courier", group)

    for _ in range(100):
        courier.put([1])
        group.join()
        assert "courier" not in {each.name for each in threading.enumerate()}


def test_members_of_a_group_do_not_wait_for_each_other() -> None:
    """Each waits for the others only, and for none that waits as well."""
    group = ThreadGroup()
    both = threading.Barrier(2, timeout=60)

    def join(_: list[int]) -> None:
        both.wait()
        group.join()

    couriers = [Courier[int](join, name, group) for name in ("one", "other")]
    for each in couriers:
        each.put([1])

    group.join()
    assert not {"one", "other"} & {each.name for each in threading.enumerate()}
