"""The queue that a pool has in use, from its first call to its end.

`Feeder` fills it, `Pool` looks at it. `lock` guards the end of the queue, which is
dropped only while nothing is on its way into it; it is never held while a future is
settled or a file is touched.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from functools import partial
from queue import SimpleQueue
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import JobLost, SlurmFuturesError
from slurm_futures.jobs.jobs import Jobs
from slurm_futures.pool.inspector import PoolInspector
from slurm_futures.pool.open_entries import Entry, OpenEntries
from slurm_futures.pool.workers import Workers
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")


class OpenQueue:
    """The entries of a queue, its workers and its directory.

    Args:
        kind: what jobs the workers are.
        jobs: the parts that all pools share.
        workers: who runs the calls.

    Attributes:
        entries: the calls that are not over.
        inspector: settles them.
        directory: where the queue lies; None: there is none now.
        label: what its calls are called.
        next_number: the number of the next entry.
        coming: requests with their labels, on their way to the feeder.
        is_feeding: whether the feeder has some.
        told_to_end: whether workers that have nothing to do were told to end.
    """

    def __init__(self, kind: Kind, jobs: Jobs, workers: Workers) -> None:
        self.kind = kind
        self.jobs = jobs
        self.workers = workers
        self.entries = OpenEntries()
        self.inspector = PoolInspector(self.entries, workers, jobs.settler, jobs.timing)
        self.lock = threading.RLock()
        self.directory: PoolDirectory | None = None
        self.label = ""
        self.next_number = 0
        self.coming: SimpleQueue[tuple[str, list[JobRequest]]] = SimpleQueue()
        self.is_feeding = False
        self.told_to_end = False

    @property
    def is_open(self) -> bool:
        """Whether calls wait or run."""
        # In this order: the feeder adds entries before it says that it has done so.
        return self.is_fed or bool(self.entries)

    @property
    def is_fed(self) -> bool:
        """Whether calls are on their way into it."""
        # In this order: the feeder says so before it takes them.
        return not self.coming.empty() or self.is_feeding

    def begin(self, label: str) -> PoolDirectory:
        """Make a new directory.

        Raises:
            OSError: it cannot be made.
        """
        self.directory = directory = self.jobs.writer.new_pool(label)
        self.label = label
        self.told_to_end = False
        self.inspector.begin()
        return directory

    def scale(self) -> None:
        """Start the workers that are missing; none while nobody sees what they do."""
        directory = self.directory
        if directory is not None and not self.inspector.is_blind:
            self.workers.scale(
                len(self.entries), directory, self.next_number, self.label
            )

    def cancel(self, future: SlurmFuture[Any]) -> None:
        """Withdraw the calls of a cancelled future; end the worker that runs one."""
        numbers = self.entries.numbers_of(future)
        directory = self.directory
        if directory is None:
            return
        for number in numbers:
            owner = _withdraw(directory, number)
            self.entries.forget(number)
            if owner is not None:
                self.workers.cancel_owner(owner)
        if self.jobs.lifecycle.closed and numbers:
            self.jobs.poller.call(self.close_if_drained)

    def withdraw(self, future: SlurmFuture[Any]) -> tuple[list[Entry], bool]:
        """Withdraw the calls of a future that no worker has.

        Returns:
            What was withdrawn, and whether a worker has others.
        """
        numbers = self.entries.numbers_of(future)
        directory = self.directory  # in this order: what has a number is in it
        withdrawn = [
            entry
            for number in numbers
            if (entry := self.entries.get(number))
            and (directory is None or directory.reserve(number))
            and self.entries.forget(number)
        ]
        if self.jobs.lifecycle.closed and withdrawn:
            self.jobs.poller.call(self.close_if_drained)
        return withdrawn, len(withdrawn) < len(numbers)

    def abandon(
        self, directory: PoolDirectory, error: SlurmFuturesError | None = None
    ) -> None:
        """Fail what is in a directory that is gone, or of no use for another reason."""
        with self.lock:
            if directory is not self.directory:
                return
            # First: the feeder adds entries, and then looks whether it is still this.
            self.directory = None
            entries = self.entries.take_all()
            workers = self.workers.forget_all()
        error = error or JobLost(
            f"The results of calls are lost.\nThe directory {directory.path} was "
            "deleted while they were open.\nSubmit them again, in a directory that is "
            'not cleaned up: SlurmExecutor(directory="...").'
        )
        self.jobs.poller.call(partial(self.fail, entries, error))
        for each in workers:
            each.cancel()
        with contextlib.suppress(OSError):  # workers that nobody can cancel any more
            directory.close()

    def fail(self, entries: list[Entry], error: SlurmFuturesError) -> None:
        """Fail entries that were taken out of the queue; in the poller's thread."""
        for entry in entries:
            self.jobs.settler.fail(entry, range(len(entry.positions)), error)

    def fail_all(self, error: SlurmFuturesError) -> None:
        """Fail all entries; in the poller's thread."""
        self.fail(self.entries.take_all(), error)

    def tell_to_end(self, directory: PoolDirectory) -> None:
        """Let workers end that find nothing to do; on an error the next look does."""
        if self.told_to_end:
            return
        try:
            directory.close()
        except OSError as error:
            logger.info("workers cannot be told to end now: %s", error)
        else:
            self.told_to_end = True

    def close_if_drained(self) -> None:
        """Let the workers end once no calls are left and none will come.

        So too where nobody sees what they do: later calls have another queue.
        """
        is_last = self.jobs.lifecycle.is_last or self.inspector.is_blind
        directory = self.directory
        if not is_last or self.is_open or directory is None:
            return
        self.tell_to_end(directory)
        self.workers.cancel_useless()
        self._drop(directory)

    def _drop(self, directory: PoolDirectory) -> None:
        """Forget the directory, unless a call has come or a worker is left."""
        with self.lock:
            if self.is_open or not self.workers.all_ended:
                return
            self.workers.forget_all()
            self.directory = None
        self.jobs.writer.note_over(directory)


def _withdraw(directory: PoolDirectory, number: int) -> str | None:
    """Withdraw a call; return the worker that runs it, and has to end with it."""
    owner = None
    try:
        if not directory.claim(number):
            owner = directory.owner(number)
        if owner is not None and not directory.withdraw(number, owner):
            owner = None
    except OSError as error:
        logger.debug("call %d is not withdrawn: %s", number, error)
    return owner
