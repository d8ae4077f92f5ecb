"""slurmctld is frozen, dead, or has lost its memory: nothing is lost or doubled."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest

from slurm_futures import JobCancelled, JobFailed, JobLost
from slurm_futures.errors import JobState
from slurm_futures.schedulers.base import JobId
from slurm_futures.schedulers.slurm import SlurmScheduler
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


def add_line(file: Path, value: str) -> str:
    """Leave a trace of each run of the call."""
    with file.open("a") as stream:
        stream.write(f"{value}\n")
    return value


def jobs_of(cluster: SlurmCluster) -> list[str]:
    """All jobs that the cluster remembers, ended ones too."""
    return cluster.run("squeue", "-h", "-a", "-t", "all", "-o", "%F").split()


def test_results_arrive_while_the_controller_is_frozen(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """Values come from files; squeue that fails is no news, and no future fails."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    executor = make_executor(grace=1)
    futures = [executor.submit(gate.hold, name) for name in "ab"]
    gate.await_arrivals("a", "b")

    cluster.freeze_controller()
    gate.open("a")
    assert futures[0].result(60) == "a"
    with pytest.raises(TimeoutError):
        futures[1].result(5)  # longer than MessageTimeout and grace
    gate.open("b")
    assert futures[1].result(60) == "b"
    cluster.thaw_controller()


def test_a_job_that_dies_while_the_controller_is_dead(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    tmp_path: Path,
) -> None:
    """Its script tells; slurmctld is not needed for it."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    future = make_executor().submit(exit_at, gate, "a")
    gate.await_arrivals("a")
    cluster.kill_controller()
    gate.open()

    error = noticed(future, JobFailed, within=20)

    assert error.exit_code == 5
    cluster.start_controller()


def exit_at(gate: Gate, value: str) -> None:
    """Wait at the gate, then leave the process."""
    import os

    gate.hold(value)
    os._exit(5)


def test_the_controller_is_restarted(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """Running and pending calls go on, and new ones wait until it is back."""
    cluster = start_cluster(nodes=1, cpus=2, message_timeout=2)
    executor = make_executor(grace=1)
    futures = [executor.submit(gate.hold, name) for name in "abcd"]
    gate.await_arrivals("a", "b")

    cluster.stop_controller()
    gate.open()
    late = executor.submit(identity, "late")
    assert [future.result(PATIENCE) for future in futures[:2]] == ["a", "b"]
    cluster.start_controller()

    assert [future.result(PATIENCE) for future in futures] == list("abcd")
    assert late.result(PATIENCE) == "late"


def test_the_controller_loses_its_state(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """Running calls are killed by it, pending ones forgotten: each has its error."""
    cluster = start_cluster(nodes=1, cpus=1)
    executor = make_executor()
    futures = [executor.submit(gate.hold, name) for name in "abc"]
    gate.await_arrivals("a")
    for future in futures:
        job_id_of(future)

    cluster.stop_controller()
    cluster.start_controller(clean=True)

    for future in futures:
        error = future.exception(PATIENCE)
        assert isinstance(error, JobFailed), repr(error)
    noticed(futures[2], JobLost, within=1)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_an_id_that_is_given_again_is_not_cancelled(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    shims: Shims,
    how: str,
) -> None:
    """Without its state slurmctld counts anew: our id is that of another job."""
    shims.put("scancel")
    shims.put("squeue")
    cluster = start_cluster(nodes=1)
    executor = make_executor(hold=True, grace=60)
    future = executor.submit(identity, 1)
    first = job_id_of(future)
    cluster.stop_controller()
    state = cluster.directory / "state"
    shutil.rmtree(state)  # "slurmctld -c" would keep the last id
    state.mkdir()
    cluster.start_controller()
    other = make_executor().submit(gate.hold, "other")
    gate.await_arrivals("other")
    assert job_id_of(other) == first
    before = len(shims.calls("squeue"))
    assert_soon(lambda: len(shims.calls("squeue")) >= before + 2, PATIENCE)

    if how == "cancel":
        assert future.cancel()
    else:
        executor.terminate_workers()
    executor.shutdown()

    assert future.done()
    gate.open()
    assert other.result(PATIENCE) == "other"
    assert shims.calls("scancel") == []


def test_a_line_of_slurm_conf_that_every_command_complains_about(
    start_cluster: StartCluster, make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """What only squeue tells is noticed all the same."""
    cluster = start_cluster(nodes=1)
    with (cluster.directory / "etc/slurm.conf").open("a") as stream:
        stream.write("ControlMachine=elsewhere\n")
    future = make_executor(hold=True).submit(identity, 1)
    assert_soon(lambda: future.state is JobState.PENDING, PATIENCE)

    cluster.run("scancel", job_id_of(future))

    noticed(future, JobCancelled, within=20)


def test_the_controller_is_frozen_while_sbatch_runs(
    start_cluster: StartCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Sbatch times out, and its job comes all the same: it is adopted, not doubled."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    runs = tmp_path / "runs.txt"
    cluster.freeze_controller()
    future = make_executor().submit(add_line, runs, "a")
    with pytest.raises(TimeoutError):
        future.result(4)

    cluster.thaw_controller()

    assert future.result(PATIENCE) == "a"
    assert runs.read_text() == "a\n"
    assert len(set(jobs_of(cluster))) == 1


def test_sbatch_that_fails_after_it_made_the_job(
    slurm: SlurmCluster, make_executor: MakeExecutor, shims: Shims, tmp_path: Path
) -> None:
    """It says "Socket timed out" and no id: the job is found by its directory, once."""
    shims.put(
        "sbatch",
        '"$real" "$@" >/dev/null\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on "
        "send/recv operation' >&2\nexit 1",
    )
    runs = tmp_path / "runs.txt"
    before = jobs_of(slurm)

    results = list(make_executor().map(add_line, [runs] * 3, "abc", timeout=PATIENCE))

    assert results == list("abc")
    assert sorted(runs.read_text().split()) == list("abc")
    assert len(shims.calls("sbatch")) == 1
    assert len(set(jobs_of(slurm)) - set(before)) == 1


def test_sbatch_that_is_killed_before_it_made_the_job(
    slurm: SlurmCluster, make_executor: MakeExecutor, shims: Shims, tmp_path: Path
) -> None:
    """It is sent once more when the queue has not shown the job for 20 s."""
    shims.put("sbatch", '[ $(wc -l <"$count") = 1 ] && kill -9 $$\nexec "$real" "$@"')
    runs = tmp_path / "runs.txt"

    future = make_executor().submit(add_line, runs, "a")

    assert future.result(PATIENCE) == "a"
    assert len(shims.calls("sbatch")) == 2


def test_scancel_while_the_controller_is_frozen(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """`cancel` does not wait for it, and the job is gone when slurmctld is back."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    future = make_executor().submit(gate.hold, "a")
    gate.await_arrivals("a")

    cluster.freeze_controller()
    began = time.monotonic()
    assert future.cancel()
    assert time.monotonic() - began < 2  # sooner than scancel gives up
    assert future.cancelled()
    cluster.thaw_controller()

    assert_soon(lambda: not cluster.open_jobs(), PATIENCE)


def test_calls_that_were_cancelled_do_not_wait_for_the_controller(
    start_cluster: StartCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """A call that is cancelled during a hung sbatch never runs; shutdown ends."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    runs = tmp_path / "runs.txt"
    executor = make_executor()
    cluster.freeze_controller()
    future = executor.submit(add_line, runs, "a")
    with pytest.raises(TimeoutError):
        future.result(1)

    assert future.cancel()
    began = time.monotonic()
    executor.shutdown()

    assert time.monotonic() - began < 30
    cluster.thaw_controller()
    assert_soon(lambda: not cluster.open_jobs(), PATIENCE)
    assert not runs.exists()


def test_a_queue_that_cannot_be_read_is_told_of_once(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is asked less and less often, and one warning is logged."""
    caplog.set_level(logging.INFO, "slurm_futures")
    shims.put("squeue", "echo 'slurm_load_jobs error: Zero Bytes' >&2; exit 1")
    future = make_executor(poll_interval=0.1, grace=0.1).submit(gate.hold, "a")
    gate.await_arrivals("a")
    assert_soon(lambda: len(shims.calls("squeue")) >= 5, PATIENCE)

    assert not future.done()
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "Zero Bytes" in warnings[0].getMessage()
    gate.open()
    assert future.result(PATIENCE) == "a"


def test_accounting_that_is_not_there_is_asked_once(
    slurm: SlurmCluster, shims: Shims
) -> None:
    """At most sites without slurmdbd sacct fails each time, in words that we know."""
    shims.put("sacct")
    scheduler = SlurmScheduler()

    for number in range(4_000_000, 4_000_003):
        assert scheduler.explain([JobId(number)]) == {}
    assert len(shims.calls("sacct")) == 1
