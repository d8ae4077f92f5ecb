"""Jobs that live on when nobody waits for them any more: they end, in any case."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import JobFailed, SlurmExecutor
from tests.cluster.conftest import MakeExecutor
from tests.cluster.test_ends_of_jobs import start_again
from tests.contract.calls import identity, leave_process
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


def leave_thread() -> str:
    """Leave a thread that sleeps for an hour."""
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return "value"


def leave_exit_function() -> str:
    """Leave a function that sleeps for an hour when the process ends."""
    import atexit

    atexit.register(time.sleep, 3600)
    return "value"


def leave_process_to_wait_for() -> str:
    """Leave a process that multiprocessing waits for when this one ends."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    context.Process(target=time.sleep, args=(3600,)).start()
    return "value"


def leave_child_in_a_session() -> str:
    """Leave a program that has nothing to do with this process any more."""
    import subprocess

    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    return "value"


def leave_stopped() -> str:
    """Stop the process as soon as it has told its value."""

    def stop() -> None:
        threading.main_thread().join()
        os.kill(os.getpid(), 19)

    threading.Thread(target=stop).start()
    return "value"


def leave_deaf_process() -> str:
    """Leave an exit function that sees to it that no alarm comes."""
    import atexit
    import signal

    def sleep() -> None:
        signal.alarm(0)
        time.sleep(3600)

    atexit.register(sleep)
    return "value"


def leave_no_slurmstepd() -> str:
    """Kill the process that would tell Slurm of the end: it is above the script."""
    status = Path(f"/proc/{os.getppid()}/stat").read_text()
    slurmstepd = int(status.rpartition(")")[2].split()[1])
    assert "slurmstepd" in Path(f"/proc/{slurmstepd}/comm").read_text()
    os.kill(slurmstepd, 9)
    return "value"


LEFTOVERS = {
    "thread": leave_thread,
    "exit function": leave_exit_function,
    "process": leave_process_to_wait_for,
    "program": leave_child_in_a_session,
    "stopped": leave_stopped,
    "no alarm": leave_deaf_process,
    "no slurmstepd": leave_no_slurmstepd,
}


def queue(cluster: SlurmCluster) -> list[str]:
    """What waits, runs or completes."""
    return cluster.run("squeue", "-h", "-a", "-o", "%i %t %r").splitlines()


@pytest.mark.parametrize("call", LEFTOVERS.values(), ids=LEFTOVERS.keys())
def test_nothing_is_in_the_queue_after_the_end(
    slurm: SlurmCluster, make_executor: MakeExecutor, call: Callable[[], str]
) -> None:
    """Values come at once; what keeps a job alive after them has a few seconds."""
    check_end(slurm, make_executor(), call)


@pytest.mark.parametrize("kind", ["thread", "no alarm", "no slurmstepd"])
def test_no_worker_is_in_the_queue_after_the_end(
    slurm: SlurmCluster, make_executor: MakeExecutor, kind: str
) -> None:
    """Long-lived workers end as other jobs do."""
    executor = make_executor(max_workers=1, max_tasks_per_child=None)
    check_end(slurm, executor, LEFTOVERS[kind])


def check_end(
    slurm: SlurmCluster, executor: SlurmExecutor, call: Callable[[], str]
) -> None:
    """See that the value comes, and that shutdown waits for the job for a while."""
    began = time.monotonic()
    with executor:
        assert executor.submit(call).result(PATIENCE) == "value"
    assert time.monotonic() - began < PATIENCE

    assert_soon(lambda: queue(slurm) == [])


class Sleeper:
    """Sleeps for an hour when it is deleted, in a job."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __del__(self) -> None:
        """Sleep."""
        if os.getpid() != self.home:
            time.sleep(3600)


@pytest.mark.parametrize(
    "options",
    [{}, {"max_workers": 1, "max_tasks_per_child": None}],
    ids=["jobs", "pool"],
)
def test_an_object_that_takes_long_to_die(
    slurm: SlurmCluster, make_executor: MakeExecutor, options: dict[str, Any]
) -> None:
    """The value does not wait for it, and the job ends."""
    with make_executor(**options) as executor:
        future = executor.submit(isinstance, Sleeper(os.getpid()), object)
        assert future.result(PATIENCE) is True

    assert_soon(lambda: queue(slurm) == [], 60)


def test_places_are_counted_by_jobs(
    slurm: SlurmCluster, make_executor: MakeExecutor
) -> None:
    """The next call has its turn, when the job of the first one is over."""
    executor = make_executor(max_workers=1)
    first, second = [executor.submit(leave_thread) for _ in range(2)]
    third = executor.submit(identity, 3)

    assert [each.result(PATIENCE) for each in (first, second)] == ["value"] * 2
    assert third.result(PATIENCE) == 3
    assert len(queue(slurm)) <= 1


def test_a_cancel_while_the_controller_is_away(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """It is sent until it has worked."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    executor = make_executor()
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    cluster.stop_controller()
    assert future.cancel()
    time.sleep(10)  # not to synchronize: that long the controller is away
    cluster.start_controller()
    executor.shutdown()

    assert_soon(lambda: queue(cluster) == [])


def test_a_scancel_that_comes_to_nothing_is_sent_again(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, shims: Any
) -> None:
    """What counts is what squeue says afterwards."""
    shims.put("scancel", '[ "$(wc -l <"$count")" -gt 2 ] || exit 0\nexec "$real" "$@"')
    with make_executor() as executor:
        future = executor.submit(gate.hold, "a")
        gate.await_arrivals("a")
        assert future.cancel()

    assert len(shims.calls("scancel")) == 3
    assert_soon(lambda: queue(slurm) == [])


def test_a_job_that_slurm_holds_for_its_exit_code(
    start_cluster: StartCluster, make_executor: MakeExecutor
) -> None:
    """Its call has failed: it is taken out of the queue."""
    cluster = start_cluster(nodes=1, extra_lines=("RequeueExitHold=78",))
    with make_executor() as executor:
        error = executor.submit(leave_process, 78).exception(PATIENCE)

    assert isinstance(error, JobFailed)
    assert error.exit_code == 78
    assert_soon(lambda: queue(cluster) == [])


def fail() -> None:
    """Raise."""
    raise ValueError("as it should")


def test_a_job_that_slurm_holds_for_an_exception(
    start_cluster: StartCluster, make_executor: MakeExecutor
) -> None:
    """It ends with exit code 1, and its outcome is there."""
    cluster = start_cluster(nodes=1, extra_lines=("RequeueExitHold=1",))
    with make_executor() as executor:
        assert isinstance(executor.submit(fail).exception(PATIENCE), ValueError)

    assert_soon(lambda: queue(cluster) == [])


def exit_once(file: Path) -> str:
    """Leave the process the first time, with a code for which Slurm holds the job."""
    if not file.exists():
        file.touch()
        os._exit(78)
    return "second"


@pytest.mark.parametrize("hold", [False, True])
def test_a_job_that_may_run_again_gives_its_value(
    start_cluster: StartCluster, make_executor: MakeExecutor, tmp_path: Path, hold: bool
) -> None:
    """With requeue=True: when Slurm starts it again, or somebody releases it."""
    line = "RequeueExitHold=78" if hold else "RequeueExit=78"
    cluster = start_cluster(nodes=1, extra_lines=(line,))
    executor = make_executor(requeue=True)
    file = tmp_path / "file"
    future = executor.submit(exit_once, file)
    job_id = job_id_of(future)
    assert_soon(file.exists, PATIENCE)
    if hold:
        assert_soon(lambda: " SE " in "".join(queue(cluster)), PATIENCE)
        with pytest.raises(TimeoutError):
            future.result(5)  # longer than the grace
        cluster.run("scontrol", "release", job_id)
    start_again(cluster, job_id)

    assert future.result(PATIENCE) == "second"


@pytest.mark.parametrize(
    "options",
    [{}, {"max_workers": 1, "max_tasks_per_child": None}],
    ids=["jobs", "pool"],
)
@pytest.mark.usefixtures("slurm")
def test_a_call_that_is_over_cannot_be_cancelled(
    make_executor: MakeExecutor, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Its outcome is there, though the client has not looked yet: it is not lost."""
    executor = make_executor(**options)
    for number in range(5):
        future = executor.submit(identity, number)
        published = f"*/*/finished/0-999/{number if options else 0}"
        before = len(list((tmp_path / "runs").glob(published)))
        while not future.done():
            found = len(list((tmp_path / "runs").glob(published))) > before
            if found and not future.cancel():
                break

        assert future.result(PATIENCE) == number
