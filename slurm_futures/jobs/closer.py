"""Ends of jobs: read what they left, or find out why they left nothing.

Used in the poller's thread. What becomes of the calls is the settler's part.
"""

from __future__ import annotations

import logging

from slurm_futures.errors import (
    JobFailed,
    JobState,
    OutcomeNotReadable,
    SlurmFuturesError,
)
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.diagnosis import Remains, diagnose
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.settler import first_line
from slurm_futures.jobs.track import Track
from slurm_futures.runs.files import ForeignFileError
from slurm_futures.runs.finished import are_complete
from slurm_futures.schedulers.base import Ending

logger = logging.getLogger("slurm_futures")


class JobEndings:
    """Ends jobs, one way or the other.

    Args:
        grace: seconds that are waited for files, for the messages.
        above: hears when a job is over and nothing is to be done for it any more.
    """

    def __init__(self, grace: float, above: Above) -> None:
        self._grace = grace
        self._above = above

    def withdraw(self, track: Track) -> None:
        """See that a job that lives on where Slurm cannot see it begins no more calls.

        When it is buried, GIVE_UP_PAUSE later, it can have begun none of those that it
        had not begun now but the first one, which fails.

        Raises:
            OSError: that cannot be done now.
        """
        if may_live_on(track):
            track.given_up = True
            track.submission.finished.withdraw(track.index)

    def restore(self, track: Track) -> None:
        """Let a job go on that was withdrawn, and is alive all the same.

        It may have noticed. Then its outcomes say which calls it did not begin.
        """
        if track.given_up:
            try:
                track.submission.finished.restore(track.index)
                track.given_up = False
            except OSError as error:
                logger.info("job %s cannot be told to go on: %s", track.job_id, error)

    def deliver(self, opened: OpenSubmission, track: Track) -> None:
        """Settle the calls of a job, if it has published all their outcomes.

        Raises:
            OSError: the outcomes cannot be read now.
        """
        outcomes = track.submission.finished
        try:
            records = outcomes.read(track.index)
        except ForeignFileError as error:
            refused = OutcomeNotReadable(f"The outcome is refused: {error}.")
            self.fail(opened, track, refused)
            return
        waiter = track.waiter
        if waiter is None:
            return
        if not are_complete(records, waiter.size):
            track.problem = f"{outcomes.file(track.index)} is cut short or damaged"
            return
        _, failed = waiter.deliver(records)
        track.state = JobState.FAILED if failed else JobState.COMPLETED
        logger.debug("job %s: %s", track.job_id, track.state.name)
        self.close(opened, track)

    def bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        """End a job that is over: what it has left counts, what is missing fails.

        Raises:
            OSError: the directory cannot be read now; nothing has been done.
        """
        outcomes = track.submission.finished
        if may_live_on(track) and outcomes.withdraw(track.index):
            raise OSError(f"an attempt at job {track.job_id} has just begun")
        left = outcomes.read_left(track.index)
        remains = self._remains(opened, track, ending)
        waiter = track.waiter
        if waiter is None:
            return
        missing, _ = waiter.deliver(left)
        if missing:
            error = diagnose(remains)
            self._note(track, error)
            waiter.break_off(missing, error, began=remains.started)
        self.close(opened, track)

    def fail(
        self, opened: OpenSubmission, track: Track, error: SlurmFuturesError
    ) -> None:
        """Fail all calls of a job that have no outcome."""
        if track.index not in opened.tracks or track.waiter is None:
            return
        self._note(track, error)
        track.waiter.fail(error)
        self.close(opened, track)

    def fail_all(self, opened: OpenSubmission, error: SlurmFuturesError) -> None:
        """Fail all calls of a submission that are open."""
        for track in list(opened.tracks.values()):
            self.fail(opened, track, error)

    def close(self, opened: OpenSubmission, track: Track) -> None:
        """Forget a job."""
        opened.close(track.index)
        self._above.note_over(opened)

    def _note(self, track: Track, error: SlurmFuturesError) -> None:
        if isinstance(error, JobFailed) and error.state is not None:
            track.state = error.state
        logger.info("job %s: %s", track.job_id, first_line(error))

    def _remains(self, opened: OpenSubmission, track: Track, ending: Ending) -> Remains:
        exists = track.directory.exists()
        options = opened.kind.options
        log = opened.submission.read_log(str(track.job_id))
        return Remains(
            job_id=str(track.job_id),
            # Of a job that is not listed any more, only how it ended is still true.
            state=track.state if track.absences == 0 or track.state.ended else None,
            published=track.published_at is not None,
            death=track.death,
            ending=ending,
            started=exists or track.left_mark,
            worker_started=exists,
            array_listed=opened.listed,
            node=track.directory.node() if exists else None,
            log=log,
            stderr_tail=track.directory.stderr_tail() if exists else "",
            directory=track.directory.path,
            time_limit=options.get("time"),
            memory=options.get("mem"),
            grace=self._grace,
            problem=track.problem,
        )


def may_live_on(track: Track) -> bool:
    """Whether a job that is given up has calls that it could still begin."""
    size = 0 if track.waiter is None else track.waiter.size
    return size > 1 and not track.left_mark
