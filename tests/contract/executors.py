"""The executors under test, made in this process or in a script of its own.

`process_pool` is the oracle: what the standard library does is what ours have to do.
"""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from slurm_futures import SlurmExecutor

#: Takes the arguments of ProcessPoolExecutor; the fixture shuts down what it made.
MakeExecutor: TypeAlias = Callable[..., Executor]
#: The same, for tests of ours alone.
MakeOurs: TypeAlias = Callable[..., SlurmExecutor]
#: Runs the source of a script that has a module `executors` with `make_executor`.
RunScript: TypeAlias = Callable[[str], subprocess.CompletedProcess[str]]
AnyFuture: TypeAlias = Future[Any]

PATIENCE = 60  #: seconds that a test waits for what should come at once
POLL_INTERVAL = 0.5  #: seconds between two calls of squeue

_SLURM = pytest.param("slurm", marks=pytest.mark.cluster)
_JOBS = pytest.param("local", marks=pytest.mark.job_each)
KINDS = ["process_pool", _JOBS, "pool", _SLURM]

#: Mark of tests that are about our executor alone.
ours = pytest.mark.parametrize(
    "kind", ["local", _SLURM], indirect=True, scope="session"
)

#: Mark of tests that need `Executor.map(buffersize=...)`.
needs_buffersize = pytest.mark.oracle_differs(
    "the standard library has buffersize from Python 3.14 on", before=(3, 14)
)

_POOL_IN_SCRIPT = """\
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

def make_executor(*args, **options):
    options.setdefault("mp_context", get_context("spawn"))
    return ProcessPoolExecutor(*args, **options)
"""

_OURS_IN_SCRIPT = """\
from slurm_futures import SlurmExecutor

def make_executor(*args, **options):
    return SlurmExecutor(
        *args, directory={directory!r}, scheduler={kind!r}, poll_interval={interval},
        **options
    )
"""

_LIVING_IN_SCRIPT = """\
from slurm_futures import SlurmExecutor

def make_executor(max_workers=2, *args, max_tasks_per_child=None, **options):
    return SlurmExecutor(
        max_workers, *args, max_tasks_per_child=max_tasks_per_child,
        directory={directory!r}, scheduler="local", poll_interval={interval}, **options
    )
"""


def create(kind: str, directory: Path, *args: Any, **options: Any) -> Executor:
    """Make an executor of this kind; ours keeps its files in the directory."""
    if kind == "process_pool":
        options.setdefault("mp_context", multiprocessing.get_context("spawn"))
        return ProcessPoolExecutor(*args, **options)
    if kind == "pool":  # jobs that live on, of the local scheduler
        kind = "local"
        # Idle workers keep the cores for which those of other executors wait.
        options = {"max_tasks_per_child": None, "idle_timeout": 0.5, **options}
        if not args:
            options.setdefault("max_workers", 2)
    settings: dict[str, Any] = {
        "directory": directory,
        "scheduler": kind,
        "poll_interval": POLL_INTERVAL,
    }
    return SlurmExecutor(*args, **{**settings, **options})


def module_for_scripts(kind: str, directory: Path) -> str:
    """Return the source of a module that defines `make_executor`."""
    if kind == "process_pool":
        return _POOL_IN_SCRIPT
    template = _LIVING_IN_SCRIPT if kind == "pool" else _OURS_IN_SCRIPT
    return template.format(directory=str(directory), kind=kind, interval=POLL_INTERVAL)
