"""Calls that long-lived workers claim from a queue of files.

    put(requests) --> feeder --> queue/0-64 ........> workers: claim, run,
                        |                             finished/0-999/7
                        +----> start workers                |
                                                            |
    poller --> look() <--- finished/, claims/ <-------------+
           --> a worker has ended: fail what it ran, start another one

There is one pool for each kind of jobs. A worker that ends before its call is over
fails that call alone, with its own error.

Threads: `put` and `close` are called from anywhere, all else by the poller.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.jobs import Jobs
from slurm_futures.pool.feeder import Feeder
from slurm_futures.pool.inspector import as_ours, nobody_sees
from slurm_futures.pool.open_entries import Entry
from slurm_futures.pool.open_queue import OpenQueue
from slurm_futures.pool.settings import PoolSettings
from slurm_futures.pool.worker_job import Worker
from slurm_futures.pool.workers import Workers
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

#: For each worker so many open calls keep all of them busy.
_ENOUGH = 4


class Pool:
    """The calls of one kind, and their workers.

    Args:
        kind: what jobs the workers are.
        settings: how they live.
        jobs: makes the workers; the pool uses its parts.
    """

    def __init__(self, kind: Kind, settings: PoolSettings, jobs: Jobs) -> None:
        self._kind = kind
        self._jobs = jobs
        self._workers = Workers(kind, settings, jobs, self)
        self._queue = OpenQueue(kind, jobs, self._workers)
        self._feeder = Feeder(self._queue, self, _ENOUGH * settings.max_workers)
        self._gone_since: float | None = None

    # From any thread.

    def put(self, label: str, requests: list[JobRequest]) -> None:
        """Let workers run these calls."""
        self._feeder.put(label, requests)

    def hold_back(self, future: SlurmFuture[Any]) -> None:
        """Claim the calls of a future that no worker has."""
        directory = self._queue.directory
        if directory is not None:
            for number in self._queue.entries.numbers_of(future):
                with contextlib.suppress(OSError):  # the poller tries it once more
                    directory.claim(number)

    def close(self) -> None:
        """Hear that no more calls will come: workers end when there is nothing left."""
        self._jobs.poller.call(self._queue.close_if_drained)

    # The poller's thread.

    def cancel(self, future: SlurmFuture[Any]) -> None:
        """Withdraw the calls of a cancelled future; end the worker that runs one."""
        self._queue.cancel(future)

    def look_for(self, future: SlurmFuture[Any]) -> list[bool]:
        """Return of each entry of a future whether its outcomes are there."""
        directory = self._queue.directory
        return [
            directory is not None and directory.finished.has(number)
            for number in self._queue.entries.numbers_of(future)
        ]

    def withdraw(self, future: SlurmFuture[Any]) -> tuple[list[Entry], bool]:
        """Withdraw the calls of a future that no worker has.

        Returns:
            What was withdrawn, and whether a worker has others.
        """
        return self._queue.withdraw(future)

    @property
    def is_open(self) -> bool:
        """Whether calls wait or run."""
        return self._queue.is_open

    def end_workers(self) -> None:
        """Cancel the jobs of all workers; there will be no others."""
        for each in self._workers.forbid():
            each.cancel()
        if self._queue.directory is not None:
            self._queue.tell_to_end(self._queue.directory)

    def look(self) -> bool:
        """Settle the calls that are over; return whether there are any.

        Raises:
            FileNotFoundError: the directory is not there now.
        """
        directory = self._queue.directory
        if directory is None:
            return False
        inspector = self._queue.inspector
        was_blind = inspector.is_blind
        try:
            news = inspector.look(directory)
            self._gone_since = None
        except FileNotFoundError:
            self._note_gone(directory)
            raise
        if was_blind or (self._workers.may_resume and self._queue.entries.any_waits()):
            self._queue.scale()
        if self._workers.any_unwanted:
            busy, _ = self._queue.entries.owners()
            self._workers.cancel_unwanted(busy)
        self.give_way()
        self._queue.close_if_drained()
        return news

    def _note_gone(self, directory: PoolDirectory) -> None:
        """Note that the queue is not there; for some time this may be an illusion."""
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= self._jobs.timing.gone_grace:
            self._queue.abandon(directory)

    def note_worker_end(self, worker: Worker) -> None:
        """Fail what a worker was running when it ended, and replace it."""
        queue = self._queue
        directory = queue.directory
        if directory is None or worker.queue is not directory:
            queue.scale()
            return
        self._workers.note_end(worker, queue.next_number)
        if worker.job is not None:
            queue.inspector.end_broken_off(directory)
            if worker.error is not None:
                queue.inspector.forget_owner(directory, worker.name)
        waits = queue.entries.any_waits(before=worker.first)
        hopeless = not queue.inspector.is_blind and self._workers.weigh_end(
            worker, waits=waits
        )
        if self._workers.are_many:
            self._workers.forget_ended(*queue.entries.owners())
        # One that cannot see a queue that was deleted says nothing: see `look`.
        if hopeless and self._workers.all_ended and _is_there(directory):
            # Calls that came after it was asked for may have more luck.
            self._workers.trust()
            failed = queue.entries.take_all(before=worker.first)
            queue.fail(failed, as_ours(worker.error or nobody_sees(directory)))
        queue.scale()
        queue.close_if_drained()

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail all calls that are in the queue, and end its workers."""
        if self._queue.directory is not None:
            self._queue.abandon(self._queue.directory, error)

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all calls, and end the workers."""
        self._queue.fail_all(error)
        self.end_workers()

    def give_way(self) -> None:
        """Let workers without calls end, if calls of another kind wait for places.

        Those that run calls end with them. Calls that come later take it back.
        """
        queue = self._queue
        directory = queue.directory
        if (
            directory is not None
            and not queue.told_to_end
            and self._jobs.submitter.is_room_wanted(self._kind)
            and not queue.is_fed
            and not queue.entries.any_waits()
        ):
            queue.tell_to_end(directory)


def _is_there(directory: PoolDirectory) -> bool:
    """Whether a queue is known to be there."""
    with contextlib.suppress(OSError):
        return directory.is_there()
    return False
