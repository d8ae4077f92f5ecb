"""Ends of calls: deliver what a job left, fail what it did not, or try again.

Called by the poller, in its thread; no lock is held, since the callbacks of a future
may do anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from slurm_futures.directories import ForeignFileError
from slurm_futures.errors import (
    JobCancelled,
    JobFailed,
    JobLost,
    OutcomeNotReadable,
    SlurmFuturesError,
)
from slurm_futures.post_mortem import Remains, diagnose
from slurm_futures.schedulers.base import Ending, JobState
from slurm_futures.serialization import Outcome, load_outcome, read_call
from slurm_futures.staging import Kind
from slurm_futures.worker import read_outcomes

if TYPE_CHECKING:
    from slurm_futures.directories import Submission
    from slurm_futures.future import SlurmFuture
    from slurm_futures.open_submission import OpenSubmission
    from slurm_futures.retries import Retries
    from slurm_futures.serialization import PickledCall
    from slurm_futures.tracking import Track

logger = logging.getLogger("slurm_futures")

Resubmit = Callable[
    [Kind, str, "SlurmFuture[Any]", "list[int]", "list[PickledCall]"], None
]


class Settler:
    """Settles futures.

    Args:
        retries: which failures are tried again.
        grace: seconds that are waited for files, for the messages.
        resubmit: takes calls that shall become a new job, with kind, label, future
            and positions.
        on_over: called when a job is over and its calls are settled or resubmitted.
        on_failed: called when a call of a submission failed for good.
        on_initializer_failed: called with the exception of the initializer; it sees to
            it that all futures fail.
    """

    def __init__(
        self,
        retries: Retries,
        grace: float,
        *,
        resubmit: Resubmit,
        on_over: Callable[[OpenSubmission], None],
        on_failed: Callable[[Submission], None],
        on_initializer_failed: Callable[[BaseException], None],
    ) -> None:
        self._retries = retries
        self._grace = grace
        self._resubmit = resubmit
        self._on_over = on_over
        self._on_failed = on_failed
        self._on_initializer_failed = on_initializer_failed

    def deliver(self, opened: OpenSubmission, track: Track) -> None:
        """Settle the calls of a job that has published its outcomes.

        Nothing happens if they are not all readable yet.

        Raises:
            OSError: the outcomes cannot be read now.
        """
        try:
            content = track.directory.read_outcomes()
        except ForeignFileError as error:
            self.fail(
                opened, track, OutcomeNotReadable(f"The outcome is refused: {error}.")
            )
            return
        missing = self._deliver_parts(opened, track, [content])
        if not missing:
            failed = track.marker is not None and track.marker.exit_code != 0
            track.state = JobState.FAILED if failed else JobState.COMPLETED
            logger.debug("job %s: %s", track.job_id, track.state.name)
            self.close(opened, track)

    def _deliver_parts(
        self, opened: OpenSubmission, track: Track, contents: Iterable[bytes]
    ) -> list[int]:
        """Settle what the outcomes tell; return the numbers of all other calls."""
        missing = dict.fromkeys(range(len(track.positions)))
        for content in contents:
            for number, kind, payload in read_outcomes(content):
                if number not in missing:
                    continue
                outcome = load_outcome(kind, payload)
                if outcome.initializer_failed and outcome.exception is not None:
                    self._on_failed(opened.submission)
                    self._on_initializer_failed(outcome.exception)
                    return list(missing)
                del missing[number]
                self._settle(opened, track, number, outcome)
        return list(missing)

    def bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        """End a job that is over: what it has left counts, what is missing fails.

        Calls run one after another, so that only the first one that is missing can
        have run. The others are submitted again, where it is certain that the job is
        over and nobody wanted it to end.

        Raises:
            OSError: the directory cannot be read now.
        """
        left = list(track.directory.read_partial_outcomes())
        missing = self._deliver_parts(opened, track, left)
        if missing:
            remains = self._remains(opened, track, ending)
            error = diagnose(remains)
            certain = remains.started and not isinstance(error, JobCancelled | JobLost)
            failed = missing[:1] if certain else missing
            self._settle_failed(opened, track, failed, error)
            self._submit_again(opened, track, missing[len(failed) :], opened.kind)
        self.close(opened, track)

    def fail(
        self, opened: OpenSubmission, track: Track, error: SlurmFuturesError
    ) -> None:
        """Fail all calls of a job that have no outcome."""
        if track.index not in opened.tracks:
            return
        self._settle_failed(opened, track, range(len(track.positions)), error)
        self.close(opened, track)

    def close(self, opened: OpenSubmission, track: Track) -> None:
        """Forget a job."""
        opened.close(track.index)
        self._on_over(opened)

    def _settle_failed(
        self,
        opened: OpenSubmission,
        track: Track,
        numbers: Iterable[int],
        error: SlurmFuturesError,
    ) -> None:
        if isinstance(error, JobFailed) and error.state is not None:
            track.state = error.state
        logger.info("job %s: %s", track.job_id, first_line(error))
        for number in numbers:
            self._settle(opened, track, number, Outcome(exception=error.copy()))

    def _settle(
        self, opened: OpenSubmission, track: Track, number: int, outcome: Outcome
    ) -> None:
        if outcome.exception is not None:
            if self._try_again(opened, track, number, outcome.exception):
                return
            self._on_failed(opened.submission)
        try:
            track.future.settle(track.positions[number], outcome)
        except BaseException:
            logger.exception("job %s: a callback of its future raised", track.job_id)

    def _try_again(
        self, opened: OpenSubmission, track: Track, number: int, error: BaseException
    ) -> bool:
        """Submit a call that failed once more, if the policy says so."""
        position = track.positions[number]
        future = track.future
        earlier = future.failures.get(position, [])
        if future.done() or not self._retries.allow(error, earlier):
            if earlier:
                error.add_note(_tell_attempts(earlier))
            return False
        options = self._retries.grow(opened.kind.options, error)
        future.failures[position] = [*earlier, error]
        logger.info(
            "job %s: attempt %d failed with %s; the call is submitted again",
            track.job_id,
            len(earlier) + 1,
            type(error).__name__,
        )
        kind = Kind(options, opened.kind.cwd)
        return self._submit_again(opened, track, [number], kind)

    def _submit_again(
        self, opened: OpenSubmission, track: Track, numbers: list[int], kind: Kind
    ) -> bool:
        """Let calls of a job that is over become a new job; return whether they do."""
        if not numbers or track.future.done():
            return False
        path = opened.submission.calls
        try:
            calls = [read_call(path, track.index, number) for number in numbers]
        except (OSError, EOFError) as error:
            failure = SlurmFuturesError(
                f"The call could not be submitted again: {path} cannot be read "
                f"({error})."
            )
            for number in numbers:
                outcome = Outcome(exception=failure.copy())
                track.future.settle(track.positions[number], outcome)
            return True
        positions = [track.positions[number] for number in numbers]
        self._resubmit(kind, opened.label, track.future, positions, calls)
        return True

    def _remains(self, opened: OpenSubmission, track: Track, ending: Ending) -> Remains:
        exists = track.directory.exists()
        options = opened.kind.options
        return Remains(
            job_id=str(track.job_id),
            state=track.state if track.absences == 0 else None,
            marker=track.marker,
            ending=ending,
            started=exists,
            array_listed=opened.listed,
            node=track.directory.node() if exists else None,
            log=opened.submission.read_log(str(track.job_id)),
            stderr_tail=track.directory.stderr_tail() if exists else "",
            directory=track.directory.path,
            time_limit=options.get("time"),
            memory=options.get("mem"),
            grace=self._grace,
            problem=track.problem,
        )


def first_line(error: BaseException) -> str:
    """Return what happened, without the reasons and the advice."""
    return str(error).partition("\n")[0]


def _tell_attempts(earlier: list[BaseException]) -> str:
    lines = [
        f"  attempt {number}: {type(error).__name__}: {first_line(error)}"
        for number, error in enumerate(earlier, 1)
    ]
    return "\n".join([f"This was attempt {len(earlier) + 1}.", *lines])
