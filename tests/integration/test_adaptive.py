"""adaptive.Runner(executor=...): it chooses the next points as results arrive."""

from slurm_futures import SlurmExecutor
from tests.integration.clients import client, reciprocal

adaptive = client("adaptive")


def test_runner_learns_a_function(executor: SlurmExecutor) -> None:
    """Points are submitted one by one, each when a result has come.

    The runner needs `ntasks`: it cannot count the CPUs of executors it does not know.
    """
    learner = adaptive.Learner1D(reciprocal, bounds=(1, 2))
    adaptive.BlockingRunner(
        learner,
        npoints_goal=5,
        executor=executor,
        ntasks=3,
        shutdown_executor=True,
        raise_if_retries_exceeded=True,
    )

    assert learner.npoints >= 5
    assert learner.data[2] == 0.5
