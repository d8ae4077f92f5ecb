"""Many calls of mixed fate on a cluster that has a bad day: each has exactly one end.

    calls of all fates --> one executor --> a Slurm whose controller is restarted and
                                            one of whose nodes crashes on the way

The short form is a test, the long one `benchmarks/soak.py`.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_futures import SlurmExecutor, SlurmFuture
from tests.slurm import ClusterOptions, SlurmCluster, processes
from tests.waiting import becomes_true

#: The cluster for it. Memory is watched as most sites do it, by polling.
OPTIONS = ClusterOptions(
    nodes=4,
    cpus=8,
    kill_wait=2,
    memory_enforcement="poll",
)

_NEVER = 900  #: seconds; longer than any call lives that waits for its end
_MEMORY = 300  #: MB that a greedy call takes of the 100 that it asked for

#: How often each fate is met, of 100 calls; and what may become of it.
_FATES = {
    "value": (44, {"value"}),
    "slow": (20, {"value"}),
    "exception": (10, {"ArithmeticError"}),
    "exit": (6, {"JobFailed"}),
    "kill": (4, {"JobFailed"}),
    "scancel": (4, {"JobCancelled"}),
    "cancel": (6, {"cancelled"}),
    "requeue": (3, {"value"}),
    "memory": (2, {"JobOutOfMemory"}),
    "limit": (1, {"JobTimeout"}),
}
#: What a crash of its node may make of any call that runs there.
_CRASHED = {"NodeFailed", "JobFailed", "JobCancelled"}


def live(fate: str, number: int, directory: str) -> int:
    """Leave a trace, and meet the fate; runs in the call."""
    with open(f"{directory}/{number}", "a") as trace:  # noqa: PTH123  (starts faster)
        trace.write("x")
    match fate:
        case "slow":
            time.sleep(random.uniform(0.1, 2))  # noqa: S311  (no secret)
        case "exception":
            raise ArithmeticError(number)
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            memory = bytearray(_MEMORY << 20)
            time.sleep(_NEVER)
            del memory
        case "requeue" if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            time.sleep(_NEVER)
        case "scancel" | "cancel" | "limit":
            time.sleep(_NEVER)
    return number


@dataclass(slots=True)
class Call:
    """One call, its fate, and how often its future has ended."""

    number: int
    fate: str
    future: SlurmFuture[int]
    ends: int = 0
    acted_at: float = 0.0

    def note_end(self, _: object) -> None:
        """Count; the callback of the future."""
        self.ends += 1

    @property
    def end(self) -> str:
        """What became of it, in a word."""
        if self.future.cancelled():
            return "cancelled"
        error = self.future.exception(0)
        return "value" if error is None else type(error).__name__


@dataclass(slots=True)
class Report:
    """What a soak has found."""

    calls: int
    seconds: float
    ends: Counter[tuple[str, str]]
    collateral: list[str]  #: what hit calls whose fate was another
    peak_memory: int  #: MB
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.calls} calls in {self.seconds:.0f} s, "
            f"{len(self.collateral)} hit by the crash of a node, "
            f"peak memory of the client {self.peak_memory} MB"
        ]
        for (fate, end), count in sorted(self.ends.items()):
            lines.append(f"  {fate:10} {end:16} {count:5}")
        return "\n".join([*lines, *self.collateral, *self.problems])


class Soak:
    """Runs the calls and makes the bad day happen."""

    def __init__(self, cluster: SlurmCluster, directory: Path, seed: int = 0) -> None:
        self._cluster = cluster
        self._directory = directory
        self._traces = directory / "traces"
        self._traces.mkdir()
        self._random = random.Random(seed)  # noqa: S311  (no secret)
        self._calls: list[Call] = []

    def run(self, count: int, timeout: float) -> Report:
        """Run so many calls.

        Raises:
            AssertionError: some have no end when the time (seconds) is up.
        """
        before = _belongings()
        began = time.monotonic()
        with SlurmExecutor(
            directory=self._directory / "runs", poll_interval=1, grace=20
        ) as executor:
            try:
                self._submit(executor, count)
                self._have_a_bad_day(began + timeout)
            except BaseException:
                executor.terminate_workers()
                raise
        seconds = time.monotonic() - began
        return self._report(seconds, before)

    def _submit(self, executor: SlurmExecutor, count: int) -> None:
        weights = [weight for weight, _ in _FATES.values()]
        fates = self._random.choices(list(_FATES), weights, k=count)
        # Each fate occurs, also where there are few calls.
        fates[: len(_FATES)] = _FATES
        self._random.shuffle(fates)
        chosen = {
            "requeue": executor.options(requeue=True),
            "memory": executor.options(mem="100M"),
            "limit": executor.options(time="1-00:00:00"),
        }
        for number, fate in enumerate(fates):
            variant = chosen.get(fate, executor)
            future = variant.submit(live, fate, number, str(self._traces))
            call = Call(number, fate, future)
            future.add_done_callback(call.note_end)
            self._calls.append(call)

    def _have_a_bad_day(self, deadline: float) -> None:
        restarted = crashed = False
        while self._open():
            share = 1 - len(self._open()) / len(self._calls)
            if share > 0.3 and not restarted:
                restarted = True
                self._cluster.stop_controller()
                self._cluster.start_controller()
            if share > 0.6 and not crashed:
                crashed = True
                self._crash(self._cluster.node_names[1])
            self._act()
            becomes_true(lambda: not self._open(), 0.5)
            assert time.monotonic() < deadline, self._tell_open()

    def _open(self) -> list[Call]:
        return [call for call in self._calls if not call.future.done()]

    def _tell_open(self) -> str:
        open_calls = [f"{call.fate} {call.future!r}" for call in self._open()]
        return f"open: {open_calls}; jobs: {self._cluster.open_jobs()}"

    def _crash(self, node: str) -> None:
        self._cluster.crash_node(node)
        self._scontrol("update", f"NodeName={node}", "State=DOWN", "Reason=crash")
        self._cluster.start_node(node)

    def _act(self) -> None:
        """Do to running calls what their fate wants, again after a while."""
        now = time.monotonic()
        for call in self._open():
            if now - call.acted_at > 5 and (self._traces / str(call.number)).exists():
                call.acted_at = now
                self._act_on(call)

    def _act_on(self, call: Call) -> None:
        job = call.future.job_id
        match call.fate:
            case "cancel":
                call.future.cancel()
            case "scancel":
                self._cluster.run("scancel", job, check=False)
            case "limit":
                self._scontrol("update", f"JobId={job}", "EndTime=now")
            case "requeue":
                if len((self._traces / str(call.number)).read_text()) == 1:
                    self._scontrol("requeue", job)
                    self._scontrol("update", f"JobId={job}", "StartTime=now+3")

    def _scontrol(self, *words: object) -> None:
        self._cluster.run("scontrol", *words, check=False)

    def _report(self, seconds: float, before: dict[str, int]) -> Report:
        ends = Counter((call.fate, call.end) for call in self._calls)
        collateral = [
            f"  {call.fate:10} {str(call.future.exception(0)).partition(chr(10))[0]}"
            for call in self._calls
            if call.end not in _FATES[call.fate][1] and call.end in _CRASHED
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        report = Report(len(self._calls), seconds, ends, collateral, peak)
        report.problems += self._find_problems()
        if len(collateral) > 2 * OPTIONS.cpus:
            report.problems.append(f"{len(collateral)} calls hit by one crash")
        report.problems += self._find_leftovers(before)
        return report

    def _find_problems(self) -> list[str]:
        problems = []
        for call in self._calls:
            path = self._traces / str(call.number)
            runs = len(path.read_text()) if path.exists() else 0
            what = f"call {call.number} ({call.fate}, {call.future!r})"
            if call.ends != 1:
                problems.append(f"{what} ended {call.ends} times")
            if call.end not in _FATES[call.fate][1] | _CRASHED:
                problems.append(f"{what} ended with {call.end}")
            if call.end == "value" and call.future.result(0) != call.number:
                problems.append(f"{what} has the value of another call")
            if runs > 1 and call.fate != "requeue":
                problems.append(f"{what} ran {runs} times")
        return problems

    def _find_leftovers(self, before: dict[str, int]) -> list[str]:
        self._release()
        if not becomes_true(lambda: not self._cluster.open_jobs(), 60):
            return [f"jobs are left: {self._cluster.open_jobs()}"]
        if not becomes_true(lambda: _belongings() == before, 60):
            return [f"before {before}, afterwards {_belongings()}"]
        return []

    def _release(self) -> None:
        self._calls = []
        gc.collect()


def _belongings() -> dict[str, int]:
    """Count what this process holds."""
    return {
        "threads": threading.active_count(),
        "children": len(processes.children(os.getpid())),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def soak(count: int, directory: Path, timeout: float, **options: Any) -> Report:
    """Run so many calls on a cluster of their own, the Slurm of this process."""
    with SlurmCluster(OPTIONS) as cluster:
        os.environ.update(cluster.environment)
        return Soak(cluster, directory, **options).run(count, timeout)
