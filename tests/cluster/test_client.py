"""The program itself has a bad day: killed, interrupted, forked, out of descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeExecutor, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.waiting import assert_soon

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds
_ROOT = Path(__file__).parents[2]

_HEAD = """
import os, signal, sys
from pathlib import Path
from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate

gate = Gate(Path(sys.argv[1]) / "gate")
executor = SlurmExecutor(directory=Path(sys.argv[1]) / "runs", poll_interval=0.5)
"""

_MAP_IN_A_WITH = """
with executor:
    print(*executor.map(gate.hold, "abcd"))
"""

StartProgram = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start_program(
    slurm: SlurmCluster, gate: Gate, tmp_path: Path
) -> Iterator[StartProgram]:
    """Start programs with an executor and a gate of this test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> subprocess.Popen[str]:
        script = tmp_path / "program.py"
        script.write_text(_HEAD + text)
        program = subprocess.Popen(
            [sys.executable, script, tmp_path],
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


# Signals.


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_killed(
    slurm: SlurmCluster,
    start_program: StartProgram,
    gate: Gate,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """It ends at once; its jobs go on, and leave their outcomes in the run."""
    program = start_program(_MAP_IN_A_WITH)
    gate.await_arrivals(*"abcd")

    program.send_signal(number)

    assert program.wait(60) == -number
    assert len(slurm.open_jobs()) == 4
    gate.open()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    outcomes = list((tmp_path / "runs").glob("*/0001/finished/0-999/*"))
    assert {path.name for path in outcomes} == {"0", "1", "2", "3"}


def test_ctrl_c(slurm: SlurmCluster, start_program: StartProgram, gate: Gate) -> None:
    """All jobs are cancelled, and KeyboardInterrupt ends the program."""
    program = start_program(_MAP_IN_A_WITH)
    gate.await_arrivals(*"abcd")

    program.send_signal(signal.SIGINT)
    stdout, stderr = program.communicate(timeout=60)

    assert program.returncode == -signal.SIGINT
    assert stdout == ""
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert_soon(lambda: not slurm.open_jobs(), 60)


def test_ctrl_c_twice(
    slurm: SlurmCluster, start_program: StartProgram, gate: Gate, shims: Shims
) -> None:
    """An impatient user loses nothing: the jobs are cancelled all the same."""
    shims.put("scancel", 'sleep 2; exec "$real" "$@"')
    program = start_program(_MAP_IN_A_WITH)
    gate.await_arrivals(*"abcd")

    program.send_signal(signal.SIGINT)
    assert_soon(lambda: shims.calls("scancel"), PATIENCE)
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=60)

    assert program.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert_soon(lambda: not slurm.open_jobs(), 60)


def test_ctrl_c_while_the_controller_is_frozen(
    start_cluster: StartCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    gate: Gate,
) -> None:
    """A program whose submission hangs ends within seconds; its job never runs."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    cluster.freeze_controller()
    script = tmp_path / "program.py"
    script.write_text(_HEAD + _MAP_IN_A_WITH)
    program = subprocess.Popen(
        [sys.executable, script, tmp_path],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    runs = tmp_path / "runs"
    assert_soon(lambda: list(runs.glob("*/0001/attempt-1")), PATIENCE)

    program.send_signal(signal.SIGINT)
    program.communicate(timeout=60)
    cluster.thaw_controller()

    assert_soon(lambda: not cluster.open_jobs(), PATIENCE)
    assert gate.arrivals() == set()


# Callbacks.


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("error", [ArithmeticError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises(
    make_executor: MakeExecutor, gate: Gate, error: type[BaseException]
) -> None:
    """It harms neither its own future nor another one."""
    executor = make_executor()

    def complain(_: object) -> None:
        raise error

    futures = [executor.submit(gate.hold, number) for number in range(3)]
    for future in futures:
        future.add_done_callback(complain)  # would raise here if it were done
    gate.open()

    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@pytest.mark.usefixtures("slurm")
def test_a_callback_that_submits_again(make_executor: MakeExecutor) -> None:
    """Ten generations, each submitted by the end of the one before."""
    executor = make_executor()
    results: list[int] = []

    def submit_next(future: object) -> None:
        results.append(future.result())  # type: ignore[attr-defined]  # a Future
        if len(results) < 10:
            executor.submit(identity, len(results)).add_done_callback(submit_next)

    executor.submit(identity, 0).add_done_callback(submit_next)

    assert_soon(lambda: results == list(range(10)), PATIENCE, lambda: str(results))


# Forks.


def test_a_fork_harms_nothing(start_program: StartProgram, gate: Gate) -> None:
    """The child cannot use the executor, and takes nothing along when it ends."""
    program = start_program(
        """
future = executor.submit(gate.hold, "a")
gate.await_arrivals("a")
child = os.fork()
if child == 0:
    try:
        executor.submit(gate.hold, "b")
    except RuntimeError as error:
        print(error, flush=True)
    executor.shutdown(wait=False)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
gate.open()
print(future.result(60))
executor.shutdown()
"""
    )
    stdout, stderr = program.communicate(timeout=PATIENCE)

    assert stderr == ""
    assert "belongs to the process that made it" in stdout
    assert stdout.splitlines()[-1] == "a"


# Clocks.


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("seconds", [3600, -3600], ids=["forwards", "backwards"])
def test_the_clock_jumps(
    make_executor: MakeExecutor,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seconds: int,
) -> None:
    """Calls that wait or run do not notice; nor do the times of files matter."""
    executor = make_executor(grace=2, pending_timeout=600)
    running = executor.submit(gate.hold, "a")
    pending = executor.options(hold=True).submit(identity, "b")
    gate.await_arrivals("a")
    assert_soon(lambda: pending.job_id, PATIENCE)

    clock, clock_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: clock() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: clock_ns() + seconds * 10**9)
    for path in (tmp_path / "runs").rglob("*"):
        os.utime(path, (time.time(), time.time()), follow_symlinks=False)
    with pytest.raises(TimeoutError):
        running.result(4)  # some squeues and the grace

    assert not pending.done()
    assert executor.submit(identity, "c").result(PATIENCE) == "c"
    gate.open()
    assert running.result(PATIENCE) == "a"
    assert pending.cancel()


# Limits of the process.


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process get no file descriptor, also where it closes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those of the standard files
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_no_file_descriptor_is_left(
    make_executor: MakeExecutor, gate: Gate, tmp_path: Path, living_on: bool
) -> None:
    """Running calls are not lost and new ones wait, also those of a new executor."""
    options = {"max_workers": 2, "max_tasks_per_child": None if living_on else 1}
    executor, new = (make_executor(grace=0.5, **options) for _ in range(2))
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")

    with no_descriptors():
        gate.open()
        late = [each.submit(identity, "late") for each in (executor, new)]
        with pytest.raises(TimeoutError):
            future.result(3)

    assert future.result(PATIENCE) == "a"
    assert [each.result(PATIENCE) for each in late] == ["late"] * 2
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def test_20000_open_futures(
    slurm: SlurmCluster, make_executor: MakeExecutor, shims: Shims
) -> None:
    """They are cancelled many at a time, and their results are not waited for."""
    shims.put("scancel")
    executor = make_executor(hold=True)
    results = executor.map(identity, range(20_000))
    assert_soon(lambda: len(slurm.open_jobs()) == 20_000, PATIENCE)

    executor.shutdown(wait=False, cancel_futures=True)
    executor.shutdown()

    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    assert len(shims.calls("scancel")) <= 100
    del results
