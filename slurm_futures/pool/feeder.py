"""Writes waiting calls into a queue, as batches, in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial

from slurm_futures.calls.request import JobRequest, fail_requests
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.poller import Watched
from slurm_futures.jobs.threads import WorkThread, take_all
from slurm_futures.jobs.write_patience import WritePatience
from slurm_futures.pool.open_entries import Entry
from slurm_futures.pool.open_queue import OpenQueue
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.runs.writer import not_written

logger = logging.getLogger("slurm_futures")


class Feeder:
    """Feeds a queue; `put` may be called from any thread.

    Args:
        queue: is filled.
        watcher: looks at the queue, once there is something in it.
        enough: so many open entries keep all workers busy.
    """

    def __init__(self, queue: OpenQueue, watcher: Watched, enough: int) -> None:
        self._queue = queue
        self._jobs = queue.jobs
        self._watcher = watcher
        self._enough = enough
        self._thread = WorkThread(
            self._run, "slurm_futures-feeder", queue.jobs.group, inbox=queue.coming
        )
        self._batch = range(0)  # what was written last
        self._patience = WritePatience("calls are written", self._jobs.timing)

    def put(self, label: str, requests: list[JobRequest]) -> None:
        """Let workers run these calls soon."""
        if not self._thread.put((label, requests)):
            self._thread.work_here()

    # The thread.

    def _run(self) -> None:
        self._patience.end()
        if not self._queue.coming.empty():
            time.sleep(self._jobs.timing.feed_pause)
        while not self._queue.coming.empty():
            self._queue.is_feeding = True
            try:
                self._feed(take_all(self._queue.coming))
            finally:
                self._queue.is_feeding = False
            if self._jobs.lifecycle.closed and not self._queue.is_open:
                # There may be no look any more.
                self._jobs.poller.call(self._queue.close_if_drained)
            self._jobs.poller.wake()
            self._gather()

    def _refuse(self, requests: list[JobRequest], error: SlurmFuturesError) -> None:
        """Let the poller fail calls: their callbacks may wait for this thread."""
        self._jobs.poller.call(partial(fail_requests, requests, error))

    def _feed(self, items: list[tuple[str, list[JobRequest]]]) -> None:
        """Write waiting calls into the queue, as one batch."""
        label = items[0][0]
        requests = [
            request
            for _, several in items
            for request in several
            if not request.future.done()
        ]
        self._batch = range(0)
        try:
            if self._jobs.lifecycle.stopped is not None:
                self._refuse(requests, self._jobs.lifecycle.stopped)
            elif requests:
                self._write(label, requests)
                self._queue.scale()
        except Exception as error:
            left = self._withdraw(requests)
            pause = self._patience.pause(error)
            if pause is not None:
                time.sleep(pause)
                self.put(label, left)
            else:
                if not isinstance(error, OSError):
                    logger.exception("an error that should not happen in a queue")
                self._refuse(left, not_written(self._jobs.writer.directory, error))

    def _withdraw(self, requests: list[JobRequest]) -> list[JobRequest]:
        """Take a batch out of the queue; return the requests that no worker has."""
        numbers, self._batch = self._batch, range(0)
        if not numbers:
            return requests
        directory = self._queue.directory
        return [
            request
            for number, request in zip(numbers, requests, strict=True)
            if (directory is None or directory.reserve(number))
            and self._queue.entries.forget(number)
        ]

    def _gather(self) -> None:
        """Let calls gather for longer where the workers have enough to do anyway.

        A loop of submit calls makes fewer batches, each of which every worker opens.
        """
        if len(self._queue.entries) > self._enough and not self._jobs.lifecycle.closed:
            time.sleep(self._jobs.timing.long_feed_pause)

    def _write(self, label: str, requests: list[JobRequest]) -> None:
        """Write a batch; of the requests those are left that belong to it."""
        queue = self._queue
        directory = queue.directory
        if directory is not None and queue.inspector.is_blind and not queue.entries:
            # Nobody would see what becomes of them; all that was there has ended.
            queue.abandon(directory)
            directory = None
        try:
            self._write_to(directory or queue.begin(label), requests)
        except FileNotFoundError:
            is_lost = directory is not queue.directory
            if directory is None or (not is_lost and directory.is_there()):
                raise
            requests[:] = self._withdraw(requests)
            queue.abandon(directory)
            self._write_to(queue.begin(label), requests)

    def _write_to(self, directory: PoolDirectory, requests: list[JobRequest]) -> None:
        queue = self._queue
        if queue.told_to_end:
            directory.reopen()
            queue.told_to_end = False
        first = queue.next_number
        numbers = range(first, first + len(requests))
        directory.add_blocks(numbers)
        queue.next_number = numbers.stop
        queue.entries.add(numbers, self._entries(directory, numbers, requests))
        self._batch = numbers
        # The poller has not seen these if it has just dropped the queue, or stopped.
        if directory is not queue.directory:
            raise FileNotFoundError(f"{directory.path} is not used any more")
        if self._jobs.lifecycle.stopped is not None:
            self._jobs.poller.call(
                partial(queue.fail_all, self._jobs.lifecycle.stopped)
            )
        # Those that were cancelled on their way here had no number yet.
        for request in requests:
            if request.future.done():
                queue.cancel(request.future)
        self._jobs.poller.watch_queue(self._watcher)
        self._write_batch(directory, numbers, requests)
        if not self._is_any_open(numbers):
            # All have failed, are cancelled, or run again: then the poller may just be
            # reading the batch.
            self._jobs.poller.call(partial(_remove_batch, directory, numbers))

    def _write_batch(
        self, directory: PoolDirectory, numbers: range, requests: list[JobRequest]
    ) -> None:
        """Write the file of a batch, under the same name until it works.

        So it does no harm if it was there already, and only the answer was lost.
        """
        calls = [request.calls for request in requests]
        path = directory.batch(numbers)
        while True:
            try:
                self._jobs.writer.write_batch(path, self._queue.kind, calls)
            except FileNotFoundError:
                raise
            except OSError as error:
                pause = self._patience.pause(error)
                if pause is None or not self._is_any_open(numbers):
                    raise
                time.sleep(pause)
            else:
                self._patience.end()
                return

    def _is_any_open(self, numbers: range) -> bool:
        return any(self._queue.entries.get(number) for number in numbers)

    def _entries(
        self, directory: PoolDirectory, numbers: range, requests: list[JobRequest]
    ) -> list[Entry]:
        queue = self._queue
        batch = directory.batch(numbers)
        return [
            Entry(
                request.future,
                request.positions,
                queue.kind,
                queue.label,
                calls=batch,
                index=index,
                number=number,
                entries=queue.entries,
                queue=directory,
            )
            for index, (number, request) in enumerate(
                zip(numbers, requests, strict=True)
            )
        ]


def _remove_batch(directory: PoolDirectory, numbers: range) -> None:
    with contextlib.suppress(OSError):  # it goes with the queue
        directory.remove_batch(numbers)
