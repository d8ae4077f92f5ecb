"""What calls have used, on a real Slurm."""

from __future__ import annotations

import os
import time

import pytest

from tests.cluster.conftest import MakeExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("slurm")]

PATIENCE = 60  #: seconds
MEGABYTE = 1 << 20


def take(megabytes: int) -> str:
    """Take memory, for a while; return the name of the node."""
    data = bytearray(megabytes * MEGABYTE)
    time.sleep(0.05)
    del data
    return os.environ["SLURMD_NODENAME"]


@pytest.mark.parametrize("chunksize", [1, 2])
@pytest.mark.parametrize("max_tasks_per_child", [1, None])
def test_each_call_tells_its_own_memory(
    make_executor: MakeExecutor, max_tasks_per_child: int | None, chunksize: int
) -> None:
    """Also the second one in a process, which takes less than the first."""
    executor = make_executor(max_workers=1, max_tasks_per_child=max_tasks_per_child)

    assert all(executor.map(take, [200, 10], chunksize=chunksize))

    summary = executor.usage()
    assert summary.calls == 2
    assert summary.max_rss[0.5] < 100 * MEGABYTE
    assert 200 * MEGABYTE < summary.max_rss[1.0] < 300 * MEGABYTE


def test_future_tells_where_its_call_ran(make_executor: MakeExecutor) -> None:
    """In Slurm's word for the node."""
    executor = make_executor(max_workers=1, max_tasks_per_child=None)
    futures = [executor.submit(take, size) for size in (200, 10)]

    node, _ = [each.result(PATIENCE) for each in futures]
    first, second = [each.usage for each in futures]

    assert first is not None
    assert second is not None
    assert first.node == second.node == node
    assert (first.max_rss or 0) > 200 * MEGABYTE
    assert 0 < (second.max_rss or 0) < 100 * MEGABYTE
    assert first.elapsed is not None
    assert first.elapsed >= 0.05
    assert first.waited is not None
