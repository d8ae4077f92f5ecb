"""Kind to the cluster: how many commands a program starts, counted on real Slurm."""

from __future__ import annotations

import threading

import pytest

from slurm_futures import SlurmFuture
from tests.cluster.conftest import MakeExecutor, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.waiting import assert_soon

pytestmark = pytest.mark.cluster

PATIENCE = 100  #: seconds
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")


@pytest.fixture
def counted(shims: Shims) -> Shims:
    """Count all commands."""
    for command in COMMANDS:
        shims.put(command)
    return shims


@pytest.mark.usefixtures("slurm")
def test_two_executors_share_one_squeue(
    make_executor: MakeExecutor, gate: Gate, counted: Shims
) -> None:
    """Ten executors in as many threads ask no more often than one."""
    executors = [make_executor(poll_interval=1) for _ in range(10)]
    threads = [
        threading.Thread(target=executor.submit, args=(gate.hold, number))
        for number, executor in enumerate(executors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.await_arrivals(*range(10))
    before = len(counted.calls("squeue"))
    with pytest.raises(AssertionError):
        assert_soon(lambda: len(counted.calls("squeue")) > before + 5, 4)
    gate.open()
    for executor in executors:
        executor.shutdown()


def test_a_map_of_1000_calls_is_one_sbatch(
    start_cluster: StartCluster, make_executor: MakeExecutor, counted: Shims
) -> None:
    """And hardly more commands than that."""
    start_cluster(nodes=4, cpus=16)
    executor = make_executor(poll_interval=5)

    assert list(executor.map(identity, range(1000), timeout=PATIENCE)) == [*range(1000)]

    executor.shutdown()
    counts = {command: len(counted.calls(command)) for command in COMMANDS}
    assert counts["sbatch"] == 1
    assert counts["scontrol"] <= 1
    assert counts["scancel"] == counts["sacct"] == 0
    assert counts["squeue"] <= 20


def test_a_loop_of_1000_submits_is_a_handful_of_sbatch(
    slurm: SlurmCluster, make_executor: MakeExecutor, counted: Shims
) -> None:
    """Cancel of one of them leaves the others; cancel of all is one scancel each."""
    executor = make_executor(hold=True)
    futures: list[SlurmFuture[int]] = [
        executor.submit(identity, number) for number in range(1000)
    ]
    assert_soon(lambda: all(future.job_id for future in futures), PATIENCE)
    assert_soon(lambda: len(slurm.open_jobs()) >= 1000, PATIENCE)
    assert len(counted.calls("sbatch")) < 20

    assert futures[500].cancel()
    assert_soon(lambda: len(slurm.open_jobs()) == 999, PATIENCE)
    assert counted.calls("scancel") == [str(futures[500].job_id)] or (
        len(counted.calls("scancel")) == 1
    )
    assert sum(future.done() for future in futures) == 1

    executor.shutdown(cancel_futures=True)
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    assert len(counted.calls("scancel")) <= 1 + 20


@pytest.mark.usefixtures("slurm")
def test_a_command_that_is_slow_delays_nobody_else(
    make_executor: MakeExecutor, shims: Shims, gate: Gate
) -> None:
    """Values arrive while squeue hangs, and submit returns while sbatch does."""
    shims.put("squeue", 'sleep 3; exec "$real" "$@"')
    executor = make_executor()
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    assert_soon(lambda: shims.calls("squeue"), PATIENCE)
    gate.open()

    assert future.result(60) == "a"


@pytest.mark.usefixtures("slurm")
def test_an_executor_that_waits_for_nothing_asks_nothing(
    make_executor: MakeExecutor, counted: Shims
) -> None:
    """No thread, no command."""
    executor = make_executor(poll_interval=0.1)
    assert executor.submit(identity, 1).result(PATIENCE) == 1
    names = ("slurm_futures-poller", "slurm_futures-queue", "slurm_futures-submitter")

    assert_soon(
        lambda: not [each for each in threading.enumerate() if each.name in names]
    )
    before = {command: counted.calls(command) for command in COMMANDS}
    with pytest.raises(AssertionError):
        assert_soon(
            lambda: {command: counted.calls(command) for command in COMMANDS} != before,
            1,
        )
