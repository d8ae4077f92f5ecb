"""A Slurm that is none: its commands, with LocalScheduler behind them, and faults."""

from tests.stand_in.server import Fault, StandInSlurm

__all__ = ["Fault", "StandInSlurm"]
