"""Each operation on files of a job fails in turn: no value is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slurm_futures import JobTimeout, SlurmExecutor
from tests.faults.sweep import COMPILER, MANY, Fault, run_calls, run_workers

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler: gcc")


@pytest.mark.parametrize(
    ("error", "seconds", "chunksize"),
    [("ESTALE", 0, 1), ("ENOSPC", 0, 3), ("EIO", 0.7, 1)],
)
def test_a_file_system_that_fails_for_a_while_costs_jobs_no_value(
    tmp_path: Path, error: str, seconds: float, chunksize: int
) -> None:
    """Whichever operation it is, of the script, of Python or of the worker."""
    fault = Fault(error, 1, seconds)

    assert run_calls(fault, tmp_path, MANY, chunksize=chunksize) == []


def test_a_job_that_waits_ends_at_its_time_limit(tmp_path: Path) -> None:
    """SIGTERM ends the wait, which would take a minute."""
    fault = Fault("EIO", 20, 60)
    with fault.happens(tmp_path):
        executor = SlurmExecutor(
            directory=tmp_path / "runs", scheduler="local", time="0:04"
        )
        began = time.monotonic()
        error = executor.submit(abs, -1).exception(100)

    assert isinstance(error, JobTimeout)
    assert time.monotonic() - began < 40
    executor.shutdown()


@pytest.mark.parametrize(("error", "seconds"), [("EACCES", 0), ("EIO", 0.7)])
def test_a_file_system_that_fails_for_a_while_costs_workers_no_value(
    tmp_path: Path, error: str, seconds: float
) -> None:
    """Nor are there calls that fail since one worker could not begin them."""
    assert run_workers(Fault(error, 1, seconds), tmp_path, step=3) == []
