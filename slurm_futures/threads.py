"""Threads that exist only while there is work for them.

An idle executor has no thread at all. So nothing has to be woken when the program
ends: the interpreter waits for threads that still have work, as for any other, and
work that nobody waits for any more ends by itself when the executor is dropped.

Futures may be cancelled anywhere, by the garbage collector (it closes an iterator of
results) or a signal handler, also while this thread holds one of our locks or one of a
future. So all our locks are reentrant, and no method of a future is called under them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

logger = logging.getLogger("slurm_futures")

Item = TypeVar("Item")

#: Seconds after which a thread that waits for another one looks around.
_LOOK_AROUND = 1.0
#: Seconds in which a thread begins whose start was interrupted.
_BEGIN_TIMEOUT = 1.0


class WorkThread:
    """A thread that is started when there is work, and ends when there is none.

    Where no thread can be started (the system has no more; CPython 3.12.0 and 3.12.1
    start none while a program ends, gh-113964) the calling thread does the work.

    Args:
        work: what it does; it calls `end` once there is nothing left to do.
        name: of the thread.
        lock: of the owner, a reentrant one, under which `start` and `end` are called.
        daemon: whether the end of the program does not wait for it.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        lock: AbstractContextManager[object],
        *,
        daemon: bool = False,
    ) -> None:
        self._work = work
        self._name = name
        self._lock = lock
        self._daemon = daemon
        self._runner: threading.Thread | None = None
        self._done_here: threading.Event | None = None

    @property
    def exists(self) -> bool:
        """Whether somebody does the work."""
        return self._runner is not None

    def start(self) -> bool:
        """Start the thread unless it is there; called under the lock.

        Returns:
            False if none can be started. The caller does without, or calls `work_here`
            when it holds no lock any more.
        """
        if self._runner is not None:
            return True
        thread = threading.Thread(
            target=self._work, name=self._name, daemon=self._daemon
        )
        try:
            self._runner = thread
            thread.start()
        except RuntimeError as error:
            logger.info("%s: no thread for it: %s", self._name, error)
            self._runner = None
            return False
        except BaseException:  # Ctrl-C, mostly when the thread is about to begin
            if not _begins(thread):
                self._runner = None
            raise
        return True

    def work_here(self) -> None:
        """Do the work in this thread, unless somebody does it."""
        if self._runner is not None:
            return
        self._runner = threading.current_thread()
        self._done_here = done = threading.Event()
        try:
            self._work()
        finally:
            self._done_here = None
            done.set()

    def end(self) -> None:
        """Take that the work is over; called by it, under the lock."""
        self._runner = None

    def join(self) -> bool:
        """Wait until the work is over, unless this thread does it.

        Returns:
            Whether there was anything to wait for.
        """
        with self._lock:  # of which nobody else is in `start`
            runner, done = self._runner, self._done_here
        if runner is None or runner is threading.current_thread():
            return False
        if runner.ident is None:  # this thread is in `start`, and was interrupted
            return False
        # With timeouts: CPython overlooks a Ctrl-C that comes just before a wait.
        if done is None:
            while runner.is_alive():
                runner.join(_LOOK_AROUND)
        else:
            while not done.wait(_LOOK_AROUND):
                pass
        return True


def _begins(thread: threading.Thread) -> bool:
    deadline = time.monotonic() + _BEGIN_TIMEOUT
    while time.monotonic() < deadline:
        if thread.ident is not None:
            return True
        time.sleep(0.001)
    return False


class Courier(Generic[Item]):
    """Hands all waiting items at once to a function, in a thread of its own.

    While the function is busy new items wait, and go together in the next round.
    `pause` seconds go by before the first round, so that items that come in a loop
    travel together. The function must not raise; if it does, this is logged.
    """

    def __init__(
        self, deliver: Callable[[list[Item]], None], name: str, pause: float = 0.0
    ) -> None:
        self._deliver = deliver
        self._name = name
        self._pause = pause
        self._lock = threading.RLock()
        self._items: list[Item] = []
        self._thread = WorkThread(self._run, name, self._lock)

    def put(self, items: list[Item]) -> None:
        """Let these items be delivered soon; called from any thread."""
        with self._lock:
            self._items += items
            started = self._thread.start()
        if not started:
            self._thread.work_here()

    def join(self) -> bool:
        """Wait until all is delivered; return whether there was anything to wait for.

        Called from the thread itself it returns at once.
        """
        return self._thread.join()

    def _run(self) -> None:
        time.sleep(self._pause)
        while items := self._take():
            try:
                self._deliver(items)
            except Exception:
                logger.exception("%s: an error that should not happen", self._name)

    def _take(self) -> list[Item]:
        with self._lock:
            items, self._items = self._items, []
            if not items:
                self._thread.end()
            return items
