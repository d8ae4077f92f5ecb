"""Jobs that nobody waits for: what is done until they are known to be over."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.errors import JobState
from slurm_futures.jobs.closer import Closer
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.judge import Verdict, judge
from slurm_futures.jobs.lifecycle import Lifecycle
from slurm_futures.jobs.lingering import LingeringJobs, is_asked_for
from slurm_futures.node import formats
from slurm_futures.runs.submission import Death, Ends
from slurm_futures.schedulers.base import Row
from tests.unit.fakes import SHORT, FakeAbove, FakeJobs, finished_path, make_job

LATE = SHORT.linger_patience + 1  #: seconds after which a job should have ended


class Lingerer:
    """The job 100_0 whose calls are over, and what is done about it."""

    def __init__(self, directory: Path) -> None:
        self.jobs = FakeJobs(directory)
        self.submission = self.jobs.opened
        self.job = self.submission.jobs[0]
        self.above = FakeAbove()
        self.lifecycle = Lifecycle()
        self.cancelled = 0
        self.asked = 0
        parts: Any = self
        self.lingering = LingeringJobs(
            Closer(1.0, self.above),
            parts,
            parts,
            self.lifecycle,
            replace(SHORT, over_pause=0.0),
        )

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Be the canceller."""
        for job in jobs:
            self.cancelled += 1
            job.to_cancel, job.cancelled_at = True, job.closed_at

    def ask(self, delay: float) -> None:
        """Be the subscription."""
        assert delay == 0
        self.asked += 1

    def close(self) -> None:
        """Let the calls be over."""
        self.submission.close(0)

    def see(self, state: JobState | None, after: float = 1.0) -> None:
        """Get a snapshot, so many seconds after the end of the calls."""
        rows = [] if state is None else [self.jobs.row(state)]
        self.submission.compare(rows, self.job.closed_at + after)
        self.lingering.note_snapshot(self.submission)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be done any more; then the submission is over, too."""
        assert self.submission.is_open == (0 in self.submission.lingering)
        assert bool(self.above.over) != self.submission.is_open
        return not self.submission.is_open


@pytest.fixture
def usual(tmp_path: Path) -> Lingerer:
    """Give a job that has left at once."""
    lingerer = Lingerer(tmp_path)
    lingerer.job.started = True
    return lingerer


@pytest.fixture
def lingerer(usual: Lingerer) -> Lingerer:
    """Give a job whose process may live on."""
    usual.job.lingers = True
    usual.close()
    return usual


def test_a_job_that_leaves_at_once_does_not_linger(usual: Lingerer) -> None:
    """Nobody asks for it: that is how most jobs end."""
    usual.close()

    assert not usual.submission.is_open
    assert usual.submission.size == 0


def test_a_job_that_lingers_keeps_its_place_until_its_mark(lingerer: Lingerer) -> None:
    """The script has told that it is over, and squeue is not asked."""
    assert lingerer.submission.size == 1
    formats.leave_mark(f"{finished_path(lingerer.submission.directory, 0)}.over", "1")

    ends = lingerer.submission.directory.list_ends(lingerer.submission.open_blocks)
    lingerer.lingering.note_marks(lingerer.submission, ends)

    assert lingerer.is_over
    assert lingerer.submission.size == 0
    assert lingerer.asked == 0


def test_squeue_is_asked_once_where_there_is_no_mark(lingerer: Lingerer) -> None:
    """It tells that the job is over."""
    for _ in range(3):
        lingerer.lingering.look(lingerer.submission)
    assert lingerer.asked == 1
    assert is_asked_for(lingerer.submission), "until it has told"

    lingerer.see(JobState.COMPLETING)
    assert not lingerer.is_over
    lingerer.see(JobState.COMPLETED)
    assert lingerer.is_over
    assert lingerer.cancelled == 0


def test_an_older_snapshot_says_nothing(lingerer: Lingerer) -> None:
    """The job was alive then, or not known yet."""
    lingerer.see(None, after=-1)

    assert not lingerer.is_over
    lingerer.see(None)
    assert lingerer.is_over


@pytest.mark.parametrize(
    ("state", "after", "cancelled"),
    [
        (JobState.RUNNING, 1.0, 0),
        (JobState.RUNNING, LATE, 1),
        (JobState.STOPPED, LATE, 1),
        (JobState.PENDING, 1.0, 1),
        (JobState.SPECIAL_EXIT, 1.0, 1),
        (JobState.REQUEUE_HOLD, 1.0, 1),
    ],
)
def test_when_a_job_is_cancelled(
    lingerer: Lingerer, state: JobState, after: float, cancelled: int
) -> None:
    """At once if it would run again, otherwise when it has had its time."""
    lingerer.see(state, after)

    assert lingerer.cancelled == cancelled
    assert not lingerer.is_over


def test_a_cancel_is_sent_until_squeue_says_that_it_has_worked(
    usual: Lingerer,
) -> None:
    """Completing is enough: Slurm ends it."""
    usual.cancel([usual.job])
    usual.job.cancelled_at = None
    usual.close()
    usual.see(JobState.CANCELLED)
    assert not usual.is_over, "scancel has not done anything yet"
    usual.job.cancelled_at = usual.job.closed_at

    usual.see(JobState.RUNNING)
    assert usual.cancelled == 2
    usual.see(JobState.COMPLETING)
    assert usual.is_over


def test_slurm_tells_by_a_mark_that_a_cancel_has_worked(usual: Lingerer) -> None:
    """Its SIGTERM has reached the script."""
    usual.cancel([usual.job])
    usual.close()
    ends = Ends(set(), set(), set(), {0})

    usual.lingering.note_marks(usual.submission, ends)

    assert usual.is_over


def test_the_id_of_a_job_that_lingers_is_given_again(lingerer: Lingerer) -> None:
    """The other job is left alone."""
    row = Row(JobState.RUNNING, "None", (range(1),), "/elsewhere")

    lingerer.submission.compare([row], lingerer.job.closed_at + LATE)

    assert not lingerer.job.may_exist
    lingerer.lingering.note_snapshot(lingerer.submission)
    assert lingerer.is_over
    assert lingerer.cancelled == 0


@pytest.mark.parametrize("closed", [False, True])
def test_a_job_is_given_up_only_after_the_end(
    lingerer: Lingerer, caplog: pytest.LogCaptureFixture, closed: bool
) -> None:
    """Then the log says what to type."""
    caplog.set_level(logging.WARNING)
    lingerer.lifecycle.closed = closed
    lingerer.lingering.look(lingerer.submission)
    assert not lingerer.is_over
    long_ago = time.monotonic() - SHORT.cancel_patience - 1
    lingerer.job.closed_at = long_ago
    if closed:
        lingerer.lingering._last_since = long_ago

    lingerer.lingering.look(lingerer.submission)

    assert lingerer.is_over == closed
    assert ("these jobs may still run: scancel 100_0" in caplog.text) == closed


def test_a_job_that_may_run_again_has_time_for_that() -> None:
    """It has died, but only squeue knows whether it is started again."""
    job = make_job()
    job.may_run_again = True
    job.death, job.death_at = Death(78), 100.0

    assert judge(job, 1e9, 101.0, SHORT) is Verdict.WAIT
    assert judge(job, 1e9, 101.0 + SHORT.grace, SHORT) is Verdict.FAIL
    job.see(JobState.SPECIAL_EXIT, 102.0)
    assert judge(job, 1e9, 1e9, SHORT) is Verdict.WAIT, "somebody may release it"
    job.death = Death(78)
    job.see(JobState.FAILED, 103.0)
    assert judge(job, 103.0, 103.0, SHORT) is Verdict.FAIL
