"""A submission of `LocalScheduler`, and those of its jobs that run.

Plain state: `LocalQueue` decides what happens to it.
"""

from __future__ import annotations

import os
import re
import socket
from bisect import bisect_left
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

from slurm_futures.errors import JobState, OptionError, SubmitError
from slurm_futures.schedulers.base import JobId, Row
from slurm_futures.schedulers.quantities import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurm_futures.schedulers.base import BatchScript, Ending
    from slurm_futures.schedulers.local.processes import JobProcess

NODE_NAME = socket.gethostname().partition(".")[0]
#: Variables of Slurm that describe a job around this one must not reach it, but how
#: to find Slurm, and what belongs to this library, may.
_SLURM_VARIABLE = re.compile(
    "(?!SLURM_(?:CONF|JWT)$|SLURM_FUTURES_)(SLURM|SBATCH|SQUEUE|SCANCEL|SRUN|PMI)"
)


class LocalSubmission:
    """A job or a job array: what is pending of it, what runs, what has ended.

    A job that is not an array has the one index None. In an array, None stands for the
    tasks that were cancelled before they started, if a record is left of them.

    Args:
        number: its id.
        batch: as it was submitted.
        cpus: how many there are; more than that no job gets.

    Raises:
        SubmitError: an option has a value that makes no sense.
    """

    def __init__(self, number: int, batch: BatchScript, cpus: int) -> None:
        self.number = number
        self.batch = batch
        try:
            self.cpus = min(cpus, _parse_cpus(batch.options.get("cpus_per_task", 1)))
            #: Of each job, seconds; None for no limit.
            self.time_limit = parse_time(batch.options.get("time", "UNLIMITED"))
        except OptionError as error:
            raise SubmitError(f"The job {batch.name!r} cannot run: {error}") from error
        #: Where the client is, and what its environment is, at the submission.
        self.directory = _working_directory() or str(batch.directory)
        given = os.environ if batch.environment is None else batch.environment
        self.environment = _without_slurm(given)
        self.throttle = batch.throttle
        self.pending = deque([range(batch.array_size or 1)])
        self.running: dict[int | None, LocalJob] = {}
        self.rows: dict[int | None, Row] = {}
        self.endings: dict[int | None, Ending] = {}

    @property
    def is_array(self) -> bool:
        """Whether its jobs are array tasks."""
        return self.batch.array_size is not None

    @property
    def over(self) -> bool:
        """Whether nothing of it will ever run again."""
        return not self.pending and not self.running

    @property
    def may_start(self) -> bool:
        """Whether one more of its jobs may start, given the CPUs."""
        return bool(self.pending) and not (
            self.throttle and len(self.running) >= self.throttle
        )

    def take_first(self) -> int | None:
        """Take the next pending index out."""
        first = self.pending.popleft()
        if len(first) > 1:
            self.pending.appendleft(first[1:])
        return first[0] if self.is_array else None

    def drop_pending(self, indices: set[int | None]) -> tuple[range, ...] | None:
        """Take these indices out; return them if that was the array as a whole."""
        if None in indices or not self.is_array:
            dropped = tuple(self.pending)
            self.pending.clear()
            return dropped if self.is_array else None
        cuts = sorted(index for index in indices if index is not None)
        self.pending = deque(_without(self.pending, cuts))
        return None

    def select_running(self, indices: set[int | None]) -> list[LocalJob]:
        """Those of its jobs that run and are meant by these indices."""
        if None in indices:
            return list(self.running.values())
        return [self.running[index] for index in indices & self.running.keys()]

    def show(self, index: int | None, state: JobState) -> None:
        """Set the row of a job that has started."""
        indices = None if index is None else (range(index, index + 1),)
        self.rows[index] = Row(state, "", indices, str(self.batch.directory))

    def all_rows(self) -> tuple[Row, ...]:
        """What squeue would print of it."""
        rows = tuple(self.rows.values())
        if not self.pending:
            return rows
        reason = "Resources" if self.may_start else "JobArrayTaskLimit"
        indices = tuple(self.pending) if self.is_array else None
        directory = str(self.batch.directory)
        return (Row(JobState.PENDING, reason, indices, directory), *rows)

    def ending(self, index: int | None) -> Ending | None:
        """How one of its jobs ended, if that is still known."""
        rest = self.rows.get(None)
        if rest and any(index in indices for indices in rest.indices or ()):
            return self.endings[None]
        return self.endings.get(index)

    def forget(self, index: int | None) -> None:
        """Drop the record of a job that has ended."""
        del self.rows[index], self.endings[index]


class LocalJob:
    """A job that has its CPUs: it is being started, runs, or is being stopped.

    Attributes:
        number: Slurm's SLURM_JOB_ID, which each array task has for itself.
        process: None until it is started.
        stopping: the state in which it is to end, once that is decided.
        problem: why it could not be started.
    """

    def __init__(
        self, submission: LocalSubmission, index: int | None, number: int
    ) -> None:
        self.submission = submission
        self.index = index
        self.number = number
        self.process: JobProcess | None = None
        self.stopping: JobState | None = None
        self.problem: str | None = None

    def __str__(self) -> str:
        return str(JobId(self.submission.number, self.index))

    def verdict(self, exit_code: int, signal: int | None) -> JobState:
        """Slurm's state for a job that left this exit status."""
        if self.stopping is not None:
            return self.stopping
        went_well = exit_code == 0 and signal is None
        return JobState.COMPLETED if went_well else JobState.FAILED

    def log_path(self) -> str:
        """The file for what it prints, with the ids put in."""
        array = self.submission.number
        ids = {"%": "%", "A": array, "a": self.index, "j": self.number}
        return re.sub(
            "%([%Aaj])", lambda code: str(ids[code[1]]), self.submission.batch.log
        )

    def stop(self) -> None:
        """End its processes; return when none is left, at once if none is there yet.

        Its log gets the words of slurmstepd, from which `jobs/diagnosis.py` learns why.
        """
        now = datetime.now().isoformat(timespec="seconds")
        cause = " DUE TO TIME LIMIT" if self.stopping is JobState.TIMEOUT else ""
        if self.process is not None:
            self.process.stop(
                f"JOB {self.number} ON {NODE_NAME} CANCELLED AT {now}{cause}"
            )

    def environment(self) -> dict[str, str]:
        """That of the client, and the variables that Slurm sets for this job."""
        batch, cpus = self.submission.batch, self.submission.cpus
        variables: dict[str, object] = {
            "SLURM_JOB_ID": self.number,
            "SLURM_JOBID": self.number,
            "SLURM_JOB_NAME": batch.name,
            "SLURM_SUBMIT_DIR": self.submission.directory,
            "SLURM_SUBMIT_HOST": NODE_NAME,
            "SLURM_CLUSTER_NAME": "local",
            "SLURM_JOB_NUM_NODES": 1,
            "SLURM_NNODES": 1,
            "SLURM_JOB_NODELIST": NODE_NAME,
            "SLURMD_NODENAME": NODE_NAME,
            "SLURM_CPUS_ON_NODE": cpus,
            "SLURM_PROCID": 0,
            "SLURM_LOCALID": 0,
            "SLURM_NODEID": 0,
        }
        for option in ("cpus_per_task", "ntasks"):
            if option in batch.options:
                variables[f"SLURM_{option.upper()}"] = batch.options[option]
        if batch.array_size is not None:
            variables |= {
                "SLURM_ARRAY_JOB_ID": self.submission.number,
                "SLURM_ARRAY_TASK_ID": self.index,
                "SLURM_ARRAY_TASK_COUNT": batch.array_size,
                "SLURM_ARRAY_TASK_MIN": 0,
                "SLURM_ARRAY_TASK_MAX": batch.array_size - 1,
                "SLURM_ARRAY_TASK_STEP": 1,
            }
        ours = {name: str(value) for name, value in variables.items()}
        return self.submission.environment | ours


def _without_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a job inherits of the client's environment."""
    return {
        name: value
        for name, value in environment.items()
        if not _SLURM_VARIABLE.match(name)
    }


def _parse_cpus(value: object) -> int:
    if not re.fullmatch("[1-9][0-9]*", str(value)):
        raise OptionError(
            f"cpus_per_task={value!r} is not a number of CPUs. Write cpus_per_task=2."
        )
    return int(str(value))


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  (text for a variable)
    except FileNotFoundError:  # somebody has removed it
        return None


def _without(ranges: Iterable[range], cuts: Sequence[int]) -> Iterator[range]:
    """Take single indices, in ascending order, out of ranges."""
    for indices in ranges:
        start = indices.start
        first, last = bisect_left(cuts, start), bisect_left(cuts, indices.stop)
        for cut in cuts[first:last]:
            if start < cut:
                yield range(start, cut)
            start = cut + 1
        if start < indices.stop:
            yield range(start, indices.stop)
