"""opt_einsum's RandomGreedy(parallel=executor): trials run by an executor."""

import numpy as np

from slurm_futures import SlurmExecutor
from tests.integration.clients import client

opt_einsum = client("opt_einsum")


def test_random_trials_find_a_path(executor: SlurmExecutor) -> None:
    """The best of all trials is a path that contracts every operand."""
    optimizer = opt_einsum.RandomGreedy(max_repeats=3, parallel=executor)
    operands = [np.ones((2, 2))] * 4
    path, _ = opt_einsum.contract_path("ab,bc,cd,de", *operands, optimize=optimizer)

    assert len(path) == 3
    assert len(optimizer.costs) == 3
