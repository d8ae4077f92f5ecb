"""What a scheduler is: the protocol, and the values that travel through it.

This module is for the words that every part of the library shares about jobs. It
does not talk to Slurm (`slurm.py`) nor run anything (`local/`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from slurm_futures.errors import JobState


class Scheduler(Protocol):
    """Who runs a script: Slurm, or the local machine.

    Every method may block as long as its command takes, may be called from any
    thread, and raises `SchedulerError` when the command failed, which says nothing
    about the jobs. Nothing is retried here: the caller knows what is at stake.
    """

    @property
    def identity(self) -> Hashable:
        """Schedulers of equal identity see the same jobs and share one queue cache."""

    @property
    def poll_interval(self) -> float:
        """Seconds between two queries that this scheduler can bear."""

    def limits(self) -> Limits:
        """Ask what the scheduler accepts in one submission."""

    def submit(self, batch: BatchScript) -> JobId:
        """Hand over a script; return the id of the job, or of the whole array.

        Raises:
            SubmitError: the scheduler refused; its `refusal` says what may help.
        """

    def query(self) -> Snapshot:
        """Ask once for all jobs of this user."""

    def cancel(self, jobs: Collection[JobId]) -> None:
        """End these jobs; an id without index means all of its array tasks.

        Jobs that ended long ago, or never were, are passed over in silence.
        """

    def throttle(self, array: JobId, limit: int) -> None:
        """Let at most `limit` tasks of the array run at the same time from now on."""

    def explain(self, jobs: Collection[JobId]) -> Mapping[JobId, Ending]:
        """Find out how these ended jobs ended, as far as anything still knows."""


@dataclass(frozen=True, slots=True)
class JobId:
    """The id of a job, of a job array (no index), or of one array task.

    `cluster` is what sbatch said at a multi-cluster site, else None.
    """

    number: int
    index: int | None = None
    cluster: str | None = None

    @property
    def array(self) -> JobId:
        """The id of the whole array that this task belongs to."""
        return JobId(self.number, None, self.cluster)

    def task(self, index: int) -> JobId:
        """The id of one task of this array."""
        return JobId(self.number, index, self.cluster)

    def __str__(self) -> str:
        return str(self.number) if self.index is None else f"{self.number}_{self.index}"


def is_at_home(submission: Path, directory: str | None, command: str | None) -> bool:
    """Whether a job is of a submission: slurmctld may give the same id to another one.

    The directory is changed by `scontrol update`, the script by nobody.
    """
    home = str(submission)
    return directory == home or (command or "").startswith(f"{home}/")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a snapshot: a job, an array task, or many pending array tasks.

    `indices` is None for a job that is not an array, and for the one line that is left
    of an array that was cancelled before any of its tasks started.
    """

    state: JobState
    reason: str = ""
    indices: tuple[range, ...] | None = None
    directory: str = ""
    command: str = ""

    def is_of(self, submission: Path) -> bool:
        """Whether the job is one of the submission in this directory."""
        return not self.directory or is_at_home(
            submission, self.directory, self.command
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One answer of squeue: the rows of each job or array, by its id without index.

    `started_at` (monotonic seconds) is when the question was asked: a job that was
    submitted later may be missing without being lost. Of the jobs on `silent` clusters
    it says nothing, since those did not answer.
    """

    started_at: float
    jobs: Mapping[JobId, tuple[Row, ...]] = field(default_factory=dict)
    silent: frozenset[str | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: what squeue, scontrol or sacct still told, else None.

    `directory` is where the job works, and `command` the script, if slurmctld itself
    knows the job: only then can its state say that it has not ended.
    """

    state: JobState | None = None
    exit_code: int | None = None
    signal: int | None = None
    node: str | None = None
    reason: str | None = None
    directory: str | None = None
    command: str | None = None


#: The signal that Slurm reports of a job that its node could not start.
NOT_LAUNCHED = 53


@dataclass(frozen=True, slots=True)
class Limits:
    """What one submission may hold, and what starts its jobs again.

    Attributes:
        array_size: tasks; MaxArraySize and MaxJobCount, slurm.conf(5).
        requeue_exits: exit codes for which jobs are started again, or held for that,
            whatever their options say; RequeueExit and RequeueExitHold.
    """

    array_size: int = 1001
    requeue_exits: tuple[range, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchScript:
    """One submission as a scheduler sees it.

    Attributes:
        script: the file to run with bash.
        name: what squeue shows as the name of the job.
        directory: where the job starts. Different for each submission, so that a job
            can be recognised by it.
        log: file for what the scheduler itself prints; `%A` and `%a` (`%j` for a job
            that is not an array) stand for the ids, and a percent sign is doubled.
        arguments: of the script.
        array_size: number of array tasks, counted from 0; None for a plain job.
        throttle: at most so many tasks at the same time; None for no limit.
        options: sbatch's own long options and their values, such as
            `{"mem": "4G", "exclusive": True}`: True stands for an option without a
            value.
        environment: that of the program when it submitted the calls; None: as it is
            now. sbatch gives it to the job.
    """

    script: Path
    name: str
    directory: Path
    log: str
    arguments: tuple[str, ...] = ()
    array_size: int | None = None
    throttle: int | None = None
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None

    @property
    def clusters(self) -> frozenset[str | None]:
        """The clusters that may get the job, as far as they are named; else {None}."""
        named = self.options.get("clusters") or self.options.get("cluster") or ""
        # "all" stands for names that only slurmdbd knows.
        return frozenset(set(str(named).split(",")) - {"", "all"}) or frozenset({None})
