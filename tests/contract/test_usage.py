"""What calls have used: in jobs of their own, in chunks, in long-lived workers."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_futures import JobFailed, SlurmFuture
from tests.contract import calls, executors
from tests.contract.executors import PATIENCE, MakeOurs

pytestmark = executors.ours

in_all_modes = pytest.mark.parametrize("max_tasks_per_child", [1, None])


def work(seconds: float, megabytes: int = 0) -> None:
    """Use so much CPU and memory, for some 10 ms at least."""
    data = bytearray(megabytes << 20)
    while time.process_time() < seconds:
        pass
    time.sleep(0.01)
    del data


def fail_first(path: Path) -> None:
    """Raise, and take much memory; but not in the next attempt."""
    if not path.exists():
        path.touch()
        work(0, 200)
        raise ConnectionError


@in_all_modes
def test_future_tells_what_its_call_has_used(
    make_ours: MakeOurs, max_tasks_per_child: int | None
) -> None:
    """Also one that raises; not the call before it in the same worker."""
    executor = make_ours(1, max_tasks_per_child=max_tasks_per_child)
    before = datetime.now(UTC)
    futures: list[SlurmFuture[None]] = [
        executor.submit(work, 0.3, 200),
        executor.submit(work, 0, 10),
        executor.submit(calls.raise_error, ValueError()),
    ]
    assert futures[2].usage is None

    futures[1].result(PATIENCE)
    futures[2].exception(PATIENCE)
    first, second, third = [each.usage for each in futures]

    assert first is not None
    assert second is not None
    assert third is not None
    assert first.node
    assert first.started_at is not None
    assert first.ended_at is not None
    assert first.elapsed is not None
    assert first.started_at > before
    assert first.ended_at - first.started_at >= timedelta(seconds=first.elapsed - 0.1)
    assert first.waited is not None
    assert 0 < first.waited < PATIENCE
    assert first.cpu is not None
    assert 0 < first.cpu <= first.elapsed + 0.1
    assert (first.max_rss or 0) > 200 << 20
    assert 0 < (second.max_rss or 0) < 150 << 20
    assert third.elapsed is not None


@in_all_modes
def test_usage_is_that_of_the_last_attempt(
    make_ours: MakeOurs, tmp_path: Path, max_tasks_per_child: int | None
) -> None:
    """As the value is."""
    executor = make_ours(
        1, max_tasks_per_child=max_tasks_per_child, retries={ConnectionError: 1}
    )

    future = executor.submit(fail_first, tmp_path / "began")

    future.result(PATIENCE)
    assert future.attempts == 2
    assert future.usage is not None
    assert future.usage.elapsed is not None
    assert (future.usage.max_rss or 0) < 150 << 20


def test_call_that_died_has_no_usage(make_ours: MakeOurs) -> None:
    """Nobody has measured it to its end."""
    future = make_ours(1).submit(calls.kill_own_process, signal.SIGSEGV)

    assert isinstance(future.exception(PATIENCE), JobFailed)
    assert future.usage is None
