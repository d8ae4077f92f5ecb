"""Calls that are tried again, and chunks that are killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import (
    JobCancelled,
    JobFailed,
    JobOutOfMemory,
    JobTimeout,
    NodeFailed,
    Retries,
)
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster, processes
from tests.slurm.cgroup import cgroup_available
from tests.waiting import assert_soon, becomes_true, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


def fail_at_first(file: Path, times: int, how: str) -> int:
    """Fail the first calls in one way or another; return how often it was called."""
    with file.open("a") as stream:
        stream.write("x\n")
    count = len(file.read_text().splitlines())
    if count > times:
        return count
    if how == "exit":
        os._exit(3)
    raise ConnectionError(f"attempt {count}")


def take_memory(megabytes: int) -> str | None:
    """Take memory for a moment; return how much the job had asked for, in MB."""
    memory = bytearray(megabytes << 20)
    time.sleep(0.5)
    del memory
    return os.environ.get("SLURM_MEM_PER_NODE")


def note_and_kill_at(file: Path, deadly: int, number: int) -> int:
    """Write the number down; kill the process if it is the deadly one."""
    with file.open("a") as stream:
        stream.write(f"{number}\n")
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def note_and_hold(gate: Gate, number: int) -> int:
    """Wait at the gate, unless the number is 0."""
    return gate.hold(number) if number else 0


@pytest.mark.usefixtures("slurm")
def test_a_job_that_dies_is_tried_again(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """The future has the value, and knows the attempts and their errors."""
    future = make_executor(retries=2).submit(
        fail_at_first, tmp_path / "count", 2, "exit"
    )

    assert future.result(PATIENCE) == 3
    assert future.attempts == 3
    assert [type(each) for each in future.earlier_errors] == [JobFailed] * 2


@pytest.mark.usefixtures("slurm")
def test_the_last_error_tells_of_the_earlier_ones(
    make_executor: MakeExecutor, tmp_path: Path, noticed: Noticed
) -> None:
    """After the last attempt the error has a note with all of them."""
    executor = make_executor(retries=1)
    future = executor.submit(fail_at_first, tmp_path / "count", 9, "exit")

    error = noticed(future, JobFailed, within=20)

    assert len((tmp_path / "count").read_text().split()) == 2
    assert error.__notes__[0].startswith("This was attempt 2.\n  attempt 1: JobFailed")


@pytest.mark.usefixtures("slurm")
def test_exceptions_of_the_call_by_class(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Only the classes that are named; the others fail at once."""
    executor = make_executor(retries={ConnectionError: 1})
    tried = executor.submit(fail_at_first, tmp_path / "a", 1, "raise")
    died = executor.submit(fail_at_first, tmp_path / "b", 1, "exit")

    assert tried.result(PATIENCE) == 2
    assert isinstance(died.exception(PATIENCE), JobFailed)
    assert died.attempts == 1


def test_scancel_is_not_tried_again(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """Whoever cancels a job wants it to end."""
    future = make_executor(retries=3).submit(gate.hold, "a")
    gate.await_arrivals("a")

    slurm.run("scancel", job_id_of(future))

    noticed(future, JobCancelled, within=20)
    assert future.attempts == 1


@pytest.mark.usefixtures("slurm")
def test_calls_end_with_their_executor_whatever_the_retries(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """terminate_workers() is final."""
    executor = make_executor(retries={JobCancelled: 5, Exception: 5})
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")

    executor.terminate_workers()

    assert isinstance(future.exception(PATIENCE), JobCancelled)
    assert future.attempts == 1


def hold_and_raise(gate: Gate, file: Path) -> None:
    """Leave a trace, wait at the gate, and fail."""
    with file.open("a") as stream:
        stream.write("x\n")
    gate.hold_and_fail("a")


@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_a_retry_that_meets_the_end_of_its_executor(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    tmp_path: Path,
    living_on: bool,
) -> None:
    """It would have been tried again just then; there is no further attempt."""
    executor = make_executor(
        retries={ArithmeticError: 5},
        max_workers=2,
        max_tasks_per_child=None if living_on else 1,
    )
    future = executor.submit(hold_and_raise, gate, tmp_path / "runs.txt")
    gate.await_arrivals("a")
    assert_soon(future.running, PATIENCE)
    # It may have begun before sbatch came back.
    submitting = executor._session._jobs.submitter._thread
    assert_soon(lambda: not submitting.exists, PATIENCE)

    executor.terminate_workers()
    gate.open()

    assert isinstance(future.exception(PATIENCE), JobCancelled)
    executor.shutdown()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    assert (tmp_path / "runs.txt").read_text() == "x\n"


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_a_retry_that_waits_does_not_run(
    make_executor: MakeExecutor, gate: Gate, living_on: bool
) -> None:
    """shutdown(cancel_futures=True) cancels it as all others that wait."""
    executor = make_executor(
        retries={ArithmeticError: 1},
        max_workers=1,
        max_tasks_per_child=None if living_on else 1,
    )
    future = executor.submit(gate.hold_and_fail, "a")
    blocker = executor.submit(gate.hold, "b")
    gate.await_arrivals("a")
    ran = becomes_true(future.running)

    gate.open("a")
    gate.await_arrivals("b")
    assert_soon(lambda: future.attempts == 2, PATIENCE)
    assert_soon(lambda: not future.running(), PATIENCE)
    executor.shutdown(wait=False, cancel_futures=True)
    assert_soon(future.cancelled, PATIENCE)
    gate.open()

    assert ran
    assert_soon(blocker.done, PATIENCE)
    executor.shutdown()


def test_more_memory_for_the_next_attempt(
    start_cluster: StartCluster, make_executor: MakeExecutor, shims: Shims
) -> None:
    """Twice as much each time, up to the bound."""
    reason = cgroup_available()
    if reason is not None:
        pytest.skip(reason)
    shims.put("sbatch")
    start_cluster(nodes=1, memory_enforcement="cgroup")
    policy = Retries({JobOutOfMemory: 3}, memory_factor=2, max_memory="300M")
    future = make_executor(mem="100M", retries=policy).submit(take_memory, 220)

    assert future.result(PATIENCE) == "300"
    assert [type(each) for each in future.earlier_errors] == [JobOutOfMemory] * 2
    asked = [
        word
        for line in shims.calls("sbatch")
        for word in line.split()
        if word.startswith("--mem=")
    ]
    assert asked == ["--mem=100M", "--mem=200M", "--mem=300M"]


def test_more_time_for_the_next_attempt(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """The time limit grows after a JobTimeout."""
    cluster = start_cluster(nodes=1)
    policy = Retries({JobTimeout: 1}, time_factor=3)
    future = make_executor(time="10:00", retries=policy).submit(gate.hold, "a")
    gate.await_arrivals("a")
    first = job_id_of(future)

    cluster.end_time_limit(first)
    assert_soon(lambda: future.job_id != first, PATIENCE)

    limit = cluster.run("squeue", "-h", "-j", job_id_of(future), "-o", "%l")
    assert limit.strip() == "30:00"
    gate.open()
    assert future.result(PATIENCE) == "a"


def test_a_node_that_fails_is_tried_again(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """On another node."""
    # 1: an answer that the dead slurmd sent before does not bring the node back.
    cluster = start_cluster(nodes=2, cpus=1, extra_lines=("ReturnToService=1",))
    future = make_executor(retries={NodeFailed: 1}, grace=1).submit(gate.hold, "a")
    gate.await_arrivals("a")
    node = cluster.run("squeue", "-h", "-o", "%N").strip()
    cluster.crash_node(node)

    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    gate.open()

    assert future.result(PATIENCE) == "a"
    assert [type(each) for each in future.earlier_errors] == [NodeFailed]


# Chunks.


@pytest.mark.usefixtures("slurm")
def test_a_chunk_that_is_killed_in_the_middle(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Earlier calls keep their values, the deadly one fails, later ones run anew."""
    file = tmp_path / "numbers"
    executor = make_executor()
    results = executor.map(Deadly(file, 2), range(6), chunksize=6, timeout=PATIENCE)

    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(JobFailed, match="SIGKILL"):
        next(results)
    executor.shutdown()
    assert sorted(map(int, file.read_text().split())) == list(range(6))


class Deadly:
    """`note_and_kill_at` with two arguments given."""

    def __init__(self, file: Path, number: int) -> None:
        self._file, self._number = file, number

    def __call__(self, number: int) -> Any:
        """Call it."""
        return note_and_kill_at(self._file, self._number, number)


@pytest.mark.usefixtures("slurm")
def test_a_chunk_with_a_deadly_call_and_retries(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """The deadly call alone is tried again; no other one runs twice."""
    file = tmp_path / "numbers"
    executor = make_executor(retries=1)
    results = executor.map(Deadly(file, 2), range(4), chunksize=4, timeout=PATIENCE)

    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(JobFailed) as caught:
        next(results)
    executor.shutdown()
    assert "This was attempt 2" in caught.value.__notes__[0]
    assert sorted(map(int, file.read_text().split())) == [0, 1, 2, 2, 3]


def note_and_hold_any(gate: Gate, file: Path, number: int) -> int:
    """Write the number down, then wait at the gate."""
    with file.open("a") as stream:
        stream.write(f"{number}\n")
    return gate.hold(number)


def workers_of(cluster: SlurmCluster) -> list[str]:
    """The command lines of the workers that live, wherever they are."""
    lines = map(processes.command_line, cluster.processes())
    return [line for line in lines if "/start.py " in line and "bash" not in line]


@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_a_chunk_that_lives_on_after_its_node_was_given_up(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    tmp_path: Path,
    living_on: bool,
) -> None:
    """Its later calls run in another job, and it begins none of them itself."""
    # 1: an answer that the dead slurmd sent before does not bring the node back.
    cluster = start_cluster(nodes=2, cpus=1, extra_lines=("ReturnToService=1",))
    file = tmp_path / "numbers"
    executor = make_executor(
        grace=1, max_workers=1, max_tasks_per_child=None if living_on else 1
    )
    results = executor.map(
        note_and_hold_any, [gate] * 4, [file] * 4, range(4), chunksize=4
    )
    gate.await_arrivals(0)
    node = cluster.run("squeue", "-h", "-t", "R", "-o", "%N").strip()
    cluster.kill_node(node)

    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    gate.await_arrivals(1)
    assert len(workers_of(cluster)) == 2
    gate.open(0)
    assert_soon(lambda: len(workers_of(cluster)) == 1, PATIENCE)
    gate.open()

    with pytest.raises(NodeFailed):
        next(results)
    executor.shutdown()
    assert sorted(map(int, file.read_text().split())) == [0, 1, 2, 3]


def test_a_chunk_that_is_given_up_although_it_lives(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    shims: Shims,
    tmp_path: Path,
) -> None:
    """Left out by squeue, it ends before scontrol has said that it is there."""
    file, answer = tmp_path / "numbers", tmp_path / "answer"
    executor = make_executor(grace=1)
    results = executor.map(
        note_and_hold_any,
        [gate] * 4,
        [file] * 4,
        range(4),
        chunksize=4,
        timeout=PATIENCE,
    )
    gate.await_arrivals(0)
    job = slurm.open_jobs()[0].split()[0]
    shims.put(
        "scontrol",
        f"while [ ! -e {answer} ]; do sleep 0.1; done\n"
        '"$real" "$@" | sed "s/JobState=[A-Z]*/JobState=STOPPED/"',
    )

    shims.put("squeue", f'"$real" "$@" | sed "/^{job}|/d"')
    assert_soon(lambda: list(executor.directory.rglob("*.withdrawn")), PATIENCE)
    gate.open()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    answer.touch()

    assert list(results) == [0, 1, 2, 3]
    executor.shutdown()
    assert sorted(map(int, file.read_text().split())) == [0, 1, 2, 3]


def test_a_chunk_that_is_cancelled_by_hand(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """What was done is delivered; nothing is submitted again."""
    executor = make_executor()
    results = executor.map(
        note_and_hold, [gate] * 4, range(4), chunksize=4, timeout=PATIENCE
    )
    gate.await_arrivals("1")
    assert len(slurm.open_jobs()) == 1

    slurm.run("scancel", slurm.open_jobs()[0].split()[0])

    assert next(results) == 0
    with pytest.raises(JobCancelled):
        next(results)
    executor.shutdown()
    assert gate.arrivals() == {"1"}
