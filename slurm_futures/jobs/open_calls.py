"""Calls that are not over: who waits for them, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.stored import CallPlace
from slurm_futures.schedulers.sbatch_options import Kind


@dataclass(slots=True, eq=False)
class OpenCalls:
    """Calls that run one after another, and the future that waits for them.

    Attributes:
        future: gets their outcomes.
        positions: of the calls in the future.
        kind: what jobs they need.
        label: what the jobs are called.
        calls: the calls file, once it is written.
        index: of these calls among the jobs of that file.
    """

    future: SlurmFuture[Any]
    positions: range | list[int]
    kind: Kind
    label: str
    calls: Path | None = None
    index: int = 0

    def __post_init__(self) -> None:
        """Let the future know where its call is."""
        if self.calls is not None:
            self.future._place = CallPlace(self.calls, self.index, 0)

    @property
    def directory(self) -> Path | None:
        """The job directory, which is kept if one of them fails."""
        return self.future.directory

    def note_failure(self) -> None:
        """Note that one of them has failed for good."""

    def release(self) -> None:
        """Note that these calls are about to run elsewhere: nobody has them any more.

        May come several times.
        """
