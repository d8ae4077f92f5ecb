"""How long after the end of a call does its future know?

Each call returns the time at which it ends; the callback of its future compares that
with its own clock, which is the same. Calls of 0 s, 1 s and 5 s run alone in their
executors, so that the poller has been waiting for as long as they ran; then there is
a map that keeps all nodes busy.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.calls import wait_and_tell
from benchmarks.common import (
    median,
    parse_arguments,
    quantile,
    report,
    slurm_cluster,
    tell,
    wait_for_empty_queue,
)
from slurm_futures import SlurmExecutor

TARGET = 0.1  # seconds, the median on a local file system
DURATIONS = (0.0, 1.0, 5.0)

#: Executors that measure at the same time, each one call after another.
_LANES = 3


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=30, repeat=1, busy=500)
    n = arguments.n * arguments.repeat
    samples: dict[str, list[float]] = {}
    with slurm_cluster() as cluster:
        for duration in DURATIONS:
            with ThreadPoolExecutor(_LANES) as lanes:
                parts = lanes.map(
                    alone, [duration] * _LANES, [-(-n // _LANES)] * _LANES
                )
                samples[f"call of {duration:g} s"] = [x for part in parts for x in part]
            tell(f"calls of {duration:g} s are measured")
        wait_for_empty_queue(cluster)
        samples[f"map of {arguments.busy} calls of 0 s"] = busy(arguments.busy)
    rows = [
        (name, len(each), median(each), quantile(each, 0.9), max(each))
        for name, each in samples.items()
    ]
    report(
        "latency",
        ("seconds from end to callback", "samples", "median", "90 %", "max"),
        rows,
        {"n": arguments.n, "target": TARGET, "seconds": samples},
        [f"The target of the median is {TARGET} s."],
    )


def alone(seconds: float, count: int) -> list[float]:
    """Return the latencies of calls that run one after another."""
    latencies = []
    with SlurmExecutor(directory="runs") as executor:
        for _ in range(count):
            stopwatch = Stopwatch()
            future = executor.submit(wait_and_tell, seconds)
            future.add_done_callback(stopwatch.stop)
            latencies.append(stopwatch.latency(future.result()))
    return latencies


def busy(count: int) -> list[float]:
    """Return the latencies of calls that keep the cluster busy."""
    with SlurmExecutor(directory="runs") as executor:
        pairs = []
        for _ in range(count):
            stopwatch = Stopwatch()
            future = executor.submit(wait_and_tell, 0.0)
            future.add_done_callback(stopwatch.stop)
            pairs.append((stopwatch, future))
        return [stopwatch.latency(future.result()) for stopwatch, future in pairs]


class Stopwatch:
    """Notes when a future is done."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._at = 0.0

    def stop(self, _: Future[float]) -> None:
        """Take the time; the callback of the future."""
        self._at = time.time()
        self._stopped.set()

    def latency(self, ended_at: float) -> float:
        """Return the seconds since the call ended."""
        assert self._stopped.wait(10.0), "the callback was not called"
        assert self._at >= ended_at, "the future was done before its call"
        return self._at - ended_at


if __name__ == "__main__":
    main()
