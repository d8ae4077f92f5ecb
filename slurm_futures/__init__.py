"""Run Python functions as Slurm jobs, with the interface of concurrent.futures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.calls.stored import Call
    from slurm_futures.calls.usage import Usage, UsageSummary
    from slurm_futures.errors import (
        ArgumentFailed,
        Detached,
        DetachError,
        InitializerFailed,
        JobCancelled,
        JobFailed,
        JobLost,
        JobOutOfMemory,
        JobPreempted,
        JobState,
        JobTimeout,
        NodeFailed,
        OptionError,
        OutcomeNotReadable,
        PendingTimeout,
        RemoteTraceback,
        RunInUse,
        RunNotFound,
        SchedulerError,
        SlurmFuturesError,
        SubmitError,
    )
    from slurm_futures.executor import SlurmExecutor
    from slurm_futures.jobs.retries import Retries
    from slurm_futures.run import Run, RunSummary, list_runs, open_run
    from slurm_futures.runs.owner import Owner
    from slurm_futures.schedulers.base import Scheduler
    from slurm_futures.schedulers.local.scheduler import LocalScheduler
    from slurm_futures.schedulers.slurm import SlurmScheduler

__version__ = "0.1.0"

__all__ = [
    "ArgumentFailed",
    "Call",
    "DetachError",
    "Detached",
    "InitializerFailed",
    "JobCancelled",
    "JobFailed",
    "JobLost",
    "JobOutOfMemory",
    "JobPreempted",
    "JobState",
    "JobTimeout",
    "LocalScheduler",
    "NodeFailed",
    "OptionError",
    "OutcomeNotReadable",
    "Owner",
    "PendingTimeout",
    "RemoteTraceback",
    "Retries",
    "Run",
    "RunInUse",
    "RunNotFound",
    "RunSummary",
    "Scheduler",
    "SchedulerError",
    "SlurmExecutor",
    "SlurmFuture",
    "SlurmFuturesError",
    "SlurmScheduler",
    "SubmitError",
    "Usage",
    "UsageSummary",
    "list_runs",
    "open_run",
]

_MODULES = {
    "Call": "calls.stored",
    "LocalScheduler": "schedulers.local.scheduler",
    "Owner": "runs.owner",
    "Retries": "jobs.retries",
    "Run": "run",
    "RunSummary": "run",
    "Scheduler": "schedulers.base",
    "SlurmExecutor": "executor",
    "SlurmFuture": "calls.future",
    "SlurmScheduler": "schedulers.slurm",
    "Usage": "calls.usage",
    "UsageSummary": "calls.usage",
    "list_runs": "run",
    "open_run": "run",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value
