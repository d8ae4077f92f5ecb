"""Threads that exist only while there is work for them.

An idle executor has no thread at all. So nothing has to be woken when the program
ends: the interpreter waits for threads that still have work, as for any other, and
work that nobody waits for any more ends by itself when the executor is dropped.

The caller's thread may be interrupted anywhere, by Ctrl-C or whatever else a signal
handler raises; a future may be cancelled anywhere, by the garbage collector (it closes
an iterator of results) or in a signal handler. So threads of callers take no lock of
ours and never change our state in two steps. They send a message, which is one step,
and see that somebody reads it. All that is of more than one step happens in our own
threads, where no signal comes.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Generic, TypeVar

from slurm_futures.calls.waiting import LOOK_AROUND, Wakers

logger = logging.getLogger("slurm_futures")

Item = TypeVar("Item")

#: Seconds between two looks whether a thread has ended, and for how long.
_END_PAUSE, _END_PATIENCE = 0.001, 10.0


class ThreadGroup:
    """Knows whether anybody is at work for an executor.

    A thread that hands work on puts it into an inbox before its own work is over: so
    work is always somewhere.
    """

    def __init__(self) -> None:
        self._members: list[WorkThread[Any]] = []
        self._threads: list[threading.Thread] = []  # maybe not ended yet
        self._joining: set[int] = set()  # those of our own threads that wait here
        self._wakers = Wakers()

    def add(self, member: WorkThread[Any]) -> None:
        """Count this one, too."""
        self._members.append(member)

    def note_start(self, thread: threading.Thread) -> None:
        """Hear that a thread is about to start; in any thread."""
        self._threads.append(thread)

    def note_end(self) -> None:
        """Hear that a thread has done its work, and is about to end; called by it."""
        for each in list(self._threads):
            if each.ident is not None and not each.is_alive():
                with contextlib.suppress(ValueError):  # another one has removed it
                    self._threads.remove(each)
        self._wakers.wake()

    def join(self) -> None:
        """Wait until nobody is at work, and the threads have ended.

        Called by one of our own threads (a callback shuts its executor down), it waits
        for the others only, and for none that waits as well.
        """
        me = threading.get_ident()
        besides = (
            self._joining
            if any(each.is_held_by(me) for each in self._members)
            else set[int]()
        )
        besides.add(me)
        self._wakers.wake()  # another one need not wait for this one any more
        try:
            self.wait(besides)
            self._await_ends(besides)
        finally:
            besides.discard(me)

    def wait(self, besides: Collection[int] = ()) -> None:
        """Wait until nobody is at work; an interrupt that CPython overlooks ends it."""
        while not self.is_idle(besides):
            self.revive()
            self._wakers.wait(partial(self.is_idle, besides), LOOK_AROUND)

    def revive(self) -> None:
        """See to work that nobody is at, in this thread if no other can be started."""
        for each in self._members:
            each.revive()

    def is_idle(self, besides: Collection[int] = ()) -> bool:
        """Whether nobody is at work.

        Work that goes from one to the other while this looks is not overlooked: then
        the one that had it has ended a round.

        Args:
            besides: identifiers of threads that do not count.
        """
        rounds = [each.rounds for each in self._members]
        busy = any(each.is_busy(besides) for each in self._members)
        return not busy and rounds == [each.rounds for each in self._members]

    def _await_ends(self, besides: Collection[int]) -> None:
        """Wait for threads to end whose work is over, so that nobody meets them.

        Not by `Thread.join`: an interrupt in it makes CPython 3.11 believe that a
        thread has ended which has not.
        """
        ending = {each for each in list(self._threads) if each.ident is not None}
        deadline = time.monotonic() + _END_PATIENCE
        while (
            any(each.ident not in besides for each in _alive(ending))
            and self.is_idle(besides)
            and time.monotonic() < deadline
        ):
            time.sleep(_END_PAUSE)


def _alive(threads: set[threading.Thread]) -> set[threading.Thread]:
    return threads & set(threading.enumerate())


class WorkThread(Generic[Item]):
    """A thread that is started when there is work, and ends when there is none.

    Args:
        work: what it does with what is in its inbox. It returns once nothing is left to
            do; a message that comes just then lets it begin anew.
        name: of the thread.
        group: waits for it; None: nobody does.
        daemon: whether the end of the program does not wait for it.
        inbox: None: one of its own.

    Attributes:
        inbox: what it has to do.
        rounds: how often it has found nothing left to do.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        group: ThreadGroup | None = None,
        *,
        daemon: bool = False,
        inbox: queue.SimpleQueue[Item] | None = None,
    ) -> None:
        self.inbox = queue.SimpleQueue[Item]() if inbox is None else inbox
        self.rounds = 0
        self._work = work
        self._name = name
        self._group = group
        self._daemon = daemon
        self._again = False  # whether somebody wants it to look once more
        self._baton = threading.Lock()  # who holds it does the work
        self._holder: int | None = None  # the identifier of that thread
        if group is not None:
            group.add(self)

    @property
    def exists(self) -> bool:
        """Whether somebody does the work."""
        return self._baton.locked()

    def is_held_by(self, thread: int) -> bool:
        """Whether the thread with this identifier does the work."""
        return self._holder == thread

    def is_busy(self, besides: Collection[int] = ()) -> bool:
        """Whether there is work, or somebody is at it.

        Args:
            besides: threads that do not count, since they wait for the others.
        """
        # In this order: a message is taken by one that holds the baton.
        waits = self._is_wanted
        return (waits or self._baton.locked()) and self._holder not in besides

    @property
    def _is_wanted(self) -> bool:
        return self._again or not self.inbox.empty()

    def put(self, item: Item) -> bool:
        """Let this be done soon; called from any thread.

        Returns:
            False if no thread can be started. The caller does without, or calls
            `work_here`.
        """
        self.inbox.put(item)
        return self.start()

    def start(self) -> bool:
        """See that somebody looks what there is to do; returns what `put` does."""
        self._again = True  # first: one who is about to end looks at it after that
        if self._baton.locked():
            return True
        thread = threading.Thread(
            target=self._run, name=self._name, daemon=self._daemon
        )
        if self._group is not None:
            self._group.note_start(thread)
        try:
            thread.start()
        except RuntimeError as error:
            logger.info("%s: no thread for it: %s", self._name, error)
            return False
        return True

    def revive(self) -> None:
        """See to messages whose sender was interrupted before he called `start`.

        Or could start no thread.
        """
        if self._is_wanted and not self.start():
            self.work_here()

    def work_here(self) -> None:
        """Do the work in this thread, unless somebody does it.

        Where no thread can be started: the system has no more, or the program ends
        (CPython 3.12.0 and 3.12.1 start none then, gh-113964). What this leaves to
        others comes after it, not within: it may need this thread for new work.
        """
        while self._is_wanted and self._baton.acquire(blocking=False):
            self._holder = threading.get_ident()
            self._again = False
            try:
                self._work()
            finally:
                self._holder = None
                self.rounds += 1
                self._baton.release()
            if self._group is not None and not self._is_wanted:
                self._group.revive()

    def _run(self) -> None:
        try:
            self.work_here()
        except BaseException:
            if self._is_wanted:
                self.start()
            raise
        finally:
            if self._group is not None:
                self._group.note_end()


class Courier(Generic[Item]):
    """Hands all waiting items at once to a function, in a thread of its own.

    While the function is busy new items wait, and go together in the next round.
    `pause` seconds go by before the first round, so that items that come in a loop
    travel together. The function must not raise; if it does, this is logged.
    """

    def __init__(
        self,
        deliver: Callable[[list[Item]], None],
        name: str,
        group: ThreadGroup | None = None,
        pause: float = 0.0,
    ) -> None:
        self._deliver = deliver
        self._name = name
        self._pause = pause
        self._thread: WorkThread[list[Item]] = WorkThread(self._run, name, group)

    def put(self, items: list[Item]) -> None:
        """Let these items be delivered soon; called from any thread."""
        if items and not self._thread.put(items):
            self._thread.work_here()

    def _run(self) -> None:
        if not self._thread.inbox.empty():
            time.sleep(self._pause)
        while items := take_all(self._thread.inbox):
            try:
                self._deliver([each for several in items for each in several])
            except Exception:
                logger.exception("%s: an error that should not happen", self._name)


def take_all(inbox: queue.SimpleQueue[Item]) -> list[Item]:
    """Take all that is in an inbox now."""
    items = []
    with contextlib.suppress(queue.Empty):
        while True:
            items.append(inbox.get_nowait())
    return items
