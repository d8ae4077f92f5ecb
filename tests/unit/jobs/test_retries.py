"""What the next attempt of a call asks for."""

from __future__ import annotations

import pytest

from slurm_futures.errors import JobFailed, JobOutOfMemory, JobTimeout
from slurm_futures.jobs.retries import Retries
from slurm_futures.schedulers.sbatch_options import SbatchOptions


@pytest.mark.parametrize("error", [JobOutOfMemory, JobTimeout])
def test_next_attempt_never_asks_for_less(error: type[JobFailed]) -> None:
    """A bound may be below what the job has: then it has as much again."""
    policy = Retries(
        memory_factor=2, max_memory="32G", time_factor=2, max_time="1:00:00"
    )
    options = SbatchOptions.check({"mem": "64G", "time": "2:00:00"})

    assert policy.grow(options, error("failed")) == options
