"""What do N calls cost the cluster: commands of Slurm, and operations on files?

For a map of N calls, N calls of `submit`, and N calls that come one after another:
how often sbatch, squeue, scancel, scontrol and sacct are started. With strace, also
the operations on files that are shared: of the client (a map of N calls in a process
of its own) and of each job on its node (its script run as Slurm runs it: a copy that
slurmd has made), counted where their path lies in the run directory, and all of them.

No seconds are published here, so that slurmctld ticks faster, as in the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.calls import echo
from benchmarks.common import (
    COMMANDS,
    CommandLog,
    Figure,
    parse_arguments,
    report,
    slurm_cluster,
    tell,
)
from slurm_futures import SlurmExecutor

#: System calls that a file server may see.
_TRACED = "%file,fsync,fdatasync,getdents64"

_TIMEOUT = 600.0  # seconds
_ROOT = str(Path(__file__).parents[1])

_CLIENT = """
import sys
from benchmarks.calls import echo
from slurm_futures import SlurmExecutor
n = int(sys.argv[1])
with SlurmExecutor(directory="traced") as executor:
    assert list(executor.map(echo, range(n))) == list(range(n))
"""


def main() -> None:
    """Count and print."""
    arguments = parse_arguments(__doc__, n=300, repeat=1)
    n = arguments.n
    rows: list[tuple[Figure, ...]] = []
    operations: dict[str, float] = {}
    calls: dict[str, int] = {}
    with slurm_cluster(tick=True) as cluster:
        log = CommandLog(cluster.work)
        cases: dict[str, tuple[Callable[[int], list[int]], int]] = {
            "map": (run_map, n),
            "submit in a loop": (run_submits, n),
            "one after another": (run_alone, max(1, n // 30)),
        }
        for name, (run, size) in cases.items():
            log.reset()
            assert run(size) == list(range(size))
            counts = log.counts()
            rows.append((name, size, *counts.values(), None, None, None))
            tell(f"{name}: {counts}")
        if shutil.which("strace") is None:
            tell("no file operations: apt-get install strace")
        else:
            operations, calls = trace_client(n, cluster.work)
            rows.append(_file_row("files: client, for each call", n, operations, calls))
    if shutil.which("strace") is not None:
        operations, calls = trace_job()
        rows.append(_file_row("files: node, for each job", 1, operations, calls))
    report(
        "commands",
        ("what", "N", *COMMANDS, "in the run", "all", "most frequent in the run"),
        rows,
        {"n": n, "rows": rows},
        ["The last two lines are operations on files divided by N."],
    )


def run_map(n: int) -> list[int]:
    """One map."""
    with SlurmExecutor(directory="runs") as executor:
        return list(executor.map(echo, range(n)))


def run_submits(n: int) -> list[int]:
    """Submit in a loop, then collect."""
    with SlurmExecutor(directory="runs") as executor:
        futures = [executor.submit(echo, number) for number in range(n)]
        return [future.result() for future in futures]


def run_alone(n: int) -> list[int]:
    """Submit a call when the one before is done."""
    with SlurmExecutor(directory="runs") as executor:
        return [executor.submit(echo, number).result() for number in range(n)]


def trace_client(n: int, work: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Count what a client does for a map, without Slurm's commands that it starts."""
    command = [sys.executable, "-c", _CLIENT, str(n)]
    return _trace(command, str(work / "traced"), n, with_programs=False)


def trace_job() -> tuple[dict[str, float], dict[str, int]]:
    """Count what the script of a job does, the second one of an array."""
    with tempfile.TemporaryDirectory(prefix="commands-") as directory:
        executor = SlurmExecutor(scheduler="local", directory=directory, keep="always")
        with executor:
            assert list(executor.map(echo, range(3))) == [0, 1, 2]
        (script,) = Path(directory).glob("*/0001/script.sh")
        submission = script.parent
        shutil.rmtree(submission / "jobs/0-999/2")
        outcomes = submission / "finished/0-999/2"
        outcomes.unlink()
        variables = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "7"}
        with tempfile.TemporaryDirectory(prefix="spool-") as spool:
            copy = shutil.copy(script, spool)
            command = ["bash", copy, "1"]
            counted = _trace(command, str(submission.parent), 1, variables)
        assert outcomes.exists(), "it has not finished"
        return counted


def _trace(
    command: list[str],
    place: str,
    divisor: int,
    variables: dict[str, str] | None = None,
    *,
    with_programs: bool = True,
) -> tuple[dict[str, float], dict[str, int]]:
    """Run under strace; return operations by kind in the place, and how many in all.

    Args:
        command: what to run.
        place: operations on paths that hold this text are counted by kind.
        divisor: of the counts.
        variables: for its environment.
        with_programs: count also what the programs do that it starts.
    """
    with tempfile.TemporaryDirectory(prefix="strace-") as directory:
        output = Path(directory) / "trace"
        done = subprocess.run(
            ["strace", "-f", "-y", "-s", "300", "-e", _TRACED, "-o", output, *command],
            check=False,
            timeout=_TIMEOUT,
            env={**os.environ, "PYTHONPATH": _ROOT, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = output.read_text(errors="replace").splitlines()
    programs = {line.split()[0] for line in lines[1:] if " execve(" in line}
    if not with_programs:
        lines = [line for line in lines if line.split()[0] not in programs]
    kinds: Counter[str] = Counter()
    everything = 0
    for line in lines:
        match = re.match(r"\d+\s+(\w+)\((.*)", line)
        if match is not None and match[1] != "execve":
            everything += 1
            # What /proc says of a file no file server sees.
            is_meant = place in match[2] and '"/proc/' not in match[2]
            kinds[match[1]] += is_meant
    return (
        {kind: count / divisor for kind, count in kinds.most_common() if count},
        {"all": everything},
    )


def _file_row(
    name: str, n: int, operations: dict[str, float], calls: dict[str, int]
) -> tuple[Figure, ...]:
    frequent = ", ".join(f"{kind} {each:.3g}" for kind, each in operations.items())
    return (
        name,
        n,
        *[None] * len(COMMANDS),
        sum(operations.values()),
        calls["all"] / n,
        frequent[:90],
    )


if __name__ == "__main__":
    main()
