"""Lets each operation on files that a job does fail in turn: no value may be lost.

    python -m tests.faults.sweep            all of it, some minutes
    python -m tests.faults.sweep ESTALE     with this error

Task n of an array fails at its n-th operation below the run directory, by a library
that is preloaded into its programs (`faults.c`). The short form is a test.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from slurm_futures import SlurmExecutor, SlurmFuture
from slurm_futures.calls.future import ChunkFuture
from slurm_futures.calls.mapping import chunked, pickle_function
from slurm_futures.calls.shared_objects import CallPickler
from slurm_futures.runs.files import read_text
from slurm_futures.schedulers.local.scheduler import LocalScheduler

COMPILER = shutil.which("cc") or shutil.which("gcc")
#: What the operations fail with in turn.
ERRORS = ("ESTALE", "EIO", "EACCES", "ENOSPC")
#: A job does fewer operations than that, with those that it repeats.
MANY = 45

_SOURCE = Path(__file__).with_name("faults.c")
_AT_ONCE = _WORKERS = 6  #: jobs
_GRACE, _PATIENCE = 20, 120  #: seconds
_SECONDS = 3.0  #: for which all operations fail, in the second mode


@dataclass(frozen=True)
class Fault:
    """What happens to the operations of a job.

    Attributes:
        error: the name of an error, such as "EIO".
        first: which operation fails, from 1 on; in an array that of its first task.
        seconds: for which all of them fail from then on; 0: only this one.
    """

    error: str
    first: int = 1
    seconds: float = 0.0

    @contextlib.contextmanager
    def happens(self, directory: Path) -> Iterator[Path]:
        """Let the jobs that start meanwhile have the fault.

        Args:
            directory: for what the library leaves, which is yielded as well.
        """
        assert COMPILER is not None
        library = directory / "faults.so"
        if not library.exists():
            words = f"-shared -fPIC -o {library} {_SOURCE} -ldl".split()
            subprocess.run([COMPILER, *words], check=True, timeout=60)
        variables = {
            "LD_PRELOAD": str(library),
            "FAULTS_BELOW": f"{directory}/runs/",
            "FAULTS_AT": str(self.first),
            "FAULTS_ERRNO": str(getattr(errno, self.error)),
            "FAULTS_FOR": str(int(self.seconds * 1000)),
            "FAULTS_COUNTS": tempfile.mkdtemp(dir=directory),
        }
        before = os.environ.copy()
        os.environ.update(variables)
        try:
            yield Path(variables["FAULTS_COUNTS"])
        finally:
            for name in variables:
                os.environ.pop(name)
            os.environ.update(before)


def run_calls(
    fault: Fault,
    directory: Path,
    count: int,
    *,
    chunksize: int = 1,
    workers: int = 0,
    on_slurm: bool = False,
) -> list[str]:
    """Run calls whose jobs have a fault; return what was not as it should be.

    Args:
        fault: what happens to the jobs.
        directory: where all files lie.
        count: of the futures: each has a job of its own, unless there are workers.
        chunksize: calls of each future.
        workers: of a pool; 0: there is none.
        on_slurm: or else on the local scheduler.

    Returns:
        How each of them ended, and which operation of its job had failed.
    """
    pool: dict[str, Any] = {}
    if workers:
        pool = {"max_workers": workers, "max_tasks_per_child": None}
    with fault.happens(directory) as counts:
        executor = SlurmExecutor(
            directory=directory / "runs",
            scheduler="slurm" if on_slurm else LocalScheduler(cpus=_AT_ONCE),
            grace=_GRACE,
            **pool,
        )
        with executor:
            items = zip(range(count * chunksize))
            futures = executor._submit_chunks(
                executor._kind(),
                "calls",
                pickle_function(str),
                chunked(items, chunksize),
                chunksize,
                CallPickler(),
            )
            ends = [_end_of(each) for each in futures]
        told = read_text(counts / "told").splitlines()
    operations = dict(each.split(" ", 1) for each in told)
    return [
        f"{operations.get(str(fault.first + index), 'no fault')}: {end}"
        for index, end in enumerate(ends)
        if end != str([str(index * chunksize + each) for each in range(chunksize)])
    ]


def _end_of(future: SlurmFuture[Any]) -> str:
    """Return the values of a future as text, or its error."""
    try:
        result = future.result(_PATIENCE)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is wrong)
        return repr(error)
    if not isinstance(future, ChunkFuture):
        return str([result])
    return str([each.exception or each.value for each in result])


def run_workers(fault: Fault, directory: Path, step: int = 1) -> list[str]:
    """Run calls by workers, each of which has a fault at another operation.

    Args:
        fault: the first one.
        directory: where all files lie.
        step: of so many groups of operations take one.

    Returns:
        As `run_calls`.
    """
    wrong = []
    for first in range(fault.first, MANY, _WORKERS * step):
        later = replace(fault, first=first)
        wrong += run_calls(later, directory, 3 * _WORKERS, workers=_WORKERS)
    return wrong


def main(errors: Sequence[str]) -> None:
    """Let everything fail in turn; print what went wrong."""
    failures = 0
    for error, seconds, how in itertools.product(errors, (0.0, _SECONDS), _WAYS):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            wrong = _WAYS[how](Fault(error, 1, seconds), Path(directory))
        took = time.monotonic() - began
        print(f"{error} for {seconds:g} s, {how}: {len(wrong)} failed, {took:.0f} s")
        for each in wrong:
            print(f"  {each}", flush=True)
        failures += len(wrong)
    sys.exit(failures > 0)


_WAYS: dict[str, Callable[[Fault, Path], list[str]]] = {
    "a job for each call": partial(run_calls, count=MANY),
    "a job for each chunk": partial(run_calls, count=MANY, chunksize=3),
    "workers": run_workers,
}

if __name__ == "__main__":
    main(sys.argv[1:] or ERRORS)
