"""What becomes of the calls in a queue of files: look, settle, break off.

Used in the poller's thread; `pool.py` says when, `pool_workers.py` who ran a call.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from slurm_futures import worker
from slurm_futures.errors import JobLost, SlurmFuturesError, words_of
from slurm_futures.settling import is_complete

if TYPE_CHECKING:
    from slurm_futures.pool_directory import PoolDirectory
    from slurm_futures.pool_units import Unit, Units
    from slurm_futures.pool_workers import PoolWorkers
    from slurm_futures.settling import Settler

logger = logging.getLogger("slurm_futures")

#: Seconds between two listings of the claims, which tell what runs.
_CLAIMS_INTERVAL = 0.5


class PoolInspector:
    """Looks at the calls of a pool that are not over, and ends them.

    Args:
        units: the calls.
        workers: who runs them.
        settler: settles their futures.
        grace: seconds to wait until outcomes that should be there can be read.
    """

    def __init__(
        self, units: Units, workers: PoolWorkers, settler: Settler, grace: float
    ) -> None:
        self._units = units
        self._workers = workers
        self._settler = settler
        self._grace = grace
        self._claims_at = 0.0

    def look(self, directory: PoolDirectory) -> bool:
        """Settle the calls that are over; return whether there are any.

        Raises:
            OSError: the directory cannot be listed now.
        """
        news = False
        blocks = self._units.choose_blocks()
        for number in sorted(directory.list_finished(blocks)):
            unit = self._units.get(number)
            if unit is not None and self._settle(directory, number, unit):
                news = True
        now = time.monotonic()
        if now - self._claims_at > _CLAIMS_INTERVAL:
            self._claims_at = now
            self._note_claims(directory, blocks)
        self._clean(directory)
        return news

    def end_broken_off(self, directory: PoolDirectory) -> None:
        """End the calls that workers have left unfinished, which have just ended."""
        blocks = self._units.choose_blocks()
        try:
            for number in sorted(directory.list_finished(blocks)):
                unit = self._units.get(number)
                if unit is not None:
                    self._settle(directory, number, unit)
            self._note_claims(directory, blocks)
        except OSError as error:
            logger.info("the queue cannot be read now: %s", error)

    def _settle(self, directory: PoolDirectory, number: int, unit: Unit) -> bool:
        if unit.owner is None:
            self._note_owner(directory, number, unit)
        size = len(unit.work.positions)
        path = directory.outcomes(number)
        content, problem = b"", f"{path} is cut short or damaged"
        try:
            content = directory.read_outcomes(number)
        except OSError as error:
            problem = f"{path}: {error}"
        if not is_complete(content, size):
            now = time.monotonic()
            unit.finished_at = unit.finished_at or now
            if now - unit.finished_at < self._grace:
                return False
        missing, _ = self._settler.deliver(unit.work, [content])
        if missing:
            lost = JobLost(
                f"The outcome of a call cannot be read: {problem}.",
                job_id=unit.work.future.job_id,
                directory=unit.work.future.directory,
            )
            self._settler.fail(unit.work, missing, lost)
        self._units.forget(number)
        return True

    def _note_claims(self, directory: PoolDirectory, blocks: list[str]) -> None:
        """Find out which worker runs which call, and that there is still one."""
        for number in directory.list_claims(blocks):
            unit = self._units.get(number)
            if unit is None:
                continue
            # A job may begin before its id is known here.
            if unit.owner is None or unit.work.future.track is None:
                self._note_owner(directory, number, unit)
            if self._workers.has_ended(unit.owner) and unit.finished_at is None:
                self._break_off(directory, number, unit)

    def _note_owner(self, directory: PoolDirectory, number: int, unit: Unit) -> None:
        unit.owner = owner = directory.owner(number)
        if owner is None:
            return
        self._units.note_begun(number)
        track = self._workers.note_claim(owner)
        if track is not None:
            unit.work.future.add_track(track)

    def _break_off(self, directory: PoolDirectory, number: int, unit: Unit) -> None:
        """End a call that its worker has not finished."""
        assert unit.owner is not None
        if len(unit.work.positions) > 1 and not self._give_up(directory, number, unit):
            return
        left = self._read_left(directory, number, unit)
        if left is None:
            return
        missing, _ = self._settler.deliver(unit.work, left)
        if missing:
            error = self._workers.error_of(unit.owner)
            cause = as_ours(error or JobLost(f"worker {unit.owner} ended in a call."))
            self._settler.break_off(unit.work, missing, cause, began=True)
        self._units.forget(number)

    def _read_left(
        self, directory: PoolDirectory, number: int, unit: Unit
    ) -> list[bytes] | None:
        """Return what there is of a call; None if that is to be asked again later."""
        assert unit.owner is not None
        try:
            return list(directory.read_partial_outcomes(number, unit.owner))
        except OSError as error:
            logger.debug("call %d is settled later: %s", number, error)
        now = time.monotonic()
        unit.unreadable_since = unit.unreadable_since or now
        return None if now - unit.unreadable_since < self._grace else []

    def _give_up(self, directory: PoolDirectory, number: int, unit: Unit) -> bool:
        """Take a chunk back from a worker that may live on where Slurm cannot see it.

        Returns:
            Whether it can have begun no more calls since; if not, ask again later.
        """
        assert unit.owner is not None
        now = time.monotonic()
        if unit.taken_back_at is None and directory.take_back(number, unit.owner):
            unit.taken_back_at = now
        return (
            unit.taken_back_at is not None
            and now - unit.taken_back_at >= worker.GIVE_UP_PAUSE
        )

    def _clean(self, directory: PoolDirectory) -> None:
        """Delete the files of calls that are over, a block or a batch at a time."""
        blocks, batches = self._units.take_done()
        for numbers in batches:
            directory.remove_batch(numbers)
        for name in blocks:
            directory.remove_block(name)


def as_ours(error: BaseException) -> SlurmFuturesError:
    """Return the end of a worker as an error that a call may have."""
    if isinstance(error, SlurmFuturesError):
        return error
    failure = SlurmFuturesError(
        f"A worker ended with {type(error).__name__}: {words_of(error)}. Please report "
        "it."
    )
    failure.__cause__ = error
    return failure


def nobody_sees(directory: PoolDirectory) -> JobLost:
    """Return what calls fail with that workers have passed over."""
    return JobLost(
        "The calls were not run.\nThe last workers ended well, but took none of those "
        f"that wait in {directory.path}.\nSee that it is on a file system that the "
        'nodes share, or choose another one: SlurmExecutor(directory="...").'
    )
