"""Stand-ins for unit tests: a scheduler in memory, and the files that jobs leave."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.pickler import CLOUDPICKLE_VERSION, dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import (
    InitializerFailed,
    JobState,
    Refusal,
    SchedulerError,
    SlurmFuturesError,
    SubmitError,
)
from slurm_futures.jobs.job import Job, JobOrder
from slurm_futures.jobs.job_calls import JobCalls
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.poller import Poller
from slurm_futures.jobs.retries import Retries
from slurm_futures.jobs.settler import Settler
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.jobs.timing import Timing
from slurm_futures.node import exceptions, formats
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.finished import Record
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.submission import SubmissionDirectory
from slurm_futures.schedulers.base import (
    BatchScript,
    Ending,
    JobId,
    Limits,
    Row,
    Snapshot,
)
from slurm_futures.schedulers.sbatch_options import Kind, SbatchOptions

#: Any: what a calls file tells of the client.
CONTEXT: dict[str, Any] = {
    "path": list(sys.path),
    "cwd": "/",
    "real_cwd": "/",
    "argv": [],
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "version": sys.version_info[:2],
    "cloudpickle": CLOUDPICKLE_VERSION,
    "initializer": None,
}

#: Hundredths of seconds stand for seconds.
SHORT = Timing(
    shortest_look=0.01,
    started_interval=0.01,
    look_cost_factor=1,
    never_started_grace=0.05,
    cause_wait=0.2,
    put_off=0.01,
    withdrawal_pause=0.05,
    shortest_rest=0.01,
    longest_rest=0.02,
    shortest_backoff=0.01,
    longest_backoff=0.02,
    shortest_cancel_backoff=0.01,
    longest_cancel_backoff=0.02,
    longest_query_backoff=0.02,
    search_time=0.05,
    shortest_rewrite=0.01,
)

#: What the scheduler does with a submission: accept it, refuse it, or anything else.
Answer = SubmitError | Callable[[BatchScript], JobId]


class FakeScheduler:
    """Runs nothing: the test says what sbatch answers and what squeue shows.

    Attributes:
        answers: to the next submissions; those that follow are accepted.
        jobs: what squeue shows; a submission that is accepted is added as pending.
        query_error: what squeue fails with, if it is not None.
        closer: what `explain` knows.
        gate: every submission waits until it is set.
    """

    def __init__(self, poll_interval: float = 0.01, array_size: int = 1001) -> None:
        self.poll_interval = poll_interval
        self.array_size = array_size
        self.requeue_exits: tuple[range, ...] = ()
        self.answers: list[Answer] = []
        self.batches: list[BatchScript] = []
        self.jobs: dict[JobId, tuple[Row, ...]] = {}
        self.query_error: Exception | None = None
        self.query_count = 0
        self.endings: dict[JobId, Ending] = {}
        self.explained: list[JobId] = []
        self.cancelled: list[list[JobId]] = []
        self.throttled: list[tuple[JobId, int]] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def identity(self) -> Hashable:
        """Every stand-in sees its own jobs."""
        return self

    def limits(self) -> Limits:
        """Allow arrays of `array_size`."""
        return Limits(self.array_size, self.requeue_exits)

    def submit(self, batch: BatchScript) -> JobId:
        """Answer as the test says, once the gate is open."""
        self.batches.append(batch)
        assert self.gate.wait(60)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, SubmitError):
                raise answer
            return answer(batch)
        return self.accept(batch)

    def accept(self, batch: BatchScript) -> JobId:
        """Put a submission into the queue."""
        job_id = JobId(100 + len(self.jobs))
        indices = None if batch.array_size is None else (range(batch.array_size),)
        row = Row(JobState.PENDING, "Priority", indices, str(batch.directory))
        self.jobs[job_id] = (row,)
        return job_id

    def query(self) -> Snapshot:
        """Show what the test has put into `jobs`."""
        started_at = time.monotonic()
        self.query_count += 1
        if self.query_error is not None:
            raise self.query_error
        return Snapshot(
            started_at,
            {job: tuple(self._not_cancelled(job)) for job in tuple(self.jobs)},
        )

    def _not_cancelled(self, job_id: JobId) -> Iterator[Row]:
        """Yield the rows of a job without what was cancelled."""
        gone = {each for jobs in tuple(self.cancelled) for each in jobs}
        for row in self.jobs[job_id]:
            if row.indices is None:
                left: tuple[range, ...] | None = None if job_id not in gone else ()
            else:
                left = tuple(
                    range(index, index + 1)
                    for index in itertools.chain(*row.indices)
                    if not gone & {job_id, job_id.task(index)}
                )
            if left != ():
                yield replace(row, indices=left)

    def show(self, array: FakeJobs, *rows: Row) -> None:
        """Let squeue show these rows of an array; without any it forgets the array."""
        self.jobs = {**self.jobs, array.job_id: rows}

    def cancel(self, jobs: Collection[JobId]) -> None:
        """Note which jobs are cancelled."""
        self.cancelled.append(list(jobs))

    def throttle(self, array: JobId, limit: int) -> None:
        """Note the new limit."""
        self.throttled.append((array, limit))

    def explain(self, jobs: Collection[JobId]) -> Mapping[JobId, Ending]:
        """Tell what the test has put into `endings`."""
        self.explained += jobs
        return {job: self.endings[job] for job in jobs if job in self.endings}

    @property
    def sizes(self) -> list[int]:
        """How many jobs each submission had."""
        return [batch.array_size or 1 for batch in self.batches]


def refusal(kind: Refusal) -> SubmitError:
    """Return what `submit` raises when the scheduler refuses in this way."""
    return SubmitError(f"refused: {kind.name}", refusal=kind)


def accept_and_fail(scheduler: FakeScheduler) -> Callable[[BatchScript], JobId]:
    """Return an sbatch that makes its job and says that it timed out."""

    def answer(batch: BatchScript) -> JobId:
        scheduler.accept(batch)
        raise refusal(Refusal.AMBIGUOUS)

    return answer


def squeue_is_down() -> SchedulerError:
    """Return what `query` raises while slurmctld does not answer."""
    return SchedulerError("squeue failed with exit code 1")


class FakeAbove:
    """Keeps what the parts tell those above them.

    Attributes:
        cancelled: futures that were cancelled.
        resubmitted: positions of calls that should run again.
        initializer_errors: what initializers raised.
        over: the submission of each job that was over, in this order.
        full: how often jobs waited for a place.
    """

    def __init__(self) -> None:
        self.cancelled: list[SlurmFuture[Any]] = []
        self.resubmitted: list[list[int]] = []
        self.initializer_errors: list[BaseException] = []
        self.over: list[OpenSubmission] = []
        self.full = 0

    def has_outcome(self, _: SlurmFuture[Any]) -> bool:
        """Know of none."""
        return False

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """Keep the future."""
        self.cancelled.append(future)

    def resubmit(self, kind: Kind, label: str, request: JobRequest) -> None:
        """Keep the positions."""
        del kind, label
        self.resubmitted.append(list(request.positions))

    def note_initializer(self, exception: BaseException) -> InitializerFailed:
        """Keep the exception."""
        self.initializer_errors.append(exception)
        return InitializerFailed("the initializer failed")

    def note_over(self, submission: OpenSubmission) -> None:
        """Keep the submission."""
        self.over.append(submission)

    def note_full(self) -> None:
        """Count."""
        self.full += 1


class FakeFailures:
    """The part of the staging that a settler needs: what is to be kept."""

    def __init__(self) -> None:
        self.failed: list[Path] = []

    def note_failure(self, job: Path) -> None:
        """Keep the directory."""
        self.failed.append(job)


def make_settler(
    above: FakeAbove,
    retries: int | Mapping[type[BaseException], int] | Retries = 0,
    failures: Any = None,
    grace: float = 0.05,
) -> Settler:
    """Return what settles futures."""
    writer: Any = FakeFailures() if failures is None else failures
    return Settler(Retries.of(retries), writer, above, grace)


def make_future(above: FakeAbove | None = None) -> SlurmFuture[Any]:
    """Return a future; those that are cancelled tell it."""
    return SlurmFuture(above or FakeAbove())


def make_chunk(size: int) -> ChunkFuture:
    """Return the future of a chunk of a map."""
    return ChunkFuture(FakeAbove(), size)


def make_calls(
    future: SlurmFuture[Any], kind: Kind | None = None, settler: Settler | None = None
) -> JobCalls:
    """Return what waits for a job: all calls of the future."""
    return JobCalls(
        future,
        range(future._size),
        kind or Kind(SbatchOptions(), "/"),
        "fit",
        settler=settler or make_settler(FakeAbove()),
    )


def make_job(
    submitted_at: float = 0.0,
    directory: Path = Path("/run"),
    future: SlurmFuture[Any] | None = None,
) -> Job:
    """Return what is known of the job 5_7 that has just been submitted."""
    submission = RunDirectory(directory).submission(1)
    calls = make_calls(future or make_future())
    job = Job(JobId(5, 7), 7, submission, calls, submitted_at)
    calls.note_job(job)
    return job


def make_order(fn: Callable[..., Any] = abs, *args: Any) -> JobOrder:
    """Return what `submit(fn, *args)` puts into the outbox."""
    call = PickledCall(dump(fn), dump_arguments(args, {}))
    return JobOrder(make_calls(make_future()), [call])


def future_of(order: JobOrder) -> SlurmFuture[Any]:
    """Return the future that waits for the job of an order."""
    assert isinstance(order.waiter, JobCalls)
    return order.waiter.future


class FakeJobs:
    """An array job whose files are written by the test, in the place of its worker.

    Args:
        directory: where its run is made.
        size: how many jobs there are.
        number: its id.
        calls: of each job; more than one are the chunk of a map.
        settler: settles their futures.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 1,
        number: int = 100,
        calls: int = 1,
        settler: Settler | None = None,
    ) -> None:
        run = RunDirectory.create(directory, "fit").fill()
        self.submission = run.submission(1)
        self.submission.create(size)
        self.job_id = JobId(number)
        self.futures: list[SlurmFuture[Any]] = [
            make_future() if calls == 1 else make_chunk(calls) for _ in range(size)
        ]
        call = PickledCall(dump(abs), dump_arguments((), {}))
        write_calls(self.submission.calls, [[call] * calls] * size, CONTEXT)
        self.opened = self._open(settler)

    def _open(self, settler: Settler | None) -> OpenSubmission:
        kind = Kind(SbatchOptions((("mem", "4G"), ("time", "10"))), "/")
        jobs = {}
        for index, future in enumerate(self.futures):
            calls = make_calls(future, kind, settler)
            jobs[index] = Job(
                self.job_id.task(index),
                index,
                self.submission,
                calls,
                time.monotonic(),
            )
            calls.note_job(jobs[index])
        return OpenSubmission(self.submission, self.job_id, kind, "fit", jobs)

    def row(self, state: JobState, *indices: int) -> Row:
        """Return a line of squeue about some of the jobs, or about all of them."""
        chosen = indices or range(len(self.futures))
        ranges = tuple(range(index, index + 1) for index in chosen)
        return Row(state, "None", ranges, str(self.submission.path))

    def begin(self, index: int = 0) -> Path:
        """Do what the script does first; return the job directory."""
        path = self.submission.job(index).path
        path.mkdir(exist_ok=True)
        formats.leave_mark(f"{path}/started", f"c17 {self.job_id.task(index)} 0")
        return path

    def begin_calls(self, index: int = 0) -> OutcomesFile:
        """Do what the worker does first; return where its outcomes go."""
        self.begin(index)
        return OutcomesFile(str(self.submission.path), index, "0-c17-99")

    def write_outcome(self, index: int, value: object, position: int = 0) -> None:
        """Leave the value of a call, as the attempt at a job that is cut short does."""
        self.begin_calls(index).append(position, formats.VALUE, dump(value))

    def publish(self, index: int, *records: tuple[int, int, bytes]) -> None:
        """Let a job end with these outcomes: position, kind, and payload of each."""
        outcomes = self.begin_calls(index)
        for record in records:
            outcomes.append(*record)
        outcomes.publish(sync=True)

    def finish(self, index: int = 0, value: object = None) -> None:
        """Let a job end well, with the value of its only call."""
        self.publish(index, value_of(0, value))

    def raise_in_call(
        self, index: int, error: BaseException, kind: int = formats.EXCEPTION
    ) -> None:
        """Let a job end with an exception of its call, or of its initializer."""
        self.publish(index, (0, kind, dump(exceptions.describe(error))))

    def die(self, index: int = 0, exit_code: int = 1) -> None:
        """Let the script see its worker die."""
        self.begin(index)
        formats.leave_mark(f"{self._mark(index)}.died", str(exit_code))

    def be_ended_by_slurm(self, index: int, log: str) -> None:
        """Let Slurm end a job, with SIGTERM and a line in its log."""
        self.begin(index)
        self.submission.logs.joinpath(str(self.job_id.task(index))).write_text(log)
        formats.leave_mark(f"{self._mark(index)}.ending", "143")

    def _mark(self, index: int) -> Path:
        return finished_path(self.submission, index)


def value_of(position: int, value: object) -> tuple[int, int, bytes]:
    """Return the outcome of a call that went well."""
    return position, formats.VALUE, dump(value)


def error_of(position: int, error: BaseException) -> tuple[int, int, bytes]:
    """Return the outcome of a call that raised."""
    return position, formats.EXCEPTION, dump(exceptions.describe(error))


def make_jobs(
    directory: Path,
    scheduler: FakeScheduler,
    size: int = 2,
    number: int = 100,
    calls: int = 1,
) -> FakeJobs:
    """Return an array that runs, as squeue says."""
    array = FakeJobs(directory, size, number, calls)
    scheduler.show(array, array.row(JobState.RUNNING))
    return array


class WatchedPoller:
    """A poller whose messages to the rest of the library are kept.

    Attributes:
        above: hears what points up.
        failures: the directories of calls that failed.
        cancelled: ids of jobs that should end.
    """

    def __init__(
        self,
        scheduler: FakeScheduler,
        *,
        grace: float = 0.05,
        pending_timeout: float | None = None,
        retries: int | Mapping[type[BaseException], int] = 0,
        **times: Any,
    ) -> None:
        self.above = FakeAbove()
        self.failures = FakeFailures()
        self.cancelled: list[JobId] = []
        self.lifecycle = Lifecycle()
        self.group = ThreadGroup()
        self.settler = make_settler(self.above, retries, self.failures, grace)
        canceller: Any = FakeCanceller(self.cancelled)
        self.poller = Poller(
            scheduler,
            canceller,
            self.lifecycle,
            self.above,
            self.group,
            replace(SHORT, grace=grace, pending_timeout=pending_timeout, **times),
        )
        self.poller._watched.append(self.settler.unread)

    def set_times(self, **times: Any) -> None:
        """Let some times be others from now on."""
        parts: list[Any] = [
            self.poller._inspector,
            self.poller._pace,
            self.poller._explainer,
        ]
        for part in parts:
            part._timing = replace(part._timing, **times)

    def watch(self, jobs: FakeJobs) -> None:
        """Let the poller watch jobs, and settle their calls."""
        for job in jobs.opened.jobs.values():
            assert isinstance(job.waiter, JobCalls)
            job.waiter.settler = self.settler
        self.poller.watch(jobs.opened)

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all, as terminate_workers does."""
        self.lifecycle.stopped = error
        self.poller.stop(error)


class FakeCanceller:
    """Keeps which jobs should end, if Slurm may know them."""

    def __init__(self, cancelled: list[JobId]) -> None:
        self._cancelled = cancelled

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Keep their ids."""
        self._cancelled += [job.job_id for job in jobs if job.may_exist]


def finished_path(submission: SubmissionDirectory, index: int) -> Path:
    """Return where the outcomes of a job appear."""
    return submission.finished.file(index)


def outcomes_of(records: Iterable[Record]) -> list[Record]:
    """Return the records without those that tell what calls have used."""
    return [each for each in records if each[1] != formats.USAGE]
