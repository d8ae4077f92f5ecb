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


@in_all_modes
@pytest.mark.parametrize("chunksize", [1, 4])
def test_executor_sums_up_what_its_calls_have_used(
    make_ours: MakeOurs, max_tasks_per_child: int | None, chunksize: int
) -> None:
    """Of a map, too, each call by itself; and also after its end."""
    executor = make_ours(2, max_tasks_per_child=max_tasks_per_child, time=600)
    assert executor.usage().calls == 0

    results = executor.map(calls.identity, range(12), chunksize=chunksize)
    assert len(list(results)) == 12
    executor.shutdown()

    summary = executor.usage()
    assert summary.calls == 12
    assert 0 < summary.elapsed[0.5] <= summary.elapsed[1.0]
    assert summary.max_rss[1.0] > 1 << 20
    assert summary.asked["time"] == "600"
    has_limit = max_tasks_per_child == 1
    assert ("time" in summary.advice) == has_limit
    assert str(summary).startswith("12 calls: memory 95 % below ")


def test_usage_tells_calls_with_other_options_apart(make_ours: MakeOurs) -> None:
    """All executors of `options` are one."""
    executor = make_ours(2, time=5)
    futures = [executor.submit(abs, -1), executor.options(time=6).submit(abs, -1)]
    for each in futures:
        each.result(PATIENCE)

    asked = [each.asked["time"] for each in executor.usage().kinds]

    assert sorted(map(str, asked)) == ["5", "6"]
