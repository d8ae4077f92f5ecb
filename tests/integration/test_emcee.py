"""emcee.EnsembleSampler(pool=executor): Markov chains that use the `map` of a pool."""

import numpy as np

from slurm_futures import SlurmExecutor
from tests.integration.clients import client, log_probability

emcee = client("emcee")


def test_sampler_evaluates_its_walkers_by_map(executor: SlurmExecutor) -> None:
    """A step is two maps, each over half of the walkers."""
    sampler = emcee.EnsembleSampler(2, 1, log_probability, pool=executor)
    end = sampler.run_mcmc(np.array([[-0.5], [0.5]]), nsteps=1)

    assert end.log_prob.tolist() == [log_probability(point) for point in end.coords]
