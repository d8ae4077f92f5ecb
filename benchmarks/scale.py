"""A map of a million calls: is the sum right, how long, and how much memory?

The local scheduler runs the jobs on this machine; --chunksize calls share a job. The
memory is that of this process, the largest since its start. Submitting and running
are timed apart; the nodes are this machine, so that both compete for its cores.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import asdict, dataclass

from benchmarks.calls import square
from benchmarks.common import median, parse_arguments, report, tell
from slurm_futures import SlurmExecutor


@dataclass(frozen=True, slots=True)
class Round:
    """One map; seconds and MB."""

    returned: float
    first: float
    last: float
    closed: float
    client_cpu: float
    peak_before: float
    peak: float


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=1_000_000, repeat=1, chunksize=5_000)
    rounds = [
        measure(arguments.n, arguments.chunksize) for _ in range(arguments.repeat)
    ]
    names = {
        "map returned, s": "returned",
        "first result, s": "first",
        "last result, s": "last",
        "shutdown, s": "closed",
        "CPU of the client, s": "client_cpu",
        "memory before, MB": "peak_before",
        "largest memory, MB": "peak",
    }
    rows = [
        (text, median(getattr(each, name) for each in rounds))
        for text, name in names.items()
    ]
    report(
        "scale",
        (f"{arguments.n:,} calls, chunks of {arguments.chunksize:,}", "figure"),
        rows,
        {
            "n": arguments.n,
            "chunksize": arguments.chunksize,
            "rounds": [asdict(each) for each in rounds],
        },
        ["The sum of the results is right."],
    )


def measure(n: int, chunksize: int) -> Round:
    """Map, add up, compare with the formula."""
    peak_before = peak_memory()
    cpu = time.process_time()
    with tempfile.TemporaryDirectory(prefix="scale-") as directory:
        executor = SlurmExecutor(
            max_workers=os.cpu_count(), scheduler="local", directory=directory
        )
        began = time.perf_counter()
        results = executor.map(square, range(n), chunksize=chunksize)
        returned = time.perf_counter() - began
        total = next(results)
        first = time.perf_counter() - began
        total += sum(results)
        last = time.perf_counter() - began
        assert total == (n - 1) * n * (2 * n - 1) // 6, "the sum is wrong"
        executor.shutdown()
        closed = time.perf_counter() - began - last
    used = time.process_time() - cpu
    result = Round(returned, first, last, closed, used, peak_before, peak_memory())
    tell(f"{n:,} calls: {result}")
    return result


def peak_memory() -> float:
    """Return the largest MB that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
