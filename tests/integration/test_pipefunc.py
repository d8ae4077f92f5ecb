"""pipefunc's Pipeline.map(executor=...): sweeps through a graph of functions."""

from slurm_futures import SlurmExecutor
from tests.integration.clients import client, square

pipefunc = client("pipefunc")


def test_pipeline_maps_and_reduces(executor: SlurmExecutor) -> None:
    """A step for each input, then one that takes all of their outputs.

    pipefunc needs `chunksizes`: it cannot count the CPUs of executors it does not know.
    """
    squares = pipefunc.PipeFunc(square, "square", mapspec="number[i] -> square[i]")
    total = pipefunc.PipeFunc(lambda square: square.sum(), "total")
    outputs = pipefunc.Pipeline([squares, total]).map(
        {"number": [1, 2]},
        executor=executor,
        chunksizes=1,
        storage="dict",
    )

    assert outputs["square"].output.tolist() == [1, 4]
    assert outputs["total"].output == 5
