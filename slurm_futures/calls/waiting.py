"""Waits that may be interrupted at any moment, by Ctrl-C or a signal handler.

`threading.Condition` cannot: `__enter__` and `wait` are Python code, and what is raised
between two of their lines leaves the lock taken for ever, or released too often.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

#: Seconds after which a thread that waits looks around. CPython overlooks a signal that
#: comes just before it begins to wait without a timeout, such as Ctrl-C.
LOOK_AROUND = 1.0


class Wakers:
    """Threads that wait for something, each at a lock of its own.

    Each step is a single one for CPython; what an interrupt leaves is a lock that
    nobody waits for, until the next `wake`.
    """

    def __init__(self) -> None:
        self._locks: list[Any] = []

    def wait(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is so; return whether it is.

        Args:
            is_over: asked at first, after each `wake`, and now and then.
            timeout: seconds; None: for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        lock = None
        try:
            while not is_over():
                if lock is None:
                    lock = threading.Lock()
                    lock.acquire()
                    self._locks.append(lock)  # and ask once more: nobody knew of it
                    continue
                left = LOOK_AROUND
                if deadline is not None:
                    left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return False
                if lock.acquire(timeout=left):
                    lock = None
            return True
        finally:
            if lock is not None:
                with contextlib.suppress(ValueError):  # it was woken just now
                    self._locks.remove(lock)

    def wake(self) -> None:
        """Let all look whether it is so now; called once it is."""
        while self._locks:
            try:
                lock = self._locks.pop()
            except IndexError:  # another thread wakes them, too
                return
            lock.release()


class FutureCondition(threading.Condition):
    """The condition of a future, for the code of the standard library.

    `with` takes and releases the lock in one step, and `notify_all` also wakes those
    who wait without the lock.
    """

    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))

    def __init__(self) -> None:
        super().__init__()
        self.wakers = Wakers()

    def notify_all(self) -> None:
        """Let all threads know that the future is done."""
        super().notify_all()
        self.wakers.wake()
