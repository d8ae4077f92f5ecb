"""Jobs that live on: how fast are short calls on a pool of workers?

N calls that do nothing on 16 workers, from before the pool is made to the last result
(starting the jobs included), time to the first result, the same again on the warm
pool, and a call to an idle pool (median of 10). Then N/10 calls of 50 ms against the
ideal, calls times 50 ms divided by the workers. Ours, dask-jobqueue, parsl's
HighThroughputExecutor and ProcessPoolExecutor, in turn.
"""

from __future__ import annotations

from benchmarks.common import (
    Figure,
    median,
    parse_arguments,
    report,
    slurm_cluster,
    spread,
    tell,
    wait_for_empty_queue,
)
from benchmarks.peer_environment import (
    DEFAULT_DIRECTORY,
    Figures,
    PeerEnvironment,
)

NAMES = ("slurm_futures", "dask_jobqueue", "parsl_htex", "process_pool")

#: Of the peers' time for all calls; of the ideal for calls of 50 ms; seconds of a call
#: to an idle pool.
TARGETS = {"share of peers": 1 / 3, "of the ideal": 1.15, "idle": 0.2}

_CALL = 0.05  # seconds, as in peer_calls
_TIMEOUT = 300.0  # seconds for one library in one round


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(
        __doc__, n=10_000, repeat=2, workers=16, environment=DEFAULT_DIRECTORY
    )
    n, workers = arguments.n, arguments.workers
    environment = PeerEnvironment(arguments.environment, NAMES)
    samples: dict[str, dict[str, list[Figures]]] = {
        name: {"pool": [], "sleep": []} for name in NAMES
    }
    failures: dict[str, str] = {}
    with slurm_cluster() as cluster:
        for number in range(arguments.repeat):
            for name in NAMES if number % 2 == 0 else NAMES[::-1]:
                for kind, size in (("pool", n), ("sleep", n // 10)):
                    wait_for_empty_queue(cluster)
                    figures = environment.run(
                        name, kind, size, workers, timeout=_TIMEOUT
                    )
                    if isinstance(figures, str):
                        failures[name] = figures
                        cluster.run("scancel", "--user", cluster.user)
                    else:
                        samples[name][kind].append(figures)
                    tell(f"{name}, {kind}: {figures}")
    ideal = n // 10 * _CALL / workers
    ours = samples["slurm_futures"]["pool"]
    rows = [
        _row(environment.label(name), samples[name], ours, ideal, failures.get(name))
        for name in NAMES
    ]
    report(
        "pool",
        (
            f"{n:,} calls, {workers} workers",
            "seconds",
            "range",
            "ours / it",
            "first",
            "warm",
            "idle call",
            f"{n // 10:,} of 50 ms",
            "/ ideal",
            "warm",
            "/ ideal",
            "remarks",
        ),
        rows,
        {
            "n": n,
            "workers": workers,
            "targets": TARGETS,
            "ideal": ideal,
            "versions": environment.versions,
            "samples": samples,
            "failures": failures,
        },
        [
            f"Medians of {arguments.repeat} rounds, seconds; the ideal of the calls of "
            f"50 ms is {ideal:.4g} s. 'warm': all jobs have started before.",
            "ProcessPoolExecutor has no jobs to start and no cluster to reach.",
        ],
    )


def _row(
    label: str,
    samples: dict[str, list[Figures]],
    ours: list[Figures],
    ideal: float,
    failure: str | None,
) -> tuple[Figure, ...]:
    """Make the line of one library."""
    calls, naps = samples["pool"], samples["sleep"]
    seconds = [each["seconds"] for each in calls]
    middle = _median(calls, "seconds")
    cold, warm = _median(naps, "seconds"), _median(naps, "warm")
    return (
        label,
        middle,
        spread(seconds) if seconds else None,
        _ratio(_median(ours, "seconds"), middle),
        _median(calls, "first"),
        _median(calls, "warm"),
        _median(calls, "idle"),
        cold,
        _ratio(cold, ideal),
        warm,
        _ratio(warm, ideal),
        failure or "",
    )


def _median(samples: list[Figures], name: str) -> float | None:
    return median(each[name] for each in samples) if samples else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one / other


if __name__ == "__main__":
    main()
