"""Calls that workers run: a pool for each kind of jobs, with the methods of `Jobs`."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.jobs import Jobs
from slurm_futures.pool.open_entries import Entry
from slurm_futures.pool.pool import Pool
from slurm_futures.pool.settings import PoolSettings
from slurm_futures.schedulers.sbatch_options import Kind


class Pools:
    """Runs calls by workers, which `jobs` starts.

    Args:
        jobs: makes the workers.
        settings: how they live.
    """

    def __init__(self, jobs: Jobs, settings: PoolSettings) -> None:
        self._jobs = jobs
        self._settings = settings
        self._pools: dict[Kind, Pool] = {}

    def put(self, kind: Kind, label: str, requests: list[JobRequest]) -> None:
        """Let workers run these calls."""
        for request in requests:
            request.future._wait_again()
        pool = self._pool(kind)
        pool.put(label, requests)
        self._jobs.poller.attend(pool)
        if self._jobs.lifecycle.stopped is not None:  # maybe just now
            self._jobs.poller.stop(self._jobs.lifecycle.stopped)

    def _pool(self, kind: Kind) -> Pool:
        pool = self._pools.get(kind)
        if pool is None:
            pool = Pool(kind, self._settings, self._jobs)
            pool = self._pools.setdefault(kind, pool)
        return pool

    def hold_back(self, future: SlurmFuture[Any]) -> None:
        """See that no call of a future begins, before the poller withdraws them."""
        for pool in self._all():
            pool.hold_back(future)

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all calls, and cancel the workers."""
        self._jobs.stop(error)

    def close(self) -> None:
        """Hear that no more calls will come: workers end when nothing is left."""
        for pool in self._all():
            pool.close()

    # The poller's thread.

    def _all(self) -> list[Pool]:
        return list(self._pools.values())

    def cancel(self, future: SlurmFuture[Any]) -> None:
        """Withdraw the calls of a cancelled future; end the worker that runs one."""
        for pool in self._all():
            pool.cancel(future)

    def has_outcome(self, future: SlurmFuture[Any]) -> bool:
        """Whether all calls of a future are over, as their files say."""
        known = [each for pool in self._all() for each in pool.look_for(future)]
        return bool(known) and all(known)

    def withdraw(self, future: SlurmFuture[Any]) -> bool:
        """Withdraw the calls of a future that no worker has; return whether one has.

        Then those of a chunk that were withdrawn count as cancelled, in whatever pool
        they were.
        """
        results = [pool.withdraw(future) for pool in self._all()]
        has_begun = any(begun for _, begun in results)
        withdrawn = [entry for entries, _ in results for entry in entries]
        if has_begun:
            _settle_as_cancelled(withdrawn)
        return has_begun

    def note_full(self) -> None:
        """Let workers without calls end, since other jobs wait for their places."""
        for pool in self._all():
            self._jobs.poller.call(pool.give_way)

    def end(self) -> None:
        """Cancel the workers; their calls have been cancelled before."""
        for pool in self._all():
            pool.end_workers()


def _settle_as_cancelled(entries: list[Entry]) -> None:
    """Settle calls that were withdrawn before they began."""
    for entry in entries:
        for position in entry.positions:
            entry.future._settle(position, Outcome(exception=CancelledError()))
