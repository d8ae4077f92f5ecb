"""Programs on a real Slurm that get Ctrl-C at a random moment, once or twice.

    program in a process of its own <-- SIGINT, a little later
        it ends soon, and nothing of it stays in the queue

The short form is a test, the long one `benchmarks/ctrl_c.py`.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.slurm import SlurmCluster
from tests.waiting import becomes_true

_END = 30  #: seconds in which a program has to end; most take less than one
_EMPTY = 60  #: the same for the queue
_SLEEP = 600  #: seconds that calls take which must be cancelled
_LATEST = 1.2  #: seconds after its first submit at which a program is interrupted

_HEAD = """
import sys, time
from slurm_futures import SlurmExecutor

def work(number):
    time.sleep(number % 3 * {sleep})
    return number

executor = SlurmExecutor({options}directory={directory!r}, poll_interval=0.5)
executor.submit(work, 0)
print("begun", flush=True)
"""

#: What programs do until they are interrupted.
_BODIES = {
    "submits": """
with executor:
    for number in range(100_000):
        executor.submit(work, number)
""",
    "maps": """
with executor:
    while True:
        executor.map(work, range(7))
""",
    "results": """
with executor:
    for result in executor.map(work, range(50)):
        pass
""",
    "cancels": """
with executor:
    while True:
        futures = [executor.submit(work, number) for number in range(5)]
        for future in futures:
            future.cancel()
""",
    "shutdown": """
futures = [executor.submit(work, number) for number in range(5)]
executor.shutdown()
""",
    "end": """
futures = [executor.submit(work, number) for number in range(5)]
""",
    "goes_on": """
try:
    for number in range(100_000):
        executor.submit(work, 1)
except KeyboardInterrupt:
    executor.submit(work, 0).cancel()
    assert executor.submit(abs, -5).result(60) == 5
    executor.shutdown(cancel_futures=True)
    sys.exit()
""",
}
#: The last of them needs a place for another call, so it cancels nothing that runs.
_UNLIMITED = {"goes_on"}


def interrupt_programs(
    cluster: SlurmCluster, directory: Path, rounds: int, seed: int = 0
) -> tuple[Counter[str], list[str]]:
    """Interrupt so many programs, one after another.

    Args:
        cluster: where they submit; the environment finds it.
        directory: for their files.
        rounds: how many programs.
        seed: of all choices.

    Returns:
        How many of each kind there were, and what went wrong.
    """
    dice = random.Random(seed)  # noqa: S311  (no secret)
    counts: Counter[str] = Counter()
    problems = []
    for number in range(rounds):
        body = dice.choice(sorted(_BODIES))
        pool = dice.random() < 0.5
        twice = dice.random() < 0.3
        delays = [dice.uniform(0, _LATEST), dice.uniform(0, 0.3)][: 1 + twice]
        name = f"{body}{' in a pool' if pool else ''}{', twice' if twice else ''}"
        counts[name] += 1
        problem = _interrupt(cluster, directory / str(number), body, delays, pool=pool)
        if problem:
            problems.append(f"round {number}, {name}, after {delays} s: {problem}")
    return counts, problems


def _interrupt(
    cluster: SlurmCluster,
    directory: Path,
    body: str,
    delays: list[float],
    *,
    pool: bool,
) -> str:
    directory.mkdir()
    sleep = 0.05 if body in _UNLIMITED else _SLEEP
    options = "4, max_tasks_per_child=None, " if pool else ""
    head = _HEAD.format(options=options, directory=str(directory / "runs"), sleep=sleep)
    script = directory / "program.py"
    script.write_text(head + _BODIES[body])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        for delay in delays:
            time.sleep(delay)
            program.send_signal(signal.SIGINT)
        try:
            _, said = program.communicate(timeout=_END)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGABRT)
            program.kill()
            return f"it did not end in {_END} s"
    if body in _UNLIMITED and len(delays) == 1 and program.returncode not in {0, -2}:
        return f"exit code {program.returncode}: {said[-2000:]}"
    if not becomes_true(lambda: not cluster.open_jobs(), _EMPTY):
        left = cluster.open_jobs()
        cluster.run("scancel", "--user", cluster.user)
        return f"it left {len(left)} jobs: {said[-2000:]}"
    return ""
