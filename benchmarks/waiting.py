"""What does it cost to wait: CPU, memory, and calls of squeue?

10,000 calls whose jobs Slurm holds (`sbatch --hold`); then --open futures on a
scheduler of this script that accepts everything and starts nothing. For each: CPU of
this process as a share of one core while nothing happens, from --settle seconds after
the submission on for --seconds; memory for each open future (what tracemalloc sees,
in a round of its own); calls of squeue for each minute.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.calls import echo
from benchmarks.common import (
    CommandLog,
    median,
    parse_arguments,
    report,
    slurm_cluster,
    tell,
)
from slurm_futures import SlurmExecutor
from slurm_futures.errors import JobState
from slurm_futures.schedulers.base import (
    BatchScript,
    Ending,
    JobId,
    Limits,
    Row,
    Scheduler,
    Snapshot,
)

#: Shares of a core, in per cent, with 10,000 and with 100,000 open calls.
TARGETS = (1.0, 2.0)

_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Wait:
    """One measurement."""

    cpu_percent: float
    queries_per_minute: float
    traced_bytes: float
    submitted_seconds: float
    cancelled_seconds: float


class IdleScheduler:
    """Accepts arrays of any number and size, and never starts one.

    Args:
        array_size: the largest array that it takes.
        running: whether it says that the jobs run, not that they are pending.
    """

    poll_interval = 5.0

    def __init__(self, array_size: int, *, running: bool = False) -> None:
        self._array_size = array_size
        self._state = JobState.RUNNING if running else JobState.PENDING
        self._arrays: dict[JobId, tuple[Row, ...]] = {}
        self.queries = 0

    @property
    def identity(self) -> Hashable:
        """Each one has jobs of its own."""
        return id(self)

    def limits(self) -> Limits:
        """Name the largest array."""
        return Limits(array_size=self._array_size)

    def submit(self, batch: BatchScript) -> JobId:
        """Take an array."""
        job_id = JobId(len(self._arrays) + 1)
        where = str(batch.directory)
        size = batch.array_size
        if size is None:
            rows = [Row(self._state, "Priority", None, where)]
        elif self._state is JobState.PENDING:
            rows = [Row(self._state, "Priority", (range(size),), where)]
        else:  # squeue has a line for each
            rows = [
                Row(self._state, "None", (range(index, index + 1),), where)
                for index in range(size)
            ]
        self._arrays[job_id] = tuple(rows)
        return job_id

    def query(self) -> Snapshot:
        """Say that nothing has changed."""
        self.queries += 1
        return Snapshot(time.monotonic(), dict(self._arrays))

    def cancel(self, jobs: Collection[JobId]) -> None:
        """Do nothing."""

    def throttle(self, array: JobId, limit: int) -> None:
        """Do nothing."""

    def explain(self, jobs: Collection[JobId]) -> Mapping[JobId, Ending]:  # noqa: ARG002  (of the protocol)
        """Know nothing."""
        return {}


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(
        __doc__, n=10_000, repeat=1, open=100_000, seconds=40.0, settle=15.0
    )
    times = (arguments.settle, arguments.seconds)
    waits: dict[str, list[Wait]] = {}
    with slurm_cluster() as cluster:
        log = CommandLog(cluster.work)
        held = f"{arguments.n:,} pending in Slurm"
        many = f"{arguments.open:,} pending, simulated"
        busy = f"{arguments.n:,} running, simulated"
        size = 10_000  # jobs of one array, as at a site with a large MaxArraySize
        for _ in range(arguments.repeat):
            log.reset()
            waits.setdefault(held, []).append(
                wait(arguments.n, None, times, lambda: log.counts()["squeue"])
            )
            for name, n, running in (
                (many, arguments.open, False),
                (busy, arguments.n, True),
            ):
                idle = IdleScheduler(size, running=running)
                waits.setdefault(name, []).append(
                    wait(n, idle, times, lambda each=idle: each.queries)  # type: ignore[misc]  # a lambda with a default
                )
    rows = [
        (
            name,
            *(
                median(getattr(each, field) for each in rounds)
                for field in Wait.__dataclass_fields__
            ),
        )
        for name, rounds in waits.items()
    ]
    report(
        "waiting",
        (
            "calls",
            "CPU % of a core",
            "squeue/min",
            "bytes each",
            "s to submit",
            "s to cancel",
        ),
        rows,
        {
            "n": arguments.n,
            "open": arguments.open,
            "targets": TARGETS,
            "waits": {name: [asdict(each) for each in waits[name]] for name in waits},
        },
        [
            f"Targets: {TARGETS[0]:g} % with 10,000, {TARGETS[1]:g} % with 100,000. "
            f"Measured for {times[1]:g} s, {times[0]:g} s after the submission."
        ],
    )


def wait(
    n: int,
    scheduler: Scheduler | None,
    times: tuple[float, float],
    count_queries: Callable[[], int],
) -> Wait:
    """Submit calls that never start; see what it costs to wait; cancel them."""
    traced = traced_bytes(n, scheduler)
    began = time.perf_counter()
    executor, futures = submit(n, scheduler)
    submitted = time.perf_counter() - began
    time.sleep(times[0])
    gc.collect()
    queries, cpu, began = count_queries(), time.process_time(), time.perf_counter()
    time.sleep(times[1])
    elapsed = time.perf_counter() - began
    share = 100 * (time.process_time() - cpu) / elapsed
    per_minute = 60 * (count_queries() - queries) / elapsed
    assert not any(future.done() for future in futures)
    result = Wait(share, per_minute, traced, submitted, 0.0)
    result = replace(result, cancelled_seconds=cancel(executor, futures))
    assert all(future.cancelled() for future in futures)
    tell(f"{n:,} calls: {result}")
    return result


def traced_bytes(n: int, scheduler: Scheduler | None) -> float:
    """Return the bytes that Python holds for each open future."""
    tracemalloc.start()
    executor, futures = submit(n, scheduler)
    gc.collect()
    bytes_ = tracemalloc.get_traced_memory()[0] / len(futures)
    tracemalloc.stop()
    cancel(executor, futures)
    return bytes_


def submit(n: int, scheduler: Scheduler | None) -> tuple[SlurmExecutor, list[Any]]:
    """Submit calls; return when all of them have jobs that are watched."""
    executor = SlurmExecutor(
        directory="runs", keep="never", scheduler=scheduler, hold=True
    )
    futures = [executor.submit(echo, number) for number in range(n)]
    deadline = time.monotonic() + _TIMEOUT
    while any(future.job_id is None for future in reversed(futures)):
        assert time.monotonic() < deadline, "some calls have no job"
        time.sleep(0.05)
    return executor, futures


def cancel(executor: SlurmExecutor, futures: list[Any]) -> float:
    """Cancel everything; return how many seconds that takes."""
    began = time.perf_counter()
    for future in futures:
        future.cancel()
    executor.shutdown()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
