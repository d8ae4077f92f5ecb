"""Runs that another program opens: while they live, afterwards, and after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_futures import JobCancelled, Run, list_runs, open_run
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster
from tests.waiting import assert_soon

pytestmark = pytest.mark.cluster

PATIENCE = 120  #: seconds
_ROOT = Path(__file__).parents[2]

#: Twenty calls: one job each, chunks, and a pool; four of them fail.
_PROGRAM = """
import sys
from pathlib import Path
from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate

gate = Gate(Path(sys.argv[1]) / "gate")
settings = {"directory": Path(sys.argv[1]) / "runs", "keep": "always"}

def work(number):
    if number >= 5:
        gate.hold(f"{sys.argv[2]}-{number}")
    print("printed for", number)
    return 6 // (number % 5)

if sys.argv[2] == "pool":
    # Nobody tells the workers to end when their program was killed.
    settings |= {"max_tasks_per_child": None, "max_workers": 2, "idle_timeout": 1}
executor = SlurmExecutor(poll_interval=0.5, **settings)
singles = [executor.submit(work, each) for each in range(4)]
chunks = executor.map(work, range(4, 10), chunksize=3, return_exceptions=True)
for each in singles:
    each.exception()
print(executor.directory, flush=True)
list(chunks)
executor.shutdown()
"""

StartProgram = Callable[[str], tuple["subprocess.Popen[str]", Run]]


@pytest.fixture
def start_program(
    slurm: SlurmCluster, gate: Gate, tmp_path: Path
) -> Iterator[StartProgram]:
    """Start programs whose calls wait at the gate; give each with its run."""
    started: list[subprocess.Popen[str]] = []
    opened: list[Run] = []

    def start(way: str) -> tuple[subprocess.Popen[str], Run]:
        script = tmp_path / "program.py"
        script.write_text(_PROGRAM)
        program = subprocess.Popen(
            [sys.executable, script, tmp_path, way],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        started.append(program)
        assert program.stdout is not None
        run = open_run(program.stdout.readline().strip())
        opened.append(run)
        return program, run

    yield start
    gate.open()
    for run in opened:
        run.close()
    for program in started:
        program.kill()
        program.communicate()


def check_results(run: Run) -> None:
    """See that each of the ten calls has ended as it should."""
    for number, future in enumerate(run.futures):
        if number % 5:
            assert future.result(PATIENCE) == 6 // (number % 5)
        else:
            assert isinstance(future.exception(PATIENCE), ZeroDivisionError)
        assert future.call.args == (number,)
        assert f"printed for {number}\n" in future.stdout()
        assert future.job_id is not None
    assert Counter(run.counts()) == Counter({"done": 8, "failed": 2})
    assert len(run.futures) == 10


@pytest.mark.parametrize("way", ["jobs", "pool"])
def test_another_program_sees_a_run_live_and_end(
    start_program: StartProgram, gate: Gate, way: str, tmp_path: Path
) -> None:
    """Futures settle there as in its own program, and it notices nothing."""
    program, run = start_program(way)
    gate.await_arrivals(f"{way}-5")
    futures = list(run.futures)
    open_ones = [each for each in futures if not each.done()]
    counts = run.counts()
    assert counts["running"] + counts["pending"] == len(open_ones) >= 5
    assert_soon(futures[5].running, PATIENCE)

    gate.open()

    assert run.wait(PATIENCE).not_done == set()
    assert program.wait(PATIENCE) == 0
    check_results(run)
    with open_run(run.path) as later:
        check_results(later)
    assert [each.path for each in list_runs(tmp_path / "runs")] == [run.path]


@pytest.mark.parametrize("way", ["jobs", "pool"])
def test_a_run_goes_on_when_its_program_is_killed(
    start_program: StartProgram, gate: Gate, way: str
) -> None:
    """Its jobs live, and whoever opens it gets what they return."""
    program, run = start_program(way)
    gate.await_arrivals(f"{way}-5")
    program.kill()
    program.wait()
    with open_run(run.path) as later:
        waiting = [each for each in later.futures if not each.done()]

        gate.open()

        assert waiting
        assert later.wait(PATIENCE).not_done == set()
        check_results(later)


def test_the_jobs_of_a_killed_program_can_be_cancelled(
    start_program: StartProgram, slurm: SlurmCluster, gate: Gate
) -> None:
    """From another one; what is done stays."""
    program, run = start_program("jobs")
    gate.await_arrivals("jobs-5")
    program.kill()
    program.wait()
    open_ones = [each for each in run.futures if not each.done()]

    run.cancel()

    first, *errors = [each.exception(PATIENCE) for each in open_ones]
    assert first is None  # the first call of a chunk, which was over
    assert len(errors) == 5
    assert all(isinstance(each, JobCancelled) for each in errors)
    assert [each.result() for each in run.futures[1:5]] == [6, 3, 2, 1]
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
