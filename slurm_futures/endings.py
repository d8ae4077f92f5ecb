"""Ends of jobs: read what they left, or find out why they left nothing.

Used in the poller's thread. What becomes of the calls is the settler's part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from slurm_futures.directories import ForeignFileError
from slurm_futures.errors import JobFailed, OutcomeNotReadable, SlurmFuturesError
from slurm_futures.post_mortem import Remains, diagnose
from slurm_futures.schedulers.base import Ending, JobState
from slurm_futures.settling import Settler, first_line

if TYPE_CHECKING:
    from slurm_futures.open_submission import OpenSubmission
    from slurm_futures.tracking import Track

logger = logging.getLogger("slurm_futures")


class JobEndings:
    """Ends jobs, one way or the other.

    Args:
        settler: settles the calls.
        grace: seconds that are waited for files, for the messages.
        on_over: called when a job is over and nothing is to be done for it any more.
    """

    def __init__(
        self, settler: Settler, grace: float, on_over: Callable[[OpenSubmission], None]
    ) -> None:
        self._settler = settler
        self._grace = grace
        self._on_over = on_over

    def deliver(self, opened: OpenSubmission, track: Track) -> None:
        """Settle the calls of a job, if it has published all their outcomes.

        Raises:
            OSError: the outcomes cannot be read now.
        """
        try:
            content = track.directory.read_outcomes()
        except ForeignFileError as error:
            refused = OutcomeNotReadable(f"The outcome is refused: {error}.")
            self.fail(opened, track, refused)
            return
        missing, failed = self._settler.deliver(track.work, [content])
        if missing:
            track.problem = f"{track.directory.path}/outcomes is cut short or damaged"
            return
        track.state = JobState.FAILED if failed else JobState.COMPLETED
        logger.debug("job %s: %s", track.job_id, track.state.name)
        self.close(opened, track)

    def bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        """End a job that is over: what it has left counts, what is missing fails.

        Raises:
            OSError: the directory cannot be read now.
        """
        if track.marker is None and len(track.work.positions) > 1:
            self._give_up(track)
        left = list(track.directory.read_partial_outcomes())
        missing, _ = self._settler.deliver(track.work, left)
        if self._settler.broken:
            return
        if missing:
            remains = self._remains(opened, track, ending)
            error = diagnose(remains)
            self._note(track, error)
            began = remains.started
            self._settler.break_off(track.work, missing, error, began=began)
        self.close(opened, track)

    def _give_up(self, track: Track) -> None:
        """See that a job that lives on where Slurm cannot see it begins no more calls.

        Of those that it has not begun when its outcomes are read, after this, it
        begins at most the first one, which fails.
        """
        if track.directory.exists():
            track.directory.give_up()

    def fail(
        self, opened: OpenSubmission, track: Track, error: SlurmFuturesError
    ) -> None:
        """Fail all calls of a job that have no outcome."""
        if track.index not in opened.tracks:
            return
        self._note(track, error)
        self._settler.fail(track.work, range(len(track.work.positions)), error)
        self.close(opened, track)

    def close(self, opened: OpenSubmission, track: Track) -> None:
        """Forget a job."""
        opened.close(track.index)
        self._on_over(opened)

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
            marker=track.marker,
            ending=ending,
            started=exists or track.marker is not None,
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
