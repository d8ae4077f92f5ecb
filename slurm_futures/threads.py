"""Threads that exist only while there is work for them.

An idle executor has no thread at all. So nothing has to be woken when the program
ends: the interpreter waits for threads that still have work, as for any other, and
work that nobody waits for any more ends by itself when the executor is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("slurm_futures")

Item = TypeVar("Item")


def join_other(thread: threading.Thread | None) -> bool:
    """Wait for a thread to end, unless there is none or it is the calling one.

    Returns:
        Whether there was a thread to wait for.
    """
    if thread is None or thread is threading.current_thread():
        return False
    thread.join()
    return True


def _started(thread: threading.Thread) -> bool:
    """Start a thread, if that is possible.

    CPython 3.12.0 and 3.12.1 start none while a program ends (gh-113964).
    """
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


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
        self._lock = threading.Lock()
        self._items: list[Item] = []
        self._thread: threading.Thread | None = None

    def put(self, items: list[Item]) -> None:
        """Let these items be delivered soon; called from any thread."""
        with self._lock:
            self._items += items
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name)
                if not _started(self._thread):
                    self._thread = None
            if self._thread is not None:
                return
        self._run()

    def join(self) -> bool:
        """Wait until all is delivered; return whether there was anything to wait for.

        Called from the thread itself it returns at once.
        """
        with self._lock:
            thread = self._thread
        return join_other(thread)

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
                self._thread = None
            return items
