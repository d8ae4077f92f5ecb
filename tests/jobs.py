"""Scripts for tests of schedulers: where they lie, and what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slurm_futures.errors import JobState
from slurm_futures.schedulers.base import BatchScript, JobId, Scheduler
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_futures.schedulers.base import Row

#: A job waits in its directory until the test opens the gate.
WAIT = "while [ ! -e gate ]; do sleep 0.02; done"
TIMEOUT = 60  #: seconds; a busy slurmctld takes its time

States = dict[int | None, JobState]


class Jobs:
    """Submits scripts, each to a directory of its own, and tells what they do."""

    def __init__(self, scheduler: Scheduler, root: Path) -> None:
        self.scheduler = scheduler
        self.submitted: list[JobId] = []
        self._root = root

    def directory(self, name: str = "job") -> Path:
        """The directory of the submission with this name."""
        return self._root / name

    def submit(
        self,
        text: str,
        *arguments: str,
        name: str = "job",
        array_size: int | None = None,
        throttle: int | None = None,
        log: str = "log",
        options: Mapping[str, str | int] | None = None,
    ) -> JobId:
        """Submit a script of bash."""
        directory = self.directory(name)
        directory.mkdir(parents=True)
        script = directory / "script.sh"
        script.write_text(f"#!/bin/bash\n{text}\n")
        job = self.scheduler.submit(
            BatchScript(
                script=script,
                name="contract",
                directory=directory,
                log=f"{str(directory).replace('%', '%%')}/{log}",
                arguments=arguments,
                array_size=array_size,
                throttle=throttle,
                options=options or {},
            )
        )
        self.submitted.append(job)
        return job

    def open_gate(self, name: str = "job") -> None:
        """Let the jobs that wait in this directory end."""
        (self.directory(name) / "gate").touch()

    def rows(self, job: JobId) -> tuple[Row, ...]:
        """What the snapshot says of a submission."""
        return self.scheduler.query().jobs.get(job.array, ())

    def states(self, job: JobId) -> States:
        """The state of each job of a submission, by index."""
        return {
            index: row.state
            for row in self.rows(job)
            for indices in row.indices or ((None,),)
            for index in indices
        }

    def state(self, job: JobId) -> JobState | None:
        """The state of a job or an array task; None if it is not listed."""
        return self.states(job).get(job.index)

    def wait_for(self, job: JobId, expected: States) -> None:
        """Wait until the states of a submission are exactly these."""
        assert_soon(
            lambda: self.states(job) == expected,
            TIMEOUT,
            lambda: f"{job} is {self.states(job)}, not {expected}",
        )

    def wait_until_ended(self, *jobs: JobId) -> None:
        """Wait until nothing of these submissions waits or runs."""
        assert_soon(
            lambda: all(s.ended for job in jobs for s in self.states(job).values()),
            TIMEOUT,
            lambda: str([self.rows(job) for job in jobs]),
        )


def read_when_there(path: Path) -> str:
    """The content of a file that a job writes with one echo."""
    assert_soon(
        lambda: path.exists() and path.read_text().endswith("\n"), TIMEOUT, str(path)
    )
    return path.read_text()


def variables(path: Path) -> dict[str, str]:
    """The variables that `env -0` wrote."""
    entries = path.read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)
