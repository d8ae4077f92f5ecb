"""Whatever ends a job: each call ends with the right error, and the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import (
    JobCancelled,
    JobFailed,
    JobLost,
    JobOutOfMemory,
    JobPreempted,
    JobTimeout,
    NodeFailed,
    SlurmExecutor,
    SlurmFuture,
)
from slurm_futures.calls.mapping import pickle_function
from slurm_futures.calls.shared_objects import CallPickler
from slurm_futures.errors import JobState
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.calls import identity, kill_own_process, leave_process
from tests.contract.gate import Gate
from tests.slurm import ClusterError, SlurmCluster, StartCluster, processes
from tests.slurm.cgroup import cgroup_available
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


def take_memory(megabytes: int) -> None:
    """Take memory and keep it until somebody minds."""
    memory = bytearray(megabytes << 20)
    time.sleep(PATIENCE)
    del memory


def ignore_sigterm(gate: Gate, value: str) -> str:
    """Wait at the gate, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return gate.hold(value)


def kill_job(gate: Gate, value: str) -> None:
    """Wait at the gate, then kill the script of the job and this process."""
    gate.hold(value)
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def count_runs(gate: Gate, file: Path, value: str) -> str:
    """Add a line to a file, then wait at the gate."""
    with file.open("a") as stream:
        stream.write(f"{os.environ.get('SLURM_RESTART_COUNT', '0')}\n")
    return gate.hold(value)


def run_and_exit(file: Path) -> None:
    """Add a line to a file, then leave the process."""
    with file.open("a") as stream:
        stream.write(f"{os.environ.get('SLURM_RESTART_COUNT', '0')}\n")
    os._exit(3)


def segfault() -> None:
    """Read from address 0."""
    import ctypes

    ctypes.string_at(0)


# The call ends its own process.


@pytest.mark.usefixtures("slurm")
def test_a_call_that_leaves_its_process(
    make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """os._exit: JobFailed with the exit code, at once; the executor goes on."""
    executor = make_executor()

    error = noticed(executor.submit(leave_process, 3), JobFailed, within=20)

    assert (error.state, error.exit_code, error.signal) == (JobState.FAILED, 3, None)
    assert error.node == "n1"
    assert "ended with exit code 3 and left no result" in str(error)
    assert str(error.directory) in str(error)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_call_that_kills_its_process_group(
    make_executor: MakeExecutor, noticed: Noticed, number: int, tasks: int | None
) -> None:
    """The script of the job gets the signal, too; the error names it."""
    executor = make_executor(max_workers=1, max_tasks_per_child=tasks)

    error = noticed(executor.submit(os.killpg, 0, number), JobFailed, within=20)

    assert error.signal == number
    assert f"was killed by {signal.Signals(number).name}" in str(error)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_call_that_kills_its_process(
    make_executor: MakeExecutor, noticed: Noticed, number: signal.Signals
) -> None:
    """The signal is named; SIGKILL waits for Slurm to say whether it was memory."""
    executor = make_executor()

    error = noticed(executor.submit(kill_own_process, number), JobFailed, within=20)

    assert (error.signal, error.exit_code) == (number, 128 + number)
    assert f"was killed by {number.name}" in str(error)


@pytest.mark.usefixtures("slurm")
def test_a_segmentation_fault(make_executor: MakeExecutor, noticed: Noticed) -> None:
    """SIGSEGV is named."""
    error = noticed(make_executor().submit(segfault), JobFailed, within=20)

    assert error.signal == signal.SIGSEGV
    assert "SIGSEGV" in str(error)


# scancel by hand.


def test_scancel_of_a_running_array_task(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """That call fails with JobCancelled within seconds, the others get their value."""
    executor = make_executor()
    futures = executor.map(gate.hold, "abc"), executor.submit(gate.hold, "lonely")
    gate.await_arrivals(*"abc", "lonely")
    lonely = futures[1]

    slurm.run("scancel", job_id_of(lonely))
    error = noticed(lonely, JobCancelled, within=20)

    assert error.state is JobState.CANCELLED
    assert error.node is not None
    assert "was cancelled with scancel, not by this program" in str(error)
    assert not lonely.cancelled()
    gate.open()
    assert list(futures[0]) == list("abc")


def test_scancel_of_a_job_whose_call_is_a_step(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """srun=True: the log speaks of the step as well as of the job."""
    future = make_executor(srun=True).submit(gate.hold, "a")
    gate.await_arrivals("a")

    slurm.run("scancel", job_id_of(future))

    noticed(future, JobCancelled, within=20)


def test_scancel_of_one_running_task_of_an_array(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """Its neighbours do not notice."""
    executor = make_executor()
    futures = submit_array(executor, gate, "abcd")
    gate.await_arrivals(*"abcd")

    slurm.run("scancel", job_id_of(futures[1]))
    noticed(futures[1], JobCancelled, within=20)

    gate.open()
    rest = [futures[at].result(PATIENCE) for at in (0, 2, 3)]
    assert rest == list("acd")


def test_scancel_of_a_call_that_ignores_sigterm(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """Slurm kills it after KillWait (2 s here), and squeue tells."""
    future = make_executor().submit(ignore_sigterm, gate, "deaf")
    gate.await_arrivals("deaf")

    slurm.run("scancel", job_id_of(future))

    noticed(future, JobCancelled, within=20)


def test_scancel_of_one_pending_task_of_an_array(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """A pending array task that is cancelled alone leaves no record, but an error."""
    executor = make_executor(hold=True)
    futures = submit_array(executor, gate, "abcd")
    await_jobs(futures)

    slurm.run("scancel", job_id_of(futures[2]))
    error = noticed(futures[2], JobCancelled, within=20)

    assert "Its script never began" in str(error)
    slurm.run("scontrol", "release", array_of(futures[0]))
    gate.open()
    rest = [futures[at].result(PATIENCE) for at in (0, 1, 3)]
    assert rest == list("abd")


def test_scancel_of_a_whole_array(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """What was done keeps its value; running and pending calls fail alike."""
    executor = make_executor(max_workers=2)
    futures = submit_array(executor, gate, "abcdef")
    gate.await_arrivals("a", "b")
    gate.open("a")
    gate.await_arrivals("c")

    slurm.run("scancel", array_of(futures[0]))
    for future in futures[1:]:
        noticed(future, JobCancelled, within=20)

    assert futures[0].result(PATIENCE) == "a"


def test_scancel_of_a_pending_array(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """One row without an index is all that is left of it."""
    futures = submit_array(make_executor(hold=True), gate, "abcd")
    await_jobs(futures)

    slurm.run("scancel", array_of(futures[0]))

    for future in futures:
        noticed(future, JobCancelled, within=20)


# Limits.


def test_the_time_limit(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """JobTimeout names the limit that slurmctld found to be over."""
    future = make_executor(time="10:00").submit(gate.hold, "long")
    gate.await_arrivals("long")

    slurm.end_time_limit(job_id_of(future))
    error = noticed(future, JobTimeout, within=55)

    assert error.state is JobState.TIMEOUT
    assert "its time limit of 10:00" in str(error)
    assert 'SlurmExecutor(time="...")' in str(error)


def hold_until_signal(gate: Gate, name: str, number: int) -> str:
    """Wait at the gate, or until a signal arrives, which is handled."""
    heard: list[int] = []
    signal.signal(number, lambda *_: heard.append(number))
    (gate.directory / f"{name}.arrived").touch()
    submission = gate.directory / f"{name}.open"
    assert_soon(lambda: heard or submission.exists(), 100)
    return "signal" if heard else "gate"


def test_signals_before_the_time_limit(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """`signal=` warns a call: one that listens has a value, another one dies of it.

    B: is for the script, which passes the signal on unless it is SIGTERM; without B:
    only job steps get it. Slurm sends it once: to a job that has just started it may
    come too early.
    """
    cluster = start_cluster(nodes=1)
    usr1 = make_executor(time="10:00", signal="B:USR1@60")
    term = make_executor(time="10:00", signal="TERM@60", srun=True)
    script = make_executor(time="10:00", signal="B:TERM@60")
    listens = [
        usr1.submit(hold_until_signal, gate, "usr1", signal.SIGUSR1),
        term.submit(hold_until_signal, gate, "term", signal.SIGTERM),
    ]
    deaf = [usr1.submit(gate.hold, "a"), term.submit(gate.hold, "b")]
    later = script.submit(gate.hold, "later")
    gate.await_arrivals("usr1", "term", "a", "b", "later")

    for future in (*listens, *deaf, later):
        job = f"JobId={job_id_of(future)}"
        cluster.run("scontrol", "update", job, "EndTime=now+60")
    assert [each.result(PATIENCE) for each in listens] == ["signal"] * 2
    for future, number in zip(deaf, (signal.SIGUSR1, signal.SIGTERM), strict=True):
        assert noticed(future, JobFailed, within=20).signal == number
    gate.open("later")
    assert later.result(PATIENCE) == "later"


def test_the_deadline(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """A job that cannot start before its deadline is a timeout of its own kind."""
    cluster = start_cluster(nodes=1, cpus=1)
    executor = make_executor()
    executor.submit(gate.hold, "blocker")
    gate.await_arrivals("blocker")
    late = executor.options(time="1:00", deadline="now+90").submit(identity, "late")
    await_jobs([late])

    cluster.run("scontrol", "update", f"JobId={job_id_of(late)}", "Deadline=now+2")
    error = noticed(late, JobTimeout, within=55)

    assert error.state is JobState.DEADLINE
    assert "was stopped at its deadline" in str(error)


@pytest.mark.parametrize("enforcement", ["cgroup", "poll"])
def test_too_much_memory(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    noticed: Noticed,
    enforcement: str,
) -> None:
    """JobOutOfMemory, also where Slurm calls it FAILED."""
    reason = cgroup_available() if enforcement == "cgroup" else None
    if reason is not None:
        pytest.skip(reason)
    start_cluster(nodes=1, memory_enforcement=enforcement)
    executor = make_executor(mem="100M")

    error = noticed(executor.submit(take_memory, 300), JobOutOfMemory, within=20)

    assert error.state is JobState.OUT_OF_MEMORY
    assert "more memory than it asked for (100M)" in str(error)
    assert 'SlurmExecutor(mem="...")' in str(error)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


# Nodes.


def test_a_node_that_crashes(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """NodeFailed once slurmctld gives the node up; calls on other nodes go on."""
    cluster = start_cluster(nodes=2, cpus=1, slurmd_timeout=4, message_timeout=3)
    futures = submit_array(make_executor(), gate, "ab")
    gate.await_arrivals("a", "b")
    nodes = cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%K %N").split()
    by_index = dict(zip(nodes[::2], nodes[1::2], strict=True))

    cluster.crash_node(by_index["0"])
    error = noticed(futures[0], NodeFailed, within=55)

    assert (error.state, error.node) == (JobState.NODE_FAIL, by_index["0"])
    assert "ended with its node (NODE_FAIL)" in str(error)
    gate.open("b")
    assert futures[1].result(PATIENCE) == "b"


def test_a_node_that_is_set_down_while_its_call_ends_well(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """The process lives on: an outcome that comes within the grace counts."""
    cluster = start_cluster(nodes=1)
    future = make_executor(grace=30).submit(gate.hold, "a")
    gate.await_arrivals("a")
    cluster.kill_node("n1")

    cluster.run("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    assert_soon(lambda: future.state is JobState.NODE_FAIL, PATIENCE)
    gate.open()

    assert future.result(PATIENCE) == "a"


def test_a_node_that_never_boots(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    shims: Shims,
    noticed: Noticed,
) -> None:
    """Power saving waits for ResumeTimeout, then Slurm gives node and jobs up.

    Slurm 22.05 calls this NODE_FAIL, also after `--reboot`. The second job stands for
    sites where it is BOOT_FAIL.
    """
    start_cluster(
        nodes=1,
        extra_lines=(
            "SuspendProgram=/bin/true",
            "ResumeProgram=/bin/false",
            "ResumeTimeout=2",
            "SuspendTime=600",
            "NodeName=cloud1 NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=CLOUD",
            "PartitionName=cloud Nodes=cloud1 State=UP",
        ),
    )
    executor = make_executor()

    futures = []
    for name in "ab":
        variant = executor.options(partition="cloud", comment=name)
        futures.append(variant.submit(identity, name))
        await_jobs(futures)
    second = job_id_of(futures[1])
    shims.put("squeue", f'"$real" "$@" | sed "/^{second}|/s/|NF|/|BF|/"')
    errors = [noticed(future, NodeFailed, within=55) for future in futures]

    states = [JobState.NODE_FAIL, JobState.BOOT_FAIL]
    assert [error.state for error in errors] == states
    for error, state in zip(errors, states, strict=True):
        assert f"ended with its node ({state.name})" in str(error)
        assert "Its script never began" in str(error)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def test_a_node_whose_prolog_fails(
    start_cluster: StartCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Slurm drains it, and cancels the job, which must not be requeued."""
    prolog = tmp_path / "prolog.sh"
    prolog.write_text("#!/bin/sh\nexit 1\n")
    prolog.chmod(0o755)
    start_cluster(nodes=1, extra_lines=(f"Prolog={prolog}",))

    error = make_executor().submit(identity, 1).exception(PATIENCE)

    # From 24.11 on nothing is in the log of the job.
    if isinstance(error, NodeFailed):
        assert "the prolog of its node failed" in str(error)
    else:
        assert isinstance(error, JobCancelled)
        assert "or by Slurm, since node n1 could not start it" in str(error)


# Preemption, requeue, suspension.


def test_preemption_by_cancel(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """JobPreempted for the job that had to go; the urgent one runs."""
    start_cluster(nodes=1, cpus=1, preemption="cancel")
    executor = make_executor()
    future = executor.submit(gate.hold, "ordinary")
    gate.await_arrivals("ordinary")

    urgent = executor.options(partition="urgent").submit(identity, "urgent")
    error = noticed(future, JobPreempted, within=30)

    assert error.state is JobState.PREEMPTED
    assert urgent.result(PATIENCE) == "urgent"


def test_preemption_by_requeue(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """With requeue=True the call waits, runs again, and nothing fails."""
    cluster = start_cluster(nodes=1, cpus=1, preemption="requeue")
    executor = make_executor(requeue=True)
    future = executor.submit(gate.hold, "ordinary")
    gate.await_arrivals("ordinary")

    urgent = executor.options(partition="urgent", requeue=None).submit(identity, 1)
    assert urgent.result(PATIENCE) == 1
    start_again(cluster, job_id_of(future))
    gate.open()

    assert future.result(PATIENCE) == "ordinary"


def test_requeue_of_a_running_job(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, tmp_path: Path
) -> None:
    """The call begins anew and has one value; it is not lost in between."""
    runs = tmp_path / "runs.txt"
    future = make_executor(requeue=True).submit(count_runs, gate, runs, "a")
    gate.await_arrivals("a")

    slurm.run("scontrol", "requeue", job_id_of(future))
    start_again(slurm, job_id_of(future))
    gate.open()

    assert future.result(PATIENCE) == "a"
    assert runs.read_text().split() == ["0", "1"]


def test_requeue_by_the_exit_code(
    start_cluster: StartCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """A call that may run once runs once, whatever slurm.conf says (RequeueExit)."""
    cluster = start_cluster(nodes=1, extra_lines=("RequeueExit=3",))
    if cluster.version >= (24, 11):
        pytest.skip("Slurm 24.11 requeues no job that was sent with --no-requeue")
    runs = tmp_path / "runs.txt"
    future = make_executor().submit(run_and_exit, runs)
    assert isinstance(future.exception(PATIENCE), JobFailed)

    with contextlib.suppress(ClusterError):  # the executor has cancelled it by now
        start_again(cluster, job_id_of(future))

    assert_soon(lambda: not cluster.open_jobs(), PATIENCE)
    assert runs.read_text().split() == ["0"]


def test_requeue_after_the_result_exists(
    slurm: SlurmCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """The value stays, and the second run ends at once without a call."""
    runs = tmp_path / "runs.txt"
    executor = make_executor(requeue=True, keep="always")
    future = executor.submit(count_runs, open_gate(tmp_path), runs, "a")
    assert future.result(PATIENCE) == "a"
    job_id = job_id_of(future)
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)

    slurm.run("scontrol", "requeue", job_id)
    start_again(slurm, job_id)
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)

    assert runs.read_text().split() == ["0"]


def test_two_incarnations_at_once(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    tmp_path: Path,
) -> None:
    """A node is given up while its process lives on: one outcome for the call."""
    # 1: an answer that the dead slurmd sent before does not bring the node back.
    cluster = start_cluster(nodes=2, cpus=1, extra_lines=("ReturnToService=1",))
    runs = tmp_path / "runs.txt"
    future = make_executor(requeue=True).submit(count_runs, gate, runs, "a")
    gate.await_arrivals("a")
    node = cluster.run("squeue", "-h", "-o", "%N").strip()
    cluster.kill_node(node)

    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    start_again(cluster, job_id_of(future))
    assert_soon(lambda: len(runs.read_text().split()) == 2, PATIENCE)
    gate.open()

    assert future.result(PATIENCE) == "a"


def test_suspension(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """A suspended job is alive, however long it is."""
    future = make_executor(grace=1).submit(gate.hold, "a")
    gate.await_arrivals("a")

    slurm.run("scontrol", "suspend", job_id_of(future))
    assert_soon(lambda: future.state is JobState.SUSPENDED, PATIENCE)
    gate.open()
    with pytest.raises(TimeoutError):
        future.result(3)
    slurm.run("scontrol", "resume", job_id_of(future))

    assert future.result(PATIENCE) == "a"


def test_a_stopped_job(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """So is one that somebody stops with a signal."""
    future = make_executor(grace=1).submit(gate.hold, "a")
    gate.await_arrivals("a")

    slurm.run("scancel", "--signal=STOP", "--full", job_id_of(future))
    assert_soon(lambda: is_stopped(slurm), PATIENCE)
    gate.open()
    with pytest.raises(TimeoutError):
        future.result(5)
    slurm.run("scancel", "--signal=CONT", "--full", job_id_of(future))

    assert future.result(PATIENCE) == "a"


def test_hold_and_release(slurm: SlurmCluster, make_executor: MakeExecutor) -> None:
    """A held job is just pending."""
    future = make_executor(hold=True, grace=1).submit(identity, "a")
    await_jobs([future])
    with pytest.raises(TimeoutError):
        future.result(2)

    slurm.run("scontrol", "release", job_id_of(future))

    assert future.result(PATIENCE) == "a"


# Records that are gone.


def test_purged_records(
    start_cluster: StartCluster, make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """With MinJobAge=2 and a lazy squeue, no result and no cause is lost."""
    start_cluster(nodes=1, min_job_age=2)
    executor = make_executor(poll_interval=30, grace=60)

    results = list(executor.map(identity, range(60), timeout=PATIENCE))
    error = noticed(executor.submit(leave_process, 3), JobFailed, within=20)

    assert results == list(range(60))
    assert error.exit_code == 3


def test_scancel_of_purged_records(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """Slurm's own log says that it was scancel when no record is left."""
    cluster = start_cluster(nodes=1, min_job_age=2)
    future = make_executor(poll_interval=30, grace=60).submit(gate.hold, "a")
    gate.await_arrivals("a")

    cluster.run("scancel", job_id_of(future))

    noticed(future, JobCancelled, within=20)


def test_jobs_that_vanish_without_a_trace(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """Killed with their scripts, and forgotten: lost after one grace for all."""
    cluster = start_cluster(nodes=1)
    executor = make_executor(grace=2)
    futures = [executor.submit(kill_job, gate, name) for name in "abc"]
    gate.await_arrivals(*"abc")
    cluster.stop_controller()
    gate.open()
    cluster.start_controller(clean=True)

    for future in futures:
        error = noticed(future, JobLost, within=20 if future is futures[0] else 1)
        assert error.state is None
        assert "not known to Slurm any more" in str(error)


# Helpers, in the order of use.


def array_of(future: SlurmFuture[Any]) -> str:
    """Return the id of the whole array that a call belongs to."""
    return job_id_of(future).partition("_")[0]


def submit_array(
    executor: SlurmExecutor, gate: Gate, names: str
) -> list[SlurmFuture[str]]:
    """Submit calls that wait at the gate, all in one array, and return their futures.

    As `map` does, which keeps these; a slow loop of `submit` may become several arrays.
    """
    calls = (((name,),) for name in names)
    function = pickle_function(gate.hold)
    kind = executor._kind()
    return executor._submit_chunks(kind, "hold", function, calls, 1, CallPickler())


def await_jobs(futures: list[SlurmFuture[Any]]) -> None:
    """Wait until each of these calls has a job."""
    assert_soon(lambda: all(future.job_id for future in futures), PATIENCE)


def test_a_job_whose_working_directory_was_changed(
    slurm: SlurmCluster, make_executor: MakeExecutor
) -> None:
    """By scontrol: it is still ours, and is cancelled when it should be."""
    executor = make_executor(grace=1, hold=True)
    futures = [executor.submit(identity, name) for name in "ab"]
    for future in futures:
        job_id = job_id_of(future).split("_")[0]
        slurm.run("scontrol", "update", f"JobId={job_id}", "WorkDir=/tmp")

    with pytest.raises(TimeoutError):
        futures[0].result(5)  # longer than the grace
    assert not futures[1].done()
    assert futures[1].cancel()
    slurm.run("scontrol", "release", job_id_of(futures[0]))
    assert futures[0].result(PATIENCE) == "a"
    executor.shutdown()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)


@pytest.mark.parametrize("pool", [False, True], ids=["jobs", "pool"])
def test_a_dependency_that_is_never_satisfied(
    slurm: SlurmCluster, make_executor: MakeExecutor, noticed: Noticed, pool: bool
) -> None:
    """Slurm cancels the job, and the error says so; a pool starts no job after job."""
    failed = slurm.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "exit 1")
    workers = {"max_workers": 1, "max_tasks_per_child": None}
    executor = make_executor(
        dependency=f"afterok:{failed.strip()}",
        kill_on_invalid_dep="yes",
        **(workers if pool else {}),
    )

    error = noticed(executor.submit(identity, 1), JobFailed, within=PATIENCE)

    assert "cancelled by Slurm, since it depends on a job that has failed" in str(error)
    assert "DependencyNeverSatisfied" in str(error)


def start_again(cluster: SlurmCluster, job_id: str | None) -> None:
    """Let a job that was requeued start in 3 s; it would wait for 120 s.

    Not at once: a node refuses a job that comes back within a second ("credential
    revoked").
    """

    def is_pending() -> bool:
        answer = cluster.run("squeue", "-h", "-j", job_id, "-o", "%t %r", check=False)
        return answer.startswith("PD")

    assert_soon(is_pending, PATIENCE)
    cluster.run("scontrol", "update", f"JobId={job_id}", "StartTime=now+3")


def is_stopped(cluster: SlurmCluster) -> bool:
    """Whether the signal has reached the worker of the only job."""
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        for pid in cluster.processes()
        if "start.py" in processes.command_line(pid)
    ]
    return states == ["T"]


def open_gate(directory: Path) -> Gate:
    """A gate that holds nobody."""
    gate = Gate(directory / "open_gate")
    gate.directory.mkdir()
    gate.open()
    return gate
