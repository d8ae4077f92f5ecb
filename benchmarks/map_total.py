"""How long does a map of N calls take that do nothing, one job each?

Compared with what Slurm itself needs: a bare `sbatch --array` whose script starts
Python and writes a file, on the same cluster, in turn. The clock of the bare array
stops when its last file is written, without anybody who notices; ours when the last
result is in the hands of the caller.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.calls import echo
from benchmarks.common import (
    alternate,
    median,
    parse_arguments,
    ratios,
    report,
    slurm_cluster,
    spread,
    wait_for_empty_queue,
)
from slurm_futures import SlurmExecutor

TARGET = 1.1

_BARE_SCRIPT = """#!/bin/bash
{python} -c 'import sys; open(sys.argv[1], "w").write(sys.argv[1])' $SLURM_ARRAY_TASK_ID
"""

#: Seconds within which a bare array of any length must be over.
_TIMEOUT = 900.0


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=1000, repeat=5)
    n = arguments.n
    by_value = lambda number: number  # noqa: E731  (lambdas travel by value)
    with slurm_cluster() as cluster:
        map_total(64, echo)
        bare_array(64)
        samples = alternate(
            {
                "bare sbatch --array": lambda: bare_array(n),
                "map, function of a module": lambda: map_total(n, echo),
                "map, lambda": lambda: map_total(n, by_value),
            },
            arguments.repeat,
            lambda: wait_for_empty_queue(cluster),
        )
    base = samples["bare sbatch --array"]
    rows = [
        (
            name,
            median(seconds),
            spread(seconds),
            n / median(seconds),
            median(ratios(seconds, base)),
            spread(ratios(seconds, base)),
        )
        for name, seconds in samples.items()
    ]
    report(
        "map_total",
        ("N no-op jobs", "seconds", "range", "jobs/s", "ratio", "range of ratios"),
        rows,
        {"n": n, "repeat": arguments.repeat, "target": TARGET, "seconds": samples},
        [f"Medians of {arguments.repeat} rounds; the target of the ratio is {TARGET}."],
    )


def map_total(n: int, function: object) -> float:
    """Return the seconds from `map` to the last result."""
    assert callable(function)
    with SlurmExecutor(directory="runs") as executor:
        began = time.perf_counter()
        results = list(executor.map(function, range(n)))
        seconds = time.perf_counter() - began
    assert results == list(range(n))
    return seconds


def bare_array(n: int) -> float:
    """Return the seconds from sbatch to the last file."""
    directory = Path(f"bare-{time.monotonic_ns()}").absolute()
    directory.mkdir()
    script = directory / "script.sh"
    script.write_text(_BARE_SCRIPT.format(python=sys.executable))
    command = ["sbatch", "--parsable", f"--array=0-{n - 1}", f"--chdir={directory}"]
    began = time.time()
    subprocess.run([*command, str(script)], check=True, capture_output=True)
    files = [directory / str(index) for index in range(n)]
    while not all(file.exists() and file.read_text() == file.name for file in files):
        assert time.time() < began + _TIMEOUT, "the bare array does not end"
        time.sleep(0.3)
    return max(file.stat().st_mtime for file in files) - began


if __name__ == "__main__":
    main()
