"""SlurmExecutor: the interface of `concurrent.futures.Executor` to Slurm jobs.

    caller's thread        submitter thread        shared files            Slurm, node
    submit(fn, *args)
      pickle, outbox ----> group into one
      return future        submission  ----------> script.sh, calls.pkl
                           sbatch -------------------------------------> jobs start
                           Job -----> inbox                              worker.py
                                        |                                  |
                               poller thread                               |
                                 look   <---- finished/ <------------------+
                                 judge        snapshot (one squeue for all)
                                 act   ---> set_result / set_exception / scancel

Who does what: `SlurmExecutor` pickles calls and hands them on. `Submitter` makes
submissions out of what waits. `Poller` alone settles futures, by the rules of
`jobs/judge.py`. `Writer` owns the files, a `Scheduler` all commands, and `Session`
holds these together. Threads exist only while there is work for them.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    TypeVarTuple,
    overload,
)

from slurm_futures.calls.awaited import AwaitedRequest, pickle_or_await, request_of
from slurm_futures.calls.bootstrapping import check_bootstrapped
from slurm_futures.calls.call import function_name
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.mapping import (
    Chunk,
    check_map,
    choose_chunksize,
    chunked,
    make_request,
    pickle_function,
    results,
)
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.calls.shared_objects import CallPickler, pickle_call
from slurm_futures.calls.usage import UsageSummary
from slurm_futures.errors import JobCancelled
from slurm_futures.jobs.jobs import JobSettings
from slurm_futures.jobs.retries import Retries
from slurm_futures.jobs.timing import Timing
from slurm_futures.pool.settings import check_workers, pool_settings
from slurm_futures.runs.place import check_directory
from slurm_futures.runs.script import ScriptTemplate, python_words, setup_lines
from slurm_futures.runs.writer import (
    Keep,
    Writer,
    check_keep,
    clean_name,
    current_directory,
)
from slurm_futures.schedulers.arguments import check_seconds, check_switch, full_path
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.choice import choose_scheduler, has_steps
from slurm_futures.schedulers.sbatch_options import Kind, OptionValue, SbatchOptions
from slurm_futures.session import Session

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: What `_max_workers` says when there is no limit. Libraries read this attribute of
#: the standard executors to see how many calls are worth submitting at once.
_MANY = 1000


class SlurmExecutor(Executor):
    """Runs calls as Slurm jobs; a drop-in for `ProcessPoolExecutor`.

    Args:
        max_workers: at most so many jobs of this executor at the same time; None: as
            many as Slurm starts.
        mp_context: accepted for compatibility, not used.
        initializer: called with `initargs` in each job before its calls.
        max_tasks_per_child: calls for each job: 1, a job of its own for each call;
            None, `max_workers` long-lived workers take call after call (without
            `max_workers` it is 1); n, the same, but a worker ends after n calls and
            another one takes its place.
        directory: where runs keep their files; must be shared with the nodes.
        scheduler: "slurm", "local" (run the jobs on this machine) or a `Scheduler`;
            None: the environment variable SLURM_FUTURES_SCHEDULER, else Slurm.
        python: the command that starts Python on the nodes, a path or its words.
        setup: shell lines that come before it, such as "module load gcc". One that
            fails ends the job, unless `|| true` or `set +e` say that it may.
        template: file of a Jinja2 template that extends ours: `{% extends base %}`.
        srun: start the calls as a job step with srun, not in the batch step.
        keep: which files stay after shutdown: those of jobs in which a call "failed",
            with the script and the calls of their submissions, "always" all, or "never"
            any.
        idle_timeout: seconds without a call after which a worker ends.
        progress: show a line on stderr that counts the calls.
        poll_interval: seconds between two calls of squeue by this process; None: 5.
        grace: seconds to wait for the files of a job that is over, as Slurm says, and
            in a job for a file system that fails.
        pending_timeout: seconds after which a job that is still pending is cancelled
            and its calls fail; None: jobs may wait for ever.
        retries: how often a call is tried again whose job ended without an outcome
            (other than by scancel); or counts by class of error, or a `Retries`.
        **sbatch_options: sbatch's own long options, with underscores:
            `mem="4G", cpus_per_task=2, gres="gpu:1", exclusive=True`. Without a unit
            `time=30` is minutes and `mem=4000` megabytes, as sbatch has it; `time` may
            also be "2h" or a `timedelta`, and `exclude` and the like lists.

    Raises:
        OptionError: an option or the directory cannot work, or there is no sbatch.
        RuntimeError: this is a job that imports what its call needs.
        ValueError, TypeError: as of ProcessPoolExecutor.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,  # noqa: ARG002  (part of the interface)
        initializer: Callable[[*Ts], object] | None = None,
        initargs: tuple[*Ts] = (),  # type: ignore[assignment]  # () if there is none
        *,
        max_tasks_per_child: int | None = 1,
        directory: str | os.PathLike[str] = ".slurm_futures",
        scheduler: Scheduler | Literal["slurm", "local"] | None = None,
        python: str | os.PathLike[str] | Sequence[str] = sys.executable,
        setup: str | Sequence[str] = (),
        template: str | os.PathLike[str] | None = None,
        srun: bool = False,
        keep: Keep = "failed",
        idle_timeout: float = 60.0,
        progress: bool = False,
        poll_interval: float | None = None,
        grace: float = 60.0,
        pending_timeout: float | None = None,
        retries: int | Mapping[type[BaseException], int] | Retries = 0,
        **sbatch_options: OptionValue,
    ) -> None:
        check_bootstrapped()
        check_workers(max_workers, initializer, initargs, max_tasks_per_child)
        check_keep(keep)
        check_switch("srun", srun)
        check_switch("progress", progress)
        check_seconds("idle_timeout", idle_timeout)
        check_seconds("poll_interval", poll_interval, optional=True, positive=True)
        check_seconds("grace", grace)
        check_seconds("pending_timeout", pending_timeout, optional=True)
        self._options = SbatchOptions.check(sbatch_options)
        chosen = choose_scheduler(scheduler, poll_interval)
        script = ScriptTemplate(
            python_words(python),
            setup_lines(setup),
            None if template is None else full_path("template", template),
            srun and has_steps(chosen),
            grace,
        )
        script.check()
        pickled = None if initializer is None else dump((initializer, (*initargs,)))
        policy = Retries.of(retries)
        where = full_path("directory", directory)
        check_directory(where)
        writer = Writer(where, script, pickled, keep, type(chosen).__name__)
        settings = JobSettings(
            max_workers=max_workers,
            retries=policy,
            timing=Timing(grace=grace, pending_timeout=pending_timeout),
        )
        pool = pool_settings(max_workers, max_tasks_per_child, idle_timeout)
        self._session = Session(chosen, writer, settings, pool, progress=progress)
        self._max_workers = max_workers or _MANY
        # Shared by all that options() makes; when the last one is dropped no more
        # calls can come, and long-lived workers need not wait for any.
        self._owner = self._session.own()

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> SlurmFuture[T]:
        """Let a job call `fn(*args, **kwargs)`; return its future at once.

        Function and arguments are pickled before this returns. If that fails, the
        error is the exception of the future, as in ProcessPoolExecutor. A future among
        the arguments, or in a list, tuple or dict of them, stands for its value: the
        call is sent once it is there.

        Raises:
            RuntimeError: the executor was shut down.
            InitializerFailed: the initializer has failed in an earlier job.
        """
        self._session.check_usable()
        future: SlurmFuture[T] = SlurmFuture(self._session)
        numbers = self._session.numbers
        try:
            call = pickle_or_await(
                lambda: pickle_call(fn, args, kwargs, numbers),
                lambda: dump(fn),
                args,
                kwargs,
                numbers,
            )
        except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
            future.set_exception(error)
            self._session.count_in(future)
            return future
        request = request_of(future, range(1), [call])
        self._put(self._kind(), function_name(fn), [request])
        return future

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | Literal["auto"] = 1,
        buffersize: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | Literal["auto"] = 1,
        buffersize: int | None = None,
        return_exceptions: bool,
    ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | Literal["auto"] = 1,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T | BaseException]:
        """Like the built-in `map`, as one job array; the results come in order.

        Args:
            fn: the function; it is pickled once.
            *iterables: collected at once, unless there is a `buffersize`.
            timeout: seconds from now until the last result must be there; None: none.
            chunksize: calls for each job; "auto": so many that there are about four
                jobs for each of the `max_workers`, or 400 jobs where there is no such
                limit: enough to keep all busy, few enough for the cluster.
            buffersize: at most so many results wait to be taken, and the iterables are
                read no further; None: no limit.
            return_exceptions: whether the exception of a call takes the place of its
                result, as in `asyncio.gather`, and the others go on; else the first
                one is raised, and the calls behind it are cancelled.

        Raises:
            ValueError: `chunksize` or `buffersize` is smaller than 1.
            TypeError: an argument is of a class that it cannot have.
        """
        check_map(timeout, chunksize, buffersize, return_exceptions)
        self._session.check_usable()
        deadline = None if timeout is None else time.monotonic() + timeout
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == "auto":
            workers = self._max_workers if self._max_workers < _MANY else None
            items, chunksize = choose_chunksize(items, buffersize, workers)
        chunks = chunked(items, chunksize)
        function = pickle_function(fn)
        label = function_name(fn)
        numbers = self._session.numbers
        pickler = CallPickler(iterables, numbers=numbers)
        state = pickler.state
        kind = self._kind()
        begin = itertools.islice(chunks, buffersize)
        first = self._submit_chunks(kind, label, function, begin, chunksize, pickler)
        take = partial(results, return_exceptions=return_exceptions)
        if buffersize is None:
            return take(deque(first), deadline, list)
        # Results go on to come while any of the executors that share them all lives.
        owner = weakref.ref(self._owner)
        sender = copy.copy(self)
        del sender._owner

        def submit_next() -> list[SlurmFuture[Any]]:
            more = list(itertools.islice(chunks, 1))
            if owner() is None or not more:
                return []
            sender._session.check_usable()
            pickler = CallPickler((), state, numbers)
            return sender._submit_chunks(
                kind, label, function, iter(more), chunksize, pickler
            )

        return take(deque(first), deadline, submit_next)

    def options(self, **sbatch_options: OptionValue) -> Self:
        """Return an executor with other sbatch options, for some of the calls.

        It shares everything with this one, also its end: the shutdown of one is the
        shutdown of both.

            executor.options(mem="16G").submit(fit, large)
        """
        variant = copy.copy(self)
        variant._options = self._options.replace(sbatch_options)
        return variant

    def usage(self) -> UsageSummary:
        """Return what the calls that are over have used, and which options would do.

        `print(executor.usage())` says it in a line. Those of executors that `options`
        has made count as well, and of calls that were tried again the last attempt.
        """
        return self._session.usage()

    def counts(self) -> dict[str, int]:
        """Return how many calls are done, failed, cancelled, running and pending.

        Each call counts once, also in a chunk, and "done" has a value. Cheap: it asks
        neither files nor Slurm, and is as old as `future.state`.
        """
        return self._session.counts()

    def cancel(self) -> None:
        """Let all calls be cancelled soon that are not over; later ones run as ever."""
        self._session.cancel_open()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and free resources once the open ones are done.

        Args:
            wait: return when all futures are done and nothing is left to do.
            cancel_futures: cancel all calls whose jobs have not started.
        """
        self._session.close()
        if cancel_futures:
            self._session.cancel_waiting()
        if wait:
            self._session.join()

    def terminate_workers(self) -> None:
        """Shut down and end all jobs with scancel; open futures fail (Python 3.14)."""
        self._session.stop(
            JobCancelled(
                "The job was cancelled: terminate_workers() or kill_workers() of its "
                "executor was called.\nMake a new SlurmExecutor to run it again."
            )
        )

    def kill_workers(self) -> None:
        """Do the same as `terminate_workers`: Slurm sends SIGKILL to what stays on."""
        self.terminate_workers()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Wait for all calls; but after Ctrl-C cancel them, also those that run."""
        try:
            if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
                self._session.interrupt()
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._session.interrupt()  # once more: maybe it comes from the line above
            self._session.join()
            if exc_type is None:
                raise

    @property
    def directory(self) -> Path:
        """The run directory; before the first submission the one that will hold it."""
        run = self._session.writer.run
        return self._session.writer.directory if run is None else run.path

    def __repr__(self) -> str:
        return (
            f"<SlurmExecutor on {type(self._session.scheduler).__name__} "
            f"{self._session.describe()} directory={str(self.directory)!r}>"
        )

    @property
    def _broken(self) -> object:
        """What ProcessPoolExecutor calls this; read by programs that look inside."""
        return self._session.broken or False

    def _kind(self) -> Kind:
        return Kind(self._options, current_directory())

    def _put(
        self, kind: Kind, label: str, requests: list[JobRequest | AwaitedRequest]
    ) -> None:
        for request in requests:
            request.future._name = label
        self._session.put(kind, clean_name(label), requests)

    def _submit_chunks(
        self,
        kind: Kind,
        label: str,
        function: bytes | Exception,
        chunks: Iterator[Chunk],
        chunksize: int,
        pickler: CallPickler,
    ) -> list[SlurmFuture[Any]]:
        """Let each chunk become a job, all of them one submission."""
        requests: list[JobRequest | AwaitedRequest] = []
        futures: list[SlurmFuture[Any]] = []
        for chunk in chunks:
            future: SlurmFuture[Any]
            if chunksize == 1:
                future = SlurmFuture(self._session)
            else:
                future = ChunkFuture(self._session, len(chunk))
            futures.append(future)
            request = make_request(future, function, chunk, pickler)
            if request.calls:
                requests.append(request)
            else:
                self._session.count_in(future)
        if requests:
            self._put(kind, label, requests)
        return futures
