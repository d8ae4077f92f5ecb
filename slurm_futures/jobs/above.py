"""What the parts of this room tell those above them; `session.py` listens."""

from __future__ import annotations

from typing import Protocol

from slurm_futures.calls.future import CancelHearer
from slurm_futures.calls.request import JobRequest
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.schedulers.sbatch_options import Kind


class Above(CancelHearer, Protocol):
    """All that points up. Everything else is an object that is handed down."""

    def resubmit(self, kind: Kind, label: str, request: JobRequest) -> None:
        """Let calls run that were accepted before: once more, or at last.

        Also after shutdown.
        """

    def note_initializer(self, exception: BaseException) -> SlurmFuturesError:
        """Fail all futures, since the initializer raised; return the error for them."""

    def note_over(self, submission: OpenSubmission) -> None:
        """Hear that a job of a submission is over, which may let others run."""

    def note_full(self) -> None:
        """Hear that jobs wait for a place, since `max_workers` are open."""
