"""Jobs that live on, on a real Slurm: workers that die, are cancelled, or go idle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from slurm_futures import (
    InitializerFailed,
    JobCancelled,
    JobFailed,
    JobTimeout,
    SlurmExecutor,
    SubmitError,
)
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.cluster.test_ends_of_jobs import start_again
from tests.contract.calls import divide_or_die, identity, kill_own_process
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.slurm.cgroup import cgroup_available
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_pool(make_executor: MakeExecutor) -> MakeExecutor:
    """Make executors whose jobs live on: two of them, unless told otherwise."""

    def make(**options: object) -> SlurmExecutor:
        return make_executor(
            **{"max_workers": 2, "max_tasks_per_child": None, **options}
        )

    return make


def job_of_call(_: object = None) -> str:
    """Tell which array task ran the call."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"


def add_line(path: Path, value: object = "") -> None:
    """Add a line to a file."""
    with path.open("a") as file:
        file.write(f"{value}\n")


def fail() -> None:
    """Raise."""
    raise ArithmeticError("the initializer fails")


def count_jobs(slurm: SlurmCluster) -> int:
    """How many jobs wait or run; those that end do not count."""
    return len([line for line in slurm.open_jobs() if "COMPLETING" not in line])


# Work.


def test_a_thousand_calls_on_sixteen_workers(
    slurm: SlurmCluster, make_pool: MakeExecutor, shims: Shims
) -> None:
    """One or two sbatch, never more than 16 jobs, each of which takes many calls."""
    shims.put("sbatch")
    executor = make_pool(max_workers=16)

    jobs = list(executor.map(job_of_call, range(1000)))

    assert len(jobs) == 1000
    assert 1 < len(set(jobs)) <= 16
    assert len(shims.calls("sbatch")) <= 2
    executor.shutdown()
    assert_soon(lambda: not slurm.open_jobs(), 60)


@pytest.mark.usefixtures("slurm")
def test_a_slow_call_holds_back_nobody(make_pool: MakeExecutor, gate: Gate) -> None:
    """While one call waits the other worker runs all the rest."""
    executor = make_pool()
    slow = executor.submit(gate.hold, "slow")
    gate.await_arrivals("slow")

    assert list(executor.map(identity, range(50))) == list(range(50))
    assert_soon(slow.running)
    gate.open()
    assert slow.result(PATIENCE) == "slow"


@pytest.mark.usefixtures("slurm")
def test_a_call_to_an_idle_pool_comes_back_at_once(make_pool: MakeExecutor) -> None:
    """No job has to start for it."""
    executor = make_pool()
    executor.submit(identity, 0).result(PATIENCE)

    times = []
    for number in range(5):
        began = time.monotonic()
        assert executor.submit(identity, number).result(PATIENCE) == number
        times.append(time.monotonic() - began)
    assert min(times) < 0.5, times


def test_idle_workers_end_and_new_work_starts_new_ones(
    slurm: SlurmCluster, make_pool: MakeExecutor
) -> None:
    """After `idle_timeout` the allocation is given back."""
    executor = make_pool(idle_timeout=0.5)
    first = executor.submit(job_of_call).result(PATIENCE)
    assert_soon(lambda: not slurm.open_jobs(), 60)

    assert executor.submit(job_of_call).result(PATIENCE) != first


@pytest.mark.usefixtures("slurm")
def test_calls_that_come_while_workers_idle_out(make_pool: MakeExecutor) -> None:
    """Whoever ends without having seen the call is replaced."""
    executor = make_pool(max_workers=1, idle_timeout=0.0)

    for number in range(6):
        assert executor.submit(identity, number).result(PATIENCE) == number


@pytest.mark.usefixtures("slurm")
def test_workers_are_replaced_after_max_tasks_per_child(
    make_pool: MakeExecutor,
) -> None:
    """No job runs more calls than that."""
    executor = make_pool(max_tasks_per_child=3)

    jobs = list(executor.map(job_of_call, range(12)))

    assert all(jobs.count(job) <= 3 for job in set(jobs))
    assert len(set(jobs)) >= 4


@pytest.mark.usefixtures("slurm")
def test_never_more_calls_at_once_than_max_workers(
    make_pool: MakeExecutor, gate: Gate
) -> None:
    """However many submissions their workers come from.

    A job may be listed for a moment after its last call, beside its successor.
    """
    executor = make_pool(max_tasks_per_child=2)
    futures = [executor.submit(gate.time_inside, number) for number in range(10)]
    assert_soon(lambda: len(gate.arrivals()) == 2, PATIENCE)
    gate.open()
    times = [future.result(PATIENCE) for future in futures]

    for began, _ in times:
        assert sum(start <= began < end for start, end in times) <= 2


@pytest.mark.usefixtures("slurm")
def test_a_call_may_submit(make_pool: MakeExecutor, tmp_path: Path) -> None:
    """An executor of its own, also one whose jobs live on."""
    future = make_pool().submit(use_pool, tmp_path / "nested")

    assert future.result(PATIENCE) == [0, 1, 2]


def use_pool(directory: Path) -> list[int]:
    """Run calls in jobs that live on, from within such a job."""
    with SlurmExecutor(
        1, max_tasks_per_child=None, directory=directory, poll_interval=0.5
    ) as executor:
        return list(executor.map(identity, range(3)))


# Workers that die.


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_is_killed_fails_only_its_call(
    make_pool: MakeExecutor, gate: Gate, noticed: Noticed, retries: int
) -> None:
    """With the error of the job; other calls run, and it is replaced."""
    executor = make_pool(retries=retries)
    neighbour = executor.submit(gate.hold, "neighbour")
    gate.await_arrivals("neighbour")

    doomed = executor.submit(kill_own_process, signal.SIGKILL)
    later = [executor.submit(identity, number) for number in range(5)]

    error = noticed(doomed, JobFailed, within=20)
    assert error.signal == signal.SIGKILL
    assert error.job_id == doomed.job_id
    assert [future.result(PATIENCE) for future in later] == list(range(5))
    gate.open()
    assert neighbour.result(PATIENCE) == "neighbour"


@pytest.mark.usefixtures("slurm")
def test_a_call_that_leaves_its_worker_in_a_chunk(make_pool: MakeExecutor) -> None:
    """What it had done is there, and what came after it runs elsewhere."""
    executor = make_pool(max_workers=1)
    chunk = executor.map(divide_or_die, [1, 2, 0, 3], chunksize=4)

    assert [next(chunk), next(chunk)] == [12, 6]
    with pytest.raises(JobFailed) as caught:
        next(chunk)
    assert caught.value.exit_code == 3


@pytest.mark.usefixtures("slurm")
def test_calls_that_kill_all_workers_again_and_again(make_pool: MakeExecutor) -> None:
    """Ten deaths with two workers: each fails its own call, the others have values."""
    executor = make_pool()
    futures = [executor.submit(divide_or_die, number % 3) for number in range(15)]

    for number, future in enumerate(futures):
        if number % 3 == 0:
            assert isinstance(future.exception(PATIENCE), JobFailed)
        else:
            assert future.result(PATIENCE) == 12 / (number % 3)


def test_a_broken_node_leaves_the_calls_to_the_others(
    start_cluster: StartCluster, make_pool: MakeExecutor, gate: Gate, shims: Shims
) -> None:
    """No worker there takes a call; those of the other node run them all."""
    good = start_cluster(nodes=2).node_names[0]
    shims.put("sbatch")
    executor = make_pool(
        exclusive=True, setup=[f'[ "$SLURMD_NODENAME" = {good} ] || exit 7']
    )
    held = executor.submit(gate.hold, "held")
    gate.await_arrivals("held")
    others = [executor.submit(identity, number) for number in range(5)]

    assert_soon(lambda: len(shims.calls("sbatch")) >= 5, PATIENCE)
    assert not any(future.done() for future in [held, *others])
    gate.open()

    assert [future.result(PATIENCE) for future in others] == list(range(5))
    assert held.result(0) == "held"
    assert len(shims.calls("sbatch")) < 12


def test_a_node_fails_while_nothing_runs(
    start_cluster: StartCluster,
    make_pool: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No call tells of it, so a warning does; calls that come later run."""
    cluster = start_cluster(nodes=2)
    executor = make_pool(max_workers=1)
    assert executor.submit(identity, 1).result(PATIENCE) == 1

    cluster.run("scontrol", "update", "node=n1", "state=down", "reason=test")

    assert_soon(lambda: "a worker has ended: NodeFailed: " in caplog.text, PATIENCE)
    assert executor.submit(identity, 2).result(PATIENCE) == 2


def test_scancel_by_hand(
    slurm: SlurmCluster, make_pool: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """The call that ran fails with JobCancelled, those that wait go on."""
    executor = make_pool(max_workers=1)
    first = executor.submit(gate.hold, "first")
    waiting = executor.submit(identity, 5)
    gate.await_arrivals("first")
    assert_soon(first.running)

    slurm.run("scancel", job_id_of(first))

    noticed(first, JobCancelled, within=20)
    assert waiting.result(PATIENCE) == 5


def test_the_time_limit_ends_a_worker(
    slurm: SlurmCluster, make_pool: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """JobTimeout for its call; what waits goes to a new worker."""
    executor = make_pool(max_workers=1, time="30")
    first = executor.submit(gate.hold, "first")
    waiting = executor.submit(identity, 5)
    gate.await_arrivals("first")
    assert_soon(first.running)

    slurm.end_time_limit(job_id_of(first))

    noticed(first, JobTimeout, within=55)
    assert waiting.result(PATIENCE) == 5


def take_memory(megabytes: int) -> None:
    """Take memory and keep it until somebody minds."""
    memory = bytearray(megabytes << 20)
    time.sleep(PATIENCE)
    del memory


def test_too_much_memory(
    start_cluster: StartCluster, make_pool: MakeExecutor, noticed: Noticed
) -> None:
    """The call that took it fails, and the next one has a worker."""
    enforcement = "cgroup" if cgroup_available() is None else "poll"
    start_cluster(nodes=1, memory_enforcement=enforcement)
    executor = make_pool(max_workers=1, mem="100M")

    future = executor.submit(take_memory, 300)

    error = future.exception(PATIENCE)
    assert isinstance(error, JobFailed)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def test_a_requeued_worker_runs_its_call_again(
    slurm: SlurmCluster, make_pool: MakeExecutor, gate: Gate, tmp_path: Path
) -> None:
    """As a job of its own does; the others wait no longer than that."""
    executor = make_pool(max_workers=1, requeue=True)
    future = executor.submit(hold_and_count, gate, tmp_path / "runs.log")
    waiting = executor.submit(identity, 5)
    gate.await_arrivals("held")
    assert_soon(future.running)

    slurm.run("scontrol", "requeue", job_id_of(future))
    start_again(slurm, job_id_of(future))
    log = tmp_path / "runs.log"
    assert_soon(lambda: log.read_text() == "\n\n", PATIENCE)
    gate.open()

    assert future.result(PATIENCE) == "held"
    assert waiting.result(PATIENCE) == 5


def hold_and_count(gate: Gate, log: Path) -> str:
    """Add a line, then wait."""
    add_line(log)
    return gate.hold("held")


@pytest.mark.usefixtures("slurm")
def test_a_partition_that_does_not_exist_fails_all_calls(
    make_pool: MakeExecutor, noticed: Noticed
) -> None:
    """With the words of sbatch."""
    executor = make_pool(partition="nowhere")
    futures = [executor.submit(identity, number) for number in range(3)]

    for future in futures:
        noticed(future, SubmitError, within=20)


def test_a_pool_goes_on_after_a_refusal(
    slurm: SlurmCluster, make_pool: MakeExecutor, noticed: Noticed
) -> None:
    """When the partition is back, later calls run."""
    slurm.run("scontrol", "create", "PartitionName=later", "Nodes=n1", "State=INACTIVE")
    try:
        executor = make_pool(partition="later")
        refused = [executor.submit(identity, number) for number in range(3)]
        for future in refused:
            error = noticed(future, SubmitError, within=20)
            assert "nactive" in str(error) or "not available" in str(error)

        slurm.run("scontrol", "update", "PartitionName=later", "State=UP")

        assert list(executor.map(identity, range(3), timeout=PATIENCE)) == [0, 1, 2]
        executor.shutdown()
        assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    finally:
        slurm.run("scontrol", "delete", "PartitionName=later")


# The initializer.


@pytest.mark.usefixtures("slurm")
def test_the_initializer_runs_once_in_each_worker(
    make_pool: MakeExecutor, tmp_path: Path
) -> None:
    """Not before each call."""
    log = tmp_path / "log"
    executor = make_pool(initializer=add_line, initargs=(log, "started"))

    jobs = set(executor.map(job_of_call, range(40)))
    executor.shutdown()

    assert len(jobs) <= len(log.read_text().splitlines()) <= 2


@pytest.mark.usefixtures("slurm")
def test_an_initializer_that_fails_breaks_the_executor(make_pool: MakeExecutor) -> None:
    """All futures end; submit raises from then on."""
    executor = make_pool(initializer=fail)
    futures = [executor.submit(identity, number) for number in range(5)]

    for future in futures:
        assert isinstance(future.exception(PATIENCE), InitializerFailed)
    with pytest.raises(InitializerFailed):
        executor.submit(identity, 1)


# Cancelling.


@pytest.mark.usefixtures("slurm")
def test_a_waiting_call_that_is_cancelled_never_runs(
    make_pool: MakeExecutor, gate: Gate
) -> None:
    """The others do."""
    executor = make_pool(max_workers=1)
    futures = [executor.submit(gate.hold, name) for name in "abcd"]
    gate.await_arrivals("a")

    assert futures[2].cancel()
    gate.open()
    executor.shutdown()
    assert gate.arrivals() == {"a", "b", "d"}


@pytest.mark.usefixtures("slurm")
def test_a_running_call_that_is_cancelled_ends_its_worker(
    make_pool: MakeExecutor, gate: Gate
) -> None:
    """Another one takes its place, since there is work."""
    executor = make_pool(max_workers=1)
    running = executor.submit(gate.hold, "a")
    waiting = executor.submit(job_of_call)
    gate.await_arrivals("a")
    assert_soon(running.running)

    assert running.cancel()
    assert waiting.result(PATIENCE) != running.job_id
    with pytest.raises(CancelledError):
        running.result(0)


def test_cancel_futures_lets_only_running_calls_end(
    slurm: SlurmCluster, make_pool: MakeExecutor, gate: Gate
) -> None:
    """`shutdown(cancel_futures=True)` takes back what waits.

    A call that has just begun runs on, even if the executor does not know of it yet.
    """
    executor = make_pool()
    futures = [executor.submit(gate.hold, number) for number in range(6)]
    assert_soon(lambda: len(gate.arrivals()) == 2, PATIENCE)

    executor.shutdown(wait=False, cancel_futures=True)
    assert_soon(lambda: sum(future.cancelled() for future in futures) == 4, PATIENCE)
    gate.open()
    executor.shutdown()

    assert len(gate.arrivals()) == 2
    assert_soon(lambda: not slurm.open_jobs(), 60)


# Ends.


def test_shutdown_lets_workers_drain(
    slurm: SlurmCluster, make_pool: MakeExecutor, tmp_path: Path
) -> None:
    """All calls run, then no job, no file and no thread is left."""
    executor = make_pool()
    futures = [executor.submit(identity, number) for number in range(100)]
    executor.shutdown()

    assert [future.result(0) for future in futures] == list(range(100))
    assert_soon(lambda: not slurm.open_jobs(), 60)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.usefixtures("slurm")
def test_a_dropped_executor_lets_its_workers_end(
    slurm: SlurmCluster, make_pool: MakeExecutor, tmp_path: Path
) -> None:
    """Its open calls run, and workers do not wait for more."""
    executor = SlurmExecutor(
        2, max_tasks_per_child=None, directory=tmp_path / "own", poll_interval=0.5
    )
    future = executor.submit(identity, 5)
    del executor

    assert future.result(PATIENCE) == 5
    assert_soon(lambda: not slurm.open_jobs(), 60)


@pytest.mark.usefixtures("slurm")
def test_options_get_workers_of_their_own(make_pool: MakeExecutor) -> None:
    """With the resources that were asked for."""
    executor = make_pool(max_workers=2)
    variant = executor.options(cpus_per_task=2)
    here, there = executor.submit(cpus_of_job), variant.submit(cpus_of_job)

    assert (here.result(PATIENCE), there.result(PATIENCE)) == ("", "2")


def cpus_of_job() -> str:
    """Tell what the job has been given."""
    return os.environ.get("SLURM_CPUS_PER_TASK", "")


@pytest.mark.usefixtures("slurm")
def test_a_pool_gets_its_turn_when_another_one_is_idle(make_pool: MakeExecutor) -> None:
    """With one worker for both, the second waits until the first one has no work."""
    executor = make_pool(max_workers=1, idle_timeout=10 * PATIENCE)
    variant = executor.options(cpus_per_task=2)

    assert executor.submit(identity, 1).result(PATIENCE) == 1
    assert variant.submit(cpus_of_job).result(PATIENCE) == "2"
    assert executor.submit(identity, 2).result(PATIENCE) == 2


@pytest.mark.usefixtures("slurm")
def test_a_pool_gets_its_turn_when_another_one_has_done_its_work(
    make_pool: MakeExecutor, gate: Gate
) -> None:
    """It was busy as the other calls came."""
    executor = make_pool(max_workers=1, idle_timeout=10 * PATIENCE)
    held = executor.submit(gate.hold, "held")
    gate.await_arrivals("held")
    other = executor.options(cpus_per_task=2).submit(cpus_of_job)
    assert_soon(lambda: executor._session._jobs.submitter._outbox)

    gate.open()

    assert other.result(PATIENCE) == "2"
    assert held.result(0) == "held"


@pytest.mark.usefixtures("slurm")
def test_a_long_call_keeps_no_other_worker(make_pool: MakeExecutor, gate: Gate) -> None:
    """Those of its pool that are idle give way to calls of another kind."""
    executor = make_pool(idle_timeout=10 * PATIENCE)
    held = executor.submit(gate.hold, "held")
    gate.await_arrivals("held")
    first = executor.submit(gate.hold, "first")
    gate.await_arrivals("first")
    assert first.cancel()
    assert executor.submit(identity, 1).result(PATIENCE) == 1

    assert executor.options(cpus_per_task=2).submit(cpus_of_job).result(PATIENCE) == "2"
    assert executor.submit(identity, 2).result(PATIENCE) == 2
    gate.open()
    assert held.result(PATIENCE) == "held"


# Ends of the program.

_HEAD = """
import os, signal, sys
from pathlib import Path
from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate

gate = Gate(Path(sys.argv[1]) / "gate")
executor = SlurmExecutor(
    2, max_tasks_per_child=None, directory=Path(sys.argv[1]) / "runs",
    poll_interval=0.5, idle_timeout=float(sys.argv[2]),
)
"""

StartProgram = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_program(
    slurm: SlurmCluster, gate: Gate, tmp_path: Path
) -> Iterator[StartProgram]:
    """Start programs with an executor and a gate of this test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, idle_timeout: float = 60) -> subprocess.Popen[str]:
        script = tmp_path / "program.py"
        script.write_text(_HEAD + text)
        program = subprocess.Popen(
            [sys.executable, script, tmp_path, str(idle_timeout)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
        program.communicate(timeout=PATIENCE)


def test_ctrl_c(slurm: SlurmCluster, start_program: StartProgram, gate: Gate) -> None:
    """All calls are cancelled, all jobs ended, and no new one is started."""
    program = start_program(
        """
with executor:
    print(*executor.map(gate.hold, range(50)))
"""
    )
    assert_soon(lambda: len(gate.arrivals()) == 2, PATIENCE)

    program.send_signal(signal.SIGINT)
    stdout, stderr = program.communicate(timeout=60)

    assert program.returncode == -signal.SIGINT
    assert stdout == ""
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert_soon(lambda: not slurm.open_jobs(), 60)
    assert len(gate.arrivals()) == 2


def test_the_end_of_a_program_without_shutdown(
    slurm: SlurmCluster, start_program: StartProgram, gate: Gate
) -> None:
    """It waits for its calls, but not for idle workers."""
    program = start_program(
        """
futures = [executor.submit(gate.hold, name) for name in "abc"]
for future in futures:
    future.add_done_callback(lambda future: print(future.result()))
"""
    )
    gate.await_arrivals("a")
    gate.open()
    stdout, stderr = program.communicate(timeout=60)

    assert (program.returncode, stderr) == (0, "")
    assert sorted(stdout.split()) == ["a", "b", "c"]
    assert_soon(lambda: not slurm.open_jobs(), 60)


def test_kill_9_of_the_program(
    slurm: SlurmCluster, start_program: StartProgram, gate: Gate
) -> None:
    """Workers run what is there, and end `idle_timeout` seconds later."""
    program = start_program(
        """
futures = [executor.submit(gate.hold, name) for name in "abcd"]
futures[0].result()
""",
        idle_timeout=1,
    )
    assert_soon(lambda: len(gate.arrivals()) == 2, PATIENCE)

    program.kill()
    assert program.wait(60) == -signal.SIGKILL
    assert count_jobs(slurm) == 2
    gate.open()
    assert_soon(lambda: not slurm.open_jobs(), 60)
    assert gate.arrivals() == set("abcd")
