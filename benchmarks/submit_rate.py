"""How soon are calls in the hands of the library, and of Slurm, and at what cost?

A map of N calls until `map` has returned, then until Slurm has all jobs; N/10 and N
calls of `submit` in a loop, likewise. Counted besides: sbatch, and the files that the
client has written. The jobs are held (`sbatch --hold`), so that nothing but the
submission is measured, and are cancelled afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.calls import echo
from benchmarks.common import (
    CommandLog,
    median,
    parse_arguments,
    report,
    slurm_cluster,
    spread,
    tell,
    wait_for_empty_queue,
)
from slurm_futures import SlurmExecutor

TARGET = 0.5  # seconds until a map of 10,000 calls has returned

#: Seconds within which Slurm must have the jobs.
_TIMEOUT = 120.0

Submit = Callable[[SlurmExecutor, int], object]


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement; seconds."""

    returned: float
    submitted: float
    cancelled: float
    sbatch: int
    files: int
    bytes: int


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=10_000, repeat=3)
    n = arguments.n
    cases: list[tuple[str, Submit, int]] = [
        (f"map of {n:,}", submit_map, n),
        (f"map of {n:,}, lambda", submit_lambda, n),
        (f"{n // 10:,} submits", submit_loop, n // 10),
        (f"{n:,} submits", submit_loop, n),
    ]
    rounds: dict[str, list[Round]] = {name: [] for name, *_ in cases}
    with slurm_cluster() as cluster:
        log = CommandLog(cluster.work)
        for _ in range(arguments.repeat):
            for name, submit, size in cases:
                rounds[name].append(measure(submit, size, log))
                wait_for_empty_queue(cluster)
                tell(f"{name}: {rounds[name][-1]}")
    rows = [
        (
            name,
            median(each.returned for each in rounds[name]),
            spread([each.returned for each in rounds[name]]),
            1e6 * median(each.returned for each in rounds[name]) / size,
            median(each.submitted for each in rounds[name]),
            median(each.cancelled for each in rounds[name]),
            median(each.sbatch for each in rounds[name]),
            median(each.files for each in rounds[name]),
            median(each.bytes for each in rounds[name]) / size,
        )
        for name, _, size in cases
    ]
    headers = ("seconds", "returned", "range", "us/call", "Slurm has all", "cancelled")
    report(
        "submit_rate",
        (*headers, "sbatch", "files", "bytes/call"),
        rows,
        {
            "n": n,
            "target": TARGET,
            "rounds": {
                name: [asdict(each) for each in rounds[name]] for name in rounds
            },
        },
        [
            f"Medians of {arguments.repeat} rounds; the target of the first one is "
            f"{TARGET} s. 'cancelled' is shutdown(cancel_futures=True) with clean-up."
        ],
    )


def measure(submit: Submit, size: int, log: CommandLog) -> Round:
    """Submit held jobs, see that Slurm has them, and cancel them."""
    directory = Path(f"runs-{time.monotonic_ns()}")
    log.reset()
    executor = SlurmExecutor(directory=directory, hold=True, keep="never")
    began = time.perf_counter()
    kept = submit(executor, size)
    returned = time.perf_counter() - began
    _wait_for_jobs(executor, size)
    submitted = time.perf_counter() - began
    written = [path for path in directory.rglob("*") if path.is_file()]
    result = Round(
        returned=returned,
        submitted=submitted,
        cancelled=0.0,
        sbatch=log.counts()["sbatch"],
        files=len(written),
        bytes=sum(path.stat().st_size for path in written),
    )
    began = time.perf_counter()
    executor.shutdown(cancel_futures=True)
    cancelled = time.perf_counter() - began
    del kept
    assert not list(directory.iterdir()), "files are left"
    return Round(**{**asdict(result), "cancelled": cancelled})


def submit_map(executor: SlurmExecutor, size: int) -> object:
    """Submit with one map."""
    return executor.map(echo, range(size))


def submit_lambda(executor: SlurmExecutor, size: int) -> object:
    """Submit with one map of a function that travels by value."""
    return executor.map(lambda number: number, range(size))


def submit_loop(executor: SlurmExecutor, size: int) -> list[Future[int]]:
    """Submit one by one."""
    return [executor.submit(echo, number) for number in range(size)]


def _wait_for_jobs(executor: SlurmExecutor, size: int) -> None:
    """Wait until each future has a job."""
    deadline = time.monotonic() + _TIMEOUT
    futures: set[Any] = set(executor._session._futures)
    assert len(futures) == size
    while futures:
        futures = {each for each in futures if each.job_id is None}
        assert time.monotonic() < deadline, f"{len(futures)} calls have no job"
        time.sleep(0.005)


if __name__ == "__main__":
    main()
