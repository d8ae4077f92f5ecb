"""A throw-away Slurm for tests and benchmarks, and the tests that need one."""

from tests.cluster.daemons import ClusterError
from tests.cluster.options import ClusterOptions
from tests.cluster.programs import slurm_available
from tests.cluster.slurm_cluster import SlurmCluster, StartCluster

__all__ = [
    "ClusterError",
    "ClusterOptions",
    "SlurmCluster",
    "StartCluster",
    "slurm_available",
]
