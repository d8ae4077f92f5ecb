"""The same work on every library: N calls that do nothing, from nothing to all results.

Libraries that run one job for each call, then those that keep a pool of --workers jobs
(starting the jobs included), ProcessPoolExecutor on this machine, and the bare
`sbatch --array` of `map_total`; all in turn on one cluster. A library whose calls
would take minutes does --slow calls; its ratio is to a bare array of as many.

The cluster has accounting where MariaDB is installed, since submitit asks sacct.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.common import (
    median,
    parse_arguments,
    report,
    slurm_cluster,
    spread,
    tell,
    wait_for_empty_queue,
)
from benchmarks.map_total import bare_array
from benchmarks.peer_environment import (
    DEFAULT_DIRECTORY,
    OURS,
    PACKAGES,
    PeerEnvironment,
)
from tests.slurm.programs import accounting_available

#: Library and kind of work.
_RUNS = (
    ("slurm_futures", "jobs"),
    ("clusterfutures", "jobs"),
    ("cluster_tools", "jobs"),
    ("submitit", "jobs"),
    ("executorlib", "jobs"),
    ("slurm_futures", "pool"),
    ("parsl_htex", "pool"),
    ("dask_jobqueue", "pool"),
    ("process_pool", "pool"),
)
_SLOW = frozenset({"executorlib"})

_TIMEOUT = 300.0  # seconds for one library in one round


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(
        __doc__, n=200, repeat=2, slow=40, workers=16, environment=DEFAULT_DIRECTORY
    )
    sizes = {
        name: arguments.slow if name in _SLOW else arguments.n for name, _ in _RUNS
    }
    environment = PeerEnvironment(arguments.environment, (*PACKAGES, *OURS))
    bare: dict[int, list[float]] = {size: [] for size in sizes.values()}
    samples: dict[tuple[str, str], list[float]] = {run: [] for run in _RUNS}
    failures: dict[tuple[str, str], str] = {}
    with slurm_cluster(accounting=accounting_available() is None) as cluster:

        def measure(run: tuple[str, str]) -> None:
            name, kind = run
            numbers = (sizes[name], *([arguments.workers] if kind == "pool" else []))
            figures = environment.run(name, kind, *numbers, timeout=_TIMEOUT)
            if isinstance(figures, str):
                failures[run] = figures
                cluster.run("scancel", "--user", cluster.user)
            else:
                samples[run].append(figures["seconds"])
            tell(f"{name}, {kind}: {figures}")

        def measure_bare(size: int) -> None:
            bare[size].append(bare_array(size))
            tell(f"bare array of {size}: {bare[size][-1]:.2f}")

        contestants: list[Callable[[], None]] = [
            *(lambda size=size: measure_bare(size) for size in bare),
            *(lambda run=run: measure(run) for run in _RUNS),
        ]
        for number in range(arguments.repeat):
            for contestant in contestants if number % 2 == 0 else contestants[::-1]:
                wait_for_empty_queue(cluster)
                contestant()
    rows = [
        _row("bare sbatch --array", size, bare[size], bare[size], "") for size in bare
    ]
    for run, seconds in samples.items():
        name = f"{environment.label(run[0])}, {_describe(run, arguments.workers)}"
        size = sizes[run[0]]
        rows.append(_row(name, size, seconds, bare[size], failures.get(run, "")))
    report(
        "peers",
        ("no-op calls", "N", "seconds", "range", "calls/s", "ratio to bare", "remarks"),
        rows,
        {
            "n": arguments.n,
            "repeat": arguments.repeat,
            "workers": arguments.workers,
            "versions": environment.versions,
            "bare": bare,
            "seconds": {"/".join(run): each for run, each in samples.items()},
            "failures": {"/".join(run): each for run, each in failures.items()},
        },
        [f"Medians of {arguments.repeat} rounds."],
    )


def _row(
    name: str, size: int, seconds: list[float], bare: list[float], remark: str
) -> tuple[float | int | str | None, ...]:
    if not seconds:
        return (name, size, None, None, None, None, remark)
    middle = median(seconds)
    ratio = middle / median(bare)
    return (name, size, middle, spread(seconds), size / middle, ratio, remark)


def _describe(run: tuple[str, str], workers: int) -> str:
    name, kind = run
    if kind == "jobs":
        return "a job for each call"
    return f"{workers} {'processes here' if name == 'process_pool' else 'jobs'}"


if __name__ == "__main__":
    main()
