"""The files of one submission."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from slurm_futures.node.formats import BLOCK_SIZE, block_of, read_mark
from slurm_futures.runs.files import (
    is_there,
    printable,
    read_tail,
    remove_tree,
    write_json,
)
from slurm_futures.runs.finished import DIED, ENDING, OVER, FinishedDirectory
from slurm_futures.runs.job import (
    JobDirectory,
    clear_blocks,
    remove_job,
    remove_outcome,
)

#: Says that what jobs left that ended well was deleted.
_EMPTIED = "emptied"


@dataclass(frozen=True, slots=True)
class Death:
    """What a job wrote that ended without its outcomes.

    Attributes:
        attempt: how often Slurm had restarted the job before.
        error: the number of the system's error for which the worker gave up; 0: it did
            not.
        failed: what it could not do then: NOT_READ or NOT_WRITTEN.
        words: why none of its calls could begin; empty if they may have begun.
    """

    exit_code: int
    attempt: int = 0
    error: int = 0
    failed: int = 0
    words: str = ""


class Ends(NamedTuple):
    """What a listing tells of the jobs of a submission.

    Attributes:
        begun: their worker has begun with their calls.
        finished: they have published all their outcomes.
        died: their worker ended without that.
        ending: Slurm sent them SIGTERM: squeue will say why.
        over: they have ended, some time after their outcomes.
    """

    begun: set[int]
    finished: set[int]
    died: set[int]
    ending: set[int]
    over: Set[int] = frozenset()


class SubmissionDirectory:
    """One sbatch: a script and the calls of all its jobs.

    Args:
        path: its directory.
        logs: where Slurm's own words about its jobs are, as in the whole run.
    """

    def __init__(self, path: Path, logs: Path) -> None:
        self.path = path
        self.logs = logs
        self.finished = FinishedDirectory(path / "finished")

    @property
    def script(self) -> Path:
        """The file that sbatch gets."""
        return self.path / "script.sh"

    @property
    def calls(self) -> Path:
        """The calls of all jobs."""
        return self.path / "calls.pkl"

    def create(self, jobs: int) -> None:
        """Make the directories for so many jobs, two for each thousand."""
        self.path.mkdir(0o700)
        for kind in ("jobs", "finished"):
            (self.path / kind).mkdir()
            for first in range(0, jobs, BLOCK_SIZE):
                (self.path / kind / block_of(first)).mkdir()

    def log_pattern(self, *, array: bool) -> str:
        """Return the name of Slurm's log, with Slurm's own wild cards."""
        name = "%A_%a" if array else "%j"
        return f"{str(self.logs).replace('%', '%%')}/{name}"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write submission.json."""
        write_json(self.path / "submission.json", facts)

    def allow_attempt(self, number: int) -> None:
        """Make this the sbatch whose jobs may run, and no earlier one."""
        marker = self.path / f"attempt-{number}"
        if number == 1:
            marker.touch()
        else:
            self._rename(f"attempt-{number - 1}", marker.name)

    def adopt(self, attempt: int, number: int) -> None:
        """Let the job of this number run, whichever attempt it is, and no other one."""
        self._rename(f"attempt-{attempt}", f"adopted-{number}")

    def _rename(self, old: str, new: str) -> None:
        """Rename a marker, unless only the answer to that was lost."""
        try:
            (self.path / old).rename(self.path / new)
        except FileNotFoundError:
            if new not in os.listdir(self.path):
                raise

    def has_started(self) -> bool:
        """Whether any job has begun."""
        blocks = [self.path / "jobs" / name for name in os.listdir(self.path / "jobs")]
        return any(map(os.listdir, blocks))

    def job(self, index: int) -> JobDirectory:
        """Return the directory of a job, which exists once the job has begun."""
        return JobDirectory(self.path / f"jobs/{block_of(index)}/{index}")

    def list_ends(self, open_blocks: Iterable[str]) -> Ends:
        """Return the jobs in these blocks that have begun, are over, or will be soon.

        Raises:
            OSError: the directory cannot be listed now.
        """
        begun: set[int] = set()
        marks: dict[str, set[int]] = {kind: set() for kind in ("", DIED, ENDING, OVER)}
        for block in open_blocks:
            try:
                for index, kind in self.finished.entries([block]):
                    marks.get(kind, begun).add(index)
            except FileNotFoundError:
                if not is_there(self.finished.path):
                    raise
        return Ends(begun, marks[""], marks[DIED], marks[ENDING], marks[OVER])

    def read_death(self, index: int) -> Death | None:
        """Read what the script of a job wrote that `list_ends` says has died.

        Returns:
            None if it is not readable yet.
        """
        path = f"{self.finished.file(index)}.{DIED}"
        with contextlib.suppress(OSError, ValueError, TypeError):
            code, attempt, rest = f"{read_mark(path)}  ".split(" ", 2)
            death = Death(int(code), int(attempt or 0))
            if rest[:1].isdigit():
                error, failed = map(int, rest.split())
                return replace(death, error=error, failed=failed)
            return replace(death, words=printable(rest))
        return None

    def read_log(self, job_id: str) -> str:
        """Return the end of what Slurm itself has printed about a job."""
        return read_tail(self.logs / job_id)

    def remove(self) -> None:
        """Delete the submission with all that its jobs left."""
        self.keep_only(())
        remove_tree(self.path)

    def is_emptied(self) -> bool:
        """Whether what jobs left that ended well was deleted."""
        return is_there(self.path / _EMPTIED)

    def keep_only(self, jobs: Iterable[int]) -> None:
        """Delete what other jobs than these left.

        What a job that ended well leaves is known, and deleted without a look: half
        the operations that a walk through all directories takes.
        """
        kept = set(map(str, jobs))
        if kept:
            with contextlib.suppress(OSError):
                (self.path / _EMPTIED).touch(0o600)
        clear_blocks(self.finished.path, kept, remove_outcome)
        clear_blocks(self.path / "jobs", kept, remove_job)
