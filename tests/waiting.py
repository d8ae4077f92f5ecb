"""Waiting in tests: for a condition and with a deadline, never for a length of time.

The poll loop here is the only sleep of the tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_futures import SlurmFuture

_POLL_INTERVAL = 0.02  #: seconds


def becomes_true(condition: Callable[[], object], timeout: float = 60) -> bool:
    """Ask again and again until the condition holds; False when the time is up.

    Args:
        condition: Called at least once; any true value ends the wait.
        timeout: Seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_INTERVAL)
    return True


def assert_soon(
    condition: Callable[[], object],
    timeout: float = 60,
    message: str | Callable[[], str] = "",
) -> None:
    """Fail the test unless the condition holds within the timeout.

    Args:
        condition: Called at least once; any true value ends the wait.
        timeout: Seconds.
        message: What was awaited; a function is called at the failure, so that it can
            tell what was there instead.
    """
    if not becomes_true(condition, timeout):
        said = message() if callable(message) else message
        raise AssertionError(f"not true within {timeout:g} s: {said or condition}")


def job_id_of(future: SlurmFuture[Any]) -> str:
    """Return the id of a job as soon as it is known: the job may begin before."""
    assert_soon(lambda: future.job_id)
    return str(future.job_id)
