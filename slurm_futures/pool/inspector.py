"""What becomes of the calls in a queue of files: look, settle, break off.

Used in the poller's thread; `pool.py` says when, `workers.py` who ran a call.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from slurm_futures.errors import (
    JobFailed,
    JobLost,
    OutcomeNotReadable,
    SlurmFuturesError,
    words_of,
)
from slurm_futures.jobs.outage import Outage
from slurm_futures.jobs.settler import Settler
from slurm_futures.jobs.timing import Timing
from slurm_futures.node.pool_worker import worker_of
from slurm_futures.pool.open_entries import Entry, OpenEntries
from slurm_futures.pool.workers import Workers
from slurm_futures.runs.files import ForeignFileError
from slurm_futures.runs.finished import Record, are_complete
from slurm_futures.runs.queue import PoolDirectory

logger = logging.getLogger("slurm_futures")


class PoolInspector:
    """Looks at the calls of a pool that are not over, and ends them.

    Args:
        entries: the calls.
        workers: who runs them.
        settler: settles their futures.
        timing: how long to wait for what.
    """

    def __init__(
        self, entries: OpenEntries, workers: Workers, settler: Settler, timing: Timing
    ) -> None:
        self._entries = entries
        self._workers = workers
        self._settler = settler
        self._timing = timing
        self._claims_at = 0.0
        self._outage = Outage()

    @property
    def is_blind(self) -> bool:
        """Whether the directory could not be listed at the last look."""
        return self._outage.since is not None

    def begin(self) -> None:
        """Note that there is a new directory."""
        self._outage.end()

    def look(self, directory: PoolDirectory) -> bool:
        """Settle the calls that are over; return whether there are any.

        Raises:
            FileNotFoundError: the directory is not there now.
        """
        blocks = self._entries.choose_blocks()
        try:
            news = self._settle_finished(directory, blocks)
            if time.monotonic() - self._claims_at > self._timing.claims_interval:
                self._look_at_claims(directory, blocks)
            self._clean(directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._note_unlisted(directory, blocks, error)
            return False
        if self.is_blind:
            self._outage.end()
            for _, entry in self._entries.with_numbers():
                entry.unreadable_since = None
        return news

    def _settle_finished(self, directory: PoolDirectory, blocks: list[str]) -> bool:
        news = False
        for number in sorted(directory.list_finished(blocks)):
            entry = self._entries.get(number)
            if entry is not None and self._settle(directory, number, entry):
                news = True
        return news

    def _note_unlisted(
        self, directory: PoolDirectory, blocks: list[str], error: OSError
    ) -> None:
        """Note that the directory cannot be listed.

        That may pass: only calls fail whose workers, or all there were, are over for
        longer than the grace in all this time.
        """
        now = time.monotonic()
        self._outage.note(f"the queue {directory.path}", now, error, self._timing)
        with contextlib.suppress(OSError):
            for _ in self._note_owners(directory, blocks):
                pass
        nobody_left = self._workers.all_ended
        for number, entry in self._entries.with_numbers():
            if not nobody_left and not self._workers.has_ended(entry.owner):
                entry.unreadable_since = None
                continue
            entry.unreadable_since = entry.unreadable_since or now
            is_late = now - entry.unreadable_since >= self._timing.grace
            if is_late and self._entries.forget(number):
                lost = _not_readable(entry, directory, error)
                self._settler.fail(entry, range(len(entry.positions)), lost)

    def forget_owner(self, directory: PoolDirectory, name: str) -> None:
        """Let calls wait again that a worker has given back before it ended."""
        for number, entry in self._entries.with_numbers():
            if worker_of(entry.owner or "") == name and directory.is_free(number):
                entry.owner, entry.has_job = None, False

    def end_broken_off(self, directory: PoolDirectory) -> None:
        """End the calls that workers have left unfinished, which have just ended."""
        blocks = self._entries.choose_blocks()
        try:
            self._settle_finished(directory, blocks)
            self._look_at_claims(directory, blocks)
        except FileNotFoundError as error:
            logger.info("the queue cannot be read now: %s", error)
        except OSError as error:
            self._note_unlisted(directory, blocks, error)

    def _settle(self, directory: PoolDirectory, number: int, entry: Entry) -> bool:
        if not self._knows_job(directory, number, entry) and not self._is_late(entry):
            return False
        path = directory.finished.file(number)
        records: list[Record] = []
        failure: SlurmFuturesError = _lost(entry, f"{path} is cut short or damaged")
        refused = False
        try:
            records = directory.finished.read(number)
        except ForeignFileError as error:
            refused = True
            failure = OutcomeNotReadable(f"The outcome is refused: {error}.")
        except OSError as error:
            failure = _lost(entry, f"{path}: {error}")
        is_whole = refused or are_complete(records, len(entry.positions))
        if not is_whole and not self._is_late(entry):
            return False
        missing, _ = self._settler.deliver(entry, records)
        if missing:
            self._settler.fail(entry, missing, failure)
        else:
            self._workers.note_result()
        self._entries.forget(number)
        return True

    def _is_late(self, entry: Entry) -> bool:
        """Whether a call has had its outcomes for the grace, but is not settled."""
        now = time.monotonic()
        entry.finished_at = entry.finished_at or now
        return now - entry.finished_at >= self._timing.grace

    def _knows_job(self, directory: PoolDirectory, number: int, entry: Entry) -> bool:
        """Whether it is known which job has run a call, or nobody will tell.

        A worker may be quicker than the sbatch that has made it.
        """
        if not entry.has_job:
            self._note_owner(directory, number, entry)
        if entry.owner is None:
            return directory.is_free(number)  # or its claim cannot be read now
        return entry.has_job or not self._workers.are_being_sent

    def _look_at_claims(self, directory: PoolDirectory, blocks: list[str]) -> None:
        """Find out which worker runs which call, and that there is still one."""
        self._claims_at = -float("inf")  # if this fails, the next look does it again
        for number, entry in self._note_owners(directory, blocks):
            if self._workers.has_ended(entry.owner) and entry.finished_at is None:
                # It may have given the call back, or the next attempt has taken it.
                self._note_owner(directory, number, entry)
                if self._workers.has_ended(entry.owner):
                    self._break_off(directory, number, entry)
        self._claims_at = time.monotonic()

    def _note_owners(
        self, directory: PoolDirectory, blocks: list[str]
    ) -> Iterator[tuple[int, Entry]]:
        """Yield the calls that somebody has taken, once it is noted who that is."""
        for number in directory.list_claims(blocks):
            entry = self._entries.get(number)
            if entry is None:
                continue
            # A job may begin before its id is known here.
            if not entry.has_job:
                self._note_owner(directory, number, entry)
            yield number, entry

    def _note_owner(self, directory: PoolDirectory, number: int, entry: Entry) -> None:
        entry.owner = owner = directory.owner(number)
        entry.has_job = False
        if owner is None:
            return
        self._entries.note_begun(number)
        job = self._workers.note_claim(owner)
        entry.has_job = job is not None
        if job is not None:
            entry.future._add_job(job)

    def _break_off(self, directory: PoolDirectory, number: int, entry: Entry) -> None:
        """End a call that its worker has not finished."""
        assert entry.owner is not None
        if not self._withdraw(directory, number, entry):
            return
        left = self._read_left(directory, number, entry)
        if left is None:
            return
        missing, _ = self._settler.deliver(entry, left)
        if missing:
            error = self._workers.error_of(entry.owner)
            cause = as_ours(error or JobLost(f"worker {entry.owner} ended in a call."))
            self._settler.break_off(entry, missing, cause, began=True)
        else:
            self._workers.note_result()
        self._entries.forget(number)

    def _read_left(
        self, directory: PoolDirectory, number: int, entry: Entry
    ) -> list[Record] | None:
        """Return what there is of a call; None if that is to be asked again later."""
        try:
            return directory.finished.read_left(number)
        except OSError as error:
            logger.debug("call %d is settled later: %s", number, error)
        now = time.monotonic()
        entry.unreadable_since = entry.unreadable_since or now
        return None if now - entry.unreadable_since < self._timing.grace else []

    def _withdraw(self, directory: PoolDirectory, number: int, entry: Entry) -> bool:
        """Withdraw a call from a worker that may live on where Slurm cannot see it.

        It ends then, instead of taking others, which would fail too.

        Returns:
            Whether it can have begun no more calls of a chunk since; if not, or if all
            of them are over, ask again later.
        """
        assert entry.owner is not None
        now = time.monotonic()
        is_chunk = len(entry.positions) > 1
        try:
            if entry.withdrawn_at is None and directory.withdraw(number, entry.owner):
                entry.withdrawn_at = now
        except OSError:  # a file system that is read-only now, say
            if is_chunk:
                raise
            return True
        pause = self._timing.withdrawal_pause if is_chunk else 0
        return entry.withdrawn_at is not None and now - entry.withdrawn_at >= pause

    def _clean(self, directory: PoolDirectory) -> None:
        """Delete the files of calls that are over, a block or a batch at a time."""
        blocks, batches = self._entries.take_done()
        for numbers in batches:
            directory.remove_batch(numbers)
        for name in blocks:
            directory.remove_block(name)


def _lost(entry: Entry, problem: str) -> JobLost:
    return JobLost(
        f"The outcome of a call cannot be read: {problem}.",
        job_id=entry.future.job_id,
        directory=entry.future.directory,
    )


def _not_readable(entry: Entry, directory: PoolDirectory, error: OSError) -> JobLost:
    future = entry.future
    is_taken = entry.owner is not None
    jobs = "Its job is over" if is_taken else "All jobs that could run it are over"
    return JobLost(
        f"The outcome of a call is lost.\n{jobs}, and {directory.path} cannot be read: "
        f"{error}.\nRepair it or choose another directory, "
        'SlurmExecutor(directory="..."), and submit the call again.',
        job_id=future.job_id if is_taken else None,
        directory=future.directory if is_taken else None,
    )


def as_ours(error: BaseException) -> SlurmFuturesError:
    """Return the end of a worker as an error that a call may have."""
    if isinstance(error, SlurmFuturesError):
        return error
    if isinstance(error, OSError):
        failure = JobFailed(
            f"A worker could not use the files of its run: {words_of(error)}.\nSee "
            "that the nodes can use their directory, and that it has room for more "
            "files ('df', 'df -i' and 'quota' tell), or choose another one, "
            'SlurmExecutor(directory="..."), and submit the call again.'
        )
    else:
        failure = JobFailed(
            f"A worker ended with {type(error).__name__}: {words_of(error)}. Please "
            "report it."
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
