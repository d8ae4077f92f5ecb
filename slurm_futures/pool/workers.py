"""The workers of a pool: how many there are, what they run, and whether they help."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.errors import (
    JobCancelled,
    PendingTimeout,
)
from slurm_futures.jobs.job import Job, JobOrder
from slurm_futures.jobs.jobs import Jobs
from slurm_futures.jobs.settler import first_line
from slurm_futures.node.formats import SERVE_POOL
from slurm_futures.node.pool_worker import worker_of
from slurm_futures.pool.settings import PoolSettings
from slurm_futures.pool.worker_job import Worker, WorkerEnds
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.schedulers.quantities import parse_time
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

#: So many workers in a row that end before they have taken a call, although one waits,
#: or cannot use their files, show that there is no use in the next one; if no worker
#: is left, calls fail then.
_BARREN = 3
#: So many workers are known before those that have ended are looked through.
_MANY = 100


@dataclass(slots=True)
class _Record:
    """What is known of a worker that may have taken calls.

    Attributes:
        job: its job, if that is known.
        proven: it has taken a call.
        ended: it has ended; then with what error.
        first: the first call that was not in the queue when it ended.
    """

    job: Job | None = None
    proven: bool = False
    ended: bool = False
    error: BaseException | None = None
    first: int = 0


class Workers:
    """The workers of one pool.

    `scale` is called by the feeder and the poller, `cancel_owner` by any thread, all
    else by the poller. The lock guards the list of workers, and is never held while a
    future is settled or a job is started.

    Args:
        kind: what jobs they are.
        settings: how they live.
        jobs: starts them.
        ends: hears of their ends.
    """

    def __init__(
        self, kind: Kind, settings: PoolSettings, jobs: Jobs, ends: WorkerEnds
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._jobs = jobs
        self._ends = ends
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._no_more = False
        self._unwanted: set[str] = set()  # names of those whose jobs are not known yet
        self._records: dict[str, _Record] = {}  # by their names
        self._many = _MANY
        self._useless_since: float | None = None  # monotonic seconds
        self._told: set[tuple[type[BaseException], object]] = set()
        self._barren = 0
        self._broken = 0
        self._pause = 0.0  # seconds between two attempts; 0: there is no need to wait
        self._resume_at: float | None = None  # monotonic seconds

    def scale(
        self, work: int, directory: PoolDirectory, first: int, label: str
    ) -> None:
        """Start workers where there are fewer than there is work for.

        After a row of failures there is one at a time, later and later.

        Args:
            work: how many calls are open.
            directory: the queue.
            first: the first call that is not in the queue yet.
            label: what the calls are called.
        """
        if work:
            self._useless_since = None
        with self._lock:
            alive = [each for each in self._workers if not each.done]
            missing = min(self._settings.max_workers, work) - len(alive)
            if missing <= 0 or self._no_more or not (allowed := self._allow()):
                return
            new = [
                Worker(directory, first, self._jobs, self._ends)
                for _ in range(min(missing, allowed))
            ]
            self._workers = self._workers + new
        try:
            call = self._serve(directory)
            orders = [JobOrder(each, [call]) for each in new]
            self._jobs.start(self._kind, f"{label}-worker", orders)
        except Exception:
            self._drop(new)
            for each in new:
                each.cancel()
            with self._lock:
                self._slow_down()
            raise

    def _drop(self, workers: list[Worker]) -> None:
        with self._lock:
            self._workers = [each for each in self._workers if each not in workers]

    def _allow(self) -> int:
        """Return how many workers may be started now."""
        if self._resume_at is None:
            return self._settings.max_workers
        if not self.may_resume:
            return 0
        self._resume_at = None
        if not self._pause:
            return self._settings.max_workers
        self._slow_down()
        return 1

    def _slow_down(self) -> None:
        """Wait until the next worker is started, twice as long as the last time."""
        if self._resume_at is None:
            timing = self._jobs.timing
            longer = max(timing.first_worker_pause, 2 * self._pause)
            self._pause = min(longer, timing.longest_worker_pause)
            self._resume_at = time.monotonic() + self._pause

    @property
    def may_resume(self) -> bool:
        """Whether workers that were put off may be started now."""
        return self._resume_at is not None and time.monotonic() >= self._resume_at

    def _serve(self, directory: PoolDirectory) -> PickledCall:
        limit = self._kind.options.get("time")
        settings = (
            str(directory.path),
            self._settings.max_workers,
            self._settings.idle_timeout,
            self._settings.max_calls,
            None if limit is None else _seconds(limit),
        )
        return PickledCall(SERVE_POOL, dump_arguments(settings, {}))

    def note_claim(self, owner: str) -> Job | None:
        """Record that a worker has claimed a call; return its job, if it is known."""
        record = self._record(worker_of(owner))
        if not record.proven:
            record.proven = True
            self.trust()
        if record.job is None:
            self._learn_jobs()
        return record.job

    def _learn_jobs(self) -> None:
        for each in self._workers:
            if each.job is not None:
                self._record(each.name).job = each.job

    def _record(self, name: str) -> _Record:
        return self._records.setdefault(name, _Record())

    def note_result(self) -> None:
        """Record that a worker has run a call: the files of the queue can be used."""
        self._broken = 0

    def trust(self) -> None:
        """Note that workers are of use, or may be again."""
        with self._lock:
            self._barren, self._pause = 0, 0.0
            if self._resume_at is not None:
                self._resume_at = time.monotonic()

    def note_end(self, worker: Worker, first: int) -> None:
        """Record that a worker has ended.

        Args:
            worker: the worker.
            first: the first call that is not in the queue yet.
        """
        if worker.job is not None:
            record = self._record(worker.name)
            record.job, record.ended = worker.job, True
            record.error, record.first = worker.error, first
            self._unwanted.discard(worker.name)
        self._drop([worker])
        if worker.error is not None:
            self._tell(worker.error)

    def _tell(self, error: BaseException) -> None:
        """Warn of an end that its calls may not show: of each kind on a node once."""
        kind = type(error), getattr(error, "node", None)
        if kind not in self._told:
            self._told.add(kind)
            name = type(error).__name__
            logger.warning("a worker has ended: %s: %s", name, first_line(error))

    def has_ended(self, owner: str | None) -> bool:
        """Whether the worker of this name has ended.

        So has one that was forgotten: it took a call after what Slurm calls its end.
        """
        record = self._records.get(worker_of(owner or ""))
        if record is None:
            return False
        if not record.ended and record.job is None:
            all_known = all(each.job is not None for each in self._workers)
            self._learn_jobs()
            return all_known and record.job is None
        return record.ended

    def error_of(self, owner: str) -> BaseException | None:
        """Return with what error a worker has ended."""
        return self._records[worker_of(owner)].error

    @property
    def are_many(self) -> bool:
        """Whether it is worth the effort to forget those that have ended."""
        return len(self._records) > self._many

    def forget_ended(self, owners: set[str], waiting: float) -> None:
        """Forget the workers that have ended, and that no open call can name.

        Args:
            owners: who has taken open calls.
            waiting: the first call of which it is not known who has taken it.
        """
        names = set(map(worker_of, owners))
        self._records = {
            name: each
            for name, each in self._records.items()
            if not each.ended or name in names or waiting < each.first
        }
        self._many = _MANY + 2 * len(self._records)

    def weigh_end(self, worker: Worker, *, waits: bool) -> bool:
        """Weigh what the end of a worker says about the use of others.

        Args:
            worker: the worker.
            waits: a call that was there before the worker waits still.

        Returns:
            Whether no other one can be had, or would do any better.
        """
        error = worker.error
        # Then it may have given back what it had taken.
        is_broken = isinstance(error, OSError)
        proven = worker.job is not None and self._record(worker.name).proven
        if proven and not is_broken:
            self.trust()
            return False
        if worker.cancelled or isinstance(error, JobCancelled):
            return False
        refused = error is not None and (
            worker.job is None or isinstance(error, PendingTimeout)
        )
        with self._lock:
            self._barren += waits and not refused
            self._broken += is_broken
            of_no_use = max(self._barren, self._broken) >= _BARREN
            hopeless = refused or (waits and of_no_use)
            if hopeless:
                self._slow_down()
        return hopeless

    @property
    def all_ended(self) -> bool:
        """Whether there is no worker now."""
        return all(each.done for each in self._workers)

    @property
    def are_being_sent(self) -> bool:
        """Whether there are workers whose jobs are not known yet."""
        return any(each.job is None and not each.done for each in self._workers)

    def cancel_owner(self, owner: str) -> None:
        """Cancel the worker that runs a call, once its job is known."""
        name = worker_of(owner)
        record = self._records.get(name)
        if not self._cancel(name) and (record is None or not record.ended):
            self._unwanted.add(name)

    def _cancel(self, name: str) -> bool:
        """Cancel a worker; return whether its job is known."""
        for each in self._workers:
            if each.name == name:
                if not each.done:
                    job_id = None if each.job is None else each.job.job_id
                    logger.info("job %s: cancelled with its call", job_id)
                    each.cancel()
                return True
        return False

    @property
    def any_unwanted(self) -> bool:
        """Whether there are workers to cancel whose jobs were not known."""
        return bool(self._unwanted)

    def cancel_unwanted(self, busy: set[str]) -> None:
        """Cancel those whose jobs are known by now.

        Args:
            busy: the workers that run other calls by now; these go on.
        """
        names = set(map(worker_of, busy))
        for name in self._unwanted.copy():
            if name in names or self._cancel(name):
                self._unwanted.discard(name)

    def cancel_useless(self) -> None:
        """Cancel the workers that have not started, as no call is left or will come.

        Those that have were told to end. Some do not: what calls leave behind may keep
        them (an object whose `__del__` takes long), or an initializer.
        """
        now = time.monotonic()
        self._useless_since = self._useless_since or now
        are_late = now - self._useless_since >= self._jobs.timing.linger_patience
        for each in self._workers:
            if not each.done and (are_late or not self._has_started(each)):
                each.cancel()

    def _has_started(self, worker: Worker) -> bool:
        record = self._records.get(worker.name)
        return worker.is_running or (record is not None and record.proven)

    def forbid(self) -> list[Worker]:
        """Start no workers any more; return those that there are."""
        with self._lock:
            self._no_more = True
            return list(self._workers)

    def forget_all(self) -> list[Worker]:
        """Forget all workers; return them."""
        with self._lock:
            workers, self._workers = self._workers, []
            self._records = {}
            self._barren, self._broken = 0, 0
            self._pause, self._resume_at = 0.0, None
        return workers


def _seconds(limit: object) -> float | None:
    try:
        return parse_time(limit)
    except ValueError:
        return None  # sbatch will say so
