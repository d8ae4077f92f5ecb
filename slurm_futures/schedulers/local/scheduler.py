"""Runs the same scripts here, with no Slurm: for laptops and for tests.

    any thread        submit ---> LocalQueue ---> claim
                                     ^              |
                      cancel --------+              v
    a thread for each job that runs  +-- finish <- JobProcess.wait

`LocalScheduler` owns the lock and the threads, `LocalQueue` decides, `JobProcess` is
the processes of one job. The lock is never held while a process is started or
stopped. A thread lives as long as its job, then starts those of the next ones: while
nothing waits or runs there is no thread at all.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_futures.errors import JobState, OptionError, SchedulerError, is_passing
from slurm_futures.node.patience import ANSWERS
from slurm_futures.schedulers.base import NOT_LAUNCHED, JobId, Limits, Snapshot
from slurm_futures.schedulers.local.processes import JobProcess
from slurm_futures.schedulers.local.queue import LocalQueue
from slurm_futures.schedulers.local.submission import LocalJob

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from slurm_futures.schedulers.base import BatchScript, Ending

_START_PAUSE = 0.5  # seconds until a job is started that could not be
_START_PATIENCE = 60.0  # seconds for which that is tried where files cannot be used
_instances = itertools.count(1)
logger = logging.getLogger("slurm_futures")


class LocalScheduler:
    """A scheduler with one node: this computer.

    Jobs start in the order in which they were submitted, as many at once as there
    are CPUs for. A job that asks for more CPUs than there are is not refused: it
    runs alone. Memory is not watched. Jobs that run when the program ends go on.

    Args:
        cpus: how many CPUs to use; None: all that this process may use.

    Raises:
        OptionError: there is to be no CPU at all.
    """

    def __init__(self, cpus: int | None = None) -> None:
        self._cpus = _usable_cpus() if cpus is None else cpus
        given: object = self._cpus
        if not isinstance(given, int) or given < 1:
            raise OptionError(
                f"With {cpus} CPUs no job could start. "
                "Leave the number out to use all of them: LocalScheduler()."
            )
        #: Each instance has a queue of its own.
        self.identity: Hashable = ("local", next(_instances))
        #: Seconds between two queries; a query costs next to nothing here.
        self.poll_interval = 0.2
        self._queue = LocalQueue(self._cpus)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LocalScheduler(cpus={self._cpus})"

    def limits(self) -> Limits:
        """Say what one submission may hold: as much as Slurm could (slurm.conf(5))."""
        return Limits(array_size=4_000_001)

    def submit(self, batch: BatchScript) -> JobId:
        """Queue a script, which must stay as it is until its jobs have ended."""
        with self._lock:
            job_id = self._queue.add(batch)
        self._proceed()
        return job_id

    def query(self) -> Snapshot:
        """List what waits, runs, or has ended lately."""
        started_at = time.monotonic()
        with self._lock:
            return Snapshot(started_at, self._queue.rows())

    def cancel(self, jobs: Collection[JobId]) -> None:
        """End these jobs; return before those that run have obeyed."""
        with self._lock:
            running = self._queue.cancel(jobs)
        for job in running:
            self._stop_in_background(job)
        self._proceed()  # what waited behind the cancelled ones

    def throttle(self, array: JobId, limit: int) -> None:
        """Let at most `limit` tasks of the array run at once; 0 for no limit.

        Raises:
            SchedulerError: the array has ended, or is unknown.
        """
        with self._lock:
            changed = self._queue.set_throttle(array.number, limit)
        if not changed:
            raise SchedulerError(
                f"The throttle of job {array} cannot be changed. "
                "Only a job array that waits or runs has one."
            )
        self._proceed()

    def explain(self, jobs: Collection[JobId]) -> Mapping[JobId, Ending]:
        """Tell how these jobs ended, if that was not too long ago."""
        with self._lock:
            return self._queue.explain(jobs)

    def _proceed(self) -> None:
        """Start what became possible."""
        for job in self._start_threads(self._claim()):
            self._run(job)

    def _claim(self) -> list[LocalJob]:
        """Take the jobs that can start."""
        with self._lock:
            return self._queue.claim()

    def _start_threads(self, jobs: list[LocalJob]) -> list[LocalJob]:
        """Give each job a thread; return those for which there is none."""
        for position, job in enumerate(jobs):
            if not _start_thread(self._run, job):
                return jobs[position:]
        return []

    def _run(self, job: LocalJob) -> None:
        waiting = deque([job])
        while waiting:
            self._run_one(waiting.popleft())
            waiting += self._start_threads(self._claim())

    def _run_one(self, job: LocalJob) -> None:
        logger.debug("job %s: starts", job)
        exit_code, signal = self._execute(job)
        with self._lock:
            self._queue.finish(job, exit_code, signal)
        logger.debug("job %s: exit code %s, signal %s", job, exit_code, signal)

    def _execute(self, job: LocalJob) -> tuple[int, int | None]:
        """Run a job to its end; its exit code and signal, as scontrol shows them."""
        try:
            process = self._start_process(job)
        except OSError as error:  # its log cannot be opened, mostly
            logger.warning("job %s: cannot start: %s", job, error)
            job.problem = str(error)
            return 0, NOT_LAUNCHED
        except Exception:  # it would keep its CPUs, and never end
            logger.exception("job %s: an error that should not happen", job)
            return 1, None
        with self._lock:
            job.process = process
            stopping = job.stopping
        if stopping is not None:  # cancelled while it was being started
            self._stop_in_background(job)
        if not process.wait(job.submission.time_limit or math.inf):
            self._stop_at_time_limit(job)
            process.wait()  # somebody else may be stopping it
        return_code = process.reap()
        return (return_code, None) if return_code >= 0 else (0, -return_code)

    def _start_process(self, job: LocalJob) -> JobProcess:
        """Start a job; wait for file descriptors, and for a file system that fails."""
        batch = job.submission.batch
        # Not on the PATH of the job, which may be any.
        command = ["/bin/bash", str(batch.script), *batch.arguments]
        log = Path(job.log_path())
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            try:
                return JobProcess(command, job.environment(), batch.directory, log)
            except ANSWERS:
                raise
            except OSError as error:
                is_late = time.monotonic() >= deadline and not is_passing(error)
                if is_late or job.stopping is not None:
                    raise
                logger.info("job %s: starts later: %s", job, error)
                time.sleep(_START_PAUSE)

    def _stop_at_time_limit(self, job: LocalJob) -> None:
        with self._lock:
            stopping = self._queue.stop(job, JobState.TIMEOUT)
        if stopping:  # else it is being cancelled
            job.stop()

    def _stop_in_background(self, job: LocalJob) -> None:
        if not _start_thread(LocalJob.stop, job):
            job.stop()


def _start_thread(target: Callable[[LocalJob], None], job: LocalJob) -> bool:
    """Start a thread, which Python 3.12 refuses when the main thread has ended."""
    name = f"slurm_futures local job {job}"
    try:
        threading.Thread(target=target, args=[job], name=name).start()
    except RuntimeError:
        return False
    return True


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
