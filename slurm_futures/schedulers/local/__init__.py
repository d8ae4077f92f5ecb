"""The scheduler that runs the jobs on this machine."""

from slurm_futures.schedulers.local.scheduler import LocalScheduler

__all__ = ["LocalScheduler"]
