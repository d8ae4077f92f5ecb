"""Writes submissions to disk, and cleans up after them.

One `Writer` for each run. It makes the run directory with the first submission, so
that an executor that is never used leaves nothing behind.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from slurm_futures import __version__
from slurm_futures.calls.call import PickledCall
from slurm_futures.calls.pickler import CLOUDPICKLE_VERSION
from slurm_futures.calls.state import CallerState
from slurm_futures.errors import OptionError, SubmitError, shown
from slurm_futures.node.formats import BLOCK_SIZE, SERVE_POOL
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.files import write_file
from slurm_futures.runs.place import check_place
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.script import ScriptTemplate
from slurm_futures.runs.submission import SubmissionDirectory
from slurm_futures.schedulers.base import BatchScript
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

Keep = Literal["failed", "always", "never"]


@dataclass(frozen=True, slots=True)
class WrittenSubmission:
    """A submission that is ready to be sent."""

    directory: SubmissionDirectory
    batch: BatchScript
    facts: dict[str, Any]

    def describe(self, state: str, **more: Any) -> None:
        """Write submission.json."""
        self.directory.describe({"state": state, **self.facts, **more})


class Writer:
    """The files of one run: made by the submitter's thread, removed by any.

    Args:
        directory: where runs are kept.
        template: how scripts are made.
        initializer: the pickled initializer with its arguments, or None.
        keep: which submissions stay when they are over.
        scheduler: what has the jobs, for whoever opens the run.
    """

    def __init__(
        self,
        directory: Path,
        template: ScriptTemplate,
        initializer: bytes | None,
        keep: Keep,
        scheduler: str = "",
    ) -> None:
        self._scheduler = scheduler
        self.directory = directory
        self._template = template
        self._initializer = initializer
        self._keep = keep
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._count = 0
        self._over: dict[Path, SubmissionDirectory | PoolDirectory] = {}
        #: Of these, those that no future refers to any more.
        self._unreachable: deque[Path] = deque()
        self._open_pools: list[PoolDirectory] = []
        self._pools = 0
        #: Those with which the workers of pools begin.
        self._bases: dict[Kind, CallerState] = {}
        #: Of each submission, the jobs in which a call failed.
        self._failed: dict[Path, set[int]] = {}
        self.run: RunDirectory | None = None
        #: A run that could not be filled yet.
        self._unfinished: RunDirectory | None = None
        #: What was not sent. Of these something may be left, after errors.
        self._discarded: list[SubmissionDirectory | PoolDirectory] = []

    def write(
        self,
        kind: Kind,
        label: str,
        jobs: Sequence[Sequence[PickledCall]],
        throttle: int | None,
    ) -> WrittenSubmission:
        """Write the files of a new submission.

        Raises:
            OSError: they cannot be written; nothing is left of the submission.
            OptionError: others may write by now where the run is, or the template is
                not what it was.
        """
        self._remove_unreachable()
        run = self._run(label)
        check_place(self.directory)
        self._count += 1
        submission = run.submission(self._count)
        try:
            submission.create(len(jobs))
            base = self._base(kind, jobs[0][0])
            batch = self._batch(kind, label, run, submission, len(jobs), throttle)
            batch = replace(batch, environment=base.environment())
            script = self._template.render(
                name=batch.name,
                run=run.path,
                submission=submission.path,
                block_size=BLOCK_SIZE,
                array=batch.array_size is not None,
                requeue="requeue" in batch.options,
            )
            write_file(submission.script, script.encode("utf-8", "surrogateescape"))
            write_calls(submission.calls, jobs, self._context(kind), base)
            submission.allow_attempt(1)
        except BaseException:
            self.discard(submission)
            raise
        facts = {
            "label": label,
            "job_id": None,
            "name": batch.name,
            "jobs": len(jobs),
            "calls": sum(map(len, jobs)),
            "options": dict(kind.options.items),
            "cwd": kind.cwd,
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return WrittenSubmission(submission, batch, facts)

    def new_pool(self, label: str) -> PoolDirectory:
        """Make the directory of a new pool.

        Raises:
            OSError: it cannot be made.
        """
        run = self._run(label)
        with self._lock:
            self._pools += 1
            pool = PoolDirectory(run.path / f"pool-{self._pools}", self._keep)
        try:
            pool.create()
        except OSError:
            self.discard(pool)
            raise
        with self._lock:
            self._open_pools.append(pool)
        return pool

    def write_batch(
        self, path: Path, kind: Kind, jobs: Sequence[Sequence[PickledCall]]
    ) -> None:
        """Put calls into the queue of a pool.

        Raises:
            OSError: they cannot be written.
        """
        base = self._bases.setdefault(kind, jobs[0][0].state)
        write_calls(path, jobs, self._context(kind), base)

    def _base(self, kind: Kind, first: PickledCall) -> CallerState:
        """Return the state of the caller with which the jobs of a submission begin."""
        if first.function != SERVE_POOL:
            return first.state
        return self._bases.setdefault(kind, first.state)

    def _run(self, label: str) -> RunDirectory:
        with self._lock:
            if self.run is not None and not self.run.is_complete():
                logger.warning(
                    "%s was deleted, replaced, or opened to others, who may have "
                    "written to it; later calls get a new run directory",
                    self.run.path,
                )
                if _is_empty(self.run):
                    self.run.remove()
                self.run = None
            if self.run is None:
                self.run = self._new_run(label)
            return self.run

    def _new_run(self, label: str) -> RunDirectory:
        """Make a run, or go on with one that could not be filled."""
        run = self._unfinished or RunDirectory.create(self.directory, label)
        self._unfinished = run
        try:
            run.fill()
            run.describe(self._describe_run())
        except FileNotFoundError:  # somebody has deleted it
            self._unfinished = None
            raise
        self._unfinished = None
        return run

    def _describe_run(self) -> dict[str, Any]:
        return {
            "slurm_futures": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "command": list(self._template.python),
            "host": platform.node(),
            "user": os.geteuid(),
            "pid": self._pid,
            "scheduler": self._scheduler,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "cwd": current_directory(),
            "argv": sys.argv,
            "path": sys.path,
        }

    def _batch(
        self,
        kind: Kind,
        label: str,
        run: RunDirectory,
        submission: SubmissionDirectory,
        size: int,
        throttle: int | None,
    ) -> BatchScript:
        options = dict(kind.options.items)
        suffix = run.path.name.rpartition("-")[2]
        name = str(options.pop("job_name", f"{label}-{suffix}-{submission.path.name}"))
        array = size > 1
        return BatchScript(
            script=submission.script,
            name=name,
            directory=submission.path,
            log=submission.log_pattern(array=array),
            arguments=("1",),
            array_size=size if array else None,
            throttle=throttle if array and throttle and throttle < size else None,
            options=options,
        )

    def _context(self, kind: Kind) -> dict[str, Any]:
        """Return what a job needs to look at modules and files as this program does."""
        exported = str(kind.options.get("export") or "ALL").split(",")
        return {
            "cwd": kind.cwd,
            "real_cwd": os.path.realpath(kind.cwd),
            "script": getattr(sys.modules.get("__main__"), "__file__", None),
            "exported": "ALL" in exported,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "version": sys.version_info[:2],
            "cloudpickle": CLOUDPICKLE_VERSION,
            "initializer": self._initializer,
        }

    def note_failure(self, job: Path) -> None:
        """Remember that a call failed that ran in the job of this directory."""
        self._failed.setdefault(job.parents[2], set()).add(int(job.name))

    def note_over(self, submission: SubmissionDirectory | PoolDirectory) -> None:
        """Remember that nothing of this submission or pool is open any more."""
        path = submission.path
        if isinstance(submission, SubmissionDirectory):
            # A callback may come at any moment: it does one step.
            note = weakref.finalize(submission, self._unreachable.append, path)
            note.atexit = False
            submission = SubmissionDirectory(path, submission.logs)
        with self._lock:
            self._over[path] = submission
            if submission in self._open_pools:
                self._open_pools.remove(submission)

    def discard(self, submission: SubmissionDirectory | PoolDirectory) -> None:
        """Delete what was not sent; what cannot be deleted now is at the end."""
        submission.remove()
        with self._lock:
            self._discarded.append(submission)

    def _remove_rests(self) -> None:
        """Delete what errors of the file system have left."""
        with self._lock:
            discarded, self._discarded = self._discarded, []
            unfinished, self._unfinished = self._unfinished, None
        for each in discarded:
            each.remove()
        if unfinished is not None:
            unfinished.remove()

    def _remove(self, submission: SubmissionDirectory | PoolDirectory) -> None:
        """Remove what need not be kept of a submission or a pool that is over."""
        failed = self._failed.pop(submission.path, None)
        if isinstance(submission, PoolDirectory):
            submission.keep_failed()
        elif self._keep == "failed" and failed:
            submission.keep_only(failed)
        else:
            submission.remove()

    def _remove_unreachable(self) -> None:
        """Do so where no future is left: an endless map must not fill the disk."""
        while self._unreachable and self._keep != "always":
            path = self._unreachable.popleft()
            with self._lock:
                submission = self._over.pop(path, None)
            if submission is not None:
                self._remove(submission)

    def finish(self) -> None:
        """Clean up when nothing runs, and nobody can submit any more.

        Does nothing in a forked child, where the lock may be held for ever.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._over |= {pool.path: pool for pool in self._open_pools}
            self._open_pools = []
        self.clean()

    def clean(self) -> None:
        """Remove what need not be kept of the submissions that are over.

        Does nothing in a forked child: the files belong to the parent.
        """
        if os.getpid() != self._pid:
            return
        self._remove_rests()
        if self._keep == "always":
            return
        with self._lock:
            run = self.run
            over, self._over = self._over, {}
        if run is None:
            return
        for each in over.values():
            self._remove(each)
        if not _is_empty(run):
            run.remove_empty_logs()
            return
        run.remove()
        with self._lock:
            if self.run is run:
                self.run = None


def _is_empty(run: RunDirectory) -> bool:
    """Whether a run holds nothing that must be kept, as far as can be told now."""
    try:
        return not any(run.entries())
    except OSError as error:
        logger.info("%s stays as it is: %s", run.path, error)
        return False


def check_keep(keep: object) -> None:
    """Check that `keep` is one of its words.

    Raises:
        OptionError: it is not.
    """
    if keep not in get_args(Keep):
        raise OptionError(
            f'keep={shown(keep)} is unknown. Write keep="failed", "always" or "never".'
        )


def current_directory() -> str:
    """Return where this program is; if that was deleted, where it was before.

    By the name that the user goes by ($PWD) where there are several: nodes may not have
    the others, such as what an automounter or a link on this machine leads to.
    """
    name = os.environ.get("PWD", "/")
    try:
        here = os.getcwd()  # noqa: PTH109  (text for jobs and JSON)
        is_name = os.path.normpath(name) == name and Path(name).is_absolute()
        return name if is_name and name != here and _are_same(name, here) else here
    except FileNotFoundError:
        return name


def _are_same(name: str, here: str) -> bool:
    try:
        return Path(name).samefile(here)
    except OSError:
        return False


def not_written(directory: Path, error: Exception) -> SubmitError:
    """Say that calls never became jobs, since their files could not be written."""
    failure = SubmitError(
        "The calls were not submitted, since their files could not be written below "
        f"{directory}.\nThe system said: {error}.\n{_advise(error)}"
    )
    failure.__cause__ = error
    return failure


def _advise(error: Exception) -> str:
    another = 'choose another directory: SlurmExecutor(directory="...").'
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"Make room there, or {another}"
    return f"Submit them again when the file system is well, or {another}"


def clean_name(name: str) -> str:
    """Return a name with which Slurm's commands and file systems are at ease."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")[:40] or "call"
