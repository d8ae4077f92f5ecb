"""A throw-away Slurm for tests and benchmarks, and the tests of it."""

from tests.slurm.daemons import ClusterError
from tests.slurm.options import ClusterOptions
from tests.slurm.programs import slurm_available
from tests.slurm.slurm_cluster import SlurmCluster, StartCluster

__all__ = [
    "ClusterError",
    "ClusterOptions",
    "SlurmCluster",
    "StartCluster",
    "slurm_available",
]
