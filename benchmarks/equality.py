"""What does it cost to tell by a digest whether two calls are equal?

CPU time for each call of a map, beside what its pickle takes; for a function; and how
many MB of arrays are read in a second. No Slurm is used. --n calls in each round.
"""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.calls import echo
from benchmarks.common import alternate, median, parse_arguments, report, spread
from slurm_futures.calls.call import dump_arguments
from slurm_futures.calls.equality import CallDigests, digest_function
from slurm_futures.calls.pickler import dump

TARGET = 100.0  # microseconds of CPU for each call with plain arguments

SCALE = 2.0


@dataclass
class Settings:
    """What a program passes to its calls."""

    depth: int = 3
    rate: float = 0.5
    name: str = "first"


def fit(settings: Settings) -> float:
    """Use another function, a class and a global variable."""
    return SCALE * echo(settings.depth)


CALLS: dict[str, tuple[Any, ...]] = {
    "a number": (7,),
    "numbers and texts": (7, 0.5, "some text", None, True),
    "a tuple and a dict": (
        (1, 2.0, "c"),
        {"rate": 0.5, "depth": 3, "names": ["a", "b"]},
    ),
    "a list of 1,000 numbers": ([*map(float, range(1000))],),
    "an object of a script": (Settings(),),
    "an array of 10 numbers": (np.arange(10.0),),
}
ARRAY = np.zeros(8_000_000)


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__, n=2000, repeat=11)
    # As if this were the script, whose functions and classes travel by value.
    for each in (Settings, fit):
        each.__module__ = "__main__"
    digests = CallDigests(echo)
    measured: dict[str, Callable[[], float]] = {}
    for name, args in CALLS.items():
        assert digests.of(args, {}) == digests.of(pickle.loads(dump(args)), {})
        of = functools.partial(digests.of, args, {})
        measured[name] = functools.partial(each_takes, of, arguments.n)
        pickled = functools.partial(dump_arguments, args, {})
        measured[f"pickle: {name}"] = functools.partial(
            each_takes, pickled, arguments.n
        )
    functions: dict[str, Callable[..., Any]] = {"a module": echo, "a script": fit}
    for name, function in functions.items():
        look = functools.partial(digest_function, function)
        measured[f"a function of {name}"] = functools.partial(each_takes, look, 100)
    measured["an array of 64 MB"] = functools.partial(
        each_takes, functools.partial(digests.of, (ARRAY,), {}), 1
    )
    samples = alternate(measured, arguments.repeat)
    show(samples, arguments.repeat)


def each_takes(function: Callable[[], object], times: int) -> float:
    """Return how many microseconds of CPU a call takes, of many."""
    begin = time.process_time()
    for _ in range(times):
        function()
    return 1e6 * (time.process_time() - begin) / times


def show(samples: dict[str, list[float]], repeat: int) -> None:
    """Print the table."""
    rate = ARRAY.nbytes / median(samples["an array of 64 MB"])  # per microsecond: MB
    rows = [
        (
            name,
            median(each),
            median(samples[f"pickle: {name}"]) if name in CALLS else None,
            spread(each),
        )
        for name, each in samples.items()
        if not name.startswith("pickle: ")
    ]
    report(
        "equality",
        ("digest of a call with", "us", "its pickle", "range"),
        rows,
        {
            "repeat": repeat,
            "target": TARGET,
            "microseconds": {name: median(each) for name, each in samples.items()},
            "megabytes_per_second": rate,
        },
        [f"Medians of {repeat} rounds. Large arrays: {rate:.0f} MB/s."],
    )


if __name__ == "__main__":
    main()
