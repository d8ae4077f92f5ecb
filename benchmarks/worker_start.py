"""What CPU time does our worker add to a Python that does nothing?

User and system seconds of the process (wait4), many times, in turn. The worker is
started with the command of the job script, on the files of a run directory that the
library has written; bash and Slurm are left out. --n calls share the job.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.calls import echo
from benchmarks.common import alternate, median, parse_arguments, report, spread
from slurm_futures import JobFailed, SlurmExecutor
from slurm_futures.node.formats import USAGE, VALUE, read_outcomes

TARGET = 10.0  # milliseconds of CPU more than a bare Python

BARE = "python -c pass"
CLOUDPICKLE = "python -c 'import cloudpickle'"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=1, repeat=101)
    by_value = lambda number: number  # noqa: E731  (lambdas travel by value)
    with_class = Local().twice  # which needs cloudpickle itself
    with tempfile.TemporaryDirectory(prefix="worker-start-") as name:
        directory = Path(name)
        commands = {
            BARE: lambda: cpu_time([sys.executable, "-c", "pass"]),
            CLOUDPICKLE: lambda: cpu_time([sys.executable, "-c", "import cloudpickle"]),
            "worker, builtin": worker(directory / "1", abs, arguments.n),
            "worker, function of a module": worker(directory / "2", echo, arguments.n),
            "worker, lambda": worker(directory / "3", by_value, arguments.n),
            "worker, class by value": worker(directory / "4", with_class, arguments.n),
        }
        for start in commands.values():
            start()
        samples = alternate(commands, arguments.repeat)
    bare = median(samples[BARE])
    rows = [
        (name, median(each), median(each) - bare, median(each) / bare, spread(each))
        for name, each in samples.items()
    ]
    report(
        "worker_start",
        ("CPU time, user + system", "ms", "more than bare", "ratio", "range"),
        rows,
        {
            "repeat": arguments.repeat,
            "target": TARGET,
            "milliseconds": {name: median(each) for name, each in samples.items()},
        },
        [
            f"Medians of {arguments.repeat} rounds; the target is {TARGET:g} ms more "
            "than bare, and where classes travel by value what the import of "
            "cloudpickle takes."
        ],
    )


class Local:
    """A class of this program."""

    def twice(self, number: int) -> int:
        """Return another number."""
        return 2 * number


def worker(
    directory: Path, function: Callable[[int], int], calls: int
) -> Callable[[], float]:
    """Let the library stage a job; return what measures one run of its worker."""
    directory.mkdir()
    command = [sys.executable, *_record_command(directory, function, calls)]
    (submission,) = directory.glob("runs/*/0001")
    job, outcomes = submission / "jobs/0-999/0", submission / "finished/0-999/0"

    def measure() -> float:
        shutil.rmtree(job, ignore_errors=True)
        outcomes.unlink(missing_ok=True)
        milliseconds = cpu_time(command)
        records = read_outcomes(outcomes.read_bytes())
        kinds = [kind for _, kind, _ in records if kind != USAGE]
        assert kinds == [VALUE] * calls, "some calls have failed"
        return milliseconds

    return measure


def _record_command(
    directory: Path, function: Callable[[int], int], calls: int
) -> list[str]:
    """Let a script take the place of Python, which notes what it should have run."""
    recorder, record = directory / "recorder", directory / "command"
    recorder.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{record}\n")
    recorder.chmod(0o755)
    with SlurmExecutor(
        scheduler="local", directory=directory / "runs", python=recorder, keep="always"
    ) as executor:
        results = executor.map(function, range(calls), chunksize=calls)
        with contextlib.suppress(JobFailed):
            list(results)
            raise AssertionError("the calls have run without Python")
    return record.read_text().splitlines()


def cpu_time(command: list[str]) -> float:
    """Run a command; return the milliseconds of CPU that it has used."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return 1000 * (usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
