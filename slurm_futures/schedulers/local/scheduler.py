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

import contextlib
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
from slurm_futures.schedulers.base import JobId, Limits, Snapshot
from slurm_futures.schedulers.local.launch import ARRAY_SIZE, prepare
from slurm_futures.schedulers.local.processes import JobProcess, LogError
from slurm_futures.schedulers.local.queue import LocalQueue
from slurm_futures.schedulers.local.submission import NODE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from slurm_futures.schedulers.base import BatchScript, Ending
    from slurm_futures.schedulers.local.launch import Launch
    from slurm_futures.schedulers.local.submission import LocalJob

_START_PAUSE = 0.5  # seconds until a job is started that could not be
_LOG_ERROR = 53  # the signal that Slurm reports if it cannot open the log
_instances = itertools.count(1)
logger = logging.getLogger("slurm_futures")


class LocalScheduler:
    """A scheduler with one node: this computer.

    Jobs start in the order in which they were submitted, as many at once as there
    are CPUs for. A job that asks for more CPUs than there are is not refused: it
    runs alone. Memory is not watched. Jobs that run when the program ends go on.

    Args:
        cpus: how many CPUs to use; None: all that this process may use.
        min_job_age: ended jobs are remembered for so many seconds.

    Raises:
        OptionError: there is to be no CPU at all.
    """

    def __init__(self, cpus: int | None = None, *, min_job_age: float = 300.0) -> None:
        self._cpus = _usable_cpus() if cpus is None else cpus
        given: object = self._cpus
        if not isinstance(given, int) or given < 1:
            raise OptionError(
                f"With {cpus} CPUs no job could start. "
                "Leave the number out to use all of them: LocalScheduler()."
            )
        if not min_job_age >= 0:
            raise OptionError(f"min_job_age={min_job_age!r} is no time. Write seconds.")
        self._limits = Limits(ARRAY_SIZE, min_job_age)
        self._identity = ("local", next(_instances))
        self._queue = LocalQueue(self._cpus, min_job_age)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LocalScheduler(cpus={self._cpus})"

    @property
    def identity(self) -> Hashable:
        """Each instance has a queue of its own."""
        return self._identity

    @property
    def poll_interval(self) -> float:
        """Seconds between two queries; a query costs next to nothing here."""
        return 0.2

    def limits(self) -> Limits:
        """Say what one submission may hold."""
        return self._limits

    def submit(self, batch: BatchScript) -> JobId:
        """Queue a script; it is copied, so that it may change afterwards."""
        return self._add(prepare(batch, self._cpus))

    def _add(self, launch: Launch) -> JobId:
        with self._lock:
            submission = self._queue.add(launch)
        self._proceed()
        return JobId(submission.number)

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
            problem = self._queue.set_throttle(array.number, limit)
        if problem:
            raise SchedulerError(
                f"The throttle of job {array} cannot be changed: {problem}. "
                "Only a job array that waits or runs has one.",
                exit_code=1,
                stderr=f"{problem} for job {array}\n",
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
        """Take the jobs that can start; remove the scripts that are done with."""
        with self._lock:
            claimed, over = self._queue.claim(), self._queue.take_over()
        for launch in over:
            with contextlib.suppress(OSError):  # what is claimed must start
                launch.script.unlink(missing_ok=True)
        return claimed

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
        except LogError as error:
            logger.warning("job %s: cannot open its log: %s", job, error)
            return 0, _LOG_ERROR
        except OSError as error:
            logger.warning("job %s: cannot start: %s", job, error)
            return error.errno or 1, None
        except Exception:  # else it would keep its CPUs, and never end
            logger.exception("job %s: an error that should not happen", job)
            return 1, None
        with self._lock:
            job.process = process
            stopping = job.stopping
        if stopping is not None:  # cancelled while it was being started
            self._stop_in_background(job)
        if not process.wait(job.submission.launch.time_limit or math.inf):
            self._stop_at_time_limit(job, process)
            process.wait()  # somebody else may be stopping it
        return_code = process.reap()
        return (return_code, None) if return_code >= 0 else (0, -return_code)

    def _start_process(self, job: LocalJob) -> JobProcess:
        """Start a job; wait where this process has no file descriptors left."""
        launch = job.submission.launch
        while True:
            try:
                return JobProcess(
                    launch.command,
                    {**launch.environment, **job.variables()},
                    launch.batch.directory,
                    Path(job.log_path()),
                )
            except OSError as error:
                if not is_passing(error) or job.stopping is not None:
                    raise
                logger.info("job %s: starts later: %s", job, error)
                time.sleep(_START_PAUSE)

    def _stop_at_time_limit(self, job: LocalJob, process: JobProcess) -> None:
        with self._lock:
            stopping = self._queue.stop(job, JobState.TIMEOUT)
        if stopping:  # else it is being cancelled
            _stop(job, process)

    def _stop_in_background(self, job: LocalJob) -> None:
        process = job.process  # None while it is being started; see `_execute`
        if process is not None and not _start_thread(_stop, job, process):
            _stop(job, process)


def _start_thread(target: Callable[..., None], *args: object) -> bool:
    """Start a thread, which Python 3.12 refuses when the main thread has ended."""
    name = f"slurm_futures local job {args[0]}"
    try:
        threading.Thread(target=target, args=args, name=name).start()
    except RuntimeError:
        return False
    return True


def _stop(job: LocalJob, process: JobProcess) -> None:
    cause = " DUE TO TIME LIMIT" if job.stopping is JobState.TIMEOUT else ""
    process.stop(f"JOB {job.number} ON {NODE_NAME}", cause)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
