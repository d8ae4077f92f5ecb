"""Stand-ins for unit tests: a scheduler in memory, and the files that jobs leave."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping
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
    SubmitError,
)
from slurm_futures.jobs.closer import JobEndings
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.poller import Poller
from slurm_futures.jobs.retries import Retries
from slurm_futures.jobs.settler import Settler
from slurm_futures.jobs.track import Track, Work
from slurm_futures.node import exceptions, formats, worker
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.submission import Submission
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
    "argv": [],
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "version": sys.version_info[:2],
    "cloudpickle": CLOUDPICKLE_VERSION,
    "initializer": None,
}

#: What the scheduler does with a submission: accept it, refuse it, or anything else.
Answer = SubmitError | Callable[[BatchScript], JobId]


class FakeScheduler:
    """Runs nothing: the test says what sbatch answers and what squeue shows.

    Attributes:
        answers: to the next submissions; those that follow are accepted.
        jobs: what squeue shows; a submission that is accepted is added as pending.
        query_error: what squeue fails with, if it is not None.
        endings: what `explain` knows.
        gate: every submission waits until it is set.
    """

    def __init__(self, poll_interval: float = 0.01, array_size: int = 1001) -> None:
        self.poll_interval = poll_interval
        self.array_size = array_size
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
        return Limits(array_size=self.array_size)

    def submit(self, batch: BatchScript) -> JobId:
        """Answer as the test says, once the gate is open."""
        self.batches.append(batch)
        assert self.gate.wait(10)
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
        return Snapshot(started_at, dict(self.jobs))

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


def make_future(cancelled: list[SlurmFuture[Any]] | None = None) -> SlurmFuture[Any]:
    """Return a future; those that are cancelled are appended to the list."""
    told: list[SlurmFuture[Any]] = [] if cancelled is None else cancelled
    return SlurmFuture(told.append)


def make_chunk(size: int) -> ChunkFuture:
    """Return the future of a chunk of a map."""
    told: list[SlurmFuture[Any]] = []
    return ChunkFuture(told.append, size)


def make_work(
    future: SlurmFuture[Any], submission: Submission, kind: Kind, index: int = 0
) -> Work:
    """Return what the job of this index runs: all calls of the future."""
    return Work(
        future=future,
        positions=range(future.size),
        kind=kind,
        label="fit",
        calls=submission.calls,
        index=index,
        home=submission.path,
    )


def make_track(
    submitted_at: float = 0.0,
    directory: Path = Path("/run"),
    future: SlurmFuture[Any] | None = None,
) -> Track:
    """Return what is known of the job 5_7 that has just been submitted."""
    submission = RunDirectory(directory).submission(1)
    kind = Kind(SbatchOptions(), "/")
    work = make_work(future or make_future(), submission, kind)
    track = Track(JobId(5, 7), 7, submission, work, submitted_at)
    work.future.add_track(track)
    return track


def make_request(fn: Callable[..., Any] = abs, *args: Any) -> JobRequest:
    """Return what `submit(fn, *args)` puts into the outbox."""
    call = PickledCall(dump(fn), dump_arguments(args, {}))
    return JobRequest(make_future(), range(1), [call])


class FakeJobs:
    """An array job whose files are written by the test, in the place of its worker.

    Args:
        directory: where its run is made.
        size: how many jobs there are.
        number: its id.
        calls: of each job; more than one are the chunk of a map.
    """

    def __init__(
        self, directory: Path, size: int = 1, number: int = 100, calls: int = 1
    ) -> None:
        run = RunDirectory.create(directory, "fit")
        self.submission = run.submission(1)
        self.submission.create(size)
        self.job_id = JobId(number)
        self.futures: list[SlurmFuture[Any]] = [
            make_future() if calls == 1 else make_chunk(calls) for _ in range(size)
        ]
        call = PickledCall(dump(abs), dump_arguments((), {}))
        write_calls(self.submission.calls, [[call] * calls] * size, CONTEXT)
        self.opened = self._open()

    def _open(self) -> OpenSubmission:
        kind = Kind(SbatchOptions((("mem", "4G"), ("time", "10"))), "/")
        tracks = {}
        for index, future in enumerate(self.futures):
            tracks[index] = Track(
                self.job_id.task(index),
                index,
                self.submission,
                make_work(future, self.submission, kind, index),
                time.monotonic(),
            )
            future.add_track(tracks[index])
        return OpenSubmission(self.submission, self.job_id, kind, "fit", tracks)

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

    def write_outcome(self, index: int, value: object, position: int = 0) -> None:
        """Leave the value of a call, as the attempt at a job that is cut short does."""
        outcomes = worker.OutcomesFile(str(self.begin(index)))
        outcomes.append(position, formats.VALUE, dump(value))

    def publish(self, index: int, *records: tuple[int, int, bytes]) -> None:
        """Let a job end with these outcomes: position, kind, and payload of each."""
        outcomes = worker.OutcomesFile(str(self.begin(index)))
        for record in records:
            outcomes.append(*record)
        outcomes.publish()
        formats.leave_mark(str(self._mark(index)), "0")

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
        over: the submission of each job that was over, in this order.
        failed: the directories of calls that failed.
        initializer_errors: what initializers raised.
        resubmitted: positions of calls that should become new jobs.
        cancelled: ids of jobs that should end.
    """

    def __init__(
        self,
        scheduler: FakeScheduler,
        *,
        grace: float = 0.05,
        pending_timeout: float | None = None,
        retries: int | Mapping[type[BaseException], int] = 0,
    ) -> None:
        self.over: list[OpenSubmission] = []
        self.failed: list[Path] = []
        self.initializer_errors: list[BaseException] = []
        self.resubmitted: list[list[int]] = []
        self.cancelled: list[JobId] = []
        settler = Settler(
            Retries.of(retries),
            resubmit=lambda *request: self.resubmitted.append(request[3]),
            on_failed=self.failed.append,
            on_initializer_failed=self._note_initializer,
        )
        endings = JobEndings(settler, grace, self.over.append)
        self.poller = Poller(
            scheduler, endings, grace, pending_timeout, self.cancelled.extend
        )

    def _note_initializer(self, error: BaseException) -> InitializerFailed:
        self.initializer_errors.append(error)
        return InitializerFailed("the initializer failed")


def finished_path(submission: Submission, index: int) -> Path:
    """Return where the mark of a job appears."""
    return submission.path / "finished" / formats.block_of(index) / str(index)
