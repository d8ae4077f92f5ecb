"""Threads that exist only while there is work for them.

An idle executor has no thread at all. So nothing has to be woken when the program
ends: the interpreter waits for threads that still have work, as for any other, and
work that nobody waits for any more ends by itself when the executor is dropped.

Futures may be cancelled anywhere, by the garbage collector (it closes an iterator of
results) or a signal handler: also while this thread holds one of our locks or one of a
future, and in a thread that is just beginning. So all our locks are reentrant, and
under them no method of a future is called and no thread is started: `Thread.start`
waits for the new thread, which may be collecting garbage and want the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from slurm_futures.calls.future import LOOK_AROUND

logger = logging.getLogger("slurm_futures")

Item = TypeVar("Item")

#: Seconds in which a thread begins, or does not begin since its start was interrupted.
_BEGIN_TIMEOUT = 1.0


class ThreadGroup:
    """Counts who is at work for an executor: that nobody is, is one fact.

    A thread that hands work on does so before its own is over, so the count is 0 only
    when nothing is under way. A thread at work that waits for the others counts as
    idle for the others that wait, or two callbacks would wait for each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work: list[
            tuple[threading.Thread, int | None]
        ] = []  # and who starts it
        self._waiting: list[threading.Thread] = []
        self._leaving: list[threading.Thread] = []  # over, but maybe not ended

    def enter(self, thread: threading.Thread, starter: int | None = None) -> None:
        """Count a thread.

        Args:
            thread: at work from now on; it may be about to start.
            starter: the identifier of the thread that starts it.
        """
        with self._changed:
            self._at_work.append((thread, starter))

    def leave(self, thread: threading.Thread, *, ends: bool = True) -> None:
        """Count it no more.

        Args:
            thread: whose work is over.
            ends: whether it ends now, and `join` should see to that.
        """
        with self._changed:
            found = next((each for each in self._at_work if each[0] is thread), None)
            if found is None:
                return
            self._at_work.remove(found)
            if ends:
                alive = [each for each in self._leaving if each.is_alive()]
                self._leaving = [*alive, thread]
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until nobody is at work; called by one of them, until no other is."""
        me = threading.current_thread()
        with self._changed:
            self._waiting.append(me)
            self._changed.notify_all()
        try:
            with self._changed:
                while not self._is_idle(me):
                    self._changed.wait(LOOK_AROUND)
                leaving, self._leaving = self._leaving, []
        finally:
            with self._changed:
                self._waiting.remove(me)
        for each in leaving:
            while each is not me and each.is_alive():
                each.join(LOOK_AROUND)

    def _is_idle(self, me: threading.Thread) -> bool:
        at_work = [
            thread
            for thread, starter in self._at_work
            # A signal has interrupted this thread where it starts that one.
            if thread.ident is not None or starter != me.ident
        ]
        if me not in at_work:
            return not at_work
        return all(each is me or each in self._waiting for each in at_work)


@dataclass(frozen=True, slots=True, eq=False)
class _Runner:
    """Who does the work."""

    thread: threading.Thread
    #: The identifier of the thread that starts it.
    starter: int
    #: Whether the thread ends with the work, or goes on with something else.
    ends: bool = True


class WorkThread:
    """A thread that is started when there is work, and ends when there is none.

    Where no thread can be started (the system has no more; CPython 3.12.0 and 3.12.1
    start none while a program ends, gh-113964) the calling thread does the work.

    Args:
        work: what it does; it calls `end` once there is nothing left to do.
        name: of the thread.
        lock: of the owner, a reentrant one. `work` finds that nothing is left and calls
            `end` without letting go of it in between.
        group: counts the thread while it is at work; None: nobody waits for it.
        daemon: whether the end of the program does not wait for it.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        lock: AbstractContextManager[object],
        group: ThreadGroup | None = None,
        *,
        daemon: bool = False,
    ) -> None:
        self._work = work
        self._name = name
        self._lock = lock
        self._group = group
        self._daemon = daemon
        self._runner: _Runner | None = None

    @property
    def exists(self) -> bool:
        """Whether somebody does the work."""
        return self._runner is not None

    def start(self) -> bool:
        """See that somebody does the work that is there now; called without the lock.

        Returns:
            False if no thread can be started. The caller does without, or calls
            `work_here`.
        """
        mine = None
        try:
            with self._lock:
                runner = self._runner
                if runner is None:
                    mine = self._new_runner()
                    runner = self._appoint(mine)
            if runner is mine:
                mine.thread.start()
                return True
        except RuntimeError as error:
            logger.info("%s: no thread for it: %s", self._name, error)
            self._dismiss(mine)
            return False
        except BaseException:  # Ctrl-C, mostly when the thread is about to begin
            if mine is not None and not self._begins(mine):
                self._dismiss(mine)
            raise
        if runner.starter == threading.get_ident():
            return True  # we interrupt this thread where it starts the other
        return self._begins(runner) or self._runner is runner

    def _new_runner(self) -> _Runner:
        thread = threading.Thread(
            target=self._run, name=self._name, daemon=self._daemon
        )
        return _Runner(thread, threading.get_ident())

    def _appoint(self, runner: _Runner) -> _Runner:
        """Return who does the work from now on: this one, unless there is another."""
        with self._lock:
            if self._runner is None:  # no garbage collection between these lines
                self._runner = runner
                if self._group is not None:
                    self._group.enter(runner.thread, runner.starter)
            return self._runner

    def _dismiss(self, runner: _Runner | None) -> None:
        with self._lock:
            if runner is not None and self._runner is runner:
                self._runner = None
                self._leave(runner)

    def _leave(self, runner: _Runner) -> None:
        if self._group is not None:
            begun = runner.thread.ident is not None
            self._group.leave(runner.thread, ends=begun and runner.ends)

    def _begins(self, runner: _Runner) -> bool:
        """Whether a thread begins that is being started somewhere."""
        deadline = time.monotonic() + _BEGIN_TIMEOUT
        while runner.thread.ident is None:
            if self._runner is not runner or time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def _run(self) -> None:
        runner = self._runner
        if runner is None or runner.thread is not threading.current_thread():
            return  # it begins late, after an interrupted start: others do the work
        try:
            self._work()
        finally:
            self._dismiss(runner)  # after an error; otherwise `end` has done so

    def work_here(self) -> None:
        """Do the work in this thread, unless somebody does it."""
        mine = _Runner(threading.current_thread(), threading.get_ident(), ends=False)
        if self._appoint(mine) is not mine:
            return
        try:
            self._work()
        finally:
            self._dismiss(mine)

    def end(self) -> None:
        """Note that the work is over; called by it, under the lock."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._leave(runner)


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
        self._lock = threading.RLock()
        self._items: list[Item] = []
        self._thread = WorkThread(self._run, name, self._lock, group)

    def put(self, items: list[Item]) -> None:
        """Let these items be delivered soon; called from any thread."""
        with self._lock:
            self._items += items
        if not self._thread.start():
            self._thread.work_here()

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
