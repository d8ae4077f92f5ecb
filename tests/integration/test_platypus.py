"""Platypus: populations evaluated by `submit` or by `map`."""

import pytest

from slurm_futures import SlurmExecutor
from tests.integration.clients import client

platypus = client("platypus")


@pytest.mark.parametrize("how", ["submit", "map"])
def test_population_is_evaluated(executor: SlurmExecutor, how: str) -> None:
    """Objects of the library travel to the jobs and come back changed."""
    if how == "submit":
        evaluator = platypus.SubmitEvaluator(executor.submit)
    else:
        evaluator = platypus.MapEvaluator(executor.map)
    algorithm = platypus.NSGAII(
        platypus.DTLZ2(), population_size=4, evaluator=evaluator
    )
    algorithm.run(4)

    assert algorithm.nfe == 4
    assert all(solution.evaluated for solution in algorithm.population)
