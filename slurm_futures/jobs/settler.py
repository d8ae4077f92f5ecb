"""Ends of calls: settle their futures, try them again, or submit them once more.

Used in the poller's thread; no lock is held, since the callbacks of a future may do
anything. Nothing is known here of jobs: `closer.py` and the pool say which calls
have ended, and how.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from slurm_futures.calls.outcome import Outcome, load_outcome
from slurm_futures.errors import JobCancelled, JobLost, SlurmFuturesError, words_of
from slurm_futures.node.formats import INITIALIZER_FAILED, NOT_BEGUN, read_outcomes
from slurm_futures.node.values import add_note
from slurm_futures.runs.calls_file import read_calls
from slurm_futures.schedulers.sbatch_options import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_futures.calls.call import PickledCall
    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.jobs.retries import Retries
    from slurm_futures.jobs.track import Work

logger = logging.getLogger("slurm_futures")

#: Calls that are to run in other jobs, by the kind of these.
_Again = dict[Kind, list[int]]

Resubmit = Callable[
    [Kind, str, "SlurmFuture[Any]", "list[int]", "list[PickledCall]"], None
]


class Settler:
    """Settles futures.

    Args:
        retries: which failures are tried again.
        resubmit: takes calls that shall run in another job, with kind, label, future
            and positions.
        on_failed: called with the directory to keep when a call failed for good.
        on_initializer_failed: called with the exception of the initializer; it sees to
            it that all futures fail, and returns the error for them.
    """

    def __init__(
        self,
        retries: Retries,
        *,
        resubmit: Resubmit,
        on_failed: Callable[[Path], None],
        on_initializer_failed: Callable[[BaseException], SlurmFuturesError],
    ) -> None:
        self._retries = retries
        self._resubmit = resubmit
        self._on_failed = on_failed
        self._on_initializer_failed = on_initializer_failed

    def deliver(
        self,
        work: Work,
        contents: Iterable[bytes],
        release: Callable[[], object] = lambda: None,
    ) -> tuple[list[int], bool]:
        """Settle what these outcomes tell; what was never begun runs in another job.

        Args:
            work: the calls of a job.
            contents: what it has written.
            release: called before calls go to another job, maybe several times: the
                one that was their last has them no longer.

        Returns:
            The numbers of the calls of which they tell nothing, and whether any of the
            others raised.
        """
        failed = False
        missing = dict.fromkeys(range(len(work.positions)))
        again: _Again = {}
        for content in contents:
            for number, kind, payload in read_outcomes(content):
                if kind == NOT_BEGUN:
                    others = [each for each in missing if each >= number]
                    again.setdefault(work.kind, []).extend(others)
                    missing = {each: None for each in missing if each < number}
                if number not in missing:
                    continue
                outcome = load_outcome(kind, payload)
                if outcome.initializer_failed and outcome.exception is not None:
                    error = self._on_initializer_failed(outcome.exception)
                    self.fail(
                        work, [*missing, *itertools.chain(*again.values())], error
                    )
                    return [], True
                del missing[number]
                failed |= outcome.exception is not None
                self._settle(work, number, outcome, again, release)
        self._submit_again(work, again, release)
        return list(missing), failed

    def break_off(
        self,
        work: Work,
        missing: list[int],
        error: SlurmFuturesError,
        release: Callable[[], object] = lambda: None,
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
            self._settle(work, number, outcome, again, release)
        self._submit_again(work, again, release)
        # Not together: what ended this job may end the next one too.
        self._submit_again(work, {work.kind: missing[len(failed) :]}, release)

    def fail(
        self, work: Work, numbers: Iterable[int], error: SlurmFuturesError
    ) -> None:
        """Fail these calls for good, each with an error of its own.

        For what the client itself has decided: another attempt would end alike.
        """
        for number in numbers:
            self._end(work, number, Outcome(exception=error.copy()))

    def _settle(
        self,
        work: Work,
        number: int,
        outcome: Outcome,
        again: _Again,
        release: Callable[[], object],
    ) -> None:
        """End a call, or put it among those that are tried again."""
        error = outcome.exception
        kind = None
        if error is not None:
            kind = self._try_again(work, number, error, release)
        if kind is None:
            self._end(work, number, outcome)
        else:
            again.setdefault(kind, []).append(number)

    def _end(self, work: Work, number: int, outcome: Outcome) -> None:
        if outcome.exception is not None:
            self._on_failed(work.home)
        try:
            work.future.settle(work.positions[number], outcome)
        except BaseException:
            logger.exception("%r: a callback raised", work.future)

    def _try_again(
        self,
        work: Work,
        number: int,
        error: BaseException,
        release: Callable[[], object],
    ) -> Kind | None:
        """Return the kind of the next job of a call that failed; None: no more."""
        position = work.positions[number]
        future = work.future
        earlier = future.failures.get(position, [])
        if future.done() or not self._retries.allow(error, earlier):
            if earlier:
                add_note(error, _tell_attempts(earlier))
            return None
        options = self._retries.grow(work.kind.options, error)
        release()  # first: whoever sees the next attempt may cancel it
        future.failures[position] = [*earlier, error]
        logger.info(
            "job %s: attempt %d failed with %s; the call is submitted again",
            future.job_id,
            len(earlier) + 1,
            type(error).__name__,
        )
        return Kind(options, work.kind.cwd)

    def _submit_again(
        self, work: Work, again: _Again, release: Callable[[], object]
    ) -> None:
        """Let calls run in other jobs, one of each kind."""
        for kind, numbers in again.items():
            if not numbers or work.future.done():
                continue
            try:
                calls = read_calls(work.calls, work.index, numbers)
            except Exception as error:  # noqa: BLE001  (nobody else would fail them)
                failure = SlurmFuturesError(
                    f"The call could not be submitted again: {work.calls} cannot be "
                    f"read ({error})."
                )
                self.fail(work, numbers, failure)
                continue
            positions = [work.positions[number] for number in numbers]
            release()
            self._resubmit(kind, work.label, work.future, positions, calls)


def is_complete(content: bytes, size: int) -> bool:
    """Whether published outcomes tell of all calls of a job."""
    told = set()
    for number, kind, _ in read_outcomes(content):
        if kind in {NOT_BEGUN, INITIALIZER_FAILED}:
            return True
        told.add(number)
    return len(told) == size


def first_line(error: BaseException) -> str:
    """Return what happened, without the reasons and the advice."""
    return words_of(error).partition("\n")[0]


def _tell_attempts(earlier: list[BaseException]) -> str:
    lines = [
        f"  attempt {number}: {type(error).__name__}: {first_line(error)}"
        for number, error in enumerate(earlier, 1)
    ]
    return "\n".join([f"This was attempt {len(earlier) + 1}.", *lines])
