"""Threads that exist only while there is work for them."""

import gc
import threading
from collections.abc import Callable

import pytest

from slurm_futures.jobs import threads
from slurm_futures.jobs.threads import Courier, ThreadGroup, WorkThread
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
        assert gate.wait(10)

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


def test_joining_waits_for_a_thread_whose_work_is_over(group: ThreadGroup) -> None:
    """Nobody should meet it after that."""
    lock = threading.RLock()
    over, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            thread.end()
        over.set()
        assert go_on.wait(10)

    thread = WorkThread(work, "thread", lock, group)
    thread.start()
    assert over.wait(10)
    joining = threading.Thread(target=group.join)
    joining.start()

    joining.join(0.1)
    assert joining.is_alive()
    go_on.set()
    joining.join(10)
    assert not joining.is_alive()


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
        assert gate.wait(10)
        done.append(items)

    courier = Courier(deliver, "courier", group)
    joined: list[list[list[int]]] = []

    def join() -> None:
        assert began.wait(10)
        gate.set()
        group.join()
        joined.append(list(done))

    waiter = threading.Thread(target=join)
    waiter.start()
    monkeypatch.setattr(threading.Thread, "start", _start_none)
    courier.put([1])
    waiter.join()
    assert joined == [[[1]]]


def test_ctrl_c_in_the_start_of_a_thread_loses_nothing(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the thread has begun or not, the items are delivered once."""
    rounds: list[list[int]] = []
    start = threading.Thread.start
    courier = Courier(rounds.append, "courier", group, pause=0.05)

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    def interrupt(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        courier.put([1])
    monkeypatch.undo()
    courier.put([2])
    group.join()
    assert rounds == [[1, 2]]

    monkeypatch.setattr(threads, "_BEGIN_TIMEOUT", 0.01)
    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        courier.put([3])
    monkeypatch.undo()
    courier.put([4])
    group.join()
    assert rounds == [[1, 2], [3, 4]]


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
            assert gate.wait(10)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    putting = threading.Thread(target=courier.put, args=([1],))
    putting.start()
    assert starting.wait(10)
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
        assert gate.wait(10)
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


def test_thread_that_begins_may_need_the_lock(
    group: ThreadGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It collects garbage first, as any thread may, and `start` waits for it."""
    delivered: list[int] = []
    courier = Courier(delivered.extend, "courier", group)
    monkeypatch.setattr(threads, "_BEGIN_TIMEOUT", 0.01)

    def put_in_another_thread() -> None:
        putting = threading.Thread(target=courier.put, args=([2],))
        putting.start()
        putting.join(10)
        assert not putting.is_alive()

    _patch_start(monkeypatch, put_in_another_thread)
    courier.put([1])
    group.join()
    assert delivered == [1, 2]


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


def test_all_who_put_learn_that_no_thread_can_be_started(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody relies on the thread that another one failed to start."""
    delivered: list[int] = []
    courier = Courier(delivered.extend, "courier", group)
    put_there = threading.Event()

    def put_in_another_thread() -> None:
        courier.put([2])
        put_there.set()

    def fail_while_another_thread_puts() -> None:
        putting.start()
        assert_soon(lambda: courier._items == [1, 2])
        raise RuntimeError("can't start new thread")

    putting = threading.Thread(target=put_in_another_thread)
    _patch_start(monkeypatch, fail_while_another_thread_puts)
    courier.put([1])
    putting.join()
    group.join()
    assert put_there.is_set()
    assert sorted(delivered) == [1, 2]


def test_thread_that_begins_too_late_does_nothing(
    group: ThreadGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its start was interrupted, and another one has taken its place."""
    rounds: list[list[int]] = []
    late: list[threading.Thread] = []
    courier = Courier(rounds.append, "courier", group)
    monkeypatch.setattr(threads, "_BEGIN_TIMEOUT", 0.01)

    def interrupt(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            courier.put([1])
    late[0].start()
    late[0].join()
    assert rounds == []

    courier.put([2])
    group.join()
    assert rounds == [[1, 2]]


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
    last = Courier[int](lambda _: ended.set() if gate.wait(10) else None, "last", group)
    first = Courier[int](last.put, "first", group)
    first.put([1])
    joining = threading.Thread(target=group.join)
    joining.start()
    assert_soon(lambda: not first._thread.exists)
    joining.join(0.05)
    assert joining.is_alive()

    gate.set()

    joining.join(10)
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
    both = threading.Barrier(2, timeout=10)

    def join(_: list[int]) -> None:
        both.wait()
        group.join()

    couriers = [Courier[int](join, name, group) for name in ("one", "other")]
    for each in couriers:
        each.put([1])

    group.join()
    assert not {"one", "other"} & {each.name for each in threading.enumerate()}


def test_who_is_in_a_group_is_waited_for_and_does_not_wait_for_itself() -> None:
    """A caller's thread counts while it hands work on."""
    group = ThreadGroup()
    me = threading.current_thread()
    group.enter(me)
    group.join()
    joining = threading.Thread(target=group.join)
    joining.start()
    joining.join(0.05)
    assert joining.is_alive()

    group.leave(me, ends=False)

    joining.join(10)
    assert not joining.is_alive()
