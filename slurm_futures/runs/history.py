"""Reads back which calls a run has, and how each of them ended.

The directories are listed, and one file is read for each submission; only where some
calls of a job have a value and others have none, its outcomes are read as well.
"""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from slurm_futures.errors import JobCancelled, SlurmFuturesError
from slurm_futures.node.formats import (
    RAISED,
    UNNUMBERED,
    VALUE,
    block_of,
)
from slurm_futures.node.pool_worker import worker_of
from slurm_futures.runs.calls_file import read_numbers
from slurm_futures.runs.files import read_json
from slurm_futures.runs.finished import DIED, ENDING, FinishedDirectory
from slurm_futures.runs.queue import KEPT_FAILED, PoolDirectory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.submission import SubmissionDirectory

logger = logging.getLogger("slurm_futures")


class Ending(enum.Enum):
    """How far a call has come, as the files tell; in the words of `Run.counts`."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RUNNING = "running"
    PENDING = "pending"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it."""
        return self not in {Ending.RUNNING, Ending.PENDING}


@dataclass(slots=True, eq=False)
class StoredCalls:
    """The calls of one calls file.

    Attributes:
        path: of the file.
        finished: has their outcomes.
        first: what the outcomes of its first job are called there.
        home: the submission or the pool that it belongs to.
        is_emptied: whether the files of calls that went well were deleted.
        facts: what submission.json tells; empty where there is none.
        numbers: of the calls of each job.
    """

    path: Path
    finished: FinishedDirectory
    first: int
    home: SubmissionDirectory | PoolDirectory
    is_emptied: bool
    facts: dict[str, Any]
    numbers: list[list[int]]


class StoredCall(NamedTuple):
    """The last attempt at a call, or the one that has left a value.

    Attributes:
        calls: where it lies.
        job: which of the jobs of that file runs it.
        position: in that job.
        ending: how far it has come.
        is_published: whether its job has ended with all outcomes.
    """

    calls: StoredCalls
    job: int
    position: int
    ending: Ending
    is_published: bool

    @property
    def place(self) -> int:
        """What its outcomes are called."""
        return self.calls.first + self.job


class History:
    """The calls of a run.

    Args:
        path: of the run.

    Attributes:
        facts: what run.json tells.
        lost: jobs that are over without a mark, and why; who asks the scheduler notes
            them.

    Raises:
        OSError: run.json cannot be read.
        SlurmFuturesError: the run is in another format.
    """

    def __init__(self, path: Path) -> None:
        self.run = RunDirectory(path)
        self.lost: dict[tuple[Path, int], SlurmFuturesError] = {}
        self.facts = read_json(path / "run.json")
        self._known: dict[Path, StoredCalls] = {}
        self._marks: dict[Path, dict[int, set[str]]] = {}

    def look(self) -> dict[int, StoredCall]:
        """Return what the files tell now of each call, by its number.

        A call may have had several attempts. A value counts, whichever of them has
        left it; else the latest attempt tells.

        Raises:
            OSError: the run cannot be listed now, or is not there any more.
        """
        _ = (self.run.path / "run.json").stat()  # else it is no run any more
        self._marks = {}
        found: dict[int, StoredCall] = {}
        for calls in self._list():
            for number, call in self._calls_of(calls):
                earlier = found.get(number)
                if earlier is None or earlier.ending is not Ending.DONE:
                    found[number] = call
        found.pop(UNNUMBERED, None)
        return dict(sorted(found.items()))

    def submission(self, name: str) -> SubmissionDirectory:
        """Return the submission whose directory has this name."""
        return self.run.submission(int(name))

    def facts_of(self, submission: SubmissionDirectory) -> dict[str, Any]:
        """Return what is known of a submission; nothing, where nobody has written it.

        Raises:
            SlurmFuturesError: it is in another format.
        """
        known = self._known.get(submission.calls)
        if known is not None and known.facts:
            return known.facts
        try:
            return read_json(submission.path / "submission.json")
        except OSError as error:
            logger.debug("%s", error)
            return {}

    def unit_of(self, call: StoredCall) -> tuple[SubmissionDirectory, int] | None:
        """Return the job that has a call; None: none has, or it is not known."""
        home = call.calls.home
        if isinstance(home, SubmissionDirectory):
            return home, call.job
        if call.ending is Ending.PENDING:
            return None
        owner = home.owner(call.place)
        return None if owner is None else self.worker(owner)

    def worker(self, owner: str) -> tuple[SubmissionDirectory, int]:
        """Return the job that has claimed a call under this name."""
        name, _, index = worker_of(owner).partition("-")
        return self.submission(name), int(index)

    # Submissions and pools, in the order in which they were made.

    def _list(self) -> list[StoredCalls]:
        found: list[StoredCalls] = []
        for path in sorted(self.run.entries(), key=_place):
            if path.name.isdigit():
                submission = self.submission(path.name)
                found += self._open(submission.calls, submission, 0)
            else:
                pool = PoolDirectory(path)
                for batch in pool.batches():
                    found += self._open(pool.batch(batch), pool, batch.start)
        return found

    def _open(
        self, path: Path, home: SubmissionDirectory | PoolDirectory, first: int
    ) -> list[StoredCalls]:
        """Read a calls file, unless it is known, not written yet, or deleted by now."""
        if path not in self._known:
            try:
                numbers = read_numbers(path)
            except (OSError, EOFError) as error:
                logger.debug("%s is passed over: %s", path, error)
                return []
            self._known[path] = StoredCalls(
                path, home.finished, first, home, False, {}, numbers
            )
        known = self._known[path]
        known.is_emptied = home.is_emptied()
        if isinstance(home, SubmissionDirectory) and not known.facts:
            known.facts = self.facts_of(home)
        return [known]

    # Endings.

    def _calls_of(self, calls: StoredCalls) -> Iterator[tuple[int, StoredCall]]:
        marks = self._marks_of(calls.home)
        for job, numbers in enumerate(calls.numbers):
            found: Set[str] = marks.get(calls.first + job, frozenset())
            endings = self._endings(calls, job, found, len(numbers))
            is_published = "" in found
            for position, number in enumerate(numbers):
                ending = endings if isinstance(endings, Ending) else endings[position]
                yield (
                    number,
                    StoredCall(calls, job, position, ending, is_published),
                )

    def _marks_of(
        self, home: SubmissionDirectory | PoolDirectory
    ) -> dict[int, set[str]]:
        """Return what lies in the directory `finished`, for each job."""
        if home.path not in self._marks:
            try:
                self._marks[home.path] = home.finished.list_all()
            except FileNotFoundError as error:
                logger.debug("%s", error)
                self._marks[home.path] = {}
        return self._marks[home.path]

    def _endings(
        self, calls: StoredCalls, job: int, marks: Set[str], size: int
    ) -> Ending | list[Ending]:
        """Return how the calls of a job ended: all alike, or each in its way."""
        if not marks:
            return self._ending_without_marks(calls, job)
        if "" in marks:
            raised = [each for each in marks if each.startswith(RAISED)]
            if not raised:
                return Ending.DONE
            if f"{RAISED}{size}" in raised:
                return Ending.FAILED
        elif not marks & {DIED, ENDING} and not self._has_lost_job(calls, job):
            return Ending.RUNNING
        values = {
            position
            for position, kind, _ in calls.finished.read_left(calls.first + job)
            if kind == VALUE
        }
        return [
            Ending.DONE if each in values else Ending.FAILED for each in range(size)
        ]

    def _ending_without_marks(self, calls: StoredCalls, job: int) -> Ending:
        """Return how far calls have come of which `finished` says nothing."""
        if calls.is_emptied:
            return Ending.DONE
        home = calls.home
        if isinstance(home, SubmissionDirectory):
            lost = self.lost.get((home.path, job))
            if lost is None:
                return Ending.PENDING
            return Ending.CANCELLED if isinstance(lost, JobCancelled) else Ending.FAILED
        number = calls.first + job
        if block_of(number) not in os.listdir(home.finished.path):
            return Ending.DONE  # with all others of the block, and deleted
        if home.is_withdrawn(number):
            return Ending.CANCELLED
        if self._has_lost_job(calls, job):
            return Ending.FAILED
        return Ending.PENDING if home.owner(number) is None else Ending.RUNNING

    def _has_lost_job(self, calls: StoredCalls, job: int) -> bool:
        """Whether the job has ended that runs calls which it has not finished."""
        home = calls.home
        if isinstance(home, SubmissionDirectory):
            return (home.path, job) in self.lost
        if calls.is_emptied:
            return True
        owner = home.owner(calls.first + job)
        if owner is None:
            return False
        submission, index = self.worker(owner)
        if (submission.path, index) in self.lost:
            return True
        return bool(self._marks_of(submission).get(index, set()) & {"", DIED, ENDING})


def _place(path: Path) -> tuple[bool, int]:
    """Return where a submission or a pool stands among all of them."""
    number = path.name.removeprefix("pool-").removesuffix(KEPT_FAILED)
    return not path.name.isdigit(), int(number)
