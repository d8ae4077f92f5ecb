"""SciPy with workers=executor.map."""

import math

import pytest

from slurm_futures import SlurmExecutor
from tests.integration.clients import bowl, client, reciprocal

client("scipy")
optimize = client("scipy.optimize")
integrate = client("scipy.integrate")


def test_differential_evolution_evaluates_a_generation_in_one_map(
    executor: SlurmExecutor,
) -> None:
    """With `updating="deferred"` the points of a generation are one `map`."""
    found = optimize.differential_evolution(
        bowl,
        bounds=[(0, 2), (0, 2)],
        workers=executor.map,
        updating="deferred",
        init=[[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [2.0, 2.0]],
        maxiter=1,
        polish=False,
    )

    assert (found.fun, found.x.tolist()) == (0, [1, 1])


def test_brute_evaluates_its_grid(executor: SlurmExecutor) -> None:
    """The points of the grid are the items of one `map`."""
    grid = (slice(0, 2, 1), slice(1, 2, 1))
    point = optimize.brute(bowl, grid, finish=None, workers=executor.map)

    assert point.tolist() == [1, 1]


def test_quad_vec_integrates(executor: SlurmExecutor) -> None:
    """The jobs get methods and NumPy arrays, and integrate an interval each."""
    rounds = {"quadrature": "gk15", "limit": 3, "epsabs": 1e-14, "epsrel": 1e-14}
    integral, _ = integrate.quad_vec(reciprocal, 1, 4, workers=executor.map, **rounds)

    assert integral == pytest.approx(math.log(4))
