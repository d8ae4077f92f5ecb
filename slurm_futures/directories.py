"""The files of a run: the only place that joins paths.

    <directory>/
        20261122-150942-sweep-k3f9/     one run, mode 0700
            run.json                    who, where, with what
            start.py worker.py ...      run the calls on the nodes
            logs/                       what Slurm itself prints, a file for each job
            0001/                       one submission
                script.sh               exactly what sbatch got
                submission.json         job id, size, options, state
                calls.pkl               the calls of all jobs (worker.py describes it)
                attempt-1               which sbatch of this submission is the valid one
                adopted-4211            instead: which job, where sbatch had failed
                jobs/0-999/7/           a job directory, made by the job itself:
                    started stdout stderr outcomes
                finished/0-999/7        the exit code; appears when the calls are done
                finished/0-999/7.died   the same, if the worker did not live to do that,
                                        and the number of the attempt

Whatever the nodes write is found by listing directories, never by asking for a name
that may not exist yet: NFS may go on to say "not there" for minutes.
"""

from __future__ import annotations

import contextlib
import os
import py_compile
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, NamedTuple

from slurm_futures.errors import OptionError
from slurm_futures.files import (
    ForeignFileError,
    read_own,
    read_tail,
    read_text,
    write_file,
    write_json,
)
from slurm_futures.tracking import Death
from slurm_futures.worker import BLOCK_SIZE, GIVEN_UP, block_of, read_mark

#: Modules that start.py and worker.py run on the nodes, from their compiled form.
_ON_NODES = ("worker.py", "by_value.py", "call_errors.py", "pool_worker.py")
#: What a job leaves in its directory.
_JOB_FILES = ("started", "stdout", "stderr", "outcomes")


class Ends(NamedTuple):
    """Jobs of a submission that have left a mark at their end.

    Attributes:
        finished: they have published all their outcomes.
        died: their worker ended without that.
        ending: Slurm sent them SIGTERM: squeue will say why.
    """

    finished: set[int]
    died: set[int]
    ending: set[int]


class RunDirectory:
    """All submissions of one executor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, directory: Path, label: str) -> RunDirectory:
        """Make a new run below `directory`.

        Raises:
            OSError: it cannot be made.
        """
        names = ("start.py", *_ON_NODES)
        # First what fails without a trace where this process has no descriptor left.
        programs = [Path(__file__).with_name(name).read_bytes() for name in names]
        directory.mkdir(parents=True, exist_ok=True)
        run = cls(_make_unique(directory, label))
        try:
            run._fill(dict(zip(names, programs, strict=True)))
        except OSError:
            run.remove()
            raise
        return run

    def _fill(self, programs: Mapping[str, bytes]) -> None:
        for name, content in programs.items():
            write_file(self.path / name, content)
        for name in _ON_NODES:
            # Unchecked: the copy never changes. Other releases of Python compile it.
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            source = str(self.path / name)
            # Not where PYTHONPYCACHEPREFIX says: start.py looks here.
            compiled = self.path / "__pycache__" / Path(cache_from_source(source)).name
            py_compile.compile(source, str(compiled), invalidation_mode=mode)
        self.logs.mkdir(0o700)

    @staticmethod
    def check_path(directory: Path) -> None:
        """See that Slurm can create files below a directory of this name.

        Raises:
            OptionError: it cannot.
        """
        # slurmd does not create an output file whose path holds a backslash.
        text = str(directory)
        bad = next((char for char in "\\\n\r\0" if char in text), None)
        if bad is not None:
            raise OptionError(
                f"The directory {text!r} holds the character {bad!r}, with which Slurm "
                "cannot create files. Choose another one: "
                'SlurmExecutor(directory="...").'
            )

    def is_complete(self) -> bool:
        """Whether a job of this run would find its worker.

        A run that somebody deleted may be there again, empty: Slurm makes the missing
        directory of a job's log (26.05).
        """
        return all((self.path / name).is_file() for name in ("start.py", *_ON_NODES))

    @property
    def name(self) -> str:
        """The last part of the path, which is unique."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """Where Slurm's own words about the jobs are."""
        return self.path / "logs"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        write_json(self.path / "run.json", facts)

    def submission(self, number: int) -> Submission:
        """Return the submission of this number, which may not exist yet."""
        return Submission(self.path / f"{number:04}", self)

    def entries(self) -> Iterator[Path]:
        """Yield the submissions and pools that lie in the run.

        Raises:
            OSError: it cannot be listed now.
        """
        with contextlib.suppress(FileNotFoundError):
            for path in self.path.iterdir():
                if path.name.isdigit() or path.name.startswith("pool-"):
                    yield path

    def remove(self) -> None:
        """Delete the whole run."""
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_empty_logs(self) -> None:
        """Delete the logs in which Slurm had nothing to say."""
        with contextlib.suppress(OSError), os.scandir(self.logs) as entries:
            for entry in entries:
                if entry.stat().st_size == 0:
                    Path(entry.path).unlink(missing_ok=True)


def _make_unique(directory: Path, label: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    while True:
        suffix = "".join(random.choices("abcdefghjkmnpqrstuvwxyz23456789", k=4))  # noqa: S311  (a name, not a secret)
        path = directory / f"{stamp}-{label}-{suffix}"
        try:
            path.mkdir(0o700)
        except FileExistsError:
            continue
        return path


class Submission:
    """One sbatch: a script and the calls of all its jobs."""

    def __init__(self, path: Path, run: RunDirectory) -> None:
        self.path = path
        self.run = run

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
        return f"{str(self.run.logs).replace('%', '%%')}/{name}"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write submission.json."""
        write_json(self.path / "submission.json", facts)

    def allow_attempt(self, number: int) -> None:
        """Make this the sbatch whose jobs may run, and no earlier one."""
        marker = self.path / f"attempt-{number}"
        if number == 1:
            marker.touch()
        else:
            (self.path / f"attempt-{number - 1}").rename(marker)

    def adopt(self, attempt: int, number: int) -> None:
        """Let the job of this number run, whichever attempt it is, and no other one."""
        (self.path / f"attempt-{attempt}").rename(self.path / f"adopted-{number}")

    def has_started(self) -> bool:
        """Whether any job has begun."""
        blocks = [self.path / "jobs" / name for name in os.listdir(self.path / "jobs")]
        return any(map(os.listdir, blocks))

    def job(self, index: int) -> JobDirectory:
        """Return the directory of a job, which exists once the job has begun."""
        return JobDirectory(self.path / f"jobs/{block_of(index)}/{index}")

    def list_ends(self, open_blocks: Iterable[str]) -> Ends:
        """Return the jobs in these blocks that are over, or will be soon.

        Raises:
            OSError: the directory cannot be listed now.
        """
        found: dict[str, set[int]] = {"": set(), "died": set(), "ending": set()}
        for name in self._list("finished", open_blocks):
            index, _, kind = name.partition(".")
            if index.isdigit() and kind in found:
                found[kind].add(int(index))
        return Ends(found[""], found["died"], found["ending"])

    def list_started(self, open_blocks: Iterable[str]) -> set[int]:
        """Return the jobs in these blocks that have begun."""
        names = self._list("jobs", open_blocks)
        return {int(name) for name in names if name.isdigit()}

    def _list(self, kind: str, open_blocks: Iterable[str]) -> Iterator[str]:
        directory = self.path / kind
        for block in set(os.listdir(directory)).intersection(open_blocks):
            yield from os.listdir(directory / block)

    def read_death(self, index: int) -> Death | None:
        """Read what the script of a job wrote that `list_ends` says has died.

        Returns:
            None if it is not readable yet.
        """
        path = self.path / "finished" / block_of(index) / f"{index}.died"
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Death(*map(int, read_mark(path).split()))
        return None

    def read_log(self, job_id: str) -> str:
        """Return the end of what Slurm itself has printed about a job."""
        return read_tail(self.run.logs / job_id)

    def remove(self) -> None:
        """Delete the submission with all that its jobs left.

        What a job that ended well leaves is known, and deleted without a look: half
        the operations that a walk through all directories takes.
        """
        with contextlib.suppress(OSError):
            for block in self._blocks("finished"):
                for name in os.listdir(block):
                    os.unlink(name, dir_fd=block)
            for block in self._blocks("jobs"):
                for job in os.listdir(block):
                    _remove_job(job, block)
        shutil.rmtree(self.path, ignore_errors=True)

    def _blocks(self, kind: str) -> Iterator[int]:
        """Yield a descriptor of each directory of a kind, while it is open."""
        with os.scandir(self.path / kind) as blocks:
            for block in blocks:
                descriptor = os.open(block, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    yield descriptor
                finally:
                    os.close(descriptor)


class JobDirectory:
    """Where one job leaves its files. It need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_outcomes(self) -> bytes:
        """Return the outcomes of a job that has finished.

        Raises:
            OSError: they are not there, or belong to somebody else.
        """
        return read_own(self.path / "outcomes")

    def read_partial_outcomes(self) -> Iterator[bytes]:
        """Yield what each attempt at a job that was cut short has left.

        Raises:
            OSError: it cannot be read now, or has just got another name.
        """
        if not self.exists():
            return
        for name in sorted(os.listdir(self.path)):
            if name.startswith("outcomes"):
                with contextlib.suppress(ForeignFileError):
                    yield read_own(self.path / name)

    def give_up(self) -> None:
        """Tell a job that may live on to begin no more calls.

        Raises:
            OSError: the file cannot be made now.
        """
        (self.path / GIVEN_UP).touch()

    def take_back(self) -> None:
        """Let a job go on that was told to begin no more calls.

        Raises:
            OSError: the file cannot be removed now.
        """
        (self.path / GIVEN_UP).unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether the job has begun, found by listing.

        Raises:
            OSError: nobody can tell now.
        """
        block = self.path.parent
        with contextlib.suppress(FileNotFoundError):
            return block.name in os.listdir(
                block.parent
            ) and self.path.name in os.listdir(block)
        return False

    def node(self) -> str | None:
        """Return the host on which the last attempt at the job began."""
        with contextlib.suppress(OSError, IndexError):
            return read_mark(self.path / "started").split()[0]
        return None

    def attempt(self) -> int:
        """Return how often Slurm had restarted the job when its worker last began."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(read_mark(self.path / "started").split()[2])
        return 0

    def stdout(self) -> str:
        """Return what the job has printed."""
        return read_text(self.path / "stdout")

    def stderr(self) -> str:
        """Return what the job has printed to stderr."""
        return read_text(self.path / "stderr")

    def stderr_tail(self) -> str:
        """Return the end of what the job has printed to stderr."""
        return read_tail(self.path / "stderr")


def _remove_job(name: str, block: int) -> None:
    """Delete a job directory if it holds just what one holds that ended well."""
    with contextlib.suppress(OSError):
        for file in _JOB_FILES:
            os.unlink(f"{name}/{file}", dir_fd=block)
        os.rmdir(name, dir_fd=block)
