"""What functions refer to travels with them, as far as that makes sense."""

import contextvars
import multiprocessing
import pickle
import queue
import socket
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from slurm_futures.calls.pickler import dump


class _Store:
    """An object of a program with something in it that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items = [1, 2]


LOCK, RLOCK, LOCAL = threading.Lock(), threading.RLock(), threading.local()
CONDITION, EVENT = threading.Condition(), threading.Event()
WAITING: queue.Queue[int] = queue.Queue()
SIMPLE: queue.SimpleQueue[int] = queue.SimpleQueue()
WITH_DEFAULT = contextvars.ContextVar("WITH_DEFAULT", default=5)
WITHOUT: contextvars.ContextVar[int] = contextvars.ContextVar("WITHOUT")
CACHED: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
STORE = _Store()
LOCAL.count = 3


def copied(value: Any) -> Any:
    """Return what a job would get."""
    return pickle.loads(dump(value))


def test_global_variables_that_cannot_be_copied_are_made_anew() -> None:
    """As in a process that imports the program; what is around them is copied."""

    def use() -> list[Any]:
        with LOCK, RLOCK, RLOCK, CONDITION, STORE.lock:
            WAITING.put(1)
            SIMPLE.put(2)
            EVENT.set()
        return [
            *(WAITING.get(), SIMPLE.get(), EVENT.wait(1), STORE.items),
            *(vars(LOCAL), WITH_DEFAULT.get(), WITHOUT.get(None), dict(CACHED)),
            *(LOCK, EVENT),
        ]

    with LOCK:  # which is not held there
        *values, lock, event = copied(use)()

    assert values == [1, 2, True, [1, 2], {}, 5, None, {}]
    assert lock is not LOCK
    assert event is not EVENT
    assert not EVENT.is_set()


def test_what_a_pickle_makes_anew_it_makes_once() -> None:
    """Functions that share a lock go on to do so."""
    first, second = copied((lambda: LOCK, lambda: LOCK))

    assert first() is second()


def _synchronized(function: Callable[[], int]) -> Callable[[], int]:
    lock = threading.RLock()

    def locked() -> int:
        with lock:
            return function()

    return locked


def test_lock_of_a_decorator_is_made_anew() -> None:
    """And that of a class."""

    @_synchronized
    def count() -> int:
        return 5

    class Counter:
        lock = threading.Lock()

        def count(self) -> int:
            with self.lock:
                return 7

    assert copied(count)() == 5
    assert copied(Counter)().count() == 7


@pytest.mark.parametrize("value", [LOCK, EVENT, STORE, {"lock": LOCK}])
def test_argument_that_cannot_be_copied_is_refused(value: object) -> None:
    """Whoever passes a lock means that one."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        dump((value,))


class _Proxy:
    """Like those of web frameworks outside of a request."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"__class__", "__reduce_ex__"}:
            return object.__getattribute__(self, name)
        raise RuntimeError(name)

    def __reduce_ex__(self, _: Any) -> Any:
        return str, ("proxy",)


PROXY = _Proxy()


def test_proxy_that_raises_is_left_alone() -> None:
    """It is asked for nothing but what pickle asks for."""
    assert copied(lambda: PROXY)() == "proxy"


def test_error_names_the_variable() -> None:
    """Of the function that uses it, which may be called by the one that was sent."""
    connection = socket.socket()

    def inner() -> None:
        connection.listen()

    def outer() -> None:
        inner()

    with connection, pytest.raises(TypeError, match="socket") as caught:
        dump(outer)

    (note,) = caught.value.__notes__
    assert note.endswith("<locals>.inner uses 'connection', which cannot be sent")


def test_error_of_an_argument_names_no_variable() -> None:
    """A function that can be sent is not blamed."""
    with pytest.raises(TypeError) as caught:
        dump((lambda: LOCK, threading.Lock()))

    assert not hasattr(caught.value, "__notes__")


def test_connection_is_refused() -> None:
    """Its descriptor would be another file in the job."""
    ours, theirs = multiprocessing.Pipe()

    with ours, theirs, pytest.raises(TypeError, match="cannot use it"):
        dump((ours,))


def test_code_by_value_keeps_its_file_and_lines() -> None:
    """A traceback from a job shows the line of the program that raised."""
    function = cloudpickle.loads(dump(lambda: 1 / 0))

    with pytest.raises(ZeroDivisionError) as raised:
        function()

    text = "".join(traceback.format_exception(raised.value))
    assert f'File "{__file__}"' in text
    assert "function = cloudpickle.loads(dump(lambda: 1 / 0))" in text
