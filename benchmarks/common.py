"""What all benchmarks share: a cluster, a clock, and how figures are printed.

Nothing here knows what is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.slurm import ClusterOptions, SlurmCluster, slurm_available

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")

#: Seconds until the jobs of one round must have left the queue.
_QUEUE_TIMEOUT = 600.0

Figure = float | int | str | None


def parse_arguments(
    document: str | None, *, n: int, repeat: int, **more: Any
) -> argparse.Namespace:
    """Read --n, --repeat and further options.

    Args:
        document: the docstring of the script.
        n: default of --n.
        repeat: default of --repeat.
        **more: defaults of further options, which have the same types; one that is
            False is a switch.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=n, help="how many calls")
    parser.add_argument("--repeat", type=int, default=repeat, help="how many rounds")
    for name, default in more.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default)
    return parser.parse_args()


# The cluster.


@contextmanager
def slurm_cluster(
    *, tick: bool = False, accounting: bool = False
) -> Iterator[SlurmCluster]:
    """Start a Slurm of 4 nodes with 8 CPUs; this process works in it until the end.

    Args:
        tick: let slurmctld look for new jobs every 50 ms, as in the tests, not once a
            second as on real clusters. Never where seconds are published.
        accounting: with slurmdbd, so that sacct knows the jobs.
    """
    reason = slurm_available()
    if reason is not None:
        sys.exit(reason)
    options = ClusterOptions(tick_ms=50 if tick else None, accounting=accounting)
    before, here = dict(os.environ), Path.cwd()
    # The calls are in modules that the nodes find from the root of the repository.
    sys.path[:] = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  (keeps ..)
    with SlurmCluster(options) as cluster:
        os.environ.update(cluster.environment)
        os.chdir(cluster.work)
        try:
            time.sleep(3.0)  # slurmctld starts no job in its first seconds
            yield cluster
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)


def wait_for_empty_queue(cluster: SlurmCluster) -> None:
    """Wait until no job is left that could disturb what is measured next."""
    deadline = time.monotonic() + _QUEUE_TIMEOUT
    while cluster.open_jobs():
        assert time.monotonic() < deadline, "jobs are left in the queue"
        time.sleep(0.2)


class CommandLog:
    """Counts how often programs of this process start Slurm's commands.

    Small scripts in front of PATH write a line each, then become the command.
    """

    def __init__(self, directory: Path) -> None:
        self._log = directory / "commands.log"
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._log.touch()
        for name in COMMANDS:
            real = shutil.which(name)
            if real is not None:
                self._write_shim(name, real)
        os.environ["PATH"] = f"{self._bin}{os.pathsep}{os.environ['PATH']}"

    def _write_shim(self, name: str, real: str) -> None:
        shim = self._bin / name
        shim.write_text(f'#!/bin/sh\necho {name} >>{self._log}\nexec {real} "$@"\n')
        shim.chmod(0o755)

    def counts(self) -> dict[str, int]:
        """Return how often each command was started since the last `reset`."""
        lines = Counter(self._log.read_text().split())
        return {name: lines[name] for name in COMMANDS}

    def reset(self) -> None:
        """Count from zero."""
        self._log.write_text("")


# The clock.


def alternate(
    contestants: Mapping[str, Callable[[], float]],
    repeat: int,
    between: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Measure each contestant once in each round, in turn forwards and backwards.

    So that what else the machine does, and what slowly changes, meets all alike.

    Args:
        contestants: functions that return what they have measured.
        repeat: the number of rounds.
        between: called before each of them.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for round_number in range(repeat):
        for name in order if round_number % 2 == 0 else reversed(order):
            between()
            gc.collect()
            samples[name].append(contestants[name]())
            tell(f"round {round_number + 1}: {name}: {samples[name][-1]:.4g}")
    return samples


def ratios(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Divide sample by sample: those of one round saw the same machine."""
    return [one / other for one, other in zip(samples, base, strict=True)]


def spread(samples: Sequence[float]) -> str:
    """Say how noisy samples were: the smallest and the largest."""
    return f"{min(samples):.3g} to {max(samples):.3g}"


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which this share of all samples lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# What is printed.


def tell(text: str) -> None:
    """Say on stderr how it goes."""
    print(f"# {text}", file=sys.stderr, flush=True)


def report(
    name: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[Figure]],
    figures: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Print the table for people and one line of JSON for programs.

    Args:
        name: of the benchmark.
        headers: of the table.
        rows: of the table.
        figures: what the line of JSON holds besides the machine.
        notes: sentences below the table.
    """
    machine = describe_machine()
    print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(format_table(headers, rows))
    for note in notes:
        print(note)
    print(json.dumps({"benchmark": name, "machine": machine, **figures}), flush=True)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[Figure]]) -> str:
    """Lay cells out in columns, the first one to the left and figures to the right."""
    cells = [list(headers), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _text(cell: Figure) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def describe_machine() -> dict[str, str]:
    """Say on what was measured, when, and how busy it was."""
    slurm = "none"
    if slurm_available() is None:
        from tests.slurm.programs import Programs

        slurm = "{}.{:02}".format(*Programs().version())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[1]:.1f}",
        "python": platform.python_version(),
        "slurm": slurm,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


median = statistics.median
