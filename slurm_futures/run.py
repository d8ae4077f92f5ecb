"""A run that is opened again, by whatever program: look at it, and collect it.

    run = slurm_futures.open_run("20261122-150942-sweep-k3f9")
    run.counts()
    run.wait(timeout=60)
    [future.result() for future in run.futures if not future.exception()]

It observes: nothing of a run is changed here, but by `Run.cancel`.
"""

from __future__ import annotations

import logging
import os
import stat
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.stored import CallPlace
from slurm_futures.calls.usage import UsageSummary, UsageTally
from slurm_futures.errors import OptionError, RunNotFound, SlurmFuturesError
from slurm_futures.jobs.observer import Observer
from slurm_futures.jobs.past import past_future, read_usages
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.history import Ending, History, StoredCall
from slurm_futures.runs.owner import Owner, read_owner
from slurm_futures.runs.place import user_name
from slurm_futures.runs.queue import PoolDirectory
from slurm_futures.runs.run import RunDirectory, find_run, runs_in
from slurm_futures.schedulers.arguments import path_text
from slurm_futures.schedulers.base import Scheduler
from slurm_futures.schedulers.slurm import SlurmScheduler

if TYPE_CHECKING:
    from concurrent.futures._base import DoneAndNotDoneFutures
    from types import TracebackType

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What `list_runs` tells of a run.

    Attributes:
        name: that its user has given it; None: it has none.
        path: its directory.
        owner: the program that has it now; None: none is known to.
        created: when it began.
        counts: as `Run.counts` of an opened run.
    """

    name: str | None
    path: Path
    owner: Owner | None
    created: datetime
    counts: dict[str, int]


class Run:
    """A run of this or another program, as its files tell; made by `open_run`.

    Args:
        path: its directory.

    Raises:
        SlurmFuturesError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = _read(path)
        self._futures: dict[int, tuple[StoredCall, SlurmFuture[Any]]] = {}
        self._watched = _read(path)
        self._watched.lost = self._history.lost
        self._scheduler = _scheduler_of(self._history)
        self._observer = Observer(self._watched, self._scheduler, Timing())
        self._closed = False
        weakref.finalize(self, self._observer.close).atexit = False

    @property
    def name(self) -> str | None:
        """The name that its user has given it; None: it has none."""
        return _name_of(self._history)

    @property
    def owner(self) -> Owner | None:
        """The program that may submit, cancel and delete in it; None: none is known."""
        return _owner_of(self.path)

    @property
    def futures(self) -> Sequence[SlurmFuture[Any]]:
        """A future for each call, in the order of submission, chunks or not.

        Outcomes are read when they are asked for. Open futures settle while the run is
        not closed; their `cancel` does nothing, see `Run.cancel`. A call that has
        failed, and was submitted again by its program, has a new future when this is
        asked again.

        Raises:
            RuntimeError: the run was closed.
        """
        if self._closed:
            raise RuntimeError("the run was closed; open it again with open_run()")
        return _Futures(self, self._look())

    def counts(self) -> dict[str, int]:
        """Count the calls, as the files tell now: each one once, however often it ran.

        "done" are those that have returned a value. A call whose job has vanished
        without a word, as with its node, counts as before until a future of this run
        has waited for it.
        """
        return _count(self._look().values())

    def usage(self) -> UsageSummary:
        """Sum up what the calls have used that are over: reads their outcomes."""
        tally = UsageTally()
        over = [each for each in self._look().values() if each.ending.is_over]
        is_pool = any(isinstance(each.calls.home, PoolDirectory) for each in over)
        for options, record in read_usages(self._history, over):
            tally.add(options, record)
        return tally.summarize(advise_time=not is_pool)

    def wait(self, timeout: float | None = None) -> DoneAndNotDoneFutures[Any]:
        """Wait until all calls are over that there are now, as `futures.wait` does.

        Args:
            timeout: seconds; None: as long as it takes.
        """
        return wait(list(self.futures), timeout)

    def cancel(self) -> None:
        """Cancel all jobs of the run with scancel, also those of a living program.

        Raises:
            SchedulerError: the scheduler cannot be asked now.
            SlurmFuturesError: its jobs cannot be reached from here.
        """
        if self._scheduler is None:
            raise SlurmFuturesError(
                f"The jobs of {self.path} cannot be reached from here: they are not "
                "Slurm's, or this machine has no Slurm. Cancel them where they are."
            )
        home = f"{self.path}/"
        jobs = [
            job_id
            for job_id, rows in self._scheduler.query().jobs.items()
            if any(
                f"{row.directory}/".startswith(home) or row.command.startswith(home)
                for row in rows
                if not row.state.ended
            )
        ]
        if jobs:
            self._scheduler.cancel(jobs)

    def close(self) -> None:
        """Watch nothing any more; open futures of this object stay as they are.

        The run itself, and its jobs, are left alone.
        """
        self._closed = True
        self._observer.close()
        self._observer.join()
        self._futures = {}

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        name = "" if self.name is None else f" name={self.name!r}"
        try:
            words = [f"{word}={n}" for word, n in self.counts().items() if n]
        except RunNotFound:
            words = ["deleted"]
        return f"<Run{name} path={str(self.path)!r} {' '.join(words) or 'empty'}>"

    def _look(self) -> dict[int, StoredCall]:
        try:
            return self._history.look()
        except OSError as error:
            raise _not_readable(self.path, error) from error

    def _future_of(self, number: int, call: StoredCall) -> SlurmFuture[Any]:
        """Return the future of a call: always the same one, unless it ran again."""
        known = self._futures.get(number)
        if known is not None and _is_of_attempt(*known, call):
            return known[1]
        if call.ending.is_over:
            future: SlurmFuture[Any] = past_future(self._history, call)
        else:
            future = SlurmFuture(_Bystander(self))
            future._name = str(call.calls.facts.get("label", ""))
            self._observer.watch(number, future)
        self._futures[number] = call, future
        return future


class _Bystander:
    """Hears of cancels of an observed future, and cannot grant them.

    Args:
        run: is watched as long as there is such a future.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def note_cancel(self, future: SlurmFuture[Any]) -> None:
        """Never come here: `has_outcome` says no before."""

    def has_outcome(self, _: SlurmFuture[Any]) -> bool:
        """Say that it is too late for a cancel."""
        return True


class _Futures(Sequence[SlurmFuture[Any]]):
    """Futures that are made when they are asked for."""

    def __init__(self, run: Run, calls: dict[int, StoredCall]) -> None:
        self._run = run
        self._calls = calls
        self._numbers = list(calls)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> SlurmFuture[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[SlurmFuture[Any]]: ...

    def __getitem__(
        self, index: int | slice
    ) -> SlurmFuture[Any] | Sequence[SlurmFuture[Any]]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        number = self._numbers[index]
        return self._run._future_of(number, self._calls[number])

    def __repr__(self) -> str:
        return f"<{len(self)} futures of {self._run.path}>"


def open_run(
    name_or_path: str | os.PathLike[str],
    directory: str | os.PathLike[str] = ".slurm_futures",
) -> Run:
    """Open a run, also while its program lives, from any machine that has its files.

    Args:
        name_or_path: the name of the run, or of its directory, or a path.
        directory: where runs are kept.

    Raises:
        RunNotFound: there is no such run, or no run at all.
        SlurmFuturesError: it belongs to another user, is in another format, or parts of
            it are gone.
    """
    given = path_text("name_or_path", name_or_path)
    path = find_run(path_text("directory", directory), given)
    if path is None:
        raise RunNotFound(
            f"There is no run {given!r}, in {os.fspath(directory)} or as a path. "
            "slurm_futures.list_runs() tells which runs there are; directory= says "
            "where."
        )
    return Run(path)


def list_runs(directory: str | os.PathLike[str] = ".slurm_futures") -> list[RunSummary]:
    """Return what runs there are, the newest last.

    What is no run, or cannot be opened, is passed over.

    Args:
        directory: where runs are kept.
    """
    found = []
    for path in runs_in(path_text("directory", directory)):
        try:
            found.append(_summary(path))
        except (SlurmFuturesError, OSError, ValueError, KeyError) as error:
            logger.debug("%s is passed over: %s", path, error)
    return sorted(found, key=lambda each: (each.created, each.path))


def _summary(path: Path) -> RunSummary:
    history = _read(path)
    return RunSummary(
        _name_of(history),
        path,
        _owner_of(path),
        datetime.fromisoformat(history.facts["created"]),
        _count(history.look().values()),
    )


def _count(calls: Iterable[StoredCall]) -> dict[str, int]:
    found = Counter(call.ending for call in calls)
    return {each.value: found[each] for each in Ending}


def _read(path: Path) -> History:
    """Begin to read a run.

    Raises:
        RunNotFound: it is none.
        SlurmFuturesError: it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise RunNotFound(f"{path} is no run, but a file. Give its directory.")
        if status.st_uid != os.geteuid():
            raise SlurmFuturesError(
                f"{path} belongs to {user_name(status.st_uid)}. You can open your own "
                "runs only, since opening one runs what is pickled in it."
            )
        return History(path)
    except RunNotFound:
        raise
    except FileNotFoundError as error:
        raise _not_found(path) from error
    except OSError as error:
        raise _not_readable(path, error) from error


def _not_found(path: Path) -> SlurmFuturesError:
    """Say what a directory is that has no run.json."""
    if RunDirectory(path).has_rests():
        return SlurmFuturesError(
            f"{path} is a run of which parts were deleted: it has no run.json. What is "
            "left cannot be opened; remove the directory."
        )
    return RunNotFound(
        f"{path} is no run: it has no run.json. slurm_futures.list_runs() tells which "
        "runs there are."
    )


def _not_readable(path: Path, error: OSError) -> SlurmFuturesError:
    if isinstance(error, FileNotFoundError):
        return RunNotFound(f"{path} was deleted, or a part of it: {error}.")
    return SlurmFuturesError(
        f"{path} cannot be read: {error}. Open the run again when the file system is "
        "well."
    )


def _is_of_attempt(
    made_for: StoredCall, future: SlurmFuture[Any], call: StoredCall
) -> bool:
    """Whether a future tells of what the files say now of its call."""
    if made_for.ending.is_over:
        return made_for == call
    place = CallPlace(call.calls.path, call.job, call.position)
    return not future.done() or future._place == place


def _scheduler_of(history: History) -> Scheduler | None:
    """Return what can be asked about the jobs of a run."""
    if history.facts.get("scheduler") == SlurmScheduler.__name__:
        try:
            return SlurmScheduler()
        except OptionError as error:
            logger.info("the queue cannot be asked from here: %s", error)
    return None


def _name_of(history: History) -> str | None:
    name = history.facts.get("name")
    return None if name is None else str(name)


def _owner_of(path: Path) -> Owner | None:
    try:
        return read_owner(path)
    except OSError as error:
        raise _not_readable(path, error) from error
