"""One squeue for all executors of a process, at most once in each interval.

Executors subscribe while they have open jobs. A thread exists only while somebody
waits for a snapshot; it is a daemon, so that a squeue that hangs never holds up the
end of the program. A failed query is no news: it is told once in a while, asked again
later and later, and nobody is called.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, ClassVar

from slurm_futures.errors import SchedulerError
from slurm_futures.jobs.threads import WorkThread
from slurm_futures.jobs.timing import Timing
from slurm_futures.schedulers.base import Scheduler, Snapshot

logger = logging.getLogger("slurm_futures")

Subscriber = Callable[[Snapshot], None]


class QueueCache:
    """Asks a scheduler for its jobs on behalf of many.

    Subscribers are called in the thread of the cache, with every good snapshot; they
    must not block. All state is guarded by `_changed`; no lock is held while the
    scheduler is asked or a subscriber is called.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[Hashable, QueueCache]] = (
        weakref.WeakValueDictionary()
    )

    @classmethod
    def of(cls, scheduler: Scheduler, timing: Timing) -> QueueCache:
        """Return the cache that all schedulers of the same identity share.

        Without a lock, since the thread of a caller may be interrupted. So two threads
        that are the first at the same moment may get one each: a squeue more, for once.
        """
        cache = cls._shared.get(scheduler.identity)
        if cache is None:
            cache = cls._shared.setdefault(scheduler.identity, cls(scheduler, timing))
        return cache

    @classmethod
    def forget_all(cls) -> None:
        """Start anew in a forked child, which has no thread of its parent."""
        cls._shared = weakref.WeakValueDictionary()

    def __init__(self, scheduler: Scheduler, timing: Timing) -> None:
        self._scheduler = scheduler
        self._timing = timing
        self._changed = threading.Condition()
        self._wishes: dict[Subscriber, tuple[float, float]] = {}  # when, interval
        self._thread: WorkThread[None] = WorkThread(
            self._serve, "slurm_futures-queue", daemon=True
        )
        self._asked_at = -float("inf")
        self._failures = 0
        self._warned_at = -float("inf")

    def ask(
        self, subscriber: Subscriber, at: float, interval: float | None = None
    ) -> None:
        """Wish for a snapshot taken at this time (monotonic seconds) or soon after.

        It comes no sooner than the interval of the subscriber allows (None: that of the
        scheduler). Of several wishes of the same subscriber the earliest counts.
        """
        wish = at, self._scheduler.poll_interval if interval is None else interval
        with self._changed:
            self._wishes[subscriber] = min(wish, self._wishes.get(subscriber, wish))
            self._changed.notify()
        self._thread.start()

    def revive(self) -> None:
        """Start the thread if wishes wait since there could be none.

        Results are found without the queue.
        """
        if self._wishes and not self._thread.exists:
            self._thread.start()

    def forget(self, subscriber: Subscriber) -> None:
        """Drop the wish of a subscriber that has no open jobs any more."""
        with self._changed:
            self._wishes.pop(subscriber, None)
            self._changed.notify()

    def _serve(self) -> None:
        while self._wait_until_due():
            snapshot = self._query()
            if snapshot is not None:
                for subscriber in self._granted(snapshot):
                    subscriber(snapshot)

    def _wait_until_due(self) -> bool:
        """Sleep until a query is due; return False once nobody wants one."""
        with self._changed:
            while self._wishes:
                due = min(
                    max(self._earliest(interval), at)
                    for at, interval in self._wishes.values()
                )
                delay = due - time.monotonic()
                if delay <= 0:
                    return True
                self._changed.wait(delay)
            return False

    def _earliest(self, interval: float) -> float:
        if self._failures:
            backoff = interval * 2 ** min(self._failures - 1, 10)
            interval = max(interval, min(backoff, self._timing.longest_query_backoff))
        return self._asked_at + interval

    def _query(self) -> Snapshot | None:
        try:
            snapshot = self._scheduler.query()
        except Exception as error:  # noqa: BLE001  (a failed query is no news)
            self._failures += 1
            self._tell(error)
            return None
        finally:
            # A slurmctld that takes a minute to answer is given a rest, too.
            self._asked_at = time.monotonic()
        self._failures = 0
        if snapshot.silent and self._may_warn():
            names = ", ".join(sorted(map(str, snapshot.silent)))
            logger.warning("no answer from cluster %s; its jobs are left alone", names)
        return snapshot

    def _may_warn(self) -> bool:
        now = time.monotonic()
        if now - self._warned_at <= self._timing.query_warning:
            return False
        self._warned_at = now
        return True

    def _tell(self, error: Exception) -> None:
        if isinstance(error, SchedulerError) and self._failures == 1:
            logger.info("the queue is not known for now: %s", error)
        elif self._may_warn():
            logger.warning(
                "the queue could not be read %d times in a row; results are still "
                "collected, and jobs that vanish are noticed later: %s",
                self._failures,
                error,
            )

    def _granted(self, snapshot: Snapshot) -> list[Subscriber]:
        """Take the wishes that this snapshot fulfils."""
        with self._changed:
            granted = [
                subscriber
                for subscriber, (at, _) in self._wishes.items()
                if at <= snapshot.started_at
            ]
            for subscriber in granted:
                del self._wishes[subscriber]
            return granted


os.register_at_fork(after_in_child=QueueCache.forget_all)


class Subscription:
    """The wishes of one poller; snapshots arrive in its inbox.

    Args:
        scheduler: whose jobs are asked for.
        inbox: where snapshots go.
        timing: when to ask again after a failure.
    """

    def __init__(
        self, scheduler: Scheduler, inbox: SimpleQueue[Any], timing: Timing
    ) -> None:
        self._scheduler = scheduler
        self._put = inbox.put
        self.cache = QueueCache.of(scheduler, timing)

    def ask(self, delay: float) -> None:
        """Wish for a snapshot after these seconds, or as soon as one is allowed."""
        interval = self._scheduler.poll_interval
        self.cache.ask(self._put, time.monotonic() + delay, interval)

    def ask_later(self, factor: float = 1.0) -> None:
        """Wish for one after the interval of the scheduler, or so many times that."""
        self.ask(self._scheduler.poll_interval * factor)

    def drop(self) -> None:
        """Wish for nothing any more."""
        self.cache.forget(self._put)
