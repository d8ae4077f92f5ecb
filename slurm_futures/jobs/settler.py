"""Ends of calls: settle their futures, try them again, or submit them once more.

Used in the poller's thread; no lock is held, since the callbacks of a future may do
anything. Nothing is known here of jobs: `closer.py` and the pool say which calls
have ended, and how.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from slurm_futures.calls.outcome import Outcome, load_outcome
from slurm_futures.calls.request import JobRequest
from slurm_futures.calls.usage import UsageTally
from slurm_futures.errors import JobCancelled, JobLost, SlurmFuturesError, words_of
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.open_calls import OpenCalls
from slurm_futures.jobs.retries import Retries
from slurm_futures.node.formats import NOT_BEGUN, USAGE
from slurm_futures.node.values import add_note
from slurm_futures.runs.calls_file import read_calls
from slurm_futures.runs.finished import Record
from slurm_futures.runs.writer import Writer
from slurm_futures.schedulers.sbatch_options import Kind

logger = logging.getLogger("slurm_futures")

#: Calls that are to run in other jobs, by the kind of these.
_Again = dict[Kind, list[int]]


class Settler:
    """Settles futures.

    Args:
        retries: which failures are tried again.
        writer: hears whose files are to be kept.
        above: gets calls that shall run in another job, and failed initializers.
        grace: seconds for which a file is read again that cannot be read.

    Attributes:
        unread: calls that are to run again, and could not be read back yet.
        usage: what calls have used that are over.
    """

    def __init__(
        self, retries: Retries, writer: Writer, above: Above, grace: float
    ) -> None:
        self._retries = retries
        self._writer = writer
        self._above = above
        self._grace = grace
        self.unread = UnreadCalls(self)
        self.usage = UsageTally()

    def deliver(
        self,
        work: OpenCalls,
        records: Iterable[Record],
    ) -> tuple[list[int], bool]:
        """Settle what these outcomes tell; what was never begun runs in another job.

        Args:
            work: the calls of a job.
            records: what it has written.

        Returns:
            The numbers of the calls of which they tell nothing, and whether any of the
            others raised.
        """
        failed = False
        used: dict[int, bytes] = {}
        missing = dict.fromkeys(range(len(work.positions)))
        again: _Again = {}
        for number, kind, payload in records:
            if kind == USAGE:
                used[number] = payload
                continue
            if kind == NOT_BEGUN:
                others = [each for each in missing if each >= number]
                again.setdefault(work.kind, []).extend(others)
                missing = {each: None for each in missing if each < number}
            if number not in missing:
                continue
            outcome = load_outcome(kind, payload)
            if outcome.initializer_failed and outcome.exception is not None:
                error = self._above.note_initializer(outcome.exception)
                self.fail(work, [*missing, *itertools.chain(*again.values())], error)
                return [], True
            del missing[number]
            failed |= outcome.exception is not None
            self._settle(work, number, outcome, again, used.get(number, b""))
        self._submit_again(work, again)
        return list(missing), failed

    def break_off(
        self,
        work: OpenCalls,
        missing: list[int],
        error: SlurmFuturesError,
        *,
        began: bool,
    ) -> None:
        """End calls whose job is over without their outcomes.

        Calls run one after another, so that only the first one that is missing can
        have run. The others are submitted again, where it is certain that the job is
        over and nobody wanted it to end.
        """
        certain = began and not isinstance(error, JobCancelled | JobLost)
        failed = missing[:1] if certain else missing
        again: _Again = {}
        for number in failed:
            outcome = Outcome(exception=error.copy())
            self._settle(work, number, outcome, again)
        self._submit_again(work, again)
        # Not together: what ended this job may end the next one too.
        self._submit_again(work, {work.kind: missing[len(failed) :]})

    def fail(
        self, work: OpenCalls, numbers: Iterable[int], error: SlurmFuturesError
    ) -> None:
        """Fail these calls for good, each with an error of its own.

        For what the client itself has decided: another attempt would end alike.
        """
        for number in numbers:
            self._end(work, number, Outcome(exception=error.copy()))

    def _settle(
        self,
        work: OpenCalls,
        number: int,
        outcome: Outcome,
        again: _Again,
        usage: bytes = b"",
    ) -> None:
        """End a call, or put it among those that are tried again."""
        error = outcome.exception
        kind = None
        if error is not None:
            kind = self._try_again(work, number, error)
        if kind is None:
            self._end(work, number, outcome, usage)
        else:
            again.setdefault(kind, []).append(number)

    def _end(
        self, work: OpenCalls, number: int, outcome: Outcome, usage: bytes = b""
    ) -> None:
        directory = work.directory
        if outcome.exception is not None:
            work.note_failure()
            if directory is not None:
                self._writer.note_failure(directory)
        if usage:
            work.future._usage = usage
            self.usage.add(work.kind.options, usage)
        try:
            work.future._settle(work.positions[number], outcome)
        except BaseException:
            logger.exception("%r: a callback raised", work.future)

    def _try_again(
        self,
        work: OpenCalls,
        number: int,
        error: BaseException,
    ) -> Kind | None:
        """Return the kind of the next job of a call that failed; None: no more."""
        position = work.positions[number]
        future = work.future
        earlier = future._failures.get(position, [])
        is_last = future.done() or future._unwanted
        if is_last or not self._retries.allow(error, earlier):
            if earlier:
                add_note(error, _tell_attempts(earlier))
            return None
        options = self._retries.grow(work.kind.options, error)
        work.release()  # first: whoever sees the next attempt may cancel it
        future._failures[position] = [*earlier, error]
        logger.info(
            "job %s: attempt %d failed with %s; the call is submitted again",
            future.job_id,
            len(earlier) + 1,
            type(error).__name__,
        )
        return Kind(options, work.kind.cwd)

    def _submit_again(self, work: OpenCalls, again: _Again) -> None:
        """Let calls run in other jobs, one of each kind."""
        for kind, numbers in again.items():
            if numbers:
                work.release()  # first: whoever sees the next attempt may cancel it
                unread = _Unread(work, kind, numbers, time.monotonic() + self._grace)
                if not self.read_again(unread):
                    self.unread.add(unread)

    def read_again(self, unread: _Unread) -> bool:
        """Submit calls once more, or fail them; False: they cannot be read now."""
        work, numbers = unread.work, unread.numbers
        if work.future.done():
            return True
        try:
            assert work.calls is not None, "a job had them"
            calls = read_calls(work.calls, work.index, numbers, work.future._caller)
        except Exception as error:  # noqa: BLE001  (nobody else would fail them)
            if isinstance(error, OSError) and time.monotonic() < unread.deadline:
                logger.info("calls are submitted again later: %s", error)
                return False
            failure = SlurmFuturesError(
                f"The call could not be submitted again: {work.calls} cannot be "
                f"read ({error})."
            )
            self.fail(work, numbers, failure)
        else:
            positions = [work.positions[number] for number in numbers]
            request = JobRequest(work.future, positions, calls)
            self._above.resubmit(unread.kind, work.label, request)
        return True


@dataclass(frozen=True, slots=True)
class _Unread:
    """Calls that are to run in another job: some of those that this one had.

    `deadline` is in monotonic seconds: until then they are read again.
    """

    work: OpenCalls
    kind: Kind
    numbers: list[int]
    deadline: float


class UnreadCalls:
    """Calls whose file cannot be read now; the poller attends to them."""

    def __init__(self, settler: Settler) -> None:
        self._settler = settler
        self._calls: list[_Unread] = []

    def add(self, unread: _Unread) -> None:
        """Try once more with each look."""
        self._calls.append(unread)

    @property
    def is_open(self) -> bool:
        """Whether anybody waits for them."""
        return any(not each.work.future.done() for each in self._calls)

    def look(self) -> bool:
        """Try to read them; return whether any were."""
        calls, self._calls = self._calls, []
        self._calls += [each for each in calls if not self._settler.read_again(each)]
        return len(self._calls) < len(calls)

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail them all."""
        calls, self._calls = self._calls, []
        for each in calls:
            self._settler.fail(each.work, each.numbers, error)

    stop = fail


def first_line(error: BaseException) -> str:
    """Return what happened, without the reasons and the advice."""
    return words_of(error).partition("\n")[0]


def _tell_attempts(earlier: list[BaseException]) -> str:
    lines = [
        f"  attempt {number}: {type(error).__name__}: {first_line(error)}"
        for number, error in enumerate(earlier, 1)
    ]
    return "\n".join([f"This was attempt {len(earlier) + 1}.", *lines])
